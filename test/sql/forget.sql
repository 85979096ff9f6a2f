-- Forgetting a person: neither his tags nor what was set and counted for his keys is left, and every figure stays what it was.
\getenv dir PG_ABS_SRCDIR
\set helpers :dir '/helpers.sql'
\set ECHO none
\i :helpers
truncate mrprompt_internal.prunings, mrprompt_internal.forgets;
\set ECHO all
\set ann 'aaaaaaaa-0000-4000-8000-000000000001'
\set bob 'bbbbbbbb-0000-4000-8000-000000000002'
insert into mrprompt.prices (provider, model, input, output) values ('fake', 'fake-1', 0.001, 0.002);
select t.be('ann');
select mrprompt.add_key('fake', 'sk-test-of-ann-00001', '{"agent_name": "of ann"}') as key \gset
select t.be('bob');
select mrprompt.add_key('fake', 'sk-test-of-bob-00001') as bobs_key \gset
select t.be('');
select count(mrprompt.set_budget(scope, subject, 50, period, soft_limits => '{0.0001}'))
from (values ('everybody', '', 'none'), ('user', '*', 'day'), ('user', :'ann', 'month'), ('key', '*', 'day'), ('key', :'key', 'month'), ('tag', '*', 'none')) b (scope, subject, period);
select mrprompt.grant_extra(id, 1) from mrprompt.budgets where scope = 'key' and subject <> '*';
select count(mrprompt.set_rate_limit(scope, subject, 1000)) from (values ('key', :'key'), ('user', :'ann'), ('key', '*')) l (scope, subject);
create function t.tagged(label text) returns void language sql as $$
    select mrprompt.chat_text('q', model => 'fake-1', provider => 'fake', max_tokens => 100,
        metadata => jsonb_build_object('label', label, 'tags', jsonb_build_array(label || '@example.com', 'night'))) $$;
select t.be('ann');
select t.tagged('ann'), t.tagged('kept');
select t.be('bob');
select t.tagged('bob');
select t.be('');
select t.hello('f1');
select label from t.claim('f1');
select t.settle('f1', t.outcome('ann', 1, 'succeeded', t.answer('a', 10, 10)), t.outcome('kept', 1, 'succeeded', t.answer('k', 10, 10)),
    t.outcome('bob', 1, 'succeeded', t.answer('b', 10, 10)));
-- What was rolled up, too: the transactions of these statements have ended, and the next ones close their time.
select set_config('t.roll', mrprompt_internal.roll_up(1000)::text, false) is not null;
do $$ begin
    for patience in 1..3000 loop
        exit when exists (select from mrprompt_internal.usage_rollups);
        perform mrprompt_internal.roll_up(1000);
        commit;
        perform pg_sleep(0.01);
    end loop;
end $$;
select value from mrprompt_internal.usage_rollups where dimension in ('tag', 'agent') and grain = 'day' order by 1;
create table public.app (request_id uuid references mrprompt.requests);
insert into public.app values (t.id('kept'));
-- What agents, threads and runs have of both, as they might have been.
create function t.converse(owner uuid, secret text, threads int) returns void language plpgsql as $$
declare
    agent uuid; thread uuid; run uuid; step uuid;
begin
    insert into mrprompt.agents (user_id, name, instructions) values (owner, secret, secret) returning id into agent;
    insert into mrprompt.agent_versions (agent_id, version, config) select agent, v, json_build_object('instructions', secret) from generate_series(1, 7) v;
    for n in 1..threads loop
        insert into mrprompt.threads (user_id, title) values (owner, secret) returning id into thread;
        perform mrprompt_internal.add_message(thread, owner, 'user', to_json(secret)) from generate_series(1, 4);
        insert into mrprompt.runs (thread_id, user_id, agent_id, agent_version, additional_instructions, status, active, finished_at)
        values (thread, owner, agent, 1, secret, 'completed', false, now()) returning id into run;
        insert into mrprompt.run_steps (run_id, thread_id, user_id, step, type, request_id, message_id)
        values (run, thread, owner, 1, 'tool_calls', mrprompt_internal.uuidv7(), mrprompt_internal.uuidv7()) returning id into step;
        insert into mrprompt.tool_calls (run_id, user_id, step_id, call_id, place, name, arguments, kind, status, output)
        values (run, owner, step, 'c', 0, 'f', to_json(secret), 'client', 'completed', secret);
        insert into mrprompt.run_events (run_id, seq, event, subject) select run, s, 'thread.run.created', run from generate_series(1, 3) s;
        insert into mrprompt_internal.run_identities (run_id, claims) values (run, secret);
    end loop;
end $$;
select t.converse(:'ann', 'ann@example.com', 3), t.converse(:'bob', 'bob@example.com', 1);
insert into mrprompt.agents (name) values ('of everybody');
create view t.conversations as
    select w.place, count(*) filter (where strpos(w.row, current_setting('t.ann')) > 0 or strpos(w.row, 'ann@example.com') > 0) as hers, count(*) as all
    from (select 'agents' as place, a::text as row from mrprompt.agents a union all select 'versions', v::text from mrprompt.agent_versions v
          union all select 'threads', h::text from mrprompt.threads h union all select 'messages', m::text from mrprompt.messages m
          union all select 'runs', r::text from mrprompt.runs r union all select 'steps', s::text from mrprompt.run_steps s
          union all select 'calls', c::text from mrprompt.tool_calls c union all select 'events', e::text from mrprompt.run_events e
          union all select 'identities', i::text from mrprompt_internal.run_identities i) w
    group by 1 order by 1;
create view t.left_of as
    select w.place, count(*) filter (where strpos(w.row, k.ann) > 0 or strpos(w.row, k.key) > 0) as ids, count(*) filter (where strpos(w.row, 'ann@example.com') + strpos(w.row, 'kept@') > 0) as tags
    from (select 'usage' as place, u::text as row from mrprompt.usage u union all select 'requests', r::text from mrprompt.requests r
          union all select 'rollups', r::text from mrprompt_internal.usage_rollups r union all select 'budgets', b::text from mrprompt.budgets b
          union all select 'extras', e::text from mrprompt.budget_extras e union all select 'limits', l::text from mrprompt.rate_limits l
          union all select 'alerts', a::text from mrprompt.budget_alerts a join mrprompt.budgets b on b.id = a.budget_id and b.scope <> 'tag'
          union all select 'counters', c::text from mrprompt_internal.budget_counters c join mrprompt.budgets b on b.id = c.budget_id and b.scope <> 'tag'
          union all select 'buckets', b::text from mrprompt_internal.limit_buckets b) w,
        (select current_setting('t.ann') as ann, current_setting('t.key') as key) k
    group by 1 order by 1;
select set_config('t.ann', :'ann', false) is not null, set_config('t.key', :'key', false) is not null;
select * from t.left_of;
select * from t.conversations;
select sum(cost) as cost from mrprompt.usage \gset
select mrprompt.forget_user(:'ann');
do $$ begin for i in 1..60 loop perform mrprompt_internal.forget_some(5); end loop; end $$;
select count(*) from mrprompt.forgetting;
select * from t.left_of where ids + tags > 0;
select * from t.conversations;
-- bob's are there as before; the figures are; and what the ledger names is there
select scope, subject = :'bob' as bob, subject = :'bobs_key' as his_key, spent from mrprompt.budget_status where scope in ('everybody', 'user', 'key') order by 1, 2, 3;
select sum(cost) = :cost as the_money_stays, bool_and(counters <@ array(select id from mrprompt_internal.budget_counters)) as named, count(counters) as counted,
    count(tags) as tagged from mrprompt.usage;
select tags, agent_name, metadata from mrprompt.requests where user_id <> :'bob';
select value from mrprompt_internal.usage_rollups where dimension in ('tag', 'agent') and grain = 'day' order by 1;
select * from mrprompt.check_usage();
drop view t.left_of, t.conversations;
drop function t.converse(uuid, text, int);
drop table public.app;
do $$ begin perform t.reset(); truncate mrprompt_internal.prunings, mrprompt_internal.forgets; end $$;
drop function t.tagged(text);
