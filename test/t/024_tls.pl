# TLS: certificates and servers that are not good enough are refused, each with its reason, whatever OpenSSL's configuration allows; the good ones work.
use strict;
use warnings;
use lib 'lib';
use MrPrompt qw(new_cluster start_provider start_fetcher wait_until);
use MrPrompt::Certificates;
use PostgreSQL::Test::Utils;
use Test::More;

my $certificates = MrPrompt::Certificates->new;
sub make { return $certificates->make(@_) }
sub file { return $certificates->file(@_) }
sub chain { return $certificates->chain(@_) }
make('root', kind => 'ca');
make('middle', kind => 'ca', by => 'root');
make('stranger', kind => 'ca');
make('weak-ca', kind => 'ca', key => 'rsa:1024');
make('good', by => 'root');
make('behind', by => 'middle');
make('expired', by => 'root', until => '20210101000000Z');
make('future', by => 'root', from => '20980101000000Z');
make('alone');
make('elsewhere', by => 'root', for => 'DNS:llm.example.com');
make('by-stranger', by => 'stranger');
make('weak', by => 'root', key => 'rsa:1024');
make('by-weak-ca', by => 'weak-ca');
make('sha1', by => 'root', digest => 'sha1');
make('client', kind => 'client', by => 'root');
make('other-client', kind => 'client', by => 'stranger');

# OpenSSL with everything allowed; for servers that are bad on purpose, and for the fetcher, which shall not care.
sub configuration
{
    my ($name, @lines) = @_;
    append_to_file(file($name), join "\n", 'openssl_conf = all', '[all]', 'ssl_conf = tls', '[tls]', 'system_default = lax', '[lax]',
        'MinProtocol = TLSv1', 'CipherString = ALL:@SECLEVEL=0', @lines, '');
    return { OPENSSL_CONF => file($name) };
}
my $lax = configuration('lax.cnf');
my $old = configuration('old.cnf', 'MaxProtocol = TLSv1.1');
my $tls12 = configuration('tls12.cnf', 'MaxProtocol = TLSv1.2');

my $node = new_cluster('tls', conf => "mrprompt.local_fetcher = off\nmrprompt.heartbeat_interval = 200\nmrprompt.max_failures = 1\n");
sub sql { return $node->safe_psql('postgres', $_[0]) }
sql(q(select mrprompt.add_user(login_role => current_user); create role fetcher_login login in role mrprompt_fetcher));
my $fetcher = start_fetcher($node, environment => { %$lax, SSLKEYLOGFILE => file('secrets') });

# Starts a server and makes it the provider of that name.
sub serve
{
    my ($name, $certificate, $ca_file, %more) = @_;
    my $server = start_provider(tls => [ $certificate, $more{key} // $certificate =~ s{\.crt$}{.key}r ], client_ca => $more{client_ca}, environment => $more{environment} // $lax);
    my $base = $server->base_url;
    my $ca = defined $ca_file ? "'$ca_file'" : 'null';
    sql(qq(insert into mrprompt.providers (name, protocol, base_url, allow_private, ca_file, cooldown_percent) values ('$name', 'openai', '$base', true, $ca, 0)));
    return $server;
}
# Asks, and answers "status: type: message".
sub ask
{
    my ($provider, $prompt) = @_;
    my $id = sql(qq(select mrprompt.chat_text('@{[ $prompt // 'hi' ]}', 'm', '$provider')));
    wait_until(sub { sql("select finished_at is not null from mrprompt.requests where id = '$id'") eq 't' }, 60)
        or BAIL_OUT('it does not end: ' . sql("select * from mrprompt.requests where id = '$id'"));
    return sql("select concat_ws(': ', status, error_type, error_message) from mrprompt.requests where id = '$id'");
}
# Whether a client that OpenSSL's configuration alone rules is content with the server.
sub lax_client_connects
{
    my ($server, $ca_file) = @_;
    local %ENV = (%ENV, %$lax);
    my ($said, $request) = ('', "GET /stats HTTP/1.1\r\nConnection: close\r\n\r\n");
    IPC::Run::run([ qw(openssl s_client -quiet -verify_return_error -CAfile), $ca_file, '-connect', '127.0.0.1:' . $server->port ],
        '<', \$request, '>&', \$said);
    return $said =~ /max_in_flight/ || diag($said);
}

# --- what is refused
my $root = file('root.crt');
for my $case (
    [ 'expired', file('expired.crt'), $root, qr/the certificate of 127\.0\.0\.1, or of a CA behind it, has expired/ ],
    [ 'not yet valid', file('future.crt'), $root, qr/is not valid yet; the fetcher's clock may be wrong/ ],
    [ 'self-signed', file('alone.crt'), $root, qr/is signed by itself; if it is the right one, ca_file can name it/ ],
    [ 'wrong host', file('elsewhere.crt'), $root, qr/the certificate of 127\.0\.0\.1 is for another name/ ],
    [ 'missing intermediate', file('behind.crt'), $root, qr/leads to no trusted CA: an intermediate certificate is missing/ ],
    [ 'another CA', file('by-stranger.crt'), $root, qr/leads to no trusted CA: .* or the CA is another one/ ],
    [ 'a private CA that nobody named', file('good.crt'), undef, qr/leads to no trusted CA/ ],
    [ 'weak key', file('weak.crt'), $root, qr/has a weak key; .* RSA 2048 bits/, 'lax' ],
    [ 'weak key of a CA', file('by-weak-ca.crt'), file('weak-ca.crt'), qr/a CA of 127\.0\.0\.1 has a weak key/, 'lax' ],
    [ 'SHA-1', file('sha1.crt'), $root, qr/has a weak signature/, 'lax' ],
    [ 'a client certificate in a server', file('client.crt'), $root, qr/the certificate of 127\.0\.0\.1 is not one for servers|is for another name/ ],
    [ 'TLS 1.1', file('good.crt'), $root, qr/127\.0\.0\.1 speaks no TLS 1\.2 or later/, 'lax', $old ])
{
    my ($what, $certificate, $ca_file, $reason, $fine_for_lax, $environment) = @$case;
    my $name = lc $what =~ s/\W+/-/gr;
    my $server = serve($name, $certificate, $ca_file, environment => $environment);
    ok(lax_client_connects($server, $ca_file), "$what: OpenSSL's configuration alone would let it through") if $fine_for_lax;
    like(ask($name), qr/^failed: tls_failed: .*$reason/, "$what: refused, with its reason");
    is(sql("select attempts from mrprompt.requests where provider = '$name'"), 1, 'once');
    is(scalar($server->requests), 0, 'and nothing of the request was sent');
}

# --- what works
my $good = serve('private-ca', file('good.crt'), $root);
is(ask('private-ca'), 'succeeded', 'a private CA that ca_file names');
my $behind = serve('completed', file('behind.crt'), chain('root', 'middle'));
is(ask('completed'), 'succeeded', 'an intermediate certificate that the server left out, and ca_file holds');
my $chained = serve('chained', chain('behind', 'middle'), $root, key => file('behind.key'));
is(ask('chained'), 'succeeded', 'or the server sends');
sql(sprintf q(update mrprompt.providers set ca_file = '%s' where name = 'private-ca'), file('stranger.crt'));
like(ask('private-ca'), qr/^failed: tls_failed: .*leads to no trusted CA/, 'no kept connection outlives the CA it was trusted by');
sql(q(update mrprompt.providers set ca_file = '/nowhere/ca.pem' where name = 'private-ca'));
like(ask('private-ca'), qr/^failed: tls_failed: the file "[^"]+" of the provider's row cannot be read: No such file/, 'a CA file that is not there');

# --- client certificates
sub show
{
    my ($name, $certificate, $key) = @_;
    my ($cert_file, $key_file) = map { defined $_ ? "'$_'" : 'null' } $certificate, $key;
    return sql("update mrprompt.providers set client_cert_file = $cert_file, client_key_file = $key_file where name = '$name'");
}
# With TLS 1.3 the server says no when the request is on its way: its word may be lost with the connection.
my $broke_off = qr/connection_broken: the server asked for a client certificate, /;
my $lost = qr/${broke_off}got that of client_cert_file, and broke off/;
my $asked = qr/${broke_off}which client_cert_file and client_key_file can name, and broke off/;
my @servers;
for my $case (
    [ 'tls-1-3', $lax, qr/(?:tls_failed: 127\.0\.0\.1 wants a client certificate; client_cert_file|$asked)/, qr/(?:tls_failed: 127\.0\.0\.1 does not accept|$lost)/ ],
    [ 'tls-1-2', $tls12, qr/tls_failed: .*it may want a client certificate/, qr/tls_failed: 127\.0\.0\.1 does not accept the client certificate of client_cert_file/ ])
{
    my ($name, $environment, $wanted, $unknown) = @$case;
    my $server = serve($name, file('good.crt'), $root, client_ca => $root, environment => $environment);
    push @servers, $server;
    like(ask($name), qr/^failed: $wanted/, "$name: a client certificate is wanted and not given");
    is(scalar($server->requests), 0, 'the request is not read');
    show($name, file('client.crt'), file('client.key'));
    is(ask($name), 'succeeded', 'given, it works');
    is(ask($name), 'succeeded', 'again, by the same connection');
    show($name, file('other-client.crt'), file('other-client.key'));
    like(ask($name), qr/^failed: $unknown/, 'that of another CA does not') for 1 .. 5;
    show($name, undef, undef);
    like(ask($name), qr/^failed: $wanted/, 'and none is not, though a connection with one was kept');
    show($name, file('client.crt'), file('client.key'));
    is(ask($name), 'succeeded', 'which was left alone');
    show($name, file('other-client.crt'), file('client.key'));
    like(ask($name), qr/^failed: tls_failed: client_cert_file and client_key_file cannot be used/, 'a key of another certificate');
    is(scalar($server->requests), 3, 'the server has read three requests');
}
system_or_bail('openssl', 'pkey', '-in', file('client.key'), '-aes256', '-passout', 'pass:sesame', '-out', file('locked.key'));
show('tls-1-3', file('other-client.crt'), file('locked.key'));
like(ask('tls-1-3'), qr/cannot be used: .*without a passphrase/, 'a key with a passphrase is an error, and no prompt');
show('tls-1-3', file('other-client.crt'), file('missing.key'));
like(ask('tls-1-3'), qr/the file "[^"]+missing\.key" of the provider's row cannot be read: No such file/, 'and so is a key that is not there');

ok(!-s file('secrets'), 'no secret of a session is written where the environment asks for it');
$fetcher->{run}->signal('TERM');
$fetcher->{run}->finish;
$node->stop;
done_testing();
