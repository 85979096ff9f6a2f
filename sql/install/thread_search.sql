-- Full-text search over what was said in one's own threads.

create function mrprompt_internal.searched_text(content json) returns text
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    said constant text := mrprompt_internal.message_text(content);
begin
    -- A tsvector holds less than a megabyte, and a text can need four times its size.
    return left(said, case when octet_length(left(said, 200000)) > 200000 then 50000 else 200000 end);
end
$$;
comment on function mrprompt_internal.searched_text(json) is 'As much of a message''s text as can be searched: 200,000 bytes of its beginning, about.';

create function mrprompt_internal.owner_words(user_id uuid, thread_id uuid) returns text[]
    language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    -- No word of a text has a control character.
    return array_remove(array[E'\x01' || user_id, E'\x02' || thread_id], null);
end
$$;
comment on function mrprompt_internal.owner_words(uuid, uuid) is 'The words by which the index of messages tells users and threads apart.';

create function mrprompt_internal.message_words(content json, user_id uuid, thread_id uuid) returns tsvector
    language plpgsql immutable
    -- Not a notice about each long word, such as an encoded file.
    set search_path = pg_catalog, pg_temp set client_min_messages = warning
as $$
begin
    return to_tsvector('simple', coalesce(mrprompt_internal.searched_text(content), '')) || array_to_tsvector(mrprompt_internal.owner_words(user_id, thread_id));
end
$$;
comment on function mrprompt_internal.message_words(json, uuid, uuid) is
    'What the index of messages holds of one: its words, and whose it is, so that a search reads no more of it than the user''s own part.';

create index messages_words on mrprompt.messages using gin (mrprompt_internal.message_words(content, user_id, thread_id))
    where role <> 'tool' and content is not null;

create function mrprompt_internal.search_query(query text, language text) returns tsquery
    language plpgsql stable set search_path = pg_catalog, pg_temp set client_min_messages = warning
as $$
declare
    words constant tsquery := websearch_to_tsquery('simple', query);
    stems tsquery;
begin
    if language = 'simple' then
        return words;
    end if;
    begin
        stems := websearch_to_tsquery(language::regconfig, query);
    exception when undefined_object or invalid_text_representation or syntax_error or invalid_name then
        raise exception using errcode = 'PT400', message = format('there is no text search configuration %s', left(language, 100)),
            detail = (select 'Known: ' || string_agg(c.cfgname, ', ' order by c.cfgname) from pg_ts_config c where c.cfgnamespace = 'pg_catalog'::regnamespace);
    end;
    -- The index has whole words: of each, what begins with the stem.
    return case when numnode(stems) = 0 then words
        else words || regexp_replace(stems::text, '(''(?:[^'']|'''')+'')', '\1:*', 'g')::tsquery end;
end
$$;
comment on function mrprompt_internal.search_query(text, text) is
    'What is looked for: the words as they are, and in a language words that begin with their stems as well. PT400: no such language.';

create function mrprompt_internal.search_messages(query text, of_thread uuid, most integer, language text, user_id uuid)
    returns table (
        thread_id uuid, thread_title text, message_id uuid, role text, snippet text, rank real, created_at timestamptz)
    language plpgsql stable security definer
    set search_path = pg_catalog, pg_temp set enable_seqscan = off set plan_cache_mode = force_custom_plan set client_min_messages = warning
as $$
declare
    acting constant uuid := mrprompt_internal.acting_user(user_id);
    up constant boolean := mrprompt_internal.page_goes_up(most, 'desc', false);
    wanted constant tsquery := mrprompt_internal.search_query(query, coalesce(language, 'simple'));
    owned constant tsquery := (
        select string_agg(quote_literal(w), ' & ')::tsquery from unnest(mrprompt_internal.owner_words(acting, of_thread)) w);
begin
    if coalesce(numnode(wanted), 0) = 0 then
        raise exception using errcode = 'PT400', message = 'query has no word to look for', detail = format('it is %s', coalesce(left(query, 100), 'null')),
            hint = 'Words, "a phrase", or, -without';
    end if;
    if of_thread is not null
        and not exists (select from mrprompt.threads t where t.id = of_thread and t.user_id = acting and t.deleted_at is null) then
        perform mrprompt_internal.refuse_thread(of_thread);
    end if;
    return query
    select h.thread_id, coalesce(h.title, mrprompt_internal.first_words(h.thread_id)), h.id, h.role,
        ts_headline('simple', mrprompt_internal.searched_text(h.content), wanted, 'StartSel=**, StopSel=**, MaxFragments=2, MinWords=5, MaxWords=25'),
        h.rank, h.created_at
    from (select n.*, ts_rank(mrprompt_internal.message_words(n.content, n.user_id, n.thread_id), wanted) as rank
          from (select m.id, m.thread_id, m.user_id, m.role, m.content, m.created_at, t.title
                from mrprompt.messages m join mrprompt.threads t on t.id = m.thread_id and t.deleted_at is null
                where mrprompt_internal.message_words(m.content, m.user_id, m.thread_id) @@ (wanted && owned)
                  and m.role <> 'tool' and m.content is not null
                  and m.user_id = acting and (of_thread is null or m.thread_id = of_thread)
                order by m.id desc limit 1000) n
          order by 8 desc, n.id desc limit most) h
    order by h.rank desc, h.id desc;
end
$$;
comment on function mrprompt_internal.search_messages(text, uuid, integer, text, uuid) is
    'search_messages() with the owner''s rights, for the index could not be used under row-level security (@@ is not leakproof); judges the caller itself.';

create function mrprompt.search_messages(
    query text, inout thread_id uuid default null, "limit" integer default 20, language text default 'simple', user_id uuid default null,
    out thread_title text, out message_id uuid, out role text, out snippet text, out rank real, out created_at timestamptz)
    returns setof record
    language sql stable
begin atomic
    select s.thread_id, s.thread_title, s.message_id, s.role, s.snippet, s.rank, s.created_at
    from mrprompt_internal.search_messages(search_messages.query, search_messages.thread_id, search_messages."limit", search_messages.language,
        search_messages.user_id) s;
end;
comment on function mrprompt.search_messages(text, uuid, integer, text, uuid) is
    'Looks for words in what was said in your threads, or in one: query as in a search engine (words, "a phrase", or, -without); best first among the '
    'newest 1,000 that match; snippet has what was found between **. language (english, russian, …): also other forms of the words. PT400, PT404, 42501.';

grant execute on function mrprompt_internal.search_messages, mrprompt.search_messages to mrprompt_user, mrprompt_admin;
