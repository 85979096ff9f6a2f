-- Tools that are SQL functions: registered by an admin, described to models, called as the user who asked.

create table mrprompt.tools (
    name text primary key check (name ~ '^[a-zA-Z0-9_-]{1,64}$'),
    function text not null,
    owner name not null,
    description text not null,
    parameters json not null,
    writes boolean not null default false,
    needs_approval boolean not null default false,
    strict boolean not null default false,
    timeout interval not null default '10 seconds',
    max_output integer not null default 16384,
    search_path text not null,
    enabled boolean not null default true,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
comment on table mrprompt.tools is 'SQL functions that models may call. Written through register_tool(), enable_tool() and unregister_tool() only.';
alter table mrprompt.tools enable row level security;
create policy all_rows on mrprompt.tools for select to mrprompt_user, mrprompt_admin using (true);
grant select on mrprompt.tools to mrprompt_user, mrprompt_admin;
comment on column mrprompt.tools.function is 'Its signature with its schema, as regprocedure writes it; looked up anew at each call.';
comment on column mrprompt.tools.owner is 'Whose it was when it was registered: another''s function of that signature is not called.';
comment on column mrprompt.tools.parameters is 'The JSON schema of its arguments.';
comment on column mrprompt.tools.writes is 'Whether it may write: others run in read-only transactions.';
comment on column mrprompt.tools.needs_approval is 'Whether the user must say yes to each call (approve_tool_calls).';
comment on column mrprompt.tools.enabled is 'Whether models are offered it, and may call it (enable_tool).';
comment on column mrprompt.tools.max_output is 'Bytes of an answer that the model is shown at most.';
comment on column mrprompt.tools.search_path is 'The search_path of who registered it: it is called with it.';

create function mrprompt_internal.find_function(name text) returns oid
    language c stable strict as 'MODULE_PATHNAME', 'find_function';
comment on function mrprompt_internal.find_function(text) is
    'The function of that name or signature (public.f, or public.f(uuid, int)), as the caller''s search_path finds it. PT400: none, or several.';

create function mrprompt_internal.signature_oid(signature text) returns oid
    language c stable strict as 'MODULE_PATHNAME', 'signature_oid';
comment on function mrprompt_internal.signature_oid(text) is
    'The function of this signature, whoever may see it; null: there is none. Raises where its schema or a type is missing.';

create function mrprompt_internal.function_oid(signature text) returns oid
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return mrprompt_internal.signature_oid(signature);
exception when undefined_object or invalid_schema_name then
    return null;
end
$$;
comment on function mrprompt_internal.function_oid(text) is 'The function that a row of mrprompt.tools names, whoever may see it; null: it is gone.';

create function mrprompt_internal.tool_definition(tool mrprompt.tools) returns json
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return json_build_object('type', 'function', 'function', json_strip_nulls(json_build_object(
        'name', tool.name, 'description', tool.description, 'parameters', tool.parameters, 'strict', nullif(tool."strict", false))));
end
$$;
comment on function mrprompt_internal.tool_definition(mrprompt.tools) is 'A registered tool as an element of OpenAI''s tools array.';

create function mrprompt_internal.check_tool_function(function oid, allow_any boolean) returns void
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    p pg_proc;
    signature constant text := function::regprocedure;
    problem text;
    way_out text := 'Register a function of your own that calls it.';
begin
    select * into strict p from pg_proc f where f.oid = check_tool_function.function;
    problem := case
        when p.prokind = 'p' then 'is a procedure'
        when p.prokind = 'a' then 'is an aggregate'
        when p.prokind = 'w' then 'is a window function'
        when p.pronamespace = 'mrprompt_internal'::regnamespace or p.pronamespace::regnamespace::text ~ '^pg_(temp|toast)' then 'is in schema '
            || p.pronamespace::regnamespace
        when p.prorettype = 'record'::regtype and p.proallargtypes is null then 'returns records without saying of what'
        when p.prorettype not in ('void'::regtype, 'record'::regtype)
            and exists (select from pg_type t where t.oid = p.prorettype and t.typtype = 'p') then 'returns ' || format_type(p.prorettype, null)
        end;
    if problem is null then
        problem := (
            select format('takes %s', format_type(t.oid, null)) from pg_type t
            where t.typtype = 'p' and t.oid in (select unnest(coalesce(p.proallargtypes, p.proargtypes::oid[]))) limit 1);
    end if;
    if problem is null and exists (select from mrprompt_internal.function_arguments(p.oid) a where a.name is null) then
        problem := 'has an argument without a name';
        way_out := 'A model gives arguments by name: name them all.';
    end if;
    if problem is null and not allow_any then
        problem := coalesce(
            case when p.pronamespace in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) then 'is in schema ' || p.pronamespace::regnamespace end, (
            select format('belongs to extension %s', e.extname) from pg_depend d join pg_extension e on e.oid = d.refobjid
            where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.refclassid = 'pg_extension'::regclass and d.deptype = 'e' limit 1));
        way_out := 'Register a function of your own that calls it, or say allow_any => true if you mean it.';
    end if;
    if problem is not null then
        raise exception using errcode = 'PT400', message = format('%s cannot be a tool', signature), detail = format('It %s.', problem), hint = way_out;
    end if;
end
$$;
comment on function mrprompt_internal.check_tool_function(oid, boolean) is 'PT400 unless models may be offered this function.';

create function mrprompt_internal.register_tool(
    name text, function oid, description text, writes boolean, needs_approval boolean, strict boolean, timeout interval, max_output integer,
    allow_any boolean, search_path text) returns json
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    signature constant text := function::regprocedure;
    what constant text := coalesce(nullif(btrim(register_tool.description), ''), mrprompt_internal.function_description(function));
    before mrprompt.tools;
    tool mrprompt.tools;
begin
    perform mrprompt_internal.require_admin('register a tool');
    if name is null or name !~ '^[a-zA-Z0-9_-]{1,64}$' then
        raise exception using errcode = 'PT400', message = 'a tool''s name has 1 to 64 letters, digits, _ and -',
            detail = format('it is %s', coalesce(quote_literal(left(name, 100)), 'null')), hint = 'Models know it by this name: get_weather';
    end if;
    if function is null then
        raise exception using errcode = 'PT400', message = 'which function the tool calls must be said',
            hint = 'public.get_weather, or public.get_weather(text) where there are several';
    end if;
    perform mrprompt_internal.check_tool_function(function, coalesce(allow_any, false));
    if what is null then
        raise exception using errcode = 'PT400', message = format('%s has no description', signature),
            detail = 'Models choose tools by what is said of them.',
            hint = format('comment on function %s is ''What it answers, and when to use it''; or pass description.', signature);
    end if;
    if timeout is null or timeout < interval '1 millisecond' or timeout > interval '1 hour' then
        raise exception using errcode = 'PT400', message = 'a tool''s timeout is at most an hour', detail = format('it is %s', coalesce(timeout::text, 'null'));
    end if;
    if max_output is null or max_output not between 256 and 1048576 then
        raise exception using errcode = 'PT400', message = 'a tool''s max_output is between 256 and 1048576 bytes',
            detail = format('it is %s', coalesce(max_output::text, 'null'));
    end if;
    select * into before from mrprompt.tools t where t.name = register_tool.name for update;
    insert into mrprompt.tools as t (name, function, owner, description, parameters, writes, needs_approval, strict, timeout, max_output, search_path)
    values (register_tool.name, signature, (select pg_get_userbyid(p.proowner) from pg_proc p where p.oid = register_tool.function), what, mrprompt_internal.function_schema(function, coalesce(register_tool."strict", false)),
        coalesce(register_tool.writes, false), coalesce(register_tool.needs_approval, false), coalesce(register_tool."strict", false),
        register_tool.timeout, register_tool.max_output, register_tool.search_path)
    on conflict on constraint tools_pkey do update set function = excluded.function, owner = excluded.owner, description = excluded.description, parameters = excluded.parameters,
        writes = excluded.writes, needs_approval = excluded.needs_approval, strict = excluded.strict, timeout = excluded.timeout,
        max_output = excluded.max_output, search_path = excluded.search_path, updated_at = now()
    returning * into tool;
    if before.needs_approval and not tool.needs_approval or before.writes and not tool.writes then
        raise notice using message = format('tool %s is no longer registered with %s: %s', tool.name,
                concat_ws(' and ', case when before.needs_approval and not tool.needs_approval then 'needs_approval' end, case when before.writes and not tool.writes then 'writes' end),
                concat_ws('; ', case when before.needs_approval and not tool.needs_approval then 'its calls are no longer approved by users' end,
                    case when before.writes and not tool.writes then 'its calls can no longer write' end)),
            hint = 'What is not said has its default. If that is not meant, register it again, with all it needs.';
    end if;
    if (select p.prosecdef from pg_proc p where p.oid = function) then
        raise notice using message = format('%s is SECURITY DEFINER: called by a model, it has the rights of its owner', signature),
            hint = 'It must judge by itself who asks: mrprompt.current_user_id() says whom the run is for.';
    end if;
    return mrprompt_internal.tool_definition(tool);
end
$$;
comment on function mrprompt_internal.register_tool(text, oid, text, boolean, boolean, boolean, interval, integer, boolean, text) is 'register_tool() with the owner''s rights; judges the caller itself.';

create function mrprompt.register_tool(
    name text, function text, description text default null, writes boolean default false, needs_approval boolean default false,
    strict boolean default false, timeout interval default '10 seconds', max_output integer default 16384, allow_any boolean default false)
    returns json language sql volatile
    return mrprompt_internal.register_tool(name, mrprompt_internal.find_function(function), description, writes, needs_approval, strict, timeout,
        max_output, allow_any, current_setting('search_path'));
comment on function mrprompt.register_tool(text, text, text, boolean, boolean, boolean, interval, integer, boolean) is
    'Admins: lets models call a function, as the user who asked, who needs EXECUTE on it; a name that is taken is registered anew, as said now, and stays disabled if it is. function: a name '
    '(public.f) or signature (public.f(uuid, int)); description: else the function''s comment. Returns the tool as models see it. PT400: no such '
    'function, several, or none for models (of pg_catalog or an extension: unless allow_any).';

create function mrprompt_internal.enable_tool(name text, enabled boolean) returns void
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform mrprompt_internal.require_admin('enable or disable a tool');
    if enable_tool.enabled is null then
        raise exception using errcode = 'PT400', message = 'enabled must be true or false';
    end if;
    update mrprompt.tools t set enabled = enable_tool.enabled, updated_at = now() where t.name = enable_tool.name;
    if not found then
        raise exception using errcode = 'PT404', message = format('there is no tool %s', coalesce(quote_ident(left(enable_tool.name, 100)), 'null')),
            detail = (select 'Registered: ' || coalesce(string_agg(l.name, ', ' order by l.name), 'none') from (select t.name from mrprompt.tools t order by 1 limit 100) l);
    end if;
    if not enabled then
        perform mrprompt_internal.stop_tools(tool => enable_tool.name);
    end if;
end
$$;
comment on function mrprompt_internal.enable_tool(text, boolean) is 'enable_tool() with the owner''s rights; judges the caller itself.';

create function mrprompt.enable_tool(name text, enabled boolean default true) returns void
    language sql volatile return mrprompt_internal.enable_tool(name, enabled);
comment on function mrprompt.enable_tool(text, boolean) is
    'Admins: false takes a tool out of service at once (models are offered it no more, its calls fail, those that run are ended and rolled back), and true '
    'puts it back. Agents that name it go on without it meanwhile. PT404: there is none of that name.';

create function mrprompt_internal.unregister_tool(name text, force boolean) returns boolean
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    naming text;
    more bigint;
begin
    perform mrprompt_internal.require_admin('unregister a tool');
    if not coalesce(force, false) then
        select string_agg(format('%s (%s)', left(a.name, 100), a.id), ', ' order by a.id) filter (where a.place <= 10), greatest(count(*) - 10, 0) into naming, more
        from (select g.id, g.name, row_number() over (order by g.id) as place from mrprompt.agents g
              where g.archived_at is null and strpos(g.tools::text, '"' || unregister_tool.name || '"') > 0
                and exists (select from json_array_elements(g.tools) e where json_typeof(e) = 'string' and e #>> '{}' = unregister_tool.name)) a;
        if naming is not null and exists (select from mrprompt.tools t where t.name = unregister_tool.name) then
            raise exception using errcode = 'PT409', message = format('agents name the tool %s', unregister_tool.name),
                detail = naming || case when more > 0 then format(', and %s more', more) else '' end,
                hint = format('enable_tool(%1$L, false) takes it out of service at once and leaves them as they are. Or change them first (update_agent), or call '
                    'unregister_tool(%1$L, force => true): then they go on without it, and cannot be changed or cloned while they name it.', unregister_tool.name);
        end if;
    end if;
    delete from mrprompt.tools t where t.name = unregister_tool.name;
    if found then
        perform mrprompt_internal.stop_tools(tool => unregister_tool.name);
        return true;
    end if;
    return false;
end
$$;
comment on function mrprompt_internal.unregister_tool(text, boolean) is 'unregister_tool() with the owner''s rights; judges the caller itself.';

create function mrprompt.unregister_tool(name text, force boolean default false) returns boolean
    language sql volatile return mrprompt_internal.unregister_tool(name, force);
comment on function mrprompt.unregister_tool(text, boolean) is
    'Admins: forgets a tool; models are not offered it any more, and its calls fail, those that run included. False: there was none of that name. PT409: agents '
    'name it (the detail says which), unless force.';

create function mrprompt_internal.tool_functions() returns table (name text, function oid)
    language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
    select t.name, mrprompt_internal.function_oid(t.function) from mrprompt.tools t where t.enabled;
end;
comment on function mrprompt_internal.tool_functions() is 'The functions behind the enabled tools; null: gone.';

create function mrprompt.list_tools() returns table (
    name text, description text, parameters json, function text, writes boolean, needs_approval boolean, strict boolean, timeout interval)
    language sql stable
begin atomic
    select t.name, t.description, t.parameters, t.function, t.writes, t.needs_approval, t.strict, t.timeout
    from mrprompt.tools t
    join mrprompt_internal.tool_functions() f on f.name = t.name
    join pg_proc p on p.oid = f.function
    where t.enabled and has_function_privilege(p.oid, 'execute') and has_schema_privilege(p.pronamespace, 'usage')
    order by t.name;
end;
comment on function mrprompt.list_tools() is 'The registered tools whose functions the caller may execute.';

create function mrprompt_internal.tool_definitions(tools json) returns json
    language plpgsql stable set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
as $$
begin
    if coalesce(json_typeof(tools), 'null') <> 'array' then
        return null;
    end if;
    return (
        select json_agg(case json_typeof(e.element) when 'object' then e.element else mrprompt_internal.tool_definition(t) end order by e.place)
        from json_array_elements(tool_definitions.tools) with ordinality e (element, place)
        left join mrprompt.tools t on json_typeof(e.element) = 'string' and t.name = e.element #>> '{}' and t.enabled
        where json_typeof(e.element) = 'object' or t.name is not null);
end
$$;
comment on function mrprompt_internal.tool_definitions(json) is
    'The tools of an agent (names of registered tools, and client tools) as OpenAI''s tools array; names that are unknown or disabled are left out. Null: none.';

create function mrprompt_internal.call_kind(tools json, name text, out kind text, out needs_approval boolean)
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    select case json_typeof(e.element) when 'object' then 'client' else 'sql' end, coalesce(t.needs_approval, false)
    into kind, needs_approval
    from json_array_elements(case json_typeof(call_kind.tools) when 'array' then call_kind.tools else '[]' end) with ordinality e (element, place)
    left join mrprompt.tools t on json_typeof(e.element) = 'string' and t.name = e.element #>> '{}' and t.enabled
    where t.name = call_kind.name or json_typeof(e.element) = 'object' and e.element #>> '{function,name}' = call_kind.name
    order by e.place limit 1;
    kind := coalesce(kind, 'unknown');
    needs_approval := coalesce(needs_approval, false);
end
$$;
comment on function mrprompt_internal.call_kind(json, text) is
    'What a model''s call of this name is, given its agent''s tools: sql (registered and named there), client, or unknown.';

grant execute on function mrprompt.register_tool, mrprompt_internal.register_tool, mrprompt_internal.find_function,
    mrprompt.enable_tool, mrprompt_internal.enable_tool, mrprompt.unregister_tool, mrprompt_internal.unregister_tool to mrprompt_admin;
grant execute on function mrprompt.list_tools, mrprompt_internal.tool_functions to mrprompt_user, mrprompt_admin;
