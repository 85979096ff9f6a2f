-- Budgets and rate limits as rows: whom they are for, and how admins set them. What they have counted is in meters.sql.

create table mrprompt.groups (
    name text primary key constraint name_has_1_to_100_characters check (length(name) between 1 and 100 and name <> '*'),
    description text,
    created_at timestamptz not null default now()
);
comment on table mrprompt.groups is 'Groups of users, for budgets and limits: add_group_member() makes them.';

create table mrprompt.group_members (
    group_name text not null references mrprompt.groups on delete cascade,
    user_id uuid not null,
    added_at timestamptz not null default now(),
    primary key (user_id, group_name)
);
create index group_members_of_group on mrprompt.group_members (group_name);
comment on table mrprompt.group_members is 'Who is in which group; a user may be in several.';

create table mrprompt.budgets (
    id uuid primary key default mrprompt_internal.uuidv7(),
    scope text not null check (scope in ('everybody', 'user', 'group', 'key', 'agent', 'provider', 'model', 'tag')),
    subject text not null default '',
    amount numeric not null constraint amount_is_usd_below_a_billion check (amount between 0 and 1e9),
    period text not null default 'month'
        constraint period_is_hour_day_week_month_none_or_n_days check (period ~ '^(hour|day|week|month|none|[1-9][0-9]{0,3} days)$'),
    time_zone text not null default 'UTC',
    starts_on date not null default '2024-01-01'
        constraint starts_on_is_between_1970_and_2100 check (starts_on between '1970-01-01' and '2100-01-01'),
    soft_limits numeric[] not null default '{0.8}'
        constraint soft_limits_are_shares_of_the_amount check (0 < all (soft_limits) and 1 >= all (soft_limits) and cardinality(soft_limits) <= 20),
    at_limit text not null default 'refuse' check (at_limit in ('refuse', 'wait')),
    enabled boolean not null default true,
    self_set boolean not null default false,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint subject_is_there_unless_everybody check ((scope = 'everybody') = (subject = '')),
    unique (scope, subject, period, self_set)
);
comment on table mrprompt.budgets is 'How much may be spent, by whom or on what: set_budget() writes it. All that fit a request must hold.';
comment on column mrprompt.budgets.scope is 'everybody, user, group, key, agent, provider, model or tag.';
comment on column mrprompt.budgets.subject is
    'Which one: a user''s or key''s id, the name of a group, an agent, a provider, a tag, or a model (with or without provider/ before it); '
    'a star: each one by itself, except those that have a row of their own for that period, enabled or not. Empty for everybody.';
comment on column mrprompt.budgets.amount is 'USD per period.';
comment on column mrprompt.budgets.period is 'hour, day, week (from Monday), month, N days (counted from starts_on), or none: for ever.';
comment on column mrprompt.budgets.time_zone is 'Where its days, weeks and months begin.';
comment on column mrprompt.budgets.starts_on is 'For periods of N days: the first day of one of them.';
comment on column mrprompt.budgets.soft_limits is 'Shares of the amount, such as 0.8: each raises one alert per period, in mrprompt.budget_alerts.';
comment on column mrprompt.budgets.at_limit is 'refuse: what does not fit any more fails with PT402; wait: it waits for the next period.';
comment on column mrprompt.budgets.self_set is 'Whether the user has set it for himself, by set_user_budget().';

create table mrprompt.budget_extras (
    id uuid primary key default mrprompt_internal.uuidv7(),
    budget_id uuid not null references mrprompt.budgets on delete cascade,
    subject text not null,
    period_start timestamptz not null,
    amount numeric not null constraint amount_is_usd_below_a_billion check (abs(amount) <= 1e9),
    note text,
    by_role name not null default session_user,
    granted_at timestamptz not null default now()
);
create index budget_extras_of_budget on mrprompt.budget_extras (budget_id, subject, period_start);
comment on table mrprompt.budget_extras is 'What grant_extra() has added to one period of a budget.';

create table mrprompt.rate_limits (
    id uuid primary key default mrprompt_internal.uuidv7(),
    scope text not null check (scope in ('everybody', 'user', 'group', 'key', 'agent', 'provider', 'model')),
    subject text not null default '',
    requests_per_minute numeric constraint requests_per_minute_is_a_hundred_thousandth_to_a_billion check (requests_per_minute between 1e-5 and 1e9),
    tokens_per_minute numeric constraint tokens_per_minute_is_one_to_a_trillion check (tokens_per_minute between 1 and 1e12),
    in_flight integer constraint in_flight_is_not_negative check (in_flight >= 0),
    burst_seconds numeric not null default 60 constraint burst_is_between_a_millisecond_and_a_day check (burst_seconds between 0.001 and 86400),
    enabled boolean not null default true,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint subject_is_there_unless_everybody check ((scope = 'everybody') = (subject = '')),
    unique (scope, subject)
);
comment on table mrprompt.rate_limits is 'How fast, by whom or at what: set_rate_limit() writes it. All that fit a request must have room.';
comment on column mrprompt.rate_limits.subject is 'As in mrprompt.budgets.';
comment on column mrprompt.rate_limits.requests_per_minute is 'Attempts that begin; null: any number.';
comment on column mrprompt.rate_limits.tokens_per_minute is 'Tokens of prompt and answer: their bound is taken at the start, what was not used given back at the end; null: any number.';
comment on column mrprompt.rate_limits.in_flight is 'Attempts at the same time; null: any number.';
comment on column mrprompt.rate_limits.burst_seconds is
    'How much can be taken at once after a pause: what so many seconds bring, and one request at least.';

create table mrprompt.budget_alerts (
    budget_id uuid not null,
    subject text not null,
    period_start timestamptz not null,
    threshold numeric not null,
    id uuid not null default mrprompt_internal.uuidv7(),
    amount numeric not null,
    spent numeric not null,
    raised_at timestamptz not null default clock_timestamp(),
    notified boolean not null default false,
    primary key (budget_id, subject, period_start, threshold)
);
create index budget_alerts_to_notify on mrprompt.budget_alerts (id) where not notified;
comment on table mrprompt.budget_alerts is 'Soft limits that were passed: one row per budget, subject, period and threshold, and one notification on alert_channel().';
comment on column mrprompt.budget_alerts.threshold is 'The share of the amount, from soft_limits.';
comment on column mrprompt.budget_alerts.amount is 'USD: the limit of that period, extras included.';

do $rls$
declare
    name text;
begin
    foreach name in array array['groups', 'group_members', 'budgets', 'budget_extras', 'rate_limits', 'budget_alerts'] loop
        execute format('alter table mrprompt.%I enable row level security', name);
        execute format('create policy all_rows on mrprompt.%I for select to mrprompt_analyst, mrprompt_admin using (true)', name);
        execute format('grant select on mrprompt.%I to mrprompt_analyst, mrprompt_admin', name);
    end loop;
end
$rls$;

-- Periods are computed from the time: nothing has to be reset.

create function mrprompt_internal.period_start(period text, time_zone text, starts_on date, moment timestamptz) returns timestamptz
    language sql stable parallel safe
    return case
        when period in ('hour', 'day', 'week', 'month') then date_trunc(period, moment, time_zone)
        when period = 'none' then '-infinity'
        else (starts_on + (floor(((moment at time zone time_zone)::date - starts_on)::numeric / split_part(period, ' ', 1)::int)
              * split_part(period, ' ', 1)::int)::int)::timestamp at time zone time_zone end;
comment on function mrprompt_internal.period_start(text, text, date, timestamptz) is 'When the period of a budget began that a moment lies in.';

create function mrprompt_internal.period_end(period text, time_zone text, starting timestamptz) returns timestamptz
    language sql stable parallel safe
    return case
        when period = 'hour' then starting + interval '1 hour'
        when period in ('day', 'week', 'month') then ((starting at time zone time_zone) + ('1 ' || period)::interval) at time zone time_zone
        when period = 'none' then 'infinity'
        else ((starting at time zone time_zone) + period::interval) at time zone time_zone end;
comment on function mrprompt_internal.period_end(text, text, timestamptz) is 'When the period of a budget ends that began then.';

-- What admins call.

create function mrprompt_internal.checked_subject(scope text, subject text) returns text
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    found_ text := coalesce(subject, '');
begin
    if scope is null or scope not in ('everybody', 'user', 'group', 'key', 'agent', 'provider', 'model', 'tag') then
        raise exception using errcode = 'PT400', message = format('there is no scope %s', coalesce(left(scope, 100), 'null')),
            hint = 'One of everybody, user, group, key, agent, provider, model, tag.';
    elsif scope = 'everybody' then
        if found_ <> '' then
            raise exception using errcode = 'PT400', message = 'everybody has no subject', detail = format('subject is %s', left(found_, 100)), hint = 'set_budget(''everybody'', null, …)';
        end if;
        return '';
    elsif found_ = '' then
        raise exception using errcode = 'PT400', message = format('which %s? subject is empty', scope),
            hint = format('Name one, or pass * for each %s by itself.', scope);
    elsif found_ = '*' then
        return found_;
    elsif scope in ('user', 'key') then
        begin
            found_ := found_::uuid::text;
        exception when invalid_text_representation then
            raise exception using errcode = 'PT400', message = format('%s is no id of a %s', left(found_, 100), scope), hint = 'It is a uuid, of users as in: select id from mrprompt.users where login_role = ''alice''.';
        end;
    end if;
    if scope = 'group' and not exists (select from mrprompt.groups g where g.name = found_)
        or scope = 'provider' and not exists (select from mrprompt.providers p where p.name = found_)
        or scope = 'key' and not exists (select from mrprompt.api_keys k where k.id = found_::uuid) then
        raise exception using errcode = 'PT404', message = format('there is no %s %s', scope, left(found_, 100)),
            hint = case scope when 'group' then 'select mrprompt.add_group_member(…) makes one.' else format('Look into mrprompt.%s.', case scope when 'key' then 'api_keys' else 'providers' end) end;
    end if;
    return found_;
end
$$;
comment on function mrprompt_internal.checked_subject(text, text) is 'The subject of a budget or limit as it is stored. PT400, PT404.';

create function mrprompt_internal.checked_zone(time_zone text) returns text
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (select from pg_timezone_names z where z.name = checked_zone.time_zone) then
        raise exception using errcode = 'PT400', message = format('there is no time zone %s', coalesce(left(time_zone, 100), 'null')),
            hint = 'As in pg_timezone_names: UTC, Europe/Berlin, Asia/Shanghai, …';
    end if;
    return time_zone;
end
$$;

create function mrprompt_internal.budget_changed(scope text, subject text) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    -- A wish in a table of its own: what waits for the budget is looked at again, and no row that the contract needs is locked.
    insert into mrprompt_internal.releases (kind, scope, subject) values ('budget', scope, subject);
    perform mrprompt_internal.wake(mrprompt_internal.channel_name('fetchers'));
end
$$;
comment on function mrprompt_internal.budget_changed(text, text) is
    'Has the contract look again, after commit, at everything that waits for a budget or limit and is of this scope and subject.';

create function mrprompt_internal.write_budget(
    scope text, subject text, amount numeric, period text, time_zone text, soft_limits numeric[], at_limit text, enabled boolean, starts_on date,
    self_set boolean) returns uuid
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    changed uuid;
begin
    if amount is null or amount < 0 or amount > 1e9 or amount = 'NaN' then
        raise exception using errcode = 'PT400', message = 'amount must be between 0 and 1,000,000,000 USD',
            detail = format('it is %s', coalesce(amount::text, 'null')), hint = case when self_set then 'To take it away: null.' else 'To end a budget: enabled => false, or mrprompt.delete_budget(id).' end;
    end if;
    if period is null or period !~ '^(hour|day|week|month|none|[1-9][0-9]{0,3} days)$' then
        raise exception using errcode = 'PT400', message = format('there is no period %s', coalesce(left(period, 100), 'null')),
            hint = 'One of hour, day, week, month, none, or a number of days such as 30 days.';
    end if;
    if not coalesce(0 < all (soft_limits) and 1 >= all (soft_limits) and cardinality(soft_limits) <= 20, false) then
        raise exception using errcode = 'PT400', message = 'soft_limits must be shares of the amount, above 0 and up to 1',
            detail = format('they are %s', coalesce(soft_limits::text, 'null')), hint = 'array[0.5, 0.8]';
    end if;
    if at_limit is null or at_limit not in ('refuse', 'wait') then
        raise exception using errcode = 'PT400', message = format('at_limit is %s, must be refuse or wait', coalesce(left(at_limit, 100), 'null')),
            hint = 'refuse: what does not fit is PT402; wait: it waits for the next period.';
    end if;
    if starts_on not between '1970-01-01' and '2100-01-01' then
        raise exception using errcode = 'PT400', message = 'starts_on must be between 1970-01-01 and 2100-01-01',
            detail = format('it is %s', starts_on), hint = 'It is the first day of one of the periods of N days; null: 2024-01-01.';
    end if;
    insert into mrprompt.budgets as b (scope, subject, amount, period, time_zone, soft_limits, at_limit, enabled, starts_on, self_set)
    values (scope, mrprompt_internal.checked_subject(scope, subject), amount, period, mrprompt_internal.checked_zone(time_zone), soft_limits,
        at_limit, coalesce(enabled, true), coalesce(starts_on, '2024-01-01'), self_set)
    on conflict on constraint budgets_scope_subject_period_self_set_key do update
    set amount = excluded.amount, time_zone = excluded.time_zone, soft_limits = excluded.soft_limits, at_limit = excluded.at_limit,
        enabled = excluded.enabled, starts_on = excluded.starts_on, updated_at = now()
    returning b.id into changed;
    perform mrprompt_internal.budget_changed(scope, subject);
    return changed;
end
$$;
comment on function mrprompt_internal.write_budget(text, text, numeric, text, text, numeric[], text, boolean, date, boolean) is
    'Writes a budget that somebody may write: who, its caller has judged. PT400, PT404.';

create function mrprompt_internal.apply_budget_change() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    moment constant timestamptz := clock_timestamp();
    began constant timestamptz := mrprompt_internal.period_start(old.period, old.time_zone, old.starts_on, moment);
    begins constant timestamptz := mrprompt_internal.period_start(new.period, new.time_zone, new.starts_on, moment);
    ends constant timestamptz := mrprompt_internal.period_end(new.period, new.time_zone, begins);
begin
    if (begins, ends) <> (began, mrprompt_internal.period_end(old.period, old.time_zone, began)) then
        perform from mrprompt_internal.budget_counters c where c.budget_id = new.id and c.period_start = began order by c.id for update;
        update mrprompt_internal.budget_counters c set period_start = begins, period_end = ends
        where c.budget_id = new.id and c.period_start = began and not exists (
            select from mrprompt_internal.budget_counters o
            where o.budget_id = c.budget_id and o.subject = c.subject and o.period_start = begins and o.id <> c.id);
        update mrprompt.budget_extras e set period_start = begins where e.budget_id = new.id and e.period_start = began;
        update mrprompt.budget_alerts a set period_start = begins
        where a.budget_id = new.id and a.period_start = began and begins <> began and not exists (
            select from mrprompt.budget_alerts o
            where o.budget_id = a.budget_id and o.subject = a.subject and o.period_start = begins and o.threshold = a.threshold);
    end if;
    -- One that is locked is being charged: that raises its alerts.
    perform mrprompt_internal.raise_alerts(array(
        select c.id from mrprompt_internal.budget_counters c
        where c.budget_id = new.id and c.period_end > moment and c.spent > 0 and c.spent >= (select min(t) from unnest(new.soft_limits) t) * new.amount
        order by c.id limit 1000 for update skip locked));
    return null;
end
$$;
comment on function mrprompt_internal.apply_budget_change() is
    'Trigger, at commit, so that no admin''s transaction holds counters for longer than that: where the running period has other bounds now, it '
    'keeps its counters, extras and alerts, so nothing spent is forgotten; and alerts are raised at what is spent beyond the new soft limits, '
    'of 1000 subjects at most.';
create constraint trigger apply_change after update on mrprompt.budgets deferrable initially deferred for each row
    when ((old.amount, old.soft_limits, old.time_zone, old.starts_on) is distinct from (new.amount, new.soft_limits, new.time_zone, new.starts_on))
    execute function mrprompt_internal.apply_budget_change();

create function mrprompt_internal.set_budget(
    scope text, subject text, amount numeric, period text, time_zone text, soft_limits numeric[], at_limit text, enabled boolean, starts_on date)
    returns uuid
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform mrprompt_internal.require_admin('set a budget');
    return mrprompt_internal.write_budget(scope, subject, amount, period, time_zone, soft_limits, at_limit, enabled, starts_on, false);
end
$$;
comment on function mrprompt_internal.set_budget(text, text, numeric, text, text, numeric[], text, boolean, date) is
    'set_budget() with the owner''s rights; judges the caller itself.';

create function mrprompt.set_budget(
    scope text, subject text, amount numeric, period text default 'month', time_zone text default 'UTC', soft_limits numeric[] default '{0.8}',
    at_limit text default 'refuse', enabled boolean default true, starts_on date default null) returns uuid
    language sql volatile
    return mrprompt_internal.set_budget(scope, subject, amount, period, time_zone, soft_limits, at_limit, enabled, starts_on);
comment on function mrprompt.set_budget(text, text, numeric, text, text, numeric[], text, boolean, date) is
    'Admins: sets the budget of a scope, subject and period, in USD (mrprompt.budgets has the words); answers its id. In force once it has '
    'committed; of a new budget, what begins from then on counts; where time_zone or starts_on move the running period, what was spent in it '
    'stays spent. set_budget(''user'', ''*'', 5) is every user''s by default. PT400, PT404.';

create function mrprompt_internal.delete_budget(budget_id uuid) returns void
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    budget mrprompt.budgets;
begin
    perform mrprompt_internal.require_admin('delete a budget');
    delete from mrprompt.budgets b where b.id = budget_id returning * into budget;
    if not found then
        raise exception using errcode = 'PT404', message = format('there is no budget %s', coalesce(budget_id::text, 'null')),
            hint = 'select * from mrprompt.budget_status';
    end if;
    perform mrprompt_internal.budget_changed(budget.scope, budget.subject);
end
$$;
create function mrprompt.delete_budget(budget_id uuid) returns void
    language sql volatile return mrprompt_internal.delete_budget(budget_id);
comment on function mrprompt.delete_budget(uuid) is 'Admins: removes a budget; the ledger stays. PT404.';

create function mrprompt_internal.grant_extra(budget_id uuid, amount numeric, subject text, note text) returns numeric
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    budget mrprompt.budgets;
    own uuid;
    starting timestamptz;
begin
    perform mrprompt_internal.require_admin('grant extra budget');
    select * into budget from mrprompt.budgets b where b.id = budget_id;
    if not found then
        raise exception using errcode = 'PT404', message = format('there is no budget %s', coalesce(budget_id::text, 'null')),
            hint = 'select * from mrprompt.budget_status';
    end if;
    if amount is null or not abs(amount) <= 1e9 then
        raise exception using errcode = 'PT400', message = 'amount must be a number of USD, up to 1,000,000,000',
            detail = format('it is %s', coalesce(amount::text, 'null'));
    end if;
    if budget.subject = '*' and subject is null or budget.subject <> '*' and subject <> budget.subject then
        raise exception using errcode = 'PT400', message = format('which %s? The budget is %s', budget.scope,
                case budget.subject when '*' then 'each one''s' else 'for ' || budget.subject end),
            detail = format('subject is %s', coalesce(left(subject, 100), 'null')),
            hint = case budget.subject when '*' then 'Pass subject.' else 'Leave subject out.' end;
    end if;
    select b.id into own from mrprompt.budgets b
    where b.scope = budget.scope and b.subject = grant_extra.subject and b.period = budget.period and not b.self_set and b.id <> budget.id;
    if own is not null then
        raise exception using errcode = 'PT400', message = format('%s %s has a budget of his own for that period', budget.scope, subject),
            hint = format('select mrprompt.grant_extra(%L, %s)', own, amount);
    end if;
    starting := mrprompt_internal.period_start(budget.period, budget.time_zone, budget.starts_on, now());
    insert into mrprompt.budget_extras (budget_id, subject, period_start, amount, note)
    values (budget_id, mrprompt_internal.checked_subject(budget.scope, coalesce(grant_extra.subject, budget.subject)),
        starting, amount, left(note, 1000));
    perform mrprompt_internal.budget_changed(budget.scope, budget.subject);
    return budget.amount + (select sum(e.amount) from mrprompt.budget_extras e
        where e.budget_id = budget.id and e.subject = coalesce(grant_extra.subject, budget.subject) and e.period_start = starting);
end
$$;
create function mrprompt.grant_extra(budget_id uuid, amount numeric, subject text default null, note text default null) returns numeric
    language sql volatile return mrprompt_internal.grant_extra(budget_id, amount, subject, note);
comment on function mrprompt.grant_extra(uuid, numeric, text, text) is
    'Admins: adds USD (less than 0: takes them off) to the present period of a budget (of one subject, where the budget is each one''s); '
    'answers what the period has now. PT400, PT404.';

create function mrprompt_internal.set_rate_limit(
    scope text, subject text, requests_per_minute numeric, tokens_per_minute numeric, in_flight integer, burst_seconds numeric, enabled boolean)
    returns uuid
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    changed uuid;
begin
    perform mrprompt_internal.require_admin('set a rate limit');
    if scope = 'tag' then
        raise exception using errcode = 'PT400', message = 'tags have no rate limits', hint = 'One of everybody, user, group, key, agent, provider, model.';
    end if;
    if requests_per_minute not between 1e-5 and 1e9 or tokens_per_minute not between 1 and 1e12 or in_flight < 0
        or coalesce(burst_seconds, 0) not between 0.001 and 86400 then
        raise exception using errcode = 'PT400', message = 'requests_per_minute must be between 0.00001 and 1,000,000,000, '
                'tokens_per_minute between 1 and 1,000,000,000,000, in_flight not negative, burst_seconds between 0.001 and 86400',
            detail = format('requests_per_minute %s, tokens_per_minute %s, in_flight %s, burst_seconds %s', requests_per_minute, tokens_per_minute,
                in_flight, burst_seconds), hint = 'Null is no limit; in_flight => 0 lets nothing start.';
    end if;
    insert into mrprompt.rate_limits as l (scope, subject, requests_per_minute, tokens_per_minute, in_flight, burst_seconds, enabled)
    values (scope, mrprompt_internal.checked_subject(scope, subject), requests_per_minute, tokens_per_minute, in_flight, burst_seconds, coalesce(enabled, true))
    on conflict on constraint rate_limits_scope_subject_key do update
    set requests_per_minute = excluded.requests_per_minute, tokens_per_minute = excluded.tokens_per_minute, in_flight = excluded.in_flight,
        burst_seconds = excluded.burst_seconds, enabled = excluded.enabled, updated_at = now()
    returning l.id into changed;
    perform mrprompt_internal.budget_changed(scope, subject);
    return changed;
end
$$;
create function mrprompt.set_rate_limit(
    scope text, subject text, requests_per_minute numeric default null, tokens_per_minute numeric default null, in_flight integer default null,
    burst_seconds numeric default 60, enabled boolean default true) returns uuid
    language sql volatile
    return mrprompt_internal.set_rate_limit(scope, subject, requests_per_minute, tokens_per_minute, in_flight, burst_seconds, enabled);
comment on function mrprompt.set_rate_limit(text, text, numeric, numeric, integer, numeric, boolean) is
    'Admins: sets how many requests and tokens may start per minute, and how many requests may be in flight, of a scope and subject as in '
    'set_budget(); null: no such limit. What is over a limit waits (or is refused, where its options say {"on_limit": "refuse"}). PT400, PT404.';

create function mrprompt_internal.set_group_member(group_name text, user_id uuid, member boolean) returns void
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform mrprompt_internal.require_admin('change a group');
    if user_id is null or coalesce(length(group_name), 0) not between 1 and 100 or group_name = '*' then
        raise exception using errcode = 'PT400', message = 'group_name must have 1 to 100 characters, and user_id be there',
            detail = format('group_name is %s, user_id is %s', coalesce(left(group_name, 120), 'null'), coalesce(user_id::text, 'null'));
    end if;
    if member then
        insert into mrprompt.groups (name) values (set_group_member.group_name) on conflict do nothing;
        insert into mrprompt.group_members (group_name, user_id) values (set_group_member.group_name, set_group_member.user_id) on conflict do nothing;
    else
        delete from mrprompt.group_members m where m.group_name = set_group_member.group_name and m.user_id = set_group_member.user_id;
        if not found then
            raise exception using errcode = 'PT404', message = format('%s is no member of %s', user_id, left(group_name, 100)),
                hint = 'select * from mrprompt.group_members';
        end if;
        -- An empty one that nothing is set for is nobody's.
        delete from mrprompt.groups g
        where g.name = set_group_member.group_name
          and not exists (select from mrprompt.group_members m where m.group_name = g.name)
          and not exists (select from mrprompt.budgets b where b.scope = 'group' and b.subject = g.name)
          and not exists (select from mrprompt.rate_limits l where l.scope = 'group' and l.subject = g.name);
    end if;
    perform mrprompt_internal.budget_changed('user', user_id::text);
end
$$;
create function mrprompt.add_group_member(group_name text, user_id uuid) returns void
    language sql volatile return mrprompt_internal.set_group_member(group_name, user_id, true);
comment on function mrprompt.add_group_member(text, uuid) is 'Admins: puts a user into a group, which is made if need be. PT400.';
create function mrprompt.remove_group_member(group_name text, user_id uuid) returns void
    language sql volatile return mrprompt_internal.set_group_member(group_name, user_id, false);
comment on function mrprompt.remove_group_member(text, uuid) is
    'Admins: takes a user out of a group, which goes with its last member unless a budget or limit is set for it. PT400, PT404.';

grant execute on function mrprompt.set_budget, mrprompt_internal.set_budget, mrprompt.delete_budget, mrprompt_internal.delete_budget,
    mrprompt.grant_extra, mrprompt_internal.grant_extra, mrprompt.set_rate_limit, mrprompt_internal.set_rate_limit,
    mrprompt.add_group_member, mrprompt.remove_group_member, mrprompt_internal.set_group_member to mrprompt_admin;
