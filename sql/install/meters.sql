-- What budgets and limits have counted. Only the contract writes these rows, so that no app's transaction is in its way: a claim holds
-- an upper bound of what a request can cost on all of its budgets, settling charges what it cost and gives the rest back. What an attempt
-- holds stands in its row of the queue, and so belongs to its fetcher and ends with it.
-- Lock order: queue, requests, limit_buckets, budget_counters; rows of one table by key.

create sequence mrprompt_internal.meter_ids as bigint;
comment on sequence mrprompt_internal.meter_ids is 'Ids of counters and buckets: one row of the queue can name either as what it waits for.';

create table mrprompt_internal.budget_counters (
    id bigint primary key default nextval('mrprompt_internal.meter_ids'),
    budget_id uuid not null,
    subject text not null,
    period_start timestamptz not null,
    period_end timestamptz not null,
    spent numeric not null default 0,
    held numeric not null default 0,
    unique (budget_id, subject, period_start)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
create index budget_counters_by_end on mrprompt_internal.budget_counters (period_end);
comment on table mrprompt_internal.budget_counters is 'USD spent and held: a row per budget, subject and period that anything was asked in.';
comment on column mrprompt_internal.budget_counters.spent is 'The sum of cost over the rows of mrprompt.usage that name this counter.';
comment on column mrprompt_internal.budget_counters.held is 'The sum of hold over the rows of the queue that name this counter.';

create table mrprompt_internal.limit_buckets (
    id bigint primary key default nextval('mrprompt_internal.meter_ids'),
    limit_id uuid not null,
    subject text not null,
    requests numeric,
    tokens numeric,
    filled_at timestamptz not null default '-infinity',
    in_flight integer not null default 0,
    unique (limit_id, subject)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
comment on table mrprompt_internal.limit_buckets is 'Token buckets: a row per rate limit and subject.';
comment on column mrprompt_internal.limit_buckets.requests is 'How many could begin at filled_at; below 0 where more was used than reserved. Null: full.';
comment on column mrprompt_internal.limit_buckets.in_flight is 'How many rows of the queue name this bucket.';

alter table mrprompt_internal.budget_counters enable row level security;
alter table mrprompt_internal.limit_buckets enable row level security;

create function mrprompt_internal.meters_of(ids uuid[], moment timestamptz)
    returns table (request_id uuid, kind text, rule_id uuid, subject text, period_start timestamptz, period_end timestamptz, meter_id bigint)
    language plpgsql stable rows 1000 set search_path = pg_catalog, pg_temp
    set enable_hashjoin = on set enable_seqscan = off set jit = off set plan_cache_mode = force_generic_plan
as $$
begin
    return query
    with picked as materialized (
        select q.request_id, q.user_id, q.key_id, q.provider, q.model, r.agent_name, r.tags,
            dense_rank() over (order by q.user_id, q.key_id, q.provider, q.model, r.agent_name, r.tags) as combination
        from mrprompt_internal.queue q join mrprompt.requests r on r.id = q.request_id
        where q.request_id = any (ids) and r.kind = 'chat'
    ), combinations as materialized (
        select distinct on (p.combination) p.* from picked p order by p.combination
    ), subjects as materialized (
        select c.combination, s.scope, s.subject, s.each_one, s.longer_name
        from combinations c
        cross join lateral (
            values ('everybody', '', false, null), ('user', c.user_id::text, true, null), ('key', c.key_id::text, true, null),
                ('agent', c.agent_name, true, null), ('provider', c.provider::text, true, null),
                ('model', c.model, true, c.provider || '/' || c.model), ('model', c.provider || '/' || c.model, false, null)
            union all select 'group', g.group_name, true, null from mrprompt.group_members g where g.user_id = c.user_id
            union all select distinct 'tag', t, true, null from unnest(c.tags) t) s (scope, subject, each_one, longer_name)
        where s.subject is not null
    ), rules as materialized (
        select s.combination, 'budget' as kind, b.id, s.subject,
            mrprompt_internal.period_start(b.period, b.time_zone, b.starts_on, moment) as starting, b.period, b.time_zone
        from subjects s join mrprompt.budgets b on b.scope = s.scope and b.subject in (s.subject, case when s.each_one then '*' end)
        where b.enabled and (b.subject <> '*' or not exists (
            select from mrprompt.budgets own
            where own.scope = b.scope and own.subject in (s.subject, s.longer_name) and own.subject <> '*' and own.period = b.period and not own.self_set))
        union all
        select s.combination, 'limit', l.id, s.subject, null, null, null
        from subjects s join mrprompt.rate_limits l on l.scope = s.scope and l.subject in (s.subject, case when s.each_one then '*' end)
        where l.enabled and (l.subject <> '*' or not exists (
            select from mrprompt.rate_limits own where own.scope = l.scope and own.subject in (s.subject, s.longer_name) and own.subject <> '*'))
    ), counted as materialized (
        select u.combination, u.kind, u.id, u.subject, u.starting,
            case u.kind when 'budget' then mrprompt_internal.period_end(u.period, u.time_zone, u.starting) end as ending,
            case u.kind
                when 'budget' then (select c.id from mrprompt_internal.budget_counters c
                                    where c.budget_id = u.id and c.subject = u.subject and c.period_start = u.starting)
                else (select k.id from mrprompt_internal.limit_buckets k where k.limit_id = u.id and k.subject = u.subject) end as meter
        from rules u
    )
    select p.request_id, u.kind, u.id, u.subject, u.starting, u.ending, u.meter
    from picked p join counted u on u.combination = p.combination;
end
$$;
comment on function mrprompt_internal.meters_of(uuid[], timestamptz) is
    'The budgets and limits that apply to rows of the queue, with their counter or bucket (null: there is none yet).';

create function mrprompt_internal.open_meters(ids uuid[], moment timestamptz) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    with missing as materialized (
        select distinct m.kind, m.rule_id, m.subject, m.period_start, m.period_end from mrprompt_internal.meters_of(ids, moment) m where m.meter_id is null
    ), opened as (
        insert into mrprompt_internal.limit_buckets (limit_id, subject)
        select m.rule_id, m.subject from missing m where m.kind = 'limit' order by 1, 2
        on conflict do nothing
    )
    insert into mrprompt_internal.budget_counters (budget_id, subject, period_start, period_end)
    select m.rule_id, m.subject, m.period_start, m.period_end from missing m where m.kind = 'budget' order by 1, 2, 3
    on conflict do nothing;
end
$$;
comment on function mrprompt_internal.open_meters(uuid[], timestamptz) is 'Makes the counters and buckets that rows of the queue need and that are not there yet.';

create function mrprompt_internal.needs(ids uuid[], moment timestamptz)
    returns table (request_id uuid, tag bigint, hold numeric, reserved bigint, output_limit bigint, counters bigint[], buckets bigint[], missing boolean,
        model text, woken_by bigint)
    language plpgsql stable rows 1000 set search_path = pg_catalog, pg_temp
    set enable_hashjoin = on set enable_seqscan = off set jit = off set plan_cache_mode = force_generic_plan
as $$
begin
    return query
    with metered as materialized (
        select m.request_id, array_agg(m.meter_id order by m.meter_id) filter (where m.kind = 'budget') as counters,
            array_agg(m.meter_id order by m.meter_id) filter (where m.kind = 'limit') as buckets, bool_or(m.meter_id is null) as missing
        from mrprompt_internal.meters_of(ids, moment) m group by m.request_id
    ), picked as materialized (
        select q.request_id, q.tag, q.provider, q.model, q.prompt_bound, q.output_bound, q.choices, q.images, q.special, q.blocked_by,
            m.counters, m.buckets, coalesce(m.missing, false) as missing
        from mrprompt_internal.queue q left join metered m on m.request_id = q.request_id
        where q.request_id = any (ids)
    ), known as materialized (
        select d.provider, d.model, (k.about).max_output_tokens, coalesce((k.about).image_tokens, 5000) as image_tokens,
            coalesce((k.about).context_tokens, 1000000) as context_tokens, l.prices,
            cardinality(l.prices) = 1 and f.service_tier = 'standard' and f.above_tokens = 0 as plain, coalesce(f.per_request, 0) as fixed, greatest(f.input, f.cached, f.cache_write) as input,
            greatest(f.output, f.reasoning) as output
        from (select distinct p.provider, p.model from picked p where p.counters is not null or p.buckets is not null) d
        cross join lateral (select mrprompt_internal.model_of(d.provider, d.model) as about offset 0) k
        cross join lateral (select array(select p from mrprompt_internal.prices_of(d.provider, d.model, null, moment) p) as prices offset 0) l
        left join lateral unnest(l.prices[:1]) f on true
    )
    select p.request_id, p.tag,
        case when p.counters is null then null
            -- The plain case of bound_cost(), without a call of it.
            when k.plain and p.images is null and p.special is null then k.fixed + b.prompt * k.input + b.output * p.choices * k.output
            else mrprompt_internal.bound_cost(k.prices, b.prompt, b.output * p.choices, p.images, p.special) end,
        b.prompt + b.output * p.choices, case when k.provider is not null then b.output end, p.counters, p.buckets, p.missing,
        concat(p.model, ' of ', p.provider), p.blocked_by
    from picked p
    left join known k on k.provider = p.provider and k.model = p.model
    cross join lateral (
        select greatest(p.prompt_bound + coalesce(p.images * k.image_tokens, 0), case when 'elsewhere' = any (p.special) then k.context_tokens end) as prompt,
            coalesce(p.output_bound, k.max_output_tokens, mrprompt_internal.setting('mrprompt.default_output_limit')::bigint) as output) b;
end
$$;
comment on function mrprompt_internal.needs(uuid[], timestamptz) is
    'What rows of the queue need before they may be sent: the hold on their budgets (null: no price), the tokens to reserve, the output '
    'limit that both are for, their counters and buckets (missing: some are not there yet), their model in words, and the meter whose release '
    'had them looked at again.';

create function mrprompt_internal.name_of_rule(scope text, subject text, period text) returns text
    language sql immutable
    -- Of immutable parts only, so that it is inlined.
    return 'the ' || case when period is null then 'rate limit' when period = 'none' then 'total budget' else period || ' budget' end
        || ' of ' || case scope when 'everybody' then scope else scope || ' ' || subject end;
comment on function mrprompt_internal.name_of_rule(text, text, text) is 'A budget or limit in words.';

create function mrprompt_internal.open_counters(wanted bigint[])
    returns table (id bigint, amount numeric, spent numeric, held numeric, waits boolean, period_end timestamptz, name text, shown boolean)
    language plpgsql volatile rows 10 set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select c.id,
        -- A budget that was deleted since has no end.
        coalesce(b.amount + (select coalesce(sum(e.amount), 0) from mrprompt.budget_extras e
                             where e.budget_id = c.budget_id and e.subject = c.subject and e.period_start = c.period_start), 'infinity'),
        c.spent, c.held, b.at_limit = 'wait', c.period_end, mrprompt_internal.name_of_rule(b.scope, c.subject, b.period), b.scope = 'user'
    from mrprompt_internal.budget_counters c left join mrprompt.budgets b on b.id = c.budget_id and b.enabled
    where c.id = any (wanted) order by c.id for update of c;
end
$$;
comment on function mrprompt_internal.open_counters(bigint[]) is 'Locks counters, and says how they stand; amount includes what was granted extra.';

create function mrprompt_internal.bucket_level(level numeric, per_minute numeric, burst_seconds numeric, filled_at timestamptz, moment timestamptz) returns numeric
    language sql immutable
    -- Where the clock was put back, nothing is filled until it has come up again.
    return case when per_minute is not null then least(greatest(per_minute * burst_seconds / 60, 1),
        level + per_minute / 60 * case when filled_at > '-infinity' then greatest(extract(epoch from moment - filled_at), 0) else 0 end) end;
comment on function mrprompt_internal.bucket_level(numeric, numeric, numeric, timestamptz, timestamptz) is
    'How much a bucket has at a moment that had level (null: was full) at filled_at; null: there is no such limit.';

create function mrprompt_internal.open_buckets(wanted bigint[], moment timestamptz)
    returns table (id bigint, requests numeric, tokens numeric, free integer, per_minute numeric, tokens_per_minute numeric, most_tokens numeric, name text)
    language plpgsql volatile rows 10 set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select k.id,
        mrprompt_internal.bucket_level(k.requests, l.requests_per_minute, l.burst_seconds, k.filled_at, moment),
        mrprompt_internal.bucket_level(k.tokens, l.tokens_per_minute, l.burst_seconds, k.filled_at, moment),
        l.in_flight - k.in_flight, l.requests_per_minute, l.tokens_per_minute, greatest(l.tokens_per_minute * l.burst_seconds / 60, 1),
        mrprompt_internal.name_of_rule(l.scope, k.subject, null)
    from mrprompt_internal.limit_buckets k
    left join mrprompt.rate_limits l on l.id = k.limit_id and l.enabled
    where k.id = any (wanted) order by k.id for update of k;
end
$$;
comment on function mrprompt_internal.open_buckets(bigint[], timestamptz) is 'Locks buckets, and says how full they are at a moment; nulls: no such limit.';

create function mrprompt_internal.admit(
    inout ids uuid[], moment timestamptz, out holds numeric[], out counters text[], out buckets text[], out reserved bigint[], out limits bigint[])
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    unpriced_may_run constant boolean := mrprompt_internal.setting('mrprompt.unpriced_requests') = 'allow';
    n_ids uuid[]; n_holds numeric[]; n_tokens bigint[]; n_limits bigint[]; n_counters text[]; n_buckets text[]; n_models text[]; n_woken_by bigint[];
    missing boolean;
    c record;  -- the counters, as arrays in the order of their ids
    b record;  -- the buckets, likewise
    c_left numeric[]; c_taken numeric[];
    b_requests numeric[]; b_tokens numeric[]; b_free int[]; b_taken int[]; b_ahead int[];
    s_ids uuid[] := '{}'; s_for text[] := '{}'; s_until timestamptz[] := '{}'; s_reasons text[] := '{}'; s_blockers bigint[] := '{}';
    passed_on bigint[] := '{}';  -- meters whose release was for nothing: somebody else may use it
    place int; c_places int[]; b_places int[]; c_now text; b_now text;  -- of the request at hand, and what they were made from
    verdict text; waits_for text; until timestamptz; blocker bigint; refused text;
begin
    for round in 1..2 loop
        select array_agg(n.request_id), array_agg(n.hold), array_agg(n.reserved), array_agg(n.output_limit),
            array_agg(n.counters::text), array_agg(n.buckets::text), array_agg(n.model), array_agg(n.woken_by), bool_or(n.missing)
        into n_ids, n_holds, n_tokens, n_limits, n_counters, n_buckets, n_models, n_woken_by, missing
        from (select * from mrprompt_internal.needs(ids, moment) order by tag, request_id) n;
        exit when not missing;
        perform mrprompt_internal.open_meters(ids, moment);
    end loop;
    if num_nulls(variadic n_counters || n_buckets) = 2 * cardinality(n_ids) then
        return;
    end if;
    select array_agg(k.id) as ids, array_agg(k.per_minute) as per_minute, array_agg(k.tokens_per_minute) as tokens_per_minute,
        array_agg(k.most_tokens) as most_tokens, array_agg(k.name) as names, array_agg(k.requests) as requests, array_agg(k.tokens) as tokens,
        array_agg(k.free) as free, array_agg(0) as zeros
    into b
    from mrprompt_internal.open_buckets(array(select distinct u from unnest(n_buckets) t, unnest(t::bigint[]) u), moment) k;
    select array_agg(k.id) as ids, array_agg(k.amount) as amounts, array_agg(k.amount - k.spent) as unspent, array_agg(k.amount - k.spent - k.held) as free,
        array_agg(k.waits) as waits, array_agg(k.period_end) as ends, array_agg(k.name) as names, array_agg(k.shown) as shown, array_agg(0::numeric) as zeros
    into c
    from mrprompt_internal.open_counters(array(select distinct u from unnest(n_counters) t, unnest(t::bigint[]) u)) k;
    b_requests := b.requests; b_tokens := b.tokens; b_free := b.free; b_taken := b.zeros; b_ahead := b.zeros;
    c_left := c.free; c_taken := c.zeros;

    ids := '{}'; holds := '{}'; counters := '{}'; buckets := '{}'; reserved := '{}'; limits := '{}';
    for n in 1..cardinality(n_ids) loop
        verdict := null; refused := null; blocker := null; until := null;
        if n_buckets[n] is distinct from b_now then
            b_now := n_buckets[n];
            b_places := array(select array_position(b.ids, u) from unnest(b_now::bigint[]) u);
        end if;
        if n_counters[n] is distinct from c_now then
            c_now := n_counters[n];
            c_places := array(select array_position(c.ids, u) from unnest(c_now::bigint[]) u);
        end if;
        -- One was pruned since it was looked up: the next look at the queue opens another.
        continue when array_position(b_places || c_places, null) is not null;
        if b_now is not null then
            foreach place in array b_places loop
                waits_for := 'limit'; blocker := b.ids[place];
                if b_free[place] < 1 then
                    verdict := b.names[place] || ' has no room in flight';
                elsif b_requests[place] < 1 then
                    verdict := b.names[place] || ': requests per minute'; blocker := null;
                    until := moment + least((1 - b_requests[place] + b_ahead[place]) * 60 / b.per_minute[place], 3600)::double precision * interval '1 second';
                    b_ahead[place] := b_ahead[place] + 1;
                elsif b_tokens[place] < least(n_tokens[n], b.most_tokens[place]) then
                    verdict := b.names[place] || ': tokens per minute';
                    until := moment + least((least(n_tokens[n], b.most_tokens[place]) - b_tokens[place]) * 60 / b.tokens_per_minute[place], 3600)::double precision
                        * interval '1 second';
                end if;
                exit when verdict is not null;
            end loop;
        end if;
        if verdict is null and c_now is not null then
            if n_holds[n] is null and unpriced_may_run then
                n_holds[n] := 0;
            end if;
            foreach place in array c_places loop
                waits_for := 'budget'; blocker := c.ids[place];
                if n_holds[n] is null then
                    verdict := format('model %s has no price, and %s needs one', n_models[n], c.names[place]); refused := 'price_unknown';
                elsif n_holds[n] > c.unspent[place] and (not c.waits[place] or n_holds[n] > c.amounts[place]) then
                    refused := 'budget_exceeded';
                    verdict := c.names[place] || ' has no room for this request' || case when c.shown[place]
                        then format(': %s USD may be needed, %s of %s are left', n_holds[n], c.unspent[place], c.amounts[place]) else '' end;
                elsif n_holds[n] > c.unspent[place] then
                    verdict := c.names[place] || ' has no room for it before the next period'; until := c.ends[place];
                elsif n_holds[n] > c_left[place] then
                    verdict := c.names[place] || ' is held by requests in flight';
                end if;
                exit when verdict is not null;
            end loop;
        end if;
        if n_woken_by[n] is not null and verdict is not null and (refused is not null or n_woken_by[n] is distinct from blocker) then
            passed_on := passed_on || n_woken_by[n];
        end if;
        if refused is not null then
            perform mrprompt_internal.refuse_waiting(n_ids[n], 402, refused, verdict);
        elsif verdict is not null then
            s_ids := s_ids || n_ids[n]; s_for := s_for || waits_for; s_until := s_until || until; s_reasons := s_reasons || verdict;
            s_blockers := s_blockers || blocker;
        else
            ids := ids || n_ids[n]; holds := holds || n_holds[n]; counters := counters || c_now; buckets := buckets || b_now;
            reserved := reserved || case when b_now is not null then n_tokens[n] end; limits := limits || n_limits[n];
            foreach place in array coalesce(b_places, '{}') loop
                b_free[place] := b_free[place] - 1; b_requests[place] := b_requests[place] - 1; b_tokens[place] := b_tokens[place] - least(n_tokens[n], b.most_tokens[place]);
                b_taken[place] := b_taken[place] + 1;
            end loop;
            foreach place in array coalesce(c_places, '{}') loop
                c_left[place] := c_left[place] - n_holds[n]; c_taken[place] := c_taken[place] + n_holds[n];
            end loop;
        end if;
    end loop;

    update mrprompt_internal.limit_buckets k
    set requests = t.requests, tokens = t.tokens, filled_at = moment, in_flight = k.in_flight + t.more
    from unnest(b.ids, b_requests, b_tokens, b_taken) t (id, requests, tokens, more) where k.id = t.id and t.more > 0;
    update mrprompt_internal.budget_counters k set held = k.held + t.more
    from unnest(c.ids, c_taken) t (id, more) where k.id = t.id and t.more > 0;
    perform mrprompt_internal.wake_blocked(passed_on, cardinality(passed_on));
    if cardinality(s_ids) > 0 then
        perform mrprompt_internal.set_waiting(s_ids, s_for, s_until, s_reasons, s_blockers, moment);
    end if;
end
$$;
comment on function mrprompt_internal.admit(uuid[], timestamptz) is
    'Of rows of the queue that the caller has locked, in the order of their tags: those that all of their budgets and limits have room for, '
    'which are held and taken; the arrays go together (null: nothing is metered). The others wait from now on, or have failed.';

create function mrprompt_internal.release_meters(
    holds numeric[], counters text[], buckets text[], reserved bigint[], costs numeric[], used bigint[]) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    c_ids constant bigint[] := array(select distinct u from unnest(counters) t, unnest(t::bigint[]) u order by u);
    b_ids constant bigint[] := array(select distinct u from unnest(buckets) t, unnest(t::bigint[]) u order by u);
begin
    if b_ids <> '{}' then
        perform from mrprompt_internal.limit_buckets k where k.id = any (b_ids) order by k.id for update;
        update mrprompt_internal.limit_buckets k set in_flight = k.in_flight - s.n, tokens = k.tokens + s.back
        from (select u as id, count(*) as n, sum(case when l.tokens_per_minute is null then t.reserved
                  else least(t.reserved, greatest(l.tokens_per_minute * l.burst_seconds / 60, 1)) end - coalesce(t.used, 0)) as back
              from unnest(buckets, reserved, used) t (buckets, reserved, used), unnest(t.buckets::bigint[]) u
              left join mrprompt_internal.limit_buckets o on o.id = u left join mrprompt.rate_limits l on l.id = o.limit_id
              group by u) s
        where k.id = s.id;
    end if;
    if c_ids <> '{}' then
        perform from mrprompt_internal.budget_counters k where k.id = any (c_ids) order by k.id for update;
        update mrprompt_internal.budget_counters k set held = k.held - s.hold, spent = k.spent + s.cost
        from (select u as id, sum(coalesce(t.hold, 0)) as hold, sum(coalesce(t.cost, 0)) as cost
              from unnest(counters, holds, costs) t (counters, hold, cost), unnest(t.counters::bigint[]) u group by u) s
        where k.id = s.id;
        perform mrprompt_internal.raise_alerts(c_ids);
    end if;
    perform mrprompt_internal.wake_blocked(b_ids || c_ids, cardinality(release_meters.counters) + 2);
end
$$;
comment on function mrprompt_internal.release_meters(numeric[], text[], text[], bigint[], numeric[], bigint[]) is
    'Ends the holds of attempts: what they cost is spent, tokens that they did not use come back, and what waits for it is looked at '
    'again. The arrays go together; a null cost charges nothing.';

create function mrprompt_internal.refuse_certain(id uuid, on_limit text) returns void
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off set plan_cache_mode = force_generic_plan
as $$
declare
    moment constant timestamptz := clock_timestamp();
    need record;
    meter record;
begin
    select n.* into need from mrprompt_internal.needs(array[id], moment) n;
    if need.counters is null and need.buckets is null then
        return;
    end if;
    for meter in
        select case when b.self_set then 'your own cap, ' else '' end || mrprompt_internal.name_of_rule(b.scope, c.subject, b.period) as name,
            b.self_set, b.scope = 'user' as shown, b.at_limit, c.period_end, l.amount, l.amount - c.spent as unspent
        from (
            select k.budget_id, k.subject, k.period_start, k.period_end, k.spent
            from mrprompt_internal.budget_counters k where k.id = any (need.counters)
            union all
            select m.rule_id, m.subject, m.period_start, m.period_end, 0
            from mrprompt_internal.meters_of(array[id], moment) m where need.missing and m.kind = 'budget' and m.meter_id is null) c
        join mrprompt.budgets b on b.id = c.budget_id
        cross join lateral (
            select b.amount + coalesce(sum(e.amount), 0) as amount from mrprompt.budget_extras e
            where e.budget_id = b.id and e.subject = c.subject and e.period_start = c.period_start) l
    loop
        if need.hold is null and mrprompt_internal.setting('mrprompt.unpriced_requests') <> 'allow' then
            raise exception using errcode = 'PT402', message = format('model %s has no price, and %s needs one', need.model, meter.name),
                hint = 'An admin inserts one into mrprompt.prices, or maps the model in mrprompt.models.priced_as; with mrprompt.unpriced_requests = allow it runs without.';
        elsif need.hold > meter.unspent and (meter.at_limit = 'refuse' or need.hold > meter.amount) then
            raise exception using errcode = 'PT402',
                message = format(case when need.hold > meter.amount then '%s is smaller than what this request may cost' else '%s has no room for this request' end, meter.name),
                detail = case when meter.shown then format('this request may cost %s USD; %s of %s are left%s', need.hold, meter.unspent, meter.amount,
                    case when meter.period_end < 'infinity' then ' until ' || meter.period_end else '' end)
                    else format('this request may cost %s USD', need.hold) end,
                hint = 'Ask for less (max_tokens, a shorter prompt, a cheaper model), '
                    || case when need.hold <= meter.amount and meter.period_end < 'infinity' then 'wait for the next period, ' else '' end
                    || case when meter.self_set then 'or raise it: mrprompt.set_user_budget().' else 'or have an admin raise it.' end;
        end if;
    end loop;
    if on_limit = 'refuse' then
        for meter in
            select mrprompt_internal.name_of_rule(l.scope, k.subject, null) as name, w.full_, w.seconds
            from mrprompt_internal.limit_buckets k join mrprompt.rate_limits l on l.id = k.limit_id
            cross join lateral (
                select k.in_flight >= l.in_flight as full_, greatest(
                    (1 - mrprompt_internal.bucket_level(k.requests, l.requests_per_minute, l.burst_seconds, k.filled_at, moment)) * 60 / l.requests_per_minute,
                    (least(need.reserved, greatest(l.tokens_per_minute * l.burst_seconds / 60, 1))
                     - mrprompt_internal.bucket_level(k.tokens, l.tokens_per_minute, l.burst_seconds, k.filled_at, moment)) * 60 / l.tokens_per_minute) as seconds) w
            where k.id = any (need.buckets) and (w.full_ or w.seconds > 0) order by w.full_ desc nulls last, w.seconds desc
        loop
            raise exception using errcode = 'PT429', message = format('%s is reached', meter.name),
                detail = case when meter.full_ then 'there is room when a request in flight has ended' else format('there is room in %s s', ceil(meter.seconds)) end,
                hint = 'Ask again then, or leave on_limit out: the request waits in the queue.';
        end loop;
    end if;
end
$$;
comment on function mrprompt_internal.refuse_certain(uuid, text) is
    'PT402 for a request just queued that no budget''s state can let through any more; PT429 where a limit has no room and the caller does not want to wait.';
