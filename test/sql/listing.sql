-- Every object of the extension, and every privilege.
\getenv dir PG_ABS_SRCDIR
\set helpers :dir '/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
\pset format unaligned
-- objects: kind, name, owner, and how a function is made
select d.type, d.identity, coalesce(r.rolname, '') as owner, coalesce(l.lanname || case when p.prosecdef then ' definer' else '' end, '') as how
from (select type, replace(identity, 'pg_catalog.', '') as identity, classid, objid  -- version 17 and later write plain json
      from pg_depend, pg_identify_object(classid, objid, 0)
      where refclassid = 'pg_extension'::regclass
        and refobjid = (select oid from pg_extension where extname = 'mrprompt') and deptype = 'e') d
left join pg_proc p on d.classid = 'pg_proc'::regclass and p.oid = d.objid
left join pg_language l on l.oid = p.prolang
left join pg_class c on d.classid = 'pg_class'::regclass and c.oid = d.objid
left join pg_roles r on r.oid = coalesce(p.proowner, c.relowner)
where d.type not in ('type') and not coalesce(c.relispartition, false)
order by 1, 2;
-- privileges beyond the owner's
select kind, name, string_agg(grantee || ' ' || privileges, '; ' order by grantee) as privileges
from (select kind, name, case when grantee = 0 then 'PUBLIC' else pg_get_userbyid(grantee) end as grantee,
    string_agg(privilege, ', ' order by privilege) as privileges
from (
    select 'table' as kind, c.oid::regclass::text as name, a.grantee, a.privilege_type as privilege, c.relowner as owner
    from pg_class c, aclexplode(c.relacl) a
    where c.relnamespace in ('mrprompt'::regnamespace, 'mrprompt_internal'::regnamespace) and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
    union all
    select 'column', c.oid::regclass || '.' || t.attname, a.grantee, a.privilege_type, c.relowner
    from pg_class c join pg_attribute t on t.attrelid = c.oid, aclexplode(t.attacl) a
    where c.relnamespace in ('mrprompt'::regnamespace, 'mrprompt_internal'::regnamespace)
    union all
    select 'function', p.oid::regprocedure::text, a.grantee, a.privilege_type, p.proowner
    from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
    where p.pronamespace in ('mrprompt'::regnamespace, 'mrprompt_internal'::regnamespace)
    union all
    -- Row types cannot be granted; these are domains, enumerations and the like.
    select 'type', y.oid::regtype::text, a.grantee, a.privilege_type, y.typowner
    from pg_type y, aclexplode(coalesce(y.typacl, acldefault('T', y.typowner))) a
    where y.typnamespace in ('mrprompt'::regnamespace, 'mrprompt_internal'::regnamespace)
      and (y.typacl is not null or (y.typrelid = 0 and y.typelem = 0))
    union all
    select 'schema', n.nspname, a.grantee, a.privilege_type, n.nspowner
    from pg_namespace n, aclexplode(n.nspacl) a where n.nspname in ('mrprompt', 'mrprompt_internal')) g
where grantee <> owner
group by kind, name, grantee) each_
group by kind, name order by kind, name;
-- what later objects will be granted by default
select pg_get_userbyid(defaclrole) as creator, defaclnamespace::regnamespace as schema, defaclobjtype, defaclacl from pg_default_acl
where defaclnamespace in ('mrprompt'::regnamespace, 'mrprompt_internal'::regnamespace) or pg_get_userbyid(defaclrole) like 'mrprompt%' or defaclacl::text like '%mrprompt%';
-- the roles: none logs in or has a right beyond its grants, none is a member of another or has members that the extension made
select rolname, rolsuper or rolcanlogin or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls as more,
    (select string_agg(m.roleid::regrole::text, ', ' order by 1) from pg_auth_members m where m.member = r.oid) as member_of, rolconfig
from pg_roles r where rolname like 'mrprompt%' order by 1;
-- which rows each role sees
select c.oid::regclass::text as on_table, polname, polcmd, polpermissive, (select string_agg(x::regrole::text, ', ' order by x::regrole::text) from unnest(polroles) x) as roles,
    regexp_replace(pg_get_expr(polqual, polrelid), '\s+', ' ', 'g') as using, pg_get_expr(polwithcheck, polrelid) as with_check
from pg_policy join pg_class c on c.oid = polrelid
where c.relnamespace in ('mrprompt'::regnamespace, 'mrprompt_internal'::regnamespace) and (not c.relispartition or c.relname = 'usage_00')
order by 1, 2;
select count(*) as partitions, count(distinct array(select row(polname, polcmd, polroles, pg_get_expr(polqual, polrelid))::text from pg_policy where polrelid = c.oid order by 1)) as sets_of_policies
from pg_class c where c.relispartition and c.relkind = 'r' and c.relnamespace = 'mrprompt'::regnamespace;
-- what runs when rows change
select c.oid::regclass::text as on_table, tgname, tgenabled, tgfoid::regproc as runs, p.prosecdef as definer
from pg_trigger g join pg_class c on c.oid = tgrelid join pg_proc p on p.oid = tgfoid
where c.relnamespace in ('mrprompt'::regnamespace, 'mrprompt_internal'::regnamespace) and not tgisinternal order by 1, 2;
-- every table has row-level security on
select c.oid::regclass from pg_class c
where c.relnamespace in ('mrprompt'::regnamespace, 'mrprompt_internal'::regnamespace) and c.relkind in ('r', 'p') and not c.relrowsecurity;
-- every policy asks who is there once, not once per row
select polrelid::regclass, polname from pg_policy
where pg_get_expr(polqual, polrelid) ~ 'current_user_id' and pg_get_expr(polqual, polrelid) !~ 'SELECT mrprompt.current_user_id';
-- everything that users can see has a comment
select d.identity
from (select (pg_identify_object(classid, objid, 0)).identity, classid, objid
      from pg_depend where refclassid = 'pg_extension'::regclass
        and refobjid = (select oid from pg_extension where extname = 'mrprompt') and deptype = 'e'
        and classid in ('pg_proc'::regclass, 'pg_class'::regclass)) d
left join pg_class c on c.oid = d.objid and d.classid = 'pg_class'::regclass
where d.identity like 'mrprompt.%' and not coalesce(c.relispartition or c.relkind = 'i', false)
  and not exists (select from pg_description where objoid = d.objid and classoid = d.classid and objsubid = 0)
order by 1;
-- every DEFINER function pins its search path
select p.oid::regprocedure from pg_proc p
where p.pronamespace in ('mrprompt'::regnamespace, 'mrprompt_internal'::regnamespace) and p.prosecdef
  and not exists (select from unnest(p.proconfig) s where s like 'search_path=pg_catalog, pg_temp');
-- tables whose rows a dump takes along
select c.relname from pg_extension e, unnest(e.extconfig) o join pg_class c on c.oid = o
where e.extname = 'mrprompt' and not c.relispartition order by 1;
