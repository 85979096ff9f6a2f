-- Housekeeping of the contract: dead fetchers, cancels of waiting requests, expiry, pruning; and the notifications.

create function mrprompt_internal.finish(ids uuid[], status text, error_type text, error_message text) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform mrprompt_internal.pass_on(ids);
    delete from mrprompt_internal.queue q where q.request_id = any (ids);
    update mrprompt.requests r
    set status = finish.status, finished_at = clock_timestamp(), wait_reason = null, not_before = null,
        error_type = finish.error_type, error_message = finish.error_message
    where r.id = any (ids);
    insert into mrprompt_internal.run_work (run_id)
    select r.run_id from mrprompt.requests r where r.id = any (ids) and r.run_id is not null;
    perform mrprompt_internal.note_changes(ids);
end
$$;
comment on function mrprompt_internal.finish(uuid[], text, text, text) is 'Ends requests that no fetcher has in flight, or whose attempt has its ledger row.';

create function mrprompt_internal.note_lost(ids uuid[], outcome text, error_type text, error_message text, retry_at timestamptz) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    xid constant xid8 := pg_current_xact_id();  -- before the time, as settle_items has it
    moment constant timestamptz := clock_timestamp();
    ended record;
begin
    -- Of a request that somebody has deleted as well.
    with attempts as materialized (
        select q.*, r.agent_name, r.tags, coalesce(r.kind, 'chat') as kind,
            case when g.guessed then mrprompt_internal.estimated_prompt(q.prompt_bound, q.bytes, q.images) end as prompt_tokens,
            case when g.guessed then mrprompt_internal.estimated_answer(q.request_id, q.attempt) end as completion_tokens
        from mrprompt_internal.queue q left join mrprompt.requests r on r.id = q.request_id
        cross join lateral (select coalesce(r.kind, 'chat') = 'chat' and note_lost.outcome = 'unknown' as guessed) g
        where q.request_id = any (ids)
    ), prices as materialized (
        select d.provider as at, d.model as asked, d.claimed_at, p.above_tokens as above, p as price
        from (select distinct a.provider, a.model, a.claimed_at from attempts a) d
        cross join lateral mrprompt_internal.prices_of(d.provider, d.model, null, d.claimed_at, d.claimed_at) p where p.service_tier = 'standard'
    ), ledger as (
        insert into mrprompt.usage (request_id, attempt, slot, user_id, provider, model, key_id, agent_name, outcome, prompt_tokens, completion_tokens,
            cost, price_known, error_type, estimated, finished_at, price_id, images, tags, counters, hold)
        select a.request_id, a.attempt, mrprompt_internal.slot_of(a.request_id), a.user_id, a.provider, a.model, a.key_id,
            a.agent_name, note_lost.outcome, a.prompt_tokens, a.completion_tokens,
            case when note_lost.outcome = 'lost' or a.kind = 'verify' then 0
                else least(mrprompt_internal.cost_of(p.price, a.prompt_tokens, a.completion_tokens, 0, 0, 0, 0, 0, 0, a.images, null, null),
                    case when a.hold > 0 then a.hold end) end,
            (p.price).id is not null or a.kind = 'verify', note_lost.error_type, a.prompt_tokens is not null, moment,
            case when a.prompt_tokens is not null then (p.price).id end, a.images, a.tags, a.counters, a.hold
        from attempts a
        left join lateral (
            select p.price from prices p where p.at = a.provider and p.asked = a.model and p.claimed_at = a.claimed_at and p.above < greatest(a.prompt_tokens, 1)
            order by p.above desc limit 1) p on true
        on conflict (request_id, attempt, slot) do nothing
        returning usage.request_id, usage.cost
    )
    select array_agg(a.hold) as holds, array_agg(a.counters::text) as counters, array_agg(a.buckets::text) as buckets,
        array_agg(a.reserved) as reserved, array_agg(l.cost) as costs, array_agg(a.prompt_tokens + a.completion_tokens) as used
    into ended
    from attempts a left join ledger l on l.request_id = a.request_id
    where a.counters is not null or a.buckets is not null;
    if ended.holds is not null then
        perform mrprompt_internal.release_meters(ended.holds, ended.counters, ended.buckets, ended.reserved, ended.costs, ended.used);
        update mrprompt_internal.queue q set hold = null, counters = null, buckets = null, reserved = null, output_limit = null
        where q.request_id = any (ids);
    end if;
    insert into mrprompt_internal.attempt_errors (request_id, attempt, error_message, retry_at, counted, fetcher_id)
    select q.request_id, q.attempt, note_lost.error_message, note_lost.retry_at, false, q.fetcher_id
    from mrprompt_internal.queue q where q.request_id = any (ids)
    on conflict (request_id, attempt) do nothing;
end
$$;
comment on function mrprompt_internal.note_lost(uuid[], text, text, text, timestamptz) is
    'The ledger rows and reasons of attempts that no outcome will come for: unknown (estimated), or lost (never sent, cost 0); ends their holds.';

create function mrprompt_internal.requeue(ids uuid[], outcome text, died boolean) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    crashed uuid[];
begin
    perform mrprompt_internal.note_lost(ids, outcome, 'fetcher_lost', case outcome when 'lost' then 'the claim''s answer never arrived'
        else 'its fetcher was lost' end, clock_timestamp());
    update mrprompt_internal.queue q
    set fetcher_id = null, claimed_at = null, ready_at = clock_timestamp(), ready = false, waits_for = 'retry',
        deaths = q.deaths + died::int, alone = q.deaths + died::int >= 2
    where q.request_id = any (ids);
    update mrprompt.requests r set status = 'queued', wait_reason = 'its fetcher was lost'
    where r.id = any (ids);
    select array_agg(q.request_id) into crashed
    from mrprompt_internal.queue q where q.request_id = any (ids) and q.deaths >= 3;
    if crashed is not null then
        perform mrprompt_internal.finish(crashed, 'failed', 'fetcher_crashed',
            'three fetchers have died with this request in flight, the last one with nothing else');
    end if;
    perform mrprompt_internal.note_changes(ids);
end
$$;
comment on function mrprompt_internal.requeue(uuid[], text, boolean) is
    'Takes requests back from a fetcher: the lost attempt gets its ledger row (unknown or lost), the request its place in the queue.';

create function mrprompt_internal.fetcher_gone(fetcher uuid, crashed boolean) returns integer
    language plpgsql security definer set search_path = pg_catalog, pg_temp
    set lock_timeout = '1s' set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
    set plan_cache_mode = force_generic_plan
as $$
declare
    ids uuid[];
begin
    perform from mrprompt_internal.fetchers f where f.id = fetcher for update;
    select array_agg(l.request_id) into ids from (
        select q.request_id from mrprompt_internal.queue q where q.fetcher_id = fetcher order by 1 for update) l;
    if ids is not null then
        perform mrprompt_internal.requeue(ids, 'unknown', crashed);
    end if;
    delete from mrprompt_internal.fetchers f where f.id = fetcher;
    return coalesce(cardinality(ids), 0);
end
$$;
comment on function mrprompt_internal.fetcher_gone(uuid, boolean) is
    'Ends a fetcher''s lease and queues again what it had in flight; answers how many. crashed counts towards isolation.';

create function mrprompt_internal.local_fetchers_gone() returns integer
    language sql security definer set search_path = pg_catalog, pg_temp
begin atomic
    select coalesce(sum(mrprompt_internal.fetcher_gone(f.id, false)), 0)::int
    from mrprompt_internal.fetchers f where f.kind = 'child';
end;
comment on function mrprompt_internal.local_fetchers_gone() is 'For a supervisor that starts: no child of an earlier one is alive.';

create function mrprompt_internal.apply_cancels(max_rows integer) returns integer
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    ids uuid[];
begin
    select array_agg(l.request_id) into ids from (
        select q.request_id
        from mrprompt_internal.cancels c
        join mrprompt_internal.queue q on q.request_id = c.request_id
        join mrprompt.requests r on r.id = q.request_id
        where q.fetcher_id is null
        order by 1 limit max_rows for update of q skip locked for no key update of r skip locked) l;
    if ids is not null then
        perform mrprompt_internal.finish(ids, 'cancelled', null, null);
    end if;
    delete from mrprompt_internal.cancels c
    where c.request_id = any (array(
        select d.request_id from mrprompt_internal.cancels d
        where not exists (select from mrprompt_internal.queue q where q.request_id = d.request_id)
        limit max_rows for update skip locked));
    return coalesce(cardinality(ids), 0);
end
$$;
comment on function mrprompt_internal.apply_cancels(integer) is 'Ends waiting requests that somebody wishes to cancel, and forgets wishes that are fulfilled.';

create function mrprompt_internal.mend_times(max_rows integer) returns integer
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    -- Nothing that is not paused is asked to wait for longer than an hour.
    too_late constant timestamptz := clock_timestamp() + interval '61 minutes';
    ids uuid[];
begin
    update mrprompt_internal.fetchers f set last_seen = clock_timestamp()
    where f.id in (select l.id from mrprompt_internal.fetchers l
                   where l.last_seen > clock_timestamp() + interval '1 second' for update skip locked);
    delete from mrprompt_internal.cooldowns c
    where (c.provider, c.key_id, c.model) in (
        select l.provider, l.key_id, l.model from mrprompt_internal.cooldowns l
        where l.until > too_late limit max_rows for update skip locked);
    select array_agg(w.request_id) into ids from (
        select q.request_id from mrprompt_internal.queue q
        where q.fetcher_id is null and not q.ready and q.ready_at > too_late and q.ready_at < 'infinity'
        order by q.ready_at limit max_rows for update skip locked) w;
    if ids is not null then
        perform mrprompt_internal.make_ready(ids);
    end if;
    return coalesce(cardinality(ids), 0);
end
$$;
comment on function mrprompt_internal.mend_times(integer) is
    'Where the clock was put back, what was noted before lies ahead: leases are taken anew, and what would wait for longer than '
    'anybody can ask for is made ready; answers how many rows.';

create function mrprompt_internal.tend(args json) returns json
    language plpgsql security definer set search_path = pg_catalog, pg_temp
    set lock_timeout = '1s' set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
    set plan_cache_mode = force_generic_plan
as $$
declare
    max_rows constant int := greatest(least(coalesce((args ->> 'limit')::int, 1000), 10000), 1);
    did int := 0;
    part int;
    dead uuid;
    ids uuid[];
begin
    if not mrprompt_internal.is_home() then
        return json_build_object('did', 0);
    end if;
    did := did + mrprompt_internal.mend_times(max_rows);
    -- Nobody can have been heard while the server was down: after a start everybody has a lease's time to come back.
    for dead in
        select f.id from mrprompt_internal.fetchers f
        where greatest(f.last_seen, case when pg_postmaster_start_time() <= clock_timestamp() then pg_postmaster_start_time() end)
            < clock_timestamp() - mrprompt_internal.lease()
        order by f.id limit 10 for update skip locked
    loop
        did := did + mrprompt_internal.fetcher_gone(dead, true);
    end loop;

    -- Claims of fetchers that are not known here at all: a restored queue.
    select array_agg(l.request_id) into ids from (
        select q.request_id from mrprompt_internal.queue q
        where q.fetcher_id is not null
          and not exists (select from mrprompt_internal.fetchers f where f.id = q.fetcher_id)
        order by q.fetcher_id limit max_rows for update skip locked) l;
    if ids is not null then
        perform mrprompt_internal.requeue(ids, 'unknown', false);
        did := did + cardinality(ids);
    end if;

    did := did + mrprompt_internal.apply_cancels(max_rows);

    select array_agg(l.request_id) into ids from (
        select q.request_id from mrprompt_internal.queue q join mrprompt.requests r on r.id = q.request_id
        where q.fetcher_id is null and q.expires_at <= clock_timestamp()
        order by q.expires_at limit max_rows for update of q skip locked for no key update of r skip locked) l;
    if ids is not null then
        perform mrprompt_internal.finish(ids, 'expired', 'expired', 'the request''s expires_at passed before it was answered');
        did := did + cardinality(ids);
    end if;

    -- Somebody deleted the request, which no claim finds any more (the others' are removed by claim itself).
    delete from mrprompt_internal.queue q
    where q.alone and not exists (select from mrprompt.requests r where r.id = q.request_id);
    get diagnostics part = row_count;
    did := did + part + mrprompt_internal.apply_releases(max_rows) + mrprompt_internal.tend_runs(max_rows);

    delete from mrprompt_internal.cooldowns c
    where c.until < clock_timestamp() - interval '10 minutes' and (c.reason = 'rate_limit' or not exists (
        select from mrprompt_internal.queue q
        where q.provider = c.provider and q.model = c.model and coalesce(q.key_id, '00000000-0000-0000-0000-000000000000') = c.key_id));
    get diagnostics part = row_count;
    did := did + part;

    -- What follows takes longer: whoever waits for a row that is locked by now goes first. Apps' locks and triggers can stand in the way
    -- of these: of these alone.
    if did > 0 then
        return json_build_object('did', did, 'more', true);
    end if;
    begin
        -- Not before a restore in many transactions may be through, which brings roll-ups of its own.
        if exists (select from mrprompt_internal.homes h where h.since < now() - interval '1 hour') then
            did := did + mrprompt_internal.roll_up(10 * max_rows);
        end if;
    exception when lock_not_available then null;
        when others then raise warning 'mrprompt cannot roll up the ledger: %', sqlerrm;
    end;
    begin
        did := did + mrprompt_internal.prune(max_rows);
    exception when lock_not_available then null;
        when others then raise warning 'mrprompt cannot prune: %', sqlerrm;
    end;
    begin
        did := did + mrprompt_internal.forget_some(max_rows);
    exception when lock_not_available then null;
        when others then raise warning 'mrprompt cannot remove what belongs to a forgotten user: %', sqlerrm;
    end;
    -- It locks what requests are charged to: by itself.
    if did > 0 then
        return json_build_object('did', did, 'more', true);
    end if;
    begin
        did := did + mrprompt_internal.recompute_some(max_rows);
    exception when lock_not_available or deadlock_detected then null;
    end;
    return json_build_object('did', did, 'more', did >= greatest(max_rows / 2, 1));
end
$$;
comment on function mrprompt_internal.tend(json) is
    'Contract: bounded housekeeping; called by supervisors and fetchers alike. Answers how many rows it touched.';

create function mrprompt_internal.supervisor_state(
    out has_work boolean, out alone_waiting integer, out remote_fetchers integer)
    language sql volatile security definer set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off
begin atomic
    -- The newest first: what an old snapshot keeps of those that have ended lies behind them.
    select ((select q.request_id from mrprompt_internal.queue q order by q.request_id desc limit 1) is not null
            or (select w.id from mrprompt_internal.run_work w order by w.id desc limit 1) is not null
            or (select r.id from mrprompt.runs r where r.active and r.expires_at is not null order by r.expires_at desc limit 1) is not null)
            and mrprompt_internal.is_home(),
        mrprompt_internal.alone_waiting(),
        (select count(*)::int from mrprompt_internal.fetchers f where f.kind = 'libpq');
end;
comment on function mrprompt_internal.supervisor_state() is 'What a supervisor needs to know to decide who must run.';

create function mrprompt_internal.notify_changes() returns integer
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    ids constant uuid[] := mrprompt_internal.take_changes();
begin
    if ids is null then
        return 0;
    end if;
    perform pg_notify(c.channel, r.id::text)
    from (select distinct r.user_id from mrprompt.requests r where r.id = any (ids)) u
    cross join lateral (select mrprompt_internal.channel_name(u.user_id::text) as channel) c
    join mrprompt.requests r on r.user_id = u.user_id and r.id = any (ids);
    perform pg_notify(mrprompt_internal.channel_name(r.user_id::text), r.id::text) from mrprompt.runs r where r.id = any (ids);
    perform mrprompt_internal.notify_failures(ids);
    perform mrprompt_internal.notify_alerts();
    return cardinality(ids);
end
$$;
comment on function mrprompt_internal.notify_changes() is
    'Sends one notification per changed request to its user''s channel; in a transaction of its own, as NOTIFY serialises committers.';

create function mrprompt_internal.notify_fetchers() returns void
    language sql security definer set search_path = pg_catalog, pg_temp
begin atomic
    select pg_notify(mrprompt_internal.channel_name('fetchers'), '');
end;
comment on function mrprompt_internal.notify_fetchers() is 'Wakes the fetchers that listen over libpq.';

