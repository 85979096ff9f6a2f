-- What may be said in a message, and by whom.

create function mrprompt_internal.message_text(content json) returns text
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return case json_typeof(content)
        when 'string' then content #>> '{}'
        when 'array' then (
            select string_agg(p.part ->> 'text', E'\n' order by p.place)
            from json_array_elements(content) with ordinality p (part, place) where p.part ->> 'type' = 'text') end;
end
$$;
comment on function mrprompt_internal.message_text(json) is 'The text of a message, its text parts on lines of their own; null: it has none.';

create function mrprompt_internal.part_problem(part json, role text) returns text
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    kind text;
    said json;
begin
    if json_typeof(part) <> 'object' then
        return 'is no object';
    end if;
    kind := part ->> 'type';
    said := part -> kind;
    return case
        when kind is null then 'has no type'
        when kind = 'image_file' then 'is an image_file, and no files are kept here'
        when kind not in ('text', 'image_url', 'input_audio', 'file') then format('has the unknown type %s', left(kind, 50))
        when kind = 'text' then case when json_typeof(said) is distinct from 'string' then 'has no text' end
        when role = 'assistant' then format('is %s, and an assistant says text', kind)
        when json_typeof(said) is distinct from 'object' then format('has no object %s', kind)
        when kind = 'image_url' and coalesce(json_typeof(said -> 'url') <> 'string' or said ->> 'url' !~ '^(https?://.|data:image/)', true)
            then 'has no image_url.url that is an http or a data URL'
        when kind = 'input_audio' and (json_typeof(said -> 'data') is distinct from 'string' or json_typeof(said -> 'format') is distinct from 'string')
            then 'has no input_audio.data and input_audio.format'
        when kind = 'file' and 'string' not in (coalesce(json_typeof(said -> 'file_data'), ''), coalesce(json_typeof(said -> 'file_id'), ''))
            then 'has neither file.file_data nor file.file_id' end;
end
$$;
comment on function mrprompt_internal.part_problem(json, text) is 'What is wrong with a part of a message; null: nothing.';

create function mrprompt_internal.check_content(content json, role text, place text) returns void
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    size constant int := octet_length(content::text);
    most constant int := mrprompt_internal.setting('mrprompt.max_payload')::int;
    bad text;
begin
    if size > most then
        raise exception using errcode = 'PT413', message = format('%s has %s bytes, at most %s are allowed', place, size, most),
            hint = 'Send less, or have the DBA raise mrprompt.max_payload.';
    end if;
    begin
        if coalesce(json_typeof(content), 'null') = 'null' or content::text = '""' then
            bad := ' is empty';
        elsif json_typeof(content) not in ('string', 'array') then
            bad := ' is neither a text nor an array of parts';
        elsif json_typeof(content) = 'array' then
            select case when count(*) = 0 then ' is empty' when count(*) > 1000 then format(' has %s parts, at most 1000 are allowed', count(*))
                else (array_agg(format('[%s] %s', p.place - 1, p.problem) order by p.place) filter (where p.problem is not null))[1] end
            into bad
            from (select e.place, mrprompt_internal.part_problem(e.part, check_content.role) as problem
                  from json_array_elements(content) with ordinality e (part, place)) p;
        end if;
        bad := coalesce(bad, ' cannot be sent: ' || mrprompt_internal.json_shape_problem(content));
        -- As it will be read.
        perform mrprompt_internal.message_text(content);
    exception when data_exception then
        bad := ' holds a character that PostgreSQL cannot store: \u0000, or half a surrogate pair';
    end;
    if bad is not null then
        raise exception using errcode = 'PT400', message = place || bad,
            hint = 'A text, or OpenAI''s parts: [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "https://…"}}], '
                'or "data:image/png;base64,…" as url';
    end if;
end
$$;
comment on function mrprompt_internal.check_content(json, text, text) is
    'PT400, naming the place, unless it is a text or an array of parts that somebody in that role may say; PT413 above mrprompt.max_payload.';

create function mrprompt_internal.check_role(role text, place text) returns void
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    if coalesce(role not in ('user', 'assistant'), true) then
        raise exception using errcode = 'PT400', message = place || ' must be user or assistant', detail = format('it is %s', coalesce(left(role, 50), 'null')),
            hint = 'What a model is told beforehand stands in its agent''s instructions; what tools answer goes through submit_tool_outputs().';
    end if;
end
$$;
comment on function mrprompt_internal.check_role(text, text) is 'PT400, naming the place.';

grant execute on function mrprompt_internal.message_text to mrprompt_user, mrprompt_admin;
