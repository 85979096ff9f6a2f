# A proxy for HTTP's CONNECT and for SOCKS5, which notes where it was asked to connect to, and connects to one place whatever that is.
package MrPrompt::Proxy;

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use POSIX ();
use PostgreSQL::Test::Utils ();

# Starts it. Every connection goes to that port of this machine.
sub start
{
    my ($class, $to) = @_;
    my $listener = IO::Socket::INET->new(Listen => 20, LocalAddr => '127.0.0.1') or die "cannot listen: $!";
    my $self = bless {
        port => $listener->sockport, notes => PostgreSQL::Test::Utils::tempdir() . '/asked', owner => $$ }, $class;
    $self->{pid} = fork // die "cannot fork: $!";
    if ($self->{pid} == 0)
    {
        # The child must not run the test's own endings.
        eval { _serve($listener, $to, $self->{notes}); 1 } or print STDERR $@;
        POSIX::_exit(1);
    }
    return $self;
}

sub port { return $_[0]{port} }

# "connect HOST:PORT" or "socks5 HOST:PORT" for each connection, in order.
sub asked
{
    my ($self) = @_;
    open my $notes, '<', $self->{notes} or return;
    chomp(my @asked = <$notes>);
    return @asked;
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
    my ($listener, $to, $notes_file) = @_;
    open my $notes, '>', $notes_file or die "$notes_file: $!";
    $notes->autoflush(1);
    local $SIG{PIPE} = 'IGNORE';
    my $select = IO::Select->new($listener);
    my %other;    # end of each connection
    for (;;)
    {
        for my $ready ($select->can_read)
        {
            if ($ready == $listener)
            {
                my $client = $listener->accept or next;
                my $asked = _greet($client) or next;
                print $notes "$asked\n";
                my $server = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $to) or next;
                @other{ $client, $server } = ($server, $client);
                $select->add($client, $server);
                next;
            }
            my $other = $other{$ready} or next;
            my $count = sysread $ready, my $bytes, 65536;
            next if $count && _write($other, $bytes);
            $select->remove($ready, $other);
            delete @other{ $ready, $other };
            close $_ for $ready, $other;
        }
    }
    return;
}

# What the client asks for, once it has been told that it has it.
sub _greet
{
    my ($client) = @_;
    my $first = _read($client, 1) // return;
    if ($first eq "\5")
    {
        _read($client, ord _read($client, 1));
        _write($client, "\5\0");
        my ($type) = unpack 'x3 C', _read($client, 4);
        my $host = $type == 3 ? _read($client, ord _read($client, 1)) : join '.', unpack 'C4', _read($client, 4);
        my $port = unpack 'n', _read($client, 2);
        _write($client, "\5\0\0\1\0\0\0\0\0\0");
        return "socks5 $host:$port";
    }
    my $head = $first;
    $head .= _read($client, 1) // return until $head =~ /\r\n\r\n\z/;
    my ($place) = $head =~ /^CONNECT (\S+) / or return;
    _write($client, "HTTP/1.1 200 Connection established\r\nContent-Type: text/plain\r\n\r\n");
    return "connect $place";
}

sub _read
{
    my ($socket, $count) = @_;
    my $bytes = '';
    while (length $bytes < $count)
    {
        sysread($socket, $bytes, $count - length $bytes, length $bytes) or return;
    }
    return $bytes;
}

sub _write
{
    my ($socket, $bytes) = @_;
    while (length $bytes)
    {
        my $sent = syswrite $socket, $bytes or return 0;
        substr $bytes, 0, $sent, '';
    }
    return 1;
}

1;
