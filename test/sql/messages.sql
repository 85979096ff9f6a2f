-- Messages: what may be said, what waits for a run, pages, and what may be changed.
\getenv dir PG_ABS_SRCDIR
\set helpers :dir '/helpers.sql'
\set ECHO none
\i :helpers
grant usage on schema t to public;
grant execute on all functions in schema t to public;
-- An active run on a thread, as create_run() makes it; t.end ends it and places what waited.
create function t.run(thread uuid) returns uuid language sql as $$
    insert into mrprompt.runs (thread_id, user_id, agent_id, agent_version)
    select id, user_id, mrprompt_internal.uuidv7(), 1 from mrprompt.threads where id = thread returning id $$;
create function t.end(thread uuid) returns void language sql as $$
    update mrprompt.runs set active = false, status = 'completed', finished_at = now() where thread_id = thread;
    update mrprompt.messages m set position = w.n + (select max(position) from mrprompt.messages where thread_id = thread)
    from (select id, row_number() over (order by id) n from mrprompt.messages where thread_id = thread and position is null) w where m.id = w.id $$;
\set ECHO all
select t.be('ann');
set role mrprompt_user;
select mrprompt.create_thread() as thread \gset
select mrprompt.create_message(:'thread', 'Hello') as hello \gset
select mrprompt.create_message(:'thread', role => 'assistant', content => 'Good morning.', metadata => '{"from": "import"}') as answer \gset
select mrprompt.create_message(:'thread', parts => '[{"type": "text",  "text": "What is"}, {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}}, {"type": "text", "text": "this?"},
    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}, {"type": "file", "file": {"file_id": "file-1"}}]') as parts \gset
select position, role, status, content, text, metadata, run_id, agent_id from mrprompt.list_messages(:'thread', "order" => 'asc');
select position, text, thread_id = :'thread' as here from mrprompt.get_message(:'parts');
-- what is refused
create function pg_temp.say(content text default null, parts text default null, more text default '') returns setof text language sql as $$
    select t.why(format('select mrprompt.create_message(%L, %L, %L %s)', current_setting('t.thread'), content, parts, more)) $$;
select set_config('t.thread', :'thread', false) is not null;
select pg_temp.say();
select pg_temp.say('');
select pg_temp.say('a', '[]');
select pg_temp.say('a', null, ', role => ''system''');
select pg_temp.say('a', null, ', when_busy => ''later''');
select pg_temp.say('a', null, ', metadata => ''[]''');
select pg_temp.say(parts => '[]');
select pg_temp.say(parts => '"a"');
select pg_temp.say(parts => '["a"]');
select pg_temp.say(parts => '[{"text": "a"}]');
select pg_temp.say(parts => '[{"type": "text"}]');
select pg_temp.say(parts => '[{"type": "text", "text": "a"}, {"type": "video"}]');
select pg_temp.say(parts => '[{"type": "image_file", "image_file": {"file_id": "file-1"}}]');
select pg_temp.say(parts => '[{"type": "image_url", "image_url": "https://example.com"}]');
select pg_temp.say(parts => '[{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]');
select pg_temp.say(parts => '[{"type": "input_audio", "input_audio": {"data": "AAAA"}}]');
select pg_temp.say(parts => '[{"type": "file", "file": {}}]');
select pg_temp.say(parts => '[{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]', more => ', role => ''assistant''');
select pg_temp.say(parts => '[{"type": "text", "text": "\ud800"}]');
select pg_temp.say(parts => '[{"type": "text", "text": "a", "x": ' || repeat('[', 200) || repeat(']', 200) || '}]');
select pg_temp.say(parts => '[' || repeat('{"type": "text", "text": "a"},', 1000) || '{"type": "text", "text": "a"}]');
select pg_temp.say(repeat('a', 9000000));
begin isolation level repeatable read;
select pg_temp.say('a');
rollback;
select count(*) from mrprompt.messages;
-- a run is active: refused, or it waits behind it
reset role;
select t.run(:'thread') as run \gset
set role mrprompt_user;
select pg_temp.say('too early');
select mrprompt.create_message(:'thread', 'one', when_busy => 'queue') as one \gset
select mrprompt.create_message(:'thread', 'two', when_busy => 'queue') as two \gset
select mrprompt.create_message(:'thread', 'three', when_busy => 'queue') as three \gset
reset role;
-- what the run says meanwhile has its place before them
select mrprompt_internal.add_message(:'thread', 'aaaaaaaa-0000-4000-8000-000000000001', 'assistant', null, run_id => :'run',
    tool_calls => '[{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]') as call \gset
select mrprompt_internal.add_message(:'thread', 'aaaaaaaa-0000-4000-8000-000000000001', 'tool', '"42"', run_id => :'run', tool_call_id => 'c1') as output \gset
select mrprompt_internal.add_message(:'thread', 'aaaaaaaa-0000-4000-8000-000000000001', 'assistant', '"It is 42."', run_id => :'run') as said \gset
set role mrprompt_user;
select position, role, text from mrprompt.list_messages(:'thread', "order" => 'asc');
select position, role, text from mrprompt.list_messages(:'thread', 5);
select position, role, text, tool_calls, tool_call_id from mrprompt.list_messages(:'thread', run_id => :'run', include_tools => true);
select position, role, text from mrprompt.list_messages(:'thread', run_id => :'run', "order" => 'asc');
-- pages over the border between what has a place and what waits
select position, text from mrprompt.list_messages(:'thread', 2, after => :'two');
select position, text from mrprompt.list_messages(:'thread', 2, before => :'answer');
select position, text from mrprompt.list_messages(:'thread', 3, 'asc', after => :'parts');
select position, text from mrprompt.list_messages(:'thread', 2, 'asc', before => :'two');
select position, text from mrprompt.list_messages(:'thread', 20, 'asc', after => :'one', before => :'three');
select position, text from mrprompt.list_messages(:'thread', 20, 'asc', after => :'answer', before => :'two');
select position, text from mrprompt.list_messages(:'thread', 20, 'desc', after => :'two', before => :'three');
select t.why(format('select mrprompt.list_messages(%L, after => %L)', :'thread', gen_random_uuid()));
select t.why(format('select mrprompt.list_messages(%L, 0)', :'thread'));
-- for a chat window: oldest first, the page above by before; without a thread the one in which somebody spoke last
select mrprompt.create_thread('[{"role": "user", "content": "Elsewhere"}]') is not null as another;
select text from mrprompt.chat_history();
select role, text from mrprompt.chat_history(:'thread', 3);
select role, text from mrprompt.chat_history(:'thread', 3, before => :'said');
select t.why('select mrprompt.chat_history("limit" => 1000)');
-- what a run may be reading stays; what waits may go
select t.why(format('select mrprompt.delete_message(%L)', :'hello'));
select mrprompt.delete_message(:'two') = :'two' as gone;
select mrprompt.update_message(:'one', '{"a": 1}') = :'one' as changed;
reset role;
select t.end(:'thread');
set role mrprompt_user;
select position, role, text, metadata from mrprompt.list_messages(:'thread', 3);
select text from mrprompt.chat_history("limit" => 1);
-- afterwards one may go, but no half of a tool's call
select mrprompt.delete_message(:'answer') = :'answer' as gone;
select t.why(format('select mrprompt.delete_message(%L)', :'call'));
select t.why(format('select mrprompt.delete_message(%L)', :'output'));
select t.why(format('select mrprompt.delete_message(%L)', :'answer'));
select position, text from mrprompt.list_messages(:'thread', 2, 'asc');
-- those behind it keep their places
select mrprompt.create_message(:'thread', 'last') is not null as said;
select position from mrprompt.list_messages(:'thread', 1);
-- metadata is all that can be changed
select t.why(format('select mrprompt.update_message(%L, ''[]'')', :'hello'));
select mrprompt.update_message(:'hello', '{"k": "v"}') = :'hello' as changed;
select metadata, text from mrprompt.get_message(:'hello');
select t.why(format('update mrprompt.messages set content = ''"x"'' where id = %L', :'hello'));
-- another's are not there
select t.be('bob');
select t.why(format('select mrprompt.get_message(%L)', :'hello'));
select t.why(format('select mrprompt.update_message(%L, ''{}'')', :'hello'));
select t.why(format('select mrprompt.delete_message(%L)', :'hello'));
select t.why(format('select mrprompt_internal.update_message(%L, ''{}'')', :'hello'));
select t.why(format('select mrprompt.list_messages(%L)', :'thread'));
select t.why(format('select mrprompt.chat_history(%L)', :'thread'));
select t.why(format('select mrprompt.create_message(%L, ''x'')', :'thread'));
select mrprompt_internal.message_page(:'thread', true, null, null, 10, null, true);
select * from mrprompt.chat_history();
-- somebody who may act for others reads and says it as hers
reset role;
select t.be('');
set role mrprompt_admin;
select mrprompt.create_message(:'thread', 'from the back end') as theirs \gset
select user_id from mrprompt.messages where id = :'theirs';
select text from mrprompt.list_messages(:'thread', 1);
reset role;
-- what waits is placed at once when the run ends: so it is bounded, and in a deleted thread it stays where it is
select t.be('ann');
set role mrprompt_user;
select mrprompt.create_thread('[{"role": "user", "content": "Hello"}]') as busy \gset
reset role;
select t.run(:'busy') is not null as runs;
set role mrprompt_user;
select count(mrprompt.create_message(:'busy', 'again', when_busy => 'queue')) from generate_series(1, 100);
select t.why(format('select mrprompt.create_message(%L, ''once more'', when_busy => ''queue'')', :'busy'));
reset role;
select mrprompt_internal.end_run(r, 'completed') from mrprompt.runs r where thread_id = :'busy' and active;
select count(*), max(position) from mrprompt.messages where thread_id = :'busy';
select t.run(:'busy') is not null as runs;
set role mrprompt_user;
select mrprompt.create_message(:'busy', repeat('word ', 250000), when_busy => 'queue') is not null as one_may_be_large;
select t.why(format('select mrprompt.create_message(%L, ''and this'', when_busy => ''queue'')', :'busy'));
select mrprompt.delete_thread(:'busy') is not null as deleted;
reset role;
select r.status, (select count(*) from mrprompt.messages m where m.thread_id = r.thread_id and m.position is null) as left_waiting
from mrprompt.runs r where thread_id = :'busy' order by id desc limit 1;
-- a page of a long thread is read through the index: as many rows as it has, and no more
insert into mrprompt.messages (thread_id, position, user_id, role, content, tokens)
select :'thread', 100 + p, 'aaaaaaaa-0000-4000-8000-000000000001', 'user', '"x"', 1 from generate_series(1, 20000) p;
analyze mrprompt.messages;
select id as middle from mrprompt.messages where thread_id = :'thread' and position = 10000 \gset
select t.be('ann');
set role mrprompt_user;
begin;
select count(*), min(position), max(position) from mrprompt.list_messages(:'thread', 100, after => :'middle');
select count(*) from mrprompt.chat_history(:'thread', 100);
select mrprompt.create_message(:'thread', 'at the end') is not null as said;
select pg_stat_get_xact_tuples_returned('mrprompt.messages'::regclass) + pg_stat_get_xact_tuples_fetched('mrprompt.messages'::regclass) < 2000 as few_rows_read;
select count(*) from mrprompt.messages where thread_id = :'thread';
select pg_stat_get_xact_tuples_returned('mrprompt.messages'::regclass) + pg_stat_get_xact_tuples_fetched('mrprompt.messages'::regclass) < 2000 as as_with_all_of_them;
commit;
reset role;
do $$ begin perform t.reset(); end $$;
drop function t.run(uuid), t.end(uuid);
revoke usage on schema t from public;
