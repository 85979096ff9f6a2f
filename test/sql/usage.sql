-- Usage and cost: exact figures, unknown prices, retries, and the views.
\getenv dir PG_ABS_SRCDIR
\set helpers :dir '/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
select t.be('ann');
insert into mrprompt.prices (provider, model, input, output, cached, cache_write) values ('fake', 'fake-1', 0.000003, 0.000015, 0.0000003, 0.00000375);
select mrprompt.add_key('fake', 'sk-test-agent-00001', '{"agent_name": "curator"}') as key \gset
select t.hello('f1');
select t.ask('priced'), t.ask('unpriced', model => 'unheard-of'), t.ask('silent'), t.ask('retried'), t.ask('answered by', model => 'alias');
select label, attempt from t.claim('f1');
select t.settle('f1',
    t.outcome('priced', 1, 'succeeded', '{"response": {"content": "a"}, "first_token_ms": 20, "total_ms": 100, "http_status": 200, "provider_request_id": "req_1",
        "usage": {"prompt_tokens": 1000, "completion_tokens": 200, "cached_tokens": 600, "cache_write_tokens": 100, "reasoning_tokens": 50}}'),
    t.outcome('unpriced', 1, 'succeeded', t.answer('b')),
    t.outcome('silent', 1, 'succeeded', '{"response": {"content": "c"}}'),
    t.outcome('retried', 1, 'retry', '{"retry_after_ms": 0, "error": {"status": 429, "type": "rate_limit_error"}, "http_status": 429}'),
    t.outcome('answered by', 1, 'succeeded', t.answer('d') || '{"response": {"content": "d", "model": "fake-1"}}'));
select * from t.claim('f1');
select t.settle('f1', t.outcome('retried', 2, 'succeeded', t.answer('d', 10, 10)));
select t.label(request_id), attempt, outcome, prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens, reasoning_tokens,
    cost, price_known, first_token_ms, total_ms, http_status, provider_request_id, agent_name, key_id = :'key' as key
from mrprompt.usage order by request_id, attempt;
-- 300 fresh + 600 cached + 100 written + 200 out, to the last digit
select 300 * 0.000003 + 600 * 0.0000003 + 100 * 0.00000375 + 200 * 0.000015 as expected;
-- a price of later changes nothing that was written
insert into mrprompt.prices (provider, model, input, output) values ('fake', 'fake-1', 0.000006, 0.00003);
select sum(cost) from mrprompt.usage;
select requests, attempts, failed_attempts, prompt_tokens, cost, attempts_of_unknown_cost from mrprompt.usage_by_agent;
select model, requests, cost, attempts_of_unknown_cost from mrprompt.usage_by_model order by model;
select user_id, requests from mrprompt.usage_by_user;
select provider, requests from mrprompt.usage_by_provider;
select key_id = :'key' as key, requests from mrprompt.usage_by_key;
select day = (now() at time zone 'UTC')::date as today, requests from mrprompt.usage_by_day;
select cost, prompt_tokens from mrprompt.get_request(t.id('retried'));
select cost, prompt_tokens from mrprompt.get_request(t.id('unpriced'));
-- the ring: a month has its partition, sixteen of them in turn
select mrprompt_internal.slot_of(mrprompt_internal.uuid_at(m)) as slot, m::date
from generate_series('2026-11-15'::timestamptz, '2028-03-15', '1 month') m order by m limit 17;
select mrprompt_internal.uuid_time(mrprompt_internal.uuid_at('2026-11-21 12:34:56.789+00')) = '2026-11-21 12:34:56.789+00' as same;
select count(*) = 0 as none_astray from mrprompt.usage where slot <> mrprompt_internal.slot_of(request_id);
