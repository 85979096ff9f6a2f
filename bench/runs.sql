-- What agents' runs cost the database: making them, going on with them, keeping them.

-- A conversation of so many messages of some 50 tokens each.
create function bench_thread(n integer) returns uuid language sql as $$
    with thread as (insert into mrprompt.threads (user_id) values (mrprompt.current_user_id()) returning id, user_id),
    said as (
        insert into mrprompt.messages (thread_id, position, user_id, role, content, tokens)
        select t.id, i, t.user_id, case i % 2 when 1 then 'user' else 'assistant' end, c, mrprompt_internal.message_tokens(c, null)
        from thread t, generate_series(1, n) i, to_json(format('message %s: ', i) || repeat('some words ', 16)) c)
    select id from thread $$;

create function bench_median_of(times double precision[]) returns numeric language sql as $$
    select round((percentile_disc(0.5) within group (order by t))::numeric, 2) from unnest(times) t $$;

-- Milliseconds that create_run() takes on each of these threads, in the median, and how many messages are sent; nothing of it is kept.
create procedure bench_create_run(agent uuid, threads uuid[], truncation text, last_messages integer, times integer, inout ms text default null, inout sent text default null)
    language plpgsql as $$
declare
    started timestamptz;
    taken jsonb[] := '{}';
    thread uuid;
    run uuid;
begin
    -- In turn, so that whatever else the machine does is the same for all.
    for i in 1..times loop
        foreach thread in array threads loop
            started := clock_timestamp();
            run := mrprompt.create_run(thread, agent, truncation => bench_create_run.truncation, last_messages => bench_create_run.last_messages);
            taken := taken || jsonb_build_object('thread', thread, 'ms', bench_ms_since(started), 'sent', (
                select sum(upper(p.places) - lower(p.places)) from mrprompt.requests r, unnest(r.messages_from) p (places) where r.run_id = run));
            rollback;
        end loop;
    end loop;
    select string_agg(m.ms::text, ' ' order by m.place), string_agg(m.sent::text, ' ' order by m.place) into ms, sent
    from (select array_position(threads, (t ->> 'thread')::uuid) as place, bench_median_of(array_agg((t ->> 'ms')::double precision)) as ms, max((t ->> 'sent')::integer) as sent
          from unnest(taken) t group by 1) m;
end $$;

-- The ceiling: a row, and its commit.
create procedure bench_insert(times integer, inout ms numeric default null) language plpgsql as $$
declare
    started timestamptz;
    taken double precision[] := '{}';
begin
    for i in 1..times loop
        started := clock_timestamp();
        insert into bench_commits values (i);
        commit;
        taken := taken || bench_ms_since(started);
    end loop;
    ms := bench_median_of(taken);
end $$;

-- Claims what is queued as a fetcher does, 256 at a time, and answers all of it with this; milliseconds of both.
create procedure bench_play(answer json, inout claim_ms double precision, inout settle_ms double precision) language plpgsql as $$
declare
    fetcher constant uuid := mrprompt_internal.hello(json_build_object('contract', 2, 'kind', 'libpq', 'program', 'bench')) ->> 'fetcher';
    started timestamptz;
    jobs json;
    outcomes json;
begin
    commit;
    loop
        started := clock_timestamp();
        select c.body -> 'jobs' into jobs from mrprompt_internal.claim(json_build_object('fetcher', fetcher, 'room', 256, 'bytes', 100000000)) c;
        commit;
        claim_ms := claim_ms + bench_ms_since(started);
        exit when json_array_length(jobs) = 0;
        outcomes := (
            select json_agg(json_build_object('request', j -> 'request', 'attempt', j -> 'attempt', 'result', 'succeeded', 'response', answer,
                'usage', '{"prompt_tokens": 2, "completion_tokens": 3}'::json))
            from json_array_elements(jobs) j);
        started := clock_timestamp();
        perform mrprompt_internal.settle(json_build_object('fetcher', fetcher, 'outcomes', outcomes));
        commit;
        settle_ms := settle_ms + bench_ms_since(started);
    end loop;
    delete from mrprompt_internal.fetchers f where f.id = fetcher;
end $$;

-- Milliseconds each, of plain chats (agent null), or of runs of one step or (calls) of two, one of them with a client tool:
-- to queue (the median), to claim, to settle, and to submit a tool's output (the median). Each is queued, and its output submitted, in a transaction of its own.
create procedure bench_steps(agent uuid, calls boolean, n integer, inout queue_claim_settle_submit text default null) language plpgsql as $$
declare
    threads uuid[];
    thread uuid;
    run uuid;
    started timestamptz;
    queued double precision[] := '{}';
    claim_ms double precision := 0;
    settle_ms double precision := 0;
    submitted double precision[] := '{}';
begin
    threads := array(select mrprompt.create_thread('[{"role": "user", "content": "question"}]') from generate_series(1, n));
    commit;
    foreach thread in array threads loop
        started := clock_timestamp();
        if agent is null then
            perform mrprompt.chat_text('question', 'm', 'fake', stream => true);
        else
            perform mrprompt.create_run(thread, agent);
        end if;
        commit;
        queued := queued || bench_ms_since(started);
    end loop;
    if calls then
        call bench_play('{"finish_reason": "tool_calls", "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "ask_user", "arguments": "{}"}}]}',
            claim_ms, settle_ms);
        for run in select r.id from mrprompt.runs r where r.status = 'requires_action' loop
            started := clock_timestamp();
            perform mrprompt.submit_tool_outputs(run, '[{"tool_call_id": "call_1", "output": "yes"}]');
            commit;
            submitted := submitted || bench_ms_since(started);
        end loop;
    else
        call bench_play('{"content": "You said: question", "finish_reason": "stop"}', claim_ms, settle_ms);
    end if;
    queue_claim_settle_submit := concat_ws(' ', bench_median_of(queued), round((claim_ms / n)::numeric, 2), round((settle_ms / n)::numeric, 2), bench_median_of(submitted));
    -- What came after the tools.
    call bench_play('{"content": "You said: question", "finish_reason": "stop"}', claim_ms, settle_ms);
end $$;

-- A tool, and runs that call it: milliseconds (p50 p99) from a call's row to its end, until its process has taken it, and of the whole run.
create function bench_tool() returns text language sql as $$ select 'yes' $$;
create procedure bench_tool_calls(agent uuid, n integer, inout call text default null, inout begun text default null, inout whole text default null) language plpgsql as $$
declare
    started timestamptz;
    made record;
    state text;
    called mrprompt.tool_calls;
    calls double precision[] := '{}';
    begins double precision[] := '{}';
    runs double precision[] := '{}';
begin
    for i in 1..n loop
        made := mrprompt.send_message(agent, 'fake?tool=bench_tool&args=%7B%7D');
        commit;
        started := clock_timestamp();
        state := (mrprompt.wait_for_run(made.run_id)).status;
        runs := runs || bench_ms_since(started);
        select * into called from mrprompt.tool_calls c where c.run_id = made.run_id;
        if state <> 'completed' or called.status <> 'completed' then
            raise exception 'the run is %, its call %: %', state, called.status, called.output;
        end if;
        calls := calls || extract(epoch from called.finished_at - called.created_at)::double precision * 1000;
        begins := begins || extract(epoch from called.started_at - called.created_at)::double precision * 1000;
        commit;
    end loop;
    call := bench_p50_p99(calls);
    begun := bench_p50_p99(begins);
    whole := bench_p50_p99(runs);
end $$;

-- n runs of one step on a thread, one after the other, in each of which all of it is sent.
create procedure bench_runs(agent uuid, thread uuid, n integer) language plpgsql as $$
declare
    claim_ms double precision := 0;
    settle_ms double precision := 0;
begin
    for i in 1..n loop
        perform mrprompt.create_run(thread, agent);
        commit;
        call bench_play('{"content": "You said: question", "finish_reason": "stop"}', claim_ms, settle_ms);
    end loop;
end $$;

create function bench_bytes_of_all() returns bigint language sql as $$
    select sum(pg_total_relation_size(c.oid))::bigint from pg_class c where c.relnamespace in ('mrprompt'::regnamespace, 'mrprompt_internal'::regnamespace) and c.relkind = 'r' $$;
