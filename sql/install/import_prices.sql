-- import_prices(): LiteLLM's model_prices_and_context_window.json into mrprompt.prices and mrprompt.models. Its figures are taken as they
-- are written, digit by digit, and go through the same checks as an admin's.

create function mrprompt_internal.provider_of_litellm(name text) returns text
    language sql immutable parallel safe
    return case name when 'streamlake' then 'vanchin' when 'together_ai' then 'together' when 'text-completion-openai' then 'openai' else name end;
comment on function mrprompt_internal.provider_of_litellm(text) is
    'The row of mrprompt.providers for a litellm_provider: that of the same name, but for a few.';

create function mrprompt_internal.litellm_fields(entry json)
    returns table (field text, price text, above_tokens numeric, service_tier text, value json)
    language plpgsql immutable rows 10 set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with fields as (
        select f.key, 0::numeric as starts_at, f.value from json_each(entry) f
        union all
        select f.key, case when json_typeof(t -> 'range' -> 0) = 'number' then (t -> 'range' ->> 0)::numeric end, f.value
        from json_array_elements(case json_typeof(entry -> 'tiered_pricing') when 'array' then entry -> 'tiered_pricing' else '[]' end) t
        cross join lateral json_each(case json_typeof(t) when 'object' then t else '{}' end) f
        where json_typeof(t -> 'range') = 'array'
    ), parsed as (
        select f.*, regexp_match(f.key, '^(.*?)(?:_above_([0-9]{1,9})k_tokens)?(?:_(flex|priority|batches))?$') as part
        from fields f where f.key like '%put_%cost%'
    )
    select p.key, n.price, trunc(coalesce(p.part[2]::numeric * 1000, p.starts_at)), coalesce(replace(p.part[3], 'batches', 'batch'), 'standard'), p.value
    from parsed p
    join (values ('input_cost_per_token', 'input'), ('output_cost_per_token', 'output'), ('cache_read_input_token_cost', 'cached'),
            ('cache_creation_input_token_cost', 'cache_write'), ('cache_creation_input_token_cost_above_1hr', 'cache_write_1h'),
            ('output_cost_per_reasoning_token', 'reasoning'), ('input_cost_per_audio_token', 'audio_input'),
            ('output_cost_per_audio_token', 'audio_output'), ('input_cost_per_image', 'image'), ('input_cost_per_request', 'per_request'),
            -- Both at once mean one charge.
            ('input_cost_per_second', 'per_second'), ('output_cost_per_second', 'per_second'), ('input_cost_per_character', 'per_character')
        ) n (name, price) on n.name = p.part[1]
    where json_typeof(p.value) <> 'null';
end
$$;
comment on function mrprompt_internal.litellm_fields(json) is
    'The prices in an entry: the field, the column of mrprompt.prices it goes into, from how many tokens of prompt and for which service tier '
    'it holds, and what it says.';

create function mrprompt_internal.litellm_number(value json, field text) returns numeric
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    if value is null or json_typeof(value) = 'null' then
        return null;
    elsif json_typeof(value) <> 'number' then
        raise exception using errcode = 'invalid_parameter_value', message = format('%s is no number: %s', field, left(value::text, 100));
    end if;
    return value::text::numeric;
end
$$;
comment on function mrprompt_internal.litellm_number(json, text) is 'A number of an entry, exactly as written; null: it has none. 22023: it is none.';

create function mrprompt_internal.litellm_prices(entry json) returns mrprompt_internal.price_rows[]
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    prices mrprompt_internal.price_rows[];
begin
    with said as materialized (
        select s.service_tier, s.above_tokens, jsonb_object_agg(s.price, s.value) as prices
        from (select f.service_tier, f.above_tokens, f.price, max(mrprompt_internal.litellm_number(f.value, f.field)) as value
              from mrprompt_internal.litellm_fields(entry) f group by 1, 2, 3) s
        group by 1, 2
    )
    -- What a service tier or a size does not say is as without it.
    select array_agg(jsonb_populate_record(null::mrprompt_internal.price_rows, '{"input": 0, "output": 0}' || coalesce(base.prices, '{}')
            || coalesce(tier.prices, '{}') || coalesce(size.prices, '{}') || s.prices
            || jsonb_build_object('service_tier', s.service_tier, 'above_tokens', s.above_tokens)) order by s.service_tier, s.above_tokens)
    into prices
    from said s
    left join said base on base.service_tier = 'standard' and base.above_tokens = 0
    left join said tier on tier.service_tier = s.service_tier and tier.above_tokens = 0
    left join said size on size.service_tier = 'standard' and size.above_tokens = s.above_tokens
    where s.prices <> '{}';
    if prices is not null and not exists (select from unnest(prices) p where p.service_tier = 'standard' and p.above_tokens = 0) then
        raise exception using errcode = 'invalid_parameter_value', message = 'it has prices for some sizes or service tiers only';
    end if;
    if entry ->> 'mode' in ('chat', 'completion', 'responses') and 1 = (
        select count(distinct f.price) from mrprompt_internal.litellm_fields(entry) f
        where f.price in ('input', 'output') and f.service_tier = 'standard' and f.above_tokens = 0) then
        raise exception using errcode = 'invalid_parameter_value', message = 'it has one of the prices of input and output, not both';
    end if;
    return prices;
end
$$;
comment on function mrprompt_internal.litellm_prices(json) is
    'The prices of an entry, as rows without provider and model; null: it has none that mrprompt charges by. 22023, 22P02, 22003: figures that make no sense.';

create function mrprompt_internal.import_model(at text, name text, entry json, source text) returns boolean
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    known constant mrprompt_internal.model_rows := mrprompt_internal.model_of(at, name);
    own constant mrprompt_internal.model_rows := case when known.model = name then known end;
    wanted mrprompt_internal.model_rows := known;
begin
    wanted.provider := at;
    wanted.model := name;
    wanted.source := import_model.source;
    wanted.max_output_tokens := coalesce(trunc(mrprompt_internal.litellm_number(entry -> 'max_output_tokens', 'max_output_tokens')), known.max_output_tokens);
    wanted.context_tokens := coalesce(trunc(mrprompt_internal.litellm_number(entry -> 'max_input_tokens', 'max_input_tokens')), known.context_tokens);
    wanted.metadata := coalesce(own.metadata, '{}') || coalesce((
        select jsonb_object_agg(f.key, f.value::jsonb) from json_each(entry) f
        where f.key not in ('litellm_provider', 'max_output_tokens', 'max_input_tokens', 'tiered_pricing')
          and f.key not in (select p.field from mrprompt_internal.litellm_fields(entry) p)), '{}');
    if (wanted.priced_as, wanted.max_output_tokens, wanted.context_tokens, wanted.image_tokens, wanted.metadata)
        is not distinct from (own.priced_as, own.max_output_tokens, own.context_tokens, own.image_tokens, own.metadata) then
        return false;
    end if;
    insert into mrprompt_internal.model_rows as m values (wanted.*)
    on conflict (provider, model) do update
    set max_output_tokens = excluded.max_output_tokens, context_tokens = excluded.context_tokens, metadata = excluded.metadata, source = excluded.source;
    return true;
end
$$;
comment on function mrprompt_internal.import_model(text, text, json, text) is
    'Writes what an entry says of a model beside its prices, and keeps what else was known; false: that stood there already. Raises as checks do.';

create function mrprompt_internal.price_figures(price mrprompt_internal.price_rows) returns jsonb
    language sql immutable
    return to_jsonb(price) - '{provider,model,effective_from,source,id,replaced_at}'::text[];
comment on function mrprompt_internal.price_figures(mrprompt_internal.price_rows) is 'What a price says, and for which service tier and size.';

create function mrprompt_internal.import_entry(at text, name text, entry json, source text, out result text, out reason text, out prices integer)
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    wanted mrprompt_internal.price_rows[];
    in_force mrprompt_internal.price_rows[];
    changed boolean;
    violated text;
begin
    prices := 0;
    wanted := mrprompt_internal.litellm_prices(entry);
    if wanted is null then
        result := 'skipped';
        reason := 'it has no price that mrprompt charges by';
        return;
    end if;
    in_force := array(
        select distinct on (r.service_tier, r.above_tokens) r from mrprompt_internal.price_rows r
        where r.provider = at and r.model = name and r.replaced_at is null and r.effective_from <= now()
        order by r.service_tier, r.above_tokens, r.effective_from desc);
    if in_force = '{}' then
        in_force := array(
            select distinct on (r.service_tier, r.above_tokens) row(r.*)::mrprompt_internal.price_rows from mrprompt_internal.price_presets r
            where r.provider = at and r.model = name and r.replaced_at is null and r.effective_from <= now()
            order by r.service_tier, r.above_tokens, r.effective_from desc);
        -- A row of an admin's stands in front of every preset of its model: then all are written.
        if not exists (
            select from unnest(wanted) w where not exists (
                select from unnest(in_force) f where mrprompt_internal.price_figures(f) = mrprompt_internal.price_figures(w))) then
            wanted := '{}';
        end if;
        in_force := '{}';
    end if;
    insert into mrprompt_internal.price_rows
    select r.* from unnest(wanted) w
    cross join lateral jsonb_populate_record(w, jsonb_build_object('provider', at, 'model', name, 'effective_from', now(), 'source', import_entry.source,
        'id', mrprompt_internal.uuidv7())) r
    where not exists (select from unnest(in_force) f where mrprompt_internal.price_figures(f) = mrprompt_internal.price_figures(w));
    get diagnostics prices = row_count;
    changed := mrprompt_internal.import_model(at, name, entry, import_entry.source);
    result := case when changed or prices > 0 then 'loaded' else 'unchanged' end;
    reason := case when changed and prices = 0 then 'its prices were known; its limits or metadata are new' end;
exception
    when check_violation then
        get stacked diagnostics violated = constraint_name;
        result := 'rejected'; prices := 0;
        reason := replace(violated, '_', ' ') || coalesce((
            select format('; it is %s', v.value) from unnest(wanted) w
            cross join lateral (select to_jsonb(w) ->> split_part(violated, '_is_', 1) as value) v
            where v.value is not null order by abs(v.value::numeric) desc limit 1), '');
    when unique_violation then
        result := 'rejected'; prices := 0; reason := 'it has another price from this moment on already';
    when data_exception or not_null_violation then
        result := 'rejected'; prices := 0; reason := sqlerrm;
end
$$;
comment on function mrprompt_internal.import_entry(text, text, json, text) is
    'Loads one model of a price list: result is loaded, unchanged, rejected or skipped; reason in words; prices: how many rows were written.';

create function mrprompt_internal.import_prices(prices json, providers text[], source text)
    returns table (model text, provider text, result text, reason text, prices_loaded integer)
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    source_ constant text := coalesce(left(source, 200), 'LiteLLM price map, imported ' || to_char(now() at time zone 'UTC', 'YYYY-MM-DD'));
    unknown text;
    entry record;
    done record;
begin
    perform mrprompt_internal.require_admin('import prices');
    if prices is null or json_typeof(prices) <> 'object' then
        raise exception using errcode = 'PT400', message = 'prices must be a JSON object: {"model": {"litellm_provider": …, "input_cost_per_token": …}, …}',
            detail = format('it is %s', coalesce(json_typeof(prices), 'null')),
            hint = 'It is LiteLLM''s model_prices_and_context_window.json. In psql: \set map `cat FILE` and import_prices(:''map'').';
    end if;
    select w into unknown from unnest(import_prices.providers) w where not exists (select from mrprompt.providers p where p.name = w);
    if found then
        raise exception using errcode = 'PT404', message = format('there is no provider %s', coalesce(left(unknown, 100), 'null')),
            hint = 'select name from mrprompt.providers';
    end if;
    for entry in
        select e.key, e.value, l.provider as litellm, l.at, l.name,
            l.at = any (array(select p.name from mrprompt.providers p)) as known, coalesce(l.at = any (import_prices.providers), true) as wanted,
            row_number() over (partition by l.at, l.name order by e.place) > 1 as again
        from json_each(prices) with ordinality e (key, value, place)
        cross join lateral (select case json_typeof(e.value) when 'object' then e.value ->> 'litellm_provider' end as said) s
        cross join lateral (
            select s.said as provider, mrprompt_internal.provider_of_litellm(s.said) as at,
                case when starts_with(e.key, s.said || '/') then substr(e.key, length(s.said) + 2) else e.key end as name) l
        where e.key <> 'sample_spec' and l.at is not null
        order by e.place
    loop
        continue when not (entry.known and entry.wanted);
        if entry.again then
            return query select entry.name, entry.at, 'skipped', format('%s is the same model as an entry before it', entry.key), 0;
        else
            select * into done from mrprompt_internal.import_entry(entry.at, entry.name, entry.value, source_);
            return query select entry.name, entry.at, done.result, done.reason, done.prices;
        end if;
    end loop;
    return query
    select null::text, s.said, 'skipped', format('%s: %s', case count(*) when 1 then '1 model' else count(*) || ' models' end, case
        when s.said is null then 'no litellm_provider is said'
        when p.name is null then 'there is no provider of this name in mrprompt.providers'
        else 'not among the providers asked for' end), 0
    from json_each(prices) e
    cross join lateral (select case json_typeof(e.value) when 'object' then e.value ->> 'litellm_provider' end as said) s
    left join mrprompt.providers p on p.name = mrprompt_internal.provider_of_litellm(s.said)
    where e.key <> 'sample_spec' and (p.name is null or not coalesce(p.name = any (import_prices.providers), true))
    group by s.said, p.name order by count(*) desc, s.said;
end
$$;
comment on function mrprompt_internal.import_prices(json, text[], text) is 'import_prices() with the owner''s rights; judges the caller itself.';

create function mrprompt.import_prices(prices json, providers text[] default null, source text default null)
    returns table (model text, provider text, result text, reason text, prices_loaded integer)
    language sql volatile
begin atomic
    select i.model, i.provider, i.result, i.reason, i.prices_loaded from mrprompt_internal.import_prices(prices, providers, source) i;
end;
comment on function mrprompt.import_prices(json, text[], text) is
    'Admins: loads LiteLLM''s model_prices_and_context_window.json, of these providers (null: of all in mrprompt.providers). A price that '
    'differs from the one in force holds from now on; the past stays. One row per model: loaded, unchanged, skipped, or rejected with the '
    'reason; models of other providers are counted, with a null model. PT400, PT404.';

grant execute on function mrprompt.import_prices, mrprompt_internal.import_prices to mrprompt_admin;
