-- Who asks: claims and who is believed, the anonymous role, mapped logins, acting for others; and the ids of rows.
\getenv dir PG_ABS_SRCDIR
\set helpers :dir '/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
set client_min_messages = warning;
create role anon nologin;
create role authenticated nologin;
create role authenticator login noinherit;
create role id_backend login;
create role id_person login;
create role id_stranger login;
reset client_min_messages;
grant mrprompt_user to authenticated, id_person, id_backend, id_stranger;
grant usage on schema mrprompt, mrprompt_internal to anon, authenticator;
grant execute on function mrprompt.current_user_id, mrprompt_internal.caller_is_admin to anon, authenticator;
grant execute on function mrprompt_internal.may_act_for_others to anon, authenticated, authenticator, id_backend, id_person;
grant anon, authenticated to authenticator;
grant anon to id_person;
grant usage on schema t to public;
grant execute on all functions in schema t to public;
select mrprompt.add_user('id_person', 'Person', user_id => 'cccccccc-0000-4000-8000-000000000003');
\set ann '{"sub":"aaaaaaaa-0000-4000-8000-000000000001","role":"authenticated"}'
\set claims 'set_config(''request.jwt.claims'', '
create function t.who() returns table (who uuid, admin boolean, for_others boolean) language sql as $$
    select mrprompt.current_user_id(), mrprompt_internal.caller_is_admin(), mrprompt_internal.may_act_for_others() $$;
create function t.refusal(claims text, out state text, out message text) language plpgsql as $$
begin
    perform set_config('request.jwt.claims', claims, false);
    select w.state, w.message into state, message from t.try('select mrprompt.current_user_id()') w;
end $$;
grant execute on function t.who, t.refusal to public;

-- a trusted login is believed, in either form of claims
set session authorization authenticator;
set role authenticated;
select * from t.who();
select :claims :'ann', false) is not null as set;
select * from t.who();
select :claims '', false) = '' as unset, set_config('request.jwt.claim.sub', 'aaaaaaaa-0000-4000-8000-000000000001', false) is not null as set;
select * from t.who();
-- the newer form counts where both are set
select :claims '{"sub":"bbbbbbbb-0000-4000-8000-000000000002"}', false) is not null as set;
select * from t.who();
select set_config('request.jwt.claim.sub', '', false) = '' as unset;
-- claims without a subject, or with a null one, name nobody
select :claims '{"role":"authenticated"}', false) is not null as set;
select * from t.who();
select :claims '{"sub":null}', false) is not null as set;
select * from t.who();
-- what is no uuid is refused, and not repeated
select claims, (t.refusal(claims)).* from unnest(array['{"sub":"Robert''); drop"}', '{"sub":""}', '{"sub":7}', '{"sub":{"a":1}}', '[1]', '"x"', '{"sub', 'secret']) claims;
select t.why('select mrprompt.current_user_id()');
-- the anonymous role is nobody, whatever it claims
select :claims :'ann', false) is not null as set;
set role anon;
select * from t.who();
-- a trusted login may act for others only as itself, and without claims
reset role;
select * from t.who();
select :claims '', false) = '' as unset;
select * from t.who();

-- no other login is believed, and none can make itself so
set session authorization id_stranger;
select :claims :'ann', false) is not null as set, set_config('request.jwt.claim.sub', 'aaaaaaaa-0000-4000-8000-000000000001', false) is not null as set;
select mrprompt.current_user_id();
select state, message from t.try($$set mrprompt.trusted_logins = 'id_stranger'$$);
select state, message from t.try($$set local mrprompt.anonymous_roles = ''$$);
select state, message from t.try($$select set_config('mrprompt.trusted_logins', 'id_stranger', false)$$);
select state, message from t.try($$alter role id_stranger set mrprompt.trusted_logins = 'id_stranger'$$);
select state, message from t.try($$set mrprompt.invented = 'x'$$);
select mrprompt.current_user_id();

-- a mapped login is that user; SECURITY DEFINER code between does not change who asks
set session authorization id_person;
select :claims :'ann', false) is not null as set;
select * from t.who();
reset session authorization;
create function t.definer() returns table (who uuid, admin boolean, for_others boolean) language sql security definer as $$ select * from t.who() $$;
grant execute on function t.definer to public;
set session authorization id_person;
select * from t.definer();
set role anon;
select * from t.who();
reset role;

-- an admin by membership; the rights are those of the role in force
reset session authorization;
grant mrprompt_admin to id_backend;
set session authorization id_backend;
select * from t.who();
reset session authorization;
revoke mrprompt_admin from id_backend;
-- a superuser's session is trusted; in another's role it is that role
select :claims :'ann', false) is not null as set;
select * from t.who();
set role id_person;
select mrprompt.current_user_id(), mrprompt_internal.caller_is_admin();
reset role;
select :claims '', false) = '' as unset;

-- the lists are the server's, and must be lists
\set VERBOSITY terse
alter system set mrprompt.anonymous_roles = 'anon,,nobody';
\set VERBOSITY default

-- settings as SQL reads them
select name, mrprompt_internal.setting(name) from unnest(array['mrprompt.max_payload', 'mrprompt.delta_interval', 'mrprompt.delta_retention', 'MRPROMPT.max_in_flight']) name;
select state, message from unnest(array['mrprompt.master_key_file', 'mrprompt.fetcher_path', 'work_mem', 'mrprompt.nonsense', '']) name,
    t.try(format('select mrprompt_internal.setting(%L)', name));
set mrprompt.default_provider = 'openai';
select mrprompt_internal.setting('mrprompt.default_provider');

-- ids are version 7 uuids, rise within a session, and hold the time
select count(*), count(distinct id), bool_and(id > before) as rising from (
    select id, lag(id, 1, '00000000-0000-0000-0000-000000000000') over (order by n) as before
    from (select n, mrprompt_internal.uuidv7() as id from generate_series(1, 10000) n) made) ids;
select bool_and(id::text ~ '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$') as version_7,
    bool_and(abs(extract(epoch from mrprompt_internal.uuid_time(id) - clock_timestamp())) < 5) as now
from (select mrprompt_internal.uuidv7() as id from generate_series(1, 100)) made;

set client_min_messages = warning;
drop function t.definer(), t.who(), t.refusal(text);
drop owned by anon, authenticated, authenticator, id_backend, id_person, id_stranger;
drop role anon, authenticated, authenticator, id_backend, id_person, id_stranger;
