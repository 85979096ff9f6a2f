-- Reading: a request with its answer, waiting for it, following its stream, cancelling it.

create function mrprompt_internal.why_waiting(status text, wait_reason text, provider text) returns text
    language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return case
        when status <> 'queued' or wait_reason is not null then wait_reason
        when not mrprompt_internal.is_home() then 'this database is a copy; an admin has to call resume_here()'
        when exists (select from mrprompt_internal.pauses p where p.provider in ('*', why_waiting.provider)) then 'paused by an admin'
    end;
end
$$;
comment on function mrprompt_internal.why_waiting(text, text, text) is
    'What a request waits for: its own reason, or what holds up all of its provider; null: its turn.';

create function mrprompt.get_request(request_id uuid)
    returns table (
        id uuid, status text, content text, tool_calls json, refusal text, reasoning text, finish_reason text,
        model text, provider text, wait_reason text, not_before timestamptz, cancel_requested boolean,
        error_status integer, error_type text, error_message text,
        prompt_tokens bigint, completion_tokens bigint, cost numeric,
        attempts integer, created_at timestamptz, started_at timestamptz, finished_at timestamptz, metadata jsonb)
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select r.id, r.status, a.content, a.tool_calls, a.refusal, a.reasoning, a.finish_reason,
        r.model, r.provider::text, mrprompt_internal.why_waiting(r.status, r.wait_reason, r.provider), r.not_before, mrprompt_internal.is_cancel_requested(r.id),
        r.error_status, r.error_type, r.error_message,
        u.prompt_tokens, u.completion_tokens, u.cost,
        r.attempts, r.created_at, r.started_at, r.finished_at, r.metadata
    from mrprompt.requests r
    left join mrprompt.responses a on a.request_id = r.id
    left join lateral (
        select sum(l.prompt_tokens)::bigint as prompt_tokens, sum(l.completion_tokens)::bigint as completion_tokens,
            -- One attempt of unknown cost makes the sum unknown.
            case when bool_and(l.cost is not null) then sum(l.cost) end as cost
        from mrprompt.usage l
        where l.request_id = r.id and l.slot = mrprompt_internal.slot_of(r.id)
          and not (l.outcome = 'failed' and l.prompt_tokens is null)) u on true
    where r.id = get_request.request_id;
    if not found then
        raise exception using errcode = 'PT404', message = format('there is no request %s of yours', request_id),
            hint = 'Requests are visible to their user and to admins, once their transaction has committed.';
    end if;
end
$$;
comment on function mrprompt.get_request(uuid) is
    'A request with its answer, tokens and cost (USD, over all attempts; null while unknown). PT404: not there, or not yours.';

create function mrprompt_internal.is_cancel_requested(request_id uuid) returns boolean
    language sql stable security definer set search_path = pg_catalog, pg_temp
    return exists (
        select from mrprompt_internal.cancels c join mrprompt.requests r on r.id = c.request_id
        where c.request_id = is_cancel_requested.request_id
          and (r.user_id = mrprompt.current_user_id() or mrprompt_internal.may_act_for_others()));
comment on function mrprompt_internal.is_cancel_requested(uuid) is 'Whether somebody wishes to cancel this request of the caller''s, and it has not ended yet.';

create function mrprompt_internal.refuse_waiting_for(version xid, what text) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    if version is null then
        raise exception using errcode = 'PT404', message = format('there is no %s of yours', what),
            hint = 'It is visible to its user and to admins, once its transaction has committed.';
    elsif mrprompt_internal.is_own_change(version) then
        raise exception using errcode = 'PT400', message = format('%s was made or changed in this very transaction', what),
            detail = 'No fetcher can see that before the transaction commits.', hint = 'Commit first, then wait.';
    end if;
end
$$;
comment on function mrprompt_internal.refuse_waiting_for(xid, text) is
    'PT404 for what the caller cannot see (version null), PT400 for what this transaction has written.';

create function mrprompt_internal.refuse_own(request_id uuid) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform mrprompt_internal.refuse_waiting_for((select r.xmin from mrprompt.requests r where r.id = request_id), 'request ' || coalesce(request_id::text, 'null'));
end
$$;
comment on function mrprompt_internal.refuse_own(uuid) is 'PT404 for a request the caller cannot see, PT400 for one of this transaction.';

create function mrprompt.wait_for_request(request_id uuid, timeout interval default '5 seconds')
    returns table (
        id uuid, status text, content text, tool_calls json, refusal text, reasoning text, finish_reason text,
        wait_reason text, not_before timestamptz, error_status integer, error_type text, error_message text)
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
    until constant timestamptz := mrprompt_internal.begin_wait(timeout);
    counter bigint;
    again boolean := true;
begin
    perform mrprompt_internal.refuse_own(request_id);
    loop
        counter := mrprompt_internal.change_counter(request_id);
        exit when not again or exists (
            select from mrprompt.requests r
            where r.id = wait_for_request.request_id and r.status not in ('queued', 'running'));
        again := mrprompt_internal.wait_for_change(request_id, counter, until);
    end loop;
    return query
    select r.id, r.status, a.content, a.tool_calls, a.refusal, a.reasoning, a.finish_reason,
        mrprompt_internal.why_waiting(r.status, r.wait_reason, r.provider), r.not_before, r.error_status, r.error_type, r.error_message
    from mrprompt.requests r left join mrprompt.responses a on a.request_id = r.id
    where r.id = wait_for_request.request_id;
end
$$;
comment on function mrprompt.wait_for_request(uuid, interval) is
    'Waits until the request has ended, at most timeout (and always less than statement_timeout), and returns it as it then is: '
    'status still queued or running means not yet. PT400 outside READ COMMITTED or for a request of this transaction, PT404, PT429.';

create function mrprompt.stream(request_id uuid, after_seq bigint default 0, timeout interval default '5 seconds')
    returns table (seq bigint, event text, content text, reasoning text, refusal text, tool_calls json,
        status text, finish_reason text, error_type text, error_message text)
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
    until constant timestamptz := mrprompt_internal.begin_wait(timeout);
    after_ bigint := greatest(coalesce(after_seq, 0), 0);
    counter bigint;
    again boolean := true;
    state record;
    kept boolean;
begin
    perform mrprompt_internal.refuse_own(request_id);
    loop
        counter := mrprompt_internal.change_counter(request_id);
        -- The state first: once it says that the request has ended, the deltas read after it are all there are.
        select r.status, r.attempts, r.error_type, r.error_message into state
        from mrprompt.requests r where r.id = stream.request_id;
        -- Who has read nothing yet need not hear of attempts that were lost.
        if after_ = 0 then
            select coalesce(max(d.seq), 0) into after_ from mrprompt.deltas d
            where d.request_id = stream.request_id and d.event = 'restart';
        end if;
        return query
        select d.seq, d.event, d.content, d.reasoning, d.refusal, d.tool_calls, null::text, null::text, null::text, null::text
        from mrprompt.deltas d
        where d.request_id = stream.request_id and d.seq > after_
        order by d.seq limit 10000;
        kept := found;
        exit when kept or not again or state.status not in ('queued', 'running');
        again := mrprompt_internal.wait_for_change(request_id, counter, until);
    end loop;
    if state.status in ('queued', 'running') then
        return;
    end if;
    kept := kept or exists (select from mrprompt.deltas d where d.request_id = stream.request_id);
    return query
    with answer as materialized (
        select a.*, coalesce((select max(d.seq) from mrprompt.deltas d where d.request_id = stream.request_id), state.attempts * 1000000::bigint - 4) as top
        from (select stream.request_id as id) r left join mrprompt.responses a on a.request_id = r.id
    )
    -- Without deltas (not a stream, or pruned) the answer comes whole, after a restart for those who had begun.
    select a.top + 1, 'restart', null, null, null, null::json, null, null, null, null
    from answer a where not kept and after_ between 1 and a.top
    union all
    select a.top + 2, 'delta', a.content, a.reasoning, a.refusal, (
            select json_agg(json_build_object('index', n - 1, 'id', c ->> 'id', 'name', c -> 'function' ->> 'name',
                'arguments', c -> 'function' ->> 'arguments'))
            from json_array_elements(a.tool_calls) with ordinality e (c, n)), null, null, null, null
    from answer a where not kept and after_ < a.top + 2 and a.request_id is not null
    union all
    select a.top + 3, 'end', null, null, null, null, state.status, a.finish_reason, state.error_type, state.error_message
    from answer a
    where (select count(*) from mrprompt.deltas d where d.request_id = stream.request_id and d.seq > after_) < 10000
    order by 1;
end
$$;
comment on function mrprompt.stream(uuid, bigint, interval) is
    'What is new after after_seq, waiting up to timeout for it: event delta (more of the answer), restart (forget what came, a new '
    'attempt begins), end (last; status tells how). No row: nothing yet. Call again with the last seq until end. Errors as wait_for_request.';

create function mrprompt_internal.request_cancel(request_id uuid) returns text
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    found_request record;
begin
    select r.user_id, r.status into found_request from mrprompt.requests r where r.id = request_id;
    if not found or not (found_request.user_id is not distinct from mrprompt.current_user_id()
                         or mrprompt_internal.may_act_for_others()) then
        raise exception using errcode = 'PT404', message = format('there is no request %s of yours', request_id),
            hint = 'Requests are visible to their user and to admins, once their transaction has committed.';
    end if;
    if found_request.status in ('queued', 'running') then
        -- A wish in a table of its own: no row that the contract needs is locked by this transaction.
        perform mrprompt_internal.wish_cancel(request_id, true);
    end if;
    return found_request.status;
end
$$;
comment on function mrprompt_internal.request_cancel(uuid) is 'Wishes to cancel a request of the caller''s; answers its status at that moment.';

create function mrprompt.cancel_request(request_id uuid) returns boolean
    language sql volatile
    return mrprompt_internal.request_cancel(request_id) in ('queued', 'running');
comment on function mrprompt.cancel_request(uuid) is
    'Cancels a request: a waiting one is not sent, one in flight is aborted on the wire. Takes effect after commit; false: it had '
    'already ended. PT404: not there, or not yours.';

create function mrprompt_internal.my_channel(user_id uuid) returns text
    language sql stable security definer set search_path = pg_catalog, pg_temp
    return mrprompt_internal.channel_name(mrprompt_internal.acting_user(user_id)::text);

create function mrprompt.notification_channel(user_id uuid default null) returns text
    language sql stable
    return mrprompt_internal.my_channel(user_id);
comment on function mrprompt.notification_channel(uuid) is
    'The channel to LISTEN on: whenever a request of the user''s has news, a notification with its id arrives. The name is a secret of the user''s.';

