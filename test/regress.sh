#!/bin/bash
# Runs pg_regress (test/sql) and pg_isolation_regress (test/isolation) against servers of their own.
# usage: test/regress.sh [regress|isolation]…   As root it becomes an unprivileged user first: PostgreSQL does not run as root.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
pg_config=${PG_CONFIG:-pg_config}
bindir=$($pg_config --bindir)
test_programs=$(dirname "$($pg_config --pgxs)")/../test

scratch=$(mktemp -d "${TMPDIR:-/tmp}/mrprompt-regress.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/test" "$scratch/expected"
cp -R "$root"/test/helpers.sql "$root"/test/sql "$root"/test/isolation "$scratch/test/"
cp -R "$root"/expected/. "$scratch/expected/"
# A test without its expected file shall fail by its output, not by the file's absence.
for test in "$scratch"/test/sql/*.sql; do touch -a "$scratch/expected/$(basename "$test" .sql).out"; done
mkdir -p "$scratch/test/isolation/expected"
for test in "$scratch"/test/isolation/specs/*.spec; do touch -a "$scratch/test/isolation/expected/$(basename "$test" .spec).out"; done
# Texts that were sealed under k0 stand in the tests; k1 is the active one.
(umask 077 && printf 'k0:%064d\nk1:%s\n' 0 "$(openssl rand -hex 32)" >"$scratch/master.keys")
cat >"$scratch/server.conf" <<CONF
shared_preload_libraries = 'mrprompt'
mrprompt.master_key_file = '$scratch/master.keys'
mrprompt.local_fetcher = off
mrprompt.trusted_logins = 'authenticator, back_end'
max_prepared_transactions = 5
fsync = off
CONF
as_user=()
if [ "$(id -u)" = 0 ]; then
    user=postgres
    id "$user" >/dev/null 2>&1 || user=nobody
    chown -R "$user" "$scratch"
    as_user=(runuser -u "$user" --)
fi

# run PROGRAM INPUTDIR OUTPUTDIR TESTS…
run() {
    local program=$1 inputdir=$2 outputdir=$3
    shift 3
    (cd "$scratch" && "${as_user[@]}" env LC_ALL=C.UTF-8 TZ=UTC "$test_programs/$program" --bindir="$bindir" \
        --temp-instance="$scratch/server" --temp-config="$scratch/server.conf" --encoding=UTF8 \
        --inputdir="$inputdir" --outputdir="$outputdir" --load-extension=mrprompt --dbname=regression "$@")
}

[ $# -gt 0 ] || set -- regress isolation
status=0
for suite; do
    rm -rf "$scratch/server"
    case $suite in
    regress)
        mapfile -t tests < <(cd "$root/test/sql" && ls ./*.sql | sed 's|./\(.*\)\.sql|\1|')
        run regress/pg_regress "$scratch/test" "$scratch" "${tests[@]}" || status=1
        ;;
    isolation)
        mapfile -t tests < <(cd "$root/test/isolation/specs" && ls ./*.spec | sed 's|./\(.*\)\.spec|\1|')
        run isolation/pg_isolation_regress "$scratch/test/isolation" "$scratch/isolation" "${tests[@]}" || status=1
        ;;
    esac
done

for suite; do
    rm -rf "$root/build/$suite"
    mkdir -p "$root/build/$suite"
    for part in regression.diffs results log; do
        from=$scratch/$part
        [ "$suite" = regress ] || from=$scratch/$suite/$part
        [ ! -e "$from" ] || cp -R "$from" "$root/build/$suite/"
    done
done
if [ "$status" != 0 ]; then
    cat "$scratch"/regression.diffs "$scratch"/isolation/regression.diffs 2>/dev/null | head -n 200 >&2 || true
    echo "What came out is in build/regress and build/isolation." >&2
fi
exit "$status"
