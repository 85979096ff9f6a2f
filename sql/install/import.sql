-- Keys that another gateway sealed (AES-256-GCM, base64 of nonce, ciphertext and tag), sealed anew.

create function mrprompt.import_key(
    user_id uuid, provider text, ciphertext text, old_key text, associated_data text default null,
    metadata jsonb default '{}', name text default null)
    returns uuid language c volatile as 'MODULE_PATHNAME', 'import_key';
comment on function mrprompt.import_key(uuid, text, text, text, text, jsonb, text) is
    'Stores a provider key that was sealed elsewhere with AES-256-GCM, and returns its id. ciphertext: base64 of nonce (12 bytes), ciphertext and '
    'tag (16); old_key: 32 bytes in hexadecimal or base64; user_id null: yourself. PT400: it does not open, or is no usable key; 42501: no rights.';

create function mrprompt_internal.adopt_key(
    id uuid, user_id uuid, provider text, ciphertext text, old_key text, associated_data text, metadata jsonb,
    last_used timestamptz, created_at timestamptz, updated_at timestamptz)
    returns text language c volatile as 'MODULE_PATHNAME', 'adopt_key';
comment on function mrprompt_internal.adopt_key(uuid, uuid, text, text, text, text, jsonb, timestamptz, timestamptz, timestamptz) is
    'Stores one row for adopt_api_keys(); answers why it was not stored, or null.';

create function mrprompt_internal.conceal_adoption() returns void
    language c volatile as 'MODULE_PATHNAME', 'conceal_adoption';
comment on function mrprompt_internal.conceal_adoption() is 'Takes the running statement, which holds a secret, out of pg_stat_activity.';

create function mrprompt_internal.adopt_row(source_row jsonb, old_key text, associated_data text)
    returns table (id uuid, user_id uuid, provider text, outcome text, reason text)
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform mrprompt_internal.require_admin('adopt keys');
    provider := lower(source_row ->> 'provider');
    outcome := 'failed';
    begin
        id := source_row ->> 'id';
        user_id := source_row ->> 'user_id';
        perform (source_row ->> 'last_used')::timestamptz, (source_row ->> 'created_at')::timestamptz, (source_row ->> 'updated_at')::timestamptz;
    exception when data_exception then
        reason := sqlerrm;
        return next;
        return;
    end;
    if user_id is null then
        reason := 'user_id is null';
        return next;
        return;
    end if;
    if exists (select from mrprompt.api_keys k where k.id = adopt_row.id) then
        outcome := 'present';
    else
        reason := mrprompt_internal.adopt_key(id, user_id, provider, source_row ->> 'encrypted_key', old_key, associated_data,
            nullif(source_row -> 'metadata', 'null'), (source_row ->> 'last_used')::timestamptz,
            (source_row ->> 'created_at')::timestamptz, (source_row ->> 'updated_at')::timestamptz);
        outcome := case when reason is null then 'adopted' else 'failed' end;
    end if;
    return next;
end
$$;
comment on function mrprompt_internal.adopt_row(jsonb, text, text) is 'One row of adopt_api_keys() with the owner''s rights; judges the caller itself.';

create function mrprompt.adopt_api_keys(
    source regclass, old_key text, associated_data text default null, after text default null, max_rows integer default 10000)
    returns table (id uuid, user_id uuid, provider text, outcome text, reason text)
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
    most constant int := least(greatest(coalesce(max_rows, 10000), 1), 10000);
    missing text;
    place text;
    taken int := 0;
begin
    perform mrprompt_internal.conceal_adoption();
    perform mrprompt_internal.require_admin('adopt keys');
    select string_agg(w.name, ', ') into missing
    from unnest(array['id', 'user_id', 'provider', 'encrypted_key']) w (name)
    where not exists (select from pg_attribute a where a.attrelid = source and a.attname = w.name and a.attnum > 0 and not a.attisdropped);
    if missing is not null then
        raise exception using errcode = 'PT400', message = format('%s is no table of API keys', coalesce(source::text, 'null')),
            detail = format('It lacks %s.', missing),
            hint = 'Its columns: id, user_id, provider, encrypted_key, and where it has them metadata, last_used, created_at, updated_at.';
    end if;
    -- The table is read with the caller's own rights. From a row without an id nobody could go on: such come with the last page.
    for place, id, user_id, provider, outcome, reason in execute format(
        'select t.place, a.*
         from (select to_jsonb(s) as source_row, s.id::text collate "C" as place from %s s
               where $3 is null or s.id is null or s.id::text collate "C" > $3 order by place limit $4) t
         cross join lateral mrprompt_internal.adopt_row(t.source_row, $1, $2) a order by t.place', source)
        using old_key, associated_data, after, most
    loop
        taken := taken + (place is not null)::int;
        return next;
    end loop;
    if taken = most then
        raise notice 'there may be more rows than these %', most using hint = 'Once this has committed, go on with after => the last id.';
    end if;
end
$$;
comment on function mrprompt.adopt_api_keys(regclass, text, text, text, integer) is
    'Admins: takes over a table of API keys that were sealed elsewhere (see import_key), with their ids, owners and times; a report row for each: '
    'adopted, present (its id is there already) or failed, with the reason. May be called again. In the order of the ids, those behind `after`, '
    'max_rows (10000 at most) at a time; rows without an id come with the last ones. PT400: no such table.';

grant execute on function mrprompt.import_key to mrprompt_user, mrprompt_admin;
grant execute on function mrprompt.adopt_api_keys, mrprompt_internal.adopt_row, mrprompt_internal.conceal_adoption to mrprompt_admin;

