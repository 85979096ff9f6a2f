-- The health of keys: asking a provider whether it takes one, and what its answers say of them.

create function mrprompt_internal.note_keys(outcomes json, settled uuid[], key_hashes text[]) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    -- Best effort: a row that somebody holds is left as it is. And what was said of an earlier secret says nothing of the key's new one.
    with said as (
        select r.key_id, u.key_hash,
            bool_or(o.result = 'succeeded') as taken,
            bool_or(o.result = 'succeeded' and r.kind = 'verify') as verified,
            max(left(concat_ws(' ', o.error ->> 'status', o.error ->> 'type') || coalesce(': ' || (o.error ->> 'message'), ''), 500))
                filter (where o.cooldown ->> 'reason' = 'auth') as refusal
        from json_to_recordset(outcomes) as o (request uuid, result text, error json, cooldown json)
        join unnest(settled, key_hashes) as u (request, key_hash) on u.request = o.request
        join mrprompt.requests r on r.id = o.request
        where r.key_id is not null
        group by 1, 2
    ), news as (
        select s.*
        from said s join mrprompt.api_keys k on k.id = s.key_id and k.key_hash = s.key_hash
        where s.verified or s.refusal is not null or s.taken and k.last_error is not null
        for no key update of k skip locked
    )
    update mrprompt.api_keys k
    set last_verified = case when n.taken then clock_timestamp() else k.last_verified end,
        last_error = case when n.taken then null else n.refusal end,
        last_error_at = case when n.taken then null else clock_timestamp() end
    from news n
    where k.id = n.key_id;
end
$$;
comment on function mrprompt_internal.note_keys(json, uuid[], text[]) is
    'Notes at the keys what these outcomes say of them: that the provider takes one, or refuses it. key_hashes: of the secrets that were sent.';

create function mrprompt_internal.verify_key(key_id uuid) returns uuid
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    key constant mrprompt.api_keys := mrprompt_internal.key_to_change(key_id);
    asker constant uuid := coalesce(key.user_id, mrprompt.current_user_id());
    new_id constant uuid := mrprompt_internal.uuidv7();
    place mrprompt.providers;
begin
    if key.revoked_at is not null then
        raise exception using errcode = 'PT409', message = format('key %s (%s) was revoked', key.id, key.masked_key),
            detail = format('revoked at %s', key.revoked_at), hint = 'Add a new key.';
    end if;
    select * into place from mrprompt.providers p where p.name = key.provider and p.enabled;
    if not found then
        raise exception using errcode = 'PT400', message = format('provider %s is gone or disabled', key.provider),
            hint = 'An admin enables or adds it in mrprompt.providers.';
    end if;
    if place.auth = 'none' or position('{model}' in place.base_url || coalesce(place.verify_path, '')) > 0 then
        raise exception using errcode = 'PT400', message = format('keys of provider %s cannot be verified', place.name),
            detail = case place.auth when 'none' then 'It takes no keys.' else 'Its address needs the name of a model.' end,
            hint = 'A short chat shows whether it answers.';
    end if;
    if asker is null then
        raise exception using errcode = 'PT400', message = 'a shared key is verified in the name of a user, and you are none',
            hint = 'select mrprompt.add_user(login_role => current_user)';
    end if;
    perform mrprompt_internal.check_room(asker);
    insert into mrprompt.requests (id, user_id, provider, model, key_id, agent_name, stream, payload, kind, expires_at, options)
    values (new_id, asker, key.provider, '(verify)', key.id, key.metadata ->> 'agent_name', false, '{"verify": true}', 'verify',
        clock_timestamp() + interval '1 minute', '{"max_failures": 2, "first_byte_timeout_ms": 20000, "total_timeout_ms": 30000}');
    perform mrprompt_internal.queue_again(new_id);
    return new_id;
end
$$;
comment on function mrprompt_internal.verify_key(uuid) is 'verify_key() with the owner''s rights; judges the caller itself.';

create function mrprompt.verify_key(key_id uuid) returns uuid
    language sql
    return mrprompt_internal.verify_key(key_id);
comment on function mrprompt.verify_key(uuid) is
    'Has the provider asked whether it takes a key, by its cheapest authenticated call; answers the id of a request: wait_for_request() says how it '
    'ended, list_keys() and failing_keys show it from then on. PT404: not yours; PT409: revoked; PT400: this provider has no such call.';

grant execute on function mrprompt.verify_key, mrprompt_internal.verify_key to mrprompt_user, mrprompt_admin;

