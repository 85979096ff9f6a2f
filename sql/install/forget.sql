-- Forgetting a person: a wish, carried out in steps by tend.

create table mrprompt_internal.forgets (
    user_id uuid primary key,
    requested_at timestamptz not null default clock_timestamp()
);
comment on table mrprompt_internal.forgets is 'Persons to be removed; tend does it in steps, and then removes the wish.';

alter table mrprompt_internal.forgets enable row level security;
create policy all_rows on mrprompt_internal.forgets for select to mrprompt_admin using (true);
create trigger audit after insert or update or delete on mrprompt_internal.forgets for each row
    when (current_user = 'mrprompt_owner' or current_setting('check_function_bodies')::boolean)
    execute function mrprompt_internal.audit('forget', '{user_id}', 'user_id', '{}', '{user_id,requested_at}');
create trigger audit_truncate after truncate on mrprompt_internal.forgets execute function mrprompt_internal.audit('forget');

create function mrprompt_internal.forget_user(user_id uuid) returns void
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform mrprompt_internal.require_admin('forget a user');
    if user_id is null or user_id = '00000000-0000-0000-0000-000000000000' then
        raise exception using errcode = 'PT400', message = 'which user? This id is nobody''s',
            detail = format('user_id is %s', coalesce(user_id::text, 'null'));
    end if;
    if user_id = mrprompt.current_user_id() then
        raise exception using errcode = 'PT400', message = 'you cannot forget yourself',
            detail = 'The audit log would no longer say who did it, nor what else you did.', hint = 'Another admin can.';
    end if;
    if not exists (select from mrprompt.requests r where r.user_id = forget_user.user_id)
        and not exists (select from mrprompt.api_keys k where k.user_id = forget_user.user_id)
        and not exists (select from mrprompt.users u where u.id = forget_user.user_id)
        and not exists (select from mrprompt.threads t where t.user_id = forget_user.user_id)
        and not exists (select from mrprompt.agents a where a.user_id = forget_user.user_id)
        and not exists (select from mrprompt.usage u where u.user_id = forget_user.user_id) then
        raise notice 'user % has nothing here', forget_user.user_id using hint = 'Is the id right? select * from mrprompt.users';
    end if;
    insert into mrprompt_internal.forgets as f (user_id) values (forget_user.user_id) on conflict do nothing;
    update mrprompt.api_keys k set encrypted_key = '', revoked_at = coalesce(k.revoked_at, now()), updated_at = now()
    where k.user_id = forget_user.user_id and k.encrypted_key <> '';
    -- More than that is ended by tend.
    insert into mrprompt_internal.cancels as c (request_id)
    select r.id from mrprompt_internal.queue q join mrprompt.requests r on r.id = q.request_id
    where q.user_id = forget_user.user_id order by r.id limit 100000
    on conflict do nothing;
    perform mrprompt_internal.wake(mrprompt_internal.channel_name('fetchers'));
end
$$;
comment on function mrprompt_internal.forget_user(uuid) is 'forget_user() with the owner''s rights; judges the caller itself.';

create function mrprompt.forget_user(user_id uuid) returns void
    language sql volatile
    return mrprompt_internal.forget_user(user_id);
comment on function mrprompt.forget_user(uuid) is
    'Admins: removes a person. At once the keys are revoked and emptied and what is queued or in flight is cancelled; then, in steps, '
    'threads, runs, agents, requests, answers, streams, batches, grants, keys, budgets and limits of user and keys, and the row of mrprompt.users go; the rows of ledger, '
    'roll-ups and audit log stay as nobody''s, without tags and agents. Where the ledger was pruned before, roll-ups by tag and by agent keep those '
    'names, and so does what is set or counted by tag. mrprompt.forgetting shows how far it is. PT400: no id, or your own.';

create function mrprompt_internal.forget_requests(person uuid, max_rows integer) returns integer
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    nobody constant uuid := '00000000-0000-0000-0000-000000000000';
    did int := 0;
    ids uuid[];
begin
    select array_agg(l.id) into ids from (
        select r.id from mrprompt_internal.queue q join mrprompt.requests r on r.id = q.request_id
        where q.user_id = person and q.fetcher_id is null
        order by r.id limit max_rows for update of q skip locked for no key update of r skip locked) l;
    if ids is not null then
        perform mrprompt_internal.finish(ids, 'cancelled', null, null);
        did := cardinality(ids);
    end if;
    select array_agg(l.id) into ids from (
        select r.id from mrprompt.requests r
        where r.user_id = person and r.finished_at is not null
          and not exists (select from mrprompt_internal.queue q where q.request_id = r.id)
        order by r.id limit max_rows for update skip locked) l;
    return did + mrprompt_internal.remove_requests(
        mrprompt_internal.few_enough(mrprompt_internal.with_free_answer(ids), max_rows), nobody);
end
$$;
comment on function mrprompt_internal.forget_requests(uuid, integer) is
    'Ends what waits of a person''s requests, and removes what has ended; answers how many rows it touched.';

create function mrprompt_internal.forget_rows(person uuid, max_rows integer) returns integer
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    nobody constant uuid := '00000000-0000-0000-0000-000000000000';
    did int := 0;
    part int;
    ids uuid[];
    key_id uuid;
    keys constant uuid[] := array(select k.id from mrprompt.api_keys k where k.user_id = person order by k.id limit 100);
    own constant text[] := person::text || keys::text[];
begin
    -- Before the ledger, which then names them no more.
    delete from mrprompt_internal.budget_counters c using mrprompt.budgets b
    where b.scope in ('user', 'key') and b.subject = any (own || '*'::text) and c.budget_id = b.id and c.subject = any (own);
    ids := array(select u.request_id from mrprompt.usage u where u.user_id = person limit max_rows for no key update skip locked);
    perform mrprompt_internal.recount(ids, -1);
    update mrprompt.usage u
    set user_id = nobody, agent_name = null, provider_request_id = null, tags = null,
        counters = nullif(array(
            select c.id from mrprompt_internal.budget_counters c where c.id = any (u.counters) and c.subject <> all (own) order by c.id), '{}'),
        key_id = (select k.id from mrprompt.api_keys k where k.id = u.key_id and k.user_id is null)
    where u.user_id = person and u.request_id = any (ids);
    get diagnostics did = row_count;
    perform mrprompt_internal.recount(ids, 1);
    if did > 0 then
        return did;
    end if;
    -- What the ledger has no rows of any more.
    did := mrprompt_internal.rename_rollups('user', person::text, nobody::text, max_rows);
    foreach key_id in array keys loop
        did := did + mrprompt_internal.rename_rollups('key', key_id::text, '', max_rows);
    end loop;
    if did > 0 then
        return did;
    end if;

    -- Where a row of the app refers to one of these, it stays, emptied.
    ids := array(select b.id from mrprompt.batches b where b.user_id = person limit max_rows for update skip locked);
    begin
        set constraints all immediate;
        delete from mrprompt.batches b where b.id = any (ids);
    exception when integrity_constraint_violation or raise_exception then
        update mrprompt.batches b set user_id = nobody, name = null, metadata = '{}' where b.id = any (ids);
    end;
    did := did + cardinality(ids);

    delete from mrprompt.group_members m where m.user_id = person;
    get diagnostics part = row_count;
    did := did + part;
    delete from mrprompt.budget_extras e using mrprompt.budgets b where b.id = e.budget_id and b.scope in ('user', 'key') and e.subject = any (own);
    delete from mrprompt.budget_alerts a where a.subject = any (own);
    delete from mrprompt.budgets b where b.scope in ('user', 'key') and b.subject = any (own);
    get diagnostics part = row_count;
    did := did + part;
    delete from mrprompt.rate_limits l where l.scope in ('user', 'key') and l.subject = any (own);
    get diagnostics part = row_count;
    did := did + part;
    delete from mrprompt_internal.budget_counters c where c.subject = any (own);
    delete from mrprompt_internal.limit_buckets k where k.subject = any (own);

    delete from mrprompt.key_grants g
    where g.ctid = any (array(select h.ctid from mrprompt.key_grants h where h.user_id = person limit max_rows for update skip locked));
    get diagnostics part = row_count;
    did := did + part;

    ids := array(select k.id from mrprompt.api_keys k where k.id = any (keys) limit max_rows for update skip locked);
    begin
        set constraints all immediate;
        delete from mrprompt.api_keys k where k.id = any (ids);
    exception when integrity_constraint_violation or raise_exception then
        update mrprompt.api_keys k set user_id = nobody, encrypted_key = '', key_hash = '', masked_key = '', name = null, metadata = '{}',
            revoked_at = coalesce(k.revoked_at, now()) where k.id = any (ids);
    end;
    did := did + cardinality(ids);

    ids := array(
        select a.id from mrprompt.audit_log a where a.owner_id = person or a.user_id = person limit max_rows for update skip locked);
    update mrprompt.audit_log a
    set object_id = case when a.owner_id = person then null else a.object_id end,
        changed = case when a.owner_id = person then '{}' else a.changed end,
        owner_id = case when a.owner_id = person then nobody else a.owner_id end,
        login_role = case when a.user_id = person then null else a.login_role end,
        role = case when a.user_id = person then null else a.role end,
        user_id = case when a.user_id = person then nobody else a.user_id end
    where a.id = any (ids);
    did := did + cardinality(ids);

    ids := array(select u.id from mrprompt.users u where u.id = person for update skip locked);
    begin
        set constraints all immediate;
        delete from mrprompt.users u where u.id = any (ids);
    exception when integrity_constraint_violation or raise_exception then
        update mrprompt.users u set login_role = null, name = null, metadata = '{}' where u.id = any (ids);
    end;
    did := did + cardinality(ids);

    return did;
end
$$;
comment on function mrprompt_internal.forget_rows(uuid, integer) is
    'Removes what a person has beside requests, and makes the rows of the ledger, the roll-ups and the audit log nobody''s; answers how many rows it touched.';

create function mrprompt_internal.forget_some(max_rows integer) returns integer
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    did int := 0;
    wish record;
begin
    for wish in select f.user_id from mrprompt_internal.forgets f order by f.requested_at, f.user_id for update skip locked loop
        exit when did >= max_rows;
        did := did + mrprompt_internal.forget_threads(wish.user_id, max_rows);
        continue when did >= max_rows;
        did := did + mrprompt_internal.forget_requests(wish.user_id, max_rows);
        -- The ledger last: an attempt in flight still writes into it.
        continue when did >= max_rows or exists (select from mrprompt.requests r where r.user_id = wish.user_id)
            or exists (select from mrprompt.threads t where t.user_id = wish.user_id);
        did := did + mrprompt_internal.forget_agents(wish.user_id, max_rows);
        continue when did >= max_rows;
        did := did + mrprompt_internal.forget_rows(wish.user_id, max_rows);
        if not exists (select from mrprompt.batches b where b.user_id = wish.user_id)
            and not exists (select from mrprompt.agents a where a.user_id = wish.user_id)
            and not exists (select from mrprompt.key_grants g where g.user_id = wish.user_id)
            and not exists (select from mrprompt.api_keys k where k.user_id = wish.user_id)
            and not exists (select from mrprompt.users u where u.id = wish.user_id
                            and (u.login_role is not null or u.name is not null or u.metadata <> '{}'))
            and not exists (select from mrprompt.audit_log a where a.owner_id = wish.user_id or a.user_id = wish.user_id)
            and not exists (select from mrprompt.usage u where u.user_id = wish.user_id) then
            delete from mrprompt_internal.forgets f where f.user_id = wish.user_id;
            did := did + 1;
        end if;
    end loop;
    return did;
end
$$;
comment on function mrprompt_internal.forget_some(integer) is
    'Part of tend: goes on removing those whom forget_user() named, some max_rows rows at a time; answers how many rows it touched.';

create view mrprompt.forgetting with (security_invoker = true) as
    select f.user_id, f.requested_at, (select count(*) from mrprompt.requests r where r.user_id = f.user_id) as requests_left
    from mrprompt_internal.forgets f;
comment on view mrprompt.forgetting is 'Admins: those whom forget_user() named and who are not wholly removed yet.';

grant select on mrprompt.forgetting, mrprompt_internal.forgets to mrprompt_admin;
grant execute on function mrprompt.forget_user, mrprompt_internal.forget_user to mrprompt_admin;
