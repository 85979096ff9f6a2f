# Outages that pass: a provider that is down, a full disk, a server that is read-only by default. Nothing is lost.
use strict;
use warnings;
use lib 'lib';
use IPC::Run ();
use MrPrompt qw(new_cluster start_provider wait_until source_path);
use MrPrompt::Server;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $outage_seconds = $ENV{MRPROMPT_LONG} ? 60 : 5;
my $provider = start_provider();
my $port = $provider->port;
my $base = $provider->url;

sub set_up
{
    my ($node, $database) = @_;
    $node->safe_psql($database, qq(
        create extension if not exists mrprompt;
        select mrprompt.add_user(login_role => current_user);
        insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private) values ('fake', 'openai', '$base/v1', true, true);));
}
sub words { return join ' ', map { "w$_" } 1 .. $_[0] }

# --- the provider goes away in the middle of streams, and comes back on the same address
{
    my $node = new_cluster('outage', conf => "mrprompt.heartbeat_interval = 300\n");
    my $value = sub { return $node->safe_psql('postgres', $_[0]) };
    set_up($node, 'postgres');
    $value->(q(select count(mrprompt.chat_text('fake?words=100&pace=50&id=' || i, 'm', 'fake', stream => true)) from generate_series(1, 20) i));
    ok(wait_until(sub { $value->('select count(distinct request_id) from mrprompt.deltas') == 20 }, 30), '20 streams are under way');
    $provider->stop;
    $value->(q(select count(mrprompt.chat_text('late ' || i, 'm', 'fake')) from generate_series(1, 20) i));
    ok(wait_until(sub { $value->(q(select count(*) from mrprompt.requests where status = 'queued' and wait_reason is not null)) == 40 }, 60), 'the provider is gone: everything waits');
    like($value->(q(select wait_reason from mrprompt.requests where status = 'queued' and wait_reason is not null limit 1)),
        qr/^retry after connect|cools down after failures/, 'a waiting request says why it waits');
    sleep $outage_seconds;
    is($value->(q(select count(*) from mrprompt.requests where status in ('queued', 'running'))), '40', 'none is given up');

    $provider = MrPrompt::Server->start([ source_path('build', 'fake-provider'), '--port', $port ]);
    ok(wait_until(sub { $value->(q(select count(*) from mrprompt.requests where status in ('queued', 'running'))) == 0 }, 120), 'once it is back, every request ends');
    is($value->(q(select count(*) from mrprompt.requests where status = 'succeeded')), '40', 'all of them well');
    is($value->("select count(*) from mrprompt.responses where content = '" . words(100) . q(' or content like 'You said: late %')), '40', 'with the right text');
    is($value->(q(select count(*) from mrprompt.usage where outcome = 'succeeded')), '40', 'each charged once');

    # --- a server whose transactions are read-only unless they say otherwise: users see it, the workers do not
    my $running = $value->(q(select mrprompt.chat_text('fake?words=40&pace=50', 'm', 'fake', stream => true)));
    ok(wait_until(sub { $value->("select count(*) from mrprompt.deltas where request_id = '$running'") > 0 }, 30), 'a stream runs');
    $value->('alter system set default_transaction_read_only = on');
    $value->('select pg_reload_conf()');
    ok(wait_until(sub { $value->('show default_transaction_read_only') eq 'on' }, 20), 'the server becomes read-only');
    like(($node->psql('postgres', q(select mrprompt.chat_text('no', 'm', 'fake'))))[2], qr/read-only transaction/, 'a chat is refused with the reason');
    ok(wait_until(sub { $value->("select status from mrprompt.requests where id = '$running'") eq 'succeeded' }, 30), 'what was under way ends');
    my $asked = $value->(q(set default_transaction_read_only = off; select mrprompt.chat_text('yes', 'm', 'fake')));
    ok(wait_until(sub { $value->("select status from mrprompt.requests where id = '$asked'") eq 'succeeded' }, 30), 'who may write is served');
    $node->restart;
    $asked = $value->(q(set default_transaction_read_only = off; select mrprompt.chat_text('again', 'm', 'fake')));
    ok(wait_until(sub { $value->("select status from mrprompt.requests where id = '$asked'") eq 'succeeded' }, 30), 'by a server that was started so, too');
    $node->stop;
}

# --- a full disk: the database lies in a tablespace on a small tmpfs, mounted in a namespace of the server's own
SKIP:
{
    my ($uid, $gid) = ($<, $( + 0);
    my $probe = PostgreSQL::Test::Utils::tempdir();
    my $mounted = sub {
        my ($directory, @command) = @_;
        return ('unshare', '--user', '--map-root-user', '--mount', 'sh', '-c',
            'directory=$1 uid=$2 gid=$3; shift 3; mount -t tmpfs -o size=48m,mode=700 tmpfs "$directory" && exec unshare --user --map-user="$uid" --map-group="$gid" "$@"',
            'sh', $directory, $uid, $gid, @command);
    };
    my ($output, $refusal) = ('', '');
    my $allowed = eval { IPC::Run::run([ $mounted->($probe, 'touch', "$probe/file") ], '<', \undef, '>', \$output, '2>', \$refusal) };
    if (!$allowed)
    {
        my $reason = $refusal || $@;
        chomp $reason;
        diag "THE DISK-FULL TEST IS SKIPPED: no tmpfs can be mounted in a user namespace here: $reason";
        skip "no tmpfs can be mounted in a user namespace here: $reason", 9;
    }

    my $node = new_cluster('full', start => 0, conf => "mrprompt.heartbeat_interval = 300\nautovacuum = off\n");
    my $small = $node->basedir . '/small';
    mkdir $small or die "$small: $!";
    system_or_bail($mounted->($small, 'pg_ctl', '-w', '-D', $node->data_dir, '-l', $node->logfile, '-o', '--cluster-name=full', 'start'));
    $node->_update_pid(1);
    $node->safe_psql('postgres', "create tablespace small location '$small'");
    $node->safe_psql('postgres', 'create database crowded tablespace small');
    set_up($node, 'crowded');
    my $value = sub { return $node->safe_psql('crowded', $_[0]) };

    $value->(q(select count(mrprompt.chat_text('fake?words=150&pace=30&id=' || i, 'm', 'fake', stream => true)) from generate_series(1, 30) i));
    ok(wait_until(sub { $value->('select count(distinct request_id) from mrprompt.deltas') == 30 }, 30), '30 streams are under way');
    $node->safe_psql('postgres', qq(copy (select 1) to program 'dd if=/dev/zero of=$small/filler bs=4k 2>/dev/null; true'));
    my $error = ($node->psql('crowded', q(\set VERBOSITY verbose
        select mrprompt.chat_text(string_agg(md5(i::text), ''), 'm', 'fake') from generate_series(1, 10000) i)))[2];
    like($error, qr/53100: .*No space left on device/, 'the disk is full: a chat fails with the reason');
    ok(wait_until(sub { slurp_file($node->logfile) =~ /mrprompt: (append|settle) failed: .*No space left on device \(SQLSTATE 53100\)/ }, 30),
        'the log says why the answers are not stored');
    is($value->('select 1'), '1', 'the database still answers');
    cmp_ok($value->(q(select count(*) from mrprompt.requests where status in ('queued', 'running'))), '>', 0, 'and keeps the requests');

    $node->safe_psql('postgres', qq(copy (select 1) to program 'rm $small/filler'));
    ok(wait_until(sub { $value->(q(select count(*) from mrprompt.requests where status in ('queued', 'running'))) == 0 }, 90), 'once there is room, every request ends by itself');
    is($value->("select count(*) from mrprompt.requests r join mrprompt.responses a on a.request_id = r.id where r.status = 'succeeded' and a.content = '" . words(150) . q(')),
        '30', 'all of them with the right text');
    is($value->(q(select count(*), count(distinct (request_id, attempt)), count(*) filter (where outcome = 'succeeded') from mrprompt.usage)),
        '30|30|30', 'in one attempt, charged once');
    is($value->("select count(*) from mrprompt.requests r where (select string_agg(content, '' order by seq) from mrprompt.stream(r.id)) = '" . words(150) . q(')),
        '30', 'and readers get every piece');
    $node->stop;
}

$provider->stop;
done_testing();
