# Installing: with and without preload, what CREATE EXTENSION refuses and why, and what the first calls say.
use strict;
use warnings;
use lib 'lib';
use MrPrompt qw(new_cluster);
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_cluster('plain', preload => 0, master_key => 0);
$node->safe_psql('postgres', 'select mrprompt.add_user(login_role => current_user)');

is($node->safe_psql('postgres', q(select mrprompt.mask_key('WW8GMBSTec_uPhT9g'))), 'WW8G...T9g',
    'mask_key works without preload and without a master key');
my ($code, $out, $err) = $node->psql('postgres', q(select mrprompt.add_key('openai', 'sk-test-key-0000001')));
like($err, qr/no master key/i, 'without a master key, add_key says so');
like($err, qr/openssl rand -hex 32/, 'and names the command that makes one');
unlike($err, qr/sk-test/, 'and does not repeat the key');
is($node->safe_psql('postgres', q(select count(*) from mrprompt.api_keys)), '0', 'nothing was stored');
is($node->safe_psql('postgres', q(select string_agg(severity, ',' order by finding) from mrprompt.doctor()
    where finding like 'No master key%' or finding like '%shared_preload_libraries%')), 'error,warning',
    'the doctor names the missing master key and the missing preload');

# In a read-only transaction and as the first statement of a session.
is($node->safe_psql('postgres', 'begin read only; select mrprompt.current_user_id() is not null; commit'), 't',
    'reading writes nothing');

$node->safe_psql('postgres', 'drop extension mrprompt');
is($node->safe_psql('postgres', q(select count(*) from pg_namespace where nspname like 'mrprompt%')), '0',
    'DROP EXTENSION leaves no schema behind');
$node->safe_psql('postgres', 'create extension mrprompt');
pass('and it can be created again');

$node->safe_psql('postgres', q(create database latin encoding 'LATIN1' locale 'C' template template0));
($code, $out, $err) = $node->psql('latin', 'create extension mrprompt');
like($err, qr/needs a UTF-8 database; this one is LATIN1/, 'a database that is not UTF-8 is refused');

$node->safe_psql('postgres', 'create database other; drop extension mrprompt; alter role mrprompt_analyst login');
($code, $out, $err) = $node->psql('other', 'create extension mrprompt');
like($err, qr/role mrprompt_analyst exists and can log in/, 'a role name taken by a login is refused');
$node->safe_psql('postgres', 'alter role mrprompt_analyst nologin');
$node->safe_psql('other', 'create schema mrprompt');
($code, $out, $err) = $node->psql('other', 'create extension mrprompt');
like($err, qr/schema "mrprompt" already exists/, 'a schema made by somebody else is refused');
$node->stop;

my $preloaded = new_cluster('preloaded');
is($preloaded->safe_psql('postgres', 'select preloaded, launcher_pid is not null from mrprompt_internal.server_state()'), 't|t',
    'preloaded, the launcher runs');
is($preloaded->safe_psql('postgres', q(select count(*) from mrprompt.doctor() where severity = 'error')), '0',
    'the doctor finds nothing wrong');
$preloaded->stop;
unlike(slurp_file($preloaded->logfile), qr/PANIC|FATAL(?!:  terminating connection due to administrator command)|terminated by signal/, 'the log has no trouble in it');

# Too few worker slots: one for PostgreSQL's own launcher, one for ours, none for a supervisor.
my $tight = new_cluster('tight', conf => "max_worker_processes = 2\n");
like($tight->safe_psql('postgres', 'select finding || remedy from mrprompt.doctor()'),
    qr/No background worker slot is free.*Raise max_worker_processes \(now 2\)/, 'too few worker slots are named, with the remedy');
$tight->stop;

# The master key file must be its owner's alone.
my $loose = new_cluster('loose', preload => 0);
chmod 0644, MrPrompt::master_key_file($loose);
$loose->safe_psql('postgres', 'select mrprompt.add_user(login_role => current_user)');
($code, $out, $err) = $loose->psql('postgres', q(select mrprompt.add_key('openai', 'sk-test-key-0000001')));
like($err, qr/permission|readable/i, 'a keyring that others can read is refused');
$loose->stop;

done_testing();
