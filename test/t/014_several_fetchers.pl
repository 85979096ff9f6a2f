# Several fetchers on one queue: they share it; one that was frozen past its lease, replies that are lost, clocks that jump: nothing runs
# twice that need not, nothing is lost, and the ledger knows every call.
use strict;
use warnings;
use lib 'lib';
use IPC::Run ();
use MrPrompt qw(new_cluster start_provider wait_until source_path);
use MrPrompt::ReplyThief;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $provider = start_provider();
my $base = $provider->url;
my $node = new_cluster('several', conf => "mrprompt.max_in_flight = 8\nmrprompt.heartbeat_interval = 500\nmrprompt.lease_timeout = 2000\n");
sub ask { return $node->safe_psql('postgres', $_[0]) }
ask(qq(
    select mrprompt.add_user(login_role => current_user);
    create role fetcher_login login in role mrprompt_fetcher;
    insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private) values ('fake', 'openai', '$base/v1', true, true);
    create table called (id text, n int);
    create table before (request_id uuid, state text);
    create function words(n int) returns text language sql immutable as \$\$ select string_agg('w' || i, ' ' order by i) from generate_series(1, n) i \$\$;));

# Requests of a section of this test, with a name for each that the provider's log shows.
sub chat
{
    my ($section, $count, $fake, $words, $model) = @_;
    $model //= 'm';
    ask(qq(select count(mrprompt.chat_text('fake?words=$words&$fake&id=${section}_' || i || '.', '$model', 'fake', stream => i % 2 = 0,
        metadata => json_build_object('section', '$section', 'name', '${section}_' || i || '.', 'words', $words)::jsonb)) from generate_series(1, $count) i));
    return;
}
sub ended { return ask(q(select count(*) from mrprompt.requests where status in ('queued', 'running'))) == 0 }

# What holds for every request that has ended, however many fetchers had a part in it.
sub all_is_well
{
    my ($section) = @_;
    my %calls;
    $_->{body} =~ /&id=(\w+\.)/ && $calls{$1}++ for $provider->requests;
    ask('truncate called; insert into called values ' . join ',', map { "('$_', $calls{$_})" } sort keys %calls);
    is(ask(qq(
        select r.metadata ->> 'name', r.status, r.attempts, l.outcomes, c.n as calls, a.content, s.content
        from mrprompt.requests r
        cross join lateral (select string_agg(u.outcome, ' ' order by u.attempt) as outcomes, count(*) as n, count(*) filter (where u.outcome = 'lost') as never_sent,
            count(*) filter (where u.outcome = 'succeeded') as successes, max(u.attempt) as last from mrprompt.usage u where u.request_id = r.id) l
        left join called c on c.id = r.metadata ->> 'name'
        left join mrprompt.responses a on a.request_id = r.id
        cross join lateral (select string_agg(d.content, '' order by d.seq) as content from mrprompt.stream(r.id) d) s
        where r.metadata ->> 'section' = '$section'
          and not coalesce(r.status = 'succeeded' and l.n = r.attempts and l.last = r.attempts and l.successes = 1 and a.attempt = r.attempts
              and c.n <= r.attempts - l.never_sent and a.content = words((r.metadata ->> 'words')::int) and s.content = a.content, false)
        limit 5)),
        '', "$section: one success each, the right text, a ledger row for each attempt and no call beyond them");
    return;
}

my $program = source_path('build', 'mrprompt-fetcher');
my $keyring = MrPrompt::master_key_file($node);
sub start_fetcher
{
    my ($connstr) = @_;
    my $fetcher = IPC::Run::start([ $program, '--dsn', ($connstr // $node->connstr('postgres')) . ' dbname=postgres user=fetcher_login', '--master-key-file', $keyring ],
        '<', \undef, '>', '/dev/null', '2>>', $node->basedir . '/fetchers.log');
    return { run => $fetcher, pid => $fetcher->{KIDS}[0]{PID} };
}
sub stop_fetcher
{
    my ($fetcher) = @_;
    kill 'TERM', $fetcher->{pid};
    $fetcher->{run}->finish;
    is($fetcher->{run}->result(0), 0, 'a fetcher over libpq leaves well');
    return;
}
# The newest incarnation of the fetcher of that pid, if it is known.
sub known_as { return ask("select id from mrprompt_internal.fetchers where pid = $_[0]{pid} order by id desc limit 1") }
sub share_of { return ask("select count(*) from mrprompt_internal.queue where fetcher_id = '$_[0]'") }
sub at_work { return ask('select count(distinct fetcher_id) from mrprompt_internal.queue where fetcher_id is not null') }

# --- a child and two over libpq
my @fetchers = map { start_fetcher() } 1 .. 2;
ok(wait_until(sub { known_as($fetchers[0]) && known_as($fetchers[1]) }, 20), 'two fetchers over libpq say hello');
chat('shared', 24, 'delay=1500', 5);
ok(wait_until(sub { at_work() == 3 }, 20), 'three fetchers have work at the same time');
is(ask(q(select string_agg(distinct f.kind, ' ' order by f.kind) from mrprompt_internal.queue q join mrprompt_internal.fetchers f on f.id = q.fetcher_id)), 'child libpq', 'the child and both of the others');
ok(wait_until(\&ended, 30), 'all that they share ends');
is(ask(q(select count(*), max(attempts) from mrprompt.requests where metadata ->> 'section' = 'shared')), '24|1', 'each request ran once');
all_is_well('shared');

# --- one is frozen past its lease, and then continued
my ($frozen, $other) = @fetchers;
chat('frozen', 24, 'pace=50', 100);
my $first_life = known_as($frozen);
ok(wait_until(sub { at_work() == 3 && ask(q(select count(*) from mrprompt.requests r join mrprompt.deltas d on d.request_id = r.id join mrprompt_internal.queue q on q.request_id = r.id where q.fetcher_id = ') . "$first_life'") > 0 }, 20), 'a fetcher is in the middle of its streams');
kill 'STOP', $frozen->{pid};
my $held = share_of($first_life);
my @held = split /\n/, ask("select request_id from mrprompt_internal.queue where fetcher_id = '$first_life'");
my $held_ids = join ',', map { "'$_'" } @held;
cmp_ok($held, '>', 0, "it is frozen with $held requests in flight");
ok(wait_until(sub { known_as($frozen) eq '' }, 30), 'its lease ends');
ok(wait_until(sub { ask("select count(*) from mrprompt.requests where id in ($held_ids) and attempts = 2") == @held }, 60), 'the others take up what it held');
ok(wait_until(sub { ask("select count(*) from mrprompt.requests where id in ($held_ids) and status = 'succeeded'") > 0 }, 60), 'and bring some of it to its end');
# The rest still runs: its late answers meet ended requests and running ones.
ask("insert into before select r.id, concat_ws(' ', r.status, r.attempts, r.finished_at, a.attempt, a.created_at) from mrprompt.requests r join mrprompt.responses a on a.request_id = r.id where r.id in ($held_ids)");
kill 'CONT', $frozen->{pid};
ok(wait_until(sub { known_as($frozen) && known_as($frozen) ne $first_life }, 30), 'continued, it says hello again');
ok(wait_until(\&ended, 60), 'everything ends');
is(ask(q(select count(*) from before b join mrprompt.requests r on r.id = b.request_id join mrprompt.responses a on a.request_id = r.id
    where b.state <> concat_ws(' ', r.status, r.attempts, r.finished_at, a.attempt, a.created_at))), '0', 'what had ended is as it was');
is(ask("select string_agg(distinct l.outcomes, ', ') from (select string_agg(outcome, ' ' order by attempt) as outcomes from mrprompt.usage where request_id in ($held_ids) group by request_id) l"),
    'unknown succeeded', 'of what it held, its own attempt is unknown and another one succeeded');
is(ask("select count(*) from mrprompt.deltas d join mrprompt.requests r on r.id = d.request_id where r.id in ($held_ids) and d.attempt = 1 and d.created_at > (select min(u.finished_at) from mrprompt.usage u where u.request_id = r.id and u.attempt = 1)"),
    '0', 'it has added nothing to a stream that it had lost');
all_is_well('frozen');
chat('thawed', 24, 'delay=1000', 5);
ok(wait_until(sub { my $life = known_as($frozen); $life && share_of($life) > 0 }, 20), 'it has work again');
ok(wait_until(\&ended, 30), 'and does it');
all_is_well('thawed');

# --- clocks jump. The server's clock cannot be moved here; what the database remembers is moved instead: times in the past are what it
# meets after its clock was put forward, times ahead what it meets after the clock was put back.
sub remember
{
    my ($by) = @_;
    ask(q(
        select format('update mrprompt_internal.%I set %s', table_name, string_agg(format('%1$I = %1$I + interval %2$L', column_name, 'BY'), ', '))
        from information_schema.columns
        where table_schema = 'mrprompt_internal' and table_name in ('fetchers', 'queue', 'cancels', 'cooldowns') and data_type like 'timestamp%'
        group by table_name order by table_name \gexec
        update mrprompt.requests set created_at = created_at + interval 'BY', started_at = started_at + interval 'BY', not_before = not_before + interval 'BY'
        where status in ('queued', 'running');) =~ s/BY/$by/gr);
    return;
}
for my $jump ([ 'forward', '-1 day' ], [ 'back', '1 day' ])
{
    my ($where, $by) = @$jump;
    chat("retried_$where", 4, 'status=503&retry_after_ms=2000&fail_times=1', 6, 'flaky');
    ok(wait_until(sub { ask(qq(select count(*) from mrprompt.requests where metadata ->> 'section' = 'retried_$where' and status = 'queued' and attempts = 1)) == 4 }, 20), 'some requests wait to be tried again');
    chat("clock_$where", 60, 'delay=600', 6);    # more than there is room for: some run, the rest waits
    ok(wait_until(sub { at_work() == 3 }, 20), "the clock is put $where under three busy fetchers");
    remember($by);
    chat("after_$where", 20, 'delay=100', 6);
    ok(wait_until(sub { ask(qq(select count(*) from mrprompt.requests where metadata ->> 'section' = 'after_$where' and status = 'succeeded')) == 20 }, 30), 'what is asked afterwards is answered');
    ok(wait_until(\&ended, 30), 'and so is what was asked before')
        or diag ask('select clock_timestamp(), q.* from mrprompt_internal.queue q limit 3');
    all_is_well($_) for map { $_ . $where } 'retried_', 'clock_', 'after_';
}
# A fetcher that dies after the clock was put back: its lease, too, must not reach into the day that comes again.
chat('dead', 24, 'delay=2000', 6);
ok(wait_until(sub { my $life = known_as($other); $life && share_of($life) > 0 }, 20), 'one has work');
kill 'KILL', $other->{pid};
$other->{run}->finish;
remember('1 day');
ok(wait_until(sub { known_as($other) eq '' }, 30), 'dead, it is found by its lease though the clock was put back');
ok(wait_until(\&ended, 30), 'what it held is answered');
all_is_well('dead');

# --- the connection is cut between commit and reply
stop_fetcher($frozen);
$node->append_conf('postgresql.conf', "mrprompt.local_fetcher = off\n");
$node->reload;
ok(wait_until(sub { ask('select cardinality(fetcher_pids) from mrprompt_internal.server_state()') == 0 }, 30), 'no fetcher is left');
my $thief = MrPrompt::ReplyThief->start($node, every => 3, directory => $node->basedir);
my $robbed = start_fetcher($thief->connstr);
my $batch = 0;
my %stolen;
ok(wait_until(sub {
    chat('stolen_' . ++$batch, 24, 'pace=30', 20);
    wait_until(\&ended, 60) or BAIL_OUT('it stands still: ' . ask('select * from mrprompt_internal.queue limit 3'));
    %stolen = $thief->stolen;
    return !grep { ($stolen{$_} // 0) < 3 } qw(claim append settle);
}, 90), 'replies to claim, append and settle are lost after their commit') or diag explain \%stolen;
note join ', ', map { "$stolen{$_} x $_" } sort keys %stolen;
all_is_well("stolen_$_") for 1 .. $batch;
cmp_ok(ask(q(select count(*) from mrprompt.usage u join mrprompt.requests r on r.id = u.request_id where u.outcome = 'lost' and r.metadata ->> 'section' like 'stolen%')), '>', 0, 'a claim whose reply was lost is in the ledger as lost, and cost nothing');
is(ask(q(select coalesce(sum(cost), 0) from mrprompt.usage where outcome = 'lost')), '0', 'not a cent');
stop_fetcher($robbed);
$thief->stop;

# --- or at any moment: the server ends the sessions of two fetchers, again and again
@fetchers = map { start_fetcher() } 1 .. 2;
ok(wait_until(sub { known_as($fetchers[0]) && known_as($fetchers[1]) }, 20), 'two new fetchers');
chat('cut', 600, 'delay=20', 8);
my $cuts = 0;
wait_until(sub { $cuts += ask(q(select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = 'fetcher_login')); return ended() || $cuts >= 60 }, 60);
cmp_ok($cuts, '>=', 10, "their sessions were ended under load ($cuts times)");
ok(wait_until(\&ended, 90), 'they come back, and everything ends');
all_is_well('cut');
is(ask(q(select count(*) from mrprompt_internal.queue)), '0', 'nothing is left in the queue');

stop_fetcher($_) for @fetchers;
$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC|terminated by signal/, 'the server had no trouble of its own');
$provider->stop;
done_testing();
