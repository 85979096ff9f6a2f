-- What the regress tests share: users, a local provider, and a fetcher played by hand. Requests are named by metadata.label.
set client_min_messages = warning;
create schema if not exists t;

-- An empty gateway with one provider, fake, that needs no key.
create or replace function t.reset() returns void language plpgsql as $$
begin
    -- The supervisor's housekeeping takes its locks in its own order.
    loop
        begin
    truncate mrprompt.requests, mrprompt.responses, mrprompt.deltas, mrprompt.usage, mrprompt.api_keys, mrprompt.key_grants,
        mrprompt.users, mrprompt_internal.queue, mrprompt_internal.fetchers, mrprompt_internal.cancels,
        mrprompt_internal.pauses, mrprompt_internal.cooldowns, mrprompt_internal.releases, mrprompt_internal.attempt_errors, mrprompt_internal.provider_rows, mrprompt_internal.price_rows,
        mrprompt_internal.usage_rollups, mrprompt_internal.usage_watermark,
        mrprompt_internal.model_rows, mrprompt.groups, mrprompt.group_members, mrprompt.budgets, mrprompt.budget_extras, mrprompt.rate_limits,
        mrprompt.agents, mrprompt.agent_versions, mrprompt.threads, mrprompt.messages, mrprompt.runs, mrprompt.run_steps, mrprompt.tool_calls,
        mrprompt.run_events, mrprompt.tools, mrprompt_internal.tool_processes, mrprompt_internal.run_identities, mrprompt_internal.run_work,
        mrprompt.budget_alerts, mrprompt.audit_log, mrprompt_internal.budget_counters, mrprompt_internal.limit_buckets;
            exit;
        exception when deadlock_detected then null;
        end;
    end loop;
    insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private) values ('fake', 'openai', 'http://127.0.0.1:9/v1', true, true);
end $$;

-- Acts as one of two users, as PostgREST would set it; the session is a superuser's, which is trusted.
create or replace function t.be(who text) returns void language sql as $$
    select set_config('request.jwt.claims', case who
        when 'ann' then '{"sub":"aaaaaaaa-0000-4000-8000-000000000001","role":"authenticated"}'
        when 'bob' then '{"sub":"bbbbbbbb-0000-4000-8000-000000000002","role":"authenticated"}'
        else '' end, false) $$;

create or replace function t.ask(label text, stream boolean default false, model text default 'fake-1') returns void language sql as $$
    select mrprompt.chat_text('question ' || label, model => model, provider => 'fake', stream => stream,
        metadata => jsonb_build_object('label', label)) $$;
create or replace function t.id(label text) returns uuid language sql as $$
    select id from mrprompt.requests where metadata ->> 'label' = label $$;
create or replace function t.label(id uuid) returns text language sql as $$
    select metadata ->> 'label' from mrprompt.requests r where r.id = label.id $$;

create table if not exists t.fetcher (name text primary key, id uuid);
create or replace function t.hello(name text, alone boolean default false) returns void language sql as $$
    insert into t.fetcher values (name, (mrprompt_internal.hello(json_build_object('contract', 2, 'kind', 'libpq',
        'program', 'by hand', 'alone', alone)) ->> 'fetcher')::uuid)
    on conflict (name) do update set id = excluded.id $$;
create or replace function t.args(who text) returns jsonb language sql as $$
    select jsonb_build_object('fetcher', id) from t.fetcher where name = who $$;
create or replace function t.claim(who text, room int default 10, bytes bigint default 1000000)
    returns table (label text, attempt int, failures int) language sql as $$
    select t.label((j ->> 'request')::uuid), (j ->> 'attempt')::int, (j ->> 'failures')::int
    from mrprompt_internal.claim((t.args(who) || jsonb_build_object('room', room, 'bytes', bytes))::json) c,
        json_array_elements(c.body -> 'jobs') j $$;
create or replace function t.append(who text, label text, attempt int, seq int, content text) returns json language sql as $$
    select mrprompt_internal.append((t.args(who) || jsonb_build_object('deltas', jsonb_build_array(jsonb_build_object(
        'request', t.id(label), 'attempt', attempt, 'seq', seq, 'content', content))))::json) $$;
create or replace function t.outcome(label text, attempt int, result text, more jsonb default '{}') returns jsonb language sql as $$
    select jsonb_build_object('request', t.id(label), 'attempt', attempt, 'result', result) || more $$;
-- How many items of each kind the answer names.
create or replace function t.settle(who text, variadic outcomes jsonb[]) returns text language sql as $$
    select format('busy %s, stale %s, rejected %s', json_array_length(a -> 'busy'), json_array_length(a -> 'stale'),
        json_array_length(a -> 'rejected'))
    from mrprompt_internal.settle((t.args(who) || jsonb_build_object('outcomes', to_jsonb(outcomes)))::json) a $$;
create or replace function t.answer(content text, prompt int default 9, completion int default 3) returns jsonb language sql as $$
    select jsonb_build_object('response', jsonb_build_object('content', content, 'finish_reason', 'stop'),
        'usage', jsonb_build_object('prompt_tokens', prompt, 'completion_tokens', completion)) $$;
create or replace function t.heartbeat(who text, in_flight json default '[]') returns json language sql as $$
    select mrprompt_internal.heartbeat((t.args(who) || jsonb_build_object('in_flight', in_flight))::json) $$;
-- The error of a statement, for messages that hold ids.
create or replace function t.try(statement text, out state text, out message text) language plpgsql as $$
begin
    execute statement;
exception when others then
    get stacked diagnostics state = returned_sqlstate, message = message_text;
end $$;
-- The error of a statement in full, as a person reads it; what differs from run to run is replaced.
create or replace function t.why(statement text) returns setof text language plpgsql as $$
declare
    state text; message text; detail text; hint text;
begin
    execute statement;
    return next 'no error';
exception when others then
    get stacked diagnostics state = returned_sqlstate, message = message_text, detail = pg_exception_detail, hint = pg_exception_hint;
    return query select replace(regexp_replace(regexp_replace(line, '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', 'ID', 'g'),
            '(revoked at|are left until|effective_from) [^,]*', '\1 TIME'), session_user, 'SUPERUSER') from unnest(array[state || ': ' || message, 'detail: ' || nullif(detail, ''), 'hint: ' || nullif(hint, '')]) line
        where line is not null;
end $$;
do $$ begin perform t.reset(); end $$;
reset client_min_messages;
