# The fetcher started by hand: no preload, libpq, its own keyring file; several of them; one that is killed.
use strict;
use warnings;
use lib 'lib';
use IPC::Run ();
use MrPrompt qw(new_cluster start_provider wait_until source_path);
use PostgreSQL::Test::Utils;
use Test::More;

my $provider = start_provider();
my $node = new_cluster('libpq', preload => 0, conf => "mrprompt.heartbeat_interval = 300\nmrprompt.lease_timeout = 2000\nmrprompt.max_failures = 3\n");
my $base = $provider->url;
$node->safe_psql('postgres', qq(
    select mrprompt.add_user(login_role => current_user);
    create role fetcher_login login in role mrprompt_fetcher;
    insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private) values ('fake', 'openai', '$base/v1', true, true);
    select mrprompt.add_key('fake', 'sk-test-libpq-00001');));

my $program = source_path('build', 'mrprompt-fetcher');
my $keyring = MrPrompt::master_key_file($node);
sub start_fetcher
{
    my %fetcher = (out => '', err => '');
    $fetcher{run} = IPC::Run::start([ $program, '--dsn', $node->connstr('postgres') . ' user=fetcher_login', '--master-key-file', $keyring, @_ ],
        '<', \undef, '>', \$fetcher{out}, '2>', \$fetcher{err});
    return \%fetcher;
}
sub ended { return $node->safe_psql('postgres', q(select count(*) from mrprompt.requests where status in ('queued', 'running'))) == 0 }
sub alive { return $node->safe_psql('postgres', 'select fetchers from mrprompt.status()') }

like(run_version(), qr/^mrprompt-fetcher \d/, '--version');
sub run_version { my ($out, $err) = run_command([ $program, '--version' ]); return $out }
my ($out, $err) = run_command([ $program, '--no-such-option' ]);
like($err, qr/usage|--help/i, 'an unknown option is met with help');

my $first = start_fetcher();
ok(wait_until(sub { alive() == 1 }, 20), 'a fetcher over libpq says hello') or diag $first->{err};
ok(wait_until(sub { $first->{run}->pump_nb; $first->{err} =~ m{version \S+ serves \S+/postgres as fetcher [0-9a-f-]{36}$}m }, 20),
    'and tells who started it what it serves') or diag $first->{err};
unlike($first->{err}, qr/fetcher_login|password/, 'without the rest of the connection string');
my $id = $node->safe_psql('postgres', q(select mrprompt.chat_text('fake?require_key=sk-test-libpq-00001', 'm', 'fake')));
ok(wait_until(\&ended, 20), 'it serves the queue');
is($node->safe_psql('postgres', "select status from mrprompt.requests where id = '$id'"), 'succeeded', 'with the key that it opened itself');
($out, $err) = ($node->psql('postgres', q(select * from mrprompt.wait_for_request(mrprompt.chat_text('hi', 'm', 'fake'))), ()))[1, 2];
like($err, qr/in this very transaction/, 'a wait inside the asking transaction is refused');

# Woken by NOTIFY, not by the poll of five seconds.
my $slow = $node->safe_psql('postgres', q(
    create procedure roundtrip(inout ms numeric default null) language plpgsql as $$
    declare id uuid; started timestamptz := clock_timestamp(); w record;
    begin
        id := mrprompt.chat_text('quick', 'm', 'fake');
        commit;
        select * into w from mrprompt.wait_for_request(id);
        ms := round(extract(epoch from clock_timestamp() - started) * 1000);
        if w.status <> 'succeeded' then raise 'it is %', w.status; end if;
    end $$;
    call roundtrip();));
cmp_ok($slow, '<', 3000, "a notification wakes it ($slow ms)");

# Streams, readers without preload, and a second fetcher beside the first.
my $second = start_fetcher();
ok(wait_until(sub { alive() == 2 }, 20), 'two fetchers share the queue') or diag $second->{err};
$node->safe_psql('postgres', q(select count(mrprompt.chat_text('fake?words=30&pace=50', 'm', 'fake', stream => true)) from generate_series(1, 60)));
ok(wait_until(sub { $node->safe_psql('postgres', 'select count(*) from mrprompt.deltas') > 100 }, 20), 'streams run');
$id = $node->safe_psql('postgres', q(select id from mrprompt.requests where stream order by id limit 1));
like($node->safe_psql('postgres', "select string_agg(content, '') from mrprompt.stream('$id', 0, '1 s')"), qr/^w1 w2/, 'a reader follows without preload');
# Connections cut in the middle of calls: replies are lost, nothing is done twice and nothing is left behind.
$node->safe_psql('postgres', q(select count(mrprompt.chat_text('fake?delay=20', 'm', 'fake', metadata => '{"round": "cut"}')) from generate_series(1, 1500)));
for (1 .. 15)
{
    $node->safe_psql('postgres', q(select pg_terminate_backend(pid) from pg_stat_activity where usename = 'fetcher_login'));
    select undef, undef, undef, 0.05;
}
ok(wait_until(\&ended, 60), 'fetchers whose connections are cut come back');
is($node->safe_psql('postgres', q(select count(*), count(*) filter (where status = 'succeeded') from mrprompt.requests where metadata ->> 'round' = 'cut')), '1500|1500', 'every request has ended well');
is($node->safe_psql('postgres', q(select count(*) from (select request_id from mrprompt.usage where outcome = 'succeeded' group by 1 having count(*) > 1) twice)), '0', 'none twice');
# kill -9: its lease ends, and the other takes over.
kill 'KILL', $first->{run}->{KIDS}[0]{PID};
$first->{run}->finish;
ok(wait_until(sub { alive() == 1 }, 20), 'a killed fetcher is found dead by its lease');
ok(wait_until(\&ended, 30), 'the other one does its work as well');
is($node->safe_psql('postgres', q(select count(*) from mrprompt.requests r join mrprompt.responses a on a.request_id = r.id where r.stream and a.content = (select string_agg('w' || n, ' ' order by n) from generate_series(1, 30) n))),
    '60', 'every stream ended with the right text');
is($node->safe_psql('postgres', q(select count(*) = count(distinct request_id) from mrprompt.usage where outcome = 'succeeded')), 't', 'each once');

# The server restarts under it: it comes back by itself.
$id = $node->safe_psql('postgres', q(select mrprompt.chat_text('fake?delay=1500', 'm', 'fake')));
wait_until(sub { $node->safe_psql('postgres', "select status from mrprompt.requests where id = '$id'") eq 'running' }, 20);
$node->restart;
ok(wait_until(\&ended, 30), 'a restart of the server is survived');
is($node->safe_psql('postgres', "select status from mrprompt.requests where id = '$id'"), 'succeeded', 'by the request in flight, too');

# SIGTERM drains: what is in flight ends, then the fetcher leaves.
$id = $node->safe_psql('postgres', q(select mrprompt.chat_text('fake?delay=1000', 'm', 'fake')));
wait_until(sub { $node->safe_psql('postgres', "select status from mrprompt.requests where id = '$id'") eq 'running' }, 20);
kill 'TERM', $second->{run}->{KIDS}[0]{PID};
$second->{run}->finish;
is($second->{run}->result(0), 0, 'SIGTERM ends it well') or diag $second->{err};
is($node->safe_psql('postgres', "select status, attempts from mrprompt.requests where id = '$id'"), 'succeeded|1', 'after what was in flight');
is(alive(), '0', 'and its lease is gone');

# A wrong keyring is named as such, and costs the provider no call.
my $other = $node->basedir . '/other.key';
append_to_file($other, 'k1:' . '00' x 32 . "\n");
chmod 0600, $other;
$keyring = $other;
my $third = start_fetcher();
wait_until(sub { alive() == 1 || !$third->{run}->pumpable }, 20);
$id = $node->safe_psql('postgres', q(select mrprompt.chat_text('sealed', 'm', 'fake')));
ok(wait_until(\&ended, 60), 'with another keyring the request ends') or diag $third->{err}, $node->safe_psql('postgres', 'select * from mrprompt_internal.queue');
like($node->safe_psql('postgres', "select error_type || ': ' || error_message from mrprompt.requests where id = '$id'"), qr/key/, 'and says that the key did not open');
kill 'TERM', $third->{run}->{KIDS}[0]{PID};
$third->{run}->finish;
unlike("$first->{err}$second->{err}$third->{err}", qr/sk-test/, 'no fetcher has written a key anywhere');
$node->stop;
unlike(slurp_file($node->logfile), qr/sk-test/, 'nor has the server');
$provider->stop;
done_testing();
