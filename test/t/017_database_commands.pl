# Commands on a whole database while it streams, copies that wait, DROP EXTENSION, and too few worker slots.
use strict;
use warnings;
use lib 'lib';
use MrPrompt qw(new_cluster start_provider wait_until);
use PostgreSQL::Test::Utils;
use Test::More;

my $provider = start_provider();
my $base = $provider->url;
# Two of the four slots are the launchers', mrprompt's and PostgreSQL's own for replication: two are left.
my $node = new_cluster('commands', extension => 0, conf => "max_worker_processes = 4\nmrprompt.idle_timeout = 1000\nmrprompt.heartbeat_interval = 300\n");
my $words = join ' ', map { "w$_" } 1 .. 40;

sub set_up
{
    my ($database) = @_;
    $node->safe_psql($database, qq(
        create extension mrprompt;
        select mrprompt.add_user(login_role => current_user);
        insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private) values ('fake', 'openai', '$base/v1', true, true);
        select mrprompt.add_key('fake', 'sk-test-commands-01');));
}
sub value { my ($database, $sql) = @_; return $node->safe_psql($database, $sql) }
sub queue_streams
{
    my ($database, $pace) = @_;
    $pace //= 50;
    value($database, qq(select count(mrprompt.chat_text('fake?words=40&pace=$pace&require_key=sk-test-commands-01&id=$database-' || i, 'm', 'fake', stream => true)) from generate_series(1, 10) i));
    return;
}
sub start_streams
{
    my ($database, $pace) = @_;
    queue_streams($database, $pace);
    ok(wait_until(sub { value($database, q(select count(distinct d.request_id) from mrprompt.deltas d join mrprompt.requests r on r.id = d.request_id where r.status = 'running')) == 10 }, 30),
        "10 streams of database $database are under way");
}
sub all_ended { return value($_[0], q(select count(*) from mrprompt.requests where status in ('queued', 'running'))) == 0 }
sub good
{
    return value($_[0], qq(select count(*) filter (where r.status = 'succeeded' and a.content = '$words'), count(distinct u.request_id), count(*) from mrprompt.requests r
        left join mrprompt.responses a on a.request_id = r.id left join mrprompt.usage u on u.request_id = r.id and u.outcome = 'succeeded'));
}
sub supervisors { return value('postgres', q(select coalesce(string_agg(datname, ',' order by datname), '') from pg_stat_activity where backend_type = 'mrprompt supervisor')) }

# --- four databases with a queue each, and worker slots for two
my @databases = qw(one two three four);
for my $database (@databases) { value('postgres', "create database $database"); set_up($database) }
queue_streams($_) for @databases;
ok(wait_until(sub { !grep { !all_ended($_) } @databases }, 90), 'four databases share two worker slots: every request ends');
is(join(' ', map { good($_) } @databases), '10|10|10 10|10|10 10|10|10 10|10|10', 'each queue in its own database, with the right text');
value('postgres', "drop database $_") for qw(three four);

# --- what moves a database: its streams are made anew in the new place
mkdir $node->basedir . '/elsewhere' or die $!;
value('postgres', "create tablespace elsewhere location '" . $node->basedir . "/elsewhere'");
start_streams('one');
is($node->psql('postgres', 'alter database one rename to uno'), 0, 'a database is renamed under its streams');
ok(wait_until(sub { all_ended('uno') }, 60), 'every request ends under the new name');
is(good('uno'), '20|20|20', 'once, with the right text');
start_streams('uno');
is($node->psql('postgres', 'alter database uno set tablespace elsewhere'), 0, 'a database moves to another tablespace under its streams');
ok(wait_until(sub { all_ended('uno') }, 60), 'every request ends there');
is(good('uno'), '30|30|30', 'once, with the right text');

# --- a copy of a busy database waits, the original goes on
start_streams('uno');
is($node->psql('postgres', 'create database copied template uno'), 0, 'a database is copied under its streams');
ok(wait_until(sub { all_ended('uno') }, 60), 'the original goes on');
is(good('uno'), '40|40|40', 'once, with the right text');
is(value('copied', q(select count(*) from mrprompt.requests where status in ('queued', 'running'))), '10', 'the copy keeps its ten requests waiting');
like(value('copied', 'select finding from mrprompt.doctor()'), qr/This database is a copy/, 'and its doctor says why');

# --- a template is left alone, what is made from it waits as a copy
start_streams('uno', 200);    # they last longer than the supervisor needs to notice
value('postgres', 'alter database uno is_template true');
ok(wait_until(sub { supervisors() !~ /uno/ }, 30), 'the supervisor leaves a database that becomes a template');
value('postgres', 'create database child template uno');
my $sent = $provider->stats->{requests};
is(value('child', 'select is_home from mrprompt.status()'), 'f', 'a database made from it is a copy');
value('child', q(select mrprompt.chat_text('fake?words=40&require_key=sk-test-commands-01', 'm', 'fake')));
ok(wait_until(sub { supervisors() =~ /child/ }, 20), 'a new request wakes its supervisor');
ok(wait_until(sub { supervisors() !~ /child/ }, 30), 'which finds nothing that it may do');
is($provider->stats->{requests}, $sent, 'and nothing is sent');
is(value('uno', q(select count(*) from mrprompt_internal.queue)), '10', 'those of the template wait');
value('child', 'select mrprompt.resume_here()');
value('postgres', 'alter database uno is_template false');
value('uno', 'select mrprompt.resume()');
ok(wait_until(sub { all_ended('child') }, 60), 'once the child is told that it is no copy, its requests are answered');
is(good('child'), '51|51|51', 'once, with the right text');
ok(wait_until(sub { all_ended('uno') }, 60), 'and those of the template, when it is one no more');

# --- DROP EXTENSION says what goes, and a rollback keeps it
start_streams('two');
my ($code, $out, $warning) = $node->psql('two', 'begin; drop extension mrprompt; rollback');
is($code, 0, 'the extension is dropped under its streams');
like($warning, qr/WARNING:  dropping mrprompt deletes all that it holds.*Requests: 20, of them in flight: 10; API keys: 1; usage rows: \d+\./s, 'with a warning that counts what goes');
ok(wait_until(sub { all_ended('two') }, 60), 'after ROLLBACK everything goes on');
is(good('two'), '20|20|20', 'once, with the right text');
value('postgres', 'create role bystander login');
($code, $out, $warning) = $node->psql('two', 'drop extension mrprompt', extra_params => [ '-U', 'bystander' ]);
like($warning, qr/must be owner/, 'who may not drop it');
unlike($warning, qr/WARNING/, 'learns nothing');

# A session that holds a table in its hand: the count does not wait for it, the drop does.
start_streams('two');
my $holder = $node->background_psql('two');
$holder->query_safe('begin; lock table mrprompt.requests in access exclusive mode');
($code, $out, $warning) = $node->psql('two', q(set lock_timeout = '300ms'; drop extension mrprompt));
like($warning, qr/ERROR:  canceling statement due to lock timeout/, 'a drop that is held up');
unlike($warning, qr/WARNING/, 'does not wait twice');
$holder->query_safe('rollback');
$holder->quit;
($code, $out, $warning) = $node->psql('two', 'drop extension mrprompt');
like($warning, qr/Requests: 30,/, 'dropped for good');
ok(wait_until(sub { supervisors() eq '' }, 30), 'nobody stays behind');
unlike(($node->psql('two', 'create extension mrprompt; drop extension mrprompt'))[2], qr/WARNING/, 'an empty one goes without a word');
set_up('two');
queue_streams('two');
ok(wait_until(sub { all_ended('two') }, 60), 'created anew, it serves');
is(good('two'), '10|10|10', 'well');
start_streams('two');
is($node->psql('postgres', 'drop database two'), 0, 'a database is dropped under its streams');

$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC|deadlock detected|terminated by signal/, 'the log has no trouble in it');
$provider->stop;
done_testing();
