-- Seeing what budgets and limits have counted (meters.sql): how each stands, and what requests in flight hold.

create function mrprompt_internal.caller_is_analyst() returns boolean
    language sql stable parallel restricted
    return pg_has_role(case current_setting('role') when 'none' then session_user else current_setting('role')::name end, 'mrprompt_analyst', 'usage');
comment on function mrprompt_internal.caller_is_analyst() is 'Whether the asking role has the rights of mrprompt_analyst.';

create function mrprompt_internal.budget_states()
    returns table (budget_id uuid, scope text, subject text, period text, time_zone text, period_start timestamptz, period_end timestamptz,
        amount numeric, extra numeric, spent numeric, held numeric, "left" numeric, at_limit text, enabled boolean, self_set boolean)
    language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
    select b.id, b.scope, s.subject, b.period, b.time_zone, p.starting, mrprompt_internal.period_end(b.period, b.time_zone, p.starting),
        b.amount, e.extra, coalesce(c.spent, 0), coalesce(c.held, 0), b.amount + e.extra - coalesce(c.spent, 0) - coalesce(c.held, 0),
        b.at_limit, b.enabled, b.self_set
    from mrprompt.budgets b
    cross join lateral (select mrprompt_internal.period_start(b.period, b.time_zone, b.starts_on, now()) as starting) p
    cross join lateral (
        select b.subject
        union
        select o.subject from mrprompt_internal.budget_counters o where b.subject = '*' and o.budget_id = b.id and o.period_start = p.starting
        union
        select x.subject from mrprompt.budget_extras x where b.subject = '*' and x.budget_id = b.id and x.period_start = p.starting) s
    left join mrprompt_internal.budget_counters c on c.budget_id = b.id and c.subject = s.subject and c.period_start = p.starting
    cross join lateral (
        select coalesce(sum(x.amount), 0) as extra from mrprompt.budget_extras x
        where x.budget_id = b.id and x.subject = s.subject and x.period_start = p.starting) e
    where mrprompt_internal.may_act_for_others() or mrprompt_internal.caller_is_analyst();
end;
comment on function mrprompt_internal.budget_states() is 'What mrprompt.budget_status shows.';

create view mrprompt.budget_status with (security_invoker = true) as select * from mrprompt_internal.budget_states();
comment on view mrprompt.budget_status is
    'Admins and analysts: how every budget stands in its present period; one that is each one''s (subject *) has a row for each who has used it, or was granted more.';
comment on column mrprompt.budget_status.amount is 'USD per period.';
comment on column mrprompt.budget_status.spent is 'USD that the attempts of the period have cost.';
comment on column mrprompt.budget_status.self_set is 'Set by the user himself, as a cap.';
comment on column mrprompt.budget_status.extra is 'USD that grant_extra() has added to this period.';
comment on column mrprompt.budget_status.held is 'USD that requests in flight may still cost at most.';
comment on column mrprompt.budget_status."left" is 'amount + extra - spent - held: what a new hold must fit.';

create function mrprompt_internal.limit_states()
    returns table (limit_id uuid, scope text, subject text, requests_per_minute numeric, tokens_per_minute numeric, max_in_flight integer,
        in_flight integer, requests_left numeric, tokens_left numeric, waiting bigint, enabled boolean)
    language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
    select l.id, l.scope, s.subject, l.requests_per_minute, l.tokens_per_minute, l.in_flight, coalesce(k.in_flight, 0),
        round(mrprompt_internal.bucket_level(k.requests, l.requests_per_minute, l.burst_seconds, k.filled_at, clock_timestamp()), 3),
        round(mrprompt_internal.bucket_level(k.tokens, l.tokens_per_minute, l.burst_seconds, k.filled_at, clock_timestamp()), 3),
        (select count(*) from mrprompt_internal.queue q where q.blocked_by = k.id), l.enabled
    from mrprompt.rate_limits l
    cross join lateral (select l.subject union select o.subject from mrprompt_internal.limit_buckets o where o.limit_id = l.id) s
    left join mrprompt_internal.limit_buckets k on k.limit_id = l.id and k.subject = s.subject
    where mrprompt_internal.may_act_for_others() or mrprompt_internal.caller_is_analyst();
end;
comment on function mrprompt_internal.limit_states() is 'What mrprompt.rate_limit_status shows.';
create view mrprompt.rate_limit_status with (security_invoker = true) as select * from mrprompt_internal.limit_states();
comment on view mrprompt.rate_limit_status is 'Admins and analysts: how every rate limit stands; one that is each one''s (subject *) has a row for each who has asked under it. Nulls: no such limit.';
comment on column mrprompt.rate_limit_status.requests_left is 'How many may start at once, now.';
comment on column mrprompt.rate_limit_status.tokens_left is 'Tokens that may be reserved at once, now; below 0: more was used than was reserved.';
comment on column mrprompt.rate_limit_status.waiting is 'Requests that wait for tokens or for room in flight.';

create function mrprompt_internal.hold_states()
    returns table (request_id uuid, attempt integer, user_id uuid, fetcher_id uuid, amount numeric, budgets uuid[], since timestamptz, expires_at timestamptz)
    language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
    select q.request_id, q.attempt, q.user_id, q.fetcher_id, q.hold,
        array(select c.budget_id from mrprompt_internal.budget_counters c where c.id = any (q.counters) order by 1), q.claimed_at,
        f.last_seen + mrprompt_internal.lease()
    from mrprompt_internal.queue q left join mrprompt_internal.fetchers f on f.id = q.fetcher_id
    where q.counters is not null
      and (mrprompt_internal.may_act_for_others() or q.user_id = mrprompt.current_user_id());
end;
comment on function mrprompt_internal.hold_states() is 'What mrprompt.budget_holds shows.';
create view mrprompt.budget_holds with (security_invoker = true) as select * from mrprompt_internal.hold_states();
comment on view mrprompt.budget_holds is 'What requests in flight hold on budgets: a user sees his own, an admin all. Settling ends a hold, and so does the death of its fetcher.';
comment on column mrprompt.budget_holds.amount is 'USD, on each of the budgets.';
comment on column mrprompt.budget_holds.expires_at is 'When it ends at the latest, unless its fetcher is heard of again.';

grant select on mrprompt.budget_status, mrprompt.rate_limit_status to mrprompt_analyst, mrprompt_admin;
grant select on mrprompt.budget_holds to mrprompt_user, mrprompt_admin;
grant execute on function mrprompt_internal.budget_states, mrprompt_internal.limit_states to mrprompt_analyst, mrprompt_admin;
grant execute on function mrprompt_internal.hold_states to mrprompt_user, mrprompt_admin;
