-- Bad input: each mistake gets its error at the call, with its SQLSTATE, and nothing is queued.
\getenv dir PG_ABS_SRCDIR
\set helpers :dir '/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
\pset format unaligned
\pset tuples_only on
select t.be('ann');
select mrprompt.add_key('openai', 'sk-test-ann-0000001', name => 'ann''s') as key \gset
select mrprompt.add_key('openai', 'sk-test-ann-0000002', name => 'revoked one') as revoked \gset
select mrprompt.revoke_key(:'revoked') is not null as revoked;
-- messages
select t.why($$select mrprompt.chat('[]', 'gpt-4o')$$);
select t.why($$select mrprompt.chat('{"role": "user", "content": "hi"}', 'gpt-4o')$$);
select t.why($$select mrprompt.chat(null, 'gpt-4o')$$);
select t.why($$select mrprompt.chat('["hi"]', 'gpt-4o')$$);
select t.why($$select mrprompt.chat('[{"content": "hi"}]', 'gpt-4o')$$);
select t.why($$select mrprompt.chat('[{"role": "robot", "content": "hi"}]', 'gpt-4o')$$);
select t.why($$select mrprompt.chat('[{"role": "user"}]', 'gpt-4o')$$);
select t.why($$select mrprompt.chat('[{"role": "user", "content": 7}]', 'gpt-4o')$$);
select t.why($$select mrprompt.chat('[{"role": "user", "content": "hi"}, {"role": "assistant"}]', 'gpt-4o')$$);
select t.why($$select mrprompt.chat('[{"role": "tool", "content": "42"}]', 'gpt-4o')$$);
select t.why($$select mrprompt.chat('[{"role": "user", "content": ["hi"]}]', 'gpt-4o')$$);
select t.why($$select mrprompt.chat('[{"role": "assistant", "tool_calls": {}}]', 'gpt-4o')$$);
-- parameters
select t.why($$select mrprompt.chat('[{"role": "user", "content": "hi"}]', 'gpt-4o', parameters => '[1]')$$);
select t.why($$select mrprompt.chat('[{"role": "user", "content": "hi"}]', 'gpt-4o', parameters => '{"temperature": 1}', temperature => 0.5)$$);
select t.why($$select mrprompt.chat('[{"role": "user", "content": "hi"}]', 'gpt-4o', parameters => '{"model": "other"}')$$);
select t.why($$select mrprompt.chat('[{"role": "user", "content": "hi"}]', 'gpt-4o', tools => '{}')$$);
select t.why($$select mrprompt.chat('[{"role": "user", "content": "hi"}]', 'gpt-4o', metadata => '[]')$$);
select t.why($$select mrprompt.chat('[{"role": "user", "content": "hi"}]', 'gpt-4o', idempotency_key => '')$$);
select t.why($$select mrprompt.chat('[{"role": "user", "content": "hi"}]', 'gpt-4o', expires_at => '2001-01-01')$$);
select t.why(format($$select mrprompt.chat('[{"role": "user", "content": "hi"}]', 'gpt-4o', parameters => '{"deep": %s1%s}')$$, repeat('[', 200), repeat(']', 200)));
select t.why($$select mrprompt.chat('[{"role": "user", "content": "hi"}]', 'gpt-4o', temperature => 'NaN')$$);
-- what calls the inside directly is checked as well
select t.why($$select mrprompt_internal.enqueue('{"messages": [{"role": "user", "content": "hi"}], "mod\u0065l": "other"}', 'fake-1', 'fake', null, false, '{}', null, null, null)$$);
select t.why($$select mrprompt_internal.enqueue('[]', 'fake-1', 'fake', null, false, '{}', null, null, null)$$);
-- provider and model
select t.why($$select mrprompt.chat_text('hi', provider => 'nowhere', model => 'm')$$);
update mrprompt.providers set enabled = false where name = 'groq';
select t.why($$select mrprompt.chat_text('hi', provider => 'groq', model => 'm')$$);
update mrprompt.providers set models = array['fake-1', 'fake-2'] where name = 'fake';
select t.why($$select mrprompt.chat_text('hi', provider => 'fake', model => 'fake-3')$$);
select t.why($$select mrprompt.chat_text('hi', provider => 'fake')$$);
select t.why($$select mrprompt.chat_text('hi', provider => 'fake', model => repeat('m', 300))$$);
select t.why($$select mrprompt.chat_text('hi', provider => 'anthropic', model => 'claude-sonnet-5')$$);
-- keys
select t.why(format($$select mrprompt.chat_text('hi', model => 'gpt-4o', key_id => %L)$$, :'revoked'));
select t.why(format($$select mrprompt.chat_text('hi', model => 'gpt-4o', key_id => %L, provider => 'anthropic')$$, :'key'));
select t.why($$select mrprompt.chat_text('hi', model => 'gpt-4o', key_id => '00000000-0000-7000-8000-000000000000')$$);
select t.be('bob');
select t.why(format($$select mrprompt.chat_text('hi', model => 'gpt-4o', key_id => %L)$$, :'key'));
select t.why($$select mrprompt.chat_text('hi', model => 'gpt-4o')$$);
select t.why($$select mrprompt.chat_text('hi', model => 'gpt-4o', key_id => 'not-a-uuid')$$);
-- size
select t.why($$select mrprompt.chat_text(repeat('x', 9000000), provider => 'fake', model => 'fake-1')$$);
-- ids
select t.why($$select * from mrprompt.get_request('00000000-0000-7000-8000-000000000000')$$);
select t.why($$select * from mrprompt.wait_for_request('00000000-0000-7000-8000-000000000000')$$);
select t.why($$select * from mrprompt.stream('00000000-0000-7000-8000-000000000000')$$);
select t.why($$select mrprompt.cancel_request('00000000-0000-7000-8000-000000000000')$$);
-- nobody
select t.be('nobody');
select t.why($$select mrprompt.chat_text('hi', provider => 'fake', model => 'fake-1')$$);
select t.why($$select mrprompt.add_key('fake', 'sk-test-nobody-1')$$);
-- nothing was queued
select count(*) from mrprompt.requests;
select count(*) from mrprompt_internal.queue;
