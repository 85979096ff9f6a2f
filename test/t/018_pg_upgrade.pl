# pg_upgrade: nothing runs in its mode, data and queue arrive, and the queue waits until it is told to go on.
use strict;
use warnings;
use lib 'lib';
use MrPrompt qw(new_cluster start_provider wait_until master_key_file);
use PostgreSQL::Test::Utils;
use Test::More;

my $provider = start_provider();
my $base = $provider->url;
my $words = join ' ', map { "w$_" } 1 .. 40;
my $old = new_cluster('old');
$old->safe_psql('postgres', qq(
    select mrprompt.add_user(login_role => current_user);
    insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private) values ('fake', 'openai', '$base/v1', true, true);
    select mrprompt.add_key('fake', 'sk-test-upgrade-001');));
my $ask = q(select count(mrprompt.chat_text('fake?words=40&require_key=sk-test-upgrade-001&id=' || i, 'm', 'fake', stream => true)) from generate_series(1, 10) i);
sub all_ended { return $_[0]->safe_psql('postgres', q(select count(*) from mrprompt.requests where status in ('queued', 'running'))) == 0 }
sub good { return $_[0]->safe_psql('postgres', qq(select count(*) from mrprompt.requests r join mrprompt.responses a on a.request_id = r.id join mrprompt.usage u on u.request_id = r.id where r.status = 'succeeded' and u.outcome = 'succeeded' and a.content = '$words')) }
sub supervisors { return $_[0]->safe_psql('postgres', q(select count(*) from pg_stat_activity where backend_type = 'mrprompt supervisor')) }
sub workers { return $_[0]->safe_psql('postgres', q(select count(*) from pg_stat_activity where backend_type like 'mrprompt%')) }

$old->safe_psql('postgres', $ask);
ok(wait_until(sub { all_ended($old) }, 30), 'ten requests have ended');
$old->safe_psql('postgres', 'select mrprompt.pause()');
$old->safe_psql('postgres', $ask);
$old->stop;
my $sent = $provider->stats->{requests};

# The mode in which pg_upgrade starts both servers.
system_or_bail('pg_ctl', '-w', '-D', $old->data_dir, '-l', $old->logfile, '-o', '-b', 'start');
$old->_update_pid(1);
ok(!wait_until(sub { workers($old) > 0 }, 2), 'under binary upgrade there is no launcher and no supervisor');
is($old->psql('postgres', 'select * from mrprompt.status()'), 0, 'while mrprompt can be read');
$old->stop;

my $new = new_cluster('new', extension => 0, start => 0, master_key => 0, conf => "mrprompt.master_key_file = '" . master_key_file($old) . "'\n");
my $programs = $old->config_data('--bindir');
chdir $PostgreSQL::Test::Utils::tmp_check or die $!;    # it leaves files where it runs
command_ok([ 'pg_upgrade', '--no-sync', '--old-datadir', $old->data_dir, '--new-datadir', $new->data_dir, '--old-bindir', $programs, '--new-bindir', $programs,
        '--socketdir', $new->host, '--old-port', $old->port, '--new-port', $new->port ], 'pg_upgrade takes the cluster along');
$new->start;
is(good($new), '10', 'what had ended is there');
is($new->safe_psql('postgres', 'select queued, paused, is_home from mrprompt.status()'), '10|{*}|f', 'the queue is there, of what is now a copy');
$new->safe_psql('postgres', 'select mrprompt.resume()');
ok(wait_until(sub { supervisors($new) == 1 }, 30), 'a supervisor looks at it');
ok(wait_until(sub { supervisors($new) == 0 }, 30), 'and leaves it waiting');
is($provider->stats->{requests}, $sent, 'nothing is sent');
$new->safe_psql('postgres', 'select mrprompt.resume_here()');
ok(wait_until(sub { all_ended($new) }, 60), 'when it is told to go on, every request ends');
is(good($new), '20', 'well, with the key that came along');
$new->stop;

$provider->stop;
done_testing();
