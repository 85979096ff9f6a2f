-- What bounds the cost of a request before it is sent: its tokens, and the dearest of its prices.

create function mrprompt_internal.whole_number(parameter text, value json, least_ bigint, most bigint) returns bigint
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    if json_typeof(value) = 'number' and value::text ~ '^\d{1,15}(\.0{1,15})?$' and value::text::numeric between least_ and most then
        return value::text::numeric;
    elsif value is null or json_typeof(value) = 'null' then
        return null;
    end if;
    raise exception using errcode = 'PT400', message = format('%s must be a whole number from %s to %s', parameter, least_, most),
        detail = format('it is %s', left(value::text, 100)), hint = 'What a request may cost is bounded by it. Leave it out for the provider''s default.';
end
$$;
comment on function mrprompt_internal.whole_number(text, json, bigint, bigint) is 'A parameter of a payload that bounds what it costs; null: it is not there. PT400.';

create function mrprompt_internal.parts_of(messages json) returns table (part json)
    language plpgsql immutable rows 10 set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select p from json_array_elements(messages) m, json_array_elements(case json_typeof(m -> 'content') when 'array' then m -> 'content' else '[]' end) p
    union all
    -- What an Anthropic tool answers has parts of its own.
    select n from json_array_elements(messages) m, json_array_elements(case json_typeof(m -> 'content') when 'array' then m -> 'content' else '[]' end) p,
        json_array_elements(case json_typeof(p -> 'content') when 'array' then p -> 'content' else '[]' end) n;
end
$$;
comment on function mrprompt_internal.parts_of(json) is 'The parts of messages whose content is no plain text.';

create function mrprompt_internal.bounds_of(body json, out prompt bigint, out output bigint, out choices integer, out images integer, out special text[])
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    whole constant text := body::text;
    -- Letters, that is: no encoder escapes those, so somebody hides a word.
    escaped constant boolean := strpos(whole, '\u00') > 0 and whole ~ '\\u00[4-7]';
    asked record;
    inline_bytes bigint := 0;
    elsewhere boolean := false;
    thinking bigint;
    messages json;
begin
    select * into asked from json_to_record(body) as a (messages json, max_tokens json, max_completion_tokens json, n json, tools json, service_tier text, thinking json);
    messages := case json_typeof(asked.messages) when 'array' then asked.messages else '[]' end;
    if escaped or strpos(whole, '"image') > 0 or strpos(whole, '"input_image') > 0 or strpos(whole, '"file') > 0 or strpos(whole, '"input_file') > 0
        or strpos(whole, '"document"') > 0 or strpos(whole, '_url"') > 0 or strpos(whole, '_id"') > 0 then
        select count(*) filter (where t.image),
            coalesce(sum(octet_length(u.url)) filter (where t.image and u.url like 'data:%'), 0)
                + coalesce(sum(octet_length(p.part -> 'source' ->> 'data')) filter (where t.image), 0),
            coalesce(bool_or(not t.image and p.part ->> 'type' not in ('text', 'input_text', 'input_audio', 'refusal', 'thinking', 'redacted_thinking',
                'tool_use', 'tool_result', 'server_tool_use', 'web_search_tool_result', 'search_result')), false)
        into images, inline_bytes, elsewhere
        from mrprompt_internal.parts_of(messages) p
        cross join lateral (select coalesce(p.part ->> 'type' in ('image_url', 'image', 'input_image'), false) as image) t
        cross join lateral (select case json_typeof(p.part -> 'image_url') when 'object' then p.part -> 'image_url' ->> 'url'
            else p.part ->> 'image_url' end as url) u;
    end if;
    -- No token is shorter than a byte; what servers put around messages and tools is less than this.
    prompt := octet_length(whole) - inline_bytes + 16 * json_array_length(messages)
        + case when asked.tools is not null then 1000 else 0 end;
    output := greatest(mrprompt_internal.whole_number('max_tokens', asked.max_tokens, 1, 1000000000),
        mrprompt_internal.whole_number('max_completion_tokens', asked.max_completion_tokens, 1, 1000000000));
    thinking := mrprompt_internal.whole_number('thinking.budget_tokens', asked.thinking -> 'budget_tokens', 0, 1000000000);
    -- Anthropic refuses a limit that its thinking alone would use up.
    output := coalesce(output, thinking + 4096);
    choices := coalesce(mrprompt_internal.whole_number('n', asked.n, 1, 1000), 1);
    images := nullif(images, 0);
    special := nullif(array_remove(array[
        case when escaped or strpos(whole, '"ttl"') > 0 then '1h' end,
        case when escaped or strpos(whole, 'audio') > 0 then 'audio' end,
        case when elsewhere then 'elsewhere' end,
        case when asked.service_tier <> 'auto' then mrprompt_internal.served_tier(asked.service_tier) end], null), '{}');
end
$$;
comment on function mrprompt_internal.bounds_of(json) is
    'What bounds the cost of a payload: tokens of the prompt without its images, the output limit it names (null: none), how many '
    'answers, images, and the special prices that may apply: 1h, audio, the one service tier that it asks for; elsewhere: it refers to a '
    'file or the like, as long as the model takes any. PT400.';

create function mrprompt_internal.bound_cost(
    prices mrprompt_internal.price_rows[], prompt_tokens bigint, output_tokens bigint, images integer, special text[]) returns numeric
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    any_tier constant boolean := not coalesce(special && '{standard,batch,flex,priority}', false);
    price mrprompt_internal.price_rows;
    dearest numeric;
    priced boolean := false;
begin
    foreach price in array prices loop
        priced := priced or price.service_tier = 'standard' and price.above_tokens = 0;
        if price.above_tokens < greatest(prompt_tokens, 1) and (any_tier or price.service_tier = 'standard' or price.service_tier = any (special)) then
            dearest := greatest(dearest, coalesce(price.per_request, 0) + coalesce(images * price.image, 0)
                + prompt_tokens * greatest(price.input, price.cached, price.cache_write, case when '1h' = any (special) then price.cache_write_1h end,
                    case when 'audio' = any (special) then price.audio_input end)
                + output_tokens * greatest(price.output, price.reasoning, case when 'audio' = any (special) then price.audio_output end));
        end if;
    end loop;
    return case when priced then dearest end;
end
$$;
comment on function mrprompt_internal.bound_cost(mrprompt_internal.price_rows[], bigint, bigint, integer, text[]) is
    'USD that an attempt of so many tokens can cost at most, at the dearest of the prices that can apply: a provider may serve any tier '
    'unless one is asked for; null: no price that holds for every size.';
