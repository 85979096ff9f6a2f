-- How runs go on: what their requests answered and what tools said becomes messages, steps and events, and the next model call is queued.
-- Whoever cannot have a run at once (somebody holds it) leaves it in run_work and waits for nobody.

create function mrprompt_internal.add_event(run mrprompt.runs, event text, subject uuid) returns void
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
begin
    insert into mrprompt.run_events (run_id, seq, event, subject)
    values (run.id, greatest(run.steps * 1000000000000 + case when run.steps > 0 then 900000000000 else 0 end,
        1 + coalesce((select e.seq from mrprompt.run_events e where e.run_id = run.id order by e.seq desc limit 1), 0)), add_event.event, add_event.subject);
end
$$;
comment on function mrprompt_internal.add_event(mrprompt.runs, text, uuid) is 'Puts down what has happened in a run, behind what is there.';

create function mrprompt_internal.is_json_object(value text) returns boolean
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return json_typeof(value::json) = 'object';
exception when data_exception then
    return false;
end
$$;
comment on function mrprompt_internal.is_json_object(text) is 'Whether a text is the JSON of an object.';

create function mrprompt_internal.place_waiting(thread_id uuid) returns void
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    next_run constant uuid := (
        select r.id from mrprompt.runs r
        where r.thread_id = place_waiting.thread_id and not r.active and r.finished_at is null order by r.id limit 1);
    top constant bigint := coalesce((
        select m.position from mrprompt.messages m where m.thread_id = place_waiting.thread_id and m.position is not null
        order by m.position desc limit 1), 0);
begin
    update mrprompt.messages m set position = top + w.place
    from (select l.id, row_number() over (order by l.id) as place
          from mrprompt.messages l
          -- What came after the next run waits behind it as well.
          where l.thread_id = place_waiting.thread_id and l.position is null
            and (next_run is null or l.id < next_run or l.run_id = next_run)) w
    where m.id = w.id;
    if next_run is not null then
        update mrprompt.runs r set active = true where r.id = next_run;
        perform mrprompt_internal.nudge_run(next_run);
    end if;
end
$$;
comment on function mrprompt_internal.place_waiting(uuid) is
    'When a thread is free: gives the messages that waited their places, up to the next run that waited, which then holds the thread.';

create function mrprompt_internal.answer_calls(run mrprompt.runs) returns void
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    call record;
begin
    for call in
        select c.call_id, c.output from mrprompt.run_steps s join mrprompt.tool_calls c on c.step_id = s.id
        where s.run_id = run.id and s.step = run.steps and s.type = 'tool_calls' order by c.place
    loop
        perform mrprompt_internal.add_message(run.thread_id, run.user_id, 'tool', to_json(coalesce(call.output, '')), run_id => run.id,
            agent_id => run.agent_id, tool_call_id => call.call_id);
    end loop;
end
$$;
comment on function mrprompt_internal.answer_calls(mrprompt.runs) is 'Puts the outputs of a run''s latest tool calls into its thread.';

create function mrprompt_internal.end_run(run mrprompt.runs, status text, code text default null, message text default null, reason text default null)
    returns void
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    open_step mrprompt.run_steps;
begin
    if run.request_id is not null and exists (
        select from mrprompt.requests r where r.id = run.request_id and r.status in ('queued', 'running')) then
        insert into mrprompt_internal.cancels (request_id) values (run.request_id) on conflict do nothing;
        perform mrprompt_internal.wake(mrprompt_internal.channel_name('fetchers'));
    end if;
    select * into open_step from mrprompt.run_steps s where s.run_id = run.id and s.step = run.steps and s.type = 'tool_calls' and s.status = 'in_progress';
    if found then
        update mrprompt.tool_calls c
        set status = 'cancelled', finished_at = clock_timestamp(), output = format('{"error":"the run ended (%s) before the tool answered"}', end_run.status)
        where c.step_id = open_step.id and c.status in ('needs_approval', 'needs_output', 'queued', 'running');
        perform mrprompt_internal.stop_tool_calls(run.id);
        -- Providers refuse a conversation with a call that nothing answered.
        perform mrprompt_internal.answer_calls(run);
        open_step.status := case when end_run.status in ('cancelled', 'expired') then end_run.status else 'failed' end;
        update mrprompt.run_steps s set status = open_step.status, finished_at = clock_timestamp() where s.id = open_step.id;
        perform mrprompt_internal.add_event(run, 'thread.run.step.' || open_step.status, open_step.id);
    end if;
    update mrprompt.runs r
    set status = end_run.status, active = false, finished_at = clock_timestamp(), request_id = null, next_ids = null,
        last_error = case when code is not null then json_build_object('code', code, 'message', end_run.message) end, incomplete_reason = reason
    where r.id = run.id;
    perform mrprompt_internal.add_event(run, 'thread.run.' || end_run.status, run.id);
    perform mrprompt_internal.add_event(run, 'done', run.id);
    delete from mrprompt_internal.run_identities i where i.run_id = run.id;
    perform mrprompt_internal.forget_work(run.id);
    perform mrprompt_internal.note_changes(array[run.id, run.request_id]);
    if run.active then
        perform mrprompt_internal.place_waiting(run.thread_id);
    end if;
end
$$;
comment on function mrprompt_internal.end_run(mrprompt.runs, text, text, text, text) is
    'Ends a run, with an error (code, message) or the reason why it is incomplete, and lets go of its thread. The caller holds both rows.';

create function mrprompt_internal.limit_of(limits json, name text, setting text) returns numeric
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce((limits ->> name)::numeric, mrprompt_internal.setting(setting)::numeric);
end
$$;
comment on function mrprompt_internal.limit_of(json, text, text) is 'A limit of a run: its agent''s, else the setting''s.';

create function mrprompt_internal.next_step(run mrprompt.runs) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    config constant record := mrprompt_internal.run_config(run);
    known mrprompt_internal.model_rows;
    room bigint;
    places int8multirange;
    request uuid;
begin
    if config.limits is null and config.agent_name is null then
        perform mrprompt_internal.end_run(run, 'failed', 'server_error', format('agent %s is gone', run.agent_id));
        return;
    elsif run.steps >= mrprompt_internal.limit_of(config.limits, 'max_steps', 'mrprompt.max_run_steps') then
        perform mrprompt_internal.end_run(run, 'incomplete', reason => 'max_steps');
        return;
    elsif run.cost >= (config.limits ->> 'max_cost')::numeric then
        perform mrprompt_internal.end_run(run, 'incomplete', reason => 'max_cost');
        return;
    elsif run.completion_tokens >= run.max_completion_tokens then
        perform mrprompt_internal.end_run(run, 'incomplete', reason => 'max_completion_tokens');
        return;
    end if;
    if config.provider is not null and config.model is not null then
        known := mrprompt_internal.model_of(config.provider, config.model);
    end if;
    -- Its tokens are estimates: a fifth of what a model takes is left for that, and the answer has its part.
    room := least((config.context ->> 'max_tokens')::bigint,
            coalesce(known.context_tokens * 4 / 5 - coalesce(config.max_tokens, least(known.max_output_tokens, known.context_tokens / 4), 4096),
                mrprompt_internal.setting('mrprompt.context_tokens')::bigint),
            run.max_prompt_tokens - run.prompt_tokens)
        - ceil(octet_length(concat(config.instructions, config.tools)) / 4.0)::bigint;
    places := mrprompt_internal.choose_messages(run, config.context, room);
    if places is null then
        perform mrprompt_internal.end_run(run, 'incomplete', reason => 'max_prompt_tokens');
        return;
    end if;
    run.steps := run.steps + 1;
    -- From when it works, not from when it was asked for.
    run.expires_at := coalesce(run.expires_at, clock_timestamp() + interval '1 s' * mrprompt_internal.limit_of(config.limits, 'max_seconds', 'mrprompt.run_timeout'));
    request := mrprompt_internal.enqueue_for(run.user_id, mrprompt_internal.run_payload(run, places), config.model, config.provider, config.key_id, true,
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
        when http_status = 429 or error_type in ('rate_limit', 'rate_limit_error', 'insufficient_quota') then 'rate_limit_exceeded'
        when http_status between 400 and 499 or error_type in ('invalid_request', 'invalid_request_error') then 'invalid_prompt'
        else 'server_error' end;
comment on function mrprompt_internal.error_code(text, integer) is 'The code of a run''s last_error for an error of a request.';

create function mrprompt_internal.tool_calls_of(answer json) returns json
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select json_agg(json_build_object('id', c.id, 'type', 'function', 'function', json_build_object('name', c.name,
                -- What is no object can be sent to no provider again.
                'arguments', case when mrprompt_internal.is_json_object(c.arguments) then c.arguments else '{}' end)) order by c.place)
        from (select n as place, coalesce(e -> 'function' ->> 'name', '') as name, coalesce(e -> 'function' ->> 'arguments', '') as arguments,
                case when e ->> 'id' <> '' and row_number() over (partition by e ->> 'id' order by n) = 1 then e ->> 'id'
                    else 'call_' || replace(mrprompt_internal.uuidv7()::text, '-', '') end as id
              from json_array_elements(case json_typeof(answer) when 'array' then answer else '[]' end) with ordinality as l (e, n)) c);
end
$$;
comment on function mrprompt_internal.tool_calls_of(json) is 'The tool calls of an answer, each with an id of its own and arguments that are an object; null: none.';

create function mrprompt_internal.call_tools(run mrprompt.runs, config record, said json, calls json) returns void
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    step_id constant uuid := run.next_ids[3];
    most constant numeric := (config.limits ->> 'max_calls_per_tool')::numeric;
    call record;
    kind record;
    state text;
    why text;
    earlier integer;
begin
    for call in
        select n - 1 as place, c ->> 'id' as id, c -> 'function' ->> 'name' as name, c -> 'function' ->> 'arguments' as arguments, o.written
        from json_array_elements(calls) with ordinality as l (c, n)
        cross join lateral (select said -> (n - 1)::integer -> 'function' ->> 'arguments' as written) o
        order by n
    loop
        kind := mrprompt_internal.call_kind(config.tools, call.name);
        earlier := (select count(*) from mrprompt.tool_calls t where t.run_id = run.id and t.name = call.name);
        why := case
            when kind.kind = 'unknown' then format('there is no tool %s', call.name)
            when earlier >= most then format('%s was called %s times in this run already, which is the limit: go on without it', call.name, earlier)
            when coalesce(call.written, '') !~ '^\s*$' and not mrprompt_internal.is_json_object(call.written) then
                format('the arguments are no JSON object: %s', left(call.written, 200)) end;
        state := case when why is not null then 'failed' when kind.needs_approval then 'needs_approval' when kind.kind = 'client' then 'needs_output'
            else 'queued' end;
        insert into mrprompt.tool_calls (run_id, user_id, step_id, call_id, place, name, arguments, kind, status, output, finished_at)
        values (run.id, run.user_id, step_id, call.id, call.place, call.name, call.arguments, kind.kind, state,
            case when why is not null then json_build_object('error', why)::text end, case when why is not null then clock_timestamp() end);
    end loop;
end
$$;
comment on function mrprompt_internal.call_tools(mrprompt.runs, record, json, json) is
    'Puts down the calls that an answer asks for (said: as the model wrote them), each with what it waits for.';

create function mrprompt_internal.await_tools(run mrprompt.runs, config record) returns void
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    latest constant uuid := (select s.id from mrprompt.run_steps s where s.run_id = run.id and s.step = run.steps and s.type = 'tool_calls');
    open_calls record;
    patience constant interval := interval '1 s' * mrprompt_internal.limit_of(config.limits, 'tool_wait_seconds', 'mrprompt.tool_output_timeout');
    worktime constant interval := interval '1 s' * mrprompt_internal.limit_of(config.limits, 'max_seconds', 'mrprompt.run_timeout');
begin
    select count(*) filter (where c.status in ('needs_approval', 'needs_output')) as users, count(*) filter (where c.status in ('queued', 'running')) as tools
    into open_calls from mrprompt.tool_calls c where c.step_id = latest;
    if open_calls.tools > 0 then
        perform mrprompt_internal.start_tools();
    end if;
    if open_calls.users > 0 then
        if run.status <> 'requires_action' then
            update mrprompt.runs r set status = 'requires_action', expires_at = clock_timestamp() + patience where r.id = run.id;
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
            run.expires_at := clock_timestamp() + worktime;
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
comment on function mrprompt_internal.await_tools(mrprompt.runs, record) is
    'What a run does about its latest tool calls: starts those that can run, asks its user for the others, and goes on once all have answered.';

create function mrprompt_internal.take_answer(run mrprompt.runs) returns void
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    config constant record := mrprompt_internal.run_config(run);
    answer record;
    calls json;
    wrote boolean;
    cut text;
begin
    select r.status, r.error_type, r.error_status, r.error_message, a.content, a.refusal, a.reasoning, a.tool_calls, a.finish_reason, a.raw,
        u.prompt_tokens, u.completion_tokens, u.cost
    into answer
    from mrprompt.requests r
    left join mrprompt.responses a on a.request_id = r.id
    cross join lateral (
        select coalesce(sum(l.prompt_tokens), 0)::bigint as prompt_tokens, coalesce(sum(l.completion_tokens), 0)::bigint as completion_tokens,
            case when bool_and(l.cost is not null) then sum(l.cost) end as cost
        from mrprompt.usage l where l.request_id = r.id and l.slot = mrprompt_internal.slot_of(r.id)) u
    where r.id = run.request_id;
    run.prompt_tokens := run.prompt_tokens + answer.prompt_tokens;
    run.completion_tokens := run.completion_tokens + answer.completion_tokens;
    run.cost := case when run.steps = 1 then answer.cost else run.cost + answer.cost end;
    if answer.status = 'succeeded' and run.status <> 'cancelling' then
        calls := mrprompt_internal.tool_calls_of(answer.tool_calls);
        cut := case answer.finish_reason when 'length' then 'max_completion_tokens' when 'content_filter' then 'content_filter' end;
    else
        cut := 'run_' || case when run.status = 'cancelling' or answer.status = 'cancelled' then 'cancelled' when answer.status = 'expired' then 'expired' else 'failed' end;
    end if;
    wrote := answer.content <> '' or answer.refusal <> '';
    if wrote or calls is not null then
        perform mrprompt_internal.add_message(run.thread_id, run.user_id, 'assistant', to_json(nullif(answer.content, '')), run_id => run.id,
            agent_id => run.agent_id, refusal => nullif(answer.refusal, ''), reasoning => answer.reasoning, tool_calls => calls,
            raw => answer.raw, message_id => run.next_ids[1], incomplete_reason => cut);
    end if;
    if wrote then
        insert into mrprompt.run_steps (id, run_id, thread_id, user_id, step, type, status, request_id, message_id, prompt_tokens, completion_tokens,
            cost, finished_at)
        values (run.next_ids[2], run.id, run.thread_id, run.user_id, run.steps, 'message_creation', 'completed', run.request_id, run.next_ids[1],
            answer.prompt_tokens, answer.completion_tokens, answer.cost, clock_timestamp());
        perform mrprompt_internal.add_event(run, 'thread.message.' || case when cut is null then 'completed' else 'incomplete' end, run.next_ids[1]);
        perform mrprompt_internal.add_event(run, 'thread.run.step.completed', run.next_ids[2]);
    end if;
    if calls is not null then
        insert into mrprompt.run_steps (id, run_id, thread_id, user_id, step, type, request_id, message_id, prompt_tokens, completion_tokens, cost)
        values (run.next_ids[3], run.id, run.thread_id, run.user_id, run.steps, 'tool_calls', run.request_id, run.next_ids[1],
            case when not wrote then answer.prompt_tokens end, case when not wrote then answer.completion_tokens end, case when not wrote then answer.cost end);
        perform mrprompt_internal.call_tools(run, config, answer.tool_calls, calls);
    end if;
    perform mrprompt_internal.note_changes(array[run.id, run.request_id]);
    run.request_id := null;
    run.status := case when run.status = 'cancelling' then run.status else 'in_progress' end;
    update mrprompt.runs r
    set prompt_tokens = run.prompt_tokens, completion_tokens = run.completion_tokens, cost = run.cost, request_id = null, next_ids = null, status = run.status
    where r.id = run.id;
    if run.status = 'cancelling' or answer.status = 'cancelled' then
        perform mrprompt_internal.end_run(run, 'cancelled');
    elsif answer.status = 'expired' then
        perform mrprompt_internal.end_run(run, 'expired');
    elsif answer.status <> 'succeeded' then
        perform mrprompt_internal.end_run(run, 'failed', mrprompt_internal.error_code(answer.error_type, answer.error_status),
            concat_ws(': ', answer.error_type, answer.error_message));
    elsif cut is not null then
        perform mrprompt_internal.end_run(run, 'incomplete', reason => cut);
    elsif calls is not null then
        perform mrprompt_internal.await_tools(run, config);
    else
        perform mrprompt_internal.end_run(run, 'completed');
    end if;
end
$$;
comment on function mrprompt_internal.take_answer(mrprompt.runs) is 'Takes what a run''s request has brought, and goes on from there. The caller holds run and thread.';

create function mrprompt_internal.go_on(run mrprompt.runs) returns void
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    state text;
begin
    if run.request_id is not null then
        state := (select r.status from mrprompt.requests r where r.id = run.request_id);
        if state is null then
            perform mrprompt_internal.end_run(run, 'failed', 'server_error', format('request %s is gone', run.request_id));
        elsif state not in ('queued', 'running') then
            perform mrprompt_internal.take_answer(run);
        elsif run.expires_at <= clock_timestamp() then
            perform mrprompt_internal.end_run(run, 'expired');
        end if;
    elsif run.expires_at <= clock_timestamp() then
        perform mrprompt_internal.end_run(run, 'expired');
    elsif run.status = 'cancelling' then
        perform mrprompt_internal.end_run(run, 'cancelled');
    elsif run.steps = 0 then
        perform mrprompt_internal.next_step(run);
    else
        perform mrprompt_internal.await_tools(run, mrprompt_internal.run_config(run));
    end if;
end
$$;
comment on function mrprompt_internal.go_on(mrprompt.runs) is 'What there is to do for an active run now; nothing, while it waits. The caller holds run and thread.';

create function mrprompt_internal.forget_work(run_id uuid) returns void
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
begin
    delete from mrprompt_internal.run_work w
    where w.id = any (array(select l.id from mrprompt_internal.run_work l where l.run_id = forget_work.run_id for update skip locked));
end
$$;
comment on function mrprompt_internal.forget_work(uuid) is 'A run is being looked at.';

create function mrprompt_internal.advance_run(run_id uuid) returns boolean
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    run mrprompt.runs;
    held boolean;
begin
    select * into run from mrprompt.runs r where r.id = run_id for no key update skip locked;
    held := found;
    if held then
        perform from mrprompt.threads t where t.id = run.thread_id for no key update skip locked;
        held := found or not exists (select from mrprompt.threads t where t.id = run.thread_id);
    elsif not exists (select from mrprompt.runs r where r.id = run_id) then
        perform mrprompt_internal.forget_work(run_id);
        return true;
    end if;
    if not held then
        insert into mrprompt_internal.run_work (run_id)
        select advance_run.run_id where not exists (select from mrprompt_internal.run_work w where w.run_id = advance_run.run_id);
        return false;
    end if;
    begin
        perform mrprompt_internal.forget_work(run.id);
        if run.active then
            perform mrprompt_internal.go_on(run);
        end if;
        return true;
    exception
        when lock_not_available or sqlstate 'PT429' then
            -- The queue is full, or a table is locked: the run can wait.
            insert into mrprompt_internal.run_work (run_id) values (run.id);
            return false;
        when others then
            perform mrprompt_internal.end_run(run, 'failed', case sqlstate when 'PT402' then 'budget_exceeded' else 'server_error' end, sqlerrm);
            return true;
    end;
end
$$;
comment on function mrprompt_internal.advance_run(uuid) is
    'Has a run go on, if nobody holds it or its thread; false: it stays in run_work. What goes wrong ends the run, as failed.';

create function mrprompt_internal.advance_runs(ids uuid[]) returns integer
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    id uuid;
    did integer := 0;
begin
    foreach id in array ids loop
        begin
            did := did + mrprompt_internal.advance_run(id)::integer;
        exception when others then
            -- Whatever it is, the answers of others are not lost for it.
            raise warning 'mrprompt cannot take run % on: %', id, sqlerrm;
            insert into mrprompt_internal.run_work (run_id) values (id);
        end;
    end loop;
    return did;
end
$$;
comment on function mrprompt_internal.advance_runs(uuid[]) is 'Has runs go on; answers how many did. Never fails, waits for nobody''s row.';

create function mrprompt_internal.advance_waiting(max_rows integer) returns integer
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
begin
    return mrprompt_internal.advance_runs(array(
        select distinct w.run_id from (select l.run_id from mrprompt_internal.run_work l order by l.id limit max_rows) w));
end
$$;
comment on function mrprompt_internal.advance_waiting(integer) is 'Has runs go on that somebody held, or that somebody has nudged.';

create function mrprompt_internal.tend_runs(max_rows integer) returns integer
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
begin
    if exists (select from mrprompt.tool_calls c where c.status in ('queued', 'running')) then
        perform mrprompt_internal.mend_tool_calls(max_rows);
        perform mrprompt_internal.start_waiting_tools();
    end if;
    return mrprompt_internal.advance_waiting(max_rows) + mrprompt_internal.advance_runs(array(
        select r.id from mrprompt.runs r where r.active and r.expires_at <= clock_timestamp() order by r.expires_at limit max_rows for no key update skip locked));
end
$$;
comment on function mrprompt_internal.tend_runs(integer) is 'Part of tend: runs that can go on or whose time is over, and tools whose process is gone; answers how many runs it moved.';

create function mrprompt_internal.end_runs_of(thread_id uuid) returns void
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    run mrprompt.runs;
begin
    -- The active one last: its end has the next begin.
    for run in
        select * from mrprompt.runs r where r.thread_id = end_runs_of.thread_id and r.finished_at is null order by r.active, r.id for no key update
    loop
        perform mrprompt_internal.end_run(run, 'cancelled');
    end loop;
end
$$;
comment on function mrprompt_internal.end_runs_of(uuid) is 'Ends the runs of a thread, whose row the caller holds.';

create function mrprompt_internal.tool_call_ended(call_id uuid, tries integer, ok boolean, output text) returns boolean
    language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    ended uuid;
begin
    update mrprompt.tool_calls c
    set status = case when ok then 'completed' else 'failed' end, output = tool_call_ended.output, finished_at = clock_timestamp()
    where c.id = tool_call_ended.call_id and c.status = 'running' and c.tries = tool_call_ended.tries
    returning c.run_id into ended;
    if ended is null then
        return false;
    end if;
    if mrprompt_internal.advance_runs(array[ended]) = 0 then
        perform mrprompt_internal.wake(mrprompt_internal.channel_name('fetchers'));
    end if;
    return true;
end
$$;
comment on function mrprompt_internal.tool_call_ended(uuid, integer, boolean, text) is
    'Puts down what a tool answered, or its error, and has the run go on; false: the call was over, or somebody else''s by now.';
