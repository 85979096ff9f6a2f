-- What the machine can do without mrprompt: the same rows written by plain SQL.

create table bench_requests (like mrprompt.requests including all);
create table bench_responses (like mrprompt.responses including all);
create table bench_usage (like mrprompt.usage including all);
create table bench_queue (like mrprompt_internal.queue including all);
create table bench_commits (i integer);

create procedure bench_fill(n integer) language sql as $$
    insert into bench_requests (id, user_id, provider, model, stream, payload)
    select mrprompt_internal.uuidv7(), gen_random_uuid(), 'fake', 'm', false, '{"messages":[{"role": "user", "content": "question"}]}'
    from generate_series(1, n);
    insert into bench_queue (request_id, provider, bytes, user_id, model, tag)
    select id, 'fake', 60, user_id, model, row_number() over (order by id) from bench_requests where status = 'queued';
$$;

-- Per request: claimed (two updates), answered (two inserts, an update, a delete); 256 of them a commit, as the fetcher
-- has it. Any number of sessions may drain at once.
create procedure bench_drain() language plpgsql as $$
declare
    ids uuid[];
begin
    loop
        select array_agg(request_id) into ids from (
            select request_id from bench_queue where fetcher_id is null and ready and not alone
            order by tag, request_id limit 256 for update skip locked) q;
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
end $$;

create procedure bench_commit(n integer, pause double precision, inout p50_p99 text default null) language plpgsql as $$
declare
    started timestamptz;
    times double precision[] := '{}';
begin
    for i in 1..n loop
        perform pg_sleep(pause);
        started := clock_timestamp();
        insert into bench_commits values (i);
        commit;
        times := times || bench_ms_since(started);
    end loop;
    p50_p99 := bench_p50_p99(times);
end $$;
