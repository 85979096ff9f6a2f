-- The contract's settle: the outcome of an attempt, its answer, its ledger row and the request's next state, in one commit.

create function mrprompt_internal.settle(args json) returns json
    language plpgsql security definer set search_path = pg_catalog, pg_temp
    set lock_timeout = '1s' set jit = off set enable_seqscan = off set enable_mergejoin = off
    set plan_cache_mode = force_generic_plan
as $$
declare
    call constant record := (select a from json_to_record(args) as a (fetcher uuid, outcomes json));
begin
    perform mrprompt_internal.enter(call.fetcher);
    return mrprompt_internal.settle_slice(call.fetcher, call.outcomes);
end
$$;
comment on function mrprompt_internal.settle(json) is
    'Contract: ends attempts, each exactly once. Answers which were busy (send again), stale (changed nothing), rejected.';

create function mrprompt_internal.json_half(list json, which integer) returns json
    language sql stable set search_path = pg_catalog, pg_temp
    return (select json_agg(l.item order by l.place)
            from (select json_array_length(list) / 2 as size offset 0) half,
                json_array_elements(list) with ordinality as l (item, place)
            where (l.place <= half.size) = (which = 1));
comment on function mrprompt_internal.json_half(json, integer) is 'The first or second half of a list.';

create function mrprompt_internal.refuse_outcome(why text) returns text
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using errcode = 'invalid_parameter_value', message = why;
end
$$;
comment on function mrprompt_internal.refuse_outcome(text) is 'Fails an outcome that makes no sense: of its batch it alone is rejected.';

create function mrprompt_internal.estimated_prompt(prompt_bound bigint, bytes bigint, images integer) returns bigint
    language sql immutable
    return ceil(case when prompt_bound > 0 then prompt_bound else bytes end / 4.0)::bigint + coalesce(images, 0) * 1000::bigint;
comment on function mrprompt_internal.estimated_prompt(bigint, bigint, integer) is
    'The tokens that the prompt of a row of the queue is taken to have: a quarter of its bytes, and a thousand for each image.';

create function mrprompt_internal.estimated_answer(request_id uuid, attempt integer) returns bigint
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return (select coalesce(ceil(sum(octet_length(concat(d.content, d.reasoning, d.refusal, d.tool_calls::text))) / 4.0), 0)
            from mrprompt.deltas d where d.request_id = estimated_answer.request_id and d.attempt = estimated_answer.attempt);
end
$$;
comment on function mrprompt_internal.estimated_answer(uuid, integer) is
    'The tokens that an attempt is taken to have answered: a quarter of the bytes of its stream that are here.';

create function mrprompt_internal.may_be_charged(sent boolean, http_status integer, error_type text) returns boolean
    language sql immutable
    -- A fetcher of the release before does not say what it sent.
    return coalesce(http_status, 0) < 300 and coalesce(sent, http_status is not null or error_type is null or error_type not in (
        'connect_failed', 'tls_failed', 'connect_timeout', 'url_refused', 'address_refused', 'bad_provider', 'key_unavailable',
        'unsupported_protocol', 'invalid_request'));
comment on function mrprompt_internal.may_be_charged(boolean, integer, text) is
    'Whether a provider may charge for an attempt: something of it was sent, and the provider did not refuse it.';

create function mrprompt_internal.bare_outcome(outcome json, why text) returns json
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    answer constant json := case json_typeof(outcome -> 'response') when 'object' then outcome -> 'response' else '{}' end;
    usage json;
begin
    if json_typeof(outcome -> 'usage') = 'object' then
        -- By their text: what is no figure is read as none.
        select json_object_agg(u.key, u.value) into usage
        from json_each(outcome -> 'usage') u
        where u.key like '%\_tokens' or u.key = 'estimated' or u.key = 'service_tier' and u.value::text ~ '^"[a-z_]{1,50}"$'
        having bool_and(u.value::text ~ case when u.key like '%\_tokens' then '^([0-9]{1,12}|null)$' when u.key = 'estimated' then '^(true|false|null)$' else '' end);
    end if;
    return json_build_object('request', outcome -> 'request', 'attempt', outcome -> 'attempt', 'result', 'failed',
        'usage', coalesce(usage, json_build_object('completion_tokens', nullif(octet_length(concat(
            answer -> 'content', answer -> 'reasoning', answer -> 'refusal', answer -> 'tool_calls')) / 4, 0))),
        'sent', mrprompt_internal.may_be_charged(
            case (outcome -> 'sent')::text when 'true' then true when 'false' then false end,
            case when (outcome -> 'http_status')::text ~ '^[1-9][0-9]{2}$' then (outcome ->> 'http_status')::int end,
            case json_typeof(outcome -> 'error') when 'object' then outcome -> 'error' ->> 'type' end),
        'error', json_build_object('type', 'rejected_by_database', 'message', why));
end
$$;
comment on function mrprompt_internal.bare_outcome(json, text) is
    'What stands in for an outcome that cannot be stored: that its attempt has failed, and what it has used.';

create function mrprompt_internal.lock_meters(ids uuid[]) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform from mrprompt_internal.limit_buckets k
    where k.id = any (array(select u from mrprompt_internal.queue q, unnest(q.buckets) u where q.request_id = any (ids)))
    order by k.id for update;
    perform from mrprompt_internal.budget_counters k
    where k.id = any (array(select u from mrprompt_internal.queue q, unnest(q.counters) u where q.request_id = any (ids)))
    order by k.id for update;
end
$$;
comment on function mrprompt_internal.lock_meters(uuid[]) is
    'Locks what these rows of the queue are held on, in the order that all keep, for a call that will release them in parts.';

create function mrprompt_internal.settle_slice(fetcher_id uuid, outcomes json) returns json
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    first_half json;
    second_half json;
    bad_id uuid;
begin
    return mrprompt_internal.settle_items(fetcher_id, outcomes);
exception when data_exception or integrity_constraint_violation or program_limit_exceeded then
    perform mrprompt_internal.check_batch(json_array_length(outcomes));
    if json_array_length(outcomes) = 1 then
        bad_id := (outcomes -> 0 ->> 'request')::uuid;
        -- The attempt has ended, whatever its outcome looks like: say so, and keep the others going.
        perform mrprompt_internal.settle_items(fetcher_id, json_build_array(mrprompt_internal.bare_outcome(outcomes -> 0,
            format('the answer could not be stored: %s (%s)', sqlerrm, sqlstate))));
        return json_build_object('busy', '[]'::json, 'stale', '[]'::json, 'rejected', json_build_array(
            json_build_object('request', bad_id, 'sqlstate', sqlstate, 'message', sqlerrm)));
    end if;
    perform mrprompt_internal.lock_meters(array(select o.request from json_to_recordset(outcomes) as o (request uuid)));
    first_half := mrprompt_internal.settle_slice(fetcher_id, mrprompt_internal.json_half(outcomes, 1));
    second_half := mrprompt_internal.settle_slice(fetcher_id, mrprompt_internal.json_half(outcomes, 2));
    return (select json_object_agg(word, (
                select coalesce(json_agg(e), '[]') from (
                    select json_array_elements(first_half -> word) as e
                    union all select json_array_elements(second_half -> word)) both_))
            from unnest(array['busy', 'stale', 'rejected']) word);
end
$$;
comment on function mrprompt_internal.settle_slice(uuid, json) is
    'Settles some outcomes; where the whole does not go in, its halves are tried, so that a bad one fails alone.';

create function mrprompt_internal.status_after_retry(request_id uuid, provider text, options json, failures integer, expires_at timestamptz, retry_at timestamptz)
    returns text
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return case
        when exists (select from mrprompt_internal.cancels c where c.request_id = status_after_retry.request_id) then 'cancelled'
        when failures >= coalesce((options ->> 'max_failures')::int,
            (select p.max_failures from mrprompt.providers p where p.name = status_after_retry.provider),
            mrprompt_internal.setting('mrprompt.max_failures')::int) then 'failed'
        when expires_at <= retry_at then 'expired'
        else 'queued' end;
end
$$;
comment on function mrprompt_internal.status_after_retry(uuid, text, json, integer, timestamptz, timestamptz) is
    'What becomes of a request that its fetcher wants tried again at retry_at.';

create function mrprompt_internal.settle_items(fetcher_id uuid, outcomes json) returns json
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    -- First: the roll-ups close a time once every transaction that was there before its end is over.
    xid constant xid8 := pg_current_xact_id();
    moment constant timestamptz := clock_timestamp();
    settled uuid[];
    found_ record;
    busy json;
    stale json;
begin
    with o as materialized (
        select distinct on (o.request, o.attempt) o.*, moment + least(coalesce(o.retry_after_ms, 0), 366 * 86400000::bigint) * interval '1 ms' as retry_at
        from json_to_recordset(outcomes) as o (
            request uuid, attempt int, result text, deltas json, response json, usage json, raw_usage jsonb,
            provider_request_id text, http_status int, first_token_ms numeric, total_ms numeric, error json,
            sent boolean, retry_after_ms bigint, counts_as_failure boolean, cooldown json)
        order by o.request, o.attempt
    ), ended as materialized (
        select o.*, q.user_id, q.provider, q.model, q.key_id, q.key_hash, r.agent_name, r.tags, r.run_id, coalesce(r.kind, 'chat') as kind, f.failures as failures_now, r.id is not null as there,
            case when g.guessed then mrprompt_internal.estimated_prompt(q.prompt_bound, q.bytes, q.images) else u.prompt_tokens end as prompt_tokens,
            case when g.guessed then greatest(u.completion_tokens, mrprompt_internal.estimated_answer(o.request, o.attempt),
                    ceil(octet_length(concat(a.content, a.reasoning, a.refusal, a.tool_calls)) / 4.0)::bigint)
                else u.completion_tokens end as completion_tokens,
            u.cached_tokens, u.cache_write_tokens, u.cache_write_1h_tokens, u.reasoning_tokens,
            u.audio_prompt_tokens, u.audio_completion_tokens, g.guessed or coalesce(u.estimated, false) as estimated,
            left(u.service_tier, 50) as service_tier, u.provider_cost, coalesce(a.model, '') as priced_by,
            q.images, q.hold, q.counters, q.buckets, q.reserved, q.claimed_at,
            a.content, a.tool_calls, a.refusal, a.reasoning, a.finish_reason, a.model as answered_by,
            a.provider_response_id, a.raw,
            x.type as error_type, x.status as error_status, x.message as error_message,
            case when o.result in ('succeeded', 'failed', 'cancelled') then o.result
                 when o.result = 'retry' and r.id is null then 'failed'
                 when o.result = 'retry'
                 then mrprompt_internal.status_after_retry(o.request, r.provider, r.options, f.failures, q.expires_at, o.retry_at)
                 else mrprompt_internal.refuse_outcome(format('%L is no result of an attempt', o.result)) end as status_now
        from o
        -- A row that somebody else holds is not waited for: the fetcher sends it again.
        cross join lateral (
            select q.* from mrprompt_internal.queue q
            where q.request_id = o.request and q.attempt = o.attempt
              and q.fetcher_id is not distinct from settle_items.fetcher_id  -- by its key, not by the claims' index
            for update skip locked) q
        left join lateral (select r.* from mrprompt.requests r where r.id = o.request for no key update skip locked) r on true
        cross join lateral (select r.failures + coalesce(o.counts_as_failure and o.result = 'retry', false)::int as failures) f
        left join lateral json_to_record(o.usage) as u (
            prompt_tokens bigint, completion_tokens bigint, cached_tokens bigint, cache_write_tokens bigint, cache_write_1h_tokens bigint,
            reasoning_tokens bigint, audio_prompt_tokens bigint, audio_completion_tokens bigint, estimated boolean, service_tier text,
            provider_cost numeric) on true
        left join lateral json_to_record(o.response) as a (
            content text, tool_calls json, refusal text, reasoning text, finish_reason text, model text,
            provider_response_id text, raw json) on true
        left join lateral json_to_record(o.error) as x (type text, status int, message text) on true
        cross join lateral (
            select coalesce(r.kind, 'chat') = 'chat' and u.prompt_tokens is null
                and mrprompt_internal.may_be_charged(o.sent, o.http_status, x.type) as guessed offset 0) g
        -- Somebody may have deleted the request while it ran: what it cost is charged all the same.
        where r.id is not null or not exists (select from mrprompt.requests r where r.id = o.request)
    ), answer as (
        insert into mrprompt.responses (request_id, attempt, content, tool_calls, refusal, reasoning, finish_reason, model,
            provider_response_id, raw_usage, raw)
        select e.request, e.attempt, e.content, e.tool_calls, e.refusal, e.reasoning, e.finish_reason, e.answered_by,
            e.provider_response_id, e.raw_usage, e.raw
        from ended e
        where e.status_now <> 'queued' and json_typeof(e.response) = 'object' and e.kind = 'chat' and e.there
        on conflict (request_id) do nothing
    ), prices as materialized (
        select d.provider as at, d.model as asked, d.priced_by, d.claimed_at, p as price, p.service_tier as tier, p.above_tokens as above
        from (select distinct e.provider, e.model, e.priced_by, e.claimed_at from ended e) d
        -- Those that it was held for.
        cross join lateral mrprompt_internal.prices_of(d.provider, d.model, nullif(d.priced_by, ''), d.claimed_at, d.claimed_at) p
    ), ledger as (
        insert into mrprompt.usage (request_id, attempt, slot, user_id, provider, model, key_id, agent_name, outcome,
            prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens, reasoning_tokens, cost, price_known,
            first_token_ms, total_ms, http_status, error_type, provider_request_id, estimated, finished_at, price_id, service_tier,
            cache_write_1h_tokens, audio_prompt_tokens, audio_completion_tokens, images, provider_cost, tags, counters, hold)
        select e.request, e.attempt, mrprompt_internal.slot_of(e.request), e.user_id, e.provider, e.model, e.key_id, e.agent_name,
            case e.result when 'succeeded' then 'succeeded' when 'cancelled' then 'cancelled' else 'failed' end,
            e.prompt_tokens, e.completion_tokens, e.cached_tokens, e.cache_write_tokens, e.reasoning_tokens,
            case
                when least(e.prompt_tokens, e.completion_tokens, e.cached_tokens, e.cache_write_tokens, e.cache_write_1h_tokens, e.reasoning_tokens,
                           e.audio_prompt_tokens, e.audio_completion_tokens) < 0 then
                    mrprompt_internal.refuse_outcome('a count of tokens is negative')::numeric
                when e.kind = 'verify' then 0
                -- Refused by the provider, or never sent: nothing was charged.
                when e.prompt_tokens is null then 0
                -- What is only estimated is no reason to pass a limit.
                when (p.price).id is not null then least(
                    mrprompt_internal.cost_of(p.price, e.prompt_tokens, e.completion_tokens, e.cached_tokens, e.cache_write_tokens,
                        e.cache_write_1h_tokens, e.reasoning_tokens, e.audio_prompt_tokens, e.audio_completion_tokens, e.images, null, null),
                    case when e.estimated and e.hold > 0 and e.counters is not null then e.hold end)
            end,
            (p.price).id is not null or e.kind = 'verify',
            case when e.first_token_ms >= 2147483647 then 2147483647 else e.first_token_ms::int end,
            case when e.total_ms >= 2147483647 then 2147483647 else e.total_ms::int end, e.http_status, e.error_type, e.provider_request_id,
            e.estimated, moment, case when e.prompt_tokens is not null then (p.price).id end, e.service_tier,
            nullif(e.cache_write_1h_tokens, 0), nullif(e.audio_prompt_tokens, 0), nullif(e.audio_completion_tokens, 0), e.images,
            case when e.provider_cost between 0 and 1e9 then e.provider_cost end, e.tags, e.counters, e.hold
        from ended e
        left join lateral (
            select p.price from prices p
            where p.at = e.provider and p.asked = e.model and p.priced_by = e.priced_by and p.claimed_at = e.claimed_at
              and p.tier in ('standard', mrprompt_internal.served_tier(e.service_tier)) and p.above < greatest(e.prompt_tokens, 1)
            order by p.tier <> 'standard' desc, p.above desc limit 1) p on true
        on conflict (request_id, attempt, slot) do nothing
        returning usage.request_id, usage.cost
    ), state as (
        update mrprompt.requests r
        set status = e.status_now,
            failures = e.failures_now,
            wait_reason = case when e.status_now = 'queued' then concat_ws(': ', 'retry after ' || e.error_type, e.error_message) end,
            not_before = case when e.status_now = 'queued' then e.retry_at end,
            finished_at = case when e.status_now <> 'queued' then moment end,
            error_status = e.error_status, error_type = e.error_type, error_message = e.error_message
        from ended e where r.id = e.request
    ), leaves as (
        delete from mrprompt_internal.queue q
        where q.request_id = any (array(select e.request from ended e where e.status_now <> 'queued'))
    )
    select array_agg(e.request) as requests, array_agg(e.attempt) as attempts, array_agg(e.key_hash) as key_hashes,
        (select count(*) from o) as asked, bool_or(exists (select from mrprompt_internal.cooldowns c where c.probe = e.request)) as probed,
        bool_or(e.result = 'succeeded' and exists (select from mrprompt.api_keys k where k.id = e.key_id and k.last_error is not null)) as mended,
        bool_or(e.counters is not null or e.buckets is not null) as metered,
        array_agg(e.hold) as holds, array_agg(e.counters::text) as counters, array_agg(e.buckets::text) as buckets,
        array_agg(e.reserved) as reserved, array_agg(l.cost) as costs, array_agg(e.prompt_tokens + coalesce(e.completion_tokens, 0)) as used,
        bool_or(json_array_length(e.deltas) > 0) as tails, bool_or(e.result <> 'succeeded') as troubles,
        array_agg(e.run_id) filter (where e.run_id is not null and e.status_now <> 'queued') as runs,
        bool_or(json_typeof(e.cooldown) = 'object') as cooldowns, bool_or(e.kind = 'verify') as verifications
    into found_ from ended e left join ledger l on l.request_id = e.request;
    settled := found_.requests;

    -- What only some outcomes need stands by itself: the statement above is every answer's way, and quick to start.
    if found_.tails then
        insert into mrprompt.deltas (request_id, seq, attempt, content, reasoning, refusal, tool_calls)
        select o.request, (o.attempt - 1) * 1000000::bigint + d.seq, o.attempt, d.content, d.reasoning, d.refusal, d.tool_calls
        from json_to_recordset(outcomes) as o (request uuid, attempt int, deltas json),
            json_to_recordset(o.deltas) as d (seq bigint, content text, reasoning text, refusal text, tool_calls json)
        where (o.request, o.attempt) in (select s.id, s.attempt from unnest(settled, found_.attempts) s (id, attempt))
          and d.seq between 1 and 999999
          and (select r.stream from mrprompt.requests r where r.id = o.request)
        on conflict (request_id, seq) do nothing;
    end if;
    if found_.troubles then
        insert into mrprompt_internal.attempt_errors (request_id, attempt, error_message, retry_at, counted, fetcher_id)
        select o.request, o.attempt, o.error ->> 'message', (select r.not_before from mrprompt.requests r where r.id = o.request),
            coalesce(o.counts_as_failure and o.result = 'retry', false), settle_items.fetcher_id
        from json_to_recordset(outcomes) as o (request uuid, attempt int, result text, error json, counts_as_failure boolean)
        where (o.request, o.attempt) in (select s.id, s.attempt from unnest(settled, found_.attempts) s (id, attempt))
          and o.result <> 'succeeded' and exists (select from mrprompt.requests r where r.id = o.request)
        on conflict (request_id, attempt) do nothing;
        update mrprompt_internal.queue q
        set fetcher_id = null, claimed_at = null, ready = false, waits_for = 'retry', ready_at = r.not_before,
            hold = null, counters = null, buckets = null, reserved = null, output_limit = null
        from mrprompt.requests r
        where q.request_id = any (settled) and r.id = q.request_id and r.status = 'queued';
    end if;
    if coalesce(cardinality(settled), 0) < found_.asked then
        select json_agg(o.request) filter (where q.request_id is not null), json_agg(o.request) filter (where q.request_id is null)
        into busy, stale
        from json_to_recordset(outcomes) as o (request uuid, attempt int)
        left join mrprompt_internal.queue q
            on q.request_id = o.request and q.attempt = o.attempt and q.fetcher_id = settle_items.fetcher_id
        where settled is null or o.request <> all (settled);
    end if;
    if found_.metered then
        perform mrprompt_internal.release_meters(found_.holds, found_.counters, found_.buckets, found_.reserved, found_.costs, found_.used);
    end if;
    if found_.cooldowns or found_.verifications or found_.mended then
        perform mrprompt_internal.note_keys(outcomes, settled, found_.key_hashes);
    end if;
    if found_.cooldowns then
        perform mrprompt_internal.open_cooldowns(outcomes, settled, found_.key_hashes);
    end if;
    if found_.probed then
        perform mrprompt_internal.release_cooldowns(c.provider, c.key_id, c.model)
        from mrprompt_internal.cooldowns c
        join json_to_recordset(outcomes) as o (request uuid, result text) on o.request = c.probe
        where o.result = 'succeeded' and c.probe = any (settled);
    end if;
    perform mrprompt_internal.note_changes(settled);
    if found_.runs is not null then
        perform mrprompt_internal.advance_runs(found_.runs);
    end if;
    return json_build_object('busy', coalesce(busy, '[]'), 'stale', coalesce(stale, '[]'), 'rejected', '[]'::json);
end
$$;
comment on function mrprompt_internal.settle_items(uuid, json) is 'Settles outcomes that are this fetcher''s; one statement, all or nothing.';

