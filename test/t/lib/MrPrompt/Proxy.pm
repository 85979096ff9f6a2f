# A proxy for HTTP's CONNECT and for SOCKS5, which notes where it was asked to connect to, and connects to one place whatever that is.
package MrPrompt::Proxy;

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use MrPrompt::Middleman 'write_all';
use PostgreSQL::Test::Utils ();

use parent -norequire, 'MrPrompt::Middleman';

# Starts it. Every connection goes to that port of this machine.
sub start
{
    my ($class, $to) = @_;
    my $notes = PostgreSQL::Test::Utils::tempdir() . '/asked';
    return $class->begin(sub { _serve($_[0], $to, $notes) }, notes => $notes);
}

# "connect HOST:PORT" or "socks5 HOST:PORT" for each connection, in order.
sub asked
{
    my ($self) = @_;
    open my $notes, '<', $self->{notes} or return;
    chomp(my @asked = <$notes>);
    return @asked;
}

sub _serve
{
    my ($listener, $to, $notes_file) = @_;
    open my $notes, '>', $notes_file or die "$notes_file: $!";
    $notes->autoflush(1);
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
            next if $count && write_all($other, $bytes);
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
        write_all($client, "\5\0");
        my ($type) = unpack 'x3 C', _read($client, 4);
        my $host = $type == 3 ? _read($client, ord _read($client, 1)) : join '.', unpack 'C4', _read($client, 4);
        my $port = unpack 'n', _read($client, 2);
        write_all($client, "\5\0\0\1\0\0\0\0\0\0");
        return "socks5 $host:$port";
    }
    my $head = $first;
    $head .= _read($client, 1) // return until $head =~ /\r\n\r\n\z/;
    my ($place) = $head =~ /^CONNECT (\S+) / or return;
    write_all($client, "HTTP/1.1 200 Connection established\r\nContent-Type: text/plain\r\n\r\n");
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

1;
