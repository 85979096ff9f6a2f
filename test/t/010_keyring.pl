# The master keyring over its life (changed, rotated, lost, foreign), and settings that nobody but the server may give.
use strict;
use warnings;
use lib 'lib';
use MrPrompt qw(new_cluster master_key_file wait_until);
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_cluster('keyring', preload => 0);
my $file = master_key_file($node);
my $first = slurp_file($file);
my $alice = '00000000-0000-4000-8000-00000000000a';
$node->safe_psql('postgres', qq(select mrprompt.add_user(current_user, user_id => '$alice')));

sub write_keys
{
    my ($text) = @_;
    # Replaced whole, as an administrator's tool would: no reader sees half a file.
    open my $new, '>', "$file.new" or die "$file.new: $!";
    print $new $text;
    close $new;
    chmod 0600, "$file.new";
    rename "$file.new", $file or die "$file: $!";
}
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub failure { my ($code, $out, $err) = $node->psql('postgres', $_[0]); return $code == 0 ? '' : $err }
sub problem { return sql('select problem from mrprompt_internal.keyring_state()') }
my $open_all = q(select string_agg(mrprompt.decrypt_key(encrypted_key, id, user_id, provider), ',' order by created_at) from mrprompt.api_keys);

sql(q(select mrprompt.add_key('openai', 'sk-test-first-001')));
my $hash = sql(q(select mrprompt.hash_key('sk-test-first-001')));
is(problem(), '', 'a keyring of its own is no problem');

# Rotation: a new line is the active key; what the old one sealed still opens, and hashes stay.
my $second = 'k2:' . ('2' x 64) . "\n";
my $session = $node->background_psql('postgres');
$session->query_safe(q(select length(mrprompt.encrypt_key('sk-test-warm-0001'))));
write_keys($first . $second);
is(sql('select active_id, ids from mrprompt_internal.keyring_state()'), 'k2|{k1,k2}', 'a new session reads the new file');
sql(q(select mrprompt.add_key('openai', 'sk-test-second-02')));
is(sql(q(select string_agg(split_part(encrypted_key, '.', 2), ',' order by created_at) from mrprompt.api_keys)), 'k1,k2', 'the last key seals');
is(sql($open_all), 'sk-test-first-001,sk-test-second-02', 'both keys open');
is(sql(q(select mrprompt.hash_key('sk-test-first-001'))), $hash, 'hashes survive rotation');
is($session->query_safe($open_all), 'sk-test-first-001,sk-test-second-02', 'an older session reads the file again when it meets an unknown id');
like($session->query_safe(q(select mrprompt.encrypt_key('sk-test-warm-0001'))), qr/^mrp1\.k2\./, 'and seals with the new key from then on');
$session->quit;

# The old key was taken away too early.
write_keys($second);
like(problem(), qr/sealed under master key "k1", which the master key file does not hold/, 'a missing master key is named');
like(failure($open_all), qr/sealed under master key "k1"/, 'and so it is when a key should open');

# Another server's keyring under the same ids: not a damaged key, and nothing gets sealed with it.
write_keys('k1:' . ('f' x 64) . "\n");
like(problem(), qr/master key "k1" of this server \(fingerprint [0-9a-f]{16}\) is not the one that this database was sealed with/, 'a foreign keyring is called that');
like(failure($open_all), qr/is not the one that this database was sealed with/, 'when opening');
like(failure(q(select mrprompt.encrypt_key('sk-test-foreign-1'))), qr/is not the one that this database was sealed with/, 'and when sealing');
like(failure(q(select mrprompt.add_key('openai', 'sk-test-foreign-1'))), qr/Give this server the master key file/, 'with the way out');
is(sql(q(select count(*) from mrprompt.api_keys)), '2', 'and nothing was stored');

# Files that are none.
for my $case ([ "k1:short\n", qr/line 1 .*exactly 64/ ], [ "# empty\n", qr/holds no key/ ], [ $first . $first, qr/line 2 .*earlier line/ ])
{
    write_keys($case->[0]);
    like(problem(), $case->[1], 'a broken file is described');
}
write_keys($first . $second);
chmod 0640, $file;
like(problem(), qr/chmod 600/, 'so is one that the group may read');
like(failure(q(select mrprompt.encrypt_key('sk-test-group-001'))), qr/cannot be used/, 'and it is not used');
sql('create role plain login; grant mrprompt_user to plain');
my ($code, $out, $err) = $node->psql('postgres', q(select mrprompt.encrypt_key('sk-test-plain-001')), extra_params => [ '-U', 'plain' ]);
like($err, qr/cannot be used/, 'users learn that much');
unlike($err, qr/\Q$file\E/, 'and not where the file is');
($code, $out, $err) = $node->psql('postgres', q(select mrprompt.mask_key('x'); show mrprompt.master_key_file), extra_params => [ '-U', 'plain' ]);
isnt($code, 0, 'nor does the setting tell them');
chmod 0600, $file;
is(sql($open_all), 'sk-test-first-001,sk-test-second-02', 'with its own keyring all is well again');

# A rolled-back first use leaves nothing that a later seal relies on.
write_keys($first . $second . 'k3:' . ('3' x 64) . "\n");
sql(q(begin; select mrprompt.encrypt_key('sk-test-undone-01'); select mrprompt.encrypt_key('sk-test-undone-02'); rollback;
      select mrprompt.encrypt_key('sk-test-stays-001')));
is(sql(q(select count(*) from mrprompt_internal.master_keys where id = 'k3')), '1', 'a master key is recorded at its first lasting use');

# Who is believed is the server's to say: no session setting, start-up option or role setting counts, whenever the
# library is loaded.
sql(qq(create role app login; grant mrprompt_user to app));
my $claim = qq(set request.jwt.claims = '{"sub":"$alice"}';);
my @as_app = (extra_params => [ '-U', 'app' ]);
for my $try (q(set mrprompt.trusted_logins = 'app';), q(set local mrprompt.trusted_logins = 'app';),
    q(select set_config('mrprompt.trusted_logins', 'app', false);))
{
    ($code, $out, $err) = $node->psql('postgres', "begin; $try $claim select coalesce(mrprompt.current_user_id()::text, 'nobody')", @as_app, on_error_stop => 0);
    unlike($out, qr/\Q$alice\E/, "nobody becomes alice by $try");
}
{
    local $ENV{PGOPTIONS} = '-c mrprompt.trusted_logins=app -c mrprompt.anonymous_roles=none';
    ($code, $out, $err) = $node->psql('postgres', "$claim select coalesce(mrprompt.current_user_id()::text, 'nobody')", @as_app, on_error_stop => 0);
    unlike($out, qr/\Q$alice\E/, 'nor by start-up options');
}
$node->psql('postgres', q(alter role app set mrprompt.trusted_logins = 'app'), @as_app);
($code, $out, $err) = $node->psql('postgres', "$claim select coalesce(mrprompt.current_user_id()::text, 'nobody')", @as_app, on_error_stop => 0);
unlike($out, qr/\Q$alice\E/, 'nor by a setting of its role');
is($out, 'nobody', 'it stays nobody');

$node->append_conf('postgresql.conf', "mrprompt.trusted_logins = 'somebody, app'\n");
$node->reload;
ok(wait_until(sub { ($code, $out) = $node->psql('postgres', "$claim select mrprompt.current_user_id()", @as_app); return $out eq $alice }),
    'a login that the server trusts is believed');
$node->stop;
done_testing();
