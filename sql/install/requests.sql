-- Requests, their answers and their streams: what app developers read.

create table mrprompt.requests (
    id uuid primary key,
    user_id uuid not null,
    provider varchar(50) not null,
    model text not null,
    key_id uuid,
    agent_name text,
    stream boolean not null,
    status text not null default 'queued'
        check (status in ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'expired')),
    wait_reason text,
    not_before timestamptz,
    attempts integer not null default 0,
    failures integer not null default 0,
    created_at timestamptz not null default now(),
    started_at timestamptz,
    finished_at timestamptz,
    expires_at timestamptz,
    error_status integer,
    error_type text,
    error_message text,
    idempotency_key text,
    metadata jsonb not null default '{}',
    payload json not null,
    priority smallint not null default 0 check (priority between -3 and 3),
    options json,
    batch_id uuid,
    kind text not null default 'chat' check (kind in ('chat', 'verify')),
    tags text[],
    run_id uuid,
    messages_from int8multirange
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
create index requests_user on mrprompt.requests (user_id, id desc);
create index requests_run on mrprompt.requests (run_id) where run_id is not null;
create unique index requests_idempotency on mrprompt.requests (user_id, idempotency_key) where idempotency_key is not null;
create index requests_batch on mrprompt.requests (batch_id) where batch_id is not null;
comment on table mrprompt.requests is 'One row per chat request. Written by mrprompt.chat() and the fetchers only.';
comment on column mrprompt.requests.id is 'UUIDv7: its order is the order of creation.';
comment on column mrprompt.requests.agent_name is 'From the key''s metadata.agent_name.';
comment on column mrprompt.requests.status is 'queued, running, succeeded, failed, cancelled or expired.';
comment on column mrprompt.requests.wait_reason is 'What a queued request waits for; null: its turn.';
comment on column mrprompt.requests.not_before is 'The earliest moment of the next attempt of a queued request.';
comment on column mrprompt.requests.attempts is 'How often a fetcher has taken it.';
comment on column mrprompt.requests.failures is 'How many attempts failed in a way that counts against mrprompt.max_failures.';
comment on column mrprompt.requests.error_status is 'The provider''s HTTP status, where there was one.';
comment on column mrprompt.requests.error_type is 'A stable word: the provider''s own error type, or one of those listed in the README.';
comment on column mrprompt.requests.payload is 'The OpenAI chat payload, byte for byte as given: messages, tools, parameters.';
comment on column mrprompt.requests.priority is
    '-3 to 3: each step up is four times the share of the fetchers. Above 0 by those who may act for others only.';
comment on column mrprompt.requests.options is
    'How it is delivered, in front of the provider''s row: max_failures, connect_timeout_ms, first_byte_timeout_ms, '
    'idle_timeout_ms, total_timeout_ms, backoff_base_ms, backoff_cap_ms, retry_on, no_retry_on; on_limit: wait or refuse.';
comment on column mrprompt.requests.run_id is 'The run whose step it is. Its payload is {}: it is built from the run''s agent and thread (request_payload).';
comment on column mrprompt.requests.messages_from is 'The places in the run''s thread of the messages that it sends.';
comment on column mrprompt.requests.kind is 'chat, or verify: a call that only shows whether the provider takes the key.';
comment on column mrprompt.requests.tags is 'metadata''s array "tags": what budgets and reports can go by.';
comment on column mrprompt.requests.batch_id is 'The batch it was queued with, if any.';

create table mrprompt.responses (
    request_id uuid primary key,
    attempt integer not null,
    content text,
    tool_calls json,
    refusal text,
    reasoning text,
    finish_reason text,
    model text,
    provider_response_id text,
    raw_usage jsonb,
    raw json,
    created_at timestamptz not null default now()
);
comment on table mrprompt.responses is 'The answer of a request: one row, there once the request has succeeded, or was cut short with something to show.';
comment on column mrprompt.responses.content is 'The text; null where the model only called tools.';
comment on column mrprompt.responses.tool_calls is 'OpenAI tool_calls: [{"id", "type": "function", "function": {"name", "arguments"}}].';
comment on column mrprompt.responses.finish_reason is 'stop, length, tool_calls, content_filter, or the provider''s own word.';
comment on column mrprompt.responses.model is 'The model that the provider says answered.';
comment on column mrprompt.responses.raw_usage is 'The provider''s usage object as it was sent.';
comment on column mrprompt.responses.raw is 'What a later turn sends back beside the text (Anthropic thinking blocks).';

create table mrprompt.deltas (
    request_id uuid not null,
    seq bigint not null,
    attempt integer not null,
    event text not null default 'delta' check (event in ('delta', 'restart')),
    content text,
    reasoning text,
    refusal text,
    tool_calls json,
    created_at timestamptz not null default now(),
    primary key (request_id, seq)
) with (autovacuum_vacuum_insert_scale_factor = 0.5, autovacuum_vacuum_cost_delay = 0);
comment on table mrprompt.deltas is
    'Streams as they arrive, coalesced. Pruned after mrprompt.delta_retention; read them through mrprompt.stream().';
comment on column mrprompt.deltas.seq is
    'Rises within a request. Attempt n counts from (n-1) * 1000000, so that a lost attempt never shares a number with the next.';
comment on column mrprompt.deltas.event is 'delta: more of the answer. restart: forget what came before, a new attempt begins.';
comment on column mrprompt.deltas.tool_calls is 'Fragments: [{"index", "id", "name", "arguments"}], arguments to be joined by index.';

alter table mrprompt.requests enable row level security;
alter table mrprompt.responses enable row level security;
alter table mrprompt.deltas enable row level security;

create policy own_rows on mrprompt.requests for select to mrprompt_user
    using (user_id = (select mrprompt.current_user_id()) or (select mrprompt_internal.may_act_for_others()));
create policy all_rows on mrprompt.requests for select to mrprompt_admin using (true);
-- Whoever sees a request, by the policies above, sees what belongs to it.
create policy own_rows on mrprompt.responses for select to mrprompt_user
    using (exists (select from mrprompt.requests r where r.id = request_id));
create policy all_rows on mrprompt.responses for select to mrprompt_admin using (true);
create policy own_rows on mrprompt.deltas for select to mrprompt_user
    using (exists (select from mrprompt.requests r where r.id = request_id));
create policy all_rows on mrprompt.deltas for select to mrprompt_admin using (true);

