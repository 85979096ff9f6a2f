-- What a function's arguments look like to a model: a JSON schema made from names, types, defaults and comments.

create function mrprompt_internal.function_arguments(function oid)
    returns table (place bigint, name text, type oid, is_variadic boolean, required boolean, description text)
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    select i.place, i.name, i.type, i.mode = 'v', i.place <= i.arguments - i.defaults or i.variadic_type <> 0, (
            select m.found[2] from regexp_matches(i.comment, '^\s*@param\s+(\S+)\s+(.*\S)\s*$', 'gn') m (found)
            where m.found[1] = i.name limit 1)
    from (
        select row_number() over (order by a.ordinal) as place, count(*) over () as arguments, p.pronargdefaults as defaults, p.provariadic as variadic_type,
            nullif(a.name, '') as name, a.type, a.mode, obj_description(p.oid, 'pg_proc') as comment
        from pg_proc p
        cross join lateral unnest(coalesce(p.proallargtypes, p.proargtypes::oid[]), p.proargnames, p.proargmodes)
            with ordinality a (type, name, mode, ordinal)
        where p.oid = function_arguments.function and coalesce(a.mode, 'i') in ('i', 'b', 'v')) i
    order by i.place;
end;
comment on function mrprompt_internal.function_arguments(oid) is
    'The arguments that a function takes (in, inout, variadic), in order; description: from a line "@param name text" of its comment. '
    'Where one is variadic all are required: PostgreSQL takes no defaults by name then.';

create function mrprompt_internal.function_description(function oid) returns text
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    select nullif(btrim(regexp_replace(obj_description(function_description.function, 'pg_proc'), '^\s*@param\s.*$\n?', '', 'gn'), E' \t\r\n'), '');
end;
comment on function mrprompt_internal.function_description(oid) is 'A function''s comment without its @param lines; null: none.';

create function mrprompt_internal.type_schema(
    type oid, strict boolean default false, nullable boolean default false, description text default null, depth integer default 0) returns json
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    t pg_type;
    kind text;
    format text;
    items json;
    labels json;
    properties json;
    required json;
begin
    select * into strict t from pg_type y where y.oid = type_schema.type;
    -- A domain is what it is made of.
    while t.typtype = 'd' loop
        description := coalesce(description, obj_description(t.oid, 'pg_type'));
        select * into strict t from pg_type y where y.oid = t.typbasetype;
    end loop;
    case
        when depth > 8 or t.oid in ('json'::regtype, 'jsonb'::regtype) then
            if strict then
                raise exception using errcode = 'PT400', message = format('a strict schema cannot say %s', format_type(t.oid, null)),
                    hint = 'Register it with strict => false, or give the argument a composite type.';
            end if;
        when t.typcategory = 'A' and t.typelem <> 0 then
            kind := 'array';
            items := mrprompt_internal.type_schema(t.typelem, strict, false, null, depth + 1);
        when t.typtype = 'e' then
            kind := 'string';
            labels := (select json_agg(l.label order by l.place) from (
                select e.enumlabel as label, e.enumsortorder as place from pg_enum e where e.enumtypid = t.oid
                union all select null, 'infinity' where nullable) l);
        when t.typtype = 'c' then
            kind := 'object';
            select json_object_agg(a.attname, mrprompt_internal.type_schema(
                    a.atttypid, strict, strict and not a.attnotnull, col_description(t.typrelid, a.attnum), depth + 1) order by a.attnum),
                json_agg(a.attname order by a.attnum) filter (where strict or a.attnotnull and not a.atthasdef)
            into properties, required
            from pg_attribute a where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped;
            properties := coalesce(properties, '{}');
        when t.oid in ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype) then kind := 'integer';
        when t.oid in ('numeric'::regtype, 'real'::regtype, 'double precision'::regtype) then kind := 'number';
        when t.oid = 'boolean'::regtype then kind := 'boolean';
        else
            kind := 'string';
            format := case
                when t.oid = 'uuid'::regtype then 'uuid'
                when t.oid = 'date'::regtype then 'date'
                when t.oid in ('timestamptz'::regtype, 'timestamp'::regtype) then 'date-time'
                when t.oid in ('time'::regtype, 'timetz'::regtype) then 'time' end;
    end case;
    return json_strip_nulls(json_build_object(
        'type', case when nullable and kind is not null then json_build_array(kind, 'null') else to_json(kind) end,
        'format', format, 'description', description, 'enum', labels, 'items', items, 'properties', properties,
        'required', required, 'additionalProperties', case kind when 'object' then false end));
end
$$;
comment on function mrprompt_internal.type_schema(oid, boolean, boolean, text, integer) is
    'The JSON schema of a type: {} for json, an object for a composite type, a string for what JSON has no word for. PT400: strict, and not to be said so.';

create function mrprompt_internal.function_schema(function oid, strict boolean default false) returns json
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    properties json;
    required json;
begin
    -- A strict schema requires everything: what has a default may be null there, and is left out of the call then.
    select json_object_agg(a.name, mrprompt_internal.type_schema(a.type, function_schema.strict, function_schema.strict and not a.required, a.description)
            order by a.place),
        json_agg(a.name order by a.place) filter (where a.required or function_schema.strict)
    into properties, required
    from mrprompt_internal.function_arguments(function_schema.function) a;
    return json_strip_nulls(json_build_object('type', 'object', 'properties', coalesce(properties, '{}'), 'required', required,
        'additionalProperties', false));
end
$$;
comment on function mrprompt_internal.function_schema(oid, boolean) is
    'The JSON schema of a function''s arguments, with the required ones; strict as OpenAI''s strict mode wants it.';
