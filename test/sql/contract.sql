-- The contract, played by hand: claim, append, settle, heartbeat, tend, and the fence between attempts.
\getenv dir PG_ABS_SRCDIR
\set helpers :dir '/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
select t.be('ann');
select state, message from t.try($$select mrprompt_internal.hello('{"contract": 3, "program": "newer"}')$$);
select state, message from t.try($$select mrprompt_internal.hello('{"contract": 0, "program": "older", "kind": "libpq"}')$$);
select mrprompt_internal.hello('{"contract": 1, "program": "one before", "kind": "libpq"}') -> 'contract' as served;
select finding, remedy from mrprompt.doctor() where finding ~ 'release before';
select state from t.try($$select mrprompt_internal.claim('{"fetcher": "00000000-0000-7000-8000-000000000000", "room": 1, "bytes": 1}')$$);
select t.hello('f1');
select t.hello('f2');
select t.ask(l) from unnest(array['a', 'b', 'c', 'd']) l;
-- room and bytes bound a claim, but one request always goes
select * from t.claim('f1', 1);
select * from t.claim('f2', 10, 1);
select * from t.claim('f1', 10);
select t.label(id), status, attempts from mrprompt.requests order by id;
-- an outcome counts once, for its own attempt, from its own fetcher
select t.settle('f2', t.outcome('a', 1, 'succeeded', t.answer('not mine')));
select t.settle('f1', t.outcome('a', 2, 'succeeded', t.answer('not yet')));
select t.settle('f1', t.outcome('a', 1, 'succeeded', t.answer('yes')));
select t.settle('f1', t.outcome('a', 1, 'succeeded', t.answer('again')));
select content from mrprompt.responses where request_id = t.id('a');
select count(*) from mrprompt.usage where request_id = t.id('a');
-- a retry waits, counts as a failure where it says so, and rises in attempt
select t.settle('f2', t.outcome('b', 1, 'retry', '{"retry_after_ms": 0, "counts_as_failure": false, "error": {"status": 429, "type": "rate_limit_error", "message": "slow down"}}'));
select status, wait_reason, not_before is not null as waits, failures, error_status from mrprompt.requests where id = t.id('b');
select * from t.claim('f2');
select t.settle('f2', t.outcome('b', 2, 'retry', '{"retry_after_ms": 3600000, "counts_as_failure": true, "error": {"status": 500, "type": "server_error", "message": "oops"}}'));
select * from t.claim('f2');
select status, failures, not_before > now() + interval '50 minutes' as later from mrprompt.requests where id = t.id('b');
-- ten failures are the end
update mrprompt.requests set failures = 9 where id = t.id('c');
select t.settle('f1', t.outcome('c', 1, 'retry', '{"retry_after_ms": 0, "counts_as_failure": true, "error": {"type": "connect_failed", "message": "refused"}}'));
select status, failures, error_type, error_message, finished_at is not null as ended from mrprompt.requests where id = t.id('c');
-- one bad outcome does not spoil the batch: it fails alone
select t.ask(l) from unnest(array['g1', 'g2', 'g3', 'bad', 'g4']) l;
select * from t.claim('f2');
select t.settle('f2', t.outcome('g1', 1, 'succeeded', t.answer('1')), t.outcome('g2', 1, 'succeeded', t.answer('2')),
    t.outcome('bad', 1, 'succeeded', '{"response": {"content": "ok"}, "usage": {"prompt_tokens": "many"}}'),
    t.outcome('g3', 1, 'succeeded', t.answer('3')), t.outcome('g4', 1, 'succeeded', t.answer('4')));
select t.label(id), status, error_type, error_message from mrprompt.requests where metadata ->> 'label' in ('g1', 'g2', 'g3', 'bad', 'g4') order by id;
-- nor does a bad delta
select t.ask('s', stream => true);
select * from t.claim('f1');
select json_array_length(r -> 'rejected') as rejected, json_array_length(r -> 'lost') as lost from mrprompt_internal.append((t.args('f1') || jsonb_build_object('deltas', jsonb_build_array(
    jsonb_build_object('request', t.id('s'), 'attempt', 1, 'seq', 1, 'content', 'good'),
    jsonb_build_object('request', t.id('s'), 'attempt', 1, 'seq', 'two', 'content', 'bad'),
    jsonb_build_object('request', t.id('a'), 'attempt', 1, 'seq', 9, 'content', 'late'))))::json) r;
select seq, content from mrprompt.deltas where request_id = t.id('s');
-- what a heartbeat does not list is queued again; what is listed but no longer held is lost
select t.settle('f1', t.outcome('s', 1, 'succeeded', t.answer('x')));
select t.ask('unheard');
select * from t.claim('f1');
select json_array_length(h -> 'lost') as lost, json_array_length(h -> 'cancel') as cancel from t.heartbeat('f1', json_build_array(json_build_array(t.id('a'), 1))) h;
select t.label(id), status, wait_reason from mrprompt.requests where status = 'queued' and metadata ->> 'label' <> 'b' order by id;
select t.label(request_id), attempt, outcome, cost from mrprompt.usage where outcome = 'lost' order by request_id;
select * from t.claim('f1');
-- cancel: a wish, told at every heartbeat until the attempt has ended; a waiting one ends by itself
select mrprompt.cancel_request(t.id('unheard'));
select mrprompt.cancel_request(t.id('unheard'));
select cancel_requested, status from mrprompt.get_request(t.id('unheard'));
select json_array_length(t.heartbeat('f1', json_build_array(json_build_array(t.id('unheard'), 2), json_build_array(t.id('d'), 2))) -> 'cancel') as cancel;
select t.settle('f1', t.outcome('unheard', 2, 'cancelled', '{"usage": {"prompt_tokens": 9, "completion_tokens": 1}}'));
select mrprompt.cancel_request(t.id('unheard'));
select mrprompt.cancel_request(t.id('b'));
select mrprompt_internal.tend('{"limit": 100}') ->> 'did' as did;
select t.label(id), status from mrprompt.requests where status = 'cancelled' order by id;
select count(*) from mrprompt_internal.cancels;
-- a fetcher dies: what it held runs again, and at the third death fails
select t.hello('f3');
select t.ask('poison');
select * from t.claim('f3');
select mrprompt_internal.fetcher_gone((select id from t.fetcher where name = 'f3'), true);
select state from t.try($$select * from t.claim('f3')$$);
select status, wait_reason from mrprompt.requests where id = t.id('poison');
select t.hello('f3');
select * from t.claim('f3');
select mrprompt_internal.fetcher_gone((select id from t.fetcher where name = 'f3'), true);
select alone, deaths from mrprompt_internal.queue where request_id = t.id('poison');
select * from t.claim('f1');
select t.hello('f3', alone => true);
select * from t.claim('f3');
select mrprompt_internal.fetcher_gone((select id from t.fetcher where name = 'f3'), true);
select status, error_type, error_message from mrprompt.requests where id = t.id('poison');
select attempt, outcome, cost from mrprompt.usage where request_id = t.id('poison') order by attempt;
-- expiry: while waiting, and instead of a retry that would come too late
select mrprompt.chat_text('soon', provider => 'fake', model => 'fake-1', metadata => '{"label": "soon"}', expires_at => clock_timestamp() + interval '1 hour') is not null as queued;
update mrprompt_internal.queue set expires_at = now() - interval '1 second' where request_id = t.id('soon');
select * from t.claim('f1');
select mrprompt_internal.tend('{"limit": 100}') ->> 'did' as did;
select status, error_type from mrprompt.requests where id = t.id('soon');
-- what was taken away after the call ends the request at the claim
select mrprompt.add_key('fake', 'sk-test-short-lived') as key \gset
select t.ask('revoked');
select mrprompt.revoke_key(:'key') is not null as revoked;
select * from t.claim('f1');
select status, error_type from mrprompt.requests where id = t.id('revoked');
-- a clean goodbye queues again what is left, without a death
select t.ask('left');
select * from t.claim('f2');
select mrprompt_internal.heartbeat((t.args('f2') || '{"leaving": true, "in_flight": []}')::json) is not null as gone;
select deaths, fetcher_id from mrprompt_internal.queue where request_id = t.id('left');
-- bytes that end a claim leave the rest ready for the next one
delete from mrprompt_internal.queue;
select t.hello('f4');
select t.ask(l) from unnest(array['m1', 'm2', 'm3']) l;
select label from t.claim('f4', 10, 1);
select label from t.claim('f4', 10, 1);
select label from t.claim('f4', 10, 1);
-- a fetcher of their own is wanted only for what may be claimed
select mrprompt_internal.alone_waiting();
insert into mrprompt_internal.queue (request_id, alone, provider, bytes, user_id, model, tag) values (t.id('a'), true, 'fake', 1, gen_random_uuid(), 'm', 1);
select mrprompt_internal.alone_waiting();
select mrprompt.pause('fake');
select mrprompt_internal.alone_waiting();
select mrprompt.resume();
-- what was cancelled is handed out to nobody, however many wishes there are
select count(mrprompt.chat_text('many', 'm', 'fake', metadata => '{"round": "many"}')) from generate_series(1, 1100);
select count(mrprompt.cancel_request(id)) from mrprompt.requests where metadata ->> 'round' = 'many';
select t.hello('f6');
select count(*) from t.claim('f6', 100);
select mrprompt_internal.tend('{"limit": 1000}') is not null as tended;
select status, count(*) from mrprompt.requests where metadata ->> 'round' = 'many' group by 1;
-- two outcomes of one attempt in one call: one counts
select t.ask('twice');
select label from t.claim('f6');
select t.settle('f6', t.outcome('twice', 1, 'succeeded'), t.outcome('twice', 1, 'retry'));
select r.status = 'queued' as queued_, exists (select from mrprompt_internal.queue q where q.request_id = r.id) as in_queue from mrprompt.requests r where id = t.id('twice') and (r.status = 'queued') <> exists (select from mrprompt_internal.queue q where q.request_id = r.id);
-- what a call says of an attempt that is over is stored nowhere
select t.ask('late tail', stream => true);
select label from t.claim('f6');
select t.settle('f6', t.outcome('late tail', 1, 'retry', '{"counts_as_failure": true, "retry_after_ms": 0}'));
select label, attempt from t.claim('f6') where label = 'late tail';
select t.settle('f6', t.outcome('late tail', 1, 'succeeded', '{"deltas": [{"seq": 1, "content": "stale"}]}'), t.outcome('late tail', 2, 'succeeded', '{"deltas": [{"seq": 1, "content": "fresh"}]}'));
select attempt, content from mrprompt.deltas where request_id = t.id('late tail') and content is not null order by seq;
-- a deleted request leaves nothing in the queue: not while it waits, alone or not, nor when it ran
insert into mrprompt_internal.queue (request_id, provider, bytes, user_id, model, tag) values (gen_random_uuid(), 'fake', 1, gen_random_uuid(), 'm', 1);
insert into mrprompt_internal.queue (request_id, alone, provider, bytes, user_id, model, tag) values (gen_random_uuid(), true, 'fake', 1, gen_random_uuid(), 'm', 1);
select t.hello('f5');
select t.ask('deleted');
select label from t.claim('f5');
select t.outcome('deleted', 1, 'succeeded') as late \gset
delete from mrprompt.requests where id = t.id('deleted');
select t.settle('f5', :'late');
select mrprompt_internal.tend('{"limit": 100}') is not null as tended;  -- the supervisor may have come first
select count(*) from mrprompt_internal.queue q where not exists (select from mrprompt.requests r where r.id = q.request_id);
-- an outcome that makes no sense fails alone, whatever is wrong with it
select t.ask(l) from unnest(array['no result', 'no such result', 'negative', 'sound']) l;
select count(*) from t.claim('f6', 100);
select t.settle('f6', t.outcome('no result', 1, null), t.outcome('no such result', 1, 'running'),
    t.outcome('negative', 1, 'succeeded', t.answer('x', -1)), t.outcome('sound', 1, 'succeeded', t.answer('x')));
select t.label(id), status, error_message from mrprompt.requests where metadata ->> 'label' in ('no result', 'no such result', 'negative', 'sound') order by id;
-- a claim says what it has room for, and progress can be read
select state, message from t.try($$select * from mrprompt_internal.claim((t.args('f6') || '{"room": 1}')::json)$$);
select state, message from t.try($$select * from mrprompt_internal.claim((t.args('f6') || '{"bytes": 1}')::json)$$);
select state from t.try($$select mrprompt_internal.heartbeat((t.args('f6') || '{"progress": [{"request": "x"}]}')::json)$$);
select count(*) >= 0 as readable from mrprompt.requests_in_flight;
select mrprompt_internal.tend('{"limit": -1}') -> 'more' as more;
-- a fetcher of the contract before gets nothing of a provider whose proxy or certificate it would leave out
insert into mrprompt.providers (name, protocol, base_url, proxy) values ('proxied', 'openai', 'https://llm.example.com/v1', 'http://proxy.example.com:3128');
insert into mrprompt.providers (name, protocol, base_url, client_cert_file, client_key_file) values ('known', 'openai', 'https://llm.example.com/v1', '/c', '/k');
insert into t.fetcher values ('older', (mrprompt_internal.hello('{"contract": 1, "program": "one before", "kind": "libpq"}') ->> 'fetcher')::uuid);
select mrprompt.chat_text('x', 'm', p, metadata => jsonb_build_object('label', 'to ' || p)) is not null as queued from unnest(array['proxied', 'fake', 'known']) p;
select label from t.claim('older');
select label from t.claim('f6');
select count(*) = count(distinct (request_id, attempt)) as unique from mrprompt.usage;
