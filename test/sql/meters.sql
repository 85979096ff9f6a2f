-- What bounds a request, which prices its bound is made of, and who is looked at again when something changes.
\getenv dir PG_ABS_SRCDIR
\set helpers :dir '/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
\set ann 'aaaaaaaa-0000-4000-8000-000000000001'
\set bob 'bbbbbbbb-0000-4000-8000-000000000002'
drop function if exists t.fresh(), t.done(text, int, int), t.waiting();
create function t.fresh() returns void language sql as $$
    select t.reset();
    insert into mrprompt.prices (provider, model, input, output) values ('fake', 'fake-1', 0, 0.001);
    select t.be('ann');
    select t.hello('f1') $$;
create function t.post(label text, max_tokens int default null, who uuid default null, parameters json default '{}', model text default 'fake-1',
    messages json default '[{"role": "user", "content": "q"}]', tags json default '[]') returns void language sql as $$
    select mrprompt.chat(messages, model => model, provider => 'fake', user_id => who, parameters => case when max_tokens is not null then
            (parameters::jsonb || jsonb_build_object('max_tokens', max_tokens))::json else parameters end,
        metadata => jsonb_build_object('label', label) || case when json_array_length(tags) > 0 then jsonb_build_object('tags', tags) else '{}' end) $$;
create function t.done(label text, tokens int, attempt int default 1) returns jsonb language sql as $$ select t.outcome(label, attempt, 'succeeded', t.answer('a', 10, tokens)) $$;
create function t.waiting() returns table (label text, waits_for text, reason text, timed boolean) language sql as $$
    select t.label(q.request_id), q.waits_for, r.wait_reason, r.not_before is not null from mrprompt_internal.queue q join mrprompt.requests r on r.id = q.request_id
    where q.fetcher_id is null order by q.request_id $$;
-- The supervisor may be at the releases first.
create function t.soon(who text, wanted int) returns setof text language plpgsql as $$
begin
    for patience in 1..100 loop
        return query select c.label from t.claim(who, wanted) c;
        exit when found;
        perform pg_sleep(0.05);
    end loop;
end $$;
create function t.bounds(body text) returns table (output bigint, choices int, images int, special text[], small boolean) language sql as $$
    select b.output, b.choices, b.images, b.special, b.prompt < 400 from mrprompt_internal.bounds_of(body::json) b $$;

-- What is no bound is refused at the call.
select t.fresh();
select p, t.why(format('select t.post(''x'', parameters => %L)', p))
from unnest(array['{"n": 1001}', '{"n": "50"}', '{"n": 1.5}', '{"n": 0}', '{"max_tokens": "9"}', '{"max_tokens": 1e200000}', '{"max_tokens": -1}', '{"max_tokens": 4e3}',
    '{"max_completion_tokens": 10000000000}', '{"thinking": {"type": "enabled", "budget_tokens": "many"}}']) p;
select * from t.bounds('{"messages": [], "max_tokens": null, "n": null}');
select * from t.bounds('{"messages": [], "max_tokens": 7, "max_completion_tokens": 9.0, "n": 3}');
select * from t.bounds('{"messages": [], "thinking": {"type": "enabled", "budget_tokens": 1000}}');
-- Images wherever they are, their bytes left out; a word that is hidden by escapes is found; what lies elsewhere has the size of the context.
select b.* from unnest(array[
    '{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,' || repeat('A', 1000) || '"}}]}]}',
    '{"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": "' || repeat('A', 1000) || '"}}]}]}',
    '{"messages": [{"role": "user", "content": [{"type": "tool_result", "content": [{"type": "image", "source": {"type": "url", "url": "x"}}]}]}]}',
    '{"messages": [{"role": "user", "content": [{"type": "\u0069mage_url", "\u0069mage_url": {"url": "x"}}]}]}',
    '{"messages": [{"role": "user", "content": "\u043f\u0440\u0438\u0432\u0435\u0442 \u003cb\u003e"}]}',
    '{"messages": [{"role": "user", "content": [{"type": "text", "text": "q", "cache_control": {"\u0074tl": "1h"}}]}]}',
    '{"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]}',
    '{"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "url", "url": "x"}}]}], "service_tier": "flex"}',
    '{"messages": [], "service_tier": "auto"}', '{"messages": [], "service_tier": "default"}']) body, t.bounds(body) b;

-- The dearest tier that may be served is held, unless one is asked for.
select t.fresh();
insert into mrprompt.prices (provider, model, service_tier, input, output) values ('fake', 'fake-1', 'priority', 0, 0.002), ('fake', 'fake-1', 'flex', 0, 0.0005);
insert into mrprompt.models (provider, model, context_tokens) values ('fake', 'reader', 500);
insert into mrprompt.prices (provider, model, input, output) values ('fake', 'reader', 0.001, 0);
select mrprompt.set_budget('everybody', null, 10) is not null;
select t.post('any', 100), t.post('default', 100, parameters => '{"service_tier": "default"}'), t.post('flex', 100, parameters => '{"service_tier": "flex"}'),
    t.post('file', 100, model => 'reader', messages => '[{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]');
select count(*) from t.claim('f1');
select t.label(request_id), hold from mrprompt_internal.queue order by request_id;
-- What the answer names does not reprice what was asked for.
select t.fresh();
insert into mrprompt.prices (provider, model, input, output) values ('fake', 'm*', 0, 0.001), ('fake', 'm-2026', 0, 0.005);
select asked, p.output from unnest(array['m-1', 'm-2026', 'other']) asked, mrprompt_internal.prices_of('fake', asked, 'm-2026', now()) p;

-- One request that asks for everything delays nobody for long: the wait is bounded, and so is what is reserved of a shared limit.
select t.fresh();
select mrprompt.set_rate_limit('user', '*', tokens_per_minute => 1000) is not null, mrprompt.set_rate_limit('everybody', null, tokens_per_minute => 50000) is not null;
select t.post('huge', 1000000000, parameters => '{"n": 1000}'), t.post('small', 10), t.post('other', 10, who => :'bob');
select label from t.claim('f1');
select * from t.waiting();
select t.label(id), not_before - now() < interval '61 minutes' as bounded from mrprompt.requests where status = 'queued' order by id;
select t.settle('f1', t.done('huge', 1));
select tokens_left > 49000 as given_back from mrprompt.rate_limit_status where scope = 'everybody';

-- A model has its own budget, by either name, in place of each model's; and a model called * has not.
select t.fresh();
select mrprompt.set_budget('model', '*', 0.01) is not null, mrprompt.set_budget('model', 'fake/fake-1', 100) is not null;
select t.post('own', 50);
insert into mrprompt.prices (provider, model, input, output) values ('fake', '*', 0, 0.001);
select t.why($$select t.post('star', 50, model => '*')$$);

-- A change is in force for what waits already: a higher limit, an own budget in place of everybody's, a group that was left, a budget that is gone.
select t.fresh();
select mrprompt.set_rate_limit('user', '*', requests_per_minute => 1) is not null;
select t.post('a'), t.post('b'), t.post('c', who => :'bob');
select label from t.claim('f1');
select * from t.waiting();
select mrprompt.set_rate_limit('user', '*', requests_per_minute => 6000) is not null;
select t.soon('f1', 10);
select t.fresh();
select mrprompt.set_budget('user', '*', 0.5, at_limit => 'wait') is not null, mrprompt.add_group_member('team', :'bob'),
    mrprompt.set_budget('group', 'team', 0.5, at_limit => 'wait') is not null;
select t.post('a', 400), t.post('b', 400), t.post('c', 400, who => :'bob'), t.post('d', 400, who => :'bob');
select label from t.claim('f1');
select t.settle('f1', t.done('a', 400), t.done('c', 400));
select label from t.claim('f1');
select * from t.waiting();
select mrprompt.set_budget('user', :'ann', 100) is not null;
select t.soon('f1', 10);
select mrprompt.set_budget('user', :'bob', 100) is not null;
select label from t.claim('f1');
select mrprompt.remove_group_member('team', :'bob');
select t.soon('f1', 10);
-- Some at a time, each once: those that must wait again do not come up for ever.
select t.fresh();
select mrprompt.set_rate_limit('everybody', null, in_flight => 1) is not null;
select t.post('w' || n) from generate_series(1, 30) n;
select label from t.claim('f1', 40);
select count(*) from t.waiting();
select mrprompt.set_rate_limit('everybody', null, in_flight => 1, burst_seconds => 61) is not null;
select mrprompt_internal.apply_releases(10), mrprompt_internal.apply_releases(10), mrprompt_internal.apply_releases(10), mrprompt_internal.apply_releases(10);
select count(*) filter (where done_at is null) as under_way from mrprompt_internal.releases;

-- Room that one who was woken makes nothing of goes on to the next.
select t.fresh();
select mrprompt.set_budget('everybody', null, 1) is not null, mrprompt.set_budget('tag', 'poor', 0.1, at_limit => 'wait') is not null;
select t.post('first', 1000), t.post('poor', 100, tags => '["poor"]');
select t.post('w' || n, 900) from generate_series(1, 12) n;
update mrprompt_internal.queue set tag = 0 where request_id = t.id('first');
select label from t.claim('f1', 1);
select count(*) from t.claim('f1');
select count(*) filter (where not timed) as until_something_ends, count(*) from t.waiting();
select t.settle('f1', t.done('first', 1000));
-- Nothing is left for any of them: they fail one after the other, and nobody waits for nothing.
do $$ begin for i in 1..20 loop perform t.claim('f1'); end loop; end $$;
select status, count(*) from mrprompt.requests group by 1 order by 1;
-- Somebody deletes a request in flight, and its fetcher dies: nothing stays held, and what may have been charged is spent.
select t.fresh();
select mrprompt.set_budget('everybody', null, 1) is not null, mrprompt.set_rate_limit('user', '*', in_flight => 5) is not null;
select t.post('a', 300), t.post('b', 300);
select count(*) from t.claim('f1');
delete from mrprompt.requests where id = t.id('a');
select held from mrprompt.budget_status;
select mrprompt_internal.fetcher_gone(id, true) from t.fetcher;
select held from mrprompt.budget_status;
select subject = '*' as each_ones, in_flight from mrprompt.rate_limit_status order by 1;
select count(*), count(*) filter (where estimated) as estimated, bool_and(user_id = :'ann') as hers from mrprompt.usage;
select * from mrprompt.check_usage();
-- What rows that are put aside for something else were woken for goes on to others.
select t.fresh();
insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private) values ('other', 'openai', 'http://127.0.0.1:9/v1', true, true);
insert into mrprompt.prices (provider, model, input, output) values ('other', 'fake-1', 0, 0.001);
select mrprompt.set_rate_limit('everybody', null, in_flight => 1) is not null;
select t.post('first');
select label from t.claim('f1');
select count(mrprompt.chat_text('q', model => 'fake-1', provider => 'other')) from generate_series(1, 20);
select t.post('live');
select count(*) from t.claim('f1', 40);
select mrprompt.pause('other');
select t.settle('f1', t.done('first', 1));
do $$ begin for i in 1..8 loop exit when exists (select from t.claim('f1')); end loop; end $$;
select t.label(request_id) from mrprompt_internal.queue where fetcher_id is not null;
select mrprompt.resume('other');
-- A price that is replaced while an attempt is under way: it costs what it was held for.
select t.fresh();
select mrprompt.set_budget('everybody', null, 10) is not null;
select t.post('a', 100), t.post('b', 100);
select count(*) from t.claim('f1');
begin;
delete from mrprompt.prices where provider = 'fake' and model = 'fake-1' and not preset;
insert into mrprompt.prices (provider, model, input, output) values ('fake', 'fake-1', 0, 0.002);
commit;
select t.settle('f1', t.done('a', 100));
update mrprompt.prices set output = 0.003, effective_from = now() where provider = 'fake' and model = 'fake-1' and not preset;
select t.settle('f1', t.done('b', 100));
select t.label(request_id), cost, price_known from mrprompt.usage order by request_id;
