-- import_prices(): LiteLLM's price map, with its mistakes.
\getenv dir PG_ABS_SRCDIR
\set helpers :dir '/helpers.sql'
\set ECHO none
\i :helpers
truncate mrprompt_internal.model_rows;
\set ECHO all
insert into mrprompt.providers (name, protocol, base_url) values ('volcengine', 'openai', 'https://ark.example.com/api/v3'), ('wandb', 'openai', 'https://wandb.example.com/v1');
-- an excerpt in the form of the map, written by hand
\set map '{ "sample_spec": {"code_interpreter_cost_per_session": 0.0, "input_cost_per_token": 0.0, "litellm_provider": "one of https://docs.litellm.ai/docs/providers", "max_tokens": "LEGACY parameter"}, "gpt-4o": {"cache_read_input_token_cost": 1.25e-06, "cache_read_input_token_cost_priority": 2.125e-06, "input_cost_per_token": 2.5e-06, "input_cost_per_token_batches": 1.25e-06, "input_cost_per_token_priority": 4.25e-06, "litellm_provider": "openai", "max_input_tokens": 128000, "max_output_tokens": 16384, "max_tokens": 16384, "mode": "chat", "output_cost_per_token": 1e-05, "output_cost_per_token_batches": 5e-06, "output_cost_per_token_priority": 1.7e-05, "supports_vision": true}, "claude-sonnet-4-20250514": {"cache_creation_input_token_cost": 3.75e-06, "cache_creation_input_token_cost_above_1hr": 6e-06, "cache_creation_input_token_cost_above_200k_tokens": 7.5e-06, "cache_read_input_token_cost": 3e-07, "cache_read_input_token_cost_above_200k_tokens": 6e-07, "input_cost_per_token": 3e-06, "input_cost_per_token_above_200k_tokens": 6e-06, "litellm_provider": "anthropic", "max_input_tokens": 1000000, "max_output_tokens": 64000, "mode": "chat", "output_cost_per_token": 1.5e-05, "output_cost_per_token_above_200k_tokens": 2.25e-05, "search_context_cost_per_query": {"search_context_size_high": 0.01}}, "claude-3-opus-20240229": {"cache_creation_input_token_cost": 1.875e-05, "cache_creation_input_token_cost_above_1hr": 6e-06, "cache_read_input_token_cost": 1.5e-06, "input_cost_per_token": 1.5e-05, "litellm_provider": "anthropic", "max_output_tokens": 4096, "mode": "chat", "output_cost_per_token": 7.5e-05}, "whisper-1": {"input_cost_per_second": 0.0001, "litellm_provider": "openai", "mode": "audio_transcription", "output_cost_per_second": 0.0001}, "text-embedding-3-small": {"input_cost_per_token": 2e-08, "input_cost_per_token_batches": 1e-08, "litellm_provider": "openai", "max_input_tokens": 8191, "mode": "embedding", "output_cost_per_token": 0.0, "output_vector_size": 1536}, "gpt-4o-audio-preview": {"input_cost_per_audio_token": 4e-05, "input_cost_per_token": 2.5e-06, "litellm_provider": "openai", "mode": "chat", "output_cost_per_audio_token": 8e-05, "output_cost_per_token": 1e-05}, "volcengine/doubao-seed-2-0-pro": {"litellm_provider": "volcengine", "mode": "chat", "tiered_pricing": [{"input_cost_per_token": 4.6e-07, "output_cost_per_token": 2.3e-06, "range": [0, 32000.0]}, {"input_cost_per_token": 7e-07, "output_cost_per_token": 3.5e-06, "range": [32000.0, 128000.0]}, {"input_cost_per_token": 1.4e-06, "output_cost_per_token": 7e-06, "range": [128000.0, 256000.0]}]}, "streamlake/kat-coder": {"input_cost_per_token": 2e-07, "litellm_provider": "streamlake", "mode": "chat", "output_cost_per_token": 8e-07}, "wandb/too-dear": {"input_cost_per_token": 0.1, "litellm_provider": "wandb", "mode": "chat", "output_cost_per_token": 0.15}, "wandb/negative": {"input_cost_per_token": -1e-06, "litellm_provider": "wandb", "mode": "chat", "output_cost_per_token": 1e-06}, "wandb/no-number": {"input_cost_per_token": "cheap", "litellm_provider": "wandb", "mode": "chat", "output_cost_per_token": 1e-06}, "wandb/huge": {"input_cost_per_token": 1e999999, "litellm_provider": "wandb", "mode": "chat", "output_cost_per_token": 1e-06}, "wandb/no-range": {"litellm_provider": "wandb", "mode": "chat", "tiered_pricing": [{"input_cost_per_token": 1e-07, "output_cost_per_token": 1e-06, "range": ["a", "b"]}]}, "wandb/half": {"input_cost_per_token": 1e-06, "litellm_provider": "wandb", "mode": "chat"}, "wandb/only-batch": {"input_cost_per_token_batches": 1e-06, "output_cost_per_token_batches": 1e-06, "litellm_provider": "wandb", "mode": "chat"}, "wandb/no-tokens": {"input_cost_per_token": 1e-06, "litellm_provider": "wandb", "max_output_tokens": 0, "mode": "chat", "output_cost_per_token": 1e-06}, "wandb/good": {"input_cost_per_token": 0.00000013500000000000000000000000001, "litellm_provider": "wandb", "mode": "chat", "output_cost_per_token": 1e-06}, "openai/gpt-4o": {"input_cost_per_token": 9e-06, "litellm_provider": "openai", "mode": "chat", "output_cost_per_token": 9e-06}, "dall-e-3": {"input_cost_per_pixel": 1.9e-08, "litellm_provider": "openai", "mode": "image_generation"}, "bedrock/x": {"input_cost_per_token": 1e-06, "litellm_provider": "bedrock"}, "bedrock/y": {"input_cost_per_token": 1e-06, "litellm_provider": "bedrock"}, "of nobody": {"input_cost_per_token": 1e-06}, "no object": 5 }'
select * from mrprompt.import_prices(:'map', source => 'by hand');
select provider, model, service_tier as tier, above_tokens as above, input, output, cached, cache_write, cache_write_1h, audio_input, audio_output, per_second, source
from mrprompt.prices where not preset order by provider, model, service_tier, above_tokens;
select provider, model, priced_as, max_output_tokens, context_tokens, image_tokens, metadata, source from mrprompt.models where not preset order by provider, model;
-- the second time nothing changes
select result, count(*), sum(prices_loaded) from mrprompt.import_prices(:'map') group by result order by result;
-- a new price holds from now on, for what has changed; what an admin noted beside it stays
update mrprompt.models set metadata = metadata || '{"note": "ours"}', image_tokens = 9 where provider = 'volcengine';
select * from mrprompt.import_prices(replace(:'map', '3.5e-06', '3.6e-06')::json, '{volcengine}');
select above_tokens, output, effective_from = max(effective_from) over () as last from mrprompt.prices where provider = 'volcengine' order by above_tokens, effective_from;
select image_tokens, metadata from mrprompt.models where provider = 'volcengine';
-- only of some providers; who may; what it takes
select * from mrprompt.import_prices('{"gpt-9": {"litellm_provider": "openai", "input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06}}', '{anthropic}');
select t.why($$select mrprompt.import_prices('{}', '{openai,nowhere}')$$);
select t.why($$select mrprompt.import_prices('[]')$$);
select t.why($$select mrprompt.import_prices(null)$$);
set role mrprompt_user;
select mrprompt.import_prices('{}');
set role mrprompt_analyst;
select mrprompt.import_prices('{}');
reset role;
\set ECHO none
\i :helpers
truncate mrprompt_internal.model_rows;
