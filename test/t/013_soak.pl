# A soak: under a steady load something is killed or stopped at a random moment of every round; afterwards nothing is lost or doubled.
# SOAK_ROUNDS rounds (10; `make soak`: 200), drawn from the seed SOAK_SEED (1): the same seed asks the same and strikes the same.
use strict;
use warnings;
use lib 'lib';
use IPC::Run ();
use List::Util qw(shuffle);
use MrPrompt qw(new_cluster start_provider wait_until source_path);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $rounds = $ENV{SOAK_ROUNDS} // 10;
my $seed = $ENV{SOAK_SEED} // 1;
srand $seed;
my $long = $rounds > 10;
my $asked_in_a_round = 40;
my @users = map { sprintf '00000000-0000-4000-8000-%012d', $_ } 1 .. 5;

my $provider = start_provider();
my $base = $provider->url;
# Few in flight per fetcher: both have work, and some of it always waits.
my $node = new_cluster('soak', conf => "restart_after_crash = on\nmrprompt.max_in_flight = 12\n"
    . "mrprompt.heartbeat_interval = 300\nmrprompt.lease_timeout = 2000\n");
$node->safe_psql('postgres', qq(
    create role fetcher_login login in role mrprompt_fetcher;
    -- Failures are as many as they are: they shall open no cooldowns that grow (rate limits do open theirs).
    insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private, cooldown_percent) values ('fake', 'openai', '$base/v1', true, true, 0);
    -- Money is held and charged all the while; nothing of it is refused.
    insert into mrprompt.prices (provider, model, input, output) values ('fake', '*', 0.00000125, 0.00001003);
    select mrprompt.set_budget('everybody', null, 1e6, 'none'), mrprompt.set_budget('user', '*', 1e6), mrprompt.set_budget('provider', 'fake', 1e6, 'hour'),
        mrprompt.set_rate_limit('user', '*', requests_per_minute => 1e6, tokens_per_minute => 1e9, in_flight => 50);
    create table given (key text, id uuid);
    create table calls (key text, n int);
    create function words(n int) returns text language sql immutable as \$\$ select string_agg('w' || i, ' ' order by i) from generate_series(1, n) i \$\$;));

# Every promise as a query for what breaks it: a row names the breach and the request.
$node->safe_psql('postgres', q(
    create function breaches() returns table (breach text, id uuid, detail text) language sql as $$
    with r as materialized (
        select r.*, (r.metadata ->> 'words')::int as words, coalesce((r.metadata ->> 'cancel')::boolean, false) as may_be_cancelled,
            q.request_id is not null as in_queue, q.fetcher_id, coalesce(c.n, 0) as calls, l.*
        from mrprompt.requests r
        left join mrprompt_internal.queue q on q.request_id = r.id
        left join calls c on c.key = r.idempotency_key
        cross join lateral (
            select count(*) as in_ledger, min(u.attempt) as first_attempt, max(u.attempt) as last_attempt,
                count(*) filter (where u.outcome = 'succeeded') as successes,
                count(*) filter (where u.outcome = 'unknown') as unknown,
                count(*) filter (where u.outcome = 'lost') as never_sent,
                count(*) filter (where u.outcome in ('succeeded', 'failed')) as answered,
                (array_agg(u.outcome order by u.attempt desc))[1] as last_outcome
            from mrprompt.usage u where u.request_id = r.id) l
    )
    select 'the client was given it, and it is gone', g.id, g.key from given g where not exists (select from r where r.id = g.id and r.idempotency_key = g.key)
    union all select 'one key, two requests', min(id::text)::uuid, key from given group by key having count(distinct id) > 1
    union all select 'nobody was given it', id, idempotency_key from r where not exists (select from given g where g.id = r.id)
    union all select 'it has neither ended nor is it queued', id, status from r where status in ('queued', 'running') and not in_queue
    union all select 'it has ended and is queued', id, status from r where status not in ('queued', 'running') and in_queue
    union all select 'ended without a time, or a time without an end', id, status from r where (status in ('queued', 'running')) is not distinct from (finished_at is not null)
    union all select 'running, but nobody has it', id, status from r where (status = 'running') is distinct from (in_queue and fetcher_id is not null)
    union all select 'claimed by a fetcher that is not known', id, fetcher_id::text from r
        where fetcher_id is not null and not exists (select from mrprompt_internal.fetchers f where f.id = r.fetcher_id)
    union all select 'ended in a way that nobody caused', id, concat_ws(' ', status, error_type, error_message) from r
        where not (status in ('queued', 'running', 'succeeded') or (status = 'cancelled' and may_be_cancelled)
            or (status = 'failed' and error_type = 'fetcher_crashed' and unknown >= 3))
    union all select 'the ledger has not one row for each attempt', id, format('%s rows, %s to %s, of %s attempts', in_ledger, first_attempt, last_attempt, attempts) from r
        where not in_queue and (in_ledger <> attempts or (attempts > 0 and (first_attempt <> 1 or last_attempt <> attempts)))
    union all select 'the ledger has more rows than it had attempts', id, format('%s of %s', in_ledger, attempts) from r where in_ledger > attempts
    union all select 'not exactly one success for a succeeded request', id, format('%s: %s', status, successes) from r where successes <> (status = 'succeeded')::int
    union all select 'the last attempt says otherwise', id, format('%s, %s', status, last_outcome) from r where status = 'succeeded' and last_outcome <> 'succeeded'
    union all select 'a ledger row of no request', u.request_id, u.outcome from mrprompt.usage u where not exists (select from r where r.id = u.request_id)
    union all select 'the provider was called more often than the ledger knows', id, format('%s calls; attempts %s, never sent %s', calls, attempts, never_sent) from r
        where calls > attempts - never_sent
    union all select 'the ledger has answers that the provider never gave', id, format('%s calls, %s answers', calls, answered) from r where calls < answered
    union all select 'succeeded without the right answer', r.id, coalesce(a.content, 'none') from r left join mrprompt.responses a on a.request_id = r.id
        where r.status = 'succeeded' and (a.content is distinct from words(r.words) or a.attempt <> r.attempts)
    union all select 'an answer that is no part of the right one', r.id, a.content from r join mrprompt.responses a on a.request_id = r.id
        where not starts_with(words(r.words), coalesce(a.content, ''))
    union all select 'an answer of no request', a.request_id, a.content from mrprompt.responses a where not exists (select from r where r.id = a.request_id)
    union all select 'stream() gives another text', r.id, coalesce(s.content, 'none') || case when s.ended then '' else ' and no end' end
        from r cross join lateral (
            select string_agg(p.content, '' order by p.seq) as content, bool_or(p.event = 'end' and p.status = r.status) as ended
            from mrprompt.stream(r.id) p) s
        where r.status = 'succeeded' and (s.content is distinct from words(r.words) or s.ended is not true)
    $$;));

# --- the load

my $serial = 0;

# What is asked in a round, as a script of psql: asked again with the same keys, it queues nothing twice.
sub round_script
{
    my ($round) = @_;
    my $script = '';
    for my $n (1 .. $asked_in_a_round)
    {
        my $key = 'r' . $round . 'n' . $n;
        my $words = 5 + int rand 20;
        my $kind = int rand 10;
        my ($stream, $cancel, $model) = ($kind >= 4 ? 'true' : 'false', 0, 'steady');
        my $pace = 10 + int rand 40;
        my $fake = "words=$words&" . ($kind < 4 ? 'delay=' . 10 * $pace : "pace=$pace");
        # Troubles stay with a model of their own: what cools down for them does not hold up the others.
        my %trouble = (0 => 'status=500', 3 => 'reset=1', 5 => 'status=429&retry_after_ms=200', 6 => 'cut=3', 7 => 'status=503&close');
        if (my $what = $trouble{$kind})
        {
            $model = 'flaky';
            $fake .= "&$what&fail_times=" . (1 + int rand 2);
        }
        $cancel = 1 if $kind == 1 || $kind == 8;
        my $user = $users[ rand @users ];
        $script .= sprintf qq(select mrprompt.chat_text('fake?%s&id=%s', '%s', 'fake', stream => %s, user_id => '%s', idempotency_key => '%s', metadata => '{"words": %d%s}') as id%d \\gset\n),
            $fake, $key, $model, $stream, $user, $key, $words, $cancel ? ', "cancel": true' : '', $n;
        $script .= "\\echo $key :id$n\n";
        # Some are cancelled while they wait, some while they run, some when they have ended.
        $script .= sprintf "select pg_sleep(%.3f) \\g /dev/null\n", rand 0.04;
        $script .= "select mrprompt.cancel_request(:'id$n') \\g /dev/null\n" if $cancel;
    }
    my $file = $node->basedir . "/round$round.sql";
    append_to_file($file, $script);
    return $file;
}

my @given;    # [key, id], as the client learned them

# Starts a client; take_ids() reads what it was told so far.
sub start_client
{
    my ($file) = @_;
    my %client = (file => $file, out => $file . '.' . ++$serial);
    $client{run} = IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-f', $file ],
        '<', \undef, '>', $client{out}, '2>', "$client{out}.err");
    return \%client;
}

# Waits for its end; true if it could ask everything.
sub finish_client
{
    my ($client) = @_;
    $client->{run}->finish;
    push @given, map { [split] } split /\n/, slurp_file($client->{out});
    return $client->{run}->result(0) == 0;
}

# --- what is struck, and how

my $libpq;
sub start_libpq_fetcher
{
    $libpq = IPC::Run::start([ source_path('build', 'mrprompt-fetcher'), '--dsn', $node->connstr('postgres') . ' user=fetcher_login',
            '--master-key-file', MrPrompt::master_key_file($node) ], '<', \undef, '>', '/dev/null', '2>>', $node->basedir . '/libpq_fetcher.log');
    return;
}
sub strike_libpq
{
    kill 'KILL', $libpq->{KIDS}[0]{PID};
    $libpq->finish;
    return;
}

# A process of the server's, once it is there. The load may have ended while it was away, and it comes only for work: so
# work is made meanwhile, one request after the other, each asked with its key until the answer has come.
my $extra = 1;
sub server_process
{
    my ($which) = @_;
    return wait_until(sub {
        my ($failed, $pid) = $node->psql('postgres', "select $which from mrprompt_internal.server_state()");
        return $pid if !$failed && $pid;
        my $key = 'r0n' . $extra;
        ($failed, my $id) = $node->psql('postgres', "select mrprompt.chat_text('fake?words=9&pace=50&id=$key', 'steady', 'fake', stream => true, "
                . "user_id => '$users[0]', idempotency_key => '$key', metadata => '{\"words\": 9}')");
        return 0 if $failed || !$id;
        push @given, [ $key, $id ];
        $extra++;
        return 0;
    }, 60) || BAIL_OUT("the server never had its $which");
}
sub answers { return ($node->psql('postgres', 'select 1'))[0] == 0 }

my %strikes = (
    'kill -9 of the local fetcher' => sub { kill 'KILL', server_process('fetcher_pids[1]') },
    'kill -SEGV of the local fetcher' => sub { kill 'SEGV', server_process('fetcher_pids[1]') },
    'kill -9 of the libpq fetcher' => sub { strike_libpq(); start_libpq_fetcher() },
    'pg_terminate_backend of the supervisor' => sub { $node->psql('postgres', 'select pg_terminate_backend(' . server_process('supervisor_pid') . ')') },
    'SIGTERM of the launcher' => sub { kill 'TERM', server_process('launcher_pid') },
    'an immediate stop of the server' => sub { $node->stop('immediate'); $node->start });
# Restarts the cluster, by PostgreSQL's own rule for a background worker that crashes.
$strikes{'kill -9 of the supervisor'} = sub { kill 'KILL', server_process('supervisor_pid') } if $long;

my (@bag, %struck);
start_libpq_fetcher();
for my $round (1 .. $rounds)
{
    @bag = shuffle sort keys %strikes unless @bag;
    my $strike = pop @bag;
    my $client = start_client(round_script($round));
    sleep 0.1 + rand 1.2;
    $strikes{$strike}->();
    $struck{$strike}++;
    note "round $round: $strike";
    # Who was cut off does not know what was committed: the same again, with the same keys.
    for (1 .. 10)
    {
        last if finish_client($client);
        wait_until(\&answers, 60);
        $client = start_client($client->{file});
        BAIL_OUT("round $round cannot be asked:\n" . slurp_file("$client->{out}.err")) if $_ == 10;
    }
}
is(scalar keys %struck, scalar keys %strikes, "seed $seed, $rounds rounds: " . join ', ', map { "$struck{$_} x $_" } sort keys %struck);

# --- afterwards

sub ask { return $node->safe_psql('postgres', $_[0]) }
sub claims_of_the_dead
{
    my @claims = split /\n/, ask('select coalesce(f.pid, 0) from mrprompt_internal.queue q left join mrprompt_internal.fetchers f on f.id = q.fetcher_id where q.fetcher_id is not null');
    return grep { $_ == 0 || !kill 0, $_ } @claims;
}
ok(wait_until(sub { !claims_of_the_dead() }, 30), 'nothing stays claimed by a fetcher that is dead');
ok(wait_until(sub { ask(q(select count(*) from mrprompt.requests where status in ('queued', 'running'))) == 0 }, 60 + $rounds), 'everything ends')
    or diag ask(q(select * from mrprompt.requests r left join mrprompt_internal.queue q on q.request_id = r.id where r.status in ('queued', 'running') limit 5)), ask('select * from mrprompt.status()');

ok(eval { $provider->stats }, 'the provider was there all the time') or BAIL_OUT('without a provider nothing is proved');
my %calls;
for my $request ($provider->requests)
{
    $calls{$1}++ if $request->{body} =~ /&id=(r\d+n\d+)/;
}
my $file = $node->basedir . '/rows';
append_to_file("$file.given", join '', map { "@$_\n" } @given);
append_to_file("$file.calls", join '', map { "$_ $calls{$_}\n" } sort keys %calls);
ask("copy given from '$file.given' (delimiter ' '); copy calls from '$file.calls' (delimiter ' ')");

my $asked = $rounds * $asked_in_a_round + $extra - 1;
is(ask('select count(distinct key) from given'), $asked, "the client asked $asked times");
is(ask('select count(*) from mrprompt.requests'), $asked, 'so many requests there are');
is(ask('select breach, id, detail from breaches() limit 20'), '', 'no promise is broken for any of them');
is(ask('select sum(attempts) from mrprompt.usage_by_provider'), ask('select sum(attempts) from mrprompt.requests'), 'the ledger adds up to the attempts');
is(ask('select count(*) from mrprompt_internal.queue'), '0', 'the queue is empty');
is(ask('select * from mrprompt.check_usage()'), '', 'every budget has spent what the ledger says, and holds nothing');
is(ask('select count(*), sum(in_flight) from mrprompt_internal.limit_buckets'), '5|0', 'and nobody counts as in flight');
cmp_ok(ask("select spent from mrprompt.budget_status where scope = 'everybody'"), '>', 0, 'something was spent');
# Without these the run would have proved little.
my %seen = map { split /\|/ } split /\n/, ask('select outcome, count(*) from mrprompt.usage group by 1');
cmp_ok($seen{$_} // 0, '>', 0, "some attempts ended as $_ (" . ($seen{$_} // 0) . ')') for qw(succeeded failed cancelled unknown);

kill 'TERM', $libpq->{KIDS}[0]{PID};
$libpq->finish;
is($libpq->result(0), 0, 'the libpq fetcher leaves well');
$node->stop;
my $log = slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP:/, 'the server had no trouble of its own');
unlike($log, qr/^(?!.*mrprompt-fetcher \(PID).*terminated by signal/m, 'and none of its processes crashed') unless $long;
$provider->stop;
done_testing();
