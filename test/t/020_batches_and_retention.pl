# With a fetcher at work: a batch from its call to its end, failures told and tried again, the retention settings, forget_user.
use strict;
use warnings;
use lib 'lib';
use IPC::Run ();
use MrPrompt qw(new_cluster start_provider wait_until);
use Test::More;

my $provider = start_provider();
my $base = $provider->url;
my $node = new_cluster('batches');
my $user = $node->safe_psql('postgres', qq(
    insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private) values ('fake', 'openai', '$base/v1', true, true);
    insert into mrprompt.prices (provider, model, input, output) values ('fake', 'm', 0.001, 0.001);
    select mrprompt.add_user(login_role => current_user);));

sub sql { return $node->safe_psql('postgres', $_[0]) }

# Waits until a query answers t.
sub becomes
{
    my ($query, $name) = @_;
    ok(wait_until(sub { sql($query) eq 't' }), $name) or diag("$query\n" . sql('select * from mrprompt.batch_progress; select * from mrprompt.retention; select * from mrprompt.forgetting'));
}

# A batch.
my $batch = sql(q{select mrprompt.chat_batch((select json_agg(case when n % 10 = 0 then 'fake?status=400 ' || n else 'question ' || n end)
    from generate_series(1, 100) n), 'm', 'fake', name => 'mixed')});
becomes("select finished_at is not null from mrprompt.batch_progress where batch_id = '$batch'", 'the batch comes to its end');
is(sql("select succeeded, failed, done, remaining, percent from mrprompt.batch_progress where batch_id = '$batch'"), '90|10|100|0|100.0',
    'its progress tells what became of it');
is(sql(qq{
    select bool_and(a.content = 'You said: question ' || o.n) from (
        select r.id, row_number() over (order by r.id) as n from mrprompt.requests r where r.batch_id = '$batch') o
    join mrprompt.responses a on a.request_id = o.id}), 't', 'the requests stand in the order of the array');

# Failures.
my ($in, $out, $err) = ('', '', '');
my $listener = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres') ], '<', \$in, '>', \$out, '2>', \$err);
$in .= qq{
    select format('listen %I', mrprompt.failure_channel()) \\gexec
    select mrprompt.chat_text('fine', 'm', 'fake') as id \\gset
    select status from mrprompt.wait_for_request(:'id', '20 seconds');
    select mrprompt.retry_batch('$batch');
};
my %told;
wait_until(sub {
    $in .= "select 1;\n";    # psql shows notifications after a command
    $listener->pump_nb;
    %told = map { $_ => 1 } $out =~ /Asynchronous notification "mrprompt_[0-9a-f]{32}" with payload "([0-9a-f-]{36})"/g;
    keys %told >= 10;
});
$in .= "\\q\n";
$listener->finish;
my %failed = map { $_ => 1 } split /\n/, sql(q{select id from mrprompt.failed_requests});
is_deeply(\%told, \%failed, 'operators are told of each request that fails, and of no other');
is(sql(q{select count(*) from mrprompt.failed_requests where jsonb_array_length(attempts_history) = 2 and attempts_history #>> '{1,error}' like '400 %'}),
    '10', 'each has the history of both its attempts');

# Retention: content goes, the ledger stays.
my $usage = sql('select count(*) from mrprompt.usage');
sql(q{alter system set mrprompt.response_retention = '0'; select pg_reload_conf()});
becomes('select not exists (select from mrprompt.responses)', 'answers go after mrprompt.response_retention');
is(sql('select count(*) from mrprompt.requests'), '101', 'without their requests');
sql(q{alter system set mrprompt.request_retention = '0'; select pg_reload_conf()});
becomes('select not exists (select from mrprompt.requests) and not exists (select from mrprompt.batches)',
    'requests and batches go after mrprompt.request_retention');
is(sql('select count(*) from mrprompt.usage'), $usage, 'usage is kept');
is(sql(q{select pruned_rows >= 101 and last_pruned_at is not null from mrprompt.retention where kind = 'requests'}), 't', 'and the view counts them');
# Not before it is rolled up, and that is not done in the first hour of a database.
sql(q{update mrprompt_internal.homes set since = since - interval '2 hours'});
sql(q{alter system set mrprompt.usage_retention = '0'; select pg_reload_conf()});
becomes('select not exists (select from mrprompt.usage)', 'the ledger goes after mrprompt.usage_retention');
is(sql('select sum(attempts) from mrprompt.usage_by_day'), $usage, 'and its sums stay');
sql("alter system reset mrprompt.$_") for qw(response_retention request_retention usage_retention);
sql('select pg_reload_conf()');
becomes(q{select every(setting is null) from mrprompt.retention where kind in ('requests', 'responses', 'usage')}, 'what is kept for ever says so');

# Forgetting somebody with requests in flight and waiting.
my $person = 'cccccccc-0000-4000-8000-000000000003';
sql(qq{
    select mrprompt.chat_batch('["fake?words=1000&pace=100", "soon"]', 'm', 'fake', user_id => '$person', stream => true);
    select mrprompt.chat_text('mine', 'm', 'fake')});
becomes("select exists (select from mrprompt.requests where user_id = '$person' and status = 'running')
    and exists (select from mrprompt.usage where user_id = '$person')", 'a person has a request in flight, and one answered');
sql("select mrprompt.forget_user('$person')");
becomes('select not exists (select from mrprompt.forgetting)', 'forget_user() comes to its end');
is(sql(qq{select count(*) from mrprompt.requests where user_id = '$person'}) . sql(qq{select count(*) from mrprompt.usage where user_id = '$person'})
    . sql(qq{select count(*) from mrprompt.deltas d where not exists (select from mrprompt.requests r where r.id = d.request_id)}), '000',
    'nothing of the person is left');
is(sql(q{select count(*) from mrprompt.usage where user_id = '00000000-0000-0000-0000-000000000000'}), '2', 'but the ledger, as nobody\'s');
is(sql("select count(*) from mrprompt.requests where user_id = '$user'"), '1', 'others keep what is theirs');

$node->stop;
done_testing;
