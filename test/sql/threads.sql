-- Threads: made, listed page by page, named, changed and deleted by whom they belong to.
\getenv dir PG_ABS_SRCDIR
\set helpers :dir '/helpers.sql'
\set ECHO none
\i :helpers
grant usage on schema t to public;
-- The supervisor's own housekeeping stays away from a database that is not at home.
create or replace function t.at_home(yes boolean) returns void language sql as $$
    update mrprompt_internal.homes set database_oid = case when yes then (select oid from pg_database where datname = current_database()) else 0 end $$;
do $$ begin perform t.at_home(false); end $$;
-- Which of the threads made below this is.
create function t.n(thread uuid) returns text language sql as $$ select metadata ->> 'n' from mrprompt.threads where id = thread $$;
grant execute on all functions in schema t to public;
\set ECHO all
set role mrprompt_user;
select t.be('ann');
select mrprompt.create_thread() is not null as made;
select mrprompt.create_thread('[{"role": "user", "content": "Which  of these\n stars is the nearest to us, and how long would a journey to it take?"}, {"role": "assistant", "content": [{"type": "text", "text": "Proxima."}], "metadata": {"from": "elsewhere"}}]',
    metadata => '{"n": 1}') as first \gset
-- a title is what the user said first, on one line, cut at a word; or as given
select title, messages, active_run_id, metadata, last_activity_at >= created_at as later from mrprompt.get_thread(:'first');
select mrprompt.create_thread('[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]}]', '  My' || E'\n' || 'picture ', '{"n": 2}') as second \gset
select mrprompt.create_thread(title => 'Third', metadata => '{"n": 3}') as third \gset
select title, metadata, messages from mrprompt.list_threads();
select mrprompt.create_thread(json_build_array(json_build_object('role', 'user', 'content', repeat('字', 100)))) as long \gset
select length(title) from mrprompt.get_thread(:'long');
-- pages, in both orders, from both sides
select mrprompt.create_thread(metadata => jsonb_build_object('n', n)) is not null from generate_series(4, 9) n;
select string_agg(t.n(id), ' ') from mrprompt.list_threads(4);
select string_agg(t.n(id), ' ') from mrprompt.list_threads(4, after => :'third');
select string_agg(t.n(id), ' ') from mrprompt.list_threads(4, before => :'third');
select string_agg(t.n(id), ' ') from mrprompt.list_threads(4, 'asc', after => :'third');
select string_agg(t.n(id), ' ') from mrprompt.list_threads(2, 'asc', before => :'third');
select string_agg(t.n(id), ' ') from mrprompt.list_threads(4, 'asc', after => :'first', before => :'third');
select title from mrprompt.list_threads(search => 'STARS IS');
select title from mrprompt.list_threads(search => 'no such title');
select t.why('select mrprompt.list_threads(0)');
select t.why('select mrprompt.list_threads(101)');
select t.why($$select mrprompt.list_threads("order" => 'up')$$);
-- what is null stays; '' is no title; metadata goes as a whole
select mrprompt.update_thread(:'third', metadata => '{"n": "3", "color": "red"}') = :'third' as same;
select title, metadata from mrprompt.get_thread(:'third');
select mrprompt.update_thread(:'first', 'Stars') = :'first' as same;
select title, metadata from mrprompt.get_thread(:'first');
select mrprompt.update_thread(:'first', '') = :'first' as same;
select title from mrprompt.get_thread(:'first');
-- input that is refused, with a word on how to do better
select t.why($$select mrprompt.create_thread(title => repeat('x', 501))$$);
select t.why($$select mrprompt.create_thread(metadata => '[]')$$);
select t.why($$select mrprompt.create_thread(metadata => (select jsonb_object_agg(n, n) from generate_series(1, 17) n))$$);
select t.why($$select mrprompt.create_thread(metadata => jsonb_build_object(repeat('k', 65), 1))$$);
select t.why($$select mrprompt.create_thread(metadata => jsonb_build_object('k', repeat('v', 513)))$$);
-- values are no structures: strings, as they were, or any other scalar; tags stand in an array
select t.why($$select mrprompt.create_thread(metadata => '{"a": "b", "k": {"n": 1}}')$$);
select t.why($$select mrprompt.create_thread(metadata => '{"k": [1]}')$$);
select mrprompt.create_thread(metadata => '{"s": "a", "n": 1, "b": true, "z": null, "tags": ["x"]}') is not null as made;
select mrprompt.create_thread(metadata => (select jsonb_object_agg(lpad(n::text, 64, 'k'), repeat('v', 512)) from generate_series(1, 16) n)) is not null as as_much_as_fits;
select t.why($$select mrprompt.create_thread('{"role": "user"}')$$);
select t.why($$select mrprompt.create_thread('["Hello"]')$$);
select t.why($$select mrprompt.create_thread('[{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]')$$);
select t.why($$select mrprompt.create_thread('[{"role": "user", "content": "a", "attachments": []}]')$$);
select t.why($$select mrprompt.create_thread('[{"role": "user"}]')$$);
select t.why($$select mrprompt.create_thread('[{"role": "user", "content": "a", "metadata": "b"}]')$$);
select t.why($$select mrprompt.create_thread('[{"role": "user", "content": "a\u0000"}]')$$);
select t.why($$select mrprompt.create_thread((select json_agg('{"role": "user", "content": "a"}'::json) from generate_series(1, 1001)))$$);
select count(*) from mrprompt.list_threads(100);
-- another sees none of it, and can do nothing to it
select t.be('bob');
select count(*) from mrprompt.list_threads();
select count(*) from mrprompt.threads;
select count(*) from mrprompt.messages;
select t.why(format('select mrprompt.get_thread(%L)', :'first'));
select t.why(format('select mrprompt.update_thread(%L, ''x'')', :'first'));
select t.why(format('select mrprompt.delete_thread(%L)', :'first'));
select t.why(format('select mrprompt_internal.delete_thread(%L)', :'first'));
select t.why(format('select mrprompt_internal.lock_thread(%L)', :'first'));
select t.why(format('select mrprompt_internal.add_messages(%L, null, ''[]'', ''x'')', :'first'));
select t.why($$select mrprompt.create_thread(user_id => 'aaaaaaaa-0000-4000-8000-000000000001')$$);
select t.why($$select mrprompt.list_threads(user_id => 'aaaaaaaa-0000-4000-8000-000000000001')$$);
select t.why('insert into mrprompt.threads (user_id) values (mrprompt.current_user_id())');
-- nobody is refused; who may act for others says for whom
select t.be('');
select state from t.try('select mrprompt.create_thread()');
select state from t.try('select mrprompt.list_threads()');
reset role;
set role mrprompt_admin;
select mrprompt.create_thread(title => 'For Ann', user_id => 'aaaaaaaa-0000-4000-8000-000000000001') is not null as made;
select title from mrprompt.list_threads(1, user_id => 'aaaaaaaa-0000-4000-8000-000000000001');
reset role;

-- Deleting: gone at once for everybody, then in pieces, when its run has ended.
\set ECHO none
create function t.left_of(thread uuid) returns table (threads bigint, messages bigint, runs bigint, steps bigint, calls bigint, events bigint, identities bigint,
    requests bigint, answers bigint, deltas bigint) language sql as $$
    select (select count(*) from mrprompt.threads where id = thread), (select count(*) from mrprompt.messages where thread_id = thread),
        (select count(*) from mrprompt.runs where thread_id = thread), (select count(*) from mrprompt.run_steps where thread_id = thread),
        (select count(*) from mrprompt.tool_calls c join mrprompt.runs r on r.id = c.run_id where r.thread_id = thread),
        (select count(*) from mrprompt.run_events e join mrprompt.runs r on r.id = e.run_id where r.thread_id = thread),
        (select count(*) from mrprompt_internal.run_identities i join mrprompt.runs r on r.id = i.run_id where r.thread_id = thread),
        (select count(*) from mrprompt.requests where metadata ->> 'thread' = thread::text), (select count(*) from mrprompt.responses), (select count(*) from mrprompt.deltas) $$;
-- Runs as they might have been: two steps each, one calling a tool, with answers and streams.
create function t.runs(thread uuid, owner uuid, count int default 1) returns void language plpgsql as $$
declare
    run uuid; request uuid; step uuid;
begin
    for n in 1..count loop
        insert into mrprompt.runs (thread_id, user_id, agent_id, agent_version, status, active, finished_at)
        values (thread, owner, mrprompt_internal.uuidv7(), 1, 'completed', false, now()) returning id into run;
        insert into mrprompt_internal.run_identities (run_id, claims) values (run, '{}');
        for s in 1..2 loop
            insert into mrprompt.requests (id, user_id, provider, model, stream, status, finished_at, payload, metadata, run_id)
            values (mrprompt_internal.uuidv7(), owner, 'fake', 'fake-1', true, 'succeeded', now(), '{}', jsonb_build_object('thread', thread), run) returning id into request;
            insert into mrprompt.responses (request_id, attempt, content) values (request, 1, 'secret');
            insert into mrprompt.deltas (request_id, seq, attempt, content) select request, d, 1, 'secret' from generate_series(1, 5) d;
            insert into mrprompt.run_steps (run_id, thread_id, user_id, step, type, request_id, message_id)
            values (run, thread, owner, s, case s when 1 then 'tool_calls' else 'message_creation' end, request, mrprompt_internal.uuidv7()) returning id into step;
            insert into mrprompt.run_events (run_id, seq, event, subject) select run, s * 10 + e, 'thread.run.step.created', step from generate_series(1, 3) e;
        end loop;
        insert into mrprompt.tool_calls (run_id, user_id, step_id, call_id, place, name, arguments, kind, status)
        values (run, owner, step, 'c', 0, 'f', '{}', 'client', 'completed');
        perform mrprompt_internal.add_message(thread, owner, 'assistant', '"secret"', run_id => run);
    end loop;
end $$;
\set ECHO all
select set_config('t.first', :'first', false) is not null, set_config('t.second', :'second', false) is not null, set_config('t.third', :'third', false) is not null;
select t.runs(:'first', 'aaaaaaaa-0000-4000-8000-000000000001', 3), t.runs(:'second', 'aaaaaaaa-0000-4000-8000-000000000001');
select * from t.left_of(:'first');
insert into mrprompt.runs (thread_id, user_id, agent_id, agent_version) values (:'first', 'aaaaaaaa-0000-4000-8000-000000000001', mrprompt_internal.uuidv7(), 1);
select t.be('ann');
set role mrprompt_user;
select active_run_id is not null as busy from mrprompt.get_thread(:'first');
select mrprompt.delete_thread(:'first') = :'first' as deleted;
select t.why(format('select mrprompt.get_thread(%L)', :'first'));
select t.why(format('select mrprompt.delete_thread(%L)', :'first'));
select count(*) from mrprompt.list_threads(100) where id = :'first';
select count(*) from mrprompt.messages where thread_id = :'first';
select state from t.try(format('select mrprompt.create_message(%L, ''x'')', :'first'));
reset role;
-- not before its run has ended
select status like 'cancel%' as ended from mrprompt.runs where thread_id = :'first' order by id desc limit 1;
update mrprompt.runs set active = true, finished_at = null where id = (select max(id::text)::uuid from mrprompt.runs where thread_id = :'first');
select mrprompt_internal.remove_deleted_threads(1000);
update mrprompt.runs set active = false, finished_at = now() where thread_id = :'first' and finished_at is null;
-- in pieces, each bounded; with the answers, and nothing of another thread
create table t.pieces (n int, did int);
do $$ declare did int; begin
    for i in 1..100 loop
        did := mrprompt_internal.remove_deleted_threads(4);
        exit when did = 0;
        insert into t.pieces values (i, did);
    end loop;
end $$;
select count(*) > 10 as many, max(did) < 25 as bounded from t.pieces;
drop table t.pieces;
select * from t.left_of(:'first');
select * from t.left_of(:'second');
-- what a row of the app refers to stays, emptied, and is not looked at again
create table public.app (thread_id uuid references mrprompt.threads, message_id uuid references mrprompt.messages deferrable initially deferred, run_id uuid references mrprompt.runs,
    step_id uuid references mrprompt.run_steps, call_id uuid references mrprompt.tool_calls);
insert into public.app values (:'second', (select id from mrprompt.messages where thread_id = :'second' order by position desc limit 1),
    (select id from mrprompt.runs where thread_id = :'second'), (select id from mrprompt.run_steps where thread_id = :'second' limit 1),
    (select c.id from mrprompt.tool_calls c join mrprompt.runs r on r.id = c.run_id where r.thread_id = :'second'));
select mrprompt.delete_thread(:'second') is not null;
do $$ begin for i in 1..10 loop perform mrprompt_internal.remove_deleted_threads(1000); end loop; end $$;
select mrprompt_internal.remove_deleted_threads(1000);
select user_id, title, metadata, deleted_at from mrprompt.threads where id = :'second';
select thread_id = id as detached, position, user_id, content, run_id from mrprompt.messages where id in (select message_id from public.app);
select (select count(*) from mrprompt.runs where user_id::text not like '0000%') as runs, (select count(*) from mrprompt.run_steps where user_id::text not like '0000%') as steps,
    (select count(*) from mrprompt.tool_calls where user_id::text not like '0000%') as calls, (select count(*) from mrprompt.run_events) as events,
    (select count(*) from mrprompt_internal.run_identities) as identities, (select count(*) from mrprompt.requests) as requests, (select count(*) from mrprompt.responses) as answers;
drop table public.app;
-- the same is done by itself, and counted
select mrprompt.delete_thread(:'third') is not null;
do $$ begin perform mrprompt_internal.prune(1000); end $$;
select count(*) from mrprompt.threads where id = :'third';
select kind, pruned_rows > 0 as pruned from mrprompt.retention where kind = 'deleted_threads';
-- kept for a while: those in which nothing was said since, and no run waits
truncate mrprompt.threads, mrprompt.messages, mrprompt.runs;
select t.be('ann');
insert into mrprompt.threads (id, user_id, title, created_at)
select mrprompt_internal.id_of_time(now() - age), 'aaaaaaaa-0000-4000-8000-000000000001', title, now() - age
from (values ('old', interval '100 days'), ('old, with a word of today', '99 days'), ('old, with a run', '98 days'), ('old, with a message that waits', '97 days'),
    ('old, with old words', '96 days'), ('new', '1 day')) v (title, age);
insert into mrprompt.messages (thread_id, position, user_id, role, content, tokens, created_at)
select id, case when title not like '%waits' then 1 end, user_id, 'user', '"hello"', 1, case when title like '%old words' then now() - interval '95 days' else now() end
from mrprompt.threads where title like '%wo%' or title like '%waits';
insert into mrprompt.runs (thread_id, user_id, agent_id, agent_version) select id, user_id, mrprompt_internal.uuidv7(), 1 from mrprompt.threads where title like '%run';
select * from mrprompt_internal.prune_threads(now() - interval '90 days', '00000000-0000-0000-0000-000000000000', 1000);
select title from mrprompt.list_threads();
select kind, setting from mrprompt.retention where kind in ('threads', 'deleted_threads', 'run_events') order by kind;
-- events of a run go with the pieces of streams, all of a run's at once, and not while it is under way
truncate mrprompt.runs, mrprompt.run_events;
insert into mrprompt.runs (id, thread_id, user_id, agent_id, agent_version, active, finished_at, metadata)
select mrprompt_internal.id_of_time(now() - age), mrprompt_internal.uuidv7(), 'aaaaaaaa-0000-4000-8000-000000000001', mrprompt_internal.uuidv7(), 1, ended is null, now() - ended, jsonb_build_object('n', n)
from (values ('ended long ago', interval '3 days', interval '2 days'), ('ended just now', '71 hours', '1 minute'), ('under way', '70 hours', null), ('ended long ago as well', '69 hours', '2 days')) v (n, age, ended);
insert into mrprompt.run_events (run_id, seq, event, subject) select r.id, s, 'thread.run.created', r.id from mrprompt.runs r, generate_series(1, 3) s;
select pruned from mrprompt_internal.prune_run_events(now() - interval '1 day', '00000000-0000-0000-0000-000000000000', 2);
do $$ begin for i in 1..3 loop perform mrprompt_internal.prune(2); end loop; end $$;
select r.metadata ->> 'n' as run, count(*) from mrprompt.run_events e join mrprompt.runs r on r.id = e.run_id group by 1 order by 1;
\set ECHO none
do $$ begin
    perform t.reset();
    perform t.at_home(true);
    truncate mrprompt_internal.prunings;
end $$;
drop function t.at_home(boolean), t.n(uuid), t.left_of(uuid), t.runs(uuid, uuid, int);
revoke usage on schema t from public;
