// How many requests wait: counted now and then per session, and estimated in between, so that asking costs
// little.
#include <array>
#include <cstring>

#include "pg/boundary.hpp"
#include "pg/owner_query.hpp"

namespace mrprompt {
namespace {

constexpr TimestampTz kTrustFor = USECS_PER_SEC;
constexpr int64 kTrustShare = 16;  // a count is good for a sixteenth more requests of this session
constexpr int64 kTrustLeast = 16;

struct Estimate {
    bool used = false;
    pg_uuid_t user{};  // the nil uuid: everybody
    int64 counted = 0;
    int64 added = 0;  // asked for since, each before one more request
    TimestampTz at = 0;

    bool holds(TimestampTz now) const {
        return now - at < kTrustFor && now >= at && added < std::max(kTrustLeast, counted / kTrustShare);
    }
};

// A back end on one login serves many users; who does not fit is counted again.
std::array<Estimate, 64> estimates;

Estimate& estimate_of(const pg_uuid_t& user) {
    Estimate& place = estimates[(user.data[14] * 256u + user.data[15]) % estimates.size()];
    if (!place.used || std::memcmp(place.user.data, user.data, UUID_LEN) != 0) {
        place = Estimate{};
        place.user = user;
        place.used = true;
    }
    return place;
}

int64 count_waiting(const pg_uuid_t* user, int64 most) {
    static pg::Statement of_user{
        "select pg_catalog.count(*) from (select from mrprompt_internal.queue q where q.fetcher_id is null "
        "and q.user_id operator(pg_catalog.=) $1 limit $2) w",
        2,
        {UUIDOID, INT8OID}};
    static pg::Statement of_all{
        "select pg_catalog.count(*) from (select from mrprompt_internal.queue q where q.fetcher_id is null "
        "limit $1) w",
        1,
        {INT8OID}};
    const pg::Value values[] = {user != nullptr ? pg::Value::of(*user) : pg::Value::of(Int64GetDatum(most)),
                                pg::Value::of(Int64GetDatum(most))};
    const pg::Row row = pg::query_as_owner(user != nullptr ? of_user : of_all, values, pg::Snapshot::fresh);
    return row.has(0) ? DatumGetInt64(row.values[0]) : 0;
}

}  // namespace

// mrprompt_internal.queue_depth(user_id uuid, most bigint) returns bigint; asked once before each new
// request.
MRPROMPT_FUNCTION(queue_depth) {
    const pg_uuid_t* user = PG_ARGISNULL(0) ? nullptr : PG_GETARG_UUID_P(0);
    const int64 most = PG_GETARG_INT64(1);
    Estimate& estimate = estimate_of(user != nullptr ? *user : pg_uuid_t{});
    const TimestampTz now = GetCurrentTimestamp();
    // Nobody is refused by an estimate.
    if (!estimate.holds(now) || estimate.counted + estimate.added >= most) {
        estimate.counted = count_waiting(user, most);
        estimate.added = 0;
        estimate.at = now;
    }
    const int64 depth = estimate.counted + estimate.added++;
    return Int64GetDatum(depth);
}

}  // namespace mrprompt
