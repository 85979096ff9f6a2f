# Tools that are SQL functions run as the user who asked, whatever they try, and answer what their function says.
use strict;
use warnings;
use lib 'lib';
use MrPrompt qw(new_cluster wait_until);
use MrPrompt::Tools qw(use_server value start_call outcome call processes $ann $bob);
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_cluster('tools', conf => "mrprompt.local_fetcher = off\nmrprompt.max_tool_workers = 4\nmax_worker_processes = 16\nmax_prepared_transactions = 2\n");
use_server($node);
value(q(
    create role mallory login;
    create role loner login;
    grant mrprompt_user to mallory;
    grant create on schema app to mallory;
));
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

$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal|was terminated/, 'the log has no trouble in it');
done_testing();
