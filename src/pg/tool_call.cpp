// One transaction that does it all: it holds the call's row as a sign of life, runs the function in a
// subtransaction as the user, and records the result, so that effect and output are committed together.
//
// What a tool may try, and what stands against it:
// - RESET ROLE, SET ROLE, SET SESSION AUTHORIZATION: the session's user is the role, too, and
//   SECURITY_LOCAL_USERID_CHANGE is on until the transaction has ended; nothing goes back before.
// - deferred triggers and held cursors, which run at SET CONSTRAINTS or at the commit: still as the user.
// - settings, temporary tables, prepared statements: the former are restored before anything runs as
//   mrprompt_owner, all of them end with the process, and no statement here depends on them.
// - another function of its name in its schema: the parsed statement must call the very one.
// - a swallowed cancellation: a second timer ends the process, which notes that on its way out.
#include "pg/tool_call.hpp"

#include "pg/session.hpp"
#include "pg/tool_processes.hpp"

namespace mrprompt {
namespace {

constexpr uint64 kMostRows = 1000;
constexpr int kGraceMs = 1000;  // from the cancellation to the end of the process
constexpr int kRecordingTries = 3;
constexpr const char* kOnlyReads =
    "This tool is not registered as one that writes: an administrator registers it with writes => true. "
    "Trying again does not help.";

session::Statement hold_statement = {
    "select mrprompt_internal.hold_tool_call($1, $2)", 2, {UUIDOID, INT4OID}, nullptr};
session::Statement finish_statement = {"select mrprompt_internal.finish_tool_call($1, $2, $3, $4)",
                                       4,
                                       {UUIDOID, INT4OID, BOOLOID, TEXTOID},
                                       nullptr};

session::Statement note_statement = {
    "select mrprompt_internal.note_timed_out($1, $2, $3)", 3, {UUIDOID, INT4OID, INT4OID}, nullptr};

enum class Phase { preparing, calling, recording, committing };

struct Run {
    const ToolCall* call;
    Phase phase = Phase::preparing;
    Oid owner = InvalidOid;
    Oid role = InvalidOid;  // valid from the moment on at which this process became the user
    char* output = nullptr;
    bool ended_otherwise = false;
};

Run* current = nullptr;
TimeoutId cancel_timer = MAX_TIMEOUTS;
TimeoutId end_timer = MAX_TIMEOUTS;
volatile sig_atomic_t timed_out = 0;

void on_cancel_timer() {
    timed_out = 1;
    QueryCancelPending = true;
    InterruptPending = true;
    SetLatch(MyLatch);
}

void on_end_timer() {
    // Who waits for somebody to put down how it ended has not been late.
    if (current->phase != Phase::recording) timed_out = 1;
    ProcDiePending = true;
    InterruptPending = true;
    SetLatch(MyLatch);
}

void start_timers(int timeout_ms) {
    cancel_timer = RegisterTimeout(USER_TIMEOUT, on_cancel_timer);
    end_timer = RegisterTimeout(USER_TIMEOUT, on_end_timer);
    enable_timeout_after(cancel_timer, timeout_ms);
    enable_timeout_after(end_timer, timeout_ms + kGraceMs);
}

void stop_cancel_timer() {
    disable_timeout(cancel_timer, false);
    QueryCancelPending = false;  // of a tool that has ended meanwhile
}

void set(const char* name, const char* value) {
    SetConfigOption(name, value, PGC_SUSET, PGC_S_SESSION);
}

// What the tool finds in its session.
void apply_users_settings(const ToolCall& call) {
    char timeout[32];
    snprintf(timeout, sizeof timeout, "%d", call.timeout_ms);
    set("search_path", call.search_path);
    set("request.jwt.claims", call.claims);
    set("request.jwt.claim.sub", call.subject);
    set("row_security", "on");
    set("lock_timeout", "0");
    set("statement_timeout", timeout);  // for those who ask how long they may wait; the timers enforce it
}

// No setting that can be reset or rolled back says any more who this process was.
void become_user_for_good(Run& run) {
    run.role = get_role_oid(run.call->role, false);
    if (superuser_arg(run.role) || has_bypassrls_privilege(run.role))
        ereport(ERROR,
                (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("no tool runs as role %s", run.call->role)));
    SetConfigOption("session_authorization", run.call->role, PGC_SUSET, PGC_S_OVERRIDE);
    SetConfigOption("mrprompt.tool_user", run.call->user_id, PGC_SUSET, PGC_S_OVERRIDE);
    SetUserIdAndSecContext(run.role, SECURITY_LOCAL_USERID_CHANGE);
}

bool calls(const Query* query, Oid function) {
    ListCell* cell = nullptr;
    foreach (cell, query->rtable) {
        auto* entry = static_cast<const RangeTblEntry*>(lfirst(cell));
        if (entry->rtekind != RTE_FUNCTION || strcmp(entry->eref->aliasname, "r") != 0) continue;
        auto* item = static_cast<const RangeTblFunction*>(linitial(entry->functions));
        return IsA(item->funcexpr, FuncExpr) &&
               reinterpret_cast<const FuncExpr*>(item->funcexpr)->funcid == function;
    }
    return false;
}

// By its name and arguments PostgreSQL may prefer a function that somebody made since. The plan is not saved,
// so nothing parses its statement again.
void check_plan(SPIPlanPtr plan, Oid function) {
    auto* source = static_cast<const CachedPlanSource*>(linitial(SPI_plan_get_plan_sources(plan)));
    if (list_length(source->query_list) == 1 &&
        calls(static_cast<const Query*>(linitial(source->query_list)), function))
        return;
    ereport(ERROR, (errcode(ERRCODE_AMBIGUOUS_FUNCTION),
                    errmsg("another function of the tool's name and arguments stands in its way"),
                    errhint("An administrator must drop one of them, or rename it.")));
}

void append_row(StringInfo text, uint64 row, const char* otherwise) {
    const char* value = SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, 1);
    appendStringInfoString(text, value != nullptr ? value : otherwise);
}

char* result_text(const ToolCall& call) {
    StringInfoData text;
    initStringInfo(&text);
    if (!call.returns_set) {
        if (SPI_processed == 0)
            appendStringInfoString(&text, "null");
        else
            append_row(&text, 0, "null");
        return text.data;
    }
    appendStringInfoChar(&text, '[');
    for (uint64 row = 0; row < SPI_processed && row < kMostRows; ++row) {
        if (row > 0) appendStringInfoChar(&text, ',');
        append_row(&text, row, "null");
    }
    appendStringInfoChar(&text, ']');
    return text.data;
}

// The text as the model is shown it, in memory that lasts.
char* shown(const char* text, const ToolCall& call, bool more_rows) {
    MemoryContext const previous = MemoryContextSwitchTo(session::turn_memory());
    int const length = static_cast<int>(strlen(text));
    const char* rows = more_rows ? "\n[only the first 1000 rows are shown]" : "";
    char* output = nullptr;
    if (length <= call.max_output) {
        output = psprintf("%s%s", text, rows);
    } else {
        int const kept = pg_mbcliplen(text, length, call.max_output);
        output = psprintf("%.*s\n[the last %d of %d bytes are left out]%s", kept, text, length - kept, length,
                          rows);
    }
    MemoryContextSwitchTo(previous);
    return output;
}

void call_function(void* raw) {
    auto* run = static_cast<Run*>(raw);
    const ToolCall& call = *run->call;
    if (!call.writes) XactReadOnly = true;
    SPI_connect();
    Oid types[] = {JSONOID};
    SPIPlanPtr plan = SPI_prepare(call.statement, 1, types);
    if (plan == nullptr) elog(ERROR, "cannot prepare a tool's call: %s", SPI_result_code_string(SPI_result));
    check_plan(plan, call.function);
    Datum arguments[] = {CStringGetTextDatum(call.arguments)};
    int const result =
        SPI_execute_plan(plan, arguments, nullptr, false, call.returns_set ? kMostRows + 1 : 0);
    if (result != SPI_OK_SELECT) elog(ERROR, "a tool's call failed: %s", SPI_result_code_string(result));
    run->output = shown(result_text(call), call, call.returns_set && SPI_processed > kMostRows);
    // Deferred triggers act as the user, in the time that the tool has.
    SPI_execute("set constraints all immediate", false, 0);
    SPI_finish();
}

bool finish(const ToolCall& call, bool ok, const char* output) {
    Datum values[] = {UUIDPGetDatum(&call.id), Int32GetDatum(call.tries), BoolGetDatum(ok),
                      CStringGetTextDatum(output)};
    finish_statement.run(values);
    bool is_null = false;
    Datum const counted = session::first_row(1, &is_null);
    return !is_null && DatumGetBool(counted);
}

void append_member(StringInfo json, const char* name, const char* value) {
    constexpr int kMostBytes = 2000;
    if (value == nullptr || value[0] == '\0') return;
    if (json->data[json->len - 1] != '{') appendStringInfoChar(json, ',');
    appendStringInfo(json, "\"%s\":", name);
    int const length = static_cast<int>(strlen(value));
    escape_json(json,
                length <= kMostBytes ? value : pnstrdup(value, pg_mbcliplen(value, length, kMostBytes)));
}

// The error as the model is shown it, in memory that lasts; like mrprompt_internal.tool_error().
char* error_text(const ErrorData* error, const ToolCall& call) {
    MemoryContext const previous = MemoryContextSwitchTo(session::turn_memory());
    bool const only_reads = error->sqlerrcode == ERRCODE_READ_ONLY_SQL_TRANSACTION && !call.writes;
    bool const late = timed_out != 0 && error->sqlerrcode == ERRCODE_QUERY_CANCELED;
    StringInfoData json;
    initStringInfo(&json);
    appendStringInfoString(&json, "{\"error\":{");
    append_member(&json, "sqlstate", unpack_sql_state(error->sqlerrcode));
    append_member(&json, "message",
                  late ? psprintf("timed out after %d ms", call.timeout_ms) : error->message);
    append_member(&json, "detail", error->detail);
    append_member(&json, "hint", only_reads ? kOnlyReads : error->hint);
    appendStringInfoString(&json, "}}");
    MemoryContextSwitchTo(previous);
    return json.data;
}

// Runs the function; null, or its error, which has been rolled back.
ErrorData* try_to_call(Run& run) {
    MemoryContext const memory = session::turn_memory();
    ResourceOwner const resources = CurrentResourceOwner;
    BeginInternalSubTransaction(nullptr);
    MemoryContextSwitchTo(memory);
    ErrorData* const error = pg::run_guarded(call_function, &run);
    if (error == nullptr)
        ReleaseCurrentSubTransaction();
    else
        RollbackAndReleaseCurrentSubTransaction();
    MemoryContextSwitchTo(memory);
    CurrentResourceOwner = resources;
    return error;
}

void become_owner(const Run& run) {
    SetUserIdAndSecContext(run.owner, SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
}

bool hold(const ToolCall& call) {
    Datum values[] = {UUIDPGetDatum(&call.id), Int32GetDatum(call.tries)};
    hold_statement.run(values);
    bool is_null = false;
    return DatumGetBool(session::first_row(1, &is_null));
}

void call_and_record(Run& run) {
    const ToolCall& call = *run.call;
    become_user_for_good(run);
    run.phase = Phase::calling;
    int const settings = NewGUCNestLevel();
    apply_users_settings(call);
    start_timers(call.timeout_ms);
    const ErrorData* error = try_to_call(run);
    stop_cancel_timer();
    AtEOXact_GUC(false, settings);

    run.phase = Phase::recording;
    become_owner(run);
    const char* output = error == nullptr ? run.output : error_text(error, call);
    if (error == nullptr) timed_out = 0;  // it answered all the same
    run.ended_otherwise = !finish(call, error == nullptr, output);
    if (run.ended_otherwise)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("the call has ended otherwise: what it did is rolled back")));
    run.phase = Phase::committing;
    SetUserIdAndSecContext(run.role, SECURITY_LOCAL_USERID_CHANGE);
    apply_users_settings(call);
    if (!call.writes) XactReadOnly = true;
}

void transact(void* raw) {
    auto* run = static_cast<Run*>(raw);
    SetCurrentStatementStartTimestamp();
    pgstat_report_activity(STATE_RUNNING, "mrprompt: running a tool");
    StartTransactionCommand();
    SPI_connect();
    PushActiveSnapshot(GetTransactionSnapshot());
    Oid user = InvalidOid;
    int context = 0;
    GetUserIdAndSecContext(&user, &context);
    run->owner = get_role_oid(session::kOwnerRole, false);
    become_owner(*run);
    bool const ours = hold(*run->call);
    SetUserIdAndSecContext(user, context);
    if (ours) call_and_record(*run);
    PopActiveSnapshot();
    SPI_finish();
    // As the user: held cursors are read now.
    CommitTransactionCommand();
    if (OidIsValid(run->role)) SetUserIdAndSecContext(run->role, 0);
}

void end_transaction(void* raw) {
    auto* run = static_cast<Run*>(raw);
    if (end_timer != MAX_TIMEOUTS) {
        stop_cancel_timer();
        disable_timeout(end_timer, false);
    }
    if (IsTransactionOrTransactionBlock()) AbortCurrentTransaction();
    if (OidIsValid(run->role)) SetUserIdAndSecContext(run->role, 0);
    ResetAllOptions();
    session::apply_settings();
    pgstat_report_stat(false);
    pgstat_report_activity(STATE_IDLE, nullptr);
}

// Of a process that is ended, by whomever: it says whether its time was over, and that there is a place
// again.
void at_exit(int code, Datum) {
    if (code == 0) return;
    AbortOutOfAnyTransaction();
    if (timed_out != 0) {
        const ToolCall& call = *current->call;
        ereport(LOG, (errmsg("mrprompt ended a tool that took longer than %d ms and could not be cancelled",
                             call.timeout_ms),
                      errdetail("It ran: %s", call.statement)));
        Datum values[] = {UUIDPGetDatum(&call.id), Int32GetDatum(call.tries), Int32GetDatum(call.timeout_ms)};
        (void)session::in_transaction("mrprompt: noting that a tool took too long", session::kOwnerRole,
                                      [&] { note_statement.run(values); });
    }
    leave_tool_place();
    if (!tools_kept_out(MyDatabaseId)) start_tool_process();
}

}  // namespace

ErrorData* run_tool_call(const ToolCall& call) {
    static Run run{&call};  // of the one call of this process
    current = &run;
    before_shmem_exit(at_exit, 0);
    MemoryContextSwitchTo(session::turn_memory());
    ErrorData* error = pg::run_guarded(transact, &run);
    if (ErrorData* const worse = pg::run_guarded(end_transaction, &run); worse != nullptr) return worse;
    MemoryContextSwitchTo(session::turn_memory());
    // What could not be recorded is nobody's fault who could mend it: the call is made again, or was ended.
    if (run.ended_otherwise) return nullptr;
    if (error == nullptr || run.phase == Phase::recording) return error;
    const char* output = error_text(error, call);
    for (int i = 0; i < kRecordingTries && error != nullptr; ++i)
        error = session::in_transaction("mrprompt: recording the error of a tool", session::kOwnerRole,
                                        [&] { finish(call, false, output); });
    return error;
}

}  // namespace mrprompt
