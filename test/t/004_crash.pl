# The fetcher is killed in the middle of 200 streams: nobody else notices, every request ends once with the right answer.
use strict;
use warnings;
use lib 'lib';
use MrPrompt qw(new_cluster start_provider wait_until);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $provider = start_provider();
my $node = new_cluster('crash', conf => "mrprompt.heartbeat_interval = 500\n");
my $base = $provider->url;
$node->safe_psql('postgres', qq(
    select mrprompt.add_user(login_role => current_user);
    insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private) values ('fake', 'openai', '$base/v1', true, true);));
my $postmaster = $node->safe_psql('postgres', 'select pg_postmaster_start_time()');
my $session = $node->background_psql('postgres');
$session->query_safe('select 1');

my $words = join ' ', map { "w$_" } 1 .. 60;
sub fetcher_pid { return $node->safe_psql('postgres', 'select fetcher_pids[1] from mrprompt_internal.server_state()') }

# A reader that was there from the start: collects what stream() brings, obeying restart.
$node->safe_psql('postgres', q(
    create table followed (id uuid primary key, text text, restarts int);
    create procedure follow(id uuid) language plpgsql as $$
    declare
        cursor_ bigint := 0; text_ text := ''; restarts int := 0; part record; ended boolean := false;
    begin
        while not ended loop
            for part in select * from mrprompt.stream(id, cursor_, '2 s') loop
                cursor_ := part.seq;
                if part.event = 'restart' then text_ := ''; restarts := restarts + 1; end if;
                text_ := text_ || coalesce(part.content, '');
                ended := part.event = 'end';
            end loop;
            commit;
        end loop;
        insert into followed values (id, text_, restarts);
        commit;
    end $$;));

$node->safe_psql('postgres', q(select count(mrprompt.chat_text('fake?words=60&pace=50&id=' || i, 'm', 'fake', stream => true)) from generate_series(1, 200) i));
my @ids = split /\n/, $node->safe_psql('postgres', 'select id from mrprompt.requests order by id limit 8');
my @readers;
for my $id (@ids)
{
    push @readers, IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', "call follow('$id')" ], '<', \undef, '>', \my $out, '2>', \my $err);
}
ok(wait_until(sub { $node->safe_psql('postgres', q(select count(*) from mrprompt.deltas)) > 400 }, 60), '200 streams are under way');

my $first = fetcher_pid();
ok($first, "the fetcher runs (pid $first)");
kill 'KILL', $first;
ok(wait_until(sub { my $pid = fetcher_pid(); $pid && $pid != $first }, 30), 'after kill -9 another fetcher runs');
is($session->query_safe('select 1'), '1', 'the session next door has not noticed');
is($node->safe_psql('postgres', 'select pg_postmaster_start_time()'), $postmaster, 'the server has not restarted');
ok(wait_until(sub { $node->safe_psql('postgres', q(select count(*) from mrprompt.requests where status <> 'running')) == 0 }, 60), 'all streams run again');

ok(wait_until(sub { $node->safe_psql('postgres', q(select count(*) from mrprompt.requests where status in ('queued', 'running'))) == 0 }, 120), 'every request ends');
is($node->safe_psql('postgres', qq(select count(*) from mrprompt.requests r join mrprompt.responses a on a.request_id = r.id where r.status = 'succeeded' and a.content = '$words')),
    '200', 'once, with the right answer');
is($node->safe_psql('postgres', q(select count(*), count(distinct (request_id, attempt)), count(*) filter (where outcome = 'succeeded') from mrprompt.usage)),
    '400|400|200', 'no ledger row is doubled: one unknown and one succeeded each');
$_->finish for @readers;
is($node->safe_psql('postgres', qq(select count(*), min(restarts) from followed where text = '$words')), '8|1', 'readers who were there saw restart and end with the right text');
is($node->safe_psql('postgres', qq(select count(*) from mrprompt.requests r where (select string_agg(content, '' order by seq) from mrprompt.stream(r.id)) = '$words')),
    '200', 'late readers get the same text');

# SEGV, with a batch that goes on: still no restart of the server.
$node->safe_psql('postgres', q(select count(mrprompt.chat_text('fake?words=40&pace=50&id=s' || i, 'm', 'fake', stream => true, metadata => '{"round": 2}')) from generate_series(1, 200) i));
ok(wait_until(sub { $node->safe_psql('postgres', q(select count(*) from mrprompt.requests where status = 'running')) == 200 }, 60), 'another 200 run');
my $second = fetcher_pid();
kill 'SEGV', $second;
ok(wait_until(sub { my $pid = fetcher_pid(); $pid && $pid != $second }, 30), 'after kill -SEGV another fetcher runs');
ok(wait_until(sub { $node->safe_psql('postgres', q(select count(*) from mrprompt.requests where status in ('queued', 'running'))) == 0 }, 120), 'every request ends');
is($node->safe_psql('postgres', q(select count(*) from mrprompt.requests where status = 'succeeded')), '400', 'all of them well');
is($session->query_safe('select 1'), '1', 'the session next door still has not noticed');

# A request that is there whenever a fetcher dies runs alone at last, and then fails, without the others.
my $poison = $node->safe_psql('postgres', q(select mrprompt.chat_text('fake?words=1000&pace=50', 'm', 'fake', stream => true)));
for my $round (1 .. 3)
{
    ok(wait_until(sub { $node->safe_psql('postgres', "select status = 'running' and attempts = $round from mrprompt.requests where id = '$poison'") eq 't' }, 60), "attempt $round runs");
    is($node->safe_psql('postgres', "select alone from mrprompt_internal.queue where request_id = '$poison'"), $round == 3 ? 't' : 'f', $round == 3 ? 'by itself' : 'among the others');
    my $pid = $node->safe_psql('postgres', "select f.pid from mrprompt_internal.queue q join mrprompt_internal.fetchers f on f.id = q.fetcher_id where q.request_id = '$poison'");
    kill 'KILL', $pid;
}
ok(wait_until(sub { $node->safe_psql('postgres', "select status || ' ' || error_type from mrprompt.requests where id = '$poison'") eq 'failed fetcher_crashed' }, 30), 'the third death is its last');
is($node->safe_psql('postgres', q(select count(*) from mrprompt_internal.queue)), '0', 'nothing is left in the queue');

$session->quit;
# A stop of the server while a stream runs takes no time, and the request survives it.
my $survivor = $node->safe_psql('postgres', q(select mrprompt.chat_text('fake?words=40&pace=50', 'm', 'fake', stream => true)));
ok(wait_until(sub { $node->safe_psql('postgres', "select count(*) from mrprompt.deltas where request_id = '$survivor'") > 2 }, 30), 'a stream runs');
$node->restart;
ok(wait_until(sub { $node->safe_psql('postgres', "select status from mrprompt.requests where id = '$survivor'") eq 'succeeded' }, 60), 'after a restart of the server it runs again and ends');
$node->stop('immediate');
$node->start;
is($node->safe_psql('postgres', q(select status, count(*) from mrprompt.requests group by 1 order by 1)), "failed|1\nsucceeded|401", 'an immediate stop loses nothing that had ended');
$node->stop;
$provider->stop;
done_testing();
