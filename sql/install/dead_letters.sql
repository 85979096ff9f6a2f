-- Dead letters: requests that failed for good, with their history; trying them again; telling operators.

create function mrprompt_internal.attempt_history(request_id uuid) returns jsonb
    language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
    select jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
            'attempt', coalesce(u.attempt, e.attempt), 'at', coalesce(e.at, u.finished_at), 'outcome', u.outcome,
            'error', nullif(concat_ws(': ', nullif(concat_ws(' ', u.http_status, u.error_type), ''), e.error_message), ''),
            'ms', u.total_ms)) order by coalesce(u.attempt, e.attempt))
    from (select l.attempt, l.finished_at, l.outcome, l.http_status, l.error_type, l.total_ms from mrprompt.usage l
          where l.request_id = attempt_history.request_id and l.slot = mrprompt_internal.slot_of(attempt_history.request_id)) u
    full join (select a.attempt, a.at, a.error_message from mrprompt_internal.attempt_errors a
               where a.request_id = attempt_history.request_id) e on e.attempt = u.attempt
    where exists (
        select from mrprompt.requests r
        where r.id = attempt_history.request_id
          and (r.user_id = mrprompt.current_user_id() or mrprompt_internal.may_act_for_others()));
end;
comment on function mrprompt_internal.attempt_history(uuid) is
    'The attempts of a request of the caller''s: when, how each ended, why, how long it took; null: none is known any more.';

create view mrprompt.failed_requests with (security_invoker = true) as
    select r.id, r.user_id, r.provider, r.model, r.status, r.error_status, r.error_type, r.error_message, r.attempts, r.failures,
        r.created_at, r.finished_at, r.batch_id, r.metadata, mrprompt_internal.attempt_history(r.id) as attempts_history
    from mrprompt.requests r
    where r.status in ('failed', 'expired');
comment on view mrprompt.failed_requests is
    'Requests that failed for good or expired; a user sees his own, an admin all. retry_request() tries one again.';
comment on column mrprompt.failed_requests.attempts_history is
    'One entry per attempt: attempt, at, outcome (as in mrprompt.usage), error (status, type and message), ms.';

create function mrprompt_internal.try_again(ids uuid[]) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    update mrprompt.requests r
    set status = 'queued', failures = 0, wait_reason = null, not_before = null, finished_at = null,
        error_status = null, error_type = null, error_message = null,
        expires_at = case when r.expires_at > clock_timestamp() then r.expires_at end
    where r.id = any (ids);
    -- What a cut answer had got to; its pieces stay, and the next attempt begins with a restart above them.
    delete from mrprompt.responses a where a.request_id = any (ids);
    -- A wish that was fulfilled and not yet removed would cancel the request once more.
    delete from mrprompt_internal.cancels c where c.request_id = any (ids);
    perform mrprompt_internal.queue_again(i) from (select unnest(ids) as i order by 1) each_;
    perform mrprompt_internal.note_changes(ids);
    perform mrprompt_internal.wake(mrprompt_internal.channel_name('fetchers'));
end
$$;
comment on function mrprompt_internal.try_again(uuid[]) is 'Queues again requests that have ended, and that the caller has locked.';

create function mrprompt_internal.retry_request(request_id uuid) returns uuid
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    for_others constant boolean := mrprompt_internal.may_act_for_others();
    retried record;
    ended text;
begin
    -- Only one that has ended is locked: the contract needs none of those.
    select r.id, r.user_id, r.run_id, r.payload::text = '{}' as emptied into retried
    from mrprompt.requests r
    where r.id = retry_request.request_id and (r.user_id = mrprompt.current_user_id() or for_others)
      and r.status in ('failed', 'expired', 'cancelled')
    for no key update;
    if not found then
        select r.status into ended from mrprompt.requests r
        where r.id = retry_request.request_id and (r.user_id = mrprompt.current_user_id() or for_others);
        if found then
            raise exception using errcode = 'PT409', message = format('request %s is %s', request_id, ended),
                hint = case when ended = 'succeeded' then 'To ask once more, make a new request.'
                            else 'It can be tried again once it has failed, expired or been cancelled.' end;
        elsif exists (
            select from mrprompt.usage u
            where u.request_id = retry_request.request_id and u.slot = mrprompt_internal.slot_of(retry_request.request_id)
              and (u.user_id = mrprompt.current_user_id() or for_others)) then
            raise exception using errcode = 'PT410', message = format('what request %s asked is no longer kept', request_id),
                detail = 'It was removed after mrprompt.request_retention.', hint = 'Make a new request.';
        end if;
        raise exception using errcode = 'PT404', message = format('there is no request %s of yours', coalesce(request_id::text, 'null')),
            hint = 'select * from mrprompt.failed_requests';
    elsif retried.run_id is not null then
        raise exception using errcode = 'PT409', message = format('request %s was a step of run %s, which has ended', request_id, retried.run_id),
            hint = 'Create a new run on its thread.';
    elsif retried.emptied then
        raise exception using errcode = 'PT410', message = format('what request %s asked is no longer kept', request_id),
            detail = 'It was removed after mrprompt.request_retention.', hint = 'Make a new request.';
    end if;
    perform mrprompt_internal.check_room(retried.user_id);
    perform mrprompt_internal.try_again(array[retried.id]);
    return retried.id;
end
$$;
comment on function mrprompt_internal.retry_request(uuid) is 'retry_request() with the owner''s rights; judges the caller itself.';

create function mrprompt.retry_request(request_id uuid) returns uuid
    language sql volatile
    return mrprompt_internal.retry_request(request_id);
comment on function mrprompt.retry_request(uuid) is
    'Queues a request again that has failed, expired or been cancelled, with failures at 0 and an expires_at that has passed taken '
    'off; returns its id. Attempts count on; a reader of its stream gets a restart. PT404: not there, or not yours; PT409: it is '
    'queued, running or has succeeded; PT410: what it asked is no longer kept; PT429: the queue is full.';

create function mrprompt_internal.retry_batch(batch_id uuid) returns integer
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    ids uuid[];
begin
    perform mrprompt_internal.require_batch(batch_id);
    select array_agg(l.id) into ids from (
        select r.id from mrprompt.requests r
        where r.batch_id = retry_batch.batch_id and r.status in ('failed', 'expired') and r.payload::text <> '{}'
        order by r.id limit 100000 for no key update) l;
    if ids is null then
        return 0;
    end if;
    perform mrprompt_internal.check_room((select b.user_id from mrprompt.batches b where b.id = batch_id), cardinality(ids));
    perform mrprompt_internal.try_again(ids);
    return cardinality(ids);
end
$$;
comment on function mrprompt_internal.retry_batch(uuid) is 'retry_batch() with the owner''s rights; judges the caller itself.';

create function mrprompt.retry_batch(batch_id uuid) returns integer
    language sql volatile
    return mrprompt_internal.retry_batch(batch_id);
comment on function mrprompt.retry_batch(uuid) is
    'Queues the failed and expired requests of a batch again, as retry_request() does, and says how many. PT404: not there, or not yours; PT429: so many do not fit into the queue.';

-- Telling operators.

create function mrprompt_internal.failure_channel() returns text
    language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform mrprompt_internal.require_admin('listen to the failures of all users');
    return mrprompt_internal.channel_name('failures');
end
$$;
comment on function mrprompt_internal.failure_channel() is 'failure_channel() with the owner''s rights; judges the caller itself.';

create function mrprompt.failure_channel() returns text
    language sql stable
    return mrprompt_internal.failure_channel();
comment on function mrprompt.failure_channel() is
    'Admins: the channel to LISTEN on for requests of all users that fail for good or expire; each notification carries a request''s id.';

create function mrprompt_internal.notify_failures(ids uuid[]) returns void
    language sql security definer set search_path = pg_catalog, pg_temp
begin atomic
    select pg_notify(c.channel, r.id::text)
    from mrprompt.requests r cross join (select mrprompt_internal.channel_name('failures') as channel) c
    where r.id = any (ids) and r.status in ('failed', 'expired')
    order by r.id;
end;
comment on function mrprompt_internal.notify_failures(uuid[]) is
    'Part of notify_changes(): tells the operators'' channel which of these requests have failed for good.';

grant select on mrprompt.failed_requests to mrprompt_user, mrprompt_admin;
grant execute on function mrprompt_internal.attempt_history, mrprompt.retry_request, mrprompt_internal.retry_request,
    mrprompt.retry_batch, mrprompt_internal.retry_batch to mrprompt_user, mrprompt_admin;
grant execute on function mrprompt.failure_channel, mrprompt_internal.failure_channel to mrprompt_admin;
