-- Batches: many requests queued in one call, followed, cancelled and retried together.

create table mrprompt.batches (
    id uuid primary key default mrprompt_internal.uuidv7(),
    user_id uuid not null,
    name text,
    total integer not null default 0,
    created_at timestamptz not null default now(),
    metadata jsonb not null default '{}' check (jsonb_typeof(metadata) = 'object')
);
create index batches_of_user on mrprompt.batches (user_id, id desc);
comment on table mrprompt.batches is 'One row per call of mrprompt.chat_batch(); its requests name it in batch_id.';
comment on column mrprompt.batches.total is 'How many requests it queued; it stays when old requests are pruned.';
comment on column mrprompt.batches.metadata is 'As given to chat_batch(); also of those requests that bring none of their own.';

alter table mrprompt.batches enable row level security;
create policy own_rows on mrprompt.batches for select to mrprompt_user
    using (user_id = (select mrprompt.current_user_id()) or (select mrprompt_internal.may_act_for_others()));
create policy all_rows on mrprompt.batches for select to mrprompt_admin using (true);

create function mrprompt_internal.batch_item(element json) returns json
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    unknown text;
begin
    if json_typeof(element) = 'string' then
        return json_build_object('prompt', element);
    elsif json_typeof(element) is distinct from 'object' then
        raise exception using errcode = 'PT400', message = 'must be a prompt or an object',
            detail = format('it is %s', coalesce(json_typeof(element), 'null')),
            hint = '"Say hello." or {"messages": […]} or {"prompt": "Say hello.", "model": "gpt-4o-mini"}';
    end if;
    select string_agg(k, ', ') into unknown from json_object_keys(element) k
    where k <> all (array['messages', 'prompt', 'system', 'model', 'provider', 'key_id', 'tools', 'tool_choice', 'response_format',
        'temperature', 'top_p', 'max_tokens', 'stop', 'seed', 'parameters', 'stream', 'metadata', 'idempotency_key', 'priority',
        'options', 'expires_at']);
    if unknown is not null then
        raise exception using errcode = 'PT400', message = format('has members that chat_batch() does not know: %s', left(unknown, 200)),
            hint = 'They are named as chat()''s arguments, or prompt and system. What else the provider takes goes into parameters.';
    end if;
    if coalesce(json_typeof(element -> 'messages'), 'null') = 'null' then
        if json_typeof(element -> 'prompt') is distinct from 'string' then
            raise exception using errcode = 'PT400', message = 'has neither messages nor a prompt',
                hint = '"Say hello." or {"messages": […]} or {"prompt": "Say hello."}';
        end if;
    elsif coalesce(json_typeof(element -> 'prompt'), 'null') <> 'null' or coalesce(json_typeof(element -> 'system'), 'null') <> 'null' then
        raise exception using errcode = 'PT400', message = 'has messages, and prompt or system beside them',
            hint = 'Put everything into messages.';
    end if;
    return element;
end
$$;
comment on function mrprompt_internal.batch_item(json) is
    'An element of chat_batch() as an object with known members only, and with either messages or a prompt. PT400 otherwise.';

create function mrprompt_internal.prompt_messages(prompt text, system text) returns json
    language sql immutable set search_path = pg_catalog, pg_temp
    return array_to_json(array_remove(array[
        case when system is not null then jsonb_build_object('role', 'system', 'content', system) end,
        jsonb_build_object('role', 'user', 'content', coalesce(prompt, ''))], null));
comment on function mrprompt_internal.prompt_messages(text, text) is 'A single question as messages, byte for byte as chat_text() makes them.';

create function mrprompt_internal.chat_batch(
    requests json, model text, provider text, key_id uuid, name text, priority integer, stream boolean, metadata jsonb,
    user_id uuid, expires_at timestamptz) returns uuid
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    most constant int := 100000;
    acting constant uuid := mrprompt_internal.acting_user(user_id);
    new_id constant uuid := mrprompt_internal.uuidv7();
    element json;
    item record;
    place int := -1;
    state text; why text; details text; way_out text;
begin
    if requests is null or json_typeof(requests) <> 'array' or json_array_length(requests) = 0 then
        raise exception using errcode = 'PT400', message = 'requests must be a non-empty JSON array',
            detail = format('it is %s', case json_typeof(requests) when 'array' then 'empty' else coalesce(json_typeof(requests), 'null') end),
            hint = '["Say hello.", {"prompt": "Say goodbye.", "model": "gpt-4o-mini"}, {"messages": […]}]';
    elsif json_array_length(requests) > most then
        raise exception using errcode = 'PT413', message = format('a batch takes %s requests at most', most),
            detail = format('it has %s', json_array_length(requests)), hint = 'Make several batches.';
    elsif jsonb_typeof(metadata) <> 'object' then
        raise exception using errcode = 'PT400', message = 'metadata must be a JSON object', detail = format('it is %s', jsonb_typeof(metadata));
    end if;
    insert into mrprompt.batches (id, user_id, name, metadata) values (new_id, acting, chat_batch.name, coalesce(metadata, '{}'));
    begin
        for element in select e from json_array_elements(requests) e loop
            place := place + 1;
            select * into item from json_to_record(mrprompt_internal.batch_item(element)) as i (
                messages json, prompt text, system text, model text, provider text, key_id uuid, tools json, tool_choice json,
                response_format json, temperature double precision, top_p double precision, max_tokens integer, stop json,
                seed bigint, parameters json, stream boolean, metadata jsonb, idempotency_key text, priority integer,
                options json, expires_at timestamptz);
            perform mrprompt_internal.enqueue(
                mrprompt_internal.chat_payload(
                    coalesce(item.messages, mrprompt_internal.prompt_messages(item.prompt, item.system)),
                    item.tools, item.tool_choice, item.response_format, item.temperature, item.top_p, item.max_tokens,
                    item.stop, item.seed, item.parameters),
                coalesce(item.model, model),
                -- Provider and key go together: an element that names one takes neither from the call.
                case when item.key_id is null then coalesce(item.provider, provider) else item.provider end,
                case when item.provider is null then coalesce(item.key_id, key_id) else item.key_id end,
                coalesce(item.stream, stream), coalesce(item.metadata, metadata), item.idempotency_key, acting,
                coalesce(item.expires_at, expires_at), coalesce(item.priority, priority), item.options, new_id);
        end loop;
    exception when others then
        get stacked diagnostics state = returned_sqlstate, why = message_text, details = pg_exception_detail, way_out = pg_exception_hint;
        raise exception using
            -- A number that is none, a malformed uuid or time: bad input like any other.
            errcode = case when state like '22%' then 'PT400' else state end,
            message = format('requests[%s]: %s', place, why),
            detail = coalesce(nullif(details, ''), format('requests has %s elements, counted from 0', json_array_length(requests))),
            hint = coalesce(nullif(way_out, ''), 'Nothing was queued: correct it, and send the batch again.');
    end;
    -- An idempotency_key used before leads to the earlier request, which belongs to its own batch or to none.
    update mrprompt.batches b set total = (select count(*) from mrprompt.requests r where r.batch_id = new_id) where b.id = new_id;
    return new_id;
end
$$;
comment on function mrprompt_internal.chat_batch(json, text, text, uuid, text, integer, boolean, jsonb, uuid, timestamptz) is
    'chat_batch() with the owner''s rights; judges the caller itself.';

create function mrprompt.chat_batch(
    requests json, model text default null, provider text default null, key_id uuid default null, name text default null,
    priority integer default -1, stream boolean default false, metadata jsonb default '{}', user_id uuid default null,
    expires_at timestamptz default null) returns uuid
    language sql volatile
    return mrprompt_internal.chat_batch(requests, model, provider, key_id, name, priority, stream, metadata, user_id, expires_at);
comment on function mrprompt.chat_batch(json, text, text, uuid, text, integer, boolean, jsonb, uuid, timestamptz) is
    'Queues up to 100,000 requests at once, all or none, and returns the batch''s id. Each element is a prompt, or an object with '
    'members named as chat()''s arguments (or prompt and system); what it does not say comes from the call. The requests'' ids rise in '
    'the order of the array. Errors name the element (requests[3]: …): those of chat(), PT413 more than 100,000.';

-- Following it.

create view mrprompt.batch_progress with (security_invoker = true) as
    select b.id as batch_id, b.name, b.created_at, b.total,
        s.queued, s.running, s.succeeded, s.failed, s.cancelled, s.expired,
        b.total - s.remaining as done,
        s.remaining,
        case when b.total = 0 then 100 else round(100.0 * (b.total - s.remaining) / b.total, 1) end as percent,
        round(p.per_second, 2) as requests_per_second,
        case when s.remaining > 0 then statement_timestamp() + (s.remaining / nullif(p.per_second, 0))::double precision * interval '1 second'
            end as estimated_end,
        case when s.remaining = 0 then coalesce(s.finished_at, b.created_at) end as finished_at,
        c.cost, c.attempts_of_unknown_cost
    from mrprompt.batches b
    cross join lateral (
        select count(*) filter (where r.status = 'queued') as queued,
            count(*) filter (where r.status = 'running') as running,
            count(*) filter (where r.status = 'succeeded') as succeeded,
            count(*) filter (where r.status = 'failed') as failed,
            count(*) filter (where r.status = 'cancelled') as cancelled,
            count(*) filter (where r.status = 'expired') as expired,
            count(*) filter (where r.status in ('queued', 'running')) as remaining,
            count(*) filter (where r.finished_at > statement_timestamp() - interval '1 minute') as last_minute,
            max(r.finished_at) as finished_at
        from mrprompt.requests r where r.batch_id = b.id) s
    cross join lateral (
        select s.last_minute / greatest(least(extract(epoch from statement_timestamp() - b.created_at), 60), 1) as per_second) p
    left join lateral (
        select sum(u.cost) as cost, count(*) filter (where u.cost is null) as attempts_of_unknown_cost
        from mrprompt.requests r
        join mrprompt.usage u on u.request_id = r.id and u.slot = mrprompt_internal.slot_of(r.id)
        where r.batch_id = b.id) c on true;
comment on view mrprompt.batch_progress is 'How far each batch is; a user sees his own, an admin all.';
comment on column mrprompt.batch_progress.done is 'Ended, however; pruned ones included, which succeeded and its like no longer count.';
comment on column mrprompt.batch_progress.remaining is 'Queued or running.';
comment on column mrprompt.batch_progress.requests_per_second is 'Ended in the last minute, per second.';
comment on column mrprompt.batch_progress.estimated_end is 'At that rate; null: nothing remains, or nothing has ended in the last minute.';
comment on column mrprompt.batch_progress.finished_at is 'When the last one ended; null while any remains.';
comment on column mrprompt.batch_progress.cost is 'USD, over all attempts whose cost is known; attempts_of_unknown_cost counts the others.';

-- Acting on it.

create function mrprompt_internal.require_batch(batch_id uuid) returns void
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (
        select from mrprompt.batches b
        where b.id = require_batch.batch_id and (b.user_id = mrprompt.current_user_id() or mrprompt_internal.may_act_for_others())) then
        raise exception using errcode = 'PT404', message = 'there is no batch of that id of yours',
            detail = format('batch_id is %s', coalesce(batch_id::text, 'null')), hint = 'select * from mrprompt.batch_progress';
    end if;
end
$$;
comment on function mrprompt_internal.require_batch(uuid) is 'PT404 unless the batch is the caller''s, or the caller may act for others.';

create function mrprompt_internal.cancel_batch(batch_id uuid) returns integer
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wished int;
begin
    perform mrprompt_internal.require_batch(batch_id);
    -- In the order of their ids, so that two who cancel the same batch wait for each other and do not deadlock.
    with unfinished as materialized (
        select r.id from mrprompt.requests r
        where r.batch_id = cancel_batch.batch_id and r.status in ('queued', 'running') order by r.id
    ), wishes as (
        insert into mrprompt_internal.cancels as c (request_id) select u.id from unfinished u order by u.id on conflict do nothing
    )
    select count(*) into wished from unfinished;
    perform mrprompt_internal.wake(mrprompt_internal.channel_name('fetchers'));
    return wished;
end
$$;
comment on function mrprompt_internal.cancel_batch(uuid) is 'cancel_batch() with the owner''s rights; judges the caller itself.';

create function mrprompt.cancel_batch(batch_id uuid) returns integer
    language sql volatile
    return mrprompt_internal.cancel_batch(batch_id);
comment on function mrprompt.cancel_batch(uuid) is
    'Cancels what has not ended of a batch, as cancel_request() does, and says how many that is. PT404: not there, or not yours.';

grant select on mrprompt.batches, mrprompt.batch_progress to mrprompt_user, mrprompt_admin;
grant execute on function mrprompt.chat_batch, mrprompt_internal.chat_batch, mrprompt.cancel_batch, mrprompt_internal.cancel_batch
    to mrprompt_user, mrprompt_admin;
