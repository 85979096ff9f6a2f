// Waiting for a request to change: how long a session may, and the sleep itself.
#include <algorithm>

#include "pg/boundary.hpp"
#include "pg/settings.hpp"
#include "pg/shared_state.hpp"

using namespace mrprompt;

namespace {

constexpr double kMostMicroseconds = 60e6;
constexpr double kShareOfTimeout = 0.8;  // the rest is for what the caller does with the answer
constexpr long kLookAtClientMs = 1000;

double microseconds(const Interval* span) {
    return static_cast<double>(span->time) + span->day * 86400e6 + span->month * (30 * 86400e6);
}

// What is left of a time limit in milliseconds that began to run at `start`; 0 means no limit.
double left_of(int limit_ms, TimestampTz start, TimestampTz now) {
    if (limit_ms <= 0) return kMostMicroseconds;
    return kShareOfTimeout * (limit_ms * 1000.0 - static_cast<double>(now - start));
}

// The latest that a wait may last from now, whatever its caller asks for.
TimestampTz longest_until(TimestampTz now) {
    double wait = kMostMicroseconds;
    wait = std::min(wait, left_of(StatementTimeout, GetCurrentStatementStartTimestamp(), now));
#if PG_VERSION_NUM >= 170000
    wait = std::min(wait, left_of(TransactionTimeout, GetCurrentTransactionStartTimestamp(), now));
#endif
    return now + static_cast<TimestampTz>(std::max(wait, 0.0));
}

// Who waits reads nothing from its client, so nothing else would notice that it is gone. Ends the session
// then, as client_connection_check_interval does.
void look_at_client() {
    static TimestampTz looked_at = 0;
    TimestampTz const now = GetCurrentTimestamp();
    if (MyProcPort == nullptr || !TimestampDifferenceExceeds(looked_at, now, kLookAtClientMs)) return;
    looked_at = now;
    if (!WaitEventSetCanReportClosed() || pq_check_connection()) return;
    ClientConnectionLost = true;
    InterruptPending = true;
    CHECK_FOR_INTERRUPTS();
}

void leave_queue(int, Datum) {
    pg_atomic_fetch_sub_u32(&shared_state()->waiters, 1);
}

void join_queue() {
    pg_atomic_uint32* waiters = &shared_state()->waiters;
    if (pg_atomic_fetch_add_u32(waiters, 1) < static_cast<uint32>(settings::max_waiters)) return;
    pg_atomic_fetch_sub_u32(waiters, 1);
    ereport(ERROR,
            (errcode(kRateLimited), errmsg("too many sessions are waiting for answers"),
             errdetail("mrprompt.max_waiters allows %d at a time; each holds a connection.",
                       settings::max_waiters),
             errhint("Ask again in a moment with a timeout of 0, listen for notifications instead, or raise "
                     "mrprompt.max_waiters.")));
}

bool sleep_until_changed(ChangeBucket* bucket, uint64 seen, TimestampTz until) {
    ConditionVariablePrepareToSleep(&bucket->changed);
    bool changed = false;
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        look_at_client();
        changed = pg_atomic_read_u64(&bucket->counter) != seen;
        if (changed) break;
        long const left_ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);
        if (left_ms <= 0) break;
        ConditionVariableTimedSleep(&bucket->changed, std::min(left_ms, kLookAtClientMs),
                                    change_wait_event());
    }
    ConditionVariableCancelSleep();
    return changed;
}

// For when nobody can wake us: short naps, growing while the same request is waited for.
bool nap(const pg_uuid_t* request, TimestampTz until) {
    constexpr long kShortest = 10, kLongest = 50;
    static pg_uuid_t waited_for = {};
    static long nap_ms = kShortest;
    bool const same = memcmp(&waited_for, request, sizeof waited_for) == 0;
    nap_ms = same ? std::min(nap_ms * 2, kLongest) : kShortest;
    waited_for = *request;

    long const left_ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);
    if (left_ms <= 0) return false;
    WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, std::min(nap_ms, left_ms),
              change_wait_event());
    ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
    look_at_client();
    return true;
}

}  // namespace

MRPROMPT_FUNCTION(begin_wait) {
    if (IsolationUsesXactSnapshot())
        ereport(ERROR,
                (errcode(kBadInput), errmsg("cannot wait in this transaction"),
                 errdetail(
                     "Its isolation level is %s, so it can never see an answer that arrives while it waits.",
                     XactIsoLevel == XACT_SERIALIZABLE ? "SERIALIZABLE" : "REPEATABLE READ"),
                 errhint("Wait in a READ COMMITTED transaction, or look in a new one (get_request, get_run).")));
    if (PG_ARGISNULL(0))
        ereport(ERROR, (errcode(kBadInput), errmsg("the timeout must not be null"),
                        errhint("Pass an interval such as '5 s', or leave the argument out.")));
    TimestampTz const now = GetCurrentTimestamp();
    double const wait = std::clamp(microseconds(PG_GETARG_INTERVAL_P(0)), 0.0, kMostMicroseconds);
    PG_RETURN_TIMESTAMPTZ(std::min(now + static_cast<TimestampTz>(wait), longest_until(now)));
}

MRPROMPT_FUNCTION(change_counter) {
    if (shared_state() == nullptr) PG_RETURN_INT64(0);
    PG_RETURN_INT64(static_cast<int64>(pg_atomic_read_u64(&change_bucket(PG_GETARG_UUID_P(0))->counter)));
}

MRPROMPT_FUNCTION(wait_for_change) {
    const pg_uuid_t* request = PG_GETARG_UUID_P(0);
    uint64 const seen = static_cast<uint64>(PG_GETARG_INT64(1));
    // Any user may call it, with any time.
    TimestampTz const until = std::min(PG_GETARG_TIMESTAMPTZ(2), longest_until(GetCurrentTimestamp()));
    // On a standby changes arrive with the log, and nobody counts them.
    if (shared_state() == nullptr || RecoveryInProgress()) PG_RETURN_BOOL(nap(request, until));

    ChangeBucket* bucket = change_bucket(request);
    if (pg_atomic_read_u64(&bucket->counter) != seen) PG_RETURN_BOOL(true);
    if (GetCurrentTimestamp() >= until) PG_RETURN_BOOL(false);

    join_queue();
    bool volatile changed = false;
    PG_ENSURE_ERROR_CLEANUP(leave_queue, 0);
    { changed = sleep_until_changed(bucket, seen, until); }
    PG_END_ENSURE_ERROR_CLEANUP(leave_queue, 0);
    leave_queue(0, 0);
    PG_RETURN_BOOL(changed);
}

// Whether a row version was written by this transaction, or a subtransaction of it.
MRPROMPT_FUNCTION(is_own_change) {
    PG_RETURN_BOOL(TransactionIdIsCurrentTransactionId(PG_GETARG_TRANSACTIONID(0)));
}
