-- Following: deltas, a late reader, a reader who reconnects, a lost attempt, pruned deltas, plain answers.
\getenv dir PG_ABS_SRCDIR
\set helpers :dir '/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
select t.be('ann');
select t.hello('f1');
select t.ask('s', stream => true);
select * from t.claim('f1');
select t.append('f1', 's', 1, 1, 'Once '), t.append('f1', 's', 1, 2, 'upon ');
select seq, event, content from mrprompt.stream(t.id('s'));
select seq, event, content from mrprompt.stream(t.id('s'), 1);
select seq, event, content from mrprompt.stream(t.id('s'), 2, '10 ms');
-- the same batch again changes nothing
select t.append('f1', 's', 1, 2, 'upon ');
-- the fetcher dies; the next attempt begins with a restart, and its numbers lie above every number of the first
select mrprompt_internal.fetcher_gone((select id from t.fetcher where name = 'f1'), true);
select t.hello('f1');
select * from t.claim('f1');
select seq, event, content from mrprompt.stream(t.id('s'), 2);
select t.append('f1', 's', 2, 1, 'It was ');
select t.settle('f1', t.outcome('s', 2, 'succeeded', t.answer('It was a dark night.') || jsonb_build_object('deltas', jsonb_build_array(
    jsonb_build_object('seq', 2, 'content', 'a dark night.')))));
-- who was there, who comes late, who reconnects: the same text
select seq, event, content, status, finish_reason from mrprompt.stream(t.id('s'), 2);
select seq, event, content, status, finish_reason from mrprompt.stream(t.id('s'));
select seq, event, content, status, finish_reason from mrprompt.stream(t.id('s'), 1000001);
select seq, event, content, status from mrprompt.stream(t.id('s'), 1000005);
-- pruned: the answer comes whole, after a restart for those who had begun
delete from mrprompt.deltas where request_id = t.id('s');
select seq, event, content, status from mrprompt.stream(t.id('s'));
select seq, event, content, status from mrprompt.stream(t.id('s'), 2);
-- tend prunes by age, whole streams, none that is in flight
select t.ask('old', stream => true);
select * from t.claim('f1');
select t.append('f1', 'old', 1, 1, 'still here');
insert into mrprompt.deltas (request_id, seq, attempt, content)
select mrprompt_internal.uuid_at(now() - interval '3 days'), n, 1, 'old' from generate_series(1, 3) n;
select mrprompt_internal.tend('{"limit": 100}') ->> 'did' as did;
select t.label(request_id), content from mrprompt.deltas;
-- a plain answer, an answer of tool calls only, a failure, a cancel with something seen
select t.settle('f1', t.outcome('old', 1, 'cancelled', '{"response": {"content": "still here"}}'));
select seq, event, content, status from mrprompt.stream(t.id('old'));
select t.ask('plain'), t.ask('tools'), t.ask('fails');
select * from t.claim('f1');
select t.settle('f1', t.outcome('plain', 1, 'succeeded', t.answer('42')),
    t.outcome('tools', 1, 'succeeded', '{"response": {"content": null, "finish_reason": "tool_calls", "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}}'),
    t.outcome('fails', 1, 'failed', '{"error": {"status": 401, "type": "invalid_api_key", "message": "who are you?"}}'));
select event, content, tool_calls, status, finish_reason, error_type from mrprompt.stream(t.id('plain'));
select event, content, tool_calls, status, finish_reason, error_type from mrprompt.stream(t.id('tools'));
select event, content, tool_calls, status, finish_reason, error_type, error_message from mrprompt.stream(t.id('fails'));
select status, content, finish_reason from mrprompt.wait_for_request(t.id('plain'));
