-- What a run sends: its agent's configuration, and those messages of its thread that fit.

create function mrprompt_internal.limits_of(agent json, run json) returns json
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select json_object_agg(l.name, l.most) from (
            select n.name, least(coalesce((agent ->> n.name)::numeric, mrprompt_internal.setting(n.setting)::numeric), (run ->> n.name)::numeric) as most
            from (values ('max_steps', 'mrprompt.max_run_steps'), ('max_seconds', 'mrprompt.run_timeout'),
                ('tool_wait_seconds', 'mrprompt.tool_output_timeout'), ('max_calls_per_tool', null), ('max_cost', null)) n (name, setting)) l
        where l.most is not null);
end
$$;
comment on function mrprompt_internal.limits_of(json, json) is
    'The limits of a run: its agent''s, where that says nothing the settings''; what create_run() said makes them lower, never higher.';

create function mrprompt_internal.run_config(
    run mrprompt.runs, out agent_name text, out provider text, out model text, out key_id uuid, out instructions text,
    out temperature double precision, out top_p double precision, out max_tokens integer, out response_format json, out reasoning_effort text,
    out tools json, out tool_choice json, out parallel_tool_calls boolean, out parameters json, out context json, out limits json)
    language plpgsql stable set search_path = pg_catalog, pg_temp set enable_seqscan = off set plan_cache_mode = force_generic_plan
as $$
begin
    select a.name,
        -- Provider, key and model go together: what names one of them takes none of the agent's others that it may not fit.
        case when o.key_id is null then coalesce(o.provider, c.provider) else o.provider end,
        coalesce(o.model, case when coalesce(o.provider, c.provider) is not distinct from c.provider and o.key_id is null then c.model end),
        coalesce(o.key_id, case when coalesce(o.provider, c.provider) is not distinct from c.provider then c.key_id end),
        nullif(concat_ws(E'\n\n', nullif(coalesce(o.instructions, c.instructions), ''), nullif(run.additional_instructions, '')), ''),
        coalesce(o.temperature, c.temperature), coalesce(o.top_p, c.top_p), coalesce(o.max_tokens, c.max_tokens),
        coalesce(o.response_format, c.response_format), coalesce(o.reasoning_effort, c.reasoning_effort),
        coalesce(o.tools, c.tools), coalesce(o.tool_choice, c.tool_choice), coalesce(o.parallel_tool_calls, c.parallel_tool_calls),
        coalesce(o.parameters, c.parameters), mrprompt_internal.merge_config(c.context, o.context), mrprompt_internal.limits_of(c.limits, o.limits)
    into agent_name, provider, model, key_id, instructions, temperature, top_p, max_tokens, response_format, reasoning_effort, tools, tool_choice,
        parallel_tool_calls, parameters, context, limits
    from mrprompt.agent_versions v
    left join mrprompt.agents a on a.id = v.agent_id
    cross join lateral json_to_record(v.config) as c (
        provider text, model text, key_id uuid, instructions text, temperature double precision, top_p double precision, max_tokens integer,
        response_format json, reasoning_effort text, tools json, tool_choice json, parallel_tool_calls boolean, parameters json, context json, limits json)
    cross join lateral json_to_record(run.overrides) as o (
        provider text, model text, key_id uuid, instructions text, temperature double precision, top_p double precision, max_tokens integer,
        response_format json, reasoning_effort text, tools json, tool_choice json, parallel_tool_calls boolean, parameters json, context json, limits json)
    where v.agent_id = run.agent_id and v.version = run.agent_version;
end
$$;
comment on function mrprompt_internal.run_config(mrprompt.runs) is
    'What is in force in a run: its own word, else that of its agent''s version; all null: that is gone.';

create function mrprompt_internal.first_within(thread_id uuid, lowest bigint, room bigint, room_bytes bigint) returns bigint
    language plpgsql stable set search_path = pg_catalog, pg_temp set enable_seqscan = off set plan_cache_mode = force_generic_plan
as $$
begin
    return (
        select min(w.position) from (
            select l.position, sum(l.tokens) over newest as used, sum(l.bytes) over newest as used_bytes
            from (select m.position, m.tokens, m.bytes from mrprompt.messages m
                  where m.thread_id = first_within.thread_id and m.position >= lowest
                  order by m.position desc limit 2000) l
            window newest as (order by l.position desc)) w
        where w.used <= room and w.used_bytes <= room_bytes);
end
$$;
comment on function mrprompt_internal.first_within(uuid, bigint, bigint, bigint) is
    'From which place on (lowest or above) the messages of a thread have about room tokens and room_bytes bytes at most, and are 2,000 at most; null: not even the last.';

create function mrprompt_internal.choose_messages(run mrprompt.runs, context json, room bigint, room_bytes bigint) returns int8multirange
    language plpgsql stable set search_path = pg_catalog, pg_temp set enable_seqscan = off set plan_cache_mode = force_generic_plan
as $$
declare
    newest constant integer := case when context ->> 'truncation' is distinct from 'auto' then (context ->> 'last_messages')::integer end;
    top constant bigint := (
        select m.position from mrprompt.messages m where m.thread_id = run.thread_id and m.position is not null order by m.position desc limit 1);
    -- Where what the run itself has said begins.
    own constant bigint := coalesce((
        select m.position from mrprompt.messages m where m.run_id = run.id and m.agent_id is not null order by m.position limit 1), top + 1);
    question constant bigint := (
        select m.position from mrprompt.messages m where m.thread_id = run.thread_id and m.position < own and m.role = 'user' order by m.position desc limit 1);
    lowest bigint := 1;
    first_ bigint;
    earlier record;
    beside bigint;
    head bigint;
    -- What is new, with the call where it is what a tool has answered.
    needed constant bigint := (
        select sum(m.bytes) from mrprompt.messages m
        where m.thread_id = run.thread_id and m.position >= coalesce((
            select c.position from mrprompt.messages c
            where c.thread_id = run.thread_id and c.position <= least(own, top) and c.role <> 'tool' order by c.position desc limit 1), top));
begin
    if needed > room_bytes then
        raise exception using errcode = 'PT413', message = format('what is new in thread %s is too large to be sent', run.thread_id),
            detail = format('It has up to %s bytes, and beside the instructions and tools there is room for %s.', needed, greatest(room_bytes, 0)),
            hint = 'Say less, or have the DBA raise mrprompt.max_payload.';
    end if;
    if newest is not null then
        lowest := (
            select min(l.position) from (
                select m.position from mrprompt.messages m
                where m.thread_id = run.thread_id and m.position < own and m.role <> 'tool' and (m.content is not null or m.refusal is not null)
                order by m.position desc limit newest) l);
    end if;
    first_ := mrprompt_internal.first_within(run.thread_id, lowest, room, room_bytes);
    if first_ is null or first_ > own then
        return null;
    end if;
    if first_ > 1 and newest is null then
        -- What was asked last is what is answered, what was asked first is what the conversation is about; the middle is left out.
        for earlier in
            select m.position, m.tokens, m.bytes from mrprompt.messages m
            where m.thread_id = run.thread_id and m.position < first_ and m.role = 'user' and m.position = any (array[question, (
                select l.position from mrprompt.messages l where l.thread_id = run.thread_id and l.position is not null order by l.position limit 1)])
              and (m.position = question or m.tokens <= room / 4 and m.bytes <= room_bytes / 4)
            order by m.position desc
        loop
            beside := mrprompt_internal.first_within(run.thread_id, first_, room - earlier.tokens, room_bytes - earlier.bytes);
            if beside <= (case when question >= first_ then question else own end) then
                head := earlier.position;
                first_ := beside;
                exit;
            end if;
        end loop;
        -- Not with an answer to what is not there.
        first_ := coalesce((
            select m.position from mrprompt.messages m
            where m.thread_id = run.thread_id and m.position >= first_ and m.position < own and m.role = 'user' order by m.position limit 1), first_);
    end if;
    -- What a tool answered goes with its call.
    first_ := (
        select m.position from mrprompt.messages m
        where m.thread_id = run.thread_id and m.position >= first_ and m.role <> 'tool' order by m.position limit 1);
    return case when first_ is not null then int8multirange(case when head is null then 'empty' else int8range(head, head, '[]') end, int8range(first_, top, '[]')) end;
end
$$;
comment on function mrprompt_internal.choose_messages(mrprompt.runs, json, bigint, bigint) is
    'The places of the messages that a run sends now, in about room tokens and room_bytes bytes: the newest last_messages and what it has said itself; or as '
    'many as fit, without the middle, but with the newest of its user''s. Null: the tokens do not even take what is new; PT413: the bytes do not. At most 2,000 are sent.';

create function mrprompt_internal.chat_message(message mrprompt.messages) returns text
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return '{' || concat_ws(',', '"role":"' || message.role || '"', '"tool_call_id":' || to_json(message.tool_call_id),
        '"content":' || coalesce(message.content::text, 'null'), '"refusal":' || to_json(message.refusal),
        '"tool_calls":' || message.tool_calls, '"raw":' || message.raw) || '}';
end
$$;
comment on function mrprompt_internal.chat_message(mrprompt.messages) is 'A message in OpenAI''s chat format, its parts byte for byte as they came.';

create function mrprompt_internal.run_payload(run mrprompt.runs, config record, tools json, messages_from int8multirange) returns json
    language plpgsql stable set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off
as $$
declare
    said text;
    left_ constant bigint := run.max_completion_tokens - run.completion_tokens;
begin
    select string_agg(mrprompt_internal.chat_message(m), ',' order by m.position) into said
    from unnest(messages_from) r (range)
    join mrprompt.messages m on m.thread_id = run.thread_id and m.position >= lower(r.range) and m.position < upper(r.range);
    return mrprompt_internal.chat_payload(
        messages => ('[' || concat_ws(',', '{"role":"system","content":' || to_json(config.instructions) || '}', said) || ']')::json,
        tools => tools,
        -- A choice that was forced once would be forced for ever.
        tool_choice => case when tools is not null and (run.steps <= 1 or config.tool_choice::text in ('"auto"', '"none"'))
            -- The one it names may be out of service.
            and (json_typeof(config.tool_choice) = 'string'
                or exists (select from json_array_elements(tools) e where e #>> '{function,name}' = config.tool_choice #>> '{function,name}'))
            then config.tool_choice end,
        response_format => config.response_format, temperature => config.temperature, top_p => config.top_p,
        max_tokens => case when coalesce(config.max_tokens, left_) is not null then least(config.max_tokens, left_, 1000000000)::integer end, stop => null, seed => null,
        parameters => ('{' || concat_ws(',',
            '"reasoning_effort":' || to_json(config.reasoning_effort),
            '"parallel_tool_calls":' || case when tools is not null then config.parallel_tool_calls::text end,
            nullif(btrim(substring(btrim(config.parameters::text, E' \t\r\n') from '^\{(.*)\}$'), E' \t\r\n'), '')) || '}')::json);
end
$$;
comment on function mrprompt_internal.run_payload(mrprompt.runs, record, json, int8multirange) is
    'The OpenAI chat payload of the next model call of a run, or of the one under way, by its run_config and their tool_definitions, over these messages of its thread.';

create function mrprompt_internal.payload_of(request mrprompt.requests) returns json
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    run mrprompt.runs;
    config record;
begin
    if request.run_id is null then
        return request.payload;
    end if;
    select * into run from mrprompt.runs r where r.id = request.run_id;
    config := mrprompt_internal.run_config(run);
    return mrprompt_internal.run_payload(run, config, mrprompt_internal.tool_definitions(config.tools), request.messages_from);
end
$$;
comment on function mrprompt_internal.payload_of(mrprompt.requests) is
    'The payload of a request that is queued or in flight; one of a run is built from the run''s agent and thread. Null: the run is gone.';
