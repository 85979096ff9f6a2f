\echo Use "CREATE EXTENSION mrprompt" to load this file. \quit
-- What must be true of the database, the two schemas, and the roles that everything else is granted to.

do $check$
begin
    if pg_catalog.getdatabaseencoding() <> 'UTF8' then
        raise exception using errcode = 'object_not_in_prerequisite_state',
            message = pg_catalog.format('mrprompt needs a UTF-8 database; this one is %s', pg_catalog.getdatabaseencoding()),
            hint = 'create database app encoding ''UTF8'' template template0';
    end if;
end
$check$;

do $roles$
declare
    wanted text;
    existing record;
begin
    foreach wanted in array array['mrprompt_owner', 'mrprompt_user', 'mrprompt_analyst', 'mrprompt_admin', 'mrprompt_fetcher'] loop
        select rolcanlogin, rolsuper into existing from pg_catalog.pg_roles where rolname = wanted;
        if not found then
            execute pg_catalog.format('create role %I nologin', wanted);
        elsif existing.rolcanlogin or existing.rolsuper then
            raise exception using errcode = 'object_not_in_prerequisite_state',
                message = pg_catalog.format('role %s exists and can log in or is a superuser', wanted),
                detail = 'mrprompt gives this name rights of its own, so it must be a plain NOLOGIN role.',
                hint = pg_catalog.format('alter role %I nologin nosuperuser, or rename it', wanted);
        end if;
    end loop;
end
$roles$;

create schema mrprompt;
comment on schema mrprompt is 'LLM gateway: what people use. Safe to expose through PostgREST.';
create schema mrprompt_internal;
comment on schema mrprompt_internal is 'LLM gateway: queue, contract and privileged code. Never expose it through an API.';

-- Functions written in C++ (src/pg) that are not about keys.

create function mrprompt.current_user_id() returns uuid
    language c stable parallel restricted as 'MODULE_PATHNAME', 'current_user_id';
comment on function mrprompt.current_user_id() is
    'Who asks: the sub of request.jwt.claims in a session of a trusted login (mrprompt.trusted_logins), else the row of '
    'mrprompt.users mapped to the login role; null for the anonymous role and for strangers. PT400: a sub that is no uuid.';

create function mrprompt_internal.caller_is_admin() returns boolean
    language c stable parallel restricted as 'MODULE_PATHNAME', 'caller_is_admin';
comment on function mrprompt_internal.caller_is_admin() is 'Whether the asking role has the rights of mrprompt_admin.';

create function mrprompt_internal.may_act_for_others() returns boolean
    language c stable parallel restricted as 'MODULE_PATHNAME', 'may_act_for_others';
comment on function mrprompt_internal.may_act_for_others() is
    'Whether the caller may pass another user''s user_id: an admin, or a trusted login that acts as itself.';

create function mrprompt_internal.uuidv7() returns uuid
    language c volatile parallel safe as 'MODULE_PATHNAME', 'uuidv7';
comment on function mrprompt_internal.uuidv7() is 'A new UUID version 7 (RFC 9562), rising within a session.';

create function mrprompt_internal.setting(name text) returns text
    language c stable strict parallel safe as 'MODULE_PATHNAME', 'setting';
comment on function mrprompt_internal.setting(text) is 'The value of a mrprompt.* setting that is no secret, in its base unit.';

create function mrprompt_internal.wake(channel text) returns void
    language c volatile as 'MODULE_PATHNAME', 'wake';
comment on function mrprompt_internal.wake(text) is
    'At the commit of this transaction, wakes the supervisor; on a server that does not preload mrprompt, notifies the fetchers'' channel.';

create function mrprompt_internal.note_changes(request_ids uuid[]) returns void
    language c volatile strict as 'MODULE_PATHNAME', 'note_changes';
comment on function mrprompt_internal.note_changes(uuid[]) is
    'At the commit of this transaction, wakes the sessions that wait for these requests, and remembers the ids for notify_changes().';

create function mrprompt_internal.take_changes() returns uuid[]
    language c volatile as 'MODULE_PATHNAME', 'take_changes';
comment on function mrprompt_internal.take_changes() is 'The ids noted by this session''s committed transactions since the last call.';

create function mrprompt_internal.begin_wait(timeout interval) returns timestamptz
    language c volatile as 'MODULE_PATHNAME', 'begin_wait';
comment on function mrprompt_internal.begin_wait(interval) is
    'Until when a waiting function may wait: the timeout, at most 60 s and 80 % of what is left of statement_timeout. PT400 outside READ COMMITTED.';

create function mrprompt_internal.change_counter(request_id uuid) returns bigint
    language c volatile strict as 'MODULE_PATHNAME', 'change_counter';
comment on function mrprompt_internal.change_counter(uuid) is 'A number that rises when this request (or one that shares its bucket) changes.';

create function mrprompt_internal.wait_for_change(request_id uuid, seen bigint, until timestamptz) returns boolean
    language c volatile strict as 'MODULE_PATHNAME', 'wait_for_change';
comment on function mrprompt_internal.wait_for_change(uuid, bigint, timestamptz) is
    'Sleeps until the change counter is no longer `seen` (true: look again) or the time has come (false). PT429: too many sessions wait.';

create function mrprompt_internal.is_own_change(xmin xid) returns boolean
    language c volatile strict as 'MODULE_PATHNAME', 'is_own_change';
comment on function mrprompt_internal.is_own_change(xid) is 'Whether a row version was written by the current transaction.';

create function mrprompt_internal.system_identifier() returns bigint
    language c stable parallel safe as 'MODULE_PATHNAME', 'system_identifier';
comment on function mrprompt_internal.system_identifier() is 'The identifier of this database cluster.';

create function mrprompt_internal.server_state(
    out preloaded boolean, out launcher_pid integer, out supervisor_pid integer, out fetcher_pids integer[],
    out waiters integer, out free_worker_slots integer, out restarts bigint, out last_failure text)
    language c volatile as 'MODULE_PATHNAME', 'server_state';
comment on function mrprompt_internal.server_state() is 'What runs for this database on this server.';

create function mrprompt_internal.json_shape_problem(value json) returns text
    language c immutable strict parallel safe as 'MODULE_PATHNAME', 'json_shape_problem';
comment on function mrprompt_internal.json_shape_problem(json) is
    'What makes a JSON value too deep (about 120 levels) or too wide (1024 members of one object) to be sent; null: nothing.';

-- UUIDv7 and time: the first 48 bits are milliseconds since 1970.
create function mrprompt_internal.uuid_time(id uuid) returns timestamptz
    language sql immutable strict parallel safe
    return to_timestamp(('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 1000.0);
comment on function mrprompt_internal.uuid_time(uuid) is 'When a UUIDv7 was made, to the millisecond.';

create function mrprompt_internal.uuid_at(moment timestamptz) returns uuid
    language sql immutable strict parallel safe
    return (lpad(to_hex((extract(epoch from moment) * 1000)::bigint), 12, '0') || '70008000000000000000')::uuid;
comment on function mrprompt_internal.uuid_at(timestamptz) is 'The smallest UUIDv7 of that millisecond: a bound for range scans by time.';

create function mrprompt_internal.slot_of(id uuid) returns smallint
    language sql immutable strict parallel safe
    return ((extract(year from mrprompt_internal.uuid_time(id) at time zone 'UTC') * 12
           + extract(month from mrprompt_internal.uuid_time(id) at time zone 'UTC'))::int % 16)::smallint;
comment on function mrprompt_internal.slot_of(uuid) is 'The partition, 0 to 15, of the month in which a UUIDv7 was made.';

-- Users: who a login is, and who may act for whom.

create table mrprompt.users (
    id uuid primary key default mrprompt_internal.uuidv7(),
    login_role name unique,
    name text,
    metadata jsonb not null default '{}' check (jsonb_typeof(metadata) = 'object'),
    created_at timestamptz not null default now()
);
comment on table mrprompt.users is
    'Users that log in to the database themselves, or that an admin wants to name. Users known by JWT claims need no row.';
comment on column mrprompt.users.login_role is 'The database role that logs in as this user.';

alter table mrprompt.users enable row level security;
create policy own_row on mrprompt.users for select to mrprompt_user, mrprompt_analyst
    using (id = (select mrprompt.current_user_id()));
create policy all_rows on mrprompt.users for select to mrprompt_admin using (true);

create function mrprompt_internal.acting_user(user_id uuid) returns uuid
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    caller constant uuid := mrprompt.current_user_id();
begin
    if user_id is not null and user_id is distinct from caller then
        if not mrprompt_internal.may_act_for_others() then
            raise exception using errcode = 'insufficient_privilege',
                message = 'you may not act for another user',
                detail = format('user_id is %s', user_id),
                hint = 'Leave user_id out, or call as a member of mrprompt_admin.';
        end if;
        return user_id;
    end if;
    if caller is null then
        raise exception using errcode = 'insufficient_privilege',
            message = 'this session is nobody to mrprompt',
            detail = format('login role %s, role %s, no user id in the request''s claims', session_user, current_setting('role')),
            hint = format('select mrprompt.add_user(login_role => %L) as an admin, sign in with a JWT whose sub is a uuid, or pass user_id.', session_user);
    end if;
    return caller;
end
$$;
comment on function mrprompt_internal.acting_user(uuid) is
    'The user a call is for: the caller, or the given user if the caller may act for others. 42501 otherwise.';

create function mrprompt_internal.require_admin(what text) returns void
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    if not mrprompt_internal.caller_is_admin() then
        raise exception using errcode = 'insufficient_privilege',
            message = format('only an admin may %s', what),
            hint = 'grant mrprompt_admin to the role that should.';
    end if;
end
$$;
comment on function mrprompt_internal.require_admin(text) is '42501 unless the asking role has the rights of mrprompt_admin.';

create function mrprompt_internal.add_user(login_role name, name text, metadata jsonb, user_id uuid) returns uuid
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    new_id constant uuid := coalesce(user_id, mrprompt_internal.uuidv7());
begin
    perform mrprompt_internal.require_admin('add a user');
    if login_role is not null and not exists (select from pg_roles r where r.rolname = login_role) then
        raise exception using errcode = 'PT400', message = format('there is no role %s', login_role),
            hint = format('create role %I login', login_role);
    end if;
    insert into mrprompt.users as u (id, login_role, name, metadata)
    values (new_id, add_user.login_role, add_user.name, coalesce(add_user.metadata, '{}'))
    on conflict (id) do update set login_role = coalesce(excluded.login_role, u.login_role),
        name = coalesce(excluded.name, u.name), metadata = u.metadata || excluded.metadata;
    return new_id;
exception when unique_violation then
    raise exception using errcode = 'PT409', message = format('login role %s already belongs to a user', login_role),
        hint = format('select id from mrprompt.users where login_role = %L', login_role);
end
$$;

create function mrprompt.add_user(
    login_role name default null, name text default null, metadata jsonb default '{}', user_id uuid default null)
    returns uuid language sql
    return mrprompt_internal.add_user(login_role, name, metadata, user_id);
comment on function mrprompt.add_user(name, text, jsonb, uuid) is
    'Admins: makes a user, or changes the one with that user_id, and maps a login role to it. Returns its id. PT400 unknown role, PT409 role taken.';

-- Providers as rows: presets that come with the release, and under the same view the rows that admins write.

create table mrprompt_internal.provider_presets (
    name varchar(50) primary key constraint name_is_lower_case_letters_digits_and_dashes check (name ~ '^[a-z0-9][a-z0-9_.-]*$'),
    protocol text not null constraint protocol_is_openai_or_anthropic check (protocol in ('openai', 'anthropic')),
    base_url text not null constraint base_url_is_an_address_without_user_query_or_fragment check (base_url ~ '^https?://[^[:space:]/?#@]+(/[^[:space:]?#]*)?$'),
    path text constraint path_begins_with_a_slash check (path ~ '^/[^[:space:]#]*$'),
    auth text not null default 'bearer' constraint auth_is_bearer_x_api_key_api_key_or_none check (auth in ('bearer', 'x-api-key', 'api-key', 'none')),
    key_required boolean not null default false,
    headers jsonb not null default '{}' constraint headers_is_an_object_of_one_line_strings check (
        jsonb_typeof(headers) = 'object'
        and not jsonb_path_exists(headers, '$.* ? (@.type() != "string" || @ like_regex "[\r\n]")')),
    stream_usage boolean not null default true,
    models text[],
    default_model text,
    allow_http boolean not null default false,
    ca_file text constraint ca_file_is_an_absolute_path check (ca_file ~ '^/'),
    connect_timeout_ms integer not null default 10000 constraint connect_timeout_is_at_most_ten_minutes check (connect_timeout_ms between 1 and 600000),
    first_byte_timeout_ms integer not null default 300000 constraint first_byte_timeout_is_at_most_a_day check (first_byte_timeout_ms between 1 and 86400000),
    idle_timeout_ms integer not null default 120000 constraint idle_timeout_is_at_most_a_day check (idle_timeout_ms between 1 and 86400000),
    total_timeout_ms integer not null default 900000 constraint total_timeout_is_at_most_a_day check (total_timeout_ms between 1 and 86400000),
    enabled boolean not null default true,
    description text,
    constraint plain_http_needs_allow_http check (allow_http or base_url like 'https://%')
);
comment on table mrprompt_internal.provider_presets is 'Providers as this release knows them. Not dumped: an upgrade may change them.';

create table mrprompt_internal.provider_rows (like mrprompt_internal.provider_presets including all);
comment on table mrprompt_internal.provider_rows is
    'Providers that admins added or changed; a row here stands in front of the preset of its name.';

alter table mrprompt_internal.provider_presets enable row level security;
alter table mrprompt_internal.provider_rows enable row level security;
create policy readable on mrprompt_internal.provider_presets for select
    to mrprompt_user, mrprompt_analyst, mrprompt_admin using (true);
create policy readable on mrprompt_internal.provider_rows for select
    to mrprompt_user, mrprompt_analyst, mrprompt_admin using (true);

create view mrprompt.providers with (security_invoker = true) as
    select r.*, false as preset from mrprompt_internal.provider_rows r
    union all
    select p.*, true from mrprompt_internal.provider_presets p
    where not exists (select from mrprompt_internal.provider_rows r where r.name = p.name);
comment on view mrprompt.providers is
    'Where chat requests can go. Admins insert, update and delete here; deleting a changed preset brings the preset back.';
comment on column mrprompt.providers.protocol is 'openai (chat completions) or anthropic (messages).';
comment on column mrprompt.providers.base_url is
    'https, or http where allow_http; {model} stands for the percent-encoded model name.';
comment on column mrprompt.providers.path is
    'Behind base_url; null: the protocol''s own (/chat/completions or /v1/messages). {model} as in base_url.';
comment on column mrprompt.providers.auth is
    'How the key travels: bearer, x-api-key, api-key (headers of those names), none.';
comment on column mrprompt.providers.key_required is 'Whether a request without a key is refused at the call.';
comment on column mrprompt.providers.headers is 'Further request headers, {"name": "value"}. Never put a key here.';
comment on column mrprompt.providers.stream_usage is 'Whether the server takes stream_options.include_usage.';
comment on column mrprompt.providers.models is 'Models that may be asked for; null: any.';
comment on column mrprompt.providers.ca_file is 'A file of CA certificates on the fetcher''s machine; null: the system''s.';
comment on column mrprompt.providers.preset is 'Whether the row is the release''s own, unchanged.';

-- An insert that leaves a column out gets the table's default for it.
do $defaults$
declare
    col record;
begin
    for col in
        select a.attname, pg_get_expr(d.adbin, d.adrelid) as expression
        from pg_attrdef d join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
        where d.adrelid = 'mrprompt_internal.provider_rows'::regclass
    loop
        execute format('alter view mrprompt.providers alter column %I set default %s', col.attname, col.expression);
    end loop;
end
$defaults$;

create function mrprompt_internal.write_provider() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    row_ mrprompt_internal.provider_rows;
begin
    if tg_op = 'DELETE' then
        delete from mrprompt_internal.provider_rows r where r.name = old.name;
        if not found then
            raise exception using errcode = 'PT400', message = format('provider %s comes with mrprompt and cannot be deleted', old.name),
                hint = format('update mrprompt.providers set enabled = false where name = %L', old.name);
        end if;
        return old;
    end if;
    if tg_op = 'UPDATE' and new.name <> old.name then
        raise exception using errcode = 'PT400', message = format('the provider name %s cannot change', old.name),
            detail = 'Sealed keys are bound to the provider''s name.', hint = 'Insert a new provider.';
    end if;
    if new.base_url like 'http://%' and not coalesce(new.allow_http, false) then
        raise exception using errcode = 'PT400', message = format('base_url of provider %s is plain http', new.name),
            detail = format('base_url is %s', new.base_url),
            hint = 'Use https, or set allow_http = true for a server on a network you trust.';
    end if;
    row_ := jsonb_populate_record(null::mrprompt_internal.provider_rows, to_jsonb(new));
    if tg_op = 'INSERT' then
        if exists (select from mrprompt.providers p where p.name = new.name) then
            raise exception using errcode = 'PT409', message = format('provider %s exists', new.name),
                hint = format('update mrprompt.providers set … where name = %L', new.name);
        end if;
        insert into mrprompt_internal.provider_rows values (row_.*);
    else
        delete from mrprompt_internal.provider_rows r where r.name = new.name;
        insert into mrprompt_internal.provider_rows values (row_.*);
    end if;
    return new;
end
$$;
create trigger write_provider instead of insert or update or delete on mrprompt.providers
    for each row execute function mrprompt_internal.write_provider();

insert into mrprompt_internal.provider_presets
    (name, protocol, base_url, path, auth, key_required, stream_usage, allow_http, description)
values
    ('openai', 'openai', 'https://api.openai.com/v1', null, 'bearer', true, true, false, 'OpenAI'),
    ('anthropic', 'anthropic', 'https://api.anthropic.com', null, 'x-api-key', true, true, false, 'Anthropic'),
    ('vanchin', 'openai', 'https://vanchin.streamlake.ai/api/gateway/v1/endpoints', null, 'bearer', true, true, false,
        'VanchinAI (StreamLake): the model is an endpoint id, ep-…'),
    ('azure', 'openai', 'https://example.openai.azure.com/openai/deployments/{model}',
        '/chat/completions?api-version=2024-10-21', 'api-key', true, true, false,
        'Azure OpenAI: put your resource''s name into base_url; the model is the deployment'),
    ('openai-compatible', 'openai', 'https://llm.example.com/v1', null, 'bearer', false, true, false,
        'Any OpenAI-compatible server: put its address into base_url'),
    ('openrouter', 'openai', 'https://openrouter.ai/api/v1', null, 'bearer', true, true, false, 'OpenRouter'),
    ('groq', 'openai', 'https://api.groq.com/openai/v1', null, 'bearer', true, true, false, 'Groq'),
    ('deepseek', 'openai', 'https://api.deepseek.com', null, 'bearer', true, true, false, 'DeepSeek'),
    ('mistral', 'openai', 'https://api.mistral.ai/v1', null, 'bearer', true, false, false,
        'Mistral (sends usage unasked and refuses stream_options)'),
    ('together', 'openai', 'https://api.together.xyz/v1', null, 'bearer', true, true, false, 'Together AI'),
    ('xai', 'openai', 'https://api.x.ai/v1', null, 'bearer', true, true, false, 'xAI'),
    ('gemini', 'openai', 'https://generativelanguage.googleapis.com/v1beta/openai', null, 'bearer', true, true, false,
        'Google Gemini through its OpenAI-compatible base'),
    ('ollama', 'openai', 'http://127.0.0.1:11434/v1', null, 'bearer', false, true, true, 'Ollama on this machine'),
    ('vllm', 'openai', 'http://127.0.0.1:8000/v1', null, 'bearer', false, true, true, 'vLLM on this machine'),
    ('llamacpp', 'openai', 'http://127.0.0.1:8080/v1', null, 'bearer', false, true, true, 'llama.cpp server on this machine'),
    ('litellm', 'openai', 'http://127.0.0.1:4000/v1', null, 'bearer', false, true, true, 'LiteLLM proxy on this machine');

-- Prices in USD per token: presets of the release, under the rows that admins write. Effective-dated, exact.

create table mrprompt_internal.price_presets (
    provider varchar(50) not null,
    model text not null,
    effective_from timestamptz not null default '2025-01-01 00:00:00+00',
    input numeric not null constraint input_is_usd_per_token_below_one_cent check (input between 0 and 0.01),
    output numeric not null constraint output_is_usd_per_token_below_one_cent check (output between 0 and 0.01),
    cached numeric constraint cached_is_usd_per_token_below_one_cent check (cached between 0 and 0.01),
    cache_write numeric constraint cache_write_is_usd_per_token_below_one_cent check (cache_write between 0 and 0.01),
    source text,
    primary key (provider, model, effective_from)
);
comment on table mrprompt_internal.price_presets is 'Prices as this release knows them. Not dumped: an upgrade may add to them.';
create table mrprompt_internal.price_rows (like mrprompt_internal.price_presets including all);
alter table mrprompt_internal.price_rows alter column effective_from set default now();
comment on table mrprompt_internal.price_rows is 'Prices that admins wrote; one here stands in front of every preset of its model.';

alter table mrprompt_internal.price_presets enable row level security;
alter table mrprompt_internal.price_rows enable row level security;
create policy readable on mrprompt_internal.price_presets for select to mrprompt_user, mrprompt_analyst, mrprompt_admin using (true);
create policy readable on mrprompt_internal.price_rows for select to mrprompt_user, mrprompt_analyst, mrprompt_admin using (true);

create view mrprompt.prices with (security_invoker = true) as
    select r.*, false as preset from mrprompt_internal.price_rows r
    union all
    select p.*, true from mrprompt_internal.price_presets p
    where not exists (
        select from mrprompt_internal.price_rows r
        where r.provider = p.provider and r.model = p.model and r.effective_from = p.effective_from);
comment on view mrprompt.prices is
    'USD per token, by provider, model and the time from which it holds. Admins insert, update and delete here.';
comment on column mrprompt.prices.input is 'USD per prompt token that was neither cached nor written to a cache.';
comment on column mrprompt.prices.output is 'USD per completion token, reasoning included.';
comment on column mrprompt.prices.cached is 'USD per cached prompt token; null: the input price.';
comment on column mrprompt.prices.cache_write is 'USD per prompt token written to a cache; null: the input price.';
comment on column mrprompt.prices.source is 'Where the figure comes from, and its date.';
alter view mrprompt.prices alter column effective_from set default now();

create function mrprompt_internal.write_price() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_op <> 'INSERT' then
        delete from mrprompt_internal.price_rows r
        where r.provider = old.provider and r.model = old.model and r.effective_from = old.effective_from;
        if tg_op = 'DELETE' then
            if not found then
                raise exception using errcode = 'PT400',
                    message = format('the price of %s at %s comes with mrprompt and cannot be deleted', old.model, old.provider),
                    hint = 'Insert a price of your own for the model: it comes first.';
            end if;
            return old;
        end if;
    end if;
    insert into mrprompt_internal.price_rows (provider, model, effective_from, input, output, cached, cache_write, source)
    values (new.provider, new.model, coalesce(new.effective_from, now()), new.input, new.output, new.cached, new.cache_write, new.source);
    return new;
end
$$;
create trigger write_price instead of insert or update or delete on mrprompt.prices
    for each row execute function mrprompt_internal.write_price();

-- From LiteLLM's model_prices_and_context_window.json of mid-2026; check against the provider's page before you bill by it.
insert into mrprompt_internal.price_presets (provider, model, input, output, cached, cache_write, source)
select provider, model, input, output, cached, cache_write, 'LiteLLM price map, mid-2026'
from (values
    ('openai', 'gpt-4o', 2.5e-06, 1e-05, 1.25e-06, null),
    ('openai', 'gpt-4o-mini', 1.5e-07, 6e-07, 7.5e-08, null),
    ('openai', 'gpt-5', 1.25e-06, 1e-05, 1.25e-07, null),
    ('anthropic', 'claude-sonnet-4-5', 3e-06, 1.5e-05, 3e-07, 3.75e-06),
    ('anthropic', 'claude-sonnet-4-6', 3e-06, 1.5e-05, 3e-07, 3.75e-06),
    ('anthropic', 'claude-sonnet-5', 2e-06, 1e-05, 2e-07, 2.5e-06),
    ('anthropic', 'claude-opus-4-5', 5e-06, 2.5e-05, 5e-07, 6.25e-06),
    ('anthropic', 'claude-opus-4-6', 5e-06, 2.5e-05, 5e-07, 6.25e-06),
    ('anthropic', 'claude-opus-4-7', 5e-06, 2.5e-05, 5e-07, 6.25e-06),
    ('anthropic', 'claude-opus-4-8', 5e-06, 2.5e-05, 5e-07, 6.25e-06)
) as known (provider, model, input, output, cached, cache_write);

-- Provider keys: sealed in their row, shown masked, used by the fetcher, read by nobody.

create table mrprompt_internal.master_keys (
    id text primary key,
    fingerprint text not null check (fingerprint ~ '^[0-9a-f]{16}$'),
    first_used timestamptz not null default now()
);
comment on table mrprompt_internal.master_keys is
    'The master keys that something in this database was sealed with: by their fingerprints a foreign keyring is told from a damaged key.';

create table mrprompt_internal.lookup_key (
    id boolean primary key default true check (id),
    sealed text not null
);
comment on table mrprompt_internal.lookup_key is 'The random key of hash_key(), sealed; made at first use.';
alter table mrprompt_internal.master_keys enable row level security;
alter table mrprompt_internal.lookup_key enable row level security;

create table mrprompt.api_keys (
    id uuid primary key default mrprompt_internal.uuidv7(),
    user_id uuid,
    provider varchar(50) not null,
    encrypted_key text not null,
    key_hash text not null,
    masked_key varchar(20) not null,
    last_used timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    metadata jsonb not null default '{}' check (jsonb_typeof(metadata) = 'object'),
    name text,
    revoked_at timestamptz,
    constraint sealed_until_revoked check (encrypted_key like 'mrp1.%' or (encrypted_key = '' and revoked_at is not null))
);
create index api_keys_of_user on mrprompt.api_keys (user_id, provider);
create index api_keys_by_hash on mrprompt.api_keys (key_hash);
comment on table mrprompt.api_keys is
    'Provider keys. Written through add_key, update_key and revoke_key only; encrypted_key is readable by nobody.';
comment on column mrprompt.api_keys.user_id is 'The owner; null: a shared key, which those may use whom key_grants names.';
comment on column mrprompt.api_keys.encrypted_key is
    'mrp1.<master key id>.<base64>, AES-256-GCM bound to id, user_id and provider; empty once revoked.';
comment on column mrprompt.api_keys.key_hash is 'hash_key() of the key, to recognise it.';
comment on column mrprompt.api_keys.masked_key is 'mask_key() of the key, to show it.';
comment on column mrprompt.api_keys.last_used is 'When a request last took this key along; to the minute, best effort.';
comment on column mrprompt.api_keys.metadata is
    'Free; mrprompt reads endpoint_id, model, agent_name and description, and shows those of shared keys.';

create table mrprompt.key_grants (
    key_id uuid not null references mrprompt.api_keys on delete cascade,
    user_id uuid,
    granted_at timestamptz not null default now(),
    unique nulls not distinct (key_id, user_id)
);
create index key_grants_of_user on mrprompt.key_grants (user_id);
comment on table mrprompt.key_grants is 'Who may use a shared key. Written through grant_key and ungrant_key only.';
comment on column mrprompt.key_grants.user_id is 'Null: everybody who may use mrprompt.';

alter table mrprompt.api_keys enable row level security;
create policy own_rows on mrprompt.api_keys for select to mrprompt_user
    using (user_id = (select mrprompt.current_user_id()));
create policy all_rows on mrprompt.api_keys for select to mrprompt_admin using (true);
alter table mrprompt.key_grants enable row level security;
create policy own_rows on mrprompt.key_grants for select to mrprompt_user
    using (user_id is null or user_id = (select mrprompt.current_user_id()));
create policy all_rows on mrprompt.key_grants for select to mrprompt_admin using (true);

-- Functions over a secret (src/pg/secret_functions.cpp). None of them stores what it is given.

create function mrprompt.encrypt_key(api_key text, key_id uuid default null, user_id uuid default null, provider text default null)
    returns text language c volatile as 'MODULE_PATHNAME', 'encrypt_key';
comment on function mrprompt.encrypt_key(text, uuid, uuid, text) is
    'Seals a key under the active master key, bound to what is given besides it. F0000: no usable master key.';

create function mrprompt.decrypt_key(encrypted_key text, key_id uuid default null, user_id uuid default null, provider text default null)
    returns text language c volatile as 'MODULE_PATHNAME', 'decrypt_key';
comment on function mrprompt.decrypt_key(text, uuid, uuid, text) is
    'Admins: opens what encrypt_key gave, with the same key_id, user_id and provider. PT400: it does not open.';

create function mrprompt.mask_key(api_key text) returns text
    language c immutable strict parallel safe as 'MODULE_PATHNAME', 'mask_key';
comment on function mrprompt.mask_key(text) is 'The first 4 and last 3 characters of a key; nothing of one shorter than 12.';

create function mrprompt.hash_key(api_key text) returns text
    language c volatile strict as 'MODULE_PATHNAME', 'hash_key';
comment on function mrprompt.hash_key(text) is
    'HMAC-SHA-256 of a key under this database''s lookup key, in hexadecimal: equal for equal keys, whatever the master key.';

create function mrprompt_internal.keyring_state(
    out configured boolean, out active_id text, out ids text[], out problem text)
    language c volatile as 'MODULE_PATHNAME', 'keyring_state';
comment on function mrprompt_internal.keyring_state() is 'The master keyring of this server as this database sees it. Admins only.';

-- Storing keys (src/pg/key_functions.cpp): sealed before they reach a row.

create function mrprompt.add_key(
    provider text, api_key text, metadata jsonb default '{}', name text default null,
    user_id uuid default null, shared boolean default false)
    returns uuid language c volatile as 'MODULE_PATHNAME', 'add_key';
comment on function mrprompt.add_key(text, text, jsonb, text, uuid, boolean) is
    'Stores a provider key, sealed, and returns its id. A shared key (admins) is usable by those granted, readable by nobody. '
    'PT400: unknown provider or no usable key; 42501: no rights; F0000: no usable master key.';

create function mrprompt.update_key(key_id uuid, api_key text default null, metadata jsonb default null, name text default null)
    returns uuid language c volatile as 'MODULE_PATHNAME', 'update_key';
comment on function mrprompt.update_key(uuid, text, jsonb, text) is
    'Replaces a key''s secret, metadata or name; what is null stays. PT404: not yours; PT409: revoked.';

create function mrprompt_internal.key_to_change(key_id uuid) returns mrprompt.api_keys
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
    caller constant uuid := mrprompt.current_user_id();
    admin constant boolean := mrprompt_internal.caller_is_admin();
    for_others constant boolean := mrprompt_internal.may_act_for_others();
    found_key mrprompt.api_keys;
begin
    select * into found_key from mrprompt.api_keys k
    where k.id = key_to_change.key_id and (admin or k.user_id = caller or (for_others and k.user_id is not null))
    for no key update;
    if not found then
        raise exception using errcode = 'PT404', message = 'there is no key of that id that you may change',
            detail = format('key_id is %s', coalesce(key_id::text, 'null')),
            hint = 'select * from mrprompt.list_keys() shows your keys; shared ones are the admins''.';
    end if;
    return found_key;
end
$$;
comment on function mrprompt_internal.key_to_change(uuid) is
    'Locks and returns a key that the caller may change: its own, any for admins, any user''s for who may act for others. PT404 otherwise.';

create function mrprompt_internal.revoke_key(key_id uuid) returns uuid
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    key constant mrprompt.api_keys := mrprompt_internal.key_to_change(key_id);
begin
    update mrprompt.api_keys k set encrypted_key = '', revoked_at = now(), updated_at = now()
    where k.id = key.id and k.revoked_at is null;
    return key.id;
end
$$;
comment on function mrprompt_internal.revoke_key(uuid) is 'revoke_key() with the owner''s rights; judges the caller itself.';

create function mrprompt.revoke_key(key_id uuid) returns uuid
    language sql
    return mrprompt_internal.revoke_key(key_id);
comment on function mrprompt.revoke_key(uuid) is
    'Ends the use of a key for good: its row stays, its sealed text goes. PT404: not yours.';

-- Seeing keys.

create function mrprompt_internal.list_keys(user_id uuid)
    returns table (id uuid, provider text, name text, masked_key text, shared boolean, metadata jsonb,
                   last_used timestamptz, created_at timestamptz, updated_at timestamptz, revoked_at timestamptz)
    language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    admin constant boolean := mrprompt_internal.caller_is_admin();
    -- An admin need not be a user to see the shared keys.
    acting constant uuid := case when admin and list_keys.user_id is null then mrprompt.current_user_id()
                                 else mrprompt_internal.acting_user(list_keys.user_id) end;
begin
    return query
    select k.id, k.provider::text, k.name,
        case when k.user_id is not null or admin then k.masked_key::text end,
        k.user_id is null,
        case when k.user_id is not null or admin then k.metadata
             else (select coalesce(jsonb_object_agg(m.key, m.value), '{}') from jsonb_each(k.metadata) m
                   where m.key in ('endpoint_id', 'model', 'agent_name', 'description')) end,
        k.last_used, k.created_at, k.updated_at, k.revoked_at
    from mrprompt.api_keys k
    where k.user_id = acting
       or (k.user_id is null and (admin or (k.revoked_at is null and exists (
              select from mrprompt.key_grants g where g.key_id = k.id and (g.user_id is null or g.user_id = acting)))))
    order by k.user_id is null, k.created_at, k.id;
end
$$;
comment on function mrprompt_internal.list_keys(uuid) is 'list_keys() with the owner''s rights; judges the caller itself.';

create function mrprompt.list_keys(user_id uuid default null)
    returns table (id uuid, provider text, name text, masked_key text, shared boolean, metadata jsonb,
                   last_used timestamptz, created_at timestamptz, updated_at timestamptz, revoked_at timestamptz)
    language sql stable
begin atomic
    select k.id, k.provider, k.name, k.masked_key, k.shared, k.metadata, k.last_used, k.created_at, k.updated_at, k.revoked_at
    from mrprompt_internal.list_keys(list_keys.user_id) k;
end;
comment on function mrprompt.list_keys(uuid) is
    'The keys that you may use: your own, and shared ones granted to you (admins: all shared ones). Never a key itself.';

-- Sharing keys.

create function mrprompt_internal.grant_key(key_id uuid, user_id uuid) returns uuid
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    key mrprompt.api_keys;
begin
    perform mrprompt_internal.require_admin('grant a key');
    select * into key from mrprompt.api_keys k where k.id = grant_key.key_id;
    if not found then
        raise exception using errcode = 'PT404', message = 'there is no key of that id',
            detail = format('key_id is %s', coalesce(key_id::text, 'null')), hint = 'select * from mrprompt.list_keys()';
    elsif key.user_id is not null then
        raise exception using errcode = 'PT400', message = 'a user''s own key cannot be granted to others',
            detail = format('key %s belongs to user %s', key.id, key.user_id),
            hint = 'Store the key once more as a shared one: add_key(provider, api_key, shared => true).';
    elsif key.revoked_at is not null then
        raise exception using errcode = 'PT409', message = 'this key is revoked',
            detail = format('key %s was revoked at %s', key.id, key.revoked_at), hint = 'Add a new shared key, and grant that.';
    end if;
    insert into mrprompt.key_grants (key_id, user_id) values (grant_key.key_id, grant_key.user_id) on conflict do nothing;
    return key.id;
end
$$;
comment on function mrprompt_internal.grant_key(uuid, uuid) is 'grant_key() with the owner''s rights; judges the caller itself.';

create function mrprompt.grant_key(key_id uuid, user_id uuid default null) returns uuid
    language sql
    return mrprompt_internal.grant_key(key_id, user_id);
comment on function mrprompt.grant_key(uuid, uuid) is
    'Admins: lets a user (null: everybody) use a shared key. PT404 unknown key, PT400 not a shared one, PT409 revoked.';

create function mrprompt_internal.ungrant_key(key_id uuid, user_id uuid) returns uuid
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform mrprompt_internal.require_admin('take back a key');
    delete from mrprompt.key_grants g
    where g.key_id = ungrant_key.key_id and g.user_id is not distinct from ungrant_key.user_id;
    if not found then
        raise exception using errcode = 'PT404', message = 'there is no such grant',
            detail = format('key_id is %s, user_id is %s', coalesce(key_id::text, 'null'), coalesce(user_id::text, 'null (everybody)')),
            hint = 'select * from mrprompt.key_grants';
    end if;
    return key_id;
end
$$;
comment on function mrprompt_internal.ungrant_key(uuid, uuid) is 'ungrant_key() with the owner''s rights; judges the caller itself.';

create function mrprompt.ungrant_key(key_id uuid, user_id uuid default null) returns uuid
    language sql
    return mrprompt_internal.ungrant_key(key_id, user_id);
comment on function mrprompt.ungrant_key(uuid, uuid) is
    'Admins: takes back a grant; a grant to everybody (null) is one of its own. PT404: there is none.';

-- Rights. What is not named here (tables of mrprompt_internal, key_to_change, the sealed column) is the owner's alone.
grant select (id, user_id, provider, key_hash, masked_key, last_used, created_at, updated_at, metadata, name, revoked_at)
    on mrprompt.api_keys to mrprompt_user, mrprompt_admin;
grant select on mrprompt.key_grants to mrprompt_user, mrprompt_admin;
grant execute on function mrprompt.encrypt_key, mrprompt.mask_key, mrprompt.hash_key, mrprompt.add_key, mrprompt.update_key,
    mrprompt.revoke_key, mrprompt_internal.revoke_key, mrprompt.list_keys, mrprompt_internal.list_keys
    to mrprompt_user, mrprompt_admin;
grant execute on function mrprompt.decrypt_key, mrprompt.grant_key, mrprompt_internal.grant_key,
    mrprompt.ungrant_key, mrprompt_internal.ungrant_key to mrprompt_admin;
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
    payload json not null
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
create index requests_user on mrprompt.requests (user_id, id desc);
create unique index requests_idempotency on mrprompt.requests (user_id, idempotency_key) where idempotency_key is not null;
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

-- The ledger: one row per attempt, in a ring of sixteen monthly partitions; and the views that analysts read.

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
    finished_at timestamptz not null default now(),
    primary key (request_id, attempt, slot)
) partition by list (slot);
create index usage_user on mrprompt.usage (user_id, finished_at);
create index usage_time on mrprompt.usage using brin (finished_at);
comment on table mrprompt.usage is 'What every attempt used and cost: append-only, exactly one row per attempt.';
comment on column mrprompt.usage.slot is 'The partition: the month of the request, modulo 16.';
comment on column mrprompt.usage.outcome is
    'succeeded, failed (also: to be retried), cancelled, unknown (the fetcher died: the provider may have charged), '
    'lost (claimed, but never sent).';
comment on column mrprompt.usage.prompt_tokens is 'Tokens of the prompt, cached and cache-write ones included. Null: the provider did not say.';
comment on column mrprompt.usage.completion_tokens is 'Tokens of the answer, reasoning ones included. Null: the provider did not say.';
comment on column mrprompt.usage.cost is 'USD; null where the price or the tokens are unknown.';
comment on column mrprompt.usage.price_known is 'Whether mrprompt.prices had a price for the model at that time.';
comment on column mrprompt.usage.first_token_ms is 'Milliseconds from the start of the attempt to the first piece of the answer.';
comment on column mrprompt.usage.total_ms is 'Milliseconds from the start to the end of the attempt.';

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

-- Each view sums the same figures over another dimension.
do $views$
declare
    dimension record;
begin
    for dimension in
        select * from (values
            ('usage_by_day', '(finished_at at time zone ''UTC'')::date as day', 'day (UTC)'),
            ('usage_by_user', 'user_id', 'user'),
            ('usage_by_model', 'provider, model', 'model'),
            ('usage_by_provider', 'provider', 'provider'),
            ('usage_by_key', 'key_id', 'key'),
            ('usage_by_agent', 'agent_name', 'agent name')) as d (name, columns, title)
    loop
        execute format($view$
            create view mrprompt.%I with (security_invoker = true) as
            select %s,
                count(distinct request_id) as requests,
                count(*) as attempts,
                count(*) filter (where outcome = 'failed') as failed_attempts,
                sum(prompt_tokens) as prompt_tokens,
                sum(completion_tokens) as completion_tokens,
                sum(cached_tokens) as cached_tokens,
                sum(cache_write_tokens) as cache_write_tokens,
                sum(reasoning_tokens) as reasoning_tokens,
                sum(cost) as cost,
                count(*) filter (where cost is null) as attempts_of_unknown_cost,
                round(avg(first_token_ms)) as avg_first_token_ms,
                round(avg(total_ms)) as avg_total_ms
            from mrprompt.usage group by %s$view$,
            dimension.name, dimension.columns, case when dimension.name = 'usage_by_model' then '1, 2' else '1' end);
        execute format('comment on view mrprompt.%I is %L', dimension.name,
            'Usage and cost (USD) by ' || dimension.title || ': a user sees his own, an analyst everybody''s.');
    end loop;
end
$views$;

-- The queue and the fetchers' leases: written by the contract, and by enqueue; users never touch a row of them.
-- Lock order, where a call locks several: fetchers, queue, requests; rows of one table by key.

create table mrprompt_internal.queue (
    request_id uuid primary key,
    ready_at timestamptz not null default clock_timestamp(),
    fetcher_id uuid,
    alone boolean not null default false,
    attempt integer not null default 0,
    deaths integer not null default 0,
    claimed_at timestamptz,
    expires_at timestamptz,
    provider varchar(50) not null,
    bytes integer not null
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 100000, autovacuum_vacuum_cost_delay = 0);
create index queue_ready on mrprompt_internal.queue (ready_at, request_id) where fetcher_id is null;
create index queue_claimed on mrprompt_internal.queue (fetcher_id) where fetcher_id is not null;
create index queue_alone on mrprompt_internal.queue (ready_at) where alone;
create index queue_expiring on mrprompt_internal.queue (expires_at) where expires_at is not null;
comment on table mrprompt_internal.queue is 'Requests that are not done. No foreign keys: nothing that users edit can hold a lock on it.';
comment on column mrprompt_internal.queue.fetcher_id is 'Who has it in flight; null: nobody.';
comment on column mrprompt_internal.queue.attempt is 'Rises at every claim: an outcome of another attempt changes nothing.';
comment on column mrprompt_internal.queue.deaths is 'How many fetchers have died with it in flight; at two it runs alone, at three it fails.';
comment on column mrprompt_internal.queue.alone is 'Runs in a fetcher of its own.';

create table mrprompt_internal.fetchers (
    id uuid primary key default mrprompt_internal.uuidv7(),
    kind text not null check (kind in ('child', 'libpq')),
    alone boolean not null,
    program text not null,
    contract integer not null,
    host text,
    pid integer,
    started_at timestamptz not null default clock_timestamp(),
    last_seen timestamptz not null default clock_timestamp(),
    claim_from timestamptz not null default '-infinity',
    scanned_at timestamptz not null default '-infinity',
    progress json
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
comment on table mrprompt_internal.fetchers is 'Fetchers and their leases: one row per living incarnation.';
comment on column mrprompt_internal.fetchers.claim_from is
    'A lower bound of ready_at under which this fetcher has found nothing: keeps claims fast while an old snapshot keeps dead rows.';

create table mrprompt_internal.cancels (
    request_id uuid primary key,
    requested_at timestamptz not null default clock_timestamp()
);
comment on table mrprompt_internal.cancels is 'Wishes to cancel; the contract carries them out and removes them.';

create table mrprompt_internal.pauses (
    provider varchar(50) primary key,
    since timestamptz not null default now(),
    by_role name not null default session_user
);
comment on table mrprompt_internal.pauses is 'Providers whose requests are not claimed; * is all of them.';

create table mrprompt_internal.homes (
    system_identifier bigint not null,
    database_oid oid not null,
    since timestamptz not null default now()
);
comment on table mrprompt_internal.homes is
    'The cluster and database that this data lives in. A copy finds a row that is not its own, and claims nothing until resume_here().';
insert into mrprompt_internal.homes (system_identifier, database_oid)
select mrprompt_internal.system_identifier(), oid from pg_database where datname = current_database();

create table mrprompt_internal.channel_secret (
    only_row boolean primary key default true check (only_row),
    secret uuid not null default gen_random_uuid()
);
comment on table mrprompt_internal.channel_secret is 'Makes the names of notification channels unguessable.';
insert into mrprompt_internal.channel_secret default values;

do $rls$
declare
    name text;
begin
    foreach name in array array['queue', 'fetchers', 'cancels', 'pauses', 'homes', 'channel_secret'] loop
        execute format('alter table mrprompt_internal.%I enable row level security', name);
    end loop;
end
$rls$;

create function mrprompt_internal.is_home() returns boolean
    language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
    select count(*) > 0 and bool_and(h.system_identifier = mrprompt_internal.system_identifier() and h.database_oid = d.oid)
    from mrprompt_internal.homes h, pg_database d where d.datname = current_database();
end;
comment on function mrprompt_internal.is_home() is 'Whether this is the database the data was made in, and no copy of it.';

create function mrprompt_internal.channel_name(subject text) returns text
    language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
    select 'mrprompt_' || left(encode(sha256(convert_to(secret::text || subject, 'UTF8')), 'hex'), 32)
    from mrprompt_internal.channel_secret;
end;
comment on function mrprompt_internal.channel_name(text) is 'The notification channel of a user (his id) or of the fetchers (the word fetchers).';

-- The contract between database and fetcher: hello, heartbeat, and what the calls share. ARCHITECTURE.md has the shapes.

create function mrprompt_internal.contract_settings() returns json
    language sql stable set search_path = pg_catalog, pg_temp
    return json_build_object(
        'max_in_flight', mrprompt_internal.setting('mrprompt.max_in_flight')::int,
        'claim_bytes', mrprompt_internal.setting('mrprompt.claim_bytes')::bigint,
        'delta_ms', mrprompt_internal.setting('mrprompt.delta_interval')::int,
        'heartbeat_ms', mrprompt_internal.setting('mrprompt.heartbeat_interval')::int,
        'poll_ms', mrprompt_internal.setting('mrprompt.poll_interval')::int,
        'max_response_bytes', mrprompt_internal.setting('mrprompt.max_response')::bigint);
comment on function mrprompt_internal.contract_settings() is 'The settings that fetchers obey.';

create function mrprompt_internal.lease() returns interval
    language sql stable set search_path = pg_catalog, pg_temp
    return mrprompt_internal.setting('mrprompt.lease_timeout')::int * interval '1 millisecond';
comment on function mrprompt_internal.lease() is 'How long a silent fetcher counts as alive.';

create function mrprompt_internal.enter(args json) returns mrprompt_internal.fetchers
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    fetcher mrprompt_internal.fetchers;
begin
    select * into fetcher from mrprompt_internal.fetchers f where f.id = (args ->> 'fetcher')::uuid for share;
    if not found then
        raise exception using errcode = 'PT410', message = format('fetcher %s is not known here', args ->> 'fetcher'),
            detail = 'It was silent for longer than mrprompt.lease_timeout, or said goodbye.', hint = 'Say hello again.';
    end if;
    return fetcher;
end
$$;
comment on function mrprompt_internal.enter(json) is
    'The calling fetcher, whose row stays share-locked to the end of the call: while it is, nobody takes its requests away. PT410: unknown.';

create function mrprompt_internal.hello(args json) returns json
    language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '1s'
as $$
declare
    contract constant int := (args ->> 'contract')::int;
    new_id uuid;
begin
    if contract is distinct from 1 then
        raise exception using errcode = 'PT400',
            message = format('this database speaks contract version 1, the fetcher %s', coalesce(contract::text, 'none')),
            detail = format('fetcher: %s', args ->> 'program'),
            hint = 'Install the mrprompt-fetcher that belongs to the extension''s version, or ALTER EXTENSION mrprompt UPDATE.';
    end if;
    insert into mrprompt_internal.fetchers (kind, alone, program, contract, host, pid)
    values (args ->> 'kind', coalesce((args ->> 'alone')::boolean, false), coalesce(args ->> 'program', '?'), contract,
            args ->> 'host', (args ->> 'pid')::int)
    returning id into new_id;
    return json_build_object('fetcher', new_id, 'contract', 1, 'channel', mrprompt_internal.channel_name('fetchers'),
        'settings', mrprompt_internal.contract_settings());
end
$$;
comment on function mrprompt_internal.hello(json) is 'Contract: registers an incarnation of a fetcher. PT400: contract version not served.';

create function mrprompt_internal.heartbeat(args json) returns json
    language plpgsql security definer set search_path = pg_catalog, pg_temp
    set lock_timeout = '1s' set jit = off set enable_seqscan = off set enable_mergejoin = off
as $$
declare
    me constant uuid := (args ->> 'fetcher')::uuid;
    in_flight uuid[];
    attempts int[];
    unlisted uuid[];
    lost uuid[];
begin
    update mrprompt_internal.fetchers f set last_seen = clock_timestamp(), progress = args -> 'progress' where f.id = me;
    if not found then
        perform mrprompt_internal.enter(args);
    end if;
    if (args ->> 'leaving')::boolean then
        perform mrprompt_internal.fetcher_gone(me, false);
        return json_build_object('cancel', '[]'::json, 'lost', '[]'::json, 'alone_waiting', 0,
            'settings', mrprompt_internal.contract_settings());
    end if;
    select array_agg((e ->> 0)::uuid), array_agg((e ->> 1)::int) into in_flight, attempts
    from json_array_elements(args -> 'in_flight') e;
    select array_agg(q.request_id) into unlisted
    from mrprompt_internal.queue q
    where q.fetcher_id = me
      and not exists (select from unnest(in_flight, attempts) l (id, attempt) where l.id = q.request_id and l.attempt = q.attempt);
    if unlisted is not null then
        perform mrprompt_internal.requeue(unlisted, 'lost', false);
    end if;
    select array_agg(l.id) into lost
    from unnest(in_flight, attempts) l (id, attempt)
    where not exists (select from mrprompt_internal.queue q
                      where q.request_id = l.id and q.attempt = l.attempt and q.fetcher_id = me);
    return json_build_object(
        'cancel', mrprompt_internal.cancels_for(me),
        'lost', coalesce(to_json(lost), '[]'),
        'settings', mrprompt_internal.contract_settings(),
        'alone_waiting', mrprompt_internal.alone_waiting());
end
$$;
comment on function mrprompt_internal.heartbeat(json) is
    'Contract: keeps a fetcher alive, queues again what it holds but does not list, answers what to cancel.';

create function mrprompt_internal.cancels_for(fetcher_id uuid) returns json
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    select coalesce(json_agg(c.request_id), '[]')
    from mrprompt_internal.cancels c join mrprompt_internal.queue q on q.request_id = c.request_id
    where q.fetcher_id = cancels_for.fetcher_id;
end;
comment on function mrprompt_internal.cancels_for(uuid) is 'What this fetcher shall cancel; repeated until it has.';

create function mrprompt_internal.alone_waiting() returns integer
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    select count(*)::int from (
        select from mrprompt_internal.queue q
        where q.alone and q.fetcher_id is null and q.ready_at <= clock_timestamp()
          and (q.expires_at is null or q.expires_at > clock_timestamp())
          and not exists (select from mrprompt_internal.pauses p where p.provider in ('*', q.provider))
          and mrprompt_internal.is_home()
        limit 100) waiting;
end;
comment on function mrprompt_internal.alone_waiting() is 'How many requests wait for a fetcher of their own, as claim would hand them out; up to 100.';

-- The contract's claim: takes ready requests for a fetcher, as much as it has room for.

create function mrprompt_internal.claim(
    args json, out body json, out key_ids uuid[], out owners uuid[], out providers text[], out sealed text[])
    language plpgsql security definer set search_path = pg_catalog, pg_temp
    set lock_timeout = '1s' set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    fetcher constant mrprompt_internal.fetchers := mrprompt_internal.enter(args);
    room constant int := case when fetcher.alone then 1 else least((args ->> 'room')::int, 10000) end;
    max_bytes constant bigint := (args ->> 'bytes')::bigint;
    moment constant timestamptz := clock_timestamp();
    -- What committed late may be ready below the bound: the whole index is looked at every two seconds.
    full_scan constant boolean := fetcher.scanned_at < moment - interval '2 seconds';
    new_bound timestamptz;
    ids uuid[];
    first_ready timestamptz;
    seen int;
    unusable record;
begin
    body := json_build_object('providers', '[]'::json, 'jobs', '[]'::json, 'next_ms', null,
        'cancel', mrprompt_internal.cancels_for(fetcher.id));
    perform mrprompt_internal.apply_cancels(1000);
    if room < 1 or not mrprompt_internal.is_home()
        or exists (select from mrprompt_internal.pauses p where p.provider = '*') then
        return;
    end if;

    with ready as materialized (
        select q.request_id, q.ready_at, q.bytes
        from mrprompt_internal.queue q join mrprompt.requests r on r.id = q.request_id
        where q.fetcher_id is null
          and q.ready_at >= case when full_scan then '-infinity' else fetcher.claim_from end
          and q.ready_at <= moment
          and q.alone = fetcher.alone
          and (q.expires_at is null or q.expires_at > moment)
          and not exists (select from mrprompt_internal.pauses p where p.provider = q.provider)
        order by q.ready_at, q.request_id
        limit room
        for update of q skip locked for no key update of r skip locked
    ), fitting as (
        select request_id, ready_at, sum(ready.bytes) over (order by ready_at, request_id) - ready.bytes < max_bytes as fits
        from ready
    )
    select array_agg(request_id) filter (where fits), min(ready_at), count(*) into ids, first_ready, seen from fitting;

    -- Nothing is left below the bound only where everything that was ready is taken.
    new_bound := case when seen < room and coalesce(cardinality(ids), 0) = seen then moment - interval '10 seconds'
                      else least(first_ready, moment - interval '10 seconds') end;
    if full_scan or new_bound > fetcher.claim_from + interval '1 second' then
        update mrprompt_internal.fetchers f
        set claim_from = new_bound, scanned_at = case when full_scan then moment else f.scanned_at end
        where f.id = fetcher.id;
    end if;

    if ids is null then
        select json_build_object('providers', '[]'::json, 'jobs', '[]'::json, 'cancel', body -> 'cancel',
            'next_ms', ceil(extract(epoch from least(
                (select min(q.ready_at) from mrprompt_internal.queue q where q.fetcher_id is null and q.ready_at > moment),
                case when not full_scan then fetcher.scanned_at + interval '2 seconds' end) - moment) * 1000))
        into body;
        return;
    end if;

    update mrprompt_internal.queue q
    set fetcher_id = fetcher.id, attempt = q.attempt + 1, claimed_at = moment
    where q.request_id = any (ids);
    update mrprompt.requests r
    set status = 'running', attempts = q.attempt, wait_reason = null, not_before = null,
        started_at = coalesce(r.started_at, moment)
    from mrprompt_internal.queue q
    where q.request_id = any (ids) and r.id = q.request_id;
    insert into mrprompt.deltas (request_id, seq, attempt, event)
    select q.request_id, (q.attempt - 1) * 1000000::bigint, q.attempt, 'restart'
    from mrprompt_internal.queue q join mrprompt.requests r on r.id = q.request_id
    where q.request_id = any (ids) and q.attempt > 1 and r.stream
    on conflict (request_id, seq) do nothing;

    -- What an admin or the owner took away since the call was made ends the request here.
    for unusable in
        select r.id,
            case when p.name is null then 'provider_gone' else 'key_revoked' end as type,
            case when p.name is null then format('provider %s was removed or disabled after the request was made', r.provider)
                 else format('key %s was revoked after the request was made', r.key_id) end as message
        from mrprompt.requests r
        left join mrprompt.providers p on p.name = r.provider and p.enabled
        left join mrprompt.api_keys k on k.id = r.key_id and k.revoked_at is null and k.provider = r.provider
        where r.id = any (ids) and (p.name is null or (r.key_id is not null and k.id is null))
    loop
        perform mrprompt_internal.finish(array[unusable.id], 'failed', unusable.type, unusable.message);
        ids := array_remove(ids, unusable.id);
    end loop;

    select array_agg(k.id order by k.id), array_agg(k.user_id order by k.id),
        array_agg(k.provider::text order by k.id), array_agg(k.encrypted_key order by k.id)
    into key_ids, owners, providers, sealed
    from mrprompt.api_keys k
    where k.id in (select r.key_id from mrprompt.requests r where r.id = any (ids));

    -- Best effort: a row that somebody holds is left as it is.
    update mrprompt.api_keys k set last_used = moment
    where k.id in (select l.id from mrprompt.api_keys l
                   where l.id = any (key_ids) and (l.last_used is null or l.last_used < moment - interval '1 minute')
                   for no key update skip locked);

    with used as materialized (
        select p.name, row_number() over (order by p.name) - 1 as place, json_build_object(
                'name', p.name, 'protocol', p.protocol, 'base_url', p.base_url, 'path', p.path, 'auth', p.auth,
                'headers', p.headers, 'stream_usage', p.stream_usage, 'ca_file', p.ca_file,
                'connect_timeout_ms', p.connect_timeout_ms, 'first_byte_timeout_ms', p.first_byte_timeout_ms,
                'idle_timeout_ms', p.idle_timeout_ms, 'total_timeout_ms', p.total_timeout_ms) as shape
        from mrprompt.providers p
        where p.name in (select r.provider from mrprompt.requests r where r.id = any (ids))
    )
    select json_build_object(
        'providers', (select coalesce(json_agg(u.shape order by u.place), '[]') from used u),
        'jobs', coalesce(json_agg(json_build_object(
            'request', r.id, 'attempt', q.attempt, 'failures', r.failures, 'provider', u.place,
            'key', array_position(key_ids, r.key_id) - 1, 'model', r.model, 'stream', r.stream, 'payload', r.payload)
            order by q.ready_at, r.id), '[]'),
        'cancel', body -> 'cancel',
        'next_ms', null)
    into body
    from mrprompt.requests r
    join mrprompt_internal.queue q on q.request_id = r.id
    join used u on u.name = r.provider
    where r.id = any (ids);
end
$$;
comment on function mrprompt_internal.claim(json) is
    'Contract: takes up to room ready requests of up to so many bytes; keys come sealed, beside the JSON.';

-- The contract's append: stream deltas of many requests, stored as they arrive.

create function mrprompt_internal.append(args json) returns json
    language plpgsql security definer set search_path = pg_catalog, pg_temp
    set lock_timeout = '1s' set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    fetcher constant mrprompt_internal.fetchers := mrprompt_internal.enter(args);
    rejected json;
    lost uuid[];
begin
    rejected := mrprompt_internal.append_slice(fetcher.id,
        array(select json_array_elements(args -> 'deltas')));
    select array_agg(distinct d.request) into lost
    from json_to_recordset(args -> 'deltas') as d (request uuid, attempt int)
    where not exists (select from mrprompt_internal.queue q
                      where q.request_id = d.request and q.attempt = d.attempt and q.fetcher_id = fetcher.id);
    return json_build_object('lost', coalesce(to_json(lost), '[]'), 'rejected', coalesce(rejected, '[]'));
end
$$;
comment on function mrprompt_internal.append(json) is 'Contract: stores coalesced stream deltas of many requests.';

create function mrprompt_internal.append_slice(fetcher_id uuid, deltas json[]) returns json
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    half constant int := cardinality(deltas) / 2;
    ids uuid[];
    left_ json;
    right_ json;
begin
    with d as materialized (
        select * from json_to_recordset(array_to_json(deltas)) as d (
            request uuid, attempt int, seq bigint, content text, reasoning text, refusal text, tool_calls json)
    ), stored as (
        insert into mrprompt.deltas
            (request_id, seq, attempt, content, reasoning, refusal, tool_calls)
        select d.request, (d.attempt - 1) * 1000000::bigint + d.seq, d.attempt, d.content, d.reasoning, d.refusal, d.tool_calls
        from d join mrprompt_internal.queue q
            on q.request_id = d.request and q.attempt = d.attempt and q.fetcher_id is not distinct from append_slice.fetcher_id
        where d.seq between 1 and 999999
        on conflict (request_id, seq) do nothing
        returning request_id
    )
    select array_agg(distinct request_id) into ids from stored;
    perform mrprompt_internal.note_changes(ids);
    return null;
exception when data_exception or integrity_constraint_violation or program_limit_exceeded then
    if cardinality(deltas) = 1 then
        return json_build_array(json_build_object('request', deltas[1] ->> 'request', 'sqlstate', sqlstate, 'message', sqlerrm));
    end if;
    left_ := mrprompt_internal.append_slice(append_slice.fetcher_id, deltas[:half]);
    right_ := mrprompt_internal.append_slice(append_slice.fetcher_id, deltas[half + 1:]);
    return (select json_agg(e) from (
        select json_array_elements(left_) as e union all select json_array_elements(right_)) both_);
end
$$;
comment on function mrprompt_internal.append_slice(uuid, json[]) is
    'Stores some deltas; where the whole does not go in, its halves are tried, so that a bad one fails alone. Answers the bad ones.';

-- The contract's settle: the outcome of an attempt, its answer, its ledger row and the request's next state, in one commit.

create function mrprompt_internal.price_at(provider text, model text, answered_by text, moment timestamptz)
    returns table (input numeric, output numeric, cached numeric, cache_write numeric)
    language sql stable
begin atomic
    select p.input, p.output, coalesce(p.cached, p.input), coalesce(p.cache_write, p.input)
    from (
        select 1 as place, r.model, r.effective_from, r.input, r.output, r.cached, r.cache_write
        from mrprompt_internal.price_rows r
        where r.provider = price_at.provider and r.model in (price_at.model, answered_by) and r.effective_from <= moment
        union all
        select 2, r.model, r.effective_from, r.input, r.output, r.cached, r.cache_write
        from mrprompt_internal.price_presets r
        where r.provider = price_at.provider and r.model in (price_at.model, answered_by) and r.effective_from <= moment
    ) p
    order by p.model = price_at.model desc, p.place, p.effective_from desc
    limit 1;
end;
comment on function mrprompt_internal.price_at(text, text, text, timestamptz) is
    'The price in force: of the model asked for, else of the model that answered; no row where neither has one.';

create function mrprompt_internal.settle(args json) returns json
    language plpgsql security definer set search_path = pg_catalog, pg_temp
    set lock_timeout = '1s' set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    fetcher constant mrprompt_internal.fetchers := mrprompt_internal.enter(args);
begin
    return mrprompt_internal.settle_slice(fetcher.id, args -> 'outcomes');
end
$$;
comment on function mrprompt_internal.settle(json) is
    'Contract: ends attempts, each exactly once. Answers which were busy (send again), stale (changed nothing), rejected.';

create function mrprompt_internal.settle_slice(fetcher_id uuid, outcomes json) returns json
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    half constant int := json_array_length(outcomes) / 2;
    first_half json;
    second_half json;
    bad_id uuid;
begin
    return mrprompt_internal.settle_items(fetcher_id, outcomes);
exception when data_exception or integrity_constraint_violation or program_limit_exceeded then
    if json_array_length(outcomes) = 1 then
        bad_id := (outcomes -> 0 ->> 'request')::uuid;
        -- The attempt has ended, whatever its outcome looks like: say so, and keep the others going.
        perform mrprompt_internal.settle_items(fetcher_id, json_build_array(json_build_object(
            'request', bad_id, 'attempt', outcomes -> 0 -> 'attempt', 'result', 'failed', 'error', json_build_object(
                'type', 'rejected_by_database', 'message', format('the answer could not be stored: %s (%s)', sqlerrm, sqlstate)))));
        return json_build_object('busy', '[]'::json, 'stale', '[]'::json, 'rejected', json_build_array(
            json_build_object('request', bad_id, 'sqlstate', sqlstate, 'message', sqlerrm)));
    end if;
    first_half := mrprompt_internal.settle_slice(fetcher_id,
        (select json_agg(o) from (select o from json_array_elements(outcomes) with ordinality e (o, n) where n <= half) s));
    second_half := mrprompt_internal.settle_slice(fetcher_id,
        (select json_agg(o) from (select o from json_array_elements(outcomes) with ordinality e (o, n) where n > half) s));
    return (select json_object_agg(word, (
                select coalesce(json_agg(e), '[]') from (
                    select json_array_elements(first_half -> word) as e
                    union all select json_array_elements(second_half -> word)) both_))
            from unnest(array['busy', 'stale', 'rejected']) word);
end
$$;
comment on function mrprompt_internal.settle_slice(uuid, json) is
    'Settles some outcomes; where the whole does not go in, its halves are tried, so that a bad one fails alone.';

create function mrprompt_internal.settle_items(fetcher_id uuid, outcomes json) returns json
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    moment constant timestamptz := clock_timestamp();
    max_failures constant int := mrprompt_internal.setting('mrprompt.max_failures')::int;
    settled uuid[];
    busy json;
    stale json;
begin
    with o as materialized (
        select * from json_to_recordset(outcomes) as o (
            request uuid, attempt int, result text, deltas json, response json, usage json, raw_usage jsonb,
            provider_request_id text, http_status int, first_token_ms int, total_ms int, error json,
            retry_after_ms bigint, counts_as_failure boolean)
    ), ended as materialized (
        -- A row that somebody else holds is not waited for: the fetcher sends it again.
        select o.*, r.user_id, r.provider, r.model, r.key_id, r.agent_name, r.stream,
            r.failures + coalesce(o.counts_as_failure and o.result = 'retry', false)::int as failures_now,
            u.prompt_tokens, u.completion_tokens, u.cached_tokens, u.cache_write_tokens, u.reasoning_tokens,
            a.content, a.tool_calls, a.refusal, a.reasoning, a.finish_reason, a.model as answered_by,
            a.provider_response_id, a.raw,
            o.error ->> 'type' as error_type, (o.error ->> 'status')::int as error_status, o.error ->> 'message' as error_message,
            case when o.result <> 'retry' then o.result
                 when exists (select from mrprompt_internal.cancels c where c.request_id = o.request) then 'cancelled'
                 when r.failures + coalesce(o.counts_as_failure, false)::int >= max_failures then 'failed'
                 when q.expires_at <= moment + coalesce(o.retry_after_ms, 0) * interval '1 ms' then 'expired'
                 else 'queued' end as status_now
        from o
        join mrprompt_internal.queue q on q.request_id = o.request
        join mrprompt.requests r on r.id = o.request
        left join lateral json_to_record(o.usage) as u (
            prompt_tokens bigint, completion_tokens bigint, cached_tokens bigint, cache_write_tokens bigint,
            reasoning_tokens bigint) on true
        left join lateral json_to_record(o.response) as a (
            content text, tool_calls json, refusal text, reasoning text, finish_reason text, model text,
            provider_response_id text, raw json) on true
        where q.attempt = o.attempt and q.fetcher_id is not distinct from settle_items.fetcher_id  -- by its key, not by the claims' index
        order by o.request
        for update of q skip locked for no key update of r skip locked
    ), tail as (
        insert into mrprompt.deltas (request_id, seq, attempt, content, reasoning, refusal, tool_calls)
        select e.request, (e.attempt - 1) * 1000000::bigint + d.seq, e.attempt, d.content, d.reasoning, d.refusal, d.tool_calls
        from ended e, json_to_recordset(e.deltas) as d (
            seq bigint, content text, reasoning text, refusal text, tool_calls json)
        where e.stream and d.seq between 1 and 999999
        on conflict (request_id, seq) do nothing
    ), answer as (
        insert into mrprompt.responses (request_id, attempt, content, tool_calls, refusal, reasoning, finish_reason, model,
            provider_response_id, raw_usage, raw)
        select e.request, e.attempt, e.content, e.tool_calls, e.refusal, e.reasoning, e.finish_reason, e.answered_by,
            e.provider_response_id, e.raw_usage, e.raw
        from ended e
        where e.status_now <> 'queued' and json_typeof(e.response) = 'object'
        on conflict (request_id) do nothing
    ), ledger as (
        insert into mrprompt.usage (request_id, attempt, slot, user_id, provider, model, key_id, agent_name, outcome,
            prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens, reasoning_tokens, cost, price_known,
            first_token_ms, total_ms, http_status, error_type, provider_request_id)
        select e.request, e.attempt, mrprompt_internal.slot_of(e.request), e.user_id, e.provider, e.model, e.key_id, e.agent_name,
            case e.result when 'succeeded' then 'succeeded' when 'cancelled' then 'cancelled' else 'failed' end,
            e.prompt_tokens, e.completion_tokens, e.cached_tokens, e.cache_write_tokens, e.reasoning_tokens,
            case
                when e.prompt_tokens is null then
                    -- Refused by the provider, or never sent: nothing was charged. Otherwise nobody knows.
                    case when e.http_status >= 400
                        or e.error_type in ('connect_failed', 'tls_failed', 'connect_timeout', 'url_refused') then 0 end
                else greatest(e.prompt_tokens - coalesce(e.cached_tokens, 0) - coalesce(e.cache_write_tokens, 0), 0) * p.input
                    + coalesce(e.cached_tokens, 0) * p.cached + coalesce(e.cache_write_tokens, 0) * p.cache_write
                    + coalesce(e.completion_tokens, 0) * p.output
            end,
            p.input is not null, e.first_token_ms, e.total_ms, e.http_status, e.error_type, e.provider_request_id
        from ended e
        left join lateral mrprompt_internal.price_at(e.provider, e.model, e.answered_by, moment) p on true
        on conflict (request_id, attempt, slot) do nothing
    ), state as (
        update mrprompt.requests r
        set status = e.status_now,
            failures = e.failures_now,
            wait_reason = case when e.status_now = 'queued' then concat_ws(': ', 'retry after ' || e.error_type, e.error_message) end,
            not_before = case when e.status_now = 'queued' then moment + coalesce(e.retry_after_ms, 0) * interval '1 ms' end,
            finished_at = case when e.status_now <> 'queued' then moment end,
            error_status = e.error_status, error_type = e.error_type, error_message = e.error_message
        from ended e where r.id = e.request
    ), waits as (
        update mrprompt_internal.queue q
        set fetcher_id = null, claimed_at = null, ready_at = moment + coalesce(e.retry_after_ms, 0) * interval '1 ms'
        from ended e where q.request_id = e.request and e.status_now = 'queued'
    ), leaves as (
        delete from mrprompt_internal.queue q using ended e where q.request_id = e.request and e.status_now <> 'queued'
    )
    select array_agg(request) into settled from ended;
    if coalesce(cardinality(settled), 0) < json_array_length(outcomes) then
        select json_agg(o.request) filter (where q.request_id is not null), json_agg(o.request) filter (where q.request_id is null)
        into busy, stale
        from json_to_recordset(outcomes) as o (request uuid, attempt int)
        left join mrprompt_internal.queue q
            on q.request_id = o.request and q.attempt = o.attempt and q.fetcher_id = settle_items.fetcher_id
        where settled is null or o.request <> all (settled);
    end if;
    perform mrprompt_internal.note_changes(settled);
    return json_build_object('busy', coalesce(busy, '[]'), 'stale', coalesce(stale, '[]'), 'rejected', '[]'::json);
end
$$;
comment on function mrprompt_internal.settle_items(uuid, json) is 'Settles outcomes that are this fetcher''s; one statement, all or nothing.';

-- Housekeeping of the contract: dead fetchers, cancels of waiting requests, expiry, pruning; and the notifications.

create function mrprompt_internal.finish(ids uuid[], status text, error_type text, error_message text) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    delete from mrprompt_internal.queue q where q.request_id = any (ids);
    update mrprompt.requests r
    set status = finish.status, finished_at = clock_timestamp(), wait_reason = null, not_before = null,
        error_type = finish.error_type, error_message = finish.error_message
    where r.id = any (ids);
    perform mrprompt_internal.note_changes(ids);
end
$$;
comment on function mrprompt_internal.finish(uuid[], text, text, text) is 'Ends requests that no fetcher has in flight, or whose attempt has its ledger row.';

create function mrprompt_internal.requeue(ids uuid[], outcome text, died boolean) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    crashed uuid[];
begin
    insert into mrprompt.usage (request_id, attempt, slot, user_id, provider, model, key_id, agent_name, outcome,
        cost, price_known, error_type)
    select q.request_id, q.attempt, mrprompt_internal.slot_of(q.request_id), r.user_id, r.provider, r.model, r.key_id,
        r.agent_name, requeue.outcome, case when requeue.outcome = 'lost' then 0 end,
        exists (select from mrprompt_internal.price_at(r.provider, r.model, null, clock_timestamp())), 'fetcher_lost'
    from mrprompt_internal.queue q join mrprompt.requests r on r.id = q.request_id
    where q.request_id = any (ids)
    on conflict (request_id, attempt, slot) do nothing;
    update mrprompt_internal.queue q
    set fetcher_id = null, claimed_at = null, ready_at = clock_timestamp(),
        deaths = q.deaths + died::int, alone = q.deaths + died::int >= 2
    where q.request_id = any (ids);
    update mrprompt.requests r set status = 'queued', wait_reason = 'its fetcher was lost'
    where r.id = any (ids);
    select array_agg(q.request_id) into crashed
    from mrprompt_internal.queue q where q.request_id = any (ids) and q.deaths >= 3;
    if crashed is not null then
        perform mrprompt_internal.finish(crashed, 'failed', 'fetcher_crashed',
            'three fetchers have died with this request in flight, the last one with nothing else');
    end if;
    perform mrprompt_internal.note_changes(ids);
end
$$;
comment on function mrprompt_internal.requeue(uuid[], text, boolean) is
    'Takes requests back from a fetcher: the lost attempt gets its ledger row (unknown or lost), the request its place in the queue.';

create function mrprompt_internal.fetcher_gone(fetcher uuid, crashed boolean) returns integer
    language plpgsql security definer set search_path = pg_catalog, pg_temp
    set lock_timeout = '1s' set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    ids uuid[];
begin
    perform from mrprompt_internal.fetchers f where f.id = fetcher for update;
    select array_agg(l.request_id) into ids from (
        select q.request_id from mrprompt_internal.queue q where q.fetcher_id = fetcher order by 1 for update) l;
    if ids is not null then
        perform mrprompt_internal.requeue(ids, 'unknown', crashed);
    end if;
    delete from mrprompt_internal.fetchers f where f.id = fetcher;
    return coalesce(cardinality(ids), 0);
end
$$;
comment on function mrprompt_internal.fetcher_gone(uuid, boolean) is
    'Ends a fetcher''s lease and queues again what it had in flight; answers how many. crashed counts towards isolation.';

create function mrprompt_internal.local_fetchers_gone() returns integer
    language sql security definer set search_path = pg_catalog, pg_temp
begin atomic
    select coalesce(sum(mrprompt_internal.fetcher_gone(f.id, false)), 0)::int
    from mrprompt_internal.fetchers f where f.kind = 'child';
end;
comment on function mrprompt_internal.local_fetchers_gone() is 'For a supervisor that starts: no child of an earlier one is alive.';

create function mrprompt_internal.apply_cancels(max_rows integer) returns integer
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    ids uuid[];
begin
    if not exists (select from mrprompt_internal.cancels) then
        return 0;
    end if;
    select array_agg(l.request_id) into ids from (
        select q.request_id
        from mrprompt_internal.cancels c
        join mrprompt_internal.queue q on q.request_id = c.request_id
        join mrprompt.requests r on r.id = q.request_id
        where q.fetcher_id is null
        order by 1 limit max_rows for update of q skip locked for no key update of r skip locked) l;
    if ids is not null then
        perform mrprompt_internal.finish(ids, 'cancelled', null, null);
    end if;
    delete from mrprompt_internal.cancels c
    where c.request_id in (
        select d.request_id from mrprompt_internal.cancels d
        where not exists (select from mrprompt_internal.queue q where q.request_id = d.request_id)
        limit max_rows for update skip locked);
    return coalesce(cardinality(ids), 0);
end
$$;
comment on function mrprompt_internal.apply_cancels(integer) is 'Ends waiting requests that somebody wishes to cancel, and forgets wishes that are fulfilled.';

create function mrprompt_internal.tend(args json) returns json
    language plpgsql security definer set search_path = pg_catalog, pg_temp
    set lock_timeout = '1s' set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    max_rows constant int := least(coalesce((args ->> 'limit')::int, 1000), 10000);
    did int := 0;
    part int;
    dead uuid;
    ids uuid[];
    prune_before constant uuid := mrprompt_internal.uuid_at(
        clock_timestamp() - mrprompt_internal.setting('mrprompt.delta_retention')::int * interval '1 second');
begin
    if not mrprompt_internal.is_home() then
        return json_build_object('did', 0);
    end if;
    -- Nobody can have been heard while the server was down: after a start everybody has a lease's time to come back.
    for dead in
        select f.id from mrprompt_internal.fetchers f
        where greatest(f.last_seen, pg_postmaster_start_time()) < clock_timestamp() - mrprompt_internal.lease() order by f.id limit 10 for update skip locked
    loop
        did := did + mrprompt_internal.fetcher_gone(dead, true);
    end loop;

    -- Claims of fetchers that are not known here at all: a restored queue.
    select array_agg(l.request_id) into ids from (
        select q.request_id from mrprompt_internal.queue q
        where q.fetcher_id is not null
          and not exists (select from mrprompt_internal.fetchers f where f.id = q.fetcher_id)
        order by 1 limit max_rows for update skip locked) l;
    if ids is not null then
        perform mrprompt_internal.requeue(ids, 'unknown', false);
        did := did + cardinality(ids);
    end if;

    did := did + mrprompt_internal.apply_cancels(max_rows);

    select array_agg(l.request_id) into ids from (
        select q.request_id from mrprompt_internal.queue q join mrprompt.requests r on r.id = q.request_id
        where q.fetcher_id is null and q.expires_at <= clock_timestamp()
        order by 1 limit max_rows for update of q skip locked for no key update of r skip locked) l;
    if ids is not null then
        perform mrprompt_internal.finish(ids, 'expired', 'expired', 'the request''s expires_at passed before it was answered');
        did := did + cardinality(ids);
    end if;

    -- Somebody deleted the request: what is left of it would be looked at for ever.
    delete from mrprompt_internal.queue q
    where q.request_id in (
        select o.request_id
        from (select f.request_id from mrprompt_internal.queue f where f.fetcher_id is null
              order by f.ready_at, f.request_id limit max_rows) o
        where not exists (select from mrprompt.requests r where r.id = o.request_id));
    get diagnostics part = row_count;
    did := did + part;

    -- A stream goes whole, so that no reader meets half of one.
    delete from mrprompt.deltas d
    where d.request_id in (
        select o.request_id from mrprompt.deltas o
        where o.request_id < prune_before
          and not exists (select from mrprompt_internal.queue q where q.request_id = o.request_id)
        group by o.request_id order by o.request_id limit greatest(max_rows / 10, 1));
    get diagnostics part = row_count;
    return json_build_object('did', did + part);
end
$$;
comment on function mrprompt_internal.tend(json) is
    'Contract: bounded housekeeping; called by supervisors and fetchers alike. Answers how many rows it touched.';

create function mrprompt_internal.supervisor_state(
    out has_work boolean, out ready boolean, out next_ready_at timestamptz, out alone_waiting integer,
    out remote_fetchers integer)
    language sql volatile security definer set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off
begin atomic
    select exists (select from mrprompt_internal.queue) and mrprompt_internal.is_home(),
        next_.ready_at <= clock_timestamp(),
        next_.ready_at,
        mrprompt_internal.alone_waiting(),
        (select count(*)::int from mrprompt_internal.fetchers f where f.kind = 'libpq')
    from (select min(q.ready_at) as ready_at from mrprompt_internal.queue q where q.fetcher_id is null) next_;
end;
comment on function mrprompt_internal.supervisor_state() is 'What a supervisor needs to know to decide who must run.';

create function mrprompt_internal.notify_changes() returns integer
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    ids constant uuid[] := mrprompt_internal.take_changes();
begin
    if ids is null then
        return 0;
    end if;
    perform pg_notify(c.channel, r.id::text)
    from (select distinct r.user_id from mrprompt.requests r where r.id = any (ids)) u
    cross join lateral (select mrprompt_internal.channel_name(u.user_id::text) as channel) c
    join mrprompt.requests r on r.user_id = u.user_id and r.id = any (ids);
    return cardinality(ids);
end
$$;
comment on function mrprompt_internal.notify_changes() is
    'Sends one notification per changed request to its user''s channel; in a transaction of its own, as NOTIFY serialises committers.';

create function mrprompt_internal.notify_fetchers() returns void
    language sql security definer set search_path = pg_catalog, pg_temp
begin atomic
    select pg_notify(mrprompt_internal.channel_name('fetchers'), '');
end;
comment on function mrprompt_internal.notify_fetchers() is 'Wakes the fetchers that listen over libpq.';

-- Asking: chat(), chat_text() and ask(), over enqueue, which checks everything and writes the rows.

create function mrprompt_internal.check_messages(messages json) returns void
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    bad record;
begin
    if messages is null or json_typeof(messages) <> 'array' or json_array_length(messages) = 0 then
        raise exception using errcode = 'PT400', message = 'messages must be a non-empty JSON array',
            detail = format('it is %s', coalesce(json_typeof(messages), 'null')),
            hint = '[{"role": "user", "content": "Hello"}]';
    end if;
    select n - 1 as place, problem into bad
    from json_array_elements(messages) with ordinality m (message, n)
    cross join lateral (
        select case
            when json_typeof(message) <> 'object' then 'is no object'
            when message ->> 'role' is null then 'has no role'
            when message ->> 'role' not in ('system', 'developer', 'user', 'assistant', 'tool', 'function')
                then format('has the unknown role %s', left(message ->> 'role', 50))
            when coalesce(json_typeof(message -> 'content'), 'null') not in ('string', 'array', 'null')
                then 'has a content that is neither a string nor an array of parts'
            when message ->> 'content' is null and message ->> 'role' <> 'assistant' then 'has no content'
            when message ->> 'content' is null and message -> 'tool_calls' is null
                 and message -> 'function_call' is null and message ->> 'refusal' is null
                then 'has neither content nor tool_calls'
            when message ->> 'role' = 'tool' and message ->> 'tool_call_id' is null then 'is a tool message without tool_call_id'
            when coalesce(json_typeof(message -> 'tool_calls'), 'array') <> 'array' then 'has tool_calls that are no array'
            when json_typeof(message -> 'content') = 'array' and exists (
                select from json_array_elements(message -> 'content') part
                where json_typeof(part) <> 'object' or part ->> 'type' is null)
                then 'has a content part without a type'
            end as problem) checked
    where problem is not null
    limit 1;
    if found then
        raise exception using errcode = 'PT400', message = format('messages[%s] %s', bad.place, bad.problem),
            hint = 'Messages are in OpenAI''s chat format: role, content, tool_calls, tool_call_id.';
    end if;
end
$$;
comment on function mrprompt_internal.check_messages(json) is 'PT400 unless the messages are in OpenAI''s chat format.';

create function mrprompt_internal.chat_payload(
    messages json, tools json, tool_choice json, response_format json, temperature double precision, top_p double precision,
    max_tokens integer, stop json, seed bigint, parameters json) returns json
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    clash text;
    more text;
begin
    if json_typeof(parameters) <> 'object' then
        raise exception using errcode = 'PT400', message = 'parameters must be a JSON object',
            detail = format('it is %s', json_typeof(parameters)), hint = '{"presence_penalty": 0.5}';
    end if;
    if json_typeof(tools) <> 'array' then
        raise exception using errcode = 'PT400', message = 'tools must be a JSON array', detail = format('it is %s', json_typeof(tools));
    end if;
    if 'NaN' in (temperature, top_p) or 'Infinity' in (abs(temperature), abs(top_p)) then
        raise exception using errcode = 'PT400', message = 'temperature and top_p must be finite numbers',
            detail = format('temperature is %s, top_p is %s', temperature, top_p);
    end if;
    select string_agg(k, ', ') into clash from json_object_keys(parameters) k
    where k in ('model', 'messages', 'stream')
       or (k = 'tools' and tools is not null) or (k = 'tool_choice' and tool_choice is not null)
       or (k = 'response_format' and response_format is not null) or (k = 'temperature' and temperature is not null)
       or (k = 'top_p' and top_p is not null) or (k = 'max_tokens' and max_tokens is not null)
       or (k = 'stop' and stop is not null) or (k = 'seed' and seed is not null);
    if clash is not null then
        raise exception using errcode = 'PT400', message = format('parameters repeats what is given otherwise: %s', clash),
            hint = 'Say each once: as an argument of its own where there is one.';
    end if;
    more := nullif(btrim(substring(btrim(parameters::text, E' \t\r\n') from '^\{(.*)\}$'), E' \t\r\n'), '');
    -- Put together as text, so that every value stays byte for byte what the caller wrote.
    return ('{' || concat_ws(',',
        '"messages":' || messages, '"tools":' || tools, '"tool_choice":' || tool_choice, '"response_format":' || response_format,
        '"temperature":' || temperature, '"top_p":' || top_p, '"max_tokens":' || max_tokens, '"stop":' || stop,
        '"seed":' || seed, more) || '}')::json;
end
$$;
comment on function mrprompt_internal.chat_payload(json, json, json, json, double precision, double precision, integer, json, bigint, json) is
    'The OpenAI chat payload, without model and stream. PT400: a parameter said twice.';

create function mrprompt_internal.pick_key(acting uuid, key_id uuid, provider text) returns mrprompt.api_keys
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    found_key mrprompt.api_keys;
begin
    if key_id is not null then
        select * into found_key from mrprompt.api_keys k
        where k.id = pick_key.key_id and (k.user_id = acting or (k.user_id is null and exists (
            select from mrprompt.key_grants g where g.key_id = k.id and (g.user_id is null or g.user_id = acting))));
        if not found then
            raise exception using errcode = 'PT404', message = format('there is no key %s that you may use', key_id),
                hint = 'select * from mrprompt.list_keys()';
        end if;
        if found_key.revoked_at is not null then
            raise exception using errcode = 'PT400', message = format('key %s (%s) was revoked', key_id, found_key.masked_key),
                detail = format('revoked at %s', found_key.revoked_at), hint = 'Add a new key, or name another one.';
        end if;
        if provider is not null and provider <> found_key.provider then
            raise exception using errcode = 'PT400',
                message = format('key %s belongs to provider %s, not %s', key_id, found_key.provider, provider),
                hint = 'A key travels only to its own provider. Leave provider out, or name another key.';
        end if;
        return found_key;
    end if;
    select k.* into found_key from mrprompt.api_keys k
    where k.provider = pick_key.provider and k.revoked_at is null and (k.user_id = acting or (k.user_id is null and exists (
        select from mrprompt.key_grants g where g.key_id = k.id and (g.user_id is null or g.user_id = acting))))
    order by k.user_id is null, k.created_at desc, k.id desc
    limit 1;
    return found_key;
end
$$;
comment on function mrprompt_internal.pick_key(uuid, uuid, text) is
    'The key to use: the one named, else the user''s newest own for the provider, else a shared one granted to him; or null.';

create function mrprompt_internal.enqueue(
    body json, model text, provider text, key_id uuid, stream boolean, metadata jsonb, once_key text,
    for_user uuid, expires_at timestamptz) returns uuid
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    acting constant uuid := mrprompt_internal.acting_user(for_user);
    size constant int := octet_length(body::text);
    max_size constant int := mrprompt_internal.setting('mrprompt.max_payload')::int;
    key mrprompt.api_keys;
    place mrprompt.providers;
    provider_name text := coalesce(provider, nullif(mrprompt_internal.setting('mrprompt.default_provider'), ''));
    model_name text := nullif(model, '');
    new_id constant uuid := mrprompt_internal.uuidv7();
    earlier record;
begin
    if size > max_size then
        raise exception using errcode = 'PT413', message = format('the payload has %s bytes, at most %s are allowed', size, max_size),
            hint = 'Send less, or have the DBA raise mrprompt.max_payload.';
    end if;
    if mrprompt_internal.json_shape_problem(body) is not null then
        raise exception using errcode = 'PT400', message = 'the payload cannot be sent: ' || mrprompt_internal.json_shape_problem(body),
            hint = 'Send less deeply nested or smaller objects.';
    end if;
    if json_typeof(body) is distinct from 'object' then
        raise exception using errcode = 'PT400', message = 'the payload must be a JSON object';
    end if;
    if exists (select from json_object_keys(body) k where k in ('model', 'stream')) then
        raise exception using errcode = 'PT400', message = 'the payload must name neither model nor stream',
            hint = 'They are arguments of their own.';
    end if;
    perform mrprompt_internal.check_messages(body -> 'messages');
    if jsonb_typeof(metadata) <> 'object' then
        raise exception using errcode = 'PT400', message = 'metadata must be a JSON object', detail = format('it is %s', jsonb_typeof(metadata));
    end if;
    if once_key = '' or length(once_key) > 255 then
        raise exception using errcode = 'PT400', message = 'idempotency_key must have 1 to 255 characters',
            detail = format('it has %s', length(once_key));
    end if;
    if expires_at <= clock_timestamp() then
        raise exception using errcode = 'PT400', message = format('expires_at %s is in the past', expires_at);
    end if;

    if key_id is not null then
        key := mrprompt_internal.pick_key(acting, key_id, provider);
        provider_name := key.provider;
    elsif provider_name is null then
        select min(k.provider) into provider_name from mrprompt.api_keys k
        where k.revoked_at is null and (k.user_id = acting or (k.user_id is null and exists (
            select from mrprompt.key_grants g where g.key_id = k.id and (g.user_id is null or g.user_id = acting))))
        having count(distinct k.provider) = 1;
        if provider_name is null then
            raise exception using errcode = 'PT400', message = 'which provider? None is named, and your keys do not tell',
                hint = 'Pass provider or key_id, or set mrprompt.default_provider.';
        end if;
    end if;
    select * into place from mrprompt.providers p where p.name = provider_name;
    if not found or not place.enabled then
        raise exception using errcode = 'PT400',
            message = format(case when place.enabled is null then 'there is no provider %s' else 'provider %s is disabled' end, left(provider_name, 100)),
            detail = (select 'Known: ' || string_agg(p.name, ', ' order by p.name) from mrprompt.providers p where p.enabled),
            hint = 'An admin adds one by insert into mrprompt.providers (name, protocol, base_url) values (…).';
    end if;
    if key.id is null then
        key := mrprompt_internal.pick_key(acting, null, provider_name);
    end if;
    if key.id is null and place.key_required then
        raise exception using errcode = 'PT400', message = format('there is no key for provider %s', provider_name),
            hint = format('select mrprompt.add_key(%L, …), or have an admin share one with you.', provider_name);
    end if;

    model_name := coalesce(model_name, key.metadata ->> 'endpoint_id', key.metadata ->> 'model', place.default_model);
    if model_name is null then
        raise exception using errcode = 'PT400', message = format('which model? Provider %s has no default', provider_name),
            hint = 'Pass model, or put endpoint_id or model into the key''s metadata.';
    end if;
    if length(model_name) > 256 or model_name ~ '[[:cntrl:]]' then
        raise exception using errcode = 'PT400', message = 'the model name is longer than 256 characters or has control characters';
    end if;
    if place.models is not null and model_name <> all (place.models) then
        raise exception using errcode = 'PT400', message = format('provider %s does not offer model %s', provider_name, left(model_name, 100)),
            detail = 'It lists: ' || array_to_string(place.models, ', '),
            hint = 'An admin changes the list in mrprompt.providers.models.';
    end if;

    insert into mrprompt.requests
        (id, user_id, provider, model, key_id, agent_name, stream, payload, metadata, idempotency_key, expires_at)
    values (new_id, acting, provider_name, model_name, key.id, key.metadata ->> 'agent_name', coalesce(stream, false),
        body, coalesce(metadata, '{}'), once_key, expires_at)
    on conflict (user_id, idempotency_key) where (idempotency_key is not null) do nothing;
    if not found then
        select r.id, r.payload::text = body::text and r.model = model_name and r.provider = provider_name
            and r.stream = coalesce(enqueue.stream, false) and (enqueue.key_id is null or r.key_id = enqueue.key_id) as same
        into earlier
        from mrprompt.requests r where r.user_id = acting and r.idempotency_key = once_key;
        if earlier.id is null then
            raise exception using errcode = 'serialization_failure',
                message = 'another transaction has just used this idempotency_key', hint = 'Try again in a new transaction.';
        end if;
        if not earlier.same then
            raise exception using errcode = 'PT409',
                message = format('idempotency_key %s was used for another request', once_key),
                detail = format('request %s', earlier.id), hint = 'Use a new key for a new request.';
        end if;
        return earlier.id;
    end if;
    insert into mrprompt_internal.queue (request_id, provider, bytes, expires_at) values (new_id, provider_name, size, expires_at);
    perform mrprompt_internal.wake(mrprompt_internal.channel_name('fetchers'));
    return new_id;
end
$$;
comment on function mrprompt_internal.enqueue(json, text, text, uuid, boolean, jsonb, text, uuid, timestamptz) is
    'Checks a chat request and queues it; answers its id. Nothing is queued on an error.';

create function mrprompt.chat(
    messages json, model text default null, provider text default null, key_id uuid default null,
    tools json default null, tool_choice json default null, response_format json default null,
    temperature double precision default null, top_p double precision default null, max_tokens integer default null,
    stop json default null, seed bigint default null, parameters json default null,
    stream boolean default false, metadata jsonb default '{}', idempotency_key text default null,
    user_id uuid default null, expires_at timestamptz default null) returns uuid
    language sql volatile
    return mrprompt_internal.enqueue(
        mrprompt_internal.chat_payload(messages, tools, tool_choice, response_format, temperature, top_p, max_tokens, stop, seed, parameters),
        model, provider, key_id, stream, metadata, idempotency_key, user_id, expires_at);
comment on function mrprompt.chat(json, text, text, uuid, json, json, json, double precision, double precision, integer, json, bigint,
    json, boolean, jsonb, text, uuid, timestamptz) is
    'Queues a chat completion (messages in OpenAI''s format) and returns the request''s id at once. parameters: whatever else the '
    'provider takes. Errors: PT400 bad input, PT404 unknown key, PT409 idempotency_key used otherwise, PT413 too large, 42501 nobody.';

create function mrprompt.chat_text(
    prompt text, model text default null, provider text default null, key_id uuid default null, system text default null,
    temperature double precision default null, max_tokens integer default null,
    stream boolean default false, metadata jsonb default '{}', idempotency_key text default null,
    user_id uuid default null, expires_at timestamptz default null) returns uuid
    language sql volatile
    return mrprompt.chat(
        messages => array_to_json(array_remove(array[
            case when system is not null then jsonb_build_object('role', 'system', 'content', system) end,
            jsonb_build_object('role', 'user', 'content', coalesce(prompt, ''))], null)),
        model => model, provider => provider, key_id => key_id, temperature => temperature, max_tokens => max_tokens,
        stream => stream, metadata => metadata, idempotency_key => idempotency_key, user_id => user_id,
        expires_at => expires_at);
comment on function mrprompt.chat_text(
    text, text, text, uuid, text, double precision, integer, boolean, jsonb, text, uuid, timestamptz) is
    'chat() for a single question in plain text.';

create procedure mrprompt.ask(
    prompt text, model text default null, provider text default null, key_id uuid default null, system text default null,
    timeout interval default '5 minutes', inout answer text default null)
    language plpgsql
as $$
declare
    id uuid;
    until constant timestamptz := pg_catalog.clock_timestamp() operator(pg_catalog.+) timeout;
    state record;
begin
    id := mrprompt.chat_text(prompt, model, provider, key_id, system);
    commit;
    loop
        select w.status, w.content, w.refusal, w.wait_reason, w.error_type, w.error_message into state
        from mrprompt.wait_for_request(id, '5 seconds') w;
        -- Each round in a transaction of its own: no snapshot is held while the model thinks.
        commit;
        exit when state.status not in ('queued', 'running');
        if pg_catalog.clock_timestamp() operator(pg_catalog.>) until then
            raise exception using errcode = 'PT410', message = pg_catalog.format('no answer within %s', timeout),
                detail = pg_catalog.concat_ws('; ', pg_catalog.format('request %s is %s and goes on', id, state.status), state.wait_reason),
                hint = pg_catalog.format('select * from mrprompt.get_request(%L)', id);
        end if;
    end loop;
    if state.status <> 'succeeded' then
        raise exception using errcode = 'PT400',
            message = pg_catalog.format('the request %s: %s', state.status, pg_catalog.concat_ws(': ', state.error_type, state.error_message)),
            hint = pg_catalog.format('select * from mrprompt.get_request(%L)', id);
    end if;
    answer := coalesce(state.content, state.refusal);
end
$$;
comment on procedure mrprompt.ask(text, text, text, uuid, text, interval, text) is
    'For psql: call mrprompt.ask(''…'') queues the question, commits, waits and returns the text. Not inside a transaction block.';

-- Reading: a request with its answer, waiting for it, following its stream, cancelling it.

create function mrprompt_internal.why_waiting(status text, wait_reason text, provider text) returns text
    language sql stable security definer set search_path = pg_catalog, pg_temp
    return case
        when status <> 'queued' or wait_reason is not null then wait_reason
        when not mrprompt_internal.is_home() then 'this database is a copy; an admin has to call resume_here()'
        when exists (select from mrprompt_internal.pauses p where p.provider in ('*', why_waiting.provider)) then 'paused by an admin'
    end;
comment on function mrprompt_internal.why_waiting(text, text, text) is
    'What a request waits for: its own reason, or what holds up all of its provider; null: its turn.';

create function mrprompt.get_request(request_id uuid)
    returns table (
        id uuid, status text, content text, tool_calls json, refusal text, reasoning text, finish_reason text,
        model text, provider text, wait_reason text, not_before timestamptz, cancel_requested boolean,
        error_status integer, error_type text, error_message text,
        prompt_tokens bigint, completion_tokens bigint, cost numeric,
        attempts integer, created_at timestamptz, started_at timestamptz, finished_at timestamptz, metadata jsonb)
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select r.id, r.status, a.content, a.tool_calls, a.refusal, a.reasoning, a.finish_reason,
        r.model, r.provider::text, mrprompt_internal.why_waiting(r.status, r.wait_reason, r.provider), r.not_before, mrprompt_internal.is_cancel_requested(r.id),
        r.error_status, r.error_type, r.error_message,
        u.prompt_tokens, u.completion_tokens, u.cost,
        r.attempts, r.created_at, r.started_at, r.finished_at, r.metadata
    from mrprompt.requests r
    left join mrprompt.responses a on a.request_id = r.id
    left join lateral (
        select sum(l.prompt_tokens)::bigint as prompt_tokens, sum(l.completion_tokens)::bigint as completion_tokens,
            -- One attempt of unknown cost makes the sum unknown.
            case when bool_and(l.cost is not null) then sum(l.cost) end as cost
        from mrprompt.usage l
        where l.request_id = r.id and l.slot = mrprompt_internal.slot_of(r.id)
          and not (l.outcome = 'failed' and l.prompt_tokens is null)) u on true
    where r.id = get_request.request_id;
    if not found then
        raise exception using errcode = 'PT404', message = format('there is no request %s of yours', request_id),
            hint = 'Requests are visible to their user and to admins, once their transaction has committed.';
    end if;
end
$$;
comment on function mrprompt.get_request(uuid) is
    'A request with its answer, tokens and cost (USD, over all attempts; null while unknown). PT404: not there, or not yours.';

create function mrprompt_internal.is_cancel_requested(request_id uuid) returns boolean
    language sql stable security definer set search_path = pg_catalog, pg_temp
    return exists (
        select from mrprompt_internal.cancels c join mrprompt.requests r on r.id = c.request_id
        where c.request_id = is_cancel_requested.request_id
          and (r.user_id = mrprompt.current_user_id() or mrprompt_internal.may_act_for_others()));
comment on function mrprompt_internal.is_cancel_requested(uuid) is 'Whether somebody wishes to cancel this request of the caller''s, and it has not ended yet.';

create function mrprompt_internal.refuse_own(request_id uuid) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    version xid;
begin
    select r.xmin into version from mrprompt.requests r where r.id = request_id;
    if not found then
        raise exception using errcode = 'PT404', message = format('there is no request %s of yours', request_id),
            hint = 'Requests are visible to their user and to admins, once their transaction has committed.';
    end if;
    if mrprompt_internal.is_own_change(version) then
        raise exception using errcode = 'PT400', message = format('request %s was made in this very transaction', request_id),
            detail = 'No fetcher can see it before the transaction commits.', hint = 'Commit first, then wait.';
    end if;
end
$$;
comment on function mrprompt_internal.refuse_own(uuid) is 'PT404 for a request the caller cannot see, PT400 for one of this transaction.';

create function mrprompt.wait_for_request(request_id uuid, timeout interval default '5 seconds')
    returns table (
        id uuid, status text, content text, tool_calls json, refusal text, reasoning text, finish_reason text,
        wait_reason text, not_before timestamptz, error_status integer, error_type text, error_message text)
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
    until constant timestamptz := mrprompt_internal.begin_wait(timeout);
    counter bigint;
    again boolean := true;
begin
    perform mrprompt_internal.refuse_own(request_id);
    loop
        counter := mrprompt_internal.change_counter(request_id);
        exit when not again or exists (
            select from mrprompt.requests r
            where r.id = wait_for_request.request_id and r.status not in ('queued', 'running'));
        again := mrprompt_internal.wait_for_change(request_id, counter, until);
    end loop;
    return query
    select r.id, r.status, a.content, a.tool_calls, a.refusal, a.reasoning, a.finish_reason,
        mrprompt_internal.why_waiting(r.status, r.wait_reason, r.provider), r.not_before, r.error_status, r.error_type, r.error_message
    from mrprompt.requests r left join mrprompt.responses a on a.request_id = r.id
    where r.id = wait_for_request.request_id;
end
$$;
comment on function mrprompt.wait_for_request(uuid, interval) is
    'Waits until the request has ended, at most timeout (and always less than statement_timeout), and returns it as it then is: '
    'status still queued or running means not yet. PT400 outside READ COMMITTED or for a request of this transaction, PT404, PT429.';

create function mrprompt.stream(request_id uuid, after_seq bigint default 0, timeout interval default '5 seconds')
    returns table (seq bigint, event text, content text, reasoning text, refusal text, tool_calls json,
        status text, finish_reason text, error_type text, error_message text)
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
    until constant timestamptz := mrprompt_internal.begin_wait(timeout);
    after_ bigint := greatest(coalesce(after_seq, 0), 0);
    counter bigint;
    again boolean := true;
    state record;
    kept boolean;
begin
    perform mrprompt_internal.refuse_own(request_id);
    loop
        counter := mrprompt_internal.change_counter(request_id);
        -- The state first: once it says that the request has ended, the deltas read after it are all there are.
        select r.status, r.attempts, r.error_type, r.error_message into state
        from mrprompt.requests r where r.id = stream.request_id;
        -- Who has read nothing yet need not hear of attempts that were lost.
        if after_ = 0 then
            select coalesce(max(d.seq), 0) into after_ from mrprompt.deltas d
            where d.request_id = stream.request_id and d.event = 'restart';
        end if;
        return query
        select d.seq, d.event, d.content, d.reasoning, d.refusal, d.tool_calls, null::text, null::text, null::text, null::text
        from mrprompt.deltas d
        where d.request_id = stream.request_id and d.seq > after_
        order by d.seq limit 10000;
        kept := found;
        exit when kept or not again or state.status not in ('queued', 'running');
        again := mrprompt_internal.wait_for_change(request_id, counter, until);
    end loop;
    if state.status in ('queued', 'running') then
        return;
    end if;
    kept := kept or exists (select from mrprompt.deltas d where d.request_id = stream.request_id);
    return query
    with answer as materialized (
        select a.*, coalesce((select max(d.seq) from mrprompt.deltas d where d.request_id = stream.request_id), state.attempts * 1000000::bigint - 3) as top
        from (select stream.request_id as id) r left join mrprompt.responses a on a.request_id = r.id
    )
    -- Without deltas (not a stream, or pruned) the answer comes whole, after a restart for those who had begun.
    select a.top + 1, 'restart', null, null, null, null::json, null, null, null, null
    from answer a where not kept and after_ between 1 and a.top
    union all
    select a.top + 2, 'delta', a.content, a.reasoning, a.refusal, (
            select json_agg(json_build_object('index', n - 1, 'id', c ->> 'id', 'name', c -> 'function' ->> 'name',
                'arguments', c -> 'function' ->> 'arguments'))
            from json_array_elements(a.tool_calls) with ordinality e (c, n)), null, null, null, null
    from answer a where not kept and after_ < a.top + 2 and a.request_id is not null
    union all
    select a.top + 3, 'end', null, null, null, null, state.status, a.finish_reason, state.error_type, state.error_message
    from answer a
    where (select count(*) from mrprompt.deltas d where d.request_id = stream.request_id and d.seq > after_) < 10000
    order by 1;
end
$$;
comment on function mrprompt.stream(uuid, bigint, interval) is
    'What is new after after_seq, waiting up to timeout for it: event delta (more of the answer), restart (forget what came, a new '
    'attempt begins), end (last; status tells how). No row: nothing yet. Call again with the last seq until end. Errors as wait_for_request.';

create function mrprompt_internal.request_cancel(request_id uuid) returns text
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    found_request record;
begin
    select r.user_id, r.status into found_request from mrprompt.requests r where r.id = request_id;
    if not found or not (found_request.user_id is not distinct from mrprompt.current_user_id()
                         or mrprompt_internal.may_act_for_others()) then
        raise exception using errcode = 'PT404', message = format('there is no request %s of yours', request_id),
            hint = 'Requests are visible to their user and to admins, once their transaction has committed.';
    end if;
    if found_request.status in ('queued', 'running') then
        -- A wish in a table of its own: no row that the contract needs is locked by this transaction.
        insert into mrprompt_internal.cancels as c (request_id) values (request_cancel.request_id) on conflict do nothing;
        perform mrprompt_internal.wake(mrprompt_internal.channel_name('fetchers'));
    end if;
    return found_request.status;
end
$$;
comment on function mrprompt_internal.request_cancel(uuid) is 'Wishes to cancel a request of the caller''s; answers its status at that moment.';

create function mrprompt.cancel_request(request_id uuid) returns boolean
    language sql volatile
    return mrprompt_internal.request_cancel(request_id) in ('queued', 'running');
comment on function mrprompt.cancel_request(uuid) is
    'Cancels a request: a waiting one is not sent, one in flight is aborted on the wire. Takes effect after commit; false: it had '
    'already ended. PT404: not there, or not yours.';

create function mrprompt_internal.my_channel(user_id uuid) returns text
    language sql stable security definer set search_path = pg_catalog, pg_temp
    return mrprompt_internal.channel_name(mrprompt_internal.acting_user(user_id)::text);

create function mrprompt.notification_channel(user_id uuid default null) returns text
    language sql stable
    return mrprompt_internal.my_channel(user_id);
comment on function mrprompt.notification_channel(uuid) is
    'The channel to LISTEN on: whenever a request of the user''s has news, a notification with its id arrives. The name is a secret of the user''s.';

-- Running it: pausing and draining, and taking over a copied database.

create function mrprompt_internal.set_pause(provider text, paused boolean) returns void
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform mrprompt_internal.require_admin('pause or resume');
    if provider <> '*' and not exists (select from mrprompt.providers p where p.name = set_pause.provider) then
        raise exception using errcode = 'PT400', message = format('there is no provider %s', left(provider, 100)),
            detail = (select 'Known: ' || string_agg(p.name, ', ' order by p.name) from mrprompt.providers p);
    end if;
    if paused then
        insert into mrprompt_internal.pauses as p (provider) values (set_pause.provider) on conflict do nothing;
    else
        delete from mrprompt_internal.pauses p where p.provider = set_pause.provider or set_pause.provider = '*';
        perform mrprompt_internal.wake(mrprompt_internal.channel_name('fetchers'));
    end if;
end
$$;

create function mrprompt.pause(provider text default null) returns void
    language sql volatile return mrprompt_internal.set_pause(coalesce(provider, '*'), true);
comment on function mrprompt.pause(text) is
    'Admins: nothing more is taken from the queue (of one provider, or of all) until resume(). What is in flight goes on; new requests are queued.';

create function mrprompt.resume(provider text default null) returns void
    language sql volatile return mrprompt_internal.set_pause(coalesce(provider, '*'), false);
comment on function mrprompt.resume(text) is 'Admins: ends pause() or drain(), of one provider; without one, all of them.';

create function mrprompt_internal.count_in_flight(provider text) returns bigint
    language sql volatile security definer set search_path = pg_catalog, pg_temp
begin atomic
    select count(*) from mrprompt_internal.queue q
    where q.fetcher_id is not null and (count_in_flight.provider = '*' or q.provider = count_in_flight.provider);
end;

create procedure mrprompt.drain(provider text default null, timeout interval default '5 minutes', inout in_flight bigint default null)
    language plpgsql
as $$
declare
    until constant timestamptz := pg_catalog.clock_timestamp() operator(pg_catalog.+) timeout;
begin
    perform mrprompt.pause(provider);
    commit;
    loop
        in_flight := mrprompt_internal.count_in_flight(coalesce(provider, '*'));
        exit when in_flight operator(pg_catalog.=) 0 or pg_catalog.clock_timestamp() operator(pg_catalog.>=) until;
        commit;
        perform pg_catalog.pg_sleep(0.1);
    end loop;
end
$$;
comment on procedure mrprompt.drain(text, interval, bigint) is
    'Admins: pause(), then wait until nothing is in flight (or the timeout has passed); in_flight says how many are left. resume() ends it.';

create function mrprompt_internal.resume_here() returns void
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform mrprompt_internal.require_admin('make this database the one that spends');
    -- Leases that came along with a copy are nobody's here.
    perform mrprompt_internal.fetcher_gone(f.id, false) from mrprompt_internal.fetchers f
    where not mrprompt_internal.is_home();
    delete from mrprompt_internal.homes h;
    insert into mrprompt_internal.homes (system_identifier, database_oid)
    select mrprompt_internal.system_identifier(), d.oid from pg_database d where d.datname = current_database();
    perform mrprompt_internal.wake(mrprompt_internal.channel_name('fetchers'));
end
$$;

create function mrprompt.resume_here() returns void
    language sql volatile return mrprompt_internal.resume_here();
comment on function mrprompt.resume_here() is
    'Admins: after a restore or a copy, says that this database is the one that goes on. Until then its queue waits. '
    'Make sure that the original does not run as well: both would send the same requests.';

-- Seeing it: status(), requests in flight, and doctor().

create function mrprompt_internal.in_flight()
    returns table (request_id uuid, user_id uuid, provider text, model text, attempt integer, phase text, tokens bigint,
        seconds numeric, fetcher_id uuid)
    language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
    select q.request_id, r.user_id, q.provider::text, r.model, q.attempt, coalesce(p.phase, 'claimed'), coalesce(p.tokens, 0),
        round(extract(epoch from clock_timestamp() - q.claimed_at), 1), q.fetcher_id
    from mrprompt_internal.queue q
    join mrprompt.requests r on r.id = q.request_id
    left join (
        select f.id as fetcher_id, s.request, s.attempt, s.phase, s.tokens
        from mrprompt_internal.fetchers f,
            json_to_recordset(f.progress) as s (request uuid, attempt integer, phase text, tokens bigint)) p
        on p.fetcher_id = q.fetcher_id and p.request = q.request_id and p.attempt = q.attempt
    where q.fetcher_id is not null
      and (r.user_id = mrprompt.current_user_id() or mrprompt_internal.may_act_for_others());
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
        count(*) filter (where q.fetcher_id is null and q.ready_at <= clock_timestamp()),
        round(extract(epoch from clock_timestamp() - min(q.ready_at) filter (where q.fetcher_id is null and q.ready_at <= clock_timestamp())), 1)
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

create function mrprompt.doctor() returns table (severity text, finding text, remedy text)
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
    state record;
    server record;
    keyring record;
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
        return query select 'error', 'The master keyring has a problem.', keyring.problem;
    end if;
    if not server.preloaded then
        return query select 'warning', 'mrprompt is not in shared_preload_libraries: no supervisor runs here, and waiting sessions poll.',
            'alter system set shared_preload_libraries = ' || (
                select string_agg(quote_literal(btrim(library)), ', ')
                from unnest(string_to_array(concat_ws(',', nullif(current_setting('shared_preload_libraries'), ''), 'mrprompt'), ',')) library)
            || '; then restart the server. Or run mrprompt-fetcher --dsn … beside it.';
    elsif server.launcher_pid is null then
        return query select 'error', 'The launcher does not run.', 'Look into the server log; it is started again every 5 seconds.';
    end if;
    if server.preloaded and server.supervisor_pid is null and server.free_worker_slots < 1 then
        return query select 'error', 'No background worker slot is free for the supervisor.',
            format('Raise max_worker_processes (now %s): one for the launcher, and one for each database that is at work.', current_setting('max_worker_processes'));
    end if;
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
    select 'warning', format('%s answers of the last day have no price, such as those of %s at %s.', count(*), min(u.model), min(u.provider)),
        'insert into mrprompt.prices (provider, model, input, output) values (…): USD per token.'
    from mrprompt.usage u
    where not u.price_known and u.outcome = 'succeeded' and u.finished_at > now() - interval '1 day'
    having count(*) > 0;
end
$$;
comment on function mrprompt.doctor() is
    'Admins: what is missing or in the way, in plain words, and what to do about it. No row: all is well.';

-- What Supabase offers where it exists: its roles, its Realtime publication, PostgREST's schema cache.

create function mrprompt.enable_supabase() returns text[]
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    done text[] := '{}';
    granted record;
begin
    for granted in
        select * from (values
            ('mrprompt_user', 'authenticated', 'authenticated may use mrprompt'),
            ('mrprompt_admin', 'service_role', 'service_role administers mrprompt and may act for users')) g (role, to_role, what)
        where to_role in (select rolname from pg_roles)
    loop
        -- Supabase's roles do not inherit. From version 16 on that is said with the grant, before it belongs to the role.
        if current_setting('server_version_num')::int >= 160000 then
            execute format('grant %I to %I with inherit true', granted.role, granted.to_role);
        else
            execute format('alter role %I inherit', granted.to_role);
            execute format('grant %I to %I', granted.role, granted.to_role);
        end if;
        done := done || granted.what;
    end loop;
    if exists (select from pg_publication where pubname = 'supabase_realtime')
       and not exists (select from pg_publication_tables where pubname = 'supabase_realtime' and schemaname = 'mrprompt') then
        alter publication supabase_realtime add table mrprompt.requests, mrprompt.deltas;
        done := done || 'Realtime follows mrprompt.requests and mrprompt.deltas'::text;
    end if;
    if done <> '{}' then
        perform pg_notify('pgrst', 'reload schema');
    end if;
    return done;
end
$$;
comment on function mrprompt.enable_supabase() is
    'Superusers: grants mrprompt_user to authenticated and mrprompt_admin to service_role (which then inherit), adds requests and deltas to the Realtime '
    'publication; tells what it did. Add mrprompt to PostgREST''s exposed schemas yourself; never mrprompt_internal.';

-- What pg_dump takes along: everything people made; not presets, leases and channel names, which are made anew.

do $dump$
declare
    wanted text;
begin
    foreach wanted in array array[
        'mrprompt.users', 'mrprompt_internal.provider_rows', 'mrprompt_internal.price_rows',
        'mrprompt_internal.master_keys', 'mrprompt_internal.lookup_key', 'mrprompt.api_keys', 'mrprompt.key_grants',
        'mrprompt.requests', 'mrprompt.responses', 'mrprompt.deltas',
        'mrprompt_internal.queue', 'mrprompt_internal.cancels', 'mrprompt_internal.pauses', 'mrprompt_internal.homes'] loop
        perform pg_extension_config_dump(wanted::regclass, '');
    end loop;
    for slot in 0..15 loop
        perform pg_extension_config_dump(format('mrprompt.usage_%s', lpad(slot::text, 2, '0'))::regclass, '');
    end loop;
end
$dump$;

-- Who owns what, and who may do what. PUBLIC gets nothing.

do $owner$
declare
    object record;
begin
    for object in
        select c.oid::regclass as name, case c.relkind when 'v' then 'view' else 'table' end as kind
        from pg_class c where c.relnamespace in ('mrprompt'::regnamespace, 'mrprompt_internal'::regnamespace)
          and c.relkind in ('r', 'p', 'v')
    loop
        execute format('alter %s %s owner to mrprompt_owner', object.kind, object.name);
        execute format('revoke all on %s from public', object.name);
    end loop;
    for object in
        select p.oid::regprocedure as name, case p.prokind when 'p' then 'procedure' else 'function' end as kind
        from pg_proc p where p.pronamespace in ('mrprompt'::regnamespace, 'mrprompt_internal'::regnamespace)
    loop
        execute format('alter %s %s owner to mrprompt_owner', object.kind, object.name);
        execute format('revoke all on %s %s from public', object.kind, object.name);
    end loop;
    alter schema mrprompt owner to mrprompt_owner;
    alter schema mrprompt_internal owner to mrprompt_owner;
end
$owner$;

grant usage on schema mrprompt, mrprompt_internal to mrprompt_user, mrprompt_analyst, mrprompt_admin;
grant usage on schema mrprompt_internal to mrprompt_fetcher;

-- Reading. Row-level security decides which rows.
grant select on mrprompt.users to mrprompt_user, mrprompt_analyst, mrprompt_admin;
grant select on mrprompt.requests, mrprompt.responses, mrprompt.deltas, mrprompt.requests_in_flight to mrprompt_user, mrprompt_admin;
grant select on mrprompt.usage, mrprompt.usage_by_day, mrprompt.usage_by_user, mrprompt.usage_by_model, mrprompt.usage_by_provider,
    mrprompt.usage_by_key, mrprompt.usage_by_agent to mrprompt_user, mrprompt_analyst, mrprompt_admin;
grant select on mrprompt.providers, mrprompt_internal.provider_presets, mrprompt_internal.provider_rows,
    mrprompt.prices, mrprompt_internal.price_presets, mrprompt_internal.price_rows
    to mrprompt_user, mrprompt_analyst, mrprompt_admin;

-- Administration.
grant insert, update, delete on mrprompt.providers, mrprompt.prices to mrprompt_admin;
grant execute on function mrprompt.add_user, mrprompt_internal.add_user, mrprompt.pause, mrprompt.resume, mrprompt_internal.set_pause,
    mrprompt_internal.count_in_flight, mrprompt.resume_here, mrprompt_internal.resume_here, mrprompt.doctor,
    mrprompt_internal.require_admin, mrprompt_internal.keyring_state to mrprompt_admin;
grant execute on procedure mrprompt.drain to mrprompt_admin;
grant execute on function mrprompt.status, mrprompt_internal.status, mrprompt_internal.server_state to mrprompt_analyst, mrprompt_admin;

-- Asking and reading answers.
grant execute on function mrprompt.current_user_id to mrprompt_user, mrprompt_analyst, mrprompt_admin;
grant execute on function mrprompt_internal.caller_is_admin, mrprompt_internal.may_act_for_others, mrprompt_internal.setting, mrprompt_internal.slot_of,
    mrprompt_internal.uuid_time, mrprompt_internal.uuid_at to mrprompt_user, mrprompt_analyst, mrprompt_admin;
grant execute on function
    mrprompt.chat, mrprompt.chat_text, mrprompt_internal.chat_payload, mrprompt_internal.enqueue,
    mrprompt.get_request, mrprompt_internal.why_waiting, mrprompt_internal.is_cancel_requested, mrprompt.wait_for_request, mrprompt.stream,
    mrprompt_internal.refuse_own, mrprompt_internal.is_own_change, mrprompt_internal.begin_wait,
    mrprompt_internal.change_counter, mrprompt_internal.wait_for_change,
    mrprompt.cancel_request, mrprompt_internal.request_cancel,
    mrprompt.notification_channel, mrprompt_internal.my_channel, mrprompt_internal.in_flight to mrprompt_user, mrprompt_admin;
grant execute on procedure mrprompt.ask to mrprompt_user, mrprompt_admin;

-- The contract, and nothing else.
grant execute on function mrprompt_internal.hello, mrprompt_internal.claim, mrprompt_internal.append, mrprompt_internal.settle,
    mrprompt_internal.heartbeat, mrprompt_internal.tend, mrprompt_internal.supervisor_state, mrprompt_internal.fetcher_gone,
    mrprompt_internal.local_fetchers_gone, mrprompt_internal.notify_changes, mrprompt_internal.notify_fetchers to mrprompt_fetcher;

-- keys.sql's grants stand in keys.sql; they were revoked from public only.

-- From here on the supervisor of this database may come: wake it when the installation commits.
select mrprompt_internal.wake(mrprompt_internal.channel_name('fetchers'));

