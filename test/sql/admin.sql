-- Operating it: pause, resume, drain, a copied database, status, requests in flight, the doctor.
\getenv dir PG_ABS_SRCDIR
\set helpers :dir '/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
select t.be('ann');
select t.hello('f1');
insert into mrprompt.providers (name, protocol, base_url) values ('other', 'openai', 'https://llm.example.com');
select t.ask('a');
select mrprompt.chat_text('b', model => 'm', provider => 'other', metadata => '{"label": "b"}') is not null as queued;
select mrprompt.pause('fake');
select label from t.claim('f1');
select t.ask('c');
select mrprompt.pause();
select queued, ready, in_flight, paused from mrprompt.status();
select * from t.claim('f1');
select status, wait_reason from mrprompt.get_request(t.id('c'));
select mrprompt.resume();
select label from t.claim('f1');
select state, message from t.try($$select mrprompt.pause('nowhere')$$);
call mrprompt.drain(timeout => '10 ms');
select t.settle('f1', t.outcome('a', 1, 'succeeded'), t.outcome('b', 1, 'succeeded'));
call mrprompt.drain('fake', timeout => '10 ms');
-- progress, as the last heartbeat told it
select mrprompt_internal.heartbeat((t.args('f1') || jsonb_build_object('in_flight', jsonb_build_array(jsonb_build_array(t.id('c'), 1)),
    'progress', jsonb_build_array(jsonb_build_object('request', t.id('c'), 'attempt', 1, 'phase', 'streaming', 'tokens', 12))))::json) is not null as alive;
select t.label(request_id), model, attempt, phase, tokens, seconds >= 0 as seconds from mrprompt.requests_in_flight;
select t.settle('f1', t.outcome('c', 1, 'succeeded'));
call mrprompt.drain(timeout => '10 s');
select mrprompt.resume();
-- a copy of the database finds that it is one, and waits
select severity, finding from mrprompt.doctor() where finding like '%copy%';
insert into mrprompt_internal.homes (system_identifier, database_oid) values (1, 1);
select t.ask('d');
select * from t.claim('f1');
select is_home from mrprompt.status();
select wait_reason from mrprompt.get_request(t.id('d'));
select severity, finding, remedy from mrprompt.doctor() where finding like '%copy%';
select mrprompt.resume_here();
select t.hello('f1');
select label from t.claim('f1');
-- the doctor: no fetcher alive, no price
delete from mrprompt_internal.fetchers;
select t.ask('e');
select severity, finding from mrprompt.doctor() where finding like '%fetcher%' order by 2;
select t.be('nobody');
