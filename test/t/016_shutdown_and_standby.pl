# Stopping the server while streams run, in every way, and standbys: read, promoted, and lost.
use strict;
use warnings;
use lib 'lib';
use IPC::Run ();
use MrPrompt qw(new_cluster start_provider wait_until source_path);
use PostgreSQL::Test::Utils;
use Test::More;

my $provider = start_provider();
my $base = $provider->url;
my $node = new_cluster('primary', conf => "mrprompt.heartbeat_interval = 300\nwal_level = replica\nmax_wal_senders = 5\n");
$node->safe_psql('postgres', qq(
    select mrprompt.add_user(login_role => current_user);
    insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private) values ('fake', 'openai', '$base/v1', true, true);
    create role fetcher_login login in role mrprompt_fetcher;));

my $words = join ' ', map { "w$_" } 1 .. 40;
sub start_streams
{
    my ($server, $round) = @_;
    $server->safe_psql('postgres', qq(select count(mrprompt.chat_text('fake?words=40&pace=50&id=$round-' || i, 'm', 'fake', stream => true)) from generate_series(1, 20) i));
    ok(wait_until(sub { $server->safe_psql('postgres', q(select count(distinct d.request_id) from mrprompt.deltas d join mrprompt.requests r on r.id = d.request_id where r.status = 'running')) == 20 }, 30),
        "$round: 20 streams are under way");
}
sub all_ended { return $_[0]->safe_psql('postgres', q(select count(*) from mrprompt.requests where status in ('queued', 'running'))) == 0 }
sub good { return $_[0]->safe_psql('postgres', qq(select count(*) from mrprompt.requests r join mrprompt.responses a on a.request_id = r.id where r.status = 'succeeded' and a.content = '$words')) }
sub charged { return $_[0]->safe_psql('postgres', q(select count(*) = count(distinct (request_id, attempt)), count(*) filter (where outcome = 'succeeded') from mrprompt.usage)) }
sub fetcher_pids { return split /,/, $_[0]->safe_psql('postgres', q(select array_to_string(fetcher_pids, ',') from mrprompt_internal.server_state())) }
sub workers { return $_[0]->safe_psql('postgres', q(select count(*) from pg_stat_activity where backend_type like 'mrprompt%')) }

# --- the three ways to stop
my $expected = 0;
for my $mode (qw(fast smart immediate))
{
    start_streams($node, $mode);
    my ($pid) = fetcher_pids($node);
    ok($pid && kill(0, $pid), "$mode: a fetcher runs");
    $node->stop($mode);
    ok(wait_until(sub { !kill 0, $pid }, 20), "$mode: the server stops, and no fetcher stays behind");
    $node->start;
    ok(wait_until(sub { all_ended($node) }, 60), "$mode: after the start every request ends");
    $expected += 20;
    is(good($node), $expected, "$mode: with the right text");
    is(charged($node), "t|$expected", "$mode: charged once");
}

# A smart shutdown waits for the sessions that are there: they are served until they leave.
{
    my $session = $node->background_psql('postgres');
    $session->query_safe('select 1');
    system_or_bail('pg_ctl', '-D', $node->data_dir, '-m', 'smart', '-W', 'stop');
    my $id = $session->query_safe(q(select mrprompt.chat_text('fake?words=40&pace=5', 'm', 'fake', stream => true)));
    my $content = $session->query_safe("select content from mrprompt.wait_for_request('$id', '30 s')");
    is($content, $words, 'a session that a smart shutdown waits for gets its answer');
    $session->quit;
    ok(wait_until(sub { !-e $node->data_dir . '/postmaster.pid' }, 60), 'when it has left, the server ends');
    $node->_update_pid(0);
    $node->start;
    $expected++;
}

# --- a standby: nothing runs there, and it can be read
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', "hot_standby_feedback = on\n");   # else replay and a reader that waits can block each other
$standby->start;
my $slow = $node->safe_psql('postgres', q(select mrprompt.chat_text('fake?words=40&pace=50', 'm', 'fake', stream => true)));
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', "select status, content = '$words' from mrprompt.wait_for_request('$slow', '30 s')"), 'succeeded|t', 'a reader on the standby waits for an answer and gets it');
is($standby->safe_psql('postgres', "select string_agg(content, '' order by seq) from mrprompt.stream('$slow')"), $words, 'and the stream');
is(workers($standby), '0', 'no worker runs on the standby');
is(join(',', fetcher_pids($standby)), '', 'nor a fetcher');
is($standby->safe_psql('postgres', q(select queued, is_home from mrprompt.status())), '0|t', 'status() works there');
is($standby->psql('postgres', q(select * from mrprompt.doctor())), 0, 'and doctor()');
like(($standby->psql('postgres', q(select mrprompt.chat_text('no', 'm', 'fake'))))[2], qr/read-only transaction/, 'a chat is refused there');
$expected++;

# --- a synchronous standby that is lost: streams and settlements go on, by both kinds of fetcher
$node->append_conf('postgresql.conf', "synchronous_standby_names = '*'\n");
$node->reload;
ok(wait_until(sub { $node->safe_psql('postgres', q(select count(*) from pg_stat_replication where sync_state = 'sync')) == 1 }, 30), 'the standby becomes synchronous');
start_streams($node, 'lost');
$standby->stop('immediate');
ok(wait_until(sub { $node->safe_psql('postgres', 'select count(*) from pg_stat_replication') == 0 }, 30), 'it is lost');
ok(wait_until(sub { all_ended($node) }, 60), 'streams end all the same');
$expected += 20;
is(good($node), $expected, 'with the right text');
my $local = 'set synchronous_commit = local;';    # the test's own commits would wait for ever
my $next = $node->safe_psql('postgres', "$local select mrprompt.chat_text('fake?words=40&pace=5', 'm', 'fake', stream => true)");
is($node->safe_psql('postgres', "select status from mrprompt.wait_for_request('$next', '30 s')"), 'succeeded', 'new ones are served');
$node->append_conf('postgresql.conf', "mrprompt.local_fetcher = off\n");
$node->reload;
my ($out, $err) = ('', '');
my $fetcher = IPC::Run::start([ source_path('build', 'mrprompt-fetcher'), '--dsn', $node->connstr('postgres') . ' user=fetcher_login', '--master-key-file', MrPrompt::master_key_file($node) ],
    '<', \undef, '>', \$out, '2>', \$err);
ok(wait_until(sub { $node->safe_psql('postgres', q(select count(*) from mrprompt_internal.fetchers where kind = 'libpq')) == 1 }, 30), 'a fetcher over libpq says hello');
ok(wait_until(sub { !fetcher_pids($node) }, 30), 'the local one leaves');
$next = $node->safe_psql('postgres', "$local select mrprompt.chat_text('fake?words=40&pace=5', 'm', 'fake', stream => true)");
is($node->safe_psql('postgres', "select status from mrprompt.wait_for_request('$next', '30 s')"), 'succeeded', 'the one over libpq serves, too');
$fetcher->signal('TERM');
$fetcher->finish;
$node->append_conf('postgresql.conf', "synchronous_standby_names = ''\nmrprompt.local_fetcher = on\n");
$node->reload;
$expected += 2;

# --- promotion: the promoted server goes on with the queue of the one that is gone
$standby->start;
start_streams($node, 'promoted');
$node->safe_psql('postgres', q(select mrprompt.chat_text('fake?words=40', 'm', 'fake', expires_at => now() + interval '1 hour', metadata => '{"last": true}')));
$node->wait_for_catchup($standby);
$node->stop('immediate');
is(workers($standby), '0', 'no worker runs before the promotion');
$standby->promote;
ok(wait_until(sub { all_ended($standby) }, 60), 'the promoted server goes on: every request ends');
$expected += 21;
is(good($standby), $expected, 'with the right text');
is(charged($standby), "t|$expected", 'each charged once');
is($standby->safe_psql('postgres', 'select is_home from mrprompt.status()'), 't', 'it is at home');
$standby->stop;

$provider->stop;
done_testing();
