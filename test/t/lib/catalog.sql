-- All that makes up the extension, a line each: equal in two databases, however they came to it. Columns by name, not by place.
with
    ours as (select oid from pg_namespace where nspname in ('mrprompt', 'mrprompt_internal')),
    relations as (select c.*, c.oid::regclass::text as name from pg_class c where relnamespace in (select oid from ours)),
    routines as (select p.*, p.oid::regprocedure::text as name from pg_proc p where pronamespace in (select oid from ours)),
    lines (kind, name, detail) as (
        select 'member', i.type || ' ' || i.identity, ''
        from pg_depend d, pg_identify_object(d.classid, d.objid, d.objsubid) i, pg_extension e
        where e.extname = 'mrprompt' and d.refclassid = 'pg_extension'::regclass and d.refobjid = e.oid and d.deptype = 'e'
        union all
        select 'dumped', c.name, e.extcondition[n]
        from pg_extension e, unnest(e.extconfig) with ordinality o (oid, n) join relations c on c.oid = o.oid where e.extname = 'mrprompt'
        union all
        select 'schema', nspname, nspowner::regrole::text from pg_namespace where oid in (select oid from ours)
        union all
        select 'routine', name, concat_ws(' ', proowner::regrole, prokind, 'def', md5(pg_get_functiondef(oid)), 'src', md5(prosrc), proconfig)
        from routines
        union all
        select 'relation', name, concat_ws(' ', relkind, relowner::regrole, relrowsecurity, relforcerowsecurity, reloptions,
            pg_get_partkeydef(oid), pg_get_expr(relpartbound, oid)) from relations where relkind <> 'i'
        union all
        select 'column', r.name || '.' || attname, concat_ws(' ', format_type(atttypid, atttypmod), pg_get_expr(d.adbin, d.adrelid),
            case when attnotnull then 'not null' end, attidentity, attgenerated, attstattarget, attstorage)
        from relations r join pg_attribute a on attrelid = r.oid and attnum > 0 and not attisdropped and relkind in ('r', 'p', 'v')
        left join pg_attrdef d on adrelid = r.oid and adnum = attnum
        union all
        select 'constraint', r.name || ' ' || conname, concat_ws(' ', pg_get_constraintdef(c.oid), convalidated) from pg_constraint c join relations r on conrelid = r.oid
            where contype <> 'n'  -- listed as columns; their names are PostgreSQL 18's
        union all
        select 'index', name, concat_ws(' ', pg_get_indexdef(oid), indisvalid, indisprimary, indisreplident, indisclustered)
        from relations join pg_index on indexrelid = oid
        union all
        select 'view', name, pg_get_viewdef(oid) from relations where relkind = 'v'
        union all
        select 'policy', r.name || ' ' || polname, concat_ws(' ', polcmd, polpermissive, polroles::regrole[]::text, pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
        from pg_policy join relations r on polrelid = r.oid
        union all
        select 'trigger', r.name || ' ' || tgname, concat_ws(' ', pg_get_triggerdef(t.oid), tgenabled) from pg_trigger t join relations r on tgrelid = r.oid where not tgisinternal
        union all
        select 'sequence', name, concat_ws(' ', seqtypid::regtype, seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle) from pg_sequence join relations on seqrelid = oid
        union all
        select 'comment', concat_ws(' ', i.type, i.identity), d.description
        from pg_description d, pg_identify_object(d.classoid, d.objoid, d.objsubid) i
        where d.objoid in (select oid from relations union select oid from routines union select oid from ours
                           union select oid from pg_extension where extname = 'mrprompt')
        union all
        select 'privileges', p.name, p.privileges from (
            select name || '.' || attname, attacl::text[] from pg_attribute join relations r on attrelid = r.oid where attacl is not null
            union all select name, relacl::text[] from relations
            union all select name, proacl::text[] from routines
            union all select nspname, nspacl::text[] from pg_namespace where oid in (select oid from ours)
            union all select 'at creation: ' || i.identity, p.initprivs::text[]
                from pg_init_privs p, pg_identify_object(p.classoid, p.objoid, p.objsubid) i
                where p.objoid in (select oid from relations union select oid from routines union select oid from ours)) a (name, acl)
        cross join lateral (select name, string_agg(g, ' ' order by g) as privileges from unnest(a.acl) g) p)
select kind || ' ' || name || ': ' || coalesce(detail, 'none') from lines order by kind, name, detail;
