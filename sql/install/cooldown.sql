-- Cooldowns, and what waits: a row of the queue that cannot run now is put aside until its time comes or something ends its wait.

create function mrprompt_internal.put_aside(ids uuid[], waits_for text, until timestamptz, reason text) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    -- What they were woken for is others' now.
    perform mrprompt_internal.pass_on(ids);
    update mrprompt_internal.queue q set ready = false, waits_for = put_aside.waits_for, ready_at = until, blocked_by = null
    where q.request_id = any (ids);
    update mrprompt.requests r set wait_reason = reason, not_before = nullif(until, 'infinity') where r.id = any (ids);
end
$$;
comment on function mrprompt_internal.put_aside(uuid[], text, timestamptz, text) is
    'Takes rows out of the claims'' way; the caller has locked them.';

create function mrprompt_internal.make_ready(ids uuid[]) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    now_ constant bigint := (select last_value from mrprompt_internal.virtual_time);
begin
    update mrprompt_internal.queue q
    set ready = true, waits_for = null, ready_at = clock_timestamp(), tag = now_ + n.place * mrprompt_internal.step(n.priority)
    from (select w.request_id, w.priority, row_number() over (partition by w.user_id, w.priority order by w.tag, w.request_id) as place
          from mrprompt_internal.queue w where w.request_id = any (ids)) n
    where q.request_id = n.request_id and q.request_id = any (ids);
end
$$;
comment on function mrprompt_internal.make_ready(uuid[]) is 'Puts rows that waited back into the claims'' way, each user''s a step apart; the caller has locked them.';

create function mrprompt_internal.make_due_ready(since timestamptz, moment timestamptz, max_rows integer) returns integer
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    ids uuid[];
begin
    select array_agg(w.request_id) into ids from (
        select q.request_id from mrprompt_internal.queue q
        where q.fetcher_id is null and not q.ready and q.ready_at >= since and q.ready_at <= moment
        order by q.ready_at limit max_rows for update skip locked) w;
    if ids is not null then
        perform mrprompt_internal.make_ready(ids);
    end if;
    return coalesce(cardinality(ids), 0);
end
$$;
comment on function mrprompt_internal.make_due_ready(timestamptz, timestamptz, integer) is 'Makes ready what has waited long enough; answers how many rows.';

create function mrprompt_internal.apply_releases(max_rows integer) returns integer
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    release mrprompt_internal.releases;
    ids uuid[];
    did int := 0;
begin
    for release in
        select * from mrprompt_internal.releases r where r.done_at is null or r.done_at < clock_timestamp() - interval '3 seconds'
        order by r.id limit 10 for update skip locked
    loop
        if release.kind = 'cooldown' then
            delete from mrprompt_internal.cooldowns c
            where (release.provider is null or c.provider = release.provider)
              and (release.key_id is null or c.key_id = release.key_id)
              and (release.model is null or c.model = release.model);
        end if;
        if release.kind = 'budget' then
            delete from mrprompt_internal.releases r
            where r.kind = 'budget' and r.scope = release.scope and r.subject is not distinct from release.subject and r.done_at is null and r.reached is null
              and r.id <> release.id
              and r.id in (select l.id from mrprompt_internal.releases l for update skip locked);
            if release.scope = 'user' and release.subject <> '*' then
                select array_agg(w.request_id order by w.request_id) into ids from (
                    select q.request_id from mrprompt_internal.queue q
                    where q.user_id = release.subject::uuid and q.fetcher_id is null and not q.ready and q.waits_for in ('limit', 'budget')
                      and q.request_id > coalesce(release.reached, '00000000-0000-0000-0000-000000000000')
                    order by q.request_id limit max_rows for update skip locked) w;
            else
                select array_agg(w.request_id order by w.request_id) into ids from (
                    select q.request_id from mrprompt_internal.queue q
                    where q.fetcher_id is null and not q.ready and q.waits_for in ('limit', 'budget')
                      and q.request_id > coalesce(release.reached, '00000000-0000-0000-0000-000000000000')
                      and case release.scope
                              when 'key' then release.subject in ('*', q.key_id::text)
                              when 'provider' then release.subject in ('*', q.provider)
                              when 'model' then release.subject in ('*', q.model, q.provider || '/' || q.model)
                              when 'group' then release.subject = '*' or exists (
                                  select from mrprompt.group_members m where m.group_name = release.subject and m.user_id = q.user_id)
                              else true end
                    order by q.request_id limit max_rows for update skip locked) w;
            end if;
            update mrprompt_internal.releases r set reached = ids[cardinality(ids)] where r.id = release.id and ids is not null;
        elsif release.provider is not null and release.model is not null then
            select array_agg(w.request_id) into ids from (
                select q.request_id from mrprompt_internal.queue q
                where q.fetcher_id is null and not q.ready and q.waits_for = release.kind
                  and q.provider = release.provider and q.model = release.model
                  and (release.key_id is null or coalesce(q.key_id, '00000000-0000-0000-0000-000000000000') = release.key_id)
                limit max_rows for update skip locked) w;
        else
            select array_agg(w.request_id) into ids from (
                select q.request_id from mrprompt_internal.queue q
                where q.fetcher_id is null and not q.ready and q.waits_for = release.kind
                  and (release.provider is null or q.provider = release.provider)
                  and (release.key_id is null or coalesce(q.key_id, '00000000-0000-0000-0000-000000000000') = release.key_id)
                  and (release.model is null or q.model = release.model)
                limit max_rows for update skip locked) w;
        end if;
        if ids is not null then
            perform mrprompt_internal.make_ready(ids);
            did := did + cardinality(ids);
        end if;
        if coalesce(cardinality(ids), 0) = max_rows then
            continue;
        elsif release.kind = 'budget' and release.done_at is null then
            update mrprompt_internal.releases r set reached = null, done_at = clock_timestamp() where r.id = release.id;
        else
            delete from mrprompt_internal.releases r where r.id = release.id;
        end if;
    end loop;
    return did;
end
$$;
comment on function mrprompt_internal.apply_releases(integer) is
    'Carries out releases: ends cooldowns, and makes ready what waited, some rows at a time; answers how many.';

create function mrprompt_internal.hold_back(ids uuid[], moment timestamptz) returns uuid[]
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    held record;
    aside uuid[];
    all_aside uuid[] := '{}';
begin
    for held in
        select array_agg(q.request_id order by q.tag) as ids, q.provider
        from mrprompt_internal.queue q join mrprompt_internal.pauses p on p.provider = q.provider
        where q.request_id = any (ids) group by q.provider
    loop
        perform mrprompt_internal.put_aside(held.ids, 'pause', 'infinity', 'provider ' || held.provider || ' is paused by an admin');
        all_aside := all_aside || held.ids;
    end loop;
    for held in
        select array_agg(q.request_id order by q.tag) as ids, c.provider, c.key_id, c.model, c.reason, c.until, c.probe, c.error_type
        from mrprompt_internal.queue q
        join mrprompt_internal.cooldowns c on c.provider = q.provider and c.model = q.model
            and c.key_id = coalesce(q.key_id, '00000000-0000-0000-0000-000000000000')
        where q.request_id = any (ids) and q.request_id <> all (all_aside)
          and (c.until > moment or c.reason <> 'rate_limit')
        group by c.provider, c.key_id, c.model, c.reason, c.until, c.probe, c.error_type
        order by c.provider, c.key_id, c.model
    loop
        aside := held.ids;
        if held.until <= moment and not exists (
            select from mrprompt_internal.queue q where q.request_id = held.probe and q.fetcher_id is not null)
        then
            -- Another claim may have sent one since.
            update mrprompt_internal.cooldowns c set probe = held.ids[1]
            where c.provider = held.provider and c.key_id = held.key_id and c.model = held.model
              and c.probe is not distinct from held.probe;
            if found then
                aside := held.ids[2:];
            end if;
        end if;
        -- Behind a probe there is nothing to wait for but its end, which releases them; a minute is for a probe that hangs.
        perform mrprompt_internal.put_aside(aside, 'cooldown', greatest(held.until, moment + interval '1 minute' * (held.until <= moment)::int),
            format('%s at %s cools down after %s%s', held.model, held.provider,
                case held.reason when 'rate_limit' then 'a rate limit' when 'auth' then 'a refused key' else 'failures' end,
                ' (' || held.error_type || ')'));
        all_aside := all_aside || aside;
    end loop;
    return all_aside;
end
$$;
comment on function mrprompt_internal.hold_back(uuid[], timestamptz) is
    'Puts aside those of some ready requests whose provider is paused or whose target cools down; answers which. One goes on as a probe.';

create function mrprompt_internal.cooldown_time(reason text, times integer) returns interval
    language sql immutable
    -- Doubling: from a second to a minute, after a refused key from ten seconds to ten minutes.
    return least(60, 2 ^ least(times - 1, 10)) * case reason when 'auth' then interval '10 seconds' else interval '1 second' end;
comment on function mrprompt_internal.cooldown_time(text, integer) is 'How long a cooldown lasts where the provider does not say.';

create function mrprompt_internal.open_cooldowns(outcomes json, settled uuid[], key_hashes text[]) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    wish record;
begin
    for wish in
        select r.provider, coalesce(r.key_id, '00000000-0000-0000-0000-000000000000') as key_id, r.model,
            (array_agg(o.cooldown ->> 'reason' order by o.cooldown ->> 'reason'))[1] as reason,
            max((o.cooldown ->> 'ms')::bigint) as ms, min(o.error ->> 'type') as error_type
        from json_to_recordset(outcomes) as o (request uuid, cooldown json, error json)
        join unnest(settled, key_hashes) as u (request, key_hash) on u.request = o.request
        join mrprompt.requests r on r.id = o.request
        join mrprompt.providers p on p.name = r.provider and p.cooldown_percent > 0
        -- What an earlier secret was refused for is nothing to the new one.
        where (o.cooldown ->> 'reason' <> 'auth' or not exists (
                select from mrprompt.api_keys k where k.id = r.key_id and k.key_hash <> u.key_hash))
          and r.kind = 'chat' and o.cooldown ->> 'reason' in ('rate_limit', 'auth', 'failures')
        group by 1, 2, 3 order by 1, 2, 3
    loop
        insert into mrprompt_internal.cooldowns as c (provider, key_id, model, reason, until, error_type)
        values (wish.provider, wish.key_id, wish.model, wish.reason,
            clock_timestamp() + case when wish.ms is null then mrprompt_internal.cooldown_time(wish.reason, 1)
                else least(wish.ms, 3600000) * interval '1 millisecond' end,
            wish.error_type)
        on conflict (provider, key_id, model) do update set
            reason = excluded.reason, error_type = excluded.error_type, probe = null,
            -- What was in flight when it began says nothing new; a minute of peace, or another reason, begins anew.
            times = case when c.until > clock_timestamp() then c.times
                         when wish.ms is not null or c.reason <> excluded.reason or c.until < clock_timestamp() - interval '1 minute' then 1
                         else c.times + 1 end,
            opened_at = case when c.until > clock_timestamp() then c.opened_at else excluded.opened_at end,
            until = case when wish.ms is null and c.reason = excluded.reason and c.until <= clock_timestamp()
                              and c.until >= clock_timestamp() - interval '1 minute'
                         then clock_timestamp() + mrprompt_internal.cooldown_time(wish.reason, c.times + 1)
                         when wish.ms is null and c.until > clock_timestamp() then c.until
                         else greatest(c.until, excluded.until) end;
    end loop;
end
$$;
comment on function mrprompt_internal.open_cooldowns(json, uuid[], text[]) is
    'Opens or prolongs the cooldowns that outcomes ask for. key_hashes: of the secrets that were sent.';

create function mrprompt_internal.release_cooldowns(provider text, key_id uuid, model text) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    -- A wish in a table of its own: no row that the contract needs is locked by this transaction.
    insert into mrprompt_internal.releases (kind, provider, key_id, model) values ('cooldown', provider, key_id, model);
    perform mrprompt_internal.wake(mrprompt_internal.channel_name('fetchers'));
end
$$;
comment on function mrprompt_internal.release_cooldowns(text, uuid, text) is 'Has the contract end cooldowns (null: any) after commit.';

create function mrprompt_internal.end_cooldown(provider text, key_id uuid, model text) returns integer
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform mrprompt_internal.require_admin('end a cooldown');
    insert into mrprompt_internal.releases (kind, provider, key_id, model, by_role) values ('cooldown', provider, key_id, model, session_user);
    perform mrprompt_internal.wake(mrprompt_internal.channel_name('fetchers'));
    return (select count(*) from mrprompt_internal.cooldowns c
            where (end_cooldown.provider is null or c.provider = end_cooldown.provider)
              and (end_cooldown.key_id is null or c.key_id = end_cooldown.key_id)
              and (end_cooldown.model is null or c.model = end_cooldown.model));
end
$$;
comment on function mrprompt_internal.end_cooldown(text, uuid, text) is 'end_cooldown() with the owner''s rights; judges the caller itself.';

create function mrprompt.end_cooldown(provider text default null, key_id uuid default null, model text default null) returns integer
    language sql volatile
    return mrprompt_internal.end_cooldown(provider, key_id, model);
comment on function mrprompt.end_cooldown(text, uuid, text) is
    'Admins: ends the cooldowns of a provider, key or model (null: any), once this has committed; answers how many there are.';

create function mrprompt_internal.cooldowns()
    returns table (provider text, model text, key_id uuid, reason text, error_type text, opened_at timestamptz, until timestamptz,
        times integer, probing boolean, waiting bigint)
    language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
    select c.provider::text, c.model, nullif(c.key_id, '00000000-0000-0000-0000-000000000000'), c.reason, c.error_type, c.opened_at,
        c.until, c.times, c.until <= clock_timestamp(),
        (select count(*) from mrprompt_internal.queue q
         where q.waits_for = 'cooldown' and q.provider = c.provider and q.model = c.model
           and coalesce(q.key_id, '00000000-0000-0000-0000-000000000000') = c.key_id)
    from mrprompt_internal.cooldowns c
    where (c.until > clock_timestamp() or c.reason <> 'rate_limit')
      and (mrprompt_internal.may_act_for_others() or exists (
          select from mrprompt.api_keys k where k.id = c.key_id and k.user_id = mrprompt.current_user_id()));
end;
comment on function mrprompt_internal.cooldowns() is 'Cooldowns that hold: those of the caller''s own keys, or all for who may act for others.';

create view mrprompt.cooldowns with (security_invoker = true) as select * from mrprompt_internal.cooldowns();
comment on view mrprompt.cooldowns is
    'What is left alone for a while, by provider, key and model: after a rate limit until it has passed; after a refused key or '
    'failures until one request, sent as a probe, has succeeded. An admin sees all, a user those of his own keys.';
comment on column mrprompt.cooldowns.times is 'How often in a row: the pause doubles where the provider does not say how long.';
comment on column mrprompt.cooldowns.probing is 'Its time is over: one request goes out to see, the others wait for how it ends.';
comment on column mrprompt.cooldowns.waiting is 'Queued requests that wait for its end.';

grant execute on function mrprompt.end_cooldown, mrprompt_internal.end_cooldown to mrprompt_admin;
grant select on mrprompt.cooldowns to mrprompt_user, mrprompt_admin;
grant execute on function mrprompt_internal.cooldowns to mrprompt_user, mrprompt_admin;
