-- Cooldowns: opened by outcomes, kept to by every claim, ended by time, by a probe or by an admin.
\getenv dir PG_ABS_SRCDIR
\set helpers :dir '/helpers.sql'
\set ECHO none
\i :helpers
create function t.refused(label text, reason text, ms text default 'null') returns text language sql as $$
    select t.settle('f1', t.outcome(label, (select attempts from mrprompt.requests where id = t.id(label)), case reason when 'auth' then 'failed' else 'retry' end,
        ('{"retry_after_ms": 0, "counts_as_failure": ' || (reason = 'failures')::text || ', "error": {"status": 429, "type": "' || reason || '_error", "message": "no"}, "cooldown": {"reason": "' || reason || '", "ms": ' || ms || '}}')::jsonb)) $$;
create function t.waits() returns table (label text, waits_for text, wait_reason text) language sql as $$
    select t.label(q.request_id), q.waits_for, r.wait_reason from mrprompt_internal.queue q join mrprompt.requests r on r.id = q.request_id where q.fetcher_id is null order by q.request_id $$;
-- Its time has passed.
create function t.over() returns void language sql as $$
    update mrprompt_internal.cooldowns set until = clock_timestamp() - interval '1 second';
    update mrprompt_internal.queue set ready_at = clock_timestamp() where not ready and ready_at < 'infinity' $$;
grant usage on schema t to public;
\set ECHO all
select t.be('ann');
select t.hello('f1'), t.hello('f2');
-- a rate limit: what is queued for the same model waits, whoever claims; another model goes on
select t.ask('a'), t.ask('b'), t.ask('c');
select t.ask('other', model => 'fake-2');
select label from t.claim('f1', 1);
select t.refused('a', 'rate_limit', '60000');
select label from t.claim('f2');
select * from t.waits();
select provider, model, key_id, reason, error_type, times, probing, waiting, until - clock_timestamp() > interval '50 seconds' as as_asked from mrprompt.cooldowns;
select failures, attempts from mrprompt.requests where id = t.id('a');
-- by time
select t.over();
select label from t.claim('f2');
select count(*) from mrprompt.cooldowns;
-- the provider does not say how long: twice as long each time
select t.refused('a', 'rate_limit');
select false where t.refused('b', 'rate_limit') is null;
-- (a and b are f2's: nothing of f1's changed)
select t.settle('f2', t.outcome('a', 2, 'retry', '{"retry_after_ms": 0, "cooldown": {"reason": "rate_limit", "ms": null}}'));
select times, until - clock_timestamp() between interval '1 second' and interval '10 seconds' as short from mrprompt.cooldowns;
select t.settle('f2', t.outcome('b', 1, 'retry', '{"retry_after_ms": 0, "cooldown": {"reason": "rate_limit", "ms": null}}'));
select times from mrprompt.cooldowns;
-- an admin ends it, and what waited goes on
select mrprompt.end_cooldown('fake');
select label from t.claim('f1', 2) order by 1;
-- failures: after the pause one request goes out as a probe, the others wait for how it ends
select t.settle('f2', t.outcome('c', 1, 'succeeded', t.answer('c')), t.outcome('other', 1, 'succeeded', t.answer('o')));
select t.ask('d'), t.ask('e');
select t.refused('a', 'failures'), t.refused('b', 'failures');
select label from t.claim('f1');
select t.over();
select count(*) as probes from t.claim('f1');
select count(*) as more from t.claim('f2');
select reason, probing, waiting from mrprompt.cooldowns;
-- it fails: longer than before; it succeeds: all go
select t.label(probe) as probe from mrprompt_internal.cooldowns \gset
select t.refused(:'probe', 'failures');
select reason, times, probing from mrprompt.cooldowns;
select t.over();
select count(*) as probes from t.claim('f1');
select t.label(probe) as probe from mrprompt_internal.cooldowns \gset
select t.settle('f1', t.outcome(:'probe', (select attempts from mrprompt.requests where id = t.id(:'probe')), 'succeeded', t.answer('back')));
select count(*) as the_others from t.claim('f1');
select count(*) from mrprompt.cooldowns;
-- a refused key: the request has failed, the others of the key wait
select t.ask('g'), t.ask('h');
select label from t.claim('f1', 1);
select t.refused('g', 'auth');
select status from mrprompt.requests where id = t.id('g');
select label from t.claim('f1');
select waits_for, wait_reason from t.waits();
-- expires_at holds for what waits, too
update mrprompt_internal.queue set expires_at = now() - interval '1 second' where request_id = t.id('h');
select mrprompt_internal.tend('{"limit": 100}') ->> 'did' as did;
select status from mrprompt.requests where id = t.id('h');
-- only an admin ends one; users see those of their own keys
set role mrprompt_user;
select state, message from t.try('select mrprompt.end_cooldown()');
select set_config('request.jwt.claims', '', false) is not null as nobody;
select count(*) from mrprompt.cooldowns;
reset role;
-- every attempt has a row with its reason
select attempt, outcome, error_type, error_message, retry_at is not null as again, counted from mrprompt.attempts where request_id = t.id('a') order by attempt;
-- a key that gets a new secret is tried at once
select t.be('ann');
select mrprompt.add_key('fake', 'sk-test-the-old-one') as key \gset
select t.ask('k'), t.ask('l');
select label from t.claim('f1', 1);
select t.refused('k', 'auth');
select label from t.claim('f1');
select mrprompt.update_key(:'key', 'sk-test-the-new-one') is not null as updated;
select label from t.claim('f1');
select count(*) from mrprompt.cooldowns;
-- what the provider said of the old secret is nothing to the new one, and a new name is no new secret
select mrprompt.update_key(:'key', 'sk-test-a-third-one') is not null as updated;
select t.refused('l', 'auth');
select count(*) from mrprompt.failing_keys;
select count(*) from mrprompt.cooldowns where key_id = :'key';
select t.ask('m'), t.ask('n'), t.ask('r');
select label from t.claim('f1');
select mrprompt.update_key(:'key', name => 'renamed') is not null as updated;
select t.refused('m', 'auth');
select name, last_error, last_verified is null as never_verified from mrprompt.failing_keys;
-- any answer to it takes the word against a key back; an error of another kind does not
select t.settle('f1', t.outcome('n', 1, 'failed', '{"error": {"status": 500, "type": "server_error"}}'));
select count(*) from mrprompt.failing_keys;
select t.settle('f1', t.outcome('r', 1, 'succeeded'));
select count(*) from mrprompt.failing_keys;
select last_verified is not null as verified from mrprompt.api_keys where id = :'key';
-- a paused provider's requests are out of the way, and come back
delete from mrprompt_internal.cooldowns;
select t.be('ann');
select t.ask('p');
select mrprompt.pause('fake');
select label from t.claim('f1');
select * from t.waits() where waits_for = 'pause';
select mrprompt.resume('fake');
select label from t.claim('f1');
-- options of a request: checked at the call, sent with the claim
select t.why($$select mrprompt.chat_text('x', 'm', 'fake', options => '{"total_timeout_ms": 99999999, "speed": 1, "retry_on": "429"}')$$);
select t.why($$select mrprompt.chat_text('x', 'm', 'fake', options => '[]')$$);
select mrprompt.chat_text('x', 'm', 'fake', options => '{"total_timeout_ms": 5000, "max_failures": 1, "retry_on": ["402"]}', metadata => '{"label": "o"}') is not null as queued;
select j -> 'options' as options, (j ->> 'key_id')::uuid = :'key' as its_key from mrprompt_internal.claim((t.args('f1') || '{"room": 1, "bytes": 1000000}')::json) c, json_array_elements(c.body -> 'jobs') j;
select t.settle('f1', t.outcome('o', 1, 'retry', '{"retry_after_ms": 0, "counts_as_failure": true, "error": {"type": "connect_failed", "message": "refused"}}'));
select status, failures from mrprompt.requests where id = t.id('o');
