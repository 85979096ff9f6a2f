-- The steps of a run: a model call queued, what it answered taken, the tools that it calls for waited for.

create function mrprompt_internal.next_step(run mrprompt.runs) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    config constant record := mrprompt_internal.run_config(run);
    tools constant json := mrprompt_internal.tool_definitions(config.tools);
    known mrprompt_internal.model_rows;
    frame bigint;
    room bigint;
    places int8multirange;
    request uuid;
begin
    if config.limits is null then
        perform mrprompt_internal.end_run(run, 'failed', 'server_error', format('agent %s is gone', run.agent_id));
        return;
    elsif run.steps >= (config.limits ->> 'max_steps')::integer then
        perform mrprompt_internal.end_run(run, 'incomplete', reason => 'max_steps');
        return;
    elsif run.steps > 0 and coalesce(run.cost, 'infinity') >= (config.limits ->> 'max_cost')::numeric then
        perform mrprompt_internal.end_run(run, 'incomplete', reason => 'max_cost');
        return;
    elsif run.completion_tokens >= run.max_completion_tokens then
        perform mrprompt_internal.end_run(run, 'incomplete', reason => 'max_completion_tokens');
        return;
    end if;
    if config.provider is not null and config.model is not null then
        known := mrprompt_internal.model_of(config.provider, config.model);
    end if;
    frame := octet_length(concat(to_json(config.instructions), tools, config.response_format, config.parameters));
    -- Its tokens are estimates: a fifth of what a model takes is left for that, and the answer has its part.
    room := least((config.context ->> 'max_tokens')::bigint,
            coalesce(known.context_tokens * 4 / 5 - coalesce(config.max_tokens, least(known.max_output_tokens, known.context_tokens / 4), 4096),
                mrprompt_internal.setting('mrprompt.context_tokens')::bigint),
            run.max_prompt_tokens - run.prompt_tokens)
        - ceil(frame / 4.0)::bigint;
    -- Before the work of building it.
    perform mrprompt_internal.check_room(run.user_id);
    if not exists (select from mrprompt.messages m where m.thread_id = run.thread_id and m.position is not null) then
        raise exception using errcode = 'PT400', message = format('thread %s has no message: there is nothing to answer', run.thread_id),
            hint = 'create_message() first, or pass additional_messages.';
    end if;
    places := mrprompt_internal.choose_messages(run, config.context, room, mrprompt_internal.setting('mrprompt.max_payload')::bigint - frame - 1000);
    if places is null then
        perform mrprompt_internal.end_run(run, 'incomplete', reason => 'max_prompt_tokens');
        return;
    end if;
    run.steps := run.steps + 1;
    -- From when it works, not from when it was asked for.
    run.expires_at := coalesce(run.expires_at, clock_timestamp() + interval '1 s' * (config.limits ->> 'max_seconds')::integer);
    request := mrprompt_internal.enqueue_for(run.user_id, mrprompt_internal.run_payload(run, config, tools, places), config.model, config.provider, config.key_id, true,
        case when run.metadata ? 'tags' then jsonb_build_object('tags', run.metadata -> 'tags') end, null, run.expires_at, 0, null, null,
        run.id, places, config.agent_name);
    update mrprompt.runs r
    set steps = run.steps, request_id = request, expires_at = run.expires_at, started_at = coalesce(r.started_at, clock_timestamp()),
        next_ids = array[mrprompt_internal.uuidv7(), mrprompt_internal.uuidv7(), mrprompt_internal.uuidv7()]
    where r.id = run.id;
    perform mrprompt_internal.note_changes(array[run.id]);
end
$$;
comment on function mrprompt_internal.next_step(mrprompt.runs) is
    'Queues the next model call of a run, or ends it where a limit of its own is reached. Errors: as chat(). The caller holds run and thread.';

create function mrprompt_internal.error_code(error_type text, http_status integer) returns text
    language sql immutable
    return case
        when error_type in ('budget_exceeded', 'budget') or http_status = 402 then 'budget_exceeded'
        when http_status in (401, 403) or error_type = 'key_revoked' then 'key_refused'
        when http_status = 429 or error_type in ('rate_limit', 'rate_limit_error', 'insufficient_quota') then 'rate_limit_exceeded'
        when http_status between 400 and 499 or error_type in ('invalid_request', 'invalid_request_error') then 'invalid_prompt'
        else 'server_error' end;
comment on function mrprompt_internal.error_code(text, integer) is 'The code of a run''s last_error for an error of a request.';

create function mrprompt_internal.is_json_object(value text) returns boolean
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return json_typeof(value::json) = 'object';
exception when data_exception or statement_too_complex then
    return false;
end
$$;
comment on function mrprompt_internal.is_json_object(text) is 'Whether a text is the JSON of an object.';

create function mrprompt_internal.tool_calls_of(answer json) returns json
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select json_agg(json_build_object('id', c.id, 'type', 'function', 'function', json_build_object('name', c.name,
                -- What is no object can be sent to no provider again.
                'arguments', case when mrprompt_internal.is_json_object(c.arguments) then c.arguments else '{}' end)) order by c.place)
        from (select n as place, coalesce(nullif(left(regexp_replace(e -> 'function' ->> 'name', '[^a-zA-Z0-9_-]', '_', 'g'), 64), ''), 'unnamed') as name, coalesce(e -> 'function' ->> 'arguments', '') as arguments,
                case when e ->> 'id' <> '' and row_number() over (partition by e ->> 'id' order by n) = 1 then e ->> 'id'
                    else 'call_' || replace(mrprompt_internal.uuidv7()::text, '-', '') end as id
              from json_array_elements(case json_typeof(answer) when 'array' then answer else '[]' end) with ordinality as l (e, n)) c);
end
$$;
comment on function mrprompt_internal.tool_calls_of(json) is 'The tool calls of an answer, each with an id of its own, and with a name and arguments that can be sent again; null: none.';

create function mrprompt_internal.call_tools(run mrprompt.runs, config record, said json, calls json) returns void
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    step_id constant uuid := run.next_ids[3];
    most constant integer := (config.limits ->> 'max_calls_per_tool')::integer;
    most_at_once constant integer := 128;
    call record;
    kind record;
    state text;
    why text;
begin
    for call in
        with earlier as (
            select t.name, count(*) as calls from mrprompt.tool_calls t where most is not null and t.run_id = run.id group by t.name
        )
        select c.place, c.id, c.name, c.arguments, w.value -> 'function' ->> 'arguments' as written,
            coalesce(e.calls, 0) + row_number() over (partition by c.name order by c.place) - 1 as earlier
        from (select n - 1 as place, l.c ->> 'id' as id, l.c -> 'function' ->> 'name' as name, l.c -> 'function' ->> 'arguments' as arguments
              from json_array_elements(calls) with ordinality as l (c, n)) c
        join json_array_elements(said) with ordinality as w (value, n) on w.n = c.place + 1
        left join earlier e on e.name = c.name
        order by c.place
    loop
        kind := mrprompt_internal.call_kind(config.tools, call.name);
        why := case
            when kind.kind = 'unknown' then format('there is no tool %s', call.name)
            when call.place >= most_at_once then format('at most %s tools may be called at once: this one was not', most_at_once)
            when call.earlier >= most then format('%s may be called %s times in a run, and was: go on without it', call.name, most)
            when coalesce(call.written, '') !~ '^\s*$' and not mrprompt_internal.is_json_object(call.written) then
                format('the arguments are no JSON object: %s', left(call.written, 200)) end;
        state := case when why is not null then 'failed' when kind.needs_approval then 'needs_approval' when kind.kind = 'client' then 'needs_output'
            else 'queued' end;
        insert into mrprompt.tool_calls (run_id, user_id, step_id, call_id, place, name, arguments, kind, approval, status, output, finished_at)
        values (run.id, run.user_id, step_id, call.id, call.place, call.name, call.arguments, kind.kind, state = 'needs_approval', state,
            case when why is not null then json_build_object('error', why)::text end, case when why is not null then clock_timestamp() end);
    end loop;
end
$$;
comment on function mrprompt_internal.call_tools(mrprompt.runs, record, json, json) is
    'Puts down the calls that an answer asks for (said: as the model wrote them), each with what it waits for.';

create function mrprompt_internal.await_tools(run mrprompt.runs, config record, answered boolean default false) returns void
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    latest constant uuid := (select s.id from mrprompt.run_steps s where s.run_id = run.id and s.step = run.steps and s.type = 'tool_calls');
    open_calls record;
    patience constant interval := interval '1 s' * (config.limits ->> 'tool_wait_seconds')::integer;
begin
    select count(*) filter (where c.status in ('needs_approval', 'needs_output')) as users, count(*) filter (where c.status in ('queued', 'running')) as tools
    into open_calls from mrprompt.tool_calls c where c.step_id = latest;
    if open_calls.tools > 0 then
        perform mrprompt_internal.start_tools();
    end if;
    if open_calls.users > 0 then
        if run.status <> 'requires_action' then
            update mrprompt.runs r set status = 'requires_action', expires_at = clock_timestamp() + patience, time_left = run.expires_at - clock_timestamp()
            where r.id = run.id;
        end if;
        if run.status <> 'requires_action' or answered then
            perform mrprompt_internal.add_event(run, 'thread.run.requires_action', run.id);
        end if;
    else
        if open_calls.tools = 0 then
            perform mrprompt_internal.answer_calls(run);
            update mrprompt.run_steps s set status = 'completed', finished_at = clock_timestamp() where s.id = latest;
            perform mrprompt_internal.add_event(run, 'thread.run.step.completed', latest);
        end if;
        if run.status = 'requires_action' then
            run.status := case when open_calls.tools = 0 then 'queued' else 'in_progress' end;
            -- The time that its user took is not its own.
            run.expires_at := clock_timestamp() + run.time_left;
            update mrprompt.runs r set status = run.status, expires_at = run.expires_at where r.id = run.id;
            perform mrprompt_internal.add_event(run, 'thread.run.' || run.status, run.id);
        end if;
        if open_calls.tools = 0 then
            perform mrprompt_internal.next_step(run);
        end if;
    end if;
    perform mrprompt_internal.note_changes(array[run.id]);
end
$$;
comment on function mrprompt_internal.await_tools(mrprompt.runs, record, boolean) is
    'What a run does about its latest tool calls: starts those that can run, asks its user for the others (again for the rest, where he has just answered '
    'some), and goes on once all have answered.';

create function mrprompt_internal.take_answer(run mrprompt.runs) returns boolean
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    ledger_slot constant smallint := mrprompt_internal.slot_of(run.request_id);  -- known before the ledger's partitions are opened
    answer record;
    calls json;
    wrote boolean;
    cut text;
    ended_as text := 'completed';  -- the step that wrote
begin
    select r.status, r.error_type, r.error_status, r.error_message, a.content, a.refusal, a.reasoning, a.tool_calls, a.finish_reason, a.raw,
        u.prompt_tokens, u.completion_tokens, u.cost
    into answer
    from mrprompt.requests r
    left join mrprompt.responses a on a.request_id = r.id
    cross join lateral (
        select coalesce(sum(l.prompt_tokens), 0)::bigint as prompt_tokens, coalesce(sum(l.completion_tokens), 0)::bigint as completion_tokens,
            -- What was never sent cost nothing.
            case when count(*) = count(l.cost) then coalesce(sum(l.cost), 0) end as cost
        from mrprompt.usage l where l.request_id = run.request_id and l.slot = ledger_slot) u
    where r.id = run.request_id;
    run.prompt_tokens := run.prompt_tokens + answer.prompt_tokens;
    run.completion_tokens := run.completion_tokens + answer.completion_tokens;
    run.cost := case when run.steps = 1 then answer.cost else run.cost + answer.cost end;
    if answer.status = 'succeeded' and run.status <> 'cancelling' then
        calls := mrprompt_internal.tool_calls_of(answer.tool_calls);
        cut := case answer.finish_reason when 'length' then 'max_completion_tokens' when 'content_filter' then 'content_filter' end;
    else
        ended_as := case when run.status = 'cancelling' and run.expires_at is null then 'cancelled'
            when run.status = 'cancelling' or answer.status = 'expired' then 'expired' when answer.status = 'cancelled' then 'cancelled' else 'failed' end;
        cut := 'run_' || ended_as;
    end if;
    wrote := coalesce(answer.content, '') <> '' or coalesce(answer.refusal, '') <> '';
    if wrote or calls is not null then
        perform mrprompt_internal.add_message(run.thread_id, run.user_id, 'assistant', to_json(nullif(answer.content, '')), run_id => run.id,
            agent_id => run.agent_id, refusal => nullif(answer.refusal, ''), reasoning => answer.reasoning, tool_calls => calls,
            raw => answer.raw, message_id => run.next_ids[1], incomplete_reason => cut);
    end if;
    if wrote then
        insert into mrprompt.run_steps (id, run_id, thread_id, user_id, step, type, status, request_id, message_id, prompt_tokens, completion_tokens,
            cost, finished_at)
        values (run.next_ids[2], run.id, run.thread_id, run.user_id, run.steps, 'message_creation', ended_as, run.request_id, run.next_ids[1],
            answer.prompt_tokens, answer.completion_tokens, answer.cost, clock_timestamp());
        perform mrprompt_internal.add_event(run, 'thread.message.' || case when cut is null then 'completed' else 'incomplete' end, run.next_ids[1]);
        perform mrprompt_internal.add_event(run, 'thread.run.step.' || ended_as, run.next_ids[2]);
    end if;
    if calls is not null then
        insert into mrprompt.run_steps (id, run_id, thread_id, user_id, step, type, request_id, message_id, prompt_tokens, completion_tokens, cost)
        values (run.next_ids[3], run.id, run.thread_id, run.user_id, run.steps, 'tool_calls', run.request_id, run.next_ids[1],
            case when not wrote then answer.prompt_tokens end, case when not wrote then answer.completion_tokens end, case when not wrote then answer.cost end);
        perform mrprompt_internal.call_tools(run, mrprompt_internal.run_config(run), answer.tool_calls, calls);
    end if;
    perform mrprompt_internal.note_changes(array[run.id, run.request_id]);
    run.request_id := null;
    run.status := case when run.status = 'cancelling' then run.status else 'in_progress' end;
    if ended_as = 'expired' then
        perform mrprompt_internal.end_run(run, 'expired', reason => 'max_seconds');
    elsif ended_as = 'cancelled' then
        perform mrprompt_internal.end_run(run, 'cancelled');
    elsif answer.status <> 'succeeded' then
        perform mrprompt_internal.end_run(run, 'failed', mrprompt_internal.error_code(answer.error_type, answer.error_status),
            concat_ws(': ', answer.error_type, answer.error_message));
    elsif cut is not null then
        perform mrprompt_internal.end_run(run, 'incomplete', reason => cut);
    elsif calls is not null then
        update mrprompt.runs r
        set prompt_tokens = run.prompt_tokens, completion_tokens = run.completion_tokens, cost = run.cost, request_id = null, next_ids = null,
            status = run.status
        where r.id = run.id;
        return true;
    else
        perform mrprompt_internal.end_run(run, 'completed');
    end if;
    return false;
end
$$;
comment on function mrprompt_internal.take_answer(mrprompt.runs) is
    'Takes what a run''s request has brought, and ends the run by it; true: it goes on with the tools that were called. The caller holds run and thread.';
