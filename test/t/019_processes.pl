# The server's processes die or freeze: a stopped fetcher, a supervisor and a launcher that are told to end or are killed.
use strict;
use warnings;
use lib 'lib';
use MrPrompt qw(new_cluster start_provider wait_until);
use PostgreSQL::Test::Utils;
use Test::More;

my $provider = start_provider();
my $base = $provider->url;
my $node = new_cluster('processes', conf => "mrprompt.heartbeat_interval = 300\nrestart_after_crash = on\n");
my $words = join ' ', map { "w$_" } 1 .. 60;
sub value { return $node->safe_psql('postgres', $_[0]) }
# While the server recovers nobody can ask it.
sub try_value { my ($code, $out) = $node->psql('postgres', $_[0]); return $code == 0 ? $out : undef }
value(qq(
    select mrprompt.add_user(login_role => current_user);
    insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private) values ('fake', 'openai', '$base/v1', true, true);));

my $asked = 0;
sub start_streams
{
    my ($round) = @_;
    value("select count(mrprompt.chat_text('fake?words=60&pace=50&id=$round-' || i, 'm', 'fake', stream => true)) from generate_series(1, 20) i");
    ok(wait_until(sub { value(q(select count(distinct d.request_id) from mrprompt.deltas d join mrprompt.requests r on r.id = d.request_id where r.status = 'running')) == 20 }, 30), "$round: 20 streams are under way");
    $asked += 20;
}
sub check_all
{
    my ($round) = @_;
    ok(wait_until(sub { (try_value(q(select count(*) from mrprompt.requests where status in ('queued', 'running'))) // 1) == 0 }, 60), "$round: every request ends");
    is(value("select count(*) from mrprompt.requests r join mrprompt.responses a on a.request_id = r.id where r.status = 'succeeded' and a.content = '$words'"), $asked, "$round: with the right text");
    is(value(q(select count(*) = count(distinct (request_id, attempt)), count(*) filter (where outcome = 'succeeded') from mrprompt.usage)), "t|$asked", "$round: charged once");
}
sub fetcher { return try_value('select fetcher_pids[1] from mrprompt_internal.server_state()') }
sub supervisor { return try_value('select supervisor_pid from mrprompt_internal.server_state()') }
sub launcher { return try_value('select launcher_pid from mrprompt_internal.server_state()') }
sub replaced { my ($pid_of, $old) = @_; return wait_until(sub { my $pid = $pid_of->(); $pid && $pid != $old }, 60) }
my $started = value('select pg_postmaster_start_time()');

# --- a frozen fetcher: its supervisor waits for a while, then kills it and starts another
start_streams('frozen fetcher');
my $frozen = fetcher();
kill 'STOP', $frozen;
ok(replaced(\&fetcher, $frozen), 'frozen fetcher: another takes its place');
ok(!kill(0, $frozen), 'frozen fetcher: it is gone');
like(slurp_file($node->logfile), qr/mrprompt-fetcher \(PID $frozen\) was silent for too long: killing it/, 'frozen fetcher: the log says why');
check_all('frozen fetcher');

# --- a supervisor that is told to end takes its fetcher along, and comes back
start_streams('SIGTERM to the supervisor');
my ($supervisor, $fetcher) = (supervisor(), fetcher());
is(value("select pg_terminate_backend($supervisor)"), 't', 'SIGTERM to the supervisor: it is told to end');
ok(replaced(\&supervisor, $supervisor), 'SIGTERM to the supervisor: another takes its place');
ok(wait_until(sub { !kill 0, $fetcher }, 20), 'SIGTERM to the supervisor: its fetcher has ended');
check_all('SIGTERM to the supervisor');

# --- a cancel ends nothing
$supervisor = supervisor();
value("select pg_cancel_backend($supervisor)");
start_streams('cancel of the supervisor');
check_all('cancel of the supervisor');
is(supervisor(), $supervisor, 'cancel of the supervisor: it is still the same');

# --- the launcher: its supervisors do not need it, and it comes back
start_streams('SIGTERM to the launcher');
my $launcher = launcher();
value("select pg_terminate_backend($launcher)");
ok(replaced(\&launcher, $launcher), 'SIGTERM to the launcher: another takes its place');
is(supervisor(), $supervisor, 'SIGTERM to the launcher: the supervisor has not noticed');
check_all('SIGTERM to the launcher');
is(value('select pg_postmaster_start_time()'), $started, 'until here the server has not restarted');

# --- kill -9 of a process with shared memory restarts all sessions, by PostgreSQL's own rule; the fetcher dies with its parent
start_streams('kill -9 of the supervisor');
$fetcher = fetcher();
kill 'KILL', $supervisor;
ok(wait_until(sub { !kill 0, $fetcher }, 20), 'kill -9 of the supervisor: no fetcher stays behind');
ok(replaced(\&supervisor, $supervisor), 'kill -9 of the supervisor: the server recovers and another takes its place');
check_all('kill -9 of the supervisor');
like(slurp_file($node->logfile), qr/terminating any other active server processes/, 'kill -9 of the supervisor: the server has restarted its sessions');

$node->stop;
$provider->stop;
done_testing();
