-- The contract between database and fetcher: hello, heartbeat, append, and what the calls share. ARCHITECTURE.md has the shapes.

create function mrprompt_internal.contract_settings() returns json
    language sql stable set search_path = pg_catalog, pg_temp
    return json_build_object(
        'max_in_flight', mrprompt_internal.setting('max_in_flight')::int,
        'claim_bytes', mrprompt_internal.setting('claim_bytes')::bigint,
        'delta_ms', mrprompt_internal.setting('delta_interval')::int,
        'heartbeat_ms', mrprompt_internal.setting('heartbeat_interval')::int,
        'poll_ms', mrprompt_internal.setting('poll_interval')::int,
        'max_response_bytes', mrprompt_internal.setting('max_response')::bigint);
comment on function mrprompt_internal.contract_settings() is 'The settings that fetchers obey.';

create function mrprompt_internal.lease() returns interval
    language sql stable set search_path = pg_catalog, pg_temp
    return mrprompt_internal.setting('lease_timeout')::int * interval '1 millisecond';
comment on function mrprompt_internal.lease() is 'How long a silent fetcher counts as alive.';

create function mrprompt_internal.enter(args json) returns mrprompt_internal.fetchers
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    fetcher mrprompt_internal.fetchers;
begin
    select * into fetcher from mrprompt_internal.fetchers f where f.id = (args ->> 'fetcher')::uuid for share;
    if not found then
        raise exception using errcode = 'PT410', message = format('fetcher %s is not known here', args ->> 'fetcher'),
            detail = 'It was silent for longer than mrprompt.lease_timeout, or said goodbye.', hint = 'Say hello again.';
    end if;
    return fetcher;
end
$$;
comment on function mrprompt_internal.enter(json) is
    'The calling fetcher, whose row stays share-locked to the end of the call: while it is, nobody takes its requests away. PT410: unknown.';

create function mrprompt_internal.hello(args json) returns json
    language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '1s'
as $$
declare
    contract constant int := (args ->> 'contract')::int;
    new_id uuid;
begin
    if contract is distinct from 1 then
        raise exception using errcode = 'PT400',
            message = format('this database speaks contract version 1, the fetcher %s', coalesce(contract::text, 'none')),
            detail = format('fetcher: %s', args ->> 'program'),
            hint = 'Install the mrprompt-fetcher that belongs to the extension''s version, or ALTER EXTENSION mrprompt UPDATE.';
    end if;
    insert into mrprompt_internal.fetchers (kind, alone, program, contract, host, pid)
    values (args ->> 'kind', coalesce((args ->> 'alone')::boolean, false), coalesce(args ->> 'program', '?'), contract,
            args ->> 'host', (args ->> 'pid')::int)
    returning id into new_id;
    return json_build_object('fetcher', new_id, 'contract', 1, 'channel', mrprompt_internal.channel_name('fetchers'),
        'settings', mrprompt_internal.contract_settings());
end
$$;
comment on function mrprompt_internal.hello(json) is 'Contract: registers an incarnation of a fetcher. PT400: contract version not served.';

create function mrprompt_internal.append(args json) returns json
    language plpgsql security definer set search_path = pg_catalog, pg_temp
    set lock_timeout = '1s' set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    fetcher constant mrprompt_internal.fetchers := mrprompt_internal.enter(args);
    rejected json;
    lost uuid[];
begin
    rejected := mrprompt_internal.append_slice(fetcher.id,
        array(select json_array_elements(args -> 'deltas')));
    select array_agg(distinct d.request) into lost
    from json_to_recordset(args -> 'deltas') as d (request uuid, attempt int)
    where not exists (select from mrprompt_internal.queue q
                      where q.request_id = d.request and q.attempt = d.attempt and q.fetcher_id = fetcher.id);
    return json_build_object('lost', coalesce(to_json(lost), '[]'), 'rejected', coalesce(rejected, '[]'));
end
$$;
comment on function mrprompt_internal.append(json) is 'Contract: stores coalesced stream deltas of many requests.';

create function mrprompt_internal.append_slice(fetcher_id uuid, deltas json[]) returns json
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    half constant int := cardinality(deltas) / 2;
    ids uuid[];
    left_ json;
    right_ json;
begin
    with d as materialized (
        select * from json_to_recordset(array_to_json(deltas)) as d (
            request uuid, attempt int, seq bigint, content text, reasoning text, refusal text, tool_calls json)
    ), stored as (
        insert into mrprompt.deltas
            (request_id, seq, attempt, content, reasoning, refusal, tool_calls)
        select d.request, (d.attempt - 1) * 1000000::bigint + d.seq, d.attempt, d.content, d.reasoning, d.refusal, d.tool_calls
        from d join mrprompt_internal.queue q
            on q.request_id = d.request and q.attempt = d.attempt and q.fetcher_id is not distinct from append_slice.fetcher_id
        where d.seq between 1 and 999999
        on conflict (request_id, seq) do nothing
        returning request_id
    )
    select array_agg(distinct request_id) into ids from stored;
    perform mrprompt_internal.note_changes(ids);
    return null;
exception when data_exception or integrity_constraint_violation or program_limit_exceeded then
    if cardinality(deltas) = 1 then
        return json_build_array(json_build_object('request', deltas[1] ->> 'request', 'sqlstate', sqlstate, 'message', sqlerrm));
    end if;
    left_ := mrprompt_internal.append_slice(append_slice.fetcher_id, deltas[:half]);
    right_ := mrprompt_internal.append_slice(append_slice.fetcher_id, deltas[half + 1:]);
    return (select json_agg(e) from (
        select json_array_elements(left_) as e union all select json_array_elements(right_)) both_);
end
$$;
comment on function mrprompt_internal.append_slice(uuid, json[]) is
    'Stores some deltas; where the whole does not go in, its halves are tried, so that a bad one fails alone. Answers the bad ones.';

create function mrprompt_internal.heartbeat(args json) returns json
    language plpgsql security definer set search_path = pg_catalog, pg_temp
    set lock_timeout = '1s' set jit = off set enable_seqscan = off set enable_mergejoin = off
as $$
declare
    me constant uuid := (args ->> 'fetcher')::uuid;
    in_flight uuid[];
    attempts int[];
    unlisted uuid[];
    lost uuid[];
begin
    update mrprompt_internal.fetchers f set last_seen = clock_timestamp(), progress = args -> 'progress' where f.id = me;
    if not found then
        perform mrprompt_internal.enter(args);
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
      and not exists (select from unnest(in_flight, attempts) l (id, attempt) where l.id = q.request_id and l.attempt = q.attempt);
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
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    select coalesce(json_agg(c.request_id), '[]')
    from mrprompt_internal.cancels c join mrprompt_internal.queue q on q.request_id = c.request_id
    where q.fetcher_id = cancels_for.fetcher_id;
end;
comment on function mrprompt_internal.cancels_for(uuid) is 'What this fetcher shall cancel; repeated until it has.';

create function mrprompt_internal.alone_waiting() returns integer
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    select count(*)::int from (
        select from mrprompt_internal.queue q
        where q.alone and q.fetcher_id is null and q.ready_at <= clock_timestamp() limit 100) waiting;
end;
comment on function mrprompt_internal.alone_waiting() is 'How many requests wait for a fetcher of their own, up to 100.';

