# Calls of SQL tools in a server of a test's own, as create_run and the model's answer make them.
package MrPrompt::Tools;

use strict;
use warnings;

use Exporter 'import';
our @EXPORT_OK = qw(use_server value start_call outcome call processes $ann $bob);

use MrPrompt qw(wait_until);

our ($ann, $bob) = ('aaaaaaaa-0000-4000-8000-000000000001', 'bbbbbbbb-0000-4000-8000-000000000002');
my $node;

sub value { my ($sql, $database) = @_; return $node->safe_psql($database // 'postgres', $sql) }

my $set_up = q(
    create function call(who uuid, role name, tool text, arguments text default '{}', claims text default null) returns uuid language plpgsql as $$
    declare
        run uuid = gen_random_uuid();
        made uuid;
    begin
        insert into mrprompt_internal.run_identities values (run, role, coalesce(claims, json_build_object('sub', who, 'role', role)::text));
        insert into mrprompt.tool_calls (run_id, user_id, step_id, call_id, place, name, arguments, kind, status)
        values (run, who, gen_random_uuid(), 'call_1', 0, tool, arguments, 'sql', 'queued') returning id into made;
        perform mrprompt_internal.start_tools();
        return made;
    end $$;
    -- A run whose model has called this tool.
    create function run_call(who uuid, role name, tool text, arguments text default '{}') returns uuid language plpgsql as $$
    declare
        agent uuid := mrprompt.create_agent('of ' || tool, instructions => 'x', provider => 'fake', model => 'm', tools => json_build_array(tool), user_id => who);
        run uuid := mrprompt.create_run(mrprompt.create_thread('[{"role": "user", "content": "x"}]', user_id => who), agent);
        request uuid := (select r.request_id from mrprompt.runs r where r.id = run);
    begin
        update mrprompt_internal.run_identities i set role_name = run_call.role, claims = json_build_object('sub', who)::text where i.run_id = run;
        delete from mrprompt_internal.queue q where q.request_id = request;
        update mrprompt.requests r set status = 'succeeded' where r.id = request;
        insert into mrprompt.responses (request_id, attempt, tool_calls, finish_reason) values (request, 1,
            json_build_array(json_build_object('id', 'call_1', 'function', json_build_object('name', tool, 'arguments', arguments))), 'tool_calls');
        perform mrprompt_internal.advance_runs(array[run]);
        return run;
    end $$;
    insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private, auth, key_required)
        values ('fake', 'openai', 'http://127.0.0.1:9/v1', true, true, 'none', false);
    create schema app;
    grant usage on schema app to public;
    create table app.log (at timestamptz default clock_timestamp(), what text, pid int default pg_backend_pid());
    grant all on app.log to public;
);
# use_server(NODE, [DATABASE]): the server that all of these are about, and what they need in it.
sub use_server
{
    ($node, my $database) = @_;
    value($set_up, $database);
    value('create role app_user nologin; grant mrprompt_user to app_user') if value("select to_regrole('app_user') is null") eq 't';
}

# start_call(USER, ROLE, TOOL, [ARGUMENTS, DATABASE]): the call's id.
sub start_call
{
    my ($who, $role, $tool, $arguments, $database) = @_;
    return value("select call('$who', '$role', '$tool', \$json\$" . ($arguments // '{}') . '$json$)', $database);
}
# Its status and output, once it has ended.
sub outcome
{
    my ($id, $database) = @_;
    # House-keeping is called by hand, so that nothing depends on when a supervisor does.
    my $ended = wait_until(sub {
        value('select mrprompt_internal.mend_tool_calls(100); select mrprompt_internal.start_waiting_tools()', $database);
        return value("select status in ('completed', 'failed', 'cancelled') from mrprompt.tool_calls where id = '$id'", $database) eq 't';
    }, 30);
    return $ended ? value("select status || ' ' || coalesce(output, '') from mrprompt.tool_calls where id = '$id'", $database) : 'it did not end';
}
sub call { return outcome(start_call(@_), $_[4]) }
sub processes { return value(q(select count(*) from pg_stat_activity where backend_type = 'mrprompt tool')) }

1;
