-- Messages: saying something in a thread, and reading it page by page.

create function mrprompt_internal.add_messages(
    thread_id uuid, user_id uuid, messages json, argument text, run_id uuid default null, waiting boolean default false) returns integer
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    most constant int := 1000;
    item record;
    did int := 0;
    unknown text;
begin
    if coalesce(json_typeof(messages), 'null') = 'null' then
        return 0;
    elsif json_typeof(messages) <> 'array' then
        raise exception using errcode = 'PT400', message = argument || ' must be a JSON array', detail = format('it is %s', json_typeof(messages)),
            hint = '[{"role": "user", "content": "Hello"}]';
    elsif json_array_length(messages) > most then
        raise exception using errcode = 'PT413', message = format('%s takes %s messages at most', argument, most),
            detail = format('it has %s', json_array_length(messages)), hint = 'import_threads() takes more.';
    end if;
    for item in select e.message, format('%s[%s]', argument, e.place - 1) as place from json_array_elements(messages) with ordinality e (message, place) loop
        if json_typeof(item.message) <> 'object' then
            raise exception using errcode = 'PT400', message = item.place || ' is no object', hint = '{"role": "user", "content": "Hello"}';
        end if;
        select string_agg(k, ', ') into unknown from json_object_keys(item.message) k where k not in ('role', 'content', 'metadata');
        if unknown is not null then
            raise exception using errcode = 'PT400', message = format('%s has members that are not known: %s', item.place, left(unknown, 200)),
                hint = 'A message has role, content and metadata.' || case when item.message -> 'attachments' is not null then
                    ' What is attached goes into content, as a part: {"type": "image_url", "image_url": {"url": "data:image/png;base64,…"}}, or, where the model '
                    'takes files, {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,…"}}.' else '' end;
        end if;
        perform mrprompt_internal.check_role(item.message ->> 'role', item.place || '.role');
        perform mrprompt_internal.check_content(item.message -> 'content', item.message ->> 'role', item.place || '.content');
        perform mrprompt_internal.check_metadata(nullif((item.message -> 'metadata')::text, 'null')::jsonb, item.place || '.metadata');
        perform mrprompt_internal.add_message(add_messages.thread_id, add_messages.user_id, item.message ->> 'role', item.message -> 'content',
            nullif((item.message -> 'metadata')::text, 'null')::jsonb, add_messages.run_id, waiting => add_messages.waiting);
        did := did + 1;
    end loop;
    return did;
exception when data_exception then
    raise exception using errcode = 'PT400', message = argument || ' holds a character that PostgreSQL cannot store',
        detail = sqlerrm, hint = 'It is \u0000, or half a surrogate pair.';
end
$$;
comment on function mrprompt_internal.add_messages(uuid, uuid, json, text, uuid, boolean) is
    'Adds what a caller gives as messages (null: none) to a thread, whose row he holds; answers how many. argument: what errors call it. PT400, PT413.';

create function mrprompt_internal.create_message(
    thread_id uuid, content text, parts json, role text, metadata jsonb, when_busy text) returns uuid
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    said constant json := coalesce(case when json_typeof(parts) <> 'null' then parts end, to_json(content));
    thread mrprompt.threads;
    run_id uuid;
begin
    if content is not null and json_typeof(parts) <> 'null' then
        raise exception using errcode = 'PT400', message = 'content or parts, not both', hint = 'Put the text into the parts: {"type": "text", "text": "…"}';
    elsif json_typeof(parts) not in ('array', 'null') then
        raise exception using errcode = 'PT400', message = 'parts must be a JSON array', detail = format('it is %s', json_typeof(parts)), hint = 'A text goes into content.';
    end if;
    perform mrprompt_internal.check_when_busy(when_busy);
    perform mrprompt_internal.check_role(role, 'role');
    perform mrprompt_internal.check_content(said, role, case when json_typeof(said) = 'array' then 'parts' else 'content' end);
    perform mrprompt_internal.check_metadata(metadata);
    thread := mrprompt_internal.lock_thread(thread_id);
    run_id := mrprompt_internal.busy_with(thread.id);
    if run_id is not null and when_busy = 'refuse' then
        perform mrprompt_internal.refuse_busy(thread.id, run_id);
    end if;
    return mrprompt_internal.add_message(thread.id, thread.user_id, role, said, metadata, waiting => run_id is not null);
end
$$;
comment on function mrprompt_internal.create_message(uuid, text, json, text, jsonb, text) is 'create_message() with the owner''s rights; judges the caller itself.';

create function mrprompt.create_message(
    thread_id uuid, content text default null, parts json default null, role text default 'user', metadata jsonb default '{}',
    when_busy text default 'refuse') returns uuid
    language sql volatile
    return mrprompt_internal.create_message(thread_id, content, parts, role, metadata, when_busy);
comment on function mrprompt.create_message(uuid, text, json, text, jsonb, text) is
    'Says something in a thread and returns the message''s id: content is plain text; parts instead of it an array in OpenAI''s chat format (text, '
    'image_url, input_audio, file; an assistant says text). role: user, or assistant for what was said elsewhere. While a run is active: when_busy refuse '
    'is PT409 with the run in the detail, queue lets it wait for the run''s end. PT400 bad input, PT404 not your thread, PT413 too large, PT429 too much waits already.';

create function mrprompt_internal.find_message(message_id uuid, out message mrprompt.messages, out busy uuid)
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    place constant uuid := (
        select m.thread_id from mrprompt.messages m join mrprompt.threads t on t.id = m.thread_id and t.deleted_at is null
        where m.id = message_id and (t.user_id = mrprompt.current_user_id() or mrprompt_internal.may_act_for_others()));
begin
    if place is not null then
        perform mrprompt_internal.lock_thread(place);
        busy := mrprompt_internal.busy_with(place);
        select * into message from mrprompt.messages m where m.id = message_id;
    end if;
    if message.id is null then
        perform mrprompt_internal.refuse_message(message_id);
    end if;
end
$$;
comment on function mrprompt_internal.find_message(uuid) is
    'A message of the caller''s, with its thread locked, and the active run of that; PT404. For functions with the owner''s rights.';

create function mrprompt_internal.refuse_message(message_id uuid) returns void
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using errcode = 'PT404', message = format('there is no message %s of yours', coalesce(message_id::text, 'null')),
        hint = 'select id, role, text from mrprompt.list_messages(…)';
end
$$;
comment on function mrprompt_internal.refuse_message(uuid) is 'PT404.';

create function mrprompt_internal.update_message(message_id uuid, metadata jsonb) returns uuid
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform mrprompt_internal.check_metadata(metadata);
    perform mrprompt_internal.find_message(message_id);
    update mrprompt.messages m set metadata = coalesce(update_message.metadata, '{}') where m.id = message_id;
    return message_id;
end
$$;
comment on function mrprompt_internal.update_message(uuid, jsonb) is 'update_message() with the owner''s rights; judges the caller itself.';

create function mrprompt.update_message(message_id uuid, metadata jsonb) returns uuid
    language sql volatile
    return mrprompt_internal.update_message(message_id, metadata);
comment on function mrprompt.update_message(uuid, jsonb) is 'Gives a message other metadata, as a whole: what was said stays as it is. PT400, PT404.';

create function mrprompt_internal.delete_message(message_id uuid) returns uuid
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    found_message constant record := mrprompt_internal.find_message(message_id);
    message constant mrprompt.messages := found_message.message;
begin
    if found_message.busy is not null and (message.position is not null or message.run_id is not null) then
        raise exception using errcode = 'PT409', message = format('thread %s has an active run, which may be reading message %s', message.thread_id, message_id),
            detail = format('run %s', found_message.busy), hint = 'Wait for it (wait_for_run) or cancel it (cancel_run).';
    elsif message.role = 'tool' or message.tool_calls is not null then
        raise exception using errcode = 'PT400', message = format('message %s is a call of tools, or what one answered', message_id),
            detail = 'Providers refuse a conversation that has one without the other.', hint = 'Delete the thread, or leave the call where it is.';
    end if;
    delete from mrprompt.messages m where m.id = message_id;
    return message_id;
end
$$;
comment on function mrprompt_internal.delete_message(uuid) is 'delete_message() with the owner''s rights; judges the caller itself.';

create function mrprompt.delete_message(message_id uuid) returns uuid
    language sql volatile
    return mrprompt_internal.delete_message(message_id);
comment on function mrprompt.delete_message(uuid) is
    'Removes a message from its thread; the others keep their places. PT404: not there, or not yours. PT409: a run is active that may read it. '
    'PT400: it belongs to a call of tools.';

create function mrprompt_internal.message_rows(ids uuid[])
    returns table (
        id uuid, thread_id uuid, "position" bigint, role text, status text, incomplete_reason text, content json, text text, refusal text, tool_calls json,
        tool_call_id text, agent_id uuid, run_id uuid, metadata jsonb, created_at timestamptz, place bigint)
    language plpgsql stable set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
begin
    return query
    select m.id, m.thread_id, m.position, m.role, m.status, m.incomplete_reason, m.content, mrprompt_internal.message_text(m.content), m.refusal, m.tool_calls,
        m.tool_call_id, m.agent_id, m.run_id, m.metadata, m.created_at, w.place
    from unnest(ids) with ordinality w (id, place) join mrprompt.messages m on m.id = w.id;
end
$$;
comment on function mrprompt_internal.message_rows(uuid[]) is 'What get_message() and list_messages() show of these messages, as far as the caller sees them.';

create function mrprompt.get_message(message_id uuid)
    returns table (
        id uuid, thread_id uuid, "position" bigint, role text, status text, incomplete_reason text, content json, text text, refusal text, tool_calls json,
        tool_call_id text, agent_id uuid, run_id uuid, metadata jsonb, created_at timestamptz)
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select r.id, r.thread_id, r.position, r.role, r.status, r.incomplete_reason, r.content, r.text, r.refusal, r.tool_calls, r.tool_call_id, r.agent_id,
        r.run_id, r.metadata, r.created_at
    from mrprompt_internal.message_rows(array[message_id]) r join mrprompt.threads t on t.id = r.thread_id and t.deleted_at is null;
    if not found then
        perform mrprompt_internal.refuse_message(message_id);
    end if;
end
$$;
comment on function mrprompt.get_message(uuid) is
    'A message: content as it was said, text the plain text of it; position null: it waits for the end of a run. PT404: not there, or not yours.';

create function mrprompt_internal.message_page(
    thread_id uuid, up boolean, low mrprompt.messages, high mrprompt.messages, most integer, run_id uuid, include_tools boolean) returns uuid[]
    language plpgsql stable set search_path = pg_catalog, pg_temp set enable_seqscan = off set plan_cache_mode = force_custom_plan
as $$
declare
    -- What waits comes after all that has a place.
    top constant bigint := 9223372036854775807;
    low_place constant bigint := case when low.id is null then 0 else coalesce(low.position, top) end;
    high_place constant bigint := case when high.id is null then top else coalesce(high.position, top) end;
    low_id constant uuid := case when low.position is null then low.id end;
    high_id constant uuid := case when high.position is null then high.id end;
    waiting constant boolean := high.id is null or high.position is null;
    placed uuid[];
    others uuid[];
begin
    if up then
        placed := array(
            select m.id from mrprompt.messages m
            where m.thread_id = message_page.thread_id and m.position > low_place and m.position < high_place
              and (message_page.run_id is null or m.run_id = message_page.run_id)
              and (message_page.include_tools or m.role <> 'tool' and (m.content is not null or m.refusal is not null))
            order by m.position limit most);
    end if;
    if waiting and cardinality(coalesce(placed, '{}')) < most then
        others := array(
            select m.id from mrprompt.messages m
            where m.thread_id = message_page.thread_id and m.position is null
              and (low_id is null or m.id > low_id) and (high_id is null or m.id < high_id)
              and (message_page.run_id is null or m.run_id = message_page.run_id)
            order by case when up then m.id end, case when not up then m.id end desc limit most);
    end if;
    if up then
        return (placed || others)[:most];
    end if;
    placed := array(
        select m.id from mrprompt.messages m
        where m.thread_id = message_page.thread_id and m.position > low_place and m.position < high_place
          and (message_page.run_id is null or m.run_id = message_page.run_id)
          and (message_page.include_tools or m.role <> 'tool' and (m.content is not null or m.refusal is not null))
        order by m.position desc limit most);
    return (others || placed)[:most];
end
$$;
comment on function mrprompt_internal.message_page(uuid, boolean, mrprompt.messages, mrprompt.messages, integer, uuid, boolean) is
    'The next messages of a thread between two of them (null: its ends), upwards from the lower or downwards from the higher one.';

create function mrprompt_internal.cursor_message(thread_id uuid, message_id uuid) returns mrprompt.messages
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    message mrprompt.messages;
begin
    if message_id is not null then
        select * into message from mrprompt.messages m where m.id = message_id and m.thread_id = cursor_message.thread_id;
        if not found then
            raise exception using errcode = 'PT404', message = format('there is no message %s in thread %s', message_id, thread_id),
                hint = 'after and before are ids of messages of the thread.';
        end if;
    end if;
    return message;
end
$$;
comment on function mrprompt_internal.cursor_message(uuid, uuid) is 'The message that after or before names; null: none. PT404.';

create function mrprompt.list_messages(
    thread_id uuid, "limit" integer default 20, "order" text default 'desc', after uuid default null, before uuid default null,
    out id uuid, out "position" bigint, out role text, out status text, out incomplete_reason text, out content json, out text text, out refusal text,
    out tool_calls json, out tool_call_id text, out agent_id uuid, inout run_id uuid default null, include_tools boolean default false,
    out metadata jsonb, out created_at timestamptz)
    returns setof record
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    up constant boolean := mrprompt_internal.page_goes_up("limit", "order", after is null and before is not null);
    first_ mrprompt.messages;
    last_ mrprompt.messages;
begin
    if not exists (select from mrprompt.threads t where t.id = list_messages.thread_id and t.deleted_at is null) then
        perform mrprompt_internal.refuse_thread(thread_id);
    end if;
    first_ := mrprompt_internal.cursor_message(thread_id, after);
    last_ := mrprompt_internal.cursor_message(thread_id, before);
    return query
    select r.id, r.position, r.role, r.status, r.incomplete_reason, r.content, r.text, r.refusal, r.tool_calls, r.tool_call_id, r.agent_id, r.run_id,
        r.metadata, r.created_at
    from mrprompt_internal.message_rows(mrprompt_internal.message_page(thread_id, up, case "order" when 'asc' then first_ else last_ end,
        case "order" when 'asc' then last_ else first_ end, "limit", list_messages.run_id, coalesce(include_tools, false))) r
    order by case when up = ("order" = 'asc') then r.place else -r.place end;
end
$$;
comment on function mrprompt.list_messages(uuid, integer, text, uuid, uuid, uuid, boolean) is
    'A thread''s messages: limit 1 to 100, order asc or desc (newest first), after and before the id of a message, run_id those of a run. What users and '
    'assistants said; with include_tools calls of tools and their outputs as well. text: the plain text of content. Without a position: it waits behind the '
    'active run. PT400; PT404 not your thread.';

create function mrprompt_internal.latest_thread(user_id uuid) returns uuid
    language plpgsql stable set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
begin
    return coalesce(
        (select m.thread_id from mrprompt.messages m join mrprompt.threads t on t.id = m.thread_id and t.deleted_at is null
         where m.user_id = latest_thread.user_id order by m.id desc limit 1),
        (select t.id from mrprompt.threads t where t.user_id = latest_thread.user_id and t.deleted_at is null order by t.id desc limit 1));
end
$$;
comment on function mrprompt_internal.latest_thread(uuid) is 'The thread in which something was said last; null: the user has none.';

create function mrprompt.chat_history(
    inout thread_id uuid default null, "limit" integer default 50, before uuid default null,
    out message_id uuid, out role text, out text text, out created_at timestamptz, out agent_id uuid, out run_id uuid)
    returns setof record
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    place constant uuid := coalesce(thread_id, mrprompt_internal.latest_thread(mrprompt_internal.acting_user(null)));
begin
    if place is null then
        return;
    end if;
    return query
    select place, l.id, l.role, coalesce(l.text, l.refusal), l.created_at, l.agent_id, l.run_id
    from mrprompt.list_messages(place, "limit", 'desc', after => before) with ordinality l (
        id, "position", role, status, incomplete_reason, content, text, refusal, tool_calls, tool_call_id, agent_id, run_id, metadata, created_at, nth)
    order by l.nth desc;
end
$$;
comment on function mrprompt.chat_history(uuid, integer, uuid) is
    'For a chat window: the last messages of a thread (null: the one in which you, or your assistant, spoke last), oldest first, what users and '
    'assistants said; before: the message_id of the first row shown, for the page above. No row: nothing was said yet. PT400, PT404, 42501.';

grant execute on function mrprompt_internal.create_message, mrprompt.create_message,
    mrprompt_internal.update_message, mrprompt.update_message, mrprompt_internal.delete_message, mrprompt.delete_message,
    mrprompt_internal.refuse_message, mrprompt_internal.message_rows, mrprompt.get_message, mrprompt_internal.message_page,
    mrprompt_internal.cursor_message, mrprompt.list_messages, mrprompt_internal.latest_thread, mrprompt.chat_history to mrprompt_user, mrprompt_admin;
