-- Who comes first: users share whatever the others have queued, priorities are shares, and a full queue says so.
\getenv dir PG_ABS_SRCDIR
\set helpers :dir '/helpers.sql'
\set ECHO none
\i :helpers
grant usage on schema t to public;
\set ECHO all
select t.hello('f1');
-- ann has queued 300 when bob comes with one: the next claim brings it
select t.be('ann');
select count(t.ask('a' || i)) from generate_series(1, 300) i;
select count(*) from t.claim('f1', 20);
select t.be('bob');
select t.ask('b');
select place, label from (select row_number() over () as place, label from t.claim('f1', 20)) c where label = 'b';
-- and a third user's hundred are shared with her rest one to one
select set_config('request.jwt.claims', '{"sub":"cccccccc-0000-4000-8000-000000000003","role":"authenticated"}', false) is not null as third;
select count(t.ask('c' || i)) from generate_series(1, 100) i;
select left(label, 1) as who, count(*) from t.claim('f1', 40) group by 1 order by 1;
-- the order within one user's is the order of asking
select bool_and(n > before) as in_order from (
    select substr(label, 2)::int as n, lag(substr(label, 2)::int, 1, 0) over (order by place) as before
    from (select row_number() over () as place, label from t.claim('f1', 30)) c where label like 'c%') c;
-- priorities: a step down is a quarter of the share, and one's own batch does not delay one's own question
delete from mrprompt_internal.queue;
select t.be('ann');
select count(mrprompt.chat_text('x', 'm', 'fake', metadata => '{"label": "low"}', priority => -1)) from generate_series(1, 100);
select count(mrprompt.chat_text('x', 'm', 'fake', metadata => '{"label": "normal"}')) from generate_series(1, 100);
select r.metadata ->> 'label' as label, count(*) from mrprompt.requests r join mrprompt_internal.queue q on q.request_id = r.id
where r.id in (select (j ->> 'request')::uuid from mrprompt_internal.claim((t.args('f1') || '{"room": 50, "bytes": 1000000}')::json) c, json_array_elements(c.body -> 'jobs') j)
group by 1 order by 1;
-- above 0 is for who may act for others
set role mrprompt_user;
select t.why($$select mrprompt.chat_text('x', 'm', 'fake', priority => 1)$$);
reset role;
select t.why($$select mrprompt.chat_text('x', 'm', 'fake', priority => 4)$$);
-- a claim looks at as much of the queue as it takes, however many users wait
delete from mrprompt_internal.queue;
insert into mrprompt.requests (id, user_id, provider, model, stream, payload)
select mrprompt_internal.uuidv7(), gen_random_uuid(), 'fake', 'm', false, '{}' from generate_series(1, 5000);
insert into mrprompt_internal.queue (request_id, user_id, provider, model, bytes, tag)
select id, user_id, 'fake', 'm', 2, mrprompt_internal.next_tag(user_id, 0) from mrprompt.requests where payload::text = '{}';
analyze mrprompt_internal.queue;
select count(*) from t.claim('f1', 10);
select pg_stat_force_next_flush();
select idx_tup_read as before from pg_stat_user_indexes where indexrelname = 'queue_ready' \gset
select count(*) from t.claim('f1', 10);
select pg_stat_force_next_flush();
select idx_tup_read - :before < 50 as reads_what_it_takes from pg_stat_user_indexes where indexrelname = 'queue_ready';
