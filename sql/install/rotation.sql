-- Master keys over time: sealing everything anew under the active one, and taking an old one out of use.

create function mrprompt_internal.refuse_retired() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    sealed constant text := to_jsonb(new) ->> tg_argv[0];
    master mrprompt_internal.master_keys;
begin
    -- Share-locked: retire_master_key() waits for us, or we for it.
    select * into master from mrprompt_internal.master_keys m where m.id = split_part(sealed, '.', 2) for share;
    if master.retired_at is not null then
        raise exception using errcode = 'PT409', message = format('master key %s is retired', master.id),
            detail = format('It was retired at %s; this session still has an older master key file in mind.', master.retired_at),
            hint = 'select pg_reload_conf(), and try again.';
    end if;
    return new;
end
$$;
comment on function mrprompt_internal.refuse_retired() is 'Nothing is stored that was sealed with a retired master key; its argument names the sealed column.';
create trigger refuse_retired before insert on mrprompt.api_keys
    for each row when (new.encrypted_key <> '') execute function mrprompt_internal.refuse_retired('encrypted_key');
create trigger refuse_retired_anew before update of encrypted_key on mrprompt.api_keys
    for each row when (new.encrypted_key <> '' and new.encrypted_key <> old.encrypted_key) execute function mrprompt_internal.refuse_retired('encrypted_key');
create trigger refuse_retired before insert or update on mrprompt_internal.lookup_key
    for each row execute function mrprompt_internal.refuse_retired('sealed');

create function mrprompt_internal.reseal(sealed text, key_id uuid, user_id uuid, provider text) returns text
    language c volatile as 'MODULE_PATHNAME', 'reseal';
comment on function mrprompt_internal.reseal(text, uuid, uuid, text) is
    'A sealed text, sealed anew under the active master key; null where it does not open.';

create function mrprompt_internal.require_active_master_key() returns text
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
    keyring constant record := (select s from mrprompt_internal.keyring_state() s);
begin
    if keyring.active_id is null then
        raise exception using errcode = 'config_file_error', message = 'no master key is active here',
            detail = keyring.problem, hint = 'Mend the master key file, and select pg_reload_conf(); mrprompt.doctor() tells whether it can be used.';
    end if;
    return keyring.active_id;
end
$$;
comment on function mrprompt_internal.require_active_master_key() is 'The id of the master key that seals. F0000 with the reason where there is none.';

create function mrprompt_internal.reseal_batch(after uuid, batch integer, out last uuid, out resealed bigint, out failed bigint)
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    active text;
    key record;
    anew text;
begin
    perform mrprompt_internal.require_admin('seal keys anew');
    active := mrprompt_internal.require_active_master_key();
    resealed := 0;
    failed := 0;
    if after is null then
        select mrprompt_internal.reseal(l.sealed, null, null, 'mrprompt lookup key') into anew
        from mrprompt_internal.lookup_key l where split_part(l.sealed, '.', 2) <> active for no key update;
        if found and anew is null then
            failed := 1;
            raise warning using message = 'the key of hash_key() does not open',
                hint = 'select * from mrprompt.doctor() tells what is wrong with the master keys.';
        elsif found then
            update mrprompt_internal.lookup_key l set sealed = anew;
        end if;
    end if;
    for key in
        select k.id, k.user_id, k.provider, k.encrypted_key from mrprompt.api_keys k
        where (after is null or k.id > after) and k.encrypted_key <> '' and split_part(k.encrypted_key, '.', 2) <> active
        order by k.id limit least(greatest(batch, 1), 10000) for no key update skip locked
    loop
        last := key.id;
        anew := mrprompt_internal.reseal(key.encrypted_key, key.id, key.user_id, key.provider);
        if anew is null then
            failed := failed + 1;
            raise warning using message = format('key %s does not open', key.id),
                detail = format('It is sealed under master key %s, for provider %s.', split_part(key.encrypted_key, '.', 2), key.provider),
                hint = 'select * from mrprompt.doctor() tells what is wrong with the master keys; a key that is lost for good is revoked with revoke_key().';
        else
            update mrprompt.api_keys k set encrypted_key = anew where k.id = key.id;
            resealed := resealed + 1;
        end if;
    end loop;
end
$$;
comment on function mrprompt_internal.reseal_batch(uuid, integer) is
    'One batch of reseal_keys(): keys behind `after` that are not sealed under the active master key; last: null when there was none.';

create procedure mrprompt.reseal_keys(
    batch integer default 100, inout resealed bigint default null, inout failed bigint default null, inout remaining bigint default null)
    language plpgsql
as $$
declare
    done pg_catalog.record;
    after pg_catalog.uuid;
begin
    resealed := 0;
    failed := 0;
    loop
        select * into done from mrprompt_internal.reseal_batch(after, batch);
        commit;
        resealed := resealed operator(pg_catalog.+) done.resealed;
        failed := failed operator(pg_catalog.+) done.failed;
        exit when done.last is null;
        after := done.last;
    end loop;
    select coalesce(pg_catalog.sum(s.keys operator(pg_catalog.+) s.lookup_key::pg_catalog.int4), 0) into remaining from mrprompt.key_seal_status s where not s.active;
end
$$;
comment on procedure mrprompt.reseal_keys(integer, bigint, bigint, bigint) is
    'Admins: seals all keys anew under the active master key, batch (10000 at most) at a time, each time committing; may be stopped and called again. '
    'remaining: keys under other master keys (the one of hash_key() among them), which were in use or do not open. F0000: no usable master key here.';

create function mrprompt_internal.key_seal_status()
    returns table (master_key_id text, fingerprint text, active boolean, in_file boolean, keys bigint, lookup_key boolean,
                   first_used timestamptz, retired_at timestamptz)
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    state record;
begin
    perform mrprompt_internal.require_admin('look at the master keys');
    select s.active_id, s.ids into state from mrprompt_internal.keyring_state() s;
    return query
    select coalesce(m.id, f.id), m.fingerprint, coalesce(coalesce(m.id, f.id) = state.active_id, false), f.id is not null,
        (select count(*) from mrprompt.api_keys k where split_part(k.encrypted_key, '.', 2) = coalesce(m.id, f.id)),
        exists (select from mrprompt_internal.lookup_key l where split_part(l.sealed, '.', 2) = coalesce(m.id, f.id)),
        m.first_used, m.retired_at
    from mrprompt_internal.master_keys m full join unnest(state.ids) f (id) on f.id = m.id
    order by 3, 7 nulls last, 1;
end
$$;
comment on function mrprompt_internal.key_seal_status() is 'For key_seal_status.';

create view mrprompt.key_seal_status with (security_invoker = true) as
    select * from mrprompt_internal.key_seal_status();
comment on view mrprompt.key_seal_status is 'Admins: how much is sealed under each master key.';
comment on column mrprompt.key_seal_status.fingerprint is 'Tells keys of one id apart; null: nothing was sealed with it yet.';
comment on column mrprompt.key_seal_status.active is 'Whether new keys are sealed with it: the last line of the file.';
comment on column mrprompt.key_seal_status.in_file is 'Whether this server''s master key file holds it.';
comment on column mrprompt.key_seal_status.keys is 'Provider keys sealed with it.';
comment on column mrprompt.key_seal_status.lookup_key is 'Whether the key of hash_key() is sealed with it.';

create function mrprompt_internal.retire_master_key(id text) returns void
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    active text;
    master mrprompt_internal.master_keys;
    keys bigint;
    lookup_keys bigint;
begin
    perform mrprompt_internal.require_admin('retire a master key');
    active := mrprompt_internal.require_active_master_key();
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception using errcode = 'PT400', message = 'a master key is retired in a READ COMMITTED transaction only',
            detail = format('Its isolation level is %s, so it may not see what others have just sealed.', current_setting('transaction_isolation'));
    end if;
    if id = active then
        raise exception using errcode = 'PT409', message = format('master key %s is the active one', id),
            hint = 'Add a new line at the end of the master key file, select pg_reload_conf(), then call mrprompt.reseal_keys().';
    end if;
    update mrprompt_internal.master_keys m set retired_at = coalesce(m.retired_at, now())
    where m.id = retire_master_key.id returning * into master;
    if not found then
        raise exception using errcode = 'PT404', message = format('nothing in this database was ever sealed under a master key %s', coalesce(id, 'null')),
            hint = 'select * from mrprompt.key_seal_status';
    end if;
    select count(*) into keys from mrprompt.api_keys k where split_part(k.encrypted_key, '.', 2) = master.id;
    select count(*) into lookup_keys from mrprompt_internal.lookup_key l where split_part(l.sealed, '.', 2) = master.id;
    if keys + lookup_keys > 0 then
        raise exception using errcode = 'PT409', message = format('master key %s is still in use', master.id),
            detail = format('%s provider keys and %s lookup keys are sealed with it.', keys, lookup_keys),
            hint = 'call mrprompt.reseal_keys(). Where that master key is lost: revoke_key() or update_key() each, then select mrprompt.replace_lookup_key().';
    end if;
end
$$;
comment on function mrprompt_internal.retire_master_key(text) is 'retire_master_key() with the owner''s rights; judges the caller itself.';

create function mrprompt.retire_master_key(id text) returns void
    language sql
    return mrprompt_internal.retire_master_key(id);
comment on function mrprompt.retire_master_key(text) is
    'Admins: nothing in this database is sealed with that master key any more; once that is so in all of the server''s, its line may go from the file. '
    'PT409: it is active or still in use; PT404: unknown; F0000: no usable master key here.';

create function mrprompt_internal.replace_lookup_key() returns void
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    lookup record;
begin
    perform mrprompt_internal.require_admin('replace the key of hash_key()');
    perform mrprompt_internal.require_active_master_key();
    select l.sealed, mrprompt_internal.reseal(l.sealed, null, null, 'mrprompt lookup key') as opened
    into lookup from mrprompt_internal.lookup_key l for update;
    if lookup.opened is not null then
        raise exception using errcode = 'PT409', message = 'the key of hash_key() opens: it is not lost',
            detail = format('It is sealed under master key %s.', split_part(lookup.sealed, '.', 2)), hint = 'call mrprompt.reseal_keys() seals it anew.';
    end if;
    delete from mrprompt_internal.lookup_key;
end
$$;
comment on function mrprompt_internal.replace_lookup_key() is 'replace_lookup_key() with the owner''s rights; judges the caller itself.';

create function mrprompt.replace_lookup_key() returns void
    language sql volatile
    return mrprompt_internal.replace_lookup_key();
comment on function mrprompt.replace_lookup_key() is
    'Admins: after the loss of a master key, gives up the key of hash_key() that is sealed under it; the next key that is stored makes a new one. '
    'Hashes stored before match no longer. PT409: it opens; F0000: no usable master key here.';

grant select on mrprompt.key_seal_status to mrprompt_admin;
grant execute on function mrprompt_internal.reseal_batch, mrprompt_internal.key_seal_status, mrprompt.retire_master_key,
    mrprompt_internal.retire_master_key, mrprompt.replace_lookup_key, mrprompt_internal.replace_lookup_key to mrprompt_admin;
grant execute on procedure mrprompt.reseal_keys to mrprompt_admin;

