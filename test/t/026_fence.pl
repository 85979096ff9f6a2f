# The fence around the local fetcher: what it forbids, tried by a program behind the same fence; and the living
# fetcher behind it, which still resolves names, speaks TLS and chats.
use strict;
use warnings;
use lib 'lib';
use IO::Socket::UNIX;
use MrPrompt qw(new_cluster start_provider certificate_directory wait_until source_path);
use PostgreSQL::Test::Utils;
use Test::More;

# --- the probe, without the fence and behind it
my $place = PostgreSQL::Test::Utils::tempdir_short();
my $certificates = certificate_directory();
append_to_file("$certificates/ca.pem", "nothing\n");
my $listener = IO::Socket::UNIX->new(Local => "$place/socket", Listen => 8) or die "$place/socket: $!";
sub probe
{
    my (@options) = @_;
    append_to_file("$place/$_", "content\n") for qw(secret mine);
    my ($out, $err) = run_command([ source_path('build', 'fence-probe'), @options, $place, $certificates ]);
    unlink glob("$place/mine*"), "$place/new", "$place/link";
    rmdir "$place/directory";
    diag $err if $err ne '';
    return ($out, map { /^([a-z]\S*) +(allowed|E[A-Z0-9]+)$/ ? ($1 => $2) : () } split /\n/, $out);
}
my ($text, %free) = probe('--unfenced');
my ($fenced_text, %fenced) = probe();
my ($landlock) = $text =~ /^landlock (\d+)$/m;
note $fenced_text;

# What a process of the server's user can do, and one behind the fence cannot; by which version of Landlock.
my %by_landlock = ('read-secret' => 1, 'read-passwd' => 1, 'read-passwd-in-thread' => 1, 'read-process' => 1, 'list-directory' => 1, 'list-etc-ssl' => 1,
    'device' => 1,
    'bind' => 4);
for my $deed (sort keys %by_landlock)
{
    is($free{$deed}, 'allowed', "$deed: works without the fence");
    SKIP: {
        skip("THIS KERNEL'S LANDLOCK IS TOO OLD FOR IT (version $landlock)", 1) if $landlock < $by_landlock{$deed};
        is($fenced{$deed}, 'EACCES', "$deed: refused behind it");
    }
}
my %by_seccomp = (map({ $_ => 'EPERM' } qw(write create create-in-tmp open-writing open-truncating creat chmod fchmodat2 chown touch truncate
        make-directory remove-directory link hard-link linkat rename renameat2 unlink make-fifo
        execve execveat fork spawn signal signal-thread signal-by-fcntl signal-by-wide-fcntl signal-by-FIOSETOWN signal-by-SIOCSPGRP pidfd_open
        shared-memory socketpair-datagram socketpair-raw socketpair-packets listen)),
    openat2 => 'ENOSYS', 'unix-socket' => 'EAFNOSUPPORT');
for my $deed (sort keys %by_seccomp)
{
    # An older kernel has no fchmodat2; a container's own filter may refuse some.
    like($free{$deed}, $deed =~ /fchmodat2|pidfd/ ? qr/^(allowed|ENOSYS|EPERM)$/ : qr/^allowed$/, "$deed: works without the fence");
    is($fenced{$deed}, $by_seccomp{$deed}, "$deed: refused behind it");
}
# What fails for most users anyway, but by the fence's own word.
my %any_way = (map({ $_ => 'EPERM' } qw(ptrace process_vm_readv process_vm_writev pidfd_getfd netlink-audit io_uring_setup bpf userfaultfd
        perf_event_open keyctl unshare setns mount kexec_load init_module open_by_handle_at type-into-terminal)),
    map({ $_ => 'EAFNOSUPPORT' } qw(abstract-socket packet-socket vsock)));
is($fenced{$_}, $any_way{$_}, "$_: refused") for sort keys %any_way;
is($fenced{$_}, 'allowed', "$_: goes on") for qw(read-ca-file read-system-library read-hosts resolve-localhost tcp udp socketpair signal-itself);
unlike($fenced_text, qr/^gap/m, 'the fence has no gap') if $landlock > 0;

# --- the living fetcher
my $tls = start_provider(tls => 1);
my $plain = start_provider();
my ($tls_port, $base) = ($tls->port, $plain->url);
my $ca_file = $tls->{ca_file};
my ($outside, $late) = ("$place/ca.pem", PostgreSQL::Test::Utils::tempdir_short() . '/late');
system_or_bail('cp', $ca_file, $outside);
# Where it can be asked what it was given: a script that looks around and becomes the fetcher.
my ($bindir) = run_command([ 'pg_config', '--bindir' ]);
append_to_file("$place/fetcher", "#!/bin/sh\n{ tr '\\0' '\\n' </proc/\$\$/environ; for fd in /proc/\$\$/fd/*; do readlink \$fd; done; } >>$place/given\nexec $bindir/mrprompt-fetcher \"\$@\"\n");
chmod 0755, "$place/fetcher";
local @ENV{qw(HTTPS_PROXY https_proxy http_proxy ALL_PROXY SSL_CERT_FILE PGPASSWORD LD_LIBRARY_PATH)} =
    (('http://127.0.0.1:9') x 4, '/no/such/file', 'secret', '/no/such/directory');
my $node = new_cluster('fence', conf => "mrprompt.fetcher_path = '$place/fetcher'\nmrprompt.heartbeat_interval = 300\n");
sub ask { return $node->safe_psql('postgres', $_[0]) }
ask(qq(
    select mrprompt.add_user(login_role => current_user);
    insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private, ca_file, backoff_base_ms, cooldown_percent) values
        ('plain', 'openai', '$base/v1', true, true, null, 10, 0),
        ('named', 'openai', 'http://localhost:@{[ $plain->port ]}/v1', true, true, null, 10, 0),
        ('inside', 'openai', 'https://127.0.0.1:$tls_port/v1', false, true, '$ca_file', 10, 0),
        ('outside', 'openai', 'https://127.0.0.1:$tls_port/v1', false, true, '$outside', 10, 0),
        ('late', 'openai', 'https://127.0.0.1:$tls_port/v1', false, true, '$late/ca.pem', 10, 0);));
# The request's columns once it has ended.
sub chat
{
    my ($provider, $columns, $prompt) = @_;
    my $id = ask(sprintf q(select mrprompt.chat_text('%s', 'm', '%s', options => '{"max_failures": 1}')), $prompt // 'hi', $provider);
    wait_until(sub { ask("select finished_at is not null from mrprompt.requests where id = '$id'") eq 't' }, 60)
      or BAIL_OUT('it does not end: ' . ask("select * from mrprompt.requests where id = '$id'"));
    return ask("select $columns from mrprompt.requests where id = '$id'");
}
is(chat('plain', 'status'), 'succeeded', 'the fenced fetcher chats');
is(chat('named', 'status'), 'succeeded', 'it resolves names');
is(chat('inside', 'status'), 'succeeded', 'it trusts a ca_file in a directory of mrprompt.certificate_directories');
SKIP: {
    skip('THIS KERNEL HAS NO LANDLOCK', 3) if $landlock == 0;
    is(chat('outside', 'status, error_type'), 'failed|tls_failed', 'and none in another');
    my $message = chat('outside', 'error_message');
    like($message, qr/mrprompt\.certificate_directories/, 'the error names the setting');
    like($message, qr/\Q$outside\E/, 'and the file');
}

sub fetcher { return ask('select fetcher_pids[1] from mrprompt_internal.server_state()') }
sub of_process { my ($pid, $file) = @_; return slurp_file("/proc/$pid/$file") }
my $pid = fetcher();
my $status = of_process($pid, 'status');
like($status, qr/^NoNewPrivs:\t1$/m, 'it has no new privileges');
like($status, qr/^Seccomp:\t2$/m, 'a seccomp filter is in force');
like(of_process($pid, 'limits'), qr/^Max core file size\s+0\s+0\s/m, 'it dumps no core');
is((stat "/proc/$pid/mem")[4], 0, 'nobody of its own user may look into it');
ok(!open(my $memory, '<', "/proc/$pid/mem"), 'or read its memory') if $> != 0;
my $given = slurp_file("$place/given");
unlike($given, qr/=/, 'its environment is empty') or diag $given;
unlike($given, qr/\Q@{[ $node->data_dir ]}\E/, 'no file of the data directory came along') or diag $given;
is(() = $given =~ /^socket:/mg, 1, 'one socket came along, to its supervisor') or diag $given;

# --- the setting is changed under it: the next fetcher has another fence, the old one ends what it has begun
SKIP: {
    skip('THIS KERNEL HAS NO LANDLOCK', 6) if $landlock == 0;
    my $running = ask(q(select mrprompt.chat_text('fake?delay=3000', 'm', 'plain')));
    wait_until(sub { ask("select status from mrprompt.requests where id = '$running'") eq 'running' }, 30);
    $node->append_conf('postgresql.conf', "mrprompt.certificate_directories = '$certificates, $place, $late'\n");
    $node->reload;
    ok(wait_until(sub { chat('outside', 'status') eq 'succeeded' }, 30), 'a directory is allowed by a reload');
    ok(wait_until(sub { ask("select status from mrprompt.requests where id = '$running'") eq 'succeeded' }, 30), 'what ran goes on to its end');
    is(ask("select attempts from mrprompt.requests where id = '$running'"), 1, 'in one attempt');
    ok(wait_until(sub { !kill 0, $pid }, 30), 'then its fetcher is gone');
    like(chat('late', 'error_message'), qr/No such file/, 'a directory of the setting that is not there');
    mkdir $late or die "$late: $!";
    system_or_bail('cp', $ca_file, "$late/ca.pem");
    ok(wait_until(sub { chat('late', 'status') eq 'succeeded' }, 30), 'is allowed once it is');
}
my ($code, $out, $err) = $node->psql('postgres', q(alter system set mrprompt.certificate_directories = 'certificates'));
like($err, qr/absolute paths/, 'a relative path is refused');
unlike(slurp_file($node->logfile), qr/not fenced off|mrprompt-fetcher.*(exited|terminated)/, 'the log has no complaint') if $landlock > 0;

$node->stop;
done_testing();
