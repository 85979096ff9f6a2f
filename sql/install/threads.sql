-- Threads and their messages: a conversation as rows, in one order that its active run and its user share.

create table mrprompt.threads (
    id uuid primary key default mrprompt_internal.uuidv7(),
    user_id uuid not null,
    title text check (length(title) <= 500),
    metadata jsonb not null default '{}' check (jsonb_typeof(metadata) = 'object'),
    created_at timestamptz not null default now(),
    deleted_at timestamptz
);
create index threads_of_user on mrprompt.threads (user_id, id desc) where deleted_at is null;
create index threads_deleted on mrprompt.threads (deleted_at) where deleted_at is not null;
comment on table mrprompt.threads is
    'Conversations. Written through create_thread() and its kin only. A thread''s row is the lock of those who add to it.';
create index threads_imported on mrprompt.threads (user_id, (metadata ->> 'thread_id')) where metadata ->> 'thread_id' is not null;
comment on column mrprompt.threads.title is 'As given; null: list_threads() shows the beginning of what the user said first.';
comment on column mrprompt.threads.deleted_at is
    'Since when nobody sees it; house-keeping removes its rows. infinity: only this is left, as a row of the app refers to it.';

create table mrprompt.messages (
    id uuid primary key default mrprompt_internal.uuidv7(),
    thread_id uuid not null,
    position bigint check (position > 0),
    user_id uuid not null,
    role text not null check (role in ('user', 'assistant', 'tool')),
    status text not null default 'completed' check (status in ('completed', 'incomplete')),
    incomplete_reason text,
    content json,
    refusal text,
    reasoning text,
    tool_calls json,
    tool_call_id text,
    raw json,
    agent_id uuid,
    run_id uuid,
    metadata jsonb not null default '{}' check (jsonb_typeof(metadata) = 'object'),
    tokens integer not null,
    bytes integer not null generated always as (least(2147483647, 200 + coalesce(octet_length(content::text), 0)::bigint
        + coalesce(octet_length(tool_calls::text), 0) + coalesce(octet_length(raw::text), 0)
        + 6 * (coalesce(octet_length(tool_call_id), 0)::bigint + coalesce(octet_length(refusal), 0)))::integer) stored,
    created_at timestamptz not null default clock_timestamp()
);
-- A place is given once.
create unique index messages_in_order on mrprompt.messages (thread_id, position);
create index messages_waiting on mrprompt.messages (thread_id, id) where position is null;
create index messages_of_run on mrprompt.messages (run_id, position) where run_id is not null;
create index messages_of_user on mrprompt.messages (user_id, id desc);
comment on table mrprompt.messages is
    'What was said in threads, and what tools were asked and answered in between. Written through create_message() and by runs only.';
comment on column mrprompt.messages.position is 'Its place in the thread, from 1 on; null: it waits behind the active run.';
comment on column mrprompt.messages.role is 'user; assistant (an answer, or calls of tools, or both); tool: what a call answered.';
comment on column mrprompt.messages.content is 'A JSON string, or an array of parts, in OpenAI''s chat format; null where the model only called tools.';
comment on column mrprompt.messages.tool_calls is 'OpenAI tool_calls: [{"id", "type": "function", "function": {"name", "arguments"}}].';
comment on column mrprompt.messages.raw is 'What a later turn sends back beside the text (Anthropic thinking blocks).';
comment on column mrprompt.messages.run_id is 'The run that wrote it; of additional_messages as well.';
comment on column mrprompt.messages.tokens is 'About how many tokens it has: a quarter of its bytes, a thousand for each image.';
comment on column mrprompt.messages.bytes is 'How many bytes it has at most, as it is sent (chat_message).';

alter table mrprompt.threads enable row level security;
alter table mrprompt.messages enable row level security;
create policy own_rows on mrprompt.threads for select to mrprompt_user
    using (deleted_at is null and (user_id = (select mrprompt.current_user_id()) or (select mrprompt_internal.may_act_for_others())));
create policy all_rows on mrprompt.threads for select to mrprompt_admin using (true);
-- Whoever sees a thread sees what was said in it.
create policy own_rows on mrprompt.messages for select to mrprompt_user
    using (exists (select from mrprompt.threads t where t.id = thread_id offset 0));
create policy all_rows on mrprompt.messages for select to mrprompt_admin using (true);
grant select on mrprompt.threads, mrprompt.messages to mrprompt_user, mrprompt_admin;

create function mrprompt_internal.message_tokens(content json, tool_calls json) returns integer
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    parts constant json := case json_typeof(content) when 'array' then content else '[]' end;
    images constant integer := (select count(*) from json_array_elements(parts) p where p ->> 'type' in ('image_url', 'image', 'input_image'));
begin
    return 4 + 1000 * images + ceil((
        octet_length(coalesce(tool_calls::text, '')) + case when images = 0 then octet_length(coalesce(content::text, '')) else
            (select coalesce(sum(octet_length(p::text)), 0) from json_array_elements(parts) p
             where coalesce(p ->> 'type' not in ('image_url', 'image', 'input_image'), true)) end) / 4.0);
end
$$;
comment on function mrprompt_internal.message_tokens(json, json) is 'About how many tokens a message has.';

create function mrprompt_internal.check_waiting(thread_id uuid) returns void
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    -- A run's end gives them all their places, and whatever else ends in its transaction waits for that.
    most constant integer := 100;
    most_bytes constant bigint := 1000000;
    waiting record;
begin
    select count(*) as number, coalesce(sum(m.bytes), 0) as bytes into waiting
    from mrprompt.messages m where m.thread_id = check_waiting.thread_id and m.position is null;
    if waiting.number >= most or waiting.bytes >= most_bytes then
        raise exception using errcode = 'PT429', message = format('%s messages of %s bytes wait in thread %s already', waiting.number, waiting.bytes, thread_id),
            detail = format('No more wait than %s, nor behind %s bytes.', most, most_bytes),
            hint = 'Wait until its run has ended (wait_for_run), or cancel it (cancel_run).';
    end if;
end
$$;
comment on function mrprompt_internal.check_waiting(uuid) is 'PT429 where as many messages wait for a run of the thread as may.';

create function mrprompt_internal.add_message(
    thread_id uuid, user_id uuid, role text, content json, metadata jsonb default '{}', run_id uuid default null, agent_id uuid default null,
    refusal text default null, reasoning text default null, tool_calls json default null, tool_call_id text default null, raw json default null,
    message_id uuid default null, incomplete_reason text default null, waiting boolean default false) returns uuid
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    new_id constant uuid := coalesce(message_id, mrprompt_internal.uuidv7());
begin
    if waiting then
        perform mrprompt_internal.check_waiting(thread_id);
    end if;
    insert into mrprompt.messages (id, thread_id, position, user_id, role, status, incomplete_reason, content, refusal, reasoning, tool_calls, tool_call_id,
        raw, agent_id, run_id, metadata, tokens)
    values (new_id, add_message.thread_id,
        case when not waiting then 1 + coalesce((
            select m.position from mrprompt.messages m where m.thread_id = add_message.thread_id and m.position is not null
            order by m.position desc limit 1), 0) end,
        add_message.user_id, add_message.role, case when add_message.incomplete_reason is null then 'completed' else 'incomplete' end,
        add_message.incomplete_reason, add_message.content, add_message.refusal, add_message.reasoning, add_message.tool_calls, add_message.tool_call_id,
        add_message.raw, add_message.agent_id, add_message.run_id, coalesce(add_message.metadata, '{}'),
        mrprompt_internal.message_tokens(add_message.content, add_message.tool_calls));
    return new_id;
end
$$;
comment on function mrprompt_internal.add_message(
    uuid, uuid, text, json, jsonb, uuid, uuid, text, text, json, text, json, uuid, text, boolean) is
    'Puts a message at the end of a thread, or (waiting: PT429) behind its active run; its content is not checked. The caller holds the thread''s row.';

create function mrprompt_internal.refuse_thread(thread_id uuid) returns void
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using errcode = 'PT404', message = format('there is no thread %s of yours', coalesce(thread_id::text, 'null')),
        hint = 'select id, title from mrprompt.list_threads()';
end
$$;
comment on function mrprompt_internal.refuse_thread(uuid) is 'PT404.';

create function mrprompt_internal.need_read_committed() returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception using errcode = 'PT400', message = 'what changes a thread or a run needs READ COMMITTED',
            detail = format('This transaction is %s: it cannot see what has happened to them meanwhile.', upper(current_setting('transaction_isolation'))),
            hint = 'begin isolation level read committed';
    end if;
end
$$;
comment on function mrprompt_internal.need_read_committed() is 'PT400 where what others commit is not seen: a run whose news nobody sees is never looked at.';

create function mrprompt_internal.lock_thread(thread_id uuid) returns mrprompt.threads
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    thread mrprompt.threads;
begin
    perform mrprompt_internal.need_read_committed();
    -- Judged before it is locked: nobody makes another's thread wait.
    perform from mrprompt.threads t
    where t.id = lock_thread.thread_id and t.deleted_at is null
      and (t.user_id = mrprompt.current_user_id() or mrprompt_internal.may_act_for_others());
    if found then
        select * into thread from mrprompt.threads t where t.id = lock_thread.thread_id and t.deleted_at is null for no key update;
    end if;
    if thread.id is null then
        perform mrprompt_internal.refuse_thread(thread_id);
    end if;
    return thread;
end
$$;
comment on function mrprompt_internal.lock_thread(uuid) is
    'A thread of the caller''s, locked against all who add to it. PT404: not there, or not his; PT400 outside READ COMMITTED. For functions with the owner''s rights.';

create function mrprompt_internal.refuse_busy(thread_id uuid, run_id uuid) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using errcode = 'PT409', message = format('thread %s has an active run', thread_id), detail = format('run %s', run_id),
        hint = 'Wait for it (wait_for_run), cancel it (cancel_run), or pass when_busy => ''queue''.';
end
$$;
comment on function mrprompt_internal.refuse_busy(uuid, uuid) is 'PT409: a run holds the thread.';

create function mrprompt_internal.busy_with(thread_id uuid) returns uuid
    language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    run mrprompt.runs;
begin
    select * into run from mrprompt.runs r where r.thread_id = busy_with.thread_id and r.active;
    if run.expires_at <= clock_timestamp() then
        perform mrprompt_internal.advance_run(run.id);
        select * into run from mrprompt.runs r where r.thread_id = busy_with.thread_id and r.active;
    end if;
    return run.id;
end
$$;
comment on function mrprompt_internal.busy_with(uuid) is
    'The run that holds a thread whose row the caller holds; null: none. One whose time is over ends here.';

create function mrprompt_internal.is_unfinished(thread_id uuid) returns boolean
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (select from mrprompt.runs r where r.thread_id = is_unfinished.thread_id and r.active)
        or exists (select from mrprompt.runs r where r.thread_id = is_unfinished.thread_id and not r.active and r.finished_at is null);
end
$$;
comment on function mrprompt_internal.is_unfinished(uuid) is 'Whether a run of the thread is active or waits.';

create function mrprompt_internal.title_of(title text) returns text
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    if length(title) > 500 then
        raise exception using errcode = 'PT400', message = 'a title has 500 characters at most', detail = format('it has %s', length(title));
    end if;
    return nullif(btrim(regexp_replace(title, '\s+', ' ', 'g')), '');
end
$$;
comment on function mrprompt_internal.title_of(text) is 'A title on one line; null: none. PT400: too long.';

create function mrprompt_internal.create_thread(messages json, title text, metadata jsonb, user_id uuid) returns uuid
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    acting constant uuid := mrprompt_internal.acting_user(user_id);
    new_id constant uuid := mrprompt_internal.uuidv7();
begin
    perform mrprompt_internal.check_metadata(metadata);
    insert into mrprompt.threads (id, user_id, title, metadata)
    values (new_id, acting, mrprompt_internal.title_of(title), coalesce(create_thread.metadata, '{}'));
    perform mrprompt_internal.add_messages(new_id, acting, messages, 'messages');
    return new_id;
end
$$;
comment on function mrprompt_internal.create_thread(json, text, jsonb, uuid) is 'create_thread() with the owner''s rights; judges the caller itself.';

create function mrprompt.create_thread(messages json default null, title text default null, metadata jsonb default '{}', user_id uuid default null) returns uuid
    language sql volatile
    return mrprompt_internal.create_thread(messages, title, metadata, user_id);
comment on function mrprompt.create_thread(json, text, jsonb, uuid) is
    'Begins a conversation and returns its id. messages: what was said so far, [{"role": "user" or "assistant", "content": text or parts, "metadata"}], '
    '1,000 at most. Errors: PT400 bad input, PT413 too large, 42501 nobody.';

create function mrprompt_internal.first_words(thread_id uuid) returns text
    language plpgsql stable set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    line constant text := btrim(regexp_replace(left((
        select mrprompt_internal.message_text(m.content)
        from (select l.role, l.content, l.position from mrprompt.messages l
              where l.thread_id = first_words.thread_id and l.position is not null order by l.position limit 20) m
        where m.role = 'user' order by m.position limit 1), 1000), '\s+', ' ', 'g'));
begin
    if length(line) <= 60 then
        return nullif(line, '');
    end if;
    return rtrim(case when substr(line, 61, 1) = ' ' then left(line, 60) else coalesce(substring(left(line, 60) from '^(.{20,})\s'), left(line, 60)) end) || '…';
end
$$;
comment on function mrprompt_internal.first_words(uuid) is 'What a thread without a title is called: what its user said first, 60 characters of it, cut at a word.';

create function mrprompt_internal.thread_rows(ids uuid[])
    returns table (id uuid, title text, metadata jsonb, messages bigint, active_run_id uuid, created_at timestamptz, last_activity_at timestamptz, place bigint)
    language plpgsql stable set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
begin
    return query
    select t.id, coalesce(t.title, mrprompt_internal.first_words(t.id)), t.metadata, coalesce(l.position, 0), r.id, t.created_at,
        greatest(t.created_at, l.created_at), w.place
    from unnest(ids) with ordinality w (id, place)
    join mrprompt.threads t on t.id = w.id and t.deleted_at is null
    left join lateral (
        select m.position, m.created_at from mrprompt.messages m
        where m.thread_id = w.id and m.position is not null order by m.position desc limit 1) l on true
    left join mrprompt.runs r on r.thread_id = w.id and r.active;
end
$$;
comment on function mrprompt_internal.thread_rows(uuid[]) is 'What get_thread() and list_threads() show of these threads, as far as the caller sees them.';

create function mrprompt.get_thread(thread_id uuid)
    returns table (id uuid, title text, metadata jsonb, messages bigint, active_run_id uuid, created_at timestamptz, last_activity_at timestamptz)
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select r.id, r.title, r.metadata, r.messages, r.active_run_id, r.created_at, r.last_activity_at from mrprompt_internal.thread_rows(array[thread_id]) r;
    if not found then
        perform mrprompt_internal.refuse_thread(thread_id);
    end if;
end
$$;
comment on function mrprompt.get_thread(uuid) is
    'A thread. title: as given, or the beginning of what the user said first. messages: the last place taken, those of tools and deleted ones '
    'counted. active_run_id: the run that holds it. PT404: not there, or not yours.';

create function mrprompt.list_threads(
    "limit" integer default 20, "order" text default 'desc', after uuid default null, before uuid default null, search text default null,
    user_id uuid default null)
    returns table (id uuid, title text, metadata jsonb, messages bigint, active_run_id uuid, created_at timestamptz, last_activity_at timestamptz)
    language plpgsql stable set search_path = pg_catalog, pg_temp set enable_seqscan = off set plan_cache_mode = force_custom_plan
as $$
declare
    acting constant uuid := mrprompt_internal.acting_user(user_id);
    up constant boolean := mrprompt_internal.page_goes_up("limit", "order", after is null and before is not null);
    low constant uuid := coalesce(case "order" when 'asc' then after else before end, '00000000-0000-0000-0000-000000000000');
    high constant uuid := coalesce(case "order" when 'asc' then before else after end, 'ffffffff-ffff-ffff-ffff-ffffffffffff');
    most constant integer := 10000;
    wanted constant text := lower(nullif(search, ''));
    ids uuid[];
begin
    if up then
        ids := array(
            select l.id
            from (select t.id, t.title from mrprompt.threads t
                  where t.user_id = acting and t.deleted_at is null and t.id > low and t.id < high order by t.id limit most) l
            where wanted is null or strpos(lower(coalesce(l.title, mrprompt_internal.first_words(l.id))), wanted) > 0
            order by l.id limit "limit");
    else
        ids := array(
            select l.id
            from (select t.id, t.title from mrprompt.threads t
                  where t.user_id = acting and t.deleted_at is null and t.id > low and t.id < high order by t.id desc limit most) l
            where wanted is null or strpos(lower(coalesce(l.title, mrprompt_internal.first_words(l.id))), wanted) > 0
            order by l.id desc limit "limit");
    end if;
    return query
    select r.id, r.title, r.metadata, r.messages, r.active_run_id, r.created_at, r.last_activity_at
    from mrprompt_internal.thread_rows(ids) r
    order by case when up = ("order" = 'asc') then r.place else -r.place end;
end
$$;
comment on function mrprompt.list_threads(integer, text, uuid, uuid, text, uuid) is
    'Your threads by when they were made, as get_thread() shows them; limit 1 to 100, order asc or desc, after and before an id. search: a part of the '
    'title, in the next 10,000 threads (in what was said: search_messages()). PT400, 42501.';

create function mrprompt_internal.update_thread(thread_id uuid, title text, metadata jsonb) returns uuid
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    thread mrprompt.threads;
begin
    perform mrprompt_internal.check_metadata(metadata);
    thread := mrprompt_internal.lock_thread(thread_id);
    update mrprompt.threads t
    set title = case when update_thread.title is null then t.title else mrprompt_internal.title_of(update_thread.title) end,
        metadata = coalesce(update_thread.metadata, t.metadata)
    where t.id = thread.id;
    return thread.id;
end
$$;
comment on function mrprompt_internal.update_thread(uuid, text, jsonb) is 'update_thread() with the owner''s rights; judges the caller itself.';

create function mrprompt.update_thread(thread_id uuid, title text default null, metadata jsonb default null) returns uuid
    language sql volatile
    return mrprompt_internal.update_thread(thread_id, title, metadata);
comment on function mrprompt.update_thread(uuid, text, jsonb) is
    'Changes a thread''s title ('''': made from what was said first again) and metadata (as a whole); what is null stays. PT400, PT404.';

create function mrprompt_internal.delete_thread(thread_id uuid) returns uuid
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    thread constant mrprompt.threads := mrprompt_internal.lock_thread(thread_id);
begin
    update mrprompt.threads t set deleted_at = clock_timestamp() where t.id = thread.id;
    if mrprompt_internal.is_unfinished(thread.id) then
        perform mrprompt_internal.end_runs_of(thread.id);
    end if;
    perform mrprompt_internal.wake(mrprompt_internal.channel_name('fetchers'));
    return thread.id;
end
$$;
comment on function mrprompt_internal.delete_thread(uuid) is 'delete_thread() with the owner''s rights; judges the caller itself.';

create function mrprompt.delete_thread(thread_id uuid) returns uuid
    language sql volatile
    return mrprompt_internal.delete_thread(thread_id);
comment on function mrprompt.delete_thread(uuid) is
    'Removes a thread: its run is cancelled, nobody sees it any more, and house-keeping removes its messages, runs and their answers in steps. What it '
    'cost stays in the ledger. PT404: not there, or not yours.';

grant execute on function mrprompt_internal.acting_user, mrprompt_internal.refuse_thread,
    mrprompt_internal.create_thread, mrprompt.create_thread, mrprompt_internal.first_words, mrprompt_internal.thread_rows, mrprompt.get_thread,
    mrprompt.list_threads, mrprompt_internal.update_thread, mrprompt.update_thread, mrprompt_internal.delete_thread, mrprompt.delete_thread
    to mrprompt_user, mrprompt_admin;
