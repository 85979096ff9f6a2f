-- What the machine can do without mrprompt: the same rows by plain SQL, one commit; and the latency probes.

create table bench_requests (like mrprompt.requests including all);
create table bench_responses (like mrprompt.responses including all);
create table bench_usage (like mrprompt.usage including all);
create table bench_queue (like mrprompt_internal.queue including all);

-- Per request: claimed (two updates), answered (two inserts, an update, a delete); 256 of them a commit, as the fetcher has it.
create procedure bench_ceiling(n integer, inout per_second numeric default null) language plpgsql as $$
declare
    ids uuid[];
    started timestamptz;
begin
    insert into bench_requests (id, user_id, provider, model, stream, payload)
    select mrprompt_internal.uuidv7(), gen_random_uuid(), 'fake', 'm', false, '{"messages":[{"role": "user", "content": "question"}]}'
    from generate_series(1, n);
    insert into bench_queue (request_id, provider, bytes) select id, 'fake', 60 from bench_requests;
    commit;
    started := clock_timestamp();
    loop
        select array_agg(request_id) into ids from (
            select request_id from bench_queue where fetcher_id is null order by ready_at, request_id limit 256 for update skip locked) q;
        exit when ids is null;
        update bench_queue set fetcher_id = gen_random_uuid(), attempt = 1, claimed_at = now() where request_id = any (ids);
        update bench_requests set status = 'running', started_at = now() where id = any (ids);
        commit;
        insert into bench_responses (request_id, attempt, content, finish_reason, raw_usage)
        select id, 1, 'You said: question', 'stop', '{"prompt_tokens": 2, "completion_tokens": 3}' from unnest(ids) id;
        insert into bench_usage (request_id, attempt, slot, user_id, provider, model, outcome, prompt_tokens, completion_tokens, cost, price_known)
        select id, 1, 0, gen_random_uuid(), 'fake', 'm', 'succeeded', 2, 3, 0.000008, true from unnest(ids) id;
        update bench_requests set status = 'succeeded', finished_at = now() where id = any (ids);
        delete from bench_queue where request_id = any (ids);
        commit;
    end loop;
    per_second := round(n / extract(epoch from clock_timestamp() - started));
end $$;

-- From the commit of a question to its visible answer.
create procedure bench_latency(n integer, inout p50_p99 text default null) language plpgsql as $$
declare
    id uuid;
    started timestamptz;
    times double precision[] := '{}';
    answer record;
begin
    for i in 1..n loop
        id := mrprompt.chat_text('quick', 'm', 'fake');
        commit;
        started := clock_timestamp();
        select * into answer from mrprompt.wait_for_request(id);
        times := times || extract(epoch from clock_timestamp() - started)::double precision * 1000;
        if answer.status <> 'succeeded' then
            raise exception 'the request is %: %', answer.status, answer.error_message;
        end if;
        commit;
    end loop;
    select string_agg(round(t::numeric, 1)::text, ' ' order by t) into p50_p99
    from unnest((select percentile_disc(array[0.5, 0.99]) within group (order by t) from unnest(times) t)) t;
end $$;

create table bench_commits (i integer);
create procedure bench_commit(n integer, inout p50_p99 text default null) language plpgsql as $$
declare
    started timestamptz;
    times double precision[] := '{}';
begin
    for i in 1..n loop
        started := clock_timestamp();
        insert into bench_commits values (i);
        commit;
        times := times || extract(epoch from clock_timestamp() - started)::double precision * 1000;
    end loop;
    select string_agg(round(t::numeric, 1)::text, ' ' order by t) into p50_p99
    from unnest((select percentile_disc(array[0.5, 0.99]) within group (order by t) from unnest(times) t)) t;
end $$;
