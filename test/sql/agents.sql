-- Agents: made, changed, versioned, shared, cloned, archived; made of keys and of exported assistants; and everything that is refused.
\getenv dir PG_ABS_SRCDIR
\set helpers :dir '/helpers.sql'
\set ECHO none
\i :helpers
set client_min_messages = warning;
create role agent_admin login;
create role agent_analyst login;
create role agent_ann login;
create role agent_bob login;
grant mrprompt_admin to agent_admin;
grant mrprompt_analyst to agent_analyst;
grant mrprompt_user to agent_ann, agent_bob;
do $$ begin
    perform mrprompt.add_user('agent_ann', user_id => 'aaaaaaaa-0000-4000-8000-000000000001');
    perform mrprompt.add_user('agent_bob', user_id => 'bbbbbbbb-0000-4000-8000-000000000002');
end $$;
grant usage on schema t to public;
grant execute on all functions in schema t to public;
create function t.agent(name text) returns uuid language sql security definer as $$ select id from mrprompt.agents a where a.name = agent.name order by id limit 1 $$;
create function t.key(label text) returns uuid language sql security definer as $$ select id from mrprompt.api_keys k where k.name = key.label $$;
-- What creating an agent with these members of its configuration is answered.
create function t.config_refused(config json) returns setof text language sql as $$
    select t.why(format('select mrprompt_internal.check_agent_config(%L, %L)', config, mrprompt.current_user_id())) $$;
create function t.versions(name text) returns table (version int, config json) language sql as $$
    select v.version, v.config from mrprompt.list_agent_versions(t.agent(versions.name)) v $$;
grant execute on all functions in schema t to public;
reset client_min_messages;
\pset format unaligned
\set ECHO all
\set ann 'aaaaaaaa-0000-4000-8000-000000000001'
\set bob 'bbbbbbbb-0000-4000-8000-000000000002'
insert into mrprompt.tools (name, function, owner, description, parameters, search_path, enabled)
values ('get_achievements', 'public.f(text)', current_user, 'What a user achieved', '{}', 'public', true), ('get_secrets', 'public.g(text)', current_user, 'No more', '{}', 'public', false);
select t.be('ann');
-- only a name is needed; what is not said is null
select mrprompt.create_agent('plain') = t.agent('plain') as named;
select user_id = :'ann' as anns, name, version, metadata, archived_at, created_at = updated_at as new from mrprompt.get_agent(t.agent('plain'));
select * from t.versions('plain');
-- everything, kept as it was written
select mrprompt.create_agent('tutor', 'You teach.' || e'\n"Well."', 'Teaches', 'fake', 'fake-1', null, 0.7, 0.25, 500,
    '{"type": "json_schema",  "json_schema": {"name": "place", "schema": {"z": null, "a": 1}}}', 'low',
    '["get_achievements", {"type":"function", "function": {"name": "get_weather", "strict": true, "parameters": {"type":"object", "b": null}}}]',
    '{"type": "function", "function": {"name": "get_weather"}}', false, '{"seed": 7, "stop": ["\n"]}',
    '{"truncation": "last_messages", "last_messages": 20, "max_tokens": 100000}',
    '{"max_steps": 20, "max_calls_per_tool": 10, "max_seconds": 600, "max_cost": 0.50, "tool_wait_seconds": 600}',
    '{"team": "a"}') = t.agent('tutor') as named;
select * from t.versions('tutor');
select config::text = mrprompt_internal.agent_config(a)::text as same from mrprompt.agents a join mrprompt.agent_versions v on v.agent_id = a.id where a.name = 'tutor';
select tools, temperature, top_p, max_tokens, parallel_tool_calls, limits from mrprompt.get_agent(t.agent('tutor'));
-- "auto" is no response format, and a JSON null is nothing said
select mrprompt.create_agent('automatic', response_format => '"auto"', tools => 'null') = t.agent('automatic') as named;
select config from t.versions('automatic');

-- names
select t.why($$select mrprompt.create_agent('')$$);
select t.why($$select mrprompt.create_agent(null)$$);
select t.why($$select mrprompt.create_agent(e' \n')$$);
select t.why($$select mrprompt.create_agent(repeat('n', 257))$$);
select t.why($$select mrprompt.create_agent('a', description => repeat('d', 513))$$);
select t.why($$select mrprompt.create_agent('a', metadata => '[]')$$);
select t.why($$select mrprompt.create_agent('a', metadata => jsonb_build_object('much', repeat('m', 70000)))$$);
-- configurations: all that is wrong with the members is said at once
select t.config_refused('[]');
select t.config_refused(null);
select t.config_refused('{"temperature": 3, "top_p": -0.1, "top_k": 4, "max_tokens": 0, "context": {"last": 5}}');
select t.config_refused('{"temperature": "1", "top_p": [1], "max_tokens": 7.5, "parallel_tool_calls": "yes", "instructions": 5, "provider": {}, "model": ""}');
select t.config_refused('{"max_tokens": 10.0}'), t.config_refused('{"max_tokens": 2147483648}'), t.config_refused('{"max_tokens": 1e3}');
select mrprompt_internal.check_agent_config('{"temperature": 2, "top_p": 1, "max_tokens": 2147483647, "model": null, "instructions": ""}', :'ann');
select mrprompt_internal.check_agent_config('{"temperature": 0, "top_p": 0, "max_tokens": 1}', :'ann');
select t.why($$select mrprompt.create_agent('a', temperature => 'NaN')$$);
select left(line, 150) from t.why($$select mrprompt.create_agent('a', repeat('i', 256001))$$) line;
select mrprompt.create_agent('long', repeat('i', 256000)) is not null as made;
select t.config_refused(json_build_object('model', repeat('m', 257)));
select t.config_refused(json_build_object('model', e'two\nlines'));
select t.config_refused('{"response_format": "json"}');
select t.config_refused('{"response_format": {"type": "xml"}}');
select t.config_refused('{"response_format": {"type": "json_schema"}}');
select t.config_refused('{"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}');
select t.config_refused('{"response_format": [{"type": "text"}]}');
select mrprompt_internal.check_agent_config(json_build_object('response_format', f), :'ann') from json_array_elements('["auto", {"type": "text"}, {"type": "json_object"}]') f;
select t.config_refused('{"reasoning_effort": "much"}');
select mrprompt_internal.check_agent_config(json_build_object('reasoning_effort', e), :'ann') from unnest('{none,minimal,low,medium,high,xhigh}'::text[]) e;
select t.config_refused('{"parameters": [1]}');
select t.config_refused('{"parameters": {"model": "x", "messages": [], "seed": 1, "temperature": 1, "max_completion_tokens": 5}}');
select t.config_refused('{"context": "auto", "limits": 5}');
select t.config_refused('{"context": {"truncation": "middle", "last_messages": 0, "max_tokens": 255}}');
select t.config_refused('{"context": {"truncation": "last_messages"}}');
-- what the Assistants API called truncation_strategy
select t.config_refused('{"context": {"type": "last_messages", "last_messages": 5}}');
select line from t.config_refused('{"context": {"truncation_strategy": {"type": "auto"}}}') line limit 1;
select t.config_refused('{"parameters": {"truncation_strategy": {"type": "auto"}}}');
select t.config_refused('{"limits": {"max_steps": 0, "max_calls_per_tool": 1.5, "max_seconds": "60", "max_cost": 0, "tool_wait_seconds": 99999999999, "max_dollars": 1}}');
select t.config_refused('{"parameters": {"a": "\u0000"}}');
select t.config_refused('{"parameters": {"a": 1e999999}}');
select line ~ '^PT400: the configuration cannot be sent: ' as refused from t.config_refused(('{"parameters": ' || repeat('{"a":', 200) || '1' || repeat('}', 201))::json) line limit 1;
select line from t.config_refused(json_build_object('parameters', json_build_object('a', repeat('a', 17000000)))) line where line not like 'hint%';
-- tools
select t.config_refused('{"tools": {}}');
select t.config_refused((select json_build_object('tools', json_agg('get_achievements'::text)) from generate_series(1, 129)));
select t.config_refused('{"tools": [5]}');
select t.config_refused('{"tools": ["get_achievements", "get_archievements"]}');
select t.config_refused('{"tools": ["get_secrets"]}') as one_that_is_out_of_service;
select t.config_refused('{"tools": [null]}');
select t.config_refused('{"tools": [{"type": "code_interpreter"}]}');
select line from t.config_refused('{"tools": [{"type": "function", "function": {"name": "f"}}, {"type": "file_search"}]}') line where line not like 'detail%';
select line from t.config_refused('{"tools": ["code_interpreter"]}') line where line not like 'detail%';
select t.config_refused('{"tools": [{}]}');
select t.config_refused('{"tools": [{"type": "function"}]}');
select t.config_refused('{"tools": [{"type": "function", "function": {"description": "x"}}]}');
select line from t.config_refused('{"tools": [{"type": "function", "function": {"name": "get weather"}}]}') line limit 1;
select line from t.config_refused('{"tools": [{"type": "function", "function": {"name": "f", "description": 5}}]}') line limit 1;
select line from t.config_refused('{"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}') line limit 1;
select line from t.config_refused('{"tools": [{"type": "function", "function": {"name": "f", "strict": "yes"}}]}') line limit 1;
select line from t.config_refused('{"tools": ["get_achievements", {"type": "function", "function": {"name": "get_achievements"}}]}') line limit 1;
select line from t.config_refused('{"tools": [{"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "f"}}]}') line limit 1;
select t.config_refused('{"tool_choice": "maybe"}');
select t.config_refused('{"tool_choice": "required"}');
select t.config_refused('{"tools": ["get_achievements"], "tool_choice": {"type": "function", "function": {"name": "f"}}}');
select t.config_refused('{"tool_choice": {"type": "function", "function": {"name": "f"}}}');
select t.config_refused('{"tools": ["get_achievements"], "tool_choice": {"type": "function", "name": "get_achievements"}}');
select mrprompt_internal.check_agent_config(json_build_object('tools', '["get_achievements"]'::json, 'tool_choice', c), :'ann')
from json_array_elements('["none", "auto", "required", {"type": "function", "function": {"name": "get_achievements"}}]') c;
-- provider and key: of those that the agent's user may use
select mrprompt.add_key('openai', 'sk-test-ann-0000001', name => 'anns') is not null as added;
select mrprompt.add_key('fake', 'sk-test-all-0000001', name => 'for all', shared => true) is not null as added;
select mrprompt.add_key('fake', 'sk-test-none-000001', name => 'for nobody', shared => true) is not null as added;
select mrprompt.grant_key(t.key('for all')) = t.key('for all') as granted;
select line from t.config_refused('{"provider": "nowhere"}') line where line not like 'detail%';
select t.config_refused('{"key_id": "mine"}');
select t.why($$select mrprompt.create_agent('a', key_id => '00000000-0000-7000-8000-000000000000')$$);
select t.why($$select mrprompt.create_agent('a', key_id => t.key('for nobody'))$$);
select t.why($$select mrprompt.create_agent('a', provider => 'fake', key_id => t.key('anns'))$$);
select mrprompt.create_agent('keyed', key_id => t.key('anns')) is not null as made, mrprompt.create_agent('of all', key_id => t.key('for all')) is not null as made;
select count(*) = 6 as nothing_else_was_made from mrprompt.agents;

-- changes: what a run depends on makes a version, the rest does not
select mrprompt.update_agent(t.agent('tutor'), temperature => 0.9);
select mrprompt.update_agent(t.agent('tutor'), name => 'teacher', description => 'Teaches all', metadata => '{"team": "b"}');
select name, description, metadata, version, updated_at > created_at as later, temperature from mrprompt.get_agent(t.agent('teacher'));
select name, temperature, version, metadata from mrprompt.get_agent(t.agent('teacher'), 1);
select name, temperature, version from mrprompt.get_agent(t.agent('teacher'), 2);
select t.why($$select mrprompt.get_agent(t.agent('teacher'), 3)$$);
-- said again, it is the same version, and no change
select updated_at as was from mrprompt.agents where name = 'teacher' \gset
select mrprompt.update_agent(t.agent('teacher'), 'teacher', temperature => 0.9, model => 'fake-1', tools =>
    '["get_achievements", {"type":"function", "function": {"name": "get_weather", "strict": true, "parameters": {"type":"object", "b": null}}}]');
select mrprompt.update_agent(t.agent('teacher'));
select updated_at = :'was' as unchanged from mrprompt.agents where name = 'teacher';
-- clear
select mrprompt.update_agent(t.agent('teacher'), clear => '{tools,tool_choice,context,context}', limits => '{"max_steps": 3}');
select mrprompt.update_agent(t.agent('teacher'), clear => '{description,metadata}');
select mrprompt.update_agent(t.agent('teacher'), response_format => '"auto"', instructions => 'Shorter.');
select description, metadata, tools is null as no_tools from mrprompt.get_agent(t.agent('teacher'));
select version, config - 'parameters' - 'limits' as config from (select version, config::jsonb as config from t.versions('teacher')) v;
select t.why($$select mrprompt.update_agent(t.agent('teacher'), clear => '{name,tool,version}')$$);
select t.why($$select mrprompt.update_agent(t.agent('teacher'), clear => array[null, 'tools'])$$);
select t.why($$select mrprompt.update_agent(t.agent('teacher'), temperature => 1, description => 'x', clear => '{temperature,description,tools}')$$);
-- a change is checked together with what stays
select line from t.why($$select mrprompt.update_agent(t.agent('keyed'), provider => 'fake')$$) line limit 1;
select t.why($$select mrprompt.update_agent(t.agent('teacher'), tool_choice => '"required"')$$);
select t.why($$select mrprompt.update_agent(t.agent('teacher'), name => '', temperature => 1)$$);
select t.why($$select mrprompt.update_agent(t.agent('teacher'), temperature => 5)$$);
select version from mrprompt.agents where name = 'teacher';
-- what cannot run any more can be renamed, and mended
select mrprompt.revoke_key(t.key('anns')) = t.key('anns') as revoked;
select mrprompt.update_agent(t.agent('keyed'), description => 'its key is gone');
select line from t.why($$select mrprompt.update_agent(t.agent('keyed'), temperature => 1)$$) line limit 1;
select mrprompt.update_agent(t.agent('keyed'), temperature => 1, clear => '{key_id}');
-- somebody else was faster
select mrprompt.update_agent(t.agent('teacher'), temperature => 0.1, expected_version => 4);
select t.why($$select mrprompt.update_agent(t.agent('teacher'), temperature => 0.2, expected_version => 4)$$);
-- lists
select name, provider, model, shared, version, metadata, archived_at from mrprompt.list_agents();
select name from mrprompt.list_agents("limit" => 2, "order" => 'asc');
select name from mrprompt.list_agents(2, 'asc', after => t.agent('teacher'));
select name from mrprompt.list_agents(2, 'asc', before => t.agent('of all'));
select name from mrprompt.list_agents(2, after => t.agent('keyed'));
select name from mrprompt.list_agents(2, before => t.agent('plain'));
select name from mrprompt.list_agents(after => t.agent('of all'), before => t.agent('teacher'));
select name from mrprompt.list_agents(search => 'TEACH'), mrprompt.list_agents(search => 'key is gone') k (id, other);
select name from mrprompt.list_agents(search => 'nothing like it');
-- by name, exactly that; and in a search who is named in full comes first, on every page once
select mrprompt.create_agent(n, description => 'finds a way') is not null as made from unnest('{old pilot,Pilot,copilot,pilot,new pilot}'::text[]) n;
select name, description from mrprompt.list_agents(name => 'pilot');
select name from mrprompt.list_agents(name => 'pil');
select name from mrprompt.list_agents(search => 'pilot');
select name from mrprompt.list_agents(search => 'pilot', "order" => 'asc');
select string_agg(name, ', ') from mrprompt.list_agents(2, search => 'pilot', after => t.agent('pilot'));
select string_agg(name, ', ') from mrprompt.list_agents(2, search => 'pilot', after => t.agent('Pilot'));
select string_agg(name, ', ') from mrprompt.list_agents(2, search => 'pilot', before => t.agent('new pilot'));
select string_agg(name, ', ') from mrprompt.list_agents(2, search => 'pilot', before => t.agent('copilot'));
select string_agg(name, ', ') from mrprompt.list_agents(2, 'asc', search => 'pilot', after => t.agent('Pilot'));
select string_agg(name, ', ') from mrprompt.list_agents(2, 'asc', search => 'pilot', before => t.agent('copilot'));
select string_agg(name, ', ') from mrprompt.list_agents(search => 'pilot', after => t.agent('Pilot'), before => t.agent('old pilot'));
select t.why('select mrprompt.list_agents(101)');
select t.why('select mrprompt.list_agents(0)');
select t.why('select mrprompt.list_agents(null)');
select t.why($$select mrprompt.list_agents(5, 'newest')$$);
select version from mrprompt.list_agent_versions(t.agent('teacher'), 2);
select version from mrprompt.list_agent_versions(t.agent('teacher'), 2, after => 4);
select version from mrprompt.list_agent_versions(t.agent('teacher'), 2, before => 2);
select version from mrprompt.list_agent_versions(t.agent('teacher'), 2, 'asc', before => 5);
select t.why($$select mrprompt.list_agent_versions(t.agent('teacher'), 0)$$);
-- archived: not listed, not changed, not gone
select mrprompt.delete_agent(t.agent('long')) = t.agent('long') as archived;
select archived_at as was from mrprompt.agents where name = 'long' \gset
select mrprompt.delete_agent(t.agent('long')) = t.agent('long') as again;
select archived_at = :'was' as since_then from mrprompt.get_agent(t.agent('long'));
select count(*) filter (where name = 'long') as listed, count(*) from mrprompt.list_agents();
select name from mrprompt.list_agents(archived => true);
select count(*) from mrprompt.list_agents(archived => null);
select line from t.why($$select mrprompt.update_agent(t.agent('long'), name => 'longer')$$) line where line not like 'detail%';
select mrprompt.restore_agent(t.agent('long')) = t.agent('long') as restored;
select mrprompt.update_agent(t.agent('long'), clear => '{instructions}');

-- shared agents: made and changed by admins, with shared keys; an admin need not be a user
set session authorization agent_admin;
select mrprompt.create_agent('guide', 'You guide.', 'Guides all', 'fake', 'fake-1', temperature => 0.5, shared => true) = t.agent('guide') as made;
select mrprompt.create_agent('keyed guide', key_id => t.key('for nobody'), provider => 'fake', shared => true) is not null as made;
select user_id is null as shared, version from mrprompt.get_agent(t.agent('guide'));
-- of a key that cannot be its one it is said what is wrong with it
select t.why($$select mrprompt.create_agent('a', key_id => t.key('for nobody'), provider => 'openai', shared => true)$$);
select t.why($$select mrprompt.create_agent('a', key_id => t.key('anns'), shared => true)$$);
select t.why($$select mrprompt.create_agent('a', key_id => t.key('anns'), shared => true)$$);
select line from t.why($$select mrprompt.create_agent('a', provider => 'openai', key_id => t.key('for all'), shared => true)$$) line limit 1;
select t.why($$select mrprompt.create_agent('a', shared => true, user_id => '$$ || :'ann' || $$')$$);
select line from t.why($$select mrprompt.create_agent('a')$$) line where line not like 'detail%' and line not like 'hint%';
select mrprompt.update_agent(t.agent('guide'), instructions => 'You guide well.');
-- ann, in a session of her own, has hers and the shared ones; bob has the shared ones
set session authorization agent_ann;
select name, shared from mrprompt.list_agents("order" => 'asc');
select mrprompt.update_agent(t.agent('plain'), model => 'fake-2', provider => 'fake');
set session authorization agent_bob;
select name, shared from mrprompt.list_agents("order" => 'asc');
select instructions from mrprompt.get_agent(t.agent('guide'));
select version from mrprompt.list_agent_versions(t.agent('guide'));
select count(*) from mrprompt.agents where user_id is not null;
select count(*) from mrprompt.agent_versions where agent_id = t.agent('teacher');
select t.why($$select mrprompt.get_agent(t.agent('teacher'))$$);
select t.why($$select mrprompt.get_agent(null)$$);
select t.why($$select mrprompt.list_agent_versions(t.agent('teacher'))$$);
select t.why($$select mrprompt.update_agent(t.agent('teacher'), name => 'mine')$$);
select line from t.why($$select mrprompt.delete_agent(t.agent('teacher'))$$) line limit 1;
select line from t.why($$select mrprompt.restore_agent(t.agent('teacher'))$$) line limit 1;
select line from t.why($$select mrprompt.clone_agent(t.agent('teacher'))$$) line limit 1;
select t.why($$select mrprompt.update_agent(t.agent('guide'), name => 'mine')$$);
select line from t.why($$select mrprompt.delete_agent(t.agent('guide'))$$) line limit 1;
select t.why($$select mrprompt.create_agent('a', shared => true)$$);
select line from t.why($$select mrprompt.create_agent('a', user_id => '$$ || :'ann' || $$')$$) line limit 1;
select line from t.why($$select mrprompt.list_agents(user_id => '$$ || :'ann' || $$')$$) line limit 1;
select state from t.try($$insert into mrprompt.agents (name) values ('a')$$);
select state from t.try($$update mrprompt.agents set name = 'a'$$);
select state from t.try($$delete from mrprompt.agent_versions$$);
select state from t.try($$select mrprompt_internal.check_agent_config('{}', null)$$);
-- without a grant of its key he is told who gives it; with what was written for the Assistants API, how it is written here
select t.why(format('select mrprompt.send_message(%L, ''Hi'')', t.agent('keyed guide')));
create function pg_temp.refused(more text) returns setof text language sql as $$
    select t.why(format('select mrprompt.create_thread_and_run(%L, ''[{"role": "user", "content": "Hi"}]'', %s)', t.agent('guide'), more)) $$;
select pg_temp.refused($$truncation => '{"type": "last_messages", "last_messages": 3}'$$);
select line from pg_temp.refused($$truncation => 'last_messages'$$) line limit 1;
select pg_temp.refused($$tools => '[{"type": "code_interpreter"}]'$$);
select pg_temp.refused($$metadata => '{"tags": ["a"], "structure": {"a": 1}}'$$);
select t.why(format('select mrprompt.create_run(t.id, %L, when_busy => ''wait'') from mrprompt.create_thread() t (id)', t.agent('guide')));
-- an id that is none is PostgreSQL's to refuse
select t.why($$select mrprompt.send_message('guide', 'Hi')$$);
-- he makes a shared one his own, if he may use its key
select mrprompt.clone_agent(t.agent('guide'), 'my guide') = t.agent('my guide') as cloned;
select user_id = :'bob' as bobs, name, description, instructions, model, temperature, version from mrprompt.get_agent(t.agent('my guide'));
select line from t.why($$select mrprompt.clone_agent(t.agent('keyed guide'))$$) line limit 1;
select line from t.why($$select mrprompt.clone_agent(t.agent('guide'), '')$$) line limit 1;
select line from t.why($$select mrprompt.clone_agent(t.agent('guide'), shared => true)$$) line limit 1;
select mrprompt.update_agent(t.agent('my guide'), temperature => 0.6), (select temperature from mrprompt.get_agent(t.agent('guide'))) as of_the_other;
-- an admin makes bob's one for all; and acts for users
set session authorization agent_admin;
select mrprompt.clone_agent(t.agent('my guide'), 'guide for all', shared => true) = t.agent('guide for all') as cloned;
select name, shared, version from mrprompt.list_agents(search => 'guide', "order" => 'asc');
select name from mrprompt.list_agents(user_id => :'ann', "order" => 'asc');
select mrprompt.create_agent('made for ann', user_id => :'ann') = t.agent('made for ann') as made;
select mrprompt.update_agent(t.agent('made for ann'), description => 'by an admin');
select mrprompt.delete_agent(t.agent('guide for all')) = t.agent('guide for all') as archived;
-- an analyst sees nothing of them
set session authorization agent_analyst;
select state from t.try('select instructions from mrprompt.agents');
select state from t.try('select name from mrprompt.agents');
select state from t.try('select config from mrprompt.agent_versions');
select state from t.try('select * from mrprompt.list_agents()');
select state from t.try($$select mrprompt.create_agent('a')$$);
-- but who changed shared ones, without what they are told to do
select role, action, changed -> 'name' as name, changed -> 'instructions' as instructions, changed -> 'temperature' as temperature, changed -> 'version' as version, changed ? 'archived_at' as archived
from mrprompt.audit_log where object_type = 'agent' and action <> 'truncate' order by id;
reset session authorization;
select count(*) from mrprompt.audit_log where object_type = 'agent' and object_id <> all (array(select id::text from mrprompt.agents where user_id is null));

-- Vanchin: a key per agent, an agent per key
do $$ begin
    perform mrprompt.add_key('vanchin', format('WW8GMBSTec_uPhT9g%s', n), jsonb_build_object('endpoint_id', format('ep-%s', n), 'agent_name', format('agent %s', n),
        'description', format('Does %s', n))) from generate_series(1, 14) n;
end $$;
set session authorization agent_bob;
select * from mrprompt.create_agents_from_keys('vanchin');
set session authorization agent_ann;
select count(agent_id), count(distinct agent_id), count(distinct key_id), min(name), bool_and(created) from mrprompt.create_agents_from_keys('vanchin');
select name, description, provider, model, shared, version from mrprompt.list_agents(search => 'agent 14');
select count(*) filter (where created) as new, count(*) from mrprompt.create_agents_from_keys('vanchin');
select count(*) from mrprompt.list_agents(100, search => 'agent ');
-- the model stays the key's
select a.model, a.provider, k.metadata ->> 'endpoint_id' as endpoint, v.config = json_build_object('provider', 'vanchin', 'key_id', k.id)::jsonb as whole
from mrprompt.agents a join mrprompt.api_keys k on k.id = a.key_id
join lateral (select config::jsonb from mrprompt.agent_versions v where v.agent_id = a.id) v on true where a.name = 'agent 7';
-- a new key brings one more; a revoked one none; an archived agent is made anew
select mrprompt.add_key('vanchin', 'WW8GMBSTec_uPhT9g15', '{"endpoint_id": "ep-15", "instructions": "Be brief.", "agent_name": " "}', name => 'fifteen') is not null as added;
select mrprompt.revoke_key((select id from mrprompt.api_keys where metadata ->> 'endpoint_id' = 'ep-1')) is not null as revoked;
select mrprompt.delete_agent(t.agent('agent 2')) is not null as archived;
select name, created from mrprompt.create_agents_from_keys('vanchin') order by created desc, name limit 3;
select instructions from mrprompt.get_agent(t.agent('fifteen'));
select count(*) from mrprompt.agents where name = 'agent 2';
-- names: of the metadata, else of the key, else of the endpoint, else of the provider
select mrprompt.add_key('groq', 'gsk-test-ann-000001', '{"endpoint_id": "ep-16"}') is not null as added, mrprompt.add_key('groq', 'gsk-test-ann-000002') is not null as added;
select name, created from mrprompt.create_agents_from_keys('groq', shared => false);
select t.why($$select * from mrprompt.create_agents_from_keys('nowhere')$$) limit 1;
select line from t.why($$select * from mrprompt.create_agents_from_keys(null)$$) line limit 1;
select line from t.why($$select * from mrprompt.create_agents_from_keys('groq', shared => true)$$) line limit 1;
select line from t.why($$select * from mrprompt.create_agents_from_keys('groq', user_id => '$$ || :'bob' || $$')$$) line limit 1;
-- shared keys give shared agents, to admins
set session authorization agent_admin;
select mrprompt.add_key('groq', 'gsk-test-all-000001', '{"endpoint_id": "ep-17", "agent_name": "all of us"}', shared => true) is not null as added;
select name, created from mrprompt.create_agents_from_keys('groq');
select name, created from mrprompt.create_agents_from_keys('groq', shared => true);
select a.user_id is null as shared, k.user_id is null as shared_key from mrprompt.agents a join mrprompt.api_keys k on k.id = a.key_id where a.name = 'all of us';
select name, created from mrprompt.create_agents_from_keys('groq', user_id => :'ann');
select line from t.why($$select * from mrprompt.create_agents_from_keys('groq', true, '$$ || :'ann' || $$')$$) line limit 1;
select line from t.why($$select * from mrprompt.create_agents_from_keys('groq', false)$$) line limit 1;
reset session authorization;

-- assistants, as the Assistants API listed them
\set exported '{"object": "list", "first_id": "asst_a", "has_more": false, "data": [{"id": "asst_a", "object": "assistant", "created_at": 1698984975, "name": "Math Tutor", "description": null, "model": "gpt-4o", "instructions": "You are a personal math tutor.", "tools": [{"type": "code_interpreter"}, {"type": "function", "function": {"name": "get_grade",  "description": "A grade", "parameters": {"type": "object", "properties": {"z": {"type": "string"}, "a": {"type": "null"}}}, "strict": false}}, {"type": "file_search", "file_search": {"max_num_results": 5}}], "tool_resources": {"code_interpreter": {"file_ids": []}, "file_search": {"vector_store_ids": ["vs_1"]}}, "metadata": {"team": "a"}, "top_p": 1.0, "temperature": 1.0, "reasoning_effort": null, "response_format": "auto"}, {"id": "asst_b", "object": "assistant", "name": null, "model": "o3-mini", "instructions": null, "tools": [], "metadata": {}, "temperature": 0.2, "top_p": 0.9, "reasoning_effort": "high", "response_format": {"type": "json_object"}}]}'
set session authorization agent_bob;
select assistant_id, name, created, notes from mrprompt.import_assistants(:'exported');
select name, provider, description, instructions, metadata from mrprompt.agents where metadata ? 'assistant_id' order by id;
select v.config from mrprompt.agents a join mrprompt.agent_versions v on v.agent_id = a.id where a.metadata ? 'assistant_id' order by a.id;
-- again, nothing is doubled; what an assistant cannot say stays as it was set here
select mrprompt.update_agent(t.agent('Math Tutor'), provider => 'azure', limits => '{"max_steps": 5}', description => 'mine', temperature => 0.3);
select name, created from mrprompt.import_assistants(replace(:'exported', 'a personal', 'the')::json);
select mrprompt.import_assistants(replace(:'exported', 'a personal', 'the')::json -> 'data') is not null as imported;
select version, provider, limits, description, temperature, instructions from mrprompt.get_agent(t.agent('Math Tutor'));
select count(*) from mrprompt.agents where metadata ? 'assistant_id';
-- a clone is no import, an archived agent is made anew, one by itself will do, without an id it is told
select mrprompt.clone_agent(t.agent('Math Tutor'), 'my tutor') = t.agent('my tutor') as cloned;
select metadata from mrprompt.get_agent(t.agent('my tutor'));
select mrprompt.delete_agent(t.agent('asst_b')) is not null as archived;
select name, created from mrprompt.import_assistants(:'exported');
select created, notes from mrprompt.import_assistants('{"name": "by hand", "model": "gpt-4o"}', provider => 'fake');
select provider from mrprompt.agents where name = 'by hand';
select name = repeat('n', 256) as shortened, notes from mrprompt.import_assistants(json_build_object('id', 'asst_c', 'model', 'm', 'name', repeat('n', 257)), key_id => t.key('for all'));
select provider, key_id = t.key('for all') as key_named from mrprompt.agents where metadata ->> 'assistant_id' = 'asst_c';
-- each owner has his own
set session authorization agent_admin;
select name, created from mrprompt.import_assistants(:'exported', shared => true);
select count(*), count(user_id) as of_users from mrprompt.agents where metadata ->> 'assistant_id' = 'asst_a';
-- what is wrong is said with its place, and nothing is imported
set session authorization agent_ann;
create function pg_temp.wrong(assistants json) returns setof text language sql as $$
    select t.why(format('select * from mrprompt.import_assistants(%L)', assistants)) $$;
select pg_temp.wrong(null);
select pg_temp.wrong('"asst_a"');
select pg_temp.wrong('[{"model": "m", "name": "one"}, 5]');
select pg_temp.wrong('[{"model": "m", "name": "one"}, {"object": "thread", "model": "m"}]');
select pg_temp.wrong('[{"model": "m", "name": "one"}, {"id": "asst_a"}]');
select pg_temp.wrong('[{"model": "m", "name": "one"}, {"model": "m", "temperature": "hot"}]');
select pg_temp.wrong('[{"model": "m", "name": "one"}, {"model": "m", "tools": "all"}]') limit 1;
select pg_temp.wrong('[{"model": "m", "name": "one"}, {"model": "m", "tools": [{"type": "function"}, 5]}]') limit 1;
select pg_temp.wrong('{"object": "list", "data": [{"model": "m", "name": "one"}], "last_id": "asst_a", "has_more": true}');
select pg_temp.wrong('[{"model": "m", "metadata": [1]}]') limit 1;
select pg_temp.wrong('[{"model": "m", "metadata": {"a": "\u0000"}}]') limit 1;
select pg_temp.wrong((select json_agg('{"model": "m"}'::json) from generate_series(1, 1001)));
select line from t.why($$select * from mrprompt.import_assistants('{"model": "m"}', 'nowhere')$$) line limit 1;
select line from t.why($$select * from mrprompt.import_assistants('{"model": "m"}', key_id => t.key('for nobody'))$$) line limit 1;
select line from t.why($$select * from mrprompt.import_assistants('{"model": "m"}', shared => true)$$) line limit 1;
select count(*) from mrprompt.agents where name in ('one', 'assistant');
select * from mrprompt.import_assistants('[]');
-- a function tool stays one that the app carries out, whatever is registered
select notes from mrprompt.import_assistants('{"id": "asst_f", "model": "m", "name": "caller", "tools": [
    {"type": "function", "function": {"name": "get_achievements"}}, {"type": "function", "function": {"name": "show_map"}}]}');
reset session authorization;
\set ECHO none
drop function t.agent, t.key, t.config_refused, t.versions;
do $$ begin perform t.reset(); end $$;
set client_min_messages = warning;
drop owned by agent_admin, agent_analyst, agent_ann, agent_bob;
drop role agent_admin, agent_analyst, agent_ann, agent_bob;
