// The main function of a tool's process, and how it takes its call.
#include "pg/tool_worker.hpp"

#include "pg/session.hpp"
#include "pg/tool_call.hpp"
#include "pg/tool_processes.hpp"

namespace mrprompt {
namespace {

session::Statement take_statement = {
    "select call_id, tries, user_id, subject, role_name, claims, statement, function, returns_set, "
    "arguments, writes, "
    "timeout_ms, max_output, search_path from mrprompt_internal.take_tool_call()",
    0,
    {},
    nullptr};
session::Statement successor_statement = {"select mrprompt_internal.start_waiting_tools()", 0, {}, nullptr};

const char* text(int number) {
    const char* value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, number);
    return MemoryContextStrdup(session::turn_memory(), value != nullptr ? value : "");
}

Datum value(int number) {
    bool is_null = false;
    return session::first_row(number, &is_null);
}

bool read_call(ToolCall* call) {
    bool none = false;
    Datum const id = session::first_row(1, &none);
    if (none) return false;
    call->id = *DatumGetUUIDP(id);
    call->tries = DatumGetInt32(value(2));
    call->user_id = text(3);
    call->subject = text(4);
    call->role = text(5);
    call->claims = text(6);
    call->statement = text(7);
    call->function = DatumGetObjectId(value(8));
    call->returns_set = DatumGetBool(value(9));
    call->arguments = text(10);
    call->writes = DatumGetBool(value(11));
    call->timeout_ms = DatumGetInt32(value(12));
    call->max_output = DatumGetInt32(value(13));
    call->search_path = text(14);
    return true;
}

void report(const char* what, const ErrorData* error) {
    if (error == nullptr) return;
    ereport(LOG, (errmsg("%s failed: %s (SQLSTATE %s)", what, error->message,
                         unpack_sql_state(error->sqlerrcode))));
}

// False: there is none whose turn it is.
bool take(ToolCall* call) {
    bool taken = false;
    report("mrprompt: taking a tool call",
           session::in_transaction("mrprompt: taking a tool call", session::kOwnerRole, [&] {
               wait_for_turn_to_take();
               take_statement.run(nullptr);
               taken = read_call(call);
               // Calls that were queued at once run at once, as far as there are places.
               if (taken && tool_place_is_free()) successor_statement.run(nullptr);
           }));
    return taken;
}

void start_successor() {
    report("mrprompt: looking for more tool calls",
           session::in_transaction("mrprompt: looking for more tool calls", session::kOwnerRole,
                                   [] { successor_statement.run(nullptr); }));
}

}  // namespace
}  // namespace mrprompt

using namespace mrprompt;

// No C++ object with a destructor lives here: an error ends the process.
MRPROMPT_WORKER(mrprompt_tool_main) {
    pqsignal(SIGTERM, die);
    BackgroundWorkerUnblockSignals();
    Oid const database = DatumGetObjectId(argument);
    if (tools_kept_out(database)) return;
    session::connect(database);
    // Who needs the database alone may have looked for us before we were connected.
    if (tools_kept_out(database) || !session::extension_present() || !take_tool_place()) return;
    static ToolCall call;
    bool const taken = take(&call);
    if (taken) report("mrprompt: running a tool", run_tool_call(call));
    // In this order: who comes too early for the place leaves its call to the successor.
    leave_tool_place();
    if (taken) start_successor();
}
