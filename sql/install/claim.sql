-- The contract's claim: takes ready requests for a fetcher, as much as it has room for.

create function mrprompt_internal.end_unusable(ids uuid[]) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    unusable record;
begin
    for unusable in
        select r.id, w.type, w.message
        from mrprompt.requests r
        left join mrprompt.providers p on p.name = r.provider and p.enabled
        cross join lateral (
            select case when p.name is null or r.key_id is null then 'provider_gone' else 'key_revoked' end as type,
                case when p.name is null or r.key_id is null
                     then format('provider %s was removed or disabled after the request was made', r.provider)
                     else format('key %s was revoked, or taken back from its user, after the request was made', r.key_id) end as message) w
        where r.id = any (ids)
    loop
        perform mrprompt_internal.note_lost(array[unusable.id], 'lost', unusable.type, unusable.message, null);
        perform mrprompt_internal.finish(array[unusable.id], 'failed', unusable.type, unusable.message);
    end loop;
end
$$;
comment on function mrprompt_internal.end_unusable(uuid[]) is
    'Ends claimed requests that have lost their provider or their key since they were made.';

create function mrprompt_internal.keys_of(
    ids uuid[], out key_ids uuid[], out owners uuid[], out providers text[], out sealed text[], out hashes text[])
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    rested boolean;
begin
    -- The secret and its hash by one snapshot: what is said of it later is noted at the secret that was sent.
    select array_agg(k.id order by k.id), array_agg(k.user_id order by k.id),
        array_agg(k.provider::text order by k.id), array_agg(k.encrypted_key order by k.id), array_agg(k.key_hash order by k.id),
        bool_or(k.last_used is null or k.last_used < clock_timestamp() - interval '1 minute')
    into key_ids, owners, providers, sealed, hashes, rested
    from mrprompt.api_keys k
    where k.id = any (array(select distinct r.key_id from mrprompt.requests r where r.id = any (ids))) and k.revoked_at is null;
    if rested then
        -- Best effort: a row that somebody holds is left as it is.
        update mrprompt.api_keys k set last_used = clock_timestamp()
        where k.id = any (array(
            select l.id from mrprompt.api_keys l
            where l.id = any (key_ids) and (l.last_used is null or l.last_used < clock_timestamp() - interval '1 minute')
            for no key update skip locked));
    end if;
end
$$;
comment on function mrprompt_internal.keys_of(uuid[]) is 'The keys of requests, sealed, and of each the hash; notes that they are used.';

create function mrprompt_internal.hand_out(
    fetcher_id uuid, moment timestamptz, ids uuid[], held numeric[], held_on text[], counted_in text[], reservations bigint[], limits bigint[],
    key_ids uuid[], providers text[], hashes text[], out shapes json, out jobs json, out usable uuid[], out again boolean)
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    with taken as (
        update mrprompt_internal.queue q
        set fetcher_id = hand_out.fetcher_id, attempt = q.attempt + 1, claimed_at = moment, hold = w.hold, counters = w.counters::bigint[],
            buckets = w.buckets::bigint[], reserved = w.reserved, output_limit = w.output_limit, blocked_by = null,
            key_hash = hashes[array_position(key_ids, q.key_id)]
        from unnest(ids, held, held_on, counted_in, reservations, limits) w (id, hold, counters, buckets, reserved, output_limit)
        where q.request_id = w.id
        returning q.request_id, q.attempt, q.tag, q.output_limit
    ), running as (
        update mrprompt.requests r
        set status = 'running', attempts = t.attempt, wait_reason = null, not_before = null,
            started_at = coalesce(r.started_at, moment)
        from taken t where r.id = t.request_id
    ), used as materialized (
        select p.name, row_number() over (order by p.name) - 1 as place, json_build_object(
                'name', p.name, 'protocol', p.protocol, 'base_url', p.base_url, 'path', p.path, 'verify_path', p.verify_path, 'auth', p.auth,
                'headers', p.headers, 'stream_usage', p.stream_usage, 'ca_file', p.ca_file,
                'connect_timeout_ms', p.connect_timeout_ms, 'first_byte_timeout_ms', p.first_byte_timeout_ms,
                'idle_timeout_ms', p.idle_timeout_ms, 'total_timeout_ms', p.total_timeout_ms,
                'backoff_base_ms', p.backoff_base_ms, 'backoff_cap_ms', p.backoff_cap_ms, 'retry_on', p.retry_on,
                'no_retry_on', p.no_retry_on, 'idempotency_header', p.idempotency_header,
                'cooldown_percent', p.cooldown_percent, 'cooldown_attempts', p.cooldown_attempts,
                'allow_private', p.allow_private, 'proxy', p.proxy,
                'client_cert_file', p.client_cert_file, 'client_key_file', p.client_key_file,
                'max_tokens_field', p.max_tokens_field) as shape
        from mrprompt.providers p
        where p.enabled and p.name = any (array(select distinct r.provider from mrprompt.requests r where r.id = any (ids)))
    )
    select (select bool_or(t.attempt > 1) from taken t), (select json_agg(u.shape order by u.place) from used u), array_agg(r.id),
        json_agg(json_build_object(
            'request', r.id, 'attempt', t.attempt, 'failures', r.failures, 'provider', u.place,
            'key', array_position(key_ids, r.key_id) - 1, 'key_id', r.key_id, 'kind', r.kind, 'model', r.model, 'stream', r.stream,
            'options', r.options, 'output_limit', t.output_limit, 'payload', case when r.run_id is null then r.payload else mrprompt_internal.payload_of(r) end)
            order by t.tag, r.id)
    into again, shapes, usable, jobs
    from taken t
    join mrprompt.requests r on r.id = t.request_id
    join used u on u.name = r.provider
    where (r.key_id is null or (providers[array_position(key_ids, r.key_id)] = r.provider and (r.kind = 'verify' or exists (
          select from mrprompt_internal.key_users u where u.key_id = r.key_id and (u.user_id is null or u.user_id = r.user_id)))));
end
$$;
comment on function mrprompt_internal.hand_out(
    uuid, timestamptz, uuid[], numeric[], text[], text[], bigint[], bigint[], uuid[], text[], text[]) is
    'Gives locked requests to a fetcher: the rows of their providers, and the jobs; usable: those that still have their provider, and a '
    'key that their user may use; again: some were tried before. ids goes with what they hold, key_ids with their providers and hashes.';

create function mrprompt_internal.claim(
    args json, out body json, out key_ids uuid[], out owners uuid[], out providers text[], out sealed text[])
    language plpgsql security definer set search_path = pg_catalog, pg_temp
    set lock_timeout = '1s' set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
    set plan_cache_mode = force_generic_plan
as $$
declare
    fetcher constant mrprompt_internal.fetchers := mrprompt_internal.enter((args ->> 'fetcher')::uuid);
    room constant int := case when fetcher.alone then 1 else least((args ->> 'room')::int, 10000) end;
    max_bytes constant bigint := (args ->> 'bytes')::bigint;
    moment constant timestamptz := clock_timestamp();
    -- What committed late lies below the bounds; and where the clock was put back, they lie in the future.
    full_scan constant boolean := moment >= fetcher.scan_at or moment < fetcher.marked_at;
    lowest_tag constant bigint := case when full_scan then 0 else fetcher.claim_from end;
    earliest constant timestamptz := case when full_scan then '-infinity' else fetcher.marked_at - interval '10 seconds' end;
    work_from constant uuid := case when full_scan then '00000000-0000-0000-0000-000000000000' else mrprompt_internal.uuid_at(earliest) end;
    work_due constant uuid := mrprompt_internal.work_due();
    aside uuid[];
    ids uuid[];
    held numeric[]; held_on text[]; counted_in text[]; reservations bigint[]; limits bigint[];  -- of ids, where they are metered
    moved boolean;
    reached bigint;  -- virtual time, where it was moved
    again boolean;
    jobs json;
    shapes json;
    usable uuid[];
    hashes text[];  -- of key_ids
    wished record;
    withheld text[];
begin
    if args ->> 'room' is null or max_bytes is null then
        raise exception using errcode = 'PT400', message = 'a claim says how many requests, and how many bytes, it has room for',
            detail = format('room: %s, bytes: %s', args ->> 'room', args ->> 'bytes'), hint = 'ARCHITECTURE.md, "The contract".';
    end if;
    select exists (select from mrprompt_internal.cancels) as cancels, exists (select from mrprompt_internal.releases r where r.done_at is null or r.done_at < moment - interval '3 seconds') as releases,
        exists (select from mrprompt_internal.pauses p where p.provider = '*') as all_paused,
        exists (select from mrprompt_internal.pauses) or exists (select from mrprompt_internal.cooldowns) as holds,
        exists (select from mrprompt.budgets b where b.enabled) or exists (select from mrprompt.rate_limits l where l.enabled) as metered,
        exists (select from mrprompt_internal.queue q
                where q.fetcher_id is null and not q.ready and q.ready_at >= earliest and q.ready_at <= moment) as due,
        exists (select from mrprompt_internal.run_work w where w.id >= work_from and w.id < work_due) as runs,
        (select h.here from mrprompt_internal.home h) as at_home
    into wished;
    body := json_build_object('providers', '[]'::json, 'jobs', '[]'::json, 'next_ms', null,
        'cancel', case when wished.cancels then mrprompt_internal.cancels_for(fetcher.id) else '[]' end);
    if wished.cancels then
        perform mrprompt_internal.apply_cancels(1000);
    end if;
    -- The first contract knows no output limit: what it sent would not be what was held.
    if room < 1 or wished.all_paused or wished.metered and fetcher.contract < 2 or not wished.at_home then
        return;
    end if;
    if wished.runs then
        perform mrprompt_internal.advance_waiting(20, work_from);
    end if;
    if wished.releases then
        perform mrprompt_internal.apply_releases(1000);
    end if;
    if wished.due then
        perform mrprompt_internal.make_due_ready(earliest, moment, least(1000, 4 * room + 16));
    end if;

    -- Somebody deleted the request: what is left of it would be looked at for ever.
    if full_scan then
        delete from mrprompt_internal.queue q
        where q.request_id = any (array(
            select o.request_id
            from (select f.request_id from mrprompt_internal.queue f where f.fetcher_id is null and f.ready and not f.alone
                  order by f.tag, f.request_id limit room) o
            where not exists (select from mrprompt.requests r where r.id = o.request_id)));
    end if;

    -- What it does not know of it would leave out.
    if fetcher.contract < 2 then
        withheld := array(select p.name from mrprompt.providers p where p.proxy is not null or p.client_cert_file is not null);
    end if;

    for round in 1..5 loop
        if fetcher.alone then
            select array_agg(a.request_id) into ids from (
                select q.request_id from mrprompt_internal.queue q join mrprompt.requests r on r.id = q.request_id
                where q.alone and q.fetcher_id is null and q.ready_at <= moment and (q.expires_at is null or q.expires_at > moment)
                  and (fetcher.contract > 1 or r.kind = 'chat' and q.provider <> all (withheld))
                  and not (wished.cancels and exists (select from mrprompt_internal.cancels c where c.request_id = q.request_id))
                order by q.ready_at limit room for update of q skip locked for no key update of r skip locked) a;
        else
            with lowest as materialized (
                select q.request_id, q.tag, q.bytes
                from mrprompt_internal.queue q join mrprompt.requests r on r.id = q.request_id
                where q.fetcher_id is null and q.ready and not q.alone and q.tag >= lowest_tag
                  and (q.expires_at is null or q.expires_at > moment)
                  and (fetcher.contract > 1 or r.kind = 'chat' and q.provider <> all (withheld))
                  and not (wished.cancels and exists (select from mrprompt_internal.cancels c where c.request_id = q.request_id))
                order by q.tag, q.request_id
                limit room
                for update of q skip locked for no key update of r skip locked
            ), fitting as (
                select request_id, tag, sum(l.bytes) over (order by tag, request_id) - l.bytes < max_bytes as fits from lowest l
            )
            select array_agg(request_id), case when max(tag) > (select v.last_value from mrprompt_internal.virtual_time v)
                then setval('mrprompt_internal.virtual_time', max(tag)) end
            into ids, reached from fitting where fits;
        end if;
        moved := ids is not null;
        exit when not moved;
        if wished.holds then
            aside := mrprompt_internal.hold_back(ids, moment);
            select array_agg(i.id) into ids from unnest(ids) i (id) where i.id <> all (aside);
        end if;
        if wished.metered and ids is not null then
            select nullif(a.ids, '{}'), a.holds, a.counters, a.buckets, a.reserved, a.limits into ids, held, held_on, counted_in, reservations, limits
            from mrprompt_internal.admit(ids, moment) a;
            -- It may have locked meters: those of a second look would be out of their order.
            exit;
        end if;
        -- What was in the way is out of it: look again, unless there is something to do already.
        exit when ids is not null;
    end loop;

    if full_scan or moment >= fetcher.marked_at + interval '2 seconds' then
        update mrprompt_internal.fetchers f
        set claim_from = f.mark, mark = (select last_value from mrprompt_internal.virtual_time), marked_at = moment,
            -- Looking at everything takes a fiftieth of the time at most.
            scan_at = case when full_scan then clock_timestamp() + greatest(interval '2 seconds', 50 * (clock_timestamp() - moment))
                           else f.scan_at end
        where f.id = fetcher.id;
    end if;

    if ids is null then
        select json_build_object('providers', '[]'::json, 'jobs', '[]'::json, 'cancel', body -> 'cancel',
            'next_ms', ceil(extract(epoch from least(
                case when moved then moment end,
                (select min(q.ready_at) from mrprompt_internal.queue q
                 where q.fetcher_id is null and not q.ready and q.ready_at >= earliest and q.ready_at < 'infinity'),
                case when not full_scan then fetcher.scan_at end) - moment) * 1000))
        into body;
        return;
    end if;

    select k.key_ids, k.owners, k.providers, k.sealed, k.hashes into key_ids, owners, providers, sealed, hashes
    from mrprompt_internal.keys_of(ids) k;
    select h.shapes, h.jobs, h.usable, h.again into shapes, jobs, usable, again
    from mrprompt_internal.hand_out(fetcher.id, moment, ids, held, held_on, counted_in, reservations, limits, key_ids, providers, hashes) h;
    if again then
        insert into mrprompt.deltas (request_id, seq, attempt, event)
        select q.request_id, (q.attempt - 1) * 1000000::bigint, q.attempt, 'restart'
        from mrprompt_internal.queue q join mrprompt.requests r on r.id = q.request_id
        where q.request_id = any (ids) and q.attempt > 1 and r.stream
        on conflict (request_id, seq) do nothing;
    end if;

    if cardinality(usable) is distinct from cardinality(ids) then
        perform mrprompt_internal.end_unusable(array(select i.id from unnest(ids) i (id) where i.id <> all (coalesce(usable, '{}'))));
    end if;
    body := json_build_object('providers', coalesce(shapes, '[]'), 'jobs', coalesce(jobs, '[]'), 'cancel', body -> 'cancel', 'next_ms', null);
end
$$;
comment on function mrprompt_internal.claim(json) is
    'Contract: takes up to room ready requests of up to so many bytes; keys come sealed, beside the JSON.';

