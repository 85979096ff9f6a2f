# The processes of SQL tools: how they end, by their time, a cancellation or somebody's hand; and that none stands in another's way.
use strict;
use warnings;
use lib 'lib';
use MrPrompt qw(new_cluster wait_until);
use MrPrompt::Tools qw(use_server value start_call outcome call processes $ann $bob);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_cluster('processes', conf => "mrprompt.local_fetcher = off\nmrprompt.max_tool_workers = 4\nmax_worker_processes = 16\nmax_prepared_transactions = 2\n");
use_server($node);

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
is(call($bob, 'app_user', 'nap', '{"seconds": 0}'), 'completed 1', 'the call of another user');
cmp_ok(time - $begun, '<', 8, 'does not wait for them');
is(value("select string_agg(status, ' ' order by id) from mrprompt.tool_calls where user_id = '$ann' and status in ('queued', 'running')"), 'running queued queued', 'which are where they were');

# --- a run that is cancelled
value("update mrprompt.tool_calls set status = 'cancelled' where status in ('running', 'queued'); select mrprompt_internal.stop_tools(run_id) from mrprompt.tool_calls where id = '$slow[0]'");
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
    is(value("begin; savepoint s; select mrprompt.cancel_run('$run'); release s; commit"), 'cancelled', "$tool: a run is cancelled for good");
    ok(wait_until(sub { processes() == 0 }, 10), "$tool: its tool ends long before it would have");
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
value("select mrprompt.enable_tool('nap', false)");
ok(wait_until(sub { processes() == 0 }, 10), 'out of service, it ends long before it would have');
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
use_server($node, 'doomed');
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
use_server($tight);
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
use_server($node);
value(q(create function app.who() returns text language sql as $$ select concat_ws(' ', current_user, mrprompt.current_user_id()) $$; select mrprompt.register_tool('who', 'app.who', 'who')));
is(call($ann, 'app_user', 'who'), "completed app_user $ann", 'tools run on a server that does not preload mrprompt');
$node->stop;
done_testing();
