# Budgets and limits with fetchers at work: no overshoot under load, the held limit on the wire, deaths that give back, alerts.
use strict;
use warnings;
use lib 'lib';
use IPC::Run ();
use MrPrompt qw(new_cluster start_provider wait_until);
use Test::More;

my $provider = start_provider();
my $base = $provider->url;
my $node = new_cluster('budgets', conf => "mrprompt.heartbeat_interval = 300\nmrprompt.lease_timeout = 2000\nmrprompt.max_in_flight = 100\n");
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub becomes { my ($query, $name) = @_; return ok(wait_until(sub { sql($query) eq 't' }, 60), $name) || diag(sql('select * from mrprompt.budget_status')) }
sql(qq(
    insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private) values ('fake', 'openai', '$base/v1', true, true), ('claude', 'anthropic', '$base', true, true);
    -- A dollar is a hundred tokens of an answer.
    insert into mrprompt.prices (provider, model, input, output) values ('fake', 'm', 0, 0.01), ('claude', 'm', 0, 0.01);
    select mrprompt.add_user(login_role => current_user)));

# 200 at once against a budget that ten fit: each may cost a dollar, and costs it.
my $budget = sql(q(select mrprompt.set_budget('everybody', null, 10, 'none', soft_limits => '{0.5, 0.9}')));
my ($in, $out, $err) = ('', '', '');
my $listener = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres') ], '<', \$in, '>', \$out, '2>', \$err);
$in .= qq{select format('listen %I', mrprompt.alert_channel()) \\gexec\n\\echo listening\n};
wait_until(sub { $listener->pump_nb; return $out =~ /listening/ });
my @askers = map { IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c',
    q(select count(mrprompt.chat_text('fake?words=100&pace=5', 'm', 'fake', max_tokens => 100, metadata => '{"round": "rush"}')) from generate_series(1, 50)) ], '>', '/dev/null', '2>', '/dev/null') } 1 .. 4;
my $most = 0;
wait_until(sub {
    my ($now, $over, $left) = split /\|/, sql(q(select s.spent + s.held, s.spent + s.held > 10, (select count(*) from mrprompt_internal.queue) from mrprompt.budget_status s));
    $most = $now if $now > $most;
    return $over eq 't' || ($now > 0 && $left eq '0');
}, 60);
$_->finish for @askers;
cmp_ok($most, '<=', 10, 'spent and held together never pass the limit');
becomes('select count(*) = 0 from mrprompt_internal.queue', 'all requests end');
is(sql('select spent, held from mrprompt.budget_status'), '10.00|0.00', 'the budget is spent to the last cent');
# Those who came too late to be queued at all got PT402.
is(sql(q(select status, error_type, error_status, count(*) filter (where status = 'succeeded') from mrprompt.requests where metadata ->> 'round' = 'rush' group by 1, 2, 3 order by 1 desc)),
    "succeeded|||10\nfailed|budget_exceeded|402|0", 'ten are answered, and the others told why not');
is(sql('select sum(cost) = 10, count(*) filter (where cost > hold) from mrprompt.usage'), 't|0', 'the ledger says the same');
my %told;
wait_until(sub { $in .= "select 1;\n"; $listener->pump_nb; $told{$_}++ for $out =~ /with payload "([0-9a-f-]{36})"/g; $out = ''; return keys %told == 2 });
$in .= "\\q\n";
$listener->finish;
is_deeply([ sort values %told ], [ 1, 1 ], 'each soft limit is told once');
is(join(' ', sort keys %told), join(' ', split /\n/, sql('select id from mrprompt.budget_alerts order by id')), 'by the id of its row');

# What names no limit is sent with the one that money is held for.
sql("select mrprompt.set_budget('everybody', null, 1000, 'none')");
sql(q(insert into mrprompt.models (provider, model, max_output_tokens) values ('claude', 'm', 77)));
my @ids = map { sql("select mrprompt.chat_text('$_->[0]', 'm', '$_->[1]', max_tokens => $_->[2])") } [ 'no limit named', 'fake', 'null' ], [ 'no limit named', 'claude', 'null' ], [ 'one named', 'claude', 12 ];
is(sql("select status from mrprompt.wait_for_request('$_', '20 seconds')"), 'succeeded', 'answered') for @ids;
is(join(' ', map { $_->{body} =~ /"max_tokens" ?: ?(\d+)/ ? $1 : '?' } grep { $_->{body} =~ /limit named|one named/ } $provider->requests), '4096 77 12', 'the limit goes out');

# A fetcher that is killed gives its holds back, and what it may have cost is in the ledger, flagged.
sql(q(select mrprompt.set_rate_limit('model', 'm', in_flight => 3)));
sql(q(select count(mrprompt.chat_text('fake?words=200&pace=50', 'm', 'fake', stream => true, max_tokens => 300, metadata => '{"round": "killed"}')) from generate_series(1, 5)));
becomes(q(select count(*) = 3 from mrprompt.budget_holds), 'three are in flight, the others wait for room');
is(sql(q(select count(*) from mrprompt.requests where wait_reason like 'the rate limit of model m has no room in flight')), '2', 'and say so');
sleep 1;
my $killed = sql('select distinct fetcher_id from mrprompt.budget_holds');
kill 'KILL', sql('select fetcher_pids[1] from mrprompt_internal.server_state()');
becomes(q(select count(*) = 3 from mrprompt.usage where outcome = 'unknown' and estimated and cost > 0 and cost <= hold), 'attempts whose end is unknown are estimated');
becomes(qq(select count(*) = 3 from mrprompt.budget_holds where fetcher_id <> '$killed'), 'the next fetcher holds anew');
sql(q(select count(mrprompt.cancel_request(id)) from mrprompt.requests where status in ('queued', 'running')));
becomes('select count(*) = 0 from mrprompt_internal.queue', 'all end');
is(sql('select s.held = 0 and s.spent = (select sum(cost) from mrprompt.usage where counters is not null) from mrprompt.budget_status s where s.scope = \'everybody\''), 't', 'nothing stays held, and the ledger agrees');
is(sql('select in_flight from mrprompt.rate_limit_status'), '0', 'nor any room');

# Requests per minute: whoever is under no limit goes past those who wait.
sql(q(select mrprompt.set_rate_limit('model', 'm', requests_per_minute => 120, burst_seconds => 1)));
sql(q(select count(mrprompt.chat_text('slow lane', 'm', 'fake', metadata => '{"round": "lane"}')) from generate_series(1, 6)));
my $other = sql(q(insert into mrprompt.prices (provider, model, input, output) values ('fake', 'n', 0, 0); select mrprompt.chat_text('free lane', 'n', 'fake')));
is(sql("select status from mrprompt.wait_for_request('$other', '10 seconds')"), 'succeeded', 'a request without a limit does not wait for others');
becomes(q(select count(*) = 0 from mrprompt_internal.queue), 'those with one are answered one after the other');
cmp_ok(sql(q(select extract(epoch from max(started_at) - min(started_at)) from mrprompt.requests where metadata ->> 'round' = 'lane')), '>=', 1.9, 'two a second, after a burst of two');

# What reached a provider is charged, whether or not it says how much; what did not costs nothing.
sql(qq(
    insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private) values ('nowhere', 'openai', 'http://127.0.0.1:1/v1', true, true);
    insert into mrprompt.prices (provider, model, input, output) select p, 'e', 0.00001, 0.00001 from unnest(array['fake', 'nowhere']) p;
    create view charged as select r.metadata ->> 'case' as name, u.outcome, u.error_type, u.prompt_tokens, u.completion_tokens, u.estimated, u.cost, u.cost <= u.hold as within
        from mrprompt.usage u join mrprompt.requests r on r.id = u.request_id where r.metadata ? 'case';
    create function ask(name text, what text, sent_to text default 'fake', after text default '') returns uuid language sql as \$\$
        select mrprompt.chat_text(what || after, 'e', sent_to, stream => true, max_tokens => 2000, metadata => jsonb_build_object('case', name),
            options => '{"first_byte_timeout_ms": 1000, "max_failures": 1}') \$\$));
sql(q(select ask('no figures', 'fake?no_usage&big=5000'), ask('silence', 'fake?hang=0', after => repeat(' x', 60000)), ask('nobody there', 'hi', 'nowhere')));
becomes(q(select count(*) = 3 from charged), 'an answer without figures, silence, and nobody there');
is(sql(q(select outcome, completion_tokens, prompt_tokens > 0, estimated, cost > 0.0125 from charged where name = 'no figures')), 'succeeded|1250|t|t|t', 'an answer without figures costs by its size');
is(sql(q(select error_type, prompt_tokens between 30000 and 30200, completion_tokens, estimated, cost > 0.3 and within from charged where name = 'silence')), 'first_byte_timeout|t|0|t|t', 'a long prompt costs though nothing came back');
is(sql(q(select error_type, prompt_tokens, estimated, cost from charged where name = 'nobody there')), 'connect_failed||f|0', 'what was sent to nobody costs nothing');
my $image = sql(q(select mrprompt.chat(json_build_array(json_build_object('role', 'user', 'content', json_build_array(
    json_build_object('type', 'image_url', 'image_url', json_build_object('url', 'data:image/png;base64,' || repeat('iVBO', 100000))),
    json_build_object('type', 'text', 'text', 'fake?hang=0&id=image')))), 'e', 'fake', stream => true, max_tokens => 2000, metadata => '{"case": "image"}')));
wait_until(sub { return grep { $_->{body} =~ /id=image/ } $provider->requests });
sql("select mrprompt.cancel_request('$image')");
becomes(q(select count(*) = 1 from charged where name = 'image'), 'an image is cancelled before its first byte');
is(sql(q(select outcome, prompt_tokens between 1000 and 1200, estimated, cost > 0 and within from charged where name = 'image')), 'cancelled|t|t|t', 'and costs as an image does, not by its bytes');
is(sql('select count(*) from mrprompt.check_usage()'), '0', 'the counters are what the ledger says');
done_testing();
