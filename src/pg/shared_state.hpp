// What the server's processes share: which database has a supervisor, who waits, what changed.
//
// Lives in shared memory made at server start, so it exists only where mrprompt is preloaded. It holds
// numbers and text, never a pointer or a descriptor: those mean something else in the next process.
#pragma once
#include "pg/prelude.hpp"

namespace mrprompt {

inline constexpr int kChangeBuckets = 64;
inline constexpr int kMaxChildren = 9;  // a supervisor's fetcher and its isolated ones
inline constexpr int kFailureText = 256;

// Requests hash into buckets; a waiter sleeps on its request's bucket until the counter moves.
struct ChangeBucket {
    ConditionVariable changed;
    pg_atomic_uint64 counter;
};

// One database that has, or is about to have, a supervisor. Guarded by slots_lock(), save for the atomics.
struct DatabaseSlot {
    Oid database;              // InvalidOid: the slot is free
    pg_atomic_uint32 wanted;   // there may be work: set by backends at commit, taken by the supervisor
    pg_atomic_uint32 blocked;  // statements under way that need the database to themselves
    bool starting;             // the launcher asked for a supervisor that has not attached yet
    bool left_well;            // the last supervisor left on purpose
    int supervisor_pid;        // 0: none
    ProcNumber supervisor_proc;
    int start_failures;  // in a row; the launcher's back-off
    int fetcher_pids[kMaxChildren];
    int64 restarts;  // of its fetcher, since server start
    char last_failure[kFailureText];
};

struct SharedState {
    int launcher_pid;  // 0: none; written by the launcher only
    pg_atomic_uint32 launcher_proc;
    pg_atomic_uint32 waiters;          // sessions inside wait_for_change
    pg_atomic_uint32 slots_full;       // 1: a database found no slot, and none was released since
    pg_atomic_uint32 worker_shortage;  // 1: a database waits for a background worker slot
    ChangeBucket buckets[kChangeBuckets];
    int slot_count;
    DatabaseSlot slots[FLEXIBLE_ARRAY_MEMBER];
};

// Asks for the shared memory when loaded at server start; does nothing otherwise. Called once, from _PG_init.
void init_shared_state();

// Null where mrprompt was not preloaded.
SharedState* shared_state();
LWLock* slots_lock();

ChangeBucket* change_bucket(const pg_uuid_t* request);

// The database's slot or null; the caller holds slots_lock(), shared or exclusive.
DatabaseSlot* find_slot(Oid database);

// The same, taking a free slot where there is none yet; the caller holds slots_lock() exclusively. Null: all
// taken.
DatabaseSlot* find_or_add_slot(Oid database);

// Forgets the database: it is gone, or has no extension. The caller holds slots_lock() exclusively.
void release_slot(DatabaseSlot* slot);

// Sets the latch of the process with this number; harmless when that process is gone. Never raises.
void wake_process(ProcNumber process);
void wake_launcher();

// Tells the database's supervisor, or the launcher that should start one, that there may be work. Never
// raises: it runs after a commit.
void request_supervisor(Oid database);

// Whether request_supervisor() will reach somebody who can act on it soon.
bool supervisor_reachable(Oid database);

// A failure of the database's background work, for doctor(); "" clears it.
void note_failure(Oid database, const char* text);

// The wait event that pg_stat_activity shows for mrprompt's processes and waiting sessions.
uint32 idle_wait_event();
uint32 change_wait_event();

}  // namespace mrprompt
