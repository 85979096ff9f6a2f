-- Proving the figures: roll-ups and budgets against the ledger and the queue they are made from.

create function mrprompt_internal.figures_of(rollup jsonb) returns table (figure text, amount numeric)
    language sql immutable rows 20 set search_path = pg_catalog, pg_temp
begin atomic
    select f.key, f.value::numeric from jsonb_each_text(rollup - '{dimension,grain,start,value}'::text[]) f where rollup is not null;
end;
comment on function mrprompt_internal.figures_of(jsonb) is 'The figures of a roll-up, one a row.';

create function mrprompt_internal.check_usage(since timestamptz)
    returns table (what text, name text, at timestamptz, figure text, stored numeric, computed numeric)
    language plpgsql stable security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan set jit = off
as $$
#variable_conflict use_column
declare
    mark constant timestamptz := (select w.rolled_up_to from mrprompt_internal.usage_watermark w);
    hours_from constant timestamptz := (select w.hours_from from mrprompt_internal.usage_watermark w);
    kept_from constant timestamptz := greatest(check_usage.since, (select max(p.cutoff) from mrprompt_internal.prunings p where p.kind = 'usage'), '-infinity');
    day timestamptz;
begin
    if mark > '-infinity' then
        day := greatest(kept_from, least((select min(u.finished_at) from mrprompt.usage u),
            (select min(r.start) from mrprompt_internal.usage_rollups r where r.dimension = 'all' and r.grain = 'day')));
        -- A day that is kept in part cannot be compared.
        day := date_trunc('day', day, 'UTC') + case when day = kept_from and date_trunc('day', day, 'UTC') < day then interval '24 hours' else interval '0' end;
        while day < mark loop
            return query
            select 'roll-up by ' || d.grain, concat_ws(' ', d.dimension, nullif(d.value, '')), d.start, f.figure, f.stored, f.computed
            from (
                select coalesce(r.dimension, l.dimension) as dimension, coalesce(r.grain, l.grain) as grain, coalesce(r.start, l.start) as start,
                    coalesce(r.value, l.value) as value, to_jsonb(r) as stored, to_jsonb(l) as computed
                from (select r.* from mrprompt_internal.usage_rollups r
                      where r.dimension = any (mrprompt_internal.dimensions()) and r.grain = any (mrprompt_internal.grains('day'))
                        and r.start >= day and r.start < day + interval '24 hours') r
                full join (
                    select l.* from mrprompt_internal.usage_sums(mrprompt_internal.dimensions(), mrprompt_internal.grains('day'), day, least(day + interval '24 hours', mark), null) l) l
                    on r.dimension = l.dimension and r.grain = l.grain and r.start = l.start and r.value = l.value
                where to_jsonb(r) is distinct from to_jsonb(l) and (coalesce(r.grain, l.grain) = 'day' or day >= hours_from)) d
            cross join lateral (
                select figure, coalesce(o.amount, 0) as stored, coalesce(n.amount, 0) as computed
                from mrprompt_internal.figures_of(d.stored) o full join mrprompt_internal.figures_of(d.computed) n using (figure)) f
            where f.stored <> f.computed
            order by 3, 2, 1, 4;
            day := day + interval '24 hours';
        end loop;
        -- Days stay when the ledger goes: what is coarser can be compared with them at any time.
        return query
        select 'roll-up by ' || c.grain, concat_ws(' ', c.dimension, nullif(c.value, '')), c.start, c.figure, coalesce(c.stored, 0), coalesce(c.computed, 0)
        from (
            select r.dimension, g.grain, mrprompt_internal.grain_start(g.grain, r.start) as start, r.value, n.figure,
                sum(n.amount) filter (where r.grain = g.grain) as stored, sum(n.amount) filter (where r.grain = 'day') as computed
            from mrprompt_internal.usage_rollups r
            join unnest(array['5 days', 'month']) g (grain) on r.grain in ('day', g.grain)
            cross join lateral mrprompt_internal.figures_of(to_jsonb(r)) n
            where r.grain in ('day', '5 days', 'month') and r.start >= date_trunc('month', check_usage.since, 'UTC')
            group by 1, 2, 3, 4, 5) c
        where coalesce(c.stored, 0) <> coalesce(c.computed, 0)
        order by 3, 2, 1, 4;
    end if;
    return query
    select 'budget', case when b.id is null then 'a deleted budget' else mrprompt_internal.name_of_rule(b.scope, c.subject, b.period) end, c.period_start, 'spent', c.spent, coalesce(l.spent, 0)
    from mrprompt_internal.budget_counters c
    left join mrprompt.budgets b on b.id = c.budget_id
    left join (select n.id, sum(u.cost) as spent from mrprompt.usage u, unnest(u.counters) n (id)
               where u.finished_at >= kept_from group by n.id) l on l.id = c.id
    where c.period_start >= kept_from and c.spent <> coalesce(l.spent, 0)
    order by 3, 2;
    return query
    select 'budget', case when b.id is null then 'a deleted budget' else mrprompt_internal.name_of_rule(b.scope, c.subject, b.period) end, c.period_start, 'held', c.held, coalesce(q.held, 0)
    from mrprompt_internal.budget_counters c
    left join mrprompt.budgets b on b.id = c.budget_id
    left join (select n.id, sum(q.hold) as held from mrprompt_internal.queue q, unnest(q.counters) n (id) group by n.id) q on q.id = c.id
    where c.held <> coalesce(q.held, 0)
    order by 3, 2;
end
$$;
comment on function mrprompt_internal.check_usage(timestamptz) is 'check_usage() with the owner''s rights; who may call it may read all that it shows.';

create function mrprompt.check_usage(since timestamptz default '-infinity')
    returns table (what text, name text, at timestamptz, figure text, stored numeric, computed numeric)
    language sql stable
begin atomic
    select c.what, c.name, c.at, c.figure, c.stored, c.computed from mrprompt_internal.check_usage(since) c;
end;
comment on function mrprompt.check_usage(timestamptz) is
    'Analysts and admins: compares the roll-ups with the ledger, as far as it is kept, and what budgets have spent and hold with the ledger and the queue; '
    'since: by whole days (UTC) from then on. A row for each figure that differs, with what is stored and what the rows come to; no row: all '
    'is well. It reads the whole ledger since then: minutes for ten million rows.';

grant execute on function mrprompt.check_usage, mrprompt_internal.check_usage to mrprompt_analyst, mrprompt_admin;
