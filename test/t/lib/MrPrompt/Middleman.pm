# A process of the test's own that listens on this machine and stands between two others; Proxy and ReplyThief are made of it.
package MrPrompt::Middleman;

use strict;
use warnings;

use Exporter 'import';
use IO::Socket::INET;
use POSIX ();

our @EXPORT_OK = ('write_all');

# Starts $serve->($listener) in a child. The pairs become members, beside port.
sub begin
{
    my ($class, $serve, %members) = @_;
    my $listener = IO::Socket::INET->new(Listen => 20, LocalAddr => '127.0.0.1') or die "cannot listen: $!";
    my $self = bless { %members, port => $listener->sockport, owner => $$ }, $class;
    $self->{pid} = fork // die "cannot fork: $!";
    if ($self->{pid} == 0)
    {
        # The child must not run the test's own endings.
        local $SIG{PIPE} = 'IGNORE';
        eval { $serve->($listener); 1 } or print STDERR $@;
        POSIX::_exit(1);
    }
    return $self;
}

sub port { return $_[0]{port} }

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

# Writes all of it; false where the other side is gone.
sub write_all
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
