// Writes what the fetcher reports: deltas and outcomes, in the shapes of ARCHITECTURE.md.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "engine/flight.hpp"

namespace mrprompt {

enum class OutcomeKind { succeeded, retry, failed, cancelled };

struct OutcomeError {
    int status = 0;  // 0: none
    std::string type;
    std::string message;
};

// Asks the database to hold back the request's target, for all fetchers.
struct Cooldown {
    const char* reason = "";         // rate_limit | auth | failures
    std::optional<std::int64_t> ms;  // what the provider asked for
};

// How an attempt ended.
struct Ending {
    OutcomeKind kind = OutcomeKind::failed;
    std::optional<OutcomeError> error;
    std::int64_t total_ms = 0;
    std::int64_t retry_after_ms = 0;  // with retry
    bool counts_as_failure = false;   // with retry
    std::optional<Cooldown> cooldown;
};

// An end for good, for a reason of our own.
Ending failure(std::string type, std::string message);

// Deltas and outcomes go into frames of 256 MiB: one that would not fit is reported as a failure instead.
constexpr std::size_t kMaxOutcomeBytes = 192u << 20;

// JSON of one delta of the flight; takes the text out of `delta`.
std::string delta_json(const Flight& flight, int seq, Delta&& delta);

// JSON of one outcome. The unsent delta and the decoder's completion, which may be null, are used up.
// Error texts are trimmed, and the flight's key is taken out of them.
std::string outcome_json(Flight& flight, Completion* completion, Ending ending);

}  // namespace mrprompt
