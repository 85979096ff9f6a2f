# End to end: from SQL to a provider and back, both protocols, streamed and not, with everything a chat carries.
use strict;
use warnings;
use lib 'lib';
use JSON::PP;
use MrPrompt qw(new_cluster start_provider wait_until);
use PostgreSQL::Test::Utils;
use Test::More;

my $provider = start_provider();
my $tls = start_provider(tls => 1);
my $node = new_cluster('chat');
my $base = $provider->url;
my ($tls_base, $ca_file) = ($tls->url, $tls->{ca_file});
$node->safe_psql('postgres', qq(
    select mrprompt.add_user(login_role => current_user);
    insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private) values
        ('fake', 'openai', '$base/v1', true, true),
        ('claude', 'anthropic', '$base', true, true),
        ('dead', 'openai', 'http://127.0.0.1:1/v1', true, true);
    -- What answers badly on purpose shall not cool down.
    update mrprompt.providers set cooldown_percent = 0 where not preset;
    update mrprompt.providers set auth = 'x-api-key' where name = 'claude';
    update mrprompt.providers set base_url = '$base/api/gateway/v1/endpoints', allow_http = true, allow_private = true where name = 'vanchin';
    update mrprompt.providers set base_url = '$base/openai/deployments/{model}', allow_http = true, allow_private = true where name = 'azure';
    insert into mrprompt.providers (name, protocol, base_url, allow_private, ca_file) values
        ('secure', 'openai', '$tls_base/v1', true, '$ca_file'), ('distrusted', 'openai', '$tls_base/v1', true, null);
    insert into mrprompt.prices (provider, model, input, output) values ('fake', 'm', 0.000001, 0.000002);
));

# ask(SQL arguments): waits for the request and returns its row as a hash.
sub request
{
    my ($call) = @_;
    my $id = $node->safe_psql('postgres', "select $call");
    return finished($id);
}

sub finished
{
    my ($id) = @_;
    my $row;
    wait_until(sub {
        $row = decode_json($node->safe_psql('postgres', "select to_json(r) from mrprompt.get_request('$id') r"));
        return $row->{status} !~ /queued|running/;
    });
    return $row;
}

sub last_request_of
{
    my ($match) = @_;
    my @lines = grep { /\Q$match\E/ } split /\n/, slurp_file($provider->{log_file});
    return decode_json($lines[-1]);
}

# --- OpenAI's protocol
my $r = request(q(mrprompt.chat_text('hello there', 'm', 'fake')));
is($r->{status}, 'succeeded', 'a plain request succeeds');
is($r->{content}, 'You said: hello there', 'with the answer');
ok($r->{prompt_tokens} > 0 && $r->{cost} > 0, 'with tokens and cost');
is($node->safe_psql('postgres', qq(select cost = prompt_tokens * 0.000001 + completion_tokens * 0.000002 from mrprompt.usage where request_id = '$r->{id}')),
    't', 'the cost is exact');

my $stream = $node->safe_psql('postgres', q(select mrprompt.chat_text('fake?words=30&pace=10', 'm', 'fake', stream => true)));
$r = finished($stream);
is($r->{content}, join(' ', map { "w$_" } 1 .. 30), 'a streamed request ends with the whole text');
is($node->safe_psql('postgres', qq(select string_agg(content, '' order by seq) from mrprompt.deltas where request_id = '$stream')),
    $r->{content}, 'its deltas are the same text');
cmp_ok($node->safe_psql('postgres', qq(select count(*) from mrprompt.deltas where request_id = '$stream')), '<', 15, 'coalesced');
is($node->safe_psql('postgres', qq(select first_token_ms is not null and total_ms >= 200 from mrprompt.usage where request_id = '$stream')),
    't', 'time to the first token and in total are known');

$r = request(q(mrprompt.chat_text('fake?tool=get_user_achievements&args=%7B%22user%22%3A7%7D&parallel=2', 'm', 'fake', stream => true)));
is($r->{finish_reason}, 'tool_calls', 'tool calls end with their finish reason');
is(scalar @{ $r->{tool_calls} }, 2, 'both parallel calls are there');
is($r->{tool_calls}[1]{function}{arguments}, '{"user":7}', 'their arguments are whole');
is($r->{content}, undef, 'and there is no content');

my $schema = '{"type": "object", "properties": {"zebra": {"type": "string"}, "ant": {"type": "string"}}, "required": ["zebra", "ant"]}';
$r = request(qq(mrprompt.chat('[{"role": "user", "content": [{"type": "text", "text": "order"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]}]',
    'm', 'fake', response_format => '{"type": "json_schema", "json_schema": {"name": "n", "schema": $schema}}', seed => 7, parameters => '{"vendor_flag": true}')));
is($r->{status}, 'succeeded', 'images, a schema and unknown parameters are taken');
my $sent = last_request_of('vendor_flag');
like($sent->{body}, qr/"zebra".*"ant"/s, 'keys of the schema go out in the caller\'s order');
like($sent->{body}, qr/image_url/, 'the image goes along');

# --- Anthropic's
$r = request(q(mrprompt.chat('[{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello claude"}]', 'claude-x', 'claude')));
is($r->{content}, 'You said: hello claude', 'the messages protocol answers');
$r = request(q(mrprompt.chat_text('fake?words=12&pace=5&reasoning=3', 'claude-x', 'claude', stream => true)));
is($r->{content}, join(' ', map { "w$_" } 1 .. 12), 'and streams');
is($r->{reasoning}, 'r1 r2 r3', 'with its thinking');
$r = request(q(mrprompt.chat('[{"role": "user", "content": "fake?tool=weather&args=%7B%22city%22%3A%22Rome%22%7D"}]', 'claude-x', 'claude', stream => true,
    tools => '[{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]')));
is($r->{tool_calls}[0]{function}{name}, 'weather', 'a tool_use block comes back as a tool call');
is(decode_json($r->{tool_calls}[0]{function}{arguments})->{city}, 'Rome', 'with its arguments');
my $call_id = $r->{tool_calls}[0]{id};
$r = request(qq(mrprompt.chat('[{"role": "user", "content": "weather?"}, {"role": "assistant", "content": null, "tool_calls": [{"id": "$call_id", "type": "function", "function": {"name": "weather", "arguments": "{\\"city\\": \\"Rome\\"}"}}]}, {"role": "tool", "tool_call_id": "$call_id", "content": "sunny"}]', 'claude-x', 'claude')));
is($r->{status}, 'succeeded', 'a tool message goes out as a tool_result');
like($r->{content}, qr/sunny/, 'and is understood');

# --- VanchinAI both ways, Azure's path
$node->safe_psql('postgres', q(select mrprompt.add_key('vanchin', 'WW8GMBSTec_uPhT9g', '{"endpoint_id": "ep-lpvcnv-1761467347624133479", "agent_name": "curator"}')));
$r = request(q(mrprompt.chat_text('by key', provider => 'vanchin')));
is($r->{model}, 'ep-lpvcnv-1761467347624133479', 'the endpoint id comes from the key');
$sent = last_request_of('by key');
like($sent->{path}, qr{/api/gateway/v1/endpoints/chat/completions$}, 'at VanchinAI\'s path');
is(decode_json($sent->{body})->{model}, 'ep-lpvcnv-1761467347624133479', 'as the model');
is($node->safe_psql('postgres', q(select agent_name || ' ' || requests from mrprompt.usage_by_agent where agent_name is not null)), 'curator 1', 'usage knows the agent');
$r = request(q(mrprompt.chat_text('by model', 'ep-other-2', 'vanchin')));
is($r->{model}, 'ep-other-2', 'or from the call');
$node->safe_psql('postgres', q(select mrprompt.add_key('azure', 'azure-test-key-1')));
$r = request(q(mrprompt.chat_text('azure', 'my gpt/4o', 'azure')));
is($r->{status}, 'succeeded', 'an Azure-style provider answers') or diag explain $r;
like(last_request_of('azure')->{path}, qr{/openai/deployments/my%20gpt%2F4o/chat/completions}, 'a model inside the URL is percent-encoded');

# --- TLS
$r = request(q(mrprompt.chat_text('over tls', 'm', 'secure')));
is($r->{content}, 'You said: over tls', 'TLS with a CA file of the provider\'s own works');
$r = request(q(mrprompt.chat_text('over tls', 'm', 'distrusted')));
is($r->{status}, 'failed', 'a certificate that nobody vouches for is refused');
like($r->{error_message}, qr/certificate/i, 'with the reason') or diag explain $r;
is($r->{attempts}, 1, 'and not tried again');

# --- errors of providers
$node->safe_psql('postgres', q(select mrprompt.add_key('fake', 'sk-test-echoed-0001')));
$r = request(q(mrprompt.chat_text('fake?echo_key', 'm', 'fake')));
is("$r->{status} $r->{error_status}", 'failed 401', 'an authentication error is final');
unlike($r->{error_message}, qr/sk-test-echoed/, 'the key that the provider repeats is taken out of its message');
is($r->{attempts}, 1, 'and it is not tried again');
$r = request(q(mrprompt.chat_text('fake?status=429&retry_after_ms=50&fail_times=2&id=a', 'm', 'fake')));
is("$r->{status} $r->{attempts}", 'succeeded 3', 'two 429s are waited out');
is($node->safe_psql('postgres', qq(select string_agg(outcome || ' ' || http_status, ', ' order by attempt) from mrprompt.usage where request_id = '$r->{id}')),
    'failed 429, failed 429, succeeded 200', 'each attempt has its ledger row');
is($node->safe_psql('postgres', qq(select failures from mrprompt.requests where id = '$r->{id}')), '0', 'and a 429 is no failure');
$r = request(q(mrprompt.chat_text('fake?status=503&fail_times=1&id=b', 'm', 'fake', stream => true)));
is("$r->{status} $r->{attempts}", 'succeeded 2', 'a 503 is tried again');
$r = request(q(mrprompt.chat_text('fake?words=9&cut=4&fail_times=1&id=c', 'm', 'fake', stream => true)));
is("$r->{status} $r->{attempts} $r->{content}", 'succeeded 2 w1 w2 w3 w4 w5 w6 w7 w8 w9', 'a cut stream is tried again, and its text is whole');
is($node->safe_psql('postgres', qq(select string_agg(content, '' order by seq) from mrprompt.stream('$r->{id}'))), $r->{content}, 'a late reader never sees the lost attempt');
$r = request(q(mrprompt.chat_text('fake?status=400&error_message=no%20such%20thing', 'm', 'fake')));
is("$r->{status} $r->{error_status} $r->{attempts}", 'failed 400 1', 'an invalid request is final');
like($r->{error_message}, qr/no such thing/, 'in the provider\'s words');
$r = request(qq(mrprompt.chat_text('fake?redirect=$base/v1/chat/completions', 'm', 'fake')));
is($r->{error_status}, 302, 'a redirect is not followed');
$r = request(q(mrprompt.chat_text('fake?html', 'm', 'fake')));
is("$r->{status} $r->{error_type}", 'failed bad_response', 'a web page is no answer');
$r = request(q(mrprompt.chat_text('fake?nul', 'm', 'fake', stream => true)));
is($r->{status}, 'succeeded', 'a NUL in the answer does no harm');
$r = request(q(mrprompt.chat_text('fake?surrogate', 'm', 'fake')));
is($r->{status}, 'succeeded', 'nor does a lone surrogate');
$r = request(q(mrprompt.chat_text('fake?bad_utf8', 'm', 'fake', stream => true)));
ok($r->{status} =~ /succeeded|failed/, 'nor do bytes that are no UTF-8');
my $id = $node->safe_psql('postgres', q(select mrprompt.chat_text('hi', 'm', 'dead')));
ok(wait_until(sub { $node->safe_psql('postgres', "select wait_reason from mrprompt.requests where id = '$id'") =~ /connect/ }, 30),
    'a provider that is not there makes the request wait, and say why');
is($node->safe_psql('postgres', "select mrprompt.cancel_request('$id')"), 't', 'it can be cancelled while it waits');
is(finished($id)->{status}, 'cancelled', 'and is');

# --- a cancel reaches the wire
my $before = $provider->stats->{disconnects};
$id = $node->safe_psql('postgres', q(select mrprompt.chat_text('fake?words=1000&pace=50', 'm', 'fake', stream => true)));
wait_until(sub { $node->safe_psql('postgres', "select count(*) from mrprompt.deltas where request_id = '$id'") > 1 });
$node->safe_psql('postgres', "select mrprompt.cancel_request('$id')");
$r = finished($id);
is($r->{status}, 'cancelled', 'a running stream is cancelled');
like($r->{content}, qr/^w1 w2/, 'what was seen is kept');
ok(wait_until(sub { $provider->stats->{disconnects} > $before }, 10), 'and the provider sees the connection end');
is($node->safe_psql('postgres', "select outcome from mrprompt.usage where request_id = '$id'"), 'cancelled', 'its ledger row says so');

# --- psql users, followers, and what is to be seen
my ($code, $out, $err) = $node->psql('postgres', q(call mrprompt.ask('what is up', 'm', 'fake')), extra_params => ['-At']);
is($out, 'You said: what is up', 'ask() returns the text');
($code, $out, $err) = $node->psql('postgres', q(call mrprompt.ask('fake?status=400', 'm', 'fake')));
like($err, qr/the request failed: /, 'or says why not');
($code, $out, $err) = $node->psql('postgres', q(
    select format('listen %I', mrprompt.notification_channel()) \gexec
    select mrprompt.chat_text('notify me', 'm', 'fake') as id \gset
    select pg_sleep(0.1) from mrprompt.wait_for_request(:'id');
    select pg_sleep(0.2);
    select 1;));
like($out, qr/Asynchronous notification "mrprompt_[0-9a-f]{32}" with payload/, 'a notification follows the answer');
is($node->safe_psql('postgres', q(select count(*) > 0 from pg_stat_activity where backend_type like 'mrprompt%')), 't', 'pg_stat_activity shows the workers');
is($node->safe_psql('postgres', q(select fetchers >= 1 and in_flight = 0 and is_home from mrprompt.status())), 't', 'status() tells of the fetcher');

$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC|FATAL:(?!  terminating)|terminated by signal|sk-test|WW8GMBSTec/, 'the log has neither trouble nor keys in it');
$provider->stop;
$tls->stop;
done_testing();
