-- Budgets and rate limits: what is held before a call, charged after it, refused, and waits.
\getenv dir PG_ABS_SRCDIR
\set helpers :dir '/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
\set ann 'aaaaaaaa-0000-4000-8000-000000000001'
\set bob 'bbbbbbbb-0000-4000-8000-000000000002'
-- A thousandth of a dollar per token of the answer, and nothing for the prompt.
create function t.anew() returns void language sql as $$
    select t.reset();
    insert into mrprompt.prices (provider, model, input, output) values ('fake', 'fake-1', 0, 0.001);
    select t.be('ann');
    select t.hello('f1') $$;
create function t.want(label text, max_tokens int default null, who uuid default null, tags json default '[]', options json default null, model text default 'fake-1')
    returns void language sql as $$
    select mrprompt.chat_text('q', model => model, provider => 'fake', max_tokens => max_tokens, user_id => who, options => options,
        metadata => jsonb_build_object('label', label) || case when json_array_length(tags) > 0 then jsonb_build_object('tags', tags) else '{}' end) $$;
create function t.done(label text, tokens int, attempt int default 1) returns jsonb language sql as $$ select t.outcome(label, attempt, 'succeeded', t.answer('a', 10, tokens)) $$;
create function t.money() returns table (scope text, subject text, period text, amount numeric, extra numeric, spent numeric, held numeric, "left" numeric) language sql as $$
    select scope, subject, period, amount, extra, spent, held, "left" from mrprompt.budget_status order by scope, subject, period $$;
create function t.waiting() returns table (label text, waits_for text, reason text) language sql as $$
    select t.label(q.request_id), q.waits_for, r.wait_reason from mrprompt_internal.queue q join mrprompt.requests r on r.id = q.request_id
    where q.fetcher_id is null order by q.request_id $$;
create function t.failed() returns table (label text, status text, error_status int, error_type text, error_message text) language sql as $$
    select metadata ->> 'label', status, error_status, error_type, error_message from mrprompt.requests where status = 'failed' order by id $$;

-- What fits is held, what may fit later waits, what a settled request did not use comes back.
select t.anew();
select mrprompt.set_budget('user', :'ann', 1) is not null;
select t.want('a', 400), t.want('b', 400), t.want('c', 400);
select label from t.claim('f1');
select * from t.money();
select * from t.waiting();
select t.label(request_id), attempt, amount, cardinality(budgets), expires_at > now() from mrprompt.budget_holds order by 1;
select t.settle('f1', t.done('a', 100));
select label from t.claim('f1');
select t.settle('f1', t.done('b', 400), t.done('c', 400));
select * from t.money();
select t.label(request_id), cost, hold, cardinality(counters), price_id = p.id from mrprompt.usage, mrprompt.prices p where p.provider = 'fake' order by request_id;
-- What does not fit any more is refused at the call, and nothing is queued.
select t.why($$select t.want('d', 101)$$);
select t.want('e', 100);
select label from t.claim('f1');
select t.settle('f1', t.done('e', 100));
select * from t.money();
select * from t.why($$select t.want('f', 1)$$);
-- More for this month, and a higher budget: in force at once.
select mrprompt.grant_extra(budget_id, 0.5, note => 'a present') from mrprompt.budget_status;
select t.want('f', 500);
select label from t.claim('f1');
select t.settle('f1', t.done('f', 500));
select mrprompt.set_budget('user', :'ann', 2) is not null;
select * from t.money();
-- A soft limit speaks once per period.
select subject = :'ann' as ann, threshold, amount, spent from mrprompt.budget_alerts;

-- Every budget that fits a request must hold: everybody's, a group's, a model's, a tag's, each key's, the user's own.
select t.anew();
select mrprompt.add_group_member('team', :'ann');
select count(mrprompt.set_budget(s.scope, s.subject, s.amount, s.period)) from (values ('everybody', null, 100, 'day'), ('group', 'team', 50, 'week'),
    ('model', 'fake/fake-1', 40, 'hour'), ('provider', 'fake', 30, '30 days'), ('tag', 'night', 20, 'none'), ('user', '*', 10, 'month'), ('agent', '*', 5, 'month')) s (scope, subject, amount, period);
select t.want('a', 1000, tags => '["night", "x"]'), t.want('b', 1000, :'bob');
select label from t.claim('f1');
select * from t.money();
select t.settle('f1', t.done('a', 10), t.done('b', 20));
select * from t.money();
select period, period_start = case period when 'none' then '-infinity' when '30 days' then period_start else date_trunc(period, now(), 'UTC') end as starts,
    period_end - case period when 'none' then '-infinity' else period_start end > interval '59 minutes' as lasts from mrprompt.budget_status where period <> 'none' order by 1, 2;
select tags from mrprompt.usage where tags is not null;
-- The smallest decides: bob's own row takes the place of each user's.
select mrprompt.set_budget('user', :'bob', 0.01) is not null;
select * from t.why($$select t.want('c', 11, 'bbbbbbbb-0000-4000-8000-000000000002')$$);
select t.want('c', 1000);
select label from t.claim('f1');
select t.settle('f1', t.done('c', 0));

-- A limit is sent with what names none: the model's, else the setting's; and it is what was held for.
select t.anew();
select mrprompt.set_budget('everybody', null, 100) is not null;
insert into mrprompt.models (provider, model, max_output_tokens) values ('fake', 'big*', 7000);
insert into mrprompt.prices (provider, model, input, output) values ('fake', 'big*', 0, 0.001);
select t.want('a'), t.want('b', model => 'big-2'), t.want('c', 5);
select t.label((j ->> 'request')::uuid), j ->> 'output_limit' as output_limit
from mrprompt_internal.claim((t.args('f1') || '{"room": 9, "bytes": 1000000}')::json) c, json_array_elements(c.body -> 'jobs') j order by 1;
select t.label(request_id), amount from mrprompt.budget_holds order by 1;

-- Bounds: bytes for tokens, images by themselves, every price that may apply, the tier of the size.
select * from mrprompt_internal.bounds_of('{"messages": [{"role": "user", "content": "twelve bytes"}]}');
select prompt, output, choices, images, special from mrprompt_internal.bounds_of('{"messages": [{"role": "user", "content": [{"type": "text", "text": "see"},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}}, {"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}],
    "max_tokens": 50, "max_completion_tokens": 70, "n": 3, "service_tier": "priority", "tools": [], "cache": {"ttl": "1h"}}');
select output from mrprompt_internal.bounds_of('{"messages": [], "thinking": {"type": "enabled", "budget_tokens": 10000}}');
select mrprompt_internal.bound_cost(array(select p from mrprompt_internal.prices_of('anthropic', 'claude-sonnet-4-5', null, now()) p), prompt, 1000, null, special) as usd
from (values (100000, null), (100000, array['1h']), (200001, null)) b (prompt, special);

-- No price: refused under a budget, unless a setting says otherwise; without a budget it runs.
select * from t.why($$select t.want('d', 10, model => 'unheard-of')$$);
select mrprompt.delete_budget(budget_id) from mrprompt.budget_status;
select t.want('d', 10, model => 'unheard-of');
select mrprompt.set_budget('everybody', null, 100) is not null;
select label from t.claim('f1');
select * from t.failed();

-- The next period: what may wait for it does, and what would never fit does not.
select t.anew();
select mrprompt.set_budget('user', :'ann', 1, 'hour', at_limit => 'wait') is not null;
select t.want('a', 900);
select label from t.claim('f1');
select t.settle('f1', t.done('a', 900));
select t.want('b', 200);
select label from t.claim('f1');
select label, waits_for, reason from t.waiting();
select not_before = date_trunc('hour', now(), 'UTC') + interval '1 hour' as next_hour from mrprompt.requests where status = 'queued';
select * from t.why($$select t.want('c', 1001)$$);
-- The budget changes: what waits is looked at again.
select mrprompt.set_budget('user', :'ann', 2, 'hour', at_limit => 'wait') is not null;
select label from t.claim('f1');
-- Refused at the claim: the budget shrank while it waited in the queue.
select t.want('d', 100);
select mrprompt.set_budget('user', :'ann', 0.5, 'hour') is not null;
select label from t.claim('f1');
select * from t.failed();

-- A provider that charges beyond every bound is paid in full, and seen.
select t.anew();
select mrprompt.set_budget('user', :'ann', 1) is not null;
select t.want('a', 100);
select label from t.claim('f1');
select t.settle('f1', t.done('a', 3000));
select cost, hold, cost > hold as beyond from mrprompt.usage;
select * from t.money();

-- The fetcher dies: its holds go, and what the attempt may have cost is estimated.
select t.anew();
select mrprompt.set_budget('user', :'ann', 1) is not null;
select t.want('a', 500);
select label from t.claim('f1');
select * from t.money();
select mrprompt_internal.append((t.args('f1') || jsonb_build_object('deltas', jsonb_build_array(jsonb_build_object('request', t.id('a'), 'attempt', 1, 'seq', 1,
    'content', 'eighteen bytes here'))))::json) is not null;
select mrprompt_internal.fetcher_gone(id, true) from t.fetcher;
select outcome, prompt_tokens > 0 as prompt, completion_tokens, cost, estimated from mrprompt.usage;
select * from t.money();
select count(*) from mrprompt.budget_holds;
-- Retries hold anew, each time.
select t.hello('f1');
select mrprompt_internal.tend('{"limit": 100}') is not null;
select label, attempt from t.claim('f1');
select * from t.money();
select t.settle('f1', t.outcome('a', 2, 'retry', '{"retry_after_ms": 0, "error": {"type": "server_error"}, "http_status": 500}'));
select * from t.money();
select label, attempt from t.claim('f1');
select mrprompt.cancel_request(t.id('a'));
select t.settle('f1', t.outcome('a', 3, 'cancelled', '{"usage": {"prompt_tokens": 5, "completion_tokens": 7, "estimated": true}}'));
select * from t.money();

-- Requests per minute: a burst, then one after the other; who waits holds nobody up, and uses nothing up.
select t.anew();
select mrprompt.set_rate_limit('user', :'ann', requests_per_minute => 2) is not null;
select t.want('a1'), t.want('a2'), t.want('a3'), t.want('a4'), t.want('b', who => :'bob');
select label from t.claim('f1');
select * from t.waiting();
select t.label(id), round(extract(epoch from not_before - now()) / 30) as halves_of_a_minute from mrprompt.requests where status = 'queued' order by id;
select scope, subject = :'ann' as ann, in_flight, round(requests_left) as requests_left, waiting from mrprompt.rate_limit_status;
-- Who does not want to wait is told how long he would.
select regexp_replace(w, '[0-9]+ s', 'N s') from t.why($$select t.want('a5', options => '{"on_limit": "refuse"}')$$) w;
select t.want('c', who => :'bob', options => '{"on_limit": "refuse"}');
-- Half a minute later there is room for one more.
update mrprompt_internal.limit_buckets set filled_at = filled_at - interval '31 seconds';
update mrprompt_internal.queue set ready_at = clock_timestamp() where not ready;
select label from t.claim('f1');

-- In flight: the slot comes back with the outcome, or with the fetcher's death.
select t.anew();
select mrprompt.set_rate_limit('model', 'fake-1', in_flight => 1) is not null;
select t.want('a'), t.want('b'), t.want('c');
select label from t.claim('f1');
select * from t.waiting();
select t.settle('f1', t.done('a', 1));
select label from t.claim('f1');
select mrprompt_internal.fetcher_gone(id, false) from t.fetcher;
select t.hello('f1');
select in_flight from mrprompt.rate_limit_status;
select mrprompt_internal.tend('{"limit": 100}') is not null;
select label from t.claim('f1');
select in_flight, waiting from mrprompt.rate_limit_status;

-- Tokens per minute: taken by their bound, corrected by what was used.
select t.anew();
select mrprompt.set_rate_limit('everybody', null, tokens_per_minute => 6000) is not null;
select t.want('a', 5000), t.want('b', 5000);
select label from t.claim('f1');
select waits_for, reason from t.waiting();
select t.settle('f1', t.done('a', 90));
select tokens_left between 5800 and 6000 as nearly_full from mrprompt.rate_limit_status;
select label from t.claim('f1');
-- More than the bucket ever holds may start when it is full.
select t.settle('f1', t.done('b', 0));
update mrprompt_internal.limit_buckets set filled_at = '-infinity', tokens = null;
select t.want('c', 100000);
select label from t.claim('f1');

-- Its days begin elsewhere, or on another day: what is spent in the running period stays spent, its extra and its alerts stay.
select t.anew();
select mrprompt.set_budget('user', :'ann', 1) is not null;
select t.want('a', 900);
select label from t.claim('f1');
select t.settle('f1', t.done('a', 900));
select mrprompt.grant_extra(budget_id, 0.1) from mrprompt.budget_status;
select mrprompt.set_budget('user', :'ann', 1, time_zone => 'Asia/Tokyo') is not null;
select spent, extra, "left", period_start = date_trunc('month', now(), 'Asia/Tokyo') as in_tokyo,
    period_end = (date_trunc('month', now() at time zone 'Asia/Tokyo') + interval '1 month') at time zone 'Asia/Tokyo' as ends from mrprompt.budget_status;
select a.threshold, a.period_start = s.period_start as of_this_period from mrprompt.budget_alerts a, mrprompt.budget_status s;
select * from t.why($$select t.want('b', 201)$$);
select t.want('b', 200);
select label from t.claim('f1');
select mrprompt.set_budget('user', :'ann', 1) is not null;
select t.settle('f1', t.done('b', 100));
select * from t.money();
select count(*) as alerts from mrprompt.budget_alerts;
select count(distinct c.id) as counters, bool_and(counters = array[c.id]) as named from mrprompt_internal.budget_counters c, mrprompt.usage;
select * from mrprompt.check_usage();
select mrprompt.set_budget('user', :'bob', 1, '30 days') is not null;
select t.want('c', 500, :'bob');
select label from t.claim('f1');
select t.settle('f1', t.done('c', 500));
select mrprompt.set_budget('user', :'bob', 1, '30 days', starts_on => (now() at time zone 'UTC')::date - n) is not null from generate_series(0, 29, 29) n;
select (period_start at time zone 'UTC')::date = (now() at time zone 'UTC')::date - 29 as begins, spent from mrprompt.budget_status where period = '30 days';
select * from mrprompt.check_usage();

-- Less than is spent, or softer limits: it speaks when the change has committed, once.
select t.anew();
select mrprompt.set_budget('user', '*', 10) is not null;
select t.want('a', 1000), t.want('b', 1000, :'bob');
select label from t.claim('f1');
select t.settle('f1', t.done('a', 600), t.done('b', 400));
select count(*) from mrprompt.budget_alerts;
select mrprompt.set_budget('user', '*', 1, soft_limits => '{0.5,0.9}') is not null;
select subject = :'ann' as ann, threshold, amount, spent from mrprompt.budget_alerts;
select mrprompt.set_budget('user', '*', 1, soft_limits => '{0.4,0.5}') is not null;
select mrprompt.set_budget('user', '*', 0.9, soft_limits => '{0.4,0.5}') is not null;
select subject = :'ann' as ann, threshold, amount, spent from mrprompt.budget_alerts order by 2, 1;

-- Analysts see them by whatever role they ask: who has to SET ROLE, and who comes by PostgREST.
select mrprompt.set_rate_limit('user', :'ann', 1000) is not null;
select t.want('c', 100);
select label from t.claim('f1');
create role b_asker noinherit login;
create role b_analyst;
grant mrprompt_analyst to b_analyst;
grant mrprompt_analyst, b_analyst to b_asker;
set session authorization b_asker;
set role mrprompt_analyst;
select (select count(*) from mrprompt.budget_status) as budgets, (select count(*) from mrprompt.rate_limit_status) as limits;
set role b_analyst;
select (select count(*) from mrprompt.budget_status) as budgets, (select count(*) from mrprompt.rate_limit_status) as limits;
reset session authorization;
drop role b_asker, b_analyst;

-- Bad input.
select t.why($$select mrprompt.set_budget('planet', 'x', 1)$$);
select t.why($$select mrprompt.set_budget('user', null, 1)$$);
select t.why($$select mrprompt.set_budget('user', 'ann', 1)$$);
select t.why($$select mrprompt.set_budget('group', 'nobody', 1)$$);
select t.why($$select mrprompt.set_budget('everybody', 'x', 1)$$);
select t.why($$select mrprompt.set_budget('everybody', null, -1)$$);
select t.why($$select mrprompt.set_budget('everybody', null, 'NaN')$$);
select t.why($$select mrprompt.set_budget('everybody', null, 1, 'fortnight')$$);
select t.why($$select mrprompt.set_budget('everybody', null, 1, time_zone => 'Mars')$$);
select t.why($$select mrprompt.set_budget('everybody', null, 1, soft_limits => '{2}')$$);
select t.why($$select mrprompt.set_budget('everybody', null, 1, at_limit => 'shout')$$);
select t.why($$select mrprompt.delete_budget(gen_random_uuid())$$);
select t.why($$select mrprompt.grant_extra(gen_random_uuid(), 1)$$);
select t.why($$select mrprompt.set_rate_limit('tag', 'x', 1)$$);
select t.why($$select mrprompt.set_rate_limit('everybody', null, -1)$$);
select t.why($$select mrprompt.set_budget('everybody', null, 1, '7 days', starts_on => 'infinity')$$);
select count(*) from (values ('infinity'), ('-infinity'), ('1969-12-31'), ('2100-01-02'), ('4713-01-01 BC')) v (d), t.try(format('select mrprompt.set_budget(%L, null, 1, starts_on => %L)', 'everybody', d)) e where e.state = 'PT400';
select count(*) from (values ('Infinity'), ('-Infinity'), ('NaN'), ('1e300'), ('1000000001')) v (n), t.try(format('select mrprompt.set_budget(%L, null, %L)', 'everybody', n)) e where e.state = 'PT400';
select count(*) from (values ('requests_per_minute', '1e-12'), ('requests_per_minute', 'NaN'), ('requests_per_minute', 'Infinity'), ('tokens_per_minute', '1e-12'),
    ('tokens_per_minute', 'NaN'), ('tokens_per_minute', '1e300'), ('burst_seconds', 'NaN'), ('burst_seconds', '1e9'), ('burst_seconds', '0'), ('in_flight', '-1')) v (what, n),
    t.try(format('select mrprompt.set_rate_limit(%L, null, %s => %L)', 'everybody', what, n)) e where e.state = 'PT400';
-- Nor do the tables take them.
select count(*) from unnest(array['2100-01-02', 'infinity']) d, t.try(format('update mrprompt.budgets set starts_on = %L', d)) e where e.state = '23514';
insert into mrprompt.rate_limits (scope, subject) values ('agent', 'x') returning burst_seconds;
select count(*) from unnest(array['requests_per_minute = 1e-12', 'requests_per_minute = ''NaN''', 'tokens_per_minute = 1e-12', 'burst_seconds = ''NaN''']) s,
    t.try('update mrprompt.rate_limits set ' || s || ' where subject = ''x''') e where e.state = '23514';
-- The slowest and the smallest that are allowed do their work.
select t.anew();
select mrprompt.set_rate_limit('everybody', null, 0.00001, 1) is not null, mrprompt.set_budget('everybody', null, 1e9, '9999 days', starts_on => '2100-01-01', at_limit => 'wait') is not null;
select t.want('a', 100), t.want('b', 100);
select label from t.claim('f1');
select waits_for, reason from t.waiting();
select period_start < now() and period_end > now() as now from mrprompt.budget_status;
select t.why($$select t.want('x', options => '{"on_limit": "cry"}')$$);
select t.why($$select mrprompt.chat_text('q', model => 'm', provider => 'fake', metadata => '{"tags": "one"}')$$);

-- Models and prices that break a rule, and one that is there already.
select t.why($$insert into mrprompt.models (provider, model, max_output_tokens) values ('fake', 'x', -1)$$);
insert into mrprompt.models (provider, model, max_output_tokens) values ('fake', 'x', 10);
select t.why($$insert into mrprompt.models (provider, model) values ('fake', 'x')$$);
select t.why($$insert into mrprompt.prices (provider, model, input, output) values ('fake', 'per-million', 0.15, 0.6)$$);
select t.why($$insert into mrprompt.prices (provider, model, input) values ('fake', 'half', 0)$$);
select t.why($$insert into mrprompt.prices (provider, model, input, output) values ('fake', 'fake-1', 0, 0), ('fake', 'fake-1', 0, 0)$$);

-- Periods, across a change of the clocks and in days counted from one.
select period, mrprompt_internal.period_start(period, zone, '2026-01-01', m) at time zone zone as starts,
    mrprompt_internal.period_end(period, zone, mrprompt_internal.period_start(period, zone, '2026-01-01', m)) at time zone zone as ends
from (values ('hour', 'Asia/Kolkata'), ('day', 'Europe/Berlin'), ('week', 'Europe/Berlin'), ('month', 'Europe/Berlin'), ('10 days', 'Europe/Berlin'),
    ('none', 'UTC')) p (period, zone), (values ('2026-03-29 10:20:00+00'::timestamptz)) v (m);
select mrprompt_internal.period_start('10 days', 'UTC', '2026-01-01', '2025-12-31 12:00:00+00');

-- What is granted to one of those whom a budget of each one's is for shows before he has used it; who has a budget of his own is told so.
select t.anew();
select mrprompt.set_budget('user', '*', 5) as each_ones \gset
select mrprompt.grant_extra(:'each_ones', 10, :'bob');
select subject, amount, extra, "left" from mrprompt.budget_status order by subject;
select mrprompt.set_budget('user', :'ann', 1) is not null;
select regexp_replace(w, '''[-0-9a-f]{36}''', 'ID') from t.why(format($$select mrprompt.grant_extra(%L, 10, %L)$$, :'each_ones', :'ann')) w;
select scope, subject, in_flight, requests_left from mrprompt.rate_limit_status;
select mrprompt.set_rate_limit('user', '*', requests_per_minute => 60) is not null;
select scope, subject, in_flight, requests_left from mrprompt.rate_limit_status;
-- A group goes with its last member, unless something is set for it.
select mrprompt.add_group_member('typo', :'ann'), mrprompt.add_group_member('kept', :'ann');
select mrprompt.set_budget('group', 'kept', 1) is not null;
select mrprompt.remove_group_member('typo', :'ann'), mrprompt.remove_group_member('kept', :'ann');
select name from mrprompt.groups where name in ('typo', 'kept');
select t.why(format($$select mrprompt.remove_group_member('typo', %L)$$, :'ann'));
-- A model that is priced as nothing that has a price.
insert into mrprompt.models (provider, model, priced_as) values ('fake', 'ep-1', 'nothing');
select finding, remedy from mrprompt.doctor() where finding like '%priced as%';
insert into mrprompt.prices (provider, model, input, output) values ('fake', 'nothing', 0, 0);
select count(*) from mrprompt.doctor() where finding like '%priced as%';
