-- Providers and prices as rows: presets, the overlay in front of them, and what is refused.
\getenv dir PG_ABS_SRCDIR
\set helpers :dir '/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
select name, protocol, auth, key_required, allow_http, allow_private from mrprompt.providers where preset order by name;
-- one insert makes a provider; everything else has a default
insert into mrprompt.providers (name, protocol, base_url, allow_http) values ('mine', 'openai', 'http://llm.internal:8000/v1', true);
select name, auth, key_required, stream_usage, headers, enabled, preset from mrprompt.providers where name = 'mine';
-- OpenAI calls the limit on output by another name than the rest
select max_tokens_field, array_agg(name order by name) filter (where name in ('openai', 'azure', 'mine')) as names from mrprompt.providers group by 1 order by 1;
-- an edited preset is the admin's row; deleting that brings the preset back
update mrprompt.providers set base_url = 'https://proxy.example.com/v1' where name = 'openai';
select base_url, preset from mrprompt.providers where name = 'openai';
delete from mrprompt.providers where name = 'openai';
select base_url, preset from mrprompt.providers where name = 'openai';
\pset format unaligned
\pset tuples_only on
-- refused, each with its reason
select t.why($$insert into mrprompt.providers (name, protocol, base_url) values ('plain', 'openai', 'http://llm.example.com/v1')$$);
select t.why($$insert into mrprompt.providers (name, protocol, base_url) values ('openai', 'openai', 'https://api.openai.com/v1')$$);
select t.why($$update mrprompt.providers set name = 'ours' where name = 'mine'$$);
select t.why($$delete from mrprompt.providers where name = 'xai'$$);
select t.why($$insert into mrprompt.providers (name, protocol, base_url) values ('x', 'soap', 'https://llm.example.com/v1')$$);
select t.why($$insert into mrprompt.providers (name, protocol, base_url) values ('x', 'openai', 'ftp://llm.example.com/v1')$$);
select t.why($$insert into mrprompt.providers (name, protocol, base_url) values ('x', 'openai', 'https://user:pass@llm.example.com/v1')$$);
select t.why($$insert into mrprompt.providers (name, protocol, base_url) values ('x', 'openai', 'https://llm.example.com/v1?key=1')$$);
select t.why($$insert into mrprompt.providers (name, protocol, base_url) values ('Bad Name', 'openai', 'https://llm.example.com/v1')$$);
select t.why($$insert into mrprompt.providers (name, protocol, base_url, headers) values ('x', 'openai', 'https://llm.example.com', '{"a": "b\r\nc: d"}')$$);
select t.why($$insert into mrprompt.providers (name, protocol, base_url, headers) values ('x', 'openai', 'https://llm.example.com', '["a"]')$$);
select t.why($$insert into mrprompt.providers (name, protocol, base_url, ca_file) values ('x', 'openai', 'https://llm.example.com', 'relative.pem')$$);
select t.why($$insert into mrprompt.providers (name, protocol, base_url, proxy) values ('x', 'openai', 'https://llm.example.com', 'http://user:pass@proxy.example.com:3128')$$);
select t.why($$insert into mrprompt.providers (name, protocol, base_url, proxy) values ('x', 'openai', 'https://llm.example.com', 'http://proxy.example.com')$$);
select t.why($$insert into mrprompt.providers (name, protocol, base_url, client_cert_file) values ('x', 'openai', 'https://llm.example.com', '/etc/llm.crt')$$);
select t.why($$insert into mrprompt.providers (name, protocol, base_url, client_cert_file, client_key_file) values ('x', 'openai', 'https://llm.example.com', '/etc/llm.crt', 'llm.key')$$);
select t.why($$update mrprompt.providers set max_tokens_field = 'n_predict' where name = 'mine'$$);
select t.why($$update mrprompt.providers set max_tokens_field = null where name = 'mine'$$);
-- and no error shows a secret in the wrong place
select t.why($$insert into mrprompt.providers (name, protocol, base_url) values ('x', 'openai', 'http://user:hidden/pass@llm.example.com/v1')$$);
select t.why($$insert into mrprompt.providers (name, protocol, base_url) values ('x', 'openai', 'https://127.0.0.1/v1?key=hidden')$$);
select t.why($$update mrprompt.providers set proxy = 'http://user:hid/den@proxy.example.com:3128' where name = 'mine'$$);
select t.why($$insert into mrprompt.providers (name, protocol, base_url, headers) values ('x', 'soap', 'https://llm.example.com/v1', '{"X-Key": "hidden"}')$$);
select t.why($$insert into mrprompt.providers (name, protocol, headers) values ('x', 'openai', '{"X-Key": "hidden"}')$$);
select t.why($$update mrprompt.providers set connect_timeout_ms = 0, headers = '{"X-Key": "hidden"}' where name = 'openai'$$);
-- where a host may be
select t.why($$insert into mrprompt.providers (name, protocol, base_url) values ('x', 'openai', 'https://10.0.0.7:8000/v1')$$);
select t.why($$insert into mrprompt.providers (name, protocol, base_url) values ('x', 'openai', 'https://[::ffff:169.254.169.254]/v1')$$);
select t.why($$insert into mrprompt.providers (name, protocol, base_url) values ('x', 'openai', 'https://LOCALHOST/v1')$$);
select t.why($$insert into mrprompt.providers (name, protocol, base_url) values ('x', 'openai', 'https://{model}.example.com/v1')$$);
select t.why($$insert into mrprompt.providers (name, protocol, base_url) values ('x', 'openai', 'https://llm.example.com:{model}/v1')$$);
select t.why($$update mrprompt.providers set base_url = 'https://llm.example.com{model}' where name = 'mine'$$);
select t.why($$update mrprompt.providers set allow_private = false where name = 'ollama'$$);
select t.why($$insert into mrprompt.providers (name, protocol, base_url) values ('public', 'openai', 'https://8.8.8.8/v1')$$);
select t.why($$insert into mrprompt.providers (name, protocol, base_url, allow_private) values ('ours', 'openai', 'https://10.0.0.7:8000/v1', true)$$);
select t.why($$insert into mrprompt.providers (name, protocol, base_url, proxy) values ('proxied', 'openai', 'https://10.0.0.7:8000/v1', 'socks5h://127.0.0.1:1080')$$);
-- a row that says otherwise, from a dump of the first release, can be mended step by step
insert into mrprompt_internal.provider_rows (name, protocol, base_url) values ('dumped', 'openai', 'https://192.168.1.5/v1');
select finding, remedy from mrprompt.doctor() where finding ~ 'host of provider';
select t.why($$update mrprompt.providers set description = 'ours' where name = 'dumped'$$);
select t.why($$update mrprompt.providers set base_url = 'https://192.168.1.6/v1' where name = 'dumped'$$);
select t.why($$update mrprompt.providers set allow_private = true where name = 'dumped'$$);
select finding from mrprompt.doctor() where finding ~ 'host of provider';
select t.why($$insert into mrprompt.providers (name, protocol, base_url, total_timeout_ms) values ('x', 'openai', 'https://llm.example.com', 0)$$);
\pset format aligned
\pset tuples_only off
-- prices: exact, effective-dated, in front of the presets
select model, input, output, cached, cache_write from mrprompt.prices where provider = 'openai' and preset order by model;
insert into mrprompt.prices (provider, model, input, output, effective_from) values ('openai', 'gpt-4o', 0.000002, 0.000008, '2026-01-01 00:00:00+00');
select input, output, cached, cache_write from mrprompt_internal.prices_of('openai', 'gpt-4o', null, '2026-06-01');
select input, output, cached, cache_write from mrprompt_internal.prices_of('openai', 'gpt-4o', null, '2025-06-01');
select input, output, cached, cache_write from mrprompt_internal.prices_of('openai', 'my-deployment', 'gpt-4o-mini', '2026-06-01');
select input, output, cached, cache_write from mrprompt_internal.prices_of('openai', 'unheard-of', 'unheard-of', '2026-06-01');
update mrprompt.prices set input = 0.000003 where provider = 'openai' and model = 'gpt-4o' and effective_from = '2026-01-01 00:00:00+00';
select input from mrprompt_internal.prices_of('openai', 'gpt-4o', null, '2026-06-01');
\pset tuples_only on
select t.why($$insert into mrprompt.prices (provider, model, input, output, effective_from) values ('openai', 'dear', 0.5, 0.5, '2026-01-01 00:00:00+00')$$);
select t.why($$insert into mrprompt.prices (provider, model, input, output, effective_from) values ('openai', 'negative', -0.1, 0, '2026-01-01 00:00:00+00')$$);
-- an admin's row stands in front of every preset of its model: so one for all must be among his, in force when the others are
select t.why($$insert into mrprompt.prices (provider, model, input, output, service_tier, effective_from) values ('openai', 'gpt-4o-mini', 0.000001, 0.000002, 'priority', '2026-01-01 00:00:00+00')$$);
select t.why($$insert into mrprompt.prices (provider, model, input, output, above_tokens, effective_from) values ('openai', 'gpt-4o-mini', 0.000001, 0.000002, 200000, '2026-01-01 00:00:00+00')$$);
select t.why($$update mrprompt.prices set input = 0.000001, effective_from = '2026-01-01 00:00:00+00' where provider = 'openai' and model = 'gpt-4o-mini' and service_tier = 'batch'$$);
insert into mrprompt.prices (provider, model, input, output, effective_from) values ('openai', 'gpt-4o-mini', 0.000003, 0.000004, '2999-01-01');
select service_tier, input, preset from mrprompt.prices where provider = 'openai' and model = 'gpt-4o-mini' order by preset, 1;
insert into mrprompt.prices (provider, model, input, output, service_tier, effective_from) values ('openai', 'gpt-4o-mini', 0.000001, 0.000002, 'priority', '2026-01-01'),
    ('openai', 'gpt-4o-mini', 0.000005, 0.000006, 'standard', '2026-01-01');
select service_tier, input, preset from mrprompt.prices where provider = 'openai' and model = 'gpt-4o-mini' order by effective_from, 1;
select service_tier, input from mrprompt_internal.prices_of('openai', 'gpt-4o-mini', null, now()) order by 1;
select t.why($$delete from mrprompt.prices where provider = 'openai' and model = 'gpt-4o-mini' and input = 0.000005$$);
select t.why($$update mrprompt.prices set effective_from = '2026-01-02 00:00:00+00' where provider = 'openai' and model = 'gpt-4o-mini' and input = 0.000005$$);
delete from mrprompt.prices where provider = 'openai' and model = 'gpt-4o-mini';
select service_tier, input, preset from mrprompt.prices where provider = 'openai' and model = 'gpt-4o-mini' order by 1;
