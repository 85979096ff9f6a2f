-- What Supabase offers where it exists: its roles, its Realtime publication, PostgREST's schema cache.

create function mrprompt.enable_supabase() returns text[]
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    done text[] := '{}';
    granted record;
    followed text;
begin
    for granted in
        select * from (values
            ('mrprompt_user', 'authenticated', 'authenticated may use mrprompt'),
            ('mrprompt_admin', 'service_role', 'service_role administers mrprompt and may act for users')) g (role, to_role, what)
        where to_role in (select rolname from pg_roles)
    loop
        -- Supabase's roles do not inherit. From version 16 on that is said with the grant, before it belongs to the role.
        if current_setting('server_version_num')::int >= 160000 then
            execute format('grant %I to %I with inherit true', granted.role, granted.to_role);
        else
            execute format('alter role %I inherit', granted.to_role);
            execute format('grant %I to %I', granted.role, granted.to_role);
        end if;
        done := done || granted.what;
    end loop;
    if exists (select from pg_publication where pubname = 'supabase_realtime') then
        foreach followed in array array['requests', 'deltas', 'messages', 'runs'] loop
            if not exists (select from pg_publication_tables t
                           where t.pubname = 'supabase_realtime' and t.schemaname = 'mrprompt' and t.tablename = followed) then
                execute format('alter publication supabase_realtime add table mrprompt.%I', followed);
                done := done || format('Realtime follows mrprompt.%s', followed);
            end if;
        end loop;
    end if;
    if done <> '{}' then
        perform pg_notify('pgrst', 'reload schema');
        perform mrprompt_internal.write_audit('insert', 'supabase', null, null, jsonb_build_object('done', jsonb_build_array(null, done)));
    end if;
    if done = '{}' then
        raise notice 'nothing to do: neither the roles authenticated and service_role nor the publication supabase_realtime are here, or all is done';
    end if;
    return done;
end
$$;
comment on function mrprompt.enable_supabase() is
    'Superusers: grants mrprompt_user to authenticated and mrprompt_admin to service_role (which then inherit), adds requests, deltas, messages and runs to the '
    'Realtime publication; tells what it did. Add mrprompt to PostgREST''s exposed schemas yourself; never mrprompt_internal.';

