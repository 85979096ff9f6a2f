-- How runs end: with their calls answered, their thread free, and the next one that waited at its turn.

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
    -- Nobody sees a deleted thread any more.
    if exists (select from mrprompt.threads t where t.id = place_waiting.thread_id and t.deleted_at is null) then
        update mrprompt.messages m set position = top + w.place
        from (select l.id, row_number() over (order by l.id) as place
              from mrprompt.messages l
              -- What came after the next run waits behind it as well.
              where l.thread_id = place_waiting.thread_id and l.position is null
                and (next_run is null or l.id < next_run or l.run_id = next_run)) w
        where m.id = w.id;
    end if;
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
        perform mrprompt_internal.wish_cancel(run.request_id, false);
    end if;
    select * into open_step from mrprompt.run_steps s where s.run_id = run.id and s.step = run.steps and s.type = 'tool_calls' and s.status = 'in_progress';
    if found then
        update mrprompt.tool_calls c
        set status = 'cancelled', finished_at = clock_timestamp(), output = format('{"error":"the run ended (%s) before the tool answered"}', end_run.status)
        where c.step_id = open_step.id and c.status in ('needs_approval', 'needs_output', 'queued', 'running');
        perform mrprompt_internal.stop_tools(run_id => run.id);
        -- Providers refuse a conversation with a call that nothing answered.
        perform mrprompt_internal.answer_calls(run);
        open_step.status := case when end_run.status in ('cancelled', 'expired') then end_run.status else 'failed' end;
        update mrprompt.run_steps s set status = open_step.status, finished_at = clock_timestamp() where s.id = open_step.id;
        perform mrprompt_internal.add_event(run, 'thread.run.step.' || open_step.status, open_step.id);
    end if;
    update mrprompt.runs r
    set status = end_run.status, active = false, finished_at = clock_timestamp(), request_id = null, next_ids = null,
        last_error = case when code is not null then json_build_object('code', code, 'message', end_run.message) end, incomplete_reason = reason,
        prompt_tokens = run.prompt_tokens, completion_tokens = run.completion_tokens, cost = run.cost
    where r.id = run.id;
    perform mrprompt_internal.add_event(run, 'thread.run.' || end_run.status, run.id);
    perform mrprompt_internal.add_event(run, 'done', run.id);
    delete from mrprompt_internal.run_identities i where i.run_id = run.id;
    perform mrprompt_internal.note_changes(array[run.id, run.request_id]);
    if run.active then
        perform mrprompt_internal.place_waiting(run.thread_id);
    end if;
end
$$;
comment on function mrprompt_internal.end_run(mrprompt.runs, text, text, text, text) is
    'Ends a run, with an error (code, message) or the reason why it is incomplete, and lets go of its thread. The caller holds both rows.';

create function mrprompt_internal.end_runs_of(thread_id uuid) returns integer
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    run mrprompt.runs;
    did integer := 0;
begin
    -- The active one last: its end has the next begin.
    for run in
        select * from mrprompt.runs r where r.thread_id = end_runs_of.thread_id and r.finished_at is null order by r.active, r.id for no key update
    loop
        perform mrprompt_internal.end_run(run, 'cancelled');
        did := did + 1;
    end loop;
    return did;
end
$$;
comment on function mrprompt_internal.end_runs_of(uuid) is 'Ends the runs of a thread, whose row the caller holds; answers how many.';
