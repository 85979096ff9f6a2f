# Delivery with a fetcher at work: retries, time-outs, deadlines, cooldowns, limits and a full queue, as a user meets them.
use strict;
use warnings;
use lib 'lib';
use MrPrompt qw(new_cluster start_provider wait_until);
use PostgreSQL::Test::Utils;
use Test::More;

my $provider = start_provider();
my $base = $provider->url;
my $node = new_cluster('delivery', conf => "mrprompt.heartbeat_interval = 200\n");
$node->safe_psql('postgres', qq(
    select mrprompt.add_user(login_role => current_user);
    insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private, cooldown_percent, backoff_base_ms, idempotency_header, timeout_limit_ms) values
        ('fake', 'openai', '$base/v1', true, true, 0, 10, 'Idempotency-Key', 20000),
        ('watched', 'openai', '$base/v1', true, true, 50, 10, null, 20000);
    insert into mrprompt.prices (provider, model, input, output) values ('fake', 'm', 0.000001, 0.000002);));

my $configured = 0;
sub ask { return $node->safe_psql('postgres', $_[0]) }
# chat(PROMPT[, ARGUMENTS]): the request's id.
sub chat { return ask("select mrprompt.chat_text('$_[0]', " . ($_[1] // "'m', 'fake'") . ')') }
# The columns of a request that has ended, as psql prints them.
sub ended
{
    my ($id, $columns) = @_;
    wait_until(sub { ask("select finished_at is not null from mrprompt.requests where id = '$id'") eq 't' }, 60)
        or BAIL_OUT('it does not end: ' . ask("select * from mrprompt.requests where id = '$id'"));
    return ask("select $columns from mrprompt.requests where id = '$id'");
}
# Puts lines into postgresql.conf; when this returns, the server's sessions have read them.
sub configure
{
    my (@lines) = @_;
    $node->append_conf('postgresql.conf', "$_\n") for @lines, 'mrprompt_test.configured = ' . ++$configured;
    $node->reload;
    wait_until(sub { ask("select current_setting('mrprompt_test.configured', true)") eq $configured }) or BAIL_OUT("@lines: not read");
    return;
}

# --- retries, and the rows of the attempts
my $id = chat('fake?status=503&fail_times=2&id=retried');
is(ended($id, 'status, attempts, failures'), 'succeeded|3|2', 'two failures, then an answer');
is(ask("select string_agg(concat_ws(' ', attempt, outcome, error_type, http_status, counted), ', ' order by attempt) from mrprompt.attempts where request_id = '$id'"),
    '1 failed server_error 503 t, 2 failed server_error 503 t, 3 succeeded 200', 'each attempt is a row with its reason');
my @keys = map { $_->{headers}{'idempotency-key'} } grep { $_->{body} =~ /id=retried/ } $provider->requests;
is("@keys", "$id $id $id", 'the provider gets one idempotency key for all of them');
$id = chat('fake?status=429&retry_after_ms=20&fail_times=1&id=limited', q('limited', 'fake'));
is(ended($id, 'status, attempts, failures'), 'succeeded|2|0', 'a 429 is no failure');
$id = chat('fake?status=402&fail_times=1&id=paid', q('m', 'fake', options => '{"retry_on": ["402"]}'));
is(ended($id, 'status, attempts'), 'succeeded|2', 'a request may say what else it is retried on');
$id = chat('fake?status=503', q('m', 'fake', options => '{"no_retry_on": ["503"]}'));
is(ended($id, 'status, attempts, error_status'), 'failed|1|503', 'and on what it is not');
$id = chat('fake?status=503', q('m', 'fake', options => '{"max_failures": 3, "backoff_base_ms": 1}'));
is(ended($id, 'status, attempts, failures'), 'failed|3|3', 'and how often');
is(ask("select count(*) from mrprompt.failed_requests where id = '$id'"), 1, 'what failed for good is a dead letter');
$id = chat('fake?status=429&retry_after=60', q('patient', 'fake', expires_at => clock_timestamp() + interval '1 second'));
is(ended($id, 'status, failures'), 'expired|0', 'a deadline ends what waits for a limit');

# --- time-outs, phase by phase
for my $case (
    [ 'fake?delay=15000', '{"first_byte_timeout_ms": 200}', 'first_byte_timeout' ],
    [ 'fake?words=9&hang=2', '{"idle_timeout_ms": 200}', 'idle_timeout' ],
    [ 'fake?words=900&pace=50', '{"total_timeout_ms": 400}', 'total_timeout' ])
{
    my ($prompt, $options, $type) = @$case;
    $id = chat($prompt, qq('m', 'fake', stream => true, options => ('$options'::jsonb || '{"max_failures": 1}')::json));
    is(ended($id, 'status, error_type'), "failed|$type", "$options ends it as $type");
}
my ($code, $out, $err) = $node->psql('postgres', q(select mrprompt.chat_text('x', 'm', 'fake', options => '{"total_timeout_ms": 20001}')));
like($err, qr/20000/, 'a request cannot wait longer than its provider row allows');

# --- what is cut off is charged by estimate
$id = chat('fake?words=50&cut=20', q('m', 'fake', stream => true, options => '{"max_failures": 1}'));
is(ended($id, 'status, error_type'), 'failed|connection_broken', 'a cut stream');
is(ask("select estimated, prompt_tokens > 0 and completion_tokens between 10 and 30, cost > 0 from mrprompt.usage where request_id = '$id'"), 't|t|t', 'its usage is an estimate, and says so');
$id = chat('fake?words=5', q('m', 'fake', stream => true));
is(ended($id, 'status'), 'succeeded', 'a whole one');
is(ask("select estimated from mrprompt.usage where request_id = '$id'"), 'f', 'has the figures of the provider');

# --- a cancel, while it runs and at any other time
my $gone = $provider->stats->{disconnects};
$id = chat('fake?delay=15000');
wait_until(sub { ask("select phase from mrprompt.requests_in_flight where request_id = '$id'") eq 'waiting' }, 30);
is(ask("select mrprompt.cancel_request('$id')"), 't', 'a running request is cancelled');
is(ended($id, 'status, finished_at - started_at < interval \'10 seconds\''), 'cancelled|t', 'and acknowledged, before its provider has said a word');
ok(wait_until(sub { $provider->stats->{disconnects} == $gone + 1 }, 10), 'whose connection is closed');
is(ask("select mrprompt.cancel_request('$id')"), 'f', 'cancelling again does nothing');

# --- a cooldown, from the provider's 429 to its end
$id = chat('fake?status=429&retry_after=60&fail_times=1&id=cool', q('cool', 'watched'));
ok(wait_until(sub { ask(q(select count(*) from mrprompt.cooldowns where model = 'cool')) == 1 }, 30), 'a 429 opens a cooldown');
is(ask(q(select provider, reason from mrprompt.cooldowns)), 'watched|rate_limit', 'that can be seen');
my $beside = chat('hi', q('another', 'watched'));
is(ended($beside, 'status'), 'succeeded', 'another model goes on');
my $behind = chat('hi', q('cool', 'watched'));
ok(wait_until(sub { ask("select wait_reason from mrprompt.requests where id = '$behind'") =~ /cool/ }, 30), 'what comes behind waits, and says why');
is(ask(q(select waiting from mrprompt.cooldowns)), 1, 'and is counted');
is(ask(q(select mrprompt.end_cooldown('watched', null, 'cool'))), 1, 'an admin ends it');
is(ended($behind, 'status, failures'), 'succeeded|0', 'what waited goes on');
is(ended($id, 'status, failures'), 'succeeded|0', 'and so does the first');

# --- limits on what is received
configure('mrprompt.max_delta = 1kB', 'mrprompt.max_stream = 100', 'mrprompt.max_response = 64kB');
# The fetcher hears of it at a heartbeat.
wait_until(sub { ended(chat('fake?big=100000'), 'error_type') eq 'response_too_large' }, 30);
$id = chat('fake?big=100000');
is(ended($id, 'status, error_type, attempts'), 'failed|response_too_large|1', 'an answer above mrprompt.max_response');
$id = chat('fake?big=4000&chunks=1', q('m', 'fake', stream => true));
is(ended($id, 'status, error_type, attempts'), 'failed|delta_too_large|1', 'a piece above mrprompt.max_delta');
like(ended($id, 'error_message'), qr/1024 bytes that mrprompt\.max_delta allows/, 'with the limit in its message');
$id = chat('fake?words=1000&pace=50', q('m', 'fake', stream => true, options => '{"total_timeout_ms": 20000}'));
is(ended($id, 'status, error_type'), 'failed|stream_too_long', 'more pieces than mrprompt.max_stream');

# --- a full queue refuses what is new, and nothing else
my $running = chat('fake?delay=3000');
wait_until(sub { ask("select status from mrprompt.requests where id = '$running'") eq 'running' }, 30);
my $to_cancel = chat('fake?delay=15000');
wait_until(sub { ask("select status from mrprompt.requests where id = '$to_cancel'") eq 'running' }, 30);
ask('select mrprompt.pause()');
my ($ann, $bob, $cid) = map { "00000000-0000-4000-8000-00000000000$_" } 1 .. 3;
configure('mrprompt.max_queued_per_user = 3');
my $once = chat('of ann', qq('m', 'fake', user_id => '$ann', idempotency_key => 'once'));
chat('of ann', qq('m', 'fake', user_id => '$ann')) for 1 .. 2;
($code, $out, $err) = $node->psql('postgres', qq(\\set VERBOSITY verbose\nselect mrprompt.chat_text('more', 'm', 'fake', user_id => '$ann')));
like($err, qr/PT429: 3 of your requests are queued already/, "a user's part of the queue is full");
($code, $out, $err) = $node->psql('postgres', qq(\\set VERBOSITY verbose\nselect mrprompt.chat_batch('["1", "2", "3", "4"]', 'm', 'fake', user_id => '$bob')));
like($err, qr/PT429/, 'a batch that does not fit is refused');
is(ask("select count(*) from mrprompt.requests where user_id = '$bob'"), 0, 'whole');
configure('mrprompt.max_queued = 3');
($code, $out, $err) = $node->psql('postgres', qq(\\set VERBOSITY verbose\nselect mrprompt.chat_text('more', 'm', 'fake', user_id => '$cid')));
like($err, qr/PT429: the queue is full: 3 requests/, 'the queue is full for everybody');
is(chat('of ann', qq('m', 'fake', user_id => '$ann', idempotency_key => 'once')), $once, 'a call made again still gets its id');
is(ended($running, 'status'), 'succeeded', 'what runs is settled');
is(ask("select mrprompt.cancel_request('$to_cancel')"), 't', 'cancels go through');
is(ended($to_cancel, 'status'), 'cancelled', 'to the end');
ask('select mrprompt.resume()');
is(ended($once, 'status'), 'succeeded', 'and the queue empties');
chat('room again', qq('m', 'fake', user_id => '$ann'));

$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC|terminated by signal/, 'the log has no trouble in it');
$provider->stop;
done_testing();
