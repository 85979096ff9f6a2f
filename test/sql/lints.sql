-- The faults that Supabase's linter (splinter) looks for, by its numbers, found by queries of our own: none in mrprompt's schemas,
-- each in a schema that has them all. splinter passes over most of what belongs to an extension; this does not.
set client_min_messages = warning;
create schema if not exists t;
create table t.linted (schema regnamespace, exposed boolean);
create view t.relations as
    select c.*, s.exposed, c.oid::regclass as name from pg_class c join t.linted s on s.schema = c.relnamespace;
create view t.routines as
    select p.*, s.exposed, p.oid::regprocedure as name from pg_proc p join t.linted s on s.schema = p.pronamespace;
create view t.policies as
    select p.*, r.relrowsecurity, r.exposed, r.name as on_table, polname || ' on ' || r.name as name,
        concat_ws(' ', pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)) as expression
    from pg_policy p join t.relations r on r.oid = p.polrelid;

create function t.lints() returns table (rule text, object text) language sql set search_path = pg_catalog, pg_temp as $$
    -- splinter wants an empty search_path. Ours is stricter: with an empty one, temporary tables and types still come first.
    -- Names in a parsed body (begin atomic, return) and in C are found once, when nobody is there; what commits cannot be pinned,
    -- so procedures that do are nobody else's but their caller's.
    select '0011 function_search_path_mutable', p.name::text from t.routines p
    where not coalesce(p.proconfig, '{}') && array['search_path=pg_catalog, pg_temp']
      and p.prosqlbody is null and p.prolang <> (select oid from pg_language where lanname = 'c')
      and not (p.prokind = 'p' and not p.prosecdef and p.prosrc ~ '\mcommit\M')
    union all
    -- What was found once was found in pg_catalog (which no dependency names) or in a schema of the same extension.
    select 'depends on an object outside', i.identity || ' on ' || o.identity
    from pg_depend d
    join (select p.oid, 'pg_proc'::regclass as class from t.routines p
          union all select c.oid, 'pg_class' from t.relations c
          union all select p.oid, 'pg_policy' from t.policies p
          union all select w.oid, 'pg_rewrite' from pg_rewrite w join t.relations c on c.oid = w.ev_class
          union all select g.oid, 'pg_trigger' from pg_trigger g join t.relations c on c.oid = g.tgrelid
          union all select n.oid, 'pg_constraint' from pg_constraint n join t.relations c on c.oid = n.conrelid
          union all select a.oid, 'pg_attrdef' from pg_attrdef a join t.relations c on c.oid = a.adrelid) m
        on d.classid = m.class and d.objid = m.oid
    cross join lateral pg_identify_object(d.classid, d.objid, 0) i
    cross join lateral pg_identify_object(d.refclassid, d.refobjid, 0) o
    where d.refclassid in ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_class'::regclass, 'pg_type'::regclass, 'pg_cast'::regclass)
      and coalesce(o.schema, '') not in ('pg_toast', 'pg_catalog')
      and not exists (select from t.linted s join pg_namespace n on n.oid = s.schema where n.nspname = o.schema)
    union all
    select '0013 rls_disabled', c.name::text from t.relations c where c.relkind in ('r', 'p') and not c.relrowsecurity
    union all
    select '0007 policy_exists_rls_disabled', p.name from t.policies p where not p.relrowsecurity
    union all
    select '0008 rls_enabled_no_policy', c.name::text from t.relations c
    where c.exposed and c.relkind in ('r', 'p') and c.relrowsecurity and not exists (select from pg_policy p where p.polrelid = c.oid)
    union all
    select '0010 security_definer_view', c.name::text from t.relations c
    where c.relkind = 'v' and not coalesce(c.reloptions, '{}') && array['security_invoker=true', 'security_invoker=on', 'security_invoker=1']
    union all
    select '0028 0029 security_definer_function_executable', p.name::text from t.routines p where p.exposed and p.prosecdef
    union all
    -- What asks who is there, outside (select …).
    select '0003 auth_rls_initplan', p.name from t.policies p
    where regexp_replace(p.expression, '\( SELECT [\w.]+\([^()]*\)( AS \w+)?\)', '', 'g')
          ~* '\m(current_user_id|may_act_for_others|caller_is_admin|current_setting|current_user|session_user|current_role|uid|jwt|email)\M'
    union all
    select '0030 rls_policy_null_auth_disjunct', p.name from t.policies p
    where p.expression ~* '(current_user_id|may_act_for_others|current_setting)\([^()]*\)( AS \w+)?\)* IS NULL'
    union all
    select '0024 rls_policy_always_true', p.name from t.policies p
    where p.polcmd <> 'r' and p.polpermissive and (p.expression in ('', 'true') or p.expression = 'true true')
    union all
    select 'unindexed policy', p.name || ', column ' || a.attname
    from t.policies p
    join pg_depend d on d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refclassid = 'pg_class'::regclass and d.refobjsubid > 0
    join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
    where not exists (select from pg_index x where x.indrelid = d.refobjid and x.indisvalid and x.indkey[0] = d.refobjsubid)
    union all
    select '0006 multiple_permissive_policies', p.on_table || ' ' || r.role::regrole || ' ' || c.command || ': ' || string_agg(p.polname, ', ' order by p.polname)
    from t.policies p
    cross join lateral unnest(case when 0 = any (p.polroles) then array(select oid from pg_roles where rolname like 'mrprompt%') else p.polroles end) r (role)
    cross join lateral unnest(case p.polcmd when '*' then array['r', 'a', 'w', 'd'] else array[p.polcmd::text] end) c (command)
    where p.polpermissive
    group by p.on_table, r.role, c.command having count(*) > 1
    union all
    select '0001 unindexed_foreign_keys', n.conname || ' on ' || c.name
    from pg_constraint n join t.relations c on c.oid = n.conrelid
    where n.contype = 'f' and not exists (
        select from pg_index x where x.indrelid = n.conrelid and (x.indkey::int2[])[0:cardinality(n.conkey) - 1] @> n.conkey)
    union all
    select '0009 duplicate_index', min(x.indexrelid::regclass::text) || ' and others on ' || c.name
    from pg_index x join t.relations c on c.oid = x.indrelid
    group by c.name, x.indkey::text, x.indclass::text, x.indcollation::text, x.indoption::text, coalesce(x.indexprs::text, ''), coalesce(x.indpred::text, '')
    having count(*) > 1
    union all
    select '0004 no_primary_key', c.name::text from t.relations c
    where c.relkind in ('r', 'p') and not exists (select from pg_index x where x.indrelid = c.oid and x.indisprimary)
    union all
    select '0016 0017 materialized or foreign in the API', c.name::text from t.relations c where c.exposed and c.relkind in ('m', 'f')
    union all
    select '0014 extension_in_public', e.extname::text from pg_extension e
    where e.extnamespace = 'public'::regnamespace
      and exists (select from pg_depend d join t.relations c on d.classid = 'pg_class'::regclass and d.objid = c.oid where d.refobjid = e.oid and d.deptype = 'e')
    union all
    select '0023 sensitive_columns_exposed', c.name || '.' || a.attname || ' to ' || r.rolname
    from t.relations c
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    join pg_roles r on not r.rolsuper and r.oid <> c.relowner and r.rolname !~ '^pg_'
    where a.attname ~* '(password|passwd|secret|sealed|encrypted|api_key|private_key|jwt|(^|_)token$|ssn|card_number)'
      and c.relkind in ('r', 'p', 'v', 'm', 'f') and has_column_privilege(r.oid, c.oid, a.attnum, 'select')
    union all
    select '0018 unsupported_reg_types', c.name || '.' || a.attname
    from t.relations c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
    where c.relkind in ('r', 'p') and a.atttypid::regtype::text ~ '^reg(collation|config|dictionary|namespace|oper|operator|proc|procedure)$'
    union all
    select '0021 fkey_to_another_schema', n.conname || ' on ' || c.name
    from pg_constraint n join t.relations c on c.oid = n.conrelid
    where n.contype = 'f' and not exists (select from t.linted s join pg_class o on o.relnamespace = s.schema where o.oid = n.confrelid)
    union all
    select '0030 invalid_index', x.indexrelid::regclass::text from pg_index x join t.relations c on c.oid = x.indrelid where not x.indisvalid
    union all
    select '0030 autovacuum_disabled', c.name::text from t.relations c where 'autovacuum_enabled=false' = any (c.reloptions)
    order by 1, 2
$$;

-- mrprompt has none of them
insert into t.linted values ('mrprompt', true), ('mrprompt_internal', false);
select count(*) > 100 as there_is_much_to_look_at from t.relations;
select * from t.lints();
begin;
set local allow_system_table_mods = on;
update pg_extension set extnamespace = 'public'::regnamespace where extname = 'mrprompt';
update pg_index set indisvalid = false where indexrelid = 'mrprompt.requests_batch'::regclass;
select * from t.lints();
rollback;

-- and each is found where it is
delete from t.linted;
create schema lint_bad;
create function lint_bad.mutable() returns int language plpgsql as 'begin return 1; end';
create function lint_bad.definer() returns int language sql security definer set search_path = pg_catalog, pg_temp return 1;
create procedure lint_bad.commits() language plpgsql security definer as 'begin commit; end';
create table lint_bad.parent (id int primary key);
create function public.lint_outside() returns int language sql return 1;
create function lint_bad.parsed() returns int language sql return public.lint_outside();
create table lint_bad.open (id int, parent int references lint_bad.parent, api_key text, owner uuid, kind regproc) with (autovacuum_enabled = false);
create table lint_bad.closed (id int primary key, who text, owner uuid);
alter table lint_bad.closed enable row level security;
alter table lint_bad.parent enable row level security;
create index lint_one on lint_bad.open (id);
create index lint_two on lint_bad.open (id);
create policy asleep on lint_bad.open using (owner is not null);
create policy per_row on lint_bad.closed for select to mrprompt_user using (owner = mrprompt.current_user_id());
create policy wrapped on lint_bad.closed for select to mrprompt_user using (owner = (select mrprompt.current_user_id()));
create policy nobody on lint_bad.closed for update to mrprompt_admin using ((select mrprompt.current_user_id()) is null or id = 1);
create policy anything on lint_bad.closed for insert to mrprompt_admin with check (true);
create view lint_bad.owners as select * from lint_bad.closed;
create materialized view lint_bad.stored as select 1 as one;
grant select on lint_bad.open to mrprompt_user;
create table public.lint_other (id int primary key);
alter table lint_bad.open add foreign key (id) references public.lint_other;
insert into t.linted values ('lint_bad', true);
select * from t.lints();
drop schema lint_bad cascade;
drop table public.lint_other;
drop function public.lint_outside();
drop function t.lints();
drop view t.policies, t.routines, t.relations;
drop table t.linted;
reset client_min_messages;
