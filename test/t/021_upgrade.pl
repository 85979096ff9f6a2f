# ALTER EXTENSION UPDATE from the first release: nothing is lost, and the result is as a fresh install; before it, old SQL under new programs.
use strict;
use warnings;
use lib 'lib';
use MrPrompt qw(new_cluster start_provider wait_until source_path);
use PostgreSQL::Test::Utils;
use IPC::Run ();
use Test::More;

my $first = '0.1.0';
my $provider = start_provider();
my $base = $provider->url;
my $node = new_cluster('upgraded', extension => 0, conf => "mrprompt.heartbeat_interval = 300\n");
sub sql { my ($query, $database) = @_; return $node->safe_psql($database // 'postgres', $query) }
sub ask { return sql("select mrprompt.chat_text('$_[0]', 'm', 'fake', stream => true)") }
sub status { return sql("select status from mrprompt.requests where id = '$_[0]'") }
sub content { return sql("select content from mrprompt.responses where request_id = '$_[0]'") }
sub rest { return sql(q(select count(*) from mrprompt.requests where status in ('queued', 'running'))) }
sub contract
{
    my ($call, $body) = @_;
    return sql("select mrprompt_internal.$call(json \$body\$$body\$body\$)" . ($call eq 'claim' ? '' : '::text'));
}

# Lets only fetchers that are played here take requests, or gives them back to the server's own.
sub local_fetcher
{
    my ($on) = @_;
    sql("alter system set mrprompt.local_fetcher = $on");
    $node->reload;
    return $on eq 'on' || wait_until(sub { sql(q(select count(*) from mrprompt_internal.fetchers where kind = 'child')) == 0 });
}

# --- the new programs are installed, the database is of the first release

# PostgreSQL looks for each C function's symbol when it is created.
sql("create extension mrprompt version '$first'");
is(sql(q(select extversion from pg_extension where extname = 'mrprompt')), $first, 'the first release can still be created: its C functions are all there');
is(sql(q(
    select string_agg(distinct s[1], ', ') from pg_proc p, regexp_matches(pg_get_functiondef(p.oid), '''(mrprompt\.[a-z_]+)''', 'g') s
    where p.pronamespace in ('mrprompt'::regnamespace, 'mrprompt_internal'::regnamespace) and p.prokind in ('f', 'p')
      and pg_get_functiondef(p.oid) ~ ('setting\(''' || s[1]) and current_setting(s[1], true) is null)), '', 'its settings, too');
sql(qq(
    select mrprompt.add_user(login_role => current_user, name => 'Ada');
    insert into mrprompt.providers (name, protocol, base_url, allow_http, total_timeout_ms) values ('fake', 'openai', '$base/v1', true, 77000);
    update mrprompt.providers set base_url = 'https://proxy.example.com/v1' where name = 'openai';
    insert into mrprompt.providers (name, protocol, base_url) values
        ('private', 'openai', 'https://10.0.0.7:8000/v1'), ('short', 'openai', 'https://gpu-box/v1'), ('public', 'openai', 'https://8.8.8.8/v1');
    insert into mrprompt.prices (provider, model, input, output, effective_from) values ('fake', 'm', 0.000001, 0.000002, '2026-01-01');
    select mrprompt.add_key('fake', 'sk-test-before-0001', '{"agent_name": "curator"}', 'mine');
    select mrprompt.grant_key(mrprompt.add_key('openai', 'sk-test-shared-0001', shared => true));));
my @history = (ask('fake?require_key=sk-test-before-0001&words=3'), ask('fake?status=503&retry_after_ms=10&fail_times=1&text=again'), ask('fake?status=400'));
ok(wait_until(sub { rest() == 0 }), 'the new fetcher answers requests of the old SQL') or diag(sql('select status, wait_reason, attempts from mrprompt.requests'));
is(join(',', map { status($_) } @history), 'succeeded,succeeded,failed', 'as they should end');
is(content($history[0]) . '|' . content($history[1]), 'w1 w2 w3|again', 'with key, stream and retry');
is(sql(q(select is_home, queued from mrprompt.status())), 't|0', 'status() answers');

# --- one of each is on its way
ok(local_fetcher('off'), 'the server has no fetcher of its own');
my $ghost = ask('fake?text=taken%20over');
my $fetcher = sql(q(select mrprompt_internal.hello('{"contract": 1, "program": "gone", "kind": "libpq"}') ->> 'fetcher'));
like(contract('claim', qq({"fetcher": "$fetcher", "room": 10, "bytes": 1000000})), qr/$ghost/, 'a fetcher takes a request, and is never heard of again');
my $retried = ask('fake?text=later');
my $other = sql(q(select mrprompt_internal.hello('{"contract": 1, "program": "other", "kind": "libpq"}') ->> 'fetcher'));
contract('claim', qq({"fetcher": "$other", "room": 10, "bytes": 1000000}));
contract('settle', qq({"fetcher": "$other", "outcomes": [{"request": "$retried", "attempt": 1, "result": "retry", "retry_after_ms": 3600000,
    "counts_as_failure": true, "error": {"status": 503, "type": "server_error", "message": "later"}}]}));
is(sql("select status, failures, not_before > now() + interval '50 minutes' from mrprompt.requests where id = '$retried'"), 'queued|1|t', 'one waits for a retry');
local_fetcher('on');
my $streaming = ask('fake?words=60&pace=50');
ok(wait_until(sub { sql("select count(*) from mrprompt.deltas where request_id = '$streaming'") > 0 }), 'one streams');
sql(q(select mrprompt.pause()));
my @queued = map { ask("fake?require_key=sk-test-before-0001&text=q$_") } 1 .. 20;
sql(qq(update mrprompt_internal.queue set alone = true where request_id = '$queued[3]'; update mrprompt_internal.fetchers set last_seen = now() + interval '1 hour' where id in ('$fetcher', '$other')));
my $session = $node->background_psql('postgres');
push @queued, $session->query_safe(q(select mrprompt.chat_text('fake?text=q21&require_key=sk-test-before-0001', 'm', 'fake')));

# --- what is there: every column that the first release knew, but for the request that moves
my @columns = split /\n/, sql(q(
    select c.oid::regclass || ' ' || string_agg('t.' || quote_ident(attname), ', ' order by attname) || ' '
        || coalesce(max(attname::text) filter (where attname in ('request_id', 'id') and atttypid = 'uuid'::regtype), 'gen_random_uuid()')
    from pg_class c join pg_attribute a on attrelid = c.oid and attnum > 0
    where relnamespace in ('mrprompt'::regnamespace, 'mrprompt_internal'::regnamespace) and relkind in ('r', 'p') and not relispartition
      and relname not like '%\_presets' and relname <> 'fetchers' group by c.oid));
cmp_ok(scalar(@columns), '>', 15, 'there are tables to compare');
sub data
{
    my ($database) = @_;
    return join '', map {
        my ($table, $list, $id) = /^(\S+) (.*) (\S+)$/;
        "$table " . sql("select count(*) || ' ' || coalesce(md5(string_agg(row($list)::text, '|' order by row($list)::text)), '') from $table t where $id <> '$streaming'", $database) . "\n"
    } grep { !/_internal\.channel_secret / || $database eq 'postgres' } @columns;
}
my $before = data('postgres');
my $hash = sql(q(select mrprompt.hash_key('sk-test-before-0001')));

# --- the update
is(status($streaming), 'running', 'a stream is in flight');
my $analyst = $node->background_psql('postgres');
$analyst->query_safe('begin; select count(*) from mrprompt.responses');
sql(q(set lock_timeout = '20s'; alter extension mrprompt update));
$analyst->quit;
is(sql(q(select e.extversion = a.default_version from pg_extension e join pg_available_extensions a on a.name = e.extname where extname = 'mrprompt')), 't', 'the database is of the new release, which an open query of the answers does not hold up');
is(data('postgres'), $before, 'all that was there is there');
is(sql(q(select count(*), count(*) filter (where q.ready), count(*) filter (where q.fetcher_id is not null and q.ready), bool_and(q.user_id = r.user_id and q.model = r.model and q.key_id = r.key_id)
    from mrprompt_internal.queue q join mrprompt.requests r on r.id = q.request_id where r.id <> ') . $streaming . q(')), '23|22|1|t', 'the queue has what the new release wants to know of requests');
is(sql("select ready, waits_for, ready_at > now() + interval '50 minutes' from mrprompt_internal.queue where request_id = '$retried'"), 'f|retry|t', 'what waits for a retry goes on waiting');
is(sql(q(select bool_and(tag > before) from (select tag, lag(tag, 1, 0::bigint) over (order by ready_at, request_id) as before from mrprompt_internal.queue where ready and fetcher_id is null) q)), 't', 'in the order in which they came');
is(sql(q(select base_url, preset, total_timeout_ms, backoff_cap_ms, max_tokens_field from mrprompt.providers where name in ('openai', 'fake') order by name)), "$base/v1|f|77000|60000|max_tokens\nhttps://proxy.example.com/v1|f|900000|60000|max_completion_tokens", 'providers are as the admin made them');

is(sql(q(select string_agg(name, ' ' order by name) from mrprompt.providers where allow_private and not preset)), 'fake openai private public short', 'and the addresses that admins set go on being asked, private or not');
ok(wait_until(sub { status($streaming) ne 'running' }), 'the stream ends');
is(content($streaming), join(' ', map { "w$_" } 1 .. 60), 'with nothing lost') or diag sql("select error_type, error_message from mrprompt.requests where id = '$streaming'");
is(sql("select status, attempts from mrprompt.requests where id = '$streaming'"), 'succeeded|1', 'in one attempt');
like($session->query_safe(q(select mrprompt.chat_text('fake?text=q22&require_key=sk-test-before-0001', 'm', 'fake', priority => -1))), qr/^[0-9a-f-]{36}$/, 'a session that was there before goes on asking');
$session->quit;
sql(qq(update mrprompt_internal.fetchers set last_seen = now() - interval '1 hour' where id in ('$fetcher', '$other');
    update mrprompt_internal.queue set ready_at = clock_timestamp() where request_id = '$retried';
    select mrprompt.resume();));
ok(wait_until(sub { rest() == 0 }), 'after the update every request ends') or diag(sql(q(select r.id, r.status, r.wait_reason, q.* from mrprompt.requests r join mrprompt_internal.queue q on q.request_id = r.id)));
is(join(' ', map { content($_) } @queued), join(' ', map { "q$_" } 1 .. 21), 'the queued ones with their answers, and their keys open');
is(content($retried) . '|' . content($ghost), 'later|taken over', 'the retried one and the one whose fetcher was gone, too');
is(sql("select attempts from mrprompt.requests where id in ('$retried', '$ghost') order by id"), "2\n2", 'each in its second attempt');
is(sql(q(select count(*) from mrprompt.usage u where u.outcome = 'succeeded' and u.attempt <> (select attempts from mrprompt.requests where id = u.request_id))), '0', 'the ledger agrees');
is(sql(q(select mrprompt.hash_key('sk-test-before-0001'))), $hash, 'hashes are the same');
is(sql(q(select mrprompt.decrypt_key(encrypted_key, id, user_id, provider) from mrprompt.api_keys where name = 'mine')), 'sk-test-before-0001', 'keys open');

# --- it is the same as a fresh install
sub listing
{
    my ($database) = @_;
    return split /\n(?=[a-z]+ )/, sql(slurp_file(source_path('test', 't', 'lib', 'catalog.sql')), $database);
}
sub differences
{
    my ($left, $right) = @_;
    my (%left, %right);
    @left{@$left} = @$left;
    @right{@$right} = @$right;
    return join "\n", (map { "only here: $_" } grep { !exists $right{$_} } @$left), (map { "only in the fresh install: $_" } grep { !exists $left{$_} } @$right);
}
sql('create database fresh');
sql('create extension mrprompt', 'fresh');
my @fresh = listing('fresh');
cmp_ok(scalar(@fresh), '>', 1000, 'a fresh install has much to list');
is(differences([ listing('postgres') ], \@fresh), '', 'every object, comment and privilege is as in a fresh install; else add a line to sql/upgrade');
for my $table ('provider_presets', 'price_presets')
{
    # By name: the columns may stand in another order.
    my $rows = "select string_agg(to_jsonb(t)::text, ' ' order by to_jsonb(t)::text) from mrprompt_internal.$table t";
    is(sql($rows), sql($rows, 'fresh'), "$table are the new release's");
}

# --- dump and restore of what was updated
my $dump = $node->basedir . '/dump.sql';
$before = data('postgres');
command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), '-f', $dump ], 'pg_dump');
sql('create database copy template template0');
command_ok([ 'psql', '-X', '-1', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('copy'), '-f', $dump ], 'restored without an error');
is(differences([ listing('copy') ], \@fresh), '', 'the copy is as a fresh install');
my $kept = sub { join "\n", grep { !/_internal\.(homes|channel_secret|pauses) / } split /\n/, $_[0] };
is($kept->(data('copy')), $kept->($before), 'with the same data');

# --- a fetcher of the contract before serves the new release; one before that is told what to do
ok(local_fetcher('off'), 'once more only fetchers that are played here');
my $asked = ask('by hand');
$fetcher = sql(q(select mrprompt_internal.hello('{"contract": 1, "program": "one before", "kind": "libpq"}') ->> 'fetcher'));
like(contract('claim', qq({"fetcher": "$fetcher", "room": 10, "bytes": 1000000})), qr/$asked/, 'a fetcher of contract 1 takes a request');
contract('append', qq({"fetcher": "$fetcher", "deltas": [{"request": "$asked", "attempt": 1, "seq": 1, "content": "by "}]}));
like(contract('heartbeat', qq({"fetcher": "$fetcher", "in_flight": [["$asked", 1]], "progress": []})), qr/"lost" *: *\[\]/, 'and keeps it');
like(contract('settle', qq({"fetcher": "$fetcher", "outcomes": [{"request": "$asked", "attempt": 1, "result": "succeeded",
    "deltas": [{"request": "$asked", "attempt": 1, "seq": 2, "content": "hand"}],
    "response": {"content": "by hand", "finish_reason": "stop", "model": "m"}, "usage": {"prompt_tokens": 2, "completion_tokens": 3}}]})), qr/"stale" *: *\[\]/, 'settles it');
is(status($asked) . ' ' . content($asked), 'succeeded by hand', 'and the answer is there');
like(contract('tend', qq({"fetcher": "$fetcher", "limit": 10})), qr/"did"/, 'it tends');
my ($result, undef, $error) = $node->psql('postgres', q(select mrprompt_internal.hello('{"contract": 0, "program": "mrprompt-fetcher of old", "kind": "libpq"}')));
isnt($result, 0, 'one of contract 0 is refused');
like($error, qr/speaks contract versions 1 and 2, the fetcher 0.*fetcher of old.*Install the mrprompt-fetcher/s, 'and told the remedy');
local_fetcher('on');
$asked = ask('fake?text=two');
ok(wait_until(sub { rest() == 0 }), 'the server\'s own fetcher takes over again');
is(content($asked) . sql(q( select ' ' || contract from mrprompt_internal.fetchers where kind = 'child')), 'two 2', 'and speaks the new contract');

# --- an update while several sessions go on asking, in transactions that read other things, too
sql('create database busy');
sql("create extension mrprompt version '$first'; select mrprompt.add_user(login_role => current_user);
     insert into mrprompt.providers (name, protocol, base_url, allow_http) values ('fake', 'openai', '$base/v1', true)", 'busy');
my $script = $node->basedir . '/ask.sql';
append_to_file($script, join ";\n", 'begin', (q(select mrprompt.chat_text('fake', 'm', 'fake')), q(select count(*) from mrprompt.prices where false)) x 2, 'commit;');
my ($bench, $bench_error) = ('', '');
my $busy = IPC::Run::start([ 'pgbench', '-n', '-c', '6', '-T', '300', '--failures-detailed', '--verbose-errors', '-f', $script, $node->connstr('busy') ],
    '<', \undef, '>', \$bench, '2>', \$bench_error);
my $asked_so_far = sub { sql('select count(*) from mrprompt.requests', 'busy') };
ok(wait_until(sub { $asked_so_far->() > 100 }), 'sessions ask and ask');
my $reader = $node->background_psql('busy');
$reader->query_safe('begin; select count(*) from mrprompt.providers');
(undef, undef, my $in_use) = $node->psql('busy', q(set lock_timeout = '1s'; alter extension mrprompt update));
like($in_use, qr/could not all be locked within 1s.*session \d+ \(role \w+, idle in transaction\).*set lock_timeout/s, 'an update does not wait for ever, and says for whom');
$reader->quit;
sql('alter extension mrprompt update', 'busy');
my $by_then = $asked_so_far->();
ok(wait_until(sub { $asked_so_far->() > $by_then + 100 }), 'they go on asking after the update');
$busy->signal('INT');
$busy->finish;
unlike($bench_error . slurp_file($node->logfile), qr/deadlock detected/, 'nobody fell victim to a deadlock');
is_deeply([ grep { !/mrprompt was updated while this call was under way/ } $bench_error =~ /ERROR: +(.*)/g ], [], 'a call that the update overtook is told to try again') or diag $bench_error;
sql('drop database busy with (force)');
$node->stop;
$provider->stop;
done_testing();
