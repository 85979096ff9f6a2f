-- What was said is found again, leaves as an export, and comes from elsewhere.
\getenv dir PG_ABS_SRCDIR
\set helpers :dir '/helpers.sql'
\set ECHO none
\i :helpers
grant usage on schema t to public;
grant execute on all functions in schema t to public;
\set ECHO all
select t.be('bob');
select mrprompt.create_thread('[{"role": "user", "content": "The stars of Bob"}]') is not null as said;
select t.be('ann');
set role mrprompt_user;
select mrprompt.create_thread('[{"role": "user", "content": "How many stars are there?"}, {"role": "assistant", "content": "About 200 billion stars in this galaxy: stars over stars."},
    {"role": "user", "content": [{"type": "text", "text": "And this one? We were running late."}, {"type": "image_url", "image_url": {"url": "https://example.com/stars.png"}}]}]', title => 'Astronomy') as sky \gset
select mrprompt.create_thread('[{"role": "user", "content": "звёзды и задачи"}, {"role": "assistant", "content": "Nothing about them."}]') as other \gset
-- one's own words only, best first
select thread_title, role, snippet, rank > 0 as ranked, thread_id = :'sky' as there from mrprompt.search_messages('stars');
select snippet from mrprompt.search_messages('"galaxy stars" or billion');
select snippet from mrprompt.search_messages('stars -billion');
select snippet from mrprompt.search_messages('stars', :'other');
select snippet from mrprompt.search_messages('stars', :'sky', 1);
select thread_title, snippet from mrprompt.search_messages('звёзды');
-- in a language other forms of the words as well
select snippet from mrprompt.search_messages('run');
select snippet from mrprompt.search_messages('runs', language => 'english');
select snippet from mrprompt.search_messages('задача', language => 'russian');
select snippet from mrprompt.search_messages('the', language => 'english');
select replace(w, 'estonian, ', '') as why from t.why($$select mrprompt.search_messages('a', language => 'klingon')$$) w;  -- of PostgreSQL 18
select t.why($$select mrprompt.search_messages(' - ')$$);
select t.why($$select mrprompt.search_messages(null)$$);
select t.why($$select mrprompt.search_messages('a', "limit" => 1000)$$);
select t.why($$select mrprompt.search_messages('a', thread_id => gen_random_uuid())$$);
-- nobody's marks in the index can be looked for
select count(*) from mrprompt.search_messages(E'\x01bbbbbbbb-0000-4000-8000-000000000002');
select mrprompt.delete_thread(:'other') is not null as gone;
select snippet from mrprompt.search_messages('звёзды');
select t.be('bob');
select snippet from mrprompt.search_messages('stars');
select t.why(format('select mrprompt.search_messages(''stars'', %L)', :'sky'));
select t.why($$select mrprompt.search_messages('stars', user_id => 'aaaaaaaa-0000-4000-8000-000000000001')$$);
-- a long text is said, and found by its beginning, without a word about its words
select mrprompt.create_thread(json_build_array(json_build_object('role', 'user', 'content', 'needle ' || (select string_agg(md5(n::text), ' ') from generate_series(1, 60000) n) || ' lost ' || repeat('x', 3000)))) is not null as said;
select snippet like '**needle**%' as found from mrprompt.search_messages('needle');
select count(*) from mrprompt.search_messages('lost');
-- many messages of others cost a search nothing
reset role;
insert into mrprompt.messages (thread_id, position, user_id, role, content, tokens)
select mrprompt_internal.uuidv7(), p, 'cccccccc-0000-4000-8000-000000000003', 'user', to_json('stars ' || p), 1 from generate_series(1, 20000) p;
select count(gin_clean_pending_list('mrprompt.messages_words')) as merged;
analyze mrprompt.messages;
select t.be('ann');
set role mrprompt_user;
begin;
select count(*) from mrprompt.search_messages('stars');
select pg_stat_get_xact_tuples_returned('mrprompt.messages'::regclass) + pg_stat_get_xact_tuples_fetched('mrprompt.messages'::regclass) < 1000 as few_rows_read;
commit;
reset role;
do $$ begin perform t.reset(); end $$;

-- An export is a chat: it can be sent as it is.
set role mrprompt_user;
select mrprompt.create_thread('[{"role": "user", "content": "Weather?", "metadata": {"from": "app"}}]', 'Weather', '{"k": "v"}') as thread \gset
reset role;
do $$ begin
    perform mrprompt_internal.add_message(id, user_id, 'assistant', null, reasoning => 'I should look.', tool_calls => '[{"id": "c1", "type": "function", "function": {"name": "f",  "arguments": "{}"}}]') from mrprompt.threads;
    perform mrprompt_internal.add_message(id, user_id, 'tool', '"rain"', tool_call_id => 'c1') from mrprompt.threads;
    perform mrprompt_internal.add_message(id, user_id, 'assistant', null, refusal => 'I will not say.', incomplete_reason => 'content_filter') from mrprompt.threads;
    perform mrprompt_internal.add_message(id, user_id, 'user', '[{"type": "text",   "text": "Go on"}]') from mrprompt.threads;
end $$;
set role mrprompt_user;
select mrprompt.export_thread(:'thread') as export \gset
select e.key, case when e.key in ('thread_id', 'created_at') then 'there' when e.key <> 'details' then e.value::text end as value from json_each(:'export') e;
reset role;
select mrprompt_internal.check_messages(:'export'::json -> 'messages');
set role mrprompt_user;
select json_object_keys(d) as key, count(*) from json_array_elements(:'export'::json -> 'details') d group by 1 order by 1;
select mrprompt.export_thread(:'thread', include_tools => false) -> 'messages';
-- what is there is found; what is gone comes back: the same, with its times, from elsewhere
select thread_id = :'thread' as found, source_id = :'thread' as by_its_id, messages, created, notes from mrprompt.import_threads(:'export');
select mrprompt.delete_thread(:'thread') is not null as gone;
select thread_id as copy, messages, created, notes from mrprompt.import_threads(:'export') \gset
select :messages as messages, :'created' as created, :'notes' as notes;
select thread_id = :'copy' as found, created from mrprompt.import_threads(:'export');
select (mrprompt.export_thread(:'copy') -> 'messages')::text = (:'export'::json -> 'messages')::text as same_messages;
select title, metadata - 'thread_id' as metadata, metadata ->> 'thread_id' = :'thread' as of_that, created_at = (:'export'::json ->> 'created_at')::timestamptz as same_time from mrprompt.get_thread(:'copy');
select position, role, status, incomplete_reason, metadata - 'message_id' as metadata, metadata ->> 'message_id' = d.value ->> 'id' as of_that,
    m.created_at = (d.value ->> 'created_at')::timestamptz as same_time
from mrprompt.list_messages(:'copy', "order" => 'asc', include_tools => true) m join json_array_elements(:'export'::json -> 'details') with ordinality d (value, n) on d.n = m.position;
select reasoning from mrprompt.messages where thread_id = :'copy' and position = 2;
-- another may have a copy of his own
select t.be('bob');
select created, messages from mrprompt.import_threads(:'export');
select t.why(format('select mrprompt.export_thread(%L)', :'copy'));
select t.be('ann');

-- Threads of the Assistants API, with messages as they were listed: the newest first.
\set assistants '{"id": "thread_1", "object": "thread", "created_at": 1700000000, "metadata": {"a": "b"}, "tool_resources": {"file_search": {}}, "messages": {"object": "list", "has_more": false, "data": [{"id": "msg_4", "object": "thread.message", "created_at": 1700000002, "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}, {"id": "msg_3", "object": "thread.message", "created_at": 1700000002, "role": "assistant", "metadata": {"m": "3"}, "incomplete_details": {"reason": "max_tokens"}, "content": [{"type": "text", "text": {"value": "three", "annotations": []}}, {"type": "image_file", "image_file": {"file_id": "file_1"}}]}, {"id": "msg_2b", "object": "thread.message", "created_at": 1700000001, "role": "user", "content": []}, {"id": "msg_2", "object": "thread.message", "created_at": 1700000001, "role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]}, {"id": "msg_1", "object": "thread.message", "created_at": 1700000001, "role": "user", "attachments": [{"file_id": "file_2"}], "content": [{"type": "text", "text": {"value": "one", "annotations": []}}]}]}}'
select source_id, messages, created, notes from mrprompt.import_threads(:'assistants');
select created, messages from mrprompt.import_threads(json_build_array(:'assistants'::json));
select title, metadata, created_at at time zone 'UTC' as created_at, last_activity_at at time zone 'UTC' as last_activity_at, mrprompt_internal.uuid_time(id) = created_at as in_its_place
from mrprompt.list_threads() where metadata ->> 'thread_id' = 'thread_1';
select position, m.role, status, incomplete_reason, content, refusal, metadata from mrprompt.chat_history((select id from mrprompt.list_threads() where metadata ->> 'thread_id' = 'thread_1')) h
    join mrprompt.messages m on m.id = h.message_id;
-- messages as an array, oldest first; several threads in one call; as a list
select source_id, messages, created, notes from mrprompt.import_threads('{"object": "list", "data": [
    {"id": "thread_2", "messages": [{"role": "user", "created_at": 1700000001, "content": [{"type": "text", "text": {"value": "first"}}]}, {"role": "assistant", "created_at": 1700000001, "content": [{"type": "text", "text": {"value": "second"}}]}]},
    {"id": "thread_3"}, {"id": "thread_2"}, {"messages": [{"role": "system", "content": "You are"}, {"role": "user", "content": "no id"}]}]}');
select text from mrprompt.chat_history((select id from mrprompt.list_threads() where metadata ->> 'thread_id' = 'thread_2'));
-- The order of a list: seconds are all that the times say, the rest says the list, whichever way it goes.
create function pg_temp.listed(old_id text) returns text language sql as $$
    select string_agg(coalesce(m.content #>> '{}', m.tool_calls -> 0 ->> 'id'), ' ' order by m.position) from mrprompt.threads th join mrprompt.messages m on m.thread_id = th.id where th.metadata ->> 'thread_id' = old_id $$;
-- Messages as said, at these seconds, in the API's form.
create function pg_temp.api(said text, seconds int[], thread_id text default null) returns json language sql as $$
    select json_agg(json_strip_nulls(json_build_object('object', 'thread.message', 'id', 'msg_' || w, 'thread_id', thread_id, 'created_at', 1700000000 + seconds[n], 'role', 'user',
        'content', json_build_array(json_build_object('type', 'text', 'text', json_build_object('value', w))))) order by n) from string_to_table(said, ' ') with ordinality t (w, n) $$;
create function pg_temp.as_list(data json) returns json language sql as $$ select json_build_object('object', 'list', 'data', data, 'has_more', false) $$;
select o.id, o.messages, pg_temp.listed(o.id) from (select i.source_id as id, i.messages from mrprompt.import_threads(json_build_array(
    json_build_object('id', 'list desc', 'messages', pg_temp.as_list(pg_temp.api('d c b a', '{9,5,5,1}'))),
    json_build_object('id', 'list asc', 'messages', pg_temp.as_list(pg_temp.api('a b c d', '{1,5,5,9}'))),
    json_build_object('id', 'array desc', 'messages', pg_temp.api('d c b a', '{9,5,5,5}')),
    json_build_object('id', 'array asc', 'messages', pg_temp.api('a b c d', '{5,5,5,9}')),
    json_build_object('id', 'list of a second', 'messages', pg_temp.as_list(pg_temp.api('b a', '{5,5}'))),
    json_build_object('id', 'array of a second', 'messages', pg_temp.api('b a', '{5,5}')),
    json_build_object('id', 'pages mixed up', 'messages', (select json_agg(m) from (select json_array_elements(pg_temp.api('d c', '{5,5}')) union all select json_array_elements(pg_temp.api('g f e', '{8,8,5}')) union all select json_array_elements(pg_temp.api('b a', '{3,1}'))) p (m))),
    json_build_object('id', 'one', 'messages', pg_temp.as_list(pg_temp.api('a', '{5}'))))) i) o;
-- of a table of one's own, with times as PostgreSQL writes them
select messages, pg_temp.listed('own') from mrprompt.import_threads('{"id": "own", "messages": [{"role": "user", "content": "b", "created_at": "2024-05-01 10:00:00.5+00"}, {"role": "user", "content": "a", "created_at": "2024-05-01T10:00:00Z"}]}');
-- a thread that does not say when it was made is as old as its first message
select title, created_at at time zone 'UTC' as created_at from mrprompt.list_threads() where metadata ->> 'thread_id' = 'array desc';
-- Messages alone are put together by the thread that they name: one list, an array, or pages of several threads.
select source_id, messages, created, notes, pg_temp.listed(source_id) from mrprompt.import_threads(pg_temp.as_list(pg_temp.api('c b a', '{2,1,1}', 'alone')));
select source_id, messages, created, pg_temp.listed(source_id) from mrprompt.import_threads(json_build_array(pg_temp.as_list(pg_temp.api('d c', '{4,4}', 'paged')), pg_temp.as_list(pg_temp.api('x', '{1}', 'other')), pg_temp.as_list('[]'), pg_temp.as_list(pg_temp.api('b a', '{4,3}', 'paged'))));
select source_id, messages, created from mrprompt.import_threads(pg_temp.api('c b a', '{2,1,1}', 'alone'));
select t.why(format('select mrprompt.import_threads(%L)', '[{"role": "user", "content": "Hi"}]'));
select t.why(format('select mrprompt.import_threads(%L)', '[{"id": "thread_9"}, {"role": "user", "content": "Hi", "thread_id": "thread_9"}]'));
select t.why(format('select mrprompt.import_threads(%L)', '{"role": "robot", "content": "Hi", "thread_id": "thread_9"}'));
-- one page of several is not taken for a thread
select t.why(format('select mrprompt.import_threads(%L)', '{"has_more": true, "data": [{"role": "user", "content": "Hi", "thread_id": "thread_9"}]}'));
select t.why(format('select mrprompt.import_threads(%L)', '{"id": "thread_9", "messages": {"has_more": true, "data": [{"role": "user", "content": "Hi"}]}}'));
-- what is no thread makes none
select t.why(format('select mrprompt.import_threads(%L)', '[{"id": "run_1", "object": "thread.run"}]'));
select t.why(format('select mrprompt.import_threads(%L)', '{}'));
-- Dated or not, each output of a tool follows its call; what a tool answered may be nothing
create function pg_temp.tools(list json, dated boolean default true) returns json language sql as $$
    select json_build_object('id', 'tools', 'messages', json_agg(m || case when dated then jsonb_build_object('created_at', 1700000000 + n) else '{}' end order by n)) from jsonb_array_elements(list::jsonb) with ordinality e (m, n) $$;
\set call '{"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}'
select t.why(format('select mrprompt.import_threads(%L)', pg_temp.tools('[{"role": "user", "content": "a"}, {"role": "tool", "tool_call_id": "c1", "content": "x"}]')));
select t.why(format('select mrprompt.import_threads(%L)', pg_temp.tools(format('[%s, {"role": "developer", "content": "a"}, {"role": "user", "content": "a"}]', :'call')::json)));
select t.why(format('select mrprompt.import_threads(%L)', pg_temp.tools('[{"role": "user", "content": "a", "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}]')));
select t.why(format('select mrprompt.import_threads(%L)', pg_temp.tools('[{"role": "assistant", "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": {}}}]}]')));
select t.why(format('select mrprompt.import_threads(%L)', pg_temp.tools('[{"role": "assistant", "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": ""}}, {"id": "c1", "function": {"name": "f", "arguments": ""}}]}]')));
-- the place that an error names is where it was given
select t.why(format('select mrprompt.import_threads(%L)', '{"id": "a", "messages": [{"role": "user", "content": "b", "created_at": 2000000}, {"role": "robot", "content": "a", "created_at": 1000000}, {"role": "user", "content": "a", "created_at": 1000000}]}'));
select messages, notes from mrprompt.import_threads(pg_temp.tools(format('[{"role": "user", "content": "a", "tool_calls": []}, %s, {"role": "developer", "content": "a"}, {"role": "tool", "tool_call_id": "c1", "content": ""}, %1$s]', :'call')::json));
select mrprompt.export_thread(id) -> 'messages' from mrprompt.threads where metadata ->> 'thread_id' = 'tools';
-- what was imported can be exported and imported again, however full its metadata is
select created from mrprompt.import_threads(json_build_object('id', 'full', 'metadata', (select json_object_agg(n, 'v') from generate_series(1, 16) n),
    'messages', json_build_array(json_build_object('id', 'm', 'role', 'user', 'content', 'a', 'metadata', (select json_object_agg(n, 'v') from generate_series(1, 16) n)))));
select mrprompt.export_thread(id) as full, mrprompt.delete_thread(id) is not null as gone from mrprompt.threads where metadata ->> 'thread_id' = 'full' \gset
select created, messages from mrprompt.import_threads(:'full');
-- a chat that ends with calls that nobody answered goes without them
select messages, notes from mrprompt.import_threads('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}, {"id": "c2", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}, {"role": "tool", "tool_call_id": "c2", "content": "x"}]}');
-- all or none, with the place of what is wrong
select count(*) as before from mrprompt.list_threads(100) \gset
select t.why($$select mrprompt.import_threads('[{"id": "new"}, {"id": "bad", "messages": [{"role": "user", "content": "a"}, {"role": "tool", "tool_call_id": "x", "content": "b"}]}]')$$);
select t.why($$select mrprompt.import_threads('{"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}, {"role": "user", "content": "b"}]}')$$);
select t.why($$select mrprompt.import_threads('{"messages": [{"role": "assistant", "tool_calls": [{"id": "c"}]}]}')$$);
select t.why($$select mrprompt.import_threads('{"messages": [{"role": "robot", "content": "b"}]}')$$);
select t.why($$select mrprompt.import_threads('{"messages": [{"role": "user", "content": [{"type": "video"}]}]}')$$);
select t.why($$select mrprompt.import_threads('{"messages": [{"role": "user", "content": "a\u0000"}]}')$$);
select t.why($$select mrprompt.import_threads('{"messages": ["a"]}')$$);
select t.why($$select mrprompt.import_threads('{"messages": "a"}')$$);
select t.why($$select mrprompt.import_threads('{"messages": {"role": "user", "content": "a"}}')$$);
select t.why($$select mrprompt.import_threads('{"id": "a", "created_at": "yesterday evening"}')$$);
select t.why($$select mrprompt.import_threads('{"metadata": {"k": "v"}, "messages": [{"role": "user", "content": "a", "metadata": []}]}')$$);
-- what stands where an earlier import puts the old id is nothing larger than one
select t.why($$select mrprompt.import_threads('{"messages": [{"role": "user", "content": "a", "metadata": {"message_id": {"nested": 1}}}]}')$$);
select t.why(format('select mrprompt.import_threads(%L)', json_build_object('metadata', json_build_object('thread_id', repeat('x', 513)),
    'messages', '[{"role": "user", "content": "a"}]'::json)));
select t.why(format('select mrprompt.import_threads(%L)', json_build_object('messages', json_build_array(json_build_object('role', 'assistant', 'tool_calls',
    (select json_agg(json_build_object('id', n::text, 'function', json_build_object('name', 'f', 'arguments', ''))) from generate_series(1, 1001) n))))));
select t.why($$select mrprompt.import_threads('["a"]')$$);
select t.why($$select mrprompt.import_threads('1')$$);
select t.why($$select mrprompt.import_threads(json_build_object('messages', (select json_agg(1) from generate_series(1, 100001))))$$);
select count(*) = :before as none_of_them from mrprompt.list_threads(100);
-- what was made in the future was made now
select mrprompt.import_threads('{"id": "future", "created_at": 99999999999}') is not null as imported;
select created_at between now() - interval '1 minute' and clock_timestamp() as now from mrprompt.list_threads() where metadata ->> 'thread_id' = 'future';
-- by the back end for a user
select t.why($$select mrprompt.import_threads('{}', 'bbbbbbbb-0000-4000-8000-000000000002')$$);
reset role;
select t.be('');
set role mrprompt_admin;
select created from mrprompt.import_threads('{"id": "for bob"}', 'bbbbbbbb-0000-4000-8000-000000000002');
select user_id from mrprompt.threads where metadata ->> 'thread_id' = 'for bob';
reset role;
do $$ begin perform t.reset(); end $$;
revoke usage on schema t from public;
