-- The audit log: who changed providers, prices, keys, users and what runs. Written by triggers on the tables themselves.

create table mrprompt.audit_log (
    id uuid primary key default mrprompt_internal.uuidv7(),
    at timestamptz not null default clock_timestamp(),
    login_role name,
    role name,
    user_id uuid,
    action text not null check (action in ('insert', 'update', 'delete', 'truncate')),
    object_type text not null,
    object_id text,
    owner_id uuid,
    changed jsonb not null default '{}'
);
create index audit_log_of_object on mrprompt.audit_log (object_type, object_id);
create index audit_log_by_user on mrprompt.audit_log (user_id) where user_id is not null;
create index audit_log_of_owner on mrprompt.audit_log (owner_id) where owner_id is not null;
comment on table mrprompt.audit_log is
    'Who changed what: one row per provider, model, price, budget, extra, rate limit, group member, key, key grant, master key, user, shared agent, tool, pause, ended cooldown, forgotten user, recomputed cost or new home, and enable_supabase(). Takes new rows only.';
comment on column mrprompt.audit_log.id is 'UUIDv7: its order is the order of the changes.';
comment on column mrprompt.audit_log.login_role is 'The role that logged in, which no SET changes.';
comment on column mrprompt.audit_log.role is 'The role in force, as SET ROLE or PostgREST chose it.';
comment on column mrprompt.audit_log.user_id is 'Who asked, as mrprompt.current_user_id() says; null: nobody that mrprompt knows.';
comment on column mrprompt.audit_log.action is 'What happened to the row: insert, update, delete, or truncate (all of them).';
comment on column mrprompt.audit_log.object_type is
    'provider, model, price, budget, budget_extra (object_id: the budget), rate_limit, group_member (object_id: the group), api_key, key_grant (object_id: the key), master_key (first use, retirement), user, agent (a shared one), tool, pause (* is all providers), cooldown_end, forget (forget_user(); delete: done), recompute (recompute_cost() to apply; update: done), home (resume_here()), supabase (enable_supabase(); changed: what it did).';
comment on column mrprompt.audit_log.object_id is 'Which one: its name or id; null: all, or one of a user who was forgotten since.';
comment on column mrprompt.audit_log.owner_id is 'The user whom it belongs to or concerns; null: nobody in particular.';
comment on column mrprompt.audit_log.changed is
    '{"column": [old, new]}; "hidden" stands for secrets, metadata, headers and the names that users give: that they changed, not what they are.';

alter table mrprompt.audit_log enable row level security;
create policy all_rows on mrprompt.audit_log for select to mrprompt_analyst, mrprompt_admin using (true);
grant select on mrprompt.audit_log to mrprompt_analyst, mrprompt_admin;

create function mrprompt_internal.refuse_change() returns trigger
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    -- Triggers, pruning and forget_user() write as the owner; whatever else somebody may have been granted ends here.
    if not pg_has_role(current_user, 'mrprompt_owner', 'usage') then
        raise exception using errcode = 'insufficient_privilege',
            message = format('%s is written by mrprompt only', tg_relid::regclass),
            detail = format('%s by role %s', lower(tg_op), current_user), hint = 'Rows go by mrprompt.audit_retention.';
    end if;
    return null;
end
$$;
comment on function mrprompt_internal.refuse_change() is '42501 unless the writer has the rights of mrprompt_owner.';
create trigger append_only before insert or update or delete or truncate on mrprompt.audit_log
    for each statement execute function mrprompt_internal.refuse_change();

create function mrprompt_internal.changed_columns(before jsonb, after jsonb, hidden text[], ignored text[]) returns jsonb
    language sql immutable set search_path = pg_catalog, pg_temp
begin atomic
    select jsonb_object_agg(c.name, case when c.name = any (hidden)
        then jsonb_build_array(case when c.old is not null then 'hidden' end, case when c.new is not null then 'hidden' end)
        else jsonb_build_array(c.old, c.new) end)
    from (select k as name, nullif(before -> k, 'null') as old, nullif(after -> k, 'null') as new
          from jsonb_object_keys(coalesce(after, before)) k) c
    where c.old is distinct from c.new and c.name <> all (ignored);
end;
comment on function mrprompt_internal.changed_columns(jsonb, jsonb, text[], text[]) is
    'What audit_log.changed shows of two versions of a row (null: there is none); null where nothing differs.';

create function mrprompt_internal.write_audit(action text, object_type text, object_id text, owner_id uuid, changed jsonb) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    acting uuid;
begin
    begin
        acting := mrprompt.current_user_id();
    exception when sqlstate 'PT400' then
        acting := null;  -- claims that name no uuid
    end;
    insert into mrprompt.audit_log (login_role, role, user_id, action, object_type, object_id, owner_id, changed)
    values (session_user, case current_setting('role') when 'none' then session_user else current_setting('role') end,
        acting, action, object_type, object_id, owner_id, changed);
end
$$;
comment on function mrprompt_internal.write_audit(text, text, text, uuid, jsonb) is 'A row of the audit log, with who it is that acts.';

create function mrprompt_internal.user_of(scope text, subject text) returns uuid
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    if scope = 'user' and subject <> '*' then
        return subject::uuid;
    end if;
    return null;
end
$$;
comment on function mrprompt_internal.user_of(text, text) is 'The user that a budget or limit is for; null: it is not for one.';

create function mrprompt_internal.audit() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    object_type constant text := tg_argv[0];
    id_columns constant text[] := tg_argv[1];
    owner_column constant text := tg_argv[2];
    hidden text[] := tg_argv[3];
    ignored constant text[] := tg_argv[4];
    before constant jsonb := to_jsonb(old);
    after constant jsonb := to_jsonb(new);
    object_id text;
    owner_id uuid;
    changes jsonb;
begin
    if tg_op <> 'TRUNCATE' then
        object_id := (select string_agg(coalesce(after, before) ->> c, ' ' order by place) from unnest(id_columns) with ordinality i (c, place));
        owner_id := case when object_type = 'cooldown_end' then (select k.user_id from mrprompt.api_keys k where k.id = (after ->> 'key_id')::uuid)
                         when object_type in ('budget', 'rate_limit') then
                             mrprompt_internal.user_of(coalesce(after, before) ->> 'scope', coalesce(after, before) ->> 'subject')
                         when object_type = 'budget_extra' then (
                             select mrprompt_internal.user_of(b.scope, coalesce(after, before) ->> 'subject')
                             from mrprompt.budgets b where b.id = (coalesce(after, before) ->> 'budget_id')::uuid)
                         else coalesce(before ->> owner_column, after ->> owner_column)::uuid end;
        if owner_id is not null then
            hidden := hidden || array['name'];
        end if;
        changes := mrprompt_internal.changed_columns(before, after, hidden, ignored);
        if tg_op = 'UPDATE' and changes is null then
            return null;
        end if;
        -- Of a person who is being forgotten only this much is kept: that it happened. The wish itself goes with its end.
        if object_type = 'forget' and tg_op = 'DELETE'
            or object_type <> 'forget' and exists (select from mrprompt_internal.forgets f where f.user_id = owner_id) then
            object_id := null;
            owner_id := '00000000-0000-0000-0000-000000000000';
            changes := '{}';
        end if;
    end if;
    perform mrprompt_internal.write_audit(lower(tg_op), object_type, object_id, owner_id, coalesce(changes, '{}'));
    return null;
end
$$;
comment on function mrprompt_internal.audit() is
    'Trigger: writes a change into the audit log. Arguments: object type, columns of its id, column of its owner, hidden columns, ignored columns.';

-- What mrprompt's functions write is always recorded, and what a DBA writes beside them. The rows of a dump are no changes:
-- its restore, which no user's session is, writes them itself with function bodies unchecked.
create trigger audit after insert or update or delete on mrprompt_internal.provider_rows for each row
    when (current_user = 'mrprompt_owner' or current_setting('check_function_bodies')::boolean)
    execute function mrprompt_internal.audit('provider', '{name}', '', '{headers}', '{}');
create trigger audit after update or delete on mrprompt_internal.price_rows for each row
    when (current_user = 'mrprompt_owner' or current_setting('check_function_bodies')::boolean)
    execute function mrprompt_internal.audit('price', '{provider,model,service_tier,above_tokens,effective_from}', '', '{}', '{id}');
-- Not what was replaced and is kept for the ledger.
create trigger audit_insert after insert on mrprompt_internal.price_rows for each row
    when (new.replaced_at is null and (current_user = 'mrprompt_owner' or current_setting('check_function_bodies')::boolean))
    execute function mrprompt_internal.audit('price', '{provider,model,service_tier,above_tokens,effective_from}', '', '{}', '{id}');
create trigger audit after insert or update or delete on mrprompt_internal.model_rows for each row
    when (current_user = 'mrprompt_owner' or current_setting('check_function_bodies')::boolean)
    execute function mrprompt_internal.audit('model', '{provider,model}', '', '{}', '{}');
create trigger audit after insert or update or delete on mrprompt.budgets for each row
    when (current_user = 'mrprompt_owner' or current_setting('check_function_bodies')::boolean)
    execute function mrprompt_internal.audit('budget', '{scope,subject,period}', '', '{}', '{id,created_at,updated_at}');
create trigger audit after insert or update or delete on mrprompt.budget_extras for each row
    when (current_user = 'mrprompt_owner' or current_setting('check_function_bodies')::boolean)
    execute function mrprompt_internal.audit('budget_extra', '{budget_id,subject}', '', '{}', '{id,by_role,granted_at}');
create trigger audit after insert or update or delete on mrprompt.rate_limits for each row
    when (current_user = 'mrprompt_owner' or current_setting('check_function_bodies')::boolean)
    execute function mrprompt_internal.audit('rate_limit', '{scope,subject}', '', '{}', '{id,created_at,updated_at}');
create trigger audit after insert or update or delete on mrprompt.group_members for each row
    when (current_user = 'mrprompt_owner' or current_setting('check_function_bodies')::boolean)
    execute function mrprompt_internal.audit('group_member', '{group_name}', 'user_id', '{}', '{added_at}');
-- A key that is merely sealed anew keeps its hash; what its use and its provider say of it is no change, and must cost claims nothing.
create trigger audit after insert or update of id, user_id, provider, key_hash, metadata, name, revoked_at or delete on mrprompt.api_keys for each row
    when (current_user = 'mrprompt_owner' or current_setting('check_function_bodies')::boolean)
    execute function mrprompt_internal.audit('api_key', '{id}', 'user_id', '{key_hash,metadata}',
        '{encrypted_key,masked_key,last_used,last_verified,last_error,last_error_at,created_at,updated_at}');
create trigger audit after insert or update or delete on mrprompt_internal.master_keys for each row
    when (current_user = 'mrprompt_owner' or current_setting('check_function_bodies')::boolean)
    execute function mrprompt_internal.audit('master_key', '{id}', '', '{}', '{fingerprint,first_used}');
create trigger audit after insert or update or delete on mrprompt.key_grants for each row
    when (current_user = 'mrprompt_owner' or current_setting('check_function_bodies')::boolean)
    execute function mrprompt_internal.audit('key_grant', '{key_id}', 'user_id', '{}', '{id,granted_at}');
create trigger audit after insert or update or delete on mrprompt.users for each row
    when (current_user = 'mrprompt_owner' or current_setting('check_function_bodies')::boolean)
    execute function mrprompt_internal.audit('user', '{id}', 'id', '{metadata}', '{created_at}');
create trigger audit after insert or update or delete on mrprompt_internal.pauses for each row
    when (current_user = 'mrprompt_owner' or current_setting('check_function_bodies')::boolean)
    execute function mrprompt_internal.audit('pause', '{provider}', '', '{}', '{since,by_role}');
create trigger audit after insert on mrprompt_internal.releases for each row
    when (new.by_role is not null and (current_user = 'mrprompt_owner' or current_setting('check_function_bodies')::boolean))
    execute function mrprompt_internal.audit('cooldown_end', '{provider,key_id,model}', '', '{}', '{id,kind,by_role}');
-- Not each step of it.
create trigger audit after insert or update of done_at on mrprompt_internal.recomputes for each row
    when (current_user = 'mrprompt_owner' or current_setting('check_function_bodies')::boolean)
    execute function mrprompt_internal.audit('recompute', '{id}', '', '{}', '{id,by_role,requested_at,reached,rows_so_far,difference_so_far}');
-- Shared ones; a user's own are his own affair. What they are told to do is content.
create trigger audit after update or delete on mrprompt.agents for each row
    when (old.user_id is null and (current_user = 'mrprompt_owner' or current_setting('check_function_bodies')::boolean))
    execute function mrprompt_internal.audit('agent', '{id}', '', '{instructions,metadata}', '{id,created_at,updated_at}');
create trigger audit_insert after insert on mrprompt.agents for each row
    when (new.user_id is null and (current_user = 'mrprompt_owner' or current_setting('check_function_bodies')::boolean))
    execute function mrprompt_internal.audit('agent', '{id}', '', '{instructions,metadata}', '{id,created_at,updated_at}');
create trigger audit after insert on mrprompt_internal.homes for each row
    when (current_user = 'mrprompt_owner' or current_setting('check_function_bodies')::boolean)
    execute function mrprompt_internal.audit('home', '{system_identifier,database_oid}', '', '{}', '{id,since}');

create trigger audit after insert or update or delete on mrprompt.tools for each row
    when (current_user = 'mrprompt_owner' or current_setting('check_function_bodies')::boolean)
    execute function mrprompt_internal.audit('tool', '{name}', '', '{}', '{created_at,updated_at}');

create trigger audit_truncate after truncate on mrprompt_internal.provider_rows execute function mrprompt_internal.audit('provider');
create trigger audit_truncate after truncate on mrprompt_internal.price_rows execute function mrprompt_internal.audit('price');
create trigger audit_truncate after truncate on mrprompt_internal.model_rows execute function mrprompt_internal.audit('model');
create trigger audit_truncate after truncate on mrprompt.budgets execute function mrprompt_internal.audit('budget');
create trigger audit_truncate after truncate on mrprompt.budget_extras execute function mrprompt_internal.audit('budget_extra');
create trigger audit_truncate after truncate on mrprompt.rate_limits execute function mrprompt_internal.audit('rate_limit');
create trigger audit_truncate after truncate on mrprompt.group_members execute function mrprompt_internal.audit('group_member');
create trigger audit_truncate after truncate on mrprompt.api_keys execute function mrprompt_internal.audit('api_key');
create trigger audit_truncate after truncate on mrprompt.key_grants execute function mrprompt_internal.audit('key_grant');
create trigger audit_truncate after truncate on mrprompt.users execute function mrprompt_internal.audit('user');
create trigger audit_truncate after truncate on mrprompt.agents execute function mrprompt_internal.audit('agent');
create trigger audit_truncate after truncate on mrprompt_internal.pauses execute function mrprompt_internal.audit('pause');
create trigger audit_truncate after truncate on mrprompt.tools execute function mrprompt_internal.audit('tool');

