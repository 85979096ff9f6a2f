// Counting what would go, in a subtransaction that is always rolled back, so that it leaves no lock behind:
// the DROP asks for stronger ones, in its own order.
#include "pg/drop_warning.hpp"

#include "pg/boundary.hpp"
#include "pg/owner_query.hpp"

namespace mrprompt {
namespace {

constexpr int64 kMostCounted = 100'000;  // of each: counting takes a moment at most
constexpr char kLockTimeout[] = "100ms";

struct Counts {
    int64 requests = 0, in_flight = 0, keys = 0, usage = 0;
};

pg::Statement count_statement = {
    "select (select pg_catalog.count(*) from (select from mrprompt.requests limit $1) r),"
    " (select pg_catalog.count(*) from (select from mrprompt_internal.queue where fetcher_id is not null "
    "limit $1) q),"
    " (select pg_catalog.count(*) from (select from mrprompt.api_keys limit $1) k),"
    " (select pg_catalog.count(*) from (select from mrprompt.usage limit $1) u)",
    1,
    {INT8OID}};

Counts count() {
    pg::call([] {
        set_config_option("lock_timeout", kLockTimeout, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0,
                          false);
    });
    pg::Value const limit[] = {pg::Value::of(Int64GetDatum(kMostCounted + 1))};
    pg::Row const row = pg::query_as_owner(count_statement, limit, pg::Snapshot::fresh);
    auto const number = [&](int column) { return row.has(column) ? DatumGetInt64(row.values[column]) : 0; };
    return {number(0), number(1), number(2), number(3)};
}

// The error of the count, or null.
ErrorData* try_to_count(Counts* counts) {
    try {
        *counts = count();
        return nullptr;
    } catch (const pg::PgError& error) {
        return error.data;
    }
}

const char* shown(int64 number) {
    return number > kMostCounted ? psprintf("more than " INT64_FORMAT, kMostCounted)
                                 : psprintf(INT64_FORMAT, number);
}

}  // namespace

void warn_of_drop() {
    MemoryContext const memory = CurrentMemoryContext;
    ResourceOwner const resources = CurrentResourceOwner;
    Counts counts;
    BeginInternalSubTransaction("mrprompt_drop_warning");
    MemoryContextSwitchTo(memory);
    ErrorData* const error = try_to_count(&counts);
    RollbackAndReleaseCurrentSubTransaction();
    MemoryContextSwitchTo(memory);
    CurrentResourceOwner = resources;
    if (error != nullptr && error->sqlerrcode == ERRCODE_QUERY_CANCELED) ReThrowError(error);
    if (counts.requests + counts.keys + counts.usage == 0) return;
    ereport(WARNING, (errmsg("dropping mrprompt deletes all that it holds in this database"),
                      errdetail("Requests: %s, of them in flight: %s; API keys: %s; usage rows: %s.",
                                shown(counts.requests), shown(counts.in_flight), shown(counts.keys),
                                shown(counts.usage)),
                      errhint("Inside a transaction, ROLLBACK still keeps it.")));
}

}  // namespace mrprompt
