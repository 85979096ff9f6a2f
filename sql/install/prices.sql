-- Models and prices in USD: presets of the release, under the rows that admins write. Effective-dated, exact.

create table mrprompt_internal.model_presets (
    provider varchar(50) not null,
    model text not null constraint model_is_a_name_or_a_prefix_and_a_star check (model ~ '^[^*]*[*]?$' and model <> ''),
    priced_as text,
    max_output_tokens bigint constraint max_output_tokens_is_from_1_to_a_billion check (max_output_tokens between 1 and 1000000000),
    context_tokens bigint constraint context_tokens_is_from_1_to_a_billion check (context_tokens between 1 and 1000000000),
    image_tokens bigint constraint image_tokens_is_from_1_to_a_billion check (image_tokens between 1 and 1000000000),
    metadata jsonb not null default '{}' constraint metadata_is_an_object check (jsonb_typeof(metadata) = 'object'),
    source text,
    primary key (provider, model)
);
comment on table mrprompt_internal.model_presets is 'Models as this release knows them. Not dumped: an upgrade may change them.';
create table mrprompt_internal.model_rows (like mrprompt_internal.model_presets including all);
comment on table mrprompt_internal.model_rows is 'Models that admins wrote; a row here stands in front of the preset of its name.';

alter table mrprompt_internal.model_presets enable row level security;
alter table mrprompt_internal.model_rows enable row level security;
create policy readable on mrprompt_internal.model_presets for select to mrprompt_user, mrprompt_analyst, mrprompt_admin using (true);
create policy readable on mrprompt_internal.model_rows for select to mrprompt_user, mrprompt_analyst, mrprompt_admin using (true);

create view mrprompt.models with (security_invoker = true) as
    select r.*, false as preset from mrprompt_internal.model_rows r
    union all
    select p.*, true from mrprompt_internal.model_presets p
    where not exists (select from mrprompt_internal.model_rows r where r.provider = p.provider and r.model = p.model);
comment on view mrprompt.models is
    'What is known of models: whose price they have, and their limits. Admins insert, update and delete here. A model need not stand here to be asked.';
comment on column mrprompt.models.model is 'As it is asked for (an endpoint id ep-… too); a star at the end stands for any ending.';
comment on column mrprompt.models.priced_as is 'The name in mrprompt.prices whose prices it has; null: its own.';
comment on column mrprompt.models.max_output_tokens is
    'The most tokens it answers with: what a budget holds, and what is sent as the limit, where a request names none.';
comment on column mrprompt.models.context_tokens is 'The most tokens of prompt and answer together.';
comment on column mrprompt.models.image_tokens is 'The most tokens that one image counts; null: 5000.';
comment on column mrprompt.models.metadata is 'Whatever else is known, such as the fields of an imported price list that mrprompt has no use for.';
alter view mrprompt.models alter column metadata set default '{}';

create function mrprompt_internal.write_model() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    broken text;
    lacking text;
begin
    if tg_op <> 'INSERT' then
        delete from mrprompt_internal.model_rows r where r.provider = old.provider and r.model = old.model;
        if tg_op = 'DELETE' then
            if not found then
                raise exception using errcode = 'PT400', message = format('model %s of %s comes with mrprompt and cannot be deleted', old.model, old.provider),
                    hint = 'Insert a row of your own for it: it comes first.';
            end if;
            return old;
        end if;
    end if;
    insert into mrprompt_internal.model_rows
    select r.* from jsonb_populate_record(null::mrprompt_internal.model_rows, to_jsonb(new)) r;
    return new;
exception
    when unique_violation then
        raise exception using errcode = 'PT409', message = format('model %s of %s has a row already', new.model, new.provider),
            hint = format('update mrprompt.models set … where provider = %L and model = %L', new.provider, new.model);
    when check_violation or not_null_violation then
        get stacked diagnostics broken = constraint_name, lacking = column_name;
        raise exception using errcode = 'PT400',
            message = case sqlstate when '23502' then format('a model has no %s', lacking)
                                    else format('model %s of %s breaks a rule: %s', new.model, new.provider, replace(broken, '_', ' ')) end;
end
$$;
create trigger write_model instead of insert or update or delete on mrprompt.models
    for each row execute function mrprompt_internal.write_model();

create function mrprompt_internal.model_of(provider text, model text) returns mrprompt_internal.model_rows
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    known mrprompt_internal.model_rows;
begin
    select * into known from mrprompt_internal.model_rows r where r.provider = model_of.provider and r.model = model_of.model;
    if not found then
        select * into known from mrprompt_internal.model_presets p where p.provider = model_of.provider and p.model = model_of.model;
    end if;
    if not found then
        select m.* into known from (
            select r.*, 1 as place from mrprompt_internal.model_rows r
            where r.provider = model_of.provider and r.model like '%*' and starts_with(model_of.model, rtrim(r.model, '*'))
            union all
            select p.*, 2 from mrprompt_internal.model_presets p
            where p.provider = model_of.provider and p.model like '%*' and starts_with(model_of.model, rtrim(p.model, '*'))) m
        order by length(m.model) desc, m.place limit 1;
    end if;
    return known;
end
$$;
comment on function mrprompt_internal.model_of(text, text) is
    'What is known of a model: by its name, else by the longest name with a star that fits; admins'' rows first. Nulls: nothing.';

create table mrprompt_internal.price_presets (
    provider varchar(50) not null,
    model text not null constraint model_is_a_name_or_a_prefix_and_a_star check (model ~ '^[^*]*[*]?$' and model <> ''),
    effective_from timestamptz not null default '2025-01-01 00:00:00+00',
    input numeric not null constraint input_is_usd_per_token_below_one_cent check (input between 0 and 0.01),
    output numeric not null constraint output_is_usd_per_token_below_one_cent check (output between 0 and 0.01),
    cached numeric constraint cached_is_usd_per_token_below_one_cent check (cached between 0 and 0.01),
    cache_write numeric constraint cache_write_is_usd_per_token_below_one_cent check (cache_write between 0 and 0.01),
    source text,
    cache_write_1h numeric constraint cache_write_1h_is_usd_per_token_below_one_cent check (cache_write_1h between 0 and 0.01),
    reasoning numeric constraint reasoning_is_usd_per_token_below_one_cent check (reasoning between 0 and 0.01),
    audio_input numeric constraint audio_input_is_usd_per_token_below_one_cent check (audio_input between 0 and 0.01),
    audio_output numeric constraint audio_output_is_usd_per_token_below_one_cent check (audio_output between 0 and 0.01),
    image numeric constraint image_is_usd_per_image_below_ten check (image between 0 and 10),
    per_request numeric constraint per_request_is_usd_below_a_hundred check (per_request between 0 and 100),
    per_second numeric constraint per_second_is_usd_per_second_below_one check (per_second between 0 and 1),
    per_character numeric constraint per_character_is_usd_per_character_below_one_cent check (per_character between 0 and 0.01),
    service_tier text not null default 'standard'
        constraint service_tier_is_standard_batch_flex_or_priority check (service_tier in ('standard', 'batch', 'flex', 'priority')),
    above_tokens bigint not null default 0 constraint above_tokens_is_not_negative check (above_tokens >= 0),
    id uuid not null default mrprompt_internal.uuidv7() primary key,
    replaced_at timestamptz
);
create unique index price_presets_of_model on mrprompt_internal.price_presets (provider, model, service_tier, above_tokens, effective_from)
    where replaced_at is null;
comment on table mrprompt_internal.price_presets is 'Prices as this release knows them. Not dumped: an upgrade may add to them.';
create table mrprompt_internal.price_rows (like mrprompt_internal.price_presets including defaults including constraints, primary key (id));
create unique index price_rows_of_model on mrprompt_internal.price_rows (provider, model, service_tier, above_tokens, effective_from)
    where replaced_at is null;
create index price_rows_ever on mrprompt_internal.price_rows (provider, model);
alter table mrprompt_internal.price_rows alter column effective_from set default now();
comment on table mrprompt_internal.price_rows is
    'Prices that admins wrote; one here stands in front of every preset of its model. What was changed or deleted stays, replaced, for the ledger.';

alter table mrprompt_internal.price_presets enable row level security;
alter table mrprompt_internal.price_rows enable row level security;
create policy readable on mrprompt_internal.price_presets for select to mrprompt_user, mrprompt_analyst, mrprompt_admin using (true);
create policy readable on mrprompt_internal.price_rows for select to mrprompt_user, mrprompt_analyst, mrprompt_admin using (true);

create view mrprompt.price_versions with (security_invoker = true) as
    select p.id, p.provider, p.model, p.service_tier, p.above_tokens, p.effective_from, p.input, p.output, p.cached, p.cache_write,
        p.cache_write_1h, p.reasoning, p.audio_input, p.audio_output, p.image, p.per_request, p.per_second, p.per_character,
        p.source, p.preset, p.replaced_at
    from (select r.*, false as preset from mrprompt_internal.price_rows r
          union all
          select r.*, true from mrprompt_internal.price_presets r) p;
comment on view mrprompt.price_versions is
    'Every price that mrprompt.usage.price_id can name: those of mrprompt.prices, and those that were changed or deleted since (replaced_at).';

create view mrprompt.prices with (security_invoker = true) as
    select p.provider, p.model, p.effective_from, p.input, p.output, p.cached, p.cache_write, p.source, p.preset,
        p.cache_write_1h, p.reasoning, p.audio_input, p.audio_output, p.image, p.per_request, p.per_second, p.per_character,
        p.service_tier, p.above_tokens, p.id
    from mrprompt.price_versions p
    where p.replaced_at is null and not (p.preset and exists (
        select from mrprompt_internal.price_rows r
        where r.provider = p.provider and r.model = p.model and r.replaced_at is null and r.effective_from <= greatest(now(), p.effective_from)));
comment on view mrprompt.prices is
    'USD, by provider, model, service tier, size of the prompt and the time from which it holds. Admins insert, update and delete here. Once a row '
    'of theirs is in force, it stands in front of every preset of its model: those are not shown any more (but in mrprompt.price_versions).';
comment on column mrprompt.prices.model is 'As it is asked for, or as it answers; a star at the end stands for any ending.';
comment on column mrprompt.prices.input is 'USD per prompt token that no other price is for.';
comment on column mrprompt.prices.output is 'USD per completion token that no other price is for.';
comment on column mrprompt.prices.cached is 'USD per cached prompt token; null: the input price.';
comment on column mrprompt.prices.cache_write is 'USD per prompt token written to a cache (for five minutes); null: the input price.';
comment on column mrprompt.prices.cache_write_1h is 'USD per prompt token written to a cache for an hour; null: as cache_write.';
comment on column mrprompt.prices.reasoning is 'USD per reasoning token; null: the output price.';
comment on column mrprompt.prices.audio_input is 'USD per audio token of the prompt; null: the input price.';
comment on column mrprompt.prices.audio_output is 'USD per audio token of the answer; null: the output price.';
comment on column mrprompt.prices.image is 'USD per image of the prompt, beside its tokens; null: nothing.';
comment on column mrprompt.prices.per_request is 'USD per answered request; null: nothing.';
comment on column mrprompt.prices.per_second is 'USD per second of audio; not charged yet: for voice.';
comment on column mrprompt.prices.per_character is 'USD per character to be spoken; not charged yet: for voice.';
comment on column mrprompt.prices.service_tier is
    'standard, batch, flex or priority, as the answer says it was served; a tier without a price has the standard one.';
comment on column mrprompt.prices.above_tokens is
    'For prompts of more tokens than this, whose every token it then prices; 0: for all that no greater one fits.';
comment on column mrprompt.prices.source is 'Where the figure comes from, and its date.';
comment on column mrprompt.prices.id is 'What mrprompt.usage.price_id names; a changed price gets a new one.';
alter view mrprompt.prices alter column effective_from set default now();
alter view mrprompt.prices alter column service_tier set default 'standard';
alter view mrprompt.prices alter column above_tokens set default 0;

create function mrprompt_internal.write_price() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    row_ mrprompt_internal.price_rows;
    replaced mrprompt_internal.price_rows;
    broken text;
    lacking text;
begin
    if tg_op <> 'INSERT' and not old.preset then
        select * into replaced from mrprompt_internal.price_rows r where r.id = old.id for update;
        if not found then
            raise exception using errcode = 'serialization_failure',
                message = format('the price of %s at %s was changed or deleted meanwhile', old.model, old.provider),
                detail = format('effective_from %s, service_tier %s, above_tokens %s', old.effective_from, old.service_tier, old.above_tokens),
                hint = 'Look at mrprompt.prices again.';
        end if;
    end if;
    if tg_op = 'DELETE' then
        if old.preset then
            raise exception using errcode = 'PT400',
                message = format('the price of %s at %s comes with mrprompt and cannot be deleted', old.model, old.provider),
                hint = 'Insert a price of your own for the model: it comes first.';
        end if;
        delete from mrprompt_internal.price_rows r where r.id = old.id;
    else
        row_ := jsonb_populate_record(null::mrprompt_internal.price_rows, to_jsonb(new));
        row_.id := mrprompt_internal.uuidv7();
        row_.effective_from := coalesce(row_.effective_from, now());
        if replaced.id is null then
            insert into mrprompt_internal.price_rows values (row_.*);
        else
            execute (
                select format('update mrprompt_internal.price_rows r set (%s) = row(%s) where r.id = $2',
                    string_agg(quote_ident(a.attname), ', '), string_agg('$1.' || quote_ident(a.attname), ', '))
                from pg_attribute a
                where a.attrelid = 'mrprompt_internal.price_rows'::regclass and a.attnum > 0 and not a.attisdropped) using row_, old.id;
        end if;
        new.id := row_.id;
    end if;
    -- The ledger may name it.
    if replaced.id is not null then
        replaced.replaced_at := clock_timestamp();
        insert into mrprompt_internal.price_rows values (replaced.*);
    end if;
    return case tg_op when 'DELETE' then old else new end;
exception when unique_violation then
    raise exception using errcode = 'PT409',
        message = format('%s at %s has a price from that moment on already', new.model, new.provider),
        detail = format('effective_from %s, service_tier %s, above_tokens %s', row_.effective_from, row_.service_tier, row_.above_tokens),
        hint = 'Update that row, or insert one with another effective_from.';
when check_violation or not_null_violation then
    get stacked diagnostics broken = constraint_name, lacking = column_name;
    raise exception using errcode = 'PT400',
        message = case sqlstate when '23502' then format('the price of %s at %s has no %s', coalesce(new.model, '?'), coalesce(new.provider, '?'), lacking)
                                else format('the price of %s at %s breaks a rule: %s', new.model, new.provider, replace(broken, '_', ' ')) end,
        hint = 'Prices are USD per token: divide a price per million by 1000000.';
end
$$;
create trigger write_price instead of insert or update or delete on mrprompt.prices
    for each row execute function mrprompt_internal.write_price();

create function mrprompt_internal.require_standard_prices() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    alone mrprompt_internal.price_rows;
begin
    select * into alone from mrprompt_internal.price_rows r
    where r.replaced_at is null and (r.service_tier <> 'standard' or r.above_tokens > 0) and not exists (
        select from mrprompt_internal.price_rows s
        where s.provider = r.provider and s.model = r.model and s.service_tier = 'standard' and s.above_tokens = 0 and s.replaced_at is null
          and s.effective_from <= r.effective_from)
    order by r.provider, r.model, r.effective_from limit 1;
    if found then
        raise exception using errcode = 'PT400', message = format('%s at %s would have no standard price', alone.model, alone.provider),
            detail = format('Your row for service_tier %s, above_tokens %s, from %s on, stands in front of every preset of the model.',
                alone.service_tier, alone.above_tokens, alone.effective_from),
            hint = 'First, or in the same statement, insert your row for service_tier standard, above_tokens 0, from then or earlier on; it is deleted last.';
    end if;
    return null;
end
$$;
comment on function mrprompt_internal.require_standard_prices() is
    'Trigger, behind each statement: PT400 where a model has prices of admins for some sizes or service tiers only, and so none for the rest.';
create trigger require_standard_prices after insert or update or delete on mrprompt.prices
    for each statement execute function mrprompt_internal.require_standard_prices();

-- Which price, and what it comes to.

create function mrprompt_internal.longest_star(provider text, name text, moment timestamptz, known_at timestamptz) returns text
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select s.model from (
            select r.model, true as own from mrprompt_internal.price_rows r
            where r.provider = longest_star.provider and r.model like '%*' and starts_with(name, rtrim(r.model, '*'))
              and (r.replaced_at is null or r.replaced_at > known_at) and mrprompt_internal.uuid_time(r.id) <= known_at and r.effective_from <= moment
            union all
            select r.model, false from mrprompt_internal.price_presets r
            where r.provider = longest_star.provider and r.model like '%*' and starts_with(name, rtrim(r.model, '*'))
              and r.replaced_at is null and r.effective_from <= moment) s
        order by s.own desc, length(s.model) desc limit 1);
end
$$;
comment on function mrprompt_internal.longest_star(text, text, timestamptz, timestamptz) is 'The name with a star, of a price in force, that a model''s name begins with: an admin''s, else a preset''s; the longest.';

create function mrprompt_internal.prices_of(provider text, model text, answered_by text, moment timestamptz, known_at timestamptz default 'infinity')
    returns setof mrprompt_internal.price_rows
    language plpgsql stable rows 2 set search_path = pg_catalog, pg_temp
as $$
declare
    asked constant text := coalesce((mrprompt_internal.model_of(provider, model)).priced_as, model);
    name text;
begin
    foreach name in array array_remove(array[asked, answered_by], null) loop
        for starred in 0..1 loop
            if starred = 1 then
                name := mrprompt_internal.longest_star(provider, name, moment, known_at);
            end if;
            -- One name of one table is taken, with all its tiers: the prices of an admin and a preset never mix.
            return query
            select distinct on (r.service_tier, r.above_tokens) r.* from mrprompt_internal.price_rows r
            where r.provider = prices_of.provider and r.model = name and (r.replaced_at is null or r.replaced_at > known_at) and mrprompt_internal.uuid_time(r.id) <= known_at and r.effective_from <= moment
            order by r.service_tier, r.above_tokens, r.effective_from desc, r.replaced_at;
            if found then
                return;
            end if;
            return query
            select distinct on (r.service_tier, r.above_tokens) r.* from mrprompt_internal.price_presets r
            where r.provider = prices_of.provider and r.model = name and r.replaced_at is null and r.effective_from <= moment
            order by r.service_tier, r.above_tokens, r.effective_from desc;
            if found then
                return;
            end if;
        end loop;
    end loop;
end
$$;
comment on function mrprompt_internal.prices_of(text, text, text, timestamptz, timestamptz) is
    'The prices in force, one per service tier and size: of the model asked for (or of what it is priced as), else of the model that '
    'answered; the exact name before one with a star, admins'' before presets; known_at: before what was written, changed or deleted later. No row: the price is unknown.';

create function mrprompt_internal.served_tier(said text) returns text
    language sql immutable parallel safe
    return case when said in ('batch', 'flex', 'priority') then said when said = 'fast' then 'priority' else 'standard' end;
comment on function mrprompt_internal.served_tier(text) is 'The service tier of prices for what a provider says (OpenAI and Anthropic say default, auto, standard, … too).';

create function mrprompt_internal.cost_of(
    price mrprompt_internal.price_rows, prompt numeric, completion numeric, cached numeric, cache_write numeric, cache_write_1h numeric,
    reasoning numeric, audio_prompt numeric, audio_completion numeric, images numeric, seconds numeric, characters numeric) returns numeric
    language sql immutable
    return coalesce((price).per_request, 0)
        + greatest(prompt - coalesce(cached, 0) - coalesce(cache_write, 0) - coalesce(audio_prompt, 0), 0) * (price).input
        + coalesce(cached, 0) * coalesce((price).cached, (price).input)
        + greatest(coalesce(cache_write, 0) - coalesce(cache_write_1h, 0), 0) * coalesce((price).cache_write, (price).input)
        + least(coalesce(cache_write_1h, 0), coalesce(cache_write, 0)) * coalesce((price).cache_write_1h, (price).cache_write, (price).input)
        + coalesce(audio_prompt, 0) * coalesce((price).audio_input, (price).input)
        + greatest(coalesce(completion, 0) - coalesce(reasoning, 0) - coalesce(audio_completion, 0), 0) * (price).output
        + least(coalesce(reasoning, 0), coalesce(completion, 0)) * coalesce((price).reasoning, (price).output)
        + coalesce(audio_completion, 0) * coalesce((price).audio_output, (price).output)
        + coalesce(images * (price).image, 0) + coalesce(seconds * (price).per_second, 0) + coalesce(characters * (price).per_character, 0);
comment on function mrprompt_internal.cost_of(mrprompt_internal.price_rows, numeric, numeric, numeric, numeric, numeric, numeric, numeric,
    numeric, numeric, numeric, numeric) is
    'USD: prompt includes cached, cache_write and audio_prompt tokens, cache_write includes cache_write_1h, completion includes reasoning and audio_completion. Null: no price.';

-- As public price tables had them in mid-2026; check against the provider's page before you bill by it.
insert into mrprompt_internal.price_presets (id, provider, model, service_tier, above_tokens, input, output, cached, cache_write, cache_write_1h,
    audio_input, audio_output, source)
select md5(concat_ws(' ', provider, model, service_tier, above_tokens, '2025-01-01'))::uuid,
    provider, model, service_tier, above_tokens, input, output, cached, cache_write, cache_write_1h, audio_input, audio_output,
    coalesce(source, 'LiteLLM price map, mid-2026')
from (values
    ('openai', 'gpt-4o', 'standard', 0, 2.5e-06, 1e-05, 1.25e-06, null, null, null, null, null),
    ('openai', 'gpt-4o', 'batch', 0, 1.25e-06, 5e-06, null, null, null, null, null, null),
    ('openai', 'gpt-4o', 'priority', 0, 4.25e-06, 1.7e-05, 2.125e-06, null, null, null, null, null),
    ('openai', 'gpt-4o-mini', 'standard', 0, 1.5e-07, 6e-07, 7.5e-08, null, null, null, null, null),
    ('openai', 'gpt-4o-mini', 'batch', 0, 7.5e-08, 3e-07, null, null, null, null, null, null),
    ('openai', 'gpt-4o-mini', 'priority', 0, 2.5e-07, 1e-06, 1.25e-07, null, null, null, null, null),
    ('openai', 'gpt-5', 'standard', 0, 1.25e-06, 1e-05, 1.25e-07, null, null, null, null, null),
    ('openai', 'gpt-5', 'flex', 0, 6.25e-07, 5e-06, 6.25e-08, null, null, null, null, null),
    ('openai', 'gpt-5', 'priority', 0, 2.5e-06, 2e-05, 2.5e-07, null, null, null, null, null),
    ('openai', 'gpt-4o-audio-preview', 'standard', 0, 2.5e-06, 1e-05, null, null, null, 4e-05, 8e-05, null),
    ('openai', 'text-embedding-3-small', 'standard', 0, 2e-08, 0, null, null, null, null, null, null),
    ('openai', 'text-embedding-3-small', 'batch', 0, 1e-08, 0, null, null, null, null, null, null),
    ('openai', 'text-embedding-3-large', 'standard', 0, 1.3e-07, 0, null, null, null, null, null, null),
    ('openai', 'gpt-4.1', 'standard', 0, 2e-06, 8e-06, 5e-07, null, null, null, null, 'several public price tables, mid-2026'),
    ('openai', 'gpt-4.1-mini', 'standard', 0, 4e-07, 1.6e-06, 1e-07, null, null, null, null, 'several public price tables, mid-2026'),
    ('openai', 'gpt-4.1-nano', 'standard', 0, 1e-07, 4e-07, 2.5e-08, null, null, null, null, 'several public price tables, mid-2026'),
    ('openai', 'gpt-5-mini', 'standard', 0, 2.5e-07, 2e-06, 2.5e-08, null, null, null, null, 'several public price tables, mid-2026'),
    ('openai', 'gpt-5-nano', 'standard', 0, 5e-08, 4e-07, 5e-09, null, null, null, null, 'several public price tables, mid-2026'),
    ('openai', 'gpt-5.1', 'standard', 0, 1.25e-06, 1e-05, 1.25e-07, null, null, null, null, 'several public price tables, mid-2026'),
    ('openai', 'gpt-5.2', 'standard', 0, 1.75e-06, 1.4e-05, 1.75e-07, null, null, null, null, 'several public price tables, mid-2026'),
    ('openai', 'o3', 'standard', 0, 2e-06, 8e-06, 5e-07, null, null, null, null, 'several public price tables, mid-2026'),
    ('openai', 'o4-mini', 'standard', 0, 1.1e-06, 4.4e-06, 2.75e-07, null, null, null, null, 'several public price tables, mid-2026'),
    ('anthropic', 'claude-haiku-4-5*', 'standard', 0, 1e-06, 5e-06, 1e-07, 1.25e-06, 2e-06, null, null, 'several public price tables, mid-2026'),
    ('anthropic', 'claude-sonnet-4-20250514', 'standard', 0, 3e-06, 1.5e-05, 3e-07, 3.75e-06, 6e-06, null, null, null),
    ('anthropic', 'claude-sonnet-4-20250514', 'standard', 200000, 6e-06, 2.25e-05, 6e-07, 7.5e-06, 1.2e-05, null, null, null),
    ('anthropic', 'claude-sonnet-4-5*', 'standard', 0, 3e-06, 1.5e-05, 3e-07, 3.75e-06, 6e-06, null, null, null),
    ('anthropic', 'claude-sonnet-4-5*', 'standard', 200000, 6e-06, 2.25e-05, 6e-07, 7.5e-06, 1.2e-05, null, null, null),
    ('anthropic', 'claude-sonnet-4-6*', 'standard', 0, 3e-06, 1.5e-05, 3e-07, 3.75e-06, 6e-06, null, null, null),
    ('anthropic', 'claude-sonnet-5*', 'standard', 0, 2e-06, 1e-05, 2e-07, 2.5e-06, 4e-06, null, null, null),
    ('anthropic', 'claude-opus-4-5*', 'standard', 0, 5e-06, 2.5e-05, 5e-07, 6.25e-06, 1e-05, null, null, null),
    ('anthropic', 'claude-opus-4-6*', 'standard', 0, 5e-06, 2.5e-05, 5e-07, 6.25e-06, 1e-05, null, null, null),
    ('anthropic', 'claude-opus-4-7*', 'standard', 0, 5e-06, 2.5e-05, 5e-07, 6.25e-06, 1e-05, null, null, null),
    ('anthropic', 'claude-opus-4-8*', 'standard', 0, 5e-06, 2.5e-05, 5e-07, 6.25e-06, 1e-05, null, null, null)
) as known (provider, model, service_tier, above_tokens, input, output, cached, cache_write, cache_write_1h, audio_input, audio_output, source);

insert into mrprompt_internal.model_presets (provider, model, max_output_tokens, context_tokens, image_tokens, source) values
    ('openai', 'gpt-4o', 16384, 128000, 1445, 'LiteLLM price map, mid-2026; 8 tiles of 170 and 85'),
    ('openai', 'gpt-4o-mini', 16384, 128000, 48169, 'LiteLLM price map, mid-2026; 8 tiles of 5667 and 2833'),
    ('anthropic', 'claude-sonnet-4-20250514', 64000, 1000000, 1600, 'LiteLLM price map, mid-2026'),
    ('anthropic', 'claude-sonnet-4-5*', 64000, 200000, 1600, 'LiteLLM price map, mid-2026');
