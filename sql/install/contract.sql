-- The contract between database and fetcher: hello, heartbeat, and what the calls share. ARCHITECTURE.md has the shapes.

create function mrprompt_internal.contract_settings() returns json
    language sql stable set search_path = pg_catalog, pg_temp
    return json_build_object(
        'max_in_flight', mrprompt_internal.setting('mrprompt.max_in_flight')::int,
        'claim_bytes', mrprompt_internal.setting('mrprompt.claim_bytes')::bigint,
        'delta_ms', mrprompt_internal.setting('mrprompt.delta_interval')::int,
        'heartbeat_ms', mrprompt_internal.setting('mrprompt.heartbeat_interval')::int,
        'poll_ms', mrprompt_internal.setting('mrprompt.poll_interval')::int,
        'max_response_bytes', mrprompt_internal.setting('mrprompt.max_response')::bigint,
        'max_delta_bytes', mrprompt_internal.setting('mrprompt.max_delta')::bigint,
        'max_stream_deltas', mrprompt_internal.setting('mrprompt.max_stream')::bigint);
comment on function mrprompt_internal.contract_settings() is 'The settings that fetchers obey.';

create function mrprompt_internal.lease() returns interval
    language sql stable set search_path = pg_catalog, pg_temp
    return mrprompt_internal.setting('mrprompt.lease_timeout')::int * interval '1 millisecond';
comment on function mrprompt_internal.lease() is 'How long a silent fetcher counts as alive.';

create function mrprompt_internal.enter(id uuid) returns mrprompt_internal.fetchers
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    fetcher mrprompt_internal.fetchers;
begin
    select * into fetcher from mrprompt_internal.fetchers f where f.id = enter.id for share;
    if not found then
        raise exception using errcode = 'PT410', message = format('fetcher %s is not known here', id),
            detail = 'It was silent for longer than mrprompt.lease_timeout, or said goodbye.', hint = 'Say hello again.';
    end if;
    return fetcher;
end
$$;
comment on function mrprompt_internal.enter(uuid) is
    'The calling fetcher, whose row stays share-locked to the end of the call: while it is, nobody takes its requests away. PT410: unknown.';

create function mrprompt_internal.check_batch(items integer) returns void
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    if items > 10000 then
        raise exception using errcode = 'PT413', message = format('%s items in one call are too many to look for a bad one', items),
            detail = 'Up to 10000 are halved until the bad one stands alone.', hint = 'Send fewer at once.';
    end if;
end
$$;
comment on function mrprompt_internal.check_batch(integer) is
    'Bounds the halving of a batch with bad items, each of which costs a savepoint. PT413: too many.';

create function mrprompt_internal.hello(args json) returns json
    language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '1s'
as $$
declare
    contract constant int := (args ->> 'contract')::int;
    new_id uuid;
begin
    if contract is null or contract not in (1, 2) then
        raise exception using errcode = 'PT400',
            message = format('this database speaks contract versions 1 and 2, the fetcher %s', coalesce(contract::text, 'none')),
            detail = format('fetcher: %s', args ->> 'program'),
            hint = 'Install the mrprompt-fetcher that belongs to the extension''s version, or ALTER EXTENSION mrprompt UPDATE.';
    end if;
    insert into mrprompt_internal.fetchers (kind, alone, program, contract, host, pid, claim_from, mark)
    select args ->> 'kind', coalesce((args ->> 'alone')::boolean, false), left(coalesce(args ->> 'program', '?'), 200), contract,
        left(args ->> 'host', 200), (args ->> 'pid')::int, v.last_value, v.last_value
    from mrprompt_internal.virtual_time v
    returning id into new_id;
    return json_build_object('fetcher', new_id, 'contract', contract, 'channel', mrprompt_internal.channel_name('fetchers'),
        'settings', mrprompt_internal.contract_settings());
end
$$;
comment on function mrprompt_internal.hello(json) is 'Contract: registers an incarnation of a fetcher. PT400: contract version not served.';

create function mrprompt_internal.heartbeat(args json) returns json
    language plpgsql security definer set search_path = pg_catalog, pg_temp
    set lock_timeout = '1s' set jit = off set enable_seqscan = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan
as $$
declare
    me constant uuid := (args ->> 'fetcher')::uuid;
    in_flight uuid[];
    attempts int[];
    unlisted uuid[];
    lost uuid[];
begin
    -- Everybody's view of what is in flight reads it: nonsense is refused here.
    perform from json_to_recordset(args -> 'progress') as p (request uuid, attempt integer, phase text, tokens bigint);
    update mrprompt_internal.fetchers f set last_seen = clock_timestamp(), progress = args -> 'progress' where f.id = me;
    if not found then
        perform mrprompt_internal.enter(me);
    end if;
    if (args ->> 'leaving')::boolean then
        perform mrprompt_internal.fetcher_gone(me, false);
        return json_build_object('cancel', '[]'::json, 'lost', '[]'::json, 'alone_waiting', 0,
            'settings', mrprompt_internal.contract_settings());
    end if;
    select array_agg((e ->> 0)::uuid), array_agg((e ->> 1)::int) into in_flight, attempts
    from json_array_elements(args -> 'in_flight') e;
    select array_agg(q.request_id) into unlisted
    from mrprompt_internal.queue q
    where q.fetcher_id = me
      and (q.request_id, q.attempt) not in (select l.id, l.attempt from unnest(in_flight, attempts) l (id, attempt));
    if unlisted is not null then
        perform mrprompt_internal.requeue(unlisted, 'lost', false);
    end if;
    select array_agg(l.id) into lost
    from unnest(in_flight, attempts) l (id, attempt)
    where not exists (select from mrprompt_internal.queue q
                      where q.request_id = l.id and q.attempt = l.attempt and q.fetcher_id = me);
    return json_build_object(
        'cancel', mrprompt_internal.cancels_for(me),
        'lost', coalesce(to_json(lost), '[]'),
        'settings', mrprompt_internal.contract_settings(),
        'alone_waiting', mrprompt_internal.alone_waiting());
end
$$;
comment on function mrprompt_internal.heartbeat(json) is
    'Contract: keeps a fetcher alive, queues again what it holds but does not list, answers what to cancel.';

create function mrprompt_internal.cancels_for(fetcher_id uuid) returns json
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return (select coalesce(json_agg(c.request_id), '[]')
            from mrprompt_internal.queue q
            cross join lateral (select c.request_id from mrprompt_internal.cancels c where c.request_id = q.request_id offset 0) c
            where q.fetcher_id = cancels_for.fetcher_id);
end
$$;
comment on function mrprompt_internal.cancels_for(uuid) is 'What this fetcher shall cancel; repeated until it has.';

create function mrprompt_internal.alone_waiting() returns integer
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    select count(*)::int from (
        select from mrprompt_internal.queue q
        where q.alone and q.fetcher_id is null and q.ready_at <= clock_timestamp()
          and (q.expires_at is null or q.expires_at > clock_timestamp())
          and not exists (select from mrprompt_internal.pauses p where p.provider in ('*', q.provider))
          and mrprompt_internal.is_home()
        limit 100) waiting;
end;
comment on function mrprompt_internal.alone_waiting() is 'How many requests wait for a fetcher of their own, as claim would hand them out; up to 100.';

