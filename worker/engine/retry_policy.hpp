// Decides what becomes of an attempt that brought no answer: try again, when, and whether that counts.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "engine/ports.hpp"
#include "provider/provider.hpp"

namespace mrprompt {

// How an attempt went wrong. `error` is the provider's own word; without one, `end` tells.
struct FailedAttempt {
    TransferEnd end = TransferEnd::complete;
    int status = 0;                              // HTTP status, 0 when no response came
    const ProviderError* error = nullptr;        // set when the provider answered and the answer is no good
    std::optional<std::int64_t> retry_after_ms;  // what the provider asked for (retry_after)
    int attempt = 1;
    int failures = 0;  // failures that counted before this one
};

struct Verdict {
    bool retry = false;
    std::int64_t after_ms = 0;       // with retry
    bool counts_as_failure = false;  // with retry
    std::string type;                // the error's type word: the provider's, or one of the table in the .cpp
};

// `jitter` is a random number in [0, 1).
Verdict judge(const FailedAttempt& failed, double jitter);

// What the response head asks for: retry-after-ms before retry-after (seconds or an HTTP date), at most an
// hour.
std::optional<std::int64_t> retry_after(const Headers& headers, std::int64_t wall_ms);

}  // namespace mrprompt
