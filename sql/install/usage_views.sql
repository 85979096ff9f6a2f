-- Reading usage: roll-ups as coarse as the range allows, and the ledger's open tail; so the views are exact at every commit.

create function mrprompt_internal.sees_all_usage() returns boolean
    language sql stable
    return pg_has_role('mrprompt_analyst', 'usage') or pg_has_role('mrprompt_admin', 'usage');
comment on function mrprompt_internal.sees_all_usage() is 'Whether roll-ups are the caller''s to read. Who is neither analyst nor admin has his rows of the ledger.';

create function mrprompt_internal.usage_range(bucket text, since timestamptz, until timestamptz) returns table (grain text, from_ timestamptz, to_ timestamptz)
    language plpgsql stable rows 10 set search_path = pg_catalog, pg_temp
as $$
declare
    grains constant text[] := mrprompt_internal.grains(bucket);
    everybodys constant boolean := mrprompt_internal.sees_all_usage();
    mark record;
    low timestamptz := mrprompt_internal.grain_start('hour', since);
    high timestamptz := mrprompt_internal.next_start('hour', until);
    inner_low timestamptz;
    inner_high timestamptz;
begin
    select w.rolled_up_to, w.hours_from into mark from mrprompt_internal.usage_watermark w;
    if low < mark.hours_from and bucket <> 'hour' then
        low := mrprompt_internal.grain_start('day', low);
    end if;
    if high < mark.hours_from and bucket <> 'hour' then
        high := mrprompt_internal.next_start('day', high);
    end if;
    return query select 'ledger', s.low, high from (values (case when everybodys then greatest(mark.rolled_up_to, low) else low end)) s (low) where s.low < high;
    if not everybodys then
        return;
    end if;
    -- Nothing is rolled up behind the watermark: what ends there need not be cut.
    if high >= mark.rolled_up_to then
        high := 'infinity';
    end if;
    for n in 1..cardinality(grains) loop
        -- The coarsest has no grain within it: nulls, which leave it the whole.
        inner_low := least(mrprompt_internal.next_start(grains[n + 1], low), high);
        inner_high := greatest(mrprompt_internal.grain_start(grains[n + 1], high), inner_low);
        return query select grains[n], s.* from (values (low, inner_low), (inner_high, high)) s (low, high) where s.low < s.high;
        low := inner_low;
        high := inner_high;
    end loop;
end
$$;
comment on function mrprompt_internal.usage_range(text, timestamptz, timestamptz) is
    'What the figures of a range of time are summed from, as the caller may: the whole periods of each grain, none coarser than the bucket, the coarsest in the '
    'middle; and the ledger from the watermark on. The range is widened to whole hours (UTC), or to whole days where hours are pruned.';

create function mrprompt_internal.usage_rows(dimension text, bucket text, since timestamptz, until timestamptz)
    returns setof mrprompt_internal.usage_rollups
    language sql stable rows 10000
begin atomic
    -- All of one snapshot, so nothing is missed or counted twice. offset 0: span by span, each by the primary key.
    with spans as materialized (select s.grain, s.from_, s.to_ from mrprompt_internal.usage_range(bucket, since, until) s)
    select r.* from spans s cross join lateral (
        select o.* from mrprompt_internal.usage_rollups o
        where o.dimension = usage_rows.dimension and o.grain = s.grain and o.start >= s.from_ and o.start < s.to_ offset 0) r
    union all
    select r.* from spans s cross join lateral mrprompt_internal.usage_sums(array[usage_rows.dimension], '{hour}', s.from_, s.to_, null) r
    where s.grain = 'ledger';
end;
comment on function mrprompt_internal.usage_rows(text, text, timestamptz, timestamptz) is
    'What every usage view and report sums, from since to before until, for buckets of that length or longer. Analysts and admins: roll-ups, and the '
    'ledger''s open tail; others: their rows of the ledger.';

create function mrprompt_internal.usage_figures(dimension text, bucket text, since timestamptz, until timestamptz)
    returns table (bucket_start timestamptz, value text, requests bigint, attempts bigint, failed_attempts bigint, prompt_tokens numeric,
        completion_tokens numeric, cached_tokens numeric, cache_write_tokens numeric, reasoning_tokens numeric, cost numeric,
        attempts_of_unknown_cost bigint, avg_first_token_ms numeric, avg_total_ms numeric, cancelled_attempts bigint, unknown_attempts bigint,
        lost_attempts bigint, estimated_attempts bigint, cache_saving numeric, tokens_per_second numeric)
    language plpgsql stable rows 1000 set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan set jit = off set work_mem = '32MB' set enable_seqscan = off set max_parallel_workers_per_gather = 0
as $$
begin
    return query
    select case when bucket <> 'total' then date_trunc(bucket, r.start, 'UTC') end, r.value, sum(r.requests)::bigint, sum(r.attempts)::bigint,
        sum(r.failed)::bigint, sum(r.prompt_tokens), sum(r.completion_tokens), sum(r.cached_tokens), sum(r.cache_write_tokens), sum(r.reasoning_tokens),
        case when sum(r.cost_unknown) < sum(r.attempts) then sum(r.cost) end,
        sum(r.cost_unknown)::bigint, round(sum(r.first_token_ms) / nullif(sum(r.first_tokens), 0)), round(sum(r.total_ms) / nullif(sum(r.totals), 0)),
        sum(r.cancelled)::bigint, sum(r.unknown)::bigint, sum(r.lost)::bigint, sum(r.estimated)::bigint, sum(r.cache_saving),
        round(sum(r.output_tokens) * 1000 / nullif(sum(r.output_ms), 0), 1)
    from mrprompt_internal.usage_rows(dimension, bucket, since, until) r
    group by 1, 2 having sum(r.attempts) <> 0;
end
$$;
comment on function mrprompt_internal.usage_figures(text, text, timestamptz, timestamptz) is
    'The figures of usage views and reports by the values of a dimension and by bucket (hour, day, month, year; total: null).';

do $views$
declare
    view_ record;
begin
    for view_ in
        select * from (values
            ('usage_by_hour', 'all', 'hour', 'bucket_start as hour', 'hour'),
            ('usage_by_day', 'all', 'day', '(bucket_start at time zone ''UTC'')::date as day', 'day (UTC)'),
            ('usage_by_user', 'user', 'total', 'value::uuid as user_id', 'user'),
            ('usage_by_model', 'model', 'total', 'split_part(value, ''/'', 1)::varchar(50) as provider, substr(value, strpos(value, ''/'') + 1) as model', 'model'),
            ('usage_by_provider', 'provider', 'total', 'value::varchar(50) as provider', 'provider'),
            ('usage_by_key', 'key', 'total', 'nullif(value, '''')::uuid as key_id', 'key'),
            ('usage_by_agent', 'agent', 'total', 'nullif(value, '''') as agent_name', 'agent name'),
            ('usage_by_tag', 'tag', 'total', 'value as tag', 'tag, an attempt at each of its tags')) as v (name, dimension, bucket, columns, title)
    loop
        execute format($view$
            create or replace view mrprompt.%I with (security_invoker = true) as
            select %s, requests, attempts, failed_attempts, prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens, reasoning_tokens,
                cost, attempts_of_unknown_cost, avg_first_token_ms, avg_total_ms, cancelled_attempts, unknown_attempts, lost_attempts,
                estimated_attempts, cache_saving, tokens_per_second
            from mrprompt_internal.usage_figures(%L, %L, '-infinity', 'infinity')$view$, view_.name, view_.columns, view_.dimension, view_.bucket);
        execute format('comment on view mrprompt.%I is %L', view_.name,
            'Usage and cost (USD) by ' || view_.title || case view_.bucket when 'hour' then ', as far as the ledger is kept' else ', pruned ledger rows included' end
            || ': a user sees his own (of what the ledger keeps), an analyst everybody''s.');
        execute format('comment on column mrprompt.%I.requests is %L', view_.name, 'Attempts that are the first of their request.');
        execute format('comment on column mrprompt.%I.cost is %L', view_.name, 'USD; null: that of no attempt is known.');
        execute format('comment on column mrprompt.%I.cache_saving is %L', view_.name, 'USD that the cached tokens would have cost more as plain ones.');
        execute format('comment on column mrprompt.%I.tokens_per_second is %L', view_.name, 'Completion tokens per second from the first piece of an answer to its end.');
        execute format('grant select on mrprompt.%I to mrprompt_user, mrprompt_analyst, mrprompt_admin', view_.name);
    end loop;
end
$views$;
