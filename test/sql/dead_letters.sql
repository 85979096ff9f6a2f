-- Dead letters: what failed for good stays with its history, and can be tried again.
\getenv dir PG_ABS_SRCDIR
\set helpers :dir '/helpers.sql'
\set ECHO none
\i :helpers
truncate mrprompt.batches, mrprompt_internal.attempt_errors;
create function t.retry(label text) returns setof text language sql as $$
    select t.why(format('select mrprompt.retry_request(%L)', t.id(label))) $$;
create function t.state(label text) returns table (status text, attempts int, failures int, error_type text, error_message text,
    finished boolean, expires boolean, queued_attempt int, deaths int) language sql as $$
    select r.status, r.attempts, r.failures, r.error_type, r.error_message, r.finished_at is not null, r.expires_at is not null, q.attempt, q.deaths
    from mrprompt.requests r left join mrprompt_internal.queue q on q.request_id = r.id where r.id = t.id(label) $$;
create or replace function t.take() returns void language sql as $$
    select from mrprompt_internal.claim((t.args('f1') || '{"room": 100, "bytes": 1000000}')::json) $$;
grant usage on schema t to public;
\set ECHO all
select t.be('ann');
select t.hello('f1');
select t.ask('broken', stream => true), t.ask('refused'), t.ask('fine'), t.ask('late'), t.ask('dropped');
select t.take();
-- a request that failed at its second attempt, with something of an answer
select t.append('f1', 'broken', 1, 1, 'Once') ->> 'lost' as lost;
select t.settle('f1', t.outcome('broken', 1, 'retry', '{"retry_after_ms": 0, "counts_as_failure": true, "http_status": 500, "total_ms": 12,
    "error": {"status": 500, "type": "server_error", "message": "oops"}}'));
select t.settle('f1', t.outcome('refused', 1, 'failed', '{"http_status": 400, "total_ms": 3, "error": {"status": 400, "type": "invalid_request_error", "message": "no such parameter"}}'),
    t.outcome('fine', 1, 'succeeded', t.answer('yes')), t.outcome('dropped', 1, 'cancelled'));
select t.take();
select t.append('f1', 'broken', 2, 1, 'Upon a') ->> 'lost' as lost;
select t.settle('f1', t.outcome('broken', 2, 'failed', '{"total_ms": 20, "error": {"type": "cut_stream", "message": "ended too early"},
    "response": {"content": "Upon a"}}'));
update mrprompt_internal.queue set expires_at = now() - interval '1 second', fetcher_id = null where request_id = t.id('late');
update mrprompt.requests set expires_at = now() - interval '1 second' where id = t.id('late');
select mrprompt_internal.tend('{}') is not null as tended;
select metadata ->> 'label' as label, status, error_status, error_type, error_message, attempts, failures, finished_at is not null as finished
from mrprompt.failed_requests order by id;
select t.label(id) as label, h ->> 'attempt' as attempt, h ->> 'outcome' as outcome, h ->> 'error' as error, h ->> 'ms' as ms, h ? 'at' as timed
from mrprompt.failed_requests, jsonb_array_elements(attempts_history) with ordinality e (h, n) order by id, n;
-- the reader has reached the end
select seq, event, content, status from mrprompt.stream(t.id('broken'));
-- once more: everything as new but the number of the attempt
select t.retry('broken');
select * from t.state('broken');
select count(*) from mrprompt.responses where request_id = t.id('broken');
select * from t.claim('f1');
select t.append('f1', 'broken', 3, 1, 'Once upon a time') ->> 'lost' as lost;
select t.settle('f1', t.outcome('broken', 3, 'succeeded', t.answer('Once upon a time')));
-- a reader who goes on after the end he had seen, and one who begins
select seq, event, content, status from mrprompt.stream(t.id('broken'), 1000004);
select seq, event, content, status from mrprompt.stream(t.id('broken'));
select attempt, outcome from mrprompt.usage where request_id = t.id('broken') order by attempt;
-- the others: refused, expired, cancelled
select t.retry(l) from unnest(array['refused', 'late', 'dropped']) l;
select l, s.* from unnest(array['refused', 'late', 'dropped']) l, t.state(l) s;
-- what has not ended, or ended well, is refused with its state
select t.retry('refused');
select t.take();
select t.retry('refused');
select t.retry('fine');
select t.why('select mrprompt.retry_request(null)');
-- a fulfilled wish to cancel, not yet removed, does not end the new attempt
select mrprompt.cancel_request(t.id('dropped'));
select t.settle('f1', t.outcome('dropped', 2, 'cancelled'));
select count(*) from mrprompt_internal.cancels;
select t.retry('dropped');
select mrprompt_internal.tend('{}') is not null as tended;
select status from t.state('dropped');
-- what was asked is no longer kept: removed, or emptied
select t.settle('f1', t.outcome('refused', 2, 'failed'), t.outcome('late', 2, 'failed'));
update mrprompt.requests set payload = '{}' where id = t.id('refused');
select t.retry('refused');
select t.id('late') as gone \gset
delete from mrprompt.requests where id = :'gone';
select t.why(format('select mrprompt.retry_request(%L)', :'gone'));
-- a stream whose end had no pieces: the reader who goes on after it gets the restart
select t.ask('silent', stream => true);
select t.take();
select t.settle('f1', t.outcome('silent', 1, 'failed', '{"error": {"type": "connect_failed", "message": "refused"}}'));
select seq, event from mrprompt.stream(t.id('silent')) \gset
select :'event' as event;
select t.retry('silent');
select t.take();
select event from mrprompt.stream(t.id('silent'), :seq, '1 ms');
-- another user's is not there; an admin's reach is everybody's
select t.settle('f1', t.outcome('silent', 2, 'failed'));
select t.id('silent') as silent \gset
select t.be('bob');
set role mrprompt_user;
select count(*) from mrprompt.failed_requests;
select t.why(format('select mrprompt.retry_request(%L)', :'silent'));
select mrprompt_internal.attempt_history(:'silent');
select state, message from t.try('select mrprompt.failure_channel()');
select state from t.try(format('select mrprompt_internal.queue_again(%L)', :'silent'));
select state from t.try(format('select mrprompt_internal.try_again(array[%L]::uuid[])', :'silent'));
reset role;
set role mrprompt_analyst;
select state from t.try('select * from mrprompt.failed_requests');
reset role;
select t.be('');
set role mrprompt_admin;
select count(*) > 0 as some from mrprompt.failed_requests;
select mrprompt.retry_request(:'silent') = :'silent' as retried;
select mrprompt.failure_channel() like 'mrprompt\_%' as a_channel, mrprompt.failure_channel() <> mrprompt.notification_channel('bbbbbbbb-0000-4000-8000-000000000002') as its_own;
reset role;
-- a shared key that was taken back serves no retry, nor what was queued before; the attempt is in the ledger, as never sent
select mrprompt.add_key('fake', 'sk-test-shared-00009', shared => true) as shared \gset
select mrprompt.grant_key(:'shared', 'bbbbbbbb-0000-4000-8000-000000000002') is not null as granted;
select t.be('bob');
select t.ask('shared'), t.ask('waiting');
select label from t.claim('f1');
select t.settle('f1', t.outcome('shared', 1, 'failed'), t.outcome('waiting', 1, 'retry', '{"retry_after_ms": 0}'));
select t.be('');
select mrprompt.ungrant_key(:'shared', 'bbbbbbbb-0000-4000-8000-000000000002') is not null as taken_back;
select t.be('bob');
select t.retry('shared');
select count(*) from t.claim('f1');
select t.label(id) as label, status, error_type, error_message like 'key % was revoked, or taken back from its user, %' as says_so from mrprompt.requests where key_id is not null order by id;
select t.label(u.request_id) as label, u.attempt, u.outcome, u.cost, u.error_type from mrprompt.usage u where u.key_id is not null order by u.request_id, u.attempt;
do $$ begin perform t.reset(); truncate mrprompt_internal.attempt_errors; end $$;
revoke usage on schema t from public;
