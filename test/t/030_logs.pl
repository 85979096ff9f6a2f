# With every log setting that shows statements turned on, no key that passed through a public function reaches a log or a statistic.
use strict;
use warnings;
use lib 'lib';
use MrPrompt qw(new_cluster wait_until);
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_cluster('logs', preload => 0, conf => q(
shared_preload_libraries = 'pg_stat_statements, auto_explain, mrprompt'
logging_collector = on
log_rotation_size = 0
log_destination = 'stderr,csvlog,jsonlog'
log_statement = 'all'
log_duration = on
log_min_duration_statement = 0
log_parameter_max_length = -1
log_parameter_max_length_on_error = -1
log_min_messages = debug1
log_min_error_statement = debug5
log_error_verbosity = verbose
debug_print_parse = on
debug_print_rewritten = on
debug_print_plan = on
auto_explain.log_min_duration = 0
auto_explain.log_analyze = on
auto_explain.log_verbose = on
auto_explain.log_nested_statements = on
pg_stat_statements.track = all
pg_stat_statements.track_planning = on
deadlock_timeout = 1h
));
$node->safe_psql('postgres', 'create extension pg_stat_statements; select mrprompt.add_user(login_role => current_user)');

my @keys;
sub key { push @keys, sprintf 'sk-logged-secret-%04d', scalar @keys; return $keys[-1] }
sub fill { my ($text) = @_; $text =~ s/%s/key()/ge; return $text }

# Right ways to hand a key over.
my $counted = q(select count(*) from pg_stat_statements where query ~ 'sk-logged');
my $id = $node->safe_psql('postgres', fill(q(select mrprompt.add_key('openai', '%s'))));
my @right = (
    # Statistics that are lost between a statement's analysis and its planning or its end.
    q(select pg_stat_statements_reset(), mrprompt.add_key('openai', '%s')),
    q(prepare r as select mrprompt.add_key('openai', '%s'); select pg_stat_statements_reset(); execute r),
    q(do $$ declare p text := 'openai'; begin for i in 1..2 loop perform pg_stat_statements_reset(); perform mrprompt.add_key(p, '%s'); end loop; end $$),
    q(begin; declare c cursor for with given as (values ('%s')) select mrprompt.mask_key(column1) from given; fetch c; select pg_stat_statements_reset(); commit),
    qq(select mrprompt.update_key('$id', '%s')),
    q(select length(mrprompt.encrypt_key('%s')), mrprompt.mask_key('%s'), mrprompt.hash_key('%s')),
    q(SELECT "mrprompt".ADD_KEY(provider => 'openai', api_key => $x$%s$x$)),
    q(prepare p (text) as select mrprompt.add_key('openai', $1); execute p('%s'); explain analyze execute p('%s'); deallocate p),
    q(prepare q as select mrprompt.add_key('openai', '%s'); execute q),
    q(do $$ declare id uuid; begin id := mrprompt.add_key('openai', '%s'); raise notice 'stored %s'; end $$),
    q(do $$ begin execute 'select mrprompt.add_key($1, $2)' using 'openai', '%s'; end $$),
    q(explain (analyze, verbose) select mrprompt.add_key('openai', '%s')),
    q(copy (select mrprompt.mask_key('%s')) to stdout),
    q(create temp table made as select mrprompt.mask_key('%s') as masked),
    q(begin; declare c cursor for select mrprompt.mask_key('%s'); fetch c; commit),
    q(create function pg_temp.store(api_key text) returns uuid language plpgsql as $$ begin return mrprompt.add_key('openai', api_key); end $$\\; select pg_temp.store('%s')),
    q(with given as (values ('%s')) select mrprompt.add_key('openai', column1) from given),
    qq{select mrprompt.add_key /* a (b /* c */ */ ('openai', '%s')},
    qq{select mrprompt.add_key -- a (\n  ('openai', '%s')},
    qq{select mrprompt."add_key"\f('openai', '%s')},
    q{select mrprompt.U&"add\\005fkey"('openai', '%s')},
    q{select mrprompt.U&"add!005fkey" UESCAPE '!' ('openai', '%s')},
    q(select mrprompt.mask_key('%s'), pg_sleep(0.01); select 2),
    q(set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0; set force_parallel_mode = on;
      select count(mrprompt.mask_key('%s' || relname)) from pg_class),
);
$right[-1] =~ s/force_parallel_mode/debug_parallel_query/ if $node->pg_version >= 16;
for my $statement (@right)
{
    my ($code, $out, $err) = $node->psql('postgres', fill($statement), on_error_stop => 1);
    is($code, 0, "done: $statement") or diag $err;
    is($node->safe_psql('postgres', $counted), '0', 'its key is no statistic');
}

# Wrong ones.
for my $statement (
    q(select mrprompt.add_key('nowhere', '%s')),
    q(select mrprompt.add_key('openai', ' %s')),
    q(select mrprompt.add_key('openai', "%s")),
    q(select mrprompt.add_key('openai', '%s') from nowhere),
    q(select mrprompt.add_key('openai', '%s', shared => '%s')),
    q(select mrprompt.add_key('openai', '%s', '{"a": %s}')),
    q(do $$ begin perform mrprompt.add_key('openai', '%s'); perform 1 / 0; end $$),
    q(do $$ begin raise exception 'add_key(%s)'; end $$),
    q(prepare p (text) as select mrprompt.add_key('openai', $1); execute p('%s', '%s')),
    q(set statement_timeout = 20; select mrprompt.mask_key('%s'), pg_sleep(10)),
    q(select mrprompt.import_key(null, 'openai', '%s', '%s')),
    q(select * from mrprompt.adopt_api_keys('nowhere', '%s')))
{
    my ($code) = $node->psql('postgres', fill($statement), on_error_stop => 1);
    isnt($code, 0, "refused: $statement");
}

# As parameters of the protocol, which is how applications and PostgREST send them; then by EXECUTE of what the protocol prepared.
for my $mode (qw(extended prepared))
{
    my $script = PostgreSQL::Test::Utils::tempdir() . '/script.sql';
    append_to_file($script, "select mrprompt.add_key('openai', :key);\n");
    # Its text does not name the function, but its session has prepared a statement that does.
    append_to_file($script, fill(q(do $$ begin execute 'execute ' || (select quote_ident(name) from pg_prepared_statements where parameter_types = '{text}' limit 1) || '(''%s'')'; end $$;)) . "\n")
        if $mode eq 'prepared';
    append_to_file($script, "select mrprompt.add_key('nowhere', :key);\n");
    my ($out, $err) = run_command([ 'pgbench', '-h', $node->host, '-p', $node->port, '-n', '-t', '1', '-M', $mode, '-D', 'key=' . key(), '-f', $script, 'postgres' ]);
    like($err, qr/there is no provider of that name/, "parameters ($mode)");
}
cmp_ok($node->safe_psql('postgres', 'select count(*) from mrprompt.api_keys'), '>=', 10, 'keys were stored all the way');

is($node->safe_psql('postgres', $counted), '0', 'pg_stat_statements shows no key');
cmp_ok($node->safe_psql('postgres', q(select count(*) from pg_stat_statements where query ~* 'add_key')), '>=', 5, 'but the statements');

# While their sessions go on: what they are shown with.
my $shown = q(select count(*) from pg_stat_activity where query ~ 'sk-[l]ogged');
for my $statement (q(select mrprompt.add_key('openai', '%s', 'no json')), q(select mrprompt.add_key('openai', '%s') from nowhere), q(select mrprompt.add_key('openai', '%s')))
{
    my $session = $node->background_psql('postgres', on_error_stop => 0);
    my $pid = $session->query('select pg_backend_pid()');
    $session->query(fill($statement));
    is($node->safe_psql('postgres', "$shown and pid = $pid"), '0', "pg_stat_activity does not show the key of: $statement");
    isnt($node->safe_psql('postgres', "select query from pg_stat_activity where pid = $pid"), '', 'but something');
    $session->{stderr} = '';
    $session->quit;
}

# A deadlock: whom it befalls writes what the other runs into the log.
$node->safe_psql('postgres', 'create table one (id uuid); create table two (id uuid)');
for my $statement (q(insert into two values (mrprompt.add_key('openai', '%s'))), q(execute p('%s')))
{
    my ($storing, $other) = map { $node->background_psql('postgres', on_error_stop => 0) } 1, 2;
    my $pid = $storing->query('select pg_backend_pid()');
    $storing->query(q(prepare p (text) as insert into two values (mrprompt.add_key('openai', $1))));
    $other->query(q(set deadlock_timeout = '10ms'));
    $_->query('begin') for $storing, $other;
    $storing->query('lock table one');
    $other->query('lock table two');
    $storing->query_until(qr/waits/, "\\echo waits\n" . fill($statement) . ";\n");
    ok(wait_until(sub { $node->safe_psql('postgres', "select wait_event_type = 'Lock' from pg_stat_activity where pid = $pid") eq 't' }, 60), 'it waits');
    $other->query('lock table one');
    like($other->{stderr}, qr/deadlock detected/, "a deadlock with: $statement");
    $_->{stderr} = '' for $storing, $other;
    $other->query('rollback');
    $storing->query('commit');
    $_->quit for $storing, $other;
}
like(slurp_file((glob($node->data_dir . '/log/*.log'))[0]), qr/deadlock detected\n.*DETAIL:  Process \d+ waits for/, 'its detail is logged, without the statements');

# Nobody keeps a change of tables or roles out of the log by a comment.
my @commands = (q{drop table one /* add_key('x') */}, q{/* mask_key('x') */ create role intruder superuser -- add_key(}, q{DROP /* hash_key(1) */ TABLE two});
$node->safe_psql('postgres', $_) for @commands;
my $hidden = 'a secret password';
$node->safe_psql('postgres', "alter role intruder password $_ /* add_key( */") for "'$hidden'", "\$\$$hidden\$\$", "E'$hidden'";
my $others = 'an ordinary statement';
$node->safe_psql('postgres', "select '$others'");

is($node->safe_psql('postgres', q(select count(*) from mrprompt.doctor() where finding ~ 'names pg_stat_statements behind')), '0', 'the order of libraries is as it should be');
$node->stop;
for my $place ($node->data_dir, $node->basedir)
{
    my ($stdout) = run_command([ 'grep', '-rlaE', 'sk-logged-secret-0', $place ]);
    is($stdout, '', 'no key in ' . ($place =~ s/.*\///r)) or diag((run_command([ 'grep', '-rhaE', 'sk-logged-secret-0', glob("$place/log/*.log") ]))[0]);
}
my @logs = glob($node->data_dir . '/log/*');
is(scalar @logs, 3, 'three kinds of log');
for my $file (@logs)
{
    my ($kind, $log) = ($file =~ /\.(\w+)$/, slurp_file($file));
    like($log, qr/\Q$others\E/, "$kind: others' statements are logged whole");
    like($log, qr/duration: [\d.]+ ms  a statement that carries an API key/, "$kind: the durations of these are");
    like($log, qr/a statement that carries an API key failed/, "$kind: their failures are");
    like($log, qr/a statement that carries an API key: $_/, "$kind: a comment does not hide: $_") for 'drop table one ', ' ?create role intruder superuser ', 'DROP  TABLE two', 'alter role intruder password ';
    unlike($log, qr/$hidden/, "$kind: and literals are not shown");
}

$node->append_conf('postgresql.conf', "shared_preload_libraries = 'mrprompt, pg_stat_statements'\n");
$node->start;
$node->safe_psql('postgres', 'create role dba login; grant mrprompt_admin to dba');
is($node->safe_psql('postgres', q(select count(*) from mrprompt.doctor() where finding ~ 'names pg_stat_statements behind'), extra_params => [ '-U', 'dba' ]),
    '1', 'doctor() tells an admin of libraries in the wrong order');
$node->psql('postgres', 'create table files (hash text unique); insert into files values (1), (1)');
like(slurp_file((glob($node->data_dir . '/log/*.log'))[-1]), qr/duplicate key value violates unique constraint "files_hash_key"/, 'names that only look alike are logged');
$node->stop;
done_testing();
