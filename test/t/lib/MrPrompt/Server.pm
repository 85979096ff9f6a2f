# A program that prints `listening on 127.0.0.1:PORT` and serves HTTP there until it is stopped.
package MrPrompt::Server;

use strict;
use warnings;

use HTTP::Tiny;
use IPC::Run;
use JSON::PP;

# Starts the command and waits for its line. The pairs become members: log_file, ca_file.
sub start
{
    my ($class, $command, %members) = @_;
    my $pid = open(my $output, '-|', @$command) or die "cannot start @$command: $!";
    my $self = bless { %members, pid => $pid, output => $output }, $class;
    my $line = <$output> // '';
    ($self->{port}) = $line =~ /^listening on 127\.0\.0\.1:(\d+)$/
      or die "@$command does not listen but says: $line";
    return $self;
}

sub pid { return $_[0]{pid} }
sub port { return $_[0]{port} }
sub ca_file { return $_[0]{ca_file} }

# The origin, and the base of the paths of OpenAI's and Anthropic's API.
sub url { my ($self) = @_; return ($self->{ca_file} ? 'https' : 'http') . "://127.0.0.1:$self->{port}" }
sub base_url { return $_[0]->url . '/v1' }

# What the fake provider has counted.
sub stats
{
    my ($self) = @_;
    return decode_json($self->_get_by_tls('/stats')) if $self->{ca_file};
    my $answer = HTTP::Tiny->new(timeout => 10)->get($self->url . '/stats');
    die "no statistics: $answer->{status} $answer->{content}" unless $answer->{success};
    return decode_json($answer->{content});
}

# By the openssl program: HTTP::Tiny needs a module for TLS that is not everywhere.
sub _get_by_tls
{
    my ($self, $path) = @_;
    my @command = (qw(openssl s_client -quiet -verify_return_error -CAfile),
        $self->{ca_file}, '-connect', "127.0.0.1:$self->{port}");
    my ($request, $answer, $notes) = ("GET $path HTTP/1.1\r\nConnection: close\r\n\r\n", '', '');
    IPC::Run::run(\@command, '<', \$request, '>', \$answer, '2>', \$notes)
      or $answer =~ /\S/ or die "no answer by TLS: $notes";
    return $answer =~ s/.*?\r\n\r\n//sr;
}

# The requests that the fake provider has received, in order; `body` is text, `json` the same decoded.
sub requests
{
    my ($self) = @_;
    open my $log, '<:raw', $self->{log_file} or die "$self->{log_file}: $!";
    my @requests = map { decode_json($_) } <$log>;
    for my $request (@requests)
    {
        $request->{json} = eval { JSON::PP->new->decode($request->{body}) };
    }
    return @requests;
}

sub stop
{
    my ($self) = @_;
    my $output = delete $self->{output} or return;
    local $? = 0;    # the test's own, when this is called at its end
    kill 'TERM', $self->{pid};
    close $output;
    return;
}

sub DESTROY { $_[0]->stop; return }

1;
