-- Threads that arrive: what export_thread() gives, and threads of the Assistants API.

create function mrprompt_internal.import_time(moment json, otherwise timestamptz) returns timestamptz
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    -- Seconds since 1970 or ISO 8601; what is to come, or was before computers, is now.
    return case when t.at between '1970-01-02' and clock_timestamp() then t.at else otherwise end
    from (select case json_typeof(moment) when 'number' then to_timestamp(moment::text::double precision)
        when 'string' then (moment #>> '{}')::timestamptz end as at) t;
end
$$;
comment on function mrprompt_internal.import_time(json, timestamptz) is 'When something that is imported was made.';

create function mrprompt_internal.import_content(
    given json, role text, inout refusal text, out content json, out note text)
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    part json;
    parts json[] := '{}';
    kind text;
    changed boolean := false;
begin
    content := nullif(given::text, 'null')::json;
    if json_typeof(content) is distinct from 'array' then
        return;
    end if;
    for part in select p from json_array_elements(given) p loop
        kind := part ->> 'type';
        if kind = 'text' and json_typeof(part -> 'text') = 'object' then
            part := json_build_object('type', 'text', 'text', coalesce(part -> 'text' ->> 'value', ''));
            changed := true;
        elsif kind = 'refusal' and role = 'assistant' then
            refusal := coalesce(refusal || E'\n', '') || (part ->> 'refusal');
            changed := true;
            continue;
        elsif kind = 'image_file' or role = 'assistant' and kind = 'image_url' then
            note := 'images that were kept elsewhere are named in brackets';
            part := json_build_object('type', 'text', 'text',
                format('[image %s]', coalesce(part -> 'image_file' ->> 'file_id', part -> 'image_url' ->> 'url')));
            changed := true;
        end if;
        parts := parts || part;
    end loop;
    if changed or cardinality(parts) = 0 then
        content := case cardinality(parts) when 0 then null
            when 1 then coalesce(parts[1] -> 'text', array_to_json(parts)) else array_to_json(parts) end;
    end if;
end
$$;
comment on function mrprompt_internal.import_content(json, text, text) is
    'The content of an imported message as it is kept: parts of the Assistants API become those of the chat format, a single text a string.';

create function mrprompt_internal.beside_old_id(metadata jsonb, member text) returns jsonb
    language sql immutable
    return case when jsonb_typeof(metadata -> member) = 'string' and length(metadata ->> member) <= 512 then metadata - member else metadata end;
comment on function mrprompt_internal.beside_old_id(jsonb, text) is
    'Metadata without the id that an earlier import put there, which comes on top of what may be said.';

create function mrprompt_internal.import_message(thread mrprompt.threads, message json, details json, place text, next_position bigint)
    returns text[]
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    said_by constant text := message ->> 'role';
    metadata jsonb := coalesce(nullif(coalesce(message -> 'metadata', details -> 'metadata')::text, 'null')::jsonb, '{}');
    old_id constant text := coalesce(message ->> 'id', details ->> 'id');
    made_at constant timestamptz := mrprompt_internal.import_time(coalesce(message -> 'created_at', details -> 'created_at'), thread.created_at);
    calls constant json := case when json_typeof(message -> 'tool_calls') = 'array' and json_array_length(message -> 'tool_calls') > 0 then message -> 'tool_calls' end;
    cut constant text := coalesce(details ->> 'incomplete_reason', message -> 'incomplete_details' ->> 'reason');
    said record;
    notes text[] := '{}';
begin
    select * into said from mrprompt_internal.import_content(message -> 'content', said_by, message ->> 'refusal');
    -- A tool may have answered nothing, and where an assistant said nothing some write "".
    if said_by = 'tool' then
        said.content := coalesce(said.content, '""');
    elsif said.content::text = '""' then
        said.content := null;
    end if;
    if said.content is null and said.refusal is null and calls is null then
        return array['messages without content are left out'];
    end if;
    if said.content::text <> '""' then
        perform mrprompt_internal.check_content(said.content, case said_by when 'tool' then 'assistant' else said_by end, place || '.content');
    end if;
    perform mrprompt_internal.check_metadata(mrprompt_internal.beside_old_id(metadata, 'message_id'), place || '.metadata');
    if length(old_id) <= 512 then
        metadata := metadata || jsonb_build_object('message_id', old_id);
    end if;
    if json_typeof(message -> 'attachments') = 'array' and json_array_length(message -> 'attachments') > 0 then
        notes := notes || 'attachments are not carried over'::text;
    end if;
    insert into mrprompt.messages (id, thread_id, position, user_id, role, status, incomplete_reason, content, refusal, reasoning, tool_calls, tool_call_id,
        metadata, tokens, created_at)
    values (mrprompt_internal.id_of_time(made_at), thread.id, next_position, thread.user_id, said_by, case when cut is null then 'completed' else 'incomplete' end,
        cut, said.content, said.refusal, details ->> 'reasoning', calls, message ->> 'tool_call_id',
        metadata, mrprompt_internal.message_tokens(said.content, calls), made_at);
    return array_remove(notes || said.note, null);
end
$$;
comment on function mrprompt_internal.import_message(mrprompt.threads, json, json, text, bigint) is
    'Adds an imported message to its new thread; answers what is to be said of it. PT400 and PT413, naming the place.';

create function mrprompt_internal.check_tool_order(messages json[], places integer[], place text) returns integer
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    message record;
    open_ text[] := '{}';
    begun integer;
    bad text;
begin
    for message in
        select e.n::int as n, e.given, e.m ->> 'role' as role, e.m -> 'tool_calls' as calls, e.m ->> 'tool_call_id' as answers
        from unnest(messages, places) with ordinality e (m, given, n)
        where coalesce(e.m ->> 'role' not in ('system', 'developer'), true) order by e.n loop
        bad := case
            when message.role = 'tool' and not coalesce(message.answers = any (open_), false) then 'answers no call of a tool before it'
            when message.role <> 'tool' and cardinality(open_) > 0 then 'comes before all calls of tools were answered'
            when coalesce(json_typeof(message.calls), 'null') not in ('array', 'null') then 'has tool_calls that are no array'
            when json_typeof(message.calls) = 'array' then (
                select case
                    when count(*) > 0 and message.role is distinct from 'assistant' then 'has tool_calls, which only an assistant has'
                    when bool_or(json_typeof(c) <> 'object' or coalesce(json_typeof(c -> 'id') <> 'string' or json_typeof(c -> 'function' -> 'name') <> 'string'
                        or json_typeof(c -> 'function' -> 'arguments') <> 'string', true))
                        then 'has a tool call without id, function.name and function.arguments, which are strings'
                    when count(*) > 1000 then 'has more than 1000 tool calls'
                    when count(distinct c ->> 'id') < count(*) then 'has two tool calls of one id' end
                from json_array_elements(message.calls) c) end;
        if bad is not null then
            raise exception using errcode = 'PT400', message = format('%s[%s] %s', place, message.given, bad),
                hint = 'Providers refuse such a conversation. Leave out the calls of tools and what they answered.';
        end if;
        if message.role = 'tool' then
            open_ := array_remove(open_, message.answers);
        elsif json_typeof(message.calls) = 'array' then
            open_ := array(select c ->> 'id' from json_array_elements(message.calls) c);
            begun := message.n;
        end if;
    end loop;
    return case when cardinality(open_) > 0 then begun end;
end
$$;
comment on function mrprompt_internal.check_tool_order(json[], integer[], text) is
    'PT400, naming the place where it was given, unless each output of a tool follows its call. Answers from which message on (counted from 1) the last '
    'calls were not all answered; null: they were.';

create function mrprompt_internal.import_order(
    thread json, listed json, of_api boolean, out messages json[], out details json[], out places integer[], out earliest timestamptz)
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
    upto constant timestamptz := clock_timestamp();
    beside constant json := case when json_typeof(thread -> 'details') = 'array' then thread -> 'details' end;
    dated boolean;
    rise bigint;
    backwards boolean;
begin
    select bool_and(m.dated), min(m.at) filter (where m.dated), sum(case when m.at > m.before then 1 when m.at < m.before then -1 else 0 end)
    into dated, earliest, rise
    from (select l.dated, l.at, lag(l.at) over (order by l.n) as before
          from (select e.n, coalesce(json_typeof(e.m -> 'created_at') in ('number', 'string'), false) as dated,
                    mrprompt_internal.import_time(e.m -> 'created_at', upto) as at
                from json_array_elements(listed) with ordinality e (m, n)) l) m;
    -- Times are of seconds: within one, only the list says what came first. Those of the API begin with the newest, where nobody asked otherwise.
    backwards := dated and (rise < 0 or coalesce(rise, 0) = 0 and of_api);
    select array_agg(m.message order by m.at, m.n), array_agg(m.details order by m.at, m.n), array_agg(m.place order by m.at, m.n)
    into messages, import_order.details, places
    from (select e.message, e.details, e.n::int - 1 as place, case when backwards then -e.n else e.n end as n,
              case when dated then mrprompt_internal.import_time(e.message -> 'created_at', upto) end as at
          from rows from (json_array_elements(listed), json_array_elements(beside)) with ordinality e (message, details, n)
          where e.message is not null) m;
end
$$;
comment on function mrprompt_internal.import_order(json, json, boolean) is
    'The messages of an imported thread as they were said, oldest first, what its details say of each, and at which place (from 0 on) each was given: by '
    'their times, where all have one, else as listed. of_api: it is a list of the Assistants API. earliest: of the times.';

create function mrprompt_internal.import_thread(thread json, place text, acting uuid, room integer)
    returns table (thread_id uuid, source_id text, messages integer, created boolean, notes text[])
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    made mrprompt.threads;
    listed json;
    metadata jsonb;
    ordered record;
    item record;
    cut integer;
    told text[];
begin
    if json_typeof(thread) is distinct from 'object' then
        raise exception using errcode = 'PT400', message = place || ' is no object', hint = 'An export of export_thread(), or {"id": "thread_…", "messages": […]}';
    elsif coalesce(thread ->> 'object', 'thread') <> 'thread' or coalesce(thread -> 'id', thread -> 'thread_id', thread -> 'messages') is null then
        raise exception using errcode = 'PT400', message = place || ' is no thread',
            detail = format('it is %s with %s', coalesce(left(thread ->> 'object', 50), 'an object'),
                coalesce((select left(string_agg(k, ', '), 200) from json_object_keys(thread) k), 'nothing in it')),
            hint = 'An export of export_thread(), or {"id": "thread_…", "messages": […]}';
    end if;
    source_id := coalesce(thread ->> 'id', thread ->> 'thread_id');
    if length(source_id) > 512 then
        raise exception using errcode = 'PT400', message = place || '.id has more than 512 characters';
    end if;
    -- Deleted ones are left out behind the offset: before it, a planner without statistics reads all that the user has by threads_of_user.
    select f.id into thread_id
    from (select t.id, t.deleted_at from mrprompt.threads t where t.user_id = acting and t.metadata ->> 'thread_id' = import_thread.source_id
          union all
          select t.id, t.deleted_at from mrprompt.threads t
          where t.id = case when import_thread.source_id ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then import_thread.source_id::uuid end
            and t.user_id = acting
          offset 0) f
    where f.deleted_at is null order by f.id limit 1;
    if found then
        messages := 0; created := false; notes := array['it was there already'];
        return next;
        return;
    end if;
    listed := thread -> 'messages';
    if json_typeof(listed) = 'object' then
        perform mrprompt_internal.check_whole(listed, place || '.messages');
        listed := coalesce(listed -> 'data', listed);
    end if;
    listed := coalesce(nullif(listed::text, 'null')::json, '[]');
    if json_typeof(listed) <> 'array' then
        raise exception using errcode = 'PT400', message = place || '.messages is no array', detail = format('it is %s', json_typeof(listed));
    elsif json_array_length(listed) > room then
        raise exception using errcode = 'PT413', message = 'a call of import_threads() takes 100,000 messages at most', detail = format('%s has %s', place, json_array_length(listed)),
            hint = 'Import fewer threads at a time.';
    end if;
    ordered := mrprompt_internal.import_order(thread, listed, json_typeof(thread -> 'messages') = 'object' or listed -> 0 ->> 'object' = 'thread.message');
    cut := mrprompt_internal.check_tool_order(ordered.messages, ordered.places, place || '.messages');
    metadata := coalesce(nullif((thread -> 'metadata')::text, 'null')::jsonb, '{}');
    perform mrprompt_internal.check_metadata(mrprompt_internal.beside_old_id(metadata, 'thread_id'), place || '.metadata');
    made.created_at := mrprompt_internal.import_time(thread -> 'created_at', coalesce(ordered.earliest, clock_timestamp()));
    made.id := mrprompt_internal.id_of_time(made.created_at);
    made.user_id := acting;
    insert into mrprompt.threads as t (id, user_id, title, metadata, created_at)
    values (made.id, acting, mrprompt_internal.title_of(thread ->> 'title'),
        metadata || case when import_thread.source_id is null then '{}' else jsonb_build_object('thread_id', import_thread.source_id) end, made.created_at);
    notes := array_remove(array[
        case when cut is not null then 'calls of tools that were not all answered are left out' end,
        case when thread ->> 'tool_resources' is not null and thread ->> 'tool_resources' !~ '^\{\s*\}$' then 'tool_resources are not carried over' end,
        case when json_array_length(listed) = 0 then 'it has no messages' end], null);
    messages := 0;
    for item in
        select u.message, u.details, format('%s.messages[%s]', place, u.given) as place
        from unnest(ordered.messages, ordered.details, ordered.places) with ordinality u (message, details, given, n)
        where cut is null or u.n < cut order by u.n
    loop
        if json_typeof(item.message) <> 'object' then
            raise exception using errcode = 'PT400', message = item.place || ' is no object';
        elsif item.message ->> 'role' in ('system', 'developer') then
            told := array['system messages are left out: they belong into an agent''s instructions'];
        else
            if item.message ->> 'role' is distinct from 'tool' then
                perform mrprompt_internal.check_role(item.message ->> 'role', item.place || '.role');
            end if;
            told := mrprompt_internal.import_message(made, item.message, item.details, item.place, messages + 1);
            messages := messages + case when told[1] = 'messages without content are left out' then 0 else 1 end;
        end if;
        if not told <@ notes then
            notes := notes || told;
        end if;
    end loop;
    thread_id := made.id;
    created := true;
    notes := array(select distinct n from unnest(notes) n order by n);
    if made.created_at < mrprompt_internal.retention_cutoff('mrprompt.thread_retention')
        and not exists (select from mrprompt.messages m where m.thread_id = made.id and m.created_at >= mrprompt_internal.retention_cutoff('mrprompt.thread_retention')) then
        notes := notes || 'it is older than mrprompt.thread_retention, and goes soon'::text;
    end if;
    return next;
end
$$;
comment on function mrprompt_internal.import_thread(json, text, uuid, integer) is 'One thread of import_threads(), of room messages at most.';

create function mrprompt_internal.check_whole(list json, place text) returns void
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    if list ->> 'has_more' = 'true' then
        raise exception using errcode = 'PT400', message = place || ' is one page of several: has_more is true',
            detail = 'A thread that was imported is found again, and not added to.',
            hint = 'Fetch the other pages (after => last_id), and put the data of all into one array. If there is no more, leave has_more out.';
    end if;
end
$$;
comment on function mrprompt_internal.check_whole(json, text) is 'PT400 for a list of messages that goes on elsewhere.';

create function mrprompt_internal.import_list(given json) returns table (thread json, place text)
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    list constant json := case json_typeof(given) when 'array' then given when 'object' then json_build_array(given) end;
    entries json[];
    spoken integer;
    bad integer;
begin
    if list is null then
        raise exception using errcode = 'PT400', message = 'threads must be a thread, or a JSON array of threads',
            detail = format('it is %s', coalesce(json_typeof(given), 'null')), hint = 'An export of export_thread(), or {"id": "thread_…", "messages": […]}';
    end if;
    entries := array(
        select coalesce(d.entry, e.entry)
        from json_array_elements(list) with ordinality e (entry, n)
        left join lateral json_array_elements(case when json_typeof(e.entry -> 'data') = 'array' then e.entry -> 'data' end) with ordinality d (entry, n) on true
        where d.entry is not null or coalesce(json_typeof(e.entry -> 'data') <> 'array', true)
        order by e.n, d.n);
    select count(*) filter (where m.is_message), min(m.n) filter (where m.is_message and m.thread_id is null)
    into spoken, bad
    from (select u.n, u.entry ->> 'thread_id' as thread_id, json_typeof(u.entry) = 'object' and u.entry -> 'role' is not null as is_message
          from unnest(entries) with ordinality u (entry, n)) m;
    if spoken = 0 then
        return query select u.entry, format('threads[%s]', u.n - 1) from unnest(entries) with ordinality u (entry, n) order by u.n;
        return;
    elsif spoken < cardinality(entries) or bad is not null then
        raise exception using errcode = 'PT400',
            message = case when bad is not null then format('threads[%s] is a message that does not say of which thread: it has no thread_id', bad - 1)
                else 'threads has messages beside threads' end,
            hint = 'Put the messages into their thread: {"id": "thread_…", "messages": […]}. Messages that all have a thread_id may be given alone.';
    elsif json_array_length(list) = 1 then
        perform mrprompt_internal.check_whole(list -> 0, 'threads');
    end if;
    return query
    select json_build_object('id', m.thread_id, 'messages', json_agg(m.entry order by m.n)), m.thread_id
    from (select u.n, u.entry, u.entry ->> 'thread_id' as thread_id from unnest(entries) with ordinality u (entry, n)) m
    group by m.thread_id order by min(m.n);
end
$$;
comment on function mrprompt_internal.import_list(json) is
    'What import_threads() is given, by threads, and what to call each: lists are taken apart, and messages alone put together by their thread_id. PT400.';

create function mrprompt_internal.import_threads(threads json, user_id uuid)
    returns table (thread_id uuid, source_id text, messages integer, created boolean, notes text[])
    language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    acting constant uuid := mrprompt_internal.acting_user(user_id);
    room integer := 100000;
    item record;
    place text := 'threads';
begin
    -- Two imports at once would both find nothing there.
    perform pg_advisory_xact_lock(hashtextextended('mrprompt import_threads ' || acting, 0));
    for item in select l.thread, l.place from mrprompt_internal.import_list(threads) l loop
        place := item.place;
        return query select * from mrprompt_internal.import_thread(item.thread, item.place, acting, room);
        room := room - coalesce(json_array_length(case json_typeof(item.thread -> 'messages') when 'array' then item.thread -> 'messages'
            when 'object' then item.thread -> 'messages' -> 'data' end), 0) - 1;
    end loop;
exception when data_exception then
    raise exception using errcode = 'PT400', message = place || ' cannot be read', detail = sqlerrm,
        hint = 'A time that is none, \u0000, or half a surrogate pair.';
end
$$;
comment on function mrprompt_internal.import_threads(json, uuid) is 'import_threads() with the owner''s rights; judges the caller itself.';

create function mrprompt.import_threads(threads json, user_id uuid default null)
    returns table (thread_id uuid, source_id text, messages integer, created boolean, notes text[])
    language sql volatile
begin atomic
    select i.thread_id, i.source_id, i.messages, i.created, i.notes from mrprompt_internal.import_threads(import_threads.threads, import_threads.user_id) i;
end;
comment on function mrprompt.import_threads(json, uuid) is
    'Takes over threads, all or none: exports of export_thread(), or threads of the Assistants API with their messages (an array, or the list as it was '
    'answered, newest or oldest first), one or an array; or messages alone, which name their thread_id; with 100,000 messages at most. They keep their '
    'times; the old id stays as thread_id in metadata, message_id in each message''s; what was imported before, or is there still, is found by it '
    '(created false). notes: what could not be carried over. PT400, PT413.';

grant execute on function mrprompt_internal.import_threads, mrprompt.import_threads to mrprompt_user, mrprompt_admin;
