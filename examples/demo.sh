#!/bin/bash
# `make demo`: builds mrprompt, starts a throwaway server in build/, and shows the main job in a terminal.
# With OPENAI_API_KEY, ANTHROPIC_API_KEY or VANCHIN_API_KEY (and VANCHIN_ENDPOINT_ID) set it calls the real provider.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' reset=$'\e[0m'
[ -t 1 ] || { bold='' dim='' green='' reset=''; }
say() { printf '\n%s%s%s\n' "$bold" "$*" "$reset"; }

.ci/setup
mkdir -p build
echo "building: a few minutes the first time (build/build.log)"
{ make -j"$(nproc)" all build/fake-provider && as_root env PATH="$PATH" PG_CONFIG="${PG_CONFIG:-pg_config}" make install; } >build/build.log 2>&1 ||
    { tail -n 30 build/build.log >&2; exit 1; }

# PostgreSQL does not run as root: then the server belongs to the user postgres.
owner=$(id -un)
as_owner=()
if [ "$(id -u)" = 0 ]; then
    owner=postgres
    as_owner=(env -C / runuser -u postgres --)  # it may not enter this folder
fi
bindir=$("${PG_CONFIG:-pg_config}" --bindir)
# The server's folder lies in build/; where that user cannot go there (a checkout in root's home), in a temporary one.
place=$root/build/demo
rm -rf "$place"
mkdir -p "$place"
chown "$owner" "$place"
if ! "${as_owner[@]}" test -w "$place"; then
    rmdir "$place"
    place=$(mktemp -d "${TMPDIR:-/tmp}/mrprompt-demo.XXXXXX")
    chown "$owner" "$place"
fi
socket=$(mktemp -d "${TMPDIR:-/tmp}/mrprompt.XXXXXX")  # a socket's path must be short
chown "$owner" "$socket"
provider_pid=
finish() {
    [ ! -f "$place/data/postmaster.pid" ] || "${as_owner[@]}" "$bindir/pg_ctl" -D "$place/data" -m immediate -s stop || true
    [ -z "$provider_pid" ] || kill "$provider_pid" 2>/dev/null || true
    rm -rf "$place" "$socket"
}
trap finish EXIT

"${as_owner[@]}" "$bindir/initdb" -D "$place/data" -A trust -E UTF8 --locale=C.UTF-8 -U demo >/dev/null
"${as_owner[@]}" sh -c "umask 077; echo k1:$(openssl rand -hex 32) >'$place/master.keys'"
cat <<CONF | "${as_owner[@]}" tee -a "$place/data/postgresql.conf" >/dev/null
shared_preload_libraries = 'mrprompt'
mrprompt.master_key_file = '$place/master.keys'
listen_addresses = ''
unix_socket_directories = '$socket'
CONF
"${as_owner[@]}" "$bindir/pg_ctl" -D "$place/data" -l "$place/log" -s -w start
export PGHOST=$socket PGUSER=demo PGDATABASE=postgres PGOPTIONS='-c client_min_messages=warning' PSQL_PAGER=
sql() { psql -XAtq -v ON_ERROR_STOP=1 "$@"; }
show() { printf '%s=> %s%s\n' "$dim" "$1" "$reset"; psql -Xq -v ON_ERROR_STOP=1 -P footer=off -c "$1"; }

sql -c 'create extension mrprompt' -c 'select mrprompt.add_user(login_role => current_user)' >/dev/null

metadata='{}' name=fake
question='In three sentences: why keep conversations in your own database?'
if [ -n "${OPENAI_API_KEY:-}" ]; then
    provider=openai model=${OPENAI_MODEL:-gpt-4o-mini} key=$OPENAI_API_KEY
elif [ -n "${ANTHROPIC_API_KEY:-}" ]; then
    provider=anthropic model=${ANTHROPIC_MODEL:-claude-sonnet-5} key=$ANTHROPIC_API_KEY
elif [ -n "${VANCHIN_API_KEY:-}" ]; then
    provider=vanchin model=${VANCHIN_ENDPOINT_ID:?set VANCHIN_ENDPOINT_ID to your ep-… id} key=$VANCHIN_API_KEY
else
    provider=$name model=fake-1 key=WW8GMBSTec_uPhT9g
    coproc FAKE { exec build/fake-provider --port 0; }
    provider_pid=$FAKE_PID
    read -r line <&"${FAKE[0]}"
    base=http://127.0.0.1:${line##*:}/v1
    sql -c "insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private) values ('fake', 'openai', '$base', true, true)" \
        -c "insert into mrprompt.prices (provider, model, input, output) values ('fake', 'fake-1', 0.0000025, 0.00001)"
    answer='Because then they are yours. Each request, each piece of its answer, each token and cent is a row that you can join, back up and restore. And when a process dies in the middle, the row is still there, and somebody else finishes the sentence.'
    question="fake?pace=60&text=$(printf %s "$answer" | sed 's/%/%25/g; s/&/%26/g; s/ /%20/g')"
    say "No provider key in the environment: a fake provider answers at $base"
fi

say '1. A key is stored sealed, and shown masked'
# The key goes in through a variable of psql's standard input: not on a command line, where others could read it.
printf '%s\n' "\\set key '$key'" "select mrprompt.add_key('$provider', :'key', name => 'demo');" | sql -f - >/dev/null
printf "%s=> select mrprompt.add_key('%s', '…');%s\n" "$dim" "$provider" "$reset"
show 'select provider, name, masked_key, created_at::timestamp(0) from mrprompt.list_keys()'

say '2. A question is a row in a queue; its answer arrives piece by piece'
printf "%s=> select mrprompt.chat_text('…', '%s', '%s', stream => true);%s\n" "$dim" "$model" "$provider" "$reset"
id=$(printf '%s\n' "\\set question '${question//\'/\'\'}'" "select mrprompt.chat_text(:'question', '$model', '$provider', stream => true);" | sql -f -)
printf "%s=> select * from mrprompt.stream('%s', after_seq => …);   -- again and again, from the last seq%s\n\n%s" "$dim" "$id" "$reset" "$green"
seq=0
while :; do
    ended=
    while IFS=$'\x1f' read -r -d $'\x1e' new_seq event content; do
        seq=${new_seq//$'\n'/}
        [ "$event" != end ] || ended=yes
        content=${content%$'\n'}  # psql's own, behind the last row
        printf %s "${content%.}"
    done < <(psql -XAtq -F $'\x1f' -R $'\x1e' -c "select seq, event, coalesce(content, '') || '.' from mrprompt.stream('$id', $seq)"; printf '\x1e')
    [ -z "$ended" ] || break
done
printf '%s\n' "$reset"

say '3. The answer is a row, and so is what it cost'
show "select status, finish_reason, prompt_tokens, completion_tokens, cost as cost_usd from mrprompt.get_request('$id')"
show "select provider, model, requests, prompt_tokens, completion_tokens, cost, avg_first_token_ms, avg_total_ms from mrprompt.usage_by_model"

say '4. For psql users: one call that waits'
printf "%s=> call mrprompt.ask('say hello to whoever reads this', '$model', '$provider');%s\n" "$dim" "$reset"
sql -c "call mrprompt.ask('say hello to whoever reads this', '$model', '$provider')"

say '5. What the DBA sees'
show 'select fetchers, in_flight, queued, attempts_last_hour, error_rate_last_hour from mrprompt.status()'
findings=$(sql -c "select severity || ': ' || finding from mrprompt.doctor()")
echo "mrprompt.doctor() says: ${findings:-all is well}"

say 'The throwaway server is gone; the extension stays installed. Continue with "Install" in README.md.'
