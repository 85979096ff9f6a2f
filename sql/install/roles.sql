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

create schema mrprompt;
comment on schema mrprompt is 'LLM gateway: what people use. Safe to expose through PostgREST.';
create schema mrprompt_internal;
comment on schema mrprompt_internal is 'LLM gateway: queue, contract and privileged code. Never expose it through an API.';

