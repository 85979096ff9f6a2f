-- Reports for analysts, and for users of their own: usage over a time by anything, who spends most, how fast, and what fails.

create function mrprompt_internal.check_range(since timestamptz, until timestamptz) returns void
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    if since is null or until is null or since >= until then
        raise exception using errcode = 'PT400', message = 'since must be a time before until',
            detail = format('since is %s, until is %s', coalesce(since::text, 'null'), coalesce(until::text, 'null'));
    end if;
end
$$;
comment on function mrprompt_internal.check_range(timestamptz, timestamptz) is 'PT400 unless it is a range of time.';

create function mrprompt.usage_report(since timestamptz default now() - interval '30 days', until timestamptz default 'infinity', by text default 'day')
    returns table (period timestamptz, name text, requests bigint, attempts bigint, failed_attempts bigint, prompt_tokens numeric,
        completion_tokens numeric, cached_tokens numeric, cache_write_tokens numeric, reasoning_tokens numeric, cost numeric,
        attempts_of_unknown_cost bigint, avg_first_token_ms numeric, avg_total_ms numeric, cancelled_attempts bigint, unknown_attempts bigint,
        lost_attempts bigint, estimated_attempts bigint, cache_saving numeric, tokens_per_second numeric)
    language plpgsql stable rows 1000 set search_path = pg_catalog, pg_temp
as $$
declare
    words constant text[] := string_to_array(replace(by, ' ', ''), ',');
    buckets constant text[] := array(select w from unnest(words) w where w in ('hour', 'day', 'month', 'year', 'total'));
    dimensions constant text[] := array(select w from unnest(words) w where w in ('user', 'agent', 'key', 'provider', 'model', 'tag'));
begin
    perform mrprompt_internal.check_range(since, until);
    if coalesce(cardinality(words), 0) = 0 or cardinality(buckets) > 1 or cardinality(dimensions) > 1
        or cardinality(buckets) + cardinality(dimensions) < cardinality(words) then
        raise exception using errcode = 'PT400', message = format('usage cannot be reported by %s', coalesce(left(by, 100), 'null')),
            hint = 'By hour, day, month, year or total; by user, agent, key, provider, model or tag; or by one of each, such as day,model.';
    end if;
    return query
    select f.* from mrprompt_internal.usage_figures(coalesce(dimensions[1], 'all'), coalesce(buckets[1], 'total'), since, until) f
    order by f.bucket_start, f.cost desc nulls last, f.value;
end
$$;
comment on function mrprompt.usage_report(timestamptz, timestamptz, text) is
    'Usage and cost (USD) from since to before until, widened to whole hours (UTC; to days, where hours are pruned), by hour, day, month, year '
    'or total, by user, agent, key, provider, model or tag, or by one of each (day,model). period: the start of the hour, day, … (UTC); name: the id, the name, or '
    'provider/model (empty: without a key or agent). A user sees his own, an analyst everybody''s. PT400.';

create function mrprompt.top_spenders(since timestamptz default now() - interval '30 days', until timestamptz default 'infinity', max_rows integer default 20)
    returns table (user_id uuid, cost numeric, share numeric, requests bigint, attempts bigint, prompt_tokens numeric, completion_tokens numeric)
    language plpgsql stable rows 20 set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan set jit = off set work_mem = '32MB' set enable_seqscan = off set max_parallel_workers_per_gather = 0
as $$
begin
    perform mrprompt_internal.check_range(since, until);
    if max_rows is null or max_rows not between 1 and 10000 then
        raise exception using errcode = 'PT400', message = 'max_rows must be between 1 and 10,000', detail = format('it is %s', coalesce(max_rows::text, 'null'));
    end if;
    return query
    select s.value::uuid, s.cost, round(s.cost / nullif(sum(s.cost) over (), 0), 4), s.requests, s.attempts, s.prompt_tokens, s.completion_tokens
    from (
        select r.value, sum(r.cost) as cost, sum(r.requests)::bigint as requests, sum(r.attempts)::bigint as attempts,
            sum(r.prompt_tokens) as prompt_tokens, sum(r.completion_tokens) as completion_tokens
        from mrprompt_internal.usage_rows('user', 'total', since, until) r
        group by 1) s
    order by s.cost desc, s.value limit max_rows;
end
$$;
comment on function mrprompt.top_spenders(timestamptz, timestamptz, integer) is
    'Analysts: the users whose attempts cost most (USD) from since to before until, widened to whole hours; share of the whole, 0 to 1; a cost that is unknown counts 0. PT400.';

create function mrprompt.latency_report(since timestamptz default now() - interval '1 day', until timestamptz default 'infinity', by text default 'model')
    returns table (period timestamptz, name text, attempts bigint, p50_total_ms double precision, p95_total_ms double precision,
        p50_first_token_ms double precision, p95_first_token_ms double precision, tokens_per_second numeric)
    language plpgsql stable rows 100 set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan set jit = off
as $$
#variable_conflict use_column
declare
    by_ constant text := by;
begin
    perform mrprompt_internal.check_range(since, until);
    if coalesce(by_ not in ('hour', 'day', 'month', 'total', 'user', 'agent', 'key', 'provider', 'model'), true) then
        raise exception using errcode = 'PT400', message = format('latency cannot be reported by %s', coalesce(left(by_, 100), 'null')),
            hint = 'By hour, day, month or total; or by user, agent, key, provider or model.';
    end if;
    return query
    select case when by_ in ('hour', 'day', 'month') then date_trunc(by_, u.finished_at, 'UTC') end,
        case by_ when 'user' then u.user_id::text when 'agent' then u.agent_name when 'key' then u.key_id::text
            when 'provider' then u.provider::text when 'model' then u.provider || '/' || u.model end,
        count(*), percentile_cont(0.5) within group (order by u.total_ms), percentile_cont(0.95) within group (order by u.total_ms),
        percentile_cont(0.5) within group (order by u.first_token_ms), percentile_cont(0.95) within group (order by u.first_token_ms),
        round(sum(u.completion_tokens) filter (where u.first_token_ms < u.total_ms) * 1000
            / nullif(sum(u.total_ms - u.first_token_ms) filter (where u.first_token_ms < u.total_ms and u.completion_tokens > 0), 0), 1)
    from mrprompt.usage u
    where u.finished_at >= since and u.finished_at < until and u.outcome = 'succeeded'
    group by 1, 2 order by 1, 2;
end
$$;
comment on function mrprompt.latency_report(timestamptz, timestamptz, text) is
    'How long succeeded attempts took, in milliseconds: median and 95th percentile until the end and until the first piece of the answer; '
    'completion tokens per second from the first piece to the end. By hour, day, month, total, user, agent, key, provider or model. It reads '
    'every row of the ledger in that time: a day, rather than a year. PT400.';

create function mrprompt.error_report(since timestamptz default now() - interval '1 day', until timestamptz default 'infinity')
    returns table (provider text, model text, error_type text, http_status integer, attempts bigint, share numeric, last_at timestamptz)
    language plpgsql stable rows 100 set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan set jit = off
as $$
#variable_conflict use_column
begin
    perform mrprompt_internal.check_range(since, until);
    return query
    select * from (
        select u.provider::text, u.model, u.error_type, u.http_status, count(*) filter (where u.outcome in ('failed', 'unknown')) as attempts,
            round(count(*) filter (where u.outcome in ('failed', 'unknown')) / sum(count(*)) over (partition by u.provider, u.model), 4), max(u.finished_at)
        from mrprompt.usage u where u.finished_at >= since and u.finished_at < until
        group by u.provider, u.model, u.error_type, u.http_status) e
    where e.attempts > 0 order by e.attempts desc, 1, 2, 3;
end
$$;
comment on function mrprompt.error_report(timestamptz, timestamptz) is
    'Attempts that failed, or whose fetcher died (unknown), by provider, model, error type and HTTP status; share of all attempts of the '
    'model, 0 to 1. It reads every row of the ledger in that time. PT400.';

grant execute on function mrprompt_internal.usage_sums, mrprompt_internal.usage_rows, mrprompt_internal.usage_figures, mrprompt_internal.usage_range,
    mrprompt_internal.grains, mrprompt_internal.grain_start, mrprompt_internal.next_start, mrprompt_internal.sees_all_usage, mrprompt_internal.check_range,
    mrprompt.usage_report, mrprompt.top_spenders, mrprompt.latency_report, mrprompt.error_report to mrprompt_user, mrprompt_analyst, mrprompt_admin;
