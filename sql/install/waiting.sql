-- Requests that wait for a budget or a limit: put aside with what they wait for, woken when that is released.

create function mrprompt_internal.refuse_waiting(id uuid, status integer, error_type text, why text) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform mrprompt_internal.finish(array[id], 'failed', error_type, why);
    update mrprompt.requests r set error_status = refuse_waiting.status where r.id = refuse_waiting.id;
end
$$;
comment on function mrprompt_internal.refuse_waiting(uuid, integer, text, text) is 'Ends a request that was never sent, because it may not be.';

create function mrprompt_internal.set_waiting(
    ids uuid[], waits_for text[], until timestamptz[], reasons text[], blockers bigint[], moment timestamptz) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    item record;
begin
    for item in
        select w.id, w.until, w.reason from unnest(ids, waits_for, until, reasons) w (id, waits_for, until, reason)
        join mrprompt.requests r on r.id = w.id
        where w.waits_for = 'limit' and r.options ->> 'on_limit' = 'refuse'
    loop
        perform mrprompt_internal.refuse_waiting(item.id, 429, 'rate_limit', item.reason || case when item.until is null then '; there is room when one has ended'
            else format('; there is room in %s s', ceil(extract(epoch from item.until - moment))) end);
    end loop;
    -- A release wakes as many as it has room for; looking again after a time is for a release that somebody else made nothing of.
    update mrprompt_internal.queue q
    set ready = false, waits_for = w.waits_for, blocked_by = w.blocker,
        ready_at = least(coalesce(w.until, moment + interval '10 seconds' * (1 + least(w.place / 8, 29))), moment + interval '1 hour')
    from (select u.*, row_number() over (partition by u.blocker order by u.nth) - 1 as place
          from unnest(ids, set_waiting.waits_for, until, blockers) with ordinality u (id, waits_for, until, blocker, nth)) w
    where q.request_id = w.id;
    update mrprompt.requests r set wait_reason = w.reason, not_before = nullif(w.until, 'infinity')
    from unnest(ids, reasons, until) w (id, reason, until)
    where r.id = w.id and r.finished_at is null and (r.wait_reason, r.not_before) is distinct from (w.reason, nullif(w.until, 'infinity'));
end
$$;
comment on function mrprompt_internal.set_waiting(uuid[], text[], timestamptz[], text[], bigint[], timestamptz) is
    'Puts rows aside that wait for a limit or a budget, each with its own reason and time (null: until something is released), looked at '
    'again within the hour at any rate; the arrays go together.';

create function mrprompt_internal.wake_blocked(meters bigint[], most integer) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    ids uuid[];
begin
    -- Of each its own, in the order of its index: few are read, however many wait.
    select array_agg(distinct w.request_id) into ids
    from unnest(meters) m (id) cross join lateral (
        select q.request_id from mrprompt_internal.queue q
        where q.blocked_by = m.id and q.fetcher_id is null and not q.ready and q.waits_for in ('limit', 'budget')
        order by q.tag limit most for update skip locked) w;
    if ids is not null then
        perform mrprompt_internal.make_ready(ids);
        perform mrprompt_internal.wake(mrprompt_internal.channel_name('fetchers'));
    end if;
end
$$;
comment on function mrprompt_internal.wake_blocked(bigint[], integer) is 'Has the first rows that wait for each of these counters and buckets looked at again.';

create function mrprompt_internal.pass_on(ids uuid[]) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    meters bigint[];
begin
    select array_agg(distinct q.blocked_by) into meters
    from mrprompt_internal.queue q where q.request_id = any (ids) and q.blocked_by is not null and q.ready;
    if meters is not null then
        perform mrprompt_internal.wake_blocked(meters, cardinality(ids));
    end if;
end
$$;
comment on function mrprompt_internal.pass_on(uuid[]) is
    'For who takes ready rows out of the claims'' way: what they were woken for, others that wait for it are looked at for.';
