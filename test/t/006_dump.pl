# Dump and restore: the same data, keys that open, presets as edited, and a queue that waits until it is told.
use strict;
use warnings;
use lib 'lib';
use File::Copy;
use MrPrompt qw(new_cluster start_provider wait_until);
use PostgreSQL::Test::Utils;
use Test::More;

my $provider = start_provider();
my $base = $provider->url;
my $node = new_cluster('origin');
$node->safe_psql('postgres', qq(
    select mrprompt.add_user(login_role => current_user, name => 'Dora');
    insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private) values ('fake', 'openai', '$base/v1', true, true);
    update mrprompt.providers set base_url = 'https://proxy.example.com/v1' where name = 'openai';
    update mrprompt.providers set enabled = false where name = 'xai';
    insert into mrprompt.prices (provider, model, input, output, effective_from) values ('fake', 'm', 0.000001, 0.000002, '2026-01-01');
    select mrprompt.add_key('fake', 'sk-test-dumped-0001', '{"agent_name": "curator"}', 'mine');
    select mrprompt.grant_key(mrprompt.add_key('openai', 'sk-test-shared-0001', shared => true));));
for my $text ('fake?require_key=sk-test-dumped-0001', 'fake?words=5', 'fake?status=400')
{
    $node->safe_psql('postgres', "select mrprompt.chat_text('$text', 'm', 'fake', stream => true)");
}
ok(wait_until(sub { $node->safe_psql('postgres', q(select count(*) from mrprompt_internal.queue)) == 0 }, 30), 'there is a history');
$node->safe_psql('postgres', q(select mrprompt.pause()));
$node->safe_psql('postgres', q(select mrprompt.chat_text('fake?require_key=sk-test-dumped-0001&text=later', 'm', 'fake', metadata => '{"label": "queued"}')));
my $hash = $node->safe_psql('postgres', q(select mrprompt.hash_key('sk-test-dumped-0001')));

my @tables = qw(users api_keys key_grants requests responses deltas usage providers prices audit_log);
sub snapshot
{
    my ($from, $database) = @_;
    return join "\n", map { "$_ " . $from->safe_psql($database, "select coalesce(md5(string_agg(t::text, '|' order by t::text)), '') || ' ' || count(*) from mrprompt.$_ t") } @tables;
}
# Still: one queued, nothing moves.
$node->safe_psql('postgres', q(select mrprompt.pause()));
ok(wait_until(sub { $node->safe_psql('postgres', q(select in_flight from mrprompt.status())) == 0 }, 20), 'nothing is in flight');
$node->safe_psql('postgres', q(select mrprompt.chat_text('fake?require_key=sk-test-dumped-0001&text=later', 'm', 'fake', metadata => '{"label": "held"}')));
my $before = snapshot($node, 'postgres');
my $dump = $node->basedir . '/dump.sql';
command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), '-f', $dump ], 'pg_dump');

my $copy = new_cluster('copy', master_key => 0, extension => 0, start => 0);
my $keyring = MrPrompt::master_key_file($copy);
copy(MrPrompt::master_key_file($node), $keyring);
chmod 0600, $keyring;
$copy->append_conf('postgresql.conf', "mrprompt.master_key_file = '$keyring'\n");
$copy->start;
command_ok([ 'psql', '-X', '-1', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $copy->connstr('postgres'), '-f', $dump ], 'restored in one transaction, without an error');
is(snapshot($copy, 'postgres'), $before, 'every table has the same rows');
is($copy->safe_psql('postgres', q(select base_url, preset from mrprompt.providers where name = 'openai')), 'https://proxy.example.com/v1|f', 'presets are as they were edited');
is($copy->safe_psql('postgres', q(select mrprompt.hash_key('sk-test-dumped-0001'))), $hash, 'hashes are the same');
is($copy->safe_psql('postgres', q(select mrprompt.decrypt_key(encrypted_key, id, user_id, provider) from mrprompt.api_keys where name = 'mine')), 'sk-test-dumped-0001', 'keys open');
is($copy->safe_psql('postgres', q(select count(*) from mrprompt_internal.fetchers where kind = 'libpq')), '0', 'no lease came along');

# The copy does not spend: not by itself, not after a resume(), only when told that it is the one that goes on.
$copy->safe_psql('postgres', 'select mrprompt.resume()');
my $sent = $provider->stats->{requests};
like($copy->safe_psql('postgres', q(select finding from mrprompt.doctor())), qr/is a copy/, 'the doctor says that it is a copy');
my $mine = $copy->safe_psql('postgres', q(select mrprompt.chat_text('from the copy', 'm', 'fake')));
sleep 2;
is($provider->stats->{requests}, $sent, 'the copy sends nothing');
$copy->safe_psql('postgres', 'select mrprompt.resume_here()');
ok(wait_until(sub { $copy->safe_psql('postgres', q(select count(*) from mrprompt_internal.queue)) == 0 }, 30), 'after resume_here() its queue runs');
is($copy->safe_psql('postgres', q(select r.status || ' ' || a.content from mrprompt.requests r join mrprompt.responses a on a.request_id = r.id where r.metadata ->> 'label' = 'held')),
    'succeeded later', 'with the keys that came along');
is($copy->safe_psql('postgres', 'select id from mrprompt.requests order by id desc limit 1'), $mine, 'ids go on');

# A copy by template, in the same cluster, waits as well.
$node->safe_psql('postgres', 'create database staging template template0');
command_ok([ 'psql', '-X', '-1', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('staging'), '-f', $dump ], 'restored beside the original');
$node->safe_psql('staging', 'select mrprompt.resume()');
is($node->safe_psql('staging', q(select is_home from mrprompt.status())), 'f', 'it knows that it is a copy');
is($node->safe_psql('postgres', q(select is_home from mrprompt.status())), 't', 'and the original that it is none');
$node->safe_psql('postgres', 'select mrprompt.resume()');
ok(wait_until(sub { $node->safe_psql('postgres', q(select count(*) from mrprompt_internal.queue)) == 0 }, 30), 'the original goes on');
# The same dump into the same database again.
$node->safe_psql('staging', 'select mrprompt.resume_here()');
command_ok([ 'pg_dump', '-d', $node->connstr('staging'), '-f', $dump ], 'pg_dump once more');
$node->safe_psql('staging', 'drop extension mrprompt');
command_ok([ 'psql', '-X', '-1', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('staging'), '-f', $dump ], 'restored where it came from');
is($node->safe_psql('staging', q(select is_home from mrprompt.status())), 't', 'it is no copy there');
$copy->stop;
$node->stop;
$provider->stop;
done_testing();
