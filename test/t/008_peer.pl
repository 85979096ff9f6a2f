# An independent peer: @copilotkit/aimock plays OpenAI and Anthropic; chat, streams, tools, usage, 429, refusals, cut lines.
use strict;
use warnings;
use lib 'lib';
use JSON::PP;
use MrPrompt qw(new_cluster start_peer wait_until);
use Test::More;

my $peer = start_peer();
my $base = $peer->url;
my $node = new_cluster('peer', conf => "mrprompt.max_failures = 2\n");
$node->safe_psql('postgres', qq(
    select mrprompt.add_user(login_role => current_user);
    insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private, auth) values
        ('openai-peer', 'openai', '$base/v1', true, true, 'bearer'), ('anthropic-peer', 'anthropic', '$base', true, true, 'x-api-key');
    -- What answers badly on purpose shall not cool down.
    update mrprompt.providers set cooldown_percent = 0 where not preset;
    select mrprompt.add_key('openai-peer', 'sk-test-peer-000001'), mrprompt.add_key('anthropic-peer', 'sk-test-peer-000002');));

sub ask
{
    my ($provider, $text, %more) = @_;
    my $stream = $more{stream} ? 'true' : 'false';
    my $tools = $more{tools} ? q(, tools => '[{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]') : '';
    my $messages = $more{messages} // encode_json([ { role => 'user', content => $text } ]);
    my $id = $node->safe_psql('postgres', "select mrprompt.chat(\$m\$$messages\$m\$, 'some-model', '$provider', stream => $stream$tools)");
    my $row;
    wait_until(sub {
        $row = decode_json($node->safe_psql('postgres', "select to_json(r) from mrprompt.get_request('$id') r"));
        return $row->{status} !~ /queued|running/;
    }, 60);
    $row->{streamed} = $node->safe_psql('postgres', "select string_agg(content, '' order by seq) from mrprompt.deltas where request_id = '$id' and attempt = $row->{attempts}") if $more{stream};
    return $row;
}

for my $protocol ('openai', 'anthropic')
{
    my $provider = "$protocol-peer";
    for my $stream (0, 1)
    {
        my $how = $stream ? "$protocol, streamed" : $protocol;
        my $r = ask($provider, 'say hello', stream => $stream);
        is($r->{content}, "Hello from an independent peer. Gr\x{fc}\x{df}e, \x{4f60}\x{597d}!", "$how: the answer");
        is($r->{finish_reason}, 'stop', "$how: its finish reason");
        $r = ask($provider, 'count my tokens', stream => $stream);
        is("$r->{prompt_tokens} $r->{completion_tokens}", '11 7', "$how: its tokens");
        $r = ask($provider, 'run out of room', stream => $stream);
        is($r->{finish_reason}, 'length', "$how: an answer that ran out of room says so");
        $r = ask($provider, 'think first', stream => $stream);
        is($r->{content}, 'Forty-two.', "$how: thinking is kept apart");
        is($r->{reasoning}, 'Six times seven is forty-two.', "$how: and kept");
        $r = ask($provider, 'weather in two cities', stream => $stream, tools => 1);
        is(join(', ', map { decode_json($_->{function}{arguments})->{city} } @{ $r->{tool_calls} }), 'Rome, Oslo', "$how: two parallel tool calls");
        is($r->{finish_reason}, 'tool_calls', "$how: and their finish reason");
    }
    my $r = ask($provider, 'weather in Paris', tools => 1);
    my $call = $r->{tool_calls}[0];
    $r = ask($provider, undef, tools => 1, messages => encode_json([
        { role => 'user', content => 'weather in Paris' },
        { role => 'assistant', content => undef, tool_calls => $r->{tool_calls} },
        { role => 'tool', tool_call_id => $call->{id}, content => '18 degrees' } ]));
    is($r->{content}, 'It is 18 degrees in Paris.', "$protocol: a tool's result is understood");
    $r = ask($provider, "be busy once, $protocol");
    is("$r->{status} $r->{attempts} $r->{content}", 'succeeded 2 Now there is room.', "$protocol: a 429 is waited out");
    $r = ask($provider, 'refuse me');
    is("$r->{status} $r->{error_status} $r->{attempts}", 'failed 400 1', "$protocol: a refusal is final");
    like($r->{error_message}, qr/not to be asked/, "$protocol: in the peer's words");
    $r = ask($provider, 'cut the line', stream => 1);
    is("$r->{status} $r->{attempts}", 'failed 2', "$protocol: a line that is always cut fails after max_failures");
}
$node->stop;
$peer->stop;
done_testing();
