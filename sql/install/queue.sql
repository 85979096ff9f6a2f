-- The queue and the fetchers' leases: written by the contract, and by enqueue; users never touch a row of them.
-- Lock order, where a call locks several: fetchers, queue, requests; rows of one table by key.

create table mrprompt_internal.queue (
    request_id uuid primary key,
    ready_at timestamptz not null default clock_timestamp(),
    fetcher_id uuid,
    alone boolean not null default false,
    attempt integer not null default 0,
    deaths integer not null default 0,
    claimed_at timestamptz,
    expires_at timestamptz,
    provider varchar(50) not null,
    bytes integer not null
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 100000, autovacuum_vacuum_cost_delay = 0);
create index queue_ready on mrprompt_internal.queue (ready_at, request_id) where fetcher_id is null;
create index queue_claimed on mrprompt_internal.queue (fetcher_id) where fetcher_id is not null;
create index queue_alone on mrprompt_internal.queue (ready_at) where alone;
create index queue_expiring on mrprompt_internal.queue (expires_at) where expires_at is not null;
comment on table mrprompt_internal.queue is 'Requests that are not done. No foreign keys: nothing that users edit can hold a lock on it.';
comment on column mrprompt_internal.queue.fetcher_id is 'Who has it in flight; null: nobody.';
comment on column mrprompt_internal.queue.attempt is 'Rises at every claim: an outcome of another attempt changes nothing.';
comment on column mrprompt_internal.queue.deaths is 'How many fetchers have died with it in flight; at two it runs alone, at three it fails.';
comment on column mrprompt_internal.queue.alone is 'Runs in a fetcher of its own.';

create table mrprompt_internal.fetchers (
    id uuid primary key default mrprompt_internal.uuidv7(),
    kind text not null check (kind in ('child', 'libpq')),
    alone boolean not null,
    program text not null,
    contract integer not null,
    host text,
    pid integer,
    started_at timestamptz not null default clock_timestamp(),
    last_seen timestamptz not null default clock_timestamp(),
    claim_from timestamptz not null default '-infinity',
    scanned_at timestamptz not null default '-infinity',
    progress json
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
comment on table mrprompt_internal.fetchers is 'Fetchers and their leases: one row per living incarnation.';
comment on column mrprompt_internal.fetchers.claim_from is
    'A lower bound of ready_at under which this fetcher has found nothing: keeps claims fast while an old snapshot keeps dead rows.';

create table mrprompt_internal.cancels (
    request_id uuid primary key,
    requested_at timestamptz not null default clock_timestamp()
);
comment on table mrprompt_internal.cancels is 'Wishes to cancel; the contract carries them out and removes them.';

create table mrprompt_internal.pauses (
    provider varchar(50) primary key,
    since timestamptz not null default now(),
    by_role name not null default session_user
);
comment on table mrprompt_internal.pauses is 'Providers whose requests are not claimed; * is all of them.';

create table mrprompt_internal.homes (
    system_identifier bigint not null,
    database_oid oid not null,
    since timestamptz not null default now()
);
comment on table mrprompt_internal.homes is
    'The cluster and database that this data lives in. A copy finds a row that is not its own, and claims nothing until resume_here().';
insert into mrprompt_internal.homes (system_identifier, database_oid)
select mrprompt_internal.system_identifier(), oid from pg_database where datname = current_database();

create table mrprompt_internal.channel_secret (
    only_row boolean primary key default true check (only_row),
    secret uuid not null default gen_random_uuid()
);
comment on table mrprompt_internal.channel_secret is 'Makes the names of notification channels unguessable.';
insert into mrprompt_internal.channel_secret default values;

do $rls$
declare
    name text;
begin
    foreach name in array array['queue', 'fetchers', 'cancels', 'pauses', 'homes', 'channel_secret'] loop
        execute format('alter table mrprompt_internal.%I enable row level security', name);
    end loop;
end
$rls$;

create function mrprompt_internal.is_home() returns boolean
    language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
    select count(*) > 0 and bool_and(h.system_identifier = mrprompt_internal.system_identifier() and h.database_oid = d.oid)
    from mrprompt_internal.homes h, pg_database d where d.datname = current_database();
end;
comment on function mrprompt_internal.is_home() is 'Whether this is the database the data was made in, and no copy of it.';

create function mrprompt_internal.channel_name(subject text) returns text
    language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
    select 'mrprompt_' || left(encode(sha256(convert_to(secret::text || subject, 'UTF8')), 'hex'), 32)
    from mrprompt_internal.channel_secret;
end;
comment on function mrprompt_internal.channel_name(text) is 'The notification channel of a user (his id) or of the fetchers (the word fetchers).';

