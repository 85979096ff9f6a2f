#!/bin/bash
# The layer rules of ARCHITECTURE.md: who may include what. Prints each breach; exits 1 if there is one.
cd "$(dirname "$0")/../.."
failed=0
passed=0

# rule NAME FOLDERS PATTERN: no file under FOLDERS may include what matches PATTERN.
rule() {
    local found
    found=$(grep -rnE "^\s*#\s*include\s*[<\"]($3)" $2 --include='*.cpp' --include='*.hpp' 2>/dev/null)
    if [ -n "$found" ]; then
        printf 'not ok - %s\n%s\n' "$1" "$found"
        failed=$((failed + 1))
    else
        printf 'ok - %s\n' "$1"
        passed=$((passed + 1))
    fi
}

rule 'postgres.h stands in src/pg only' 'src/crypto worker test/unit test/provider bench' 'postgres\.h|fmgr\.h|pg/'
rule 'only the prelude includes PostgreSQL server headers' "$(ls src/pg/*.cpp src/pg/*.hpp | grep -v /prelude.hpp | tr '\n' ' ')" 'postgres\.h|access/|storage/|utils/|executor/|miscadmin\.h|postmaster/'
rule 'curl stands in worker/net only' 'src worker/core worker/provider worker/engine worker/store worker/main.cpp' 'curl/'
rule 'libpq stands in worker/store only' 'src worker/core worker/provider worker/engine worker/net worker/main.cpp' 'libpq-fe'
rule 'core includes nothing above it' 'worker/core' 'provider/|engine/|net/|store/'
rule 'provider includes nothing above it' 'worker/provider' 'engine/|net/|store/'
rule 'engine includes nothing above it' 'worker/engine' 'net/|store/'
rule 'net and store do not know each other' 'worker/net' 'store/'
rule 'store does not know net' 'worker/store' 'net/'
rule 'crypto stands on its own' 'src/crypto' 'pg/|provider/|engine/|net/|store/'
rule 'pure layers do no I/O' 'worker/core worker/provider worker/engine' 'sys/socket|sys/epoll|unistd|fcntl|sys/stat'

echo "layers: $passed passed, $failed failed"
[ "$failed" = 0 ]
