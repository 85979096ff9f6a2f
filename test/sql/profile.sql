-- What users see and set of themselves: profile, budgets, usage, health.
\getenv dir PG_ABS_SRCDIR
\set helpers :dir '/helpers.sql'
\set ECHO none
\i :helpers
truncate mrprompt.budgets, mrprompt.budget_extras, mrprompt.rate_limits, mrprompt.budget_alerts, mrprompt.groups, mrprompt.group_members,
    mrprompt_internal.budget_counters, mrprompt_internal.limit_buckets, mrprompt_internal.model_rows;
\set ECHO all
\set ann 'aaaaaaaa-0000-4000-8000-000000000001'
\set bob 'bbbbbbbb-0000-4000-8000-000000000002'
insert into mrprompt.prices (provider, model, input, output) values ('fake', 'fake-1', 0.001, 0.002);
insert into mrprompt.models (provider, model, max_output_tokens) values ('fake', 'fake-1', 100);

-- a user is there before any row says so, and so is his default budget
select t.be('ann');
set role mrprompt_user;
select * from mrprompt.user_profile();
select * from mrprompt.user_budget();
select * from mrprompt.user_usage();
select * from mrprompt.user_health();
reset role;
-- before there are budgets, what has no price may run
select t.hello('f1');
select t.ask('unpriced', model => 'unheard-of');
select t.be('bob');
select t.ask('of bob', model => 'unheard-of');
select count(*) from t.claim('f1');
select t.settle('f1', t.outcome('unpriced', 1, 'succeeded', t.answer('u', 4, 4)), t.outcome('of bob', 1, 'succeeded', t.answer('c', 7, 7)));
select t.be('');
select mrprompt.set_budget('user', '*', 3.00, 'none') is not null as set;
select mrprompt.set_budget('everybody', '', 1000, 'none') is not null as set;
select mrprompt.set_budget('group', '*', 40, 'month', 'Europe/Berlin') is not null as set;
select t.why($$select mrprompt.set_budget('group', 'rich', 400, 'week')$$);
select mrprompt.add_group_member('team', :'ann'), mrprompt.add_group_member('rich', :'ann');
select mrprompt.set_budget('group', 'rich', 400, 'month') is not null as set;
create view t.mine as select scope, subject, period, time_zone, period_start <= now() and period_end > now() as now, amount, spent, held, "left", used_percent, at_limit, self_set
    from mrprompt.user_budget();
grant usage on schema t to mrprompt_user, mrprompt_analyst;
grant select on t.mine to mrprompt_user;
alter view t.mine set (security_invoker = true);
select t.be('ann');
set role mrprompt_user;
select * from t.mine;
select id, groups from mrprompt.user_profile();
reset role;
select count(*) = 0 as nobody_was_written from mrprompt.users;
select count(*) = 0 as nothing_was_counted from mrprompt_internal.budget_counters;

-- what is spent and held
select mrprompt.add_key('fake', 'sk-test-of-ann-00001', '{"agent_name": "curator"}', 'my key') as key \gset
select t.ask('one'), t.ask('two');
select label from t.claim('f1');
select scope, subject, amount, spent, held > 0 as held, "left" = amount - spent - held as left_ from t.mine;
select t.settle('f1', t.outcome('one', 1, 'succeeded', t.answer('a', 1000, 750)));
select t.settle('f1', t.outcome('two', 1, 'succeeded', t.answer('b', 10, 5)));
select scope, subject, amount, spent, held, "left", used_percent from t.mine;
select severity, finding, regexp_replace(remedy, '\d{4}-\d\d-\d\d', 'DAY') as remedy from mrprompt.user_health();

-- a cap of one's own, never above the admin's
select mrprompt.set_user_budget(2, 'none') as cap \gset
select scope, subject, amount, self_set from t.mine where scope = 'user';
select mrprompt.set_user_budget(2.75, 'none', soft_limits => '{0.5,0.9}') = :'cap' as the_same;
select amount, self_set, soft_limits, time_zone from mrprompt.budgets where scope = 'user' order by amount;
select t.why($$select mrprompt.set_user_budget(3.01, 'none')$$);
select t.why($$select mrprompt.set_user_budget(-1, 'none')$$);
select t.why($$select mrprompt.set_user_budget('NaN', 'month')$$);
select t.why($$select mrprompt.set_user_budget(1, 'fortnight')$$);
select t.why($$select mrprompt.set_user_budget(1, 'month', 'Nowhere/Land')$$);
select mrprompt.set_user_budget(100, 'month') is not null as no_admin_has_set_a_month;
select mrprompt.set_user_budget(n, n || ' days') is not null as set from generate_series(2, 4) n;
select t.why($$select mrprompt.set_user_budget(1, '5 days')$$);
select mrprompt.set_user_budget(null, n || ' days') from generate_series(2, 4) n;
-- a cap holds as any budget does
select mrprompt.set_user_budget(0.01, 'none') = :'cap' as the_same;
select t.try($$select t.ask('over the cap')$$);
select mrprompt.set_user_budget(null, 'none'), mrprompt.set_user_budget(null, 'month'), mrprompt.set_user_budget(null, 'hour');
select scope, subject, amount, self_set from t.mine where scope = 'user';
-- an admin's own row for a user stands in front of everybody's; a grant is in the amount
select t.be('');
select mrprompt.set_budget('user', :'ann', 2, 'none') as of_ann \gset
select mrprompt.grant_extra(:'of_ann', 0.5, :'ann');
select t.be('ann');
select amount, spent, used_percent from t.mine where scope = 'user';
select t.why($$select mrprompt.set_user_budget(2.5, 'none')$$);

-- usage, one's own
set role mrprompt_user;
select name = to_char(now() at time zone 'UTC', 'YYYY-MM-DD') as today, requests, attempts, failed_attempts, prompt_tokens, completion_tokens, cost, attempts_of_unknown_cost
from mrprompt.user_usage(since => '-infinity');
select * from mrprompt.user_usage(since => '-infinity', by => 'model');
select * from mrprompt.user_usage(since => '-infinity', by => 'agent');
select name = :'key' as key, requests, cost from mrprompt.user_usage(since => '-infinity', by => 'key');
select * from mrprompt.user_usage(since => '-infinity', until => '2026-01-01');
select t.why($$select mrprompt.user_usage(by => 'moon')$$);
select t.why($$select mrprompt.user_usage('2026-02-01', '2026-01-01')$$);
reset role;

-- limits, cooldowns, keys, what waits and why, prices that are missing
select t.be('');
select mrprompt.set_budget('user', :'ann', 1000, 'none') = :'of_ann' as more;
select mrprompt.set_rate_limit('user', '*', requests_per_minute => 0.5) is not null as set;
select mrprompt.set_rate_limit('key', :'key', in_flight => 1) is not null as set;
select t.be('ann');
select t.ask('three'), t.ask('four');
select t.claim('f1');
select severity, regexp_replace(finding, '\d\d:\d\d:\d\d|\d+ seconds', 'TIME') as finding, remedy from mrprompt.user_health();
insert into mrprompt_internal.cooldowns (provider, key_id, model, until, reason, error_type) values ('fake', :'key', 'fake-1', now() + interval '1 minute', 'auth', 'x');
update mrprompt.api_keys set last_error = '401 invalid_api_key', last_error_at = now() where id = :'key';
select severity, regexp_replace(finding, '\d\d:\d\d:\d\d|\d+ seconds', 'TIME') as finding, regexp_replace(remedy, '[0-9a-f-]{36}', 'ID', 'g') as remedy from mrprompt.user_health();
-- another's is another's: of what is everybody's he sees what concerns him
select t.be('bob');
select * from mrprompt.user_health();

-- they read only; nobody's are nobody's; another's are the admins'
select t.be('ann');
begin read only;
set local role mrprompt_user;
select count(*) from mrprompt.user_profile();
select count(*) > 0 as some from mrprompt.user_budget();
select count(*) > 0 as some from mrprompt.user_usage();
select count(*) > 0 as some from mrprompt.user_health();
commit;
set role mrprompt_user;
select t.why(format('select * from mrprompt.user_profile(%L)', :'bob'));
select (t.try(format('select * from mrprompt.user_budget(%L)', :'bob'))).state, (t.try(format('select * from mrprompt.user_usage(user_id => %L)', :'bob'))).state,
    (t.try(format('select * from mrprompt.user_health(%L)', :'bob'))).state, (t.try(format('select mrprompt.set_user_budget(1, user_id => %L)', :'bob'))).state;
select * from mrprompt.user_usage(user_id => :'ann', by => 'model');
select t.be('');
select (t.try('select mrprompt.user_profile()')).state, (t.try('select mrprompt.user_budget()')).state, (t.try('select mrprompt.user_usage()')).state,
    (t.try('select mrprompt.user_health()')).state, (t.try('select mrprompt.set_user_budget(1)')).state;
reset role;
select (t.try('set role mrprompt_analyst; select mrprompt.user_budget()')).*;
reset role;
select scope, subject, amount from mrprompt.user_budget(:'bob') where scope = 'user';
select mrprompt.set_user_budget(1, user_id => :'bob') is not null as for_bob;
select subject = :'bob' as of_bob, amount, self_set from mrprompt.budgets where self_set;
select * from mrprompt.user_health(:'bob');
drop view t.mine;
revoke usage on schema t from mrprompt_user, mrprompt_analyst;
\set ECHO none
\i :helpers
truncate mrprompt.budgets, mrprompt.budget_extras, mrprompt.rate_limits, mrprompt.groups, mrprompt.group_members,
    mrprompt_internal.budget_counters, mrprompt_internal.limit_buckets, mrprompt_internal.model_rows;
