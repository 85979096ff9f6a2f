-- Retention: bounded pruning that never touches what is queued, and forgetting a person.
\getenv dir PG_ABS_SRCDIR
\set helpers :dir '/helpers.sql'
\set ECHO none
\i :helpers
truncate mrprompt.batches, mrprompt_internal.attempt_errors, mrprompt_internal.prunings, mrprompt_internal.forgets;
-- Requests of long ago with everything that belongs to them, as many as count, of Ann unless said otherwise.
create function t.old(label text, age interval, status text default 'succeeded', count int default 1,
    owner uuid default 'aaaaaaaa-0000-4000-8000-000000000001', pieces int default 2) returns void language plpgsql as $$
declare
    id_ uuid;
    at_ timestamptz := now() - age;
begin
    for n in 1..count loop
        id_ := overlay(mrprompt_internal.uuid_at(at_)::text placing lpad(to_hex(n), 12, '0') from 25)::uuid;
        insert into mrprompt.requests (id, user_id, provider, model, stream, status, attempts, created_at, finished_at, metadata, payload)
        values (id_, owner, 'fake', 'fake-1', true, status, 1, at_, case when status not in ('queued', 'running') then at_ end,
            jsonb_build_object('label', label), '{"messages":[{"role":"user","content":"secret"}]}');
        if status in ('queued', 'running') then
            -- Not to be claimed or tended by anybody.
            perform mrprompt_internal.queue_again(id_);
            update mrprompt_internal.queue set ready_at = now() + interval '1 day' where request_id = id_;
        end if;
        insert into mrprompt.responses (request_id, attempt, content, created_at) values (id_, 1, 'secret', at_);
        insert into mrprompt.deltas (request_id, seq, attempt, content, created_at) select id_, s, 1, 'secret', at_ from generate_series(1, pieces) s;
        insert into mrprompt_internal.attempt_errors (request_id, attempt, at, error_message) values (id_, 1, at_, 'secret');
        insert into mrprompt.usage (request_id, attempt, slot, user_id, provider, model, agent_name, outcome, cost, price_known, finished_at)
        values (id_, 1, mrprompt_internal.slot_of(id_), owner, 'fake', 'fake-1', 'curator', 'succeeded', 0.01, true, at_);
    end loop;
end $$;
-- What there is, by label: requests, responses, deltas, reasons of attempts, ledger rows.
create function t.kept() returns table (label text, requests bigint, responses bigint, deltas bigint, attempts bigint, usage bigint)
    language sql as $$
    select metadata ->> 'label', count(*), sum((select count(*) from mrprompt.responses a where a.request_id = r.id))::bigint,
        sum((select count(*) from mrprompt.deltas d where d.request_id = r.id))::bigint,
        sum((select count(*) from mrprompt_internal.attempt_errors e where e.request_id = r.id))::bigint,
        sum((select count(*) from mrprompt.usage u where u.request_id = r.id))::bigint
    from mrprompt.requests r group by 1 order by 1 $$;
-- Rounds until one has looked at everything.
create function t.prune(kind text, cutoff timestamptz, max_rows int) returns table (round int, pruned int, more boolean) language plpgsql as $$
declare
    start uuid := '00000000-0000-0000-0000-000000000000';
begin
    round := 0;
    loop
        round := round + 1;
        select k.pruned, k.reached into pruned, start from mrprompt_internal.prune_kind(prune.kind, cutoff, start, max_rows) k;
        more := start is not null;
        return next;
        exit when not more;
    end loop;
end $$;
grant usage on schema t to public;
-- The supervisor's own housekeeping stays away from a database that is not at home.
create function t.at_home(yes boolean) returns void language sql as $$
    update mrprompt_internal.homes set database_oid = case when yes then (select oid from pg_database where datname = current_database()) else 0 end $$;
do $$ begin perform t.at_home(false); end $$;
\set ECHO all
select kind, setting from mrprompt.retention order by kind;
-- by default: pieces of streams after a day, reasons of attempts after 90 days; nothing of what is queued
select t.old('a hundred days', '100 days'), t.old('queued for a hundred days', '100 days 1 hour', 'queued'),
    t.old('running for a hundred days', '100 days 2 hours', 'running'), t.old('two days', '2 days'), t.old('an hour', '1 hour');
do $$ begin perform mrprompt_internal.prune(1000); end $$;
select * from t.kept();
select kind, oldest is not null as some, pruned_rows, last_pruned_at is not null as pruned from mrprompt.retention order by kind;
-- nothing is due: nothing is written
select xmin::text as before from mrprompt_internal.prunings where kind = 'deltas' \gset
do $$ begin for i in 1..3 loop perform mrprompt_internal.prune(1000); end loop; end $$;
select xmin::text = :'before' as untouched from mrprompt_internal.prunings where kind = 'deltas';
-- whole requests, by their end: the ledger stays
select t.old('retried lately', '100 days 3 hours');
update mrprompt.requests set finished_at = now() - interval '1 minute' where id = t.id('retried lately');
select * from t.prune('requests', now() - interval '90 days', 1000);
select * from t.kept();
select count(*) from mrprompt.usage;
-- answers alone
select * from t.prune('responses', now() - interval '1 day', 1000);
select * from t.kept();
-- the ledger
select * from t.prune('usage', now() - interval '1 day', 1000);
select * from t.kept();
select count(*) from mrprompt.usage;
do $$ begin perform t.reset(); truncate mrprompt_internal.attempt_errors; end $$;
-- in steps: old requests that wait do not hold up those behind them, and each step is bounded
select t.old('waiting', '101 days', 'queued', 25), t.old('done', '100 days', count => 25);
select * from t.prune('requests', now() - interval '90 days', 10);
select * from t.kept();
select t.old('done', '99 days', count => 25);
select * from t.prune('responses', now() - interval '90 days', 10);
select * from t.prune('attempts', now() - interval '90 days', 10);
select sum(pruned), max(pruned) from t.prune('usage', now() - interval '60 days', 10);
select * from t.kept();
do $$ begin perform t.reset(); truncate mrprompt_internal.attempt_errors; end $$;
-- a stream goes whole, and a step takes few of them
select t.old('long', '100 days', count => 5, pieces => 8);
select * from t.prune('deltas', now() - interval '90 days', 10);
select t.old('longer', '99 days', count => 3, pieces => 30);
select * from t.prune('requests', now() - interval '90 days', 10);
-- the place is remembered from call to call
select t.old('waiting', '101 days', 'queued', 25), t.old('done', '100 days');
do $$ begin for i in 1..6 loop perform mrprompt_internal.prune(5); end loop; end $$;
select * from t.kept();
-- what an app refers to stays, emptied, and holds up nothing
do $$ begin perform t.reset(); truncate mrprompt_internal.attempt_errors; end $$;
select t.old('referred to', '100 days'), t.old('free', '99 days', count => 3);
create table public.app (request_id uuid references mrprompt.requests deferrable initially deferred);
insert into public.app values (t.id('referred to'));
select * from t.prune('requests', now() - interval '90 days', 1000);
select status, payload, metadata, error_message from mrprompt.requests;
select * from t.prune('requests', now() - interval '90 days', 1000);
select mrprompt_internal.prune(1000) is not null as goes_on;
-- a trigger of the app's that forbids it stops nothing but the pruning of that row
select t.old('forbidden', '3 days'), t.old('free', '3 days 1 hour');
create table public.guarded (request_id uuid references mrprompt.requests on delete cascade);
insert into public.guarded values (t.id('forbidden'));
create function public.forbid() returns trigger language plpgsql as $$ begin raise insufficient_privilege using message = 'not this one'; end $$;
create trigger forbid before delete on public.guarded for each row execute function public.forbid();
select mrprompt_internal.prune_kind('requests', now() - interval '2 days', '00000000-0000-0000-0000-000000000000', 100);
select t.label(id) as label, payload::text from mrprompt.requests where metadata ->> 'label' = 'free' or id in (select request_id from public.guarded);
drop table public.guarded;
drop function public.forbid();
drop table public.app;
-- a ledger that is kept for months goes by the month: a slot of the ring is emptied when all of it is old
set timezone = 'UTC';
do $$ begin perform t.reset(); truncate mrprompt_internal.attempt_errors; end $$;
create function t.slots() returns table (slot smallint, months text, rows bigint) language sql as $$
    select u.slot, string_agg(distinct to_char(mrprompt_internal.uuid_time(u.request_id) at time zone 'UTC', 'YYYY-MM'), ' '), count(*)
    from mrprompt.usage u group by 1 order by min(u.request_id::text) $$;
create function t.drop_month(cutoff timestamptz) returns int language sql as $$
    select pruned from mrprompt_internal.prune_kind('usage', cutoff, '00000000-0000-0000-0000-000000000000', 3) $$;
select t.old('march', now() - '2025-03-10 12:00Z', count => 5), t.old('april', now() - '2025-04-10 12:00Z', count => 4), t.old('may', now() - '2025-05-10 12:00Z', count => 2);
select * from t.slots();
select t.drop_month('2025-03-10 11:00Z') as not_yet, t.drop_month('2025-03-10 13:00Z') as march, t.drop_month('2025-03-10 13:00Z') as once;
select * from t.slots();
-- not while a row of it ended later, nor while a request of it waits: then by the row
update mrprompt.usage set finished_at = '2025-06-01 12:00Z' where request_id = (select min(request_id::text)::uuid from mrprompt.usage);
select t.old('waiting', now() - '2025-05-09 12:00Z', 'queued');
select t.drop_month('2025-05-20 12:00Z'), t.drop_month('2025-05-20 12:00Z'), t.drop_month('2025-05-20 12:00Z');
select * from t.slots();
-- nor where a month sixteen months later shares it
select t.old('sixteen months on', now() - '2026-08-10 12:00Z', count => 2), t.old('april again', now() - '2025-04-20 12:00Z', count => 4);
select * from t.slots();
select t.drop_month('2025-07-01 12:00Z'), t.drop_month('2025-07-01 12:00Z'), t.drop_month('2025-07-01 12:00Z');
select * from t.slots();
-- once nothing of it waits, it goes as a whole
delete from mrprompt_internal.queue;
select t.drop_month('2025-07-01 12:00Z');
select * from t.slots();
reset timezone;
drop function t.slots(), t.drop_month(timestamptz);
-- a batch goes when its requests are gone
truncate mrprompt.requests;
insert into mrprompt.batches (id, user_id, name, total, created_at)
select mrprompt_internal.uuid_at(m), 'aaaaaaaa-0000-4000-8000-000000000001', n, 1, m
from (values ('old', now() - interval '100 days'), ('in use', now() - interval '99 days'), ('new', now())) v (n, m);
select t.old('kept', '99 days');
update mrprompt.requests set batch_id = (select id from mrprompt.batches where name = 'in use');
select pruned from t.prune('batches', now() - interval '90 days', 1000);
select name from mrprompt.batches order by id;
-- who sees it
set role mrprompt_analyst;
select count(*) from mrprompt.retention;
reset role;
set role mrprompt_user;
select state from t.try('select * from mrprompt.retention');
select state from t.try('select * from mrprompt.forgetting');
select state from t.try($$select mrprompt.forget_user('aaaaaaaa-0000-4000-8000-000000000001')$$);
select state from t.try($$select mrprompt_internal.forget_user('aaaaaaaa-0000-4000-8000-000000000001')$$);
select state from t.try('select mrprompt_internal.prune(1)');
reset role;

-- Forgetting a person.
do $$ begin perform t.reset(); truncate mrprompt.batches, mrprompt_internal.attempt_errors; end $$;
\set ann 'aaaaaaaa-0000-4000-8000-000000000001'
\set bob 'bbbbbbbb-0000-4000-8000-000000000002'
select t.be('ann');
select mrprompt.add_user(name => 'Ann', user_id => :'ann') = :'ann' as added;
select mrprompt.add_key('fake', 'sk-test-ann-000000001') is not null as own;
select mrprompt.add_key('fake', 'sk-test-shared-0000001', shared => true) as shared \gset
select mrprompt.grant_key(:'shared', :'ann') = mrprompt.grant_key(:'shared', :'bob') as granted;
select mrprompt.chat_batch('["a", "b"]', 'fake-1', 'fake', name => 'hers') is not null as queued;
select t.hello('f1');
select t.ask('in flight');
do $$ begin perform t.at_home(true); end $$;
select count(*) from mrprompt_internal.claim((t.args('f1') || '{"room": 100, "bytes": 1000000}')::json);
do $$ begin perform t.at_home(false); end $$;
select t.old('old', '3 days', count => 7), t.old('held', '4 days');
create table public.app (request_id uuid references mrprompt.requests);
insert into public.app values (t.id('held'));
select t.ask('waiting');
select t.be('bob');
select t.old('his', '3 days 1 hour', owner => :'bob');
select t.ask('also his');
select sum(cost) as cost from mrprompt.usage \gset
do $$ begin
    perform mrprompt.add_group_member('team', 'aaaaaaaa-0000-4000-8000-000000000001');
    perform mrprompt.grant_extra(mrprompt.set_budget('user', 'aaaaaaaa-0000-4000-8000-000000000001', 5), 1);
    perform mrprompt.set_rate_limit('user', 'aaaaaaaa-0000-4000-8000-000000000001', 60);
end $$;
select state, message from t.try('select mrprompt.forget_user(null)');
select state from t.try($$select mrprompt.forget_user('00000000-0000-0000-0000-000000000000')$$);
select t.why(format('select mrprompt.forget_user(%L)', :'bob'));
select mrprompt.forget_user(:'ann'), mrprompt.forget_user(:'ann');
-- at once: no key, everything cancelled
select encrypted_key, revoked_at is not null as revoked from mrprompt.api_keys where user_id = :'ann';
select count(*) from mrprompt_internal.cancels;
set role mrprompt_admin;
select user_id, requests_left from mrprompt.forgetting;
reset role;
-- in steps: what is in flight is waited for
do $$ begin for i in 1..20 loop perform mrprompt_internal.forget_some(5); end loop; end $$;
select requests_left from mrprompt.forgetting;
select status, count(*) from mrprompt.requests where user_id = :'ann' group by 1;
select count(*) from mrprompt.users where id = :'ann';
create function t.end_in_flight() returns void language sql as $$
    select mrprompt_internal.settle((t.args('f1') || jsonb_build_object('outcomes', (
        select jsonb_agg(jsonb_build_object('request', r.id, 'attempt', 1, 'result', 'cancelled') || t.answer('partial'))
        from mrprompt.requests r where r.status = 'running')))::json) $$;
select t.end_in_flight();
do $$ begin for i in 1..20 loop perform mrprompt_internal.forget_some(5); end loop; end $$;
select * from mrprompt.forgetting;
-- nothing of hers is left; the money is
select count(*) from mrprompt.requests where user_id = :'ann';
select user_id, status, payload, metadata from mrprompt.requests where user_id not in (:'ann', :'bob');
select (select count(*) from mrprompt.responses) as responses, (select count(*) from mrprompt.deltas) as deltas,
    (select count(*) from mrprompt_internal.attempt_errors) as attempts, (select count(*) from mrprompt.batches) as batches,
    (select count(*) from mrprompt.users) as users, (select count(*) from mrprompt.api_keys where user_id is not null) as keys;
select user_id from mrprompt.key_grants;
select user_id, agent_name, count(*) from mrprompt.usage group by 1, 2 order by 1, 2;
select sum(cost) = :cost as the_money_stays from mrprompt.usage;
select (select count(*) from mrprompt.group_members) as groups, (select count(*) from mrprompt.budgets) as budgets, (select count(*) from mrprompt.budget_extras) as extras,
    (select count(*) from mrprompt.rate_limits) as limits, (select count(*) from mrprompt.audit_log a where strpos(a::text, :'ann') > 0) as audited;
select t.label(id), status from mrprompt.requests where user_id = :'bob' order by id;
select mrprompt_internal.forget_some(100);
drop table public.app;
do $$ begin perform t.reset(); truncate mrprompt.batches, mrprompt_internal.attempt_errors, mrprompt_internal.prunings; perform t.at_home(true); end $$;
revoke usage on schema t from public;
