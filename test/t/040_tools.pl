# Tools that are SQL functions run as the user who asked, whatever they try, and never in anybody's way.
use strict;
use warnings;
use lib 'lib';
use MrPrompt qw(new_cluster wait_until);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my ($ann, $bob) = ('aaaaaaaa-0000-4000-8000-000000000001', 'bbbbbbbb-0000-4000-8000-000000000002');
my $node = new_cluster('tools', conf => "mrprompt.local_fetcher = off\nmrprompt.max_tool_workers = 4\nmax_worker_processes = 16\nmax_prepared_transactions = 2\n");
sub value { my ($sql, $database) = @_; return $node->safe_psql($database // 'postgres', $sql) }

# Calls as create_run and the model's answer make them; the output of one, once it has ended.
my $set_up = q(
    create function call(who uuid, role name, tool text, arguments text default '{}', claims text default null) returns uuid language plpgsql as $$
    declare
        run uuid = gen_random_uuid();
        made uuid;
    begin
        insert into mrprompt_internal.run_identities values (run, role, coalesce(claims, json_build_object('sub', who, 'role', role)::text));
        insert into mrprompt.tool_calls (run_id, user_id, step_id, call_id, place, name, arguments, kind, status)
        values (run, who, gen_random_uuid(), 'call_1', 0, tool, arguments, 'sql', 'queued') returning id into made;
        perform mrprompt_internal.start_tools();
        return made;
    end $$;
    -- A run whose model has called this tool.
    create function run_call(who uuid, role name, tool text, arguments text default '{}') returns uuid language plpgsql as $$
    declare
        agent uuid := mrprompt.create_agent('of ' || tool, instructions => 'x', provider => 'fake', model => 'm', tools => json_build_array(tool), user_id => who);
        run uuid := mrprompt.create_run(mrprompt.create_thread('[{"role": "user", "content": "x"}]', user_id => who), agent);
        request uuid := (select r.request_id from mrprompt.runs r where r.id = run);
    begin
        update mrprompt_internal.run_identities i set role_name = run_call.role, claims = json_build_object('sub', who)::text where i.run_id = run;
        delete from mrprompt_internal.queue q where q.request_id = request;
        update mrprompt.requests r set status = 'succeeded' where r.id = request;
        insert into mrprompt.responses (request_id, attempt, tool_calls, finish_reason) values (request, 1,
            json_build_array(json_build_object('id', 'call_1', 'function', json_build_object('name', tool, 'arguments', arguments))), 'tool_calls');
        perform mrprompt_internal.advance_runs(array[run]);
        return run;
    end $$;
    insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private, auth, key_required)
        values ('fake', 'openai', 'http://127.0.0.1:9/v1', true, true, 'none', false);
    create schema app;
    grant usage on schema app to public;
    create table app.log (at timestamptz default clock_timestamp(), what text, pid int default pg_backend_pid());
    grant all on app.log to public;
);
sub start_call
{
    my ($who, $role, $tool, $arguments, $database) = @_;
    return value("select call('$who', '$role', '$tool', \$json\$" . ($arguments // '{}') . '$json$)', $database);
}
sub outcome
{
    my ($id, $database) = @_;
    # House-keeping is called by hand, so that nothing depends on when a supervisor does.
    my $ended = wait_until(sub {
        value('select mrprompt_internal.mend_tool_calls(100); select mrprompt_internal.start_waiting_tools()', $database);
        return value("select status in ('completed', 'failed', 'cancelled') from mrprompt.tool_calls where id = '$id'", $database) eq 't';
    }, 30);
    return $ended ? value("select status || ' ' || coalesce(output, '') from mrprompt.tool_calls where id = '$id'", $database) : 'it did not end';
}
sub call { return outcome(start_call(@_), $_[4]) }
sub processes { return value(q(select count(*) from pg_stat_activity where backend_type = 'mrprompt tool')) }

value(q(
    create role app_user nologin;
    create role mallory login;
    create role loner login;
    grant mrprompt_user to app_user, mallory;
));
value($set_up);
value(q(grant create on schema app to mallory));
my $superuser = value('select current_user');

# --- who it is, and what a tool cannot change about it
value(q(
    create function app.who() returns text language sql as $$
        select concat_ws(' ', current_user, session_user, current_setting('is_superuser'), mrprompt.current_user_id(), current_setting('request.jwt.claims')::json ->> 'sub',
            current_setting('request.jwt.claim.sub'), mrprompt_internal.may_act_for_others()) $$;
    create function app.attack(statement text) returns text language plpgsql as $$
    declare
        tried text = 'done';
    begin
        begin
            execute statement;
        exception when others then tried = sqlstate;
        end;
        return concat_ws(' ', tried, current_user, session_user, current_setting('is_superuser'), mrprompt.current_user_id());
    end $$;
    select mrprompt.register_tool('who', 'app.who', 'who it is');
    select mrprompt.register_tool('attack', 'app.attack', 'an attack', writes => true);
    select mrprompt.register_tool('attack_reading', 'app.attack', 'an attack');
));
is(call($ann, 'app_user', 'who'), "completed app_user app_user off $ann $ann $ann f", 'a tool runs as the user who asked, with his claims');
is(call($bob, 'mallory', 'who'), "completed mallory mallory off $bob $bob $bob f", 'each call as its own');
for my $attack (
    [ 'reset role', '42501' ], [ 'set role none', '42501' ], [ "set role $superuser", '42501' ], [ "set local role $superuser", '42501' ],
    [ 'reset session authorization', '42501' ], [ 'set session authorization default', '42501' ],
    [ "set session authorization $superuser", '42501' ], [ "select set_config('role', '$superuser', false)", '42501' ],
    [ "select set_config('session_authorization', '$superuser', false)", '42501' ], [ 'reset all', 'done' ], [ 'discard all', '25001' ],
    [ 'set is_superuser = on', '55P02' ], [ "set mrprompt.tool_user = '$bob'", '42501' ], [ 'reset mrprompt.tool_user', '42501' ],
    [ qq(select set_config('request.jwt.claims', '{"sub":"$bob"}', false)), 'done' ], [ "set request.jwt.claims = ''", 'done' ],
    [ 'commit', '0A000' ], [ 'rollback', '0A000' ],
    [ "create function pg_temp.f() returns text language sql set role = '$superuser' as 'select current_user::text'; select pg_temp.f()", '42501' ],
    [ "alter role app_user superuser", '42501' ], [ 'select pg_terminate_backend(pg_backend_pid())', '42501' ],
    [ 'select mrprompt_internal.take_tool_call()', '42501' ], [ 'select mrprompt_internal.stop_tool(1)', '42501' ],
    [ qq(select mrprompt_internal.acting_user('$bob')), '42501' ],
    [ 'select mrprompt_internal.note_timed_out(gen_random_uuid(), 1, 1)', '42501' ], [ "select mrprompt.enable_tool('who', false)", '42501' ],
    [ 'select claims from mrprompt_internal.run_identities', '42501' ], [ 'lock table mrprompt_internal.tool_processes in access share mode', '42501' ],
    [ 'lock table mrprompt.tool_calls in share mode', '42501' ], [ 'set session_replication_role = replica', '42501' ],
    [ 'set transaction isolation level serializable', '25001' ], [ "prepare transaction 'x'", '0A000' ], [ 'listen x', '0A000' ], [ 'notify x', 'done' ],
    [ 'close all', 'done' ], [ 'deallocate all', 'done' ], [ 'discard plans', 'done' ], [ 'discard temp', 'done' ],
    [ "select set_config('search_path', 'app', false), set_config('DateStyle', 'German', false), set_config('client_min_messages', 'error', false)", 'done' ])
{
    my ($statement, $state) = @$attack;
    my $output = call($ann, 'app_user', 'attack', qq({"statement": ) . json_string($statement) . '}');
    is($output, "completed $state app_user app_user off $ann", "$statement: $state, and nothing has changed");
}
for my $attack ([ 'set transaction_read_only = off', '25001' ], [ 'set transaction read write', '25001' ], [ "select set_config('transaction_read_only', 'off', true)", '25001' ],
    [ "insert into app.log (what) values ('x')", '25006' ], [ 'create temp table x (n int)', '25006' ])
{
    my ($statement, $state) = @$attack;
    is(call($ann, 'app_user', 'attack_reading', '{"statement": ' . json_string($statement) . '}'), "completed $state app_user app_user off $ann", "a tool that only reads, $statement: $state");
}
sub json_string { my ($text) = @_; $text =~ s/(["\\])/\\$1/g; return "\"$text\"" }

# --- what fires later is the user's, too: deferred triggers, and cursors that are read at the commit
$node->safe_psql('postgres', q(
    create table app.bait (n int);
    create function app.spring() returns trigger language plpgsql as $$
    begin
        begin
            reset role;
        exception when others then insert into app.log (what) values ('reset role ' || sqlstate);
        end;
        begin
            alter role mallory superuser;
        exception when others then insert into app.log (what) values ('alter role ' || sqlstate);
        end;
        insert into app.log (what) values (concat_ws(' ', 'fired as', current_user, session_user, current_setting('is_superuser'), mrprompt.current_user_id()));
        return null;
    end $$;
    create constraint trigger spring after insert on app.bait deferrable initially deferred for each row execute function app.spring();
    grant all on app.bait to public;
    create function app.bite() returns void language sql as 'insert into app.bait values (1)';
    create function app.bite_now() returns void language plpgsql as $$ begin insert into app.bait values (1); set constraints all immediate; end $$;
    create function app.spy() returns int language plpgsql as $$
    begin
        insert into app.log (what) values (concat_ws(' ', 'read as', current_user, session_user, current_setting('is_superuser'), mrprompt.current_user_id()));
        return 1;
    end $$;
    create function app.hold() returns void language plpgsql as $$ begin execute 'declare held cursor with hold for select app.spy()'; end $$;
), extra_params => [ '-U', 'mallory' ]);
value(q(select mrprompt.register_tool(f, 'app.' || f, 'bait', writes => true) from unnest(array['bite', 'bite_now', 'hold']) f;
    select mrprompt.register_tool('hold_only', 'app.hold', 'bait')));
for my $tool (qw(bite bite_now))
{
    value('truncate app.log');
    is(call($ann, 'app_user', $tool), 'completed null', "$tool: a deferred trigger of somebody else's");
    is(value(q(select string_agg(what, ', ' order by at) from app.log)),
        "reset role 42501, alter role 42501, fired as app_user app_user off $ann", 'fires as the user and cannot become anybody else');
}
value('truncate app.log');
is(call($ann, 'app_user', 'hold'), 'completed null', 'a cursor that is read at the commit');
is(value('select what from app.log'), "read as app_user app_user off $ann", 'is read as the user');
value('truncate app.log');
like(call($ann, 'app_user', 'hold_only'), qr/^failed .*"25006"/, 'and writes nothing for a tool that only reads');
is(value('select count(*) from app.log'), '0', 'nothing at all');
is(value(q(select rolsuper from pg_roles where rolname = 'mallory')), 'f', 'the attacker is no superuser');

# --- nothing of one call is left for the next
value('alter system set mrprompt.max_tool_workers = 1; select pg_reload_conf()');
value(q(
    create function app.leave() returns int language plpgsql as $$
    begin
        perform set_config('request.jwt.claims', '{"sub":"bbbbbbbb-0000-4000-8000-000000000002"}', false), set_config('search_path', 'app', false),
            set_config('app.secret', 'mine', false), set_config('work_mem', '64kB', false), set_config('row_security', 'off', false),
            set_config('lock_timeout', '1ms', false), set_config('transform_null_equals', 'on', false);
        create temp table leftover (n int);
        execute 'prepare leftover as select 1';
        perform pg_advisory_lock(1);
        return pg_backend_pid();
    end $$;
    create function app.peek() returns text language plpgsql as $$
    begin
        return concat_ws(' ', pg_backend_pid(), current_setting('search_path'), coalesce(nullif(current_setting('app.secret', true), ''), '-'), current_setting('work_mem'),
            current_setting('row_security'), current_setting('lock_timeout'), coalesce(to_regclass('pg_temp.leftover')::text, '-'),
            (select count(*) from pg_prepared_statements where name = 'leftover'), pg_try_advisory_lock(1), mrprompt.current_user_id(), current_setting('request.jwt.claim.sub'));
    end $$;
));
$node->safe_psql('postgres', q(set search_path = public, app;
    select mrprompt.register_tool('leave', 'app.leave', 'leaves things behind', writes => true);
    select mrprompt.register_tool('peek', 'app.peek', 'looks for them', writes => true)));
my ($left) = call($ann, 'app_user', 'leave') =~ /^completed (\d+)$/ or fail('a tool leaves things behind');
my $peeked = call($ann, 'app_user', 'peek');
like($peeked, qr/^completed \d+ public, app - 4MB on 0 - 0 t $ann $ann$/, 'settings, temporary tables, prepared statements and locks of a call are gone in the next');
unlike($peeked, qr/^completed $left /, 'which has a process of its own');
value('alter system set mrprompt.max_tool_workers = 4; select pg_reload_conf()');

# --- rights
value(q(
    create table app.notes (id int generated always as identity primary key, owner uuid, body text, parent int references app.notes deferrable initially deferred);
    grant select, insert on app.notes to public;
    alter table app.notes enable row level security;
    create policy own on app.notes using (owner = mrprompt.current_user_id()) with check (owner = mrprompt.current_user_id());
    create function app.my_notes() returns setof app.notes language sql stable as 'select * from app.notes order by id';
    create function app.add_note(body text, owner uuid default mrprompt.current_user_id(), parent int default null) returns int language sql as
        'insert into app.notes (owner, body, parent) values (add_note.owner, add_note.body, add_note.parent) returning id';
    create function app.closed() returns int language sql as 'select 1';
    revoke execute on function app.closed() from public;
    create schema closed;
    create function closed.f() returns int language sql as 'select 1';
    select mrprompt.register_tool('my_notes', 'app.my_notes', 'notes');
    select mrprompt.register_tool('add_note', 'app.add_note', 'adds one', writes => true);
    select mrprompt.register_tool('add_note_read_only', 'app.add_note', 'adds none');
    select mrprompt.register_tool('closed', 'app.closed', 'closed');
    select mrprompt.register_tool('closed_schema', 'closed.f', 'closed');
));
is(call($ann, 'app_user', 'add_note', '{"body": "of ann"}'), 'completed 1', 'a writing tool writes');
is(call($bob, 'app_user', 'my_notes'), 'completed []', 'row-level security is in force');
is(call($ann, 'app_user', 'my_notes'), qq(completed [{"id":1,"owner":"$ann","body":"of ann","parent":null}]), 'for each his own rows');
like(call($bob, 'app_user', 'add_note', qq({"body": "for ann", "owner": "$ann"})), qr/^failed .*"42501".*row-level security/, 'and when writing');
like(call($ann, 'app_user', 'closed'), qr/^failed .*"42501","message":"permission denied for function closed"/, 'without EXECUTE a call fails, and says so');
like(call($ann, 'app_user', 'closed_schema'), qr/^failed .*"42501","message":"permission denied for schema closed"/, 'nor without USAGE on its schema');
like(call($ann, 'app_user', 'add_note_read_only', '{"body": "x"}'), qr/^failed .*"25006".*registers it with writes => true/, 'a tool that is not marked as writing cannot, and says what to do');
is(value(q(select finding from mrprompt.doctor() where finding like '%they tried to write%') ) =~ /^\d+ calls of SQL tools \((.*?)\)/ ? !!(", $1," =~ /, add_note_read_only,/) : 0, 1, 'and the doctor names it');
like(call($ann, 'app_user', 'attack', '{"statement": "set transaction_read_only = off"}'), qr/^completed done/, 'one that is may say so');
like(call($ann, 'app_user', 'add_note', '{"body": "x", "parent": 4711}'), qr/^failed .*"23503"/, 'a deferred constraint that fails is the output');
is(value('select count(*) from app.notes'), '1', 'and undoes the call');
like(call($ann, $superuser, 'who'), qr/^failed .*"42501".*superuser/, 'no tool runs as a superuser');
value('create role above bypassrls');
like(call($ann, 'above', 'who'), qr/^failed .*"42501".*row-level security/, 'nor as one whom row-level security does not bind');
like(call($ann, 'nobody_there', 'who'), qr/^failed .*role nobody_there is gone/, 'nor as a role that is gone');
my $for_ann = value("select call('$ann', null, 'who')");
like(outcome($for_ann), qr/^failed .*mrprompt\.tool_role/, 'nor without a role');
like(value('select remedy from mrprompt.doctor()'), qr/alter system set mrprompt\.tool_role/, 'which the doctor knows');
value(q(alter system set mrprompt.tool_role = 'above'; select pg_reload_conf()));
ok(wait_until(sub { value('select finding from mrprompt.doctor()') =~ /mrprompt\.tool_role is above, which passes by row-level security/ }, 10), 'as he does of one that no tool may have');
value(q(alter system set mrprompt.tool_role = 'app_user'; select pg_reload_conf()));
ok(wait_until(sub { outcome(value("select call('$ann', null, 'who')")) eq "completed app_user app_user off $ann $ann $ann f" }, 10), 'unless mrprompt.tool_role names one');

# --- arguments, and functions of the same name
like(call($ann, 'app_user', 'add_note', '{"body": "x", "colour": "red"}'), qr/^failed .*"PT400","message":"there is no argument colour","detail":"known: body, owner, parent"/, 'an unknown argument');
like(call($ann, 'app_user', 'add_note', '{}'), qr/^failed .*"PT400","message":"missing: body"/, 'a missing one');
like(call($ann, 'app_user', 'add_note', '{"body": '), qr/^failed .*"PT400","message":"the arguments are not valid JSON"/, 'what is no JSON');
like(call($ann, 'app_user', 'add_note', '{"body": "x", "parent": "one"}'), qr/^failed .*"22P02"/, 'and a value of another type are errors for the model');
value(q(create function app.greet(name text, greeting text default 'Hello') returns text language sql as $$ select greeting || ' ' || name $$;
    select mrprompt.register_tool('greet', 'app.greet', 'greets')));
is(call($ann, 'app_user', 'greet', '{"name": "Ann"}'), 'completed Hello Ann', 'a text is the output as it is');
$node->safe_psql('postgres', q(create function app.greet(name text) returns text language plpgsql as $$ begin insert into app.log (what) values ('hijacked'); return 'hijacked'; end $$),
    extra_params => [ '-U', 'mallory' ]);
value('truncate app.log');
like(call($ann, 'app_user', 'greet', '{"name": "Ann"}'), qr/^failed .*"42725"/, 'a function that somebody made to be called instead');
is(value('select count(*) from app.log'), '0', 'is not called');
is(call($ann, 'app_user', 'greet', '{"name": "Ann", "greeting": "Hi"}'), 'completed Hi Ann', 'the one that was registered is');

# --- parallel workers know whose they are
value(q(
    create function app.mislabelled() returns text language plpgsql parallel safe as $$
    begin
        return concat_ws(' ', pg_backend_pid(), current_user, session_user, current_setting('is_superuser'), mrprompt.current_user_id());
    end $$;
    create function app.in_parallel() returns text language plpgsql as $$
    declare
        found text;
    begin
        perform set_config('request.jwt.claims', '{"sub":"bbbbbbbb-0000-4000-8000-000000000002"}', false);
        perform set_config(name, 'on', true) from pg_settings where name in ('force_parallel_mode', 'debug_parallel_query');
        execute 'select app.mislabelled()' into found;
        return replace(regexp_replace(found, '^' || pg_backend_pid() || ' ', 'leader '), split_part(found, ' ', 1) || ' ', 'worker ');
    end $$;
    select mrprompt.register_tool('in_parallel', 'app.in_parallel', 'parallel')));
is(call($ann, 'app_user', 'in_parallel'), "completed worker app_user app_user off $ann", 'a parallel worker of a tool has its user, whatever the claims say by then');

# --- output
value(q(
    create function app.many(rows int) returns setof int language sql as 'select * from generate_series(1, rows)';
    create function app.long(length int) returns text language sql as $$ select repeat('é', length) $$;
    select mrprompt.register_tool('many', 'app.many', 'many rows'), mrprompt.register_tool('long', 'app.long', 'long', max_output => 257);
));
is(call($ann, 'app_user', 'many', '{"rows": 3}'), 'completed [1,2,3]', 'a set is an array');
like(call($ann, 'app_user', 'many', '{"rows": 1001}'), qr/,1000\]\n\[only the first 1000 rows are shown\]$/, 'of 1000 rows at most');
is(call($ann, 'app_user', 'long', '{"length": 200}'), 'completed ' . ('é' x 128) . "\n[the last 144 of 400 bytes are left out]", 'a long output is clipped between characters');

value(q(create type app.pair as (a int, b text); create domain app.named_pair as app.pair check ((value).b is not null);
    create domain app.word as text; create table app.results (place int generated always as identity, declared text, body text, output text)));
value(q(insert into app.results (declared, body, output) values
    ('returns app.pair', 'select 1, ''x''', '{"a":1,"b":"x"}'), ('returns app.named_pair', 'select row(1, ''x'')::app.pair::app.named_pair', '{"a":1,"b":"x"}'),
    ('returns setof app.pair', 'values (1, ''x''), (2, null)', '[{"a":1,"b":"x"},{"a":2,"b":null}]'), ('returns setof app.pair', 'select 1, ''x'' where false', '[]'),
    ('returns app.pair', 'select 1, ''x'' where false', '{"a":null,"b":null}'),
    ('returns table (a int)', 'select 1', '[1]'), ('returns table (a int, b text)', 'select 1, ''x''', '[{"a":1,"b":"x"}]'),
    ('returns void', 'select', 'null'), ('returns int', 'select null::int', 'null'), ('returns text', 'select null', 'null'), ('returns text', 'select ''''', ''),
    ('returns app.word', 'select ''a "word"''', 'a "word"'), ('returns setof text', 'values (''x''), (null)', '["x",null]'),
    ('returns int[]', 'select array[1, null]', '[1,null]'), ('returns app.pair[]', 'select array[row(1, ''x'')::app.pair]', '[{"a":1,"b":"x"}]'),
    ('returns jsonb', 'select ''{"k": 1}''::jsonb', '{"k": 1}'), ('returns json', 'select ''null''::json', 'null'), ('returns boolean', 'select true', 'true'),
    ('returns date', 'select date ''2026-01-02''', '"2026-01-02"'), ('returns numeric', 'select ''NaN''::numeric', '"NaN"'), ('returns bytea', 'select ''\\x01''::bytea', '"\\\\x01"')));
value(q(do $do$
    declare
        r record;
    begin
        for r in select * from app.results loop
            execute format('create function app.result_%s() %s language sql as %L', r.place, r.declared, r.body);
            perform mrprompt.register_tool('result_' || r.place, 'app.result_' || r.place, 'a result');
        end loop;
    end $do$));
my %made = map { split /=/ } split /\n/, value(qq(select place || '=' || call('$ann', 'app_user', 'result_' || place) from app.results order by place));
outcome($_) for values %made;
is(value(q(select string_agg(concat_ws(' ', r.declared, r.body, c.status, c.output, 'instead of', r.output), E'\n') from app.results r
    left join mrprompt.tool_calls c on c.name = 'result_' || r.place where c.output is distinct from r.output or c.status <> 'completed')), '', 'whatever a function returns, the output is as documented');
is(value(q(select count(*) from mrprompt.tool_calls where name like 'result%' and status = 'completed')), value('select count(*) from app.results'), 'of each');

# --- what happens to a function after its registration
value(q(create function app.moody() returns text language sql as 'select current_user::text'; select mrprompt.register_tool('moody', 'app.moody', 'changes')));
is(call($ann, 'app_user', 'moody'), 'completed app_user', 'a function as it was registered');
value('revoke execute on function app.moody() from public');
like(call($ann, 'app_user', 'moody'), qr/^failed .*"42501","message":"permission denied for function moody"/, 'that the user may not execute any more');
value(q(grant execute on function app.moody() to public; create or replace function app.moody() returns text language sql security definer as
    'select current_user || '' for '' || mrprompt.current_user_id()'));
is(call($ann, 'app_user', 'moody'), "completed $superuser for $ann", 'that its owner gives his rights has those, and still knows whom it is for');
value('alter function app.moody() owner to mallory');
like(call($ann, 'app_user', 'moody'), qr/^failed .*"PT409".*replaced/, 'that has another owner is not called');
like(value('select finding from mrprompt.doctor()'), qr/The function of tool moody, app\.moody\(\), is gone or belongs to somebody else/, 'and the doctor says so');
value(q(drop function app.moody(); create procedure app.moody() language sql as 'select 1'));
like(call($ann, 'app_user', 'moody'), qr/^failed /, 'that has become a procedure is not called');
value('drop procedure app.moody()');
like(call($ann, 'app_user', 'moody'), qr/^failed .*"PT404".*is gone/, 'that is gone is not called');
value(q(select mrprompt.unregister_tool('moody')));

# --- time
value(q(
    create function app.nap(seconds float) returns int language plpgsql as $$ begin perform pg_sleep(seconds); return 1; end $$;
    create function app.stubborn() returns int language plpgsql as $$
    begin
        loop
            begin
                perform pg_sleep(60);
            exception when query_canceled then null;
            end;
        end loop;
    end $$;
    select mrprompt.register_tool('nap', 'app.nap', 'sleeps', timeout => '20 seconds'), mrprompt.register_tool('short_nap', 'app.nap', 'sleeps', timeout => '300 ms'),
        mrprompt.register_tool('stubborn', 'app.stubborn', 'does not wake', timeout => '300 ms');
));
like(call($ann, 'app_user', 'short_nap', '{"seconds": 30}'), qr/^failed .*"57014","message":"timed out after 300 ms"/, 'a tool that takes too long is cancelled');
like(call($ann, 'app_user', 'stubborn'), qr/^failed .*"57014","message":"timed out after 300 ms"/, 'one that swallows it is ended');
ok(wait_until(sub { processes() == 0 }, 10), 'and its process is gone');
like(slurp_file($node->logfile), qr/mrprompt ended a tool that took longer than 300 ms and could not be cancelled.*\n.*It ran: select .*app\.stubborn\(\)/, 'the log says why');
value(q(create function app.hold_nap() returns void language plpgsql as $$ begin execute 'declare held cursor with hold for select app.nap(60)'; end $$;
    select mrprompt.register_tool('hold_nap', 'app.hold_nap', 'sleeps at its commit', writes => true, timeout => '300 ms')));
like(call($ann, 'app_user', 'hold_nap'), qr/^failed .*"57014","message":"timed out after 300 ms"/, 'nor does one that takes its time at the commit');

$node->safe_psql('postgres', "select call('$ann', 'app_user', 'nap', '{\"seconds\": 2.5}') from generate_series(1, 3)");
ok(wait_until(sub { value(q(select count(*) from pg_stat_activity where backend_type = 'mrprompt tool' and wait_event = 'PgSleep')) == 3 }, 10), 'calls that were queued at once run side by side');
ok(wait_until(sub { value("select count(*) from mrprompt.tool_calls where name = 'nap' and status = 'completed'") == 3 }, 20), 'to their ends');
value("delete from mrprompt.tool_calls where name = 'nap'");

value('alter system set mrprompt.max_tool_workers = 2; select pg_reload_conf()');
my @slow = map { start_call($ann, 'app_user', 'nap', '{"seconds": 15}') } 1 .. 3;
ok(wait_until(sub { value("select count(*) from mrprompt.tool_calls where status = 'running'") == 1 }, 10), 'of three slow calls of one user, one runs');
my $begun = time;
is(call($bob, 'app_user', 'greet', '{"name": "Bob", "greeting": "Hi"}'), 'completed Hi Bob', 'the call of another user');
cmp_ok(time - $begun, '<', 8, 'does not wait for them');
is(value("select string_agg(status, ' ' order by id) from mrprompt.tool_calls where name = 'nap'"), 'running queued queued', 'which are where they were');

# --- a run that is cancelled
value("update mrprompt.tool_calls set status = 'cancelled' where status in ('running', 'queued'); select mrprompt_internal.stop_tool_calls(run_id) from mrprompt.tool_calls where id = '$slow[0]'");
ok(wait_until(sub { processes() == 0 }, 10), 'a cancelled call stops');
is(value("select status from mrprompt.tool_calls where id = '$slow[0]'"), 'cancelled', 'and stays cancelled');
value('alter system set mrprompt.max_tool_workers = 4; select pg_reload_conf()');

my $sleepers = q(select count(*) from pg_stat_activity where backend_type = 'mrprompt tool' and wait_event = 'PgSleep');
sub sleeping_run
{
    my ($tool, $seconds) = @_;
    my $run = value(qq(select run_call('$ann', 'app_user', '$tool', '{"seconds": $seconds}')));
    ok(wait_until(sub { value($sleepers) == 1 }, 10), "$tool: a run's tool is at work");
    return $run;
}
sub of_run { my ($run) = @_; return value("select concat_ws(' ', r.status, c.status, c.output, c.tries, r.steps) from mrprompt.runs r join mrprompt.tool_calls c on c.run_id = r.id where r.id = '$run'") }
my $run = sleeping_run('nap', 2);
value("begin; select mrprompt.cancel_run('$run'); rollback");
value("begin; savepoint s; select mrprompt.cancel_run('$run'); rollback to s; savepoint s2; select 1; release s2; commit");
ok(wait_until(sub { of_run($run) =~ /completed/ }, 10), 'a cancellation that is rolled back');
is(of_run($run), 'in_progress completed 1 1 2', 'has ended no tool: it answers at its first try, and the run goes on');
$run = sleeping_run('nap', 1);
my $app = $node->background_psql('postgres');
$app->query_safe("begin; select mrprompt.cancel_run('$run')");
ok(wait_until(sub { processes() == 0 }, 10), 'a tool whose run is being cancelled does not wait for the end of that transaction');
$app->query_safe('rollback');
$app->quit;
value('select mrprompt_internal.mend_tool_calls(100)');
ok(wait_until(sub { value('select mrprompt_internal.mend_tool_calls(100)'); of_run($run) eq 'in_progress completed 1 2 2' }, 15), 'and is called again when it is rolled back')
    or diag(of_run($run));
for my $tool (qw(nap deaf))
{
    value(q(create or replace function app.deaf(seconds float) returns int language plpgsql as $$
        begin
            loop
                begin
                    perform pg_sleep(seconds);
                exception when query_canceled then null;
                end;
            end loop;
        end $$;
        select mrprompt.register_tool('deaf', 'app.deaf', 'swallows cancellations', timeout => '20 seconds')));
    $run = sleeping_run($tool, 15);
    $begun = time;
    is(value("begin; savepoint s; select mrprompt.cancel_run('$run'); release s; commit"), 'cancelled', "$tool: a run is cancelled for good");
    ok(wait_until(sub { processes() == 0 }, 10), "$tool: its tool ends");
    cmp_ok(time - $begun, '<', 2, "$tool: within a moment");
    like(of_run($run), qr/^cancelled cancelled .*the run ended \(cancelled\) before the tool answered.* 1 1$/, "$tool: and the run with it");
}
$run = sleeping_run('nap', 15);
value("begin; select mrprompt.cancel_run('$run'); prepare transaction 'cancel'");
is(value($sleepers), '1', 'a cancellation that is prepared ends no tool');
value("commit prepared 'cancel'");
ok(wait_until(sub { value('select mrprompt_internal.mend_tool_calls(100)'); processes() == 0 }, 10), 'once it is committed house-keeping does');
is(of_run($run) =~ s/\{.*\}/…/r, 'cancelled cancelled … 1 1', 'and the run has ended');
value('delete from mrprompt.tool_calls');

# --- a tool that is taken out of service
my $ending = start_call($ann, 'app_user', 'nap', '{"seconds": 15}');
ok(wait_until(sub { value($sleepers) == 1 }, 10), 'a tool is at work');
value("begin; select mrprompt.enable_tool('nap', false); rollback");
is(value("select pg_sleep(0.5); $sleepers"), "\n1", 'what is rolled back ends nothing');
$begun = time;
value("select mrprompt.enable_tool('nap', false)");
ok(wait_until(sub { processes() == 0 }, 10), 'out of service, it ends');
cmp_ok(time - $begun, '<', 2, 'within a moment');
like(outcome($ending), qr/^failed .*"PT404","message":"tool nap is out of service"/, 'and is not called again');
value("select mrprompt.enable_tool('nap')");
is(call($ann, 'app_user', 'nap', '{"seconds": 0}'), 'completed 1', 'until it is put back');

# --- a process that dies
value(q(select mrprompt.register_tool('brief', 'app.nap', 'sleeps', timeout => '3 seconds')));
my $brief = start_call($ann, 'app_user', 'brief', '{"seconds": 2.5}');
ok(wait_until(sub { value($sleepers) == 1 }, 10), 'a tool is at work');
value(qq(begin; select from mrprompt.tool_calls where id = '$brief' for no key update;
    select pg_terminate_backend(pid) from mrprompt_internal.tool_processes; select pg_sleep(3.5); commit));
is(outcome($brief), 'completed 1', 'whom somebody else ended has not, however late that is noticed: it is called again');
value(q(
    create table app.effects (what text);
    grant insert on app.effects to public;
    create function app.slow_effect(what text, seconds float) returns text language plpgsql as $$
    begin
        insert into app.effects values (what);
        perform pg_sleep(seconds);
        return what;
    end $$;
    select mrprompt.register_tool('slow_effect', 'app.slow_effect', 'writes slowly', writes => true, timeout => '20 seconds')));
my $killed = start_call($ann, 'app_user', 'slow_effect', '{"what": "once", "seconds": 3}');
ok(wait_until(sub { value(qq(select pg_terminate_backend(p.pid) from mrprompt_internal.tool_processes p join pg_stat_activity a using (pid)
    where call_id = '$killed' and a.wait_event = 'PgSleep')) eq 't' }, 10), 'a process is ended in the middle of its call');
is(outcome($killed), 'completed once', 'the call is made again');
is(value("select tries, (select count(*) from app.effects where what = 'once') from mrprompt.tool_calls where id = '$killed'"), '2|1', 'once again, and takes effect once');
my $doomed = start_call($ann, 'app_user', 'slow_effect', '{"what": "never", "seconds": 15}');
for my $try (1, 2)
{
    ok(wait_until(sub {
        value('select mrprompt_internal.mend_tool_calls(100)');
        return value(qq(select pg_terminate_backend(p.pid) from mrprompt_internal.tool_processes p join pg_stat_activity a using (pid)
            where call_id = '$doomed' and p.tries = $try and a.wait_event = 'PgSleep')) eq 't' }, 15), "try $try is ended");
}
like(outcome($doomed), qr/^failed .*"57P01","message":"the process that ran it ended","detail":"tried 2 times"/, 'and no third time');
is(value("select count(*) from app.effects where what = 'never'"), '0', 'without an effect');
is(value('select count(*) from mrprompt_internal.tool_processes'), '0', 'nothing is left of them');

# --- a database that is dropped
value('create database doomed');
value('create extension mrprompt', 'doomed');
value($set_up, 'doomed');
value(q(create function app.nap(seconds float) returns int language plpgsql as $$ begin perform pg_sleep(seconds); return 1; end $$;
    select mrprompt.register_tool('nap', 'app.nap', 'sleeps', timeout => '1 minute')), 'doomed');
start_call($ann, 'app_user', 'nap', '{"seconds": 50}', 'doomed');
ok(wait_until(sub { value(q(select count(*) from pg_stat_activity where datname = 'doomed' and wait_event = 'PgSleep')) == 1 }, 10), 'a tool runs in a database');
$begun = time;
is($node->psql('postgres', 'drop database doomed'), 0, 'that is dropped meanwhile');
cmp_ok(time - $begun, '<', 10, 'at once');

# --- a copy calls nothing
value("select call('$ann', 'app_user', 'nap', '{\"seconds\": 0}'); update mrprompt_internal.homes set database_oid = 1");
is(value('select mrprompt_internal.next_tool_call() is null'), 't', 'the calls of a copied database wait');
$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal|was terminated/, 'the log has no trouble in it');

# --- too few worker slots: the launchers', mrprompt's and PostgreSQL's own, take two of three, the supervisor the last
my $tight = new_cluster('tight', conf => "mrprompt.local_fetcher = off\nmax_worker_processes = 3\nmrprompt.idle_timeout = 1000\n");
$node = $tight;
value('create role app_user; grant mrprompt_user to app_user');
value($set_up);
value(q(create function app.one() returns int language sql as 'select 1'; select mrprompt.register_tool('one', 'app.one', 'one')));
ok(wait_until(sub { value(q(select count(*) from pg_stat_activity where backend_type = 'mrprompt supervisor')) == 1 }, 10), 'the supervisor has the last worker slot');
my $waits = start_call($ann, 'app_user', 'one');
is(value("select status from mrprompt.tool_calls where id = '$waits'"), 'queued', 'a call waits for a slot');
like(slurp_file($tight->logfile), qr/mrprompt cannot start a process for a tool.*Raise max_worker_processes/s, 'the log says why');
like(value('select finding || remedy from mrprompt.doctor()'), qr/tool.*max_worker_processes/s, 'and so does the doctor');
is(outcome($waits), 'completed 1', 'it goes on once there is one');
$tight->stop;

# --- without shared_preload_libraries
$node = new_cluster('loaded_late', preload => 0);
value('create role app_user; grant mrprompt_user to app_user');
value($set_up);
value(q(create function app.who() returns text language sql as $$ select concat_ws(' ', current_user, mrprompt.current_user_id()) $$; select mrprompt.register_tool('who', 'app.who', 'who')));
is(call($ann, 'app_user', 'who'), "completed app_user $ann", 'tools run on a server that does not preload mrprompt');
$node->stop;
done_testing();
