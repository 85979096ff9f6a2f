# What the contract takes: thousands of mutated calls from a fetcher's login. Each is answered or refused for a reason of its
# own, and nothing but the caller's own requests changes.
use strict;
use warnings;
use lib 'lib';
use JSON::PP;
use MrPrompt qw(new_cluster);
use Test::More;

my $seed = $ENV{CONTRACT_FUZZ_SEED} // 20;
my $rounds = $ENV{CONTRACT_FUZZ_ROUNDS} // 12;
my $calls_a_round = 250;
srand $seed;
note "seed $seed, $rounds rounds";

my $node = new_cluster('contract_fuzz', conf => "mrprompt.local_fetcher = off\nmrprompt.lease_timeout = 1h\nmax_stack_depth = 1MB\n");
sub ask { return $node->safe_psql('postgres', $_[0]) }
ask(q(
    create role fetcher_login login in role mrprompt_fetcher;
    select mrprompt.add_user(login_role => current_user);
    insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private) values ('fake', 'openai', 'http://127.0.0.1:9/v1', true, true);
    insert into mrprompt.prices (provider, model, input, output) values ('fake', 'm', 0.000001, 0.000002);));
my $json = JSON::PP->new->canonical->allow_nonref->ascii;

# --- values that nobody expects; what JSON::PP cannot write stands as a mark, which raw() replaces
my %raw = (
    NUL => '"a\u0000b"', HALF => '"\ud800"', HUGE => '1e400000', LONG => '9' x 400, MINUS => '-9223372036854775808',
    MAX => '9223372036854775807', DEEP => '[' x 200 . ']' x 200, DEEPER => '{"a":' x 50000 . '1' . '}' x 50000,
    TWICE => '{"request":1,"request":2}', FRACTION => '1.5', ABYSS => '[' x 3000 . ']' x 3000);
my @hostile = (
    undef, JSON::PP::true, JSON::PP::false, 0, 1, -1, 2147483647, 2147483648, -2147483648, '', 'x', '1', '-5', 'null', "\x{1F600}", "'; drop table x; --",
    '00000000-0000-0000-0000-000000000000', 'not-a-uuid', 'infinity', 'NaN', '{}', 'running', 'queued', 'expired', 'retry', [], {}, [ [] ], [undef], [ {} ], [ 1, 'a' ],
    { request => undef }, 'x' x 5000, map { "\@$_\@" } keys %raw);
# What is wrong, but looks right.
my %tempting = (
    result => [ qw(running queued expired lost), undef ],
    map { ($_ => [ -1, -9 ]) } qw(prompt_tokens completion_tokens cached_tokens cache_write_tokens cache_write_1h_tokens reasoning_tokens
            audio_prompt_tokens audio_completion_tokens provider_cost attempt seq retry_after_ms));
sub raw { return $_[0] =~ s/"\@([A-Z]+)\@"/$raw{$1}/gr }
sub any { return $_[ rand @_ ] }

# Changes one place of a value, at any depth.
sub mutate
{
    my ($value) = @_;
    return any(@hostile) if !ref $value || JSON::PP::is_bool($value) || rand() < 0.1;
    if (ref $value eq 'HASH')
    {
        my @names = sort keys %$value;
        return any(@hostile) unless @names;
        my $name = any(@names);
        my $what = rand();
        my %changed = %$value;
        if ($what < 0.15) { delete $changed{$name} }
        elsif ($what < 0.2) { $changed{ any('extra', "nul\x{1}", 'request', 'fetcher') } = any(@hostile) }
        elsif ($what < 0.25) { return [ \%changed, \%changed ] }
        elsif ($tempting{$name} && rand() < 0.7) { $changed{$name} = any(@{ $tempting{$name} }) }
        else { $changed{$name} = mutate($value->{$name}) }
        return \%changed;
    }
    my @changed = @$value;
    return any(@hostile) unless @changed;
    my $place = int rand @changed;
    my $what = rand();
    if ($what < 0.1) { splice @changed, $place, 1 }
    elsif ($what < 0.2) { push @changed, $changed[$place] }
    elsif ($what < 0.3) { push @changed, any(@hostile) }
    else { $changed[$place] = mutate($changed[$place]) }
    return \@changed;
}

# --- calls as a good fetcher makes them
sub delta { return { request => $_[0], attempt => $_[1], seq => 1 + int rand 3, content => 'c', tool_calls => [ { index => 0, arguments => '{' } ] } }

sub outcome
{
    my ($request, $attempt) = @_;
    return {
        request => $request, attempt => $attempt, result => any(qw(succeeded retry failed cancelled)),
        deltas => [ { seq => 4, content => 'tail' } ], response => { content => 'yes', tool_calls => undef, finish_reason => 'stop', raw => { thinking => [] } },
        usage => { prompt_tokens => 9, completion_tokens => 3, cached_tokens => 0, cache_write_tokens => 0, cache_write_1h_tokens => 0, reasoning_tokens => 0,
            audio_prompt_tokens => 0, audio_completion_tokens => 0, service_tier => 'default', provider_cost => 0.0001, estimated => JSON::PP::false },
        raw_usage => { a => 1 }, provider_request_id => 'r', http_status => 200, first_token_ms => 1, total_ms => 2,
        error => { status => 429, type => 'rate_limit_error', message => 'slow' }, cooldown => { reason => 'rate_limit', ms => 5 },
        retry_after_ms => 1, counts_as_failure => JSON::PP::true };
}

my %good = (
    hello => sub { return { contract => 2, program => 'p', kind => 'libpq', host => 'h', pid => 1, alone => JSON::PP::false } },
    claim => sub { return { room => 2, bytes => 1000000 } },
    append => sub { return { deltas => [ map { delta(@$_) } @_ ] } },
    settle => sub { return { outcomes => [ map { outcome(@$_) } @_ ] } },
    heartbeat => sub {
        return { in_flight => [@_], leaving => JSON::PP::false,
            progress => [ map { { request => $_->[0], attempt => $_->[1], phase => 'streaming', tokens => 1 } } @_ ] };
    },
    tend => sub { return { limit => 100 } });
my @kinds = (qw(hello claim tend), ('append') x 4, ('heartbeat') x 2, ('settle') x 6);

# --- what they are made with, anew each round: requests of the caller, of another fetcher, waiting ones and unknown ones
sub hello { return ask(q(select mrprompt_internal.hello('{"contract": 2, "kind": "libpq", "program": "good"}') ->> 'fetcher')) }
sub claim { return map { [ split /\|/ ] } split /\n/, ask(qq(select j ->> 'request', j ->> 'attempt' from mrprompt_internal.claim('{"fetcher": "$_[0]", "room": $_[1], "bytes": 1000000000}') c, json_array_elements(c.body -> 'jobs') j)) }
sub state_of_others
{
    return ask(qq(select md5(string_agg(concat(r.*, q.*), ' ' order by r.id)) from mrprompt.requests r join mrprompt_internal.queue q on q.request_id = r.id where q.fetcher_id = '$_[0]'));
}

my $other = hello();
ask(q(select count(mrprompt.chat_text('theirs', 'm', 'fake', stream => true)) from generate_series(1, 5)));
my @theirs = claim($other, 5);
is(scalar @theirs, 5, 'another fetcher has requests in flight');
my $before = state_of_others($other);
my $started = ask('select pg_postmaster_start_time()');
my (%refused, $answered, @bad);

sub call_of
{
    my ($me, @mine) = @_;
    my $kind = any(@kinds);
    my @own = map { [ $_->[0], $_->[1] + 0 ] } @mine;
    my @those = rand() < 0.3 ? (any(@own), any(map { [ $_->[0], $_->[1] + 0 ] } @theirs)) : rand() < 0.1 ? ([ '00000000-0000-7000-8000-000000000001', 1 ]) : (any(@own), any(@own));
    # What a heartbeat does not list is taken from its fetcher: a good one lists all.
    my $args = $good{$kind}->($kind eq 'heartbeat' ? @own : @those);
    $args->{fetcher} = $me unless $kind eq 'hello';
    $args = mutate($args) for 1 .. any(0, 1, 1, 1, 2, 4);
    # Most of them from somebody who is known; none speaks for the other fetcher, as who knows its id may.
    $args->{fetcher} = $me if ref $args eq 'HASH' && $kind ne 'hello' && rand() < 0.9;
    my $text = raw($json->encode($args));
    return ($kind, $text);
}

for my $round (1 .. $rounds)
{
    my $me = hello();
    ask(q(select count(mrprompt.chat_text('mine', 'm', 'fake', stream => true)) from generate_series(1, 60); select mrprompt.end_cooldown()));
    my @mine = claim($me, 60);
    my (@texts, $sql);
    for (1 .. $calls_a_round)
    {
        my ($kind, $text) = call_of($me, @mine);
        push @texts, "$kind $text";
        # Keys are not opened here, and a claim that is answered twice is not told from two.
        $sql .= 'select ' . ($kind eq 'claim' ? 'body' : 'c') . " from mrprompt_internal.$kind(\$fuzz\$$text\$fuzz\$::json) c;\n\\echo .\n";
    }
    my ($code, $out, $err) = $node->psql('postgres', "\\set VERBOSITY sqlstate\n$sql", on_error_stop => 0, extra_params => [ '-U', 'fetcher_login' ]);
    is($code, 0, "round $round: the server answers to the end") or last;
    my @answers = grep { $_ ne '' && $_ ne '.' } split /\n/, $out;
    push @bad, map { "no JSON: $_" } grep { !eval { JSON::PP->new->allow_nonref->decode($_); 1 } } @answers;
    $answered += @answers;
    for (split /\n/, $err)
    {
        if (/:(\d+): ERROR:\s+(\w{5})$/) { ++$refused{$2}; push @bad, "$2: " . substr($texts[ int(($1 - 2) / 2) ], 0, 2000) unless $2 =~ /^(?:22|23|54|PT4)/ }
        elsif (!/WARNING/) { push @bad, $_ }
    }
}
is("@bad[0 .. ($#bad < 5 ? $#bad : 5)]", '', 'each call is answered, or refused for what is wrong with it');
note "$answered answered; refused: " . join ', ', map { "$_ $refused{$_}" } sort keys %refused;
cmp_ok($answered, '>', $rounds * $calls_a_round / 10, 'many are answered');
cmp_ok(scalar keys %refused, '>', 4, 'many are refused, for different reasons');

is(state_of_others($other), $before, 'what another fetcher has in flight is as it was');
is(ask("select count(*) from mrprompt.deltas d join mrprompt_internal.queue q using (request_id) where q.fetcher_id = '$other'"), 0, 'nothing was put into its streams');
is(ask(q(select count(*) from mrprompt.requests r full join mrprompt_internal.queue q on q.request_id = r.id
    where (r.id is null) or (q.request_id is null) <> (r.finished_at is not null) or (r.finished_at is null) <> (r.status in ('queued', 'running'))
       or (r.status = 'running') <> (q.fetcher_id is not null))), 0, 'queue and requests agree');
is(ask('select count(*) from mrprompt.usage where least(prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens, reasoning_tokens, cost) < 0'), 0, 'nothing was used backwards');
cmp_ok(ask(q(select count(*) from mrprompt.requests where status = 'succeeded')), '>', 5 * $rounds, 'many outcomes were taken');
is(ask('select count(*) from mrprompt.requests r where r.attempts < 0 or r.failures < 0 or r.failures > r.attempts'), 0, 'attempts and failures are counts');
is(ask('select count(*) >= 5 from mrprompt.requests_in_flight'), 't', 'what is in flight can be looked at');
is(ask('select count(*) >= 0 from mrprompt.doctor()'), 't', 'and the doctor speaks');
is(ask('select pg_postmaster_start_time()'), $started, 'the server was never restarted');
my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
unlike($log, qr/PANIC|XX\d\d\d|TRAP|terminated by signal|terminate called/, 'and its log knows of no accident');

# --- large ones, made in the server
sub refusal
{
    my ($call) = @_;
    my ($code, $out, $err) = $node->psql('postgres', "\\set VERBOSITY sqlstate\nselect $call", on_error_stop => 0, extra_params => [ '-U', 'fetcher_login' ]);
    return $err =~ /ERROR:\s+(\w{5})/ ? $1 : $out;
}
my $me = hello();
my $big = q(repeat('x', 10000000));
is(refusal(qq(length(mrprompt_internal.append(json_build_object('fetcher', '$me', 'deltas', json_build_array(json_build_object('request', $big))))::text))), '22P02', 'a long id is no id');
like(refusal(qq(mrprompt_internal.hello(json_build_object('contract', 2, 'kind', 'libpq', 'program', $big, 'host', $big))::text)), qr/fetcher/, 'a long name is cut');
is(ask(q(select max(length(program) + length(host)) <= 400 from mrprompt_internal.fetchers)), 't', 'before it is stored');
is(refusal(qq(mrprompt_internal.settle(json_build_object('fetcher', '$me', 'outcomes', (select json_agg(json_build_object('attempt', -1, 'usage', 1)) from generate_series(1, 20000))))::text)), '{"busy" : [], "stale" : [' . join(', ', ('null') x 20000) . '], "rejected" : []}', 'many strange outcomes that are nobody\'s change nothing');
is(refusal(qq(mrprompt_internal.append(json_build_object('fetcher', '$me', 'deltas', (select json_agg(json_build_object('seq', 'x')) from generate_series(1, 20000))))::text)), 'PT413', 'many bad ones at once are refused as a whole');
is(refusal(qq(mrprompt_internal.claim(json_build_object('fetcher', '$me', 'bytes', 1)))), 'PT400', 'a claim without its room is refused');
is(refusal(qq(mrprompt_internal.heartbeat(json_build_object('fetcher', '$me', 'progress', 'nonsense')))), '22023', 'progress that nobody could read is refused');

# --- and it works as before
ask(q(select mrprompt.end_cooldown(); select mrprompt_internal.tend('{"limit": 1000}')));
my ($one) = claim($me, 1);
ok($one, 'a claim finds work');
is(ask(qq(select mrprompt_internal.settle('{"fetcher": "$me", "outcomes": [{"request": "$one->[0]", "attempt": $one->[1], "result": "succeeded", "response": {"content": "fine"}}]}') ->> 'rejected')), '[]', 'a good outcome is taken');
is(ask("select r.status || ' ' || a.content from mrprompt.requests r join mrprompt.responses a on a.request_id = r.id where r.id = '$one->[0]'"), 'succeeded fine', 'and stored');

done_testing();
