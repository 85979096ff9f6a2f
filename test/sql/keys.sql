-- Keys: sealing, masking, hashing; storing, changing, sharing and revoking; what is refused, and what nobody can read.
\getenv dir PG_ABS_SRCDIR
\set helpers :dir '/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
grant usage on schema t to public;
grant execute on all functions in schema t to public;

-- mask_key shows 4 and 3 characters, and nothing of what is too short to hide the rest
select mrprompt.mask_key(k) from unnest(array['WW8GMBSTec_uPhT9g', 'sk-test-0123', 'sk-test-012', '', 'äöü€-0123456-ß€é', null]) k;

-- encrypt_key and decrypt_key: a fresh nonce each time, opened by the same binding only
select mrprompt.encrypt_key('sk-test-1') <> mrprompt.encrypt_key('sk-test-1') as nonce_is_fresh;
select mrprompt.encrypt_key('sk-test-1') ~ '^mrp1\.k1\.[A-Za-z0-9+/]{48,}={0,2}$' as shape;
select mrprompt.decrypt_key(mrprompt.encrypt_key('sk-test-1'));
\set row '''aaaaaaaa-0000-4000-8000-00000000000a'''
\set owner '''aaaaaaaa-0000-4000-8000-000000000001'''
select mrprompt.encrypt_key('sk-test-1', :row, :owner, 'openai') as bound \gset
select mrprompt.decrypt_key(:'bound', :row, :owner, 'openai');
select mrprompt.encrypt_key(null) is null and mrprompt.decrypt_key(null) is null and mrprompt.hash_key(null) is null as null_stays_null;
select n, t.why(format('select mrprompt.decrypt_key(%L, %L, %L, %L)', s.sealed, s.row, s.owner, s.provider)) from (values
    (1, :'bound', null, :owner, 'openai'), (2, :'bound', :row, null, 'openai'), (3, :'bound', :row, :owner, null),
    (4, :'bound', :owner, :row, 'openai'), (5, :'bound', :row, :owner, 'anthropic'),
    (6, replace(:'bound', 'mrp1.k1.', 'mrp1.k9.'), :row, :owner, 'openai'), (7, 'sk-test-1', :row, :owner, 'openai'),
    (8, left(:'bound', -1), :row, :owner, 'openai')) s (n, sealed, row, owner, provider);

-- hash_key: keyed by the database, made once
select mrprompt.hash_key('sk-test-1') ~ '^[0-9a-f]{64}$' as shape, mrprompt.hash_key('sk-test-1') = mrprompt.hash_key('sk-test-1') as stable,
    mrprompt.hash_key('sk-test-1') <> mrprompt.hash_key('sk-test-2') as distinct,
    mrprompt.hash_key('sk-test-1') <> encode(sha256('sk-test-1'), 'hex') as keyed;
select count(*) from mrprompt_internal.lookup_key;
select configured, active_id, ids, problem from mrprompt_internal.keyring_state();

-- a user's own keys
select t.be('ann');
select mrprompt.add_key('openai', 'sk-test-ann-00001', '{"agent_name": "support"}', 'mine') as ann_key \gset
select provider, name, masked_key, shared, metadata, revoked_at is null as live, created_at = updated_at as fresh from mrprompt.list_keys();
select user_id, encrypted_key like 'mrp1.k1.%' as sealed, key_hash = mrprompt.hash_key('sk-test-ann-00001') as hashed from mrprompt.api_keys;
select mrprompt.decrypt_key(encrypted_key, id, user_id, provider) from mrprompt.api_keys;
select t.why($$select mrprompt.add_key('no-such-provider', 'sk-test-ann-00002')$$);
select t.why($$select mrprompt.add_key('sk-test-ann-00002', 'openai')$$);
select t.why($$select mrprompt.add_key('openai', '')$$);
select t.why($$select mrprompt.add_key('openai', null)$$);
select t.why($$select mrprompt.add_key('openai', 'sk-test-ann-00002 ')$$);
select t.why($$select mrprompt.add_key('openai', e'sk-test\r\nx-evil: 1')$$);
select t.why($$select mrprompt.add_key('openai', repeat('x', 8193))$$);
select t.why($$select mrprompt.add_key('openai', 'sk-test-ann-00002', '["no object"]')$$);
select t.why($$select mrprompt.add_key('openai', 'sk-test-ann-00002', name => repeat('x', 201))$$);
select t.why($$select mrprompt.encrypt_key('')$$);
select count(*) from mrprompt.api_keys;

-- update_key: a new secret is sealed anew; what is null stays
select encrypted_key as before from mrprompt.api_keys \gset
select mrprompt.update_key(:'ann_key', name => 'renamed') = :'ann_key' as same;
select name, metadata, masked_key, encrypted_key = :'before' as untouched from mrprompt.api_keys;
select mrprompt.update_key(:'ann_key', 'sk-test-ann-00099', '{}') = :'ann_key' as same;
select name, metadata, masked_key, mrprompt.decrypt_key(encrypted_key, id, user_id, provider), key_hash = mrprompt.hash_key('sk-test-ann-00099') as hashed
from mrprompt.api_keys;
select t.why(format('select mrprompt.update_key(%L, e''sk-test\n'')', :'ann_key'));
select t.why($$select mrprompt.update_key(null)$$);

-- another user has no part in it
set client_min_messages = warning;
create role keys_bob login;
create role keys_admin login;
reset client_min_messages;
grant mrprompt_user to keys_bob;
grant mrprompt_admin to keys_admin;
select mrprompt.add_user('keys_bob', user_id => 'bbbbbbbb-0000-4000-8000-000000000002');
\pset tuples_only on
set session authorization keys_bob;
select count(*) from mrprompt.list_keys();
select count(*) from (select id from mrprompt.api_keys) k;
select t.why('select encrypted_key from mrprompt.api_keys');
select t.why('select * from mrprompt_internal.lookup_key');
select t.why('select * from mrprompt_internal.master_keys');
select t.why('select * from mrprompt_internal.keyring_state()');
select t.why('select mrprompt_internal.key_to_change(null)');
select t.why($$select mrprompt.decrypt_key('mrp1.k1.AAAA')$$);
select state from t.try(format('select mrprompt.update_key(%L, name => ''stolen'')', :'ann_key'));
select state from t.try(format('select mrprompt.revoke_key(%L)', :'ann_key'));
select state from t.try(format('select mrprompt_internal.revoke_key(%L)', :'ann_key'));
select t.why(format('select mrprompt.grant_key(%L)', :'ann_key'));
select t.why(format('select mrprompt_internal.grant_key(%L, null)', :'ann_key'));
select t.why($$select mrprompt.add_key('openai', 'sk-test-shared-01', shared => true)$$);
select t.why(format('select mrprompt.add_key(''openai'', ''sk-test-for-ann-1'', user_id => %L)', :owner));
select state from t.try(format('select mrprompt.list_keys(%L)', :owner));
select state from t.try($$insert into mrprompt.api_keys (provider, encrypted_key, key_hash, masked_key) values ('openai', 'mrp1.', '', '')$$);
select state from t.try($$update mrprompt.api_keys set user_id = null$$);
select state from t.try($$delete from mrprompt.key_grants$$);
\pset tuples_only off

-- shared keys: an admin stores and grants them; users use them and read nothing of them
set session authorization keys_admin;
select mrprompt.add_key('openai', 'sk-test-shared-01', '{"agent_name": "all", "model": "gpt", "internal": "note"}', 'everybody''s', shared => true) as shared_key \gset
select t.why($$select mrprompt.add_key('openai', 'sk-test-shared-01', user_id => gen_random_uuid(), shared => true)$$);
select name, masked_key, shared, metadata from mrprompt.list_keys();
select t.why(format('select encrypted_key from mrprompt.api_keys'));
set session authorization keys_bob;
select count(*) from mrprompt.list_keys();
set session authorization keys_admin;
select mrprompt.grant_key(:'shared_key', 'bbbbbbbb-0000-4000-8000-000000000002') = :'shared_key' as granted;
select mrprompt.grant_key(:'shared_key', 'bbbbbbbb-0000-4000-8000-000000000002') = :'shared_key' as granted_again;
select count(*) from mrprompt.key_grants;
set session authorization keys_bob;
select name, masked_key, shared, metadata from mrprompt.list_keys();
select count(*) from (select id from mrprompt.api_keys) k;
select user_id from mrprompt.key_grants;
select state from t.try(format('select mrprompt.update_key(%L, name => ''mine now'')', :'shared_key'));
select state from t.try(format('select mrprompt.revoke_key(%L)', :'shared_key'));
set session authorization keys_admin;
select mrprompt.ungrant_key(:'shared_key', 'bbbbbbbb-0000-4000-8000-000000000002') = :'shared_key' as taken_back;
select state, message from t.try(format('select mrprompt.ungrant_key(%L)', :'shared_key'));
select mrprompt.grant_key(:'shared_key') = :'shared_key' as granted_to_everybody;
select state, message from t.try(format('select mrprompt.grant_key(%L)', :'ann_key'));
select state, message from t.try($$select mrprompt.grant_key(gen_random_uuid())$$);
set session authorization keys_bob;
select name, masked_key, shared from mrprompt.list_keys();
-- a revoked key keeps its row, and its secret is gone
set session authorization keys_admin;
select mrprompt.revoke_key(:'shared_key') = :'shared_key' as revoked;
select name, revoked_at is not null as revoked from mrprompt.list_keys();
select state, message from t.try(format('select mrprompt.update_key(%L, ''sk-test-shared-02'')', :'shared_key'));
select state, message from t.try(format('select mrprompt.grant_key(%L)', :'shared_key'));
select mrprompt.update_key(:'shared_key', name => 'was everybody''s') = :'shared_key' as renamed;
set session authorization keys_bob;
select count(*) from mrprompt.list_keys();
reset session authorization;
select name, encrypted_key, masked_key, revoked_at is not null as revoked from mrprompt.api_keys where id = :'shared_key';
select revoked_at as first_revoked from mrprompt.api_keys where id = :'shared_key' \gset
select mrprompt.revoke_key(:'shared_key') = :'shared_key' as again;
select revoked_at = :'first_revoked' as kept from mrprompt.api_keys where id = :'shared_key';

-- an admin's login acts for users, and need be none itself
set session authorization keys_admin;
select mrprompt.add_key('groq', 'sk-test-for-bob-1', user_id => 'bbbbbbbb-0000-4000-8000-000000000002') as bob_key \gset
select t.why($$select mrprompt.add_key('groq', 'sk-test-for-bob-1')$$);
select provider, masked_key from mrprompt.list_keys('bbbbbbbb-0000-4000-8000-000000000002') where not shared;
set session authorization keys_bob;
select provider, masked_key from mrprompt.list_keys();
select mrprompt.revoke_key(:'bob_key') = :'bob_key' as revoked;
reset session authorization;

-- what sealing leaves behind survives only with its transaction
begin;
select mrprompt.add_key('openai', 'sk-test-rolled-bk') is not null as added;
rollback;
select count(*) from mrprompt.api_keys where masked_key like '%-bk';
-- a read-only transaction reads keys, and says what it cannot do
begin read only;
select count(*) from mrprompt.list_keys();
select mrprompt.hash_key('sk-test-1') is not null as hashed;
select state, message from t.try($$select mrprompt.add_key('openai', 'sk-test-readonly-1')$$);
rollback;

-- neither the activity view nor an error after the call shows the secret
select mrprompt.add_key('openai', 'sk-test-activity-1') is not null as added, (select query from pg_stat_activity where pid = pg_backend_pid());
select message from t.try($$select mrprompt.add_key('openai', 'sk-test-later-0001'), 1 / 0$$);

-- a caller's search_path changes nothing
create schema keys_trap;
create function keys_trap.no(uuid, uuid) returns boolean language plpgsql as $$ begin raise exception 'trapped'; end $$;
create function keys_trap.no(text, text) returns boolean language plpgsql as $$ begin raise exception 'trapped'; end $$;
create function keys_trap.no(name, name) returns boolean language plpgsql as $$ begin raise exception 'trapped'; end $$;
create operator keys_trap.= (leftarg = uuid, rightarg = uuid, function = keys_trap.no);
create operator keys_trap.= (leftarg = text, rightarg = text, function = keys_trap.no);
create operator keys_trap.= (leftarg = name, rightarg = name, function = keys_trap.no);
select t.be('');
set search_path = keys_trap, pg_catalog;
select mrprompt.current_user_id() is null as nobody;
reset search_path;
select t.be('ann');
set search_path = keys_trap, pg_catalog;
select mrprompt.add_key('openai', 'sk-test-trap-00001') as trap_key \gset
select mrprompt.update_key(:'trap_key', 'sk-test-trap-00002') is not null as updated;
select count(*) > 0 as listed from mrprompt.list_keys();
select problem from mrprompt_internal.keyring_state();
reset search_path;

\set VERBOSITY terse
set client_min_messages = warning;
drop schema keys_trap cascade;
select t.be('');
drop owned by keys_bob, keys_admin;
drop role keys_bob, keys_admin;
