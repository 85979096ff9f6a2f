# Nobody reads, writes, becomes or overhears another: every table, view and function is tried in every role.
use strict;
use warnings;
use lib 'lib';
use MrPrompt qw(new_cluster wait_until source_path);
use PostgreSQL::Test::Utils;
use Test::More;

my ($ann, $bob, $pat) = map { "${_}0000000-0000-4000-8000-000000000001" } qw(a b c);
my $node = new_cluster('isolated', conf => "mrprompt.local_fetcher = off\nmrprompt.trusted_logins = 'authenticator'\nmrprompt.lease_timeout = '1 h'\n");
sub sql { my ($query, $database) = @_; return $node->safe_psql($database // 'postgres', $query) }

# A session of somebody: its login, and what PostgREST would set.
my %who = (
    anon => [ 'authenticator', "set role anon; set request.jwt.claims = '{\"sub\": \"$bob\", \"role\": \"anon\"}';" ],
    ann => ['ann'],
    pat => [ 'authenticator', "set role authenticated; set request.jwt.claims = '{\"sub\": \"$pat\", \"role\": \"authenticated\"}';" ],
    analyst => ['analyst'], admin => ['admin'], fetcher => ['fetcher'], stranger => ['stranger']);
my @all = sort keys %who;
$who{reader} = ['reader'];    # of all data, which row-level security goes on holding back

# What somebody's statements answer, and what they say besides (errors and notices).
sub both
{
    my ($name, $script) = @_;
    my ($login, $first) = @{ $who{$name} };
    my ($out, $err) = ('', '');
    $node->psql('postgres', ($first // '') . "\n$script", stdout => \$out, stderr => \$err, on_error_stop => 0, extra_params => [ '-U', $login ]);
    return ($out, $err);
}
sub as { return (both(@_))[0] }
# The same, where nothing may go wrong.
sub calmly { my ($out, $err) = both(@_); return $err !~ /ERROR|FATAL|PANIC/ ? $out : "failed: $err" }

# --- ann, bob and pat have something of everything; whatever is bob's says so

sql(qq(
    create role anon nologin;
    create role authenticated nologin noinherit;
    create role service_role nologin noinherit bypassrls;
    create role authenticator login noinherit in role anon, authenticated, service_role;
    create role ann login in role mrprompt_user;
    create role bob login in role mrprompt_user;
    create role analyst login in role mrprompt_analyst;
    create role admin login in role mrprompt_admin;
    create role fetcher login in role mrprompt_fetcher;
    create role stranger login;
    create role reader login in role pg_read_all_data;
    grant create on schema public to public;
    grant create, temp on database postgres to public;
    select mrprompt.enable_supabase(), mrprompt.add_user('ann', 'anns name', user_id => '$ann'), mrprompt.add_user('bob', 'bobs name', '{"note": "bobs"}', '$bob');
    insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private) values ('fake', 'openai', 'http://127.0.0.1:9/v1', true, true);
    insert into mrprompt.prices (provider, model, input, output) values ('fake', 'fake-1', 0.000001, 0.000002);

    create schema t;
    grant usage on schema t to public;
    create function t.ask(whose text, label text) returns uuid language sql as \$\$
        select mrprompt.chat_text(whose || ' question', model => 'fake-1', provider => 'fake', stream => true, idempotency_key => whose || label,
            metadata => jsonb_build_object('label', label, 'whose', whose)) \$\$;
    create function t.fill(whose text) returns void language plpgsql as \$\$
    begin
        perform mrprompt.add_key('fake', 'sk-test-' || whose || '-000001', jsonb_build_object('agent_name', whose || ' agent'), whose || ' key');
        perform t.ask(whose, label) from unnest(array['done', 'failed', 'in flight', 'cancelled']) label;
        perform mrprompt.chat_batch('["one", "two"]', 'fake-1', 'fake', name => whose || ' batch', metadata => jsonb_build_object('whose', whose));
    end \$\$;));
my %fill = (ann => 'select t.fill($$anns$$)', pat => 'select t.fill($$pats$$)');
as($_, $fill{$_}) for sort keys %fill;
$node->safe_psql('postgres', 'select t.fill($$bobs$$)', extra_params => [ '-U', 'bob' ]);
sql(qq(
    select mrprompt.grant_key(mrprompt.add_key('openai', 'sk-test-shared-00001', '{"agent_name": "bobs agent"}', 'for bob', shared => true), '$bob');
    create table t.fetcher as select (mrprompt_internal.hello('{"contract": 2, "kind": "libpq", "program": "by hand"}') ->> 'fetcher')::uuid as id;
    create function t.args(more jsonb) returns json language sql as \$\$ select (jsonb_build_object('fetcher', id) || more)::json from t.fetcher \$\$;
    select count(*) from mrprompt_internal.claim(t.args('{"room": 100, "bytes": 1000000}'));
    select mrprompt_internal.append(t.args(jsonb_build_object('deltas', jsonb_agg(jsonb_build_object('request', id, 'attempt', 1, 'seq', 1, 'content', metadata ->> 'whose' || ' answer'))))) from mrprompt.requests;
    select mrprompt_internal.settle(t.args(jsonb_build_object('outcomes', jsonb_agg(jsonb_build_object('request', id, 'attempt', 1) || case
        when metadata ->> 'label' = 'done' then jsonb_build_object('result', 'succeeded', 'response', jsonb_build_object('content', metadata ->> 'whose' || ' answer'),
            'usage', '{"prompt_tokens": 9, "completion_tokens": 3}'::jsonb, 'provider_request_id', metadata ->> 'whose')
        else jsonb_build_object('result', 'failed', 'error', jsonb_build_object('status', 400, 'type', 'bad', 'message', metadata ->> 'whose' || ' error'),
            'cooldown', '{"reason": "auth", "ms": 600000}'::jsonb) end))))
    from mrprompt.requests where metadata ->> 'label' in ('done', 'failed');
    insert into mrprompt_internal.cancels (request_id) select id from mrprompt.requests where metadata ->> 'label' = 'cancelled';
    analyze;));
$node->safe_psql('postgres', 'select t.ask($$bobs$$, $$queued$$)', extra_params => [ '-U', 'bob' ]);
sql(qq(
    create view t.bobs as
        select id, 'request' as kind from mrprompt.requests where user_id = '$bob' union all select id, 'batch' from mrprompt.batches where user_id = '$bob'
        union all select id, 'key' from mrprompt.api_keys where user_id = '$bob' or name = 'for bob' union all select '$bob', 'user';
    create table t.marks as select string_agg(id::text, '|') || '|bobs' as ids, 'bobs (question|answer|error|key|batch|name|shared)'::text as words from t.bobs;
    grant select on t.marks to public;));
is(sql('select string_agg(kind || n, $$ $$ order by kind) from (select kind, count(*) as n from t.bobs group by 1) k'), 'batch1 key2 request7 user1', 'bob has something of everything');

# --- tables and views

sql(q(
    create table t.relations as select c.oid, c.oid::regclass::text as name, relkind, row_number() over (order by c.oid::regclass::text) as n
    from pg_class c where relnamespace in ('mrprompt'::regnamespace, 'mrprompt_internal'::regnamespace) and relkind in ('r', 'p', 'v', 'S');
    grant select on t.relations to public;
    create function t.attempt(statement text, read boolean, out state text, out message text, out answer text) language plpgsql as $$
    begin
        if read then
            execute 'select string_agg(x::text, chr(10)) from (' || statement || ') x' into answer;
            state := 'done';
        else
            execute statement;
            raise exception using errcode = 'ZZ000';
        end if;
    exception
    when sqlstate 'ZZ000' then
        -- Undone, so that each finds what there was.
        state := 'done';
    when others then
        get stacked diagnostics state = returned_sqlstate, message = message_text, answer = pg_exception_detail;
    end $$;
    -- All that somebody can read of a relation.
    create function t.visible(relation t.relations) returns text language sql as $$
        select 'select ' || coalesce((select string_agg(quote_ident(attname), ', ') from pg_attribute a where attrelid = relation.oid and attnum > 0
            and not attisdropped and has_column_privilege(relation.oid, attnum, 'select')), '*') || ' from ' || relation.name $$;
    -- Every statement that would change or hold a relation.
    create function t.writes(relation t.relations) returns setof text language sql as $$
        select format(s, relation.name, (select quote_ident(attname) from pg_attribute where attrelid = relation.oid and attnum = 1)) from unnest(case relation.relkind
            when 'S' then array['select nextval(''%1$s'')', 'select setval(''%1$s'', 5)', 'select last_value from %1$s']
            else array['insert into %1$s default values', 'update %1$s set %2$s = %2$s', 'delete from %1$s', 'truncate %1$s', 'select from %1$s for update', 'select from %1$s for share',
                'lock table %1$s in row exclusive mode', 'lock table %1$s in access exclusive mode',  'copy %1$s from program ''true''', 'copy %1$s to program ''cat >/dev/null'''] end) s $$;));
my $reads = q(from t.relations r, t.attempt(t.visible(r), true) a);
my %readable = map { $_ => calmly($_, "select count(*) $reads where a.state = 'done'") } @all;
is(join(' ', map { "$_ $readable{$_}" } grep { $readable{$_} < 15 } @all), 'anon 0 fetcher 0 stranger 0', 'anon, fetcher and strangers read no table and no view, the others do');
is(calmly($_, "select r.name $reads, t.marks m where a.answer ~ m.ids"), '', "$_ sees no row of bob's in any of $readable{$_} tables and views") for qw(ann pat);
is(calmly('analyst', "select r.name $reads, t.marks m where a.answer ~ m.words"), '', 'an analyst sees no word of bob\'s');
like(as('admin', "select string_agg(r.name, ' ') $reads, t.marks m where a.answer ~ m.words"), qr/mrprompt.requests/, 'an admin does');
like(as('ann', "select string_agg(r.name, ' ' order by r.name) $reads where a.answer ~ 'anns'"), qr/attempts.*batch_progress.*deltas.*failed_requests.*responses.*attempt_errors/s, 'ann sees what is hers');
is(as('admin', "select string_agg(r.name, ' ' order by r.name) $reads where a.state = 'done' and r.name like 'mrprompt_internal.%'"),
    'mrprompt_internal.attempt_errors mrprompt_internal.forgets mrprompt_internal.model_presets mrprompt_internal.model_rows mrprompt_internal.price_presets mrprompt_internal.price_rows mrprompt_internal.provider_presets mrprompt_internal.provider_rows mrprompt_internal.usage_rollups mrprompt_internal.usage_watermark',
    'inside an admin reads what views show, and neither queue nor sealed things');
is(calmly('reader', "select r.name $reads where a.answer <> '' and r.relkind <> 'S'"), '', 'who reads all data by pg_read_all_data sees no row');
is(as($_, 'select state from t.attempt($$select encrypted_key from mrprompt.api_keys$$, true)'), '42501', "$_ reads no sealed key") for @all;
my $writes = q(from t.relations r, t.writes(r) s, t.attempt(s, false) a where a.state not in ('42501', '55000', '42809'));
# 55000 and 42809: no view takes that. A lock of rows does not reach behind these views.
is(calmly($_, "select r.name || ': ' || s || ' ' || a.state $writes order by 1"), $_ eq 'admin' ? join("\n",
        'mrprompt.models: delete from mrprompt.models PT400', 'mrprompt.models: insert into mrprompt.models default values PT400',
        'mrprompt.models: select from mrprompt.models for share done', 'mrprompt.models: select from mrprompt.models for update done', 'mrprompt.models: update mrprompt.models set provider = provider done',
        'mrprompt.prices: delete from mrprompt.prices PT400', 'mrprompt.prices: insert into mrprompt.prices default values PT400', 'mrprompt.prices: update mrprompt.prices set provider = provider done',
        'mrprompt.providers: delete from mrprompt.providers PT400', 'mrprompt.providers: insert into mrprompt.providers default values PT400',
        'mrprompt.providers: select from mrprompt.providers for share done', 'mrprompt.providers: select from mrprompt.providers for update done', 'mrprompt.providers: update mrprompt.providers set name = name done')
    : '', "$_ writes " . ($_ eq 'admin' ? 'providers, prices and models only' : 'none')) for @all;

# --- functions

sql(qq(
    create function t.value(name text, type oid) returns text language sql as \$\$
        select case when name in ('provider', 'default_provider') then 'fake' when name = 'model' then 'fake-1' when name = 'api_key' then 'sk-test-other-00001'
            when name = 'messages' and type <> 'json[]'::regtype then '[{"role": "user", "content": "hi"}]' when name = 'body' then '{"messages": [{"role": "user", "content": "hi"}]}' when name = 'requests' then '["hi"]'
            else case type::regtype::text when 'text' then 'x' when 'name' then 'x' when 'character varying' then 'x' when 'json' then '{}' when 'jsonb' then '{}' when 'boolean' then 'false'
                when 'interval' then '10 milliseconds' when 'timestamp with time zone' then case when name <> 'expires_at' then '2000-01-01' end when 'uuid[]' then '{}' when 'json[]' then '{}' when 'text[]' then '{}'
                when 'uuid' then case when name not in ('for_user', 'key_id', 'batch') then '99999999-0000-7000-8000-000000000009' end
                when 'integer' then '1' when 'bigint' then '1' when 'smallint' then '1' when 'xid' then '1' when 'double precision' then '1' end end \$\$;
    create view t.parameters as
        select p.oid, p.oid::regprocedure::text as function, p.prokind, a.name, a.type, a.place, a.place > p.pronargs - p.pronargdefaults as optional
        from pg_proc p
        cross join lateral (select name, type, row_number() over (order by n) as place from unnest(p.proargnames, coalesce(p.proallargtypes, p.proargtypes::oid[]), p.proargmodes) with ordinality u (name, type, mode, n)
            where coalesce(mode, 'i') in ('i', 'b')) a
        where p.pronamespace in ('mrprompt'::regnamespace, 'mrprompt_internal'::regnamespace) and p.prorettype <> 'trigger'::regtype;
    -- A call with this id in this place, and something plausible elsewhere; no literal has a type, so that no name is looked up.
    create function t.call(function_ oid, parameter text, id text) returns text language sql as \$\$
        select case prokind when 'p' then 'call ' else 'select * from ' end || pronamespace::regnamespace || '.' || proname || '(' || coalesce((
            select string_agg(format('%s => %L', name, case when name = parameter then case when type = 'uuid[]'::regtype then '{' || id || '}' else id end else t.value(name, type) end), ', ' order by place)
            from t.parameters a where a.oid = p.oid and (name = parameter or not optional or name in ('provider', 'model', 'timeout'))), '') || ')' from pg_proc p where oid = function_ \$\$;
    -- Each function with each id of bob's in each place for one, and the same with an id that nobody has.
    create table t.calls as
        select a.oid, a.function, a.name, t.call(a.oid, a.name, b.id::text) as bobs, t.call(a.oid, a.name, '99999999-0000-7000-8000-000000000009') as nobodys
        from t.parameters a, t.bobs b where a.type in ('uuid'::regtype, 'uuid[]'::regtype) and a.prokind = 'f';
    create table t.functions as select p.oid, p.oid::regprocedure::text as function, t.call(p.oid, null, null) as statement
        from pg_proc p where pronamespace in ('mrprompt'::regnamespace, 'mrprompt_internal'::regnamespace) and prokind = 'f' and prorettype <> 'trigger'::regtype;
    grant select on t.calls, t.functions to public;
    create function t.bobs_rows() returns text language plpgsql as \$\$
    declare
        relation text; part text; rows_ text := ''; marks text := (select ids from t.marks);
    begin
        for relation in select name from t.relations where relkind = 'r' and name not like '%audit_log' order by name loop
            execute format('select string_agg(x::text, chr(10) order by x::text) from %s x where x::text ~ \$1', relation) into part using marks;
            rows_ := rows_ || coalesce(relation || chr(10) || part || chr(10), '');
        end loop;
        return rows_;
    end \$\$;));
my $before = sql('select t.bobs_rows()');
like($before, qr/api_keys.*mrprompt.batches.*deltas.*key_grants.*requests.*responses.*usage_.*mrprompt.users.*attempt_errors.*cancels.*cooldowns.*queue/s, 'bob has rows everywhere');

is(as($_, q(select count(*) from t.functions where has_function_privilege(oid, 'execute') and has_schema_privilege((select pronamespace from pg_proc p where p.oid = functions.oid), 'usage'))), '0', "$_ may call no function") for qw(anon stranger);
is(calmly($_, q(select f.function || ' ' || a.state from t.functions f, t.attempt(f.statement, true) a where a.state <> '42501' and not has_function_privilege(f.oid, 'execute'))), '', "what $_ may not call is refused") for @all;
for my $call (qw(hello claim append settle heartbeat tend fetcher_gone))
{
    is(join(' ', grep { as($_, "select has_function_privilege(p.oid, 'execute') from pg_proc p where oid::regproc = 'mrprompt_internal.$call'::regproc") eq 't' } @all), 'fetcher', "$call is the fetcher's");
}
# These tell something of the id itself, or seal with chance.
my $compared = q(c.function !~ 'slot_of|uuid_time|change_counter|wait_for_change|encrypt_key');
my $ids = q('[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}');
for my $name (qw(ann pat analyst))
{
    my $answers = qq(from t.calls c, t.marks m, t.attempt(c.bobs, true) a, t.attempt(c.nobodys, true) n where has_function_privilege(c.oid, 'execute'));
    cmp_ok(as($name, "select count(distinct c.function) from t.calls c where has_function_privilege(c.oid, 'execute')"), '>', $name eq 'analyst' ? 1 : 20, "$name has functions to try with bob's ids");
    my @answers = split /\n/, calmly($name, qq(select c.bobs || ': ' || a.state || ' ' || concat_ws(' ', a.message, a.answer) || case when a.answer ~ m.words then ' LEAKS' else '' end
            || case when $compared and (a.state, regexp_replace(concat_ws(' ', a.message, a.answer), $ids, 'ID', 'g')) is distinct from (n.state, regexp_replace(concat_ws(' ', n.message, n.answer), $ids, 'ID', 'g'))
                then ' TELLS, as for nobody''s id it is ' || n.state || ' ' || concat_ws(' ', n.message, n.answer) else '' end $answers));
    is(join("\n", grep { / LEAKS| TELLS/ } @answers), '', "$name is answered as for an id that nobody has");
    if ($name ne 'analyst')
    {
        my %expected = (cancel_request => 'PT404', retry_request => 'PT404', get_request => 'PT404', wait_for_request => 'PT404', stream => 'PT404', cancel_batch => 'PT404', retry_batch => 'PT404',
            update_key => 'PT404', revoke_key => 'PT404', list_keys => 42501, notification_channel => 42501, add_key => 42501);
        is(join(' ', grep { my $function = $_; !grep { /^select \* from mrprompt\.$function\(.*?\): $expected{$function} / } @answers } sort keys %expected), '', 'and refused');
        ok((grep { /mrprompt\.chat\(.*user_id.*: 42501 / } @answers) && (grep { /mrprompt\.chat\(.*key_id.*: PT404 / } @answers) && (grep { /enqueue\(.*for_user.*: 42501 / } @answers) && (grep { /enqueue\(.*batch =>.*: PT404 / } @answers), 'in asking, too');
    }
}
is(sql('select t.bobs_rows()'), $before, 'bob\'s rows are as they were');

# --- triggers, rules, policies and the like on what is not theirs

my $catalog = "set search_path = pg_catalog;\n" . slurp_file(source_path('test', 't', 'lib', 'catalog.sql'));
my $objects = sql($catalog);
sql(q(
    create table t.ddl (n serial, statement text);
    grant select on t.ddl to public;
    insert into t.ddl (statement) select format(s, name) from t.relations, unnest(array[
        'create trigger mine before insert or update or delete on %s execute function public.mine()', 'create rule mine as on insert to %s do also select 1', 'create policy mine on %s using (true)',
        'alter table %s disable row level security', 'alter table %s add column mine int', 'alter table %s owner to current_user', 'alter table %s set schema public', 'alter table %s rename to mine',
        'comment on table %s is ''mine''', 'create index on %s ((1))', 'drop table %s', 'drop view %s', 'create statistics public.mine on 1, 2 from %s', 'create publication mine for table %s',
        'create table public.references_it (id uuid references %s)', 'create table public.inherits_it () inherits (%s)', 'alter table %s disable trigger all', 'alter table %s replica identity nothing',
        'alter view %s set (security_invoker = false)', 'cluster %s', 'reindex table %s', 'drop trigger append_only on %s', 'drop policy own_rows on %1$s']) s where relkind in ('r', 'p', 'v');
    insert into t.ddl (statement) select format(s, oid::regprocedure) from pg_proc, unnest(array['alter function %s security invoker', 'alter function %s reset all', 'alter function %s owner to current_user',
        'alter function %s set search_path = public', 'drop function %s', 'alter function %s rename to mine', 'comment on function %s is ''mine''', 'create trigger mine before insert on public.own execute function %s']) s
        where pronamespace in ('mrprompt'::regnamespace, 'mrprompt_internal'::regnamespace) and prokind = 'f';
    insert into t.ddl (statement) select format(s, schema) from unnest(array['mrprompt', 'mrprompt_internal']) schema, unnest(array[
        'create table %s.mine ()', 'create view %s.mine as select 1', 'create function %s.mine() returns int language sql return 1', 'create sequence %s.mine', 'create type %s.mine as enum (''x'')',
        'create operator %s.= (leftarg = uuid, rightarg = uuid, function = uuid_eq)', 'alter schema %s owner to current_user', 'alter schema %s rename to mine', 'drop schema %s cascade', 'comment on schema %s is ''mine''']) s;
    insert into t.ddl (statement) values ('create or replace function mrprompt.get_request(request_id uuid) returns setof int language sql return 1'), ('alter extension mrprompt update'), ('drop extension mrprompt'),
        ('alter extension mrprompt add table public.own'), ('alter extension mrprompt drop table mrprompt.requests'), ('comment on extension mrprompt is ''mine'''), ('alter extension mrprompt set schema public'),
        ('create event trigger mine on ddl_command_start execute function public.mine()'), ('create cast (uuid as text) without function'), ('alter role mrprompt_owner login'), ('drop role mrprompt_admin'),
        ('alter role mrprompt_user rename to mine'), ('alter database postgres set mrprompt.trusted_logins = ''ann'''), ('alter system set mrprompt.trusted_logins = ''ann'''),
        ('create subscription mine connection '''' publication mine'), ('create user mapping for current_user server nowhere'), ('load ''mrprompt_other''')));
for my $name (@all)
{
    sql(q(drop table if exists public.own; drop function if exists public.mine()));
    as($name, 'create table public.own (id uuid); create function public.mine() returns trigger language plpgsql as $$ begin raise exception $e$mine$e$; end $$;');
    is(calmly($name, q(select d.statement || ': ' || a.message from t.ddl d, t.attempt(d.statement, false) a where a.state = 'done')), '', "$name changes nothing of " . sql('select count(*) from t.ddl') . ' ways to');
    as($name, join ";\n", map { ("grant $_ to public", "revoke $_ from mrprompt_user cascade") } 'all on mrprompt.requests', 'all on all tables in schema mrprompt_internal',
        'all on all functions in schema mrprompt_internal', 'all on schema mrprompt');
    as($name, "grant mrprompt_admin to $who{$name}[0]; grant mrprompt_owner to public; vacuum full mrprompt.requests; analyze mrprompt.requests");
}
is(sql(q(select string_agg(member::regrole || ' in ' || roleid::regrole, ', ' order by member::regrole::text) from pg_auth_members where roleid::regrole::text like 'mrprompt%' or member::regrole::text like 'mrprompt%')),
    'admin in mrprompt_admin, analyst in mrprompt_analyst, ann in mrprompt_user, authenticated in mrprompt_user, bob in mrprompt_user, fetcher in mrprompt_fetcher, service_role in mrprompt_admin', 'nobody has more roles');
is(sql($catalog), $objects, 'every object, comment and privilege is as it was');

# --- what is named like ours or like PostgreSQL's, in front of it

# Every function, operator and type of PostgreSQL that mrprompt names, each counting and failing when it is used.
my $hostile = q(
    create sequence SCHEMA.used;
    grant usage on schema SCHEMA to public;
    grant usage on sequence SCHEMA.used to public;
    create function SCHEMA.caught(what text) returns boolean language plpgsql as $f$
        begin perform pg_catalog.nextval('SCHEMA.used'); raise exception 'HOSTILE % as %', what, current_user; end $f$;
    do $do$
    declare
        f record;
        o record;
    begin
        for f in
            select p.proname, p.oid, pg_get_function_result(p.oid) as result, (select string_agg(t::regtype::text, ', ' order by n) from unnest(p.proargtypes) with ordinality a (t, n)) as arguments
            from pg_proc p
            where p.pronamespace = 'pg_catalog'::regnamespace and p.prokind = 'f' and p.provariadic = 0 and p.proargmodes is null
              and not exists (select from unnest(p.proargtypes || p.prorettype) t where t::regtype::text ~ '^("?any|internal|cstring|record|trigger|"char"|event_trigger|pg_|.*handler|regtype$)')
              and p.proname in (NAMES)
        loop
            execute format('create function SCHEMA.%I(%s) returns %s language plpgsql as $x$ begin perform SCHEMA.caught(%L); end $x$', f.proname, f.arguments, f.result, f.proname);
        end loop;
        for o in
            select oprname, oprleft::regtype as l, oprright::regtype as r, oprresult::regtype as result, row_number() over () as n from pg_operator
            where oprnamespace = 'pg_catalog'::regnamespace and oprleft <> 0 and oprright <> 0
              and oprleft::regtype::text in ('text', 'name', 'uuid', 'integer', 'bigint', 'smallint', 'boolean', 'numeric', 'interval', 'timestamp with time zone', 'json', 'jsonb', 'double precision', 'oid', 'character varying', 'uuid[]', 'text[]', 'anyarray', 'anycompatiblearray')
              and oprright::regtype::text !~ '^any' and oprleft::regtype::text !~ '^any'
        loop
            execute format('create function SCHEMA.op%s(%s, %s) returns %s language plpgsql as $x$ begin perform SCHEMA.caught(%L); end $x$', o.n, o.l, o.r, o.result, o.oprname);
            execute format('create operator SCHEMA.%s (leftarg = %s, rightarg = %s, function = SCHEMA.op%s)', o.oprname, o.l, o.r, o.n);
        end loop;
        -- Matches that are better than PostgreSQL's own, and so come first from wherever the path leads to them.
        for o in select * from unnest(array['text', 'name', 'varchar', 'int4', 'timestamptz', 'interval'], array['uuid', 'text', 'name', 'interval', 'int4', 'int4']) b (l, r) loop
            execute format('create function SCHEMA.better_%s(%s, %s) returns text language plpgsql as $x$ begin perform SCHEMA.caught(%L); end $x$', o.l, o.l, o.r, 'better ' || o.l);
            if to_regoperator(format('SCHEMA.|| (%s, %s)', o.l, o.r)) is null then
                execute format('create operator SCHEMA.|| (leftarg = %s, rightarg = %s, function = SCHEMA.better_%s)', o.l, o.r, o.l);
            end if;
        end loop;
        for f in select * from unnest(array['text', 'name', 'uuid', 'interval, interval', 'text, text', 'text, name', 'text, int4']) a (arguments), unnest(array['format', 'concat_ws', 'json_build_object', 'jsonb_build_object', 'coalesce', 'to_jsonb', 'greatest', 'to_json']) n (name) loop
            continue when to_regprocedure(format('SCHEMA.%I(%s)', f.name, f.arguments)) is not null;
            execute format('create function SCHEMA.%I(%s) returns text language plpgsql as $x$ begin perform SCHEMA.caught(%L); end $x$', f.name, f.arguments, f.name);
        end loop;
    end $do$;);
my $names = sql(q{select string_agg(distinct quote_literal(m[1]), ', ') from pg_proc p, regexp_matches(pg_get_functiondef(p.oid), '([a-z_0-9]+)[(]', 'g') m
    where p.pronamespace in ('mrprompt'::regnamespace, 'mrprompt_internal'::regnamespace) and p.prokind in ('f', 'p') and m[1] not in ('nextval')});
my $types = join '', map { "create domain hostile.$_ as pg_catalog.$_ check (hostile.caught('type $_'));\n" } qw(uuid timestamptz text jsonb name);
sub hostile { my ($schema) = @_; return $hostile =~ s/SCHEMA/$schema/gr =~ s/NAMES/$names/r }
sql('create schema hostile; ' . hostile('hostile'));
sql($types);
cmp_ok(sql(q(select count(*) from pg_proc where pronamespace = 'hostile'::regnamespace)), '>', 400, 'there are hostile functions, operators and types');
like((both('ann', 'set search_path = hostile, pg_catalog; select now(); select 1 + 1'))[1], qr/HOSTILE now as ann.*HOSTILE \+ as ann/s, 'which run where names lead to them');
my $used = sql('select last_value from hostile.used');
my $temporary = join '', map { "create temp table $_ (id pg_catalog.int4);\n" } qw(requests responses deltas usage users api_keys key_grants providers prices queue fetchers pg_proc pg_roles pg_class);
for my $name (qw(ann pat analyst admin fetcher))
{
    my %own = (ann => $ann, pat => $pat, admin => $ann, analyst => $ann, fetcher => sql('select id from t.fetcher'));
    my @calls = split /\n/, sql(qq(
        with may as (select oid from pg_proc where has_function_privilege('@{[ $name eq 'pat' ? 'authenticated' : $name ]}', oid, 'execute')),
            ids as (select id from mrprompt.requests where user_id = '$own{$name}' union all select id from mrprompt.batches where user_id = '$own{$name}'
                union all select id from mrprompt.api_keys where user_id = '$own{$name}' union all select '$own{$name}')
        select t.call(a.oid, a.name, ids.id::text) from t.parameters a join may using (oid), ids where a.type = 'uuid'::regtype and a.function !~ 'forget_user|fetcher_gone'
        union select t.call(f.oid, null, null) from t.functions f join may using (oid)
        union select 'table ' || name from t.relations where relkind <> 'S'));
    push @calls, q(call mrprompt.ask('hi', 'fake-1', 'fake', timeout => '10 milliseconds')), q(call mrprompt.drain('fake', '10 milliseconds')), q(select mrprompt.resume()), q(call mrprompt.reseal_keys()),
        q(select mrprompt.forget_user('99999999-0000-7000-8000-000000000009')), q(select mrprompt.add_user('stranger', 'x')), q(update mrprompt.providers set enabled = enabled), q(delete from mrprompt.prices where input is null);
    my ($out, $err) = both($name, "$temporary\nset search_path = hostile, pg_temp, pg_catalog, mrprompt;\n" . join(";\n", @calls) . ";\n");
    cmp_ok(scalar(@calls), '>', 60, "$name makes calls with hostile names in front");
    is(join("\n", grep { /HOSTILE/ } split /\n/, $err), '', 'none of which is taken');
}
is(sql('select last_value from hostile.used'), $used, 'nor was any where the error was kept back');
$before = sql('select t.bobs_rows()');

# Made where they lie in the path, and by one whose default privileges give everything away: as anywhere else.
sql('create database installed_later');
sql(hostile('public'), 'installed_later');
sql(join(';', map { "alter default privileges grant all on $_ to stranger, ann" } qw(tables functions sequences schemas types)), 'installed_later');
sql('create extension mrprompt', 'installed_later');
is(sql($catalog, 'installed_later'), $objects, 'an installation is the same among hostile names and under open-handed default privileges');
is(sql('select is_called from public.used', 'installed_later'), 'f', 'and used none of them');
sql('drop extension mrprompt; alter default privileges grant select on tables to mrprompt_analyst', 'installed_later');
my ($result, undef, $error) = $node->psql('installed_later', 'create extension mrprompt');
like($error, qr/granted to mrprompt_analyst by default.*alter default privileges/s, 'default privileges of its own roles are refused, with what to do');

# --- becoming somebody

my $whoami = 'select mrprompt.current_user_id();';
for my $attempt ("set request.jwt.claims = '{\"sub\": \"$bob\"}'", "set request.jwt.claim.sub = '$bob'", "select set_config('request.jwt.claims', '{\"sub\": \"$bob\"}', true)", 'set role bob', 'set session authorization bob',
    'set role mrprompt_user', "set role mrprompt_owner", 'set session authorization default', "set mrprompt.user_id = '$bob'", "set mrprompt.trusted_logins = 'ann'", "set mrprompt.anonymous_roles = ''", "set mrprompt.local_fetcher = on",
    'set row_security = off', 'set session_replication_role = replica', "set local_preload_libraries = 'x'", 'set transform_null_equals = on', 'set check_function_bodies = off', "alter role ann set mrprompt.trusted_logins = 'ann'")
{
    my ($out, $err) = both('ann', "\\o /dev/null\n$attempt;\n\\o\n$whoami");
    is($out, $ann, "ann stays ann after: $attempt");
}
is(as('ann', q(set row_security = off; select count(*) from mrprompt.requests)), '', 'without row security there are no rows');
is(as($_, q(select string_agg(name, ' ') from pg_settings s, t.attempt(format('select set_config(%L, %L, false)', name, setting), true) a where name like 'mrprompt.%' and a.state = 'done')), 'mrprompt.default_provider', "$_ sets no setting of the server's") for qw(ann pat admin);
is(as('pat', "set request.jwt.claims = '{\"sub\": \"$pat\"}'; prepare mine as select count(*) > 0 from mrprompt.requests; execute mine; set request.jwt.claims = '{\"sub\": \"99999999-0000-4000-8000-000000000009\"}'; execute mine; reset role; set role anon; execute mine"),
    "t\nf", 'a prepared statement serves whoever executes it');
my $plain = new_cluster('plain', preload => 0, conf => "mrprompt.trusted_logins = 'authenticator'\n");
$plain->safe_psql('postgres', 'create role ann login in role mrprompt_user');
{
    local $ENV{PGOPTIONS} = "-c mrprompt.trusted_logins=ann -c mrprompt.anonymous_roles=";
    my ($out, $err) = ('', '');
    $plain->psql('postgres', "set mrprompt.trusted_logins = 'ann'; set request.jwt.claims = '{\"sub\": \"$bob\"}'; $whoami show mrprompt.trusted_logins", stdout => \$out, stderr => \$err, on_error_stop => 0, extra_params => [ '-U', 'ann' ]);
    is($out, "\nauthenticator", 'nor does a setting that comes before the library') or diag $err;
}
$plain->stop;

# --- overhearing

sql(q(create table t.leaks as select 'select count(*) from ' || name || ' where public.leak((' || (select string_agg(quote_ident(attname), ', ') from pg_attribute where attrelid = r.oid and attnum > 0 and not attisdropped
        and has_column_privilege('ann', r.oid, attnum, 'select')) || ')::text)' as statement, name from t.relations r where relkind in ('r', 'p', 'v') and has_any_column_privilege('ann', r.oid, 'select')));
as('ann', 'create function public.leak(text) returns boolean cost 0.0000000001 language plpgsql as $$ begin raise notice $n$%$n$, $1; return true; end $$');
my ($out, $err) = both('ann', join ";\n", split /\n/, sql('select statement from t.leaks'));
unlike($err, qr/ERROR/, 'a function of hers looks at all that ann may read') or diag(join "\n", grep { /ERROR/ } split /\n/, $err);
like($err, qr/anns question/, 'and is shown her rows');
my $marks = sql('select ids from t.marks');
is(join("\n", grep { /$marks/ } split /\n/, $err), '', 'none of bob\'s, however cheap it says it is');
is(as($_, q(select count(*) from pg_stats where schemaname like 'mrprompt%')), '0', "$_ is shown no statistics of columns") for @all;
is(sql(q(select count(*) > 0 from pg_stats where schemaname = 'mrprompt')), 't', 'which there are');

my $listener = $node->background_psql('postgres', extra_params => [ '-U', 'bob' ]);
my $channel = $listener->query_safe('select mrprompt.notification_channel()');
$listener->query_safe(qq(listen "$channel"));
my $spy = $node->background_psql('postgres', extra_params => [ '-U', 'ann' ]);
my $anns = $spy->query_safe('select mrprompt.notification_channel()');
isnt($anns, $channel, 'each has a channel');
$spy->query_safe(qq(listen "$_")) for $anns, '*', 'mrprompt', "mrprompt_$bob", 'mrprompt_' . $spy->query_safe("select left(encode(sha256('$bob'), 'hex'), 32)"),
    'mrprompt_' . $spy->query_safe("select left(encode(sha256(convert_to('$anns$bob', 'UTF8')), 'hex'), 32)"), 'fetchers', 'failures';
is($spy->query_safe(qq(select count(*) from pg_listening_channels() c where c = '$channel')), '0', 'ann is not told of bob\'s channel');
is($spy->query_safe(qq(select count(*) from pg_stat_activity where pid <> pg_backend_pid() and query ~ 'listen')), '0', 'nor of his statements');
my $done = sql(q(
    select id from mrprompt.requests where metadata ->> 'label' = 'in flight' and metadata ->> 'whose' = 'bobs'));
sql(qq(select mrprompt_internal.settle(t.args(jsonb_build_object('outcomes', jsonb_build_array(jsonb_build_object('request', '$done', 'attempt', 1, 'result', 'succeeded', 'response', '{"content": "bobs"}'::jsonb)))));
    select mrprompt_internal.notify_changes();));
like($listener->query('select 1'), qr/Asynchronous notification "\Q$channel\E" with payload "$done"/, 'bob is notified');
unlike($spy->query('select 1'), qr/Asynchronous/, 'and nobody else');
$_->quit for $listener, $spy;
$node->stop;
done_testing();
