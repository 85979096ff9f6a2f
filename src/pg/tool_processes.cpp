// Background workers for tools: registered after a commit, counted by locks that a process's end releases.
#include "pg/tool_processes.hpp"

#include <csignal>

#include "pg/settings.hpp"
#include "pg/shared_state.hpp"
#include "pg/tool_worker.hpp"

namespace mrprompt {
namespace {

constexpr int kLogEveryMs = 60 * 1000;
constexpr uint32 kLockClass = 0x6d727074;  // tells our locks of this type from others'
constexpr int kTakingLock = 0;             // places are numbered from 1

struct Stop {
    int pid;  // 0: taken back by a rollback to a savepoint
    SubTransactionId by;
};

bool start_pending = false;  // this transaction queued a call
List* stops_pending = NIL;   // of Stop; as long-lived as this transaction
int own_place = 0;

LOCKTAG lock_tag(int number) {
    LOCKTAG tag = {};
    tag.locktag_field1 = MyDatabaseId;
    tag.locktag_field2 = kLockClass;
    tag.locktag_field3 = static_cast<uint32>(number);
    tag.locktag_type = LOCKTAG_USERLOCK;
    // Not advisory: pg_advisory_unlock_all() of a tool does not reach them.
    tag.locktag_lockmethodid = DEFAULT_LOCKMETHOD;
    return tag;
}

bool is_tool_process(int pid) {
    const char* type = GetBackgroundWorkerTypeByPid(pid);
    return type != nullptr && strcmp(type, kToolProcess) == 0;
}

// Calls visit(pid) for the database's tool processes. Process numbers may change hands meanwhile: a visitor
// that sends signals can reach a process that has just ended, not somebody else's.
template <class F>
int for_each_tool_process(Oid database, F&& visit) {
    int found = 0;
    for (uint32 i = 0; i < ProcGlobal->allProcCount; ++i) {
        const volatile PGPROC* process = &ProcGlobal->allProcs[i];
        int const pid = process->pid;
        if (pid == 0 || pid == MyProcPid || process->databaseId != database || !is_tool_process(pid))
            continue;
        visit(pid);
        ++found;
    }
    return found;
}

void complain_of_shortage() {
    static TimestampTz last_time = 0;
    TimestampTz const now = GetCurrentTimestamp();
    if (last_time != 0 && !TimestampDifferenceExceeds(last_time, now, kLogEveryMs)) return;
    last_time = now;
    ereport(LOG,
            (errmsg("mrprompt cannot start a process for a tool"),
             errdetail("No background worker slot is free; it is tried again."),
             errhint("Raise max_worker_processes (now %d) and restart the server: mrprompt needs one for "
                     "the launcher, one for each database at work, and one for each tool that runs.",
                     max_worker_processes)));
}

// Nothing here may raise: the transaction has committed.
void stop_tool_processes() {
    ListCell* cell = nullptr;
    foreach (cell, stops_pending) {
        int const pid = static_cast<const Stop*>(lfirst(cell))->pid;
        if (pid == 0) continue;
        // A function may swallow a cancellation, and whatever it did is to be rolled back: it is ended.
        for_each_tool_process(MyDatabaseId, [pid](int other) {
            if (other == pid) kill(pid, SIGTERM);
        });
    }
}

void at_transaction_end(XactEvent event, void*) {
    switch (event) {
        case XACT_EVENT_COMMIT:
            if (start_pending) start_tool_process();
            stop_tool_processes();
            break;
        case XACT_EVENT_ABORT:
        case XACT_EVENT_PREPARE:  // its commit happens elsewhere: house-keeping starts and stops
            break;
        default:
            return;
    }
    start_pending = false;
    stops_pending = NIL;
}

void at_subtransaction_end(SubXactEvent event, SubTransactionId id, SubTransactionId, void*) {
    if (event != SUBXACT_EVENT_ABORT_SUB) return;
    ListCell* cell = nullptr;
    foreach (cell, stops_pending) {
        auto* stop = static_cast<Stop*>(lfirst(cell));
        if (stop->by >= id) stop->pid = 0;  // its own, or of one within it: numbers rise
    }
}

void watch_transactions() {
    static bool watching = false;
    if (watching) return;
    RegisterXactCallback(at_transaction_end, nullptr);
    RegisterSubXactCallback(at_subtransaction_end, nullptr);
    watching = true;
}

}  // namespace

void start_tool_process_at_commit() {
    watch_transactions();
    start_pending = true;
}

void stop_tool_process_at_commit(int pid) {
    watch_transactions();
    MemoryContext const previous = MemoryContextSwitchTo(TopTransactionContext);
    auto* stop = static_cast<Stop*>(palloc(sizeof(Stop)));
    *stop = {pid, GetCurrentSubTransactionId()};
    stops_pending = lappend(stops_pending, stop);
    MemoryContextSwitchTo(previous);
}

void start_tool_process() {
    if (IsBinaryUpgrade || RecoveryInProgress()) return;
    // One more than there are places: the process that ends just now may have looked for more calls already.
    int const others = for_each_tool_process(MyDatabaseId, [](int) {});
    if (others > settings::max_tool_workers) return;
    BackgroundWorker worker = {};
    strlcpy(worker.bgw_name, kToolProcess, BGW_MAXLEN);
    strlcpy(worker.bgw_type, kToolProcess, BGW_MAXLEN);
    strlcpy(worker.bgw_library_name, "mrprompt", sizeof worker.bgw_library_name);
    strlcpy(worker.bgw_function_name, kToolMain, BGW_MAXLEN);
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = BGW_NEVER_RESTART;
    worker.bgw_main_arg = ObjectIdGetDatum(MyDatabaseId);
    // Where others are at work, the next one comes from them.
    if (!RegisterDynamicBackgroundWorker(&worker, nullptr) && others == 0) complain_of_shortage();
}

bool take_tool_place() {
    for (int place = 1; place <= settings::max_tool_workers; ++place) {
        LOCKTAG const tag = lock_tag(place);
        if (LockAcquire(&tag, ExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL) continue;
        own_place = place;
        return true;
    }
    return false;
}

void leave_tool_place() {
    if (own_place == 0) return;
    LOCKTAG const tag = lock_tag(own_place);
    own_place = 0;
    // An aborted transaction has given it back already.
    if (lock_held_by_me(&tag, ExclusiveLock)) LockRelease(&tag, ExclusiveLock, true);
}

bool tool_place_is_free() {
    for (int place = 1; place <= settings::max_tool_workers; ++place) {
        LOCKTAG const tag = lock_tag(place);
        if (place == own_place || LockAcquire(&tag, ExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
            continue;
        LockRelease(&tag, ExclusiveLock, false);
        return true;
    }
    return false;
}

void wait_for_turn_to_take() {
    LOCKTAG const tag = lock_tag(kTakingLock);
    (void)LockAcquire(&tag, ExclusiveLock, false, false);
}

bool tools_kept_out(Oid database) {
    if (shared_state() == nullptr) return false;
    LWLockAcquire(slots_lock(), LW_SHARED);
    DatabaseSlot* slot = find_slot(database);
    bool const blocked = slot != nullptr && pg_atomic_read_u32(&slot->blocked) != 0;
    LWLockRelease(slots_lock());
    return blocked;
}

int end_tool_processes(Oid database) {
    return for_each_tool_process(database, [](int pid) { kill(pid, SIGTERM); });
}

}  // namespace mrprompt
