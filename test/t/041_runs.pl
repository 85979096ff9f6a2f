# Runs from end to end, on both protocols: client tools and SQL tools side by side, streamed, with the fetcher killed in the middle;
# and the same against an independent peer, @copilotkit/aimock, which tells what it has understood.
use strict;
use warnings;
use lib 'lib';
use HTTP::Tiny;
use JSON::PP;
use MrPrompt qw(new_cluster start_peer start_provider wait_until);
use Test::More;

my ($provider, $peer) = (start_provider(), start_peer());
my $node = new_cluster('runs', conf => "mrprompt.heartbeat_interval = 300\nmrprompt.lease_timeout = 2000\nmax_worker_processes = 16\n");
my ($base, $peer_base) = ($provider->url, $peer->url);
$node->safe_psql('postgres', qq(
    create role app login in role mrprompt_user;
    select mrprompt.add_user(login_role => 'app');
    insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private, auth, key_required, cooldown_percent) values
        ('fake-openai', 'openai', '$base/v1', true, true, 'none', false, 0), ('fake-anthropic', 'anthropic', '$base', true, true, 'none', false, 0),
        ('openai-peer', 'openai', '$peer_base/v1', true, true, 'none', false, 0), ('anthropic-peer', 'anthropic', '$peer_base', true, true, 'none', false, 0);
    create table public.achievements (owner text, title text);
    insert into public.achievements values ('app', 'First steps'), ('somebody else', 'Secret');
    alter table public.achievements enable row level security;
    create policy own on public.achievements using (owner = current_user);
    grant select on public.achievements to app;
    create function public.get_user_achievements() returns setof text language sql stable as 'select title from public.achievements';
    create function public.get_season(month integer default 10) returns text language sql stable as 'select case when month between 3 and 5 then ''spring'' else ''autumn'' end';
    select mrprompt.register_tool('get_user_achievements', 'public.get_user_achievements', 'What the user has achieved.');
    select mrprompt.register_tool('get_season', 'public.get_season', 'The season.', needs_approval => true);));

sub as_app { return $node->safe_psql('postgres', $_[0], extra_params => [ '-U', 'app' ]) }

# Follows a run's stream until the event named, a number at a time as a client does; answers its events.
sub follow
{
    my ($run, $state, $until) = @_;
    my $met;
    wait_until(sub {
        for my $line (split /\n/, as_app("select row_to_json(e) from mrprompt.stream_run('$run', $state->{seq}, '1 second') e"))
        {
            my $event = decode_json($line);
            push @{ $state->{events} }, $event;
            $state->{seq} = $event->{seq};
            $met = $event if $event->{event} eq $until || $event->{event} eq 'done';
        }
        return $met;
    }, 60);
    return $met;
}

# The text of a stream's last message, as a client puts it together.
sub text_of
{
    my $text = '';
    for my $event (@{ $_[0]{events} })
    {
        $text = '' if $event->{event} =~ /^thread\.(message\.created|run\.step\.restarted)$/;
        $text .= $event->{data}{delta}{content}[0]{text}{value} // '' if $event->{event} eq 'thread.message.delta';
    }
    return $text;
}

for my $protocol ('openai', 'anthropic')
{
    my $agent = as_app(qq(select mrprompt.create_agent('guide', instructions => 'Be kind.', provider => 'fake-$protocol', model => 'some-model', max_tokens => 500,
        tools => '["get_user_achievements", "get_season", {"type": "function", "function": {"name": "ask_user", "parameters": {"type": "object"}}}]')));
    my $words = 'fake?tool=get_user_achievements,get_season,ask_user&args=%7B%7D&pace=150';
    my ($thread, $run) = split /\|/, as_app("select thread_id, run_id from mrprompt.send_message('$agent', '$words')");
    my $state = { seq => 0, events => [] };
    my $event = follow($run, $state, 'thread.run.requires_action');
    is($event->{event}, 'thread.run.requires_action', "$protocol: the run asks for what only the app can do");
    my $calls = $event->{data}{required_action}{submit_tool_outputs}{tool_calls};
    is(join(',', map { $_->{function}{name} } @$calls), 'ask_user', "$protocol: and for that alone");
    my $done = sub { as_app("select count(*) from mrprompt.tool_calls where run_id = '$run' and kind = 'sql' and status = 'completed'") };
    ok(wait_until(sub { $done->() == 1 }), "$protocol: an SQL tool has run meanwhile");
    is(as_app("select mrprompt.approve_tool_calls('$run')"), 1, "$protocol: the one that needs it is approved");
    ok(wait_until(sub { $done->() == 2 }), "$protocol: and has run");
    is(as_app("select output from mrprompt.tool_calls where run_id = '$run' and name = 'get_user_achievements'"), '["First steps"]', "$protocol: as the user who asked");

    # The next model call takes its time; the fetcher that has it is killed while it streams.
    as_app(qq(select mrprompt.submit_tool_outputs('$run', '[{"tool_call_id": "$calls->[0]{id}", "output": "the user says yes"}]')));
    is(follow($run, $state, 'thread.message.delta')->{event}, 'thread.message.delta', "$protocol: it goes on with all outputs, and begins to answer");
    my ($fetcher) = $node->safe_psql('postgres', q(select fetcher_pids[1] from mrprompt_internal.server_state())) =~ /(\d+)/;
    kill 'KILL', $fetcher;
    $event = follow($run, $state, 'done');
    is($event->{event}, 'done', "$protocol: the run ends, with a fetcher killed in the middle");
    is(as_app("select status from mrprompt.get_run('$run')"), 'completed', "$protocol: completed");
    my @asked = map { $_->{data}{required_action} } grep { $_->{event} eq 'thread.run.requires_action' } @{ $state->{events} };
    is(join('; ', map { join(' ', $_->{type}, map { $_->{function}{name} } @{ $_->{submit_tool_outputs}{tool_calls} }, @{ $_->{approve_tool_calls}{tool_calls} }) } @asked),
        'submit_tool_outputs ask_user get_season; submit_tool_outputs ask_user', "$protocol: after the approval it asked once more, for the output alone");
    ok((grep { $_->{event} eq 'thread.run.step.restarted' } @{ $state->{events} }), "$protocol: who followed is told that the answer begins anew");
    like(text_of($state), qr/^The tool said: .*the user says yes$/, "$protocol: and has it whole");
    my @seqs = map { $_->{seq} } @{ $state->{events} };
    is_deeply(\@seqs, [ sort { $a <=> $b } @seqs ], "$protocol: its numbers rise");
    is(as_app("select string_agg(role, ' ' order by position) from mrprompt.list_messages('$thread', include_tools => true)"),
        'user assistant tool tool tool assistant', "$protocol: the thread holds it all");
}

# What the peer has understood of the requests under a path, in its own words: one shape for both protocols.
sub journal
{
    my ($path) = @_;
    my $answer = HTTP::Tiny->new(timeout => 10)->get("$peer_base/__aimock/journal?path=$path");
    die "no journal: $answer->{status} $answer->{content}" unless $answer->{success};
    return @{ decode_json($answer->{content}) };
}

for my $protocol ('openai', 'anthropic')
{
    my $path = $protocol eq 'openai' ? '/v1/chat/completions' : '/v1/messages';
    my $agent = as_app(qq(select mrprompt.create_agent('guide of the peer', instructions => 'Be kind.', provider => '$protocol-peer', model => 'some-model', max_tokens => 500,
        tools => '["get_user_achievements", "get_season", {"type": "function", "function": {"name": "ask_user", "parameters": {"type": "object"}}}]')));
    my ($thread, $run) = split /\|/, as_app("select thread_id, run_id from mrprompt.send_message('$agent', 'guide me')");
    my $state = { seq => 0, events => [] };
    my $event = follow($run, $state, 'thread.run.requires_action');
    is(text_of($state), 'Let me look.', "$protocol, the peer: what it says beside its calls is streamed");
    my $calls = $event->{data}{required_action}{submit_tool_outputs}{tool_calls};
    is(join(', ', map { "$_->{id} $_->{function}{name} $_->{function}{arguments}" } @$calls), 'call_ask ask_user {"question":"Shall we go on?"}',
        "$protocol, the peer: of three parallel calls the run asks for the one that is the app's");
    as_app("select mrprompt.approve_tool_calls('$run')");
    as_app(qq(select mrprompt.submit_tool_outputs('$run', '[{"tool_call_id": "call_ask", "output": "the user says yes"}]')));
    is(follow($run, $state, 'done')->{event}, 'done', "$protocol, the peer: the run ends");
    my $text = "You have achieved much, and it is spring. Let us go on, as you wish: \x{4f60}\x{597d}!";
    is(text_of($state), $text, "$protocol, the peer: its answer to their outputs is streamed");
    my $run_row = decode_json(as_app("select row_to_json(r) from mrprompt.get_run('$run') r"));
    is(join(' ', @$run_row{qw(status steps prompt_tokens completion_tokens)}), 'completed 2 90 32', "$protocol, the peer: its tokens are added up");
    is(as_app("select string_agg(concat_ws(' ', step, type, status, prompt_tokens, completion_tokens), ', ') from mrprompt.list_run_steps('$run', \"order\" => 'asc')"),
        '1 message_creation completed 30 12, 1 tool_calls completed, 2 message_creation completed 60 20', "$protocol, the peer: its steps");
    is(as_app("select string_agg(c ->> 'kind' || ' ' || (c ->> 'status') || ' ' || (c -> 'function' ->> 'output'), ', ')
            from mrprompt.list_run_steps('$run') s, json_array_elements(s.step_details -> 'tool_calls') c"),
        'sql completed ["First steps"], sql completed spring, client completed the user says yes', "$protocol, the peer: its calls, the functions' as the user who asked");
    my $messages = decode_json(as_app("select json_agg(json_build_array(role, content) order by position) from mrprompt.list_messages('$thread')"));
    is_deeply($messages, [ [ 'user', 'guide me' ], [ 'assistant', 'Let me look.' ], [ 'assistant', $text ] ], "$protocol, the peer: the thread's messages");

    my @seen = journal($path);
    is(scalar @seen, 2, "$protocol, the peer: it was asked twice");
    is(join(' ', sort map { $_->{function}{name} } @{ $seen[0]{body}{tools} }), 'ask_user get_season get_user_achievements', "$protocol, the peer: all three tools were offered");
    my @said = map { [ $_->{role}, $_->{content}, $_->{tool_call_id} // join(' ', map { $_->{id} } @{ $_->{tool_calls} // [] }) ] } @{ $seen[1]{body}{messages} };
    is_deeply(\@said, [ [ 'system', 'Be kind.', '' ], [ 'user', 'guide me', '' ], [ 'assistant', 'Let me look.', 'call_achievements call_season call_ask' ],
            [ 'tool', '["First steps"]', 'call_achievements' ], [ 'tool', 'spring', 'call_season' ], [ 'tool', 'the user says yes', 'call_ask' ] ],
        "$protocol, the peer: it saw each output beside its call, in their order");

    $run = as_app("select run_id from mrprompt.send_message('$agent', 'say hello', thread_id => '$thread')");
    $state = { seq => 0, events => [] };
    follow($run, $state, 'done');
    is(text_of($state), "Hello from an independent peer. Gr\x{fc}\x{df}e, \x{4f60}\x{597d}!", "$protocol, the peer: the conversation goes on behind them");
    is(scalar @{ (journal($path))[-1]{body}{messages} }, 8, "$protocol, the peer: and is all there");
}
$node->stop;
$peer->stop;
done_testing();
