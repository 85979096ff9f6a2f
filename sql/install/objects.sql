-- What threads, messages and runs have in common: metadata; and what all lists have: pages.

create function mrprompt_internal.check_metadata(metadata jsonb, place text default 'metadata') returns void
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    bad text;
begin
    if metadata is null then
        return;
    end if;
    if jsonb_typeof(metadata) <> 'object' then
        raise exception using errcode = 'PT400', message = place || ' must be a JSON object', detail = format('it is %s', jsonb_typeof(metadata)),
            hint = '{"topic": "billing"}';
    end if;
    select case
        when count(*) > 16 then format('it has %s', count(*))
        when max(length(m.key)) > 64 then format('a key has %s characters: %s…', max(length(m.key)), left(max(m.key) filter (where length(m.key) > 64), 64))
        when max(length(m.value #>> '{}')) > 512
            then format('the value of %s has %s characters', min(m.key) filter (where length(m.value #>> '{}') > 512), max(length(m.value #>> '{}')))
        when bool_or(m.nested) then format('the value of %s is an %s', min(m.key) filter (where m.nested), min(jsonb_typeof(m.value)) filter (where m.nested)) end
    into bad from (
        -- By its tags, an array, a run's costs are counted.
        select e.key, e.value, jsonb_typeof(e.value) = 'object' or jsonb_typeof(e.value) = 'array' and e.key <> 'tags' as nested from jsonb_each(metadata) e) m;
    if bad is not null then
        raise exception using errcode = 'PT400', message = place || ' takes 16 pairs at most, keys of up to 64 characters and values of up to 512, which are no objects or arrays',
            detail = bad, hint = 'Keep what is more, longer or nested in a table of your own, by the id.';
    end if;
end
$$;
comment on function mrprompt_internal.check_metadata(jsonb, text) is
    'PT400, naming the place, unless it is an object as the Assistants API took it: 16 pairs, keys of 64 characters, values (strings, there; numbers, booleans '
    'and null, too, here) whose text has 512. Null is fine.';

create function mrprompt_internal.page_goes_up(most integer, direction text, backwards boolean) returns boolean
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    if coalesce(most not between 1 and 100, true) then
        raise exception using errcode = 'PT400', message = 'limit must be between 1 and 100', detail = format('it is %s', coalesce(most::text, 'null')),
            hint = 'Go on with after => the last id.';
    end if;
    if coalesce(direction not in ('asc', 'desc'), true) then
        raise exception using errcode = 'PT400', message = 'order must be asc or desc', detail = format('it is %s', coalesce(left(direction, 50), 'null')),
            hint = 'asc: the oldest first; desc: the newest first.';
    end if;
    -- What lies just before a row is found by going back from it.
    return (direction = 'asc') <> backwards;
end
$$;
comment on function mrprompt_internal.page_goes_up(integer, text, boolean) is
    'Whether a page of a list is read from old to new; backwards: it is the one before a row. PT400: a limit or an order that is none.';

create function mrprompt_internal.check_when_busy(when_busy text) returns void
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    if coalesce(when_busy not in ('refuse', 'queue'), true) then
        raise exception using errcode = 'PT400', message = 'when_busy must be refuse or queue', detail = format('it is %s', coalesce(left(when_busy, 50), 'null')),
            hint = 'refuse: PT409 while a run is active; queue: it waits until that has ended.';
    end if;
end
$$;
comment on function mrprompt_internal.check_when_busy(text) is 'PT400.';

grant execute on function mrprompt_internal.page_goes_up to mrprompt_user, mrprompt_admin;
