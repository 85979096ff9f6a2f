# A provider that means harm: each of its answers ends as one clear error of one request, and the others never notice.
use strict;
use warnings;
use lib 'lib';
use Compress::Zlib qw(memGzip);
use JSON::PP;
use MrPrompt qw(new_cluster start_http2_provider start_provider wait_until);
use PostgreSQL::Test::Utils;
use Test::More;

use constant MAX_RESPONSE => 8 << 20;

my $provider = start_provider();
my $base = $provider->url;
my $node = new_cluster('hostile', conf => "mrprompt.max_response = 8MB\nmrprompt.heartbeat_interval = 500\n");
$node->safe_psql('postgres', qq(
    select mrprompt.add_user(login_role => current_user);
    insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private, cooldown_percent, total_timeout_ms) values
        ('good', 'openai', '$base/v1', true, true, 0, 120000),
        ('bad', 'openai', '$base/v1', true, true, 0, 60000),
        ('bad_claude', 'anthropic', '$base', true, true, 0, 60000);));

# --- what the provider sends: bytes, by the words of test/provider/README.md
sub encoded { return $_[0] =~ s/([^A-Za-z0-9_.-])/sprintf '%%%02X', ord $1/ger }
# sends(RAW, WORD => VALUE…): a prompt that asks for these bytes.
sub sends
{
    my ($raw, %words) = @_;
    return join '&', 'fake?raw=' . encoded($raw), map { "$_=" . encoded($words{$_}) } sort keys %words;
}
my $head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
my $answer = '{"choices":[{"message":{"content":"fine"},"finish_reason":"stop"}]}';
# An answer that ends with its connection; one of known length.
sub until_closed { my ($body, %words) = @_; return sends("$head\r\n$body", cut => 1, %words) }
sub with_length { my ($body, $length) = @_; return "${head}Content-Length: " . ($length // length $body) . "\r\n\r\n$body" }
sub chunk { return sprintf "%x\r\n%s\r\n", length $_[0], $_[0] }
my $chunked = "${head}Transfer-Encoding: chunked\r\n\r\n";
my $text_event = "data: {\"choices\":[{\"delta\":{\"content\":\"fine\"}}]}\n\n";
my $whole_stream = "$text_event\ndata: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
my $bomb = memGzip($answer . ' ' x (100 << 20));

# --- the cases: what it is, the prompt, what comes of it (status, type of the error, its message or the answer), and: streams (both,
# plain, streamed), provider, options of the request
my @cases;
sub ends
{
    my ($name, $prompt, $status, $type, $pattern, %more) = @_;
    for my $stream (($more{streams} // 'both') eq 'both' ? (0, 1) : $more{streams} eq 'streamed' ? 1 : 0)
    {
        push @cases, { name => "$name, " . ($stream ? 'streamed' : 'plain'), prompt => $prompt, status => $status, type => $type,
            pattern => $pattern, stream => $stream, provider => $more{provider} // 'bad', options => $more{options} // {} };
    }
}
sub fails { my ($name, $prompt, $type, $pattern, %more) = @_; return ends($name, $prompt, 'failed', $type, $pattern, %more) }
sub answers { my ($name, $prompt, $pattern, %more) = @_; return ends($name, $prompt, 'succeeded', undef, $pattern, %more) }

# The head.
fails('a header of 10 MB', sends("${head}X-Long: ", loop => 'x' x 1000, loops => 10_000, tail => "\r\n\r\n$answer"), 'response_too_large', qr/head/);
fails('100,000 headers', sends($head, loop => "X-Many: 1\r\n", loops => 100_000, tail => "\r\n$answer"), 'response_too_large', qr/head/);
fails('a storm of 103', sends('', loop => "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"), 'response_too_large', qr/head/);
answers('a few of them', sends("HTTP/1.1 103 Early Hints\r\n\r\n" x 20 . with_length($answer)), qr/^fine$/);
fails('a switch of protocols', sends("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nabc", cut => 1), 'bad_response', qr/101/);
fails('trailers for ever', sends($chunked . chunk($answer) . "0\r\n", loop => "X-Trailer: 1\r\n"), 'response_too_large', qr/head/);
fails('a head byte by byte', sends($head, drip => 300), 'first_byte_timeout', qr/1000 ms/, options => { first_byte_timeout_ms => 1000 });
fails('no HTTP', 'fake?garbage', 'bad_response', qr/not proper HTTP/);
fails('HTTP of the future', sends("HTTP/4.2 200 OK\r\n\r\n$answer", cut => 1), 'bad_response', qr/HTTP/);
fails('a NUL in the head', sends("${head}X-Nul: a\0b\r\n\r\n$answer", cut => 1), 'bad_response', qr/head/);
fails('a negative length', sends("${head}Content-Length: -5\r\n\r\n$answer", cut => 1), 'bad_response', qr/length/i);
fails('two lengths', sends("${head}Content-Length: 5\r\nContent-Length: 70\r\n\r\n$answer", cut => 1), 'bad_response', qr/length/i);
answers('a length beside chunks', sends("${head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" . chunk($answer) . "0\r\n\r\n"), qr/^fine$/);
answers('the same length twice', sends("${head}Content-Length: 67\r\nContent-Length: 67\r\n\r\n$answer"), qr/^fine$/);
fails('a trailer of 10 MB', sends($chunked . chunk($answer) . "0\r\nX-Long: ", loop => 'x' x 1000, loops => 10_000, tail => "\r\n\r\n"), 'response_too_large', qr/head/);

# Resets and closed connections.
fails('a reset before the head', 'fake?reset=0', 'connection_broken', qr/reset/i);
fails('a reset in the head', sends(substr($head, 0, 25), reset => 1, pace => 200, tail => 'x'), 'connection_broken', qr/reset/i);
fails('a reset in the body', sends("${head}Content-Length: 500\r\n\r\n{\"choices\":", reset => 1, pace => 200, tail => '['), 'connection_broken', qr/reset/i);
fails('a close before the head', 'fake?cut=0', 'connection_broken', qr/./);
fails('a close in the head', sends(substr($head, 0, 25), cut => 1), 'connection_broken', qr/./);
fails('a close in the body', sends(with_length($answer, 500), cut => 1), 'connection_broken', qr/433 bytes/);

# Lengths and chunks.
fails('a length too short', sends(with_length($answer, 20), cut => 1), 'bad_response', qr/not JSON/);
fails('a chunk of no size', sends("${chunked}xyz\r\n$answer\r\n0\r\n\r\n"), 'bad_response', qr/chunk/);
fails('a chunk beyond all sizes', sends("${chunked}fffffffffffffffffff\r\n$answer\r\n0\r\n\r\n"), 'bad_response', qr/chunk/);
fails('a chunk longer than it says', sends("${chunked}5\r\n$answer\r\n0\r\n\r\n"), 'bad_response', qr/chunk/);
fails('a chunk extension for ever', sends("${chunked}5;", loop => 'x' x 100, pace => 50), 'idle_timeout', qr/1000 ms/, options => { idle_timeout_ms => 1000 });
fails('no last chunk', sends($chunked . chunk($answer), cut => 1), 'connection_broken', qr/./);

# The pace.
fails('a byte now and then', 'fake?drip=200', 'total_timeout', qr/2000 ms/, options => { total_timeout_ms => 2000 });
fails('silence in the body', sends("${head}Content-Length: 500\r\n\r\n{\"choices\":", hang => 1), 'idle_timeout', qr/1000 ms/, options => { idle_timeout_ms => 1000 });
fails('a body without end', 'fake?endless', 'response_too_large', qr/8388608 bytes/);
fails('comments for ever', sends("$head\r\n", loop => ": still there\n\n"), 'response_too_large', qr/8388608 bytes/);
fails('comments now and then', sends("$head\r\n", loop => ": still there\n\n", pace => 100), 'total_timeout', qr/2000 ms/, options => { total_timeout_ms => 2000 });
fails('blanks for ever', sends("$head\r\n", loop => "\n"), 'response_too_large', qr/8388608 bytes/);

# The encoding of the body.
fails('a gzip body that nobody asked for', sends("${head}Content-Encoding: gzip\r\n\r\n" . memGzip($answer), cut => 1), 'bad_response', qr/compressed \(gzip\)/);
fails('a gzip bomb', sends("${head}Content-Encoding: gzip\r\n\r\n$bomb", cut => 1), 'bad_response', qr/compressed \(gzip\)/);
fails('a gzip bomb as transfer encoding', sends("${head}Transfer-Encoding: gzip\r\n\r\n$bomb", cut => 1), 'response_too_large|bad_response', qr/8388608 bytes|Unsolicited Transfer-Encoding/); # older, newer libcurl
fails('a compressed error', sends("HTTP/1.1 503 Busy\r\nContent-Encoding: br\r\n\r\n\x0b\x02\x80", cut => 1), 'http_error', qr/503.*compressed \(br\)/);
answers('a wrong content type', sends("HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n$answer", cut => 1), qr/^fine$/);
answers('no content type', sends("HTTP/1.1 200 OK\r\n\r\n$answer", cut => 1), qr/^fine$/);
fails('a web page', 'fake?html', 'bad_response', qr/Sign in/);
fails('nothing at all', until_closed(''), 'cut_stream', qr/empty/);
fails('no content', sends("HTTP/1.1 204 No Content\r\n\r\n"), 'cut_stream', qr/empty/);
fails('an endless error', sends("HTTP/1.1 400 Bad Request\r\n\r\n{\"error\":{\"message\":\"", loop => 'no'), 'http_error', qr/no/);

# Text and numbers.
answers('bytes that are no UTF-8', until_closed($answer =~ s/fine/a\xC3\x28\xFFb/r), qr/^a\x{FFFD}\(\x{FFFD}b$/, streams => 'plain');
answers('two million of them', until_closed('{"choices":[{"message":{"content":"', loop => "\xFF", loops => 2_000_000, tail => '"}}]}'), qr/^\x{FFFD}{1000}/, streams => 'plain');
fails('two million of them in one event', until_closed('data: {"choices":[{"delta":{"content":"', loop => "\xFF", loops => 2_000_000, tail => qq("}}]}\n\n)), 'delta_too_large', qr/max_delta/, streams => 'streamed');
answers('an escaped NUL', until_closed($answer =~ s/fine/a\\u0000b/r), qr/^ab$/);
fails('a bare NUL', until_closed($answer =~ s/fine/a\0b/r), 'bad_response', qr/not JSON/);
fails('a NUL between events', until_closed("$text_event\0\n\ndata: x\0y\n\n"), 'bad_response', qr/not JSON/, streams => 'streamed');
answers('numbers beyond all bounds', until_closed($answer =~ s/}$/,"usage":{"prompt_tokens":1e999,"completion_tokens":1180591620717411303424,"cached_tokens":-9,"total_tokens":-1e400}}/r), qr/^fine$/);
answers('a number of a million digits', until_closed(substr($answer, 0, -1) . ',"usage":{"prompt_tokens":', loop => '7', loops => 1_000_000, tail => '}}'), qr/^fine$/);
answers('every key twice', until_closed($answer =~ s/"content"/"content":"wrong","content"/r), qr/^fine$/);

# The shape.
fails('JSON 100,000 levels deep', until_closed('', loop => '[', loops => 100_000), 'bad_response', qr/128 levels/);
fails('the same in an event', until_closed('data: ', loop => '{"a":', loops => 100_000, tail => "\n\n"), 'bad_response', qr/128 levels/);
fails('the same in an error', sends("HTTP/1.1 400 Bad Request\r\n\r\n", loop => '[', loops => 100_000, cut => 1), 'http_error', qr/\[\[/);
fails('JSON of four million values', until_closed('{"choices":[', loop => '[],', loops => 2_100_000, tail => '0]}'), 'bad_response', qr/values/);
answers('figures of no end', until_closed(substr($answer, 0, -1) . ',"usage":{"prompt_tokens":3,"more":[', loop => '0,', loops => 400_000, tail => '0]}}'), qr/^fine$/);
fails('a line of 100 MB', until_closed('data: ', loop => 'x' x 1000, loops => 100_000), 'response_too_large', qr/8388608 bytes/);
fails('an event of a million empty lines', until_closed('', loop => "data:\n", loops => 1_000_000, tail => "\n"), 'bad_response', qr/not JSON/);
fails('an event of a hundred thousand objects', until_closed('', loop => "data: {}\n", loops => 100_000, tail => "\n"), 'bad_response', qr/not JSON/);
fails('events that say nothing', until_closed('', loop => "data: {}\n\n", loops => 100_000), 'cut_stream', qr/before the answer did/);
fails('a million tool calls', until_closed('{"choices":[{"message":{"tool_calls":[', loop => '{},', loops => 1_000_000, tail => '{}]}}]}'), 'bad_response', qr/tools/);
fails('the same as a stream', until_closed('', loop => qq(data: {"choices":[{"delta":{"tool_calls":[{"id":"1","function":{"name":"f"}},{"id":"2","function":{"name":"f"}}]}}]}\n\n), loops => 50_000), 'bad_response', qr/tools/);
answers('tool calls beyond the range of an index', until_closed(join('', map { qq(data: {"choices":[{"delta":{"tool_calls":[{"index":$_,"function":{"name":"f","arguments":"{}"}}]}}]}\n\n) } 0, 2147483648, 4294967295, 4294967296, 18446744073709551615, '1e30', -1) . "data: [DONE]\n\n"), qr/^$/, streams => 'streamed');
fails('tool calls without names', until_closed('{"choices":[{"message":{"tool_calls":[', loop => '{"function":{"name":"f","arguments":"[1,"}},', loops => 170_000, tail => '{}]}}]}'), 'bad_response', qr/tools/, streams => 'plain');
answers('a tool call in a hundred thousand pieces', until_closed('data: {"choices":[{"delta":{"tool_calls":[', loop => '{"function":{"name":"f","arguments":"[1,1,1,"}},', loops => 150_000, tail => qq({}]}}]}\n\ndata: [DONE]\n\n)), qr/^$/, streams => 'plain');

# What comes around an answer.
fails('an error, and the stream goes on', until_closed(qq(data: {"error":{"message":"boom","type":"kaputt"}}\n\n), loop => ": still there\n\n", pace => 100), 'kaputt', qr/^boom$/);
answers('the end, and the stream goes on', sends("$head\r\n$whole_stream", loop => ": still there\n\n", pace => 100), qr/^fine$/);
answers('the end, and silence', sends("$head\r\n$whole_stream", hang => 1), qr/^fine$/);
answers('names of a megabyte', until_closed(qq({"choices":[{"message":{"content":"fine"},"finish_reason":"), loop => 'x' x 1000, loops => 1000, tail => '"}]}'), qr/^fine$/);

# Anthropic's own.
fails('thinking for ever', sends("$head\r\n", loop => qq(data: {"type":"content_block_start","content_block":{"type":"redacted_thinking","data":"x"}}\n\n)), 'response_too_large', qr/8388608 bytes/, provider => 'bad_claude');
fails('an input of any size', until_closed('data: {"type":"content_block_start","content_block":{"type":"tool_use","id":"1","name":"f","input":{"a":[', loop => '{},', loops => 300_000, tail => "0]}}}\n\n"), 'cut_stream', qr/./, provider => 'bad_claude');

# --- all of them at once, beside others, in one fetcher; and once more
sub ask { return $node->safe_psql('postgres', $_[0]) }
sub memory { my ($pid, $what) = @_; return slurp_file("/proc/$pid/status") =~ /^$what:\s+(\d+) kB/m ? $1 << 10 : BAIL_OUT("no $what") }
sub chat
{
    my ($prompt, $who, $stream, %options) = @_;
    return sprintf q(select mrprompt.chat_text($prompt$%s$prompt$, 'm', '%s', stream => %s, options => '%s');),
        $prompt, $who, $stream ? 'true' : 'false', encode_json({ max_failures => 1, %options });
}
sub all_end { return wait_until(sub { ask('select count(*) from mrprompt.requests where finished_at is null') eq '0' }, 100) || BAIL_OUT('not all of them end') }
# Sends the cases among others; what came of them.
sub one_round
{
    my @before = map { chat('fake?words=60&pace=100', 'good', $_ % 2) } 1 .. 20;
    my @after = map { chat("hello $_", 'good', $_ % 2) } 1 .. 20;
    my @ids = split /\n/, ask(join "\n", @before, (map { chat(@$_{qw(prompt provider stream)}, %{ $_->{options} }) } @cases), @after);
    all_end();
    # No more of long texts than is looked at: on some of them newer versions of JSON::PP take minutes.
    my @rows = map { decode_json($_) } split /\n/, ask("select json_build_object('status', r.status, 'error_type', r.error_type, 'attempts', r.attempts,
        'content', left(r.content, 2000), 'error_message', left(r.error_message, 2000))
        from unnest('{" . join(',', @ids) . "}'::uuid[]) with ordinality as i (id, n), mrprompt.get_request(i.id) r order by n");
    return { others => [ @rows[ 0 .. 19, -20 .. -1 ] ], cases => [ @rows[ 20 .. $#rows - 20 ] ] };
}
ask(chat('first', 'good', 0));
all_end();
my $pid = ask('select pid from mrprompt_internal.fetchers');
my $before = memory($pid, 'VmRSS');
my (@rounds, @memory);
for (1, 2)
{
    push @rounds, one_round();
    push @memory, memory($pid, 'VmRSS');
}
for my $i (0 .. $#cases)
{
    my ($case, @rows) = ($cases[$i], map { $_->{cases}[$i] } @rounds);
    my $type = $case->{type} // '';
    my $told = join ' | ', map { my $row = $_; join ' ', $row->{status}, $row->{error_type} // '-', substr($row->{status} eq 'succeeded' ? $row->{content} // '' : $row->{error_message}, 0, 200) } @rows;
    my $good = grep { $_->{status} eq $case->{status} && ($_->{error_type} // '') =~ /^(?:$type)$/ && $_->{attempts} == 1
          && ($case->{status} eq 'succeeded' ? $_->{content} // '' : $_->{error_message}) =~ $case->{pattern} } @rows;
    is($good, 2, "$case->{name}: " . ($case->{type} // 'an answer')) or diag $told;
}
my @others = map { @{ $_->{others} } } @rounds;
is(scalar(grep { $_->{status} eq 'succeeded' && $_->{attempts} == 1 } @others), scalar @others, 'all others had their answers at once');
is(ask('select pid from mrprompt_internal.fetchers'), $pid, 'from the same fetcher');
# Bodies of at most MAX_RESPONSE that are there at the same time, each once as bytes and once as what was read from them; of that nothing stays.
note sprintf 'memory in MB: %d before, %d and %d after, at most %d', map { $_ >> 20 } $before, @memory, memory($pid, 'VmHWM');
cmp_ok(memory($pid, 'VmHWM') - $before, '<', 2 * 16 * MAX_RESPONSE, 'whose memory stayed within bounds');
# What a round would leave behind if it kept its bodies is twice as much; the C library keeps some of it in pieces.
cmp_ok($memory[1] - $memory[0], '<', 10 * MAX_RESPONSE, 'and does not grow from round to round');

# --- a connection that is kept alive and lies: on the next request nothing may be left of the last one
sub scheme_of { return $_[0]->ca_file ? 'https' : 'http' }
sub answer_of
{
    my ($keeper, $prompt) = @_;
    my $id = ask(chat($prompt, scheme_of($keeper), 0));
    wait_until(sub { ask("select finished_at is not null from mrprompt.requests where id = '$id'") eq 't' }, 60);
    return ask("select concat_ws(' ', status, attempts, content, error_message) from mrprompt.get_request('$id')");
}
my $smuggled = with_length($answer =~ s/fine/smuggled/r);
for my $keeper (start_provider(), start_provider(tls => 1))
{
    my $scheme = scheme_of($keeper);
    ask(sprintf q(insert into mrprompt.providers (name, protocol, base_url, ca_file, allow_http, allow_private, cooldown_percent) values ('%s', 'openai', '%s', nullif('%s', ''), true, true, 0)),
        $scheme, $keeper->base_url, $keeper->ca_file // '');
    is(answer_of($keeper, 'one'), 'succeeded 1 You said: one', "an answer by $scheme");
    is(answer_of($keeper, 'two'), 'succeeded 1 You said: two', 'and another');
    is($keeper->stats->{accepted}, 2, 'by one connection');    # the other one asks for these figures
    for my $case (
        [ 'that answers twice', sends(with_length($answer) . $smuggled) ],
        [ 'that answers once more a little later', sends(with_length($answer), tail => $smuggled, pace => 50) ],
        [ 'with a second answer behind the last chunk', sends($chunked . chunk($answer) . "0\r\n\r\n$smuggled") ],
        [ 'that is too short for what it sends', sends(with_length("$answer$answer", length $answer)) ],
        [ 'that is closed after it said otherwise', sends("${head}Connection: keep-alive\r\nContent-Length: 67\r\n\r\n$answer", pace => 200, tail => '', cut => 1) ],
        [ 'that is reset after it said otherwise', sends("${head}Connection: keep-alive\r\nContent-Length: 67\r\n\r\n$answer", pace => 200, tail => '', reset => 1) ])
    {
        my ($name, $prompt) = @$case;
        my $asked = $keeper->stats->{requests};
        is(answer_of($keeper, $prompt), 'succeeded 1 fine', "a connection by $scheme $name: its own answer");
        wait_until(sub { $keeper->stats->{in_flight} == 0 }, 30);
        is(answer_of($keeper, 'next'), 'succeeded 1 You said: next', 'and the next request has its own');
        is($keeper->stats->{requests}, $asked + 2, 'asked for once');
    }
    $keeper->stop;
}

# --- over HTTP/2
SKIP:
{
    my ($libcurl) = (`curl --version 2>&1` // '') =~ /libcurl\/(\d+\.\d+)/ or skip 'HTTP/2 is NOT tested: no curl to tell the version of its library', 1;
    skip "HTTP/2 is NOT tested: the fetcher speaks it from libcurl 8.6 on, and this is $libcurl", 1 if sprintf('%d%03d', split /\./, $libcurl) < 8006;
    my ($http2, $other) = map { start_http2_provider() } 1 .. 2;
    my $sql = '';
    for ([ 'h2', $http2 ], [ 'h2_goaway', $other ])
    {
        my ($name, $server) = @$_;
        $sql .= "insert into mrprompt.providers (name, protocol, base_url, ca_file, allow_private, cooldown_percent, total_timeout_ms) values ('$name', 'openai', '" . $server->base_url . "', '" . $server->ca_file . "', true, 0, 60000);";
    }
    ask($sql);
    my @h2 = (
        [ 'fine', 'succeeded', qr/^fine$/ ],
        [ 'slow', 'succeeded', qr/^fine$/ ],
        [ 'long_header', 'failed', qr/./ ],
        [ 'interim_storm', 'failed response_too_large', qr/head/ ],
        [ 'endless', 'failed response_too_large', qr/8388608 bytes/ ],
        [ 'comments', 'failed response_too_large', qr/8388608 bytes/ ],
        [ 'drip', 'failed total_timeout', qr/2000 ms/, total_timeout_ms => 2000 ],
        [ 'gzip', 'failed bad_response', qr/compressed \(gzip\)/ ],
        [ 'reset_before_head', 'failed connection_broken', qr/INTERNAL_ERROR/ ],
        [ 'reset_in_body', 'failed connection_broken', qr/INTERNAL_ERROR/ ],
        [ 'refused', 'failed connection_broken', qr/./ ],
        [ 'too_long', 'failed connection_broken', qr/PROTOCOL_ERROR|Protocol error|HTTP messaging/ ],
        [ 'too_short', 'failed connection_broken', qr/PROTOCOL_ERROR|Protocol error|HTTP messaging/ ],
        [ 'slow', 'succeeded', qr/^fine$/ ],
        [ 'goaway', 'failed connection_broken', qr/./, provider => 'h2_goaway' ]);
    my @ids = split /\n/, ask(join "\n", map { my ($name, undef, undef, %options) = @$_; my $who = delete $options{provider} // 'h2'; chat($name, $who, 0, %options) } @h2);
    all_end();
    for my $i (0 .. $#h2)
    {
        my $row = decode_json(ask("select to_json(r) from mrprompt.get_request('$ids[$i]') r"));
        my ($name, $wanted, $pattern) = @{ $h2[$i] };
        my $text = ($row->{status} eq 'succeeded' ? $row->{content} : $row->{error_message}) // '';
        ok(join(' ', grep { defined } @$row{qw(status error_type)}) =~ /^$wanted/ && $text =~ $pattern, "HTTP/2, $name: $wanted") or diag explain $row;
        note "$name: $text";
    }
    is(ask('select pid from mrprompt_internal.fetchers'), $pid, 'and still from the same fetcher');
    $_->stop for $http2, $other;
}

$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC|terminated by signal/, 'the log has no trouble in it');
$provider->stop;
done_testing();
