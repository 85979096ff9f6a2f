-- Soft limits of budgets: an alert when one is passed, as a row and as a notification.

create function mrprompt_internal.raise_alerts(counter_ids bigint[]) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    insert into mrprompt.budget_alerts (budget_id, subject, period_start, threshold, amount, spent)
    select c.budget_id, c.subject, c.period_start, t.threshold, l.amount, c.spent
    from mrprompt_internal.budget_counters c
    join mrprompt.budgets b on b.id = c.budget_id
    cross join lateral (
        select b.amount + coalesce(sum(e.amount), 0) as amount from mrprompt.budget_extras e
        where e.budget_id = c.budget_id and e.subject = c.subject and e.period_start = c.period_start) l
    cross join lateral unnest(b.soft_limits) t (threshold)
    where c.id = any (counter_ids) and c.spent > 0 and c.spent >= t.threshold * l.amount
    on conflict do nothing;
end
$$;
comment on function mrprompt_internal.raise_alerts(bigint[]) is 'One row per soft limit that has been passed; the second time nothing.';

create function mrprompt_internal.alert_channel() returns text
    language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform mrprompt_internal.require_admin('follow the alerts');
    return mrprompt_internal.channel_name('alerts');
end
$$;
create function mrprompt.alert_channel() returns text
    language sql stable return mrprompt_internal.alert_channel();
comment on function mrprompt.alert_channel() is 'Admins: the channel to LISTEN on for soft limits; the payload is the id of a row of mrprompt.budget_alerts.';

create function mrprompt_internal.notify_alerts() returns void
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    alert uuid;
begin
    for alert in update mrprompt.budget_alerts a set notified = true where not a.notified returning a.id loop
        perform pg_notify(mrprompt_internal.channel_name('alerts'), alert::text);
    end loop;
end
$$;
comment on function mrprompt_internal.notify_alerts() is 'Part of notify_changes(): one notification per alert.';

grant execute on function mrprompt.alert_channel, mrprompt_internal.alert_channel to mrprompt_admin;
