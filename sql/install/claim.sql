-- The contract's claim: takes ready requests for a fetcher, as much as it has room for.

create function mrprompt_internal.claim(
    args json, out body json, out key_ids uuid[], out owners uuid[], out providers text[], out sealed text[])
    language plpgsql security definer set search_path = pg_catalog, pg_temp
    set lock_timeout = '1s' set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    fetcher constant mrprompt_internal.fetchers := mrprompt_internal.enter(args);
    room constant int := case when fetcher.alone then 1 else least((args ->> 'room')::int, 10000) end;
    max_bytes constant bigint := (args ->> 'bytes')::bigint;
    moment constant timestamptz := clock_timestamp();
    -- What committed late may be ready below the bound: the whole index is looked at every two seconds.
    full_scan constant boolean := fetcher.scanned_at < moment - interval '2 seconds';
    new_bound timestamptz;
    ids uuid[];
    first_ready timestamptz;
    seen int;
    unusable record;
begin
    body := json_build_object('providers', '[]'::json, 'jobs', '[]'::json, 'next_ms', null,
        'cancel', mrprompt_internal.cancels_for(fetcher.id));
    perform mrprompt_internal.apply_cancels(1000);
    if room < 1 or not mrprompt_internal.is_home()
        or exists (select from mrprompt_internal.pauses p where p.provider = '*') then
        return;
    end if;

    with ready as materialized (
        select q.request_id, q.ready_at, q.bytes
        from mrprompt_internal.queue q join mrprompt.requests r on r.id = q.request_id
        where q.fetcher_id is null
          and q.ready_at >= case when full_scan then '-infinity' else fetcher.claim_from end
          and q.ready_at <= moment
          and q.alone = fetcher.alone
          and (q.expires_at is null or q.expires_at > moment)
          and not exists (select from mrprompt_internal.pauses p where p.provider = q.provider)
        order by q.ready_at, q.request_id
        limit room
        for update of q skip locked for no key update of r skip locked
    ), fitting as (
        select request_id, ready_at, sum(ready.bytes) over (order by ready_at, request_id) - ready.bytes < max_bytes as fits
        from ready
    )
    select array_agg(request_id) filter (where fits), min(ready_at), count(*) into ids, first_ready, seen from fitting;

    -- Nothing is left below the bound only where everything that was ready is taken.
    new_bound := case when seen < room and coalesce(cardinality(ids), 0) = seen then moment - interval '10 seconds'
                      else least(first_ready, moment - interval '10 seconds') end;
    if full_scan or new_bound > fetcher.claim_from + interval '1 second' then
        update mrprompt_internal.fetchers f
        set claim_from = new_bound, scanned_at = case when full_scan then moment else f.scanned_at end
        where f.id = fetcher.id;
    end if;

    if ids is null then
        select json_build_object('providers', '[]'::json, 'jobs', '[]'::json, 'cancel', body -> 'cancel',
            'next_ms', ceil(extract(epoch from least(
                (select min(q.ready_at) from mrprompt_internal.queue q where q.fetcher_id is null and q.ready_at > moment),
                case when not full_scan then fetcher.scanned_at + interval '2 seconds' end) - moment) * 1000))
        into body;
        return;
    end if;

    update mrprompt_internal.queue q
    set fetcher_id = fetcher.id, attempt = q.attempt + 1, claimed_at = moment
    where q.request_id = any (ids);
    update mrprompt.requests r
    set status = 'running', attempts = q.attempt, wait_reason = null, not_before = null,
        started_at = coalesce(r.started_at, moment)
    from mrprompt_internal.queue q
    where q.request_id = any (ids) and r.id = q.request_id;
    insert into mrprompt.deltas (request_id, seq, attempt, event)
    select q.request_id, (q.attempt - 1) * 1000000::bigint, q.attempt, 'restart'
    from mrprompt_internal.queue q join mrprompt.requests r on r.id = q.request_id
    where q.request_id = any (ids) and q.attempt > 1 and r.stream
    on conflict (request_id, seq) do nothing;

    -- What an admin or the owner took away since the call was made ends the request here.
    for unusable in
        select r.id,
            case when p.name is null then 'provider_gone' else 'key_revoked' end as type,
            case when p.name is null then format('provider %s was removed or disabled after the request was made', r.provider)
                 else format('key %s was revoked after the request was made', r.key_id) end as message
        from mrprompt.requests r
        left join mrprompt.providers p on p.name = r.provider and p.enabled
        left join mrprompt.api_keys k on k.id = r.key_id and k.revoked_at is null and k.provider = r.provider
        where r.id = any (ids) and (p.name is null or (r.key_id is not null and k.id is null))
    loop
        perform mrprompt_internal.finish(array[unusable.id], 'failed', unusable.type, unusable.message);
        ids := array_remove(ids, unusable.id);
    end loop;

    select array_agg(k.id order by k.id), array_agg(k.user_id order by k.id),
        array_agg(k.provider::text order by k.id), array_agg(k.encrypted_key order by k.id)
    into key_ids, owners, providers, sealed
    from mrprompt.api_keys k
    where k.id in (select r.key_id from mrprompt.requests r where r.id = any (ids));

    -- Best effort: a row that somebody holds is left as it is.
    update mrprompt.api_keys k set last_used = moment
    where k.id in (select l.id from mrprompt.api_keys l
                   where l.id = any (key_ids) and (l.last_used is null or l.last_used < moment - interval '1 minute')
                   for no key update skip locked);

    with used as materialized (
        select p.name, row_number() over (order by p.name) - 1 as place, json_build_object(
                'name', p.name, 'protocol', p.protocol, 'base_url', p.base_url, 'path', p.path, 'auth', p.auth,
                'headers', p.headers, 'stream_usage', p.stream_usage, 'ca_file', p.ca_file,
                'connect_timeout_ms', p.connect_timeout_ms, 'first_byte_timeout_ms', p.first_byte_timeout_ms,
                'idle_timeout_ms', p.idle_timeout_ms, 'total_timeout_ms', p.total_timeout_ms) as shape
        from mrprompt.providers p
        where p.name in (select r.provider from mrprompt.requests r where r.id = any (ids))
    )
    select json_build_object(
        'providers', (select coalesce(json_agg(u.shape order by u.place), '[]') from used u),
        'jobs', coalesce(json_agg(json_build_object(
            'request', r.id, 'attempt', q.attempt, 'failures', r.failures, 'provider', u.place,
            'key', array_position(key_ids, r.key_id) - 1, 'model', r.model, 'stream', r.stream, 'payload', r.payload)
            order by q.ready_at, r.id), '[]'),
        'cancel', body -> 'cancel',
        'next_ms', null)
    into body
    from mrprompt.requests r
    join mrprompt_internal.queue q on q.request_id = r.id
    join used u on u.name = r.provider
    where r.id = any (ids);
end
$$;
comment on function mrprompt_internal.claim(json) is
    'Contract: takes up to room ready requests of up to so many bytes; keys come sealed, beside the JSON.';

