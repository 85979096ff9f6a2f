-- What goes of threads and their runs: old ones, deleted ones, and those of a person who is forgotten, in pieces that stay small.

create function mrprompt_internal.remove_rows(ids uuid[], relation regclass, emptied text) returns integer
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    half constant int := cardinality(ids) / 2;
begin
    if coalesce(cardinality(ids), 0) = 0 then
        return 0;
    end if;
    begin
        -- A deferred foreign key shall speak here, where it can be answered.
        set constraints all immediate;
        execute format('delete from %s where id = any ($1)', relation) using ids;
        return cardinality(ids);
    exception
        -- An app's transaction holds a row that goes with them: they come up again.
        when lock_not_available then return 0;
        -- A constraint or a trigger of the app's forbids it for some.
        when others then null;
    end;
    if half > 0 then
        return mrprompt_internal.remove_rows(ids[:half], relation, emptied) + mrprompt_internal.remove_rows(ids[half + 1:], relation, emptied);
    end if;
    execute format('update %s set %s where id = any ($1)', relation, emptied) using ids;
    return 1;
end
$$;
comment on function mrprompt_internal.remove_rows(uuid[], regclass, text) is
    'Removes rows by their id; one that a row of the app refers to stays, emptied as said. Answers how many it touched.';

create function mrprompt_internal.remove_run_rows(runs uuid[], max_rows integer) returns integer
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    nowhere constant text := '00000000-0000-0000-0000-000000000000';
    ids uuid[];
    did int;
begin
    delete from mrprompt.run_events e
    where e.ctid = any (array(select l.ctid from mrprompt.run_events l where l.run_id = any (runs) limit max_rows));
    get diagnostics did = row_count;
    if did > 0 then
        return did;
    end if;
    did := mrprompt_internal.remove_rows(array(select c.id from mrprompt.tool_calls c where c.run_id = any (runs) order by c.id limit max_rows),
        'mrprompt.tool_calls', format('run_id = %1$L, step_id = %1$L, user_id = %1$L, call_id = id, name = '''', arguments = '''', output = null', nowhere));
    if did > 0 then
        return did;
    end if;
    -- Its requests have its answers; the ledger keeps what they cost.
    select array_agg(l.id) into ids from (
        select r.id from mrprompt.requests r
        where r.run_id = any (runs) and r.finished_at is not null
          and not exists (select from mrprompt_internal.queue q where q.request_id = r.id)
        order by r.id limit max_rows for update skip locked) l;
    if ids is not null then
        return mrprompt_internal.remove_requests(mrprompt_internal.few_enough(mrprompt_internal.with_free_answer(ids), max_rows), null);
    elsif exists (select from mrprompt.requests r where r.run_id = any (runs)) then
        return 0;
    end if;
    did := mrprompt_internal.remove_rows(array(select s.id from mrprompt.run_steps s where s.run_id = any (runs) order by s.id limit max_rows),
        'mrprompt.run_steps', format('run_id = id, thread_id = %1$L, user_id = %1$L, message_id = %1$L, last_error = null', nowhere));
    if did > 0 then
        return did;
    end if;
    delete from mrprompt_internal.run_identities i where i.run_id = any (runs);
    delete from mrprompt_internal.run_work w where w.run_id = any (runs);
    return mrprompt_internal.remove_rows(runs, 'mrprompt.runs', format(
        'thread_id = %1$L, user_id = %1$L, overrides = ''{}'', additional_instructions = null, last_error = null, metadata = ''{}''', nowhere));
end
$$;
comment on function mrprompt_internal.remove_run_rows(uuid[], integer) is
    'Removes about max_rows rows of what finished runs left behind, in the end the runs; answers how many. 0: an app''s transaction holds the rest.';

create function mrprompt_internal.remove_thread(thread_id uuid, max_rows integer) returns integer
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    nowhere constant text := '00000000-0000-0000-0000-000000000000';
    ids uuid[];
    did int := 0;
    part int;
begin
    loop
        ids := array(select m.id from mrprompt.messages m where m.thread_id = remove_thread.thread_id order by m.position limit max_rows - did);
        if cardinality(ids) > 0 then
            part := mrprompt_internal.remove_rows(ids, 'mrprompt.messages', format('thread_id = id, position = 1, user_id = %1$L, run_id = null, '
                'agent_id = null, content = null, refusal = null, reasoning = null, tool_calls = null, raw = null, metadata = ''{}''', nowhere));
        else
            ids := array(select r.id from mrprompt.runs r where r.thread_id = remove_thread.thread_id order by r.id limit 100);
            if cardinality(ids) = 0 then
                return did + mrprompt_internal.remove_rows(array[thread_id], 'mrprompt.threads',
                    format('deleted_at = ''infinity'', user_id = %L, title = null, metadata = ''{}''', nowhere));
            end if;
            part := mrprompt_internal.remove_run_rows(ids, max_rows - did);
        end if;
        did := did + part;
        exit when did >= max_rows or part = 0;
    end loop;
    return did;
end
$$;
comment on function mrprompt_internal.remove_thread(uuid, integer) is
    'Removes about max_rows rows of a thread without an unfinished run, in the end the thread; answers how many. The caller holds its row.';

create function mrprompt_internal.remove_deleted_threads(max_rows integer, user_id uuid default null) returns integer
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    did int := 0;
    thread uuid;
begin
    for thread in
        select t.id from mrprompt.threads t
        where t.deleted_at < 'infinity' and (remove_deleted_threads.user_id is null or t.user_id = remove_deleted_threads.user_id)
          and not exists (select from mrprompt.runs r where r.thread_id = t.id and r.active)
          and not exists (select from mrprompt.runs r where r.thread_id = t.id and not r.active and r.finished_at is null)
        order by t.deleted_at limit max_rows for update skip locked
    loop
        did := did + mrprompt_internal.remove_thread(thread, max_rows - did);
        exit when did >= max_rows;
    end loop;
    return did;
end
$$;
comment on function mrprompt_internal.remove_deleted_threads(integer, uuid) is
    'Removes about max_rows rows of threads that were deleted (null: anybody''s) and have no unfinished run; answers how many.';

create function mrprompt_internal.prune_threads(cutoff timestamptz, start uuid, max_rows integer, out pruned integer, out reached uuid)
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    due uuid[];
begin
    select array_agg(s.id order by s.id) filter (where s.old), case when count(*) = max_rows then (array_agg(s.id order by s.id desc))[1] end
    into due, reached
    from (select t.id, t.deleted_at is null and not mrprompt_internal.is_unfinished(t.id) and greatest(t.created_at, (
                select m.created_at from mrprompt.messages m where m.thread_id = t.id order by m.position desc limit 1)) < cutoff as old
          from mrprompt.threads t where t.id > start and t.id < mrprompt_internal.uuid_at(cutoff) order by t.id limit max_rows) s;
    -- Of whom somebody has just said something the row is held.
    update mrprompt.threads t set deleted_at = clock_timestamp()
    where t.id = any (array(select l.id from mrprompt.threads l where l.id = any (due) order by l.id for update skip locked))
      and not mrprompt_internal.is_unfinished(t.id)
      and not exists (select from mrprompt.messages m where m.thread_id = t.id and m.position is null)
      and coalesce((select m.created_at from mrprompt.messages m where m.thread_id = t.id order by m.position desc limit 1) < cutoff, true);
    get diagnostics pruned = row_count;
end
$$;
comment on function mrprompt_internal.prune_threads(timestamptz, uuid, integer) is
    'Looks at the next max_rows threads behind start, and deletes those in which nothing was said since cutoff and no run is unfinished.';

create function mrprompt_internal.prune_run_events(cutoff timestamptz, start uuid, max_rows integer, out pruned integer, out reached uuid)
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    bound constant uuid := mrprompt_internal.uuid_at(cutoff);
    run_ uuid := start;
    part int;
begin
    pruned := 0;
    for n in 1..max_rows loop
        run_ := (select e.run_id from mrprompt.run_events e where e.run_id > run_ and e.run_id < bound order by e.run_id limit 1);
        if run_ is null then
            reached := null;
            return;
        end if;
        reached := run_;
        if not exists (select from mrprompt.runs r where r.id = run_ and (r.finished_at is null or r.finished_at >= cutoff)) then
            -- All of a run's, so that no reader meets half of them.
            delete from mrprompt.run_events e where e.run_id = run_;
            get diagnostics part = row_count;
            pruned := pruned + part;
        end if;
        exit when pruned >= max_rows;
    end loop;
end
$$;
comment on function mrprompt_internal.prune_run_events(timestamptz, uuid, integer) is
    'Looks at the next max_rows runs that have events, behind start, and prunes those of runs that ended before cutoff.';

create function mrprompt_internal.forget_threads(person uuid, max_rows integer) returns integer
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    did int := 0;
    thread uuid;
begin
    for thread in
        select t.id from mrprompt.threads t where t.user_id = person and t.deleted_at is null order by t.id limit max_rows for no key update skip locked
    loop
        update mrprompt.threads t set deleted_at = clock_timestamp() where t.id = thread;
        did := did + 1;
        if mrprompt_internal.is_unfinished(thread) then
            did := did + mrprompt_internal.end_runs_of(thread);
        end if;
        exit when did >= max_rows;
    end loop;
    if did < max_rows then
        did := did + mrprompt_internal.remove_deleted_threads(max_rows - did, person);
    end if;
    return did;
end
$$;
comment on function mrprompt_internal.forget_threads(uuid, integer) is
    'Deletes a person''s threads and removes their rows, some max_rows at a time; answers how many it touched.';

create function mrprompt_internal.forget_agents(person uuid, max_rows integer) returns integer
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    ids constant uuid[] := array(
        select a.id from mrprompt.agents a where a.user_id = person order by a.id limit least(max_rows, 100) for update skip locked);
    did int;
begin
    delete from mrprompt.agent_versions v
    where v.ctid = any (array(select l.ctid from mrprompt.agent_versions l where l.agent_id = any (ids) limit max_rows));
    get diagnostics did = row_count;
    if did > 0 then
        return did;
    end if;
    return mrprompt_internal.remove_rows(ids, 'mrprompt.agents',
        'user_id = ''00000000-0000-0000-0000-000000000000'', name = ''forgotten'', description = null, instructions = null, key_id = null, '
        'response_format = null, tools = null, tool_choice = null, parameters = null, context = null, limits = null, metadata = ''{}'', archived_at = now()');
end
$$;
comment on function mrprompt_internal.forget_agents(uuid, integer) is 'Removes a person''s agents with their versions, some max_rows at a time; answers how many it touched.';
