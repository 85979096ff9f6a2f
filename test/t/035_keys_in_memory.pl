# A key's text lives only for the call: once its requests have ended, neither the fetcher's memory nor the
# supervisor's holds it, while it still serves others.
use strict;
use warnings;
use lib 'lib';
use MrPrompt qw(new_cluster start_provider wait_until source_path);
use MrPrompt::Memory qw(can_look_into places_of);
use PostgreSQL::Test::Utils;
use Test::More;

my ($plain, $tls) = (start_provider(), start_provider(tls => 1));
my ($base, $tls_base, $ca_file) = ($plain->url, $tls->url, $tls->{ca_file});
# The fetcher forbids that its memory is read; a preloaded library of the tests lets it.
my $place = PostgreSQL::Test::Utils::tempdir();
my ($bindir) = run_command([ 'pg_config', '--bindir' ]);
my $library = source_path('build', 'open-memory.so');
append_to_file("$place/fetcher", "#!/bin/sh\nLD_PRELOAD=$library exec $bindir/mrprompt-fetcher \"\$@\"\n");
chmod 0755, "$place/fetcher";
my $node = new_cluster('memory', conf => "mrprompt.fetcher_path = '$place/fetcher'\nmrprompt.heartbeat_interval = 200\n");
sub ask { return $node->safe_psql('postgres', $_[0]) }
my %key = map { $_ => "sk-test-memory-$_-" . join('', map { chr(97 + int rand 26) } 1 .. 40) } qw(plain tls);
ask(qq(
    select mrprompt.add_user(login_role => current_user);
    insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private, ca_file, cooldown_percent, backoff_base_ms) values
        ('plain', 'openai', '$base/v1', true, true, null, 0, 10), ('tls', 'openai', '$tls_base/v1', false, true, '$ca_file', 0, 10);));
ask("select mrprompt.add_key('$_', '$key{$_}')") for sort keys %key;

# While a request is under way the key is there: the search can find it.
my $slow = ask(qq(select mrprompt.chat_text('fake?delay=15000', 'm', 'plain')));
wait_until(sub { ask("select phase from mrprompt.requests_in_flight where request_id = '$slow'") eq 'waiting' }, 30) or BAIL_OUT('it does not begin');
my ($fetcher, $supervisor) = split /\|/, ask('select fetcher_pids[1], supervisor_pid from mrprompt_internal.server_state()');
plan(skip_all => "THIS USER MAY NOT READ THE MEMORY OF ITS PROCESSES: run it as root, or with kernel.yama.ptrace_scope = 0")
  unless can_look_into($fetcher) && can_look_into($supervisor);
cmp_ok(scalar places_of($key{plain}, $fetcher), '>=', 1, 'during a call the fetcher has its key');
ask("select mrprompt.cancel_request('$slow')");

# Answers of every kind; the prompts say nothing of the keys.
my @prompts = qw(fake fake?words=20&pace=5 fake?words=50&cut=20 fake?status=503 fake?delay=30 fake?status=401);
for my $round (1 .. 5)
{
    for my $provider (sort keys %key)
    {
        ask(join '; ', map { sprintf q(select mrprompt.chat_text('%s', 'm', '%s', stream => %s, options => '{"max_failures": 1}')),
            $_, $provider, /words/ ? 'true' : 'false' } @prompts);
    }
}
ok(wait_until(sub { ask(q(select count(*) from mrprompt.requests where finished_at is null)) == 0 }, 60), 'requests of every kind have ended');
is(ask(q(select count(distinct provider) from mrprompt.requests where status = 'succeeded')), 2, 'of both providers some well');
is(ask('select fetcher_pids[1] from mrprompt_internal.server_state()'), $fetcher, 'the fetcher is the same');
for my $provider (sort keys %key)
{
    my @left;
    wait_until(sub { @left = places_of($key{$provider}, $fetcher); !@left }, 5);
    is("@left", '', "the fetcher has forgotten the key of $provider");
    wait_until(sub { @left = places_of($key{$provider}, $supervisor); !@left }, 5);
    is("@left", '', "so has the supervisor");
}

$node->stop;
done_testing();
