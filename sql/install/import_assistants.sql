-- Assistants as the Assistants API exported them, as agents.

create function mrprompt_internal.assistant_config(assistant json) returns json
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return mrprompt_internal.without_nulls(json_build_object(
        'instructions', assistant -> 'instructions', 'model', assistant -> 'model',
        -- 1 is what the API wrote where nothing was said, and what newer models refuse to be told.
        'temperature', case when assistant ->> 'temperature' not in ('1', '1.0') then assistant -> 'temperature' end,
        'top_p', case when assistant ->> 'top_p' not in ('1', '1.0') then assistant -> 'top_p' end,
        'response_format', assistant -> 'response_format', 'reasoning_effort', assistant -> 'reasoning_effort',
        'tools', case json_typeof(assistant -> 'tools')
            when 'array' then (select ('[' || string_agg(t.tool::text, ', ' order by t.place) || ']')::json
                               from json_array_elements(assistant -> 'tools') with ordinality t (tool, place)
                               where case json_typeof(t.tool) when 'object' then t.tool ->> 'type' = 'function' else true end)
            else assistant -> 'tools' end));
end
$$;
comment on function mrprompt_internal.assistant_config(json) is 'What an assistant object says that an agent''s configuration has a member for.';

create function mrprompt_internal.assistant_losses(assistant json) returns text[]
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select format('the tool %s is not kept: mrprompt has none of that kind', coalesce(left(t.tool ->> 'type', 100), 'without a type'))
        from json_array_elements(case json_typeof(assistant -> 'tools') when 'array' then assistant -> 'tools' else '[]' end) with ordinality t (tool, place)
        where json_typeof(t.tool) = 'object' and t.tool ->> 'type' is distinct from 'function'
        order by t.place)
        || case when jsonb_path_exists((assistant -> 'tool_resources')::jsonb, 'lax $.*.*[*]')
                then array['tool_resources are not kept: files and vector stores lay at OpenAI'] end
        || case when assistant ->> 'id' is null then array['it has no id: imported again, it becomes another agent'] end
        || case when length(assistant ->> 'name') > 256 or length(assistant ->> 'description') > 512 then array['name or description is shortened'] end;
end
$$;
comment on function mrprompt_internal.assistant_losses(json) is 'What of an assistant object does not become part of the agent, in words.';

create function mrprompt_internal.import_assistants(assistants json, provider text, key_id uuid, shared boolean, user_id uuid)
    returns table (agent_id uuid, assistant_id text, name text, created boolean, notes text[])
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    most constant int := 1000;
    acting constant uuid := case when shared then null else mrprompt_internal.acting_user(user_id) end;
    list constant json := case when json_typeof(assistants) = 'array' then assistants
        when json_typeof(assistants) = 'object' and json_typeof(assistants -> 'data') = 'array' then assistants -> 'data'
        else json_build_array(assistants) end;
    place int := -1;
    assistant json;
    config json;
    description text;
    metadata jsonb;
    state text; why text; details text; way_out text;
begin
    perform mrprompt_internal.check_shared(shared, user_id);
    if json_typeof(assistants) = 'object' and assistants ->> 'has_more' = 'true' then
        raise exception using errcode = 'PT400', message = 'assistants is one page of several: has_more is true',
            detail = format('it has %s, up to %s', json_array_length(list), coalesce(left(assistants ->> 'last_id', 100), 'an unknown id')),
            hint = 'Put the data of all pages into one array, or import each page''s data by itself.';
    end if;
    if json_array_length(list) > most then
        raise exception using errcode = 'PT413', message = format('an import takes %s assistants at most', most),
            detail = format('it has %s', json_array_length(list)), hint = 'Import them in several calls.';
    end if;
    -- One at a time, so that no assistant becomes two agents.
    perform pg_advisory_xact_lock(hashtextextended('mrprompt agents of ' || coalesce(acting::text, 'all'), 0));
    begin
        for assistant in select e from json_array_elements(list) e loop
            place := place + 1;
            if json_typeof(assistant) is distinct from 'object' then
                raise exception using errcode = 'PT400', message = 'must be an assistant object', detail = format('it is %s', coalesce(json_typeof(assistant), 'null')),
                    hint = 'An assistant as GET /v1/assistants answered it, an array of them, or its whole answer {"object": "list", "data": […]}.';
            elsif coalesce(assistant ->> 'object', 'assistant') <> 'assistant' or json_typeof(assistant -> 'model') is distinct from 'string' then
                raise exception using errcode = 'PT400', message = 'must be an assistant object with a model',
                    detail = format('object is %s, model is %s', coalesce(left((assistant -> 'object')::text, 100), 'missing'),
                        coalesce(left((assistant -> 'model')::text, 100), 'missing')),
                    hint = '{"id": "asst_…", "object": "assistant", "name": …, "model": …, "instructions": …, "tools": […]}';
            end if;
            assistant_id := assistant ->> 'id';
            name := left(coalesce(nullif(btrim(assistant ->> 'name'), ''), assistant_id, 'assistant'), 256);
            description := left(nullif(assistant ->> 'description', ''), 512);
            metadata := coalesce(nullif((assistant -> 'metadata')::jsonb, 'null'), '{}');
            if jsonb_typeof(metadata) = 'object' and assistant_id is not null then
                metadata := metadata || jsonb_build_object('assistant_id', assistant_id);
            end if;
            config := mrprompt_internal.assistant_config(assistant);
            notes := mrprompt_internal.assistant_losses(assistant) || array(
                select format('the tool %s is one that your app carries out; to have the registered tool of that name run here, name it in update_agent(…, tools => …)', t.name)
                from mrprompt.tools t join json_array_elements(case json_typeof(config -> 'tools') when 'array' then config -> 'tools' else '[]' end) l (tool) on l.tool -> 'function' ->> 'name' = t.name order by t.name);
            select a.id into agent_id from mrprompt.agents a
            where a.metadata ->> 'assistant_id' = assistant_id and a.archived_at is null
              and coalesce(a.user_id, '00000000-0000-0000-0000-000000000000') = coalesce(acting, '00000000-0000-0000-0000-000000000000')
            order by a.id limit 1;
            created := not found;
            if created then
                agent_id := mrprompt_internal.create_agent(name, description, metadata, mrprompt_internal.merge_config(config, json_build_object(
                    'provider', coalesce(provider, case when key_id is null then 'openai' end), 'key_id', key_id)), shared, user_id);
            else
                -- What an assistant cannot say is left as it was set here.
                perform mrprompt_internal.update_agent(agent_id, name, description, metadata,
                    mrprompt_internal.merge_config(config, mrprompt_internal.without_nulls(json_build_object('provider', provider, 'key_id', key_id))),
                    array(select c from unnest(array['instructions', 'model', 'temperature', 'top_p', 'response_format', 'reasoning_effort', 'tools']) c
                          where config -> c is null) || case when description is null then array['description'] end, null);
            end if;
            return next;
        end loop;
    exception when others then
        get stacked diagnostics state = returned_sqlstate, why = message_text, details = pg_exception_detail, way_out = pg_exception_hint;
        raise exception using errcode = case when state like '22%' then 'PT400' else state end, message = format('assistants[%s]: %s', place, why),
            detail = coalesce(nullif(details, ''), format('there are %s, counted from 0', json_array_length(list))),
            hint = coalesce(nullif(way_out, ''), 'Nothing was imported: correct it, and import them again.');
    end;
end
$$;
comment on function mrprompt_internal.import_assistants(json, text, uuid, boolean, uuid) is 'import_assistants() with the owner''s rights; judges the caller itself.';

create function mrprompt.import_assistants(
    assistants json, provider text default null, key_id uuid default null, shared boolean default false, user_id uuid default null)
    returns table (agent_id uuid, assistant_id text, name text, created boolean, notes text[])
    language sql volatile
begin atomic
    select i.agent_id, i.assistant_id, i.name, i.created, i.notes
    from mrprompt_internal.import_assistants(import_assistants.assistants, import_assistants.provider, import_assistants.key_id,
        import_assistants.shared, import_assistants.user_id) i;
end;
comment on function mrprompt.import_assistants(json, text, uuid, boolean, uuid) is
    'Makes agents of exported assistants: one, an array, or the answer of GET /v1/assistants; all or none, up to 1000. Function tools are kept; what is '
    'not is said in notes. The old id stays as metadata.assistant_id, and an assistant imported again changes its agent instead of making another '
    '(created false). provider: null is the key''s, else openai; of an agent that is there, its own. PT400, PT404, PT413 as create_agent, with the '
    'place in front: assistants[3]: ….';

grant execute on function mrprompt.import_assistants, mrprompt_internal.import_assistants to mrprompt_user, mrprompt_admin;
