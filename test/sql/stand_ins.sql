-- With whose rights tools run where somebody has an agent work for somebody else: with those of no role that he could not take himself.
\getenv dir PG_ABS_SRCDIR
\set helpers :dir '/helpers.sql'
\set ECHO none
\i :helpers
create role stand_in_admin; grant mrprompt_admin, mrprompt_user to stand_in_admin;
create role stand_in_owner login;
create role stand_in_member login; grant mrprompt_user to stand_in_member; grant stand_in_member to stand_in_admin;
create function pg_temp.role_of_run(asking name, login name) returns name language plpgsql as $$
declare
    whom constant uuid := (select u.id from mrprompt.users u where u.login_role = login);
    run uuid;
begin
    execute format('set local role %I', asking);
    run := mrprompt.create_run(mrprompt.create_thread('[{"role": "user", "content": "Hello"}]', user_id => whom),
        mrprompt.create_agent('one', provider => 'fake', model => 'm', user_id => whom));
    reset role;
    return (select i.role_name from mrprompt_internal.run_identities i where i.run_id = run);
end $$;
do $$ begin perform mrprompt.add_user('stand_in_owner'), mrprompt.add_user('stand_in_member'); end $$;
\pset format unaligned
\set ECHO all
-- a superuser may become whoever logs in as the user
select pg_temp.role_of_run(session_user, 'stand_in_owner');
-- an admin may only where he is a member; else it is mrprompt.tool_role, of which there is none here
select pg_temp.role_of_run('stand_in_admin', 'stand_in_member');
select pg_temp.role_of_run('stand_in_admin', 'stand_in_owner');
\set ECHO none
do $$ begin perform t.reset(); end $$;
delete from mrprompt.users where login_role like 'stand_in%';
drop owned by stand_in_admin, stand_in_owner, stand_in_member;
drop role stand_in_admin, stand_in_owner, stand_in_member;
