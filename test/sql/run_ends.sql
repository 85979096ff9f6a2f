-- How runs end when what they stand on goes away, or their own limits are reached; and what becomes of what waited behind them.
\set QUIET on
\i test/helpers.sql
\set QUIET off
\pset format unaligned
\pset tuples_only on
select t.reset(), t.be('ann'), t.hello('f');
create function t.says(what text) returns jsonb language sql as $$ select jsonb_build_object('content', what, 'finish_reason', 'stop') $$;
create function t.calls(name text) returns jsonb language sql as $$
    select jsonb_build_object('finish_reason', 'tool_calls', 'tool_calls', jsonb_build_array(jsonb_build_object('id', 'call_1', 'type', 'function',
        'function', jsonb_build_object('name', name, 'arguments', '{}')))) $$;
create function t.run_is(run uuid) returns text language sql as $$
    select concat_ws(' ', r.status, r.incomplete_reason, r.last_error ->> 'code', 'steps=' || r.steps, 'cost=' || r.cost, r.wait_reason, 'active: ' || (
        select coalesce(string_agg(case a.id when r.id then 'this' else 'another' end, ','), 'none') from mrprompt.runs a where a.thread_id = r.thread_id and a.active))
    from mrprompt.run_status r where r.id = run_is.run $$;
create function t.thread(id uuid) returns text language sql as $$
    select string_agg(concat_ws(' ', coalesce(position::text, 'waits'), role, content, 'calls ' || (tool_calls -> 0 -> 'function' ->> 'name'), incomplete_reason), ', ' order by m.position, m.id)
    from mrprompt.messages m where m.thread_id = thread.id $$;
-- What a claim hands out is answered; what it ends itself shows in the run.
create function t.answer(answer jsonb, tokens int default 1000) returns text language plpgsql as $$
declare
    jobs json := (select c.body -> 'jobs' from mrprompt_internal.claim((t.args('f') || '{"room": 10, "bytes": 1000000}')::json) c);
    said json;
begin
    said := mrprompt_internal.settle((t.args('f') || jsonb_build_object('outcomes', (
        select jsonb_agg(jsonb_build_object('request', j ->> 'request', 'attempt', j -> 'attempt', 'result', 'succeeded', 'response', answer,
            'usage', jsonb_build_object('prompt_tokens', 1000, 'completion_tokens', tokens))) from json_array_elements(jobs) j)))::json) where json_array_length(jobs) > 0;
    return json_array_length(jobs) || ' answered';
end $$;
create function t.tend() returns void language sql as $$ select mrprompt_internal.tend((t.args('f') || '{"limit": 100}')::json) $$;
create function t.look(answer jsonb default null) returns text language sql as $$ select t.tend(), t.answer(coalesce(answer, t.says('Hi.'))); select 'looked' $$;
insert into mrprompt.prices (provider, model, input, output) values ('fake', 'fake-1', 0.00001, 0.00001);
select mrprompt.create_agent('mentor', provider => 'fake', model => 'fake-1', tools => '[{"type": "function", "function": {"name": "ask"}}]') as agent \gset
select mrprompt.create_agent('everybody''s', provider => 'fake', model => 'fake-1', shared => true) as shared \gset
select mrprompt.create_thread('[{"role": "user", "content": "?"}]') as thread \gset

\echo # what waits behind a run that is cancelled stays said: its messages get their places, as if it had run
select mrprompt.create_run(:'thread', :'agent') as run \gset
select run_id as second from mrprompt.send_message(:'agent', 'second', :'thread', when_busy => 'queue') \gset
select mrprompt.create_run(:'thread', :'agent', additional_messages => '[{"role": "user", "content": "third"}]', when_busy => 'queue') as third \gset
select mrprompt.create_message(:'thread', 'fourth', when_busy => 'queue') is not null as said;
select mrprompt.cancel_run(:'third'), mrprompt.cancel_run(:'second');
select t.thread(:'thread');
select t.answer(t.says('Hi.'));
select t.thread(:'thread');
select t.run_is(:'run'), t.run_is(:'second'), t.run_is(:'third');

\echo # one that waits begins once the one before it has ended, however that was
select mrprompt.create_run(:'thread', :'agent') as run \gset
select mrprompt.create_run(:'thread', :'agent', when_busy => 'queue') as second \gset
select mrprompt.cancel_run(:'run');
select t.run_is(:'run'), t.run_is(:'second');
select t.look(t.calls('ask'));
select t.run_is(:'run'), t.run_is(:'second');
select t.answer(t.calls('ask'));
select t.run_is(:'second');

\echo # cancelled while it waits for its user: late outputs are refused
select mrprompt.cancel_run(:'second');
select w from t.why(format('select mrprompt.submit_tool_outputs(%L, %L)', :'second', '[{"tool_call_id": "call_1", "output": "x"}]')) w limit 1;
select t.run_is(:'second');

\echo # the time that its user takes is not that of the run: what was left of max_seconds is left afterwards
select mrprompt.create_run(mrprompt.create_thread('[{"role": "user", "content": "?"}]'), :'agent', limits => '{"max_seconds": 100, "tool_wait_seconds": 500}') as run \gset
select t.look(t.calls('ask'));
select status, time_left between '90 seconds' and '100 seconds' as time_left, expires_at > now() + interval '400 seconds' as waits from mrprompt.runs where id = :'run';
update mrprompt.runs set time_left = '50 seconds' where id = :'run';
select mrprompt.submit_tool_outputs(:'run', '[{"tool_call_id": "call_1", "output": "x"}]');
select status, expires_at between now() + interval '40 seconds' and now() + interval '60 seconds' as goes_on from mrprompt.runs where id = :'run';
select t.look(), t.run_is(:'run');

\echo # a cancel and an answer at once: the answer that came first is kept, the run does not go on
select mrprompt.create_run(:'thread', :'agent') as run \gset
select mrprompt.cancel_run(:'run');
select mrprompt.cancel_run(:'run');
select t.look();
select t.run_is(:'run');
select mrprompt.cancel_run(:'run');

\echo # its agent is archived meanwhile: it goes on as it was; changed: by the version that it began with
select mrprompt.create_run(:'thread', :'agent') as run \gset
select mrprompt.delete_agent(:'agent') is not null as archived;
select t.answer(t.calls('ask'));
select mrprompt.submit_tool_outputs(:'run', '[{"tool_call_id": "call_1", "output": "x"}]');
select t.answer(t.says('Done.'));
select t.run_is(:'run');
select mrprompt.create_agent('mentor 2', provider => 'fake', model => 'fake-1', tools => '[{"type": "function", "function": {"name": "ask"}}]') as agent \gset

\echo # its agent is gone altogether: it fails at its next step
select mrprompt.create_run(:'thread', :'agent') as run \gset
select t.answer(t.calls('ask'));
create table t.kept as select * from mrprompt.agents where id = :'agent';
create table t.versions as select * from mrprompt.agent_versions where agent_id = :'agent';
delete from mrprompt.agents where id = :'agent';
delete from mrprompt.agent_versions where agent_id = :'agent';
select mrprompt.submit_tool_outputs(:'run', '[{"tool_call_id": "call_1", "output": "x"}]');
select t.run_is(:'run');
insert into mrprompt.agents select * from t.kept;
insert into mrprompt.agent_versions select * from t.versions;

\echo # its provider is disabled while it is queued, and between its steps
select mrprompt.create_run(:'thread', :'agent') as run \gset
update mrprompt.providers set enabled = false where name = 'fake';
select t.look();
select t.look();
select t.run_is(:'run');
update mrprompt.providers set enabled = true where name = 'fake';
select mrprompt.create_run(:'thread', :'agent') as run \gset
select t.answer(t.calls('ask'));
update mrprompt.providers set enabled = false where name = 'fake';
select state from t.try(format('select mrprompt.submit_tool_outputs(%L, %L)', :'run', '[{"tool_call_id": "call_1", "output": "x"}]'));
select t.run_is(:'run');
update mrprompt.providers set enabled = true where name = 'fake';
select mrprompt.cancel_run(:'run');

\echo # its key is revoked while it is queued
select mrprompt.add_key('fake', 'sk-run-ends-0000000000000000000001') as key \gset
select mrprompt.create_run(:'thread', :'agent', key_id => :'key', model => 'fake-1') as run \gset
select mrprompt.revoke_key(:'key') is not null as revoked;
select t.look();
select t.look();
select t.run_is(:'run');

\echo # a cost over max_cost, or a budget that is used up, between its steps
select mrprompt.create_run(:'thread', :'agent', limits => '{"max_cost": 0.01}') as run \gset
select t.answer(t.calls('ask'));
select t.run_is(:'run');
select mrprompt.submit_tool_outputs(:'run', '[{"tool_call_id": "call_1", "output": "x"}]');
select t.run_is(:'run');
select mrprompt.create_run(:'thread', :'agent') as run \gset
select t.answer(t.calls('ask'));
select mrprompt.set_budget('everybody', null, 0.0001, 'month', soft_limits => '{}') is not null as budget;
update mrprompt_internal.budget_counters set spent = 1;
select state from t.try(format('select mrprompt.submit_tool_outputs(%L, %L)', :'run', '[{"tool_call_id": "call_1", "output": "x"}]'));
select t.run_is(:'run');
select mrprompt.cancel_run(:'run');
\echo # one that waited behind another fails of it, and frees its thread
select mrprompt.delete_budget(id) is not null from mrprompt.budgets;
select mrprompt.create_run(:'thread', :'agent') as run \gset
select mrprompt.create_run(:'thread', :'agent', when_busy => 'queue') as second \gset
select t.answer(t.says('Hi.'));
select mrprompt.set_budget('everybody', null, 0.0001, 'month', soft_limits => '{}') is not null as budget;
select t.look();
select t.run_is(:'run'), t.run_is(:'second');
select mrprompt.delete_budget(id) is not null from mrprompt.budgets;

\echo # an answer that was paid for stays, with its cost, when the next step cannot be
create function t.calls_badly(tool text, arguments text) returns jsonb language sql as $$
    select t.says('One moment.') || jsonb_set(t.calls(tool), '{tool_calls,0,function,arguments}', to_jsonb(arguments)) $$;
select mrprompt.set_budget('everybody', null, 0.05, 'month', soft_limits => '{}') is not null as budget;
select run_id as run from mrprompt.create_thread_and_run(:'agent', '[{"role": "user", "content": "?"}]', max_tokens => 1000) \gset
select t.answer(t.calls_badly('no_such', '{}'), 4000);
select t.run_is(:'run'), prompt_tokens, completion_tokens, last_error ->> 'message' from mrprompt.get_run(:'run');
select s.type, s.status, s.cost from mrprompt.list_run_steps(:'run', "order" => 'asc') s;
select role, content, left(tool_calls::text, 12), tool_call_id from mrprompt.messages where run_id = :'run' order by position;
select mrprompt.delete_budget(id) is not null from mrprompt.budgets;
\echo # arguments that are nested beyond what can be parsed are an error that the model may correct
select run_id as run from mrprompt.create_thread_and_run(:'agent', '[{"role": "user", "content": "?"}]') \gset
select t.answer(t.calls_badly('ask', repeat('[', 100000)));
select name, status, left(output, 60) from mrprompt.tool_calls where run_id = :'run';
select t.answer(t.says('Sorry.'));
select t.run_is(:'run');

\echo # a step that was never sent costs nothing, and takes nothing from what is known
select run_id as run from mrprompt.create_thread_and_run(:'agent', '[{"role": "user", "content": "?"}]') \gset
select t.answer(t.calls('ask'));
select mrprompt.submit_tool_outputs(:'run', '[{"tool_call_id": "call_1", "output": "x"}]');
select mrprompt.cancel_run(:'run'), t.tend();
select t.run_is(:'run');
\echo # what has no known cost cannot be held against max_cost: one step, and no further
select run_id as run from mrprompt.create_thread_and_run(:'agent', '[{"role": "user", "content": "?"}]', model => 'no-price', limits => '{"max_cost": 100}') \gset
select run_id as free from mrprompt.create_thread_and_run(:'agent', '[{"role": "user", "content": "?"}]', model => 'no-price') \gset
select t.answer(t.calls('ask'));
select mrprompt.submit_tool_outputs(r, '[{"tool_call_id": "call_1", "output": "x"}]') from unnest(array[:'run', :'free']::uuid[]) r;
select t.run_is(:'run'), t.run_is(:'free');
select mrprompt.cancel_run(:'free'), t.tend();

\echo # its time passes while its request waits for a limit, or its model call is under way
select mrprompt.set_rate_limit('everybody', null, in_flight => 1) is not null as limited;
select mrprompt.create_run(:'thread', :'agent') as run \gset
select json_array_length(c.body -> 'jobs') as in_flight from mrprompt_internal.claim((t.args('f') || '{"room": 10, "bytes": 1000000}')::json) c;
select thread_id as other, run_id as waiting from mrprompt.create_thread_and_run(:'agent', '[{"role": "user", "content": "?"}]', limits => '{"max_seconds": 1}') \gset
select t.answer(t.says('Hi.'));
select t.run_is(:'waiting');
select pg_sleep(1.1);
select t.tend();
select t.run_is(:'waiting');
update mrprompt.runs set expires_at = now() where id = :'run';
select t.tend(), t.tend();
select t.run_is(:'run');
select event, data ->> 'status' as status from mrprompt.stream_run(:'run', 0, '0') order by seq;
select mrprompt_internal.settle((t.args('f') || jsonb_build_object('outcomes', jsonb_build_array(jsonb_build_object('request', r.request_id, 'attempt', 1, 'result', 'cancelled',
    'response', t.says('So far')))))::json) ->> 'stale' as stale from mrprompt.runs r where r.id = :'run';
select t.run_is(:'run');
delete from mrprompt.rate_limits;
select event from mrprompt.stream_run(:'run', 0, '0') order by seq desc limit 3;
\echo # whoever cancels it then is told how it ends: cancelled
select run_id as run from mrprompt.create_thread_and_run(:'agent', '[{"role": "user", "content": "?"}]') \gset
select json_array_length(c.body -> 'jobs') as in_flight from mrprompt_internal.claim((t.args('f') || '{"room": 10, "bytes": 1000000}')::json) c;
update mrprompt.runs set expires_at = now() where id = :'run';
select t.tend();
select mrprompt.cancel_run(:'run');
select mrprompt_internal.settle((t.args('f') || jsonb_build_object('outcomes', jsonb_build_array(jsonb_build_object('request', r.request_id, 'attempt', 1, 'result', 'cancelled',
    'response', t.says('So far')))))::json) ->> 'stale' as stale from mrprompt.runs r where r.id = :'run';
select t.run_is(:'run');

\echo # a server that stops between an answer and what comes of it: the answer is there with it, or neither is
select mrprompt.create_run(:'thread', :'agent') as run \gset
begin;
select t.answer(t.says('Lost.'));
rollback;
select t.run_is(:'run');
select t.look();
select t.run_is(:'run');

\echo # a thread that is deleted, and a person who is forgotten: their runs end, waiting ones as well, and nothing is sent any more
select mrprompt.create_run(:'thread', :'agent') as run \gset
select mrprompt.create_run(:'thread', :'agent', when_busy => 'queue') as second \gset
select mrprompt.delete_thread(:'thread') is not null as deleted;
select t.look();
select status, count(*) from mrprompt.runs where id in (:'run', :'second') group by 1;
select count(*) from mrprompt.list_runs() where id in (:'run', :'second');
select t.why(format('select mrprompt.list_runs(%L)', :'thread'));
select t.why(format('select mrprompt.%s', c)) from unnest('{get_run(null),cancel_run(null),list_run_steps(null)}'::text[]) c;
select t.be('bob');
select thread_id as thread, run_id as run from mrprompt.create_thread_and_run(:'shared', '[{"role": "user", "content": "?"}]') \gset
select mrprompt.create_run(:'thread', :'shared', when_busy => 'queue') as second \gset
select t.be('');
select mrprompt.forget_user('bbbbbbbb-0000-4000-8000-000000000002');
select t.look(), t.look();
select coalesce(string_agg(distinct status, ','), 'gone') from mrprompt.runs where id in (:'run', :'second');

\echo # no run holds a thread, no work, identity or request of a run is left over
select t.tend(), t.tend();
select (select count(*) from mrprompt.runs where finished_at is null), (select count(*) from mrprompt_internal.run_work), (select count(*) from mrprompt_internal.run_identities),
    (select count(*) from mrprompt_internal.queue), (select count(*) from mrprompt_internal.cancels), (select count(*) from mrprompt.tool_calls where status in ('needs_output', 'queued', 'running'));
drop table t.kept, t.versions;
drop function t.says(text), t.calls(text), t.calls_badly(text, text), t.run_is(uuid), t.thread(uuid), t.answer(jsonb, int), t.tend(), t.look(jsonb);
