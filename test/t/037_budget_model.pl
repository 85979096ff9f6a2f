# Money as a model: random asks, claims, outcomes, cancels, deaths of fetchers and changes of budgets, drawn from a seed; after each
# round the ledger, the counters and the holds agree to the last digit, and no limit has been passed.
# MODEL_STEPS (5000; `make soak`: 100000) and MODEL_SEED (0.5): a step is one request asked, claimed, settled, cancelled or lost.
use strict;
use warnings;
use lib 'lib';
use MrPrompt qw(new_cluster);
use Test::More;

my $steps = $ENV{MODEL_STEPS} // 5000;
my $seed = $ENV{MODEL_SEED} // 0.5;
note("MODEL_STEPS=$steps MODEL_SEED=$seed");
# A proof of a large ledger takes a while on a busy machine: its fetchers are silent meanwhile, and not dead.
my $node = new_cluster('model', conf => "mrprompt.local_fetcher = off\nmrprompt.lease_timeout = 10min\nfsync = off\nautovacuum_naptime = 2\n");
sub sql { return $node->safe_psql('postgres', $_[0]) }

sql(q(
    insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private) values ('fake', 'openai', 'http://127.0.0.1:9/v1', true, true);
    -- Prices with many digits: a sum that is off shows.
    insert into mrprompt.prices (provider, model, input, output, cached, service_tier) values
        ('fake', 'a', 0.00000125, 0.00001003, 0.000000125, 'standard'), ('fake', 'b', 0.0000031, 0.0000157, null, 'standard'), ('fake', 'b', 0.0000062, 0.0000314, null, 'priority');
    create schema t;
    create table t.users as select n, ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid as id from generate_series(1, 12) n;
    create unlogged table t.fetchers (n int primary key, id uuid);
    create unlogged table t.flights (request uuid primary key, attempt int, fetcher int, bound int);
    select mrprompt.add_group_member('team' || n % 3, id) from t.users;
    select mrprompt.set_budget('user', '*', 0.02, 'day'), mrprompt.set_budget('group', 'team1', 0.15, 'none', at_limit => 'wait'), mrprompt.set_budget('everybody', null, 3, 'none'),
        mrprompt.set_budget('model', 'b', 1, 'month'), mrprompt.set_budget('tag', 'x', 0.4, 'none', at_limit => 'wait'),
        mrprompt.set_budget('user', '00000000-0000-4000-8000-000000000001', 0.5, 'day');
    select mrprompt.set_rate_limit('user', '*', in_flight => 9), mrprompt.set_rate_limit('model', 'a', tokens_per_minute => 1e9, requests_per_minute => 1e6);

    create procedure t.ask(users int, how_many int) language plpgsql as $$
    declare
        person uuid;
    begin
        for i in 1..how_many loop
            person := (select id from t.users order by random() limit 1);
            begin
                perform mrprompt.chat_text('q', model => (array['a', 'b'])[1 + (random() * 1.99)::int % 2], provider => 'fake', user_id => person,
                    max_tokens => 1 + (random() * 300)::int,
                    metadata => case when random() < 0.3 then '{"tags": ["x"]}'::jsonb when random() < 0.1 then '{"tags": ["x", "y"]}' else '{}' end,
                    options => case when random() < 0.1 then '{"on_limit": "refuse"}'::json end,
                    expires_at => case when random() < 0.02 then clock_timestamp() + interval '20 milliseconds' end);
            exception when sqlstate 'PT402' or sqlstate 'PT429' then null;
            end;
        end loop;
    end $$;
    create procedure t.hello(who int) language sql as $$
        insert into t.fetchers select who, (mrprompt_internal.hello('{"contract": 2, "kind": "libpq"}') ->> 'fetcher')::uuid
        on conflict (n) do update set id = excluded.id $$;
    create function t.claim(who int, room int) returns bigint language sql as $$
        with jobs as (
            insert into t.flights
            select (j ->> 'request')::uuid, (j ->> 'attempt')::int, who, (j -> 'payload' ->> 'max_tokens')::int
            from mrprompt_internal.claim(json_build_object('fetcher', (select id from t.fetchers where n = who), 'room', room, 'bytes', 1000000)) c,
                json_array_elements(c.body -> 'jobs') j
            on conflict (request) do update set attempt = excluded.attempt, fetcher = excluded.fetcher returning 1)
        select count(*) from jobs $$;
    -- Some of a fetcher's flights end, each in its own way; now and then one is told twice.
    create function t.settle(who int, part double precision) returns bigint language plpgsql as $$
    declare
        outcomes json;
        n bigint;
    begin
        select json_agg(json_build_object('request', o.request, 'attempt', o.attempt, 'result', o.result,
                'response', json_build_object('content', 'x'),
                'usage', case when o.result = 'succeeded' or random() < 0.5 then json_build_object('prompt_tokens', (o.dice * 20)::int, 'cached_tokens', (o.dice * 7)::int,
                    'completion_tokens', (random() * o.bound)::int, 'reasoning_tokens', 0) end,
                'retry_after_ms', 0, 'http_status', case o.result when 'succeeded' then 200 else (array[500, null, 429])[1 + (random() * 2.99)::int % 3] end,
                'error', case when o.result <> 'succeeded' then json_build_object('type', 'x') end)), count(*)
        into outcomes, n
        from (select f.*, random() as dice, (array['succeeded', 'succeeded', 'succeeded', 'retry', 'failed', 'cancelled'])[1 + (random() * 5.99)::int % 6] as result
              from t.flights f where f.fetcher = who and random() < part) o;
        if n > 0 then
            perform mrprompt_internal.settle(json_build_object('fetcher', (select id from t.fetchers where fetchers.n = who), 'outcomes', outcomes));
            if random() < 0.1 then
                perform mrprompt_internal.settle(json_build_object('fetcher', (select id from t.fetchers where fetchers.n = who), 'outcomes', outcomes));
            end if;
            delete from t.flights f using json_to_recordset(outcomes) o (request uuid) where f.request = o.request;
        end if;
        return n;
    end $$;
    create procedure t.round(inout steps bigint) language plpgsql as $$
    declare
        who int;
        dice double precision;
    begin
        call t.ask(12, 30);
        steps := steps + 30;
        for i in 1..6 loop
            who := 1 + (random() * 2.99)::int % 3;
            dice := random();
            if dice < 0.45 then
                steps := steps + t.claim(who, (random() * 40)::int);
            elsif dice < 0.85 then
                steps := steps + t.settle(who, random());
            elsif dice < 0.90 then
                with wished as (select mrprompt.cancel_request(request_id) from (select q.request_id from mrprompt_internal.queue q join mrprompt.requests r on r.id = q.request_id order by random() limit 5) q)
                select steps + count(*) into steps from wished;
            elsif dice < 0.95 then
                steps := steps + mrprompt_internal.fetcher_gone((select id from t.fetchers where n = who), random() < 0.2);
                delete from t.flights where fetcher = who;
                call t.hello(who);
            elsif dice < 0.97 then
                perform mrprompt.grant_extra(b.id, 0.003, case when b.subject = '*' then (select id::text from t.users where n > 1 order by random() limit 1) end)
                from mrprompt.budgets b order by random() limit 1;
            elsif dice < 0.985 then
                perform mrprompt.set_budget(b.scope, nullif(b.subject, ''), b.amount * 1.05, b.period, at_limit => b.at_limit) from mrprompt.budgets b order by random() limit 1;
            else
                delete from mrprompt.requests r where r.id = (select q.request_id from mrprompt_internal.queue q order by random() limit 1);
            end if;
            commit;
        end loop;
        perform mrprompt_internal.tend('{"limit": 1000}');
        commit;
        perform mrprompt_internal.roll_up(200);
        commit;
    end $$;

    -- What must be so, each as a query for what breaks it.
    create function t.breaches() returns table (breach text, what text) language sql as $$
        select 'held is not the sum of the holds', format('counter %s: %s, %s', c.id, c.held, h.held)
        from mrprompt_internal.budget_counters c
        cross join lateral (select coalesce(sum(q.hold), 0) as held from mrprompt_internal.queue q where c.id = any (q.counters)) h where c.held <> h.held
        union all
        select 'spent is not the sum of the ledger', format('counter %s: %s, %s', c.id, c.spent, u.spent)
        from mrprompt_internal.budget_counters c
        left join (select x as id, sum(l.cost) as spent from mrprompt.usage l, unnest(l.counters) x group by x) u on u.id = c.id where c.spent <> coalesce(u.spent, 0)
        union all
        select 'in flight is not the count', format('bucket %s: %s, %s', b.id, b.in_flight, n.n)
        from mrprompt_internal.limit_buckets b
        cross join lateral (select count(*) as n from mrprompt_internal.queue q where b.id = any (q.buckets)) n where b.in_flight <> n.n
        union all
        select 'a limit is passed', format('%s %s: %s of %s', s.scope, s.subject, s.spent + s.held, s.amount + s.extra)
        from mrprompt.budget_status s where s.spent + s.held > s.amount + s.extra
        union all
        select 'an attempt cost more than it held', u.request_id::text from mrprompt.usage u where u.cost > u.hold
        union all
        select 'a hold without a living fetcher', q.request_id::text from mrprompt_internal.queue q
        where q.counters is not null and not exists (select from mrprompt_internal.fetchers f where f.id = q.fetcher_id)
        union all
        select 'in flight without its hold', q.request_id::text from mrprompt_internal.queue q where q.fetcher_id is not null and q.hold is null
        union all
        -- Which budgets an attempt is charged to, told anew from what it is (of a request that was deleted in flight nobody knows the tags).
        select 'charged to others than its own', format('%s: %s, %s', u.request_id, given.names, due.names)
        from (select l.* from mrprompt.usage l join mrprompt.requests r on r.id = l.request_id) u
        cross join lateral (
            select array_agg(format('%s %s %s', b.scope, c.subject, b.period) order by b.scope, c.subject, b.period) as names
            from (select x as id from unnest(u.counters) x) x join mrprompt_internal.budget_counters c on c.id = x.id join mrprompt.budgets b on b.id = c.budget_id) given
        cross join lateral (
            select array_agg(d.name order by d.name) as names
            from (select 'everybody  none' as name union all select 'user ' || u.user_id || ' day'
                  union all select 'group team1 none' where right(u.user_id::text, 2)::int % 3 = 1
                  union all select 'model b month' where u.model = 'b' union all select 'tag x none' where 'x' = any (u.tags)) d) due
        where u.outcome <> 'lost' and given.names is distinct from due.names
        union all
        select 'more or fewer ledger rows than attempts', r.id::text from mrprompt.requests r
        where r.finished_at is not null and r.attempts <> (select count(*) from mrprompt.usage u where u.request_id = r.id) $$;
));
sql("call t.hello(1); call t.hello(2); call t.hello(3)");
sql("select setseed($seed)");

my $done = 0;
my $round = 0;
while ($done < $steps)
{
    my $next_seed = ($seed * 7919 + ++$round * 104_729) % 100_000 / 100_000;
    my $more = sql("select setseed($next_seed); do \$\$ declare n bigint := 0; begin for i in 1..40 loop call t.round(n); end loop; perform set_config('t.steps', n::text, false); end \$\$; select current_setting('t.steps')");
    ($more) = $more =~ /(\d+)\s*$/;
    $done += $more;
    # The first breach is the one to look at.
    my $breaches = sql('select * from t.breaches() limit 5; select * from mrprompt.check_usage() limit 5');
    is($breaches, '', "after $done steps ledger, roll-ups, counters and holds agree") or last;
}
# Everything ends: nothing is left held.
sql('do $$ begin for i in 1..3 loop perform t.settle(i, 2); end loop; end $$');
is(sql('select count(*) from mrprompt_internal.queue where counters is not null'), '0', 'in the end nothing is held');
is(sql('select sum(held) from mrprompt_internal.budget_counters'), '0.00000000', 'nor on any counter') or diag(sql('select * from mrprompt_internal.budget_counters where held <> 0'));
is(sql('select * from t.breaches()'), '', 'and all agree still');
is(sql("select sum(attempts) = (select count(*) from mrprompt.usage) from mrprompt.usage_by_day"), 't', 'the views count what the ledger has');
cmp_ok(sql('select count(*) from mrprompt.usage where cost > 0'), '>', $steps / 20, 'attempts that cost something were among them');
cmp_ok(sql("select count(*) from mrprompt.requests where error_type = 'budget_exceeded'"), '>', 0, 'and requests that a budget refused late');
done_testing();
