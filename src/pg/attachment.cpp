// Taking and giving up a database's slot, under the lock that the waking backends take too.
#include "pg/attachment.hpp"

#include <algorithm>

namespace mrprompt::attachment {
namespace {

DatabaseSlot* own = nullptr;  // while attached; nobody else may release it

// The caller holds the lock exclusively.
void give_up() {
    own->supervisor_pid = 0;
    own->supervisor_proc = INVALID_PROC_NUMBER;
    memset(own->fetcher_pids, 0, sizeof own->fetcher_pids);
    own = nullptr;
}

void at_exit(int, Datum) {
    if (own == nullptr) return;
    LWLockAcquire(slots_lock(), LW_EXCLUSIVE);
    pg_atomic_write_u32(&own->wanted, 1);
    give_up();  // left_well stays false: the launcher backs off
    LWLockRelease(slots_lock());
    wake_launcher();
}

}  // namespace

bool attach(Oid database) {
    LWLockAcquire(slots_lock(), LW_EXCLUSIVE);
    DatabaseSlot* slot = find_slot(database);
    if (slot != nullptr) slot->starting = false;
    bool const free = slot != nullptr && slot->supervisor_pid == 0;
    bool const admitted = free && pg_atomic_read_u32(&slot->blocked) == 0;
    if (admitted) {
        slot->supervisor_pid = MyProcPid;
        slot->supervisor_proc = MyProcNumber;
        slot->left_well = false;
        slot->last_failure[0] = '\0';
        own = slot;
    } else if (free) {
        slot->left_well = true;
    }
    LWLockRelease(slots_lock());
    wake_launcher();  // there is room for the next one on its way
    if (admitted) before_shmem_exit(at_exit, 0);
    return admitted;
}

bool take_wanted() {
    return pg_atomic_exchange_u32(&own->wanted, 0) != 0;
}

bool blocked() {
    return pg_atomic_read_u32(&own->blocked) != 0;
}

bool slot_needed_elsewhere() {
    return pg_atomic_read_u32(&shared_state()->worker_shortage) != 0;
}

void publish_fetchers(std::span<const int> pids) {
    LWLockAcquire(slots_lock(), LW_EXCLUSIVE);
    std::fill(std::begin(own->fetcher_pids), std::end(own->fetcher_pids), 0);
    std::copy_n(pids.begin(), std::min<std::size_t>(pids.size(), kMaxChildren), own->fetcher_pids);
    LWLockRelease(slots_lock());
}

void count_restart() {
    LWLockAcquire(slots_lock(), LW_EXCLUSIVE);
    ++own->restarts;
    LWLockRelease(slots_lock());
}

bool leave_unless_wanted() {
    LWLockAcquire(slots_lock(), LW_EXCLUSIVE);
    bool const unwanted = pg_atomic_read_u32(&own->wanted) == 0;
    if (unwanted) {
        own->left_well = true;
        give_up();
    }
    LWLockRelease(slots_lock());
    return unwanted;
}

void leave(bool wanted) {
    LWLockAcquire(slots_lock(), LW_EXCLUSIVE);
    own->left_well = true;
    if (wanted) pg_atomic_write_u32(&own->wanted, 1);
    give_up();
    LWLockRelease(slots_lock());
}

void leave_for_good() {
    LWLockAcquire(slots_lock(), LW_EXCLUSIVE);
    DatabaseSlot* slot = own;
    slot->left_well = true;
    pg_atomic_write_u32(&slot->wanted, 0);
    give_up();
    if (pg_atomic_read_u32(&slot->blocked) == 0) release_slot(slot);
    LWLockRelease(slots_lock());
}

}  // namespace mrprompt::attachment
