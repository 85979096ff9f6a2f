# The fake provider does what its README says: the other tests lean on it.
use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use IO::Select;
use IO::Socket::INET;
use JSON::PP;
use Test::More;
use Time::HiRes qw(time);

use MrPrompt qw(start_provider wait_until);

my $provider = start_provider();

# A connection; and a request on it, in either protocol, with this last message.
sub dial
{
    return IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $provider->port, Timeout => 10)
      // die "cannot connect: $!";
}

sub openai_request
{
    my ($text, %more) = @_;
    my $headers = delete $more{headers} // '';
    my $path = delete $more{path} // '/v1/chat/completions';
    my $body = JSON::PP->new->utf8->canonical->encode(
        { model => 'm', messages => [ { role => 'user', content => $text } ], %more });
    return "POST $path HTTP/1.1\r\nHost: x\r\n$headers" . 'Content-Length: ' . length($body) . "\r\n\r\n$body";
}

sub anthropic_request
{
    my ($text, %more) = @_;
    return openai_request($text, path => '/v1/messages', max_tokens => 9,
        headers => "anthropic-version: 2023-06-01\r\nx-api-key: sk-test-2\r\n", %more);
}

# Sends the request by itself; the status, the head and the body of its answer.
sub ask
{
    my ($request) = @_;
    my $socket = dial();
    print $socket $request;
    return answer($socket);
}

# What arrives until the function is content with it, or the connection ends.
sub read_until
{
    my ($socket, $enough) = @_;
    my ($got, $deadline) = ('', time + 10);
    my $select = IO::Select->new($socket);
    while (time < $deadline && !$enough->($got))
    {
        next unless $select->can_read(0.1);
        last unless sysread $socket, $got, 65536, length $got;
    }
    return $got;
}

sub answer
{
    my ($socket) = @_;
    my $got = read_until($socket, \&is_whole);
    my ($head, $body) = split /\r\n\r\n/, $got, 2;
    my ($status) = ($head // '') =~ m{^HTTP/1\.1 (\d+)};
    if (($head // '') =~ /^transfer-encoding: chunked/mi)
    {
        my $plain = '';
        $plain .= substr $body, 0, hex($1) + 2, '' while $body =~ s/^([0-9a-f]+)\r\n//;
        $plain =~ s/\r\n(?=data:|event:|:|$)//g;
        $body = $plain;
    }
    return { status => $status, head => $head, body => $body, raw => $got };
}

sub is_whole
{
    my ($got) = @_;
    return 0 unless $got =~ /^(.*?)\r\n\r\n(.*)$/s;
    my ($head, $body) = ($1, $2);
    return length($body) >= $1 if $head =~ /^content-length: (\d+)/mi;
    return $body =~ /\r\n0\r\n\r\n$/;
}

# The decoded events of a stream.
sub events
{
    my ($answer) = @_;
    return map { decode_json($_) } grep { $_ ne '[DONE]' } $answer->{body} =~ /^data: (.*?)\r?$/mg;
}

sub streamed_text
{
    return join '', map { $_->{choices}[0]{delta}{content} // '' } events(@_);
}

subtest 'openai_answers_whole_and_as_a_stream' => sub {
    my $whole = ask(openai_request('hello you'));
    is $whole->{status}, 200, 'status';
    my $json = decode_json($whole->{body});
    is $json->{choices}[0]{message}{content}, 'You said: hello you', 'the echo';
    is $json->{usage}{prompt_tokens}, 3, 'nine bytes are three tokens';
    is $json->{usage}{completion_tokens}, 4, 'four words are four tokens';

    my $stream = ask(openai_request('fake?words=3', stream => JSON::PP::true,
        stream_options => { include_usage => JSON::PP::true }));
    is streamed_text($stream), 'w1 w2 w3', 'the words';
    my @events = events($stream);
    is $events[-1]{usage}{completion_tokens}, 3, 'usage comes last';
    is_deeply $events[-1]{choices}, [], 'in a chunk without choices';
    is $events[-2]{choices}[0]{finish_reason}, 'stop', 'after the finish reason';
    like $stream->{body}, qr/data: \[DONE\]/, 'and [DONE]';
    unlike ask(openai_request('fake?words=3', stream => JSON::PP::true))->{body}, qr/"usage"/,
      'no usage where none is asked for';
};

subtest 'says_what_prices_depend_on' => sub {
    my $details = 'prompt=90&completion=30&cache_write=20&cache_write_1h=15&service_tier=flex';
    my $openai = "fake?$details&audio_prompt=8&audio_completion=7&cost=0.00012";
    my $whole = decode_json(ask(openai_request($openai))->{body});
    my ($chunk) = grep { $_->{usage} } events(ask(openai_request($openai, stream => JSON::PP::true, stream_options => { include_usage => JSON::PP::true })));
    for my $said ($whole, $chunk)
    {
        is $said->{service_tier}, 'flex', 'the tier';
        is $said->{usage}{cost}, 0.00012, 'the cost';
        is $said->{usage}{prompt_tokens_details}{audio_tokens}, 8, 'audio heard';
        is $said->{usage}{completion_tokens_details}{audio_tokens}, 7, 'audio spoken';
    }
    $whole = decode_json(ask(anthropic_request("fake?$details"))->{body});
    my ($start) = events(ask(anthropic_request("fake?$details", stream => JSON::PP::true)));
    for my $said ($whole, $start->{message})
    {
        is $said->{usage}{service_tier}, 'flex', 'the tier at Anthropic';
        is_deeply $said->{usage}{cache_creation}, { ephemeral_5m_input_tokens => 5, ephemeral_1h_input_tokens => 15 }, 'how long its cache keeps';
    }
    is decode_json(ask(openai_request('hi'))->{body})->{service_tier}, 'default', 'unasked: the ordinary tier';
    is decode_json(ask(anthropic_request('hi'))->{body})->{usage}{service_tier}, 'standard', 'of each';
};

subtest 'anthropic_answers_whole_and_as_a_stream' => sub {
    my $json = decode_json(ask(anthropic_request('fake?words=2&cached=1&prompt=10'))->{body});
    is $json->{content}[0]{text}, 'w1 w2', 'text';
    is $json->{stop_reason}, 'end_turn', 'stop reason';
    is $json->{usage}{input_tokens}, 9, 'input without what the cache gave';
    is $json->{usage}{cache_read_input_tokens}, 1, 'which stands beside it';

    my $stream = ask(anthropic_request('fake?words=2&reasoning=1', stream => JSON::PP::true));
    is_deeply [ map { $_->{type} } events($stream) ],
      [
        qw(message_start ping content_block_start content_block_delta content_block_delta content_block_stop),
        qw(content_block_start content_block_delta content_block_delta content_block_stop),
        qw(message_delta message_stop)
      ],
      'the events in order';
    my @broken = events(ask(anthropic_request('fake?words=2&error_in_stream=1', stream => JSON::PP::true)));
    is $broken[-1]{error}{type}, 'overloaded_error', 'an error in the stream';
    is ask(anthropic_request('x', max_tokens => undef))->{status}, 400, 'max_tokens is mandatory';
};

subtest 'tool_calls_come_in_fragments_and_end_with_their_result' => sub {
    my %arguments;
    for (events(ask(openai_request('fake?tool=weather&parallel=2', stream => JSON::PP::true))))
    {
        my $call = $_->{choices}[0]{delta}{tool_calls} or next;
        $arguments{ $call->[0]{index} } .= $call->[0]{function}{arguments};
    }
    is_deeply [ map { decode_json($_) } @arguments{ 0, 1 } ], [ ({ city => 'Paris', days => 3 }) x 2 ],
      'arguments of both';
    my ($use) = @{ decode_json(ask(anthropic_request('fake?tool=weather&args={"a":"b%5C%5Cc"}'))->{body})->{content} };
    is_deeply $use->{input}, { a => 'b\\c' }, 'given arguments, in Anthropic\'s form';
    my $after = decode_json(
        ask(openai_request('', messages => [ { role => 'user', content => 'fake?tool=weather' },
            { role => 'tool', content => 'sunny' } ]))->{body});
    is $after->{choices}[0]{message}{content}, 'The tool said: sunny', 'the loop ends';
};

subtest 'every_path_of_a_provider_is_known' => sub {
    is ask(openai_request('x', path => $_))->{status}, 200, $_
      for '/api/gateway/v1/endpoints/chat/completions', '/openai/deployments/a%2Fb/chat/completions';
    my $named = decode_json(ask(openai_request('x', model => undef,
        path => '/openai/deployments/a%2Fb/chat/completions'))->{body});
    is $named->{model}, 'a/b', 'the model of an Azure path';
    is ask(openai_request('x', path => '/v1/else'))->{status}, 404, 'another path';
    like ask("GET /v1/models HTTP/1.1\r\n\r\n")->{body}, qr/"fake"/, 'models';
};

subtest 'errors_have_the_format_of_the_provider' => sub {
    my $busy = ask(openai_request('fake?status=429&retry_after=2&retry_after_ms=1500'));
    is $busy->{status}, 429, 'status';
    like $busy->{head}, qr/^retry-after: 2\r?$/m, 'retry-after';
    like $busy->{head}, qr/^retry-after-ms: 1500\r?$/m, 'retry-after-ms';
    is decode_json($busy->{body})->{error}{code}, 'rate_limit_exceeded', 'code';
    is decode_json(ask(anthropic_request('fake?status=529'))->{body})->{error}{type}, 'overloaded_error', 'type';
    is ask(openai_request('fake?require_key=sk-test-1'))->{status}, 401, 'no key';
    is ask(openai_request('fake?require_key=sk-test-1', headers => "Authorization: Bearer sk-test-1\r\n"))->{status},
      200, 'the right key';
    like ask(anthropic_request('fake?echo_key'))->{body}, qr/sk-test-2/, 'an error that gives the key away';
    like ask(openai_request('fake?html'))->{body}, qr/<html>/, 'a web page';
    like ask(openai_request('fake?redirect=http://127.0.0.1:1/'))->{head}, qr{^location: http://127}m, 'redirect';
    is ask(openai_request('fake?chunk=3'))->{status}, 400, 'a misspelt behaviour';
    is ask(openai_request('x', messages => []))->{status}, 400, 'no messages';
};

subtest 'fail_times_counts_per_request' => sub {
    is_deeply [ map { ask(openai_request('fake?status=503&fail_times=2'))->{status} } 1 .. 3 ], [ 503, 503, 200 ],
      'the same body';
    is_deeply [ map { ask(openai_request("fake?id=a&fail_times=1 $_"))->{status} } 1 .. 2 ], [ 500, 200 ],
      'the same id';
};

subtest 'streams_break_where_asked' => sub {
    my %stream = (stream => JSON::PP::true);
    my $cut = ask(openai_request('fake?words=5&cut=2', %stream));
    is streamed_text($cut), 'w1 w2', 'cut: two chunks';
    unlike $cut->{raw}, qr/\r\n0\r\n\r\n$/, 'and no end';
    is ask(openai_request('fake?cut=0', %stream))->{raw}, '', 'cut=0: nothing';
    my $error = ask(openai_request('fake?words=5&error_in_stream=3', %stream));
    is streamed_text($error), 'w1 w2 w3', 'error_in_stream: three chunks';
    is((events($error))[-1]{error}{type}, 'server_error', 'then the error');
    unlike ask(openai_request('fake?garbage', %stream))->{raw}, qr/^HTTP/, 'garbage';
    like ask(openai_request('fake?garbage_json', %stream))->{body}, qr/^data: \{"choices":\[\{"delta"$/m, 'garbage_json';
    unlike ask(openai_request('fake?no_done', %stream))->{body}, qr/DONE/, 'no_done';
    like ask(openai_request('fake?comments', %stream))->{body}, qr/^: keep-alive$/m, 'comments';
    like ask(openai_request('fake?crlf', %stream))->{body}, qr/\r\n\r\n/, 'crlf';
    like ask(openai_request('fake?nul&text=a', %stream))->{body}, qr/\\u0000/, 'nul';
    like ask(openai_request('fake?bad_utf8', %stream))->{body}, qr/\xC3\x28\xFF/, 'bad_utf8';
    my ($first) = events(ask(openai_request('fake?empty_choices', %stream)));
    is_deeply $first->{choices}, [], 'empty_choices';

    my $socket = dial();
    print $socket openai_request('fake?words=5&pace=20&reset=2', %stream);
    my $got = 1;
    $got = sysread $socket, my $bytes, 65536 while $got;
    ok $!{ECONNRESET}, 'reset: seen as such';

    is ask(openai_request('fake?raw=a%0Db&loop=xy&loops=3&tail=z&cut=1'))->{raw}, "a\rbxyxyxyz", 'raw bytes, repeated, and more';
    is length(ask(openai_request('fake?raw=&loop=0123456789&loops=100001&cut=1'))->{raw}), 1_000_010, 'as often as asked';
    my $flood = dial();
    print $flood openai_request('fake?raw=&loop=xy');
    cmp_ok length(read_until($flood, sub { length $_[0] > 1_000_000 })), '>', 1_000_000, 'or for ever';
    close $flood;

    my $lie = ask(openai_request('fake?length_lie=9'));
    my ($promised) = $lie->{head} =~ /^content-length: (\d+)/m;
    is length($lie->{body}) + 9, $promised, 'length_lie';
};

subtest 'delay_pace_and_drip_take_their_time' => sub {
    my $begin = time;
    is streamed_text(ask(openai_request('fake?words=3&delay=100&pace=100', stream => JSON::PP::true))), 'w1 w2 w3',
      'text';
    cmp_ok time - $begin, '>=', 0.3, 'a delay and two pauses';
    is ask(openai_request('fake?drip=0&text=slow'))->{status}, 200, 'byte by byte';
};

subtest 'pipelined_requests_are_answered_in_order' => sub {
    my $socket = dial();
    print $socket openai_request('fake?text=first&delay=50'), openai_request('fake?text=second');
    like read_until($socket, sub { $_[0] =~ /second/ }), qr/first.*second/s, 'both, in order';
};

subtest 'the_log_shows_requests_without_their_keys' => sub {
    my @requests = $provider->requests;
    my ($request) = grep { $_->{headers}{'x-api-key'} } @requests;
    is $request->{path}, '/v1/messages', 'path';
    is $request->{json}{max_tokens}, 9, 'body';
    is $request->{key_sha256}, sha256_hex('sk-test-2'), 'the key by its hash';
    unlike encode_json($request), qr/sk-test-2/, 'and not by itself';
};

subtest 'chunked_and_large_bodies_are_read' => sub {
    my $request = openai_request('x' x 3_000_000);
    my $socket = dial();
    my ($head, $body) = split /\r\n\r\n/, $request, 2;
    print $socket "$head\r\nExpect: 100-continue\r\n\r\n";
    sysread $socket, my $go_on, 100;
    is $go_on, "HTTP/1.1 100 Continue\r\n\r\n", '100 Continue';
    print $socket $body;
    is answer($socket)->{status}, 200, 'three megabytes';
    my $json = '{"model":"fake?text=ok","messages":[{"role":"user","content":"x"}]}';
    my $chunks = join '', map { sprintf "%x\r\n%s\r\n", length, $_ } unpack('(a7)*', $json), '';
    like ask("POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n$chunks")->{body}, qr/"ok"/,
      'chunked';
};

subtest 'a_client_that_leaves_is_counted' => sub {
    my $before = $provider->stats->{disconnects};
    for my $text ('fake?delay=60000', 'fake?words=9&hang=2', 'fake?endless')
    {
        my $socket = dial();
        print $socket openai_request($text, stream => JSON::PP::true);
        ok wait_until(sub { $provider->stats->{in_flight} == 1 }, 10), "$text is in flight";
        close $socket;
        ok wait_until(sub { $provider->stats->{in_flight} == 0 }, 10), 'and is not when its client has left';
    }
    is $provider->stats->{disconnects}, $before + 3, 'three left';
};

subtest 'defaults_stand_behind_what_a_request_asks' => sub {
    my $other = $provider;
    $provider = start_provider(default => 'fake?words=2&chunks=1');
    is decode_json(ask(openai_request('x'))->{body})->{choices}[0]{message}{content}, 'w1 w2', 'default';
    is decode_json(ask(openai_request('fake?words=1'))->{body})->{choices}[0]{message}{content}, 'w1', 'asked';
    $provider->stop;
    $provider = $other;
};

subtest 'tls_is_spoken' => sub {
    my $secure = start_provider(tls => 1);
    like $secure->url, qr/^https:/, 'https';
    is $secure->stats->{accepted}, 1, 'an answer';
};

$provider->stop;
ok !IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $provider->port), 'it stops at SIGTERM';

done_testing();
