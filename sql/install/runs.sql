-- Runs: an agent at work on a thread, step by step; one at a time on each thread.

create table mrprompt.runs (
    id uuid primary key default mrprompt_internal.uuidv7(),
    thread_id uuid not null,
    user_id uuid not null,
    agent_id uuid not null,
    agent_version integer not null,
    status text not null default 'queued' check (status in (
        'queued', 'in_progress', 'requires_action', 'cancelling', 'cancelled', 'failed', 'completed', 'incomplete', 'expired')),
    active boolean not null default true,
    overrides json not null default '{}',
    additional_instructions text,
    max_prompt_tokens bigint check (max_prompt_tokens >= 256),
    max_completion_tokens bigint check (max_completion_tokens >= 256),
    request_id uuid,
    next_ids uuid[],
    steps integer not null default 0,
    last_error json,
    incomplete_reason text,
    prompt_tokens bigint not null default 0,
    completion_tokens bigint not null default 0,
    cost numeric,
    metadata jsonb not null default '{}' check (jsonb_typeof(metadata) = 'object'),
    created_at timestamptz not null default now(),
    started_at timestamptz,
    finished_at timestamptz,
    expires_at timestamptz,
    time_left interval,
    check (active = false or finished_at is null)
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
create unique index runs_active on mrprompt.runs (thread_id) where active;
create index runs_of_thread on mrprompt.runs (thread_id, id desc);
create index runs_of_user on mrprompt.runs (user_id, id desc);
create index runs_of_agent on mrprompt.runs (agent_id, user_id, id desc);
create index runs_unfinished on mrprompt.runs (agent_id, user_id) where finished_at is null;
create index runs_waiting on mrprompt.runs (thread_id, id) where not active and finished_at is null;
create index runs_expiring on mrprompt.runs (expires_at) where active and expires_at is not null;
comment on table mrprompt.runs is 'Runs. Written by create_run() and its kin, and by what their requests bring.';
comment on column mrprompt.runs.active is 'It holds its thread: at most one does. Not active and not finished: it waits behind the one that does.';
comment on column mrprompt.runs.overrides is 'What create_run() said in front of the agent: members named as those of agent_versions.config.';
comment on column mrprompt.runs.request_id is 'The model call under way.';
comment on column mrprompt.runs.next_ids is
    'The ids that the answer under way will have: as a message, as the step that wrote it, as the step that calls tools.';
comment on column mrprompt.runs.steps is 'How many model calls it has made.';
comment on column mrprompt.runs.last_error is '{"code": "server_error", "rate_limit_exceeded", "invalid_prompt", "key_refused" or "budget_exceeded", "message": …}';
comment on column mrprompt.runs.incomplete_reason is
    'max_completion_tokens, max_prompt_tokens, content_filter, max_steps or max_cost; of an expired one max_seconds or tool_wait_seconds.';
comment on column mrprompt.runs.cost is 'USD of its model calls so far; null: none yet, or not known of one.';
comment on column mrprompt.runs.expires_at is 'When it ends as expired unless it goes on before: max_seconds from its start, tool_wait_seconds while it requires an action; null: somebody has cancelled it.';
comment on column mrprompt.runs.time_left is 'What it had left of max_seconds when it came to require an action.';

create table mrprompt.run_steps (
    id uuid primary key default mrprompt_internal.uuidv7(),
    run_id uuid not null,
    thread_id uuid not null,
    user_id uuid not null,
    step integer not null,
    type text not null check (type in ('message_creation', 'tool_calls')),
    status text not null default 'in_progress' check (status in ('in_progress', 'completed', 'cancelled', 'failed', 'expired')),
    request_id uuid not null,
    message_id uuid not null,
    prompt_tokens bigint,
    completion_tokens bigint,
    cost numeric,
    last_error json,
    created_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    unique (run_id, step, type)
);
comment on table mrprompt.run_steps is 'What a run did: a message written, or tools called.';
comment on column mrprompt.run_steps.step is 'The model call it came from, counted from 1.';
comment on column mrprompt.run_steps.message_id is 'The message written, or the one that holds the calls.';
comment on column mrprompt.run_steps.prompt_tokens is 'Of the model call; where it both wrote and called tools, they stand with the message.';

create table mrprompt.tool_calls (
    id uuid primary key default mrprompt_internal.uuidv7(),
    run_id uuid not null,
    user_id uuid not null,
    step_id uuid not null,
    call_id text not null,
    place integer not null,
    name text not null,
    arguments text not null,
    kind text not null check (kind in ('client', 'sql', 'unknown')),
    approval boolean not null default false,
    status text not null check (status in ('needs_approval', 'needs_output', 'queued', 'running', 'completed', 'failed', 'refused', 'cancelled')),
    output text,
    tries integer not null default 0,
    created_at timestamptz not null default clock_timestamp(),
    answered_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    unique (step_id, call_id)
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
create index tool_calls_of_run on mrprompt.tool_calls (run_id, id);
create index tool_calls_waiting on mrprompt.tool_calls (user_id, id) where status = 'queued' and kind = 'sql';
create index tool_calls_running on mrprompt.tool_calls (user_id) where status = 'running' and kind = 'sql';
create index tool_calls_queued on mrprompt.tool_calls (id) where status in ('queued', 'running');
comment on table mrprompt.tool_calls is 'What models asked tools, and what those answered.';
comment on column mrprompt.tool_calls.call_id is 'The provider''s id of the call; made here where it sent none.';
comment on column mrprompt.tool_calls.place is 'Its place among the calls of its step, from 0 on.';
comment on column mrprompt.tool_calls.arguments is 'As the model wrote them: JSON, mostly.';
comment on column mrprompt.tool_calls.kind is 'client: the app carries it out; sql: a registered function; unknown: the model made up a name.';
comment on column mrprompt.tool_calls.approval is 'Whether its user has, or had, to say yes.';
comment on column mrprompt.tool_calls.status is
    'needs_approval (approve_tool_calls), needs_output (submit_tool_outputs), queued and running (sql), completed, failed (output says why), refused, cancelled.';
comment on column mrprompt.tool_calls.answered_at is 'When its user submitted its output, or said yes or no to it.';
comment on column mrprompt.tool_calls.tries is 'How often a process has begun it: who tried before cannot end it.';

create table mrprompt.run_events (
    run_id uuid not null,
    seq bigint not null,
    event text not null,
    subject uuid not null,
    created_at timestamptz not null default clock_timestamp(),
    primary key (run_id, seq)
);
comment on table mrprompt.run_events is 'What happened in a run, named as the Assistants stream named it; read it through stream_run().';
comment on column mrprompt.run_events.seq is 'Model call n counts from n * 10^12: its stream lies below n * 10^12 + 9 * 10^11, what came of it above.';
comment on column mrprompt.run_events.subject is 'The id of the thread, run, run step or message.';

create table mrprompt_internal.run_identities (
    run_id uuid primary key,
    role_name name,
    claims text
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
comment on table mrprompt_internal.run_identities is 'As whom the tools of an unfinished run run: the role and the JWT claims of who asked.';
comment on column mrprompt_internal.run_identities.role_name is 'Null: nobody''s role is known, tools that are SQL functions fail.';

create table mrprompt_internal.run_work (
    id uuid primary key default mrprompt_internal.uuidv7(),
    run_id uuid not null,
    refusals integer not null default 0
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
create index run_work_of_run on mrprompt_internal.run_work (run_id);
-- One run may stand here several times: who puts it down waits for nobody who has done so and not yet committed.
comment on table mrprompt_internal.run_work is 'Runs that may be able to go on: advance_waiting() looks at them.';
comment on column mrprompt_internal.run_work.id is 'Of the time from which on it is looked at: in the future where the run was refused.';
comment on column mrprompt_internal.run_work.refusals is 'How often in a row it was: by a queue that is full, mostly.';

do $rls$
declare
    name text;
begin
    foreach name in array array['mrprompt.runs', 'mrprompt.run_steps', 'mrprompt.tool_calls', 'mrprompt.run_events',
            'mrprompt_internal.run_identities', 'mrprompt_internal.run_work'] loop
        execute format('alter table %s enable row level security', name);
        if name not like 'mrprompt_internal.%' then
            execute format('create policy all_rows on %s for select to mrprompt_admin using (true)', name);
            execute format('grant select on %s to mrprompt_user, mrprompt_admin', name);
        end if;
        if name in ('mrprompt.run_steps', 'mrprompt.tool_calls', 'mrprompt.run_events') then
            -- By the key, for each row that is read: the offset keeps the planner from hashing all runs.
            execute format('create policy own_rows on %s for select to mrprompt_user using (exists (select from mrprompt.runs r where r.id = run_id offset 0))', name);
        end if;
    end loop;
end
$rls$;
create policy own_rows on mrprompt.runs for select to mrprompt_user
    using (user_id = (select mrprompt.current_user_id()) or (select mrprompt_internal.may_act_for_others()));

create function mrprompt_internal.work_due() returns uuid
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    -- Ids can be a little ahead of the clock; who is put off is so for longer.
    return mrprompt_internal.uuid_at(clock_timestamp() + interval '1 second');
end
$$;
comment on function mrprompt_internal.work_due() is 'Rows of run_work below this id are due.';

create function mrprompt_internal.put_off(runs uuid[]) returns integer
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    did integer;
begin
    with gone as (
        delete from mrprompt_internal.run_work w
        where w.id = any (array(select l.id from mrprompt_internal.run_work l where l.run_id = any (runs) for update skip locked))
        returning w.run_id, w.refusals
    )
    insert into mrprompt_internal.run_work (id, run_id, refusals)
    select mrprompt_internal.id_of_time(clock_timestamp() + interval '1 second' * 2 ^ least(g.refusals + 1, 5)), g.run_id, g.refusals + 1
    from (select l.run_id, max(l.refusals) as refusals from gone l group by l.run_id) g;
    get diagnostics did = row_count;
    return did;
end
$$;
comment on function mrprompt_internal.put_off(uuid[]) is
    'Has the contract look at runs that were refused, or would be, in 2 to 32 seconds, longer each time; answers of how many.';

create function mrprompt_internal.put_work(run_id uuid) returns void
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    due constant uuid := mrprompt_internal.work_due();
begin
    -- A row that somebody has locked may be gone when he commits.
    perform from mrprompt_internal.run_work w where w.run_id = put_work.run_id and w.id < due limit 1 for key share skip locked;
    if not found then
        insert into mrprompt_internal.run_work (run_id) values (put_work.run_id);
    end if;
end
$$;
comment on function mrprompt_internal.put_work(uuid) is 'Has the contract look at a run once more; waits for nobody.';

create function mrprompt_internal.wish_cancel(request_id uuid, wait boolean) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    wishes constant integer := hashtext('mrprompt_internal.cancels');
    one constant integer := hashtext(wish_cancel.request_id::text);
begin
    -- A wish that somebody has not committed yet cannot be seen, only waited for: the lock says that there may be one.
    if wait then
        perform pg_advisory_xact_lock(wishes, one);
    elsif not pg_try_advisory_xact_lock(wishes, one) then
        raise exception using errcode = 'lock_not_available', message = format('somebody is cancelling request %s', request_id);
    end if;
    insert into mrprompt_internal.cancels (request_id) values (wish_cancel.request_id) on conflict do nothing;
    perform mrprompt_internal.wake(mrprompt_internal.channel_name('fetchers'));
end
$$;
comment on function mrprompt_internal.wish_cancel(uuid, boolean) is
    'Wishes to cancel a request. 55P03 where somebody else is about to, unless the caller may wait for him: the contract may not.';

create function mrprompt_internal.nudge_run(run_id uuid) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform mrprompt_internal.put_work(run_id);
    perform mrprompt_internal.note_changes(array[nudge_run.run_id]);
    perform mrprompt_internal.wake(mrprompt_internal.channel_name('fetchers'));
end
$$;
comment on function mrprompt_internal.nudge_run(uuid) is 'Has the contract look at a run, which may be able to go on, and wakes those who wait for it.';
