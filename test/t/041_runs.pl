# Runs from end to end, on both protocols: client tools and SQL tools side by side, streamed, with the fetcher killed in the middle.
use strict;
use warnings;
use lib 'lib';
use JSON::PP;
use MrPrompt qw(new_cluster start_provider wait_until);
use Test::More;

my $provider = start_provider();
my $node = new_cluster('runs', conf => "mrprompt.heartbeat_interval = 300\nmrprompt.lease_timeout = 2000\nmax_worker_processes = 16\n");
my $base = $provider->url;
$node->safe_psql('postgres', qq(
    create role app login in role mrprompt_user;
    select mrprompt.add_user(login_role => 'app');
    insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private, auth, key_required, cooldown_percent) values
        ('fake-openai', 'openai', '$base/v1', true, true, 'none', false, 0), ('fake-anthropic', 'anthropic', '$base', true, true, 'none', false, 0);
    create table public.achievements (owner text, title text);
    insert into public.achievements values ('app', 'First steps'), ('somebody else', 'Secret');
    alter table public.achievements enable row level security;
    create policy own on public.achievements using (owner = current_user);
    grant select on public.achievements to app;
    create function public.get_user_achievements() returns setof text language sql stable as 'select title from public.achievements';
    create function public.get_season() returns text language sql stable as 'select ''autumn''::text';
    select mrprompt.register_tool('get_user_achievements', 'public.get_user_achievements', 'What the user has achieved.');
    select mrprompt.register_tool('get_season', 'public.get_season', 'The season.');));

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
    ok(wait_until(sub { as_app("select count(*) from mrprompt.tool_calls where run_id = '$run' and kind = 'sql' and status = 'completed'") == 2 }), "$protocol: SQL tools have run meanwhile");
    is(as_app("select output from mrprompt.tool_calls where run_id = '$run' and name = 'get_user_achievements'"), '["First steps"]', "$protocol: as the user who asked");

    # The next model call takes its time; the fetcher that has it is killed while it streams.
    as_app(qq(select mrprompt.submit_tool_outputs('$run', '[{"tool_call_id": "$calls->[0]{id}", "output": "the user says yes"}]')));
    is(follow($run, $state, 'thread.message.delta')->{event}, 'thread.message.delta', "$protocol: it goes on with all outputs, and begins to answer");
    my ($fetcher) = $node->safe_psql('postgres', q(select fetcher_pids[1] from mrprompt_internal.server_state())) =~ /(\d+)/;
    kill 'KILL', $fetcher;
    $event = follow($run, $state, 'done');
    is($event->{event}, 'done', "$protocol: the run ends, with a fetcher killed in the middle");
    is(as_app("select status from mrprompt.get_run('$run')"), 'completed', "$protocol: completed");
    ok((grep { $_->{event} eq 'thread.run.step.restarted' } @{ $state->{events} }), "$protocol: who followed is told that the answer begins anew");
    like(text_of($state), qr/^The tool said: .*the user says yes$/, "$protocol: and has it whole");
    my @seqs = map { $_->{seq} } @{ $state->{events} };
    is_deeply(\@seqs, [ sort { $a <=> $b } @seqs ], "$protocol: its numbers rise");
    is(as_app("select string_agg(role, ' ' order by position) from mrprompt.list_messages('$thread', include_tools => true)"),
        'user assistant tool tool tool assistant', "$protocol: the thread holds it all");
}
$node->stop;
done_testing();
