-- Threads that leave: export in OpenAI's chat format.

create function mrprompt.export_thread(thread_id uuid, include_tools boolean default true) returns json
    language plpgsql stable set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    most constant int := 100000;
    thread record;
    said record;
begin
    select t.id, t.title, t.metadata, t.created_at into thread from mrprompt.threads t where t.id = export_thread.thread_id and t.deleted_at is null;
    if not found then
        perform mrprompt_internal.refuse_thread(thread_id);
    end if;
    -- As text, so that all that was said stays byte for byte.
    select count(*) as count,
        string_agg('{' || concat_ws(',', '"role":"' || m.role || '"',
            '"tool_call_id":' || to_json(m.tool_call_id),
            '"content":' || coalesce(m.content::text, 'null'), '"refusal":' || to_json(m.refusal),
            '"tool_calls":' || case when coalesce(include_tools, true) then m.tool_calls end) || '}', ',' order by m.position, m.id) as messages,
        string_agg(json_strip_nulls(json_build_object('id', m.id, 'created_at', m.created_at, 'metadata', nullif(m.metadata, '{}'),
            'reasoning', m.reasoning, 'incomplete_reason', m.incomplete_reason, 'agent_id', m.agent_id, 'run_id', m.run_id))::text,
            ',' order by m.position, m.id) as details
    into said
    from (select * from mrprompt.messages l
          where l.thread_id = export_thread.thread_id
            and (coalesce(include_tools, true) or l.role <> 'tool' and (l.content is not null or l.refusal is not null))
          order by l.position, l.id limit most + 1) m;
    if said.count > most then
        raise exception using errcode = 'PT413', message = format('thread %s has more than %s messages', thread_id, most),
            hint = 'Read it page by page: select * from mrprompt.list_messages(…)';
    end if;
    return format('{"thread_id":%s,"title":%s,"metadata":%s,"created_at":%s,"messages":[%s],"details":[%s]}',
        to_json(thread.id), coalesce(to_json(thread.title)::text, 'null'), thread.metadata, to_json(thread.created_at), said.messages, said.details)::json;
end
$$;
comment on function mrprompt.export_thread(uuid, boolean) is
    'A thread as {"thread_id", "title", "metadata", "created_at", "messages", "details"}: messages in OpenAI''s chat format, oldest first, and what else '
    'is known of each in the same place of details. include_tools false: without calls of tools and their outputs. import_threads() takes it. PT404, PT413.';

grant execute on function mrprompt.export_thread to mrprompt_user, mrprompt_admin;
