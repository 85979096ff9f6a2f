-- What an agent's configuration may say: one table of rules, and the checks that need to look further.

create function mrprompt_internal.without_nulls(members json) returns json
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    -- Put together as text, so that every value stays byte for byte as it was written.
    return (select '{' || coalesce(string_agg(to_json(m.key) || ': ' || m.value, ', ' order by m.place), '') || '}'
            from json_each(members) with ordinality m (key, value, place) where json_typeof(m.value) <> 'null');
end
$$;
comment on function mrprompt_internal.without_nulls(json) is 'An object without those of its members that are null; what lies deeper stays.';

create function mrprompt_internal.merge_config(base json, over json) returns json
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return (select '{' || coalesce(string_agg(to_json(m.key) || ': ' || m.value, ', ' order by m.side, m.place), '') || '}'
            from (select 1 as side, b.* from json_each(base) with ordinality b (key, value, place) where over -> b.key is null
                  union all
                  select 2, o.* from json_each(over) with ordinality o (key, value, place)) m);
end
$$;
comment on function mrprompt_internal.merge_config(json, json) is 'The members of two objects; what both name is the second''s. A configuration with a run''s overrides.';

create function mrprompt_internal.agent_config(agent mrprompt.agents) returns json
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return mrprompt_internal.without_nulls(json_build_object(
        'instructions', agent.instructions, 'provider', agent.provider, 'model', agent.model, 'key_id', agent.key_id,
        'temperature', agent.temperature, 'top_p', agent.top_p, 'max_tokens', agent.max_tokens,
        'response_format', agent.response_format, 'reasoning_effort', agent.reasoning_effort,
        'tools', agent.tools, 'tool_choice', agent.tool_choice, 'parallel_tool_calls', agent.parallel_tool_calls,
        'parameters', agent.parameters, 'context', agent.context, 'limits', agent.limits));
end
$$;
comment on function mrprompt_internal.agent_config(mrprompt.agents) is 'What an agent''s version says, as agent_versions.config has it.';

create function mrprompt_internal.config_members() returns text[]
    language sql immutable
    return array['instructions', 'provider', 'model', 'key_id', 'temperature', 'top_p', 'max_tokens', 'response_format', 'reasoning_effort',
        'tools', 'tool_choice', 'parallel_tool_calls', 'parameters', 'context', 'limits'];
comment on function mrprompt_internal.config_members() is 'The columns of agents that a version keeps: what a run depends on.';

create function mrprompt_internal.truncation_hint() returns text
    language sql immutable
    return 'As context of an agent: {"truncation": "last_messages", "last_messages": 20}, or {"truncation": "auto"}; of one run: create_run(…, '
        'truncation => ''last_messages'', last_messages => 20). That is what truncation_strategy was.';
comment on function mrprompt_internal.truncation_hint() is 'How to say what a run sends, to who said it in the words of the Assistants API, or by half.';

create function mrprompt_internal.check_config_rules(config json) returns void
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    bad record;
begin
    select string_agg(case when r.wanted is null then format('%s is unknown', left(m.name, 100))
                           else format('%s is %s, must be %s', m.name, left(m.value::text, 100), r.wanted) end, '; ' order by m.name) as problems,
        bool_or(r.wanted is null) as unknown,
        bool_or(m.name in ('truncation_strategy', 'context.truncation_strategy', 'context.truncation', 'context.type')) as truncation into bad
    from (select c.key as name, c.value from json_each(config) c
          union all
          select c.key || '.' || i.key, i.value
          from json_each(config) c cross join lateral json_each(case json_typeof(c.value) when 'object' then c.value else '{}' end) i
          where c.key in ('context', 'limits')) m
    left join (values
        ('instructions', jsonpath 'strict $.type() == "string"', 'a string of up to 256000 characters', 256000),
        ('provider', 'strict $.type() == "string"', 'the name of a provider', null),
        ('model', 'strict $ like_regex "^[^[:cntrl:]]+$"', 'a string of 1 to 256 characters, none of them a control character', 256),
        ('key_id', 'strict $ like_regex "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$" flag "i"', 'the id of a key', null),
        ('temperature', 'strict $ >= 0 && $ <= 2', 'a number from 0 to 2', null),
        ('top_p', 'strict $ >= 0 && $ <= 1', 'a number from 0 to 1', null),
        ('max_tokens', 'strict $ >= 1 && $ <= 2147483647', 'a whole number from 1 on', null),
        ('response_format', 'strict $ == "auto" || $.type == "text" || $.type == "json_object" || $.type == "json_schema" '
            '&& $.json_schema.type() == "object" && $.json_schema.name.type() == "string"',
            '"auto", {"type": "text"}, {"type": "json_object"} or {"type": "json_schema", "json_schema": {"name": …, "schema": {…}}}', null),
        ('reasoning_effort', 'strict $ like_regex "^(none|minimal|low|medium|high|xhigh)$"', 'none, minimal, low, medium, high or xhigh', null),
        ('tools', 'strict $.type() == "array" && $.size() <= 128', 'an array of up to 128 tools', null),
        ('tool_choice', 'strict $ == "none" || $ == "auto" || $ == "required" || $.type == "function" && $.function.name.type() == "string"',
            '"none", "auto", "required" or {"type": "function", "function": {"name": …}}', null),
        ('parallel_tool_calls', 'strict $.type() == "boolean"', 'true or false', null),
        ('parameters', 'strict $.type() == "object"', 'an object', null),
        ('context', 'strict $.type() == "object"', 'an object', null),
        ('context.truncation', 'strict $ == "auto" || $ == "last_messages"', '"auto" or "last_messages"', null),
        ('context.last_messages', 'strict $ >= 1 && $ <= 100000', 'a whole number from 1 to 100000', null),
        ('context.max_tokens', 'strict $ >= 256 && $ <= 2147483647', 'a whole number from 256 on', null),
        ('limits', 'strict $.type() == "object"', 'an object', null),
        ('limits.max_steps', 'strict $ >= 1 && $ <= 1000', 'a whole number from 1 to 1000', null),
        ('limits.max_calls_per_tool', 'strict $ >= 1 && $ <= 10000', 'a whole number from 1 to 10000', null),
        ('limits.max_seconds', 'strict $ >= 1 && $ <= 2592000', 'a whole number from 1 to 2592000 (30 days)', null),
        ('limits.max_cost', 'strict $ > 0 && $ <= 1000000', 'USD, above 0', null),
        ('limits.tool_wait_seconds', 'strict $ >= 1 && $ <= 2592000', 'a whole number from 1 to 2592000 (30 days)', null)
    ) r (name, rule, wanted, longest) on r.name = m.name
    where json_typeof(m.value) <> 'null'
      and (r.rule is null or not coalesce(jsonb_path_match(m.value::jsonb, r.rule, silent => true), false)
           or length(m.value #>> '{}') > r.longest
           -- What is read as an integer later: neither 20.0 nor 2e1.
           or r.wanted like 'a whole number%' and m.value::text !~ '^[0-9]{1,10}$');
    if bad.problems is not null then
        raise exception using errcode = 'PT400', message = bad.problems,
            hint = case when bad.truncation then mrprompt_internal.truncation_hint()
                        when not bad.unknown then 'Leave out what key, provider and settings shall decide.' else 'Members are: ' || array_to_string(mrprompt_internal.config_members(), ', ')
                        || '; of context: truncation, last_messages, max_tokens; of limits: max_steps, max_calls_per_tool, max_seconds, '
                           'max_cost, tool_wait_seconds. What else the provider takes goes into parameters.' end;
    end if;
end
$$;
comment on function mrprompt_internal.check_config_rules(json) is 'PT400 unless the members of a configuration are known and each is what it must be by itself.';

create function mrprompt_internal.check_tools(tools json, tool_choice json) returns void
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    names constant text[] := array(
        select case json_typeof(t) when 'string' then t #>> '{}' else t -> 'function' ->> 'name' end from json_array_elements(tools) t);
    bad record;
begin
    select e.place - 1 as place, p.problem,
        coalesce(case json_typeof(e.tool) when 'object' then e.tool ->> 'type' else e.tool #>> '{}' end in ('code_interpreter', 'file_search', 'retrieval'), false) as built_in
    into bad
    from json_array_elements(tools) with ordinality e (tool, place)
    cross join lateral (select case json_typeof(e.tool) when 'object' then e.tool -> 'function' end) f (def)
    cross join lateral (
        select case
            when json_typeof(e.tool) = 'string' then (
                select case when count(*) = 0 then format('names %s, which is no registered tool', left(names[e.place], 100)) end
                from mrprompt.tools t where t.name = names[e.place])
            when json_typeof(e.tool) <> 'object' then 'is neither the name of a registered tool nor a function tool'
            when e.tool ->> 'type' is distinct from 'function' then format('has the type %s, must be function', coalesce(left(e.tool ->> 'type', 100), 'null'))
            when json_typeof(f.def) is distinct from 'object' then 'has no function'
            when json_typeof(f.def -> 'name') is distinct from 'string' then 'has a function without a name'
            when names[e.place] !~ '^[a-zA-Z0-9_-]{1,64}$' then format('has the name %s, must be 1 to 64 letters, digits, _ and -', left(names[e.place], 100))
            when coalesce(json_typeof(f.def -> 'description'), 'null') not in ('string', 'null') then 'has a description that is no string'
            when coalesce(json_typeof(f.def -> 'parameters'), 'null') not in ('object', 'null') then 'has parameters that are no object (a JSON schema)'
            when coalesce(json_typeof(f.def -> 'strict'), 'null') not in ('boolean', 'null') then 'has a strict that is neither true nor false'
            end as problem) own
    cross join lateral (
        select coalesce(own.problem, case when names[e.place] = any (names[:e.place - 1]) then format('repeats the name %s', names[e.place]) end) as problem) p
    where p.problem is not null
    order by e.place limit 1;
    if found then
        raise exception using errcode = 'PT400', message = format('tools[%s] %s', bad.place, bad.problem),
            detail = (select 'Registered: ' || coalesce(string_agg(t.name, ', ' order by t.name), 'none') from (select l.name from mrprompt.tools l order by l.name limit 100) t),
            hint = case when bad.built_in then 'There is no code_interpreter and no file_search here. Leave it out, or give the model a function for it: an SQL tool '
                    '(register_tool) that looks into your tables, or a function tool that your app carries out.'
                else '"get_weather", the name of a registered tool, or {"type": "function", "function": {"name": "get_weather", "parameters": {…}}}' end;
    end if;
    if cardinality(names) = 0 and tool_choice #>> '{}' = 'required' then
        raise exception using errcode = 'PT400', message = 'tool_choice is "required", but there are no tools';
    elsif json_typeof(tool_choice) = 'object' and tool_choice -> 'function' ->> 'name' <> all (names) then
        raise exception using errcode = 'PT400',
            message = format('tool_choice names %s, which is none of the tools', left(tool_choice -> 'function' ->> 'name', 100)),
            detail = 'The tools are: ' || coalesce(nullif(array_to_string(names, ', '), ''), 'none');
    end if;
end
$$;
comment on function mrprompt_internal.check_tools(json, json) is 'PT400 unless each tool is a registered one or a function tool, no name comes twice, and tool_choice names one of them.';

create function mrprompt_internal.check_agent_config(config json, acting uuid) returns void
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    most constant int := mrprompt_internal.setting('mrprompt.max_payload')::int;
    checked jsonb;
    clash text;
    key mrprompt.api_keys;
begin
    if json_typeof(config) is distinct from 'object' then
        raise exception using errcode = 'PT400', message = 'an agent''s configuration must be a JSON object',
            detail = format('it is %s', coalesce(json_typeof(config), 'null')), hint = '{"model": "gpt-4o-mini", "temperature": 0.5}';
    elsif octet_length(config::text) > most then
        raise exception using errcode = 'PT413', message = format('the configuration has %s bytes, at most %s are allowed', octet_length(config::text), most),
            hint = 'Say less, or have the DBA raise mrprompt.max_payload.';
    elsif mrprompt_internal.json_shape_problem(config) is not null then
        raise exception using errcode = 'PT400', message = 'the configuration cannot be sent: ' || mrprompt_internal.json_shape_problem(config),
            hint = 'Say it by less deeply nested or smaller objects.';
    end if;
    begin
        checked := config::jsonb;
    exception when data_exception then
        raise exception using errcode = 'PT400', message = 'the configuration cannot be kept: ' || sqlerrm,
            hint = 'No string may contain \u0000, and no number may be larger than PostgreSQL''s numeric.';
    end;
    perform mrprompt_internal.check_config_rules(config);

    select string_agg(k, ', ') into clash from jsonb_object_keys(case jsonb_typeof(checked -> 'parameters') when 'object' then checked -> 'parameters' else '{}' end) k
    where k in ('model', 'messages', 'stream', 'temperature', 'top_p', 'max_tokens', 'max_completion_tokens', 'response_format', 'reasoning_effort',
        'tools', 'tool_choice', 'parallel_tool_calls', 'truncation_strategy');
    if clash is not null then
        raise exception using errcode = 'PT400', message = format('parameters repeats what is given otherwise: %s', clash),
            hint = case when clash = 'truncation_strategy' then mrprompt_internal.truncation_hint() else 'model, temperature, top_p, max_tokens, response_format, reasoning_effort, tools, tool_choice and parallel_tool_calls are members of '
                'their own; messages and stream are the run''s.' end;
    elsif checked -> 'context' ->> 'truncation' = 'last_messages' and checked -> 'context' ->> 'last_messages' is null then
        raise exception using errcode = 'PT400', message = 'context has the truncation last_messages, but does not say how many',
            hint = mrprompt_internal.truncation_hint();
    end if;
    perform mrprompt_internal.check_tools(case json_typeof(config -> 'tools') when 'array' then config -> 'tools' else '[]' end, config -> 'tool_choice');

    if not exists (select from mrprompt.providers p where p.name = checked ->> 'provider') and checked ->> 'provider' is not null then
        raise exception using errcode = 'PT400', message = format('there is no provider %s', left(checked ->> 'provider', 100)),
            detail = (select 'Known: ' || string_agg(p.name, ', ' order by p.name) from mrprompt.providers p where p.enabled),
            hint = 'An admin adds one by insert into mrprompt.providers (name, protocol, base_url) values (…).';
    elsif checked ->> 'key_id' is null then
        return;
    elsif acting is not null then
        perform mrprompt_internal.pick_key(acting, (checked ->> 'key_id')::uuid, checked ->> 'provider');
        return;
    end if;
    -- Who runs a shared agent needs a grant of its key; who has one is seen then.
    select * into key from mrprompt.api_keys k where k.id = (checked ->> 'key_id')::uuid and k.user_id is null;
    if not found or key.revoked_at is not null or checked ->> 'provider' <> key.provider then
        raise exception using errcode = 'PT400',
            message = format(case when key.id is null then 'key %s is no shared key' when key.revoked_at is not null then 'key %s was revoked'
                                  else 'key %s belongs to another provider, ' || key.provider end, checked ->> 'key_id'),
            hint = case when key.id is not null and key.revoked_at is null then 'A key travels only to its own provider. Leave provider out, or name another key.'
                else 'A shared agent takes a shared key: add_key(provider, api_key, shared => true), and grant_key(). Without one, each user''s own is used.' end;
    end if;
end
$$;
comment on function mrprompt_internal.check_agent_config(json, uuid) is
    'PT400 unless a configuration (named as the members of agent_versions.config) can be run by that user; null: it is a shared agent''s. PT404: a key '
    'that he may not use; PT413: too large. A run''s overrides are checked merged with the agent''s configuration (merge_config).';
