# Certificates as a test wants them, good and bad, made by the openssl program.
package MrPrompt::Certificates;

use strict;
use warnings;

use IPC::Run ();
use PostgreSQL::Test::Utils qw(append_to_file);

my $config = <<'CONF';
[ca]
default_ca = any
[any]
database = DIRECTORY/index
new_certs_dir = DIRECTORY
rand_serial = yes
policy = any_name
unique_subject = no
[any_name]
commonName = supplied
[ca_extensions]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign
[server_extensions]
subjectAltName = $ENV::SUBJECT
[client_extensions]
extendedKeyUsage = clientAuth
CONF

sub new
{
    my ($class) = @_;
    my $directory = MrPrompt::certificate_directory();
    append_to_file("$directory/index", '');
    append_to_file("$directory/config", $config =~ s/DIRECTORY/$directory/gr);
    return bless { directory => $directory }, $class;
}

# Makes NAME.crt and NAME.key and answers the path of NAME.crt. Options: kind => ca, server (the default) or
# client; by => the name of the CA (default: signed by itself); for => subjectAltName (default: IP:127.0.0.1);
# key => as openssl's -newkey takes it, digest, from and until (YYYYMMDDHHMMSSZ).
sub make
{
    my ($self, $name, %opts) = @_;
    %opts = (kind => 'server', for => 'IP:127.0.0.1', key => 'rsa:2048', digest => 'sha256',
        from => '20200101000000Z', until => '20991231000000Z', %opts);
    my $path = "$self->{directory}/$name";
    my $signer = $opts{by} ? "$self->{directory}/$opts{by}" : $path;
    local $ENV{SUBJECT} = $opts{for};
    _run('req', '-new', '-newkey', $opts{key}, '-nodes', '-subj', "/CN=$name", '-keyout', "$path.key", '-out', "$path.csr");
    _run('ca', '-batch', '-notext', '-config', "$self->{directory}/config", '-extensions', "$opts{kind}_extensions",
        '-md', $opts{digest}, '-startdate', $opts{from}, '-enddate', $opts{until}, '-keyfile', "$signer.key",
        ($opts{by} ? ('-cert', "$signer.crt") : '-selfsign'), '-in', "$path.csr", '-out', "$path.crt");
    return "$path.crt";
}

sub file { my ($self, $name) = @_; return "$self->{directory}/$name" }

# A file of the certificates of these names, in order.
sub chain
{
    my ($self, @names) = @_;
    my $file = $self->file(join('-', @names) . '.pem');
    append_to_file($file, PostgreSQL::Test::Utils::slurp_file($self->file("$_.crt"))) for @names;
    return $file;
}

sub _run
{
    my (@arguments) = @_;
    my $said = '';
    IPC::Run::run([ 'openssl', @arguments ], '<', \undef, '>&', \$said) or die "openssl @arguments: $said";
    return;
}

1;
