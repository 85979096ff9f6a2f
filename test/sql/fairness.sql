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
-- one user's runs that find no room in the queue hold up nobody else's: the next claim brings another's, however many of hers are in front of it
delete from mrprompt_internal.queue;
-- What a claim hands out is answered; each of these runs has another one behind it, which is then put down to be looked at.
create function t.answer_all(room int) returns bigint language sql as $$
    with jobs as materialized (
        select j from mrprompt_internal.claim((t.args('f1') || jsonb_build_object('room', room, 'bytes', 10000000))::json) c, json_array_elements(c.body -> 'jobs') j
    ), settled as materialized (
        select mrprompt_internal.settle((t.args('f1') || jsonb_build_object('outcomes', (
            select jsonb_agg(jsonb_build_object('request', j ->> 'request', 'attempt', j -> 'attempt', 'result', 'succeeded',
                'response', '{"content": "Hi.", "finish_reason": "stop"}'::jsonb)) from jobs)))::json))
    select count(*) from jobs, settled $$;
create function t.two_runs(agent uuid) returns uuid language plpgsql as $$
declare
    thread uuid := (select thread_id from mrprompt.create_thread_and_run(agent, '[{"role": "user", "content": "Hello"}]'));
begin
    return mrprompt.create_run(thread, agent, when_busy => 'queue');
end $$;
create view t.runs as
    select case user_id when 'aaaaaaaa-0000-4000-8000-000000000001' then 'ann' else 'bob' end as who,
        case when finished_at is not null then 'ended' when not active then 'waits' when request_id is null then 'finds no room' else 'asks' end as state, count(*)
    from mrprompt.runs group by 1, 2 order by 1, 2;
select t.be('');
select mrprompt.create_agent('curator', provider => 'fake', model => 'm', shared => true) as agent \gset
select t.be('ann');
select count(t.two_runs(:'agent')) from generate_series(1, 70);
select t.answer_all(100);
select count(mrprompt.chat_text('in the way', 'm', 'fake')) from generate_series(1, 3);
select t.be('bob');
select t.two_runs(:'agent') is not null as asked;
alter system set mrprompt.max_queued_per_user = 3;
select pg_reload_conf();
\set ECHO none
select 'do $do$ begin if mrprompt_internal.setting(''mrprompt.max_queued_per_user'') <> ''3'' then perform pg_sleep(0.05); end if; end $do$' from generate_series(1, 100) \gexec
\set ECHO all
-- bob's first, then his second, which comes behind all of hers
select t.answer_all(1), t.answer_all(1);
table t.runs;
select count(*) from t.claim('f1', 10);
table t.runs;
-- what was refused is put off, for longer each time; what it is told meanwhile it hears at once
select count(distinct run_id), min(refusals) as refusals from mrprompt_internal.run_work;
update mrprompt_internal.run_work set id = mrprompt_internal.id_of_time(clock_timestamp() + interval '30 s');
select t.be('ann');
select count(mrprompt.chat_text('in the way', 'm', 'fake')) from generate_series(1, 3);
select run_id as one from mrprompt_internal.run_work order by id limit 1 \gset
select mrprompt_internal.put_work(:'one'), mrprompt_internal.put_work(:'one');
select count(*) as twice, count(*) filter (where id < mrprompt_internal.work_due()) as due from mrprompt_internal.run_work where run_id = :'one';
select mrprompt_internal.advance_waiting(10);
select count(*), max(refusals) as refusals from mrprompt_internal.run_work where run_id = :'one';
-- where the clock was put back its time would never come
update mrprompt_internal.run_work set id = mrprompt_internal.id_of_time(now() + interval '1 hour');
select t.claim('f1', 10);
table t.runs;
alter system reset mrprompt.max_queued_per_user;
select pg_reload_conf();
\set ECHO none
select 'do $do$ begin if mrprompt_internal.setting(''mrprompt.max_queued_per_user'') = ''3'' then perform pg_sleep(0.05); end if; end $do$' from generate_series(1, 100) \gexec
\set ECHO all
select mrprompt_internal.tend_runs(1000) > 0 as looked;
table t.runs;
drop view t.runs;
drop function t.answer_all(int), t.two_runs(uuid);
