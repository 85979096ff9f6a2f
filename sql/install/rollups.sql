-- Roll-ups of the ledger, by grains from the hour to the month, behind a watermark that tend moves.

create table mrprompt_internal.usage_rollups (
    dimension text collate "C" not null check (dimension in ('all', 'user', 'agent', 'key', 'provider', 'model', 'tag')),
    grain text collate "C" not null check (grain in ('hour', '6 hours', 'day', '5 days', 'month')),
    start timestamptz not null,
    value text collate "C" not null,
    attempts bigint not null,
    requests bigint not null,
    failed bigint not null,
    cancelled bigint not null,
    unknown bigint not null,
    lost bigint not null,
    prompt_tokens bigint not null,
    completion_tokens bigint not null,
    cached_tokens bigint not null,
    cache_write_tokens bigint not null,
    reasoning_tokens bigint not null,
    cost numeric not null,
    cost_unknown bigint not null,
    estimated bigint not null,
    cache_saving numeric not null,
    first_token_ms bigint not null,
    first_tokens bigint not null,
    total_ms bigint not null,
    totals bigint not null,
    output_ms bigint not null,
    output_tokens bigint not null,
    primary key (dimension, grain, start, value)
) partition by list (grain);
-- Apart, so that a month of days lies close together, and hours can be pruned.
create table mrprompt_internal.usage_rollups_hour partition of mrprompt_internal.usage_rollups for values in ('hour') with (fillfactor = 80);
create table mrprompt_internal.usage_rollups_6_hours partition of mrprompt_internal.usage_rollups for values in ('6 hours') with (fillfactor = 60);
create table mrprompt_internal.usage_rollups_day partition of mrprompt_internal.usage_rollups for values in ('day') with (fillfactor = 60);
create table mrprompt_internal.usage_rollups_5_days partition of mrprompt_internal.usage_rollups for values in ('5 days') with (fillfactor = 60);
create table mrprompt_internal.usage_rollups_month partition of mrprompt_internal.usage_rollups for values in ('month') with (fillfactor = 60);
comment on table mrprompt_internal.usage_rollups is
    'Sums of the ledger below the watermark. A range of one dimension and grain is one range of the primary key. Days and what is coarser stay when the ledger is pruned.';
comment on column mrprompt_internal.usage_rollups.start is 'Of the grain''s period, in UTC.';
comment on column mrprompt_internal.usage_rollups.value is
    'The id of the user or key, the name of the agent, provider or tag, provider/model; empty: of all, without a key, without an agent. '
    'An attempt counts at each of its tags.';
comment on column mrprompt_internal.usage_rollups.requests is 'Attempts that are the first of their request.';
comment on column mrprompt_internal.usage_rollups.cost is 'USD, where it is known; cost_unknown counts the attempts where it is not.';
comment on column mrprompt_internal.usage_rollups.cache_saving is 'USD that the cached tokens would have cost more as plain ones.';
comment on column mrprompt_internal.usage_rollups.first_token_ms is 'The sum over the attempts that first_tokens counts.';
comment on column mrprompt_internal.usage_rollups.total_ms is 'The sum over the attempts that totals counts.';
comment on column mrprompt_internal.usage_rollups.output_ms is 'Milliseconds from the first piece to the end, in which output_tokens came.';

create table mrprompt_internal.usage_watermark (
    only_row boolean primary key default true check (only_row),
    rolled_up_to timestamptz not null default '-infinity',
    closed_to timestamptz not null default '-infinity',
    next_close timestamptz,
    next_xid xid8,
    hours_from timestamptz not null default '-infinity',
    step interval not null default '1 hour'
);
-- Made by the first roll-up, not by the installation: a restore brings its own.
comment on table mrprompt_internal.usage_watermark is 'How far the ledger is rolled up; its row is the lock of those who change roll-ups.';
comment on column mrprompt_internal.usage_watermark.rolled_up_to is 'Ledger rows with an earlier finished_at are in the roll-ups, later ones are not.';
comment on column mrprompt_internal.usage_watermark.closed_to is 'No transaction will bring a ledger row of before this time any more.';
comment on column mrprompt_internal.usage_watermark.next_close is 'The time that is closed once every transaction up to next_xid has ended.';
comment on column mrprompt_internal.usage_watermark.hours_from is 'The hours of before this day (UTC) are pruned: days and what is coarser say what was then.';
comment on column mrprompt_internal.usage_watermark.step is 'How far the last step went: it grows and shrinks with what a step finds.';

alter table mrprompt_internal.usage_rollups enable row level security;
alter table mrprompt_internal.usage_rollups_hour enable row level security;
alter table mrprompt_internal.usage_rollups_6_hours enable row level security;
alter table mrprompt_internal.usage_rollups_day enable row level security;
alter table mrprompt_internal.usage_rollups_5_days enable row level security;
alter table mrprompt_internal.usage_rollups_month enable row level security;
alter table mrprompt_internal.usage_watermark enable row level security;
-- Users see none of it: a view computes theirs from their rows of the ledger.
create policy all_rows on mrprompt_internal.usage_rollups for select to mrprompt_analyst, mrprompt_admin using (true);
create policy all_rows on mrprompt_internal.usage_watermark for select to mrprompt_analyst, mrprompt_admin using (true);
grant select on mrprompt_internal.usage_rollups, mrprompt_internal.usage_watermark to mrprompt_user, mrprompt_analyst, mrprompt_admin;

create function mrprompt_internal.grains(coarsest text default 'month') returns text[]
    language sql immutable
    return (select l.list[:coalesce(array_position(l.list, coarsest), 5)] from (values (array['hour', '6 hours', 'day', '5 days', 'month'])) l (list));
comment on function mrprompt_internal.grains(text) is
    'The grains of roll-ups up to this one (no grain: all of them), finest first. Each is nested in the next, so that any range of time is made of few periods.';

create function mrprompt_internal.grain_start(grain text, moment timestamptz) returns timestamptz
    language sql stable
    return case grain
        when '5 days' then least(date_bin('120 hours', moment, date_trunc('month', moment, 'UTC')), date_trunc('month', moment, 'UTC') + interval '600 hours')
        when '6 hours' then date_bin('6 hours', moment, '2000-01-01 00:00Z')
        else date_trunc(grain, moment, 'UTC') end;
comment on function mrprompt_internal.grain_start(text, timestamptz) is
    'The start of the period of a grain that a moment lies in (UTC). 5 days: from the 1st, 6th, 11th, 16th, 21st, and from the 26th to the end of the month.';

create function mrprompt_internal.next_start(grain text, moment timestamptz) returns timestamptz
    language sql stable
    return case when mrprompt_internal.grain_start(grain, moment) = moment then moment
        -- The grain's longest period leads from any start into the next one.
        else mrprompt_internal.grain_start(grain, mrprompt_internal.grain_start(grain, moment)
            + case grain when 'month' then '744 hours' when '5 days' then '144 hours' when 'day' then '24 hours' when '6 hours' then '6 hours' else '1 hour' end::interval) end;
comment on function mrprompt_internal.next_start(text, timestamptz) is 'The moment, where a period of the grain starts, or the next such start after it.';

create function mrprompt_internal.usage_sums(dimensions text[], grains text[], since timestamptz, until timestamptz, ids uuid[])
    returns setof mrprompt_internal.usage_rollups
    language plpgsql stable rows 1000 set search_path = pg_catalog, pg_temp
    set plan_cache_mode = force_custom_plan set enable_seqscan = off set enable_hashjoin = on set jit = off set work_mem = '32MB'
as $$
begin
    return query
    select d.dimension, g.grain, mrprompt_internal.grain_start(g.grain, u.finished_at), left(d.value, 500),
        count(*), count(*) filter (where u.attempt = 1), count(*) filter (where u.outcome = 'failed'),
        count(*) filter (where u.outcome = 'cancelled'), count(*) filter (where u.outcome = 'unknown'), count(*) filter (where u.outcome = 'lost'),
        coalesce(sum(u.prompt_tokens), 0)::bigint, coalesce(sum(u.completion_tokens), 0)::bigint, coalesce(sum(u.cached_tokens), 0)::bigint,
        coalesce(sum(u.cache_write_tokens), 0)::bigint, coalesce(sum(u.reasoning_tokens), 0)::bigint,
        coalesce(sum(u.cost), 0), count(*) filter (where u.cost is null), count(*) filter (where u.estimated),
        coalesce(sum(u.cached_tokens * (p.input - coalesce(p.cached, p.input))), 0),
        coalesce(sum(u.first_token_ms), 0), count(u.first_token_ms), coalesce(sum(u.total_ms), 0), count(u.total_ms),
        coalesce(sum(u.total_ms - u.first_token_ms) filter (where u.first_token_ms < u.total_ms and u.completion_tokens > 0), 0),
        coalesce(sum(u.completion_tokens) filter (where u.first_token_ms < u.total_ms and u.completion_tokens > 0), 0)::bigint
    from mrprompt.usage u
    left join mrprompt.price_versions p on p.id = u.price_id and u.cached_tokens > 0
    cross join lateral (
        values ('all', ''), ('user', u.user_id::text), ('agent', coalesce(u.agent_name, '')), ('key', coalesce(u.key_id::text, '')),
            ('provider', u.provider::text), ('model', u.provider || '/' || u.model)
        union all
        select distinct 'tag', t from unnest(u.tags) t) d (dimension, value)
    cross join unnest(grains) g (grain)
    where u.finished_at >= since and u.finished_at < until and (ids is null or u.request_id = any (ids)) and d.dimension = any (dimensions)
    group by 1, 2, 3, 4;
end
$$;
comment on function mrprompt_internal.usage_sums(text[], text[], timestamptz, timestamptz, uuid[]) is
    'What the ledger rows that the caller sees come to, finished from since to before until (of these requests; null: of all), as roll-ups.';

create function mrprompt_internal.merge_rollups(rows mrprompt_internal.usage_rollups[], sign integer, as_grain text default null) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    insert into mrprompt_internal.usage_rollups as r
    select n.dimension, coalesce(as_grain, n.grain), mrprompt_internal.grain_start(coalesce(as_grain, n.grain), n.start), n.value, sign * n.attempts, sign * n.requests, sign * n.failed, sign * n.cancelled, sign * n.unknown,
        sign * n.lost, sign * n.prompt_tokens, sign * n.completion_tokens, sign * n.cached_tokens, sign * n.cache_write_tokens,
        sign * n.reasoning_tokens, sign * n.cost, sign * n.cost_unknown, sign * n.estimated, sign * n.cache_saving, sign * n.first_token_ms,
        sign * n.first_tokens, sign * n.total_ms, sign * n.totals, sign * n.output_ms, sign * n.output_tokens
    from unnest(rows) n
    on conflict (dimension, grain, start, value) do update
    set attempts = r.attempts + excluded.attempts, requests = r.requests + excluded.requests, failed = r.failed + excluded.failed,
        cancelled = r.cancelled + excluded.cancelled, unknown = r.unknown + excluded.unknown, lost = r.lost + excluded.lost,
        prompt_tokens = r.prompt_tokens + excluded.prompt_tokens, completion_tokens = r.completion_tokens + excluded.completion_tokens,
        cached_tokens = r.cached_tokens + excluded.cached_tokens, cache_write_tokens = r.cache_write_tokens + excluded.cache_write_tokens,
        reasoning_tokens = r.reasoning_tokens + excluded.reasoning_tokens, cost = r.cost + excluded.cost,
        cost_unknown = r.cost_unknown + excluded.cost_unknown, estimated = r.estimated + excluded.estimated,
        cache_saving = r.cache_saving + excluded.cache_saving, first_token_ms = r.first_token_ms + excluded.first_token_ms,
        first_tokens = r.first_tokens + excluded.first_tokens, total_ms = r.total_ms + excluded.total_ms, totals = r.totals + excluded.totals,
        output_ms = r.output_ms + excluded.output_ms, output_tokens = r.output_tokens + excluded.output_tokens;
    if sign < 0 then
        delete from mrprompt_internal.usage_rollups r using unnest(rows) n
        where r.dimension = n.dimension and r.grain = n.grain and r.start = n.start and r.value = n.value and r.attempts = 0;
    end if;
end
$$;
comment on function mrprompt_internal.merge_rollups(mrprompt_internal.usage_rollups[], integer, text) is
    'Adds sums to the roll-ups, or takes them off (sign -1); as those of a grain (each value once, then), or each as its own. The caller holds '
    'the watermark''s row.';

create function mrprompt_internal.dimensions() returns text[]
    language sql immutable return array['all', 'user', 'agent', 'key', 'provider', 'model', 'tag'];
comment on function mrprompt_internal.dimensions() is 'What the ledger is rolled up by.';

create function mrprompt_internal.recount(ids uuid[], sign integer) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    mark record;
begin
    select w.rolled_up_to, w.hours_from into mark from mrprompt_internal.usage_watermark w for update;
    if mark.rolled_up_to > '-infinity' and ids <> '{}' then
        perform mrprompt_internal.merge_rollups(array(
            select s from mrprompt_internal.usage_sums(mrprompt_internal.dimensions(), mrprompt_internal.grains(), '-infinity', mark.rolled_up_to, ids) s
            where s.grain <> all (mrprompt_internal.grains('6 hours')) or s.start >= mark.hours_from), sign);
    end if;
end
$$;
comment on function mrprompt_internal.recount(uuid[], integer) is
    'For who changes ledger rows of these requests: called with -1 before it and with 1 after it, in one transaction, it changes the roll-ups as well.';

create function mrprompt_internal.rename_rollups(dimension text, old_value text, new_value text, max_rows integer) returns integer
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    mark constant timestamptz := (select w.rolled_up_to from mrprompt_internal.usage_watermark w for update);
    rows mrprompt_internal.usage_rollups[];
begin
    -- Every period stands among those of all: so each is found by the primary key.
    rows := array(
        select r from mrprompt_internal.usage_rollups a
        join mrprompt_internal.usage_rollups r on r.dimension = rename_rollups.dimension and r.grain = a.grain and r.start = a.start and r.value = old_value
        where a.dimension = 'all' and mark is not null limit max_rows);
    if rows = '{}' then
        return 0;
    end if;
    perform mrprompt_internal.merge_rollups(rows, -1);
    perform mrprompt_internal.merge_rollups(array(
        select row(n.dimension, n.grain, n.start, new_value, n.attempts, n.requests, n.failed, n.cancelled, n.unknown, n.lost, n.prompt_tokens,
            n.completion_tokens, n.cached_tokens, n.cache_write_tokens, n.reasoning_tokens, n.cost, n.cost_unknown, n.estimated, n.cache_saving,
            n.first_token_ms, n.first_tokens, n.total_ms, n.totals, n.output_ms, n.output_tokens)::mrprompt_internal.usage_rollups
        from unnest(rows) n), 1);
    return cardinality(rows);
end
$$;
comment on function mrprompt_internal.rename_rollups(text, text, text, integer) is
    'Has up to max_rows roll-ups of one value counted as another''s; answers how many.';

create function mrprompt_internal.roll_up(max_rows integer) returns integer
    language plpgsql set search_path = pg_catalog, pg_temp
    set plan_cache_mode = force_custom_plan set enable_seqscan = off
as $$
declare
    mark mrprompt_internal.usage_watermark;
    due boolean;
    target timestamptz;
    found_ integer;
    sums mrprompt_internal.usage_rollups[];
    did integer := 0;
begin
    if not exists (select from mrprompt_internal.usage_watermark) then
        if exists (select from mrprompt.usage) then
            insert into mrprompt_internal.usage_watermark (next_close, next_xid) values (now(), pg_current_xact_id()) on conflict do nothing;
        end if;
        return 0;
    end if;
    -- Mostly there is nothing to do; then nothing is locked or written.
    select * into mark from mrprompt_internal.usage_watermark;
    -- An id from before a restore into another cluster may never come.
    if mark.next_xid >= pg_snapshot_xmax(pg_current_snapshot()) then
        mark.next_xid := null;
    end if;
    due := mark.next_xid is null and mark.rolled_up_to >= mark.closed_to
        and (now() >= mark.rolled_up_to + interval '1 minute'
             or coalesce(mrprompt_internal.retention_cutoff('mrprompt.usage_retention') > mark.rolled_up_to, false))
        and exists (select from mrprompt.usage u where u.finished_at >= mark.rolled_up_to and u.finished_at < now());
    if not (due or mark.rolled_up_to < mark.closed_to or coalesce(mark.next_xid < pg_snapshot_xmin(pg_current_snapshot()), false)) then
        return 0;
    end if;
    select * into mark from mrprompt_internal.usage_watermark w for update skip locked;
    if not found then
        return 0;
    end if;
    if due then
        -- Another session may have come first; to close a later time instead is as good.
        update mrprompt_internal.usage_watermark w set next_close = now(), next_xid = pg_current_xact_id();
        return 0;
    end if;
    -- A ledger row takes its time after its transaction has taken its id. next_xid was taken after next_close had passed: whoever wrote
    -- a time before it has a lower id. (A snapshot's xmax would not do: ids above it may be taken already.)
    if mark.next_xid < pg_snapshot_xmin(pg_current_snapshot()) then
        mark.closed_to := greatest(mark.next_close, mark.closed_to);
        mark.next_xid := null;
    end if;
    if mark.rolled_up_to >= mark.closed_to then
        return 0;
    end if;
    if mark.rolled_up_to = '-infinity' then
        mark.rolled_up_to := least((select min(u.finished_at) from mrprompt.usage u), mark.closed_to);
    end if;
    while mark.rolled_up_to < mark.closed_to and did < max_rows loop
        target := least(mark.rolled_up_to + mark.step, mark.closed_to);
        -- Of one hour, so that the same sums are added to every grain.
        select count(*), least(target, date_trunc('hour', case when count(*) > max_rows then mark.rolled_up_to else min(f.finished_at) end, 'UTC')
            + interval '1 hour')
        into found_, target
        from (select u.finished_at from mrprompt.usage u
              where u.finished_at >= mark.rolled_up_to and u.finished_at < target limit 2 * max_rows) f;
        if found_ > max_rows and mark.step > interval '1 second' then
            mark.step := greatest(mark.step / 2, interval '1 second');
            continue;
        end if;
        if found_ > 0 then
            sums := array(select s from mrprompt_internal.usage_sums(mrprompt_internal.dimensions(), '{hour}', mark.rolled_up_to, target, null) s);
            perform mrprompt_internal.merge_rollups(sums, 1, g) from unnest(mrprompt_internal.grains()) g;
        end if;
        if found_ < max_rows / 2 then
            mark.step := least(mark.step * 2, interval '30 days');
        end if;
        mark.rolled_up_to := target;
        -- A step over nothing, or little, is some work as well.
        did := did + greatest(found_, max_rows / 100, 1);
    end loop;
    update mrprompt_internal.usage_watermark w
    set rolled_up_to = mark.rolled_up_to, closed_to = mark.closed_to, next_close = mark.next_close, next_xid = mark.next_xid, step = mark.step;
    return did;
end
$$;
comment on function mrprompt_internal.roll_up(integer) is
    'Part of tend: moves the watermark over about max_rows rows of the ledger at most; answers how much work that was, in rows, 0: '
    'nothing is left to do, or not yet. It waits for every transaction (prepared ones too) that has an id and was there at the time to be closed.';

create function mrprompt_internal.prune_hours(cutoff timestamptz, max_rows integer) returns integer
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    -- By whole days, so that a range of time is made of whole days before it, and of hours behind.
    bound constant timestamptz := (select greatest(date_trunc('day', least(cutoff, w.rolled_up_to), 'UTC'), w.hours_from)
                                   from mrprompt_internal.usage_watermark w);
    did integer;
begin
    -- Mostly there is nothing to do; then nothing is locked or written.
    if not exists (
        select from unnest(mrprompt_internal.dimensions()) d (dimension), unnest(mrprompt_internal.grains('6 hours')) g (grain)
        where exists (select from mrprompt_internal.usage_rollups o where o.dimension = d.dimension and o.grain = g.grain and o.start < bound)) then
        return 0;
    end if;
    perform from mrprompt_internal.usage_watermark w for update skip locked;
    if not found then
        return 0;
    end if;
    delete from mrprompt_internal.usage_rollups r
    using unnest(mrprompt_internal.dimensions()) d (dimension), unnest(mrprompt_internal.grains('6 hours')) g (grain), lateral (
        select o.start, o.value from mrprompt_internal.usage_rollups o
        where o.dimension = d.dimension and o.grain = g.grain and o.start < bound order by o.start, o.value limit max_rows) old
    where r.dimension = d.dimension and r.grain = g.grain and r.start = old.start and r.value = old.value;
    get diagnostics did = row_count;
    if did > 0 then
        update mrprompt_internal.usage_watermark w set hours_from = bound where w.hours_from < bound;
    end if;
    return did;
end
$$;
comment on function mrprompt_internal.prune_hours(timestamptz, integer) is
    'Removes roll-ups finer than days of the days before cutoff, of each dimension and grain up to max_rows; answers how many.';

create function mrprompt_internal.rollup_lag(out rolled_up_to timestamptz, out next_close timestamptz) returns setof record
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    select w.rolled_up_to, case when w.next_xid is not null then w.next_close end
    from mrprompt_internal.usage_watermark w
    where w.rolled_up_to < clock_timestamp() - interval '1 hour' and exists (
        select from mrprompt.usage u where u.finished_at >= w.rolled_up_to and u.finished_at < clock_timestamp() - interval '1 hour');
end;
comment on function mrprompt_internal.rollup_lag() is 'A row where the roll-ups are more than an hour behind; next_close: what they wait to be closed.';
grant execute on function mrprompt_internal.rollup_lag to mrprompt_admin;
