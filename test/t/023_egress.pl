# Where requests go: to the hosts of provider rows and nowhere else, whatever names stand for, answers say or the environment holds.
use strict;
use warnings;
use lib 'lib';
use Digest::SHA qw(sha256_hex);
use MrPrompt qw(new_cluster start_provider start_fetcher wait_until);
use MrPrompt::Proxy;
use PostgreSQL::Test::Utils;
use Test::More;

my ($provider, $other, $local, $trap) = map { start_provider() } 1 .. 4;
my $tls = start_provider(tls => 1);
my ($port, $other_port, $local_port, $tls_port) = map { $_->port } $provider, $other, $local, $tls;
my ($base, $other_base) = ($provider->base_url, $other->base_url);
my $node = new_cluster('egress', conf => "mrprompt.local_fetcher = off\nmrprompt.heartbeat_interval = 200\nmrprompt.max_failures = 1\n");
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub refused
{
    my ($code, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$_[0]");
    return $err;
}
sub provider { my ($name, $url, %more) = @_;
    my $columns = join '', map { ", $_" } sort keys %more;
    my $values = join '', map { ", $more{$_}" } sort keys %more;
    return "insert into mrprompt.providers (name, protocol, base_url, cooldown_percent$columns) values ('$name', 'openai', '$url', 0$values)" }
# Asks, and answers what became of it: the columns, as psql prints them.
sub ask
{
    my ($provider, $prompt, $columns) = @_;
    my $id = sql("select mrprompt.chat_text('$prompt', 'm', '$provider')");
    wait_until(sub { sql("select finished_at is not null from mrprompt.requests where id = '$id'") eq 't' }, 60)
        or BAIL_OUT('it does not end: ' . sql("select * from mrprompt.requests where id = '$id'"));
    return sql('select ' . ($columns // 'status') . " from mrprompt.requests where id = '$id'");
}

# An environment that wants everything to go elsewhere.
my $home = PostgreSQL::Test::Utils::tempdir();
append_to_file("$home/.netrc", "machine 127.0.0.1 login somebody password sesame\ndefault login anybody password sesame\n");
append_to_file("$home/.curlrc", "proxy = http://127.0.0.1:" . $trap->port . "\n");
chmod 0600, "$home/.netrc";
my %elsewhere = map { $_ => 'http://127.0.0.1:' . $trap->port } qw(http_proxy HTTP_PROXY https_proxy HTTPS_PROXY all_proxy ALL_PROXY);
sql(q(select mrprompt.add_user(login_role => current_user); create role fetcher_login login in role mrprompt_fetcher));
my $fetcher = start_fetcher($node, environment => { %elsewhere, HOME => $home, NETRC => "$home/.netrc", CURL_HOME => $home });

# --- addresses
like(refused(provider('plain', "https://127.0.0.1:$port/v1")), qr/PT400: the host of provider plain is a loopback address.*HINT: .*allow_private = true/s,
    'a row whose host is written as a private address is refused');
like(refused(provider('meta', 'https://169.254.169.254/latest')), qr/PT400: the host of provider meta is a link-local address/, 'with its kind');
like(refused(provider('here', 'https://localhost/v1')), qr/PT400/, 'and so is this very machine');
like(refused(provider('model', 'https://{model}/v1')), qr/PT400: .*a place for the model in its host/, 'and a host that whoever asks could choose');
# What only shows when it is looked up: PostgreSQL takes 127.1 for a name.
sql(provider('sneaky', "http://127.1:$local_port/v1", allow_http => 'true'));
is(ask('sneaky', 'hi', 'status, error_type, attempts'), 'failed|address_refused|1', 'a name that stands for a private address is refused, for good');
like(sql(q(select error_message from mrprompt.requests where provider = 'sneaky')),
    qr/^the host 127\.1 has the address 127\.0\.0\.1, a loopback address; .*allow_private = true in mrprompt\.providers$/, 'with name, address and the way out');
is($local->stats->{accepted}, 1, 'no connection was made but for this count');
sql(provider('allowed', "http://127.1:$local_port/v1", allow_http => 'true', allow_private => 'true'));
is(ask('allowed', 'hi'), 'succeeded', 'who may, gets there');
is(ask('sneaky', 'hi', 'status, error_type'), 'failed|address_refused', 'and who may not, not by that connection either');
is(scalar($local->requests), 1, 'its server has seen one request');
sql(q(update mrprompt.providers set allow_private = true where name = 'sneaky'));
is(ask('sneaky', 'hi'), 'succeeded', 'until an admin allows it');
sql(q(update mrprompt.providers set allow_private = false where name = 'sneaky'));
is(ask('sneaky', 'hi', 'status, error_type'), 'failed|address_refused', 'and takes it back');
# As a dump of the first release brings it.
sql(qq(insert into mrprompt_internal.provider_rows (name, protocol, base_url, allow_http) values ('restored', 'openai', 'http://localhost:$local_port/v1', true)));
is(sql(q(select finding, remedy from mrprompt.doctor() where finding ~ 'restored')),
    q(The host of provider restored is a name of the machine itself, and its requests are refused.|If that is meant: update mrprompt.providers set allow_private = true where name = 'restored'),
    'the doctor sees a row that cannot work');
like(ask('restored', 'hi', q(error_type || ': ' || error_message)), qr/^address_refused: the host localhost has the address (127\.0\.0\.1|::1), a loopback address;/,
    'as it does not');

# --- keys
sql(provider('one', $base, allow_http => 'true', allow_private => 'true'));
sql(provider('two', $other_base, allow_http => 'true', allow_private => 'true', auth => q('x-api-key')));
sql(q(select mrprompt.add_key('one', 'sk-test-egress-one'), mrprompt.add_key('two', 'sk-test-egress-two')));
sql(provider('keyless', "$base/", allow_http => 'true', allow_private => 'true'));
ask($_, 'hi') for qw(one two one two keyless);
sub keys_of { my %seen = map { $_->{key_sha256} => 1 } $_[0]->requests; return join ' ', sort keys %seen }
is(keys_of($provider), join(' ', sort '', sha256_hex('sk-test-egress-one')), "a provider gets its own key, or none");
is(keys_of($other), sha256_hex('sk-test-egress-two'), 'and so does the other one');
is(join(' ', map { $_->{headers}{authorization} // 'none' } ($provider->requests)[-1]), 'none', "a .netrc adds nothing");

# --- answers that want to be followed
my $seen = scalar $other->requests;
is(ask('one', "fake?redirect=$other_base/chat/completions", 'status, error_type, error_status, attempts'), 'failed|redirected|302|1', 'a redirect is an error');
like(sql(q(select error_message from mrprompt.requests where error_type = 'redirected')), qr/redirects, which is not followed: base_url/, 'that says so');
is(scalar($other->requests), $seen, 'and nothing is sent there');
my $headers = join '%0D%0A', 'application/json', 'Set-Cookie: session=1; Path=/', "Alt-Svc: http/1.1=\":$other_port\"; ma=3600",
    'Strict-Transport-Security: max-age=3600', 'WWW-Authenticate: Basic', 'Proxy-Authenticate: Basic', "Refresh: 0; url=$other_base",
    "Content-Location: $other_base", "Connection: Upgrade", 'Upgrade: h2c';
is(ask('keyless', 'fake?content_type=' . $headers =~ s/([ ;"=&])/sprintf '%%%02X', ord $1/ger), 'succeeded', 'headers that mean to control the client');
ask('keyless', 'what comes behind them');
my ($next) = grep { $_->{body} =~ /what comes behind/ } $provider->requests;
is_deeply([ sort keys %{ $next->{headers} } ], [ sort qw(accept content-length content-type host user-agent) ], 'change nothing of the next request')
    or diag explain $next;
is(scalar($other->requests), $seen, 'nor where it goes');

# --- a proxy, where the row names one
my $way = MrPrompt::Proxy->start($port);
my $socks = 'socks5h://127.0.0.1:' . $way->port;
sql(provider('by-socks', 'http://llm.invalid:8000/v1', allow_http => 'true', proxy => "'$socks'"));
is(ask('by-socks', 'hi'), 'succeeded', 'a proxy for SOCKS looks the name up itself');
is(join(',', $way->asked), 'socks5 llm.invalid:8000', 'and is asked for that');
my $tls_way = MrPrompt::Proxy->start($tls_port);
my $http = 'http://127.0.0.1:' . $tls_way->port;
my $ca = $tls->ca_file;
sql(provider('by-connect', "https://127.0.0.1:$tls_port/v1", proxy => "'$http'", ca_file => "'$ca'"));
is(ask('by-connect', 'hi', q(status, coalesce(error_message, ''))), 'succeeded|', 'a proxy for HTTP is a tunnel for TLS, and its head not that of the answer');
is(join(',', $tls_way->asked), "connect 127.0.0.1:$tls_port", 'it is asked for the place');
is(ask('by-connect', 'fake?status=400', 'status, error_status'), 'failed|400', 'errors are those of the provider');
my $ways = () = $tls_way->asked;
sql(q(update mrprompt.providers set allow_private = true, proxy = null where name = 'by-connect'));
is(ask('by-connect', 'hi'), 'succeeded', 'without it');
is(scalar(() = $tls_way->asked), $ways, 'the way is direct');
sql(provider('by-tls', 'http://llm.invalid:8000/v1', allow_http => 'true', proxy => "'https://127.0.0.1:$tls_port'", ca_file => "'$ca'"));
like(ask('by-tls', 'through TLS', q(error_type || ': ' || error_message)),
    qr/^tls_failed: the certificate of the proxy 127\.0\.0\.1 is signed by itself; .*must be one of the system's/,
    'a proxy that is spoken to by TLS is judged by the CAs of the system: ca_file vouches for the provider only');
is(scalar(grep { $_->{body} =~ /through TLS/ } $tls->requests), 0, 'and gets nothing where it fails');
sql(provider('by-none', "https://127.0.0.1:$tls_port/v1", proxy => "'http://127.0.0.1:$other_port'"));
like(ask('by-none', 'hi', q(error_type || ': ' || error_message)), qr/^connect_failed: .*CONNECT.*404/, 'a proxy that refuses is a connection that failed');

is(join(' ', map { "$_->{method} $_->{path}" } $trap->requests), '', 'what the environment named saw nothing');
is($trap->stats->{accepted}, 1, 'not even a connection, but for this count');

$fetcher->{run}->signal('TERM');
$fetcher->{run}->finish;
$node->stop;
$_->stop for $way, $tls_way, $provider, $other, $local, $trap, $tls;
done_testing();
