-- Asking: chat(), chat_text() and ask(), over enqueue, which checks everything and writes the rows.

create function mrprompt_internal.check_messages(messages json) returns void
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    bad record;
begin
    if messages is null or json_typeof(messages) <> 'array' or json_array_length(messages) = 0 then
        raise exception using errcode = 'PT400', message = 'messages must be a non-empty JSON array',
            detail = format('it is %s', coalesce(json_typeof(messages), 'null')),
            hint = '[{"role": "user", "content": "Hello"}]';
    end if;
    select n - 1 as place, problem into bad
    from json_array_elements(messages) with ordinality m (message, n)
    cross join lateral (
        select case
            when json_typeof(message) <> 'object' then 'is no object'
            when message ->> 'role' is null then 'has no role'
            when message ->> 'role' not in ('system', 'developer', 'user', 'assistant', 'tool', 'function')
                then format('has the unknown role %s', left(message ->> 'role', 50))
            when coalesce(json_typeof(message -> 'content'), 'null') not in ('string', 'array', 'null')
                then 'has a content that is neither a string nor an array of parts'
            when message ->> 'content' is null and message ->> 'role' <> 'assistant' then 'has no content'
            when message ->> 'content' is null and message -> 'tool_calls' is null
                 and message -> 'function_call' is null and message ->> 'refusal' is null
                then 'has neither content nor tool_calls'
            when message ->> 'role' = 'tool' and message ->> 'tool_call_id' is null then 'is a tool message without tool_call_id'
            when coalesce(json_typeof(message -> 'tool_calls'), 'array') <> 'array' then 'has tool_calls that are no array'
            when json_typeof(message -> 'content') = 'array' and exists (
                select from json_array_elements(message -> 'content') part
                where json_typeof(part) <> 'object' or part ->> 'type' is null)
                then 'has a content part without a type'
            end as problem) checked
    where problem is not null
    limit 1;
    if found then
        raise exception using errcode = 'PT400', message = format('messages[%s] %s', bad.place, bad.problem),
            hint = 'Messages are in OpenAI''s chat format: role, content, tool_calls, tool_call_id.';
    end if;
end
$$;
comment on function mrprompt_internal.check_messages(json) is 'PT400 unless the messages are in OpenAI''s chat format.';

create function mrprompt_internal.chat_payload(
    messages json, tools json, tool_choice json, response_format json, temperature double precision, top_p double precision,
    max_tokens integer, stop json, seed bigint, parameters json) returns json
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    clash text;
    more text;
begin
    if json_typeof(parameters) <> 'object' then
        raise exception using errcode = 'PT400', message = 'parameters must be a JSON object',
            detail = format('it is %s', json_typeof(parameters)), hint = '{"presence_penalty": 0.5}';
    end if;
    if json_typeof(tools) <> 'array' then
        raise exception using errcode = 'PT400', message = 'tools must be a JSON array', detail = format('it is %s', json_typeof(tools));
    end if;
    if 'NaN' in (temperature, top_p) or 'Infinity' in (abs(temperature), abs(top_p)) then
        raise exception using errcode = 'PT400', message = 'temperature and top_p must be finite numbers',
            detail = format('temperature is %s, top_p is %s', temperature, top_p);
    end if;
    select string_agg(k, ', ') into clash from json_object_keys(parameters) k
    where k in ('model', 'messages', 'stream')
       or (k = 'tools' and tools is not null) or (k = 'tool_choice' and tool_choice is not null)
       or (k = 'response_format' and response_format is not null) or (k = 'temperature' and temperature is not null)
       or (k = 'top_p' and top_p is not null) or (k = 'max_tokens' and max_tokens is not null)
       or (k = 'stop' and stop is not null) or (k = 'seed' and seed is not null);
    if clash is not null then
        raise exception using errcode = 'PT400', message = format('parameters repeats what is given otherwise: %s', clash),
            hint = 'Say each once: as an argument of its own where there is one.';
    end if;
    more := nullif(btrim(substring(btrim(parameters::text, E' \t\r\n') from '^\{(.*)\}$'), E' \t\r\n'), '');
    -- Put together as text, so that every value stays byte for byte what the caller wrote.
    return ('{' || concat_ws(',',
        '"messages":' || messages, '"tools":' || tools, '"tool_choice":' || tool_choice, '"response_format":' || response_format,
        '"temperature":' || temperature, '"top_p":' || top_p, '"max_tokens":' || max_tokens, '"stop":' || stop,
        '"seed":' || seed, more) || '}')::json;
end
$$;
comment on function mrprompt_internal.chat_payload(json, json, json, json, double precision, double precision, integer, json, bigint, json) is
    'The OpenAI chat payload, without model and stream. PT400: a parameter said twice.';

create function mrprompt_internal.pick_key(acting uuid, key_id uuid, provider text) returns mrprompt.api_keys
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    found_key mrprompt.api_keys;
begin
    if key_id is not null then
        select * into found_key from mrprompt.api_keys k
        where k.id = pick_key.key_id
          and exists (select from mrprompt_internal.key_users u where u.key_id = k.id and (u.user_id is null or u.user_id = acting));
        if not found then
            raise exception using errcode = 'PT404', message = format('there is no key %s that you may use', key_id),
                hint = 'select * from mrprompt.list_keys(). A shared key needs a grant: an admin calls mrprompt.grant_key(key_id, user_id).';
        end if;
        if found_key.revoked_at is not null then
            raise exception using errcode = 'PT400', message = format('key %s (%s) was revoked', key_id, found_key.masked_key),
                detail = format('revoked at %s', found_key.revoked_at), hint = 'Add a new key, or name another one; of an agent, update_agent(agent_id, key_id => …, or clear => ''{key_id}'').';
        end if;
        if provider is not null and provider <> found_key.provider then
            raise exception using errcode = 'PT400',
                message = format('key %s belongs to provider %s, not %s', key_id, found_key.provider, provider),
                hint = 'A key travels only to its own provider. Leave provider out, or name another key.';
        end if;
        return found_key;
    end if;
    select k.* into found_key from mrprompt.api_keys k
    where k.provider = pick_key.provider and k.revoked_at is null
      and exists (select from mrprompt_internal.key_users u where u.key_id = k.id and (u.user_id is null or u.user_id = acting))
    order by k.user_id is null, k.created_at desc, k.id desc
    limit 1;
    return found_key;
end
$$;
comment on function mrprompt_internal.pick_key(uuid, uuid, text) is
    'The key to use: the one named, else the user''s newest own for the provider, else a shared one granted to him; or null.';

create function mrprompt_internal.check_options(options json, place mrprompt.providers) returns void
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    bad text;
begin
    if options is null then
        return;
    end if;
    if json_typeof(options) <> 'object' then
        raise exception using errcode = 'PT400', message = 'options must be a JSON object', detail = format('it is %s', json_typeof(options)),
            hint = '{"total_timeout_ms": 60000, "max_failures": 2}';
    end if;
    select string_agg(format('%s is %s, must be %s', o.key, o.value, wanted), '; ') into bad
    from json_each(options) o
    cross join lateral (
        select case
            when o.key in ('connect_timeout_ms', 'first_byte_timeout_ms', 'idle_timeout_ms', 'total_timeout_ms')
                then 'a whole number from 1 to ' || place.timeout_limit_ms
            when o.key = 'max_failures' then 'a whole number from 1 to ' || coalesce(place.max_failures, mrprompt_internal.setting('mrprompt.max_failures')::int)
            when o.key in ('backoff_base_ms', 'backoff_cap_ms') then 'a whole number from 1 to 3600000'
            when o.key in ('retry_on', 'no_retry_on') then 'an array of strings'
            when o.key = 'on_limit' then '"wait" or "refuse"'
            else 'one of connect_timeout_ms, first_byte_timeout_ms, idle_timeout_ms, total_timeout_ms, max_failures, backoff_base_ms, '
                 'backoff_cap_ms, retry_on, no_retry_on, on_limit' end as wanted) w
    where case
        when wanted like 'a whole number%' then
            coalesce(o.value::text !~ '^[0-9]{1,9}$' or o.value::text::bigint not between 1 and substring(wanted from '[0-9]+$')::bigint, true)
        when wanted = '"wait" or "refuse"' then o.value::text not in ('"wait"', '"refuse"')
        when wanted = 'an array of strings' then json_typeof(o.value) <> 'array' or exists (
            select from json_array_elements(case json_typeof(o.value) when 'array' then o.value else '[]' end) e where json_typeof(e) <> 'string')
        else true end;
    if bad is not null then
        raise exception using errcode = 'PT400', message = 'options: ' || bad,
            hint = format('An admin sets the limits at provider %s: timeout_limit_ms, max_failures.', place.name);
    end if;
end
$$;
comment on function mrprompt_internal.check_options(json, mrprompt.providers) is 'PT400 unless the options of a request are known and within the provider''s limits.';

create function mrprompt_internal.tags_of(metadata jsonb) returns text[]
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    tags text[];
begin
    if metadata -> 'tags' is null then
        return null;
    end if;
    select array_agg(distinct t #>> '{}') into tags
    from jsonb_array_elements(case jsonb_typeof(metadata -> 'tags') when 'array' then metadata -> 'tags' end) t
    where jsonb_typeof(t) = 'string' and length(t #>> '{}') between 1 and 100 and t #>> '{}' <> '*';
    if jsonb_typeof(metadata -> 'tags') <> 'array' or coalesce(cardinality(tags), 0) <> jsonb_array_length(metadata -> 'tags') or cardinality(tags) > 20 then
        raise exception using errcode = 'PT400', message = 'metadata.tags must be an array of up to 20 different strings of 1 to 100 characters',
            detail = format('it is %s', left((metadata -> 'tags')::text, 200)), hint = '{"tags": ["nightly", "team-a"]}';
    end if;
    return tags;
end
$$;
comment on function mrprompt_internal.tags_of(jsonb) is 'The tags of a request, sorted; null: none. PT400.';

create function mrprompt_internal.check_room(acting uuid, more integer default 1) returns void
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
    most constant bigint := mrprompt_internal.setting('mrprompt.max_queued')::bigint;
    most_of_user constant bigint := mrprompt_internal.setting('mrprompt.max_queued_per_user')::bigint;
begin
    if mrprompt_internal.queue_depth(acting, most_of_user) + more > most_of_user then
        raise exception using errcode = 'PT429', message = format('%s of your requests are queued already', most_of_user),
            detail = format('user %s, mrprompt.max_queued_per_user is %s', acting, most_of_user),
            hint = 'Ask again when some have been answered, or cancel some.';
    end if;
    if mrprompt_internal.queue_depth(null, most) + more > most then
        raise exception using errcode = 'PT429', message = format('the queue is full: %s requests', most),
            detail = format('mrprompt.max_queued is %s', most),
            hint = 'Ask again later. An admin sees in mrprompt.status() and mrprompt.doctor() what holds it up.';
    end if;
end
$$;
comment on function mrprompt_internal.check_room(uuid, integer) is 'PT429 where the queue, or the user''s part of it, has no room for more.';

create function mrprompt_internal.queue_again(request_id uuid) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    insert into mrprompt_internal.queue (request_id, provider, bytes, expires_at, user_id, priority, key_id, model, tag, attempt,
        prompt_bound, output_bound, choices, images, special)
    select r.id, r.provider, octet_length(r.payload::text), r.expires_at, r.user_id, r.priority, r.key_id, r.model,
        mrprompt_internal.next_tag(r.user_id, r.priority), r.attempts, b.prompt, b.output, b.choices, b.images, b.special
    from mrprompt.requests r cross join lateral mrprompt_internal.bounds_of(r.payload) b where r.id = queue_again.request_id;
    perform mrprompt_internal.wake(mrprompt_internal.channel_name('fetchers'));
end
$$;
comment on function mrprompt_internal.queue_again(uuid) is 'Queues a request that had ended once more; its attempts go on counting.';

create function mrprompt_internal.enqueue_for(
    acting uuid, body json, model text, provider text, key_id uuid, stream boolean, metadata jsonb, once_key text,
    expires_at timestamptz, priority integer, options json, batch uuid,
    run_id uuid default null, messages_from int8multirange default null, agent_name text default null) returns uuid
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    size constant int := octet_length(body::text);
    max_size constant int := mrprompt_internal.setting('mrprompt.max_payload')::int;
    key mrprompt.api_keys;
    place mrprompt.providers;
    provider_name text := coalesce(provider, nullif(mrprompt_internal.setting('mrprompt.default_provider'), ''));
    model_name text := nullif(model, '');
    new_id constant uuid := mrprompt_internal.uuidv7();
    bounds record;
    earlier record;
begin
    if size > max_size then
        raise exception using errcode = 'PT413', message = format('the payload has %s bytes, at most %s are allowed', size, max_size),
            hint = 'Send less, or have the DBA raise mrprompt.max_payload.';
    end if;
    if mrprompt_internal.json_shape_problem(body) is not null then
        raise exception using errcode = 'PT400', message = 'the payload cannot be sent: ' || mrprompt_internal.json_shape_problem(body),
            hint = 'Send less deeply nested or smaller objects.';
    end if;
    if json_typeof(body) is distinct from 'object' then
        raise exception using errcode = 'PT400', message = 'the payload must be a JSON object';
    end if;
    if exists (select from json_object_keys(body) k where k in ('model', 'stream')) then
        raise exception using errcode = 'PT400', message = 'the payload must name neither model nor stream',
            hint = 'They are arguments of their own.';
    end if;
    perform mrprompt_internal.check_messages(body -> 'messages');
    if jsonb_typeof(metadata) <> 'object' then
        raise exception using errcode = 'PT400', message = 'metadata must be a JSON object', detail = format('it is %s', jsonb_typeof(metadata));
    end if;
    if once_key = '' or length(once_key) > 255 then
        raise exception using errcode = 'PT400', message = 'idempotency_key must have 1 to 255 characters',
            detail = format('it has %s', length(once_key));
    end if;
    if priority is null or priority not between -3 and 3 then
        raise exception using errcode = 'PT400', message = 'priority must be between -3 and 3',
            detail = format('it is %s', coalesce(priority::text, 'null'));
    end if;
    if batch is not null and not exists (select from mrprompt.batches b where b.id = batch and b.user_id = acting) then
        raise exception using errcode = 'PT404', message = format('there is no batch %s of yours', batch),
            hint = 'select * from mrprompt.batch_progress';
    end if;
    if expires_at <= clock_timestamp() then
        raise exception using errcode = 'PT400', message = format('expires_at %s is in the past', expires_at);
    end if;

    if key_id is not null then
        key := mrprompt_internal.pick_key(acting, key_id, provider);
        provider_name := key.provider;
    elsif provider_name is null then
        select min(k.provider) into provider_name from mrprompt.api_keys k
        where k.revoked_at is null
          and exists (select from mrprompt_internal.key_users u where u.key_id = k.id and (u.user_id is null or u.user_id = acting))
        having count(distinct k.provider) = 1;
        if provider_name is null then
            raise exception using errcode = 'PT400', message = 'which provider? None is named, and your keys do not tell',
                hint = case when run_id is null then 'Pass provider or key_id' else 'Give the agent one: update_agent(agent_id, provider => …)' end || ', or set mrprompt.default_provider.';
        end if;
    end if;
    select * into place from mrprompt.providers p where p.name = provider_name;
    if not found or not place.enabled then
        raise exception using errcode = 'PT400',
            message = format(case when place.enabled is null then 'there is no provider %s' else 'provider %s is disabled' end, left(provider_name, 100)),
            detail = (select 'Known: ' || string_agg(p.name, ', ' order by p.name) from mrprompt.providers p where p.enabled),
            hint = 'An admin adds one by insert into mrprompt.providers (name, protocol, base_url) values (…).';
    end if;
    if key.id is null then
        key := mrprompt_internal.pick_key(acting, null, provider_name);
    end if;
    if key.id is null and place.key_required then
        raise exception using errcode = 'PT400', message = format('there is no key for provider %s', provider_name),
            hint = format('select mrprompt.add_key(%L, …), or have an admin share one with you.', provider_name);
    end if;

    model_name := coalesce(model_name, key.metadata ->> 'endpoint_id', key.metadata ->> 'model', place.default_model);
    if model_name is null then
        raise exception using errcode = 'PT400', message = format('which model? Provider %s has no default', provider_name),
            hint = case when run_id is null then 'Pass model' else 'Give the agent one: update_agent(agent_id, model => …)' end || ', or put endpoint_id or model into the key''s metadata.';
    end if;
    if length(model_name) > 256 or model_name ~ '[[:cntrl:]]' then
        raise exception using errcode = 'PT400', message = 'the model name is longer than 256 characters or has control characters';
    end if;
    if place.models is not null and model_name <> all (place.models) then
        raise exception using errcode = 'PT400', message = format('provider %s does not offer model %s', provider_name, left(model_name, 100)),
            detail = 'It lists: ' || array_to_string(place.models, ', '),
            hint = 'An admin changes the list in mrprompt.providers.models.';
    end if;

    perform mrprompt_internal.check_options(options, place);
    -- A call made again finds its request, however full the queue is; a run asks for room before it builds its payload.
    if enqueue_for.run_id is null and (once_key is null or not exists (select from mrprompt.requests r where r.user_id = acting and r.idempotency_key = once_key)) then
        perform mrprompt_internal.check_room(acting);
    end if;

    insert into mrprompt.requests
        (id, user_id, provider, model, key_id, agent_name, stream, payload, metadata, idempotency_key, expires_at, priority, options, batch_id, tags,
            run_id, messages_from)
    values (new_id, acting, provider_name, model_name, key.id, coalesce(enqueue_for.agent_name, key.metadata ->> 'agent_name'), coalesce(stream, false),
        case when enqueue_for.run_id is null then body else '{}' end, coalesce(metadata, '{}'), once_key, expires_at, priority, options, batch,
        mrprompt_internal.tags_of(metadata), enqueue_for.run_id, enqueue_for.messages_from)
    on conflict (user_id, idempotency_key) where (idempotency_key is not null) do nothing;
    if not found then
        select r.id, r.payload::text = body::text and r.model = model_name and r.provider = provider_name
            and r.stream = coalesce(enqueue_for.stream, false) and (enqueue_for.key_id is null or r.key_id = enqueue_for.key_id) as same
        into earlier
        from mrprompt.requests r where r.user_id = acting and r.idempotency_key = once_key;
        if earlier.id is null then
            raise exception using errcode = 'serialization_failure',
                message = 'another transaction has just used this idempotency_key', hint = 'Try again in a new transaction.';
        end if;
        if not earlier.same then
            raise exception using errcode = 'PT409',
                message = format('idempotency_key %s was used for another request', once_key),
                detail = format('request %s', earlier.id), hint = 'Use a new key for a new request.';
        end if;
        return earlier.id;
    end if;
    bounds := mrprompt_internal.bounds_of(body);
    insert into mrprompt_internal.queue (request_id, provider, bytes, expires_at, user_id, priority, key_id, model, tag,
        prompt_bound, output_bound, choices, images, special)
    values (new_id, provider_name, size, expires_at, acting, priority, key.id, model_name, mrprompt_internal.next_tag(acting, priority),
        bounds.prompt, bounds.output, bounds.choices, bounds.images, bounds.special);
    if exists (select from mrprompt.budgets b where b.enabled) or exists (select from mrprompt.rate_limits l where l.enabled) then
        perform mrprompt_internal.refuse_certain(new_id, options ->> 'on_limit');
    end if;
    perform mrprompt_internal.wake(mrprompt_internal.channel_name('fetchers'));
    return new_id;
end
$$;
comment on function mrprompt_internal.enqueue_for(
    uuid, json, text, text, uuid, boolean, jsonb, text, timestamptz, integer, json, uuid, uuid, int8multirange, text) is
    'Checks a chat request and queues it for a user; answers its id. Nothing is queued on an error. Of a step of a run the body is not kept.';

create function mrprompt_internal.enqueue(
    body json, model text, provider text, key_id uuid, stream boolean, metadata jsonb, once_key text,
    for_user uuid, expires_at timestamptz, priority integer default 0, options json default null, batch uuid default null) returns uuid
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    acting constant uuid := mrprompt_internal.acting_user(for_user);
begin
    if priority > 0 and not mrprompt_internal.may_act_for_others() then
        raise exception using errcode = 'insufficient_privilege', message = 'you may not raise the priority above 0',
            detail = format('priority is %s', priority), hint = 'Below 0 leaves others more; above 0 is for who may act for others.';
    end if;
    return mrprompt_internal.enqueue_for(acting, body, model, provider, key_id, stream, metadata, once_key, expires_at, priority, options, batch);
end
$$;
comment on function mrprompt_internal.enqueue(json, text, text, uuid, boolean, jsonb, text, uuid, timestamptz, integer, json, uuid) is
    'Checks a chat request and queues it; answers its id. Nothing is queued on an error.';

create function mrprompt.chat(
    messages json, model text default null, provider text default null, key_id uuid default null,
    tools json default null, tool_choice json default null, response_format json default null,
    temperature double precision default null, top_p double precision default null, max_tokens integer default null,
    stop json default null, seed bigint default null, parameters json default null,
    stream boolean default false, metadata jsonb default '{}', idempotency_key text default null,
    user_id uuid default null, expires_at timestamptz default null, priority integer default 0, options json default null)
    returns uuid
    language sql volatile
    return mrprompt_internal.enqueue(
        mrprompt_internal.chat_payload(messages, tools, tool_choice, response_format, temperature, top_p, max_tokens, stop, seed, parameters),
        model, provider, key_id, stream, metadata, idempotency_key, user_id, expires_at, priority, options);
comment on function mrprompt.chat(json, text, text, uuid, json, json, json, double precision, double precision, integer, json, bigint,
    json, boolean, jsonb, text, uuid, timestamptz, integer, json) is
    'Queues a chat completion (messages in OpenAI''s format) and returns the request''s id at once. parameters: whatever else the '
    'provider takes. Errors: PT400 bad input, PT402 a budget is used up, PT404 unknown key, PT409 idempotency_key used otherwise, PT413 too large, PT429 too many queued '
    '(or a rate limit is reached, with on_limit refuse), 42501 nobody.';

create function mrprompt.chat_text(
    prompt text, model text default null, provider text default null, key_id uuid default null, system text default null,
    temperature double precision default null, max_tokens integer default null,
    stream boolean default false, metadata jsonb default '{}', idempotency_key text default null,
    user_id uuid default null, expires_at timestamptz default null, priority integer default 0, options json default null)
    returns uuid
    language sql volatile
    return mrprompt.chat(
        messages => array_to_json(array_remove(array[
            case when system is not null then jsonb_build_object('role', 'system', 'content', system) end,
            jsonb_build_object('role', 'user', 'content', coalesce(prompt, ''))], null)),
        model => model, provider => provider, key_id => key_id, temperature => temperature, max_tokens => max_tokens,
        stream => stream, metadata => metadata, idempotency_key => idempotency_key, user_id => user_id,
        expires_at => expires_at, priority => priority, options => options);
comment on function mrprompt.chat_text(
    text, text, text, uuid, text, double precision, integer, boolean, jsonb, text, uuid, timestamptz, integer, json) is
    'chat() for a single question in plain text.';

create procedure mrprompt.ask(
    prompt text, model text default null, provider text default null, key_id uuid default null, system text default null,
    timeout interval default '5 minutes', inout answer text default null)
    language plpgsql
as $$
declare
    id pg_catalog.uuid;
    until constant pg_catalog.timestamptz := pg_catalog.clock_timestamp() operator(pg_catalog.+) timeout;
    state pg_catalog.record;
begin
    id := mrprompt.chat_text(prompt, model, provider, key_id, system);
    commit;
    loop
        select w.status, w.content, w.refusal, w.wait_reason, w.error_type, w.error_message into state
        from mrprompt.wait_for_request(id, greatest('0', least('5 seconds', until operator(pg_catalog.-) pg_catalog.clock_timestamp()))) w;
        -- Each round in a transaction of its own: no snapshot is held while the model thinks.
        commit;
        exit when state.status operator(pg_catalog.<>) all (array['queued', 'running']);
        if pg_catalog.clock_timestamp() operator(pg_catalog.>=) until then
            raise exception using errcode = 'PT410', message = pg_catalog.format('no answer within %s', timeout),
                detail = pg_catalog.concat_ws('; ', pg_catalog.format('request %s is %s and goes on', id, state.status), state.wait_reason),
                hint = pg_catalog.format('select * from mrprompt.get_request(%L)', id);
        end if;
    end loop;
    if state.status operator(pg_catalog.<>) 'succeeded' then
        raise exception using errcode = 'PT400',
            message = pg_catalog.concat_ws(': ', pg_catalog.format('the request %s', case when state.status operator(pg_catalog.=) 'cancelled' then 'was cancelled' else state.status end),
                state.error_type, state.error_message),
            hint = pg_catalog.format('select * from mrprompt.get_request(%L)', id);
    end if;
    answer := coalesce(state.content, state.refusal);
end
$$;
comment on procedure mrprompt.ask(text, text, text, uuid, text, interval, text) is
    'For psql: call mrprompt.ask(''…'') queues the question, commits, waits and returns the text. Not inside a transaction block.';

