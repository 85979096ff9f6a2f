-- Batches: many requests in one call, all or none; progress, cancel and retry.
\getenv dir PG_ABS_SRCDIR
\set helpers :dir '/helpers.sql'
\set ECHO none
\i :helpers
truncate mrprompt.batches, mrprompt_internal.attempt_errors;
create function t.batch(label text) returns uuid language sql as $$ select id from mrprompt.batches where name = label $$;
create function t.progress() returns table (name text, total int, queued bigint, running bigint, succeeded bigint, failed bigint,
    cancelled bigint, expired bigint, done bigint, remaining bigint, percent numeric, rate boolean, estimated boolean, finished boolean)
    language sql as $$
    select name, total, queued, running, succeeded, failed, cancelled, expired, done, remaining, percent, requests_per_second > 0,
        estimated_end > now(), finished_at is not null from mrprompt.batch_progress order by batch_id $$;
grant usage on schema t to public;
\set ECHO all
select t.be('ann');
insert into mrprompt.prices (provider, model, input, output) values ('fake', 'fake-1', 0.001, 0.002);
-- an element is a prompt or an object; what it does not say comes from the call
select mrprompt.chat_batch($$["one", {"prompt": "two", "system": "be brief", "model": "fake-2", "temperature": 0.5, "stream": true, "priority": 3,
        "metadata": {"label": "two"}, "expires_at": "2999-01-01T00:00:00Z"},
    {"messages": [{"content": "three",  "role": "user"}], "tools": [{"type": "function", "z": 1, "a": 2}], "max_tokens": 7, "stop": "\n",
        "seed": 12345678901, "parameters": {"top_k": 4}, "options": {"total_timeout_ms": 1000}, "model": null}]$$,
    model => 'fake-1', provider => 'fake', name => 'first', metadata => '{"label": "call"}') = t.batch('first') as named;
select model, stream, priority, metadata, expires_at is not null as expires, options, payload from mrprompt.requests
where batch_id = t.batch('first') order by id;
select name, total, metadata from mrprompt.batches;
select * from t.progress();
-- the payload of a prompt is the one that chat_text makes, so that one idempotency_key serves both
select mrprompt.chat_text('once', 'fake-1', 'fake', idempotency_key => 'k1') as asked \gset
select mrprompt.chat_batch('["new", {"prompt": "once", "idempotency_key": "k1"}]', 'fake-1', 'fake', name => 'second') = t.batch('second') as named;
select total from mrprompt.batches where name = 'second';
select batch_id is null as its_own from mrprompt.requests where id = :'asked';
-- what is wrong is said with its place, and nothing is queued
select count(*) as before from mrprompt.requests \gset
create function t.refused(requests json, provider text default 'fake', model text default 'fake-1') returns setof text language sql as $$
    select t.why(format('select mrprompt.chat_batch(%L, %L, %L)', requests, model, provider)) $$;
select t.refused(null);
select t.refused('{}');
select t.refused('[]');
select t.refused('["a", 5]');
select t.refused('["a", null]');
select t.refused('["a", {"prompt": "b", "temprature": 1}]');
select t.refused('["a", {"model": "b"}]');
select t.refused('["a", {"prompt": {"text": "b"}}]');
select t.refused('["a", {"messages": [{"role": "user", "content": "x"}], "system": "y"}]');
select t.refused('["a", "b", {"messages": [{"role": "king", "content": "x"}]}]');
select t.refused('["a", {"prompt": "b", "temperature": "hot"}]');
select t.refused('["a", {"prompt": "b", "provider": "nowhere"}]');
select t.refused('["a", {"prompt": "b", "key_id": "aaaaaaaa-0000-7000-8000-00000000000f"}]');
select t.refused('["a", {"prompt": "b", "key_id": "mine"}]');
select t.refused('["a", {"prompt": "b", "expires_at": "2020-01-01"}]');
select t.refused('["a", {"prompt": "\u0000"}]');
select t.refused('["a", {"prompt": "other", "idempotency_key": "k1"}]');
select t.refused((select json_agg('x'::text) from generate_series(1, 100001)));
select message from t.try($$select mrprompt.chat_batch('["a"]', metadata => '[]')$$);
select count(*) = :before as nothing_was_queued from mrprompt.requests;
select count(*) from mrprompt.batches;
-- progress follows what the fetcher does; requests of a batch come in the order of the array
select t.hello('f1');
update mrprompt.requests set metadata = jsonb_build_object('label', 'b' || n)
from (select id, row_number() over (order by id) as n from mrprompt.requests where batch_id = t.batch('first')) o where o.id = requests.id;
create or replace function t.take() returns void language sql as $$
    select from mrprompt_internal.claim((t.args('f1') || '{"room": 100, "bytes": 1000000}')::json) $$;
select t.take();
select name, running, remaining, percent, estimated from t.progress() where name = 'first';
select t.settle('f1', t.outcome('b1', 1, 'succeeded', t.answer('1')));
select * from t.progress() where name = 'first';
select t.settle('f1', t.outcome('b2', 1, 'failed', '{"error": {"status": 400, "type": "invalid_request_error", "message": "no"}, "http_status": 400}'));
select cost, attempts_of_unknown_cost from mrprompt.batch_progress where name = 'first';
-- cancel: a wish for each that has not ended
select mrprompt.cancel_batch(t.batch('first'));
select t.label(request_id) from mrprompt_internal.cancels;
select t.settle('f1', t.outcome('b3', 1, 'cancelled'));
select * from t.progress() where name = 'first';
select mrprompt.cancel_batch(t.batch('first'));
-- retry: the failed and expired ones, not the cancelled
select mrprompt.retry_batch(t.batch('first'));
select * from t.progress() where name = 'first';
select mrprompt.retry_batch(t.batch('first'));
select t.take();
select t.settle('f1', t.outcome('b2', 2, 'succeeded', t.answer('2')));
select * from t.progress() where name = 'first';
-- a batch is its user's
select t.be('bob');
set role mrprompt_user;
select * from mrprompt.batch_progress;
select count(*) from mrprompt.batches;
reset role;
select t.batch('first') as first \gset
set role mrprompt_user;
select state from t.try(format('select mrprompt.cancel_batch(%L)', :'first'));
select state from t.try(format('select mrprompt.retry_batch(%L)', :'first'));
select state from t.try('select mrprompt.cancel_batch(null)');
select state from t.try($$insert into mrprompt.batches (user_id) values ('bbbbbbbb-0000-4000-8000-000000000002')$$);
select state from t.try($$select mrprompt.chat_batch('["a"]', user_id => 'aaaaaaaa-0000-4000-8000-000000000001')$$);
reset role;
set role mrprompt_analyst;
select state from t.try('select * from mrprompt.batch_progress');
reset role;
select t.be('');
set role mrprompt_user;
select state from t.try($$select mrprompt.chat_batch('["a"]', 'fake-1', 'fake')$$);
reset role;
set role mrprompt_admin;
select count(*) from mrprompt.batch_progress;
select mrprompt.cancel_batch((select batch_id from mrprompt.batch_progress where name = 'second'));
reset role;
-- ten thousand in one call, and the progress of one batch by its index
select t.be('ann');
select mrprompt.chat_batch((select json_agg('question ' || n) from generate_series(1, 10000) n), 'fake-1', 'fake', name => 'large') = t.batch('large') as named;
select name, total, queued, remaining, percent, estimated from t.progress() where name = 'large';
select t.batch('large') as large \gset
begin;
set local enable_seqscan = off;
create function t.uses_index(statement text) returns boolean language plpgsql as $$
declare line text; found_it boolean := false;
begin
    for line in execute 'explain ' || statement loop
        found_it := found_it or line like '%Index%Scan%requests_batch%';
    end loop;
    return found_it;
end $$;
select t.uses_index(format('select done from mrprompt.batch_progress where batch_id = %L', :'large'));
rollback;
select mrprompt.cancel_batch(:'large');
do $$ begin perform t.reset(); truncate mrprompt.batches, mrprompt_internal.attempt_errors; end $$;
revoke usage on schema t from public;
