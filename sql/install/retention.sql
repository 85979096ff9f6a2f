-- Retention: what is kept how long, and bounded pruning of the rest.

create table mrprompt_internal.prunings (
    kind text not null,
    rows bigint not null default 0,
    last_at timestamptz,
    reached uuid,
    id uuid primary key default mrprompt_internal.uuidv7(),
    cutoff timestamptz
);
-- kind is no key: a restore must not collide with what was pruned here in the meantime; the view sums.
comment on table mrprompt_internal.prunings is 'What has been pruned so far; its rows are the locks of those who prune.';
comment on column mrprompt_internal.prunings.reached is
    'Up to here this round has looked; the next call goes on behind it. So old rows that must stay, such as queued ones, are stepped over.';

comment on column mrprompt_internal.prunings.cutoff is 'Rows of before this time may be gone.';

alter table mrprompt_internal.prunings enable row level security;

-- Removing, in pieces that stay small.

create function mrprompt_internal.retention_cutoff(setting text) returns timestamptz
    language sql volatile set search_path = pg_catalog, pg_temp
begin atomic
    -- Not before 1970: a UUIDv7 has no bound there.
    select case when s.seconds >= 0 then greatest(clock_timestamp() - s.seconds * interval '1 second', to_timestamp(0)) end
    from (select case when retention_cutoff.setting is null then 0 else mrprompt_internal.setting(retention_cutoff.setting)::int end as seconds) s;
end;
comment on function mrprompt_internal.retention_cutoff(text) is 'What is older than this goes; null: the setting is -1, all is kept. Without a setting it is now.';

create function mrprompt_internal.few_enough(ids uuid[], max_rows integer) returns uuid[]
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    select array_agg(s.id order by s.id)
    from (select c.id, sum(c.pieces) over (order by c.id) - c.pieces as before
          from (select i as id, (select count(*) from (select from mrprompt.deltas d where d.request_id = i limit max_rows) p) as pieces
                from unnest(ids) i) c) s
    where s.before < max_rows;
end;
comment on function mrprompt_internal.few_enough(uuid[], integer) is
    'The first of these requests, as many as have max_rows deltas together; at least one: a stream goes whole, so that no reader meets half of one.';

create function mrprompt_internal.with_free_answer(ids uuid[]) returns uuid[]
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    locked constant uuid[] := array(
        select a.request_id from mrprompt.responses a where a.request_id = any (ids) order by a.request_id for update skip locked);
begin
    return (select array_agg(i order by i) from unnest(ids) i
            where i = any (locked) or not exists (select from mrprompt.responses a where a.request_id = i));
end
$$;
comment on function mrprompt_internal.with_free_answer(uuid[]) is
    'Those of these requests whose answer no app''s transaction holds, or which have none; locks the answers.';

create function mrprompt_internal.remove_requests(ids uuid[], new_owner uuid) returns integer
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    half constant int := cardinality(ids) / 2;
    touched int := 0;
    part int;
begin
    if ids is null then
        return 0;
    end if;
    delete from mrprompt.deltas d where d.request_id = any (ids);
    get diagnostics touched = row_count;
    delete from mrprompt.responses a where a.request_id = any (ids);
    get diagnostics part = row_count;
    touched := touched + part;
    delete from mrprompt_internal.attempt_errors e where e.request_id = any (ids);
    get diagnostics part = row_count;
    touched := touched + part;
    begin
        -- A deferred foreign key shall speak here, where it can be answered.
        set constraints all immediate;
        delete from mrprompt.requests r where r.id = any (ids);
        return touched + cardinality(ids);
    exception
        -- An app's transaction holds a row that goes with them: they come up again.
        when lock_not_available then return touched;
        -- A constraint or a trigger of the app's forbids it for some.
        when others then null;
    end;
    if half > 0 then
        return touched + mrprompt_internal.remove_requests(ids[:half], new_owner) + mrprompt_internal.remove_requests(ids[half + 1:], new_owner);
    end if;
    update mrprompt.requests r
    set user_id = coalesce(new_owner, r.user_id), payload = '{}', run_id = null, messages_from = null, metadata = '{}', options = null, error_message = null,
        idempotency_key = null, batch_id = null, tags = null, agent_name = case when new_owner is null then r.agent_name end,
        key_id = case when new_owner is null then r.key_id else (select k.id from mrprompt.api_keys k where k.id = r.key_id and k.user_id is null) end
    where r.id = any (ids);
    return touched + 1;
end
$$;
comment on function mrprompt_internal.remove_requests(uuid[], uuid) is
    'Removes requests, locked by the caller, with all that belongs to them. One that a row of the app refers to stays, emptied, as new_owner''s.';

create function mrprompt_internal.slot_state(slot integer, out oldest uuid, out newest uuid)
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    -- The ends of its primary key.
    execute format('select (select request_id from mrprompt.usage_%1$s order by request_id limit 1),
        (select request_id from mrprompt.usage_%1$s order by request_id desc limit 1)', lpad(slot::text, 2, '0')) into oldest, newest;
end
$$;
comment on function mrprompt_internal.slot_state(integer) is 'The first and the last request of a partition of the ledger; null: it is empty.';

create function mrprompt_internal.queued_slots(bound uuid) returns integer[]
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    select coalesce(array_agg(distinct mrprompt_internal.slot_of(q.request_id)::int), '{}') from mrprompt_internal.queue q where q.request_id < bound;
end;
comment on function mrprompt_internal.queued_slots(uuid) is 'Partitions of the ledger that requests in the queue, older than bound, belong to.';

create function mrprompt_internal.slots_by_row(bound uuid) returns integer[]
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    select coalesce(array_agg(n), '{}') from generate_series(0, 15) n, mrprompt_internal.slot_state(n) s
    where s.oldest < bound
      and (n = any (mrprompt_internal.queued_slots(bound))
           or date_trunc('month', mrprompt_internal.uuid_time(s.oldest), 'UTC') <> date_trunc('month', mrprompt_internal.uuid_time(s.newest), 'UTC'));
end;
comment on function mrprompt_internal.slots_by_row(uuid) is
    'Partitions of the ledger that cannot be emptied as a whole: they hold more than one month (what is kept goes further back than the ring), '
    'or rows of a request that is queued still.';

create function mrprompt_internal.truncate_slot(cutoff timestamptz) returns integer
    language plpgsql set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan set enable_seqscan = off
as $$
declare
    bound constant uuid := mrprompt_internal.uuid_at(cutoff);
    partition_ text;
    rows bigint;
    wanted boolean;
begin
    for slot in 0..15 loop
        continue when not coalesce((select s.newest < bound from mrprompt_internal.slot_state(slot) s), false);
        partition_ := 'mrprompt.usage_' || lpad(slot::text, 2, '0');
        begin
            -- Nobody is waited for, and nobody brings a row meanwhile.
            execute format('lock table %s in access exclusive mode nowait', partition_);
        exception when lock_not_available then
            continue;
        end;
        execute format('select exists (select from %s where finished_at >= $1)', partition_) into wanted using cutoff;
        continue when wanted or slot = any (mrprompt_internal.queued_slots(bound))
            or not (select s.newest < bound from mrprompt_internal.slot_state(slot) s);
        -- Counting a large one takes longer than the rest: then it is what the last vacuum found.
        rows := (select c.reltuples from pg_class c where c.oid = partition_::regclass and pg_relation_size(c.oid) > 16777216);
        if coalesce(rows, -1) < 0 then
            execute format('select count(*) from %s', partition_) into rows;
        end if;
        execute format('truncate %s', partition_);
        return least(rows, 2147483647);
    end loop;
    return 0;
end
$$;
comment on function mrprompt_internal.truncate_slot(timestamptz) is
    'Empties a partition of the ledger whose every row is of before cutoff, of requests of before cutoff that are not in the queue; answers how '
    'many rows it had (about, if many). At most one a call; one that is being read is left for later.';

create function mrprompt_internal.prune_kind(kind text, cutoff timestamptz, start uuid, max_rows integer, out pruned integer, out reached uuid)
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    bound constant uuid := mrprompt_internal.uuid_at(cutoff);
    due uuid[];
    fitting uuid[];
    by_row integer[];
begin
    -- Each branch looks at max_rows entries of the primary key, and removes those that are old enough.
    if kind = 'requests' then
        select array_agg(s.id order by s.id) filter (where s.old), case when count(*) = max_rows then (array_agg(s.id order by s.id desc))[1] end
        into due, reached
        from (select r.id, r.finished_at < cutoff and (r.payload::text <> '{}' or r.run_id is not null) as old
              from mrprompt.requests r where r.id > start and r.id < bound order by r.id limit max_rows) s;
        -- What an app's transaction holds is passed over: it comes up again in the next round.
        select array_agg(l.id) into due from (
            select r.id from mrprompt.requests r
            where r.id = any (due) and r.finished_at < cutoff
              and not exists (select from mrprompt_internal.queue q where q.request_id = r.id)
            order by r.id for update skip locked) l;
        due := mrprompt_internal.with_free_answer(due);
        fitting := mrprompt_internal.few_enough(due, max_rows);
        pruned := mrprompt_internal.remove_requests(fitting, null);
    elsif kind = 'deltas' then
        with recursive streams (id, n) as (
            select (select d.request_id from mrprompt.deltas d
                    where d.request_id > start and d.request_id < bound order by d.request_id limit 1), 1
            union all
            select (select d.request_id from mrprompt.deltas d
                    where d.request_id > s.id and d.request_id < bound order by d.request_id limit 1), s.n + 1
            from streams s where s.id is not null and s.n < max_rows
        )
        select array_agg(s.id order by s.id) filter (where
                not exists (select from mrprompt_internal.queue q where q.request_id = s.id)
                and not exists (select from mrprompt.requests r
                                where r.id = s.id and (r.finished_at is null or r.finished_at >= cutoff))),
            case when count(*) = max_rows then (array_agg(s.id order by s.id desc))[1] end
        into due, reached
        from streams s where s.id is not null;
        fitting := mrprompt_internal.few_enough(due, max_rows);
        -- One may have been tried again since.
        delete from mrprompt.deltas d
        where d.request_id = any (fitting)
          and not exists (select from mrprompt_internal.queue q where q.request_id = d.request_id)
          and not exists (select from mrprompt.requests r where r.id = d.request_id and r.finished_at is null);
        get diagnostics pruned = row_count;
    elsif kind = 'responses' then
        with seen as materialized (
            select a.request_id, a.created_at from mrprompt.responses a
            where a.request_id > start and a.request_id < bound order by a.request_id limit max_rows
        ), held as materialized (
            select a.request_id from mrprompt.responses a
            where a.request_id in (select s.request_id from seen s where s.created_at < cutoff)
              and not exists (select from mrprompt_internal.queue q where q.request_id = a.request_id)
            for update skip locked
        ), gone as (
            delete from mrprompt.responses a using held h where a.request_id = h.request_id returning 1
        )
        select (select count(*) from gone), case when count(*) = max_rows then (array_agg(s.request_id order by s.request_id desc))[1] end
        into pruned, reached from seen s;
    elsif kind = 'attempts' then
        with seen as materialized (
            select e.request_id, e.attempt, e.at from mrprompt_internal.attempt_errors e
            where e.request_id > start and e.request_id < bound order by e.request_id, e.attempt limit max_rows
        ), gone as (
            delete from mrprompt_internal.attempt_errors e using seen s
            where e.request_id = s.request_id and e.attempt = s.attempt and s.at < cutoff
              and not exists (select from mrprompt_internal.queue q where q.request_id = s.request_id)
            returning 1
        )
        select (select count(*) from gone), case when count(*) = max_rows then (array_agg(s.request_id order by s.request_id desc))[1] end
        into pruned, reached from seen s;
    elsif kind = 'usage' then
        -- Kept for months, the ledger goes by the month, except where it cannot.
        if cutoff < clock_timestamp() - interval '62 days' then
            pruned := mrprompt_internal.truncate_slot(cutoff);
            by_row := mrprompt_internal.slots_by_row(bound);
            if pruned > 0 or by_row = '{}' then
                reached := nullif(start, '00000000-0000-0000-0000-000000000000');
                return;
            end if;
        end if;
        with seen as materialized (
            select u.request_id, u.attempt, u.slot, u.finished_at from mrprompt.usage u
            where u.request_id > start and u.request_id < bound and (by_row is null or u.slot = any (by_row)) order by u.request_id limit max_rows
        ), gone as (
            delete from mrprompt.usage u using seen s
            where u.request_id = s.request_id and u.attempt = s.attempt and u.slot = s.slot and s.finished_at < cutoff
              and not exists (select from mrprompt_internal.queue q where q.request_id = s.request_id)
            returning 1
        )
        select (select count(*) from gone), case when count(*) = max_rows then (array_agg(s.request_id order by s.request_id desc))[1] end
        into pruned, reached from seen s;
    elsif kind = 'usage_by_hour' then
        pruned := mrprompt_internal.prune_hours(cutoff, max_rows);
    elsif kind = 'budget_periods' then
        with old as materialized (
            select c.id from mrprompt_internal.budget_counters c
            where c.period_end < cutoff and c.held = 0
              and not exists (select from mrprompt_internal.queue q where c.id = any (q.counters) or q.blocked_by = c.id)
            order by c.period_end limit max_rows for update skip locked
        ), gone as (
            delete from mrprompt_internal.budget_counters c using old o where c.id = o.id returning c.budget_id, c.subject, c.period_start
        ), alerts as (
            delete from mrprompt.budget_alerts a using gone g
            where a.budget_id = g.budget_id and a.subject = g.subject and a.period_start = g.period_start
        )
        select count(*) into pruned from gone;
    elsif kind = 'limit_buckets' then
        -- A full one says nothing: whoever comes back is given another.
        with old as materialized (
            select k.id from mrprompt_internal.limit_buckets k
            left join mrprompt.rate_limits l on l.id = k.limit_id
            where k.filled_at < cutoff and k.in_flight = 0
              and coalesce(mrprompt_internal.bucket_level(k.requests, l.requests_per_minute, l.burst_seconds, k.filled_at, cutoff)
                  >= greatest(l.requests_per_minute * l.burst_seconds / 60, 1), true)
              and coalesce(mrprompt_internal.bucket_level(k.tokens, l.tokens_per_minute, l.burst_seconds, k.filled_at, cutoff)
                  >= greatest(l.tokens_per_minute * l.burst_seconds / 60, 1), true)
              and not exists (select from mrprompt_internal.queue q where q.blocked_by = k.id)
            order by k.id limit max_rows for update of k skip locked
        ), gone as (
            delete from mrprompt_internal.limit_buckets k using old o where k.id = o.id returning 1
        )
        select count(*) into pruned from gone;
    elsif kind = 'batches' then
        with seen as materialized (
            select b.id, b.created_at from mrprompt.batches b
            where b.id > start and b.id < bound order by b.id limit max_rows
        ), held as materialized (
            select b.id from mrprompt.batches b
            where b.id in (select s.id from seen s where s.created_at < cutoff)
              and not exists (select from mrprompt.requests r where r.batch_id = b.id)
            for update skip locked
        ), gone as (
            delete from mrprompt.batches b using held h where b.id = h.id returning 1
        )
        select (select count(*) from gone), case when count(*) = max_rows then (array_agg(s.id order by s.id desc))[1] end
        into pruned, reached from seen s;
    elsif kind = 'audit' then
        with seen as materialized (
            select a.id, a.at from mrprompt.audit_log a
            where a.id > start and a.id < bound order by a.id limit max_rows
        ), gone as (
            delete from mrprompt.audit_log a using seen s where a.id = s.id and s.at < cutoff returning 1
        )
        select (select count(*) from gone), case when count(*) = max_rows then (array_agg(s.id order by s.id desc))[1] end
        into pruned, reached from seen s;
    elsif kind = 'threads' then
        select * into pruned, reached from mrprompt_internal.prune_threads(cutoff, start, max_rows);
    elsif kind = 'deleted_threads' then
        pruned := mrprompt_internal.remove_deleted_threads(max_rows);
    elsif kind = 'run_events' then
        select * into pruned, reached from mrprompt_internal.prune_run_events(cutoff, start, max_rows);
    end if;
    if cardinality(fitting) < cardinality(due) then
        reached := fitting[cardinality(fitting)];
    end if;
end
$$;
comment on function mrprompt_internal.prune_kind(text, timestamptz, uuid, integer) is
    'Looks at the next max_rows rows of a kind behind start, and prunes what is older than cutoff; reached: where to go on, null at the end.';

create function mrprompt_internal.retention_kinds() returns table (kind text, setting text)
    language sql immutable set search_path = pg_catalog, pg_temp
begin atomic
    values ('requests', 'mrprompt.request_retention'), ('batches', 'mrprompt.request_retention'),
        ('responses', 'mrprompt.response_retention'), ('deltas', 'mrprompt.delta_retention'),
        ('attempts', 'mrprompt.attempt_retention'), ('usage', 'mrprompt.usage_retention'),
        ('usage_by_hour', 'mrprompt.usage_retention'), ('budget_periods', 'mrprompt.usage_retention'), ('limit_buckets', 'mrprompt.usage_retention'),
        ('audit', 'mrprompt.audit_retention'), ('threads', 'mrprompt.thread_retention'), ('deleted_threads', null),
        ('run_events', 'mrprompt.delta_retention');
end;
comment on function mrprompt_internal.retention_kinds() is 'What is pruned, and the setting that says when; null: at once.';

create function mrprompt_internal.prune(max_rows integer) returns integer
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    did int := 0;
    part record;
    mark record;
    before timestamptz;
begin
    for part in select k.kind, k.setting from mrprompt_internal.retention_kinds() k loop
        before := mrprompt_internal.retention_cutoff(part.setting);
        if part.setting = 'mrprompt.usage_retention' then
            -- What is not in the roll-ups yet stays.
            before := case when before is not null then (select least(before, w.rolled_up_to) from mrprompt_internal.usage_watermark w where w.rolled_up_to > '-infinity') end;
        end if;
        continue when before is null;
        select p.ctid, p.reached into mark from mrprompt_internal.prunings p where p.kind = part.kind limit 1 for update skip locked;
        -- Somebody else is at it.
        continue when not found and exists (select from mrprompt_internal.prunings p where p.kind = part.kind);
        declare
            step record;
        begin
            select * into step from mrprompt_internal.prune_kind(part.kind, before,
                coalesce(mark.reached, '00000000-0000-0000-0000-000000000000'), max_rows);
            if step.pruned = 0 and step.reached is not distinct from mark.reached then
                continue;
            end if;
            if mark.ctid is null then
                insert into mrprompt_internal.prunings (kind, rows, last_at, reached, cutoff)
                values (part.kind, step.pruned, case when step.pruned > 0 then clock_timestamp() end, step.reached,
                    case when step.pruned > 0 then before end);
            else
                update mrprompt_internal.prunings p
                set rows = p.rows + step.pruned, reached = step.reached,
                    last_at = case when step.pruned > 0 then clock_timestamp() else p.last_at end,
                    cutoff = case when step.pruned > 0 then greatest(before, p.cutoff) else p.cutoff end
                where p.ctid = mark.ctid;
            end if;
            did := did + step.pruned;
        exception when lock_not_available then null;
            when others then raise warning 'mrprompt cannot prune %: %', part.kind, sqlerrm
                using hint = 'A foreign key or a trigger of yours forbids it.';
        end;
    end loop;
    return did;
end
$$;
comment on function mrprompt_internal.prune(integer) is
    'Part of tend: removes what the retention settings no longer keep, of each kind about max_rows; answers how many rows.';

create function mrprompt_internal.retention_state()
    returns table (kind text, setting interval, oldest timestamptz, pruned_rows bigint, last_pruned_at timestamptz)
    language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
    select k.kind,
        case when k.setting is null then interval '0'
            when mrprompt_internal.setting(k.setting)::int >= 0
            then justify_hours(mrprompt_internal.setting(k.setting)::int * interval '1 second') end,
        mrprompt_internal.uuid_time(case k.kind
            when 'requests' then (select r.id from mrprompt.requests r order by r.id limit 1)
            when 'batches' then (select b.id from mrprompt.batches b order by b.id limit 1)
            when 'responses' then (select a.request_id from mrprompt.responses a order by a.request_id limit 1)
            when 'deltas' then (select d.request_id from mrprompt.deltas d order by d.request_id limit 1)
            when 'attempts' then (select e.request_id from mrprompt_internal.attempt_errors e order by e.request_id limit 1)
            when 'usage' then (select u.request_id from mrprompt.usage u order by u.request_id limit 1)
            when 'audit' then (select a.id from mrprompt.audit_log a order by a.id limit 1)
            when 'threads' then (select t.id from mrprompt.threads t where t.deleted_at is null order by t.id limit 1)
            when 'run_events' then (select e.run_id from mrprompt.run_events e order by e.run_id limit 1)
            -- These have times of their own.
            when 'usage_by_hour' then mrprompt_internal.uuid_at((
                select r.start from mrprompt_internal.usage_rollups r where r.dimension = 'all' and r.grain = 'hour' order by r.start limit 1))
            when 'deleted_threads' then mrprompt_internal.uuid_at((
                select t.deleted_at from mrprompt.threads t where t.deleted_at < 'infinity' order by t.deleted_at limit 1))
            when 'budget_periods' then mrprompt_internal.uuid_at((
                select c.period_end from mrprompt_internal.budget_counters c where c.period_end < 'infinity' order by c.period_end limit 1))
            when 'limit_buckets' then mrprompt_internal.uuid_at((
                select min(k.filled_at) from mrprompt_internal.limit_buckets k where k.filled_at > '-infinity')) end),
        coalesce(p.rows, 0), p.last_at
    from mrprompt_internal.retention_kinds() k
    left join (select m.kind, sum(m.rows)::bigint as rows, max(m.last_at) as last_at
               from mrprompt_internal.prunings m group by m.kind) p on p.kind = k.kind;
end;
comment on function mrprompt_internal.retention_state() is 'What mrprompt.retention shows.';

create view mrprompt.retention with (security_invoker = true) as
    select s.kind, s.setting, s.oldest, s.pruned_rows, s.last_pruned_at from mrprompt_internal.retention_state() s;
comment on view mrprompt.retention is 'Admins and analysts: what is kept how long, and what has been pruned.';
comment on column mrprompt.retention.setting is 'How long it is kept; null: for ever.';
comment on column mrprompt.retention.oldest is 'When the oldest request was made that such a row belongs to; of batches, threads and the audit log, when the oldest row was; of deleted threads, when the oldest was deleted; of run events, when the oldest run was made; of usage by the hour, the oldest hour; of budget periods, the end of the oldest; of the buckets of rate limits, when one was used last.';

grant select on mrprompt.retention to mrprompt_analyst, mrprompt_admin;
grant execute on function mrprompt_internal.retention_state to mrprompt_analyst, mrprompt_admin;
