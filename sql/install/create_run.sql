-- Having agents work: runs made, told what their tools answered, and cancelled.

create function mrprompt_internal.own_run(run_id uuid) returns mrprompt.runs
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    run mrprompt.runs;
begin
    perform mrprompt_internal.need_read_committed();
    select * into run from mrprompt.runs r where r.id = run_id;
    if not found or not (run.user_id is not distinct from mrprompt.current_user_id() or mrprompt_internal.may_act_for_others()) then
        raise exception using errcode = 'PT404', message = format('there is no run %s of yours', coalesce(run_id::text, 'null')),
            hint = 'select * from mrprompt.list_runs(thread_id => …)';
    end if;
    -- First the thread, then the run: the order of all who wait for both.
    perform from mrprompt.threads t where t.id = run.thread_id for no key update;
    select * into run from mrprompt.runs r where r.id = run_id for no key update;
    return run;
end
$$;
comment on function mrprompt_internal.own_run(uuid) is 'A run of the caller''s, held with its thread until the end of the transaction. PT404; PT400 outside READ COMMITTED.';

create function mrprompt_internal.note_identity(run mrprompt.runs) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    role name := coalesce(nullif(current_setting('role'), 'none'), session_user);
    claims text := nullif(current_setting('request.jwt.claims', true), '');
    problem text;
    sql_tools text;
begin
    -- Whoever asks for somebody else does not lend him his own rights, nor gets those of a role that he could not become.
    if run.user_id is distinct from mrprompt.current_user_id() then
        role := coalesce(
            (select u.login_role from mrprompt.users u join pg_roles r on r.rolname = u.login_role
             where u.id = run.user_id and pg_has_role(role, r.oid, 'member')),
            nullif(mrprompt_internal.setting('mrprompt.tool_role'), ''));
        claims := json_build_object('sub', run.user_id, 'role', role);
    end if;
    insert into mrprompt_internal.run_identities (run_id, role_name, claims) values (run.id, role, claims);
    problem := mrprompt_internal.tool_role_problem(role);
    if problem in ('is a superuser', 'passes by row-level security') then
        select string_agg(e #>> '{}', ', ') into sql_tools from json_array_elements((mrprompt_internal.run_config(run)).tools) e where json_typeof(e) = 'string';
        if sql_tools is not null then
            raise warning using message = format('the SQL tools of this run (%s) will be refused: the role that they would run with %s', sql_tools, problem),
                hint = 'Create runs with an ordinary role: grant it mrprompt_user, select mrprompt.add_user(login_role => …), and connect with it.';
        end if;
    end if;
end
$$;
comment on function mrprompt_internal.note_identity(mrprompt.runs) is
    'Notes as whom the tools of a run run: the caller, or whom he asks for. Warns of a role with which no SQL tool runs.';

create function mrprompt_internal.create_run(
    thread_id uuid, agent_id uuid, overrides json, additional_instructions text, additional_messages json, max_prompt_tokens bigint,
    max_completion_tokens bigint, metadata jsonb, when_busy text) returns uuid
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    thread constant mrprompt.threads := mrprompt_internal.lock_thread(thread_id);
    agent mrprompt.agents;
    busy uuid;
    run mrprompt.runs;
begin
    select * into agent from mrprompt.agents a where a.id = agent_id and (a.user_id is null or a.user_id = thread.user_id);
    if not found then
        perform mrprompt_internal.agent_not_found(agent_id);
    elsif agent.archived_at is not null then
        raise exception using errcode = 'PT409', message = format('agent %s (%s) was archived', agent.id, agent.name), detail = format('at %s', agent.archived_at),
            hint = format('Name another agent, or select mrprompt.restore_agent(%L).', agent.id);
    elsif length(additional_instructions) > 256000 then
        raise exception using errcode = 'PT413', message = 'additional_instructions has more than 256000 characters',
            detail = format('it has %s', length(additional_instructions));
    elsif least(max_prompt_tokens, max_completion_tokens) < 256 then
        raise exception using errcode = 'PT400', message = 'max_prompt_tokens and max_completion_tokens must be at least 256',
            detail = format('they are %s and %s', coalesce(max_prompt_tokens::text, 'null'), coalesce(max_completion_tokens::text, 'null')),
            hint = 'They are totals over all model calls of the run.';
    end if;
    perform mrprompt_internal.check_when_busy(when_busy);
    perform mrprompt_internal.check_metadata(metadata);
    perform mrprompt_internal.tags_of(metadata);
    if overrides::text <> '{}' then
        -- What is in force together has to fit together.
        perform mrprompt_internal.check_agent_config((
            select json_object_agg(m.key, m.value) from (
                select c.key, c.value from mrprompt.agent_versions v, json_each(v.config) c
                where v.agent_id = agent.id and v.version = agent.version and overrides -> c.key is null
                union all select o.key, o.value from json_each(overrides) o) m), thread.user_id);
    end if;
    busy := mrprompt_internal.busy_with(thread.id);
    if busy is not null and when_busy = 'refuse' then
        perform mrprompt_internal.refuse_busy(thread.id, busy);
    end if;
    if (select count(*) from (
            select from mrprompt.runs r where r.thread_id = thread.id and not r.active and r.finished_at is null limit 100) w) = 100 then
        raise exception using errcode = 'PT429', message = format('100 runs wait on thread %s already', thread.id), hint = 'Wait until some have ended, or cancel some.';
    end if;
    insert into mrprompt.runs (thread_id, user_id, agent_id, agent_version, active, overrides, additional_instructions, max_prompt_tokens,
        max_completion_tokens, metadata)
    values (thread.id, thread.user_id, agent.id, agent.version, busy is null, overrides, create_run.additional_instructions,
        create_run.max_prompt_tokens, create_run.max_completion_tokens, coalesce(create_run.metadata, '{}'))
    returning * into run;
    perform mrprompt_internal.note_identity(run);
    perform mrprompt_internal.add_messages(thread.id, thread.user_id, additional_messages, 'additional_messages', run.id, busy is not null);
    perform mrprompt_internal.add_event(run, 'thread.run.created', run.id);
    perform mrprompt_internal.add_event(run, 'thread.run.queued', run.id);
    if busy is null then
        perform mrprompt_internal.next_step(run);
    end if;
    return run.id;
end
$$;
comment on function mrprompt_internal.create_run(uuid, uuid, json, text, json, bigint, bigint, jsonb, text) is
    'create_run() with the owner''s rights; judges the caller itself.';

create function mrprompt.create_run(
    thread_id uuid, agent_id uuid, instructions text default null, additional_instructions text default null, additional_messages json default null,
    provider text default null, model text default null, key_id uuid default null, temperature double precision default null,
    top_p double precision default null, max_tokens integer default null, response_format json default null, reasoning_effort text default null,
    tools json default null, tool_choice json default null, parallel_tool_calls boolean default null, parameters json default null,
    truncation text default null, last_messages integer default null, max_prompt_tokens bigint default null, max_completion_tokens bigint default null,
    limits json default null, metadata jsonb default '{}', when_busy text default 'refuse') returns uuid
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    return mrprompt_internal.create_run(thread_id, agent_id, ('{' || concat_ws(',',
            '"provider":' || to_json(provider), '"model":' || to_json(model), '"key_id":' || to_json(key_id), '"instructions":' || to_json(instructions),
            '"temperature":' || to_json(temperature), '"top_p":' || to_json(top_p), '"max_tokens":' || max_tokens,
            '"response_format":' || response_format, '"reasoning_effort":' || to_json(reasoning_effort), '"tools":' || tools,
            '"tool_choice":' || tool_choice, '"parallel_tool_calls":' || to_json(parallel_tool_calls), '"parameters":' || parameters,
            '"context":' || json_strip_nulls(case when truncation is not null or last_messages is not null then json_build_object(
                'truncation', coalesce(truncation, 'last_messages'), 'last_messages', last_messages) end),
            '"limits":' || limits) || '}')::json,
        additional_instructions, additional_messages, max_prompt_tokens, max_completion_tokens, metadata, when_busy);
end
$$;
comment on function mrprompt.create_run(
    uuid, uuid, text, text, json, text, text, uuid, double precision, double precision, integer, json, text, json, json, boolean, json, text, integer,
    bigint, bigint, json, jsonb, text) is
    'Has an agent work on a thread; returns the run''s id at once. What is named comes in front of what the agent says (instructions: in its place, '
    'additional_instructions: behind it; limits: only lower than its own); additional_messages [{"role", "content", "metadata"}] are added to the thread before. truncation: auto or '
    'last_messages. max_prompt_tokens and max_completion_tokens: over all model calls of the run. when_busy: refuse (PT409), or queue: it begins when the '
    'active run ends. Errors: as chat(), and PT404 thread or agent, PT409 the thread has an active run, or the agent was archived.';

create function mrprompt.create_thread_and_run(
    agent_id uuid, messages json default null, title text default null, thread_metadata jsonb default '{}',
    instructions text default null, additional_instructions text default null,
    provider text default null, model text default null, key_id uuid default null, temperature double precision default null,
    top_p double precision default null, max_tokens integer default null, response_format json default null, reasoning_effort text default null,
    tools json default null, tool_choice json default null, parallel_tool_calls boolean default null, parameters json default null,
    truncation text default null, last_messages integer default null, max_prompt_tokens bigint default null, max_completion_tokens bigint default null,
    limits json default null, metadata jsonb default '{}', user_id uuid default null, out thread_id uuid, out run_id uuid)
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    thread_id := mrprompt.create_thread(messages => messages, title => title, metadata => thread_metadata, user_id => user_id);
    run_id := mrprompt.create_run(thread_id, agent_id, instructions, additional_instructions, null, provider, model, key_id, temperature, top_p,
        max_tokens, response_format, reasoning_effort, tools, tool_choice, parallel_tool_calls, parameters, truncation, last_messages,
        max_prompt_tokens, max_completion_tokens, limits, metadata);
end
$$;
comment on function mrprompt.create_thread_and_run(
    uuid, json, text, jsonb, text, text, text, text, uuid, double precision, double precision, integer, json, text, json, json, boolean, json, text, integer,
    bigint, bigint, json, jsonb, uuid) is
    'create_thread() and create_run() in one call. Errors: theirs.';

create function mrprompt.send_message(
    agent_id uuid, text text, inout thread_id uuid default null, parts json default null, when_busy text default 'refuse', metadata jsonb default '{}',
    user_id uuid default null, out message_id uuid, out run_id uuid)
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    thread_id := coalesce(thread_id, mrprompt.create_thread(user_id => user_id));
    message_id := mrprompt.create_message(thread_id, content => text, parts => parts, metadata => metadata, when_busy => when_busy);
    run_id := mrprompt.create_run(thread_id, agent_id, when_busy => when_busy);
end
$$;
comment on function mrprompt.send_message(uuid, text, uuid, json, text, jsonb, uuid) is
    'What most apps need: says something to an agent, in a thread or (null) in a new one, and has it answer. Returns the ids of the thread, the message and '
    'the run: follow it with stream_run(run_id), or wait_for_run(run_id). Errors: those of create_thread(), create_message() and create_run().';

create function mrprompt_internal.update_run(run_id uuid, metadata jsonb) returns uuid
    language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    run constant mrprompt.runs := mrprompt_internal.own_run(run_id);
begin
    perform mrprompt_internal.check_metadata(metadata);
    perform mrprompt_internal.tags_of(metadata);
    update mrprompt.runs r set metadata = coalesce(update_run.metadata, '{}') where r.id = run.id;
    return run.id;
end
$$;
comment on function mrprompt_internal.update_run(uuid, jsonb) is 'update_run() with the owner''s rights; judges the caller itself.';

create function mrprompt.update_run(run_id uuid, metadata jsonb) returns uuid
    language sql volatile
    return mrprompt_internal.update_run(run_id, metadata);
comment on function mrprompt.update_run(uuid, jsonb) is
    'Gives a run, at work or ended, other metadata, as a whole; its next model calls have the tags in it. PT400, PT404.';

create function mrprompt_internal.cancel_run(run_id uuid) returns text
    language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    run mrprompt.runs := mrprompt_internal.own_run(run_id);
begin
    if run.finished_at is not null then
        return run.status;
    elsif run.request_id is null then
        perform mrprompt_internal.end_run(run, 'cancelled');
        return 'cancelled';
    end if;
    -- Also where its time was over: it ends as it is told here.
    update mrprompt.runs r set status = 'cancelling', expires_at = null where r.id = run.id;
    if run.status <> 'cancelling' then
        perform mrprompt_internal.wish_cancel(run.request_id, true);
        perform mrprompt_internal.add_event(run, 'thread.run.cancelling', run.id);
        -- Where its request has ended meanwhile, nothing else would look at it.
        perform mrprompt_internal.nudge_run(run.id);
        perform mrprompt_internal.note_changes(array[run.request_id]);
    end if;
    return 'cancelling';
end
$$;
comment on function mrprompt_internal.cancel_run(uuid) is 'cancel_run() with the owner''s rights; judges the caller itself.';

create function mrprompt.cancel_run(run_id uuid) returns text
    language sql volatile
    return mrprompt_internal.cancel_run(run_id);
comment on function mrprompt.cancel_run(uuid) is
    'Ends a run; returns its status: cancelled at once, or cancelling where a model call has to be aborted on the wire first (what it wrote stays as an '
    'incomplete message), or the status in which it had already ended. PT404.';

create function mrprompt_internal.calls_that(run mrprompt.runs, status text) returns text[]
    language plpgsql stable set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
begin
    return array(
        select c.call_id from mrprompt.run_steps s join mrprompt.tool_calls c on c.step_id = s.id
        where s.run_id = run.id and s.step = run.steps and s.type = 'tool_calls' and c.status = calls_that.status order by c.place);
end
$$;
comment on function mrprompt_internal.calls_that(mrprompt.runs, text) is 'The ids of the latest tool calls of a run that have this status.';

create function mrprompt_internal.submit_tool_outputs(run_id uuid, tool_outputs json) returns void
    language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    run mrprompt.runs := mrprompt_internal.own_run(run_id);
    most constant integer := mrprompt_internal.setting('mrprompt.max_payload')::integer;
    given text[];
    wanted text[];
    bad text;
begin
    if tool_outputs is null or json_typeof(tool_outputs) <> 'array' then
        raise exception using errcode = 'PT400', message = 'tool_outputs must be a JSON array',
            detail = format('it is %s', coalesce(json_typeof(tool_outputs), 'null')), hint = '[{"tool_call_id": "call_1", "output": "42"}]';
    end if;
    select string_agg(format('tool_outputs[%s] %s', n - 1, problem), '; ' order by n) into bad
    from json_array_elements(tool_outputs) with ordinality l (o, n)
    cross join lateral (
        select case when json_typeof(o) <> 'object' then 'is no object'
            when json_typeof(o -> 'tool_call_id') is distinct from 'string' then 'has no tool_call_id'
            when o -> 'output' is null or json_typeof(o -> 'output') = 'null' then 'has no output' end as problem) c
    where problem is not null;
    if bad is not null then
        raise exception using errcode = 'PT400', message = bad, hint = '[{"tool_call_id": "call_1", "output": "42"}]';
    end if;
    select string_agg(format('the output of %s has %s bytes', left(o ->> 'tool_call_id', 100), octet_length(o ->> 'output')), '; ') into bad
    from json_array_elements(tool_outputs) o where octet_length(o ->> 'output') > most;
    if bad is not null then
        raise exception using errcode = 'PT413', message = bad, detail = format('At most %s are allowed.', most),
            hint = 'Submit less (a part, a summary, an error for the model), or have the DBA raise mrprompt.max_payload.';
    end if;
    perform mrprompt_internal.require_action(run);
    given := array(select o ->> 'tool_call_id' from json_array_elements(tool_outputs) o);
    wanted := mrprompt_internal.calls_that(run, 'needs_output');
    if wanted = '{}' then
        raise exception using errcode = 'PT409', message = format('no call of run %s waits for an output', run.id),
            detail = 'Waiting for approval: ' || array_to_string(mrprompt_internal.calls_that(run, 'needs_approval'), ', '),
            hint = format('select mrprompt.approve_tool_calls(%L)', run.id);
    end if;
    bad := nullif(concat_ws('; ',
        'unknown: ' || (select string_agg(g, ', ') from unnest(given) g where g <> all (wanted)),
        'missing: ' || (select string_agg(w, ', ') from unnest(wanted) w where w <> all (given)),
        'twice: ' || (select string_agg(g, ', ') from (select g from unnest(given) g group by g having count(*) > 1) d)), '');
    if bad is not null then
        raise exception using errcode = 'PT400', message = format('the outputs do not answer the calls of run %s', run.id), detail = bad,
            hint = 'All outputs are submitted in one call: get_run(…).required_action says which.';
    end if;
    update mrprompt.tool_calls c
    set status = 'completed', answered_at = clock_timestamp(), finished_at = clock_timestamp(),
        output = case json_typeof(o.output) when 'string' then o.output #>> '{}' else o.output::text end
    from json_array_elements(tool_outputs) e, lateral (select e ->> 'tool_call_id' as id, e -> 'output' as output) o,
        mrprompt.run_steps s
    where s.run_id = run.id and s.step = run.steps and s.type = 'tool_calls' and c.step_id = s.id and c.call_id = o.id;
    perform mrprompt_internal.await_tools(run, mrprompt_internal.run_config(run), answered => true);
exception when untranslatable_character then
    raise exception using errcode = 'PT400', message = 'an output holds \u0000, which PostgreSQL cannot store', hint = 'Leave it out.';
end
$$;
comment on function mrprompt_internal.submit_tool_outputs(uuid, json) is 'submit_tool_outputs() with the owner''s rights; judges the caller itself.';

create function mrprompt_internal.require_action(run mrprompt.runs) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    if run.status = 'expired' or run.status = 'requires_action' and run.expires_at <= clock_timestamp() then
        raise exception using errcode = 'PT410', message = format('run %s has expired', run.id), detail = format('at %s', run.expires_at),
            hint = 'Create a new run. How long a run waits: limits.tool_wait_seconds of its agent, or mrprompt.tool_output_timeout.';
    elsif run.status <> 'requires_action' then
        raise exception using errcode = 'PT409', message = format('run %s requires no action', run.id), detail = format('it is %s', run.status),
            hint = 'select status, required_action from mrprompt.get_run(…)';
    end if;
end
$$;
comment on function mrprompt_internal.require_action(mrprompt.runs) is 'PT410 or PT409 unless the run waits for its user.';

create function mrprompt.submit_tool_outputs(run_id uuid, tool_outputs json) returns void
    language sql volatile
    return mrprompt_internal.submit_tool_outputs(run_id, tool_outputs);
comment on function mrprompt.submit_tool_outputs(uuid, json) is
    'Tells a run that requires action what its client tools answered: [{"tool_call_id", "output"}], all of them in one call; an output that is no string is '
    'passed on as JSON. PT400 malformed, an id that is unknown, missing or named twice; PT404; PT409 it requires no action, or approval only; PT410 it has expired; '
    'PT413 an output above mrprompt.max_payload.';

create function mrprompt_internal.approve_tool_calls(run_id uuid, call_ids text[], approved boolean, reason text) returns integer
    language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    run mrprompt.runs := mrprompt_internal.own_run(run_id);
    waiting text[];
    unknown text;
    did integer;
begin
    perform mrprompt_internal.require_action(run);
    waiting := mrprompt_internal.calls_that(run, 'needs_approval');
    select string_agg(i, ', ') into unknown from unnest(call_ids) i where i <> all (waiting);
    if waiting = '{}' then
        raise exception using errcode = 'PT409', message = format('no call of run %s waits for approval', run.id),
            detail = 'Waiting for outputs: ' || array_to_string(mrprompt_internal.calls_that(run, 'needs_output'), ', '),
            hint = format('select mrprompt.submit_tool_outputs(%L, ''[{"tool_call_id": …, "output": …}]'')', run.id);
    elsif unknown is not null then
        raise exception using errcode = 'PT400', message = format('no such calls of run %s wait for approval: %s', run.id, unknown),
            detail = 'Waiting: ' || array_to_string(waiting, ', '), hint = 'select required_action from mrprompt.get_run(…)';
    elsif approved is null then
        raise exception using errcode = 'PT400', message = 'approved must be true or false';
    elsif length(reason) > 2000 then
        raise exception using errcode = 'PT413', message = 'reason has more than 2000 characters', detail = format('it has %s', length(reason)),
            hint = 'It is for the model, in a sentence: what is more belongs into a message.';
    end if;
    update mrprompt.tool_calls c
    set status = case when approved then 'queued' else 'refused' end, answered_at = clock_timestamp(),
        output = case when not approved then json_build_object('error', 'the user refused this call' || coalesce(': ' || reason, ''))::text end,
        finished_at = case when not approved then clock_timestamp() end
    from mrprompt.run_steps s
    where s.run_id = run.id and s.step = run.steps and s.type = 'tool_calls' and c.step_id = s.id and c.status = 'needs_approval'
      and (call_ids is null or c.call_id = any (call_ids));
    get diagnostics did = row_count;
    perform mrprompt_internal.await_tools(run, mrprompt_internal.run_config(run), answered => true);
    return did;
end
$$;
comment on function mrprompt_internal.approve_tool_calls(uuid, text[], boolean, text) is 'approve_tool_calls() with the owner''s rights; judges the caller itself.';

create function mrprompt.approve_tool_calls(run_id uuid, call_ids text[] default null, approved boolean default true, reason text default null) returns integer
    language sql volatile
    return mrprompt_internal.approve_tool_calls(run_id, call_ids, approved, reason);
comment on function mrprompt.approve_tool_calls(uuid, text[], boolean, text) is
    'Says yes (or no, with a reason that the model is told) to calls of tools that need approval; call_ids null: to all that wait. Answers how many. '
    'PT400 no such call waits; PT404; PT409 the run requires no action, or outputs only; PT410 it has expired.';

grant execute on function
    mrprompt.create_run, mrprompt_internal.create_run, mrprompt.create_thread_and_run, mrprompt.send_message,
    mrprompt.update_run, mrprompt_internal.update_run, mrprompt.cancel_run, mrprompt_internal.cancel_run,
    mrprompt.submit_tool_outputs, mrprompt_internal.submit_tool_outputs, mrprompt.approve_tool_calls, mrprompt_internal.approve_tool_calls
    to mrprompt_user, mrprompt_admin;
