-- Running it: pausing and draining, and taking over a copied database.

create function mrprompt_internal.set_pause(provider text, paused boolean) returns void
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform mrprompt_internal.require_admin('pause or resume');
    if provider <> '*' and not exists (select from mrprompt.providers p where p.name = set_pause.provider) then
        raise exception using errcode = 'PT400', message = format('there is no provider %s', left(provider, 100)),
            detail = (select 'Known: ' || string_agg(p.name, ', ' order by p.name) from mrprompt.providers p);
    end if;
    if paused then
        insert into mrprompt_internal.pauses as p (provider) values (set_pause.provider) on conflict do nothing;
    else
        delete from mrprompt_internal.pauses p where p.provider = set_pause.provider or set_pause.provider = '*';
        insert into mrprompt_internal.releases (kind, provider) values ('pause', nullif(set_pause.provider, '*'));
        perform mrprompt_internal.wake(mrprompt_internal.channel_name('fetchers'));
    end if;
end
$$;

create function mrprompt.pause(provider text default null) returns void
    language sql volatile return mrprompt_internal.set_pause(coalesce(provider, '*'), true);
comment on function mrprompt.pause(text) is
    'Admins: nothing more is taken from the queue (of one provider, or of all) until resume(). What is in flight goes on; new requests are queued.';

create function mrprompt.resume(provider text default null) returns void
    language sql volatile return mrprompt_internal.set_pause(coalesce(provider, '*'), false);
comment on function mrprompt.resume(text) is 'Admins: ends pause() or drain(), of one provider; without one, all of them.';

create function mrprompt_internal.count_in_flight(provider text) returns bigint
    language sql volatile security definer set search_path = pg_catalog, pg_temp
begin atomic
    select count(*) from mrprompt_internal.queue q
    where q.fetcher_id is not null and (count_in_flight.provider = '*' or q.provider = count_in_flight.provider);
end;

create procedure mrprompt.drain(provider text default null, timeout interval default '5 minutes', inout in_flight bigint default null)
    language plpgsql
as $$
declare
    until constant pg_catalog.timestamptz := pg_catalog.clock_timestamp() operator(pg_catalog.+) timeout;
begin
    perform mrprompt.pause(provider);
    commit;
    loop
        in_flight := mrprompt_internal.count_in_flight(coalesce(provider, '*'));
        exit when in_flight operator(pg_catalog.=) 0 or pg_catalog.clock_timestamp() operator(pg_catalog.>=) until;
        commit;
        perform pg_catalog.pg_sleep(0.1);
    end loop;
end
$$;
comment on procedure mrprompt.drain(text, interval, bigint) is
    'Admins: pause(), then wait until nothing is in flight (or the timeout has passed); in_flight says how many are left. resume() ends it.';

create function mrprompt_internal.resume_here() returns void
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform mrprompt_internal.require_admin('make this database the one that spends');
    -- Leases that came along with a copy are nobody's here.
    perform mrprompt_internal.fetcher_gone(f.id, false) from mrprompt_internal.fetchers f
    where not mrprompt_internal.is_home();
    delete from mrprompt_internal.homes h;
    insert into mrprompt_internal.homes (system_identifier, database_oid)
    select mrprompt_internal.system_identifier(), d.oid from pg_database d where d.datname = current_database();
    perform mrprompt_internal.wake(mrprompt_internal.channel_name('fetchers'));
end
$$;

create function mrprompt.resume_here() returns void
    language sql volatile return mrprompt_internal.resume_here();
comment on function mrprompt.resume_here() is
    'Admins: after a restore or a copy, says that this database is the one that goes on. Until then its queue waits. '
    'Make sure that the original does not run as well: both would send the same requests.';

