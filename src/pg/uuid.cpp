// UUIDv7 (RFC 9562): time-ordered ids for rows that users hold.
#include "pg/uuid.hpp"

#include <cstdint>
#include <ctime>

#include "pg/boundary.hpp"

namespace mrprompt {
namespace {

constexpr std::int64_t kNanosecondsPerMillisecond = 1'000'000;
constexpr int kFractionBits = 12;
// The least step that the 12 bits of fraction can tell apart.
constexpr std::int64_t kStep = kNanosecondsPerMillisecond / (1 << kFractionBits) + 1;

// Now, but later than the time this process used last: its ids rise even when the clock stands or steps back.
std::int64_t next_time() {
    static std::int64_t last = 0;
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    const std::int64_t wall = now.tv_sec * (1000 * kNanosecondsPerMillisecond) + now.tv_nsec;
    last = wall >= last + kStep ? wall : last + kStep;
    return last;
}

}  // namespace

pg_uuid_t uuidv7() {
    pg_uuid_t id;
    if (!pg_strong_random(id.data, UUID_LEN))
        throw SqlError{ERRCODE_INTERNAL_ERROR, "could not generate random bytes for an id"};
    const std::int64_t time = next_time();
    const std::int64_t milliseconds = time / kNanosecondsPerMillisecond;
    const std::int64_t fraction =
        ((time % kNanosecondsPerMillisecond) << kFractionBits) / kNanosecondsPerMillisecond;
    for (int i = 0; i < 6; ++i) id.data[i] = static_cast<unsigned char>(milliseconds >> (40 - 8 * i));
    id.data[6] = static_cast<unsigned char>(0x70 | (fraction >> 8));
    id.data[7] = static_cast<unsigned char>(fraction);
    id.data[8] = static_cast<unsigned char>(0x80 | (id.data[8] & 0x3f));
    return id;
}

std::string uuid_text(const pg_uuid_t& id) {
    static constexpr char kDigits[] = "0123456789abcdef";
    std::string text(36, '-');
    char* digit = text.data();
    for (int i = 0; i < UUID_LEN; ++i) {
        if (i == 4 || i == 6 || i == 8 || i == 10) ++digit;
        *digit++ = kDigits[id.data[i] >> 4];
        *digit++ = kDigits[id.data[i] & 15];
    }
    return text;
}

// mrprompt_internal.uuidv7() returns uuid, volatile, parallel safe.
MRPROMPT_FUNCTION(uuidv7) {
    auto* id = static_cast<pg_uuid_t*>(palloc(sizeof(pg_uuid_t)));
    *id = uuidv7();
    PG_RETURN_UUID_P(id);
}

}  // namespace mrprompt
