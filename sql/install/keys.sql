-- Provider keys: sealed in their row, shown masked, used by the fetcher, read by nobody.

create table mrprompt_internal.master_keys (
    id text primary key,
    fingerprint text not null check (fingerprint ~ '^[0-9a-f]{16}$'),
    first_used timestamptz not null default now(),
    retired_at timestamptz
);
comment on table mrprompt_internal.master_keys is
    'The master keys that something in this database was sealed with: by their fingerprints a foreign keyring is told from a damaged key.';

comment on column mrprompt_internal.master_keys.retired_at is 'Since when nothing may be sealed with it any more.';

create table mrprompt_internal.lookup_key (
    id boolean primary key default true check (id),
    sealed text not null
);
comment on table mrprompt_internal.lookup_key is 'The random key of hash_key(), sealed; made at first use.';
alter table mrprompt_internal.master_keys enable row level security;
alter table mrprompt_internal.lookup_key enable row level security;

create table mrprompt.api_keys (
    id uuid primary key default mrprompt_internal.uuidv7(),
    user_id uuid,
    provider varchar(50) not null,
    encrypted_key text not null,
    key_hash text not null,
    masked_key varchar(20) not null,
    last_used timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    metadata jsonb not null default '{}' check (jsonb_typeof(metadata) = 'object'),
    name text,
    revoked_at timestamptz,
    last_verified timestamptz,
    last_error text,
    last_error_at timestamptz,
    constraint sealed_until_revoked check (encrypted_key like 'mrp1.%' or (encrypted_key = '' and revoked_at is not null))
);
create index api_keys_of_user on mrprompt.api_keys (user_id, provider);
create index api_keys_by_hash on mrprompt.api_keys (key_hash);
create index api_keys_refused on mrprompt.api_keys (id) where last_error is not null;
comment on table mrprompt.api_keys is
    'Provider keys. Written through add_key, update_key and revoke_key only; encrypted_key is readable by nobody.';
comment on column mrprompt.api_keys.user_id is 'The owner; null: a shared key, which those may use whom key_grants names.';
comment on column mrprompt.api_keys.encrypted_key is
    'mrp1.<master key id>.<base64>, AES-256-GCM bound to id, user_id and provider; empty once revoked.';
comment on column mrprompt.api_keys.key_hash is 'hash_key() of the key, to recognise it.';
comment on column mrprompt.api_keys.masked_key is 'mask_key() of the key, to show it.';
comment on column mrprompt.api_keys.last_used is 'When a request last took this key along; to the minute, best effort.';
comment on column mrprompt.api_keys.last_verified is 'When the provider last said that it takes this key: to verify_key(), or after an error.';
comment on column mrprompt.api_keys.last_error is 'Why the provider last refused this key; null: nothing is known against it.';
comment on column mrprompt.api_keys.metadata is
    'Free; mrprompt reads endpoint_id, model, agent_name and description, and shows those of shared keys.';

create table mrprompt.key_grants (
    key_id uuid not null references mrprompt.api_keys on delete cascade,
    user_id uuid,
    granted_at timestamptz not null default now(),
    id uuid primary key default mrprompt_internal.uuidv7(),
    unique nulls not distinct (key_id, user_id)
);
create index key_grants_of_user on mrprompt.key_grants (user_id);
comment on table mrprompt.key_grants is 'Who may use a shared key. Written through grant_key and ungrant_key only.';
comment on column mrprompt.key_grants.user_id is 'Null: everybody who may use mrprompt.';

create view mrprompt_internal.key_users with (security_invoker = true) as
    select k.id as key_id, k.user_id from mrprompt.api_keys k where k.user_id is not null
    union all
    select g.key_id, g.user_id from mrprompt.key_grants g join mrprompt.api_keys k on k.id = g.key_id and k.user_id is null;
comment on view mrprompt_internal.key_users is 'Who may use which key: its owner, or whom a grant of a shared one names; null: everybody.';

alter table mrprompt.api_keys enable row level security;
create policy own_rows on mrprompt.api_keys for select to mrprompt_user
    using (user_id = (select mrprompt.current_user_id()));
create policy all_rows on mrprompt.api_keys for select to mrprompt_admin using (true);
alter table mrprompt.key_grants enable row level security;
create policy own_rows on mrprompt.key_grants for select to mrprompt_user
    using (user_id is null or user_id = (select mrprompt.current_user_id()));
create policy all_rows on mrprompt.key_grants for select to mrprompt_admin using (true);

-- Functions over a secret (src/pg/secret_functions.cpp). None of them stores what it is given.

create function mrprompt.encrypt_key(api_key text, key_id uuid default null, user_id uuid default null, provider text default null)
    returns text language c volatile as 'MODULE_PATHNAME', 'encrypt_key';
comment on function mrprompt.encrypt_key(text, uuid, uuid, text) is
    'Seals a key under the active master key, bound to what is given besides it. F0000: no usable master key.';

create function mrprompt.decrypt_key(encrypted_key text, key_id uuid default null, user_id uuid default null, provider text default null)
    returns text language c volatile as 'MODULE_PATHNAME', 'decrypt_key';
comment on function mrprompt.decrypt_key(text, uuid, uuid, text) is
    'Admins: opens what encrypt_key gave, with the same key_id, user_id and provider. PT400: it does not open.';

create function mrprompt.mask_key(api_key text) returns text
    language c immutable strict parallel safe as 'MODULE_PATHNAME', 'mask_key';
comment on function mrprompt.mask_key(text) is 'The first 4 and last 3 characters of a key; nothing of one shorter than 12.';

create function mrprompt.hash_key(api_key text) returns text
    language c volatile strict as 'MODULE_PATHNAME', 'hash_key';
comment on function mrprompt.hash_key(text) is
    'HMAC-SHA-256 of a key under this database''s lookup key, in hexadecimal: equal for equal keys, whatever the master key.';

create function mrprompt_internal.keyring_state(
    out configured boolean, out active_id text, out ids text[], out problem text)
    language c volatile as 'MODULE_PATHNAME', 'keyring_state';
comment on function mrprompt_internal.keyring_state() is 'The master keyring of this server as this database sees it. Admins only.';

-- Storing keys (src/pg/key_functions.cpp): sealed before they reach a row.

create function mrprompt.add_key(
    provider text, api_key text, metadata jsonb default '{}', name text default null,
    user_id uuid default null, shared boolean default false)
    returns uuid language c volatile as 'MODULE_PATHNAME', 'add_key';
comment on function mrprompt.add_key(text, text, jsonb, text, uuid, boolean) is
    'Stores a provider key, sealed, and returns its id. A shared key (admins) is usable by those granted, readable by nobody. '
    'PT400: unknown provider or no usable key; 42501: no rights; F0000: no usable master key.';

create function mrprompt.update_key(key_id uuid, api_key text default null, metadata jsonb default null, name text default null)
    returns uuid language c volatile as 'MODULE_PATHNAME', 'update_key';
comment on function mrprompt.update_key(uuid, text, jsonb, text) is
    'Replaces a key''s secret, metadata or name; what is null stays. PT404: not yours; PT409: revoked.';

create function mrprompt_internal.key_to_change(key_id uuid) returns mrprompt.api_keys
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
    caller constant uuid := mrprompt.current_user_id();
    admin constant boolean := mrprompt_internal.caller_is_admin();
    for_others constant boolean := mrprompt_internal.may_act_for_others();
    found_key mrprompt.api_keys;
begin
    select * into found_key from mrprompt.api_keys k
    where k.id = key_to_change.key_id and (admin or k.user_id = caller or (for_others and k.user_id is not null))
    for no key update;
    if not found then
        raise exception using errcode = 'PT404', message = 'there is no key of that id that you may change',
            detail = format('key_id is %s', coalesce(key_id::text, 'null')),
            hint = 'select * from mrprompt.list_keys() shows your keys; shared ones are the admins''.';
    end if;
    return found_key;
end
$$;
comment on function mrprompt_internal.key_to_change(uuid) is
    'Locks and returns a key that the caller may change: its own, any for admins, any user''s for who may act for others. PT404 otherwise.';

create function mrprompt_internal.revoke_key(key_id uuid) returns uuid
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    key constant mrprompt.api_keys := mrprompt_internal.key_to_change(key_id);
begin
    update mrprompt.api_keys k set encrypted_key = '', revoked_at = now(), updated_at = now()
    where k.id = key.id and k.revoked_at is null;
    return key.id;
end
$$;
comment on function mrprompt_internal.revoke_key(uuid) is 'revoke_key() with the owner''s rights; judges the caller itself.';

create function mrprompt.revoke_key(key_id uuid) returns uuid
    language sql
    return mrprompt_internal.revoke_key(key_id);
comment on function mrprompt.revoke_key(uuid) is
    'Ends the use of a key for good: its row stays, its sealed text goes. PT404: not yours.';

-- Seeing keys.

create function mrprompt_internal.list_keys(user_id uuid)
    returns table (id uuid, provider text, name text, masked_key text, shared boolean, metadata jsonb,
                   last_used timestamptz, created_at timestamptz, updated_at timestamptz, revoked_at timestamptz,
                   last_verified timestamptz, last_error text)
    language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    admin constant boolean := mrprompt_internal.caller_is_admin();
    -- An admin need not be a user to see the shared keys.
    acting constant uuid := case when admin and list_keys.user_id is null then mrprompt.current_user_id()
                                 else mrprompt_internal.acting_user(list_keys.user_id) end;
begin
    return query
    select k.id, k.provider::text, k.name,
        case when k.user_id is not null or admin then k.masked_key::text end,
        k.user_id is null,
        case when k.user_id is not null or admin then k.metadata
             else (select coalesce(jsonb_object_agg(m.key, m.value), '{}') from jsonb_each(k.metadata) m
                   where m.key in ('endpoint_id', 'model', 'agent_name', 'description')) end,
        k.last_used, k.created_at, k.updated_at, k.revoked_at, k.last_verified, case when k.user_id is not null or admin then k.last_error end
    from mrprompt.api_keys k
    where k.user_id = acting
       or (k.user_id is null and (admin or (k.revoked_at is null and exists (
              select from mrprompt_internal.key_users u where u.key_id = k.id and (u.user_id is null or u.user_id = acting)))))
    order by k.user_id is null, k.created_at, k.id;
end
$$;
comment on function mrprompt_internal.list_keys(uuid) is 'list_keys() with the owner''s rights; judges the caller itself.';

create function mrprompt.list_keys(user_id uuid default null)
    returns table (id uuid, provider text, name text, masked_key text, shared boolean, metadata jsonb,
                   last_used timestamptz, created_at timestamptz, updated_at timestamptz, revoked_at timestamptz,
                   last_verified timestamptz, last_error text)
    language sql stable
begin atomic
    select k.id, k.provider, k.name, k.masked_key, k.shared, k.metadata, k.last_used, k.created_at, k.updated_at, k.revoked_at,
        k.last_verified, k.last_error
    from mrprompt_internal.list_keys(list_keys.user_id) k;
end;
comment on function mrprompt.list_keys(uuid) is
    'The keys that you may use: your own, and shared ones granted to you (admins: all shared ones). Never a key itself.';

create view mrprompt.failing_keys with (security_invoker = true) as
    select k.id, k.user_id, k.provider, k.name, k.masked_key, k.last_error, k.last_error_at, k.last_verified
    from mrprompt.api_keys k
    where k.last_error is not null and k.revoked_at is null;
comment on view mrprompt.failing_keys is
    'Keys that their provider refuses; a user sees his own, an admin all. update_key() gives a new secret, verify_key() asks the provider again.';

-- Sharing keys.

create function mrprompt_internal.grant_key(key_id uuid, user_id uuid) returns uuid
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    key mrprompt.api_keys;
begin
    perform mrprompt_internal.require_admin('grant a key');
    select * into key from mrprompt.api_keys k where k.id = grant_key.key_id;
    if not found then
        raise exception using errcode = 'PT404', message = 'there is no key of that id',
            detail = format('key_id is %s', coalesce(key_id::text, 'null')), hint = 'select * from mrprompt.list_keys()';
    elsif key.user_id is not null then
        raise exception using errcode = 'PT400', message = 'a user''s own key cannot be granted to others',
            detail = format('key %s belongs to user %s', key.id, key.user_id),
            hint = 'Store the key once more as a shared one: add_key(provider, api_key, shared => true).';
    elsif key.revoked_at is not null then
        raise exception using errcode = 'PT409', message = 'this key is revoked',
            detail = format('key %s was revoked at %s', key.id, key.revoked_at), hint = 'Add a new shared key, and grant that.';
    end if;
    insert into mrprompt.key_grants (key_id, user_id) values (grant_key.key_id, grant_key.user_id) on conflict do nothing;
    return key.id;
end
$$;
comment on function mrprompt_internal.grant_key(uuid, uuid) is 'grant_key() with the owner''s rights; judges the caller itself.';

create function mrprompt.grant_key(key_id uuid, user_id uuid default null) returns uuid
    language sql
    return mrprompt_internal.grant_key(key_id, user_id);
comment on function mrprompt.grant_key(uuid, uuid) is
    'Admins: lets a user (null: everybody) use a shared key. PT404 unknown key, PT400 not a shared one, PT409 revoked.';

create function mrprompt_internal.ungrant_key(key_id uuid, user_id uuid) returns uuid
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform mrprompt_internal.require_admin('take back a key');
    delete from mrprompt.key_grants g
    where g.key_id = ungrant_key.key_id and g.user_id is not distinct from ungrant_key.user_id;
    if not found then
        raise exception using errcode = 'PT404', message = 'there is no such grant',
            detail = format('key_id is %s, user_id is %s', coalesce(key_id::text, 'null'), coalesce(user_id::text, 'null (everybody)')),
            hint = 'select * from mrprompt.key_grants';
    end if;
    return key_id;
end
$$;
comment on function mrprompt_internal.ungrant_key(uuid, uuid) is 'ungrant_key() with the owner''s rights; judges the caller itself.';

create function mrprompt.ungrant_key(key_id uuid, user_id uuid default null) returns uuid
    language sql
    return mrprompt_internal.ungrant_key(key_id, user_id);
comment on function mrprompt.ungrant_key(uuid, uuid) is
    'Admins: takes back a grant; a grant to everybody (null) is one of its own. What is queued with the key fails as key_revoked at '
    'its next attempt. PT404: there is none.';

-- Rights. What is not named here (tables of mrprompt_internal, key_to_change, the sealed column) is the owner's alone.
grant select (id, user_id, provider, key_hash, masked_key, last_used, created_at, updated_at, metadata, name, revoked_at,
        last_verified, last_error, last_error_at)
    on mrprompt.api_keys to mrprompt_user, mrprompt_admin;
grant select on mrprompt.failing_keys, mrprompt.key_grants to mrprompt_user, mrprompt_admin;
grant execute on function mrprompt.encrypt_key, mrprompt.mask_key, mrprompt.hash_key, mrprompt.add_key, mrprompt.update_key,
    mrprompt.revoke_key, mrprompt_internal.revoke_key, mrprompt.list_keys, mrprompt_internal.list_keys
    to mrprompt_user, mrprompt_admin;
grant execute on function mrprompt.decrypt_key, mrprompt.grant_key, mrprompt_internal.grant_key,
    mrprompt.ungrant_key, mrprompt_internal.ungrant_key to mrprompt_admin;
