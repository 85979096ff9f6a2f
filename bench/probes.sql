-- What an app sees of mrprompt, measured inside the server.

create function bench_ms_since(started timestamptz) returns double precision language sql as $$
    select extract(epoch from clock_timestamp() - started)::double precision * 1000 $$;

create function bench_p50_p99(times double precision[]) returns text language sql as $$
    select string_agg(round(t::numeric, 1)::text, ' ' order by t)
    from unnest((select percentile_disc(array[0.5, 0.99]) within group (order by t) from unnest(times) t)) t $$;

-- From the commit of a question to its visible answer; pause: seconds between two questions.
create procedure bench_latency(n integer, pause double precision, inout p50_p99 text default null) language plpgsql as $$
declare
    id uuid;
    started timestamptz;
    times double precision[] := '{}';
    answer record;
begin
    for i in 1..n loop
        perform pg_sleep(pause);
        id := mrprompt.chat_text('quick', 'm', 'fake');
        commit;
        started := clock_timestamp();
        select * into answer from mrprompt.wait_for_request(id);
        times := times || bench_ms_since(started);
        if answer.status <> 'succeeded' then
            raise exception 'the request is %: %', answer.status, answer.error_message;
        end if;
        commit;
    end loop;
    p50_p99 := bench_p50_p99(times);
end $$;

-- From the commit of a question to the first piece of its stream in the hands of a reader who waits.
create procedure bench_first_delta(n integer, inout p50_p99 text default null) language plpgsql as $$
declare
    id uuid;
    started timestamptz;
    times double precision[] := '{}';
    seen bigint;
    piece record;
begin
    for i in 1..n loop
        id := mrprompt.chat_text('fake?words=3&pace=30', 'm', 'fake', stream => true);
        commit;
        started := clock_timestamp();
        seen := 0;
        loop
            select max(s.seq) as seq, bool_or(s.content <> '') as has_text into piece from mrprompt.stream(id, seen) s;
            exit when piece.has_text;
            seen := coalesce(piece.seq, seen);
            commit;
        end loop;
        times := times || bench_ms_since(started);
        commit;
        perform mrprompt.wait_for_request(id);
        commit;
    end loop;
    p50_p99 := bench_p50_p99(times);
end $$;

-- Waits until at most `rest` requests are not done.
create procedure bench_await(rest integer) language plpgsql as $$
begin
    while (select count(*) from (select from mrprompt_internal.queue limit rest + 1) q) > rest loop
        commit;
        perform pg_sleep(0.02);
    end loop;
end $$;

-- Requests that ended long ago, with their answers and usage.
create procedure bench_history(n integer) language sql as $$
    with history as (
        insert into mrprompt.requests (id, user_id, provider, model, stream, payload, status, created_at, started_at, finished_at)
        select mrprompt_internal.uuidv7(), mrprompt.current_user_id(), 'fake', 'm', false,
               '{"messages":[{"role": "user", "content": "question"}]}', 'succeeded', t, t, t
        from generate_series(1, n) i, lateral (select now() - interval '1 day' * (n - i) / n) as moment (t)
        returning id, user_id, finished_at),
    answers as (
        insert into mrprompt.responses (request_id, attempt, content, finish_reason, raw_usage)
        select id, 1, 'You said: question', 'stop', '{"prompt_tokens": 2, "completion_tokens": 3}' from history)
    insert into mrprompt.usage (request_id, attempt, slot, user_id, provider, model, outcome, prompt_tokens, completion_tokens, cost, price_known)
    select id, 1, 0, user_id, 'fake', 'm', 'succeeded', 2, 3, 0.000008, true from history;
$$;

-- Microseconds of one evaluation of an expression, best of five rounds.
create procedure bench_call(expression text, inout microseconds numeric default null) language plpgsql as $$
declare
    calls constant int := 200000;
    started timestamptz;
begin
    for round in 1..5 loop
        started := clock_timestamp();
        -- offset 0 and the sum over i keep it from being evaluated once for all rows.
        execute format('select count(v) from (select case when i > 0 then %s end as v from generate_series(1, %s) i offset 0) s', expression, calls);
        microseconds := least(microseconds, round((1000 * bench_ms_since(started) / calls)::numeric, 3));
    end loop;
end $$;
