-- Seeing it: status(), requests in flight, and doctor().

create function mrprompt_internal.in_flight()
    returns table (request_id uuid, user_id uuid, provider text, model text, attempt integer, phase text, tokens bigint,
        seconds numeric, fetcher_id uuid)
    language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
    select q.request_id, q.user_id, q.provider::text, q.model, q.attempt, coalesce(p.phase, 'claimed'), coalesce(p.tokens, 0),
        round(extract(epoch from clock_timestamp() - q.claimed_at), 1), q.fetcher_id
    from mrprompt_internal.queue q
    left join (
        select f.id as fetcher_id, s.request, s.attempt, s.phase, s.tokens
        from mrprompt_internal.fetchers f,
            json_to_recordset(f.progress) as s (request uuid, attempt integer, phase text, tokens bigint)) p
        on p.fetcher_id = q.fetcher_id and p.request = q.request_id and p.attempt = q.attempt
    where q.fetcher_id = any (array(select f.id from mrprompt_internal.fetchers f))
      and (q.user_id = (select mrprompt.current_user_id()) or (select mrprompt_internal.may_act_for_others()));
end;
comment on function mrprompt_internal.in_flight() is 'Requests in flight: the caller''s own, or all for who may act for others.';

create view mrprompt.requests_in_flight with (security_invoker = true) as
    select * from mrprompt_internal.in_flight();
comment on view mrprompt.requests_in_flight is
    'Requests in flight, with their progress as of the fetcher''s last heartbeat; an admin sees all, a user his own.';
comment on column mrprompt.requests_in_flight.phase is 'claimed, connecting, waiting (for the first byte), streaming or settling.';
comment on column mrprompt.requests_in_flight.tokens is 'An estimate: pieces of the stream seen so far.';
comment on column mrprompt.requests_in_flight.seconds is 'Since the claim of this attempt.';

create function mrprompt_internal.status(
    out fetchers integer, out in_flight bigint, out queued bigint, out ready bigint, out oldest_ready_seconds numeric,
    out paused text[], out attempts_last_hour bigint, out error_rate_last_hour numeric, out is_home boolean)
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    select count(*) into fetchers from mrprompt_internal.fetchers f
    where f.last_seen > clock_timestamp() - mrprompt_internal.lease();
    select count(*) filter (where q.fetcher_id is not null),
        count(*) filter (where q.fetcher_id is null),
        count(*) filter (where q.fetcher_id is null and (q.ready or q.ready_at <= clock_timestamp())),
        round(extract(epoch from clock_timestamp() - min(q.ready_at) filter (where q.fetcher_id is null and (q.ready or q.ready_at <= clock_timestamp()))), 1)
    into in_flight, queued, ready, oldest_ready_seconds
    from mrprompt_internal.queue q;
    paused := array(select p.provider from mrprompt_internal.pauses p order by 1);
    select count(*), round(count(*) filter (where u.outcome in ('failed', 'unknown'))::numeric / nullif(count(*), 0), 4)
    into attempts_last_hour, error_rate_last_hour
    from mrprompt.usage u where u.finished_at > clock_timestamp() - interval '1 hour';
    is_home := mrprompt_internal.is_home();
end
$$;
comment on function mrprompt_internal.status() is 'Counts for status() and doctor().';

create function mrprompt.status(
    out fetchers integer, out in_flight bigint, out queued bigint, out ready bigint, out oldest_ready_seconds numeric,
    out paused text[], out attempts_last_hour bigint, out error_rate_last_hour numeric, out is_home boolean,
    out supervisor_pid integer, out fetcher_pids integer[], out fetcher_restarts bigint)
    language sql volatile
begin atomic
    select s.fetchers, s.in_flight, s.queued, s.ready, s.oldest_ready_seconds, s.paused, s.attempts_last_hour,
        s.error_rate_last_hour, s.is_home, v.supervisor_pid, v.fetcher_pids, v.restarts
    from mrprompt_internal.status() s, mrprompt_internal.server_state() v;
end;
comment on function mrprompt.status() is
    'Admins and analysts: living fetchers, requests in flight, queued and ready, seconds that the oldest ready one has waited, what '
    'is paused, attempts and error rate of the last hour, whether this is the database that spends, and the processes on this server.';

create function mrprompt_internal.preload_libraries() returns text
    language c stable as 'MODULE_PATHNAME', 'preload_libraries';
comment on function mrprompt_internal.preload_libraries() is 'shared_preload_libraries, which only superusers may show, for doctor().';

create function mrprompt_internal.overdue_waits() returns table (waits_for text, waiting bigint)
    language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
    select q.waits_for, count(*) from mrprompt_internal.queue q
    where q.fetcher_id is null and not q.ready and q.waits_for in ('budget', 'limit')
      and q.request_id < mrprompt_internal.uuid_at(now() - interval '1 hour') and mrprompt_internal.caller_is_admin()
    group by q.waits_for;
end;
comment on function mrprompt_internal.overdue_waits() is 'For doctor(): requests older than an hour that wait for a budget or a limit.';

create function mrprompt_internal.priced_as_nothing() returns table (provider text, model text, priced_as text)
    language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
    select m.provider, m.model, m.priced_as from mrprompt.models m
    where m.priced_as is not null and not exists (select from mrprompt_internal.prices_of(m.provider, m.model, null, now()))
    order by 1, 2 limit 20;
end;
comment on function mrprompt_internal.priced_as_nothing() is 'For doctor(): models that are priced as a name without a price.';
grant execute on function mrprompt_internal.priced_as_nothing to mrprompt_admin;

create function mrprompt_internal.older_fetchers() returns table (program text, host text)
    language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
    select distinct f.program, f.host from mrprompt_internal.fetchers f
    where f.contract < 2 and f.last_seen > clock_timestamp() - mrprompt_internal.lease()
    order by 1, 2 limit 20;
end;
comment on function mrprompt_internal.older_fetchers() is 'Living fetchers of the contract before, for doctor().';
grant execute on function mrprompt_internal.older_fetchers to mrprompt_admin;

create function mrprompt.doctor() returns table (severity text, finding text, remedy text)
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
    state record;
    server record;
    keyring record;
    tools record;
    tool_role constant name := nullif(mrprompt_internal.setting('mrprompt.tool_role'), '');
begin
    perform mrprompt_internal.require_admin('ask the doctor');
    select * into state from mrprompt_internal.status();
    select * into server from mrprompt_internal.server_state();
    select * into keyring from mrprompt_internal.keyring_state();

    if not state.is_home then
        return query select 'error', 'This database is a copy (restored, made from a template, or moved): its queue waits.',
            'If the original no longer runs: select mrprompt.resume_here()';
    end if;
    if not keyring.configured then
        return query select 'error', 'No master key is configured: keys can be neither stored nor used.', keyring.problem;
    elsif keyring.problem is not null then
        return query select 'error', 'The master keyring has a problem: ' || keyring.problem,
            'Mend the master key file (a lost line comes back from your copy), then select pg_reload_conf(). What is lost for good: README, "Master keys".';
    end if;
    if not server.preloaded then
        return query select 'warning', 'mrprompt is not in shared_preload_libraries: no supervisor runs here, and waiting sessions poll.',
            'alter system set shared_preload_libraries = ' || (
                select string_agg(quote_literal(btrim(library)), ', ')
                from unnest(string_to_array(concat_ws(',', nullif(mrprompt_internal.preload_libraries(), ''), 'mrprompt'), ',')) library)
            || '; then restart the server. Or run mrprompt-fetcher --dsn … beside it.';
    elsif server.launcher_pid is null then
        return query select 'error', 'The launcher does not run.', 'Look into the server log; it is started again every 5 seconds.';
    end if;
    if server.preloaded and exists (
        select from (select btrim(l.name, ' "') as name, l.place
                     from string_to_table(mrprompt_internal.preload_libraries(), ',') with ordinality l (name, place)) l
        having max(l.place) filter (where l.name in ('pg_stat_statements', 'pg_stat_monitor')) > min(l.place) filter (where l.name = 'mrprompt')) then
        return query select 'warning', 'shared_preload_libraries names pg_stat_statements behind mrprompt: it sees keys in EXECUTE, DO and the like.',
            'Name mrprompt last, and restart the server; then select pg_stat_statements_reset().';
    end if;
    if server.preloaded and server.supervisor_pid is null and server.free_worker_slots < 1 then
        return query select 'error', 'No background worker slot is free for the supervisor.',
            format('Raise max_worker_processes (now %s): one for the launcher, and one for each database that is at work.', current_setting('max_worker_processes'));
    end if;
    select * into tools from mrprompt_internal.waiting_tool_calls();
    if server.free_worker_slots < 1 and (tools.running = 0 or tools.oldest_seconds > 60) and (tools.queued > 0 or exists (select from mrprompt.tools t where t.enabled)) then
        return query select case when tools.queued > 0 then 'error' else 'warning' end, 'No background worker slot is free for tools.',
            format('Raise max_worker_processes (now %s): besides those above, one for each tool that runs at the same time (mrprompt.max_tool_workers, now %s).',
                current_setting('max_worker_processes'), mrprompt_internal.setting('mrprompt.max_tool_workers'));
    elsif tools.oldest_seconds > 60 then
        return query select 'warning', format('Calls of SQL tools wait (%s), the oldest for %s seconds.', tools.queued, tools.oldest_seconds),
            format('Running: %s. Raise mrprompt.max_tool_workers (now %s), or make tools faster.', tools.running, mrprompt_internal.setting('mrprompt.max_tool_workers'));
    end if;
    return query
    select 'warning', format('%s calls of SQL tools (%s) failed in the last day: %s.', f.calls, left(f.tools, 200), f.problem),
        case when f.problem like 'this run%' then
                'alter system set mrprompt.tool_role = ''authenticated'' (an ordinary role that may execute them); select pg_reload_conf()'
            when f.problem like 'role %' then
                'Have runs created by an ordinary role; or for their users by somebody who may act for others, with the role of mrprompt.tool_role ('
                    || coalesce('now ' || tool_role, 'not set') || ').'
            when f.problem like 'they tried to write%' then 'Register them again with writes => true, if they are meant to write; or mend the functions.'
            when f.problem like 'no process%' then
                format('Raise mrprompt.max_tool_workers (now %s) or max_worker_processes (now %s); the server log has what stood in the way.',
                    mrprompt_internal.setting('mrprompt.max_tool_workers'), current_setting('max_worker_processes'))
            else 'The server log says why: a restart, out of memory, somebody who ended it.' end
    from mrprompt_internal.failed_tool_calls() f;
    if mrprompt_internal.tool_role_problem(tool_role) is not null and tool_role is not null then
        return query select 'error', format('mrprompt.tool_role is %s, which %s: SQL tools fail in runs that somebody else makes for a user.', tool_role,
                mrprompt_internal.tool_role_problem(tool_role)),
            'Grant it mrprompt_user, or name an ordinary role: alter system set mrprompt.tool_role = ''authenticated''; select pg_reload_conf()';
    end if;
    return query
    select 'error', format('The function of tool %s, %s, is gone or belongs to somebody else than %s: its calls fail.', t.name, t.function, t.owner),
        format('select mrprompt.register_tool(%L, …) again, or mrprompt.unregister_tool(%1$L)', t.name)
    from mrprompt.tools t join mrprompt_internal.tool_functions() f on f.name = t.name left join pg_proc p on p.oid = f.function
    where p.oid is null or pg_get_userbyid(p.proowner) <> t.owner order by t.name limit 20;
    return query
    select 'notice', 'Tools that are out of service: ' || string_agg(t.name, ', ' order by t.name), format('select mrprompt.enable_tool(%L)', min(t.name))
    from mrprompt.tools t where not t.enabled having count(*) > 0;
    if server.last_failure is not null then
        return query select 'warning', 'The supervisor reports: ' || server.last_failure, 'Look into the server log for what came before.';
    end if;
    if state.fetchers = 0 and state.ready > 0 and state.is_home then
        return query select 'error', format('Requests are ready (%s), and no fetcher is alive.', state.ready),
            'Preload mrprompt with mrprompt.local_fetcher = on, or start mrprompt-fetcher --dsn ….';
    end if;
    if cardinality(state.paused) > 0 then
        return query select 'notice', 'Paused: ' || array_to_string(state.paused, ', '),
            case when '*' = any (state.paused) then 'select mrprompt.resume()'
                 else (select string_agg(format('select mrprompt.resume(%L)', p), '; ') from unnest(state.paused) p) end;
    end if;
    return query
    select 'notice', format('%s at %s %s after %s (%s, time %s in a row)%s; %s requests wait.', c.model, c.provider,
            case when c.until > now() then 'cools down' else 'has cooled down' end,
            case c.reason when 'rate_limit' then 'a rate limit' when 'auth' then 'a refused key' else 'failures' end,
            coalesce(c.error_type, 'no word'), c.times,
            case when c.until > now() then to_char(c.until, ' until YYYY-MM-DD HH24:MI:SS') else ': the next request for it is a probe' end, c.waiting),
        format('It ends by itself%s, or by select mrprompt.end_cooldown(%L)', case c.reason when 'rate_limit' then '' else ' once a probe succeeds' end, c.provider)
            || case c.reason when 'auth' then '. A new secret comes with mrprompt.update_key()' else '' end
    from mrprompt_internal.cooldowns() c order by c.waiting desc limit 20;
    return query
    select 'warning', format('The shared key %s of %s (%s) is refused: %s', f.masked_key, f.provider, f.id, f.last_error),
        format('A new secret comes with mrprompt.update_key(); select mrprompt.verify_key(%L) asks the provider again.', f.id)
    from mrprompt.failing_keys f where f.user_id is null order by f.last_error_at limit 20;
    return query
    select 'warning', format('The host of provider %s is %s, and its requests are refused.', p.name, mrprompt_internal.special_host(p.base_url)),
        format('If that is meant: update mrprompt.providers set allow_private = true where name = %L', p.name)
    from mrprompt.providers p
    where p.enabled and not p.allow_private and p.proxy is null and mrprompt_internal.special_host(p.base_url) is not null
    order by p.name limit 20;
    return query
    select 'warning', format('The fetcher %s on %s is of the release before: it knows no allow_private, and gets neither verifications nor requests of '
            'providers with a proxy or a client certificate.', f.program, coalesce(f.host, 'an unknown host')),
        'Install the mrprompt-fetcher of this release there.'
    from mrprompt_internal.older_fetchers() f;
    if state.oldest_ready_seconds > 60 and state.fetchers > 0 and cardinality(state.paused) = 0 then
        return query select 'warning', format('The oldest ready request has waited for %s seconds.', state.oldest_ready_seconds),
            format('In flight: %s. Raise mrprompt.max_in_flight, or start more fetchers.', state.in_flight);
    end if;
    return query
    select 'warning',
        format('Session %s (role %s, %s) has held %s on %s for %s seconds.', a.pid, a.usename, coalesce(a.state, 'state unknown'),
            string_agg(distinct l.mode, ', '), string_agg(distinct c.relname, ', '), round(extract(epoch from now() - a.xact_start))),
        format('It can hold up the fetchers. select pg_terminate_backend(%s) ends it.', a.pid)
    from pg_locks l
    join pg_class c on c.oid = l.relation
    join pg_namespace n on n.oid = c.relnamespace
    join pg_stat_activity a on a.pid = l.pid
    where l.database = (select d.oid from pg_database d where d.datname = current_database())
      and l.granted and a.pid <> pg_backend_pid() and a.backend_type = 'client backend'
      and a.xact_start < now() - interval '5 seconds'
      and ((n.nspname = 'mrprompt_internal' and c.relname in ('queue', 'fetchers') and l.mode not in ('AccessShareLock', 'RowExclusiveLock'))
           or (n.nspname in ('mrprompt', 'mrprompt_internal') and l.mode in ('RowShareLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')))
    group by a.pid, a.usename, a.state, a.xact_start;
    return query
    select 'warning', format('Usage is rolled up to %s ago only; reports read what came since from the ledger.',
            date_trunc('second', clock_timestamp() - greatest(w.rolled_up_to, '2000-01-01'))),
        coalesce((
            select format('Prepared transaction %s (of %s): commit prepared or rollback prepared %1$L', x.gid, x.owner)
            from pg_prepared_xacts x where x.prepared < w.next_close order by x.prepared limit 1), (
            select format('Session %s (%s, since %s): select pg_terminate_backend(%1$s) ends it.', a.pid, a.usename, date_trunc('second', clock_timestamp() - a.xact_start))
            from pg_stat_activity a where a.backend_xid is not null and a.xact_start < w.next_close order by a.xact_start limit 1),
            'It catches up by itself, a step at each call of tend.')
    from mrprompt_internal.rollup_lag() w;
    return query
    select 'warning', format('%s answers of the last day have no price: %s.', sum(t.n),
            string_agg(format('%s at %s (%s)', t.model, t.provider, t.n), ', ' order by t.n desc) filter (where t.place <= 3)),
        'insert into mrprompt.prices (provider, model, input, output) values (…): USD per token. It holds from then on; this goes within a day.'
    from (select u.provider, u.model, count(*) as n, row_number() over (order by count(*) desc, u.model) as place
          from mrprompt.usage u
          where not u.price_known and u.outcome = 'succeeded' and u.finished_at > now() - interval '1 day' group by 1, 2) t
    having count(*) > 0;
    return query
    select 'warning', format('mrprompt.models has %s at %s priced as %s, and there is no such price.', m.model, m.provider, m.priced_as),
        format('insert into mrprompt.prices (provider, model, input, output) values (%L, %L, …)', m.provider, m.priced_as)
    from mrprompt_internal.priced_as_nothing() m;
    return query
    select 'warning', format('%s budgets are used up, such as %s.', count(*), min(mrprompt_internal.name_of_rule(b.scope, b.subject, b.period))),
        'select * from mrprompt.budget_status where enabled and spent >= amount + extra; mrprompt.set_budget() or grant_extra() raises one.'
    from mrprompt_internal.budget_states() b
    where b.enabled and b.spent >= b.amount + b.extra and (b.spent > 0 or b.subject <> '*')
    having count(*) > 0;
    return query
    select 'notice', format('%s soft limits of budgets were passed in the last day.', count(*)), 'select * from mrprompt.budget_alerts order by raised_at desc'
    from mrprompt.budget_alerts a where a.raised_at > now() - interval '1 day'
    having count(*) > 0;
    return query
    select 'warning', format('%s requests that are older than an hour wait for a %s.', w.waiting, case w.waits_for when 'limit' then 'rate limit' else 'budget' end),
        case w.waits_for when 'limit' then 'select * from mrprompt.rate_limit_status where waiting > 0; mrprompt.set_rate_limit() raises one.'
            else 'select * from mrprompt.budget_status where "left" <= 0; mrprompt.set_budget() or grant_extra() raises one.' end
    from mrprompt_internal.overdue_waits() w order by w.waits_for;
    return query
    select 'warning', format('%s attempts of the last day cost more than could be bounded, by %s USD, such as those of %s at %s.', count(*),
            sum(u.cost - u.hold), min(u.model), min(u.provider)),
        'It was charged in full. See whether mrprompt.models.max_output_tokens and image_tokens of the model hold; select * from mrprompt.usage where cost > hold'
    from mrprompt.usage u where u.cost > u.hold and u.hold > 0 and u.finished_at > now() - interval '1 day'
    having count(*) > 0;
    return query
    select 'warning', format('%s at %s: the provider says it charged %s USD in the last day, by mrprompt.prices it was %s.', u.model, u.provider,
            sum(u.provider_cost), sum(u.cost)),
        'Correct mrprompt.prices, from that day on; then see select * from mrprompt.recompute_cost(…).'
    from mrprompt.usage u
    where u.provider_cost is not null and u.cost is not null and u.finished_at > now() - interval '1 day'
    group by u.provider, u.model having abs(sum(u.provider_cost) - sum(u.cost)) > 0.2 * sum(u.provider_cost)
    order by abs(sum(u.provider_cost) - sum(u.cost)) desc limit 20;
end
$$;
comment on function mrprompt.doctor() is
    'Admins: what is missing or in the way, in plain words, and what to do about it. No row: all is well.';

