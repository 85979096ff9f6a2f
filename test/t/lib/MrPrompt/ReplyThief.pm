# A proxy between a fetcher and the server that lets calls through and, now and then, closes the connection in place of the reply.
package MrPrompt::ReplyThief;

use strict;
use warnings;

use IO::Select;
use IO::Socket::UNIX;
use MrPrompt::Middleman 'write_all';

use parent -norequire, 'MrPrompt::Middleman';

# Starts it before the server of that node. Every `every`th reply of a kind (claim, settle, append, heartbeat) is stolen, once
# the server has committed; of claims only those with work in them.
sub start
{
    my ($class, $node, %opts) = @_;
    my ($report, $socket) = ("$opts{directory}/stolen", $node->host . '/.s.PGSQL.' . $node->port);
    return $class->begin(sub { _serve($_[0], $socket, $opts{every}, $report) }, report => $report);
}

sub connstr { return "host=127.0.0.1 port=$_[0]{port} sslmode=disable gssencmode=disable" }

# How many replies were stolen, by kind.
sub stolen
{
    my ($self) = @_;
    my %count;
    if (open my $report, '<', $self->{report})
    {
        chomp, $count{$_}++ while <$report>;
    }
    return %count;
}

sub _serve
{
    my ($listener, $socket, $every, $report_file) = @_;
    open my $report, '>', $report_file or die "$report_file: $!";
    $report->autoflush(1);
    my $select = IO::Select->new($listener);
    my (%lines, %seen);    # by either end of a connection; replies by kind
    for (;;)
    {
        for my $ready ($select->can_read)
        {
            if ($ready == $listener)
            {
                my $client = $listener->accept or next;
                my $server = IO::Socket::UNIX->new(Peer => $socket);
                if (!$server) { close $client; next }
                $lines{$client} = $lines{$server} = { client => $client, server => $server, kind => '', reply => '' };
                $select->add($client, $server);
                next;
            }
            my $line = $lines{$ready} or next;
            my $count = sysread $ready, my $bytes, 65536;
            my $open = $count;
            if ($open && $ready == $line->{client})
            {
                $line->{kind} = $1 if $bytes =~ /mrprompt_internal\.(claim|settle|append|heartbeat)\(/;
                $open = write_all($line->{server}, $bytes);
            }
            elsif ($open && $line->{kind})
            {
                # Ready for query: the server has committed and said all it has to say.
                $line->{reply} .= $bytes;
                next unless $line->{reply} =~ /Z\0\0\0\x05I\z/;
                my $kind = $line->{kind};
                my $counts = $kind ne 'claim' || $line->{reply} =~ /"attempt"\s*:/;
                if ($counts && ++$seen{$kind} % $every == 0)
                {
                    print {$report} "$kind\n";
                    $open = 0;
                }
                else
                {
                    $open = write_all($line->{client}, $line->{reply});
                }
                @$line{qw(kind reply)} = ('', '');
            }
            elsif ($open)
            {
                $open = write_all($line->{client}, $bytes);
            }
            next if $open;
            $select->remove(@$line{qw(client server)});
            delete @lines{ map { "$_" } @$line{qw(client server)} };
            close $_ for @$line{qw(client server)};
        }
    }
}

1;
