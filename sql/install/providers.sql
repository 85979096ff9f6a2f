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
    max_failures integer constraint max_failures_is_between_1_and_100 check (max_failures between 1 and 100),
    backoff_base_ms integer not null default 500 constraint backoff_base_is_at_most_an_hour check (backoff_base_ms between 1 and 3600000),
    backoff_cap_ms integer not null default 60000 constraint backoff_cap_is_at_most_an_hour check (backoff_cap_ms between 1 and 3600000),
    retry_on text[],
    no_retry_on text[],
    idempotency_header text constraint idempotency_header_is_a_header_name check (idempotency_header ~ '^[A-Za-z0-9-]{1,100}$'),
    cooldown_percent integer not null default 50 constraint cooldown_percent_is_between_0_and_100 check (cooldown_percent between 0 and 100),
    cooldown_attempts integer not null default 10 constraint cooldown_attempts_is_at_least_1 check (cooldown_attempts between 1 and 100000),
    verify_path text constraint verify_path_begins_with_a_slash check (verify_path ~ '^/[^[:space:]#]*$'),
    timeout_limit_ms integer not null default 3600000 constraint timeout_limit_is_at_most_a_day check (timeout_limit_ms between 1 and 86400000),
    allow_private boolean not null default false,
    proxy text constraint proxy_is_http_https_or_socks5h_with_a_port_and_no_user check (proxy ~ '^(http|https|socks5h)://[^[:space:]/?#@]+:[0-9]{1,5}/?$'),
    client_cert_file text constraint client_cert_file_is_an_absolute_path check (client_cert_file ~ '^/'),
    client_key_file text constraint client_key_file_is_an_absolute_path check (client_key_file ~ '^/'),
    max_tokens_field text not null default 'max_tokens'
        constraint max_tokens_field_is_max_tokens_or_max_completion_tokens check (max_tokens_field in ('max_tokens', 'max_completion_tokens')),
    constraint client_cert_file_and_client_key_file_come_together check ((client_cert_file is null) = (client_key_file is null)),
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
    select p.name, p.protocol, p.base_url, p.path, p.auth, p.key_required, p.headers, p.stream_usage, p.models, p.default_model,
        p.allow_http, p.ca_file, p.connect_timeout_ms, p.first_byte_timeout_ms, p.idle_timeout_ms, p.total_timeout_ms,
        p.enabled, p.description, p.preset, p.max_failures, p.backoff_base_ms, p.backoff_cap_ms, p.retry_on, p.no_retry_on,
        p.idempotency_header, p.cooldown_percent, p.cooldown_attempts, p.timeout_limit_ms, p.verify_path,
        p.allow_private, p.proxy, p.client_cert_file, p.client_key_file, p.max_tokens_field
    from (
        select r.*, false as preset from mrprompt_internal.provider_rows r
        union all
        select p.*, true from mrprompt_internal.provider_presets p
        where not exists (select from mrprompt_internal.provider_rows r where r.name = p.name)) p;
comment on view mrprompt.providers is
    'Where chat requests can go. Admins insert, update and delete here; deleting a changed preset brings the preset back.';
comment on column mrprompt.providers.protocol is 'openai (chat completions) or anthropic (messages).';
comment on column mrprompt.providers.base_url is
    'https, or http where allow_http; {model}, behind the host, stands for the percent-encoded model name.';
comment on column mrprompt.providers.path is
    'Behind base_url; null: the protocol''s own (/chat/completions or /v1/messages). {model} as in base_url.';
comment on column mrprompt.providers.auth is
    'How the key travels: bearer, x-api-key, api-key (headers of those names), none.';
comment on column mrprompt.providers.key_required is 'Whether a request without a key is refused at the call.';
comment on column mrprompt.providers.headers is 'Further request headers, {"name": "value"}. Never put a key here.';
comment on column mrprompt.providers.stream_usage is 'Whether the server takes stream_options.include_usage.';
comment on column mrprompt.providers.models is 'Models that may be asked for; null: any.';
comment on column mrprompt.providers.ca_file is
    'A file of CA certificates on the fetcher''s machine, to trust instead of the system''s; null: the system''s. An https proxy is judged by the system''s.';
comment on column mrprompt.providers.max_failures is 'Failed attempts after which a request is given up; null: mrprompt.max_failures.';
comment on column mrprompt.providers.backoff_base_ms is 'The bound of the first pause before a retry; it doubles up to backoff_cap_ms, the pause is random below it.';
comment on column mrprompt.providers.retry_on is
    'Error types, provider codes or HTTP statuses (as text) that are tried again although they are final otherwise.';
comment on column mrprompt.providers.no_retry_on is 'Likewise, those that end a request although they are tried again otherwise; wins over retry_on.';
comment on column mrprompt.providers.idempotency_header is
    'A request header that carries the request''s id, the same at every attempt, such as Idempotency-Key; null: none.';
comment on column mrprompt.providers.cooldown_percent is
    'Share of failed attempts within a minute at which a key''s model cools down; 0: it never does, after a rate limit or a refused key neither.';
comment on column mrprompt.providers.cooldown_attempts is 'So many attempts must have ended before that share counts.';
comment on column mrprompt.providers.verify_path is
    'What verify_key() asks for, behind base_url; null: the protocol''s list of models (/models or /v1/models).';
comment on column mrprompt.providers.timeout_limit_ms is 'The longest time-out that a request may ask for itself.';
comment on column mrprompt.providers.allow_private is
    'Whether the host may have, or its name stand for, an address that is not public: loopback, private, link-local, and the like. '
    'Judged at each connection, by the address connected to; with a proxy, the proxy sees to that.';
comment on column mrprompt.providers.proxy is
    'http, https or socks5h://host:port, without a user; null: none, whatever the fetcher''s environment says. Its own address may be '
    'private; what it connects to is its own affair, allow_private or not. It looks up the host''s name.';
comment on column mrprompt.providers.client_cert_file is
    'A file on the fetcher''s machine with the client certificate (and those between it and its CA) to show, in PEM; null: none.';
comment on column mrprompt.providers.client_key_file is 'The private key of client_cert_file, in PEM and without a passphrase; readable for the fetcher only.';
comment on column mrprompt.providers.max_tokens_field is
    'The member that limits the output tokens of a request that sets no limit itself, where money is held for one: max_tokens, or '
    'max_completion_tokens (newer models of OpenAI refuse the other). Anthropic has max_tokens, whatever this says.';
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
    kind text;
    changed text[];
    broken text;
    lacking text;
    written bigint;
    -- As far as it may be shown.
    address text;
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
    address := regexp_replace(regexp_replace(new.base_url, '//.*@', '//…@'), '[?#].*', '?…');
    if new.base_url ~ '//([^/]*|[^@]*:[^@]*)@' or new.proxy ~ '@' then
        raise exception using errcode = 'PT400',
            message = format('%s of provider %s has a user or a password in it', case when new.proxy ~ '@' then 'proxy' else 'base_url' end, new.name),
            hint = 'Everybody may read these. A key comes with mrprompt.add_key(); a proxy lets the fetcher''s machine in without one.';
    end if;
    if new.base_url like 'http://%' and not coalesce(new.allow_http, false) then
        raise exception using errcode = 'PT400', message = format('base_url of provider %s is plain http', new.name),
            detail = format('base_url is %s', address),
            hint = 'Use https, or set allow_http = true for a server on a network you trust.';
    end if;
    if tg_op = 'INSERT' or (new.base_url, new.allow_private, new.proxy) is distinct from (old.base_url, old.allow_private, old.proxy) then
        if new.base_url ~ '^https?://[^/]*[{}]' then
            raise exception using errcode = 'PT400', message = format('base_url of provider %s has a place for the model in its host or port', new.name),
                detail = format('base_url is %s', address),
                hint = 'Whoever names a model would name the host that gets the key. {model} can stand behind the host, or in path.';
        end if;
        kind := mrprompt_internal.special_host(new.base_url);
        if kind is not null and new.proxy is null and not coalesce(new.allow_private, false) then
            raise exception using errcode = 'PT400', message = format('the host of provider %s is %s', new.name, kind),
                detail = format('base_url is %s', address),
                hint = 'Set allow_private = true for a server of yours that is meant to be reached there.';
        end if;
    end if;
    row_ := jsonb_populate_record(null::mrprompt_internal.provider_rows, to_jsonb(new));
    if tg_op = 'INSERT' then
        insert into mrprompt_internal.provider_rows
        select row_.* where not exists (select from mrprompt.providers p where p.name = new.name)
        on conflict do nothing;
        if not found then
            raise exception using errcode = 'PT409', message = format('provider %s exists', new.name),
                hint = format('update mrprompt.providers set … where name = %L', new.name);
        end if;
        return new;
    end if;
    -- A preset becomes a row as it was, so that the audit log says what of it changed; unless somebody else has just made it one.
    if old.preset then
        insert into mrprompt_internal.provider_rows
        select p.* from jsonb_populate_record(null::mrprompt_internal.provider_rows, to_jsonb(old)) p
        on conflict do nothing;
    end if;
    -- Only what changes is written: two admins may change different columns at once.
    select array_agg(n.key) into changed
    from jsonb_each(to_jsonb(row_)) n where n.value is distinct from to_jsonb(old) -> n.key;
    if changed is not null then
        execute (select format('update mrprompt_internal.provider_rows r set (%s) = row(%s) where r.name = $1.name',
                     string_agg(quote_ident(c), ', '), string_agg('$1.' || quote_ident(c), ', ')) from unnest(changed) c) using row_;
        get diagnostics written = row_count;
        if written = 0 then
            raise exception using errcode = 'PT409', message = format('somebody else has just removed provider %s', old.name),
                detail = 'Nothing was changed.', hint = 'select * from mrprompt.providers';
        end if;
    end if;
    return new;
exception when check_violation or not_null_violation then
    -- The error itself would show the row, and there may be secrets in its headers.
    get stacked diagnostics broken = constraint_name, lacking = column_name;
    raise exception using errcode = 'PT400',
        message = case sqlstate when '23502' then format('provider %s has no %s', coalesce(new.name, '?'), lacking)
                                else format('provider %s breaks a rule: %s', new.name, replace(broken, '_', ' ')) end;
end
$$;
create trigger write_provider instead of insert or update or delete on mrprompt.providers
    for each row execute function mrprompt_internal.write_provider();

insert into mrprompt_internal.provider_presets
    (name, protocol, base_url, path, auth, key_required, stream_usage, allow_http, allow_private, verify_path, max_tokens_field, description)
values
    ('openai', 'openai', 'https://api.openai.com/v1', null, 'bearer', true, true, false, false, null, 'max_completion_tokens', 'OpenAI'),
    ('anthropic', 'anthropic', 'https://api.anthropic.com', null, 'x-api-key', true, true, false, false, null, default, 'Anthropic'),
    ('vanchin', 'openai', 'https://vanchin.streamlake.ai/api/gateway/v1/endpoints', null, 'bearer', true, true, false, false, null, default,
        'VanchinAI (StreamLake): the model is an endpoint id, ep-…'),
    ('azure', 'openai', 'https://example.openai.azure.com/openai/deployments/{model}',
        '/chat/completions?api-version=2024-10-21', 'api-key', true, true, false, false, null, default,
        'Azure OpenAI: put your resource''s name into base_url; the model is the deployment'),
    ('openai-compatible', 'openai', 'https://llm.example.com/v1', null, 'bearer', false, true, false, false, null, default,
        'Any OpenAI-compatible server: put its address into base_url'),
    ('openrouter', 'openai', 'https://openrouter.ai/api/v1', null, 'bearer', true, true, false, false, '/key', default, 'OpenRouter'),
    ('groq', 'openai', 'https://api.groq.com/openai/v1', null, 'bearer', true, true, false, false, null, default, 'Groq'),
    ('deepseek', 'openai', 'https://api.deepseek.com', null, 'bearer', true, true, false, false, null, default, 'DeepSeek'),
    ('mistral', 'openai', 'https://api.mistral.ai/v1', null, 'bearer', true, false, false, false, null, default,
        'Mistral (sends usage unasked and refuses stream_options)'),
    ('together', 'openai', 'https://api.together.xyz/v1', null, 'bearer', true, true, false, false, null, default, 'Together AI'),
    ('xai', 'openai', 'https://api.x.ai/v1', null, 'bearer', true, true, false, false, null, default, 'xAI'),
    ('gemini', 'openai', 'https://generativelanguage.googleapis.com/v1beta/openai', null, 'bearer', true, true, false, false, null, default,
        'Google Gemini through its OpenAI-compatible base'),
    ('ollama', 'openai', 'http://127.0.0.1:11434/v1', null, 'bearer', false, true, true, true, null, default, 'Ollama on this machine'),
    ('vllm', 'openai', 'http://127.0.0.1:8000/v1', null, 'bearer', false, true, true, true, null, default, 'vLLM on this machine'),
    ('llamacpp', 'openai', 'http://127.0.0.1:8080/v1', null, 'bearer', false, true, true, true, null, default, 'llama.cpp server on this machine'),
    ('litellm', 'openai', 'http://127.0.0.1:4000/v1', null, 'bearer', false, true, true, true, null, default, 'LiteLLM proxy on this machine');

