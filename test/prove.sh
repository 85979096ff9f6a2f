#!/bin/sh
# Runs TAP tests in PostgreSQL's way (as its prove_installcheck does, versions 15 to 18), with timing; as many files at once as there are processors.
# usage: test/prove.sh [option of prove…] FILE…
# As root it becomes an unprivileged user first: PostgreSQL does not run as root.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
pg_config=${PG_CONFIG:-pg_config}
pgxs=$(dirname "$($pg_config --pgxs)")/..

scratch=$(mktemp -d "${TMPDIR:-/tmp}/mrprompt-tap.XXXXXX")
# An interrupted test leaves servers and fetchers behind; all of them name this folder.
trap 'pkill -9 -f -- "$scratch" 2>/dev/null || true; rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
mkdir "$scratch/tmp_check" "$scratch/log"

as_user=
tree=$root
if [ "$(id -u)" = 0 ]; then
    user=postgres
    id "$user" >/dev/null 2>&1 || user=nobody
    as_user="runuser -u $user --"
    # A checkout in root's home is closed to that user.
    if ! $as_user test -r "$root/Makefile"; then
        tree=$scratch/tree
        mkdir -p "$tree/build"
        cp -R "$root/test" "$root/examples" "$root/mrprompt.control" "$tree"
        find "$root/build" -maxdepth 1 -type f -perm -u+x -exec cp {} "$tree/build" \;
    fi
    chown -R "$user" "$scratch"
fi

# File arguments become absolute: the tests run in the scratch directory.
count=$#
while [ "$count" -gt 0 ]; do
    argument=$1
    shift
    case $argument in
    -*) ;;
    *)
        if [ -e "$argument" ]; then
            argument=$(cd "$(dirname "$argument")" && pwd)/$(basename "$argument")
            case $argument in "$root"/*) argument=$tree/${argument#"$root"/} ;; esac
        fi
        ;;
    esac
    set -- "$@" "$argument"
    count=$((count - 1))
done

cd "$scratch"
status=0
# shellcheck disable=SC2086  # as_user is a command
$as_user env \
    TESTDIR="$scratch" TESTDATADIR="$scratch/tmp_check" TESTLOGDIR="$scratch/log" \
    PG_TEST_PORT_DIR="$scratch" PGPORT=65432 \
    PG_REGRESS="$pgxs/test/regress/pg_regress" \
    PATH="$($pg_config --bindir):$PATH" HOME="$scratch" \
    prove --timer -j "$(nproc)" -I "$pgxs/test/perl" -I "$tree/test/t/lib" "$@" || status=$?

if [ "$status" != 0 ] && rm -rf "$root/build/tap" && mkdir -p "$root/build/tap"; then
    for log in "$scratch/log" "$scratch/tmp_check/log"; do # version 16 and later, version 15
        [ ! -d "$log" ] || cp -R "$log/." "$root/build/tap"
    done
    echo "The logs of these tests are in build/tap." >&2
fi
exit "$status"
