// Shared memory: laid out at server start, and the few operations that several processes need.
#include "pg/shared_state.hpp"

#include "pg/settings.hpp"

namespace mrprompt {
namespace {

constexpr char kName[] = "mrprompt";

SharedState* state = nullptr;
LWLock* lock = nullptr;
shmem_request_hook_type previous_request_hook = nullptr;
shmem_startup_hook_type previous_startup_hook = nullptr;

Size state_size() {
    return add_size(offsetof(SharedState, slots), mul_size(settings::max_databases, sizeof(DatabaseSlot)));
}

void request_memory() {
    if (previous_request_hook != nullptr) previous_request_hook();
    RequestAddinShmemSpace(state_size());
    RequestNamedLWLockTranche(kName, 1);
}

void clear_slot(DatabaseSlot* slot) {
    slot->database = InvalidOid;
    pg_atomic_write_u32(&slot->wanted, 0);
    pg_atomic_write_u32(&slot->blocked, 0);
    slot->starting = false;
    slot->left_well = true;
    slot->supervisor_pid = 0;
    slot->supervisor_proc = INVALID_PROC_NUMBER;
    slot->start_failures = 0;
    memset(slot->fetcher_pids, 0, sizeof slot->fetcher_pids);
    slot->restarts = 0;
    slot->last_failure[0] = '\0';
}

void lay_out_memory() {
    if (previous_startup_hook != nullptr) previous_startup_hook();
    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    bool found = false;
    state = static_cast<SharedState*>(ShmemInitStruct(kName, state_size(), &found));
    lock = &GetNamedLWLockTranche(kName)->lock;
    if (!found) {
        memset(static_cast<void*>(state), 0, state_size());
        pg_atomic_init_u32(&state->launcher_proc, static_cast<uint32>(INVALID_PROC_NUMBER));
        pg_atomic_init_u32(&state->waiters, 0);
        pg_atomic_init_u32(&state->slots_full, 0);
        pg_atomic_init_u32(&state->worker_shortage, 0);
        for (ChangeBucket& bucket : state->buckets) {
            ConditionVariableInit(&bucket.changed);
            pg_atomic_init_u64(&bucket.counter, 1);
        }
        state->slot_count = settings::max_databases;
        for (int i = 0; i < state->slot_count; ++i) {
            pg_atomic_init_u32(&state->slots[i].wanted, 0);
            pg_atomic_init_u32(&state->slots[i].blocked, 0);
            clear_slot(&state->slots[i]);
        }
    }
    LWLockRelease(AddinShmemInitLock);
}

}  // namespace

void init_shared_state() {
    if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade) return;
    previous_request_hook = shmem_request_hook;
    shmem_request_hook = request_memory;
    previous_startup_hook = shmem_startup_hook;
    shmem_startup_hook = lay_out_memory;
}

SharedState* shared_state() {
    return state;
}
LWLock* slots_lock() {
    return lock;
}

ChangeBucket* change_bucket(const pg_uuid_t* request) {
    return &state->buckets[hash_bytes(request->data, UUID_LEN) % kChangeBuckets];
}

DatabaseSlot* find_slot(Oid database) {
    for (int i = 0; i < state->slot_count; ++i)
        if (state->slots[i].database == database) return &state->slots[i];
    return nullptr;
}

DatabaseSlot* find_or_add_slot(Oid database) {
    DatabaseSlot* slot = find_slot(database);
    if (slot != nullptr) return slot;
    slot = find_slot(InvalidOid);
    if (slot == nullptr) {
        pg_atomic_write_u32(&state->slots_full, 1);
        return nullptr;
    }
    clear_slot(slot);
    slot->database = database;
    return slot;
}

void release_slot(DatabaseSlot* slot) {
    clear_slot(slot);
    pg_atomic_write_u32(&state->slots_full, 0);
}

void wake_process(ProcNumber process) {
    if (process != INVALID_PROC_NUMBER) SetLatch(&GetPGProcByNumber(process)->procLatch);
}

void wake_launcher() {
    wake_process(static_cast<ProcNumber>(pg_atomic_read_u32(&state->launcher_proc)));
}

void request_supervisor(Oid database) {
    // Whoever finds `wanted` set may go: the one who set it wakes the supervisor, which takes `wanted` after
    // it woke and looks for work after that.
    LWLockAcquire(lock, LW_SHARED);
    DatabaseSlot* slot = find_slot(database);
    bool const known = slot != nullptr;
    bool const news = known && pg_atomic_exchange_u32(&slot->wanted, 1) == 0;
    ProcNumber supervisor = known ? slot->supervisor_proc : INVALID_PROC_NUMBER;
    LWLockRelease(lock);
    if (!known) {
        LWLockAcquire(lock, LW_EXCLUSIVE);
        slot = find_or_add_slot(database);
        if (slot != nullptr) {
            pg_atomic_write_u32(&slot->wanted, 1);
            supervisor = slot->supervisor_proc;
        }
        LWLockRelease(lock);
    } else if (!news) {
        return;
    }
    if (supervisor != INVALID_PROC_NUMBER)
        wake_process(supervisor);
    else
        wake_launcher();
}

bool supervisor_reachable(Oid database) {
    LWLockAcquire(lock, LW_SHARED);
    const DatabaseSlot* slot = find_slot(database);
    bool const supervised = slot != nullptr && slot->supervisor_pid != 0;
    bool const startable =
        state->launcher_pid != 0 &&
        (slot != nullptr ? slot->start_failures == 0 : pg_atomic_read_u32(&state->slots_full) == 0);
    LWLockRelease(lock);
    return supervised || startable;
}

void note_failure(Oid database, const char* text) {
    LWLockAcquire(lock, LW_EXCLUSIVE);
    DatabaseSlot* slot = find_slot(database);
    if (slot != nullptr) {
        int const length = pg_mbcliplen(text, static_cast<int>(strlen(text)), kFailureText - 1);
        memcpy(slot->last_failure, text, length);
        slot->last_failure[length] = '\0';
    }
    LWLockRelease(lock);
}

uint32 idle_wait_event() {
#if PG_VERSION_NUM >= 170000
    static uint32 event = WaitEventExtensionNew("MrPromptIdle");
    return event;
#else
    return PG_WAIT_EXTENSION;
#endif
}

uint32 change_wait_event() {
#if PG_VERSION_NUM >= 170000
    static uint32 event = WaitEventExtensionNew("MrPromptChange");
    return event;
#else
    return PG_WAIT_EXTENSION;
#endif
}

}  // namespace mrprompt
