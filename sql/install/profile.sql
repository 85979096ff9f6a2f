-- What a user may know and set of himself: profile, budget, usage, and what is in the way, in plain words. Reading writes nothing.

create function mrprompt_internal.user_profile(user_id uuid)
    returns table (id uuid, name text, login_role name, groups text[], metadata jsonb, created_at timestamptz)
    language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    acting constant uuid := mrprompt_internal.acting_user(user_profile.user_id);
begin
    return query
    select a.id, u.name, u.login_role, array(select m.group_name from mrprompt.group_members m where m.user_id = a.id order by 1),
        coalesce(u.metadata, '{}'), u.created_at
    from (select acting as id) a left join mrprompt.users u on u.id = a.id;
end
$$;
comment on function mrprompt_internal.user_profile(uuid) is 'user_profile() with the owner''s rights; judges the caller itself.';

create function mrprompt.user_profile(user_id uuid default null)
    returns table (id uuid, name text, login_role name, groups text[], metadata jsonb, created_at timestamptz)
    language sql stable
begin atomic
    select p.id, p.name, p.login_role, p.groups, p.metadata, p.created_at from mrprompt_internal.user_profile(user_profile.user_id) p;
end;
comment on function mrprompt.user_profile(uuid) is
    'Who you are to mrprompt: one row, whether or not mrprompt.users has one of you (name, login_role and created_at are null if not). 42501: nobody.';

-- Budgets.

create function mrprompt_internal.budgets_of(person uuid, moment timestamptz)
    returns table (budget_id uuid, scope text, subject text, period text, time_zone text, period_start timestamptz, period_end timestamptz,
        amount numeric, spent numeric, held numeric, at_limit text, self_set boolean)
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    select b.id, b.scope, s.subject, b.period, b.time_zone, p.starting, mrprompt_internal.period_end(b.period, b.time_zone, p.starting),
        b.amount + (select coalesce(sum(e.amount), 0) from mrprompt.budget_extras e
                    where e.budget_id = b.id and e.subject = s.subject and e.period_start = p.starting),
        coalesce(c.spent, 0), coalesce(c.held, 0), b.at_limit, b.self_set
    from (select 'everybody' as scope, '' as subject
          union all select 'user', person::text
          union all select 'group', g.group_name from mrprompt.group_members g where g.user_id = person) s
    join mrprompt.budgets b on b.scope = s.scope and b.subject in (s.subject, '*') and b.enabled
    cross join lateral (select mrprompt_internal.period_start(b.period, b.time_zone, b.starts_on, moment) as starting) p
    left join mrprompt_internal.budget_counters c on c.budget_id = b.id and c.subject = s.subject and c.period_start = p.starting
    where b.subject <> '*' or not exists (
        select from mrprompt.budgets own
        where own.scope = s.scope and own.subject = s.subject and own.period = b.period and not own.self_set);
end;
comment on function mrprompt_internal.budgets_of(uuid, timestamptz) is
    'The budgets that all requests of a user are under (not those of keys, agents, models and tags), as they stand; amount: extras included.';

create function mrprompt_internal.user_budget(user_id uuid)
    returns table (scope text, subject text, period text, time_zone text, period_start timestamptz, period_end timestamptz,
        amount numeric, spent numeric, held numeric, "left" numeric, used_percent numeric, at_limit text, self_set boolean)
    language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    acting constant uuid := mrprompt_internal.acting_user(user_budget.user_id);
begin
    return query
    select b.scope, nullif(b.subject, ''), b.period, b.time_zone, b.period_start, b.period_end,
        case when own then b.amount end, case when own then b.spent end, case when own then b.held end,
        case when own then b.amount - b.spent - b.held end,
        case when b.amount > 0 then round(100 * (b.spent + b.held) / b.amount, 1) else 100 end, b.at_limit, b.self_set
    from mrprompt_internal.budgets_of(acting, now()) b
    cross join lateral (select b.scope = 'user' as own) o
    order by b.scope <> 'user', b.scope desc, b.subject, b.self_set, b.period_end, b.period;
end
$$;
comment on function mrprompt_internal.user_budget(uuid) is 'user_budget() with the owner''s rights; judges the caller itself.';

create function mrprompt.user_budget(user_id uuid default null)
    returns table (scope text, subject text, period text, time_zone text, period_start timestamptz, period_end timestamptz,
        amount numeric, spent numeric, held numeric, "left" numeric, used_percent numeric, at_limit text, self_set boolean)
    language sql stable
begin atomic
    select b.scope, b.subject, b.period, b.time_zone, b.period_start, b.period_end, b.amount, b.spent, b.held, b."left", b.used_percent,
        b.at_limit, b.self_set
    from mrprompt_internal.user_budget(user_budget.user_id) b;
end;
comment on function mrprompt.user_budget(uuid) is
    'The budgets that all your requests are under, in their present period: USD of your own, extras included; of those shared with others '
    '(group, everybody) the percentage used, what is held for requests in flight included. No row: no limit. 42501: nobody.';

create function mrprompt_internal.set_user_budget(
    amount numeric, period text, time_zone text, soft_limits numeric[], at_limit text, user_id uuid) returns uuid
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    acting constant uuid := mrprompt_internal.acting_user(set_user_budget.user_id);
    given mrprompt.budgets;
    removed uuid;
begin
    if amount is null then
        delete from mrprompt.budgets b
        where b.scope = 'user' and b.subject = acting::text and b.period = set_user_budget.period and b.self_set returning b.id into removed;
        if removed is not null then
            perform mrprompt_internal.budget_changed('user', acting::text);
        end if;
        return null;
    end if;
    select * into given from mrprompt.budgets b
    where b.scope = 'user' and b.subject in (acting::text, '*') and b.period = set_user_budget.period and not b.self_set
    order by b.subject = '*' limit 1;
    if given.enabled and amount > given.amount then
        raise exception using errcode = 'PT400', message = format('you cannot set yourself more than an admin allows: %s USD %s', given.amount,
            case period when 'none' then 'in total' else 'per ' || period end),
            detail = format('amount is %s', amount), hint = format('Up to %s, or ask an admin.', given.amount);
    end if;
    -- Each is one more to look at for every request of his.
    perform pg_advisory_xact_lock(hashtextextended('mrprompt set_user_budget ' || acting, 0));
    if (select count(*) >= 5 from mrprompt.budgets b
        where b.scope = 'user' and b.subject = acting::text and b.self_set and b.period is distinct from set_user_budget.period) then
        raise exception using errcode = 'PT400', message = 'you have budgets of your own for five periods already',
            hint = 'set_user_budget(null, period) removes one; mrprompt.user_budget() shows them.';
    end if;
    return mrprompt_internal.write_budget('user', acting::text, amount, period, coalesce(time_zone, given.time_zone, 'UTC'), soft_limits, at_limit,
        true, given.starts_on, true);
end
$$;
comment on function mrprompt_internal.set_user_budget(numeric, text, text, numeric[], text, uuid) is
    'set_user_budget() with the owner''s rights; judges the caller itself.';

create function mrprompt.set_user_budget(
    amount numeric, period text default 'month', time_zone text default null, soft_limits numeric[] default '{0.8}', at_limit text default 'refuse',
    user_id uuid default null) returns uuid
    language sql volatile
    return mrprompt_internal.set_user_budget(amount, period, time_zone, soft_limits, at_limit, user_id);
comment on function mrprompt.set_user_budget(numeric, text, text, numeric[], text, uuid) is
    'Caps your own spending, in USD per period (words as in mrprompt.budgets), beside what admins have set, and never above it; null takes the '
    'cap away. Answers the id of the budget. time_zone null: that of the admin''s budget of this period, else UTC. PT400, 42501.';

-- Usage.

create function mrprompt_internal.user_usage(since timestamptz, until timestamptz, by text, user_id uuid)
    returns table (name text, requests bigint, attempts bigint, failed_attempts bigint, prompt_tokens bigint, completion_tokens bigint,
        cached_tokens bigint, cost numeric, attempts_of_unknown_cost bigint)
    language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    acting constant uuid := mrprompt_internal.acting_user(user_usage.user_id);
begin
    if by is null or by not in ('day', 'model', 'agent', 'key') then
        raise exception using errcode = 'PT400', message = format('usage can be seen by day, model, agent or key, not by %s', coalesce(left(by, 100), 'null'));
    elsif coalesce(since >= until, true) then
        raise exception using errcode = 'PT400', message = 'since must be before until', detail = format('since %s until %s', since, until);
    end if;
    return query
    select case by when 'day' then to_char(u.finished_at at time zone 'UTC', 'YYYY-MM-DD') when 'model' then u.provider || '/' || u.model
            when 'agent' then u.agent_name else u.key_id::text end as what,
        count(distinct u.request_id), count(*), count(*) filter (where u.outcome = 'failed'), sum(u.prompt_tokens)::bigint,
        sum(u.completion_tokens)::bigint, sum(u.cached_tokens)::bigint, sum(u.cost), count(*) filter (where u.cost is null)
    from mrprompt.usage u
    where u.user_id = acting and u.finished_at >= since and u.finished_at < until
    group by 1 order by case by when 'day' then 0 else -coalesce(sum(u.cost), 0) end, what;
end
$$;
comment on function mrprompt_internal.user_usage(timestamptz, timestamptz, text, uuid) is 'user_usage() with the owner''s rights; judges the caller itself.';

create function mrprompt.user_usage(
    since timestamptz default date_trunc('month', now(), 'UTC'), until timestamptz default 'infinity', by text default 'day', user_id uuid default null)
    returns table (name text, requests bigint, attempts bigint, failed_attempts bigint, prompt_tokens bigint, completion_tokens bigint,
        cached_tokens bigint, cost numeric, attempts_of_unknown_cost bigint)
    language sql stable
begin atomic
    select u.name, u.requests, u.attempts, u.failed_attempts, u.prompt_tokens, u.completion_tokens, u.cached_tokens, u.cost, u.attempts_of_unknown_cost
    from mrprompt_internal.user_usage(since, until, by, user_usage.user_id) u;
end;
comment on function mrprompt.user_usage(timestamptz, timestamptz, text, uuid) is
    'What your requests used, of attempts that ended from this month''s first day (UTC) on, or in the span given: by day (UTC), model, agent '
    'or key (its id). cost is in USD, without the attempts whose cost is unknown. PT400, 42501.';

-- Health.

create function mrprompt_internal.user_health(user_id uuid) returns table (severity text, finding text, remedy text)
    language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    acting constant uuid := mrprompt_internal.acting_user(user_health.user_id);
begin
    return query
    select case when b.spent >= b.amount then 'error' else 'warning' end,
        format('%s %s.', n.name, case
            when b.spent >= b.amount then 'is used up'
            when b.scope = 'user' then format('has %s of %s USD left%s', b.amount - b.spent - b.held, b.amount,
                case when b.held > 0 then format(' (%s are held for requests in flight)', b.held) else '' end)
            else format('is used up to %s %%', trunc(100 * (b.spent + b.held) / b.amount)) end),
        case when b.period_end < 'infinity' then format('It begins anew at %s. ', to_char(b.period_end at time zone b.time_zone, 'YYYY-MM-DD HH24:MI') || ' ' || b.time_zone)
            else '' end
            || case when b.self_set then 'You can change it: mrprompt.set_user_budget().' else 'An admin can raise it.' end
    from mrprompt_internal.budgets_of(acting, now()) b
    cross join lateral (
        select case when b.self_set then format('The cap that you have set yourself (%s)', p.name)
            else format('%s (%s)', case b.scope when 'user' then 'Your budget' when 'group' then 'The budget of your group ' || b.subject
                else 'The budget that everybody shares' end, p.name) end as name
        from (select case b.period when 'none' then 'in total' else 'per ' || b.period end as name) p) n
    where b.spent + b.held >= 0.8 * b.amount
    order by b.spent < b.amount, b.scope <> 'user', b.scope, b.subject, b.period;

    return query
    select 'warning', format('%s is reached: %s.', case l.scope when 'user' then 'Your rate limit' when 'key' then 'The rate limit of your key ' || coalesce(own.name, own.masked_key)
                when 'group' then 'The rate limit of your group ' || k.subject else 'The rate limit that everybody shares' end,
            concat_ws(', ', case when k.in_flight >= l.in_flight then format('%s in flight', l.in_flight) end,
                case when r.requests_left < 1 then format('%s requests per minute', l.requests_per_minute) end,
                case when r.tokens_left < 1 then format('%s tokens per minute', l.tokens_per_minute) end)),
        'Requests wait in the queue until there is room; nothing need be done.'
    from mrprompt_internal.limit_buckets k join mrprompt.rate_limits l on l.id = k.limit_id and l.enabled
    left join mrprompt.api_keys own on l.scope = 'key' and own.id::text = k.subject and own.user_id = acting
    cross join lateral (select coalesce(extract(epoch from now() - nullif(k.filled_at, '-infinity')), 0) as seconds) t
    cross join lateral (
        select k.requests + l.requests_per_minute / 60 * greatest(t.seconds, 0) as requests_left,
            k.tokens + l.tokens_per_minute / 60 * greatest(t.seconds, 0) as tokens_left) r
    where (l.scope = 'everybody' or l.scope = 'user' and k.subject = acting::text or own.id is not null
           or l.scope = 'group' and k.subject in (select g.group_name from mrprompt.group_members g where g.user_id = acting))
      and (k.in_flight >= l.in_flight or r.requests_left < 1 or r.tokens_left < 1)
    order by l.scope desc, k.subject limit 20;

    return query
    select 'warning', format('Your key %s is refused by %s: %s', coalesce(k.name, k.masked_key), k.provider, k.last_error),
        format('mrprompt.update_key(%L, …) gives it a new secret; mrprompt.verify_key(%L) asks the provider again.', k.id, k.id)
    from mrprompt.api_keys k
    where k.user_id = acting and k.last_error is not null and k.revoked_at is null
    order by k.last_error_at desc limit 20;

    return query
    select 'notice', format('%s at %s is left alone with your key %s after %s, until %s.', c.model, c.provider, coalesce(k.name, k.masked_key),
            case c.reason when 'rate_limit' then 'a rate limit of the provider' when 'auth' then 'it was refused' else 'failures' end,
            to_char(c.until at time zone 'UTC', 'HH24:MI:SS "UTC"')),
        case c.reason when 'auth' then 'A new secret comes with mrprompt.update_key().' else 'It ends by itself; requests wait for it.' end
    from mrprompt_internal.cooldowns c join mrprompt.api_keys k on k.id = c.key_id
    where k.user_id = acting and (c.until > clock_timestamp() or c.reason <> 'rate_limit')
    order by c.until desc limit 20;

    -- As many as can be looked at while somebody waits.
    return query
    select 'notice', format('Waiting (%s, the oldest for %s seconds): %s.', case count(*) when 1 then '1 request' else count(*) || ' requests' end,
            round(extract(epoch from clock_timestamp() - mrprompt_internal.uuid_time(min(w.id::text)::uuid))), coalesce(w.why, 'their turn has not come')),
        'They go on by themselves; mrprompt.cancel_request() ends one.'
    from (select q.request_id as id, mrprompt_internal.why_waiting(r.status, r.wait_reason, r.provider) as why
          from mrprompt_internal.queue q join mrprompt.requests r on r.id = q.request_id
          where q.user_id = acting and q.fetcher_id is null limit 10000) w
    group by w.why order by count(*) desc, w.why limit 10;

    return query
    select 'notice', format('The price of %s at %s is not known: what %s answers of the last day cost is not known either.', u.model, u.provider, count(*)),
        'An admin can add it to mrprompt.prices.'
    from mrprompt.usage u
    where u.user_id = acting and u.finished_at > now() - interval '1 day' and not u.price_known and u.outcome = 'succeeded'
    group by u.provider, u.model order by count(*) desc, u.provider, u.model limit 20;
end
$$;
comment on function mrprompt_internal.user_health(uuid) is 'user_health() with the owner''s rights; judges the caller itself.';

create function mrprompt.user_health(user_id uuid default null) returns table (severity text, finding text, remedy text)
    language sql stable
begin atomic
    select h.severity, h.finding, h.remedy from mrprompt_internal.user_health(user_health.user_id) h;
end;
comment on function mrprompt.user_health(uuid) is
    'What is in your requests'' way, or soon will be, in plain words, and what to do about it: budgets from 80 % on, rate limits, keys, '
    'cooldowns, what waits, unknown prices. No row: all is well. 42501: nobody.';

grant execute on function mrprompt.user_profile, mrprompt_internal.user_profile, mrprompt.user_budget, mrprompt_internal.user_budget,
    mrprompt.set_user_budget, mrprompt_internal.set_user_budget, mrprompt.user_usage, mrprompt_internal.user_usage,
    mrprompt.user_health, mrprompt_internal.user_health to mrprompt_user, mrprompt_admin;
