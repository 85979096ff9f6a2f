# Master keys that change while requests run, and keys that come from another gateway.
use strict;
use warnings;
use lib 'lib';
use MrPrompt qw(new_cluster start_provider master_key_file wait_until source_path);
use PostgreSQL::Test::Utils;
use Test::More;

my $provider = start_provider();
my $base = $provider->url;
my $node = new_cluster('rotation');
my $file = master_key_file($node);
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub failure { my ($code, $out, $err) = $node->psql('postgres', $_[0]); return $code == 0 ? '' : $err }
sub write_master_keys { open my $new, '>', $file or die "$file: $!"; print $new @_; close $new; }
sub add_master_key { my ($id, $digit) = @_; append_to_file($file, "$id:" . ($digit x 64) . "\n"); $node->reload; }
my $seals = q(select string_agg(concat_ws(' ', master_key_id, active, in_file, keys, lookup_key, retired_at is not null), ', ') from mrprompt.key_seal_status);

sql(qq(select mrprompt.add_user(login_role => current_user);
    insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private) values ('fake', 'openai', '$base/v1', true, true)));
sql(q(select count(mrprompt.add_key('fake', 'sk-test-rotated-' || lpad(i::text, 4, '0'), name => 'number ' || i)) from generate_series(1, 250) i;
      select mrprompt.revoke_key(id) from mrprompt.api_keys where name = 'number 250'));
my $hash = sql(q(select key_hash from mrprompt.api_keys where name = 'number 1'));
is(sql($seals), 'k1 t t 249 t f', 'all is sealed with the first master key');

# Requests run all the while.
sql(q(select count(mrprompt.chat_text('fake?words=20&pace=100', 'm', 'fake', stream => true,
          key_id => (select id from mrprompt.api_keys where name = 'number ' || i))) from generate_series(1, 40) i));
add_master_key('k2', '2');
ok(wait_until(sub { sql('select active_id from mrprompt_internal.keyring_state()') eq 'k2' }), 'a second one is active');
like(failure(q(select mrprompt.retire_master_key('k2'))), qr/master key k2 is the active one/, 'the active one cannot be retired');
like(failure(q(select mrprompt.retire_master_key('k1'))), qr/still in use.*249 provider keys and 1 lookup keys.*call mrprompt\.reseal_keys/s, 'nor one that is in use');
like(failure(q(begin; call mrprompt.reseal_keys(); commit)), qr/invalid transaction termination/, 'sealing anew commits as it goes');
is(sql($seals), 'k1 f t 249 t f, k2 t t 0 f f', 'nothing has changed');

# Stopped on the way, and called again; a key that its owner changes meanwhile is left to him.
sql(q(select mrprompt_internal.reseal_batch(null, 100)));
is(sql($seals), 'k1 f t 149 f f, k2 t t 100 t f', 'a batch is done, and the lookup key');
my $owner = $node->background_psql('postgres');
my $busy = sql(q(select id from mrprompt.api_keys where name = 'number 200'));
$owner->query_safe(qq(begin; select mrprompt.update_key('$busy', name => 'mine')));
is(sql('call mrprompt.reseal_keys(batch => 17)'), '148|0|1', 'the rest is sealed anew, but for what is locked');
$owner->query_safe('commit');
$owner->quit;
is(sql('call mrprompt.reseal_keys()'), '1|0|0', 'the next call finds it');
is(sql('call mrprompt.reseal_keys()'), '0|0|0', 'and then there is nothing to do');
is(sql($seals), 'k1 f t 0 f f, k2 t t 249 t f', 'nothing is left on the first master key');
is(sql(q(select count(*) from mrprompt.api_keys where revoked_at is null and 'sk-test-rotated-' || lpad(split_part(name, ' ', 2), 4, '0')
             = mrprompt.decrypt_key(encrypted_key, id, user_id, provider))), '248', 'every key is what it was');
is(sql(q(select mrprompt.hash_key('sk-test-rotated-0001'))), $hash, 'hashes stay');
ok(wait_until(sub { sql(q(select count(*) from mrprompt_internal.queue)) eq '0' }, 60), 'the requests end');
is(sql(q(select count(*) from mrprompt.requests where status = 'succeeded')), '40', 'and all have their answer');

# A server that has not heard that the first master key is retired must not go on sealing with it.
my @lines = split /^/, slurp_file($file);
chmod 0640, $file or die "$file: $!";
like(failure(q(select mrprompt.retire_master_key('k2'))), qr/no master key is active here.*gives permissions to group or others.*doctor/s, 'without a usable file nothing is retired, not even the active one');
chmod 0600, $file or die "$file: $!";
sql(q(select mrprompt.retire_master_key('k1')));
like(failure(q(select mrprompt.retire_master_key('k9'))), qr/nothing in this database was ever sealed under a master key k9/, 'an unknown one is called that');
write_master_keys(reverse @lines);
$node->reload;
ok(wait_until(sub { sql('select active_id from mrprompt_internal.keyring_state()') eq 'k1' }), 'a file in another order');
like(failure(q(select mrprompt.add_key('fake', 'sk-test-too-late-01'))), qr/master key k1 is retired/, 'seals nothing any more');
write_master_keys($lines[1]);
$node->reload;
ok(wait_until(sub { sql('select active_id from mrprompt_internal.keyring_state()') eq 'k2' }), 'the old line is taken out of the file');
is(sql($seals), 'k1 f f 0 f t, k2 t t 249 t f', 'it is retired');
is(sql(q(select count(*) from mrprompt.doctor() where severity = 'error')), '0', 'all is well');
my $request = sql(q(select mrprompt.chat_text('hi', 'm', 'fake', key_id => (select id from mrprompt.api_keys where name = 'mine'))));
is(sql("select status from mrprompt.wait_for_request('$request')"), 'succeeded', 'and keys are used');

# A key that does not open is named, and the others go on.
sql(q(alter table mrprompt.api_keys disable trigger refuse_retired_anew;
      update mrprompt.api_keys set encrypted_key = 'mrp1.k1.' || repeat('A', 60) where name = 'number 7';
      alter table mrprompt.api_keys enable trigger refuse_retired));
my ($code, $out, $err) = $node->psql('postgres', 'call mrprompt.reseal_keys()');
is($out, '0|1|1', 'a damaged key is counted');
like($err, qr/WARNING:  key [0-9a-f-]{36} does not open.*sealed under master key k1, for provider fake/s, 'and named');
like(slurp_file($node->logfile), qr/WARNING:  key [0-9a-f-]{36} does not open/, 'in the log too');

# A master key is lost for good: nothing can be stored until an admin has given up what it sealed.
{
    my $kept = slurp_file($file);
    write_master_keys('k3:' . ('3' x 64) . "\n");
    $node->reload;
    ok(wait_until(sub { sql('select active_id from mrprompt_internal.keyring_state()') eq 'k3' }), 'the file holds another one only');
    ($code, $out, $err) = $node->psql('postgres', 'call mrprompt.reseal_keys()');
    is($out, '0|250|250', 'resealing counts everything that does not open, the lookup key included');
    ($code, $out, $err) = $node->psql('postgres', q(\set VERBOSITY verbose) . qq(\nselect mrprompt.add_key('fake', 'sk-test-after-loss-1')));
    like($err, qr/F0000: the key of hash_key\(\) does not open/, 'a new key cannot be stored, and that is no bad input');
    like(failure(q(select mrprompt.retire_master_key('k2'))), qr/still in use.*replace_lookup_key/s, 'the way out is told');
    sql('begin; select mrprompt.replace_lookup_key(); select mrprompt.add_key(\'fake\', \'sk-test-after-loss-1\'); rollback');
    sql('select mrprompt.replace_lookup_key()');
    my $new = sql(q(select mrprompt.add_key('fake', 'sk-test-after-loss-1', name => 'after the loss')));
    like($new, qr/^[0-9a-f-]{36}$/, 'and taken: keys are stored again');
    like(failure('select mrprompt.replace_lookup_key()'), qr/the key of hash_key\(\) opens: it is not lost/, 'one that opens is not given up');
    # Back to what this test goes on with.
    write_master_keys($kept . 'k3:' . ('3' x 64) . "\n");
    $node->reload;
    ok(wait_until(sub { sql('select count(*) from mrprompt.key_seal_status where in_file') eq '2' }), 'the lost one is found again');
    is(sql('call mrprompt.reseal_keys()'), '248|1|1', 'and everything but the damaged key opens');
}
sql(q(create role plain login; grant mrprompt_user to plain));
for my $statement (q(call mrprompt.reseal_keys()), q(select * from mrprompt.key_seal_status), q(select mrprompt.retire_master_key('k1')),
    q(select mrprompt_internal.reseal('mrp1.k1.AAAA', null, null, null)), q(select mrprompt_internal.adopt_row('{}', 'x', null)),
    q(select * from mrprompt.adopt_api_keys('pg_class', 'x')))
{
    ($code, $out, $err) = $node->psql('postgres', $statement, extra_params => [ '-U', 'plain' ]);
    like($err, qr/permission denied/, "not for a user: $statement");
}

# What another gateway sealed; Node.js's own AES-256-GCM is the other side.
my $old_key = join '', map { sprintf '%02x', $_ } 0 .. 31;
my $seal = <<'JS';
const [key, aad, ...keys] = process.argv.slice(1), crypto = require('crypto');
for (const text of keys) {
    const nonce = crypto.randomBytes(12), cipher = crypto.createCipheriv('aes-256-gcm', Buffer.from(key, 'hex'), nonce);
    if (aad) cipher.setAAD(Buffer.from(aad));
    console.log(Buffer.concat([nonce, cipher.update(text), cipher.final(), cipher.getAuthTag()]).toString('base64'));
}
JS
sub sealed_elsewhere { my ($aad, @keys) = @_; my ($stdout) = run_command([ 'node', '-e', $seal, $old_key, $aad, @keys ]); return split /\n/, $stdout }
my ($first, $second, $spaced) = sealed_elsewhere('', 'sk-test-imported-0001', 'sk-test-imported-0002', ' sk-test-imported-0003');
my ($bound) = sealed_elsewhere('tenant 7', 'sk-test-imported-0004');
my $decrypted = q(select mrprompt.decrypt_key(encrypted_key, id, user_id, provider) from mrprompt.api_keys where id = ');
my $id = sql(qq(select mrprompt.import_key(null, 'fake', '$first', '$old_key', metadata => '{"agent_name": "old"}', name => 'imported')));
is(sql("$decrypted$id'"), 'sk-test-imported-0001', 'a key comes over');
is(sql(qq(select masked_key, metadata ->> 'agent_name', name, key_hash = mrprompt.hash_key('sk-test-imported-0001') from mrprompt.api_keys where id = '$id')),
    'sk-t...001|old|imported|t', 'with all its forms');
my $base64_key = sql(qq(select encode(decode('$old_key', 'hex'), 'base64')));
$id = sql(qq(select mrprompt.import_key(null, 'fake', translate('$bound', '+/=', '-_'), rtrim('$base64_key', '='), associated_data => 'tenant 7')));
is(sql("$decrypted$id'"), 'sk-test-imported-0004', 'associated data, and base64 of the other alphabet without padding');
my $foreign = q{select mrprompt.import_key(null, 'fake', };
for my $case (
    [ "'$bound', '$old_key')", qr/does not open with this old_key and associated_data/ ],
    [ "'$first', '" . ('0' x 64) . "')", qr/does not open with this old_key/ ],
    [ "'$first', 'short')", qr/old_key is not 32 bytes.*HINT:.*64 hexadecimal digits/s ],
    [ "'AAAA', '$old_key')", qr/not base64 of nonce, ciphertext and tag/ ],
    [ "'no base64!', '$old_key')", qr/not base64 of nonce, ciphertext and tag/ ],
    [ "'$spaced', '$old_key')", qr/begins or ends with a space/ ],
    [ "null, '$old_key')", qr/import_key needs/ ])
{
    like(failure($foreign . $case->[0]), $case->[1], "refused: $case->[0]");
}

# A whole table of them, in the columns of the gateway that these users come from.
my ($one, $two, $three) = map { "00000000-0000-4000-8000-00000000000$_" } 1 .. 3;
sql(qq(create table old_keys (id uuid, user_id uuid, provider varchar(50), encrypted_key text, key_hash text, masked_key varchar(20),
           last_used timestamptz, created_at timestamptz, updated_at timestamptz, metadata jsonb default '{}');
       insert into old_keys values
           ('$one', '$one', 'FAKE', '$first', 'x', 'y', '2025-01-02', '2024-01-02', '2024-06-02', '{"model": "m1"}'),
           ('$two', '$two', 'fake', '$second', 'x', 'y', null, '2024-01-03', '2024-01-03', '{}'),
           ('$three', '$two', 'nowhere', '$second', 'x', 'y', null, '2024-01-03', '2024-01-03', '{}'),
           ('00000000-0000-4000-8000-000000000004', '$two', 'fake', '$bound', 'x', 'y', null, '2024-01-03', '2024-01-03', '{}'),
           ('00000000-0000-4000-8000-000000000005', '$two', 'fake', null, 'x', 'y', null, '2024-01-03', '2024-01-03', '[]'),
           ('00000000-0000-4000-8000-000000000006', '$two', 'fake', '$second', 'x', 'y', null, '2024-01-03', '2024-01-03', '[]')));
my $adopt = qq(select string_agg(concat_ws(' ', right(id::text, 1), outcome, reason), '; ' order by id) from mrprompt.adopt_api_keys('old_keys', '$old_key'));
is(sql($adopt), '1 adopted; 2 adopted; 3 failed there is no provider of that name; 4 failed the ciphertext does not open with this old_key and associated_data; '
    . '5 failed encrypted_key is null; 6 failed metadata must be a JSON object', 'a table comes over, row by row, with a report');
is(sql(qq(select user_id, provider, masked_key, last_used, created_at, updated_at, metadata from mrprompt.api_keys where id = '$one')),
    sql(qq(select '$one'::uuid, 'fake', 'sk-t...001', last_used, created_at, updated_at, metadata from old_keys where id = '$one')), 'with owner and times');
is(sql("$decrypted$two'"), 'sk-test-imported-0002', 'and the key');
my ($part) = $adopt =~ s/'old_keys', '\w+'/$&, null, null, 2/r;
is(sql($part =~ s/, reason//r), '1 present; 2 present', 'some rows at a time');
is(sql($part =~ s/null, 2/'$two', 2/r =~ s/, reason//r), '3 failed; 4 failed', 'and those behind them');
sql(qq(update old_keys set provider = 'fake' where id = '$three'));
is(sql($adopt =~ s/, reason//r), '1 present; 2 present; 3 adopted; 4 failed; 5 failed; 6 failed', 'called again, it takes what can be taken now');
sql(q(insert into old_keys (provider) values ('fake'), ('fake')));
is(sql($part =~ s/, reason//r), '1 present; 2 present', 'rows without an id come after the others, which can be gone on from');
is(sql($part =~ s/null, 2/'$three', 4/r =~ s/, reason//r), '4 failed; 5 failed; 6 failed; failed', 'with the last page');
unlike(($node->psql('postgres', $part =~ s/null, 2/'00000000-0000-4000-8000-000000000006', 2/r))[2], qr/more rows/, 'which says that it is the last');
like(failure(qq(select * from mrprompt.adopt_api_keys('pg_class', '$old_key'))), qr/pg_class is no table of API keys.*It lacks id, user_id, provider, encrypted_key/s, 'another table is refused');
like(failure(qq(select * from mrprompt.adopt_api_keys(null, '$old_key'))), qr/null is no table of API keys/, 'as is none');

$node->stop;
my ($stdout) = run_command([ 'grep', '-laE', "sk-test-(rotated|imported)-|$old_key", $node->logfile ]);
is($stdout, '', 'no key is in the log');
$provider->stop;
done_testing();
