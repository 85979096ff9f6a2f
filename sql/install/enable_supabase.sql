-- What Supabase offers where it exists: its roles, its Realtime publication, PostgREST's schema cache.

create function mrprompt.enable_supabase() returns text[]
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    done text[] := '{}';
begin
    if exists (select from pg_roles where rolname = 'authenticated') then
        grant mrprompt_user to authenticated;
        done := done || 'authenticated may use mrprompt (mrprompt_user)'::text;
    end if;
    if exists (select from pg_roles where rolname = 'service_role') then
        grant mrprompt_admin to service_role;
        done := done || 'service_role may act for users (mrprompt_admin)'::text;
    end if;
    if exists (select from pg_publication where pubname = 'supabase_realtime')
       and not exists (select from pg_publication_tables where pubname = 'supabase_realtime' and schemaname = 'mrprompt') then
        alter publication supabase_realtime add table mrprompt.requests, mrprompt.deltas;
        done := done || 'Realtime follows mrprompt.requests and mrprompt.deltas'::text;
    end if;
    if done <> '{}' then
        perform pg_notify('pgrst', 'reload schema');
    end if;
    return done;
end
$$;
comment on function mrprompt.enable_supabase() is
    'Superusers: grants mrprompt_user to authenticated and mrprompt_admin to service_role, adds requests and deltas to the Realtime '
    'publication; tells what it did. Add mrprompt to PostgREST''s exposed schemas yourself; never mrprompt_internal.';

