-- From 0.1.0: tables that were there already, and functions that are gone. What else is new, build.pl adds behind it.

-- All that is altered below, at once: first what contract calls begin with, then in the order of chat(), which holds these until its transaction ends.
-- Transactions that went another way are let by: what is not free soon is given back and tried again, before anybody's wait for it counts as a deadlock.
do $lock$
declare
    patience constant text := coalesce(nullif(current_setting('lock_timeout'), '0'), '30s');
    until constant timestamptz := clock_timestamp() + patience::interval;
    before constant text[] := array[current_setting('lock_timeout'), current_setting('deadlock_timeout')];
    users text;
begin
    loop
        begin
            perform set_config('lock_timeout', (extract(epoch from before[2]::interval) * 500)::int::text, true),
                -- An autovacuum makes way once this is over.
                set_config('deadlock_timeout', '50ms', true);
            lock table mrprompt_internal.fetchers, mrprompt.users, mrprompt.providers, mrprompt.api_keys, mrprompt.key_grants, mrprompt.requests,
                mrprompt_internal.queue, mrprompt_internal.channel_secret, mrprompt_internal.cancels, mrprompt_internal.pauses,
                mrprompt_internal.homes, mrprompt_internal.master_keys, mrprompt_internal.lookup_key, mrprompt.usage, mrprompt.prices,
                mrprompt.requests_in_flight in access exclusive mode;
            perform set_config('lock_timeout', before[1], true), set_config('deadlock_timeout', before[2], true);
            exit;
        exception when lock_not_available or deadlock_detected then
            if clock_timestamp() > until then
                select string_agg(distinct format('session %s (role %s, %s)', a.pid, a.usename, coalesce(a.state, 'state unknown')), ', ') into users
                from pg_locks l join pg_class c on c.oid = l.relation join pg_stat_activity a on a.pid = l.pid
                where l.database = (select d.oid from pg_database d where d.datname = current_database()) and l.granted
                  and c.relnamespace in ('mrprompt'::regnamespace, 'mrprompt_internal'::regnamespace) and a.pid <> pg_backend_pid();
                raise exception using errcode = 'lock_not_available',
                    message = format('the tables of mrprompt could not all be locked within %s: others are using them', patience),
                    detail = 'In use by ' || coalesce(users, 'a prepared transaction, or nobody any more'),
                    hint = 'End those transactions, or wait longer: set lock_timeout = ''10min''; alter extension mrprompt update.';
            end if;
            perform pg_sleep(0.05 + random() / 10);
        end;
    end loop;
end
$lock$;

-- They have more arguments now.
drop function mrprompt.chat(json, text, text, uuid, json, json, json, double precision, double precision, integer, json, bigint, json,
        boolean, jsonb, text, uuid, timestamptz),
    mrprompt.chat_text(text, text, text, uuid, text, double precision, integer, boolean, jsonb, text, uuid, timestamptz),
    mrprompt_internal.enqueue(json, text, text, uuid, boolean, jsonb, text, uuid, timestamptz);
-- These take or answer something else. (What a call in progress has still to call keeps its arguments.)
drop function mrprompt_internal.enter(json), mrprompt_internal.supervisor_state(), mrprompt.list_keys(uuid), mrprompt_internal.list_keys(uuid);

do $providers$
declare
    name text;
begin
    foreach name in array array['provider_presets', 'provider_rows'] loop
        execute format('alter table mrprompt_internal.%I
            add column max_failures integer constraint max_failures_is_between_1_and_100 check (max_failures between 1 and 100),
            add column backoff_base_ms integer not null default 500
                constraint backoff_base_is_at_most_an_hour check (backoff_base_ms between 1 and 3600000),
            add column backoff_cap_ms integer not null default 60000
                constraint backoff_cap_is_at_most_an_hour check (backoff_cap_ms between 1 and 3600000),
            add column retry_on text[],
            add column no_retry_on text[],
            add column idempotency_header text
                constraint idempotency_header_is_a_header_name check (idempotency_header ~ ''^[A-Za-z0-9-]{1,100}$''),
            add column cooldown_percent integer not null default 50
                constraint cooldown_percent_is_between_0_and_100 check (cooldown_percent between 0 and 100),
            add column cooldown_attempts integer not null default 10
                constraint cooldown_attempts_is_at_least_1 check (cooldown_attempts between 1 and 100000),
            add column verify_path text constraint verify_path_begins_with_a_slash check (verify_path ~ ''^/[^[:space:]#]*$''),
            add column timeout_limit_ms integer not null default 3600000
                constraint timeout_limit_is_at_most_a_day check (timeout_limit_ms between 1 and 86400000),
            add column allow_private boolean not null default false,
            add column proxy text constraint proxy_is_http_https_or_socks5h_with_a_port_and_no_user
                check (proxy ~ ''^(http|https|socks5h)://[^[:space:]/?#@]+:[0-9]{1,5}/?$''),
            add column client_cert_file text constraint client_cert_file_is_an_absolute_path check (client_cert_file ~ ''^/''),
            add column client_key_file text constraint client_key_file_is_an_absolute_path check (client_key_file ~ ''^/''),
            add column max_tokens_field text not null default ''max_tokens''
                constraint max_tokens_field_is_max_tokens_or_max_completion_tokens
                check (max_tokens_field in (''max_tokens'', ''max_completion_tokens'')),
            add constraint client_cert_file_and_client_key_file_come_together
                check ((client_cert_file is null) = (client_key_file is null))', name);
    end loop;
end
$providers$;

-- Admins' own addresses may be private ones, by whatever name: they go on being asked there.
update mrprompt_internal.provider_rows r set allow_private = true
where not exists (select from mrprompt_internal.provider_presets p where p.name = r.name and p.base_url = r.base_url);

-- What the preset says of OpenAI holds for admins' own rows of it, too.
update mrprompt_internal.provider_rows r set max_tokens_field = 'max_completion_tokens'
where r.name = 'openai' or r.base_url ~* '^https://api[.]openai[.]com(/|$)';

alter table mrprompt.requests
    add column priority smallint not null default 0 check (priority between -3 and 3),
    add column options json,
    add column batch_id uuid,
    add column kind text not null default 'chat' check (kind in ('chat', 'verify')),
    add column tags text[],
    add column run_id uuid,
    add column messages_from int8multirange;

alter table mrprompt.api_keys
    add column last_verified timestamptz,
    add column last_error text,
    add column last_error_at timestamptz;

alter table mrprompt_internal.master_keys add column retired_at timestamptz;

alter table mrprompt.usage
    alter column finished_at set default clock_timestamp(),
    add column estimated boolean not null default false,
    add column price_id uuid,
    add column service_tier text,
    add column cache_write_1h_tokens bigint,
    add column audio_prompt_tokens bigint,
    add column audio_completion_tokens bigint,
    add column images integer,
    add column seconds numeric,
    add column characters bigint,
    add column provider_cost numeric,
    add column tags text[],
    add column counters bigint[],
    add column hold numeric;

do $prices$
declare
    name text;
begin
    foreach name in array array['price_presets', 'price_rows'] loop
        execute format('alter table mrprompt_internal.%I
            add constraint model_is_a_name_or_a_prefix_and_a_star check (model ~ ''^[^*]*[*]?$'' and model <> ''''),
            add column cache_write_1h numeric constraint cache_write_1h_is_usd_per_token_below_one_cent check (cache_write_1h between 0 and 0.01),
            add column reasoning numeric constraint reasoning_is_usd_per_token_below_one_cent check (reasoning between 0 and 0.01),
            add column audio_input numeric constraint audio_input_is_usd_per_token_below_one_cent check (audio_input between 0 and 0.01),
            add column audio_output numeric constraint audio_output_is_usd_per_token_below_one_cent check (audio_output between 0 and 0.01),
            add column image numeric constraint image_is_usd_per_image_below_ten check (image between 0 and 10),
            add column per_request numeric constraint per_request_is_usd_below_a_hundred check (per_request between 0 and 100),
            add column per_second numeric constraint per_second_is_usd_per_second_below_one check (per_second between 0 and 1),
            add column per_character numeric constraint per_character_is_usd_per_character_below_one_cent check (per_character between 0 and 0.01),
            add column service_tier text not null default ''standard''
                constraint service_tier_is_standard_batch_flex_or_priority check (service_tier in (''standard'', ''batch'', ''flex'', ''priority'')),
            add column above_tokens bigint not null default 0 constraint above_tokens_is_not_negative check (above_tokens >= 0),
            add column id uuid not null default mrprompt_internal.uuidv7(),
            add column replaced_at timestamptz,
            drop constraint %I', name, name || '_pkey');
    end loop;
end
$prices$;
alter table mrprompt_internal.price_presets add primary key (id);
-- What was written before the upgrade was known to every claim: by its id it is of 1970.
update mrprompt_internal.price_rows r set id = overlay(r.id::text placing '00000000-0000' from 1)::uuid;
alter table mrprompt_internal.price_rows add primary key (id);
drop view mrprompt.prices;
drop function mrprompt_internal.price_at(text, text, text, timestamptz);

-- Rows that had no key of their own.
alter table mrprompt.key_grants add column id uuid primary key default mrprompt_internal.uuidv7();
alter table mrprompt_internal.homes add column id uuid primary key default mrprompt_internal.uuidv7();

-- The bounds of living fetchers begin anew: tags take the place of times.
alter table mrprompt_internal.fetchers
    drop column claim_from,
    drop column scanned_at,
    add column claim_from bigint not null default 0,
    add column mark bigint not null default 0,
    add column marked_at timestamptz not null default '-infinity',
    add column scan_at timestamptz not null default '-infinity';

alter table mrprompt_internal.queue
    add column user_id uuid,
    add column priority smallint not null default 0,
    add column key_id uuid,
    add column model text,
    add column tag bigint,
    add column ready boolean not null default true,
    add column waits_for text check (waits_for in ('retry', 'cooldown', 'pause', 'limit', 'budget')),
    add column prompt_bound bigint not null default 0,
    add column output_bound bigint,
    add column choices integer not null default 1,
    add column images integer,
    add column special text[],
    add column hold numeric,
    add column counters bigint[],
    add column buckets bigint[],
    add column reserved bigint,
    add column output_limit bigint,
    add column blocked_by bigint,
    add column key_hash text;
update mrprompt_internal.queue q set prompt_bound = q.bytes;
-- Their requests are gone; tend would have removed them.
delete from mrprompt_internal.queue q where not exists (select from mrprompt.requests r where r.id = q.request_id);
update mrprompt_internal.queue q
set user_id = o.user_id, key_id = o.key_id, model = o.model, tag = o.place * 4096,
    ready = o.ready, waits_for = case when not o.ready then 'retry' end
from (select w.request_id, r.user_id, r.key_id, r.model, w.fetcher_id is not null or w.ready_at <= clock_timestamp() as ready,
          row_number() over (partition by r.user_id order by w.ready_at, w.request_id) as place
      from mrprompt_internal.queue w join mrprompt.requests r on r.id = w.request_id) o
where q.request_id = o.request_id;
alter table mrprompt_internal.queue
    alter column user_id set not null,
    alter column model set not null,
    alter column tag set not null;
