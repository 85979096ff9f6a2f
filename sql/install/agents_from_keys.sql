-- Agents that stand in the metadata of keys: a key per agent, as Vanchin gives them out.

create function mrprompt_internal.create_agents_from_keys(provider text, shared boolean, user_id uuid)
    returns table (agent_id uuid, key_id uuid, name text, created boolean)
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    -- An admin need not be a user to make agents of shared keys.
    with_shared constant boolean := coalesce(shared, user_id is null and mrprompt_internal.caller_is_admin());
    caller constant uuid := mrprompt.current_user_id();
    acting constant uuid := case when shared or (with_shared and caller is null) then null else mrprompt_internal.acting_user(user_id) end;
    key mrprompt.api_keys;
    there mrprompt.agents;
begin
    perform mrprompt_internal.check_shared(shared, user_id);
    if not exists (select from mrprompt.providers p where p.name = create_agents_from_keys.provider) then
        raise exception using errcode = 'PT400', message = format('there is no provider %s', coalesce(left(provider, 100), 'null')),
            detail = (select 'Known: ' || string_agg(p.name, ', ' order by p.name) from mrprompt.providers p where p.enabled);
    end if;
    -- One at a time, so that no key gets two.
    if acting is not null then
        perform pg_advisory_xact_lock(hashtextextended('mrprompt agents of ' || acting, 0));
    end if;
    if with_shared then
        perform pg_advisory_xact_lock(hashtextextended('mrprompt agents of all', 0));
    end if;
    for key in
        select * from mrprompt.api_keys k
        where k.provider = create_agents_from_keys.provider and k.revoked_at is null
          and (k.user_id = acting or (with_shared and k.user_id is null))
        order by k.id limit 10000
    loop
        key_id := key.id;
        select * into there from mrprompt.agents a
        where a.user_id is not distinct from key.user_id and a.key_id = key.id and a.archived_at is null
        order by a.id limit 1;
        created := not found;
        agent_id := there.id;
        name := there.name;
        if created then
            name := left(coalesce(nullif(btrim(key.metadata ->> 'agent_name'), ''), nullif(btrim(key.name), ''),
                nullif(btrim(key.metadata ->> 'endpoint_id'), ''), key.provider), 256);
            -- No model: it is the key's endpoint, which update_key() may change, and stands in one place.
            agent_id := mrprompt_internal.create_agent(name, left(key.metadata ->> 'description', 512), '{}',
                json_build_object('key_id', key.id, 'provider', key.provider, 'instructions', nullif(key.metadata ->> 'instructions', '')),
                key.user_id is null, key.user_id);
        end if;
        return next;
    end loop;
end
$$;
comment on function mrprompt_internal.create_agents_from_keys(text, boolean, uuid) is
    'create_agents_from_keys() with the owner''s rights; judges the caller itself.';

create function mrprompt.create_agents_from_keys(provider text, shared boolean default null, user_id uuid default null)
    returns table (agent_id uuid, key_id uuid, name text, created boolean)
    language sql volatile
begin atomic
    select c.agent_id, c.key_id, c.name, c.created
    from mrprompt_internal.create_agents_from_keys(create_agents_from_keys.provider, create_agents_from_keys.shared, create_agents_from_keys.user_id) c;
end;
comment on function mrprompt.create_agents_from_keys(text, boolean, uuid) is
    'An agent for each key of a provider that has none yet, from the key''s metadata: agent_name (else the key''s name, else endpoint_id), description, '
    'instructions; the model stays the key''s endpoint_id or model. Your own keys give agents of your own, shared ones (admins) shared agents; '
    'shared: null both, true or false one kind. created: false where a key had its agent. PT400: no such provider; 42501.';

grant execute on function mrprompt.create_agents_from_keys, mrprompt_internal.create_agents_from_keys to mrprompt_user, mrprompt_admin;
