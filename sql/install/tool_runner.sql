-- Calls of tools that are SQL functions: rows of mrprompt.tool_calls, each run by a process of its own as the user who asked.

create table mrprompt_internal.tool_processes (
    call_id uuid primary key,
    tries integer not null,
    pid integer not null,
    timed_out_after integer
);
alter table mrprompt_internal.tool_processes enable row level security;
comment on table mrprompt_internal.tool_processes is
    'Which process runs a call. It keeps its row locked while it does: a row that nobody has locked is of one that is gone.';
comment on column mrprompt_internal.tool_processes.timed_out_after is 'Milliseconds: it was ended for taking longer. Null: whoever ended it, it was not for that.';

create function mrprompt_internal.start_tools() returns void
    language c volatile as 'MODULE_PATHNAME', 'start_tools';
comment on function mrprompt_internal.start_tools() is
    'At the commit of this transaction, starts a process that runs one queued tool call; none while there are enough, or no worker slot is free.';

create function mrprompt_internal.stop_tool(pid integer) returns void
    language c volatile strict as 'MODULE_PATHNAME', 'stop_tool';
comment on function mrprompt_internal.stop_tool(integer) is 'At the commit of this transaction, ends this tool process of this database, if it still is one.';

create function mrprompt_internal.tool_error(state text, message text, detail text default null, hint text default null) returns text
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return json_strip_nulls(json_build_object('error', json_build_object('sqlstate', state, 'message', left(message, 2000),
        'detail', left(nullif(detail, ''), 2000), 'hint', left(nullif(hint, ''), 2000))));
end
$$;
comment on function mrprompt_internal.tool_error(text, text, text, text) is 'An error as the output of a call, for the model.';

create function mrprompt_internal.next_tool_call() returns uuid
    language plpgsql volatile set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    -- One user's slow tools leave a worker to the others.
    most constant integer := greatest(mrprompt_internal.setting('mrprompt.max_tool_workers')::int - 1, 1);
    turn uuid;
    next_id uuid;
begin
    if not mrprompt_internal.is_home() then
        return null;
    end if;
    for turn in
        -- From user to user along the index, however many calls each of them has.
        with recursive waiting as (
            (select c.user_id, c.id from mrprompt.tool_calls c where c.status = 'queued' and c.kind = 'sql' order by c.user_id, c.id limit 1)
            union all
            select n.user_id, n.id from waiting w cross join lateral (
                select c.user_id, c.id from mrprompt.tool_calls c
                where c.status = 'queued' and c.kind = 'sql' and c.user_id > w.user_id order by c.user_id, c.id limit 1) n
        ), busy as materialized (
            select r.user_id, count(*) as running from mrprompt.tool_calls r where r.status = 'running' and r.kind = 'sql' group by r.user_id
        )
        select w.user_id from waiting w left join busy b on b.user_id = w.user_id
        where coalesce(b.running, 0) < most
        order by coalesce(b.running, 0), w.id
    loop
        -- One that somebody holds (he cancels its run) keeps none of the others waiting.
        select c.id into next_id from mrprompt.tool_calls c
        where c.status = 'queued' and c.kind = 'sql' and c.user_id = turn order by c.id limit 1 for no key update skip locked;
        exit when found;
    end loop;
    return next_id;
end
$$;
comment on function mrprompt_internal.next_tool_call() is
    'The queued call whose turn it is: of the users who have the fewest running, the oldest. Null: none may start now.';

create function mrprompt_internal.start_waiting_tools() returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    if mrprompt_internal.next_tool_call() is not null then
        perform mrprompt_internal.start_tools();
    end if;
end
$$;
comment on function mrprompt_internal.start_waiting_tools() is 'start_tools(), where there is something to run.';

create function mrprompt_internal.tool_statement(
    tool mrprompt.tools, arguments json, out statement text, out function oid, out returns_set boolean)
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    p pg_proc;
    bad text;
    known text;
    columns text;
    call_arguments text;
    result text;
begin
    function := mrprompt_internal.function_oid(tool.function);
    if function is null then
        raise exception using errcode = 'PT404', message = format('the function of tool %s is gone', tool.name), detail = tool.function;
    end if;
    select * into strict p from pg_proc f where f.oid = tool_statement.function;
    if pg_get_userbyid(p.proowner) <> tool.owner then
        raise exception using errcode = 'PT409', message = format('the function of tool %s was replaced', tool.name),
            detail = format('%s belonged to %s, and belongs to %s now', tool.function, tool.owner, pg_get_userbyid(p.proowner)),
            hint = 'An admin registers it again.';
    end if;
    returns_set := p.proretset;
    if coalesce(json_typeof(arguments), 'null') <> 'object' then
        raise exception using errcode = 'PT400', message = 'the arguments must be a JSON object',
            detail = format('they are %s', coalesce(json_typeof(arguments), 'null'));
    end if;
    select string_agg(a.name, ', ' order by a.place) into known from mrprompt_internal.function_arguments(function) a;
    select string_agg(quote_ident(left(k.name, 100)), ', ') into bad from json_object_keys(arguments) k (name)
    where k.name not in (select a.name from mrprompt_internal.function_arguments(tool_statement.function) a);
    if bad is not null then
        raise exception using errcode = 'PT400', message = format('there is no argument %s', bad), detail = format('known: %s', coalesce(known, 'none'));
    end if;
    select string_agg(a.name, ', ' order by a.place) into bad from mrprompt_internal.function_arguments(function) a
    where a.required and arguments -> a.name is null;
    if bad is not null then
        raise exception using errcode = 'PT400', message = format('missing: %s', bad), detail = format('known: %s', known);
    end if;
    -- What is not given keeps the function's default; a strict schema cannot leave out, it says null.
    select string_agg(format('%I %I.%I', a.name, n.nspname, t.typname), ', ' order by a.place),
        string_agg(format('%s%I => x.%I', case when a.is_variadic then 'variadic ' else '' end, a.name, a.name), ', ' order by a.place)
    into columns, call_arguments
    from mrprompt_internal.function_arguments(function) a
    join pg_type t on t.oid = a.type
    join pg_namespace n on n.oid = t.typnamespace
    where arguments -> a.name is not null and (a.required or not tool."strict" or json_typeof(arguments -> a.name) <> 'null');
    -- A scalar result is column v of r; r.* is a row. Every name is qualified: the search_path is that of the tool.
    result := case
        when p.prorettype = 'void'::regtype then 'null::pg_catalog.text'
        when mrprompt_internal.is_row_type(p.prorettype) then 'pg_catalog.to_json(r.*)::pg_catalog.text'
        when not p.proretset and (select t.typcategory = 'S' from pg_type t where t.oid = p.prorettype) then 'r.v::pg_catalog.text'
        else 'pg_catalog.to_json(r.v)::pg_catalog.text' end;
    statement := format('select %s from %s%I.%I(%s) as r%s', result,
        'pg_catalog.json_to_record($1) as x(' || columns || '), lateral ', (select n.nspname from pg_namespace n where n.oid = p.pronamespace),
        p.proname, call_arguments,
        case when mrprompt_internal.is_row_type(p.prorettype) then '' else ' (v)' end);
end
$$;
comment on function mrprompt_internal.tool_statement(mrprompt.tools, json) is
    'The statement of a call, with the arguments as $1: one column of text, one row for each that the function returns. PT400, PT404: errors for the model.';

create function mrprompt_internal.is_row_type(type oid) returns boolean
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    with recursive base as (
        select t.oid, t.typtype, t.typbasetype from pg_type t where t.oid = is_row_type.type
        union all select t.oid, t.typtype, t.typbasetype from base b join pg_type t on b.typtype = 'd' and t.oid = b.typbasetype)
    select coalesce(bool_or(b.typtype = 'c' or b.oid = 'record'::regtype), false) from base b;
end;
comment on function mrprompt_internal.is_row_type(oid) is 'Whether a type is composite, or a domain over one that is.';

create function mrprompt_internal.prepare_tool_call(
    called mrprompt.tool_calls, out role_name name, out claims text, out statement text, out function oid, out returns_set boolean,
    out arguments json, out writes boolean, out timeout_ms integer, out max_output integer, out search_path text)
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    tool mrprompt.tools;
    role pg_roles;
begin
    select * into tool from mrprompt.tools t where t.name = called.name and t.enabled;
    if not found then
        raise exception using errcode = 'PT404', message = format('tool %s is out of service', called.name);
    end if;
    select i.role_name, i.claims into role_name, claims from mrprompt_internal.run_identities i where i.run_id = called.run_id;
    if role_name is null then
        -- Asked for a user by somebody else, whose own role must not stand in for his.
        role_name := nullif(mrprompt_internal.setting('mrprompt.tool_role'), '');
        if role_name is null then
            raise exception using errcode = '42501', message = 'this run was made for a user by somebody else: tools have no role to run with',
                hint = 'An administrator names one in mrprompt.tool_role. Trying again does not help.';
        end if;
        claims := coalesce(claims, json_build_object('sub', called.user_id, 'role', role_name)::text);
    end if;
    select * into role from pg_roles r where r.rolname = role_name;
    if not found then
        raise exception using errcode = '42501', message = format('role %s is gone, and tools cannot run with it', role_name),
            hint = 'Trying again does not help.';
    end if;
    if role.rolsuper or role.rolbypassrls then
        raise exception using errcode = '42501', message = format('role %s is a superuser or passes by row-level security: no tool runs with it', role_name),
            hint = 'The run must be created by an ordinary role. Trying again does not help.';
    end if;
    begin
        arguments := coalesce(nullif(btrim(called.arguments), ''), '{}')::json;
    exception when invalid_text_representation or untranslatable_character then
        raise exception using errcode = 'PT400', message = 'the arguments are not valid JSON';
    end;
    select s.statement, s.function, s.returns_set into statement, function, returns_set from mrprompt_internal.tool_statement(tool, arguments) s;
    writes := tool.writes;
    timeout_ms := extract(epoch from tool.timeout) * 1000;
    max_output := tool.max_output;
    search_path := tool.search_path;
end
$$;
comment on function mrprompt_internal.prepare_tool_call(mrprompt.tool_calls) is
    'What a process must know to run a call. Its errors are for the model: PT400, PT404, 42501.';

create function mrprompt_internal.take_tool_call(
    out call_id uuid, out tries integer, out user_id uuid, out subject text, out role_name name, out claims text, out statement text, out function oid,
    out returns_set boolean, out arguments json, out writes boolean, out timeout_ms integer, out max_output integer, out search_path text)
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    taken mrprompt.tool_calls;
    next_id uuid;
    failed integer := 0;
    state text; problem text; details text; way_out text;
begin
    perform mrprompt_internal.mend_tool_calls(100);
    loop
        next_id := mrprompt_internal.next_tool_call();
        if next_id is null then
            return;
        elsif failed = 100 then
            perform mrprompt_internal.start_tools();
            return;
        end if;
        update mrprompt.tool_calls c set status = 'running', tries = c.tries + 1, started_at = clock_timestamp()
        where c.id = next_id and c.status = 'queued'
        returning * into taken;
        continue when not found;
        begin
            select p.role_name, p.claims, p.statement, p.function, p.returns_set, p.arguments, p.writes, p.timeout_ms, p.max_output, p.search_path
            into take_tool_call.role_name, take_tool_call.claims, take_tool_call.statement, take_tool_call.function, take_tool_call.returns_set,
                take_tool_call.arguments, take_tool_call.writes, take_tool_call.timeout_ms, take_tool_call.max_output, take_tool_call.search_path
            from mrprompt_internal.prepare_tool_call(taken) p;
            exit;
        exception when others then
            get stacked diagnostics state = returned_sqlstate, problem = message_text, details = pg_exception_detail, way_out = pg_exception_hint;
        end;
        perform mrprompt_internal.tool_call_ended(taken.id, taken.tries, false, mrprompt_internal.tool_error(state, problem, details, way_out));
        failed := failed + 1;
    end loop;
    insert into mrprompt_internal.tool_processes as p (call_id, tries, pid) values (taken.id, taken.tries, pg_backend_pid())
    on conflict on constraint tool_processes_pkey do update set tries = excluded.tries, pid = excluded.pid;
    call_id := taken.id;
    tries := taken.tries;
    user_id := taken.user_id;
    begin
        subject := claims::json ->> 'sub';
    exception when others then null;
    end;
end
$$;
comment on function mrprompt_internal.take_tool_call() is
    'Marks the next queued call as running and says how to run it; what cannot be run ends with an error. All null: there is none. For tool processes, one at a time.';

create function mrprompt_internal.hold_tool_call(call_id uuid, tries integer) returns boolean
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform from mrprompt_internal.tool_processes p
    where p.call_id = hold_tool_call.call_id and p.tries = hold_tool_call.tries and p.pid = pg_backend_pid() for update;
    return found and exists (
        select from mrprompt.tool_calls c where c.id = hold_tool_call.call_id and c.tries = hold_tool_call.tries and c.status = 'running');
end
$$;
comment on function mrprompt_internal.hold_tool_call(uuid, integer) is
    'Locks a call''s process row until the end of the transaction, as a sign of life. False: the call is not this process''s any more.';

create function mrprompt_internal.finish_tool_call(call_id uuid, tries integer, ok boolean, output text) returns boolean
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    delete from mrprompt_internal.tool_processes p where p.call_id = finish_tool_call.call_id and p.tries = finish_tool_call.tries;
    return mrprompt_internal.tool_call_ended(call_id, tries, ok, output);
end
$$;
comment on function mrprompt_internal.finish_tool_call(uuid, integer, boolean, text) is 'tool_call_ended(), by the process that ran it.';

create function mrprompt_internal.note_timed_out(call_id uuid, tries integer, after integer) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    -- No more than this: who comes here can neither be interrupted nor catch an error.
    update mrprompt_internal.tool_processes p set timed_out_after = note_timed_out.after
    where p.call_id = note_timed_out.call_id and p.tries = note_timed_out.tries;
end
$$;
comment on function mrprompt_internal.note_timed_out(uuid, integer, integer) is
    'A process that is ended for taking too long says so, after so many milliseconds; mend_tool_calls() does the rest.';

create function mrprompt_internal.mend_tool_calls(max_rows integer) returns integer
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    lost record;
    timed_out_after integer;
    mended integer := 0;
begin
    -- A process that took a call has a moment to lock its row. Calls that run are not locked here: their end must not wait for this one.
    for lost in
        select c.id, c.tries, p.call_id is not null as has_process
        from mrprompt.tool_calls c left join mrprompt_internal.tool_processes p on p.call_id = c.id and p.tries = c.tries
        where c.status = 'running' and c.kind = 'sql'
          and (c.started_at < clock_timestamp() - interval '2 seconds' or p.timed_out_after is not null)
        order by c.id limit max_rows
    loop
        timed_out_after := null;
        if lost.has_process then
            delete from mrprompt_internal.tool_processes p where p.call_id = (
                select q.call_id from mrprompt_internal.tool_processes q where q.call_id = lost.id and q.tries = lost.tries for update skip locked)
            returning p.timed_out_after into timed_out_after;
            continue when not found;
        end if;
        perform from mrprompt.tool_calls c where c.id = lost.id and c.tries = lost.tries and c.status = 'running' for no key update skip locked;
        continue when not found;
        mended := mended + 1;
        if timed_out_after is not null then
            perform mrprompt_internal.tool_call_ended(lost.id, lost.tries, false, mrprompt_internal.tool_error('57014',
                format('timed out after %s ms', timed_out_after)));
        elsif lost.tries < 2 then
            update mrprompt.tool_calls c set status = 'queued' where c.id = lost.id;
            perform mrprompt_internal.start_tools();
        else
            perform mrprompt_internal.tool_call_ended(lost.id, lost.tries, false, mrprompt_internal.tool_error('57P01',
                'the process that ran it ended', format('tried %s times', lost.tries)));
        end if;
    end loop;
    delete from mrprompt_internal.tool_processes p where p.call_id in (
        select q.call_id from mrprompt_internal.tool_processes q
        where not exists (select from mrprompt.tool_calls c where c.id = q.call_id and c.status = 'running' and c.tries = q.tries)
        order by q.call_id limit max_rows for update skip locked);
    -- Who is left runs on: the call was ended by a prepared transaction, say, which stops nobody.
    perform mrprompt_internal.stop_tool(p.pid) from mrprompt_internal.tool_processes p
    where not exists (select from mrprompt.tool_calls c where c.id = p.call_id and c.status = 'running' and c.tries = p.tries);
    return mended;
end
$$;
comment on function mrprompt_internal.mend_tool_calls(integer) is
    'Queues again, or fails, running calls whose process is gone; a call is tried twice at most. Ends processes whose call is over. Returns how many calls.';

create function mrprompt_internal.stop_tools(run_id uuid default null, tool text default null) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform mrprompt_internal.stop_tool(p.pid)
    from mrprompt_internal.tool_processes p join mrprompt.tool_calls c on c.id = p.call_id and c.tries = p.tries
    where c.run_id = stop_tools.run_id or c.name = stop_tools.tool;
end
$$;
comment on function mrprompt_internal.stop_tools(uuid, text) is
    'At the commit of this transaction, ends the processes that work for this run, or run this tool; what they did is rolled back, and what still counts is '
    'looked at again as a call whose process is gone. Never waits.';

create function mrprompt_internal.waiting_tool_calls(out queued bigint, out running bigint, out oldest_seconds numeric)
    language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
    select count(*) filter (where c.status = 'queued'), count(*) filter (where c.status = 'running'),
        round(extract(epoch from clock_timestamp() - min(c.created_at) filter (where c.status = 'queued')))
    from mrprompt.tool_calls c where c.status in ('queued', 'running') and c.kind = 'sql' and mrprompt_internal.caller_is_admin();
end;
comment on function mrprompt_internal.waiting_tool_calls() is 'For doctor(): calls of SQL tools that wait, and those that run.';

create function mrprompt_internal.failed_tool_calls() returns table (problem text, calls bigint, tools text)
    language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
    select f.problem, count(*), string_agg(distinct f.name, ', ' order by f.name)
    from (
        select c.name, case
            when c.status = 'cancelled' then 'no process was started for them before their runs expired'
            when c.output like '{"error":{"sqlstate":"25006"%' then case when exists (select from mrprompt.tools t where t.name = c.name and not t.writes)
                then 'they tried to write, and these tools are not registered as ones that write' end
            else substring(c.output from '^{"error":{"sqlstate":"(?:42501|57P01)","message":"((?:this run was made for a user by somebody else'
                '|role [^"\\]* (?:is gone, and|is a superuser or passes)|the process that ran it ended)[^"\\]*)"') end as problem
        from (select * from mrprompt.tool_calls l where l.id > mrprompt_internal.uuid_at(now() - interval '1 day') order by l.id desc limit 10000) c
        where c.kind = 'sql' and mrprompt_internal.caller_is_admin()
          and (c.status = 'failed'
              or c.status = 'cancelled' and c.tries = 0 and not c.approval and c.output = '{"error":"the run ended (expired) before the tool answered"}')) f
    where f.problem is not null
    group by f.problem order by count(*) desc limit 10;
end;
comment on function mrprompt_internal.failed_tool_calls() is 'For doctor(): calls of the last day, the newest 10,000 of them, that failed for what an admin must mend.';

create function mrprompt_internal.tool_role_problem(role name) returns text
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    select case when r.rolname is null then 'does not exist' when r.rolsuper then 'is a superuser' when r.rolbypassrls then 'passes by row-level security'
        when not pg_has_role(r.oid, 'mrprompt_user', 'usage') then 'is no member of mrprompt_user' end
    from (select) one left join pg_roles r on r.rolname = tool_role_problem.role;
end;
comment on function mrprompt_internal.tool_role_problem(name) is 'For doctor(): why tools cannot run with this role; null: they can.';
grant execute on function mrprompt_internal.waiting_tool_calls, mrprompt_internal.failed_tool_calls, mrprompt_internal.tool_role_problem to mrprompt_admin;
