-- The ledger: one row per attempt, in a ring of sixteen monthly partitions. What analysts read of it stands in usage_views.sql and reports.sql.

create table mrprompt.usage (
    request_id uuid not null,
    attempt integer not null,
    slot smallint not null,
    user_id uuid not null,
    provider varchar(50) not null,
    model text not null,
    key_id uuid,
    agent_name text,
    outcome text not null check (outcome in ('succeeded', 'failed', 'cancelled', 'unknown', 'lost')),
    prompt_tokens bigint,
    completion_tokens bigint,
    cached_tokens bigint,
    cache_write_tokens bigint,
    reasoning_tokens bigint,
    cost numeric,
    price_known boolean not null,
    first_token_ms integer,
    total_ms integer,
    http_status integer,
    error_type text,
    provider_request_id text,
    finished_at timestamptz not null default clock_timestamp(),
    estimated boolean not null default false,
    price_id uuid,
    service_tier text,
    cache_write_1h_tokens bigint,
    audio_prompt_tokens bigint,
    audio_completion_tokens bigint,
    images integer,
    seconds numeric,
    characters bigint,
    provider_cost numeric,
    tags text[],
    counters bigint[],
    hold numeric,
    primary key (request_id, attempt, slot)
) partition by list (slot);
create index usage_user on mrprompt.usage (user_id, finished_at);
create index usage_time on mrprompt.usage using brin (finished_at) with (pages_per_range = 32, autosummarize = on);
comment on table mrprompt.usage is 'What every attempt used and cost: append-only but for recompute_cost() and forget_user(), exactly one row per attempt.';
comment on column mrprompt.usage.slot is 'The partition: the month of the request, modulo 16.';
comment on column mrprompt.usage.outcome is
    'succeeded, failed (also: to be retried), cancelled, unknown (the fetcher died: the provider may have charged), '
    'lost (claimed, but never sent).';
comment on column mrprompt.usage.prompt_tokens is 'Tokens of the prompt, cached and cache-write ones included. Null: nothing was sent, or the provider refused.';
comment on column mrprompt.usage.completion_tokens is 'Tokens of the answer, reasoning ones included. Null: nothing was sent, or the provider refused.';
comment on column mrprompt.usage.cost is 'USD; null where the price is unknown.';
comment on column mrprompt.usage.price_known is 'Whether mrprompt.prices had a price for the model at that time.';
comment on column mrprompt.usage.first_token_ms is 'Milliseconds from the start of the attempt to the first piece of the answer.';
comment on column mrprompt.usage.total_ms is 'Milliseconds from the start to the end of the attempt.';

comment on column mrprompt.usage.estimated is
    'The provider did not say all its figures: a token is taken for four bytes of what was sent and seen, an image for a thousand tokens, and '
    'the cost is at most what was held.';

comment on column mrprompt.usage.finished_at is 'When the attempt had ended and this row was written; set after the transaction''s id, which the roll-ups rely on.';
comment on column mrprompt.usage.price_id is 'The row of mrprompt.price_versions that the cost comes from; null: no price was known, or none was needed.';
comment on column mrprompt.usage.service_tier is 'As the provider said it was served; null: it did not say.';
comment on column mrprompt.usage.cache_write_1h_tokens is 'Those of cache_write_tokens that are kept for an hour.';
comment on column mrprompt.usage.audio_prompt_tokens is 'Those of prompt_tokens that are audio.';
comment on column mrprompt.usage.audio_completion_tokens is 'Those of completion_tokens that are audio.';
comment on column mrprompt.usage.images is 'Images in the prompt, where any.';
comment on column mrprompt.usage.seconds is 'Seconds of audio; not charged yet: for voice.';
comment on column mrprompt.usage.characters is 'Characters spoken; not charged yet: for voice.';
comment on column mrprompt.usage.provider_cost is 'USD, where the provider says itself what it charged; for comparison, cost is what mrprompt.prices say.';
comment on column mrprompt.usage.tags is 'The request''s tags: metadata''s array "tags".';
comment on column mrprompt.usage.counters is 'The counters of budgets that it was held on and charged to.';
comment on column mrprompt.usage.hold is 'USD held on those budgets before the call. A cost above it went over what could be bounded.';

alter table mrprompt.usage enable row level security;
create policy own_rows on mrprompt.usage for select to mrprompt_user
    using (user_id = (select mrprompt.current_user_id()) or (select mrprompt_internal.may_act_for_others()));
create policy all_rows on mrprompt.usage for select to mrprompt_analyst, mrprompt_admin using (true);

do $ring$
begin
    for slot in 0..15 loop
        execute format('create table mrprompt.usage_%s partition of mrprompt.usage for values in (%s)', lpad(slot::text, 2, '0'), slot);
        execute format('alter table mrprompt.usage_%s enable row level security', lpad(slot::text, 2, '0'));
    end loop;
end
$ring$;

-- Nobody is granted a partition; should somebody be, he sees of it what he sees of the whole.
do $ring_policies$
begin
    for slot in 0..15 loop
        execute format('create policy own_rows on mrprompt.usage_%s for select to mrprompt_user
            using (user_id = (select mrprompt.current_user_id()) or (select mrprompt_internal.may_act_for_others()))', lpad(slot::text, 2, '0'));
        execute format('create policy all_rows on mrprompt.usage_%s for select to mrprompt_analyst, mrprompt_admin using (true)', lpad(slot::text, 2, '0'));
    end loop;
end
$ring_policies$;
