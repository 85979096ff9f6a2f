-- Agents: a model at a provider with instructions, parameters and tools; every version is kept.

create table mrprompt.agents (
    id uuid primary key default mrprompt_internal.uuidv7(),
    user_id uuid,
    name text not null check (length(name) between 1 and 256),
    description text check (length(description) <= 512),
    instructions text check (length(instructions) <= 256000),
    provider varchar(50),
    model text,
    key_id uuid,
    temperature double precision,
    top_p double precision,
    max_tokens integer,
    response_format json,
    reasoning_effort text,
    tools json,
    tool_choice json,
    parallel_tool_calls boolean,
    parameters json,
    context json,
    limits json,
    metadata jsonb not null default '{}' check (jsonb_typeof(metadata) = 'object'),
    version integer not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    archived_at timestamptz
);
create index agents_of_user on mrprompt.agents (user_id, id desc);
create index agents_of_key on mrprompt.agents (key_id) where key_id is not null;
create index agents_imported on mrprompt.agents ((metadata ->> 'assistant_id'), coalesce(user_id, '00000000-0000-0000-0000-000000000000'))
    where metadata ->> 'assistant_id' is not null;
comment on table mrprompt.agents is
    'Agents: Vanchin''s, the Assistants API''s assistants and Letta''s agents are rows here. Written through create_agent() and its kin only.';
comment on column mrprompt.agents.user_id is 'The owner; null: shared, everybody who may use mrprompt may run it, admins change it.';
comment on column mrprompt.agents.provider is 'Null: the key''s, or as chat() would choose.';
comment on column mrprompt.agents.model is 'A model or an endpoint id (ep-…); null: from the key''s metadata, or the provider''s default.';
comment on column mrprompt.agents.max_tokens is 'Output tokens of one answer at most.';
comment on column mrprompt.agents.tools is
    'A JSON array: names of registered tools (SQL functions), and OpenAI function tools {"type": "function", "function": {…}}, which the app carries out.';
comment on column mrprompt.agents.parameters is 'Whatever else the provider takes: {"seed": 7}.';
comment on column mrprompt.agents.context is
    'What a run sends of its thread: {"truncation": "auto" or "last_messages", "last_messages": 20, "max_tokens": 100000}; null: auto.';
comment on column mrprompt.agents.limits is
    'Of a run: {"max_steps": 20, "max_calls_per_tool": 10, "max_seconds": 600, "max_cost": 0.50, "tool_wait_seconds": 600}; null: the settings''.';
comment on column mrprompt.agents.version is 'Rises whenever what a run depends on is changed.';
comment on column mrprompt.agents.archived_at is 'Since when no run can be made with it; its runs and figures stay.';

create table mrprompt.agent_versions (
    agent_id uuid not null,
    version integer not null,
    config json not null,
    created_at timestamptz not null default now(),
    primary key (agent_id, version)
);
comment on table mrprompt.agent_versions is 'What each version of an agent said: a run names the version it used.';
comment on column mrprompt.agent_versions.config is
    'Members named as the columns of agents: instructions, and those from provider to limits; what is null is left out.';

alter table mrprompt.agents enable row level security;
alter table mrprompt.agent_versions enable row level security;
create policy own_and_shared_rows on mrprompt.agents for select to mrprompt_user
    using (user_id is null or user_id = (select mrprompt.current_user_id()) or (select mrprompt_internal.may_act_for_others()));
create policy all_rows on mrprompt.agents for select to mrprompt_admin using (true);
-- By the key, for each row that is read: the offset keeps the planner from hashing all agents.
create policy own_and_shared_rows on mrprompt.agent_versions for select to mrprompt_user
    using (exists (select from mrprompt.agents a where a.id = agent_id offset 0));
create policy all_rows on mrprompt.agent_versions for select to mrprompt_admin using (true);
grant select on mrprompt.agents, mrprompt.agent_versions to mrprompt_user, mrprompt_admin;

-- Making and changing them.

create function mrprompt_internal.check_shared(shared boolean, user_id uuid) returns void
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    if shared then
        perform mrprompt_internal.require_admin('make a shared agent');
        if user_id is not null then
            raise exception using errcode = 'PT400', message = 'a shared agent belongs to no user', detail = format('user_id is %s', user_id),
                hint = 'Leave user_id out, or shared.';
        end if;
    end if;
end
$$;
comment on function mrprompt_internal.check_shared(boolean, uuid) is 'Refuses a shared agent to who is no admin (42501), and one that is to be somebody''s (PT400).';

create function mrprompt_internal.create_agent(
    name text, description text, metadata jsonb, config json, shared boolean, user_id uuid) returns uuid
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    acting constant uuid := case when shared then null else mrprompt_internal.acting_user(user_id) end;
    kept constant json := mrprompt_internal.kept_config(config);
    agent mrprompt.agents;
begin
    perform mrprompt_internal.check_shared(shared, user_id);
    perform mrprompt_internal.check_agent_names(coalesce(name, ''), description, metadata);
    perform mrprompt_internal.check_agent_config(kept, acting);
    agent := json_populate_record(null::mrprompt.agents, kept);
    agent.id := mrprompt_internal.uuidv7();
    agent.user_id := acting;
    agent.name := create_agent.name;
    agent.description := create_agent.description;
    agent.metadata := coalesce(create_agent.metadata, '{}');
    agent.version := 1;
    agent.created_at := now();
    agent.updated_at := now();
    insert into mrprompt.agents select agent.*;
    insert into mrprompt.agent_versions (agent_id, version, config) values (agent.id, 1, mrprompt_internal.agent_config(agent));
    return agent.id;
end
$$;
comment on function mrprompt_internal.create_agent(text, text, jsonb, json, boolean, uuid) is
    'create_agent() with the owner''s rights, of a configuration as agent_versions has it; judges the caller itself.';

create function mrprompt_internal.kept_config(config json) returns json
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return mrprompt_internal.without_nulls(
        case when config #>> '{response_format}' = 'auto' then mrprompt_internal.merge_config(config, '{"response_format": null}') else config end);
end
$$;
comment on function mrprompt_internal.kept_config(json) is 'A configuration as it is kept: without nulls, and without the response_format "auto", which is none.';

create function mrprompt_internal.check_agent_names(name text, description text, metadata jsonb) returns void
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    if name !~ '[^[:space:]]' or length(name) > 256 then
        raise exception using errcode = 'PT400', message = 'an agent''s name must have 1 to 256 characters, not all of them blank',
            detail = format('it has %s', length(name));
    elsif length(description) > 512 then
        raise exception using errcode = 'PT400', message = 'an agent''s description may have 512 characters', detail = format('it has %s', length(description)),
            hint = 'What the model shall know belongs into instructions.';
    elsif jsonb_typeof(metadata) <> 'object' then
        raise exception using errcode = 'PT400', message = 'metadata must be a JSON object', detail = format('it is %s', jsonb_typeof(metadata));
    elsif octet_length(metadata::text) > 65536 then
        raise exception using errcode = 'PT413', message = format('metadata has %s bytes, at most 65536 are allowed', octet_length(metadata::text));
    end if;
end
$$;
comment on function mrprompt_internal.check_agent_names(text, text, jsonb) is 'PT400, PT413 for what an agent has beside its configuration; null: not given.';

create function mrprompt.create_agent(
    name text, instructions text default null, description text default null, provider text default null, model text default null,
    key_id uuid default null, temperature double precision default null, top_p double precision default null, max_tokens integer default null,
    response_format json default null, reasoning_effort text default null, tools json default null, tool_choice json default null,
    parallel_tool_calls boolean default null, parameters json default null, context json default null, limits json default null,
    metadata jsonb default '{}', shared boolean default false, user_id uuid default null)
    returns uuid
    language sql volatile
    return mrprompt_internal.create_agent(name, description, metadata, json_build_object(
            'instructions', instructions, 'provider', provider, 'model', model, 'key_id', key_id, 'temperature', temperature, 'top_p', top_p,
            'max_tokens', max_tokens, 'response_format', response_format, 'reasoning_effort', reasoning_effort, 'tools', tools,
            'tool_choice', tool_choice, 'parallel_tool_calls', parallel_tool_calls, 'parameters', parameters, 'context', context, 'limits', limits),
        shared, user_id);
comment on function mrprompt.create_agent(text, text, text, text, text, uuid, double precision, double precision, integer, json, text, json, json,
    boolean, json, json, json, jsonb, boolean, uuid) is
    'Makes an agent and returns its id. Arguments are the columns of mrprompt.agents; what is null is left to key, provider and settings. '
    'shared (admins): everybody may run it. PT400: what cannot be, each said; PT404: a key that is not yours; PT413; 42501.';

create function mrprompt_internal.agent_to_change(agent_id uuid) returns mrprompt.agents
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
    caller constant uuid := mrprompt.current_user_id();
    for_others constant boolean := mrprompt_internal.may_act_for_others();
    agent mrprompt.agents;
begin
    select * into agent from mrprompt.agents a
    where a.id = agent_to_change.agent_id and (a.user_id is null or a.user_id = caller or for_others)
    for no key update;
    if not found then
        raise exception using errcode = 'PT404', message = format('there is no agent %s of yours', coalesce(agent_id::text, 'null')),
            hint = 'select * from mrprompt.list_agents()';
    elsif agent.user_id is null and not mrprompt_internal.caller_is_admin() then
        raise exception using errcode = 'insufficient_privilege', message = 'only an admin may change a shared agent',
            detail = format('agent %s', agent.id), hint = format('select mrprompt.clone_agent(%L) makes one of your own of it.', agent.id);
    end if;
    return agent;
end
$$;
comment on function mrprompt_internal.agent_to_change(uuid) is
    'Locks and returns an agent that the caller may change: his own, shared ones for admins, any user''s for who may act for others. PT404, 42501.';

create function mrprompt_internal.update_agent(
    agent_id uuid, name text, description text, metadata jsonb, config json, clear text[], expected_version integer) returns integer
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    old constant mrprompt.agents := mrprompt_internal.agent_to_change(agent_id);
    before constant json := mrprompt_internal.agent_config(old);
    given constant json := mrprompt_internal.without_nulls(config);
    new mrprompt.agents;
    after json;
    wrong text;
begin
    if old.archived_at is not null then
        raise exception using errcode = 'PT409', message = 'this agent is archived', detail = format('agent %s, archived at %s', old.id, old.archived_at),
            hint = format('select mrprompt.restore_agent(%L)', old.id);
    elsif expected_version <> old.version then
        raise exception using errcode = 'PT409', message = format('the agent has been changed: it is at version %s', old.version),
            detail = format('agent %s, expected_version is %s', old.id, expected_version), hint = 'Look at it again, and make your change to what it is now.';
    end if;
    select string_agg(coalesce(c, 'null'), ', ') into wrong from unnest(clear) c
    where coalesce(c <> all (mrprompt_internal.config_members() || array['description', 'metadata']), true);
    if wrong is not null then
        raise exception using errcode = 'PT400', message = format('clear names what cannot be cleared: %s', left(wrong, 200)),
            hint = format('It takes %s, description, metadata.', array_to_string(mrprompt_internal.config_members(), ', '));
    end if;
    select string_agg(c, ', ') into wrong from unnest(clear) c
    where given -> c is not null or c = 'description' and description is not null or c = 'metadata' and metadata is not null;
    if wrong is not null then
        raise exception using errcode = 'PT400', message = format('clear names what is given as well: %s', wrong);
    end if;
    perform mrprompt_internal.check_agent_names(name, description, metadata);
    after := mrprompt_internal.kept_config(mrprompt_internal.merge_config(
        mrprompt_internal.merge_config(before, (select coalesce(json_object_agg(c, null), '{}') from unnest(clear) c)), given));
    -- What cannot run any more (a key that was revoked) does not keep its agent from being renamed.
    if given::text <> '{}' or cardinality(clear) > 0 then
        perform mrprompt_internal.check_agent_config(after, old.user_id);
    end if;
    new := jsonb_populate_record(null::mrprompt.agents, to_jsonb(old) - mrprompt_internal.config_members());
    new := json_populate_record(new, after);
    after := mrprompt_internal.agent_config(new);
    if after::text <> before::text then
        new.version := old.version + 1;
        insert into mrprompt.agent_versions (agent_id, version, config) values (old.id, new.version, after);
    end if;
    new.name := coalesce(update_agent.name, old.name);
    new.description := case when 'description' = any (clear) then null else coalesce(update_agent.description, old.description) end;
    new.metadata := case when 'metadata' = any (clear) then '{}' else coalesce(update_agent.metadata, old.metadata) end;
    if to_jsonb(new) <> to_jsonb(old) or new.version > old.version then
        update mrprompt.agents a
        set (name, description, instructions, provider, model, key_id, temperature, top_p, max_tokens, response_format, reasoning_effort, tools,
             tool_choice, parallel_tool_calls, parameters, context, limits, metadata, version, updated_at)
            = (new.name, new.description, new.instructions, new.provider, new.model, new.key_id, new.temperature, new.top_p, new.max_tokens,
               new.response_format, new.reasoning_effort, new.tools, new.tool_choice, new.parallel_tool_calls, new.parameters, new.context,
               new.limits, new.metadata, new.version, now())
        where a.id = old.id;
    end if;
    return new.version;
end
$$;
comment on function mrprompt_internal.update_agent(uuid, text, text, jsonb, json, text[], integer) is 'update_agent() with the owner''s rights; judges the caller itself.';

create function mrprompt.update_agent(
    agent_id uuid, name text default null, instructions text default null, description text default null, provider text default null,
    model text default null, key_id uuid default null, temperature double precision default null, top_p double precision default null,
    max_tokens integer default null, response_format json default null, reasoning_effort text default null, tools json default null,
    tool_choice json default null, parallel_tool_calls boolean default null, parameters json default null, context json default null,
    limits json default null, metadata jsonb default null, clear text[] default '{}', expected_version integer default null)
    returns integer
    language sql volatile
    return mrprompt_internal.update_agent(agent_id, name, description, metadata, json_build_object(
            'instructions', instructions, 'provider', provider, 'model', model, 'key_id', key_id, 'temperature', temperature, 'top_p', top_p,
            'max_tokens', max_tokens, 'response_format', response_format, 'reasoning_effort', reasoning_effort, 'tools', tools,
            'tool_choice', tool_choice, 'parallel_tool_calls', parallel_tool_calls, 'parameters', parameters, 'context', context, 'limits', limits),
        clear, expected_version);
comment on function mrprompt.update_agent(uuid, text, text, text, text, text, uuid, double precision, double precision, integer, json, text, json,
    json, boolean, json, json, json, jsonb, text[], integer) is
    'Changes an agent: what is null stays, what clear names becomes null (metadata: empty). Returns its version, which has risen if a run depends on '
    'what was changed; name, description and metadata do not raise it. PT400, PT413 as create_agent; PT404: not yours; PT409: archived, or not at '
    'expected_version any more; 42501: shared.';

create function mrprompt_internal.archive_agent(agent_id uuid, archived boolean) returns uuid
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    agent constant mrprompt.agents := mrprompt_internal.agent_to_change(agent_id);
begin
    update mrprompt.agents a set archived_at = case when archived then now() end
    where a.id = agent.id and (a.archived_at is null) = archived;
    return agent.id;
end
$$;
comment on function mrprompt_internal.archive_agent(uuid, boolean) is 'delete_agent() and restore_agent() with the owner''s rights; judges the caller itself.';

create function mrprompt.delete_agent(agent_id uuid) returns uuid
    language sql volatile
    return mrprompt_internal.archive_agent(agent_id, true);
comment on function mrprompt.delete_agent(uuid) is
    'Archives an agent: no new run can be made with it; its runs, versions and figures stay. PT404: not yours; 42501: shared.';

create function mrprompt.restore_agent(agent_id uuid) returns uuid
    language sql volatile
    return mrprompt_internal.archive_agent(agent_id, false);
comment on function mrprompt.restore_agent(uuid) is 'Takes an agent out of the archive again. PT404: not yours; 42501: shared.';

create function mrprompt_internal.clone_agent(agent_id uuid, name text, shared boolean, user_id uuid) returns uuid
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    caller constant uuid := mrprompt.current_user_id();
    for_others constant boolean := mrprompt_internal.may_act_for_others();
    agent mrprompt.agents;
begin
    select * into agent from mrprompt.agents a
    where a.id = clone_agent.agent_id and (a.user_id is null or a.user_id = caller or for_others);
    if not found then
        perform mrprompt_internal.agent_not_found(agent_id);
    end if;
    -- The assistant that an agent was imported from stays that one's.
    return mrprompt_internal.create_agent(coalesce(clone_agent.name, agent.name), agent.description, agent.metadata - 'assistant_id',
        mrprompt_internal.agent_config(agent), shared, user_id);
end
$$;
comment on function mrprompt_internal.clone_agent(uuid, text, boolean, uuid) is 'clone_agent() with the owner''s rights; judges the caller itself.';

create function mrprompt.clone_agent(agent_id uuid, name text default null, shared boolean default false, user_id uuid default null) returns uuid
    language sql volatile
    return mrprompt_internal.clone_agent(agent_id, name, shared, user_id);
comment on function mrprompt.clone_agent(uuid, text, boolean, uuid) is
    'Makes an agent of your own (admins: shared) like one that you may use, at version 1; returns its id. PT404: no such agent, or you may not use its '
    'key; PT400 as create_agent.';

grant execute on function mrprompt.create_agent, mrprompt_internal.create_agent, mrprompt.update_agent, mrprompt_internal.update_agent,
    mrprompt.delete_agent, mrprompt.restore_agent, mrprompt_internal.archive_agent, mrprompt.clone_agent, mrprompt_internal.clone_agent
    to mrprompt_user, mrprompt_admin;
