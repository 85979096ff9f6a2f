-- A ledger of some size, and what reports of it take.

-- n attempts over the last 60 days, in the order of their time: 1000 users, 20 models of 4 providers, 50 keys, 10 agents, a tag at every tenth.
create procedure bench_ledger(n bigint) language sql as $$
    insert into mrprompt.usage (request_id, attempt, slot, user_id, provider, model, key_id, agent_name, outcome, prompt_tokens, completion_tokens,
        cached_tokens, cache_write_tokens, reasoning_tokens, cost, price_known, first_token_ms, total_ms, http_status, error_type, provider_request_id,
        finished_at, price_id, tags)
    select (lpad(to_hex((extract(epoch from t) * 1000)::bigint), 12, '0') || '70008000' || lpad(to_hex(i), 12, '0'))::uuid, 1,
        (extract(year from t at time zone 'UTC') * 12 + extract(month from t at time zone 'UTC'))::int % 16,
        ('aaaaaaaa-0000-4000-8000-' || lpad((i * 7919 % 1000)::text, 12, '0'))::uuid, 'provider-' || m % 4, 'model-' || m,
        ('bbbbbbbb-0000-4000-8000-' || lpad((i * 104729 % 50)::text, 12, '0'))::uuid, 'agent-' || i % 10,
        case when i % 50 = 0 then 'failed' else 'succeeded' end, 1000 + i % 500, 200 + i % 100, i % 3 * 100, 0, 0, 0.0000015 * (1000 + i % 500), true,
        200 + i % 300, 1000 + i % 3000, 200, case when i % 50 = 0 then 'rate_limit_error' end, 'req_' || lpad(i::text, 20, '0'), t,
        'cccccccc-0000-4000-8000-000000000000', case when i % 10 = 0 then array['nightly'] end
    from generate_series(1, n) i, lateral (select now() - interval '60 days' * (1 - i::double precision / n), i * 31 % 20) as at (t, m);
$$;

-- Rolls everything up, in the steps of tend. Nothing else is at work.
create procedure bench_roll_up() language plpgsql as $$
begin
    loop
        exit when mrprompt_internal.roll_up(10000) = 0
            and (select w.rolled_up_to > (select max(u.finished_at) from mrprompt.usage u) from mrprompt_internal.usage_watermark w);
        commit;
    end loop;
end $$;

-- Where thirty days of the last sixty begin, at a whole step, that are made of the most roll-ups for each value.
create function bench_worst_start(step interval) returns timestamptz language sql stable as $$
    select since
    from generate_series(date_trunc('day', now(), 'UTC') - interval '59 days', now() - interval '30 days', step) since,
        mrprompt_internal.usage_range('total', since, since + interval '30 days') s,
        generate_series(s.from_, least(s.to_, now()) - interval '1 hour', '1 hour') h
    where s.grain <> 'ledger' group by since order by count(distinct (s.grain, mrprompt_internal.grain_start(s.grain, h))) desc, since limit 1 $$;

-- Milliseconds that a query takes a caller, all its rows read: the median of so many.
create procedure bench_median(query text, times integer default 11, inout ms numeric default null) language plpgsql as $$
declare
    started timestamptz;
    taken double precision[] := '{}';
    row_ record;
begin
    for n in 1..times loop
        started := clock_timestamp();
        for row_ in execute query loop
        end loop;
        taken := taken || bench_ms_since(started);
    end loop;
    ms := round((select percentile_disc(0.5) within group (order by t) from unnest(taken) t)::numeric, 2);
end $$;

-- Ledger rows that five budgets hold.
create table bench_budgeted (like mrprompt.usage including all);
create procedure bench_budgets(n integer) language plpgsql as $$
declare
    budgeted mrprompt.usage;
begin
    truncate bench_budgeted;
    for budgeted in select u.* from mrprompt.usage u order by u.request_id limit n loop
        budgeted.counters := '{1000001,1000002,1000003,1000004,1000005}';
        budgeted.hold := 0.0123456;
        insert into bench_budgeted values (budgeted.*);
    end loop;
end $$;

-- Bytes per row of a table, partitioned or not, without its indexes or with them.
create function bench_bytes(relation regclass, whole boolean) returns numeric language plpgsql as $$
declare
    rows bigint;
    bytes bigint;
begin
    execute format('select count(*) from %s', relation) into rows;
    select sum(case when whole then pg_total_relation_size(t) else pg_table_size(t) end) into bytes
    from (select relation union select p.relid from pg_partition_tree(relation) p) s (t);
    return round(bytes::numeric / rows);
end $$;
