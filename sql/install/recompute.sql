-- recompute_cost(): what past attempts would cost by the prices that are known now; shown first, applied on request, some rows at a time.

create table mrprompt_internal.recomputes (
    id uuid primary key default mrprompt_internal.uuidv7(),
    from_ timestamptz not null,
    to_ timestamptz not null,
    by_role name not null default session_user,
    requested_at timestamptz not null default clock_timestamp(),
    reached uuid,
    rows_so_far bigint not null default 0,
    difference_so_far numeric not null default 0,
    done_at timestamptz,
    rows bigint,
    difference numeric
);
create index recomputes_to_do on mrprompt_internal.recomputes (id) where done_at is null;
comment on table mrprompt_internal.recomputes is 'Spans of the ledger whose cost recompute_cost(…, apply => true) has to change, or has changed.';
comment on column mrprompt_internal.recomputes.reached is 'Up to this request it is done; the next step goes on behind it. Null: it has not begun.';
comment on column mrprompt_internal.recomputes.rows is 'Attempts whose cost has changed, once it is done.';
comment on column mrprompt_internal.recomputes.difference is 'USD by which the sum of cost has changed, once it is done.';
alter table mrprompt_internal.recomputes enable row level security;

create function mrprompt_internal.costs_now(since timestamptz, until timestamptz, after uuid, last uuid)
    returns table (request_id uuid, attempt integer, slot smallint, provider text, model text, counters bigint[], old_cost numeric, new_cost numeric,
        old_price uuid, new_price uuid)
    language plpgsql stable rows 1000 set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan set enable_hashjoin = on set jit = off
as $$
declare
    -- Between two of these moments every price stays as it is: so prices are looked up once per span, not per row.
    changes constant timestamptz[] := array(
        select distinct p.effective_from from mrprompt.price_versions p where p.replaced_at is null order by 1);
begin
    return query
    with rows as materialized (
        select u.*, coalesce(a.model, v.model, '') as answered_by,
            case when width_bucket(u.finished_at, changes) = 0 then '-infinity' else changes[width_bucket(u.finished_at, changes)] end as era
        from mrprompt.usage u
        left join mrprompt.responses a on a.request_id = u.request_id and a.attempt = u.attempt
        left join mrprompt.price_versions v on v.id = u.price_id and a.request_id is null
        where u.finished_at >= since and u.finished_at < until and u.request_id > after and u.request_id <= last and u.prompt_tokens is not null
    ), prices as materialized (
        select d.provider, d.model, d.answered_by, d.era, array_agg(p) as list
        from (select distinct r.provider, r.model, r.answered_by, r.era from rows r) d
        cross join lateral mrprompt_internal.prices_of(d.provider, d.model, nullif(d.answered_by, ''), d.era) p
        group by 1, 2, 3, 4
    )
    select r.request_id, r.attempt, r.slot, r.provider::text, r.model, r.counters, r.cost,
        case when (p.price).id is not null then least(
            mrprompt_internal.cost_of(p.price, r.prompt_tokens, r.completion_tokens, r.cached_tokens, r.cache_write_tokens, r.cache_write_1h_tokens,
                r.reasoning_tokens, r.audio_prompt_tokens, r.audio_completion_tokens, r.images, r.seconds, r.characters),
            case when r.estimated and r.hold > 0 and r.counters is not null then r.hold end) end, r.price_id, (p.price).id
    from rows r
    left join prices k on k.provider = r.provider and k.model = r.model and k.answered_by = r.answered_by and k.era = r.era
    left join lateral (
        select l as price from unnest(k.list) l
        where l.service_tier in ('standard', mrprompt_internal.served_tier(r.service_tier)) and l.above_tokens < greatest(r.prompt_tokens, 1)
        order by l.service_tier <> 'standard' desc, l.above_tokens desc limit 1) p on true;
end
$$;
comment on function mrprompt_internal.costs_now(timestamptz, timestamptz, uuid, uuid) is
    'Attempts of known tokens that ended from since to before until, of requests behind `after` up to `last`, with their cost (USD) as it was '
    'written and by the prices of now for that time, as settle finds them; no new price: there is none.';

create function mrprompt_internal.recompute_cost(since timestamptz, until timestamptz, apply boolean)
    returns table (provider text, model text, attempts bigint, old_cost numeric, new_cost numeric, difference numeric, newly_priced bigint)
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    perform mrprompt_internal.require_admin('recompute cost');
    if not coalesce(since < until and until <= clock_timestamp(), false) then
        raise exception using errcode = 'PT400', message = 'since must be before until, and until not in the future',
            detail = format('since %s until %s', coalesce(since::text, 'null'), coalesce(until::text, 'null'));
    end if;
    if apply then
        insert into mrprompt_internal.recomputes (from_, to_) values (since, until);
        perform mrprompt_internal.wake(mrprompt_internal.channel_name('fetchers'));
    end if;
    return query
    select c.provider, c.model, count(*), coalesce(sum(c.old_cost), case when c.new_price is not null then 0 end), sum(c.new_cost),
        sum(c.new_cost) - coalesce(sum(c.old_cost), 0), count(*) filter (where c.old_cost is null and c.new_cost is not null)
    from mrprompt_internal.costs_now(since, until, '00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff') c
    group by c.provider, c.model, c.new_price is not null
    order by c.new_price is not null desc, abs(sum(c.new_cost) - coalesce(sum(c.old_cost), 0)) desc, c.provider, c.model;
end
$$;
comment on function mrprompt_internal.recompute_cost(timestamptz, timestamptz, boolean) is 'recompute_cost() with the owner''s rights; judges the caller itself.';

create function mrprompt.recompute_cost(since timestamptz, until timestamptz, apply boolean default false)
    returns table (provider text, model text, attempts bigint, old_cost numeric, new_cost numeric, difference numeric, newly_priced bigint)
    language sql volatile
begin atomic
    select c.provider, c.model, c.attempts, c.old_cost, c.new_cost, c.difference, c.newly_priced
    from mrprompt_internal.recompute_cost(since, until, apply) c;
end;
comment on function mrprompt.recompute_cost(timestamptz, timestamptz, boolean) is
    'Admins: what the attempts that ended in [since, until), as far as their tokens are known, would cost (USD) by the prices that now '
    'stand in mrprompt.prices for their time; newly_priced had no cost. new_cost null: those attempts have no price, and stay as they are. '
    'With apply, housekeeping changes the ledger, the budgets that were '
    'charged and the roll-ups accordingly, soon after this commits; mrprompt.audit_log says when it was asked for and when done. PT400.';

create function mrprompt_internal.recompute_some(max_rows integer) returns integer
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    task mrprompt_internal.recomputes;
    last uuid;
    changed record;
    c_ids bigint[];
begin
    select * into task from mrprompt_internal.recomputes c where c.done_at is null order by c.id limit 1 for update skip locked;
    if not found then
        return 0;
    end if;
    task.reached := coalesce(task.reached, '00000000-0000-0000-0000-000000000000');
    -- Rows, not only those in its time: so a step is as long as any other.
    select max(s.request_id::text collate "C")::uuid into last
    from (select u.request_id from mrprompt.usage u where u.request_id > task.reached order by u.request_id limit max_rows) s;
    if last is null then
        update mrprompt_internal.recomputes c set done_at = clock_timestamp(), rows = c.rows_so_far, difference = c.difference_so_far
        where c.id = task.id;
        return 1;
    end if;
    perform from mrprompt.usage u
    where u.request_id > task.reached and u.request_id <= last and u.finished_at >= task.from_ and u.finished_at < task.to_
    order by u.request_id, u.attempt for no key update;
    select array_agg(n.request_id) as ids, array_agg(distinct n.request_id) as requests, array_agg(n.attempt) as attempts, array_agg(n.slot) as slots,
        array_agg(n.counters::text) as counters, array_agg(n.new_cost) as costs, array_agg(n.new_price) as prices,
        array_agg(n.new_cost - coalesce(n.old_cost, 0)) as differences, sum(n.new_cost - coalesce(n.old_cost, 0)) as difference, count(*) as rows
    into changed
    from mrprompt_internal.costs_now(task.from_, task.to_, task.reached, last) n
    where n.new_price is not null and (n.new_cost, n.new_price) is distinct from (n.old_cost, n.old_price);
    if changed.rows > 0 then
        perform mrprompt_internal.recount(changed.requests, -1);
        update mrprompt.usage u set cost = n.cost, price_id = n.price_id, price_known = true
        from unnest(changed.ids, changed.attempts, changed.slots, changed.costs, changed.prices) n (request_id, attempt, slot, cost, price_id)
        where u.request_id = n.request_id and u.attempt = n.attempt and u.slot = n.slot;
        perform mrprompt_internal.recount(changed.requests, 1);
        c_ids := array(select distinct i from unnest(changed.counters) t, unnest(t::bigint[]) i order by i);
        perform from mrprompt_internal.budget_counters k where k.id = any (c_ids) order by k.id for update;
        update mrprompt_internal.budget_counters k set spent = k.spent + s.difference
        from (select i as id, sum(t.difference) as difference
              from unnest(changed.counters, changed.differences) t (counters, difference), unnest(t.counters::bigint[]) i group by i) s
        where k.id = s.id;
        -- What is over needs neither an alert nor a second look at what waits.
        perform mrprompt_internal.raise_alerts(array(
            select k.id from mrprompt_internal.budget_counters k where k.id = any (c_ids) and k.period_end > clock_timestamp()));
        if changed.difference < 0 then
            perform mrprompt_internal.budget_changed(b.scope, k.subject)
            from mrprompt_internal.budget_counters k join mrprompt.budgets b on b.id = k.budget_id
            where k.id = any (c_ids) and k.period_end > clock_timestamp();
        end if;
    end if;
    update mrprompt_internal.recomputes c
    set reached = last, rows_so_far = c.rows_so_far + changed.rows, difference_so_far = c.difference_so_far + coalesce(changed.difference, 0)
    where c.id = task.id;
    return max_rows;
end
$$;
comment on function mrprompt_internal.recompute_some(integer) is
    'Housekeeping: looks at the ledger rows of the next max_rows of a recompute_cost(), and changes their cost, the budgets that they were '
    'charged to and the roll-ups by the difference, all in this transaction: so each exactly once. Answers how much it did; 0: nothing is to be done.';

grant execute on function mrprompt.recompute_cost, mrprompt_internal.recompute_cost to mrprompt_admin;
