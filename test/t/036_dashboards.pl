# The dashboards in examples/: every query of theirs runs as an analyst, and says what the ledger says.
use strict;
use warnings;
use lib 'lib';
use JSON::PP ();
use MrPrompt qw(new_cluster source_path wait_until);
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_cluster('dashboards', conf => "mrprompt.local_fetcher = off\n");
my ($from, $to) = ('2026-03-01T00:00:00Z', '2026-03-19T00:00:00Z');
$node->safe_psql('postgres', q(
    create role grafana login in role mrprompt_analyst;
    select mrprompt.set_budget('everybody', '', 100);
    insert into mrprompt.usage (request_id, attempt, slot, user_id, provider, model, outcome, prompt_tokens, completion_tokens, cached_tokens, cost,
        price_known, first_token_ms, total_ms, error_type, finished_at, tags)
    select id, 1, mrprompt_internal.slot_of(id), ('aaaaaaaa-0000-4000-8000-00000000000' || n % 3)::uuid, 'openai', case n % 2 when 0 then 'gpt-4o' else 'o''3' end,
        case when n % 10 = 0 then 'failed' else 'succeeded' end, 100, 20, 50, 0.01, true, 100, 1000, case when n % 10 = 0 then 'server_error' end, t, '{nightly}'
    from generate_series(1, 400) n, lateral (select '2026-03-02 00:30Z'::timestamptz + n * interval '1 hour' as t) at,
        lateral (select mrprompt_internal.uuid_at(t) as id) i;));

# A query as Grafana's data source sends it: its macros are text.
sub as_sent
{
    my ($query) = @_;
    $query =~ s/\$__timeFilter\(([^()]+)\)/$1 between '$from' and '$to'/g;
    $query =~ s/\$__timeFrom\(\)/'$from'/g;
    $query =~ s/\$__timeTo\(\)/'$to'/g;
    $query =~ s/\$__timeGroup(?:Alias)?\(([^(),]+),[^()]*\)/date_trunc('hour', $1)/g;
    $query =~ s/\$__interval_ms/3600000/g;
    $query =~ s/\$__interval/1h/g;
    return $query;
}

sub ask
{
    my ($query) = @_;
    my ($code, $out, $err) = $node->psql('postgres', as_sent($query), extra_params => [ '-U', 'grafana' ]);
    return ($code == 0 && $err eq '', $out, $err);
}

sub text { my ($file) = @_; return PostgreSQL::Test::Utils::slurp_file(source_path('examples', split m{/}, $file)) }

my $dashboard = JSON::PP::decode_json(text('grafana/mrprompt.json'));
my %panel = map { $_->{title} => $_ } @{ $dashboard->{panels} };
cmp_ok(scalar keys %panel, '>=', 12, 'the dashboard has its panels');
is(scalar keys %panel, scalar @{ $dashboard->{panels} }, 'each with a title of its own');

# Each query runs and finds something, all on roll-ups, half on them, and all on the ledger.
sub all_run
{
    my ($when) = @_;
    for my $title (sort keys %panel)
    {
        for my $target (@{ $panel{$title}{targets} })
        {
            my ($ok, $out, $err) = ask($target->{rawSql});
            ok($ok && $out ne '', "panel $title, $when") or diag("$target->{rawSql}\n$err");
            unlike(as_sent($target->{rawSql}), qr/\$/, "no macro is left in $title");
            next unless $target->{format} eq 'time_series';
            my ($columns) = (ask("select * from ($target->{rawSql}) q limit 0"))[0];
            ok($columns && $target->{rawSql} =~ /\bas time\b/, "$title has its time");
        }
    }
    is((ask($panel{Spend}{targets}[0]{rawSql}))[1], '4.00', "400 cents are spent, $when");
    is((ask($panel{Requests}{targets}[0]{rawSql}))[1], '400', "400 requests, $when");
    is((ask($panel{'Failed attempts'}{targets}[0]{rawSql}))[1], '0.1', "every tenth failed, $when");
    is((ask("select count(*), sum(cost) from ($panel{'Spend per day by model'}{targets}[0]{rawSql}) q"))[1], '34|4.00', "by day and model, $when");
    is((ask("select string_agg(requests::text, ' ') from ($panel{'Top users'}{targets}[0]{rawSql}) q"))[1], '134 133 133', "users, $when");
    is((ask("select attempts, share, error_type from ($panel{'What fails'}{targets}[0]{rawSql}) q"))[1], '40|0.2000|server_error', "errors, $when");
}
all_run('of the ledger');
$node->safe_psql('postgres', 'select mrprompt_internal.roll_up(100)');
ok(wait_until(sub { $node->safe_psql('postgres', 'select mrprompt_internal.roll_up(100)') > 0 }), 'a part is rolled up');
all_run('of both');
ok(wait_until(sub { $node->safe_psql('postgres', 'select mrprompt_internal.roll_up(100)');
    $node->safe_psql('postgres', q(select rolled_up_to > '2026-04-01' from mrprompt_internal.usage_watermark)) eq 't' }), 'all is rolled up');
all_run('of roll-ups');
is($node->safe_psql('postgres', 'select count(*) from mrprompt.check_usage()'), '0', 'they are proved equal');

# postgres_exporter: the columns of each query are its metrics.
my %metrics;
my $name;
for my $line (split /\n/, text('postgres_exporter/queries.yaml'))
{
    $name = $1 if $line =~ /^(\w+):$/;
    $metrics{$name}{query} = JSON::PP->new->allow_nonref->decode($1) if $line =~ /^  query: (".*")$/;
    push @{ $metrics{$name}{columns} }, $1 if $line =~ /^    - (\w+):$/;
    push @{ $metrics{$name}{kinds} }, $1 if $line =~ /^        usage: "(\w+)"$/;
}
cmp_ok(scalar keys %metrics, '>=', 4, 'queries.yaml has its queries');
for my $query (sort keys %metrics)
{
    my ($ok, $out, $err) = ask("select coalesce(string_agg(k, ' ' order by n), '') from (select to_jsonb(q) as j, row_to_json(q) as r from ($metrics{$query}{query}) q limit 1) o, json_object_keys(r) with ordinality k (k, n)");
    ok($ok, "$query runs") or diag($err);
    is($out, join(' ', @{ $metrics{$query}{columns} }), "$query: its columns are its metrics") unless $query eq 'mrprompt_latency';
    is(scalar @{ $metrics{$query}{kinds} }, scalar @{ $metrics{$query}{columns} }, 'each with its kind');
}
is((ask("select sum(cost_usd) from ($metrics{mrprompt_usage}{query}) q"))[1], '4.00', 'what was spent');
$node->stop;
done_testing();
