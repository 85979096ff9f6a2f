// Session settings, transactions and prepared statements of mrprompt's own processes.
#include "pg/session.hpp"

namespace mrprompt::session {
namespace {

MemoryContext turn = nullptr;

// ALTER DATABASE SET and ALTER ROLE SET reach workers; what the contract's meaning depends on is fixed here.
constexpr const char* kSettings[][2] = {
    {"default_transaction_isolation", "read committed"},
    {"default_transaction_read_only", "off"},
    {"default_transaction_deferrable", "off"},
    {"lock_timeout", "1s"},
    {"statement_timeout", "0"},
    {"idle_in_transaction_session_timeout", "0"},
    {"idle_session_timeout", "0"},
    {"synchronous_commit", "local"},  // a standby that is lost stops no stream
#if PG_VERSION_NUM >= 170000
    {"transaction_timeout", "0"},
#endif
    {"search_path", "pg_catalog"},
    {"session_replication_role", "origin"},
    {"row_security", "on"},
    {"TimeZone", "UTC"},
    {"DateStyle", "ISO"},
    {"IntervalStyle", "postgres"},
    {"extra_float_digits", "1"},
    {"bytea_output", "hex"},
    {"jit", "off"},  // short statements, run often
};

struct Job {
    const char* activity;
    const char* role;
    void (*body)(void*);
    void* state;
};

void run_job(void* raw) {
    auto* job = static_cast<Job*>(raw);
    SetCurrentStatementStartTimestamp();
    pgstat_report_activity(STATE_RUNNING, job->activity);
    StartTransactionCommand();
    SPI_connect();
    PushActiveSnapshot(GetTransactionSnapshot());
    Oid user = InvalidOid;
    int context = 0;
    GetUserIdAndSecContext(&user, &context);
    SetUserIdAndSecContext(job->role != nullptr ? get_role_oid(job->role, false) : user,
                           context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
    job->body(job->state);
    SetUserIdAndSecContext(user, context);
    PopActiveSnapshot();
    SPI_finish();
    CommitTransactionCommand();
}

void become_idle(void*) {
    if (IsTransactionOrTransactionBlock()) AbortCurrentTransaction();
    pgstat_report_stat(false);
    pgstat_report_activity(STATE_IDLE, nullptr);
}

bool look_for_extension() {
    HeapTuple row = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(MyDatabaseId));
    if (!HeapTupleIsValid(row)) return false;
    auto* database = reinterpret_cast<Form_pg_database>(GETSTRUCT(row));
    bool const open = database->datallowconn && !database->datistemplate;
    ReleaseSysCache(row);
    Oid const extension = get_extension_oid("mrprompt", true);
    Oid const schema = get_namespace_oid("mrprompt_internal", true);
    return open && OidIsValid(extension) && OidIsValid(schema) &&
           getExtensionOfObject(NamespaceRelationId, schema) == extension;
}

}  // namespace

void apply_settings() {
    for (const auto& setting : kSettings) SetConfigOption(setting[0], setting[1], PGC_SUSET, PGC_S_SESSION);
}

void connect(Oid database) {
    BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
    apply_settings();
    pgstat_report_appname(MyBgworkerEntry->bgw_name);
    turn = AllocSetContextCreate(TopMemoryContext, "mrprompt turn", ALLOCSET_DEFAULT_SIZES);
    MemoryContextSwitchTo(turn);
}

MemoryContext turn_memory() {
    return turn;
}

void Statement::run(Datum* arguments) {
    if (plan == nullptr) {
        SPIPlanPtr prepared = SPI_prepare(query, argument_count, argument_types);
        if (prepared == nullptr)
            elog(ERROR, "cannot prepare \"%s\": %s", query, SPI_result_code_string(SPI_result));
        if (SPI_keepplan(prepared) != 0) elog(ERROR, "cannot keep the plan of \"%s\"", query);
        plan = prepared;
    }
    int const result = SPI_execute_plan(plan, arguments, nullptr, false, 0);
    if (result != SPI_OK_SELECT) elog(ERROR, "\"%s\" failed: %s", query, SPI_result_code_string(result));
}

Datum first_row(int number, bool* is_null) {
    if (SPI_processed == 0) elog(ERROR, "a statement of mrprompt's own returned no row");
    return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, number, is_null);
}

ErrorData* run_in_transaction(const char* activity, const char* role, void (*body)(void*), void* state) {
    MemoryContextSwitchTo(turn);
    Job job{activity, role, body, state};
    ErrorData* error = pg::run_guarded(run_job, &job);
    ErrorData* const worse = pg::run_guarded(become_idle, nullptr);
    MemoryContextSwitchTo(turn);
    if (worse != nullptr) throw pg::PgError{worse};
    return error;
}

bool extension_present() {
    bool present = false;
    ErrorData* error = in_transaction("mrprompt: looking for the extension", nullptr,
                                      [&] { present = look_for_extension(); });
    if (error != nullptr) throw pg::PgError{error};
    return present;
}

bool extension_lost(const ErrorData* error) {
    switch (error->sqlerrcode) {
        case ERRCODE_UNDEFINED_FUNCTION:
        case ERRCODE_UNDEFINED_TABLE:
        case ERRCODE_UNDEFINED_OBJECT:
        case ERRCODE_UNDEFINED_SCHEMA:
            return !extension_present();
        default:
            return false;
    }
}

}  // namespace mrprompt::session
