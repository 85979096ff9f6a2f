# What the TAP tests share: providers to talk to, clusters with mrprompt in them, waiting.
package MrPrompt;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run ();
use File::Basename qw(dirname);
use File::Spec::Functions qw(catfile rel2abs);
use Time::HiRes qw(sleep time);

use MrPrompt::Server;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils ();

our @EXPORT_OK = qw(
    start_provider start_peer start_http2_provider start_fetcher new_cluster master_key_file certificate_directory wait_until source_path);

my ($certificate_directory, $certificates) = (undef, 0);
my $root = dirname(dirname(dirname(dirname(rel2abs(__FILE__)))));

# Where certificates lie that the fetchers of new_cluster's servers may read.
sub certificate_directory
{
    return $certificate_directory //= PostgreSQL::Test::Utils::tempdir('certificates');
}

# The path of a file of the source tree.
sub source_path { return catfile($root, @_) }

# Starts the fake provider (test/provider/README.md). Options: default => 'fake?…', a behaviour for all
# requests; tls => 1, with a certificate for 127.0.0.1 that no system store knows (the object's ca_file), or
# tls => [FILE of certificates, FILE of the key]; client_ca => FILE; environment => { more of it }.
sub start_provider
{
    my (%opts) = @_;
    my $directory = PostgreSQL::Test::Utils::tempdir();
    my %server = (log_file => "$directory/requests.jsonl");
    my @command = (source_path('build', 'fake-provider'), '--log', $server{log_file});
    push @command, '--default', $opts{default} if defined $opts{default};
    if (ref $opts{tls})
    {
        push @command, '--tls-cert', $opts{tls}[0], '--tls-key', $opts{tls}[1];
        $server{ca_file} = $opts{tls}[0];
    }
    elsif ($opts{tls})
    {
        my ($certificate, $key) = _certificate();
        push @command, '--tls-cert', $certificate, '--tls-key', $key;
        $server{ca_file} = $certificate;
    }
    push @command, '--tls-client-ca', $opts{client_ca} if $opts{client_ca};
    local %ENV = (%ENV, %{ $opts{environment} // {} });
    return MrPrompt::Server->start(\@command, %server);
}

# Starts the hostile provider over HTTP/2 (test/provider/hostile_http2.mjs); it has a ca_file, too.
sub start_http2_provider
{
    my ($certificate, $key) = _certificate();
    my @command = (_node(), source_path('test', 'provider', 'hostile_http2.mjs'), $certificate, $key);
    return MrPrompt::Server->start(\@command, ca_file => $certificate);
}

# A certificate for 127.0.0.1 and its key, as files.
sub _certificate
{
    my $name = certificate_directory() . '/' . ++$certificates;
    my ($certificate, $key) = ("$name.pem", "$name.key");
    PostgreSQL::Test::Utils::system_or_bail(
        'openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1',
        '-nodes', '-days', '2', '-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1',
        '-keyout', $key, '-out', $certificate);
    return ($certificate, $key);
}

# Node.js as its package brought it: a distribution's own may be too old for the peer.
sub _node { return (glob(source_path('test', 'peer', 'node_modules') . '/node-linux-*/bin/node'), 'node')[0] }

# Starts the independent peer of test/peer with its fixtures.
sub start_peer
{
    my $directory = source_path('test', 'peer');
    die "the peer is not installed: npm --prefix test/peer ci\n" unless -d "$directory/node_modules";
    return MrPrompt::Server->start([ _node(), "$directory/start.mjs" ]);
}

# Starts a fetcher over libpq, as the login role given (default: fetcher_login), with more in its environment.
# Its `run` is one of IPC::Run; `err` is what it said.
sub start_fetcher
{
    my ($node, %opts) = @_;
    my %fetcher = (out => '', err => '');
    my $login = $opts{login} // 'fetcher_login';
    local %ENV = (%ENV, %{ $opts{environment} // {} });
    $fetcher{run} = IPC::Run::start(
        [ source_path('build', 'mrprompt-fetcher'), '--dsn', $node->connstr('postgres') . " user=$login",
            '--master-key-file', master_key_file($node) ],
        '<', \undef, '>', \$fetcher{out}, '2>', \$fetcher{err});
    return \%fetcher;
}

# A new server with a database in UTF-8, a master key, and mrprompt in the database postgres. Options:
# preload => 0 (no shared_preload_libraries), master_key => 0 (none), extension => 0 (not created),
# start => 0 (only initialised), conf => more lines for postgresql.conf, init => [more for initdb].
sub new_cluster
{
    my ($name, %opts) = @_;
    %opts = (preload => 1, master_key => 1, extension => 1, start => 1, conf => '', init => [], %opts);
    my $node = PostgreSQL::Test::Cluster->new($name);
    $node->init(extra => [ '--encoding=UTF8', '--locale=C', @{ $opts{init} } ]);
    # PostgreSQL's tests log every statement; servers do not by default, and secrets stand in some.
    $node->append_conf('postgresql.conf', "log_statement = none\n");
    $node->append_conf('postgresql.conf', "shared_preload_libraries = 'mrprompt'\n") if $opts{preload};
    if ($opts{master_key})
    {
        my $file = master_key_file($node);
        PostgreSQL::Test::Utils::append_to_file($file, 'k1:' . random_hex(32) . "\n");
        chmod 0600, $file or die "$file: $!";
        $node->append_conf('postgresql.conf', "mrprompt.master_key_file = '$file'\n");
    }
    $node->append_conf('postgresql.conf', "mrprompt.certificate_directories = '" . certificate_directory() . "'\n");
    $node->append_conf('postgresql.conf', $opts{conf});
    return $node unless $opts{start};
    $node->start;
    $node->safe_psql('postgres', 'create extension mrprompt') if $opts{extension};
    return $node;
}

# Where new_cluster puts the master key: beside the data directory.
sub master_key_file
{
    my ($node) = @_;
    return $node->basedir . '/master.key';
}

# Calls the function until it answers something true, and returns that; a false value after so many seconds.
sub wait_until
{
    my ($condition, $seconds) = @_;
    my $deadline = time + ($seconds // $PostgreSQL::Test::Utils::timeout_default);
    for (;;)
    {
        my $answer = $condition->();
        return $answer if $answer || time >= $deadline;
        sleep 0.02;
    }
}

sub random_hex
{
    my ($bytes) = @_;
    open my $random, '<:raw', '/dev/urandom' or die "/dev/urandom: $!";
    read($random, my $data, $bytes) == $bytes or die "/dev/urandom: $!";
    return unpack 'H*', $data;
}

1;
