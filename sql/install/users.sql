-- Users: who a login is, and who may act for whom.

create table mrprompt.users (
    id uuid primary key default mrprompt_internal.uuidv7(),
    login_role name unique,
    name text,
    metadata jsonb not null default '{}' check (jsonb_typeof(metadata) = 'object'),
    created_at timestamptz not null default now()
);
comment on table mrprompt.users is
    'Users that log in to the database themselves, or that an admin wants to name. Users known by JWT claims need no row.';
comment on column mrprompt.users.login_role is 'The database role that logs in as this user.';

alter table mrprompt.users enable row level security;
create policy own_row on mrprompt.users for select to mrprompt_user, mrprompt_analyst
    using (id = (select mrprompt.current_user_id()));
create policy all_rows on mrprompt.users for select to mrprompt_admin using (true);

create function mrprompt_internal.acting_user(user_id uuid) returns uuid
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    caller constant uuid := mrprompt.current_user_id();
begin
    if user_id is not null and user_id is distinct from caller then
        if not mrprompt_internal.may_act_for_others() then
            raise exception using errcode = 'insufficient_privilege',
                message = 'you may not act for another user',
                detail = format('user_id is %s', user_id),
                hint = 'Leave user_id out, call as a member of mrprompt_admin, or log in as one of mrprompt.trusted_logins and set no claims.';
        end if;
        return user_id;
    end if;
    if caller is null then
        raise exception using errcode = 'insufficient_privilege',
            message = 'this session is nobody to mrprompt',
            detail = format('login role %s, role %s, no user id in the request''s claims', session_user, current_setting('role')),
            hint = format('select mrprompt.add_user(login_role => %L) as an admin, sign in with a JWT whose sub is a uuid, or pass user_id.', session_user);
    end if;
    return caller;
end
$$;
comment on function mrprompt_internal.acting_user(uuid) is
    'The user a call is for: the caller, or the given user if the caller may act for others. 42501 otherwise.';

create function mrprompt_internal.require_admin(what text) returns void
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    if not mrprompt_internal.caller_is_admin() then
        raise exception using errcode = 'insufficient_privilege',
            message = format('only an admin may %s', what),
            hint = 'grant mrprompt_admin to the role that should.';
    end if;
end
$$;
comment on function mrprompt_internal.require_admin(text) is '42501 unless the asking role has the rights of mrprompt_admin.';

create function mrprompt_internal.add_user(login_role name, name text, metadata jsonb, user_id uuid) returns uuid
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    new_id constant uuid := coalesce(user_id, mrprompt_internal.uuidv7());
begin
    perform mrprompt_internal.require_admin('add a user');
    if login_role is not null and not exists (select from pg_roles r where r.rolname = login_role) then
        raise exception using errcode = 'PT400', message = format('there is no role %s', login_role),
            hint = format('create role %I login', login_role);
    end if;
    insert into mrprompt.users as u (id, login_role, name, metadata)
    values (new_id, add_user.login_role, add_user.name, coalesce(add_user.metadata, '{}'))
    on conflict (id) do update set login_role = coalesce(excluded.login_role, u.login_role),
        name = coalesce(excluded.name, u.name), metadata = u.metadata || excluded.metadata;
    return new_id;
exception when unique_violation then
    raise exception using errcode = 'PT409', message = format('login role %s already belongs to a user', login_role),
        hint = format('select id from mrprompt.users where login_role = %L', login_role);
end
$$;

create function mrprompt.add_user(
    login_role name default null, name text default null, metadata jsonb default '{}', user_id uuid default null)
    returns uuid language sql
    return mrprompt_internal.add_user(login_role, name, metadata, user_id);
comment on function mrprompt.add_user(name, text, jsonb, uuid) is
    'Admins: makes a user, or changes the one with that user_id, and maps a login role to it. Returns its id. PT400 unknown role, PT409 role taken.';

