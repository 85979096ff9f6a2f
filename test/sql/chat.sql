-- Asking: the payload as it is kept, the key and the model that are chosen, idempotency, two users.
\getenv dir PG_ABS_SRCDIR
\set helpers :dir '/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
select t.be('ann');
-- keys keep the caller's order, byte for byte; unknown parameters pass through
select mrprompt.chat('[{"role": "system", "content": "be brief"}, {"role": "user", "content": [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]}]',
    model => 'fake-1', provider => 'fake', temperature => 0.4, top_p => 0.8, max_tokens => 100, stop => '["END"]', seed => 7,
    tools => '[{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"z": {"type": "string"}, "a": {"type": "number"}}}}}]',
    tool_choice => '"auto"', response_format => '{"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object", "properties": {"zebra": {}, "ant": {}}}}}',
    parameters => ' {"presence_penalty": 0.1, "vendor_flag": {"b": 1, "a": 2}} ', metadata => '{"label": "full"}') is not null as queued;
select payload, stream, status from mrprompt.requests where id = t.id('full');
-- a conversation with tool calls is well formed
select mrprompt.chat('[{"role": "user", "content": "weather?"}, {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}, {"role": "tool", "tool_call_id": "c1", "content": "sunny"}]',
    model => 'fake-1', provider => 'fake') is not null as queued;
-- VanchinAI's endpoint id from the key's metadata, and from the model
select mrprompt.add_key('vanchin', 'WW8GMBSTec_uPhT9g', '{"endpoint_id": "ep-lpvcnv-1761467347624133479", "agent_name": "curator", "description": "first of fourteen"}') as vanchin \gset
select mrprompt.chat_text('hi', provider => 'vanchin', metadata => '{"label": "by key"}') is not null as queued;
select mrprompt.chat_text('hi', provider => 'vanchin', model => 'ep-other-1', metadata => '{"label": "by model"}') is not null as queued;
select t.label(id), provider, model, agent_name, key_id = :'vanchin' as key from mrprompt.requests where provider = 'vanchin' order by id;
-- a user with keys for one provider need not name it
select mrprompt.chat_text('hi', metadata => '{"label": "alone"}') is not null as queued;
select provider, model from mrprompt.requests where id = t.id('alone');
-- the user's own key comes before a shared one; a shared one only where granted
select t.be('nobody');
select mrprompt.add_key('openai', 'sk-test-shared-00001', name => 'everybody''s', shared => true) as shared \gset
select t.be('ann');
select (t.try($$select mrprompt.chat_text('hi', provider => 'openai', model => 'gpt-4o')$$)).*;
select mrprompt.grant_key(:'shared') is not null as granted;
select mrprompt.chat_text('hi', provider => 'openai', model => 'gpt-4o', metadata => '{"label": "shared"}') is not null as queued;
select mrprompt.add_key('openai', 'sk-test-anns-own-001') as own \gset
select mrprompt.chat_text('hi', provider => 'openai', model => 'gpt-4o', metadata => '{"label": "own"}') is not null as queued;
select t.label(id), case key_id when :'shared' then 'shared' when :'own' then 'own' end as key from mrprompt.requests where provider = 'openai' order by id;
-- idempotency: the same call answers the same id, another payload under the key is refused
select mrprompt.chat_text('once', provider => 'fake', model => 'fake-1', idempotency_key => 'k1') as first \gset
select mrprompt.chat_text('once', provider => 'fake', model => 'fake-1', idempotency_key => 'k1') = :'first' as same;
select state, message from t.try($$select mrprompt.chat_text('twice', provider => 'fake', model => 'fake-1', idempotency_key => 'k1')$$);
select state from t.try($$select mrprompt.chat_text('once', provider => 'fake', model => 'fake-1', stream => true, idempotency_key => 'k1')$$);
select t.be('bob');
select mrprompt.chat_text('once', provider => 'fake', model => 'fake-1', idempotency_key => 'k1') = :'first' as same;
-- a shared key granted to him tells the provider as well as one of his own
select mrprompt.chat_text('hi', model => 'gpt-4o', metadata => '{"label": "by grant"}') is not null as queued;
select provider, key_id = :'shared' as shared from mrprompt.requests where id = t.id('by grant');
-- a default provider by setting
set mrprompt.default_provider = 'fake';
select mrprompt.chat_text('hi', model => 'fake-1', metadata => '{"label": "default"}') is not null as queued;
select provider from mrprompt.requests where id = t.id('default');
reset mrprompt.default_provider;
-- a request of this very transaction cannot be waited for, nor can anything in repeatable read
begin;
select t.ask('same');
select state, message like 'request % was made or changed in this very transaction' as own from t.try($$select * from mrprompt.wait_for_request(t.id('same'))$$);
commit;
begin isolation level repeatable read;
select state from t.try($$select * from mrprompt.wait_for_request(t.id('same'))$$);
select state from t.try($$select * from mrprompt.stream(t.id('same'))$$);
commit;
-- in a read-only transaction waiting works, and says not yet
begin read only;
select status, content from mrprompt.wait_for_request(t.id('same'), '10 ms');
select * from mrprompt.stream(t.id('same'), timeout => '10 ms');
commit;
