#!/bin/bash
# `make test`: installs what is missing, builds, installs into this machine's PostgreSQL, runs every suite, counts.
set -uo pipefail
cd "$(dirname "$0")/.."
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

.ci/setup --test || exit 1
# The warnings of a build that others depend on are errors here.
export STRICT=-Werror
jobs=$(nproc)
mkdir -p build
echo "building"
tools=(build/fake-provider build/unit-tests build/asan-fetcher build/fence-probe build/open-memory.so fuzz-targets)
{ make -j"$jobs" all "${tools[@]}" && as_root env PATH="$PATH" PG_CONFIG="${PG_CONFIG:-pg_config}" make install; } >build/build.log 2>&1 ||
    { tail -n 40 build/build.log >&2; echo "The build failed; the whole log is build/build.log." >&2; exit 1; }
if [ -f test/peer/package.json ] && [ ! -d test/peer/node_modules ]; then
    (cd test/peer && npm ci --silent --no-audit --no-fund) >>build/build.log 2>&1 ||
        { tail -n 20 build/build.log >&2; echo "npm could not install the independent peer." >&2; exit 1; }
fi

passed=0
failed=0
summary=()
# suite NAME COMMAND…: runs it into build/NAME.log, and counts the results by the runner's own words.
suite() {
    local name=$1 started=$SECONDS log=build/$1.log ok bad result
    shift
    printf '%-10s ' "$name"
    "$@" >"$log" 2>&1
    result=$?
    case $name in
    unit)
        ok=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test.*/\1/p' "$log")
        bad=$(sed -n 's/^ *\([0-9]*\) FAILED TEST.*/\1/p' "$log")
        ;;
    lint | fuzz | regress | isolation)
        ok=$(grep -cE '^(ok|test .* \.\.\. ok|     .* \.\.\. ok)' "$log")
        bad=$(grep -cE '^(not ok|test .* \.\.\. FAILED|     .* \.\.\. FAILED)' "$log")
        ;;
    tap)
        ok=$(grep -cE '^ok [0-9]' "$log")
        bad=$(grep -cE '^not ok [0-9]' "$log")
        ;;
    esac
    ok=${ok:-0}
    bad=${bad:-0}
    # A runner that fails, or that ran nothing, without a failed test of its own counts as one.
    if { [ "$result" != 0 ] || [ "$ok" = 0 ]; } && [ "$bad" = 0 ]; then bad=1; fi
    printf '%4s passed, %s failed, %s s\n' "$ok" "$bad" $((SECONDS - started))
    if [ "$bad" != 0 ]; then tail -n "${TAIL:-60}" "$log"; fi
    summary+=("$name $((SECONDS - started)) s")
    passed=$((passed + ok))
    failed=$((failed + bad))
}

suite lint bash -c 'test/lint/layers.sh; a=$?; test/lint/binary.sh && exit $a'
suite unit build/unit-tests --gtest_brief=1
suite fuzz test/fuzz.sh 6
suite regress test/regress.sh regress
suite isolation test/regress.sh isolation
suite tap test/prove.sh -v test/t/*.pl

printf '%s\n' "$(IFS=,; echo "${summary[*]}" | sed 's/,/, /g')"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
