// What SQL may ask of the server: its identity, and what runs for this database.
#include <algorithm>

#include "pg/boundary.hpp"
#include "pg/shared_state.hpp"

using namespace mrprompt;

namespace {

// Background workers of every kind that run now: parallel workers take slots too.
int running_workers() {
    int running = 0;
    int const entries = pgstat_fetch_stat_numbackends();
    for (int i = 1; i <= entries; ++i) {
#if PG_VERSION_NUM >= 160000
        const LocalPgBackendStatus* entry = pgstat_get_local_beentry_by_index(i);
#else
        const LocalPgBackendStatus* entry = pgstat_fetch_stat_local_beentry(i);
#endif
        if (entry != nullptr && entry->backendStatus.st_procpid > 0 &&
            entry->backendStatus.st_backendType == B_BG_WORKER)
            ++running;
    }
    return running;
}

ArrayType* pid_array(const int* pids, int count) {
    Datum elements[kMaxChildren];
    int filled = 0;
    for (int i = 0; i < count; ++i)
        if (pids[i] != 0) elements[filled++] = Int32GetDatum(pids[i]);
    return construct_array(elements, filled, INT4OID, sizeof(int32), true, TYPALIGN_INT);
}

}  // namespace

MRPROMPT_FUNCTION(system_identifier) {
    PG_RETURN_INT64(static_cast<int64>(GetSystemIdentifier()));
}

MRPROMPT_FUNCTION(preload_libraries) {
    const char* const list = shared_preload_libraries_string;
    return pg::text_datum(list != nullptr ? list : "");
}

MRPROMPT_FUNCTION(server_state) {
    TupleDesc row_type = nullptr;
    if (get_call_result_type(fcinfo, nullptr, &row_type) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "server_state must be declared with its out parameters");
    enum {
        kPreloaded,
        kLauncher,
        kSupervisor,
        kFetchers,
        kWaiters,
        kFreeSlots,
        kRestarts,
        kLastFailure,
        kColumns
    };
    Datum values[kColumns] = {};
    bool nulls[kColumns];
    std::fill_n(nulls, static_cast<int>(kColumns), true);
    auto set = [&](int column, Datum value) {
        values[column] = value;
        nulls[column] = false;
    };

    SharedState* shared = shared_state();
    set(kPreloaded, BoolGetDatum(shared != nullptr));
    set(kFreeSlots, Int32GetDatum(std::max(max_worker_processes - running_workers(), 0)));
    if (shared != nullptr) {
        DatabaseSlot slot = {};
        LWLockAcquire(slots_lock(), LW_SHARED);
        if (const DatabaseSlot* found = find_slot(MyDatabaseId); found != nullptr)
            memcpy(static_cast<void*>(&slot), found, sizeof slot);
        LWLockRelease(slots_lock());
        if (shared->launcher_pid != 0) set(kLauncher, Int32GetDatum(shared->launcher_pid));
        if (slot.supervisor_pid != 0) set(kSupervisor, Int32GetDatum(slot.supervisor_pid));
        set(kFetchers, PointerGetDatum(pid_array(slot.fetcher_pids, kMaxChildren)));
        set(kWaiters, Int32GetDatum(static_cast<int>(pg_atomic_read_u32(&shared->waiters))));
        set(kRestarts, Int64GetDatum(slot.restarts));
        if (slot.last_failure[0] != '\0') set(kLastFailure, CStringGetTextDatum(slot.last_failure));
    }
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(row_type), values, nulls)));
}
