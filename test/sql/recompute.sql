-- recompute_cost(): what was charged by wrong prices, shown and set right; and what the doctor says of money.
\getenv dir PG_ABS_SRCDIR
\set helpers :dir '/helpers.sql'
\set ECHO none
\i :helpers
truncate mrprompt.budgets, mrprompt.budget_extras, mrprompt.rate_limits, mrprompt.budget_alerts, mrprompt.groups, mrprompt.group_members,
    mrprompt_internal.budget_counters, mrprompt_internal.limit_buckets, mrprompt_internal.model_rows, mrprompt_internal.recomputes, mrprompt.audit_log;
set client_min_messages = warning;
create role recompute_admin login;
grant mrprompt_admin to recompute_admin;
reset client_min_messages;
\set ECHO all
\set ann 'aaaaaaaa-0000-4000-8000-000000000001'
-- prices by size and tier; a budget that counts; some answers, one of a model without a price
insert into mrprompt.prices (provider, model, input, output, service_tier, above_tokens, effective_from)
values ('fake', 'fake-1', 0.001, 0.002, 'standard', 0, '2026-01-01'), ('fake', 'fake-1', 0.004, 0.004, 'standard', 1000, '2026-01-01'),
    ('fake', 'fake-1', 0.0005, 0.001, 'batch', 0, '2026-01-01');
insert into mrprompt.models (provider, model, max_output_tokens) values ('fake', 'fake-1', 100);
select t.be('ann');
select t.hello('f1');
select t.ask('before budgets'), t.ask('unpriced', model => 'fake-2'), t.ask('answered by', model => 'alias');
select count(*) from t.claim('f1');
select t.settle('f1', t.outcome('before budgets', 1, 'succeeded', t.answer('a', 100, 10)), t.outcome('unpriced', 1, 'succeeded', t.answer('b', 100, 10)),
    t.outcome('answered by', 1, 'succeeded', t.answer('c', 100, 10) || '{"response": {"content": "c", "model": "fake-1"}}'));
select t.be('');
select mrprompt.set_budget('user', '*', 100, 'none') is not null as set, mrprompt.set_budget('everybody', '', 4.05, 'none', soft_limits => '{0.5}') is not null as set;
select t.be('ann');
select t.ask('small'), t.ask('large'), t.ask('batched'), t.ask('refused'), t.ask('silent');
select count(*) from t.claim('f1');
select t.settle('f1', t.outcome('small', 1, 'succeeded', t.answer('d') || '{"usage": {"prompt_tokens": 100, "completion_tokens": 10, "provider_cost": 0.5}}'), t.outcome('large', 1, 'succeeded', t.answer('e', 1001, 10)),
    t.outcome('batched', 1, 'succeeded', t.answer('f') || '{"usage": {"prompt_tokens": 100, "completion_tokens": 10, "service_tier": "batch", "provider_cost": 0.06}}'),
    t.outcome('refused', 1, 'failed', '{"error": {"status": 400, "type": "x"}, "http_status": 400}'),
    t.outcome('silent', 1, 'succeeded', '{"response": {"content": "g"}}'));
select t.be('');
create view t.costs as select t.label(u.request_id) as label, u.cost, u.price_known, p.input from mrprompt.usage u left join mrprompt.price_versions p on p.id = u.price_id;
create view t.counted as select b.scope, c.spent, c.held, c.spent = (select sum(u.cost) from mrprompt.usage u where c.id = any (u.counters)) as is_the_ledgers
    from mrprompt_internal.budget_counters c join mrprompt.budgets b on b.id = c.budget_id;
select * from t.costs order by label;
select * from t.counted order by scope;
-- by the prices of now nothing differs; what has no price is named
select * from mrprompt.recompute_cost('2026-01-01', now());
-- the prices were wrong, and one was not there; first it is shown, and nothing changes
update mrprompt.prices set input = 0.002 where provider = 'fake' and service_tier = 'standard' and above_tokens = 0;
update mrprompt.prices set input = 0.005 where provider = 'fake' and above_tokens = 1000;
insert into mrprompt.prices (provider, model, input, output, effective_from) values ('fake', 'fake-2', 0.001, 0.001, '2026-01-01');
-- and one is of later
insert into mrprompt.prices (provider, model, input, output, effective_from) values ('fake', 'fake-2', 0.009, 0.009, now());
begin read only;
select * from mrprompt.recompute_cost('2026-01-01', now());
select * from mrprompt.recompute_cost('2026-01-01', '2026-01-02');
commit;
select sum(cost) from mrprompt.usage;
-- asked for, it is carried out in steps
set session authorization recompute_admin;
select count(*) from mrprompt.recompute_cost('2026-01-01', now(), apply => true);
reset session authorization;
select sum(cost) from mrprompt.usage;
select mrprompt_internal.recompute_some(3);
select * from t.counted order by scope;
-- a step that does not commit has not been
begin;
select mrprompt_internal.recompute_some(3);
rollback;
select mrprompt_internal.recompute_some(3), mrprompt_internal.recompute_some(3), mrprompt_internal.recompute_some(3), mrprompt_internal.recompute_some(3);
select * from t.costs order by label;
select * from t.counted order by scope;
select rows, difference, done_at is not null as done from mrprompt_internal.recomputes;
select scope, threshold, a.amount, a.spent from mrprompt.budget_alerts a join mrprompt.budgets b on b.id = a.budget_id;
-- once more changes nothing
select difference, newly_priced from mrprompt.recompute_cost('2026-01-01', now(), true);
select mrprompt_internal.recompute_some(1000), mrprompt_internal.recompute_some(1000), mrprompt_internal.recompute_some(1000);
select rows, difference, done_at is not null as done from mrprompt_internal.recomputes order by id;
select * from t.counted order by scope;
-- a price that is gone takes nothing away
delete from mrprompt.prices where provider = 'fake' and model = 'fake-2';
select model, old_cost, new_cost, difference from mrprompt.recompute_cost('2026-01-01', now(), apply => true);
select mrprompt_internal.recompute_some(1000), mrprompt_internal.recompute_some(1000), mrprompt_internal.recompute_some(1000);
select rows, difference from mrprompt_internal.recomputes order by id desc limit 1;
select * from t.counted order by scope;
-- what it takes, and who may
select t.why($$select mrprompt.recompute_cost('2026-01-01', '2026-01-01')$$);
select t.why($$select mrprompt.recompute_cost(null, '2026-01-01')$$);
select (t.try($$select mrprompt.recompute_cost('2026-01-01', 'infinity')$$)).state;
set role mrprompt_user;
select mrprompt.recompute_cost('2026-01-01', '2026-02-01');
set role mrprompt_analyst;
select mrprompt.recompute_cost('2026-01-01', '2026-02-01');
reset role;
select case when role = session_user then 'SUPERUSER' else role end as role, action, changed - '{from_,to_,done_at}'::text[] as changed, array(select jsonb_object_keys(changed) order by 1) as columns
from mrprompt.audit_log where object_type = 'recompute' order by id;

-- the doctor
select mrprompt.set_rate_limit('user', :'ann', in_flight => 0) is not null as set;
select t.be('ann');
insert into mrprompt.usage (request_id, attempt, slot, user_id, provider, model, outcome, cost, price_known, hold)
values (mrprompt_internal.uuidv7(), 1, mrprompt_internal.slot_of(mrprompt_internal.uuidv7()), :'ann', 'fake', 'fake-1', 'succeeded', 0.5, true, 0.2);
update mrprompt.budgets set amount = 4 where scope = 'everybody';
insert into mrprompt_internal.queue (request_id, provider, bytes, user_id, model, tag, ready, waits_for, ready_at)
select mrprompt_internal.uuid_at(now() - interval '2 hours'), 'fake', 1, :'ann', 'fake-1', 1, false, 'budget', 'infinity';
select severity, finding, remedy from mrprompt.doctor() where finding ~ '(budget|limit|bound|charged)';
select (t.try('set role mrprompt_user; select mrprompt_internal.overdue_waits()')).state;
delete from mrprompt_internal.queue;
drop view t.costs, t.counted;
drop role recompute_admin;
\set ECHO none
\i :helpers
truncate mrprompt.budgets, mrprompt.budget_extras, mrprompt.rate_limits, mrprompt.budget_alerts, mrprompt_internal.budget_counters,
    mrprompt_internal.limit_buckets, mrprompt_internal.model_rows, mrprompt_internal.recomputes;
