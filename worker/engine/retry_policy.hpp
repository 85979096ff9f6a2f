// Decides what becomes of an attempt that brought no answer: try again, when, whether that counts, and what
// it says of the provider.
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

// What a failed attempt says of its target, whatever becomes of the request.
enum class Blame {
    none,        // nothing: the request itself was refused
    ours,        // it never came to an exchange with the provider that could say something
    failing,     // out of reach, too slow, or broken
    rate_limit,  // asked too much
    auth,        // the key is not accepted
};

struct Verdict {
    bool retry = false;
    std::int64_t after_ms = 0;       // with retry
    bool counts_as_failure = false;  // with retry
    std::string type;                // the error's type word: the provider's, or one of the table in the .cpp
    Blame blame = Blame::none;
};

// `jitter` is a random number in [0, 1).
Verdict judge(const FailedAttempt& failed, const RetryRules& rules, double jitter);

}  // namespace mrprompt
