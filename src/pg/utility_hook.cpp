// DROP DATABASE, ALTER DATABASE RENAME or SET TABLESPACE and CREATE DATABASE … TEMPLATE fail while a worker
// is connected, and DROP EXTENSION mrprompt may deadlock with one, so the supervisor is asked to leave first,
// tools are ended, and both are kept away until the statement has ended.
#include "pg/utility_hook.hpp"

#include "pg/drop_warning.hpp"
#include "pg/log_guard.hpp"
#include "pg/prelude.hpp"
#include "pg/shared_state.hpp"
#include "pg/tool_processes.hpp"

namespace mrprompt {
namespace {

constexpr int kPatienceMs = 10000;
constexpr long kLookEveryMs = 5;

ProcessUtility_hook_type previous_hook = nullptr;

const char* option(List* options, const char* name) {
    ListCell* cell = nullptr;
    foreach (cell, options) {
        auto* element = static_cast<DefElem*>(lfirst(cell));
        if (strcmp(element->defname, name) == 0 && element->arg != nullptr) return defGetString(element);
    }
    return nullptr;
}

// The database that must be free of connections while the statement runs, or null.
const char* database_needed_alone(Node* statement) {
    switch (nodeTag(statement)) {
        case T_DropdbStmt:
            return reinterpret_cast<DropdbStmt*>(statement)->dbname;
        case T_CreatedbStmt:
            return option(reinterpret_cast<CreatedbStmt*>(statement)->options, "template");
        case T_AlterDatabaseStmt: {
            auto* alter = reinterpret_cast<AlterDatabaseStmt*>(statement);
            return option(alter->options, "tablespace") != nullptr ? alter->dbname : nullptr;
        }
        case T_RenameStmt: {
            auto* rename = reinterpret_cast<RenameStmt*>(statement);
            return rename->renameType == OBJECT_DATABASE ? rename->subname : nullptr;
        }
        default:
            return nullptr;
    }
}

bool owned_by_caller(Oid database) {
#if PG_VERSION_NUM >= 160000
    return object_ownercheck(DatabaseRelationId, database, GetUserId());
#else
    return pg_database_ownercheck(database, GetUserId());
#endif
}

bool drops_mrprompt(Node* statement) {
    if (!IsA(statement, DropStmt)) return false;
    auto* drop = reinterpret_cast<DropStmt*>(statement);
    if (drop->removeType != OBJECT_EXTENSION) return false;
    ListCell* cell = nullptr;
    foreach (cell, drop->objects)
        if (strcmp(strVal(lfirst(cell)), "mrprompt") == 0) return true;
    return false;
}

bool extension_owned_by_caller() {
    Oid const extension = get_extension_oid("mrprompt", true);
    if (!OidIsValid(extension)) return false;
#if PG_VERSION_NUM >= 160000
    return object_ownercheck(ExtensionRelationId, extension, GetUserId());
#else
    return pg_extension_ownercheck(extension, GetUserId());
#endif
}

// The database the statement disturbs and whose supervisor must leave; InvalidOid where nothing is to be
// done. A caller without the right to run the statement may not chase the supervisor away either.
Oid database_to_free(Node* statement) {
    if (drops_mrprompt(statement))
        return extension_owned_by_caller() ? MyDatabaseId : static_cast<Oid>(InvalidOid);
    const char* name = database_needed_alone(statement);
    if (name == nullptr) return InvalidOid;
    Oid const database = get_database_oid(name, true);
    if (!OidIsValid(database) || database == MyDatabaseId || !owned_by_caller(database)) return InvalidOid;
    return database;
}

// Keeps supervisors from attaching; the one there is, if any.
pg_noinline int block(Oid database) {
    int supervisor_pid = 0;
    ProcNumber supervisor = INVALID_PROC_NUMBER;
    LWLockAcquire(slots_lock(), LW_EXCLUSIVE);
    if (DatabaseSlot* slot = find_or_add_slot(database); slot != nullptr) {
        pg_atomic_fetch_add_u32(&slot->blocked, 1);
        supervisor_pid = slot->supervisor_pid;
        supervisor = slot->supervisor_proc;
    }
    LWLockRelease(slots_lock());
    wake_process(supervisor);
    return supervisor_pid;
}

// The last one out has the launcher look again: it starts a supervisor, or finds the database gone.
void unblock(int, Datum database) {
    LWLockAcquire(slots_lock(), LW_EXCLUSIVE);
    DatabaseSlot* slot = find_slot(DatumGetObjectId(database));
    if (slot != nullptr && pg_atomic_read_u32(&slot->blocked) > 0 &&
        pg_atomic_fetch_sub_u32(&slot->blocked, 1) == 1)
        pg_atomic_write_u32(&slot->wanted, 1);
    LWLockRelease(slots_lock());
    wake_launcher();
}

// Until supervisor and tools are out of the database, or patience ends: then the statement says what is in
// its way. A tool that is ended here is called again.
void wait_until_gone(int pid, Oid database) {
    for (long waited_ms = 0; waited_ms < kPatienceMs; waited_ms += kLookEveryMs) {
        bool const supervised = pid != 0 && BackendPidGetProc(pid) != nullptr;
        if (end_tool_processes(database) == 0 && !supervised) return;
        WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, kLookEveryMs, idle_wait_event());
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
    }
}

// A prepared transaction commits without the callback of the session that made it: it may have queued work.
bool commits_prepared(Node* statement) {
    return IsA(statement, TransactionStmt) &&
           reinterpret_cast<TransactionStmt*>(statement)->kind == TRANS_STMT_COMMIT_PREPARED;
}

void wake_if_known() {
    if (shared_state() == nullptr) return;
    LWLockAcquire(slots_lock(), LW_SHARED);
    bool const known = find_slot(MyDatabaseId) != nullptr;
    LWLockRelease(slots_lock());
    if (known) request_supervisor(MyDatabaseId);
}

void run(PlannedStmt* statement, const char* query, bool read_only_tree, ProcessUtilityContext context,
         ParamListInfo parameters, QueryEnvironment* environment, DestReceiver* destination,
         QueryCompletion* completion) {
    // What runs is the parse tree; the text is for who keeps statistics of it.
    bool const hide =
        query != nullptr && carries_secret(own_part(query, statement->stmt_location, statement->stmt_len));
    const char* const text = hide ? without_literals(query) : query;
    (previous_hook != nullptr ? previous_hook : standard_ProcessUtility)(
        statement, text, read_only_tree, context, parameters, environment, destination, completion);
}

void process_utility(PlannedStmt* statement, const char* query, bool read_only_tree,
                     ProcessUtilityContext context, ParamListInfo parameters, QueryEnvironment* environment,
                     DestReceiver* destination, QueryCompletion* completion) {
    Oid const database =
        shared_state() != nullptr ? database_to_free(statement->utilityStmt) : static_cast<Oid>(InvalidOid);
    if (!OidIsValid(database)) {
        run(statement, query, read_only_tree, context, parameters, environment, destination, completion);
        if (commits_prepared(statement->utilityStmt)) wake_if_known();
        return;
    }
    if (IsA(statement->utilityStmt, DropStmt) && !XactReadOnly) warn_of_drop();
    Datum const key = ObjectIdGetDatum(database);
    int const supervisor_pid = block(database);
    PG_ENSURE_ERROR_CLEANUP(unblock, key);
    {
        wait_until_gone(supervisor_pid, database);
        run(statement, query, read_only_tree, context, parameters, environment, destination, completion);
    }
    PG_END_ENSURE_ERROR_CLEANUP(unblock, key);
    unblock(0, key);
}

}  // namespace

void install_utility_hook() {
    if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade) return;
    previous_hook = ProcessUtility_hook;
    ProcessUtility_hook = process_utility;
}

}  // namespace mrprompt
