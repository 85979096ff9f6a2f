# With PostgreSQL's default log settings, no key that was used is found anywhere in the data directory: heap, WAL, log.
use strict;
use warnings;
use lib 'lib';
use MrPrompt qw(new_cluster start_provider wait_until);
use PostgreSQL::Test::Utils;
use Test::More;

my $provider = start_provider();
my $base = $provider->url;
my $node = new_cluster('secrets', conf => "log_min_messages = warning\nlog_min_error_statement = error\nlog_connections = off\nlog_disconnections = off\nlog_line_prefix = '%m [%p] %e '\n");
$node->safe_psql('postgres', qq(
    select mrprompt.add_user(login_role => current_user);
    insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private) values ('fake', 'openai', '$base/v1', true, true);));

# Every way to hand over a key, right and wrong.
my @keys;
sub key { push @keys, sprintf 'sk-test-secret-%04d', scalar @keys; return $keys[-1] }
my $id = $node->safe_psql('postgres', sprintf(q(select mrprompt.add_key('fake', '%s')), key()));
$node->safe_psql('postgres', sprintf(q(select mrprompt.update_key('%s', '%s')), $id, key()));
$node->safe_psql('postgres', sprintf(q(select length(mrprompt.encrypt_key('%s'))), key()));
$node->safe_psql('postgres', sprintf(q(select mrprompt.hash_key('%s'), mrprompt.mask_key('%s')), (key()) x 2));
my $sealed = $node->safe_psql('postgres', sprintf(q(select mrprompt.encrypt_key('%s', '00000000-0000-7000-8000-000000000001')), key()));
my ($code, $out, $err);
for my $wrong (
    q(select mrprompt.add_key('no-such-provider', '%s')),
    q(select mrprompt.add_key('fake', ' %s')),
    q(select mrprompt.add_key('fake', '%s', '[]')),
    q(select mrprompt.add_key('fake', '%s', '{"not json')),
    q(select mrprompt.add_key('fake', '%s', shared => 'perhaps')),
    q(select mrprompt.add_key('fake', '%s', user_id => 'nobody')),
    q(select mrprompt.add_key('fake', '%s', no_such_argument => 1)),
    q(select mrprompt.add_key('fake', '%s') from no_such_table),
    q(select mrprompt.add_key('fake', '%s') order bye),
    q(select mrprompt.update_key('00000000-0000-7000-8000-000000000000', '%s')),
    q(select mrprompt.update_key('not-an-id', '%s')),
    q(select mrprompt.encrypt_key('%s', 'not-an-id')),
    q(begin read only; select mrprompt.add_key('fake', '%s')),
    q(do $$ begin perform mrprompt.add_key('nowhere', '%s'); end $$))
{
    ($code, $out, $err) = $node->psql('postgres', sprintf($wrong, key()));
    isnt($code, 0, "refused: $wrong");
    # psql shows a person his own statement (LINE, CONTEXT); neither reaches the log.
    unlike($err =~ s/^(LINE|CONTEXT).*//mrs, qr/sk-test-secret/, 'and the message does not repeat the key');
}
# PostgreSQL itself quotes these to who wrote them, but not to the log.
for my $wrong (
    q(select mrprompt.add_key('fake', '%s)),
    q(select mrprompt.add_key('fake', "%s")),
    q(select mrprompt.add_key('fake', 'x') '%s'),
    q(select mrprompt.add_key('fake', 'x', '{"a": %s}')),
    q(select mrprompt.update_key('%s', 'x')),
    q(select mrprompt.add_key('fake', 'x', shared => '%s')),
    q(select mrprompt.add_key('fake', 'x', "%s" => 1)),
    q(select mrprompt.add_key('fake', 'x', user_id => '%s'::text::uuid)),
    q(select mrprompt.mask_key('x'), ('%s' || clock_timestamp())::int),
    q(prepare p (text, text) as select mrprompt.add_key($1, $2)\\; execute p('fake', "%s")),
    qq(prepare p (text, text) as select mrprompt.add_key(\$1, \$2);\nexecute p('fake', "%s")),
    qq(prepare p (text, text) as select mrprompt.add_key(\$1, \$2);\nexecute p('fake', '%s)),
    qq(prepare p (text, uuid) as select mrprompt.encrypt_key(\$1, \$2);\nexplain execute p('x', '%s')),
    q(select pg_terminate_backend(pg_backend_pid()), 'add_key(%s)'))
{
    ($code, $out, $err) = $node->psql('postgres', sprintf($wrong, key()));
    isnt($code, 0, "refused: $wrong");
    unlike($err, qr/carries an API key/, 'and its writer is told why');
}
my $log = slurp_file($node->logfile);
like($log, qr/22P02 ERROR:  a statement that carries an API key failed$/m, 'the log says that something failed, and the SQLSTATE');
like($log, qr/57P01 FATAL:  a statement that carries an API key failed$/m, 'an end of session too');

($code, $out, $err) = $node->psql('postgres', qq(select mrprompt.decrypt_key('$sealed', '00000000-0000-7000-8000-000000000002')));
like($err, qr/does not open/, 'a sealed key moved to another row does not open');
is($node->safe_psql('postgres', qq(select mrprompt.decrypt_key('$sealed', '00000000-0000-7000-8000-000000000001'))), $keys[4], 'in its place it does');

# The keys travel, the provider repeats one in an error, the fetcher is killed with keys in it.
for my $text ("fake?require_key=$keys[1]", 'fake?echo_key', 'fake?words=100&pace=50')
{
    $node->safe_psql('postgres', sprintf(q(select mrprompt.chat_text('%s', 'm', 'fake', stream => true)), $text =~ s/\?require_key=.*/?words=3/r));
}
ok(wait_until(sub { $node->safe_psql('postgres', q(select count(*) from mrprompt.requests where status in ('succeeded', 'failed'))) == 2 }, 30), 'requests use the key');
is($node->safe_psql('postgres', q(select count(*) from mrprompt.requests where error_message like '%sk-test%')), '0', 'a provider that repeats it is silenced');
kill 'SEGV', $node->safe_psql('postgres', 'select fetcher_pids[1] from mrprompt_internal.server_state()');
ok(wait_until(sub { $node->safe_psql('postgres', q(select count(*) from mrprompt_internal.queue)) == 0 }, 60), 'a fetcher dies with it in memory');
$node->safe_psql('postgres', "select mrprompt.revoke_key('$id')");
is($node->safe_psql('postgres', qq(select encrypted_key from mrprompt.api_keys where id = '$id')), '', 'a revoked key leaves nothing to open');
$node->safe_psql('postgres', 'checkpoint');
$node->stop;

for my $place ($node->data_dir, $node->logfile, $node->basedir)
{
    my ($stdout, $stderr) = run_command([ 'grep', '-rlaE', join('|', @keys), $place ]);
    is($stdout, '', "no key in " . ($place =~ s/.*\///r));
}
my ($stdout) = run_command([ 'grep', '-rla', 'mrp1.k1.', $node->data_dir ]);
isnt($stdout, '', 'while grep does find what is sealed');
$provider->stop;
done_testing();
