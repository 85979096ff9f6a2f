-- Who may do what: sessions exactly as PostgREST makes them, an analyst, a back end on one login, and strangers.
\getenv dir PG_ABS_SRCDIR
\set helpers :dir '/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
set client_min_messages = warning;
create role anon nologin noinherit;
create role authenticated nologin noinherit;
create role service_role nologin noinherit bypassrls;
create role authenticator login noinherit;
grant anon, authenticated, service_role to authenticator;
create role ana_login login;
grant mrprompt_analyst to ana_login;
create role api_server login;
grant mrprompt_admin to api_server;
create role stranger login;
create role plain_user login;
grant mrprompt_user to plain_user;
reset client_min_messages;
select unnest(mrprompt.enable_supabase());
select login_role = session_user as by_us, action, object_type, object_id, changed from mrprompt.audit_log where object_type = 'supabase';
-- One request of PostgREST: a transaction, read-only for GET, with role and claims set local.
create or replace function t.postgrest(role text, claims text, read_only boolean default false) returns void language plpgsql as $$
begin
    if read_only then set transaction read only; end if;
    perform set_config('search_path', '"mrprompt", "public"', true), set_config('role', role, true),
        set_config('request.jwt.claims', claims, true), set_config('request.method', case when read_only then 'GET' else 'POST' end, true);
end $$;
grant usage on schema t to public;
grant execute on all functions in schema t to public;
\set ann '{"sub":"aaaaaaaa-0000-4000-8000-000000000001","role":"authenticated"}'
\set bob '{"sub":"bbbbbbbb-0000-4000-8000-000000000002","role":"authenticated"}'
insert into mrprompt.prices (provider, model, input, output) values ('fake', 'fake-1', 0.000001, 0.000002);

set session authorization authenticator;
-- ann stores a key and asks; bob asks
begin; select t.postgrest('authenticated', :'ann');
select mrprompt.add_key('openai', 'sk-test-ann-0000001', name => 'mine') is not null as added;
select mrprompt.chat_text('ann asks', model => 'fake-1', provider => 'fake', stream => true, metadata => '{"label": "ann"}') is not null as queued;
commit;
begin; select t.postgrest('authenticated', :'bob');
select mrprompt.chat_text('bob asks', model => 'fake-1', provider => 'fake', stream => true, metadata => '{"label": "bob"}') is not null as queued;
commit;
-- the fetcher answers both
reset session authorization;
select t.hello('f1');
select * from t.claim('f1');
select t.append('f1', 'ann', 1, 1, 'for ann'), t.append('f1', 'bob', 1, 1, 'for bob');
select t.settle('f1', t.outcome('ann', 1, 'succeeded', t.answer('for ann')), t.outcome('bob', 1, 'succeeded', t.answer('for bob')));
select t.id('ann') as ann_request \gset
set session authorization authenticator;
-- each sees his own, everywhere, in a GET
begin; select t.postgrest('authenticated', :'ann', true);
select metadata ->> 'label' as label, status from requests;
select content from responses;
select content from deltas;
select model, prompt_tokens, cost from usage;
select model, requests, cost from usage_by_model;
select name, masked_key from list_keys();
select content, cost from get_request(:'ann_request');
select count(*) from requests_in_flight;
select current_user_id();
commit;
begin; select t.postgrest('authenticated', :'bob', true);
select metadata ->> 'label' as label, status from requests;
select content from responses;
select content from deltas;
select model, prompt_tokens, cost from usage;
select name, masked_key from list_keys();
select state from t.try(format('select * from mrprompt.get_request(%L)', :'ann_request'));
select state from t.try(format('select * from mrprompt.wait_for_request(%L)', :'ann_request'));
select state from t.try(format('select * from mrprompt.stream(%L)', :'ann_request'));
commit;
begin; select t.postgrest('authenticated', :'bob');
select state from t.try(format('select mrprompt.cancel_request(%L)', :'ann_request'));
-- nor act for another, write a table, reach the contract, or read what is sealed
select state, message from t.try($$select mrprompt.chat_text('hi', model => 'fake-1', provider => 'fake', user_id => 'aaaaaaaa-0000-4000-8000-000000000001')$$);
select state, message from t.try($$insert into mrprompt.requests (id) values (gen_random_uuid())$$);
select state, message from t.try($$update mrprompt.requests set status = 'failed'$$);
select state, message from t.try($$delete from mrprompt.usage$$);
select state, message from t.try($$select encrypted_key from mrprompt.api_keys$$);
select state, message from t.try($$select * from mrprompt_internal.queue$$);
select state, message from t.try($$select mrprompt_internal.claim('{}')$$);
select state, message from t.try($$select mrprompt_internal.settle('{}')$$);
select state, message from t.try($$select mrprompt.decrypt_key('mrp1.k1.AAAA')$$);
select state, message from t.try($$insert into mrprompt.providers (name, protocol, base_url) values ('mine', 'openai', 'https://evil.example')$$);
select state, message from t.try($$update mrprompt.providers set base_url = 'https://evil.example' where name = 'openai'$$);
select state, message from t.try($$select mrprompt.pause()$$);
select state, message from t.try($$select mrprompt_internal.set_pause('*', true)$$);
select state, message from t.try($$select mrprompt.add_key('openai', 'sk-test-x-0000001', shared => true)$$);
select state, message from t.try($$select mrprompt.status()$$);
select state, message from t.try($$select mrprompt.doctor()$$);
rollback;
-- anon sees nothing, whatever claims it carries
begin; select t.postgrest('anon', :'ann');
select state, message from t.try('select * from mrprompt.requests');
select state, message from t.try($$select mrprompt.chat_text('hi')$$);
select state, message from t.try('select mrprompt.current_user_id()');
rollback;
-- a sub that is no uuid
begin; select t.postgrest('authenticated', '{"sub":"not-a-uuid"}');
select state from t.try('select mrprompt.current_user_id()');
rollback;
begin; select t.postgrest('authenticated', '{"role":"authenticated"}');
select mrprompt.current_user_id();
select count(*) from requests;
select state from t.try($$select mrprompt.chat_text('hi', model => 'fake-1', provider => 'fake')$$);
rollback;
-- the older form of claims
begin; select t.postgrest('authenticated', '');
select set_config('request.jwt.claim.sub', 'aaaaaaaa-0000-4000-8000-000000000001', true);
select mrprompt.current_user_id();
select set_config('request.jwt.claim.sub', '', true);
commit;
-- the service role acts for one user or another by user_id
begin; select t.postgrest('service_role', '{"role":"service_role"}');
select state from t.try($$select mrprompt.chat_text('for nobody', model => 'fake-1', provider => 'fake')$$);
select mrprompt.chat_text('for bob', model => 'fake-1', provider => 'fake', user_id => 'bbbbbbbb-0000-4000-8000-000000000002', metadata => '{"label": "backend"}') is not null as queued;
commit;

-- an API server with a login of its own, too; claims that it sets itself are not believed
set session authorization api_server;
select set_config('request.jwt.claims', :'ann', false) is not null as set;
select mrprompt.current_user_id();
select mrprompt.chat_text('for ann', model => 'fake-1', provider => 'fake', user_id => 'aaaaaaaa-0000-4000-8000-000000000001', metadata => '{"label": "api server"}') is not null as queued;
select mrprompt.add_key('groq', 'sk-test-groq-00001', user_id => 'aaaaaaaa-0000-4000-8000-000000000001', name => 'put in by the server') is not null as added;
-- a trusted login that is no admin acts for users, too, as long as it acts as itself, and reads what they get
reset session authorization;
select set_config('request.jwt.claims', '', false) = '' as unset;
create role back_end login;
grant authenticated to back_end;
set session authorization back_end;
select mrprompt.chat_text('for bob', model => 'fake-1', provider => 'fake', user_id => 'bbbbbbbb-0000-4000-8000-000000000002') as backend_request \gset
select status from mrprompt.get_request(:'backend_request');
select mrprompt.cancel_request(:'backend_request');
select cancel_requested from mrprompt.get_request(:'backend_request');
begin; select t.postgrest('authenticated', :'ann');
select state from t.try(format('select * from mrprompt.get_request(%L)', :'backend_request'));
select mrprompt_internal.is_cancel_requested(:'backend_request');
rollback;
reset session authorization;
-- nobody becomes somebody by SET
set session authorization plain_user;
select set_config('request.jwt.claims', :'ann', false) is not null as set;
select set_config('request.jwt.claim.sub', 'aaaaaaaa-0000-4000-8000-000000000001', false) is not null as set;
select mrprompt.current_user_id();
select state from t.try('set mrprompt.trusted_logins = ''plain_user''');
select count(*) from mrprompt.requests;
select state, message from t.try($$select mrprompt.chat_text('hi', model => 'fake-1', provider => 'fake')$$);
reset session authorization;
select set_config('request.jwt.claims', '', false) = '' as unset, set_config('request.jwt.claim.sub', '', false) = '' as unset;
-- a login mapped by an admin is a user
select mrprompt.add_user('plain_user', 'Plain', user_id => 'cccccccc-0000-4000-8000-000000000003');
set session authorization plain_user;
select mrprompt.current_user_id();
select mrprompt.chat_text('plain asks', model => 'fake-1', provider => 'fake') is not null as queued;
select count(*) from mrprompt.requests;
select name from mrprompt.users;
-- an analyst sees everybody's usage and nobody's content
set session authorization ana_login;
select count(*) from mrprompt.usage;
select requests, prompt_tokens, cost from mrprompt.usage_by_provider;
select state, message from t.try('select * from mrprompt.requests');
select state, message from t.try('select * from mrprompt.responses');
select state, message from t.try('select * from mrprompt.deltas');
select state, message from t.try('select * from mrprompt.api_keys');
select state, message from t.try('select * from mrprompt.list_keys()');
select queued, is_home from mrprompt.status();
-- a stranger sees nothing at all
set session authorization stranger;
select state, message from t.try('select * from mrprompt.requests');
select state, message from t.try('select * from mrprompt.usage');
select state, message from t.try('select mrprompt.mask_key(''x'')');
reset session authorization;
-- the public face of a provider's key never shows it
select count(*) from mrprompt.api_keys where encrypted_key like '%sk-test%' or key_hash like '%sk-test%';
set client_min_messages = warning;
drop owned by ana_login, api_server, stranger, plain_user, authenticator, anon, authenticated, service_role;
drop role ana_login, api_server, stranger, plain_user, authenticator, anon, authenticated, service_role;
