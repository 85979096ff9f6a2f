// The supervisor's own statements, run as mrprompt_owner.
#include "pg/housekeeping.hpp"

#include "pg/child.hpp"
#include "pg/session.hpp"

namespace mrprompt::housekeeping {
namespace {

constexpr int kTendLimit = 1000;
constexpr std::int64_t kLogEveryMs = 60 * 1000;

session::Statement state_statement = {
    "select has_work, alone_waiting, remote_fetchers from mrprompt_internal.supervisor_state()",
    0,
    {},
    nullptr};
session::Statement local_gone_statement = {"select mrprompt_internal.local_fetchers_gone()", 0, {}, nullptr};
session::Statement gone_statement = {
    "select mrprompt_internal.fetcher_gone($1::uuid, $2)", 2, {TEXTOID, BOOLOID}, nullptr};
session::Statement changes_statement = {"select mrprompt_internal.notify_changes()", 0, {}, nullptr};
session::Statement fetchers_statement = {"select mrprompt_internal.notify_fetchers()", 0, {}, nullptr};
session::Statement tend_statement = {
    "select (c.body ->> 'more')::bool from mrprompt_internal.tend(pg_catalog.json_build_object('limit', $1)) "
    "as c (body)",
    1,
    {INT4OID},
    nullptr};

void log_failure(const char* activity, const ErrorData* error) {
    static std::int64_t last_ms = -kLogEveryMs;
    if (monotonic_ms() - last_ms < kLogEveryMs) return;
    last_ms = monotonic_ms();
    pg::call([&] {
        ereport(LOG, (errmsg("%s failed: %s (SQLSTATE %s)", activity, error->message,
                             unpack_sql_state(error->sqlerrcode)),
                      errdetail("It is tried again; further failures of the next minute are not logged.")));
    });
}

template <class F>
Outcome chore(const char* activity, F&& body) {
    ErrorData* error = session::in_transaction(activity, session::kOwnerRole, body);
    if (error == nullptr) return Outcome::done;
    if (session::extension_lost(error)) return Outcome::extension_missing;
    log_failure(activity, error);
    return Outcome::failed;
}

// Nothing is lost when a crash takes a notification back.
void commit_without_waiting() {
    set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0,
                      false);
}

int32 integer(int number) {
    bool is_null = false;
    Datum const value = session::first_row(number, &is_null);
    return is_null ? 0 : DatumGetInt32(value);
}

bool boolean(int number) {
    bool is_null = false;
    Datum const value = session::first_row(number, &is_null);
    return !is_null && DatumGetBool(value);
}

}  // namespace

Outcome read_state(State* state) {
    return chore("mrprompt: looking for work", [&] {
        state_statement.run(nullptr);
        *state = {boolean(1), integer(2), integer(3)};
    });
}

Outcome local_fetchers_gone() {
    return chore("mrprompt: clearing up after an earlier supervisor",
                 [] { local_gone_statement.run(nullptr); });
}

Outcome fetcher_gone(const std::string& fetcher, bool crashed) {
    const char* id = fetcher.c_str();
    return chore("mrprompt: queueing again what a fetcher had in flight", [&] {
        Datum arguments[] = {CStringGetTextDatum(id), BoolGetDatum(crashed)};
        gone_statement.run(arguments);
    });
}

Outcome notify_changes() {
    return chore("mrprompt: notifying of changes", [] {
        commit_without_waiting();
        changes_statement.run(nullptr);
    });
}

Outcome notify_fetchers() {
    return chore("mrprompt: notifying fetchers", [] {
        commit_without_waiting();
        fetchers_statement.run(nullptr);
    });
}

Outcome tend(bool* more) {
    *more = false;
    return chore("mrprompt: tend", [&] {
        Datum limit = Int32GetDatum(kTendLimit);
        tend_statement.run(&limit);
        *more = boolean(1);
    });
}

}  // namespace mrprompt::housekeeping
