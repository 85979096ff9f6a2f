#!/bin/bash
# Runs fuzz targets, each for some seconds after all of its corpus, and says for each whether its promises held.
# usage: test/fuzz.sh SECONDS|long [TARGET…]
# With "long" what finds new paths is kept in build/fuzz/corpus, and every run begins elsewhere (FUZZ_SECONDS, 600 by default).
# An input that breaks a promise is left in build/fuzz as TARGET-crash-…: build/fuzz/bin/TARGET FILE runs it again.
set -uo pipefail
cd "$(dirname "$0")/.."

seconds=$1
shift
long=
if [ "$seconds" = long ]; then
    long=yes
    seconds=${FUZZ_SECONDS:-600}
fi
if [ $# = 0 ]; then
    for source in test/fuzz/*.cpp; do set -- "$@" "$(basename "$source" .cpp)"; done
fi

failed=0
for target in "$@"; do
    if [ -n "$long" ]; then
        grown=build/fuzz/corpus/$target
        how=(-seed="$RANDOM" -use_value_profile=1)
    else
        grown=$(mktemp -d)
        how=(-seed=1)
    fi
    mkdir -p "$grown" build/fuzz
    corpora=("$grown")
    for folder in "test/fuzz/corpus/$target" test/unit/fixtures/openai test/unit/fixtures/anthropic; do
        case $target:$folder in
        sse:*fixtures* | json:*fixtures* | *_decoder:*fixtures* | provider_bytes:*fixtures* | "$target":test/fuzz/*)
            if [ -d "$folder" ]; then corpora+=("$folder"); fi
            ;;
        esac
    done
    log=build/fuzz/$target.log
    # An input that takes ten seconds or a gigabyte is a finding, too; so is any leak.
    if "build/fuzz/bin/$target" -max_total_time="$seconds" "${how[@]}" -timeout=10 -rss_limit_mb=1024 -max_len=8192 \
        -artifact_prefix="build/fuzz/$target-" -print_final_stats=1 "${corpora[@]}" >"$log" 2>&1; then
        echo "ok - $target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs"
    else
        failed=$((failed + 1))
        echo "not ok - $target"
        tail -n 40 "$log"
    fi
    if [ -z "$long" ]; then rm -rf "$grown"; fi
done
[ "$failed" = 0 ]
