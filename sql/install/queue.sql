-- The queue and the fetchers' leases: written by the contract, and by enqueue; users never touch a row of them.
-- What runs once per call or request is plpgsql, which keeps its plans: a function in SQL is planned anew each time.
-- Lock order, where a call locks several: fetchers, queue, requests, then as meters.sql says; rows of one table by key.

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
    bytes integer not null,
    user_id uuid not null,
    priority smallint not null default 0,
    key_id uuid,
    model text not null,
    tag bigint not null,
    ready boolean not null default true,
    waits_for text check (waits_for in ('retry', 'cooldown', 'pause', 'limit', 'budget')),
    prompt_bound bigint not null default 0,
    output_bound bigint,
    choices integer not null default 1,
    images integer,
    special text[],
    hold numeric,
    counters bigint[],
    buckets bigint[],
    reserved bigint,
    output_limit bigint,
    blocked_by bigint,
    key_hash text
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 100000, autovacuum_vacuum_cost_delay = 0);
create index queue_ready on mrprompt_internal.queue (tag, request_id) where fetcher_id is null and ready and not alone;
create index queue_flow on mrprompt_internal.queue (user_id, priority, tag) where fetcher_id is null;
create index queue_waiting on mrprompt_internal.queue (ready_at) where fetcher_id is null and not ready;
create index queue_put_aside on mrprompt_internal.queue (waits_for, provider, model) where fetcher_id is null and not ready;
create index queue_blocked on mrprompt_internal.queue (blocked_by, tag) where blocked_by is not null;
create index queue_claimed on mrprompt_internal.queue (fetcher_id) where fetcher_id is not null;
create index queue_alone on mrprompt_internal.queue (ready_at) where alone;
create index queue_expiring on mrprompt_internal.queue (expires_at) where expires_at is not null;
comment on table mrprompt_internal.queue is 'Requests that are not done. No foreign keys: nothing that users edit can hold a lock on it.';
comment on column mrprompt_internal.queue.fetcher_id is 'Who has it in flight; null: nobody.';
comment on column mrprompt_internal.queue.attempt is 'Rises at every claim: an outcome of another attempt changes nothing.';
comment on column mrprompt_internal.queue.deaths is 'How many fetchers have died with it in flight; at two it runs alone, at three it fails.';
comment on column mrprompt_internal.queue.alone is 'Runs in a fetcher of its own.';
comment on column mrprompt_internal.queue.tag is
    'Its place: claims take the lowest. Tags of one user and priority are a step apart, so that users share (next_tag).';
comment on column mrprompt_internal.queue.ready is 'Whether a claim may take it; if not, it is made ready at ready_at.';
comment on column mrprompt_internal.queue.waits_for is 'What a row that is not ready waits for.';
comment on column mrprompt_internal.queue.prompt_bound is 'Tokens that the prompt has at most, its images aside (bounds_of).';
comment on column mrprompt_internal.queue.output_bound is 'The output limit that the payload names, per answer; null: none.';
comment on column mrprompt_internal.queue.special is 'Which prices beside the ordinary ones may apply: 1h, audio, a service tier.';
comment on column mrprompt_internal.queue.hold is 'In flight: USD held on each of the counters.';
comment on column mrprompt_internal.queue.buckets is 'In flight: the rate limits it counts in, with reserved tokens.';
comment on column mrprompt_internal.queue.output_limit is 'In flight: the output limit that it is sent with, where a budget or limit needs one.';
comment on column mrprompt_internal.queue.blocked_by is 'The counter or bucket whose change would let it go on.';
comment on column mrprompt_internal.queue.key_hash is 'Of its key, as the claim found it: a refusal is one of that secret.';

create function mrprompt_internal.refuse_overtaken() returns uuid
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using errcode = 'serialization_failure', message = 'mrprompt was updated while this call was under way',
        detail = 'Nothing was queued.', hint = 'Try again in a new transaction.';
end
$$;
comment on function mrprompt_internal.refuse_overtaken() is
    'The user of a row that a call of an earlier release queues, which waited for ALTER EXTENSION UPDATE and does not know the column.';
alter table mrprompt_internal.queue alter column user_id set default mrprompt_internal.refuse_overtaken();

create sequence mrprompt_internal.virtual_time as bigint minvalue 0 start 0;
comment on sequence mrprompt_internal.virtual_time is
    'The tag that claims have come to. A sequence, because it is read and moved by all without a lock or a row version.';

create function mrprompt_internal.step(priority integer) returns bigint
    language sql immutable parallel safe
    return case when priority < 0 then 4096::bigint << (-2 * priority) else 4096::bigint >> (2 * priority) end;
comment on function mrprompt_internal.step(integer) is 'How far apart the tags of one user''s requests are: the priority as a share, four times as much for each step up.';

create function mrprompt_internal.next_tag(user_id uuid, priority integer) returns bigint
    language plpgsql volatile set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan set enable_sort = off
as $$
declare
    now_ constant bigint := (select last_value from mrprompt_internal.virtual_time);
begin
    -- The end of the index, not max(): that may read all of the user's.
    return greatest(now_, (select q.tag from mrprompt_internal.queue q
                           where q.user_id = next_tag.user_id and q.priority = next_tag.priority
                             and q.fetcher_id is null and q.tag > now_
                           order by q.tag desc limit 1)) + mrprompt_internal.step(next_tag.priority);
end
$$;
comment on function mrprompt_internal.next_tag(uuid, integer) is
    'The tag of a new request: behind the user''s own waiting ones, and behind what claims have come to (self-clocked fair queueing).';

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
    progress json,
    claim_from bigint not null default 0,
    mark bigint not null default 0,
    marked_at timestamptz not null default '-infinity',
    scan_at timestamptz not null default '-infinity'
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
comment on table mrprompt_internal.fetchers is 'Fetchers and their leases: one row per living incarnation.';
comment on column mrprompt_internal.fetchers.claim_from is
    'Tags below have been claimed, some seconds ago: a bound that keeps claims fast while an old snapshot keeps dead rows.';
comment on column mrprompt_internal.fetchers.mark is 'The next claim_from: the virtual time at marked_at.';
comment on column mrprompt_internal.fetchers.scan_at is 'When to look below the bound again, for requests whose transaction committed late.';

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

create table mrprompt_internal.cooldowns (
    provider varchar(50) not null,
    key_id uuid not null,
    model text not null,
    reason text not null check (reason in ('rate_limit', 'auth', 'failures')),
    until timestamptz not null,
    times integer not null default 1,
    opened_at timestamptz not null default clock_timestamp(),
    probe uuid,
    error_type text,
    primary key (provider, key_id, model)
) with (fillfactor = 50);
comment on table mrprompt_internal.cooldowns is
    'Keys'' models at a provider that are left alone for a while. Kept for ten minutes after their end, for times.';
comment on column mrprompt_internal.cooldowns.key_id is 'The nil uuid: requests without a key.';
comment on column mrprompt_internal.cooldowns.times is 'How often in a row: the pause doubles.';
comment on column mrprompt_internal.cooldowns.probe is 'After an auth error or failures: the one request that is let through to see.';

create table mrprompt_internal.releases (
    id uuid primary key default mrprompt_internal.uuidv7(),
    kind text not null check (kind in ('pause', 'cooldown', 'budget')),
    provider varchar(50),
    key_id uuid,
    model text,
    by_role name,
    scope text,
    subject text,
    reached uuid,
    done_at timestamptz
);
comment on table mrprompt_internal.releases is
    'Wishes to end cooldowns, pauses that were ended, and budgets and limits that were changed: the contract makes ready what waits for them. Null: any.';
comment on column mrprompt_internal.releases.scope is 'Of a budget or limit that was changed, with its subject: whom it concerns.';
comment on column mrprompt_internal.releases.reached is 'Up to this request those that wait have been made ready: some may wait again, and come up once only.';
comment on column mrprompt_internal.releases.done_at is
    'When all were through. A claim under way may have known what was before: so it is gone through once more, some seconds later.';
comment on column mrprompt_internal.releases.by_role is 'Who called end_cooldown(); null: a probe, a new secret or resume() did.';

create table mrprompt_internal.homes (
    system_identifier bigint not null,
    database_oid oid not null,
    since timestamptz not null default now(),
    id uuid primary key default mrprompt_internal.uuidv7()
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
    foreach name in array array['queue', 'fetchers', 'cancels', 'pauses', 'cooldowns', 'releases', 'homes', 'channel_secret'] loop
        execute format('alter table mrprompt_internal.%I enable row level security', name);
    end loop;
end
$rls$;

create view mrprompt_internal.home with (security_invoker = true) as
    select count(*) > 0 and bool_and(h.system_identifier = mrprompt_internal.system_identifier() and h.database_oid = d.oid) as here
    from mrprompt_internal.homes h, pg_database d where d.datname = current_database();
comment on view mrprompt_internal.home is 'here: this is the database the data was made in, and no copy of it.';

create function mrprompt_internal.is_home() returns boolean
    language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (select h.here from mrprompt_internal.home h);
end
$$;
comment on function mrprompt_internal.is_home() is 'Whether this is the database the data was made in, and no copy of it.';

create function mrprompt_internal.channel_name(subject text) returns text
    language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (select 'mrprompt_' || left(encode(sha256(convert_to(c.secret::text || subject, 'UTF8')), 'hex'), 32)
            from mrprompt_internal.channel_secret c);
end
$$;
comment on function mrprompt_internal.channel_name(text) is 'The notification channel of a user (his id) or of the fetchers (the word fetchers).';

