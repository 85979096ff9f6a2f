-- Runs, as their user, a fetcher and house-keeping see them.
\set QUIET on
\i test/helpers.sql
\set QUIET off
\pset format unaligned
\pset tuples_only on
select t.reset(), t.be('ann'), t.hello('f');

-- A run's model call, claimed and answered by hand. Steps are told by their number; ids show as names.
create or replace function t.answer_run(run uuid, answer jsonb, result text default 'succeeded', more jsonb default '{}') returns text language plpgsql as $$
declare
    job json;
    left_ json;
begin
    select c.body -> 'jobs' -> 0 into job from mrprompt_internal.claim((t.args('f') || '{"room": 1, "bytes": 1000000}')::json) c;
    if job ->> 'request' is distinct from (select r.request_id::text from mrprompt.runs r where r.id = run) then
        return 'the run has no request that a claim finds';
    end if;
    left_ := mrprompt_internal.settle((t.args('f') || jsonb_build_object('outcomes', jsonb_build_array(jsonb_build_object(
        'request', job ->> 'request', 'attempt', job -> 'attempt', 'result', result, 'response', answer,
        'usage', case when result = 'succeeded' then '{"prompt_tokens": 10, "completion_tokens": 4}'::jsonb end) || more)))::json);
    return job ->> 'payload';
end $$;
create or replace function t.calls(variadic names text[]) returns jsonb language sql as $$
    select jsonb_build_object('finish_reason', 'tool_calls', 'tool_calls', jsonb_agg(jsonb_build_object('id', 'call_' || n, 'type', 'function',
        'function', jsonb_build_object('name', name, 'arguments', '{"n": ' || n || '}')) order by n))
    from unnest(names) with ordinality u (name, n) $$;
create or replace function t.says(text) returns jsonb language sql as $$ select jsonb_build_object('content', $1, 'finish_reason', 'stop') $$;
create or replace function t.run_state(run uuid) returns text language sql as $$
    select concat_ws(' ', r.status, r.incomplete_reason, r.last_error ->> 'code', 'steps=' || r.steps, 'tokens=' || r.prompt_tokens || '+' || r.completion_tokens,
        (select string_agg(c -> 'function' ->> 'name', ',') from json_array_elements(r.required_action -> 'submit_tool_outputs' -> 'tool_calls') c),
        (select 'approve ' || string_agg(c -> 'function' ->> 'name', ',') from json_array_elements(r.required_action -> 'approve_tool_calls' -> 'tool_calls') c))
    from mrprompt.get_run(run) r $$;
create or replace function t.events(run uuid, after bigint default 0) returns setof text language sql as $$
    select event || coalesce(': ' || coalesce(data -> 'delta' -> 'content' -> 0 -> 'text' ->> 'value', data -> 'delta' -> 'content' -> 0 ->> 'refusal'), '')
    from mrprompt.stream_run(run, after, '0') order by seq $$;
create or replace function t.thread(id uuid) returns setof text language sql as $$
    select concat_ws(' ', coalesce(position::text, 'waits'), role, content, 'calls ' || (
            select string_agg(c -> 'function' ->> 'name', ',') from json_array_elements(tool_calls) c), tool_call_id, incomplete_reason)
    from mrprompt.messages m where m.thread_id = thread.id order by m.position, m.id $$;

\echo # a run answers by the instructions of its agent, over the thread, and its answer becomes a message
select mrprompt.create_agent('curator', instructions => 'Be kind.', provider => 'fake', model => 'fake-1') as curator \gset
select mrprompt.create_thread('[{"role": "user", "content": "Hello"}]') as thread \gset
select mrprompt.create_run(:'thread', :'curator', additional_instructions => 'Be brief.') as run \gset
select t.run_state(:'run');
select t.answer_run(:'run', t.says('Hi.'));
select t.run_state(:'run');
select t.thread(:'thread');
select agent_name, stream, payload, messages_from from mrprompt.requests;

\echo # its events are named as the Assistants stream named them
select t.events(:'run');
\echo # and can be followed from any of them on
select count(*) from (select 1 from mrprompt.stream_run(:'run', 0, '0')) e;
select count(*) from (select s.seq from mrprompt.stream_run(:'run', 0, '0') s offset 3 limit 1) a, lateral mrprompt.stream_run(:'run', a.seq, '0') e;

\echo # when they are pruned a reader hears how it ended all the same, once
begin;
delete from mrprompt.run_events where run_id = :'run';
delete from mrprompt.deltas;
select event from mrprompt.stream_run(:'run', 0, '0') order by seq;
select t.events(:'run', 1950000000000);
select count(*) from mrprompt.stream_run(:'run', (select max(seq) from mrprompt.stream_run(:'run', 0, '0')), '0');
rollback;

\echo # the next run of the thread knows what was said
select mrprompt.create_message(:'thread', 'And now?') is not null as said;
select mrprompt.create_run(:'thread', :'curator', instructions => 'Be strict.', model => 'fake-2', temperature => 0.4, top_p => 0.8,
    additional_messages => '[{"role": "user", "content": "Quick!", "metadata": {"from": "app"}}]') as run \gset
select t.answer_run(:'run', t.says('Now.'));
select model from mrprompt.requests where run_id = :'run';

\echo # a thread has one active run: another, or a message, is refused, or waits behind it, as asked
select mrprompt.create_message(:'thread', 'one') is not null as said;
select mrprompt.create_run(:'thread', :'curator') as run \gset
select t.why(format('select mrprompt.create_run(%L, %L)', :'thread', :'curator'));
select t.why(format('select mrprompt.create_message(%L, %L)', :'thread', 'two'));
select mrprompt.create_message(:'thread', 'two', when_busy => 'queue') is not null as said;
select mrprompt.create_run(:'thread', :'curator', when_busy => 'queue') as second \gset
select mrprompt.create_message(:'thread', 'three', when_busy => 'queue') is not null as said;
select t.thread(:'thread') offset 5;
select t.answer_run(:'run', t.says('First.'));
select t.thread(:'thread') offset 5;
select t.answer_run(:'second', t.says('Second.'));
select t.thread(:'thread') offset 5;

\echo # client tools: the run requires an action, and goes on with all outputs, in one call
select mrprompt.create_agent('mentor', provider => 'fake', model => 'fake-1', tools => '[
    {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}, {"type": "function", "function": {"name": "get_time"}}]') as mentor \gset
select thread_id as thread, run_id as run from mrprompt.create_thread_and_run(:'mentor', '[{"role": "user", "content": "weather and time?"}]',
    tool_choice => '"required"', parallel_tool_calls => true) \gset
select t.answer_run(:'run', t.calls('get_weather', 'get_time'));
select t.run_state(:'run');
select expires_at between now() + interval '9 minutes' and now() + interval '10 minutes' from mrprompt.get_run(:'run');
select s.type, s.status, s.prompt_tokens, s.completion_tokens, s.step_details from mrprompt.list_run_steps(:'run') s;
select o, w
from unnest(array['{}', '[{"tool_call_id": "call_1"}]', '[{"tool_call_id": "call_1", "output": "x"}]',
    '[{"tool_call_id": "call_1", "output": "x"}, {"tool_call_id": "call_2", "output": "x"}, {"tool_call_id": "call_3", "output": "x"}]',
    '[{"tool_call_id": "call_1", "output": "x"}, {"tool_call_id": "call_1", "output": "y"}, {"tool_call_id": "call_2", "output": "x"}]']) o, t.why(format('select mrprompt.submit_tool_outputs(%L, %L)', :'run', o)) w where w not like 'hint%';
select mrprompt.submit_tool_outputs(:'run', '[{"tool_call_id": "call_2", "output": "noon"}, {"tool_call_id": "call_1", "output": {"sky": "blue"}}]');
select t.run_state(:'run');
select t.why(format('select mrprompt.submit_tool_outputs(%L, %L)', :'run', '[]'));
\echo # what was forced for the first call is not forced again
select t.answer_run(:'run', t.says('Blue at noon.'));
select t.run_state(:'run');
select t.thread(:'thread');
select t.events(:'run');

\echo # a model that calls what is not there, or in words that are no JSON, is told so and tries again
select thread_id as thread, run_id as run from mrprompt.create_thread_and_run(:'mentor', '[{"role": "user", "content": "?"}]') \gset
select t.answer_run(:'run', '{"finish_reason": "tool_calls", "tool_calls": [{"id": "", "type": "function", "function": {"name": "no_such", "arguments": "{}"}},
    {"id": "", "type": "function", "function": {"name": "get_time", "arguments": "{broken"}}]}') is not null as answered;
select name, kind, status, output, call_id like 'call_%' as has_an_id from mrprompt.tool_calls where run_id = :'run' order by place;
select regexp_replace(t.answer_run(:'run', t.says('Sorry.')), 'call_[0-9a-f]{32}', 'call_…', 'g');
select t.run_state(:'run');

\echo # a tool that needs it is called once its user has said yes; a no is told to the model
create function public.season() returns text language sql stable as $$ select 'autumn' $$;
select mrprompt.register_tool('season', 'public.season()', 'The season.', needs_approval => true) is not null as registered;
select mrprompt.create_agent('guide', provider => 'fake', model => 'fake-1', tools => '["season"]') as guide \gset
select thread_id as thread, run_id as run from mrprompt.create_thread_and_run(:'guide', '[{"role": "user", "content": "?"}]') \gset
select t.answer_run(:'run', t.calls('season'));
select t.run_state(:'run');
select t.why(format('select mrprompt.submit_tool_outputs(%L, %L)', :'run', '[{"tool_call_id": "call_1", "output": "spring"}]'));
select t.why(format('select mrprompt.approve_tool_calls(%L, %L)', :'run', '{call_7}'));
select t.why(format('select mrprompt.approve_tool_calls(%L, %L, false, %L)', :'run', '{call_1}', repeat('n', 2001)));
select mrprompt.approve_tool_calls(:'run', '{call_1,call_1}', false, 'not today');
select t.answer_run(:'run', t.says('Then not.'));
select t.run_state(:'run');
select t.thread(:'thread');

\echo # where an answer asks for outputs and approval, whoever follows is asked again for what is left; who reads late sees each as it was asked
create or replace function t.asked(run uuid) returns setof text language sql as $$
    select concat_ws(' ', data -> 'required_action' ->> 'type', (
            select 'outputs ' || string_agg(c ->> 'id', ',') from json_array_elements(data -> 'required_action' -> 'submit_tool_outputs' -> 'tool_calls') c), (
            select 'approvals ' || string_agg(c ->> 'id', ',') from json_array_elements(data -> 'required_action' -> 'approve_tool_calls' -> 'tool_calls') c))
    from mrprompt.stream_run(run, 0, '0') where event = 'thread.run.requires_action' order by seq $$;
select mrprompt.create_agent('host', provider => 'fake', model => 'fake-1', tools => '["season", {"type": "function", "function": {"name": "get_time"}}]') as host \gset
select thread_id as thread, run_id as run from mrprompt.create_thread_and_run(:'host', '[{"role": "user", "content": "?"}]') \gset
select t.answer_run(:'run', t.calls('get_time', 'season', 'season')) is not null as answered;
select t.asked(:'run');
select mrprompt.submit_tool_outputs(:'run', '[{"tool_call_id": "call_1", "output": "noon"}]');
select t.asked(:'run');
select t.run_state(:'run');
\echo # outputs that nothing waits for are no answer
select t.why(format('select mrprompt.submit_tool_outputs(%L, %L)', :'run', '[]'));
select mrprompt.approve_tool_calls(:'run', '{call_3}', false);
select t.asked(:'run');
select mrprompt.approve_tool_calls(:'run', '{call_2}', false);
select t.run_state(:'run');
select t.answer_run(:'run', t.calls('get_time', 'season')) is not null as answered;
select mrprompt.approve_tool_calls(:'run', approved => false);
select t.asked(:'run');
select t.run_state(:'run');
\echo # nor is approval
select t.why(format('select mrprompt.approve_tool_calls(%L)', :'run'));
select mrprompt.submit_tool_outputs(:'run', '[{"tool_call_id": "call_1", "output": "noon"}]');
select t.answer_run(:'run', t.says('So be it.')) is not null as answered;
select t.run_state(:'run');
select t.asked(:'run');

\echo # the metadata of a run can be changed, whenever
select mrprompt.update_run(:'run', '{"ticket": 7, "tags": ["late"]}') = :'run' as changed;
select metadata from mrprompt.get_run(:'run');
select w from unnest(array['[]', '{"x": {}}', '{"tags": 1}']) m, t.why(format('select mrprompt.update_run(%L, %L)', :'run', m)) w;
select t.why($$select mrprompt.update_run('00000000-0000-4000-8000-000000000000', '{}')$$);

\echo # a run is cancelled at once where nothing is in flight
select thread_id as thread, run_id as run from mrprompt.create_thread_and_run(:'mentor', '[{"role": "user", "content": "?"}]') \gset
select t.answer_run(:'run', t.calls('get_time')) is not null as answered;
select mrprompt.cancel_run(:'run');
select t.run_state(:'run');
\echo # its calls are answered for it, so that the thread can go on
select t.thread(:'thread');
select mrprompt.create_run(:'thread', :'mentor') is not null as goes_on;
select mrprompt.cancel_run(:'run');

\echo # and through its request where a model call is under way; what was written stays, as incomplete
select thread_id as thread, run_id as run from mrprompt.create_thread_and_run(:'curator', '[{"role": "user", "content": "?"}]') \gset
delete from mrprompt_internal.queue where request_id <> (select request_id from mrprompt.runs where id = :'run');
select c.body -> 'jobs' -> 0 ->> 'attempt' as attempt from mrprompt_internal.claim((t.args('f') || '{"room": 1, "bytes": 1000000}')::json) c;
select t.run_state(:'run');
select mrprompt.cancel_run(:'run');
select t.run_state(:'run');
select json_array_length(t.heartbeat('f', json_build_array(json_build_array(request_id, 1))) -> 'cancel') as to_cancel, request_id as request from mrprompt.runs where id = :'run' \gset
select :to_cancel as cancels_on_the_wire;
select mrprompt_internal.settle((t.args('f') || jsonb_build_object('outcomes', jsonb_build_array(jsonb_build_object('request', :'request', 'attempt', 1, 'result', 'cancelled',
    'response', t.says('I was about to'), 'usage', '{"prompt_tokens": 5, "completion_tokens": 4, "estimated": true}'::jsonb))))::json)::jsonb -> 'busy' as busy;
select t.run_state(:'run');
select t.thread(:'thread');

\echo # what a request fails of is the last_error of the run
select thread_id as thread, run_id as run from mrprompt.create_thread_and_run(:'curator', '[{"role": "user", "content": "?"}]') \gset
select t.answer_run(:'run', null, 'failed', '{"http_status": 429, "error": {"status": 429, "type": "insufficient_quota", "message": "You are broke."}}') is not null as answered;
select t.run_state(:'run'), last_error from mrprompt.get_run(:'run');
select t.why(format('select mrprompt.retry_request(%L)', id)) from mrprompt.requests where run_id = :'run';

\echo # answers that are cut end the run as incomplete; so do totals over the whole run, and the limits of its agent
select thread_id as thread, run_id as run from mrprompt.create_thread_and_run(:'curator', '[{"role": "user", "content": "?"}]') \gset
select t.answer_run(:'run', '{"content": "To be cont", "finish_reason": "length"}') is not null as answered;
select t.run_state(:'run');
select thread_id as thread, run_id as run from mrprompt.create_thread_and_run(:'mentor', '[{"role": "user", "content": "?"}]', limits => '{"max_steps": 1}') \gset
select t.answer_run(:'run', t.calls('get_time')) is not null as answered;
select mrprompt.submit_tool_outputs(:'run', '[{"tool_call_id": "call_1", "output": "noon"}]');
select t.run_state(:'run');
select thread_id as thread, run_id as run from mrprompt.create_thread_and_run(:'mentor', '[{"role": "user", "content": "?"}]', max_completion_tokens => 256) \gset
select t.answer_run(:'run', t.calls('get_time'), more => '{"usage": {"prompt_tokens": 10, "completion_tokens": 300}}');
select mrprompt.submit_tool_outputs(:'run', '[{"tool_call_id": "call_1", "output": "noon"}]');
select t.run_state(:'run');
select thread_id as thread, run_id as run from mrprompt.create_thread_and_run(:'mentor', '[{"role": "user", "content": "?"}]', limits => '{"max_calls_per_tool": 1}') \gset
select t.answer_run(:'run', t.calls('get_time', 'get_time')) is not null as answered;
select status, output from mrprompt.tool_calls where run_id = :'run' order by place;
select mrprompt.cancel_run(:'run');

\echo # of more than 128 calls in one answer, those beyond are answered as refused; the limit of a tool counts the calls of earlier steps, too
select thread_id as thread, run_id as run from mrprompt.create_thread_and_run(:'mentor', '[{"role": "user", "content": "?"}]', limits => '{"max_calls_per_tool": 130}') \gset
select t.answer_run(:'run', t.calls(variadic array_fill('get_time'::text, array[129]) || '{get_weather}')) is not null as answered;
select name, status, output, min(place), max(place) from mrprompt.tool_calls where run_id = :'run' group by 1, 2, 3 order by 4;
select mrprompt.submit_tool_outputs(:'run', json_agg(json_build_object('tool_call_id', 'call_' || n, 'output', 'noon'))) from generate_series(1, 128) n;
select t.answer_run(:'run', t.calls('get_time', 'get_time', 'get_weather')) is not null as answered;
select name, c.status, output from mrprompt.tool_calls c join mrprompt.run_steps s on s.id = c.step_id where c.run_id = :'run' and step = 2 order by place;
select mrprompt.cancel_run(:'run');

\echo # what a run says lowers the limits of its agent, or of the settings where that has none; it lifts none, and takes away none that it does not name
select mrprompt.create_agent('limited', provider => 'fake', model => 'fake-1', limits => '{"max_steps": 2, "max_cost": 0.05, "max_calls_per_tool": 3}',
    context => '{"truncation": "last_messages", "last_messages": 2, "max_tokens": 500}') as limited \gset
create or replace function t.in_force(agent uuid, limits json, last_messages int default null, truncation text default null) returns text language plpgsql as $$
declare run uuid := run_id from mrprompt.create_thread_and_run(agent, '[{"role": "user", "content": "?"}]', limits => limits, last_messages => last_messages, truncation => truncation);
    said text := (select c.limits::jsonb || c.context::jsonb from mrprompt.runs r, mrprompt_internal.run_config(r) c where r.id = run);
begin
    perform mrprompt.cancel_run(run), mrprompt_internal.tend((t.args('f') || '{"limit": 100}')::json);
    return said;
end $$;
select t.in_force(:'limited', null) as its_agents, t.in_force(:'limited', '{"max_steps": 1000, "max_cost": 0.01, "max_seconds": 86400, "tool_wait_seconds": 30}') as lowered,
    t.in_force(:'limited', null, last_messages => 7) as its_room_stays, t.in_force(:'limited', null, truncation => 'auto') as as_much_as_fits;
select t.in_force(:'curator', '{"max_steps": 1000, "max_calls_per_tool": 1}') as the_settings;
select mrprompt.delete_agent(:'limited') is not null as archived;

\echo # the thread is sent as far as asked for: the newest messages, or as many as fit, without the middle
select mrprompt.create_thread((select json_agg(json_build_object('role', case n % 2 when 1 then 'user' else 'assistant' end, 'content', 'message ' || n || repeat(' x', 50)) order by n)
    from generate_series(1, 99) n)) as thread \gset
create or replace function t.sent(thread uuid, agent uuid, truncation text default null, last_messages int default null, max_prompt_tokens bigint default null) returns text language plpgsql as $$
declare run uuid; places text;
begin
    run := mrprompt.create_run(thread, agent, truncation => truncation, last_messages => last_messages, max_prompt_tokens => max_prompt_tokens);
    places := (select coalesce(string_agg(messages_from::text, ''), 'nothing') from mrprompt.requests where run_id = run);
    places := places || coalesce(' ' || (select incomplete_reason from mrprompt.runs where id = run), '');
    perform mrprompt.cancel_run(run), mrprompt_internal.tend((t.args('f') || '{"limit": 100}')::json);
    return places;
end $$;
select t.sent(:'thread', :'curator') as all_of_it, t.sent(:'thread', :'curator', last_messages => 3) as last_three,
    t.sent(:'thread', :'curator', 'auto', max_prompt_tokens => 1000) as the_middle_left_out;
select t.why(format('select mrprompt.create_run(%L, %L, max_prompt_tokens => 10)', :'thread', :'curator'));
select mrprompt.create_message(:'thread', repeat('long ', 2000)) is not null as said;
select t.sent(:'thread', :'curator', max_prompt_tokens => 256) as does_not_fit;

\echo # and never more bytes than a payload may have, however few tokens they count for
create or replace function t.image(mb numeric) returns json language sql as $$
    select json_build_array(json_build_object('type', 'text', 'text', mb || ' MB'), json_build_object('type', 'image_url', 'image_url',
        json_build_object('url', 'data:image/png;base64,' || repeat('A', (1000000 * mb)::integer)))) $$;
select mrprompt.create_thread(json_build_array(json_build_object('role', 'user', 'content', t.image(1.7)), json_build_object('role', 'user', 'content', t.image(3.8)),
    json_build_object('role', 'assistant', 'content', 'Nice.'), json_build_object('role', 'user', 'content', t.image(3.8)))) as thread \gset
select t.sent(:'thread', :'curator') as the_last_image, t.sent(:'thread', :'curator', last_messages => 3) as of_three;
select mrprompt.create_message(:'thread', parts => t.image(1.7)) is not null as said;
select t.sent(:'thread', :'curator') as with_the_first, t.sent(:'thread', :'curator', last_messages => 10) as of_ten;
select mrprompt.create_message(:'thread', parts => t.image(8.388)) is not null as said;
select regexp_replace(regexp_replace(w, 'for \d+', 'for …'), 'to 8388\d+', 'to 8388…') from t.why(format('select mrprompt.create_run(%L, %L)', :'thread', :'curator')) w;
select mrprompt.create_message(:'thread', 'Never mind.') is not null as said;
select t.sent(:'thread', :'curator') as what_follows_goes;
\echo # what is newest goes before what was first, in bytes and in tokens
select mrprompt.create_thread(json_build_array(json_build_object('role', 'user', 'content', t.image(1.7)), json_build_object('role', 'user', 'content', t.image(3.8)),
    json_build_object('role', 'user', 'content', t.image(7.5)))) as thread \gset
select t.sent(:'thread', :'curator') as the_newest_without_the_first;
create or replace function t.said(variadic tokens int[]) returns json language sql as $$
    -- Below 0: an assistant's.
    select json_agg(json_build_object('role', case when n < 0 then 'assistant' else 'user' end, 'content', repeat('x', 4 * abs(n) - 20)) order by place)
    from unnest(tokens) with ordinality u (n, place) $$;
select mrprompt.create_agent('narrow', instructions => 'Be kind.', provider => 'fake', model => 'fake-1', context => '{"max_tokens": 1000}',
    tools => '[{"type": "function", "function": {"name": "look"}}]') as narrow \gset
select what, t.sent(mrprompt.create_thread(messages), :'narrow') as sent
from (values (1, 'the newest alone', t.said(105, 505, 931)), (2, 'the newest beside the first', t.said(105, 505, 800)),
    (3, 'no first of its user', t.said(-105, 505, 931)), (4, 'the question before an answer from elsewhere', t.said(105, 400, -505, -480))) v (n, what, messages) order by n;
\echo # so does, at a later step, what its user said last
create or replace function t.second_step(thread uuid, agent uuid, tokens int) returns text language plpgsql as $$
declare run uuid := mrprompt.create_run(thread, agent); places text;
begin
    delete from mrprompt_internal.queue where request_id <> (select request_id from mrprompt.runs where id = run);
    perform t.answer_run(run, t.calls('look'));
    perform mrprompt.submit_tool_outputs(run, json_build_array(json_build_object('tool_call_id', 'call_1', 'output', repeat('x', 4 * tokens))));
    places := (select coalesce((select q.messages_from::text from mrprompt.requests q where q.id = r.request_id), r.status || ' ' || r.incomplete_reason) from mrprompt.runs r where r.id = run);
    perform mrprompt.cancel_run(run), mrprompt_internal.tend((t.args('f') || '{"limit": 100}')::json);
    return places;
end $$;
select t.second_step(mrprompt.create_thread(t.said(105, -505, 200)), :'narrow', 650) as before_the_first, t.second_step(mrprompt.create_thread(t.said(105, 100, -505)), :'narrow', 650) as before_an_answer,
    t.second_step(mrprompt.create_thread(t.said(105, -505, 600)), :'narrow', 650) as does_not_fit;
\echo # an output goes with its call: a thread that ends with one whose call does not fit has nothing to send
select thread_id as thread, run_id as run from mrprompt.create_thread_and_run(:'curator', t.said(10), tools => '[{"type": "function", "function": {"name": "look"}}]') \gset
delete from mrprompt_internal.queue where request_id <> (select request_id from mrprompt.runs where id = :'run');
select t.answer_run(:'run', jsonb_build_object('finish_reason', 'tool_calls', 'tool_calls', jsonb_build_array(jsonb_build_object('id', 'call_1', 'type', 'function',
    'function', jsonb_build_object('name', 'look', 'arguments', json_build_object('at', repeat('x', 4000))))))) is not null as answered;
select mrprompt.cancel_run(:'run');
select role from mrprompt.messages where thread_id = :'thread' order by position;
select t.sent(:'thread', :'narrow') as the_output_alone, t.sent(:'thread', :'curator') as with_its_call;
select mrprompt.delete_agent(:'narrow') is not null as archived;
\echo # outputs of tools that are too large for it are refused
select thread_id as thread, run_id as run from mrprompt.create_thread_and_run(:'mentor', '[{"role": "user", "content": "?"}]') \gset
select t.answer_run(:'run', t.calls('get_time')) is not null as answered;
select state from t.try(format('select mrprompt.submit_tool_outputs(%L, %L)', :'run', json_build_array(json_build_object('tool_call_id', 'call_1', 'output', repeat('x', 8400000)))));
select t.run_state(:'run');
select mrprompt.cancel_run(:'run');

\echo # a thread without a message has nothing to answer
select t.why(format('select mrprompt.create_run(mrprompt.create_thread(), %L)', :'curator'));

\echo # a run whose user does not answer expires, and its thread is free
select thread_id as thread, run_id as run from mrprompt.create_thread_and_run(:'mentor', '[{"role": "user", "content": "?"}]', limits => '{"tool_wait_seconds": 60}') \gset
delete from mrprompt_internal.queue where request_id <> (select request_id from mrprompt.runs where id = :'run');
select t.answer_run(:'run', t.calls('get_time')) is not null as answered;
update mrprompt.runs set expires_at = now() where id = :'run';
select regexp_replace(t.why(format('select mrprompt.submit_tool_outputs(%L, %L)', :'run', '[{"tool_call_id": "call_1", "output": "noon"}]')), 'at [A-Z].*', 'at …');
select mrprompt.create_message(:'thread', 'Never mind.') is not null as said;
select t.run_state(:'run');
select t.thread(:'thread');
\echo # who follows it late sees what it asked for
select data -> 'required_action' -> 'submit_tool_outputs' from mrprompt.stream_run(:'run', 0, '0') where event = 'thread.run.requires_action';
\echo # and why it ended
select data -> 'incomplete_details' from mrprompt.stream_run(:'run', 0, '0') where event = 'thread.run.expired';

\echo # a long answer is read in pages: all of it, each piece once, before what came of it
select thread_id as thread, run_id as run from mrprompt.create_thread_and_run(:'curator', '[{"role": "user", "content": "?"}]') \gset
select mrprompt_internal.claim((t.args('f') || '{"room": 1, "bytes": 1000000}')::json) is not null as claimed;
insert into mrprompt.deltas (request_id, seq, attempt, content) select r.request_id, n, 1, n || ' ' from mrprompt.runs r, generate_series(1, 2500) n where r.id = :'run';
select mrprompt_internal.settle((t.args('f') || jsonb_build_object('outcomes', jsonb_build_array(jsonb_build_object('request', r.request_id, 'attempt', 1, 'result', 'succeeded',
    'response', t.says('long'), 'usage', '{"prompt_tokens": 1, "completion_tokens": 2500}'::jsonb))))::json) ->> 'stale' as stale from mrprompt.runs r where r.id = :'run';
with recursive page (n, last, events) as (
    select 1, max(e.seq), array_agg(e.event order by e.seq) || array_agg(e.data -> 'delta' -> 'content' -> 0 -> 'text' ->> 'value' order by e.seq)
    from mrprompt.stream_run(:'run', 0, '0') e
    union all
    select p.n + 1, x.last, x.events
    from page p cross join lateral (
        select max(e.seq) as last, array_agg(e.event order by e.seq) || array_agg(e.data -> 'delta' -> 'content' -> 0 -> 'text' ->> 'value' order by e.seq) as events
        from mrprompt.stream_run(:'run', p.last, '0') e) x
    where x.last is not null
)
select max(n) as pages, count(*) filter (where v ~ '^[0-9]+ $') as pieces, count(distinct v) filter (where v ~ '^[0-9]+ $') as different, (array_agg(v order by n desc) filter (where v = 'done'))[1] as at_the_end
from page, unnest(events) v;

\echo # what the agents do, in pages, or one of them
select name, shared, active_runs > 0 as at_work, last_status from mrprompt.agent_status("limit" => 2);
select name from mrprompt.agent_status("limit" => 2, after => :'mentor');
select name from mrprompt.agent_status("limit" => 1, "order" => 'asc');
select name, last_run_id = :'run' as the_latest from mrprompt.agent_status(:'curator');
select w from t.why('select * from mrprompt.agent_status("limit" => 101)') w limit 1;

\echo # a plan made while there are few runs is one for many: by the thread
prepare waits (uuid) as select r.id from mrprompt.runs r where r.thread_id = $1 and not r.active and r.finished_at is null order by r.id limit 1;
set plan_cache_mode = force_generic_plan;
explain (costs off) execute waits(:'thread');
reset plan_cache_mode;
deallocate waits;

\echo # whose run it is, decides who sees it and who may do something with it
grant usage on schema t to mrprompt_user;
set role mrprompt_user;
select status from mrprompt.get_run(:'run');
select t.be('bob');
select count(*) from mrprompt.runs;
select t.state from t.try(format('select mrprompt.get_run(%L)', :'run')) t union all select t.state from t.try(format('select mrprompt.cancel_run(%L)', :'run')) t
union all select t.state from t.try(format('select mrprompt.create_run(%L, %L)', :'thread', :'curator')) t
union all select t.state from t.try(format('select mrprompt.submit_tool_outputs(%L, %L)', :'run', '[]')) t
union all select t.state from t.try(format('select mrprompt.approve_tool_calls(%L)', :'run')) t
union all select t.state from t.try(format('select mrprompt.update_run(%L, %L)', :'run', '{}')) t
union all select t.state from t.try(format('select * from mrprompt.list_run_steps(%L)', :'run')) t
union all select t.state from t.try(format('select * from mrprompt.stream_run(%L)', :'run')) t
union all select t.state from t.try('insert into mrprompt.runs select * from mrprompt.runs') t
union all select t.state from t.try('select * from mrprompt_internal.run_identities') t;
reset role;
drop function public.season();
drop function t.run_state(uuid), t.asked(uuid), t.answer_run(uuid, jsonb, text, jsonb), t.calls(text[]), t.says(text), t.events(uuid, bigint), t.thread(uuid),
    t.sent(uuid, uuid, text, int, bigint), t.image(numeric), t.said(int[]), t.in_force(uuid, json, int, text), t.second_step(uuid, uuid, int);
