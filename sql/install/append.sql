-- The contract's append: stream deltas of many requests, stored as they arrive.

create function mrprompt_internal.append(args json) returns json
    language plpgsql security definer set search_path = pg_catalog, pg_temp
    set lock_timeout = '1s' set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
    set plan_cache_mode = force_generic_plan
as $$
declare
    call constant record := (select a from json_to_record(args) as a (fetcher uuid, deltas json));
    rejected json;
    lost uuid[];
begin
    perform mrprompt_internal.enter(call.fetcher);
    rejected := mrprompt_internal.append_slice(call.fetcher, array(select json_array_elements(call.deltas)));
    select array_agg(distinct d.request) into lost
    from json_to_recordset(call.deltas) as d (request uuid, attempt int)
    where not exists (select from mrprompt_internal.queue q
                      where q.request_id = d.request and q.attempt = d.attempt and q.fetcher_id = call.fetcher);
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
    perform mrprompt_internal.check_batch(cardinality(deltas));
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

