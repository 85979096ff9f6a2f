-- The audit log: who changed what; no secrets, no rewriting, nothing that goes round it, nothing of those who were forgotten.
\getenv dir PG_ABS_SRCDIR
\set helpers :dir '/helpers.sql'
\set ECHO none
\i :helpers
-- Their first use is recorded, too.
do $$ begin perform mrprompt.hash_key('x'); end $$;
truncate mrprompt_internal.forgets;
truncate mrprompt.audit_log;
create function t.audited() returns table (role text, who text, action text, object_type text, object text, owner text, changed text) language sql as $$
    select case when a.role = session_user then 'SUPERUSER' else a.role end, right(a.user_id::text, 1), a.action, a.object_type,
        case when a.object_id ~ '^[0-9a-f]{8}-' then case when a.object_id::uuid = a.owner_id then 'the owner' else 'an id' end
             when a.object_type = 'home' then 'a database' else a.object_id end,
        right(a.owner_id::text, 1), regexp_replace(regexp_replace(a.changed::text, '"20\d\d-[^"]*"', '"TIME"', 'g'), '"[0-9a-f-]{36}"', '"ID"', 'g')
    from mrprompt.audit_log a order by a.id $$;
create function t.next() returns void language sql as 'truncate mrprompt.audit_log';
set client_min_messages = warning;
create role audit_admin login;
create role audit_analyst login;
create role audit_user login;
grant mrprompt_admin to audit_admin;
grant mrprompt_analyst to audit_analyst;
grant mrprompt_user to audit_user;
reset client_min_messages;
grant usage on schema t to audit_admin;
grant execute on function t.try to audit_admin;
\set ECHO all
\set bob 'bbbbbbbb-0000-4000-8000-000000000002'
-- providers: a new one, a changed preset, what is set to what it was, back to the preset
set session authorization audit_admin;
insert into mrprompt.providers (name, protocol, base_url, headers) values ('mine', 'openai', 'https://llm.example.com/v1', '{"X-Tenant": "sk-test-in-a-header"}');
update mrprompt.providers set base_url = 'https://proxy.example.com/v1', headers = '{"X": "sk-test-in-a-header"}' where name = 'openai';
update mrprompt.providers set base_url = 'https://other.example.com/v1', enabled = false where name = 'openai';
update mrprompt.providers set enabled = enabled where name = 'openai';
delete from mrprompt.providers where name = 'openai';
reset session authorization;
select action, object_type, object, (select count(*) from jsonb_object_keys(changed::jsonb)) > 5 as whole, case when action = 'update' then changed end as changed from t.audited();
select distinct role, who from t.audited();
select t.next();
-- prices, in place; and a preset that gets a price of the admin's in front
set session authorization audit_admin;
insert into mrprompt.prices (provider, model, input, output, effective_from) values ('mine', 'm', 0.000001, 0.000002, '2026-01-01');
update mrprompt.prices set output = 0.000003 where provider = 'mine';
delete from mrprompt.prices where provider = 'mine';
update mrprompt.prices set input = 0.001 where provider = 'openai' and model = 'gpt-4o' and service_tier = 'standard' and preset;
select count(*), max(input), bool_and(preset) from mrprompt.prices where provider = 'openai' and model = 'gpt-4o';
delete from mrprompt.prices where provider = 'openai' and model = 'gpt-4o' and not preset;
reset session authorization;
select action, object_type, regexp_replace(object, '20.*', 'TIME') as object, changed from t.audited();
select t.next();
-- users and their logins
set session authorization audit_admin;
select mrprompt.add_user('audit_user', 'Bob Secret', '{"city": "secret"}', :'bob');
select mrprompt.add_user(null, 'Robert Secret', user_id => :'bob');
reset session authorization;
select action, object_type, object, owner, changed from t.audited();
select t.next();
-- keys: a user's own and a shared one; a new secret, new metadata, the same again; granted, taken back, revoked
set session authorization audit_user;
select mrprompt.add_key('mine', 'sk-test-first-00001', '{"note": "secret"}', 'my secret name') as key \gset
select mrprompt.update_key(:'key', 'sk-test-second-0002') is not null as new_secret;
select mrprompt.update_key(:'key', metadata => '{"note": "other secret"}') is not null as new_metadata;
select mrprompt.update_key(:'key', metadata => '{"note": "other secret"}') is not null as the_same;
set session authorization audit_admin;
select mrprompt.add_key('mine', 'sk-test-shared-0003', shared => true, name => 'for all') as shared \gset
select mrprompt.grant_key(:'shared', :'bob') is not null as granted;
select mrprompt.ungrant_key(:'shared', :'bob') is not null as taken_back;
select mrprompt.revoke_key(:'shared') is not null as revoked;
reset session authorization;
select * from t.audited();
-- what a key's use and a new seal change is nobody's business here
update mrprompt.api_keys set last_used = now(), encrypted_key = encrypted_key;
select count(*) from t.audited();
select count(*) from mrprompt.audit_log a where a::text ~ 'secret|sk-test|mrp1\.' or exists (select from mrprompt.api_keys k where k.key_hash <> '' and position(k.key_hash in a::text) > 0);
select t.next();
-- pauses, cooldowns, and taking over a copy
set session authorization audit_admin;
select mrprompt.pause(), mrprompt.pause('mine'), mrprompt.pause('mine');
select mrprompt.resume();
select mrprompt.end_cooldown(), mrprompt.end_cooldown('mine', model => 'm');
call mrprompt.drain('mine', '0 s');
select mrprompt.resume('mine');
select mrprompt.resume_here();
reset session authorization;
select role, action, object_type, object, case when object_type <> 'home' then changed end as changed from t.audited();
select t.next();
-- the role in force and the user of the claims are kept apart from the login
select t.be('ann');
set role mrprompt_admin;
select mrprompt.pause('mine');
reset role;
select t.be('');
select login_role = session_user as login, role, right(user_id::text, 1) as who from mrprompt.audit_log;
delete from mrprompt_internal.pauses;
select t.next();
-- what a DBA writes beside the functions is recorded, emptied tables are; the rows of a restored dump are not
insert into mrprompt.users (id, login_role) values ('cccccccc-0000-4000-8000-000000000003', 'somebody');
update mrprompt.users set name = 'Some Body' where login_role = 'somebody';
set check_function_bodies = off;
insert into mrprompt.users (id, login_role) values ('dddddddd-0000-4000-8000-000000000004', 'restored');
reset check_function_bodies;
delete from mrprompt.users where login_role = 'somebody';
truncate mrprompt.key_grants, mrprompt_internal.pauses;
select role, action, object_type, object, owner, changed from t.audited();
select t.next();
-- and nobody else gets by with that
set session authorization audit_admin;
set check_function_bodies = off;
select mrprompt.pause('mine');
reset check_function_bodies;
reset session authorization;
select role, action, object_type, object from t.audited();
-- readable by admins and analysts, written by neither, whatever they were granted
grant insert, update, delete, truncate on mrprompt.audit_log to mrprompt_admin;
set session authorization audit_admin;
select count(*) from mrprompt.audit_log;
select statement, state, message from unnest(array[
    $$insert into mrprompt.audit_log (id, action, object_type) values (gen_random_uuid(), 'delete', 'price')$$, 'update mrprompt.audit_log set role = null',
    'delete from mrprompt.audit_log', 'truncate mrprompt.audit_log']) statement, t.try(statement);
set session authorization audit_analyst;
select count(*) from mrprompt.audit_log;
reset session authorization;
revoke insert, update, delete, truncate on mrprompt.audit_log from mrprompt_admin;
set session authorization audit_admin;
select state, message from t.try('delete from mrprompt.audit_log');
reset session authorization;
select count(*) from mrprompt.audit_log;
set role mrprompt_user;
select count(*) from mrprompt.audit_log;
reset role;
select t.next();
delete from mrprompt_internal.pauses;
-- who is forgotten is nobody here, too: in what he did, in what was done to him, and in what goes with him
select t.next();
set session authorization audit_user;
select mrprompt.add_key('mine', 'sk-test-third-00003', name => 'his') is not null as added;
reset session authorization;
select mrprompt.grant_key(mrprompt.add_key('mine', 'sk-test-shared-0004', shared => true), :'bob') is not null as granted;
select mrprompt.forget_user(:'bob');
select action, object_type, object, owner from t.audited() where object_type = 'forget';
do $$ begin for i in 1..30 loop perform mrprompt_internal.forget_some(2); end loop; end $$;
select * from mrprompt.forgetting;
select login_role is null as nobody, action, object_type, object_id is null as no_id, owner_id, changed - 'created_at' as changed from mrprompt.audit_log where object_type <> 'api_key' or owner_id is not null order by id;
select count(*) from mrprompt.audit_log a where a::text ~ 'bbbbbbbb-0000-4000-8000-000000000002|his';
-- pruned by its own setting, kept for ever without one
select kind, setting from mrprompt.retention where kind = 'audit';
update mrprompt.audit_log set at = now() - interval '2 days', id = overlay(mrprompt_internal.uuid_at(now() - interval '2 days')::text placing right(id::text, 12) from 25)::uuid
where object_type = 'forget';
select pruned, reached from mrprompt_internal.prune_kind('audit', now() - interval '1 day', '00000000-0000-0000-0000-000000000000', 100);
select count(*) filter (where object_type = 'forget') as old, count(*) > 0 as young from mrprompt.audit_log;

select t.next();
set client_min_messages = warning;
drop owned by audit_admin, audit_analyst, audit_user;
drop role audit_admin, audit_analyst, audit_user;
drop function t.audited(), t.next();
do $$ begin perform t.reset(); truncate mrprompt.audit_log; end $$;
