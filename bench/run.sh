#!/bin/bash
# `make bench`: figures beside the machine's own ceilings, from one run. Prints a table; build/bench.log keeps what ran.
# BENCH_QUEUE, BENCH_SLOW: how many requests (default 20000, 1000).
set -euo pipefail
cd "$(dirname "$0")/.."
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
.ci/setup
mkdir -p build
{ make -j"$(nproc)" all build/fake-provider build/curl-loop && as_root env PATH="$PATH" make install; } >build/build.log 2>&1 ||
    { tail -n 30 build/build.log >&2; exit 1; }

queue=${BENCH_QUEUE:-20000}
slow=${BENCH_SLOW:-1000}
bindir=$(pg_config --bindir)
place=$(mktemp -d "${TMPDIR:-/tmp}/mrprompt-bench.XXXXXX")
as_owner=()
if [ "$(id -u)" = 0 ]; then
    chown postgres "$place"
    as_owner=(runuser -u postgres --)
fi
ulimit -n "$(ulimit -Hn)"
coproc FAKE { exec build/fake-provider --port 0; }
fake_pid=$FAKE_PID
finish() {
    [ ! -f "$place/data/postmaster.pid" ] || "${as_owner[@]}" "$bindir/pg_ctl" -D "$place/data" -m immediate -s stop || true
    kill "$fake_pid" 2>/dev/null || true
    rm -rf "$place"
}
trap finish EXIT
read -r line <&"${FAKE[0]}"
base=http://127.0.0.1:${line##*:}

# PostgreSQL's default settings; what is set is mrprompt's own.
"${as_owner[@]}" "$bindir/initdb" -D "$place/data" -A trust -E UTF8 --locale=C.UTF-8 -U bench >/dev/null
"${as_owner[@]}" sh -c "umask 077; echo k1:$(openssl rand -hex 32) >'$place/master.keys'"
cat <<CONF | "${as_owner[@]}" tee -a "$place/data/postgresql.conf" >/dev/null
shared_preload_libraries = 'mrprompt'
mrprompt.master_key_file = '$place/master.keys'
listen_addresses = ''
unix_socket_directories = '$place'
CONF
"${as_owner[@]}" "$bindir/pg_ctl" -D "$place/data" -l "$place/log" -s -w start
export PGHOST=$place PGUSER=bench PGDATABASE=postgres PGOPTIONS='-c client_min_messages=warning'
sql() { psql -XAtq -v ON_ERROR_STOP=1 "$@"; }
sql -c 'create extension mrprompt' -c 'select mrprompt.add_user(login_role => current_user)' >/dev/null
sql -c "insert into mrprompt.providers (name, protocol, base_url, allow_http) values ('fake', 'openai', '$base/v1', true)"
sql -c "insert into mrprompt.prices (provider, model, input, output) values ('fake', 'm', 0.000001, 0.000002)"
sql -f bench/ceiling.sql
row() { printf '%-62s %14s\n' "$1" "$2"; }
# set_in_flight N: tells the fetcher, which hears of it at its next heartbeat.
set_in_flight() { sql -c "alter system set mrprompt.max_in_flight = $1" -c 'select pg_reload_conf()' >/dev/null; sleep 3; }
# until_done: waits for the queue to empty, by asking a table of its own size.
until_done() { until [ "$(sql -c 'select count(*) from mrprompt_internal.queue')" = 0 ]; do sleep 0.02; done; }
per_second() { sql -c "select round($1 / extract(epoch from max(finished_at) - min(started_at))) from mrprompt.requests where metadata ->> 'round' = '$2'"; }
now() { date +%s.%N; }

body='{"model":"m","messages":[{"role":"user","content":"question"}]}'
ceiling_http=$(build/curl-loop "$base/v1/chat/completions" "$queue" 256 "$body" | sed -n 's/.*"per_second": *\([0-9.]*\).*/\1/p')
ceiling_sql=$(sql -c "call bench_ceiling($queue)")

sql -c "select mrprompt.chat_text('warm up', 'm', 'fake')" >/dev/null
until_done
sql -c 'select mrprompt.pause()' >/dev/null
sql -c "select count(mrprompt.chat_text('question ' || i, 'm', 'fake', metadata => '{\"round\": \"drain\"}')) from generate_series(1, $queue) i" >/dev/null
sql -c 'select mrprompt.resume()' >/dev/null
until_done
drained=$(per_second "$queue" drain)

set_in_flight "$slow"
sql -c 'select mrprompt.pause()' >/dev/null
sql -c "select count(mrprompt.chat_text('fake?delay=1000', 'm', 'fake', metadata => '{\"round\": \"slow\"}')) from generate_series(1, $slow)" >/dev/null
rss_of_fetcher() { sql -c 'select fetcher_pids[1] from mrprompt_internal.server_state()' | xargs -I{} awk '/VmRSS/ {print $2}' /proc/{}/status; }
rss_idle=$(rss_of_fetcher)
started=$(now)
sql -c 'select mrprompt.resume()' >/dev/null
sleep 0.9
rss_busy=$(rss_of_fetcher)
until_done
slow_seconds=$(awk -v a="$started" -v b="$(now)" 'BEGIN {printf "%.2f", b - a}')
curl_slow=$(build/curl-loop "$base/v1/chat/completions" "$slow" "$slow" '{"model":"m","messages":[{"role":"user","content":"fake?delay=1000"}]}' | sed -n 's/.*"seconds": *\([0-9.]*\).*/\1/p')

latency() { sql -c "call bench_latency($1)"; }
commit=$(sql -c 'call bench_commit(300)')
idle=$(latency 300)
sql -c "select mrprompt.chat_text('fake?delay=60000', 'm', 'fake', metadata => '{\"round\": \"long\"}')" >/dev/null
sleep 0.5
beside=$(latency 300)
sql -c "select mrprompt.cancel_request(id) from mrprompt.requests where metadata ->> 'round' = 'long'" >/dev/null

echo
row "$(nproc) cores, PostgreSQL $(sql -c 'show server_version' | cut -d' ' -f1), default settings" ''
row 'drain: durable requests per second, instant provider' "$drained"
row '  ceiling: the same writes by plain SQL, 256 a commit' "$ceiling_sql"
row '  ceiling: a bare libcurl loop, 256 in flight' "$ceiling_http"
row "$slow requests of 1 s, $slow in flight: seconds" "$slow_seconds"
row '  ceiling: the bare libcurl loop' "$curl_slow"
row 'memory of the fetcher per request in flight, KB' "$(((rss_busy - rss_idle) / slow))"
row 'commit to visible answer, ms (p50 p99)' "$idle"
row '  beside a slow request in flight' "$beside"
row '  ceiling: one commit of one row' "$commit"
