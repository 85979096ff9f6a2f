-- What must be true of the database, the two schemas, and the roles that everything else is granted to.

do $check$
begin
    if pg_catalog.getdatabaseencoding() <> 'UTF8' then
        raise exception using errcode = 'object_not_in_prerequisite_state',
            message = pg_catalog.format('mrprompt needs a UTF-8 database; this one is %s', pg_catalog.getdatabaseencoding()),
            hint = 'create database app encoding ''UTF8'' template template0';
    end if;
end
$check$;

do $roles$
declare
    wanted text;
    existing record;
begin
    foreach wanted in array array['mrprompt_owner', 'mrprompt_user', 'mrprompt_analyst', 'mrprompt_admin', 'mrprompt_fetcher'] loop
        select rolcanlogin, rolsuper into existing from pg_catalog.pg_roles where rolname = wanted;
        if not found then
            execute pg_catalog.format('create role %I nologin', wanted);
        elsif existing.rolcanlogin or existing.rolsuper then
            raise exception using errcode = 'object_not_in_prerequisite_state',
                message = pg_catalog.format('role %s exists and can log in or is a superuser', wanted),
                detail = 'mrprompt gives this name rights of its own, so it must be a plain NOLOGIN role.',
                hint = pg_catalog.format('alter role %I nologin nosuperuser, or rename it', wanted);
        end if;
    end loop;
end
$roles$;

-- PUBLIC's and other roles' default privileges are taken back at the end; of these roles' rights, what was granted by the script
-- could not be told from what came by default.
do $defaults$
declare
    default_ record;
begin
    select a.grantee::regrole as grantee, d.defaclrole::regrole as creator into default_
    from pg_catalog.pg_default_acl d, pg_catalog.aclexplode(d.defaclacl) a
    where d.defaclrole = current_user::regrole
      and d.defaclnamespace in (0, coalesce(to_regnamespace('mrprompt'), 0), coalesce(to_regnamespace('mrprompt_internal'), 0))
      and a.grantee in (select r.oid from pg_catalog.pg_roles r where r.rolname in ('mrprompt_user', 'mrprompt_analyst', 'mrprompt_admin', 'mrprompt_fetcher'));
    if found then
        raise exception using errcode = 'object_not_in_prerequisite_state',
            message = format('whatever %s makes is granted to %s by default', default_.creator, default_.grantee),
            detail = 'mrprompt gives its roles rights of its own; these would come on top.',
            hint = 'Take them back by alter default privileges … revoke …, and grant in schema … where you want them.';
    end if;
end
$defaults$;

create schema mrprompt;
comment on schema mrprompt is 'LLM gateway: what people use. Safe to expose through PostgREST.';
create schema mrprompt_internal;
comment on schema mrprompt_internal is 'LLM gateway: queue, contract and privileged code. Never expose it through an API.';

