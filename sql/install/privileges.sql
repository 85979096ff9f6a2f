-- Who owns what, and who may do what. PUBLIC gets nothing.

do $owner$
declare
    object record;
    other name;
begin
    for object in
        select o.* from (
            select case c.relkind when 'v' then 'view' when 'S' then 'sequence' else 'table' end as kind,
                c.oid::regclass::text as name, c.relowner as owner, c.relacl as acl
            from pg_class c where c.relnamespace in ('mrprompt'::regnamespace, 'mrprompt_internal'::regnamespace)
              and (c.relkind in ('r', 'p', 'v') or (c.relkind = 'S' and not exists (
                  -- An identity column's sequence goes with its table.
                  select from pg_depend d where d.objid = c.oid and d.deptype = 'i')))
            union all
            select case p.prokind when 'p' then 'procedure' else 'function' end, p.oid::regprocedure::text, p.proowner, p.proacl
            from pg_proc p where p.pronamespace in ('mrprompt'::regnamespace, 'mrprompt_internal'::regnamespace)
            union all
            select 'schema', n.nspname, n.nspowner, n.nspacl from pg_namespace n where n.nspname in ('mrprompt', 'mrprompt_internal')) o
        -- An upgrade locks no table that was there before for this, and takes back nothing that a DBA has granted since.
        where o.owner <> 'mrprompt_owner'::regrole
    loop
        execute format('alter %s %s owner to mrprompt_owner', object.kind, object.name);
        execute format('revoke all on %s %s from public', replace(object.kind, 'view', 'table'), object.name);
        -- What others have by default privileges of the installing role.
        for other in
            select distinct r.rolname from aclexplode(object.acl) a join pg_roles r on r.oid = a.grantee
            where a.grantee <> object.owner
              and r.rolname not in ('mrprompt_owner', 'mrprompt_user', 'mrprompt_analyst', 'mrprompt_admin', 'mrprompt_fetcher')
        loop
            execute format('revoke all on %s %s from %I', replace(object.kind, 'view', 'table'), object.name, other);
        end loop;
    end loop;
end
$owner$;

grant usage on schema mrprompt, mrprompt_internal to mrprompt_user, mrprompt_analyst, mrprompt_admin;
grant usage on schema mrprompt_internal to mrprompt_fetcher;

-- Reading. Row-level security decides which rows.
grant select on mrprompt.users to mrprompt_user, mrprompt_analyst, mrprompt_admin;
grant select on mrprompt.requests, mrprompt.responses, mrprompt.deltas, mrprompt.requests_in_flight to mrprompt_user, mrprompt_admin;
grant select on mrprompt.usage to mrprompt_user, mrprompt_analyst, mrprompt_admin;
grant select on mrprompt.providers, mrprompt_internal.provider_presets, mrprompt_internal.provider_rows,
    mrprompt.prices, mrprompt.price_versions, mrprompt_internal.price_presets, mrprompt_internal.price_rows,
    mrprompt.models, mrprompt_internal.model_presets, mrprompt_internal.model_rows
    to mrprompt_user, mrprompt_analyst, mrprompt_admin;

-- Administration.
grant insert, update, delete on mrprompt.providers, mrprompt.prices, mrprompt.models to mrprompt_admin;
grant execute on function mrprompt.add_user, mrprompt_internal.add_user, mrprompt.pause, mrprompt.resume, mrprompt_internal.set_pause,
    mrprompt_internal.count_in_flight, mrprompt.resume_here, mrprompt_internal.resume_here, mrprompt.doctor,
    mrprompt_internal.require_admin, mrprompt_internal.keyring_state, mrprompt_internal.preload_libraries, mrprompt_internal.special_host,
    mrprompt_internal.overdue_waits, mrprompt_internal.name_of_rule to mrprompt_admin;
grant execute on procedure mrprompt.drain to mrprompt_admin;
grant execute on function mrprompt.status, mrprompt_internal.status, mrprompt_internal.server_state to mrprompt_analyst, mrprompt_admin;

-- Asking and reading answers.
grant execute on function mrprompt.current_user_id to mrprompt_user, mrprompt_analyst, mrprompt_admin;
grant execute on function mrprompt_internal.caller_is_admin, mrprompt_internal.may_act_for_others, mrprompt_internal.setting, mrprompt_internal.slot_of,
    mrprompt_internal.uuid_time, mrprompt_internal.uuid_at to mrprompt_user, mrprompt_analyst, mrprompt_admin;
grant execute on function
    mrprompt.chat, mrprompt.chat_text, mrprompt_internal.chat_payload, mrprompt_internal.enqueue,
    mrprompt.get_request, mrprompt_internal.why_waiting, mrprompt_internal.is_cancel_requested, mrprompt.wait_for_request, mrprompt.stream,
    mrprompt_internal.refuse_own, mrprompt_internal.refuse_waiting_for, mrprompt_internal.is_own_change, mrprompt_internal.begin_wait,
    mrprompt_internal.change_counter, mrprompt_internal.wait_for_change,
    mrprompt.cancel_request, mrprompt_internal.request_cancel,
    mrprompt.notification_channel, mrprompt_internal.my_channel, mrprompt_internal.in_flight to mrprompt_user, mrprompt_admin;
grant execute on procedure mrprompt.ask to mrprompt_user, mrprompt_admin;

-- The contract, and nothing else.
grant execute on function mrprompt_internal.hello, mrprompt_internal.claim, mrprompt_internal.append, mrprompt_internal.settle,
    mrprompt_internal.heartbeat, mrprompt_internal.tend, mrprompt_internal.supervisor_state, mrprompt_internal.fetcher_gone,
    mrprompt_internal.local_fetchers_gone, mrprompt_internal.notify_changes, mrprompt_internal.notify_fetchers to mrprompt_fetcher;

-- keys.sql's grants stand in keys.sql; they were revoked from public only.

-- From here on the supervisor of this database may come: wake it when the installation commits.
select mrprompt_internal.wake(mrprompt_internal.channel_name('fetchers'));

