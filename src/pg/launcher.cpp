// Starts a supervisor for each database at server start, to see whether it has the extension and work, and
// later wherever a commit asked for one. Connected to no database, it reads the shared catalogs only.
#include "pg/launcher.hpp"

#include <algorithm>

#include "pg/boundary.hpp"
#include "pg/databases.hpp"
#include "pg/settings.hpp"
#include "pg/shared_state.hpp"
#include "pg/supervisor.hpp"

namespace mrprompt {
namespace {

constexpr int kRestartSeconds = 5;
constexpr int kMostStarting = 4;            // supervisors on their way at once, at server start
constexpr int64 kSweepMs = 10 * 60 * 1000;  // known databases get a supervisor this often: house-keeping
constexpr int64 kFirstRetryMs = 1000;
constexpr int64 kLastRetryMs = 60 * 1000;
constexpr int kLastingShortageMs = 10 * 1000;  // idle supervisors have left by then

// What the launcher remembers of a slot; the rest is in shared memory.
struct Start {
    Oid database;
    BackgroundWorkerHandle* handle;  // null: nothing on its way
    TimestampTz not_before;
    TimestampTz
        short_since;  // no background worker slot was free at any try since; 0: the last try found one
    bool shortage_logged;
};

Start* starts = nullptr;  // one for each slot
List* unprobed = NIL;     // databases not yet looked at since the launcher began
MemoryContext turn_memory = nullptr;

TimestampTz in_ms(int64 ms) {
    return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
}

void stop_being_launcher(int, Datum) {
    shared_state()->launcher_pid = 0;
    pg_atomic_write_u32(&shared_state()->launcher_proc, static_cast<uint32>(INVALID_PROC_NUMBER));
}

void become_launcher() {
    before_shmem_exit(stop_being_launcher, 0);
    shared_state()->launcher_pid = MyProcPid;
    pg_atomic_write_u32(&shared_state()->launcher_proc, static_cast<uint32>(MyProcNumber));
    // What an earlier launcher had on its way attaches by itself or not at all.
    LWLockAcquire(slots_lock(), LW_EXCLUSIVE);
    for (int i = 0; i < shared_state()->slot_count; ++i) {
        shared_state()->slots[i].starting = false;
        shared_state()->slots[i].start_failures = 0;
    }
    LWLockRelease(slots_lock());
    starts = static_cast<Start*>(
        MemoryContextAllocZero(TopMemoryContext, shared_state()->slot_count * sizeof(Start)));
}

void remember_databases_to_probe() {
    List* databases = list_databases(turn_memory);
    MemoryContextSwitchTo(TopMemoryContext);
    ListCell* cell = nullptr;
    foreach (cell, databases) unprobed = lappend_oid(unprobed, static_cast<Database*>(lfirst(cell))->oid);
    MemoryContextSwitchTo(turn_memory);
}

void back_off(DatabaseSlot* slot, Start* start) {
    int64 const delay = std::min(kFirstRetryMs << std::min(slot->start_failures, 10), kLastRetryMs);
    ++slot->start_failures;
    pg_atomic_write_u32(&slot->wanted, 1);
    start->not_before = in_ms(delay);
}

// A background worker ended: who waits for its slot need not wait longer.
void hurry_the_short() {
    for (int i = 0; i < shared_state()->slot_count; ++i)
        if (starts[i].short_since != 0) starts[i].not_before = 0;
}

// Looks at what became of the supervisors that were started; how many are still on their way.
int collect_starts() {
    int on_their_way = 0;
    for (int i = 0; i < shared_state()->slot_count; ++i) {
        Start* start = &starts[i];
        if (start->handle == nullptr) continue;
        pid_t pid = 0;
        bool const stopped = GetBackgroundWorkerPid(start->handle, &pid) == BGWH_STOPPED;
        LWLockAcquire(slots_lock(), LW_EXCLUSIVE);
        DatabaseSlot* slot = &shared_state()->slots[i];
        if (slot->database == start->database) {
            if (stopped) {
                slot->starting = false;
                if (slot->left_well)
                    slot->start_failures = 0;
                else
                    back_off(slot, start);
            } else if (slot->starting) {
                ++on_their_way;
            }
        }
        LWLockRelease(slots_lock());
        if (!stopped) continue;
        pfree(start->handle);
        start->handle = nullptr;
        hurry_the_short();
    }
    return on_their_way;
}

// Gives the databases still to be looked at a slot each, a few at a time.
void probe(int on_their_way) {
    LWLockAcquire(slots_lock(), LW_EXCLUSIVE);
    while (unprobed != NIL && on_their_way < kMostStarting) {
        DatabaseSlot* slot = find_or_add_slot(linitial_oid(unprobed));
        if (slot == nullptr) break;
        pg_atomic_write_u32(&slot->wanted, 1);
        unprobed = list_delete_first(unprobed);
        ++on_their_way;
    }
    LWLockRelease(slots_lock());
}

// Where a supervisor runs, house is kept; and a slot that is wanted already takes no wake-up.
void want_all() {
    LWLockAcquire(slots_lock(), LW_SHARED);
    for (int i = 0; i < shared_state()->slot_count; ++i) {
        DatabaseSlot* slot = &shared_state()->slots[i];
        if (OidIsValid(slot->database) && slot->supervisor_pid == 0) pg_atomic_write_u32(&slot->wanted, 1);
    }
    LWLockRelease(slots_lock());
}

bool should_start(const DatabaseSlot* slot, const Start* start) {
    return OidIsValid(slot->database) && slot->supervisor_pid == 0 && !slot->starting &&
           start->handle == nullptr &&
           pg_atomic_read_u32(const_cast<pg_atomic_uint32*>(&slot->wanted)) != 0 &&
           pg_atomic_read_u32(const_cast<pg_atomic_uint32*>(&slot->blocked)) == 0;
}

bool register_supervisor(const Database* database, Start* start) {
    BackgroundWorker worker = {};
    snprintf(worker.bgw_name, BGW_MAXLEN, "mrprompt supervisor %s", database->name);
    strlcpy(worker.bgw_type, "mrprompt supervisor", BGW_MAXLEN);
    strlcpy(worker.bgw_library_name, "mrprompt", sizeof worker.bgw_library_name);
    strlcpy(worker.bgw_function_name, kSupervisorMain, BGW_MAXLEN);
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = BGW_NEVER_RESTART;
    worker.bgw_main_arg = ObjectIdGetDatum(database->oid);
    worker.bgw_notify_pid = MyProcPid;
    MemoryContextSwitchTo(TopMemoryContext);
    bool const registered = RegisterDynamicBackgroundWorker(&worker, &start->handle);
    MemoryContextSwitchTo(turn_memory);
    if (!registered) start->handle = nullptr;
    return registered;
}

// Idle supervisors are told that their slot is needed, doctor() at once, and the server's log when that does
// not help.
void announce_shortage(const Database* database, Start* start) {
    char text[kFailureText];
    snprintf(text, sizeof text, "no background worker slot is free: raise max_worker_processes (now %d)",
             max_worker_processes);
    note_failure(database->oid, text);
    TimestampTz const now = GetCurrentTimestamp();
    if (start->short_since == 0) {
        start->short_since = now;
        start->shortage_logged = false;
    }
    if (!start->shortage_logged && TimestampDifferenceExceeds(start->short_since, now, kLastingShortageMs)) {
        start->shortage_logged = true;
        ereport(
            LOG,
            (errmsg("mrprompt cannot start a supervisor for database \"%s\"", database->name),
             errdetail("No background worker slot is free."),
             errhint("Raise max_worker_processes (now %d) and restart the server: mrprompt needs one for the "
                     "launcher and one for each database at work.",
                     max_worker_processes)));
    }
    if (pg_atomic_exchange_u32(&shared_state()->worker_shortage, 1) != 0) return;
    LWLockAcquire(slots_lock(), LW_SHARED);
    for (int i = 0; i < shared_state()->slot_count; ++i)
        wake_process(shared_state()->slots[i].supervisor_proc);
    LWLockRelease(slots_lock());
}

void end_shortage_if_over() {
    bool short_of_workers = false;
    for (int i = 0; i < shared_state()->slot_count; ++i)
        short_of_workers = short_of_workers || starts[i].short_since != 0;
    if (!short_of_workers) pg_atomic_write_u32(&shared_state()->worker_shortage, 0);
}

void start_supervisor(int i, List* databases) {
    DatabaseSlot* slot = &shared_state()->slots[i];
    Start* start = &starts[i];
    LWLockAcquire(slots_lock(), LW_EXCLUSIVE);
    bool go = should_start(slot, start);
    Oid const oid = slot->database;
    const Database* database = go ? find_database(databases, oid) : nullptr;
    if (go && database == nullptr) {  // dropped, or not ours to connect to
        release_slot(slot);
        start->short_since = 0;
    }
    go = go && database != nullptr;
    if (go) {
        slot->starting = true;
        slot->left_well = false;
    }
    LWLockRelease(slots_lock());
    if (!go) return;

    start->database = oid;
    if (register_supervisor(database, start)) {
        start->short_since = 0;
        return;
    }
    LWLockAcquire(slots_lock(), LW_EXCLUSIVE);
    slot->starting = false;
    slot->left_well = true;
    back_off(slot, start);
    LWLockRelease(slots_lock());
    announce_shortage(database, start);
}

// Starts what is due; when the next one is.
TimestampTz start_wanted(TimestampTz next) {
    List* databases = NIL;
    bool listed = false;
    for (int i = 0; i < shared_state()->slot_count; ++i) {
        LWLockAcquire(slots_lock(), LW_SHARED);
        Oid const oid = shared_state()->slots[i].database;
        bool const due = should_start(&shared_state()->slots[i], &starts[i]);
        LWLockRelease(slots_lock());
        if (!due) continue;
        if (starts[i].database == oid && starts[i].not_before > GetCurrentTimestamp()) {
            next = std::min(next, starts[i].not_before);
            continue;
        }
        if (!listed) databases = list_databases(turn_memory);
        listed = true;
        start_supervisor(i, databases);
        if (starts[i].handle == nullptr && starts[i].database == oid)
            next = std::min(next, starts[i].not_before);
    }
    return next;
}

void complain_of_full_slots() {
    static bool complained = false;
    bool const full = pg_atomic_read_u32(&shared_state()->slots_full) != 0;
    if (full && !complained)
        ereport(LOG, (errmsg("mrprompt has no room for another database"),
                      errhint("Raise mrprompt.max_databases (now %d) and restart the server.",
                              settings::max_databases)));
    complained = full;
}

void sleep_until(TimestampTz next) {
    long const timeout = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), next);
    WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, timeout, idle_wait_event());
    ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
    if (ConfigReloadPending) {
        ConfigReloadPending = false;
        ProcessConfigFile(PGC_SIGHUP);
    }
}

}  // namespace

void register_launcher() {
    if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade) return;
    BackgroundWorker worker = {};
    strlcpy(worker.bgw_name, "mrprompt launcher", BGW_MAXLEN);
    strlcpy(worker.bgw_type, "mrprompt launcher", BGW_MAXLEN);
    strlcpy(worker.bgw_library_name, "mrprompt", sizeof worker.bgw_library_name);
    strlcpy(worker.bgw_function_name, "mrprompt_launcher_main", BGW_MAXLEN);
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = kRestartSeconds;
    RegisterBackgroundWorker(&worker);
}

}  // namespace mrprompt

using namespace mrprompt;

// No C++ object with a destructor lives here: an error ends the process, and the postmaster starts another.
MRPROMPT_WORKER(mrprompt_launcher_main) {
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
    BackgroundWorkerUnblockSignals();
    if (shared_state() == nullptr) proc_exit(0);
    BackgroundWorkerInitializeConnection(nullptr, nullptr, 0);
    pgstat_report_appname(MyBgworkerEntry->bgw_name);
    become_launcher();
    turn_memory = AllocSetContextCreate(TopMemoryContext, "mrprompt launcher", ALLOCSET_SMALL_SIZES);
    MemoryContextSwitchTo(turn_memory);
    remember_databases_to_probe();

    TimestampTz sweep = in_ms(kSweepMs);
    while (!ShutdownRequestPending) {
        MemoryContextReset(turn_memory);
        if (GetCurrentTimestamp() >= sweep) {
            want_all();
            sweep = in_ms(kSweepMs);
        }
        probe(collect_starts());
        TimestampTz const next = start_wanted(sweep);
        end_shortage_if_over();
        complain_of_full_slots();
        sleep_until(next);
    }
    proc_exit(1);  // not 0: after pg_terminate_backend() the postmaster shall start another
}
