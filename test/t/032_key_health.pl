# Whether a provider takes a key: asked for by verify_key(), noticed at chats, shown to the key's owner.
use strict;
use warnings;
use lib 'lib';
use MrPrompt qw(new_cluster start_provider wait_until);
use PostgreSQL::Test::Utils;
use Test::More;

my $provider = start_provider(default => 'fake?require_key=sk-test-good-key-1');
my $base = $provider->url;
my $node = new_cluster('health');
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub failure { my ($code, $out, $err) = $node->psql('postgres', $_[0], @_ > 1 ? (extra_params => [ '-U', $_[1] ]) : ()); return $code == 0 ? '' : $err }
sub verify { my ($key) = @_; return sql(qq(select status, error_status, error_type from mrprompt.wait_for_request('${\sql("select mrprompt.verify_key('$key')")}', '20 s'))) }
sub health { return sql(qq(select masked_key, last_verified is not null, last_error from mrprompt.list_keys() where id = '$_[0]')) }
my $user = sql('select mrprompt.add_user(login_role => current_user)');
sql(qq(insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private, verify_path, auth) values
           ('fake', 'openai', '$base/v1', true, true, null, 'bearer'), ('claude', 'anthropic', '$base', true, true, null, 'x-api-key'),
           ('elsewhere', 'openai', '$base/v1', true, true, '/elsewhere', 'bearer'), ('moved', 'openai', '$base/v1/{model}', true, true, null, 'bearer')));

my $good = sql(q(select mrprompt.add_key('fake', 'sk-test-good-key-1')));
my $bad = sql(q(select mrprompt.add_key('fake', 'sk-test-wrong-key1', name => 'mine')));
is(verify($good), 'succeeded||', 'the provider takes this key');
is(health($good), 'sk-t...y-1|t|', 'which is seen');
is(verify($bad), 'failed|401|invalid_request_error', 'it refuses that one') or diag health($bad);
like(health($bad), qr/^sk-t\.\.\.ey1\|f\|401 invalid_request_error: Incorrect API key/, 'with the reason');
is(sql(q(select name, masked_key from mrprompt.failing_keys)), 'mine|sk-t...ey1', 'failing keys are shown to their owner, masked');
is(sql(q(select count(*) from mrprompt.cooldowns)), '0', 'nothing cools down for that');
is(sql(q(select count(*), sum(cost), bool_and(price_known) from mrprompt.usage where model = '(verify)')), '2|0|t', 'it costs nothing');
is(sql(q(select count(*) from mrprompt.responses)), '0', 'and leaves no answer behind');

is_deeply([ map { "$_->{method} $_->{path} $_->{body}" } $provider->requests ], [ ('GET /v1/models ') x 2 ], 'the cheapest call: a GET without a body');
my $claude = sql(q(select mrprompt.add_key('claude', 'sk-test-good-key-1')));
is(verify($claude), 'succeeded||', 'Anthropic is asked in its own way');
my ($last) = reverse $provider->requests;
is($last->{path}, '/v1/models', 'at its address');
ok($last->{headers}{'anthropic-version'} && $last->{headers}{'x-api-key'}, 'with its headers');

# A new secret is a new key; a chat tells as well.
sql(qq(select mrprompt.update_key('$bad', 'sk-test-good-key-1')));
is(health($bad), 'sk-t...y-1|f|', 'nothing is known of a new secret');
is(verify($bad), 'succeeded||', 'it is taken');
sql(qq(select mrprompt.update_key('$bad', 'sk-test-wrong-key2')));
my $chat = sql(qq(select mrprompt.chat_text('hello', 'm', 'fake', key_id => '$bad')));
is(sql(qq(select status from mrprompt.wait_for_request('$chat'))), 'failed', 'a chat with a refused key fails');
like(health($bad), qr/^sk-t\.\.\.ey2\|f\|401 /, 'and is noted at the key');
sql(qq(select mrprompt.update_key('$bad', name => 'ours')));
like(health($bad), qr/\|401 /, 'a new name says nothing of the secret');

# What can not be verified, and by whom.
is(verify(sql(q(select mrprompt.add_key('elsewhere', 'sk-test-good-key-1')))), 'failed|404|invalid_request_error', 'an address that is none is no word against the key')
    or diag sql(q(select * from mrprompt.requests order by id desc limit 1));
is(sql(q(select count(*) from mrprompt.failing_keys where provider = 'elsewhere')), '0', 'which stays as it was');
my $moved = sql(q(select mrprompt.add_key('moved', 'sk-test-good-key-1')));
like(failure("select mrprompt.verify_key('$moved')"), qr/keys of provider moved cannot be verified.*the name of a model/s, 'a provider without such a call');
sql(q(update mrprompt.providers set enabled = false where name = 'moved'));
like(failure("select mrprompt.verify_key('$moved')"), qr/provider moved is gone or disabled.*HINT:.*mrprompt\.providers/s, 'one that is disabled');
sql("select mrprompt.revoke_key('$moved')");
like(failure("select mrprompt.verify_key('$moved')"), qr/was revoked/, 'a revoked key');
like(failure("select mrprompt.verify_key(null)"), qr/no key of that id that you may change/, 'none');
sql(q(create role app login; grant mrprompt_user to app; select mrprompt.add_user('app')));
like(failure("select mrprompt.verify_key('$good')", 'app'), qr/no key of that id that you may change/, 'the key of somebody else');
is($node->safe_psql('postgres', 'select count(*) from mrprompt.failing_keys', extra_params => [ '-U', 'app' ]), '0', 'whose failing keys nobody else sees');

my $shared = sql(q(select mrprompt.add_key('fake', 'sk-test-wrong-key3', shared => true)));
is(verify($shared), 'failed|401|invalid_request_error', 'an admin verifies a shared key, granted or not');
like(sql(q(select finding from mrprompt.doctor() where finding ~ 'refused')), qr/The shared key sk-t\.\.\.ey3 of fake .* is refused: 401/, 'and the doctor tells');

# A fetcher of the older contract would take it for a chat: it gets none.
$node->append_conf('postgresql.conf', "mrprompt.local_fetcher = off\n");
$node->reload;
ok(wait_until(sub { sql(q(select count(*) from mrprompt_internal.fetchers)) eq '0' }), 'the local fetcher leaves');
my $waiting = sql("select mrprompt.verify_key('$good')");
for my $contract (1, 2)
{
    my $fetcher = sql(qq(select mrprompt_internal.hello('{"contract": $contract, "kind": "libpq"}') ->> 'fetcher'));
    is(sql(qq(select json_array_length(body -> 'jobs') from mrprompt_internal.claim('{"fetcher": "$fetcher", "room": 10, "bytes": 1000000}'))),
        $contract - 1, "a fetcher of contract $contract");
}
$node->stop;
$provider->stop;
done_testing();
