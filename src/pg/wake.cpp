// The commit callback: wakes the supervisor for new work, and waiting sessions for changed requests.
#include "pg/wake.hpp"

#include <algorithm>

#include "pg/boundary.hpp"
#include "pg/shared_state.hpp"

namespace mrprompt {
namespace {

constexpr int kMostNoted = 10000;  // beyond that, clients that follow notifications must look for themselves

// Request ids in the order noted: first those of committed transactions, then those of the one under way. The
// memory is made when an id is noted, since nothing may fail after a commit.
struct Noted {
    pg_uuid_t* ids;
    int capacity;
    int committed;
    int pending;
};

Noted noted = {};
bool wake_pending = false;   // this transaction queued work
uint64 changed_buckets = 0;  // bit i: this transaction changed a request of bucket i
static_assert(kChangeBuckets == 64, "changed_buckets has a bit for each");

void forget_transaction() {
    wake_pending = false;
    changed_buckets = 0;
    noted.pending = 0;
}

void announce_transaction() {
    noted.committed += noted.pending;
    if (SharedState* shared = shared_state(); shared != nullptr) {
        for (int i = 0; changed_buckets != 0; ++i, changed_buckets >>= 1) {
            if ((changed_buckets & 1) == 0) continue;
            pg_atomic_fetch_add_u64(&shared->buckets[i].counter, 1);
            ConditionVariableBroadcast(&shared->buckets[i].changed);
        }
        if (wake_pending) request_supervisor(MyDatabaseId);
    }
    forget_transaction();
}

void at_transaction_end(XactEvent event, void*) {
    switch (event) {
        case XACT_EVENT_COMMIT:
            announce_transaction();
            break;
        case XACT_EVENT_ABORT:
        case XACT_EVENT_PREPARE:  // its commit happens elsewhere: the safety poll finds it
            forget_transaction();
            break;
        default:
            break;
    }
}

void watch_transactions() {
    static bool watching = false;
    if (watching) return;
    RegisterXactCallback(at_transaction_end, nullptr);
    watching = true;
}

void remember(const pg_uuid_t* id) {
    int const used = noted.committed + noted.pending;
    if (used >= kMostNoted) return;
    if (used == noted.capacity) {
        int const capacity = std::clamp(noted.capacity * 2, 64, kMostNoted);
        Size const bytes = capacity * sizeof(pg_uuid_t);
        noted.ids = static_cast<pg_uuid_t*>(noted.ids == nullptr ? MemoryContextAlloc(TopMemoryContext, bytes)
                                                                 : repalloc(noted.ids, bytes));
        noted.capacity = capacity;
    }
    noted.ids[used] = *id;
    ++noted.pending;
}

}  // namespace

bool changes_noted() {
    return noted.committed > 0;
}

}  // namespace mrprompt

using namespace mrprompt;

MRPROMPT_FUNCTION(wake) {
    if (wake_pending) PG_RETURN_VOID();
    if (shared_state() != nullptr && supervisor_reachable(MyDatabaseId)) {
        watch_transactions();
        wake_pending = true;
    } else if (!PG_ARGISNULL(0)) {
        Async_Notify(text_to_cstring(PG_GETARG_TEXT_PP(0)), "");
    }
    PG_RETURN_VOID();
}

MRPROMPT_FUNCTION(note_changes) {
    ArrayType* requests = PG_GETARG_ARRAYTYPE_P(0);
    Datum* ids = nullptr;
    bool* nulls = nullptr;
    int count = 0;
    deconstruct_array(requests, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, &ids, &nulls, &count);
    watch_transactions();
    for (int i = 0; i < count; ++i) {
        if (nulls[i]) continue;
        const pg_uuid_t* id = DatumGetUUIDP(ids[i]);
        remember(id);
        if (shared_state() != nullptr)
            changed_buckets |= UINT64CONST(1) << (change_bucket(id) - shared_state()->buckets);
    }
    PG_RETURN_VOID();
}

// Null where nothing changed.
MRPROMPT_FUNCTION(take_changes) {
    int const count = noted.committed;
    if (count == 0) PG_RETURN_NULL();
    auto* ids = static_cast<Datum*>(palloc(count * sizeof(Datum)));
    for (int i = 0; i < count; ++i) ids[i] = UUIDPGetDatum(&noted.ids[i]);
    ArrayType* taken = construct_array(ids, count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR);
    std::copy_n(noted.ids + count, noted.pending, noted.ids);
    noted.committed = 0;
    PG_RETURN_ARRAYTYPE_P(taken);
}
