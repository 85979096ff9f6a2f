# mrprompt: a PostgreSQL extension (PGXS) and its companion fetcher.
# Two commands for a fresh machine: `make demo` and `make test`; both install what is missing first.

EXTENSION    = mrprompt
EXTVERSION  := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" mrprompt.control)
MODULE_big   = mrprompt
OBJS         = $(patsubst %.cpp,%.o,$(wildcard src/crypto/*.cpp src/pg/*.cpp)) \
               worker/core/frame.o worker/core/wiped_buffer.o worker/core/json_shape.o worker/core/address.o

# The extension's SQL by topic, in the order in which it is installed.
SQL_PARTS    = roles functions users providers prices import_prices keys rotation import requests usage queue contract budgets bounds meters waiting alerts meter_status cooldown \
               objects agents agent_config agents_read agents_from_keys import_assistants \
               threads message_content messages thread_search thread_export import_threads \
               runs tool_schema tools tool_runner \
               claim append settle recompute verify tend chat read \
               run_payload run_ends run_steps advance create_run read_runs stream_run \
               admin status profile attempts batches dead_letters audit rollups usage_views remove_threads retention reports check_usage forget enable_supabase dump privileges
INSTALL_SQL  = sql/$(EXTENSION)--$(EXTVERSION).sql
# Released scripts lie in sql/upgrade as they were; the upgrade to this version is made from its part there.
UPGRADE_SQL  = $(patsubst sql/upgrade/%,sql/$(EXTENSION)--%,$(wildcard sql/upgrade/[0-9]*--$(EXTVERSION).sql))
DATA         = $(wildcard sql/upgrade/$(EXTENSION)--*.sql)
DATA_built   = $(INSTALL_SQL) $(UPGRADE_SQL)

REGRESS      = $(basename $(notdir $(sort $(wildcard test/sql/*.sql))))
REGRESS_OPTS = --inputdir=test
ISOLATION    = $(basename $(notdir $(sort $(wildcard test/isolation/specs/*.spec))))
ISOLATION_OPTS = --inputdir=test/isolation

PG_CONFIG   ?= pg_config
PGXS        := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
CXX         ?= g++
STRICT      ?= $(if $(CI),-Werror)
WARNINGS     = -Wall -Wextra $(STRICT)

# Nothing here is worth inlining into a query, and PGXS hides -std from the bitcode compiler.
override with_llvm = no
PG_CPPFLAGS  = -Isrc -Iworker -isystem $(shell $(PG_CONFIG) --includedir-server 2>/dev/null) \
               -DMRPROMPT_VERSION='"$(EXTVERSION)"' '-DPGDLLEXPORT=__attribute__((visibility("default")))' -MMD -MP
PG_CXXFLAGS  = -std=c++20 $(WARNINGS) -Wno-register -fvisibility=hidden -fvisibility-inlines-hidden
SHLIB_LINK   = -lcrypto -lstdc++ -Wl,--version-script=src/pg/exports.map
EXTRA_CLEAN  = build $(wildcard sql/$(EXTENSION)--*.sql) $(patsubst %.o,%.d,$(OBJS))

ifneq ($(PGXS),)
include $(PGXS)
else
all install:
	@echo "pg_config is not installed: 'make demo' and 'make test' install it" >&2; exit 1
endif
.DEFAULT_GOAL = all

.DELETE_ON_ERROR:
$(INSTALL_SQL): $(SQL_PARTS:%=sql/install/%.sql) mrprompt.control Makefile
	{ printf '%s\n' '\echo Use "CREATE EXTENSION mrprompt" to load this file. \quit'; cat $(SQL_PARTS:%=sql/install/%.sql); } > $@
$(UPGRADE_SQL): sql/$(EXTENSION)--%--$(EXTVERSION).sql: \
        sql/upgrade/%--$(EXTVERSION).sql sql/upgrade/$(EXTENSION)--%.sql $(INSTALL_SQL) sql/upgrade/build.pl
	perl sql/upgrade/build.pl $(filter %.sql,$^) > $@

# --- the fetcher -------------------------------------------------------------------------------------
PQ_CFLAGS     = $(shell pkg-config --cflags libpq 2>/dev/null)
WORKER_FLAGS  = -std=c++20 -O2 -g $(WARNINGS) -Iworker -Isrc $(PQ_CFLAGS) -DMRPROMPT_VERSION='"$(EXTVERSION)"' -MMD -MP
CRYPTO_SRC    = $(wildcard src/crypto/*.cpp)
PURE_SRC      = $(wildcard worker/core/*.cpp worker/provider/*.cpp worker/engine/*.cpp)
NET_SRC       = $(wildcard worker/net/*.cpp worker/store/*.cpp)
objects       = $(patsubst %.cpp,build/$(1)/%.o,$(2))

FETCHER       = build/mrprompt-fetcher
PROCESS_SRC   = worker/fence.cpp worker/main.cpp
FETCHER_LIBS  = -lcurl -lpq -lssl -lcrypto -lseccomp
FETCHER_OBJS  = $(call objects,release,$(CRYPTO_SRC) $(PURE_SRC) $(NET_SRC) $(PROCESS_SRC))

all: $(FETCHER)
$(FETCHER): $(FETCHER_OBJS)
	$(CXX) -o $@ $^ $(FETCHER_LIBS)

build/release/%.o: %.cpp
	@mkdir -p $(@D)
	$(CXX) $(WORKER_FLAGS) -DNDEBUG -c -o $@ $<

ifneq ($(PGXS),)
install: install-fetcher
endif
install-fetcher: $(FETCHER)
	$(INSTALL_PROGRAM) -d '$(DESTDIR)$(bindir)'
	$(INSTALL_PROGRAM) $(FETCHER) '$(DESTDIR)$(bindir)/mrprompt-fetcher'
ifneq ($(PGXS),)
uninstall: uninstall-fetcher
endif
uninstall-fetcher:
	rm -f '$(DESTDIR)$(bindir)/mrprompt-fetcher'

# --- under AddressSanitizer and UndefinedBehaviorSanitizer: unit tests and fuzz targets, of the same objects --------
# clang, for its libFuzzer.
SANITIZE_CXX ?= clang++
SANITIZE      = -O1 -gline-tables-only -fsanitize=address,undefined -fno-sanitize-recover=undefined
SANITIZED     = $(call objects,sanitized,$(1))
build/sanitized/%.o: %.cpp
	@mkdir -p $(@D)
	$(SANITIZE_CXX) $(WORKER_FLAGS) $(SANITIZE) -fsanitize=fuzzer-no-link -DMRPROMPT_SANITIZED -DFIXTURES='"$(CURDIR)/test/unit/fixtures"' -c -o $@ $<
build/unit-tests: $(call SANITIZED,$(CRYPTO_SRC) $(PURE_SRC) $(NET_SRC) $(wildcard test/unit/*.cpp))
	$(SANITIZE_CXX) $(SANITIZE) -o $@ $^ -lgtest -lgtest_main -lcurl -lpq -lssl -lcrypto
unit: build/unit-tests
	build/unit-tests --gtest_brief=1

FUZZ_TARGETS  = $(basename $(notdir $(wildcard test/fuzz/*.cpp)))
build/fuzz/bin/%: build/sanitized/test/fuzz/%.o $(call SANITIZED,$(CRYPTO_SRC) $(PURE_SRC))
	@mkdir -p $(@D)
	$(SANITIZE_CXX) $(SANITIZE) -fsanitize=fuzzer -o $@ $^ -lgtest -lcrypto
fuzz-targets: $(FUZZ_TARGETS:%=build/fuzz/bin/%)
# The long form: ten minutes for each target, from what earlier runs have found on.
fuzz: fuzz-targets
	@test/fuzz.sh long $(FUZZ)

# --- the fetcher under the same sanitizers, and what tests look at it with ---------------------------------
build/asan-fetcher: $(call SANITIZED,$(CRYPTO_SRC) $(PURE_SRC) $(NET_SRC) $(PROCESS_SRC))
	$(SANITIZE_CXX) $(SANITIZE) -o $@ $^ $(FETCHER_LIBS)
build/fence-probe: $(call objects,release,worker/fence.cpp test/fence/fence_probe.cpp)
	$(CXX) -o $@ $^ -lseccomp -lcrypto
build/open-memory.so: test/fence/open_memory.c
	@mkdir -p $(@D)
	$(CC) -O2 -fPIC -shared -o $@ $<

# --- the fake provider ----------------------------------------------------------------------------------
build/fake-provider: $(call objects,release,$(wildcard test/provider/*.cpp))
	$(CXX) -o $@ $^ -lssl -lcrypto

# --- the bench's ceilings: a bare libcurl loop, and OpenSSL alone ------------------------------------------
build/curl-loop: $(call objects,release,bench/curl_loop.cpp)
	$(CXX) -o $@ $^ -lcurl
build/seal-loop: $(call objects,release,bench/seal_loop.cpp)
	$(CXX) -o $@ $^ -lcrypto

# --- the two commands, and others ------------------------------------------------------------------------
demo:
	@examples/demo.sh
test:
	@test/run.sh
bench:
	@bench/run.sh
# The long forms of two tests; expects what `make test` has installed.
soak:
	@SOAK_ROUNDS=$${SOAK_ROUNDS:-200} SNAPSHOT_SECONDS=$${SNAPSHOT_SECONDS:-600} MODEL_STEPS=$${MODEL_STEPS:-100000} \
		test/prove.sh -v test/t/013_soak.pl test/t/011_contract.pl test/t/037_budget_model.pl
format:
	clang-format -i $$(git ls-files '*.cpp' '*.hpp')

.SECONDARY: $(FUZZ_TARGETS:%=build/fuzz/test/fuzz/%.o)
.PHONY: all install-fetcher uninstall-fetcher unit fuzz fuzz-targets demo test bench soak format
-include $(patsubst %.o,%.d,$(OBJS)) $(shell find build -name '*.d' 2>/dev/null)
