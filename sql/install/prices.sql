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
    if tg_op = 'DELETE' then
        delete from mrprompt_internal.price_rows r
        where r.provider = old.provider and r.model = old.model and r.effective_from = old.effective_from;
        if not found then
            raise exception using errcode = 'PT400',
                message = format('the price of %s at %s comes with mrprompt and cannot be deleted', old.model, old.provider),
                hint = 'Insert a price of your own for the model: it comes first.';
        end if;
        return old;
    elsif tg_op = 'UPDATE' then
        update mrprompt_internal.price_rows r
        set provider = new.provider, model = new.model, effective_from = coalesce(new.effective_from, now()), input = new.input, output = new.output,
            cached = new.cached, cache_write = new.cache_write, source = new.source
        where r.provider = old.provider and r.model = old.model and r.effective_from = old.effective_from;
        if found then
            return new;
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

