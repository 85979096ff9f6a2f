-- What attempts are charged that did not end as they should: whose figures are missing, and whose request or price has gone.
\getenv dir PG_ABS_SRCDIR
\set helpers :dir '/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
set jit = off;  -- the ledger has many partitions
\set ann 'aaaaaaaa-0000-4000-8000-000000000001'
-- A thousandth of a dollar per token, of the prompt and of the answer.
create function t.afresh() returns void language sql as $$
    select t.reset();
    insert into mrprompt.prices (provider, model, input, output) values ('fake', 'fake-1', 0.001, 0.001);
    select mrprompt.set_budget('everybody', null, 1000);
    select t.be('ann');
    select t.hello('f1') $$;
create function t.send(variadic labels text[]) returns void language sql as $$
    select mrprompt.chat_text('q', model => 'fake-1', provider => 'fake', max_tokens => 400, stream => true, metadata => jsonb_build_object('label', l)) from unnest(labels) l $$;
create view t.charged as
    select t.label(request_id) as label, outcome, prompt_tokens, completion_tokens, cost, estimated, cost <= hold as within, error_type from mrprompt.usage order by request_id, attempt;
-- A row for each budget that is not what the ledger and the queue say.
create view t.astray as
    select spent, held, (select coalesce(sum(cost), 0) from mrprompt.usage u where c.id = any (u.counters)) as ledger,
        (select coalesce(sum(hold), 0) from mrprompt_internal.queue q where c.id = any (q.counters)) as queue
    from mrprompt_internal.budget_counters c
    where (spent, held) is distinct from ((select coalesce(sum(cost), 0) from mrprompt.usage u where c.id = any (u.counters)),
        (select coalesce(sum(hold), 0) from mrprompt_internal.queue q where c.id = any (q.counters)));

-- What was sent costs something, whether or not anybody says how much.
select t.afresh();
select t.send('silent', 'cut', 'timed out', 'cancelled', 'unsent', 'never connected', 'cancelled unsent', 'refused', 'unasked');
select count(*) from t.claim('f1');
select t.append('f1', 'cut', 1, 1, repeat('x', 40));
select t.settle('f1', t.outcome('silent', 1, 'succeeded', jsonb_build_object('response', jsonb_build_object('content', repeat('y', 800)), 'http_status', 200)),
    t.outcome('cut', 1, 'failed', '{"error": {"type": "connection_broken"}, "http_status": 200}'),
    t.outcome('timed out', 1, 'failed', '{"error": {"type": "first_byte_timeout"}}'),
    t.outcome('cancelled', 1, 'cancelled'));
select t.settle('f1', t.outcome('unsent', 1, 'failed', '{"error": {"type": "fetcher_stopped"}, "sent": false}'),
    t.outcome('never connected', 1, 'failed', '{"error": {"type": "address_refused"}}'),
    t.outcome('cancelled unsent', 1, 'cancelled', '{"sent": false}'),
    t.outcome('refused', 1, 'failed', '{"error": {"status": 503, "type": "overloaded"}, "http_status": 503, "sent": true}'),
    t.outcome('unasked', 1, 'failed', '{"error": {"type": "url_refused"}, "http_status": null, "usage": null}'));
select * from t.charged;
select * from t.astray;

-- An estimate never passes the hold; what the provider says may.
select t.afresh();
select t.send('guessed', 'said');
select count(*) from t.claim('f1');
select t.settle('f1', t.outcome('guessed', 1, 'cancelled', '{"usage": {"prompt_tokens": 100000, "completion_tokens": 0, "estimated": true}}'),
    t.outcome('said', 1, 'succeeded', t.answer('x', 100000, 0)));
select label, cost = hold as as_held, cost from t.charged join mrprompt.usage u using (cost) order by 1;
select * from t.astray;
-- Nor is there a cost without a price.
select t.reset(), t.be('ann'), t.hello('f1');
select t.send('unpriced');
select count(*) from t.claim('f1');
select t.settle('f1', t.outcome('unpriced', 1, 'succeeded'));
select label, prompt_tokens > 0 as prompt, cost, estimated from t.charged;

-- The price is that of the claim, whatever happens to it meanwhile.
select t.afresh();
select t.send('followed', 'changed');
select label from t.claim('f1', 1);
insert into mrprompt.prices (provider, model, input, output) values ('fake', 'fake-1', 0.009, 0.009);
select t.settle('f1', t.outcome('followed', 1, 'succeeded', t.answer('x', 10, 10)));
select label from t.claim('f1', 1);
update mrprompt.prices set output = 0.005 where input = 0.009;
select t.settle('f1', t.outcome('changed', 1, 'succeeded', t.answer('x', 10, 10)));
select t.send('afterwards');
select label from t.claim('f1', 1);
insert into mrprompt.prices (provider, model, input, output, effective_from) select 'fake', 'fake-1', 0.004, 0.004, claimed_at from mrprompt_internal.queue;
select t.settle('f1', t.outcome('afterwards', 1, 'succeeded', t.answer('x', 10, 10)));
select c.label, c.cost, c.within, v.input, v.output, v.replaced_at is not null as replaced
from t.charged c join mrprompt.usage u on t.label(u.request_id) = c.label join mrprompt.price_versions v on v.id = u.price_id;
select * from t.astray;

-- A request that was deleted in flight is charged what its outcome says; nothing else of it is kept.
select t.afresh();
select t.send('deleted', 'deleted and cut', 'kept');
select count(*) from t.claim('f1');
select t.outcome('deleted', 1, 'succeeded', t.answer('gone', 30, 20)) as one,
    t.outcome('deleted and cut', 1, 'retry', '{"error": {"type": "connection_broken", "message": "gone"}, "deltas": [{"seq": 1, "content": "gone"}]}') as two \gset
delete from mrprompt.requests where id in (t.id('deleted'), t.id('deleted and cut'));
select t.settle('f1', :'one', :'two', t.outcome('kept', 1, 'succeeded', t.answer('x', 1, 1)));
select outcome, user_id = :'ann' as ann, provider, model, prompt_tokens, completion_tokens, cost, estimated from mrprompt.usage order by request_id;
select * from t.astray;
select (select count(*) from mrprompt_internal.queue) as queued, (select count(*) from mrprompt.responses) as answers,
    (select count(*) from mrprompt.deltas) as deltas, (select count(*) from mrprompt_internal.attempt_errors) as reasons;
select t.settle('f1', :'one');
select count(*) from mrprompt.usage;

-- An answer that cannot be stored is charged as it says, or by its size; a good one is not lost for its times.
select t.afresh();
select t.send('figures', 'no figures', 'nonsense', 'unsent', 'refused', 'slow', 'late');
select count(*) from t.claim('f1');
select t.settle('f1',
    t.outcome('figures', 1, 'succeeded', t.answer('x', 50, 7) || '{"response": {"tool_calls": 7, "content": "x"}, "raw_usage": 1, "http_status": "x"}'),
    t.outcome('no figures', 1, 'succeeded', jsonb_build_object('http_status', 'x', 'response', jsonb_build_object('content', repeat('y', 798)))),
    t.outcome('nonsense', 1, 'succeeded', t.answer('x', -5)),
    t.outcome('unsent', 1, 'failed', '{"error": {"type": "connect_failed"}, "total_ms": "x"}'),
    t.outcome('refused', 1, 'failed', '{"error": {"type": "down"}, "total_ms": "x", "http_status": 500}'),
    t.outcome('slow', 1, 'succeeded', t.answer('x', 9, 1) || '{"first_token_ms": 99999999999, "total_ms": 1e30}'),
    t.outcome('late', 1, 'retry', '{"error": {"status": 429, "type": "x"}, "http_status": 429, "retry_after_ms": 9000000000000000000}'));
select * from t.charged;
select * from t.astray;
select t.label(request_id) as label, first_token_ms, total_ms from mrprompt.usage where total_ms is not null;
select status, not_before > now() + interval '300 days' as far from mrprompt.requests where id = t.id('late');
