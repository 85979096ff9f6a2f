# Invariants of the contract that need a server: no transaction while the network is waited for, locks in the way, old snapshots.
use strict;
use warnings;
use lib 'lib';
use MrPrompt qw(new_cluster start_provider wait_until);
use PostgreSQL::Test::Utils;
use Test::More;

my $provider = start_provider();
my $base = $provider->url;
my $node = new_cluster('contract', conf => "max_prepared_transactions = 5\nmrprompt.heartbeat_interval = 300\n");
$node->safe_psql('postgres', qq(
    select mrprompt.add_user(login_role => current_user);
    insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private) values ('fake', 'openai', '$base/v1', true, true);));
sub ended { return $node->safe_psql('postgres', q(select count(*) from mrprompt.requests where status in ('queued', 'running'))) == 0 }
sub ask { return $node->safe_psql('postgres', "select mrprompt.chat_text('$_[0]', 'm', 'fake', stream => true)") }

# --- no transaction and no snapshot while the network is waited for
my $slow = ask('fake?delay=3000');
ok(wait_until(sub { $node->safe_psql('postgres', "select status from mrprompt.requests where id = '$slow'") eq 'running' }, 20), 'a slow request is in flight');
my $held = 0;
for (1 .. 20)
{
    $held++ if $node->safe_psql('postgres', q(select count(*) from pg_stat_activity where backend_type = 'mrprompt supervisor' and (xact_start is not null or backend_xmin is not null))) > 0;
    select undef, undef, undef, 0.05;
}
cmp_ok($held, '<', 10, "the supervisor is between transactions nearly always ($held of 20 looks met one)");
my $quick = ask('quick');
ok(wait_until(sub { $node->safe_psql('postgres', "select status from mrprompt.requests where id = '$quick'") eq 'succeeded' }, 20), 'others are answered meanwhile');
is($node->safe_psql('postgres', "select status from mrprompt.requests where id = '$slow'"), 'running', 'while it still runs');
is($node->safe_psql('postgres', q(select count(*) from mrprompt.requests_in_flight where phase in ('claimed', 'connecting', 'waiting'))), '1', 'and is seen waiting');
ok(wait_until(\&ended, 20), 'it ends, too');

# --- a lock on a whole table: the calls give up quickly, the doctor names who holds it, and everything goes on afterwards
my $locker = $node->background_psql('postgres', timeout => 180 + 2 * ($ENV{SNAPSHOT_SECONDS} // 0));
my $pid = $locker->query_safe('select pg_backend_pid()');
my $running = ask('fake?words=20&pace=50');
ok(wait_until(sub { $node->safe_psql('postgres', "select count(*) from mrprompt.deltas where request_id = '$running'") > 0 }, 20), 'a stream runs');
$locker->query_safe('begin; lock table mrprompt_internal.queue in share row exclusive mode');
sleep 6;
like($node->safe_psql('postgres', q(select finding from mrprompt.doctor() where finding like 'Session%')), qr/Session $pid .* on .*queue/, 'the doctor names the session that holds a lock');
is($node->safe_psql('postgres', "select status from mrprompt.requests where id = '$running'"), 'running', 'the request cannot be settled yet');
$locker->query_safe('rollback');
ok(wait_until(\&ended, 30), 'once the lock is gone it is');
is($node->safe_psql('postgres', "select content from mrprompt.responses where request_id = '$running'"), join(' ', map { "w$_" } 1 .. 20), 'with nothing lost');
is($node->safe_psql('postgres', "select attempts from mrprompt.requests where id = '$running'"), '1', 'in one attempt');

# --- an old snapshot keeps dead rows; a claim still reads few pages. SNAPSHOT_SECONDS: how old it gets (`make soak`: 600)
$locker->query_safe('begin isolation level repeatable read; select count(*) from mrprompt.requests');
my $oldest = time + ($ENV{SNAPSHOT_SECONDS} // 0);
my $served = 0;
do
{
    $node->safe_psql('postgres', 'select mrprompt.pause()');
    $node->safe_psql('postgres', q(select count(mrprompt.chat_text('q', 'm', 'fake')) from generate_series(1, 5000)));
    $node->safe_psql('postgres', q(update mrprompt_internal.queue set ready_at = now() - interval '1 hour'));
    $node->safe_psql('postgres', 'select mrprompt.resume()');
    wait_until(\&ended, 60) or BAIL_OUT('under an old snapshot the queue stands still: ' . $node->safe_psql('postgres', 'select * from mrprompt.status()'));
    $served += 5000;
} while time < $oldest;
# The supervisor's counters reach the statistics up to a second after its last transaction.
my $dead = 0;
wait_until(sub { ($dead = $node->safe_psql('postgres', q(select pg_stat_force_next_flush(); select n_dead_tup from pg_stat_all_tables where relname = 'queue')) =~ s/\s//gr) >= 10000 }, 10);
cmp_ok($dead, '>=', 10000, "$served requests went through under an old snapshot, which keeps $dead dead rows");
# The first claim of a fetcher looks for the place where the living begin; the next ones know it.
my $pages = $node->safe_psql('postgres', q(
    create temp table f as select (mrprompt_internal.hello('{"contract": 1, "kind": "libpq"}') ->> 'fetcher')::uuid as id;
    create temp view read as
        select sum(pg_stat_get_xact_blocks_fetched(i)) as pages  -- by this session alone
        from unnest(array(select 'mrprompt_internal.queue'::regclass::oid union all select indexrelid from pg_index where indrelid = 'mrprompt_internal.queue'::regclass)) i;
    select mrprompt_internal.claim(json_build_object('fetcher', id, 'room', 10, 'bytes', 1000)) from f \g /dev/null
    begin;
    select pages as before from read \gset
    select mrprompt_internal.claim(json_build_object('fetcher', id, 'room', 10, 'bytes', 1000)) from f \g /dev/null
    select pages - :before from read;
    commit;
    select mrprompt_internal.fetcher_gone(id, false) from f \g /dev/null));
cmp_ok($pages, '<', 60, "a claim beside them reads $pages pages of the queue and its indexes");
# So it is with runs that were put down to be looked at, and were.
$pages = $node->safe_psql('postgres', q(
    insert into mrprompt_internal.run_work (id, run_id) select mrprompt_internal.id_of_time(now() - interval '1 minute'), gen_random_uuid() from generate_series(1, 20000) \g /dev/null
    delete from mrprompt_internal.run_work \g /dev/null
    create temp table f as select (mrprompt_internal.hello('{"contract": 2, "kind": "libpq"}') ->> 'fetcher')::uuid as id;
    create temp view read as select (select sum(idx_blks_hit + idx_blks_read) from pg_statio_all_indexes where relname = 'run_work')
        + (select heap_blks_hit + heap_blks_read from pg_statio_all_tables where relname = 'run_work') as pages;
    select mrprompt_internal.claim(json_build_object('fetcher', id, 'room', 10, 'bytes', 1000)) from f \g /dev/null
    select pg_stat_force_next_flush() \g /dev/null
    select pages as before from read \gset
    select mrprompt_internal.claim(json_build_object('fetcher', id, 'room', 10, 'bytes', 1000)) from f \g /dev/null
    select pg_stat_force_next_flush() \g /dev/null
    select pages - :before from read;
    select mrprompt_internal.fetcher_gone(id, false) from f \g /dev/null));
cmp_ok($pages, '<', 20, "and $pages pages of the runs' work");
$locker->query_safe('rollback');
$locker->quit;

# --- a prepared transaction is found when it is committed
$node->safe_psql('postgres', q(begin; select mrprompt.chat_text('prepared', 'm', 'fake'); prepare transaction 'p'));
$node->safe_psql('postgres', q(commit prepared 'p'));
ok(wait_until(sub { ended() && $node->safe_psql('postgres', q(select count(*) from mrprompt.requests where payload::text like '%prepared%' and status = 'succeeded')) == 1 }, 30), 'COMMIT PREPARED wakes the fetcher');

# --- settings of the database do not reach the contract
$node->safe_psql('postgres', q(
    alter database postgres set default_transaction_isolation = 'serializable';
    alter database postgres set default_transaction_read_only = on;
    alter database postgres set statement_timeout = '1ms';
    alter database postgres set search_path = 'nowhere';
    alter database postgres set "TimeZone" = 'Asia/Kathmandu';));
$node->safe_psql('postgres', q(set statement_timeout = 0; select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'mrprompt supervisor'));
my $id = $node->safe_psql('postgres', q(set statement_timeout = 0; set transaction_read_only = off; begin isolation level read committed read write; select mrprompt.chat_text('with odd settings', 'm', 'fake'); commit)) =~ s/\s//gr;
ok(wait_until(sub { $node->safe_psql('postgres', "set statement_timeout = 0; select status from mrprompt.requests where id = '$id'") eq 'succeeded' }, 30), 'ALTER DATABASE SET does not reach the workers');

$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC|terminated by signal/, 'the log has no trouble in it');
$provider->stop;
done_testing();
