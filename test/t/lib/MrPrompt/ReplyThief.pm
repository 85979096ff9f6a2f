# A proxy between a fetcher and the server that lets calls through and, now and then, closes the connection in place of the reply.
package MrPrompt::ReplyThief;

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use POSIX ();

# Starts it before the server of that node. Every `every`th reply of a kind (claim, settle, append, heartbeat) is stolen, once
# the server has committed; of claims only those with work in them.
sub start
{
    my ($class, $node, %opts) = @_;
    my $listener = IO::Socket::INET->new(Listen => 20, LocalAddr => '127.0.0.1') or die "cannot listen: $!";
    my $self = bless { port => $listener->sockport, report => "$opts{directory}/stolen", owner => $$ }, $class;
    my $socket = $node->host . '/.s.PGSQL.' . $node->port;
    $self->{pid} = fork // die "cannot fork: $!";
    if ($self->{pid} == 0)
    {
        # The child must not run the test's own endings.
        eval { _serve($listener, $socket, $opts{every}, $self->{report}); 1 } or print STDERR $@;
        POSIX::_exit(1);
    }
    return $self;
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

sub stop
{
    my ($self) = @_;
    return if $$ != $self->{owner} || !$self->{pid};
    local $? = 0;    # the test's own, when this is called at its end
    kill 'KILL', $self->{pid};
    waitpid delete $self->{pid}, 0;
    return;
}

sub DESTROY { $_[0]->stop; return }

sub _serve
{
    my ($listener, $socket, $every, $report_file) = @_;
    open my $report, '>', $report_file or die "$report_file: $!";
    $report->autoflush(1);
    local $SIG{PIPE} = 'IGNORE';
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
                $open = _write($line->{server}, $bytes);
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
                    $open = _write($line->{client}, $line->{reply});
                }
                @$line{qw(kind reply)} = ('', '');
            }
            elsif ($open)
            {
                $open = _write($line->{client}, $bytes);
            }
            next if $open;
            $select->remove(@$line{qw(client server)});
            delete @lines{ map { "$_" } @$line{qw(client server)} };
            close $_ for @$line{qw(client server)};
        }
    }
}

sub _write
{
    my ($to, $bytes) = @_;
    while (length $bytes)
    {
        my $count = syswrite $to, $bytes or return 0;
        substr $bytes, 0, $count, '';
    }
    return 1;
}

1;
