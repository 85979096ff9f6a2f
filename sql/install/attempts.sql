-- Attempts: one row per attempt that has ended or runs, with the reason where it did not succeed.

create table mrprompt_internal.attempt_errors (
    request_id uuid not null,
    attempt integer not null,
    at timestamptz not null default clock_timestamp(),
    error_message text,
    retry_at timestamptz,
    counted boolean not null default false,
    fetcher_id uuid,
    primary key (request_id, attempt)
);
comment on table mrprompt_internal.attempt_errors is
    'Why attempts did not succeed: beside their row in mrprompt.usage. Pruned after mrprompt.attempt_retention.';
comment on column mrprompt_internal.attempt_errors.retry_at is 'When the request was to be tried again; null: it was not.';
comment on column mrprompt_internal.attempt_errors.counted is 'Whether it counted towards max_failures.';

alter table mrprompt_internal.attempt_errors enable row level security;
-- Whoever sees the request sees why it failed.
create policy own_rows on mrprompt_internal.attempt_errors for select to mrprompt_user
    using (exists (select from mrprompt.requests r where r.id = request_id));
create policy all_rows on mrprompt_internal.attempt_errors for select to mrprompt_admin using (true);
grant select on mrprompt_internal.attempt_errors to mrprompt_user, mrprompt_admin;

create view mrprompt.attempts with (security_invoker = true) as
    select u.request_id, u.attempt, u.outcome, u.error_type, e.error_message, u.http_status,
        u.finished_at - u.total_ms * interval '1 millisecond' as started_at, u.finished_at, u.first_token_ms, u.total_ms,
        e.retry_at, e.counted, u.provider, u.model, u.key_id, u.provider_request_id, e.fetcher_id
    from mrprompt.usage u
    join mrprompt.requests r on r.id = u.request_id
    left join mrprompt_internal.attempt_errors e on e.request_id = u.request_id and e.attempt = u.attempt
    where u.slot = mrprompt_internal.slot_of(u.request_id)
    union all
    select f.request_id, f.attempt, 'running', null, null, null, clock_timestamp() - f.seconds * interval '1 second', null, null,
        null, null, null, f.provider, f.model, null, null, f.fetcher_id
    from mrprompt.requests_in_flight f;
comment on view mrprompt.attempts is
    'Every attempt of a request, with why it did not succeed and when the next one was due. A user sees his own, an admin all.';
comment on column mrprompt.attempts.outcome is 'running, succeeded, failed, cancelled, unknown (its fetcher died) or lost (claimed, never sent).';
comment on column mrprompt.attempts.counted is 'Whether it counted towards max_failures: a 429, a cooldown, a lost fetcher do not.';
grant select on mrprompt.attempts to mrprompt_user, mrprompt_admin;
