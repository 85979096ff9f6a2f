-- How runs go on: whoever may have moved one comes here.
-- Whoever cannot have a run at once (somebody holds it) leaves it in run_work and waits for nobody.

create function mrprompt_internal.go_on(run mrprompt.runs) returns boolean
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
            return mrprompt_internal.take_answer(run);
        elsif run.expires_at <= clock_timestamp() and run.status <> 'cancelling' then
            -- What it has written by then is taken when its request has ended.
            perform mrprompt_internal.wish_cancel(run.request_id, false);
            update mrprompt.runs r set status = 'cancelling' where r.id = run.id;
            perform mrprompt_internal.add_event(run, 'thread.run.cancelling', run.id);
            perform mrprompt_internal.note_changes(array[run.id, run.request_id]);
        end if;
    elsif run.expires_at <= clock_timestamp() then
        perform mrprompt_internal.end_run(run, 'expired', reason => case run.status when 'requires_action' then 'tool_wait_seconds' else 'max_seconds' end);
    elsif run.status = 'cancelling' then
        perform mrprompt_internal.end_run(run, 'cancelled');
    elsif run.steps = 0 then
        perform mrprompt_internal.next_step(run);
    else
        perform mrprompt_internal.await_tools(run, mrprompt_internal.run_config(run));
    end if;
    return false;
end
$$;
comment on function mrprompt_internal.go_on(mrprompt.runs) is
    'What there is to do for an active run now; nothing, while it waits. True: it has taken an answer, and there is more. The caller holds run and thread.';

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
    more boolean := true;
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
        perform mrprompt_internal.put_work(run_id);
        return false;
    end if;
    while more loop
        -- An answer that was taken is paid for: it stays, whatever becomes of what follows it.
        begin
            perform mrprompt_internal.forget_work(run_id);
            select * into run from mrprompt.runs r where r.id = run_id;
            more := run.active and mrprompt_internal.go_on(run);
        exception
            when lock_not_available or sqlstate 'PT429' then
                -- The queue is full, or a table is locked: the run can wait.
                perform mrprompt_internal.put_work(run.id);
                return false;
            when others then
                perform mrprompt_internal.end_run(run, 'failed', case sqlstate when 'PT402' then 'budget_exceeded' when 'PT413' then 'invalid_prompt' else 'server_error' end, sqlerrm);
                return true;
        end;
    end loop;
    return true;
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
            perform mrprompt_internal.put_work(id);
        end;
    end loop;
    return did;
end
$$;
comment on function mrprompt_internal.advance_runs(uuid[]) is 'Has runs go on; answers how many did. Never fails, waits for nobody''s row.';

create function mrprompt_internal.advance_waiting(max_rows integer, work_from uuid default '00000000-0000-0000-0000-000000000000') returns integer
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    due constant uuid := mrprompt_internal.work_due();
    work record;
    did integer := 0;
    tried integer := 0;
    refused uuid[] := '{}';  -- users
    later uuid[];
    put_off integer := 0;
    part integer;
begin
    loop
        select array_agg(w.run_id order by w.id) as runs, array_agg(w.user_id order by w.id) as users, array_agg(w.asks order by w.id) as asks into work
        from (
            select distinct on (l.run_id) l.* from (
                select l.id, l.run_id, r.user_id, r.request_id is null and r.status <> 'cancelling' as asks
                from mrprompt_internal.run_work l
                join mrprompt.runs r on r.id = l.run_id join mrprompt.threads t on t.id = r.thread_id
                where l.id >= work_from and l.id < due
                -- What somebody holds stands in nobody's way.
                order by l.id limit max_rows for no key update of r, t skip locked) l
            order by l.run_id, l.id) w;
        later := '{}';
        for n in 1..coalesce(cardinality(work.runs), 0) loop
            -- Where one of a user's found no room, the next would find none.
            if work.asks[n] and work.users[n] = any (refused) then
                later := later || work.runs[n];
            else
                tried := tried + 1;
                part := mrprompt_internal.advance_runs(array[work.runs[n]]);
                did := did + part;
                if part = 0 then
                    later := later || work.runs[n];
                    refused := refused || work.users[n];
                end if;
            end if;
        end loop;
        exit when later = '{}';
        part := mrprompt_internal.put_off(later);
        put_off := put_off + part;
        -- Somebody else's may stand behind them.
        exit when part = 0 or tried >= max_rows or put_off >= 1000;
    end loop;
    return did;
end
$$;
comment on function mrprompt_internal.advance_waiting(integer, uuid) is
    'Has runs go on that somebody held, or that somebody has nudged; who is refused is put off, and his others with him; work_from: below are dead rows, for an old snapshot, and what committed late.';

create function mrprompt_internal.tend_runs(max_rows integer) returns integer
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    beyond constant uuid := mrprompt_internal.uuid_at(clock_timestamp() + interval '1 minute');
begin
    -- Nothing is put off for so long: the clock was put back.
    update mrprompt_internal.run_work w set id = mrprompt_internal.uuidv7()
    where w.id = any (array(select l.id from mrprompt_internal.run_work l where l.id > beyond limit max_rows for update skip locked));
    if exists (select from mrprompt.tool_calls c where c.status in ('queued', 'running')) or exists (select from mrprompt_internal.tool_processes) then
        perform mrprompt_internal.mend_tool_calls(max_rows);
        perform mrprompt_internal.start_waiting_tools();
    end if;
    return mrprompt_internal.advance_waiting(max_rows) + mrprompt_internal.advance_runs(array(
        select r.id from mrprompt.runs r join mrprompt.threads t on t.id = r.thread_id
        where r.active and r.expires_at <= clock_timestamp() and r.status <> 'cancelling' order by r.expires_at limit max_rows for no key update of r, t skip locked));
end
$$;
comment on function mrprompt_internal.tend_runs(integer) is 'Part of tend: runs that can go on or whose time is over, and tools whose process is gone; answers how many runs it moved.';

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
