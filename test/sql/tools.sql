-- Tools that are SQL functions: registered by an admin, described to models, and the statements that call them.
\getenv dir PG_ABS_SRCDIR
\set helpers :dir '/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
set client_min_messages = notice;
set search_path = public;
create schema shop;
grant usage on schema shop to public;
create role tools_admin; grant mrprompt_admin, mrprompt_user to tools_admin; grant usage on schema t to tools_admin;
create role tools_user; grant mrprompt_user to tools_user; grant usage on schema t to tools_user;

\echo the example of the manual
create table shop.achievements (user_id uuid, title text, earned date);
create function shop.get_user_achievements(since date default null, max_rows integer default 20) returns table (title text, earned date)
    language sql stable as $$
    select a.title, a.earned from shop.achievements a
    where a.user_id = mrprompt.current_user_id() and a.earned >= coalesce(since, '-infinity') order by a.earned desc limit max_rows $$;
comment on function shop.get_user_achievements is $$What the user has achieved, newest first.
@param since only what was earned on this day or later
@param max_rows how many at most$$;
set role tools_admin;
select jsonb_pretty(mrprompt.register_tool('get_user_achievements', 'shop.get_user_achievements')::jsonb);
select jsonb_pretty(mrprompt.register_tool('get_user_achievements', 'shop.get_user_achievements(date, integer)', strict => true)::jsonb);
reset role;
select name, function, description, writes, needs_approval, strict, timeout, max_output, search_path, enabled from mrprompt.tools;
\echo it is audited
select action, object_type, object_id, changed - 'parameters' as changed from mrprompt.audit_log where object_type = 'tool' order by id;

\echo every type has a schema
create type shop.mood as enum ('good', 'bad "so so"');
create domain shop.level as integer check (value between 1 and 9);
comment on domain shop.level is 'from 1 to 9';
create type shop.place as (x integer, y numeric, tags text[]);
comment on column shop.place.x is 'eastward';
create table shop.branches (id bigint generated always as identity, name text not null, at shop.place, mood shop.mood not null);
select t::regtype as type, mrprompt_internal.type_schema(t::regtype) as schema from unnest(array[
    'smallint', 'integer', 'bigint', 'numeric', 'real', 'double precision', 'boolean', 'text', 'varchar', 'char', 'name', 'uuid',
    'timestamptz', 'timestamp', 'date', 'time', 'timetz', 'interval', 'json', 'jsonb', 'bytea', 'inet', 'int4range', 'integer[]', 'jsonb[]',
    'shop.mood', 'shop.level', 'shop.level[]', 'shop.place', 'shop.place[]', 'shop.branches']) t;
\echo strict schemas require everything; what has a default may be null
create function shop.strict_args(a integer, m shop.mood default 'good', p shop.place default null, inout io text default 'x', out o integer)
    language sql as $$ select io, 1 $$;
select jsonb_pretty(mrprompt_internal.function_schema('shop.strict_args'::regproc, true)::jsonb);
select mrprompt_internal.function_schema('shop.strict_args'::regproc)::jsonb -> 'required' as required_otherwise;
\echo PostgreSQL takes no defaults by name where an argument is variadic
create function shop.tagged(a integer default 1, variadic tags text[] default '{}') returns text language sql as $$ select a || array_to_string(tags, ',') $$;
select mrprompt_internal.function_schema('shop.tagged'::regproc);

\echo what cannot be registered
create function shop.twice(a integer) returns integer language sql as $$ select 2 * a $$;
create function shop.twice(a text) returns text language sql as $$ select a || a $$;
create function shop.unnamed(integer) returns integer language sql as $$ select 1 $$;
create function shop.silent() returns integer language sql as $$ select 1 $$;
create function shop.some_record() returns record language sql as $$ select 1, 2 $$;
create function shop.any_type(a anyelement) returns integer language sql as $$ select 1 $$;
create function shop.on_change() returns trigger language plpgsql as $$ begin return null; end $$;
create function shop.takes_json(j jsonb) returns integer language sql as $$ select 1 $$;
create procedure shop.do_it() language sql as $$ select 1 $$;
create aggregate shop.total(integer) (sfunc = int4pl, stype = integer);
set role tools_admin;
select t.why($$select mrprompt.register_tool('a', 'shop.twice', 'x')$$);
select t.why($$select mrprompt.register_tool('a', 'shop.absent', 'x')$$);
select t.why($$select mrprompt.register_tool('a', 'shop.twice(', 'x')$$);
select t.why($$select mrprompt.register_tool('a', 'public.nowhere(integer)', 'x')$$);
select t.why($$select mrprompt.register_tool('a', 'shop.twice(no_type)', 'x')$$);
select t.why($$select mrprompt.register_tool('a', null, 'x')$$);
select t.why($$select mrprompt.register_tool('no spaces', 'shop.silent', 'x')$$);
select t.why($$select mrprompt.register_tool('a', 'shop.silent')$$);
select t.why(format('select mrprompt.register_tool(%L, %L, %L)', 'a', f, 'x')) from unnest(array['shop.unnamed', 'shop.some_record', 'shop.any_type', 'shop.on_change',
    'shop.do_it', 'shop.total', 'now', 'mrprompt.cancel_request', 'mrprompt_internal.acting_user']) f;
select t.why(format('select mrprompt.register_tool(%L, %L, %L, allow_any => true)', 'a', f, 'x')) from unnest(array['mrprompt_internal.acting_user', 'shop.total']) f;
select t.why($$select mrprompt.register_tool('a', 'shop.takes_json', 'x', strict => true)$$);
select t.why($$select mrprompt.register_tool('a', 'shop.silent', 'x', timeout => '2 hours')$$);
select t.why($$select mrprompt.register_tool('a', 'shop.silent', 'x', max_output => 1)$$);
\echo on purpose
select mrprompt.register_tool('the_time', 'now', 'The time.', allow_any => true);
\echo the search_path of who registers finds it, and is that of its calls
set search_path = shop, public;
select mrprompt.register_tool('twice', 'twice(integer)', 'Doubles a number.');
reset search_path;
select function, search_path from mrprompt.tools where name = 'twice';
\echo a function with the rights of its owner is said to be one
reset role;
create function shop.definer() returns integer language sql security definer as $$ select 1 $$;
select mrprompt.register_tool('definer', 'shop.definer', 'x');
\echo registered again without what it had, it is said what is gone
select mrprompt.register_tool('definer', 'shop.silent', 'x', writes => true, needs_approval => true) is not null as registered;
select mrprompt.register_tool('definer', 'shop.silent', 'x', writes => true, needs_approval => true) is not null as nothing_is_gone;
select mrprompt.register_tool('definer', 'shop.silent', 'x', needs_approval => true) is not null as registered;
select mrprompt.register_tool('definer', 'shop.silent', 'x', writes => true) is not null as registered;
select mrprompt.register_tool('definer', 'shop.silent', 'x', writes => true, needs_approval => true) is not null as registered;
select mrprompt.register_tool('definer', 'shop.silent', 'x') is not null as registered;
\echo who is no admin registers nothing
set role tools_user;
select t.why($$select mrprompt.register_tool('a', 'shop.silent', 'x')$$);
select t.why($$select mrprompt.unregister_tool('the_time')$$);
select t.why($$select mrprompt.enable_tool('the_time', false)$$);
\echo and sees what he may execute
reset role;
revoke execute on function shop.twice(integer) from public;
set role tools_user;
select name, function from mrprompt.list_tools();
reset role;
\echo unregistered
select mrprompt.unregister_tool('definer'), mrprompt.unregister_tool('definer') as again;

\echo what the tools of an agent become
select jsonb_pretty(mrprompt_internal.tool_definitions('["twice", "absent", {"type": "function", "function": {"name": "open_door", "parameters": {}}}, 3]')::jsonb);
select mrprompt.enable_tool('the_time', false);
select mrprompt_internal.tool_definitions('["absent", "the_time"]') is null as none, mrprompt_internal.tool_definitions('[]') is null as empty,
    mrprompt_internal.tool_definitions(null) is null as nothing, mrprompt_internal.tool_definitions('"twice"') is null as no_array;
update mrprompt.tools set needs_approval = true where name = 'twice';
select name, k.* from unnest(array['twice', 'open_door', 'the_time', 'definer', 'get_user_achievements']) name,
    mrprompt_internal.call_kind('["twice", "the_time", {"type": "function", "function": {"name": "open_door"}}]', name) k;
select * from mrprompt_internal.call_kind(null, 'twice');

\echo the statements of calls
create function shop.statement(function text, arguments json, strict boolean default false) returns setof text language plpgsql as $$
declare
    tool mrprompt.tools;
    said text; more text;
begin
    tool.name = 'it';
    tool.function = function::regprocedure;
    tool."strict" = statement."strict";
    return query select s.statement from mrprompt_internal.tool_statement(tool, arguments) s;
exception when others then
    get stacked diagnostics said = message_text, more = pg_exception_detail;
    return next format('%s: %s (%s)', sqlstate, said, more);
end $$;
create function shop."Odd ""Name"(";drop table x" integer, "select" character) returns text language sql as $$ select 'x' $$;
create function shop.nothing(a integer) returns void language sql as $$ select $$;
select shop.statement(c.function, c.arguments, c.strict) from (values
    (1, 'shop.get_user_achievements(date,integer)', '{}'::json, false),
    (2, 'shop.get_user_achievements(date,integer)', '{"since": "2026-01-01"}', false),
    (3, 'shop.get_user_achievements(date,integer)', '{"since": null, "max_rows": 3}', false),
    (4, 'shop.get_user_achievements(date,integer)', '{"since": null, "max_rows": 3}', true),
    (5, 'shop."Odd ""Name"(integer, character)', '{";drop table x": 1, "select": "y"}', false),
    (6, 'shop.tagged(integer, text[])', '{"a": 1, "tags": ["x", "y"]}', false),
    (7, 'shop.twice(integer)', '{"a": 4}', false),
    (8, 'shop.nothing(integer)', '{"a": 4}', false),
    (9, 'shop.strict_args(integer, shop.mood, shop.place, text)', '{"a": 1}', false),
    (10, 'shop.twice(integer)', '{}', false),
    (11, 'shop.twice(integer)', '{"a": 1, "b; --": 2}', false),
    (12, 'shop.twice(integer)', '[1]', false),
    (13, 'shop.twice(integer)', 'null', false)) c (place, function, arguments, strict) order by place;
\echo a function that is gone
select t.why($$select mrprompt_internal.tool_statement(row('it', 'shop.gone(integer)', 'postgres', '', '{}', false, false, false, '1s', 100, '', true, null, null)::mrprompt.tools, '{}')$$);
create function public.theirs() returns int language sql as 'select 1';
select t.why($$select mrprompt_internal.tool_statement(row('it', 'public.theirs()', 'somebody', '', '{}', false, false, false, '1s', 100, '', true, null, null)::mrprompt.tools, '{}')$$);
drop function public.theirs();
select t.why($$select mrprompt_internal.tool_statement(row('it', 'gone.f(gone.type)', 'postgres', '', '{}', false, false, false, '1s', 100, '', true, null, null)::mrprompt.tools, '{}')$$);

\echo whose turn it is: of the users with the fewest calls under way, the oldest
create function shop.queue(who text, status text default 'queued') returns void language sql as $$
    insert into mrprompt.tool_calls (run_id, user_id, step_id, call_id, place, name, arguments, kind, status, started_at)
    values (gen_random_uuid(), ('00000000-0000-4000-8000-00000000000' || who)::uuid, gen_random_uuid(), 'c', 0, 'twice', who, 'sql', status, clock_timestamp()) $$;
create function shop.next() returns text language sql as $$ select c.arguments from mrprompt.tool_calls c where c.id = (select mrprompt_internal.next_tool_call()) $$;
begin;  -- rolled back before a process could take them
select shop.next() is null as nobody;
select shop.queue('1'), shop.queue('1'), shop.queue('2'), shop.queue('3');
select shop.next();
update mrprompt.tool_calls set status = 'running', started_at = clock_timestamp() where id = (select mrprompt_internal.next_tool_call());
select shop.next();
update mrprompt.tool_calls set status = 'running', started_at = clock_timestamp() where id = (select mrprompt_internal.next_tool_call());
select shop.next();
update mrprompt.tool_calls set status = 'cancelled' where id = (select mrprompt_internal.next_tool_call());
select shop.next() as of_who_has_one_already;
select shop.queue('1', 'running'), shop.queue('1', 'running');
select shop.next() is null as one_user_leaves_a_worker_to_the_others;

\echo calls whose process is gone
select mrprompt_internal.mend_tool_calls(10) as too_early;
update mrprompt.tool_calls set started_at = clock_timestamp() - interval '3 seconds', tries = case arguments when '1' then 1 else 2 end where status = 'running';
insert into mrprompt_internal.tool_processes select id, tries, 1 from mrprompt.tool_calls where status = 'running' order by id limit 1;
insert into mrprompt_internal.tool_processes values (gen_random_uuid(), 1, 1);
-- However long ago they began: what ended their processes is not known.
update mrprompt.tool_calls set started_at = pg_postmaster_start_time() + interval '1 ms' where status = 'running';
update mrprompt.tools set timeout = '1 ms' where name = 'twice';
savepoint before;
select mrprompt_internal.mend_tool_calls(10);
select arguments, status, tries, output from mrprompt.tool_calls order by id;
select count(*) as processes, (select count(*) from mrprompt_internal.run_work) as runs_to_go_on from mrprompt_internal.tool_processes;
rollback to before;
\echo one that was ended for taking too long has said so, and is mended at once
update mrprompt.tool_calls set started_at = clock_timestamp() where status = 'running';
select mrprompt_internal.note_timed_out(call_id, tries, 4711) from mrprompt_internal.tool_processes;
select mrprompt_internal.mend_tool_calls(10);
select arguments, status, tries, output from mrprompt.tool_calls where status = 'failed' order by id;
rollback;

\echo a tool is taken out of service, and put back
select mrprompt.register_tool('adder', 'shop.takes_json(jsonb)', 'Adds.') is not null as registered;
select mrprompt.create_agent('clerk', instructions => 'x', provider => 'fake', model => 'm', tools => '["adder"]', tool_choice => '{"type": "function", "function": {"name": "adder"}}',
    shared => true) as clerk \gset
select mrprompt.enable_tool('adder', false);
select mrprompt_internal.call_kind('["adder"]', 'adder');
select severity, finding, remedy from mrprompt.doctor() where finding like 'Tools that%';
select name from mrprompt.list_tools() where name = 'adder';
\echo its agents can be changed, and run without it
select mrprompt.update_agent(:'clerk', instructions => 'y') is not null as changed;
select t.be('ann');
\echo a superuser is told that no SQL tool will run with his role, an ordinary role nothing
set role tools_user;
select count(*) from mrprompt.send_message(:'clerk', 'hello');
reset role;
select r.run_id as run from mrprompt.send_message(:'clerk', 'hello') r \gset
select p.body -> 'tools' as tools, p.body -> 'tool_choice' as tool_choice from mrprompt.runs r, mrprompt.requests q,
    lateral (select mrprompt_internal.payload_of(q) as body) p where r.id = :'run' and q.id = r.request_id;
select t.be('');
\echo registered again it stays so
select mrprompt.register_tool('adder', 'shop.takes_json(jsonb)', 'Adds more.') is not null as registered;
select description, enabled from mrprompt.tools where name = 'adder';
select mrprompt.enable_tool('adder');
select enabled from mrprompt.tools where name = 'adder';
select p.body #>> '{tools,0,function,name}' as tool, p.body -> 'tool_choice' as tool_choice from mrprompt.runs r, mrprompt.requests q,
    lateral (select mrprompt_internal.payload_of(q) as body) p where r.id = :'run' and q.id = r.request_id;
select t.why($$select mrprompt.enable_tool('subtracter', false)$$);
select t.why($$select mrprompt.enable_tool('adder', null)$$);
\echo one that agents name is unregistered by force only
select t.why($$select mrprompt.unregister_tool('adder')$$);
select mrprompt.create_agent('a' || n, instructions => 'x', provider => 'fake', model => 'm', tools => '["adder"]', shared => true) is not null as made from generate_series(1, 11) n offset 10;
select message, detail ~ '^clerk \([^)]*\), a1 \([^)]*\), .*, a9 \([^)]*\), and 2 more$' as ten_of_them from t.try($$select mrprompt.unregister_tool('adder')$$),
    (select detail from t.why($$select mrprompt.unregister_tool('adder')$$) as detail where detail like 'detail: %') w (detail_),
    lateral (select substr(detail_, 9)) d (detail);
update mrprompt.agents set archived_at = now() where name <> 'clerk';
select t.why($$select mrprompt.unregister_tool('adder')$$);
select mrprompt.unregister_tool('adder', force => true);
select mrprompt.unregister_tool('adder') as again;

\echo what a run has room for is what is left beside the tools as they are sent
select mrprompt.register_tool('wordy', 'shop.takes_json(jsonb)', repeat('word ', 4000)) is not null as registered;
select mrprompt.create_agent('narrow', instructions => 'x', provider => 'fake', model => 'm', tools => '["wordy"]', context => '{"max_tokens": 4000}', shared => true) as narrow \gset
select t.be('ann');
select r.run_id as run from mrprompt.send_message(:'narrow', 'hello') r \gset
select status, incomplete_reason from mrprompt.get_run(:'run');
\echo without them there is
select mrprompt.create_run(mrprompt.create_thread('[{"role": "user", "content": "hello"}]'), :'narrow', tools => '[]') as run \gset
select status, incomplete_reason from mrprompt.get_run(:'run');

\echo outputs have a limit
create function shop.at_outputs(run uuid) returns uuid language plpgsql as $$
declare
    request uuid := (select request_id from mrprompt.runs where id = run);
begin
    delete from mrprompt_internal.queue where request_id = request;
    update mrprompt.requests set status = 'succeeded' where id = request;
    insert into mrprompt.responses (request_id, attempt, tool_calls, finish_reason) values (request, 1,
        '[{"id": "call_1", "function": {"name": "open_door", "arguments": "{}"}}, {"id": "call_2", "function": {"name": "open_door", "arguments": "{}"}}]', 'tool_calls');
    perform mrprompt_internal.advance_runs(array[run]);
    return run;
end $$;
select mrprompt.create_agent('porter', instructions => 'x', provider => 'fake', model => 'm',
    tools => '[{"type": "function", "function": {"name": "open_door"}}]') as porter \gset
select shop.at_outputs(run_id) as run from mrprompt.send_message(:'porter', 'open it') \gset
alter system set mrprompt.max_payload = '1kB';
select pg_reload_conf();
\set ECHO none
select 'do $do$ begin if mrprompt_internal.setting(''mrprompt.max_payload'')::int > 1024 then perform pg_sleep(0.05); end if; end $do$' from generate_series(1, 200) \gexec
\set ECHO all
select t.why(format('select mrprompt.submit_tool_outputs(%L, %L)', :'run', json_build_array(json_build_object('tool_call_id', 'call_1', 'output', repeat('x', 1025)),
    json_build_object('tool_call_id', 'call_2', 'output', json_build_object('a', repeat('é', 600))))));
select t.why(format('select mrprompt.submit_tool_outputs(%L, %L)', :'run', json_build_array(json_build_object('tool_call_id', 'call_1', 'output', repeat('x', 10)),
    json_build_object('tool_call_id', 'call_2', 'output', repeat('é', 513)))));
select status from mrprompt.runs where id = :'run';
alter system reset mrprompt.max_payload;
select pg_reload_conf();
\set ECHO none
select 'do $do$ begin if mrprompt_internal.setting(''mrprompt.max_payload'')::int = 1024 then perform pg_sleep(0.05); end if; end $do$' from generate_series(1, 200) \gexec
\set ECHO all
select mrprompt.submit_tool_outputs(:'run', json_build_array(json_build_object('tool_call_id', 'call_1', 'output', repeat('x', 1025)),
    json_build_object('tool_call_id', 'call_2', 'output', 'open')));
select status, length(output) from mrprompt.tool_calls where run_id = :'run' order by place;
select t.be('');

\echo what an admin must mend is what the doctor says
select finding, remedy from mrprompt.doctor() where finding ~ 'SQL tool|function of tool|out of service';
delete from mrprompt.tool_calls;
insert into mrprompt.tool_calls (run_id, user_id, step_id, call_id, place, name, arguments, kind, status, output, tries, approval)
select gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'c', 0, o.name, '{}', 'sql', o.status, o.output, o.tries, o.approval from (values
    (1, 'twice', 'failed', mrprompt_internal.tool_error('42501', 'this run was made for a user by somebody else: tools have no role to run with', null, 'x'), 1, false),
    (2, 'adder', 'failed', mrprompt_internal.tool_error('42501', 'this run was made for a user by somebody else: tools have no role to run with', null, 'x'), 1, false),
    (3, 'adder', 'failed', mrprompt_internal.tool_error('42501', 'this run was made for a user by somebody else: tools have no role to run with', null, 'x'), 1, false),
    (4, 'twice', 'failed', mrprompt_internal.tool_error('42501', 'role service_role is a superuser or passes by row-level security: no tool runs with it', null, 'x'), 1, false),
    (5, 'twice', 'failed', mrprompt_internal.tool_error('57P01', 'the process that ran it ended', 'tried 2 times'), 2, false),
    (6, 'twice', 'cancelled', '{"error":"the run ended (expired) before the tool answered"}', 0, false),
    (7, 'approved', 'cancelled', '{"error":"the run ended (expired) before the tool answered"}', 0, true),
    (8, 'other', 'failed', mrprompt_internal.tool_error('42501', 'permission denied for table t'), 1, false),
    (9, 'strict_args', 'failed', mrprompt_internal.tool_error('25006', 'cannot execute INSERT in a read-only transaction'), 1, false),
    (10, 'the_time', 'failed', mrprompt_internal.tool_error('25006', 'cannot execute INSERT in a read-only transaction'), 1, false)) o (place, name, status, output, tries, approval);
drop function shop.twice(integer);
alter function shop.strict_args owner to tools_user;
select mrprompt.register_tool('strict_args', 'shop.strict_args', 'x') is not null as registered;
alter function shop.strict_args owner to tools_admin;
-- Mended since.
update mrprompt.tools set writes = true where name = 'the_time';
set role tools_admin;
select severity, finding, remedy from mrprompt.doctor() where finding ~ 'SQL tool|function of tool|out of service' order by finding collate "C";
select r as role, mrprompt_internal.tool_role_problem(r) as problem from unnest(array['tools_user', 'pg_database_owner', 'mrprompt_fetcher', 'somebody', null]::name[]) r;
reset role;
select mrprompt_internal.tool_role_problem(session_user) as of_a_superuser;
create role tools_above bypassrls;
select mrprompt_internal.tool_role_problem('tools_above') as of_one_above;
drop role tools_above;
set role tools_user;
select t.why('select * from mrprompt_internal.failed_tool_calls()');
select t.why($$select mrprompt_internal.tool_role_problem('x')$$);
reset role;
set client_min_messages = warning;
drop schema shop cascade;
delete from mrprompt.tool_calls;
drop owned by tools_admin, tools_user;
drop role tools_admin, tools_user;
select t.reset();
