-- Roll-ups: whatever the watermark has come to, every view says what the ledger says; and who sees what of it.
\getenv dir PG_ABS_SRCDIR
\set helpers :dir '/helpers.sql'
\set ECHO none
\i :helpers
truncate mrprompt_internal.prunings, mrprompt_internal.forgets, mrprompt_internal.budget_counters;
-- The supervisor's own housekeeping stays away from a database that is not at home.
create or replace function t.at_home(yes boolean) returns void language sql as $$
    update mrprompt_internal.homes set database_oid = case when yes then (select oid from pg_database where datname = current_database()) else 0 end $$;
do $$ begin perform t.at_home(false); end $$;
create function t.person(n int) returns uuid language sql immutable as $$ select ('aaaaaaaa-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
-- n attempts at random moments of some hours from a time on, of 5 persons, 2 providers, 3 models, 3 agents, 4 keys, some tags.
create function t.spend(n int, since timestamptz, span interval) returns void language sql as $$
    insert into mrprompt.usage (request_id, attempt, slot, user_id, provider, model, key_id, agent_name, outcome, prompt_tokens, completion_tokens,
        cached_tokens, cache_write_tokens, reasoning_tokens, cost, price_known, first_token_ms, total_ms, finished_at, estimated, price_id, tags)
    select id, a, mrprompt_internal.slot_of(id), t.person(1 + (random() * 4)::int), (array['fake', 'other'])[1 + (random())::int],
        (array['m', 'org/m', 'n'])[1 + (random() * 2)::int], (array[null, t.person(101), t.person(102), t.person(103)])[1 + (random() * 3)::int],
        (array[null, 'curator', 'librarian'])[1 + (random() * 2)::int],
        (array['succeeded', 'succeeded', 'failed', 'cancelled', 'unknown', 'lost'])[1 + (random() * 5)::int],
        nullif((random() * 1000)::int, 0), (random() * 100)::int, case when random() < 0.5 then (random() * 500)::int end, (random() * 10)::int,
        (random() * 10)::int, case when random() < 0.9 then (random() * 0.01)::numeric end, true, (array[null, 20, 30])[1 + (random() * 2)::int],
        case when random() < 0.9 then (random() * 1000)::int end, moment, random() < 0.1,
        case when random() < 0.8 then (select p.id from mrprompt.price_versions p where p.provider = 'fake' and p.model = 'm') end,
        (array[null, '{night}', '{night,team a}'])[1 + (random() * 2)::int]::text[]
    from (select date_trunc('milliseconds', since + random() * span) as moment, g from generate_series(1, n) g) at,
        lateral (select overlay(mrprompt_internal.uuid_at(moment - interval '2 seconds')::text placing lpad(to_hex((random() * 1e9)::int), 12, '0') from 25)::uuid as id,
            1 + (g % 3) as a) i $$;
-- Steps of the watermark, each in a transaction of its own, until so many have moved it, or it is past a time; others' transactions are waited for.
create procedure t.roll(steps int, max_rows int default 40, past timestamptz default 'infinity') language plpgsql as $$
begin
    for patience in 1..3000 loop
        exit when steps = 0 or (select rolled_up_to > past from mrprompt_internal.usage_watermark);
        if mrprompt_internal.roll_up(max_rows) > 0 then
            steps := steps - 1;
        else
            perform pg_sleep(0.01);
        end if;
        commit;
    end loop;
end $$;
-- The sums of the ledger by any expression, in the views' columns.
create function t.from_ledger(by text) returns setof jsonb language plpgsql as $$
begin
    return query execute format($q$
        select to_jsonb(s) from (
            select %s, count(*) filter (where attempt = 1) as requests, count(*) as attempts, count(*) filter (where outcome = 'failed') as failed_attempts,
                coalesce(sum(prompt_tokens), 0) as prompt_tokens, coalesce(sum(completion_tokens), 0) as completion_tokens,
                coalesce(sum(cached_tokens), 0) as cached_tokens, coalesce(sum(cache_write_tokens), 0) as cache_write_tokens,
                coalesce(sum(reasoning_tokens), 0) as reasoning_tokens, sum(cost) as cost, count(*) filter (where cost is null) as attempts_of_unknown_cost,
                round(avg(first_token_ms)) as avg_first_token_ms, round(avg(total_ms)) as avg_total_ms, count(*) filter (where outcome = 'cancelled') as cancelled_attempts,
                count(*) filter (where outcome = 'unknown') as unknown_attempts, count(*) filter (where outcome = 'lost') as lost_attempts,
                count(*) filter (where estimated) as estimated_attempts,
                coalesce(sum(cached_tokens * (select p.input - p.cached from mrprompt.price_versions p where p.id = price_id)), 0) as cache_saving,
                round(sum(completion_tokens) filter (where first_token_ms < total_ms and completion_tokens > 0) * 1000.0
                    / nullif(sum(total_ms - first_token_ms) filter (where first_token_ms < total_ms and completion_tokens > 0), 0), 1) as tokens_per_second
            from mrprompt.usage %s group by %s) s $q$, by, case when by ~ '^tag' then ', unnest(tags) tag' end, regexp_replace(by, '( as \w+)', '', 'g'));
end $$;
create table t.sums (name text, expression text);
insert into t.sums values ('usage_by_hour', 'date_trunc(''hour'', finished_at, ''UTC'') as hour'), ('usage_by_day', '(finished_at at time zone ''UTC'')::date as day'),
    ('usage_by_user', 'user_id'), ('usage_by_model', 'provider, model'), ('usage_by_provider', 'provider'), ('usage_by_key', 'key_id'),
    ('usage_by_agent', 'agent_name'), ('usage_by_tag', 'tag');
-- What a view says and the ledger does not, or the other way round.
create function t.wrong() returns table (name text, more jsonb) language plpgsql as $$
declare
    s record;
begin
    for s in select * from t.sums loop
        return query execute format('select %1$L::text, to_jsonb(d) from (
            (select to_jsonb(v) from mrprompt.%1$I v except select l from t.from_ledger(%2$L) l)
            union all (select l from t.from_ledger(%2$L) l except select to_jsonb(v) from mrprompt.%1$I v)) d', s.name, s.expression);
    end loop;
end $$;
create function t.mark() returns timestamptz language sql as $$ select rolled_up_to from mrprompt_internal.usage_watermark $$;
\set ECHO all
insert into mrprompt.prices (provider, model, input, output, cached) values ('fake', 'm', 0.000003, 0.000015, 0.0000003);
-- five days begin on the 1st, 6th, …, 26th, which ends with its month
select date_trunc('month', d, 'UTC') at time zone 'UTC' as month, array_agg(distinct extract(day from mrprompt_internal.grain_start('5 days', d) at time zone 'UTC')::int) as starts
from generate_series('2023-12-31 23:00Z'::timestamptz, '2024-03-01 01:00Z', '1 hour') d group by 1 order by 1;
-- any thirty days are whole periods of the grains, each hour once, few periods; no period is coarser than the bucket
create table t.spans as
select b.bucket, r.since, s.grain, s.from_, s.to_ from unnest(array['total', 'month', 'day', 'hour']) b (bucket),
    generate_series('2023-12-28 00:00Z'::timestamptz, '2024-05-02 00:00Z', '17 hours') r (since), mrprompt_internal.usage_range(b.bucket, r.since, r.since + interval '720 hours') s where s.grain <> 'ledger';
select bucket, count(*) as ranges, min(hours) as fewest_hours, max(hours) as most_hours, bool_and(hours = different) as once, max(periods) as most_periods
from (select bucket, since, count(*) as hours, count(distinct h) as different, count(distinct (grain, mrprompt_internal.grain_start(grain, h))) as periods
      from t.spans, generate_series(from_, to_ - interval '1 hour', '1 hour') h group by 1, 2) r group by 1 order by 1;
select grain, bool_and(from_ = mrprompt_internal.grain_start(grain, from_) and to_ = mrprompt_internal.grain_start(grain, to_)) as whole, string_agg(distinct bucket, ' ') as buckets from t.spans group by 1 order by 1;
select grain, from_ at time zone 'UTC' as from_, to_ at time zone 'UTC' as to_ from mrprompt_internal.usage_range('total', '2024-01-18 15:20Z', '2024-04-03 07:10Z');
drop table t.spans;
-- nothing yet
select mrprompt_internal.roll_up(50), (select count(*) from mrprompt_internal.usage_watermark) as marks;
select count(*) from t.wrong();
-- six hours across the end of a month, and forty across three days, still all tail
select t.spend(60, '2026-01-31 21:00Z', '6 hours'), t.spend(600, '2026-03-01 20:30Z', '40 hours');
select count(*), count(distinct name) from t.wrong();
-- the first call notes a time; a later transaction closes it, and a step is bounded
call t.roll(1);
select t.mark() > '2026-01-31 21:00Z' and t.mark() < '2026-03-03 12:30Z' as among_them, (select sum(attempts) < 100 from mrprompt_internal.usage_rollups
    where dimension = 'all' and grain = 'day') as bounded;
select * from t.wrong();
-- whatever the watermark has come to, the views agree with the ledger; what comes above it counts as well
create table t.found (at timestamptz, wrong bigint);
create procedure t.go_on() language plpgsql as $$
begin
    while t.mark() < '2026-03-03 14:00Z' loop
        call t.roll(1);
        if t.mark() between '2026-03-01' and '2026-03-03 10:00Z' then
            perform t.spend(3, t.mark(), '3 hours');
        end if;
        insert into t.found values (t.mark(), (select count(*) from t.wrong()));
        commit;
    end loop;
end $$;
call t.go_on();
select count(*) > 10 as steps, sum(wrong) as wrong from t.found;
select * from mrprompt.check_usage();
-- once it is past everything, no view reads the ledger
begin;
create table t.kept as select name, v from t.sums, lateral (select query_to_xml('select * from mrprompt.' || name || ' order by 1, 2', true, false, '')::text as v) q;
delete from mrprompt.usage;
select count(*) filter (where k.v = query_to_xml('select * from mrprompt.' || k.name || ' order by 1, 2', true, false, '')::text) as same, count(*) from t.kept k;
rollback;
-- reports: whole hours from since to until, of roll-ups and tail alike
select t.spend(50, date_trunc('hour', now(), 'UTC') + interval '1 hour', '5 hours');
call t.roll(5, past => '2026-03-04');
select t.mark() > '2026-03-04' and t.mark() < now() as tail_of_what_comes;
create function t.report_is_right(since timestamptz, until timestamptz, by text) returns boolean language sql as $$
    with report as (select period, name, attempts, requests, cost from mrprompt.usage_report(since, until, by)),
    ledger as (
        select case when by ~ '^(hour|day|month)' then date_trunc(split_part(by, ',', 1), finished_at, 'UTC') end,
            case when by ~ 'user$' then user_id::text when by ~ 'model$' then provider || '/' || model else '' end,
            count(*), count(*) filter (where attempt = 1), sum(cost)
        from mrprompt.usage
        where finished_at >= date_trunc('hour', since) and finished_at < date_trunc('hour', until - interval '1 microsecond') + interval '1 hour'
        group by 1, 2)
    select not exists (select * from report except select * from ledger) and not exists (select * from ledger except select * from report) and exists (select from report) $$;
select by, since, t.report_is_right(since, until, by) from unnest(array['hour', 'day', 'month', 'total', 'user', 'model', 'day,model', 'hour, user']) by,
    (values ('2026-03-01 00:00Z'::timestamptz, '2026-03-04 00:00Z'::timestamptz), ('2026-03-01 22:10Z', '2026-03-03 09:05Z'), ('2026-03-02 03:00Z', '2026-03-02 04:00Z'), ('2026-01-15 03:30Z', '2026-03-02 00:00Z'), ('2026-02-01 00:00Z', '2026-03-01 00:00Z'),
        ('2026-03-02 23:59Z', now() + interval '3 hours')) v (since, until);
select t.report_is_right('2026-01-01 00:00Z', date_trunc('hour', now()) + interval '7 hours', 'user') as with_the_tail;
select cost = (select sum(cost) from mrprompt.usage u where u.user_id = s.user_id) as cost_is_right,
    cost = (select max(cost) from mrprompt.usage_by_user) as first from mrprompt.top_spenders('2026-01-01', max_rows => 2) s;
-- ranges of every alignment: of two to sixty-one days, from any day and hour, across February and the 31st
begin;
truncate mrprompt.usage, mrprompt_internal.usage_rollups, mrprompt_internal.usage_watermark;
select sum(n) as days from generate_series('2026-01-20 00:00Z'::timestamptz, '2026-05-02 00:00Z', '1 day') day, lateral (select 1 as n from t.spend(2, day + (random() * 23)::int * interval '1 hour', '1 hour')) s;
select mrprompt_internal.merge_rollups(array(select s from mrprompt_internal.usage_sums(mrprompt_internal.dimensions(), mrprompt_internal.grains(), '-infinity', 'infinity', null) s), 1);
insert into mrprompt_internal.usage_watermark (rolled_up_to) values ('2026-05-04 00:00Z');
select length, by, count(*) as ranges, count(*) filter (where not t.report_is_right(since, since + length::interval, by)) as wrong
from generate_series('2026-01-20 00:00Z'::timestamptz, '2026-03-12 00:00Z', '1 day 7 hours') since, unnest(array['48 hours', '120 hours', '672 hours', '720 hours', '744 hours', '1469 hours']) length, unnest(array['total', 'user']) by
group by 1, 2 order by length::interval, 2;
select count(*) as ranges, count(*) filter (where not t.report_is_right(since, since + interval '900 hours', by)) as wrong
from generate_series('2026-01-20 00:00Z'::timestamptz, '2026-03-12 00:00Z', '5 days 5 hours') since, unnest(array['hour', 'day,user', 'month', 'month,model']) by;
select * from mrprompt.check_usage();
-- what ends where the roll-ups end is not cut
select grain, from_ at time zone 'UTC' as from_, to_ at time zone 'UTC' as to_ from mrprompt_internal.usage_range('total', '2026-04-01 00:00Z', '2026-05-04 00:00Z');
rollback;
select sum(share) between 0.999 and 1.001 as whole from mrprompt.top_spenders('2026-01-01');
select state, message from unnest(array['usage_report(by => ''week'')', 'usage_report(by => ''user,model'')', 'usage_report(by => null)', 'usage_report(by => '''')',
    'usage_report(now(), now())', 'usage_report(null)', 'top_spenders(max_rows => 0)', 'latency_report(by => ''tag'')', 'error_report(null)']) call, t.try('select * from mrprompt.' || call);
-- latency and errors, of figures that are known
begin;
truncate mrprompt.usage;
insert into mrprompt.usage (request_id, attempt, slot, user_id, provider, model, outcome, completion_tokens, price_known, first_token_ms, total_ms, http_status, error_type)
select gen_random_uuid(), 1, 0, t.person(1), 'fake', 'm', 'succeeded', 10, true, 100, 100 + 10 * n, 200, null from generate_series(0, 100) n;
insert into mrprompt.usage (request_id, attempt, slot, user_id, provider, model, outcome, price_known, http_status, error_type)
select gen_random_uuid(), 1, 0, t.person(1), 'fake', 'm', 'failed', true, 429, 'rate_limit_error' from generate_series(1, 25) n;
select name, attempts, p50_total_ms, p95_total_ms, p50_first_token_ms, p95_first_token_ms, tokens_per_second from mrprompt.latency_report();
select provider, model, error_type, http_status, attempts, share from mrprompt.error_report();
rollback;
-- a row that comes below the watermark, as after the clock was put back, is found out
begin;
insert into mrprompt.usage (request_id, attempt, slot, user_id, provider, model, outcome, cost, prompt_tokens, price_known, finished_at)
values (mrprompt_internal.uuid_at('2026-03-02 05:00Z'), 1, 3, t.person(9), 'fake', 'm', 'succeeded', 0.5, 7, true, '2026-03-02 05:10Z');
select what, name, at, figure, trim_scale(computed - stored) as more from mrprompt.check_usage() where name in ('all', 'user ' || t.person(9)) and figure in ('attempts', 'cost', 'prompt_tokens');
select count(*) from mrprompt.check_usage('2026-03-03');
rollback;
-- budgets: what is spent and held, by the rows that name a counter
begin;
insert into mrprompt_internal.budget_counters (id, budget_id, subject, period_start, period_end, spent, held)
values (-1, gen_random_uuid(), '', '2026-03-01', '2026-04-01', 0.75, 0.5), (-2, gen_random_uuid(), '', '2026-03-01', '2026-04-01', 0, 0);
update mrprompt.usage set counters = '{-1,-2}', cost = 0.25 where request_id in (select request_id from mrprompt.usage order by finished_at limit 1);
select what, name, figure, stored, computed from mrprompt.check_usage() where what = 'budget' order by figure, stored;
rollback;
-- who sees what: an analyst everything, a user his own, a stranger nothing
create function t.sums_seen() returns table (by_user bigint, by_day numeric, rollups bigint, marks bigint) language plpgsql as $$
begin
    return query select (select count(*) from mrprompt.usage_by_user), (select coalesce(sum(attempts), 0) from mrprompt.usage_by_day),
        (select count(*) filter (where dimension = 'all' and grain = 'day') from mrprompt_internal.usage_rollups), (select count(*) from mrprompt_internal.usage_watermark);
end $$;
grant usage on schema t to public;
set role mrprompt_analyst;
select by_user, by_day = (select count(*) from mrprompt.usage) as everything, rollups > 0 as rollups, marks from t.sums_seen();
select count(*) from mrprompt.check_usage();
reset role;
select t.be('ann');
set role mrprompt_user;
select by_user, by_day = (select count(*) from mrprompt.usage) as hers, rollups, marks from t.sums_seen();
select name from mrprompt.usage_report('2026-01-01', by => 'user');
select count(*), bool_and(share = 1) as own from mrprompt.top_spenders('2026-01-01');
select state from t.try('select mrprompt_internal.roll_up(1)');
select state from t.try('select mrprompt_internal.check_usage(now())');
reset role;
select t.be('nobody');
-- who is no analyst and passes over row-level security is not shown both
create role t_bypass bypassrls in role mrprompt_user;
set role t_bypass;
select by_user, by_day = (select count(*) from mrprompt.usage) as everything from t.sums_seen();
reset role;
drop role t_bypass;
revoke usage on schema t from public;
-- rows of the ledger that are older than the hours can still be changed: days and months follow
begin;
delete from mrprompt_internal.usage_rollups where grain in ('hour', '6 hours') and start < '2026-03-02';
update mrprompt_internal.usage_watermark set hours_from = '2026-03-02';
create table t.ids as select array_agg(request_id) as ids from (select request_id from mrprompt.usage order by finished_at limit 400) u;
select mrprompt_internal.recount(ids, -1) from t.ids;
update mrprompt.usage set cost = 1 where request_id in (select unnest(ids) from t.ids);
select count(*) > 0 as differ from mrprompt.check_usage();
select mrprompt_internal.recount(ids, 1) from t.ids;
select * from mrprompt.check_usage();
rollback;
-- a period that does not say what its days or its hours say is found out
begin;
update mrprompt_internal.usage_rollups set cost = cost + 1 where dimension = 'all' and (grain, start) in (('month', '2026-02-01 00:00Z'), ('5 days', '2026-03-01 00:00Z'), ('6 hours', '2026-03-02 06:00Z'));
select what, name, at, figure, trim_scale(stored - computed) as more from mrprompt.check_usage();
rollback;
-- pruning takes rows of the ledger that are rolled up, no others, hours and ended periods; the figures of days and months stay
insert into mrprompt_internal.budget_counters (budget_id, subject, period_start, period_end, held)
values (t.person(1), 'ended', '2026-01-01', '2026-02-01', 0), (t.person(1), 'ended, held', '2026-01-01', '2026-02-01', 1), (t.person(1), 'endless', '2026-01-01', 'infinity', 0);
insert into mrprompt.budget_alerts (budget_id, subject, period_start, threshold, amount, spent)
values (t.person(1), 'ended', '2026-01-01', 0.8, 1, 1), (t.person(1), 'ended, held', '2026-01-01', 0.8, 1, 1), (t.person(1), 'endless', '2026-01-01', 0.8, 1, 1);
insert into mrprompt.rate_limits (id, scope, subject, tokens_per_minute) values (t.person(1), 'user', '*', 1);
insert into mrprompt_internal.limit_buckets (limit_id, subject, tokens, filled_at, in_flight)
values (t.person(1), 'full again', 0, '2026-02-01', 0), (t.person(1), 'in flight', 0, '2026-02-01', 1), (t.person(1), 'in debt', -1e9, '2026-02-01', 0),
    (t.person(1), 'of late', 60, now(), 0), (t.person(2), 'no limit', -1e9, '2026-02-01', 0);
create table t.before as select attempts, requests, cost, name from mrprompt.usage_report('2026-01-01', by => 'user');
alter system set mrprompt.usage_retention = '1d';
select pg_reload_conf();
select 'do $do$ begin if current_setting(''mrprompt.usage_retention'') <> ''1d'' then perform pg_sleep(0.05); end if; end $do$' from generate_series(1, 200) \gexec
do $$ begin for i in 1..10 loop perform mrprompt_internal.prune(100); end loop; end $$;
select min(finished_at) > now() - interval '1 day' as pruned from mrprompt.usage;
select count(*) as same from t.before join mrprompt.usage_report('2026-01-01', by => 'user') r using (name, attempts, requests, cost);
select subject, exists (select from mrprompt.budget_alerts a where a.budget_id = c.budget_id and a.subject = c.subject) as alert
from mrprompt_internal.budget_counters c where budget_id = t.person(1) order by 1;
select count(*) as alerts from mrprompt.budget_alerts where budget_id = t.person(1);
select subject from mrprompt_internal.limit_buckets order by 1;
delete from mrprompt.rate_limits;
delete from mrprompt_internal.limit_buckets;
delete from mrprompt.budget_alerts where budget_id = t.person(1);
select count(*) filter (where kind = 'usage_by_hour' and pruned_rows > 100) as hours, count(*) filter (where kind = 'budget_periods' and pruned_rows = 1) as periods from mrprompt.retention;
select min(hour) > now() - interval '2 days' as hours_are_pruned from mrprompt.usage_by_hour;
select grain, min(r.start) < w.hours_from as stay from mrprompt_internal.usage_rollups r, mrprompt_internal.usage_watermark w where r.dimension = 'all' group by grain, w.hours_from order by 1;
-- where there are no hours a report is of whole days
select (select attempts from mrprompt.usage_report('2026-03-02 05:10Z', '2026-03-02 06:00Z', 'total')) = attempts as widened from mrprompt.usage_by_day where day = '2026-03-02';
delete from mrprompt_internal.budget_counters where budget_id = t.person(1);
select * from mrprompt.check_usage();
update mrprompt_internal.usage_watermark set rolled_up_to = '2026-03-01';
select t.spend(10, '2026-03-05', '1 hour');
do $$ begin for i in 1..10 loop perform mrprompt_internal.prune(100); end loop; end $$;
select count(*) as not_rolled_up_yet from mrprompt.usage where finished_at < now() - interval '1 day';
alter system reset mrprompt.usage_retention;
select pg_reload_conf();
-- forgetting a person: the figures are nobody's, pruned ones too; everybody's stay
do $$ begin perform t.reset(); truncate mrprompt_internal.prunings; end $$;
insert into mrprompt.api_keys (id, provider, user_id, encrypted_key, revoked_at, key_hash, masked_key)
    values (t.person(101), 'fake', t.person(1), '', now(), 'x', 'x'), (t.person(103), 'fake', null, '', now(), 'y', 'y');
select t.spend(200, '2026-03-01 20:30Z', '9 hours');
-- a key of one's own is used by nobody else
update mrprompt.usage set user_id = t.person(1) where key_id = t.person(101);
call t.roll(1000, 100, '2026-03-02 06:00Z');
delete from mrprompt.usage where finished_at < '2026-03-01 22:00Z';
insert into mrprompt_internal.prunings (kind, cutoff) values ('usage', '2026-03-01 22:00Z');
create table t.all_before as select * from mrprompt.usage_by_day;
select attempts > 0 as hers from mrprompt.usage_by_user where user_id = t.person(1);
select mrprompt.forget_user(t.person(1));
do $$ begin for i in 1..200 loop perform mrprompt_internal.forget_some(7); end loop; end $$;
select count(*) as left from mrprompt.forgetting;
select count(*) as hers from mrprompt_internal.usage_rollups where value in (t.person(1)::text, t.person(101)::text);
select attempts > 0 as nobodys from mrprompt.usage_by_user where user_id = '00000000-0000-0000-0000-000000000000';
select * from t.all_before except select * from mrprompt.usage_by_day;
select * from mrprompt.check_usage('2026-03-02');
-- and the doctor says how far behind they are
select finding ~ '^Usage is rolled up to .* ago only' as behind from mrprompt.doctor() where finding like 'Usage is%';
update mrprompt_internal.usage_watermark set rolled_up_to = now() - interval '3 hours';
select t.spend(1, now() - interval '2 hours', '1 minute');
select finding ~ '^Usage is rolled up to .* ago only' as behind, remedy from mrprompt.doctor() where finding like 'Usage is%';
do $$ begin perform t.reset(); truncate mrprompt_internal.prunings, mrprompt_internal.forgets; perform t.at_home(true); end $$;
drop procedure t.roll, t.go_on;
drop table t.sums, t.found, t.before, t.all_before;
drop function t.spend, t.wrong, t.from_ledger, t.report_is_right, t.sums_seen, t.mark, t.person;
