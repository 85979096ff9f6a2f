-- Seeing agents and what their versions said.

create function mrprompt_internal.agent_not_found(agent_id uuid) returns void
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using errcode = 'PT404', message = format('there is no agent %s that you may use', coalesce(agent_id::text, 'null')),
        hint = 'select * from mrprompt.list_agents()';
end
$$;
comment on function mrprompt_internal.agent_not_found(uuid) is 'PT404.';

create function mrprompt.get_agent(agent_id uuid, version integer default null) returns setof mrprompt.agents
    language plpgsql stable rows 1 set search_path = pg_catalog, pg_temp
as $$
declare
    agent mrprompt.agents;
    old mrprompt.agent_versions;
begin
    select * into agent from mrprompt.agents a where a.id = get_agent.agent_id;
    if not found then
        perform mrprompt_internal.agent_not_found(agent_id);
    elsif version <> agent.version then
        select * into old from mrprompt.agent_versions v where v.agent_id = agent.id and v.version = get_agent.version;
        if not found then
            raise exception using errcode = 'PT404', message = format('agent %s has no version %s', agent.id, version),
                detail = format('it is at version %s', agent.version), hint = format('select * from mrprompt.list_agent_versions(%L)', agent.id);
        end if;
        agent := jsonb_populate_record(null::mrprompt.agents, to_jsonb(agent) - mrprompt_internal.config_members());
        agent := json_populate_record(agent, old.config);
        agent.version := old.version;
    end if;
    return next agent;
end
$$;
comment on function mrprompt.get_agent(uuid, integer) is
    'An agent as a row of mrprompt.agents; with version, what that version said, under the name that the agent has now. PT404: not there, or not yours.';

create function mrprompt.list_agents(
    "limit" integer default 20, "order" text default 'desc', after uuid default null, before uuid default null,
    archived boolean default false, search text default null, out id uuid, inout name text default null, out description text, out provider text,
    out model text, out shared boolean, out version integer, out metadata jsonb, out created_at timestamptz, out updated_at timestamptz,
    out archived_at timestamptz, user_id uuid default null)
    returns setof record
    language plpgsql stable set search_path = pg_catalog, pg_temp set enable_seqscan = off set plan_cache_mode = force_custom_plan
as $$
declare
    acting constant uuid := case when user_id is not null then mrprompt_internal.acting_user(user_id) else mrprompt.current_user_id() end;
    up constant boolean := "order" = 'asc';
    back constant boolean := after is null and before is not null;
    scan_up constant boolean := mrprompt_internal.page_goes_up("limit", "order", back);
    -- Whom the search names stand first: so do they where a list goes on.
    wanted constant text := lower(search);
    after_other constant boolean := (select lower(p.name) is distinct from wanted from mrprompt.agents p where p.id = after);
    before_other constant boolean := (select lower(p.name) is distinct from wanted from mrprompt.agents p where p.id = before);
    -- By the index, among however many of others; the policies alone go through all.
    usable constant uuid[] := array(select p.id from mrprompt.agents p where p.user_id is null or p.user_id = acting);
begin
    return query
    select a.id, a.name, a.description, a.provider::text, a.model, a.user_id is null, a.version, a.metadata, a.created_at, a.updated_at, a.archived_at
    from (select p.*, o.other from mrprompt.agents p cross join lateral (select lower(p.name) is distinct from wanted as other) o
          where p.id = any (usable)
            and (archived is null or (p.archived_at is not null) = archived)
            and (list_agents.name is null or p.name = list_agents.name)
            and (wanted is null or position(wanted in lower(concat_ws(' ', p.name, p.description))) > 0)
            and (after is null or case when o.other <> after_other then o.other when up then p.id > after else p.id < after end)
            and (before is null or case when o.other <> before_other then before_other when up then p.id < before else p.id > before end)
          order by case when back then not o.other else o.other end, case when scan_up then p.id end, p.id desc
          limit "limit") a
    order by a.other, case when up then a.id end, a.id desc;
end
$$;
comment on function mrprompt.list_agents(integer, text, uuid, uuid, boolean, text, text, uuid) is
    'Your own agents and the shared ones: limit 1 to 100, order asc or desc by age, after and before an id; archived: false those '
    'in use, true the archived, null both; name: exactly that; search: words of name or description, whom it names in full first. PT400.';

create function mrprompt.list_agent_versions(
    agent_id uuid, "limit" integer default 20, "order" text default 'desc', after integer default null, before integer default null)
    returns table (version integer, config json, created_at timestamptz)
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    up constant boolean := "order" = 'asc';
    scan_up constant boolean := mrprompt_internal.page_goes_up("limit", "order", after is null and before is not null);
begin
    if not exists (select from mrprompt.agents a where a.id = list_agent_versions.agent_id) then
        perform mrprompt_internal.agent_not_found(agent_id);
    end if;
    return query
    select v.version, v.config, v.created_at
    from (select p.* from mrprompt.agent_versions p
          where p.agent_id = list_agent_versions.agent_id
            and (after is null or case when up then p.version > after else p.version < after end)
            and (before is null or case when up then p.version < before else p.version > before end)
          order by case when scan_up then p.version end, p.version desc
          limit "limit") v
    order by case when up then v.version end, v.version desc;
end
$$;
comment on function mrprompt.list_agent_versions(uuid, integer, text, integer, integer) is
    'What each version of an agent said, the newest first; after and before are versions. PT400, PT404.';

grant execute on function mrprompt.get_agent, mrprompt.list_agents, mrprompt.list_agent_versions,
    mrprompt_internal.agent_not_found, mrprompt_internal.config_members, mrprompt_internal.acting_user to mrprompt_user, mrprompt_admin;
