# A libpq fetcher under AddressSanitizer, from its start to its end: answers of every kind, cancels, cut
# connections on both sides; no memory leaks, none is misused.
use strict;
use warnings;
use lib 'lib';
use IPC::Run ();
use MrPrompt qw(new_cluster start_provider master_key_file wait_until source_path);
use PostgreSQL::Test::Utils;
use Test::More;

my $program = source_path('build', 'asan-fetcher');
my ($plain, $tls) = (start_provider(), start_provider(tls => 1));
my ($base, $tls_base, $ca_file) = ($plain->url, $tls->url, $tls->{ca_file});
my $node = new_cluster('leaks', preload => 0, conf => "mrprompt.heartbeat_interval = 200\nmrprompt.max_response = 64kB\n");
sub ask { return $node->safe_psql('postgres', $_[0]) }
ask(qq(
    select mrprompt.add_user(login_role => current_user);
    create role fetcher_login login in role mrprompt_fetcher;
    insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private, ca_file, cooldown_percent, backoff_base_ms) values
        ('plain', 'openai', '$base/v1', true, true, null, 0, 10), ('claude', 'anthropic', '$base', true, true, null, 0, 10),
        ('tls', 'openai', '$tls_base/v1', false, true, '$ca_file', 0, 10), ('distrusted', 'openai', '$tls_base/v1', false, true, null, 0, 10),
        ('no_file', 'openai', '$tls_base/v1', false, true, '/no/such/file', 0, 10), ('nobody', 'openai', 'http://127.0.0.1:9', true, true, null, 0, 10);
    select mrprompt.add_key('plain', 'sk-test-leaks-plain'), mrprompt.add_key('tls', 'sk-test-leaks-tls');));

# Its lone copies and what it forks report into the same place.
local $ENV{ASAN_OPTIONS} = 'detect_leaks=1:fast_unwind_on_malloc=0:log_path=' . PostgreSQL::Test::Utils::tempdir() . '/report';
my ($reports) = $ENV{ASAN_OPTIONS} =~ /log_path=(.*)/;
my ($out, $err) = ('', '');
my $fetcher = IPC::Run::start(
    [ $program, '--dsn', $node->connstr('postgres') . ' user=fetcher_login', '--master-key-file', master_key_file($node) ],
    '<', \undef, '>', \$out, '2>', \$err);
ok(wait_until(sub { ask('select fetchers from mrprompt.status()') == 1 }, 60), 'a fetcher under AddressSanitizer says hello') or diag $err;
my $pid = $fetcher->{KIDS}[0]{PID};
like(slurp_file("/proc/$pid/status"), qr/^NoNewPrivs:\t1$/m, 'it has no new privileges');
like(slurp_file("/proc/$pid/limits"), qr/^Max core file size\s+0\s+0\s/m, 'and dumps no core');

sub chat
{
    my ($provider, $prompt, $stream) = @_;
    return ask(sprintf q(select mrprompt.chat_text('%s', 'm', '%s', stream => %s, options => '{"max_failures": 2, "idle_timeout_ms": 500}')),
        $prompt, $provider, $stream ? 'true' : 'false');
}
sub all_ended { return wait_until(sub { ask(q(select count(*) from mrprompt.requests where finished_at is null)) == 0 }, 120) }
sub cut { return ask(q(select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = 'fetcher_login')) }
for my $provider (qw(plain claude tls))
{
    chat($provider, $_) for qw(fake fake?tool=f fake?status=401 fake?status=503 fake?big=100000 fake?html fake?garbage fake?length_lie=9);
    chat($provider, $_, 1) for qw(fake?words=30 fake?words=30&cut=10 fake?words=9&hang=2 fake?big=100000);
}
chat($_, 'fake') for qw(distrusted no_file nobody);
ok(all_ended(), 'requests of every kind end') or diag ask(q(select * from mrprompt.requests where finished_at is null));
is(ask(q(select count(distinct provider) from mrprompt.requests where status = 'succeeded')), 3, 'some well, of each provider that there is');
is(ask(q(select string_agg(provider || ' ' || status, ', ' order by provider) from mrprompt.requests where provider in ('distrusted', 'no_file', 'nobody'))),
    'distrusted failed, no_file failed, nobody failed', 'and none of the others');

# Cancels in flight, and connections to the database that are cut while answers stream.
my @running = map { chat($_, 'fake?delay=15000') } qw(plain tls);
my @streams = map { chat($_, 'fake?words=200&pace=20', 1) } qw(plain tls);
ok(wait_until(sub { ask(q(select count(*) from mrprompt.requests_in_flight where phase = 'waiting')) >= 2 }, 60), 'requests are under way');
is(cut(), 1, 'the connection is cut');
ask("select mrprompt.cancel_request('$_')") for @running;
ok(all_ended(), 'cancelled and streamed to their end');
is(ask(q(select count(*) from mrprompt.requests where status = 'cancelled')), 2, 'the cancelled are cancelled');

# It leaves with work in flight.
chat('plain', 'fake?words=100&pace=20', 1);
wait_until(sub { ask(q(select count(*) from mrprompt.requests where status = 'running')) == 1 }, 30);
kill 'TERM', $pid;
$fetcher->finish;
is($fetcher->result(0), 0, 'stopped, it ends what it has begun and leaves well') or diag $err;
my @found = map { slurp_file($_) } glob "$reports*";
is("@found", '', 'without a report of the sanitizer') or diag @found;

$node->stop;
done_testing();
