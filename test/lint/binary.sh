#!/bin/bash
# What the built module exports and needs, and what the SQL files promise.
cd "$(dirname "$0")/../.."
failed=0
passed=0
check() { # NAME BREACHES
    if [ -n "$2" ]; then printf 'not ok - %s\n%s\n' "$1" "$2"; failed=$((failed + 1)); else printf 'ok - %s\n' "$1"; passed=$((passed + 1)); fi
}

declared=$(grep -rhoE "'MODULE_PATHNAME', '[a-z0-9_]+'" sql/install sql/upgrade | sed "s/.*, '//; s/'//" | sort -u)
exported=$(nm -D --defined-only mrprompt.so | awk '$2 ~ /[TDBRVW]/ {print $3}' |
    grep -vE '^(Pg_magic_func|_PG_init|mrprompt_launcher_main|mrprompt_supervisor_main|mrprompt_tool_main|_init|_fini)$' | sed 's/^pg_finfo_//' | sort -u)
check 'mrprompt.so exports its SQL functions and nothing else' "$(comm -13 <(echo "$declared") <(echo "$exported"))"
check 'every declared C function is exported' "$(comm -23 <(echo "$declared") <(echo "$exported"))"
check 'mrprompt.so needs libcrypto, libstdc++, libc and friends only' \
    "$(readelf -d mrprompt.so | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' | grep -vE '^(libcrypto|libstdc\+\+|libc|libm|libgcc_s|ld-linux[^.]*)\.so')"
check 'every SECURITY DEFINER function pins its search_path' \
    "$(awk 'FNR == 1 {pending = ""} /security definer/ {pending = FILENAME ":" FNR; if (/set search_path/) pending = ""} pending != "" && /set search_path/ {pending = ""} /^(as \$|begin atomic|    return )/ && pending != "" {print pending; pending = ""}' sql/install/*.sql)"
check 'no file names a machine path' "$(git grep -nE '/(home|root|work|farm)/[a-z]' -- . ':!test/lint/binary.sh' 2>/dev/null)"
check 'the version stands in the control file only' \
    "$(git grep -nF "$(sed -n "s/^default_version *= *'\(.*\)'/\1/p" mrprompt.control)" -- ':!mrprompt.control' ':!CHANGELOG.md' ':!META.json' ':!*.lock' ':!*package*.json' ':!expected' ':!test/unit' 2>/dev/null)"
version=$(sed -n "s/^default_version *= *'\(.*\)'/\1/p" mrprompt.control)
check 'META.json and CHANGELOG.md know the version' \
    "$(grep -qF "\"version\": \"$version\"" META.json && grep -qF "$version" CHANGELOG.md || echo "version $version is missing in one of them")"
echo "binary: $passed passed, $failed failed"
[ "$failed" = 0 ]
