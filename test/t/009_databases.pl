# Databases: several at work, one made from a template, dropped and renamed while busy, and none that is not asked for.
use strict;
use warnings;
use lib 'lib';
use MrPrompt qw(new_cluster start_provider wait_until);
use PostgreSQL::Test::Utils;
use Test::More;

my $provider = start_provider();
my $base = $provider->url;
my $node = new_cluster('databases', extension => 0, conf => "max_worker_processes = 16\nmrprompt.idle_timeout = 1000\n");

sub set_up
{
    my ($database) = @_;
    $node->safe_psql($database, qq(
        create extension mrprompt;
        select mrprompt.add_user(login_role => current_user);
        insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private) values ('fake', 'openai', '$base/v1', true, true);));
}
sub supervisors { return $node->safe_psql('postgres', q(select coalesce(string_agg(datname, ',' order by datname), '') from pg_stat_activity where backend_type = 'mrprompt supervisor')) }
sub queue_of { return $node->safe_psql($_[0], 'select count(*) from mrprompt_internal.queue') }

$node->safe_psql('postgres', 'create database one');
$node->safe_psql('postgres', 'create database two');
ok(wait_until(sub { supervisors() eq '' }, 20), 'no supervisor stays in a database without the extension');
set_up($_) for qw(one two);
$node->safe_psql($_, q(select mrprompt.chat_text('hello', 'm', 'fake'))) for qw(one two);
ok(wait_until(sub { queue_of('one') + queue_of('two') == 0 }, 30), 'two databases are served at once');
ok(wait_until(sub { supervisors() eq '' }, 30), 'idle supervisors leave');
$node->safe_psql('one', q(select mrprompt.chat_text('again', 'm', 'fake')));
ok(wait_until(sub { queue_of('one') == 0 }, 30), 'and come back when there is work');

# A rolled-back request wakes nobody; a prepared one is found.
$node->safe_psql('one', q(begin; select mrprompt.chat_text('never', 'm', 'fake'); rollback));
is(queue_of('one'), '0', 'a rolled-back request was never there');

# Utility commands while streams run.
$node->safe_psql('one', q(select mrprompt.chat_text('fake?words=200&pace=50', 'm', 'fake', stream => true)));
ok(wait_until(sub { $node->safe_psql('one', 'select count(*) from mrprompt.deltas') > 2 }, 30), 'a stream runs');
my $before = $provider->stats->{disconnects};
is($node->psql('postgres', 'alter database one rename to uno'), 0, 'a busy database can be renamed');
ok(wait_until(sub { $provider->stats->{disconnects} > $before }, 20), 'its fetcher has left');
ok(wait_until(sub { $node->safe_psql('uno', q(select attempts from mrprompt.requests where stream)) >= 2 }, 30), 'and goes on under the new name');
is($node->psql('postgres', 'create database copied template uno'), 0, 'a busy database can be a template');
ok(wait_until(sub { $node->safe_psql('uno', q(select attempts from mrprompt.requests where stream)) >= 3 }, 30), 'it goes on after that');
is($node->safe_psql('copied', q(select is_home from mrprompt.status())), 'f', 'the copy waits');
is($node->psql('postgres', 'drop database uno'), 0, 'a busy database can be dropped');
$node->safe_psql('two', q(select mrprompt.chat_text('fake?words=200&pace=50', 'm', 'fake', stream => true)));
ok(wait_until(sub { $node->safe_psql('two', 'select count(*) from mrprompt.deltas') > 2 }, 30), 'a stream runs in the other');
is($node->psql('two', 'drop extension mrprompt'), 0, 'the extension can be dropped while busy');
ok(wait_until(sub { supervisors() eq '' }, 30), 'nobody stays behind');
set_up('two');
$node->safe_psql('two', q(select mrprompt.chat_text('anew', 'm', 'fake')));
ok(wait_until(sub { queue_of('two') == 0 }, 30), 'created again, it works again');

# The extension in a template database is not served, its children are.
set_up('template1');
ok(wait_until(sub { supervisors() !~ /template1/ }, 20), 'no supervisor in a template');
$node->safe_psql('postgres', 'create database child');
$node->safe_psql('child', 'select mrprompt.resume_here()');
$node->safe_psql('child', q(select mrprompt.chat_text('from a template', 'm', 'fake')));
ok(wait_until(sub { queue_of('child') == 0 }, 30), 'a database made from it is served once it is told that it is no copy');

$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC|terminated by signal/, 'the log has no trouble in it');
$provider->stop;
done_testing();
