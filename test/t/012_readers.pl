# Readers of one stream: there from the start, come in the middle, reconnecting for every piece: the same text.
use strict;
use warnings;
use lib 'lib';
use IPC::Run ();
use MrPrompt qw(new_cluster start_provider wait_until);
use Test::More;

my $provider = start_provider();
my $base = $provider->url;
for my $preload (1, 0)
{
    my $how = $preload ? 'preloaded' : 'not preloaded';
    my $node = new_cluster("readers$preload", preload => $preload);
    $node->safe_psql('postgres', qq(
        select mrprompt.add_user(login_role => current_user);
        insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private) values ('fake', 'openai', '$base/v1', true, true);
        create procedure follow(id uuid, inout text_ text default '') language plpgsql as \$\$
        declare
            cursor_ bigint := 0; part record; ended boolean := false;
        begin
            while not ended loop
                for part in select * from mrprompt.stream(id, cursor_) loop
                    cursor_ := part.seq;
                    if part.event = 'restart' then text_ := ''; end if;
                    text_ := text_ || coalesce(part.content, '');
                    ended := part.event = 'end';
                end loop;
                commit;
            end loop;
        end \$\$;));
    my $fetcher;
    if (!$preload)
    {
        my $program = MrPrompt::source_path('build', 'mrprompt-fetcher');
        $fetcher = IPC::Run::start([ $program, '--dsn', $node->connstr('postgres'), '--master-key-file', MrPrompt::master_key_file($node) ], '<', \undef, '>', \my $out, '2>', \my $err);
    }
    my $id = $node->safe_psql('postgres', q(select mrprompt.chat_text('fake?words=60&pace=40', 'm', 'fake', stream => true)));
    my $words = join ' ', map { "w$_" } 1 .. 60;
    my %text;
    my $reader = sub {
        my ($name) = @_;
        $text{$name} = '';
        return IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', "call follow('$id')" ], '<', \undef, '>', \$text{$name}, '2>', \my $err);
    };
    my @readers = ($reader->('from the start'));
    ok(wait_until(sub { $node->safe_psql('postgres', "select count(*) from mrprompt.deltas where request_id = '$id'") > 8 }, 30), "$how: the stream is in its middle");
    push @readers, $reader->('from the middle');
    my ($seq, $text, $connections, $ended) = (0, '', 0, '');
    while ($ended ne 't')
    {
        my $news = $node->safe_psql('postgres', "select coalesce(max(seq), $seq), coalesce(bool_or(event = 'end'), false), coalesce(string_agg(content, '' order by seq), '') from mrprompt.stream('$id', $seq, '200 ms')");
        my ($last, $end, $more) = split /\|/, $news, 3;
        ($seq, $ended, $text) = ($last, $end, $text . $more);
        $connections++;
    }
    $_->finish for @readers;
    is($text{$_} =~ s/\n$//r, $words, "$how: who reads $_ has the whole text") for sort keys %text;
    is($text, $words, "$how: who reconnects has it");
    cmp_ok($connections, '>', 3, "$how: after $connections connections");
    is($node->safe_psql('postgres', "select string_agg(content, '' order by seq) from mrprompt.stream('$id')"), $words, "$how: who comes after the end has it");
    if ($fetcher) { $fetcher->kill_kill }
    $node->stop;
}
$provider->stop;
done_testing();
