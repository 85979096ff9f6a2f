#!/bin/bash
# `make bench`: figures beside the machine's own ceilings, from one run.
#
#   bench/run.sh [queue] [budgets] [slow] [mixed] [streams] [latency] [runs] [history] [seal] [dashboards]      (default: all)
#
# BENCH_QUEUE, BENCH_SLOW, BENCH_STREAMS, BENCH_HISTORY: how many requests (default 40000, 1000, 10000, 1000000).
# BENCH_RUNS, BENCH_THREAD: how many runs, and how many messages the long thread of some has (default 300, 100000).
# BENCH_LEDGER: how many rows of the ledger the dashboards are about (default 10000000: minutes, and 8 GB of disk).
set -euo pipefail
cd "$(dirname "$0")/.."
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
.ci/setup
mkdir -p build
{ make -j"$(nproc)" all build/fake-provider build/curl-loop build/seal-loop && as_root env PATH="$PATH" PG_CONFIG="${PG_CONFIG:-pg_config}" make install; } >build/build.log 2>&1 ||
    { tail -n 30 build/build.log >&2; exit 1; }

[ $# -gt 0 ] || set -- queue budgets slow mixed streams latency runs history seal dashboards
queue=${BENCH_QUEUE:-40000}
slow=${BENCH_SLOW:-1000}
streams=${BENCH_STREAMS:-10000}
history=${BENCH_HISTORY:-1000000}
runs=${BENCH_RUNS:-300}
long=${BENCH_THREAD:-100000}
ledger=${BENCH_LEDGER:-10000000}
ulimit -n "$(ulimit -Hn)"

# --- a server and a provider ---------------------------------------------------------------------------------

bindir=$("${PG_CONFIG:-pg_config}" --bindir)
place=$(mktemp -d "${TMPDIR:-/tmp}/mrprompt-bench.XXXXXX")
as_owner=()
if [ "$(id -u)" = 0 ]; then
    chown postgres "$place"
    as_owner=(runuser -u postgres --)
fi
helpers=()
finish() {
    [ ! -f "$place/data/postmaster.pid" ] || "${as_owner[@]}" "$bindir/pg_ctl" -D "$place/data" -m immediate -s stop || true
    [ ${#helpers[@]} = 0 ] || kill "${helpers[@]}" 2>/dev/null || true
    rm -rf "$place"
}
trap finish EXIT

# start_provider SCHEME [OPTION…]: a fake provider; its base URL is in $base.
start_provider() {
    local scheme=$1 line
    shift
    : >"$place/provider"
    build/fake-provider --port 0 "$@" >"$place/provider" &
    helpers+=($!)
    until grep -q listening "$place/provider"; do sleep 0.05; done
    read -r line <"$place/provider"
    base=$scheme://127.0.0.1:${line##*:}
}

mkdir "$place/certificates"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=127.0.0.1 \
    -addext subjectAltName=IP:127.0.0.1 -keyout "$place/tls.key" -out "$place/certificates/tls.crt" 2>/dev/null
chmod 644 "$place/certificates/tls.crt"
start_provider https --tls-cert "$place/certificates/tls.crt" --tls-key "$place/tls.key"
tls=$base
start_provider http

# PostgreSQL's default settings; what is set is mrprompt's own.
"${as_owner[@]}" "$bindir/initdb" -D "$place/data" -A trust -E UTF8 --locale=C.UTF-8 -U bench >/dev/null
"${as_owner[@]}" sh -c "umask 077; echo k1:$(openssl rand -hex 32) >'$place/master.keys'"
cat <<CONF | "${as_owner[@]}" tee -a "$place/data/postgresql.conf" >/dev/null
shared_preload_libraries = 'mrprompt'
mrprompt.master_key_file = '$place/master.keys'
mrprompt.certificate_directories = '$place/certificates'
listen_addresses = ''
unix_socket_directories = '$place'
CONF
"${as_owner[@]}" "$bindir/pg_ctl" -D "$place/data" -l "$place/log" -s -w start
export PGHOST=$place PGUSER=bench PGDATABASE=postgres PGOPTIONS='-c client_min_messages=warning'
sql() { psql -XAtq -v ON_ERROR_STOP=1 "$@"; }
sql -c 'create extension mrprompt' -c 'select mrprompt.add_user(login_role => current_user)' >/dev/null
sql -c "insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private, ca_file) values
            ('fake', 'openai', '$base/v1', true, true, null), ('tls', 'openai', '$tls/v1', false, true, '$place/certificates/tls.crt')" \
    -c "insert into mrprompt.prices (provider, model, input, output) values ('fake', 'm', 0.000001, 0.000002)" \
    -c 'create role fetcher_login login in role mrprompt_fetcher'
sql -f bench/probes.sql -f bench/ceiling.sql -f bench/runs.sql -f bench/dashboards.sql

# --- what the measurements share -----------------------------------------------------------------------------

now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN {printf "%.2f", b - a}'; }
rate() { awk -v n="$1" -v s="$2" 'BEGIN {printf "%.0f", n / s}'; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN {printf "%.2f", a / b}'; }
section() { printf '\n%-64s %16s\n' "$1" "bench/run.sh $2"; }
row() { printf '  %-66s %12s\n' "$1" "$2"; }
# set_in_flight N: tells the fetchers, which hear of it at their next heartbeat.
set_in_flight() { sql -c "alter system set mrprompt.max_in_flight = $1" -c 'select pg_reload_conf()' >/dev/null; sleep 3; }
until_done() { sql -c "call bench_await(0)"; }
# queue_paused N PROMPT [ARGUMENTS]: queues N requests that nobody takes yet.
queue_paused() {
    sql -c 'select mrprompt.pause()' >/dev/null
    sql -c "select count(mrprompt.chat_text('$2', 'm' ${3:+, $3})) from generate_series(1, $1) i" >/dev/null
}
resume() { sql -c 'select mrprompt.resume()' >/dev/null; }
per_second() { sql -c "select round(count(*) / extract(epoch from max(finished_at) - min(started_at))) from mrprompt.requests where metadata ->> 'round' = '$1'"; }
# drain ROUND [METADATA]: how many requests a second are served while the queue is full.
drain() {
    queue_paused "$queue" question "'fake', max_tokens => 100, metadata => '{\"round\": \"$1\"${2:-}}'"
    resume
    until_done
    per_second "$1"
}
curl_loop() { build/curl-loop "$base/v1/chat/completions" "$@"; }
field() { sed -n "s/.*\"$1\": *\([0-9.]*\).*/\1/p"; }
rss_of_fetcher() { sql -c 'select fetcher_pids[1] from mrprompt_internal.server_state()' | xargs -I{} awk '/VmRSS/ {print $2}' /proc/{}/status; }
cancel_round() { sql -c "select count(mrprompt.cancel_request(id)) from mrprompt.requests where metadata ->> 'round' = '$1' and status in ('queued', 'running')" >/dev/null; until_done; }

# --- the measurements ----------------------------------------------------------------------------------------

# start_fetchers N: so many, the local one included.
fetchers=()
start_fetchers() {
    local i
    for ((i = 1; i < $1; i++)); do
        "${as_owner[@]}" build/mrprompt-fetcher --dsn "host=$place dbname=postgres user=fetcher_login" --master-key-file "$place/master.keys" 2>/dev/null &
        fetchers+=($!)
    done
    until [ "$(sql -c "select count(*) from mrprompt_internal.fetchers where kind = 'libpq'")" = $(($1 - 1)) ]; do sleep 0.1; done
}
stop_fetchers() {
    [ ${#fetchers[@]} = 0 ] || kill "${fetchers[@]}"
    [ ${#fetchers[@]} = 0 ] || wait "${fetchers[@]}" || true
    fetchers=()
}

# ceiling SESSIONS
ceiling() {
    local i started sessions=()
    sql -c "call bench_fill($queue)"
    started=$(now)
    for ((i = 0; i < $1; i++)); do
        sql -c 'call bench_drain()' &
        sessions+=($!)
    done
    wait "${sessions[@]}"
    rate "$queue" "$(since "$started")"
}

bench_queue() {
    local n served plain
    section 'Durable requests per second, instant provider' queue
    for n in 1 2 4; do
        start_fetchers $n
        served=$(drain "queue-$n")
        stop_fetchers
        plain=$(ceiling 1)
        row "$n fetcher(s)" "$served"
        row '  ceiling: the same writes by plain SQL, 256 a commit' "$plain"
        row '  part of it' "$(ratio "$served" "$plain")"
    done
    row 'ceiling: plain SQL in 2 sessions, which leaves no core to a provider' "$(ceiling 2)"
    row 'ceiling: a bare libcurl loop, 256 in flight' \
        "$(curl_loop "$queue" 256 '{"model":"m","messages":[{"role":"user","content":"question"}]}' | field per_second)"
}

# Five budgets on every request: a popular one that all share, and four others.
bench_budgets() {
    local n plain held
    section 'Requests per second with five budgets on each' budgets
    for n in 1 2; do
        start_fetchers $n
        plain=$(drain "unmetered-$n")
        sql -c "select count(mrprompt.set_budget(s, t, 1000000, p, soft_limits => '{}')) from (values ('everybody', null, 'month'), ('user', '*', 'day'), ('provider', 'fake', 'hour'), ('model', 'm', 'week'), ('tag', 'bench', 'none')) b (s, t, p)" >/dev/null
        held=$(drain "metered-$n" ', "tags": ["bench"]')
        sql -c 'select count(mrprompt.delete_budget(id)) from mrprompt.budgets' >/dev/null
        stop_fetchers
        row "$n fetcher(s), without" "$plain"
        row '  with' "$held"
        row '  part of it' "$(ratio "$held" "$plain")"
    done
}

bench_slow() {
    local started seconds
    set_in_flight "$slow"
    section "$slow requests of 1 s, all in flight at once" slow
    queue_paused "$slow" 'fake?delay=1000' "'fake'"
    started=$(now)
    resume
    until_done
    seconds=$(since "$started")
    row 'seconds until the last is answered' "$seconds"
    row '  ceiling: a bare libcurl loop' \
        "$(curl_loop "$slow" "$slow" '{"model":"m","messages":[{"role":"user","content":"fake?delay=1000"}]}' | field seconds)"
}

bench_mixed() {
    local started
    set_in_flight 2000
    section '2000 requests of 0.2 to 3 s, every hundredth of 10 s' mixed
    started=$(sql -c "select count(mrprompt.chat_text('fake?delay=' || case i % 100 when 0 then 10000 else 200 + i * 7919 % 2801 end, 'm', 'fake')) from generate_series(1, 2000) i" >/dev/null && now)
    sql -c 'call bench_await(20)'
    row 'seconds from the commit until 99 % are visible' "$(since "$started")"
    until_done
    row '  and all' "$(since "$started")"
}

# streams PROVIDER: all are held open at once, each with a word every 3 s.
streams() {
    local idle busy most=0 running=0 deadline=$((SECONDS + 300)) first
    idle=$(rss_of_fetcher)
    queue_paused "$streams" 'fake?words=40&pace=3000' "'$1', stream => true, metadata => '{\"round\": \"$1\"}'"
    resume
    # Each has shown a piece of its stream: all of them are open.
    until [ "$running" = "$streams" ] || [ $SECONDS -gt $deadline ]; do
        sleep 1
        running=$(sql -c "select count(*) from mrprompt_internal.queue q where fetcher_id is not null and exists (select from mrprompt.deltas d where d.request_id = q.request_id and content is not null)")
    done
    for _ in 1 2 3 4 5; do
        busy=$(rss_of_fetcher)
        [ "$busy" -le $most ] || most=$busy
        sleep 1
    done
    row "$2: streams open at once" "$running"
    row '  memory of the fetcher, KB each beyond idle' "$(awk -v n="$streams" -v k=$((most - idle)) 'BEGIN {printf "%.1f", k / n}')"
    cancel_round "$1"
}

bench_streams() {
    set_in_flight "$streams"
    section "$streams streams in one fetcher" streams
    streams fake 'plain HTTP'
    restart_fetcher
    streams tls TLS
}
# A new process, whose idle memory is its own; one comes only for work.
restart_fetcher() {
    as_root kill "$(sql -c 'select fetcher_pids[1] from mrprompt_internal.server_state()')"
    sleep 1
    sql -c "select mrprompt.chat_text('warm up', 'm', 'fake')" >/dev/null
    until_done
}

bench_latency() {
    set_in_flight 256
    section 'From commit to visible answer, ms (p50 p99)' latency
    row 'idle: a question every 50 ms' "$(sql -c 'call bench_latency(200, 0.05)')"
    row 'back to back' "$(sql -c 'call bench_latency(500, 0)')"
    sql -c "select count(mrprompt.chat_text('fake?words=1000&pace=500', 'm', 'fake', stream => true, metadata => '{\"round\": \"beside\"}')) from generate_series(1, 200)" >/dev/null
    sleep 3
    row 'back to back, beside 200 slow streams' "$(sql -c 'call bench_latency(500, 0)')"
    row 'first piece of a stream to a reader who waits, beside them' "$(sql -c 'call bench_first_delta(200)')"
    cancel_round beside
    row 'first piece of a stream to a reader who waits' "$(sql -c 'call bench_first_delta(200)')"
    row 'ceiling: one commit of one row, every 50 ms' "$(sql -c 'call bench_commit(100, 0.05)')"
    row 'ceiling: one commit of one row, back to back' "$(sql -c 'call bench_commit(300, 0)')"
}

# ms_per_request: to queue and to serve it, best of three.
ms_per_request() {
    local started seconds best=
    for _ in 1 2 3; do
        started=$(now)
        queue_paused "$queue" question "'fake'"
        resume
        until_done
        seconds=$(since "$started")
        best=$(awk -v a="$seconds" -v b="${best:-$seconds}" 'BEGIN {print a < b ? a : b}')
    done
    awk -v n="$queue" -v s="$best" 'BEGIN {printf "%.3f", 1000 * s / n}'
}

bench_history() {
    local before after
    set_in_flight 256
    section "Cost of a request beside a history, ms to queue and serve it" history
    before=$(ms_per_request)
    sql -c "call bench_history($history)" -c 'vacuum analyze' -c checkpoint
    after=$(ms_per_request)
    row "with $((queue * 3)) requests in the tables at most" "$before"
    row "with $history more" "$after"
    row '  ratio' "$(ratio "$after" "$before")"
}

# compacted: bytes of mrprompt's tables and indexes, without what is dead in them.
compacted() {
    sql -c "select format('vacuum full %s;', c.oid::regclass) from pg_class c where c.relnamespace in ('mrprompt'::regnamespace, 'mrprompt_internal'::regnamespace) and c.relkind = 'r'" | sql
    sql -c 'select bench_bytes_of_all()'
}
each() { awk -v a="$1" -v b="$2" -v n="$3" 'BEGIN {printf "%.0f", (b - a) / n}'; }
# supervised on|off: whether the fetcher is there; without it, those of the bench are.
supervised() {
    sql -c "alter system set mrprompt.local_fetcher = $1" -c 'select pg_reload_conf()' >/dev/null
    [ "$1" = on ] || until [ "$(sql -c 'select count(*) from mrprompt_internal.fetchers')" = 0 ]; do sleep 0.1; done
}

bench_runs() {
    local agent few many n how ceiling before after tools='[{"type": "function", "function": {"name": "ask_user"}}]'
    section "Agents' runs, ms each, without their provider" runs
    supervised off
    agent=$(sql -c "select mrprompt.create_agent('bench', provider => 'fake', model => 'm', tools => '$tools')")
    few=$(sql -c 'select bench_thread(100)')
    many=$(sql -c "select bench_thread($long)")
    sql -c 'vacuum analyze mrprompt.messages' -c checkpoint
    for how in "null, 10|last_messages => 10" "'auto', null|truncation => 'auto'"; do
        IFS='|' read -r after n <<<"$(sql -c "call bench_create_run('$agent', array['$few', '$many']::uuid[], ${how%|*}, 100)")"
        row "create_run(${how#*|}) on 100 messages: sends ${n% *}" "${after% *}"
        row "  on $long: sends ${n#* }" "${after#* }"
        row '  ratio' "$(ratio "${after#* }" "${after% *}")"
    done
    row 'ceiling: one row and its commit' "$(sql -c 'call bench_insert(1000)')"

    # The first round fills the caches.
    sql -c "call bench_steps(null, false, 100)" -c "call bench_steps('$agent', true, 100)" >/dev/null
    row "$runs plain chats: to queue, to claim, to settle" "$(sql -c "call bench_steps(null, false, $runs)")"
    row "$runs runs of one step" "$(sql -c "call bench_steps('$agent', false, $runs)")"
    row "$runs runs with a client tool: the same, and submit_tool_outputs" "$(sql -c "call bench_steps('$agent', true, $runs)")"

    before=$(compacted)
    sql -c "select bench_thread(10000)" >/dev/null
    after=$(compacted)
    row 'bytes of a message of 190 characters' "$(each "$before" "$after" 10000)"
    for n in 10 1000; do
        many=$(sql -c "select bench_thread($n)")
        before=$(compacted)
        sql -c "call bench_runs('$agent', '$many', $runs)"
        after=$(compacted)
        row "bytes of a run of one step and its answer, thread of $n" "$(each "$before" "$after" "$runs")"
    done
    row '  what its request sends / keeps' "$(sql -F ' / ' -c "select octet_length(mrprompt_internal.payload_of(q)::text), octet_length(q.payload::text)
        from mrprompt.runs r join mrprompt.requests q on q.run_id = r.id where r.thread_id = '$many' order by r.id desc limit 1")"

    supervised on
    sql -c 'create role bench_app login in role mrprompt_user' -c "select mrprompt.add_user(login_role => 'bench_app')" -c "select mrprompt.register_tool('bench_tool', 'public.bench_tool', 'A tool.')" >/dev/null
    agent=$(sql -U bench_app -c "select mrprompt.create_agent('bench', provider => 'fake', model => 'm', tools => '[\"bench_tool\"]')")
    sql -U bench_app -c "call bench_tool_calls('$agent', 20)" >/dev/null
    IFS='|' read -r before n after <<<"$(sql -U bench_app -c "call bench_tool_calls('$agent', 200)")"
    row 'an SQL tool, from its call to its output, ms (p50 p99)' "$before"
    row '  until its process has it' "$n"
    row '  the whole run: two model calls and the tool, instant provider' "$after"
    echo 'select bench_tool();' >"$place/tool.sql"
    ceiling=$("$bindir/pgbench" -n -C -t 200 -f "$place/tool.sql" -U bench_app 2>/dev/null | sed -n 's/^latency average = \([0-9.]*\) ms$/\1/p')
    row '  ceiling: a connection that calls it, average' "$ceiling"
}

# us_per_call EXPRESSION: microseconds that its evaluation takes, best of five.
us_per_call() { sql -c "call bench_call(\$bench\$$1\$bench\$)"; }

bench_seal() {
    local plain=sk-bench-0123456789012345678901234567890123456789012 key='019a0000-0000-7000-8000-000000000001' empty sealed raw what
    section 'Sealing and opening a key, microseconds a call' seal
    sealed=$(sql -c "select mrprompt.encrypt_key('$plain', '$key', '$key', 'openai')")
    empty=$(us_per_call 'pg_backend_pid()')
    raw=$(build/seal-loop)
    row 'encrypt_key' "$(us_per_call "mrprompt.encrypt_key('$plain', '$key', '$key', 'openai')")"
    row '  OpenSSL alone' "$(field seal <<<"$raw")"
    row 'decrypt_key' "$(us_per_call "mrprompt.decrypt_key('$sealed', '$key', '$key', 'openai')")"
    row '  OpenSSL alone' "$(field open <<<"$raw")"
    row 'an empty call' "$empty"
}

# median_ms QUERY [TIMES]: as an analyst.
median_ms() { sql -c 'set role mrprompt_analyst' -c "call bench_median(\$bench\$$1\$bench\$, ${2:-11})"; }

bench_dashboards() {
    local started by start worst month="date_trunc('day', now(), 'UTC') - interval '30 days', date_trunc('day', now(), 'UTC')"
    local calendar="date_trunc('month', now(), 'UTC') - interval '1 month', date_trunc('month', now(), 'UTC')"
    section "Reports of a month, $ledger ledger rows in 60 days, ms" dashboards
    sql -c 'truncate mrprompt.usage, mrprompt_internal.usage_rollups, mrprompt_internal.usage_watermark' -c "call bench_ledger($ledger)" -c 'vacuum analyze mrprompt.usage'
    started=$(now)
    sql -c 'call bench_roll_up()'
    row 'ledger rows rolled up per second' "$(rate "$ledger" "$(since "$started")")"
    sql -c 'vacuum analyze mrprompt_internal.usage_rollups' -c checkpoint
    row 'select 1' "$(median_ms 'select 1')"
    row 'total' "$(median_ms "select * from mrprompt.usage_report($month, 'total')")"
    for by in day hour model provider key agent tag day,model; do
        row "by $by" "$(median_ms "select * from mrprompt.usage_report($month, '$by')")"
    done
    row 'by user' "$(median_ms "select * from mrprompt.usage_report($month, 'user')")"
    row 'the top 20 users' "$(median_ms "select * from mrprompt.top_spenders($month)")"
    for by in day hour; do
        start=$(sql -c "select bench_worst_start('1 $by')")
        worst="'$start', '$start'::timestamptz + interval '30 days'"
        row "30 days of the most roll-ups, from a $by on, by user" "$(median_ms "select * from mrprompt.usage_report($worst, 'user')")"
        row '  the top 20 users' "$(median_ms "select * from mrprompt.top_spenders($worst)")"
    done
    row 'the calendar month before, by user' "$(median_ms "select * from mrprompt.usage_report($calendar, 'user')")"
    row '  the top 20 users' "$(median_ms "select * from mrprompt.top_spenders($calendar)")"
    row 'the last 30 days up to now, total' "$(median_ms "select * from mrprompt.usage_report(by => 'total')")"
    row '  by user' "$(median_ms "select * from mrprompt.usage_report(by => 'user')")"
    row '  the top 20 users' "$(median_ms 'select * from mrprompt.top_spenders()')"
    row 'all 60 days: usage_by_day' "$(median_ms 'select * from mrprompt.usage_by_day')"
    row '  usage_by_user' "$(median_ms 'select * from mrprompt.usage_by_user')"
    row 'of the ledger itself: latency of the last day by model' "$(median_ms 'select * from mrprompt.latency_report()' 3)"
    row '  and the month, summed by user' "$(median_ms "select user_id, sum(cost) from mrprompt.usage where finished_at >= now() - interval '30 days' group by 1" 1)"
    sql -c 'call bench_budgets(200000)'
    row 'bytes of a ledger row: table, with indexes' "$(sql -c "select bench_bytes('mrprompt.usage', false) || ' ' || bench_bytes('mrprompt.usage', true)")"
    row '  held by five budgets' "$(sql -c "select bench_bytes('bench_budgeted', false) || ' ' || bench_bytes('bench_budgeted', true)")"
    row 'roll-ups, MB' "$(sql -c "select sum(pg_total_relation_size(relid))::bigint >> 20 from pg_partition_tree('mrprompt_internal.usage_rollups')")"
}

echo "$(nproc) cores, PostgreSQL $(sql -c 'show server_version' | cut -d' ' -f1), default settings"
sql -c "select mrprompt.chat_text('warm up', 'm', 'fake')" >/dev/null
until_done
for measurement; do "bench_$measurement"; done
