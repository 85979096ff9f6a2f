-- Looking at runs: as they stand, their steps, waiting for their end; and who one is.

create function mrprompt_internal.required_action(run_id uuid, step integer, at timestamptz default null) returns json
    language plpgsql stable set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
begin
    return (
        select json_build_object('type', case when bool_or(not c.approval) then 'submit_tool_outputs' else 'approve_tool_calls' end,
            'submit_tool_outputs', json_build_object('tool_calls', coalesce(json_agg(c.call order by c.place) filter (where not c.approval), '[]')),
            'approve_tool_calls', json_build_object('tool_calls', coalesce(json_agg(c.call order by c.place) filter (where c.approval), '[]')))
        from (select t.place, t.approval, json_build_object('id', t.call_id, 'type', 'function',
                  'function', json_build_object('name', t.name, 'arguments', t.arguments)) as call
              from mrprompt.run_steps s join mrprompt.tool_calls t on t.step_id = s.id
              where s.run_id = required_action.run_id and s.step = required_action.step and s.type = 'tool_calls'
                and (t.approval or t.kind = 'client' and (t.output is null or t.status <> 'failed'))
                and case when at is null then t.status in ('needs_output', 'needs_approval') else t.answered_at > at is not false end) c
        having count(*) > 0);
end
$$;
comment on function mrprompt_internal.required_action(uuid, integer, timestamptz) is
    'What a model call has its run ask its user for, in the shape of the Assistants API: now, or what was not answered at a time before. Null: nothing.';

create view mrprompt.run_status with (security_invoker = true) as
    select r.id, r.thread_id, r.user_id, r.agent_id, r.agent_version,
        case when r.status = 'queued' and q.status = 'running' then 'in_progress' else r.status end as status,
        case when r.status = 'requires_action' then mrprompt_internal.required_action(r.id, r.steps) end as required_action,
        r.last_error, r.incomplete_reason, f.provider, coalesce(q.model, f.model) as model, f.instructions, f.tools,
        r.steps, r.prompt_tokens, r.completion_tokens, r.cost,
        case when not r.active and r.finished_at is null then 'the active run of its thread' else q.wait_reason end as wait_reason, q.not_before, r.request_id, r.metadata, r.created_at, r.started_at,
        r.finished_at, r.expires_at
    from mrprompt.runs r
    left join mrprompt.requests q on q.id = r.request_id
    cross join lateral mrprompt_internal.run_config(r) f;
comment on view mrprompt.run_status is 'Runs as they stand, with what is in force in them; what get_run() and list_runs() return.';
comment on column mrprompt.run_status.required_action is
    'While it requires an action: {"type", "submit_tool_outputs": {"tool_calls": […]}, "approve_tool_calls": {"tool_calls": […]}}, calls in OpenAI''s shape.';
comment on column mrprompt.run_status.wait_reason is 'What its model call under way waits for; null: its turn, or nothing.';

create function mrprompt.get_run(run_id uuid) returns mrprompt.run_status
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    state mrprompt.run_status;
begin
    select * into state from mrprompt.run_status s where s.id = run_id;
    if not found then
        raise exception using errcode = 'PT404', message = format('there is no run %s of yours', coalesce(run_id::text, 'null')),
            hint = 'Runs are visible to their user and to admins, once their transaction has committed.';
    end if;
    return state;
end
$$;
comment on function mrprompt.get_run(uuid) is 'A run as it stands. PT404: not there, or not yours.';

create function mrprompt.list_runs(
    thread_id uuid default null, "limit" integer default 20, "order" text default 'desc', after uuid default null, before uuid default null)
    returns setof mrprompt.run_status
    language plpgsql stable rows 20 set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_sort = off set jit = off
as $$
declare
    up constant boolean := "order" = 'asc';
    scan_up constant boolean := mrprompt_internal.page_goes_up("limit", "order", after is null and before is not null);
begin
    if thread_id is not null and not exists (select from mrprompt.threads t where t.id = list_runs.thread_id and t.deleted_at is null) then
        perform mrprompt_internal.refuse_thread(thread_id);
    end if;
    return query
    select * from mrprompt.run_status s
    where s.id = any (array(
        select r.id from mrprompt.runs r
        where case when list_runs.thread_id is null then r.user_id = (select mrprompt.current_user_id()) else r.thread_id = list_runs.thread_id end
          -- By the key, for each row that is read: the offset keeps the planner from hashing all threads.
          and exists (select from mrprompt.threads t where t.id = r.thread_id and t.deleted_at is null offset 0)
          and (after is null or case when up then r.id > after else r.id < after end)
          and (before is null or case when up then r.id < before else r.id > before end)
        order by case when scan_up then r.id end, r.id desc limit "limit"))
    order by case when up then s.id end, s.id desc;
end
$$;
comment on function mrprompt.list_runs(uuid, integer, text, uuid, uuid) is
    'Runs of a thread, or (null) all of one''s own, 1 to 100 of them; after and before are ids of runs, in the order asked for. PT400.';

create function mrprompt_internal.call_details(step mrprompt.run_steps) returns json
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select case step.type when 'message_creation' then json_build_object('type', step.type, 'message_creation', json_build_object('message_id', step.message_id))
            else json_build_object('type', step.type, 'tool_calls', (
                select coalesce(json_agg(json_build_object('id', c.call_id, 'type', 'function', 'kind', c.kind, 'status', c.status,
                    'function', json_build_object('name', c.name, 'arguments', c.arguments, 'output', c.output)) order by c.place), '[]')
                from mrprompt.tool_calls c where c.step_id = step.id)) end);
end
$$;
comment on function mrprompt_internal.call_details(mrprompt.run_steps) is 'A step''s step_details, as the Assistants API showed them; kind and status of each call beside.';

create function mrprompt.list_run_steps(
    run_id uuid, "limit" integer default 20, "order" text default 'desc', after uuid default null, before uuid default null)
    returns table (id uuid, step integer, type text, status text, step_details json, message_id uuid, request_id uuid, prompt_tokens bigint,
        completion_tokens bigint, cost numeric, last_error json, created_at timestamptz, finished_at timestamptz)
    language plpgsql stable rows 20 set search_path = pg_catalog, pg_temp
as $$
declare
    sign constant integer := case "order" when 'asc' then 1 else -1 end;
    scan_up constant boolean := mrprompt_internal.page_goes_up("limit", "order", after is null and before is not null);
begin
    if not exists (select from mrprompt.runs r where r.id = list_run_steps.run_id) then
        raise exception using errcode = 'PT404', message = format('there is no run %s of yours', coalesce(run_id::text, 'null')), hint = 'select * from mrprompt.list_runs()';
    end if;
    -- A run has few.
    return query
    with steps as materialized (
        select s as step_row, sign * row_number() over (order by s.step, s.type) as place from mrprompt.run_steps s where s.run_id = list_run_steps.run_id
    )
    select (s.step_row).id, (s.step_row).step, (s.step_row).type, (s.step_row).status, mrprompt_internal.call_details(s.step_row), (s.step_row).message_id,
        (s.step_row).request_id, (s.step_row).prompt_tokens, (s.step_row).completion_tokens, (s.step_row).cost, (s.step_row).last_error,
        (s.step_row).created_at, (s.step_row).finished_at
    from (select p.* from steps p
          where (after is null or p.place > (select a.place from steps a where (a.step_row).id = after))
            and (before is null or p.place < (select b.place from steps b where (b.step_row).id = before))
          order by case when scan_up = ("order" = 'asc') then p.place end, p.place desc limit "limit") s
    order by s.place;
end
$$;
comment on function mrprompt.list_run_steps(uuid, integer, text, uuid, uuid) is
    'What a run did, step by step: step_details as the Assistants API showed them, tokens and cost (USD). PT400, PT404.';

create function mrprompt_internal.refuse_own_run(run_id uuid) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform mrprompt_internal.refuse_waiting_for((select r.xmin from mrprompt.runs r where r.id = run_id), 'run ' || coalesce(run_id::text, 'null'));
end
$$;
comment on function mrprompt_internal.refuse_own_run(uuid) is 'PT404 for a run the caller cannot see, PT400 for one that this transaction has changed.';

create function mrprompt.wait_for_run(run_id uuid, timeout interval default '5 seconds') returns mrprompt.run_status
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
    until constant timestamptz := mrprompt_internal.begin_wait(timeout);
    counter bigint;
    again boolean := true;
begin
    perform mrprompt_internal.refuse_own_run(run_id);
    loop
        counter := mrprompt_internal.change_counter(run_id);
        exit when not again or exists (
            select from mrprompt.runs r where r.id = run_id and (r.finished_at is not null or r.status = 'requires_action'));
        again := mrprompt_internal.wait_for_change(run_id, counter, until);
    end loop;
    return mrprompt.get_run(run_id);
end
$$;
comment on function mrprompt.wait_for_run(uuid, interval) is
    'Waits until the run has ended or requires an action, at most timeout (and always less than statement_timeout), and returns it as it then is: another '
    'status means not yet. Errors as wait_for_request.';

create function mrprompt.agent_status(
    agent_id uuid default null, "limit" integer default 20, "order" text default 'desc', after uuid default null, before uuid default null)
    returns table (id uuid, name text, provider text, model text, shared boolean, version integer, archived boolean, active_runs bigint, last_run_id uuid,
        last_status text, last_error json, last_run_at timestamptz)
    language plpgsql stable rows 20 set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_sort = off set jit = off
as $$
declare
    me constant uuid := mrprompt.current_user_id();
    ids constant uuid[] := case when agent_id is not null then array[agent_id]
        else array(select l.id from mrprompt.list_agents("limit", "order", after, before) with ordinality l order by l.ordinality) end;
begin
    return query
    select a.id, a.name, a.provider::text, a.model, a.user_id is null, a.version, a.archived_at is not null,
        (select count(*) from mrprompt.runs r where r.agent_id = a.id and r.finished_at is null and r.user_id = me),
        l.id, l.status, l.last_error, l.created_at
    from unnest(ids) with ordinality w (id, place)
    join mrprompt.agents a on a.id = w.id
    left join lateral (
        select r.id, r.status, r.last_error, r.created_at from mrprompt.runs r
        where r.agent_id = a.id and r.user_id = me order by r.id desc limit 1) l on true
    order by w.place;
end
$$;
comment on function mrprompt.agent_status(uuid, integer, text, uuid, uuid) is
    'The agents that the caller can run, as list_agents() pages them (or one), and what his runs with them are doing: how many are not finished, and how '
    'the latest went. PT400.';

create function mrprompt.me() returns table (user_id uuid, name text, role name, admin boolean, analyst boolean, notification_channel text)
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select u.id, (select w.name from mrprompt.users w where w.id = u.id), coalesce(nullif(current_setting('role'), 'none'), session_user)::name,
        mrprompt_internal.caller_is_admin(), pg_has_role('mrprompt_analyst', 'usage'),
        case when u.id is not null then mrprompt.notification_channel() end
    from (select mrprompt.current_user_id() as id) u;
end
$$;
comment on function mrprompt.me() is 'Who the caller is to mrprompt: user_id null is nobody.';

grant select on mrprompt.run_status to mrprompt_user, mrprompt_admin;
grant execute on function mrprompt_internal.run_config, mrprompt_internal.limits_of, mrprompt_internal.merge_config, mrprompt_internal.required_action, mrprompt.get_run, mrprompt.list_runs, mrprompt.list_run_steps,
    mrprompt_internal.call_details, mrprompt.wait_for_run, mrprompt_internal.refuse_own_run, mrprompt.agent_status to mrprompt_user, mrprompt_admin;
grant execute on function mrprompt.me to mrprompt_user, mrprompt_analyst, mrprompt_admin;
