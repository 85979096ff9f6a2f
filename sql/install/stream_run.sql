-- Following a run: its events and its answer as it arrives, in one sequence of numbers.
-- Piece s of model call n has the numbers from n * 10^12 + 16 s on: deltas are not written down twice.

create function mrprompt_internal.message_object(message mrprompt.messages) returns json
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return json_build_object('id', message.id, 'object', 'thread.message', 'created_at', message.created_at, 'thread_id', message.thread_id,
        'status', message.status, 'incomplete_details', case when message.incomplete_reason is not null then json_build_object('reason', message.incomplete_reason) end,
        'role', message.role, 'content', case
            when message.content is null and message.refusal is null then '[]'
            when message.content is null then json_build_array(json_build_object('type', 'refusal', 'refusal', message.refusal))
            when json_typeof(message.content) = 'string' then json_build_array(json_build_object('type', 'text',
                'text', json_build_object('value', message.content, 'annotations', '[]'::json)))
            else message.content end,
        'agent_id', message.agent_id, 'run_id', message.run_id, 'metadata', message.metadata);
end
$$;
comment on function mrprompt_internal.message_object(mrprompt.messages) is 'A message as the Assistants stream showed it.';

create function mrprompt_internal.event_data(
    event text, subject uuid, run mrprompt.run_status, step integer default null, at timestamptz default null) returns json
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return case
        when event = 'done' then '"[DONE]"'::json
        when event like 'thread.run.step.%' then (
            select json_build_object('id', s.id, 'object', 'thread.run.step', 'created_at', s.created_at, 'run_id', s.run_id, 'thread_id', s.thread_id,
                'agent_id', run.agent_id, 'type', s.type, 'status', split_part(event, '.', 4), 'step_details', mrprompt_internal.call_details(s),
                'usage', json_build_object('prompt_tokens', s.prompt_tokens, 'completion_tokens', s.completion_tokens,
                    'total_tokens', s.prompt_tokens + s.completion_tokens, 'cost', s.cost))
            from mrprompt.run_steps s where s.id = subject)
        when event like 'thread.message.%' then (select mrprompt_internal.message_object(m) from mrprompt.messages m where m.id = subject)
        else json_build_object('id', run.id, 'object', 'thread.run', 'created_at', run.created_at, 'thread_id', run.thread_id, 'agent_id', run.agent_id,
            'agent_version', run.agent_version, 'status', case split_part(event, '.', 3) when 'created' then 'queued' else split_part(event, '.', 3) end,
            'required_action', case when event = 'thread.run.requires_action' then mrprompt_internal.required_action(run.id, step, at) end,
            'last_error', case when event = 'thread.run.failed' then run.last_error end,
            'incomplete_details', case when event in ('thread.run.incomplete', 'thread.run.expired') then json_build_object('reason', run.incomplete_reason) end,
            'provider', run.provider, 'model', run.model, 'metadata', run.metadata, 'started_at', run.started_at, 'finished_at', run.finished_at,
            'usage', case when run.finished_at is not null then json_build_object('prompt_tokens', run.prompt_tokens, 'completion_tokens', run.completion_tokens,
                'total_tokens', run.prompt_tokens + run.completion_tokens, 'cost', run.cost) end) end;
end
$$;
comment on function mrprompt_internal.event_data(text, uuid, mrprompt.run_status, integer, timestamptz) is 'What an event is about, as the Assistants stream showed it; a run with the status that the event names, and what it asked for at that time.';

create function mrprompt_internal.pieces_of(
    request uuid, begun boolean, after_piece bigint, ids uuid[], run mrprompt.run_status, most integer)
    returns table (piece bigint, event text, data json)
    language plpgsql stable set search_path = pg_catalog, pg_temp set enable_seqscan = off set plan_cache_mode = force_generic_plan
as $$
declare
    beginning constant json := json_build_object('id', ids[2], 'object', 'thread.run.step', 'run_id', run.id, 'thread_id', run.thread_id, 'agent_id', run.agent_id,
        'type', 'message_creation', 'status', 'in_progress',
        'step_details', json_build_object('type', 'message_creation', 'message_creation', json_build_object('message_id', ids[1])));
    message constant json := json_build_object('id', ids[1], 'object', 'thread.message', 'run_id', run.id, 'thread_id', run.thread_id, 'agent_id', run.agent_id,
        'role', 'assistant', 'status', 'in_progress', 'content', '[]'::json);
    calling constant json := json_build_object('id', ids[3], 'object', 'thread.run.step', 'run_id', run.id, 'thread_id', run.thread_id, 'agent_id', run.agent_id,
        'type', 'tool_calls', 'status', 'in_progress', 'step_details', json_build_object('type', 'tool_calls', 'tool_calls', '[]'::json));
    from_seq bigint := after_piece / 16;
begin
    -- Who has read nothing of it need not hear of attempts that were lost.
    if not begun then
        from_seq := greatest(from_seq, coalesce((
            select max(d.seq) from mrprompt.deltas d where d.request_id = request and d.event = 'restart'), 0));
    end if;
    return query
    select 16 * d.seq + e.k, e.event, e.data
    from (select p.*, min(p.seq) filter (where p.content is not null or p.refusal is not null) over earlier as text_before,
              min(p.seq) filter (where p.tool_calls is not null) over earlier as call_before
          from (
          (select d.seq, d.attempt, d.event, d.content, d.reasoning, d.refusal, d.tool_calls
           from mrprompt.deltas d where d.request_id = request and d.seq >= from_seq
           -- The first may have been read; each of the others is an event at least, so that nothing behind them comes before them.
           order by d.seq limit most + 1)
          union all
          -- Where no piece is kept, the message comes whole.
          select 1, 1, 'delta', mrprompt_internal.message_text(m.content), m.reasoning, m.refusal, (
              select json_agg(json_build_object('index', n - 1, 'id', c -> 'id', 'name', c -> 'function' -> 'name', 'arguments', c -> 'function' -> 'arguments'))
              from json_array_elements(m.tool_calls) with ordinality l (c, n))
          from mrprompt.messages m where m.id = ids[1] and not exists (select from mrprompt.deltas d where d.request_id = request)) p
          window earlier as (partition by p.attempt order by p.seq rows between unbounded preceding and 1 preceding)) d
    -- The first of its attempt in this page, with none before it: that is looked up once, backwards, where the last one stands near.
    cross join lateral (
        select (d.content is not null or d.refusal is not null) and d.text_before is null and (
                select f.seq from mrprompt.deltas f
                where f.request_id = request and f.seq < from_seq and f.attempt = d.attempt and (f.content is not null or f.refusal is not null)
                order by f.seq desc limit 1) is null as first_text,
            d.tool_calls is not null and d.call_before is null and (
                select f.seq from mrprompt.deltas f
                where f.request_id = request and f.seq < from_seq and f.attempt = d.attempt and f.tool_calls is not null
                order by f.seq desc limit 1) is null as first_call offset 0) is_
    cross join lateral (values
        (0, 'thread.run.step.restarted', json_build_object('id', ids[2], 'run_id', run.id, 'message_id', ids[1]), d.event = 'restart' and begun),
        (1, 'thread.run.step.created', beginning, is_.first_text),
        (2, 'thread.run.step.in_progress', beginning, is_.first_text),
        (3, 'thread.message.created', message, is_.first_text),
        (4, 'thread.message.in_progress', message, is_.first_text),
        (5, 'thread.message.delta', json_build_object('id', ids[1], 'object', 'thread.message.delta', 'delta', json_build_object('role', 'assistant', 'content',
            case when d.content is not null then json_build_array(json_build_object('index', 0, 'type', 'text', 'text', json_build_object('value', d.content)))
            else json_build_array(json_build_object('index', 0, 'type', 'refusal', 'refusal', d.refusal)) end)), d.content is not null or d.refusal is not null),
        (6, 'thread.run.step.delta', json_build_object('id', ids[2], 'object', 'thread.run.step.delta', 'delta', json_build_object('step_details',
            json_build_object('type', 'reasoning', 'reasoning', d.reasoning))), d.reasoning is not null),
        (7, 'thread.run.step.created', calling, is_.first_call),
        (8, 'thread.run.step.in_progress', calling, is_.first_call),
        (9, 'thread.run.step.delta', json_build_object('id', ids[3], 'object', 'thread.run.step.delta', 'delta', json_build_object('step_details',
            json_build_object('type', 'tool_calls', 'tool_calls', (
                select json_agg(json_build_object('index', c -> 'index', 'id', c -> 'id', 'type', 'function',
                    'function', json_build_object('name', c -> 'name', 'arguments', c -> 'arguments')))
                from json_array_elements(d.tool_calls) c)))), d.tool_calls is not null)
        ) e (k, event, data, there)
    where e.there and 16 * d.seq + e.k > after_piece
    order by 1;
end
$$;
comment on function mrprompt_internal.pieces_of(uuid, boolean, bigint, uuid[], mrprompt.run_status, integer) is
    'The stream of a model call as events; begun: the reader has seen some of it; ids: of the message, its step, and the step that calls tools.';

create function mrprompt_internal.events_after(run mrprompt.run_status, next_ids uuid[], after_ bigint, most integer) returns table (seq bigint, event text, data json)
    language plpgsql stable rows 100 set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
begin
    return query
    with calls as (
        select s.step, s.request_id, array[s.message_id, max(s.id::text) filter (where s.type = 'message_creation')::uuid,
            max(s.id::text) filter (where s.type = 'tool_calls')::uuid] as ids
        from mrprompt.run_steps s
        where s.run_id = run.id and s.step * 1000000000000 + 900000000000 > after_ group by s.step, s.request_id, s.message_id
        union all
        select run.steps, run.request_id, events_after.next_ids where run.request_id is not null
    ), events as (
        select e.seq, e.event, mrprompt_internal.event_data(e.event, e.subject, run, (e.seq / 1000000000000)::integer, e.created_at) as data
        from mrprompt.run_events e where e.run_id = run.id and e.seq > after_
        union all
        -- Whose events are pruned has ended all the same: behind whatever its number was.
        select run.steps * 1000000000000 + 999999999998 + l.place - 1, l.event, mrprompt_internal.event_data(l.event, run.id, run)
        from unnest(array['thread.run.' || run.status, 'done']) with ordinality l (event, place)
        where run.finished_at is not null and run.steps * 1000000000000 + 999999999998 + l.place - 1 > after_
          and not exists (select from mrprompt.run_events e where e.run_id = run.id)
        union all
        -- It was put down that the run was queued; that it is at work shows in its request.
        select c.step * 1000000000000 + 1, 'thread.run.in_progress', mrprompt_internal.event_data('thread.run.in_progress', run.id, run)
        from calls c left join mrprompt.requests q on q.id = c.request_id
        where c.step * 1000000000000 + 1 > after_ and (q.id is null or q.status <> 'queued' or q.attempts > 0)
          and 'thread.run.queued' = (select e.event from mrprompt.run_events e where e.run_id = run.id and e.seq < c.step * 1000000000000 order by e.seq desc limit 1)
        union all
        select c.step * 1000000000000 + p.piece, p.event, p.data
        from calls c
        cross join lateral mrprompt_internal.pieces_of(c.request_id, after_ >= c.step * 1000000000000 + 16,
            greatest(after_ - c.step * 1000000000000, 15), c.ids, run, most) p
    )
    select e.seq, e.event, e.data from events e order by e.seq limit most;
end
$$;
comment on function mrprompt_internal.events_after(mrprompt.run_status, uuid[], bigint, integer) is 'What is new in a run after a number, up to most events.';

create function mrprompt.stream_run(run_id uuid, after_seq bigint default 0, timeout interval default '5 seconds')
    returns table (seq bigint, event text, data json)
    language plpgsql volatile rows 100 set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off
as $$
declare
    until constant timestamptz := mrprompt_internal.begin_wait(timeout);
    after_ constant bigint := greatest(coalesce(after_seq, 0), 0);
    counter bigint;
    again boolean := true;
    state record;
begin
    perform mrprompt_internal.refuse_own_run(run_id);
    loop
        -- While a model call is under way its pieces are the news; whatever changes the run changes its request as well.
        select coalesce(r.request_id, r.id) as news, r.finished_at into state from mrprompt.runs r where r.id = stream_run.run_id;
        counter := mrprompt_internal.change_counter(state.news);
        -- In one statement: a run and events of two moments do not fit together.
        return query
        select e.seq, e.event, e.data
        from mrprompt.runs r join mrprompt.run_status s on s.id = r.id
        cross join lateral mrprompt_internal.events_after(s, r.next_ids, after_, 1000) e
        where r.id = stream_run.run_id;
        exit when found or not again or state.finished_at is not null;
        continue when state.news <> (select coalesce(r.request_id, r.id) from mrprompt.runs r where r.id = stream_run.run_id);
        again := mrprompt_internal.wait_for_change(state.news, counter, until);
    end loop;
end
$$;
comment on function mrprompt.stream_run(uuid, bigint, interval) is
    'What is new in a run after after_seq, waiting up to timeout for it: events named as the Assistants stream named them (thread.run.created … '
    'thread.message.delta … thread.run.completed, done), data in its shapes. thread.run.step.restarted: forget what came of this step, it begins anew. '
    'No row: nothing yet. Call again with the last seq until done. Errors as wait_for_request.';

grant execute on function mrprompt_internal.message_object, mrprompt_internal.event_data, mrprompt_internal.pieces_of, mrprompt_internal.events_after,
    mrprompt.stream_run to mrprompt_user, mrprompt_admin;
