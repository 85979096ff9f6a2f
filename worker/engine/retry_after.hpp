// When a provider wants to be asked again, out of the head of its response. Pure.
#pragma once
#include <cstdint>
#include <optional>

#include "provider/provider.hpp"

namespace mrprompt {

// Milliseconds from `wall_ms` on, more than 0 and at most an hour; nothing where the head does not say.
// In this order: retry-after-ms, retry-after (seconds or an HTTP date) and, with a status that says "too
// much" (429, 503, 529), the moment when the limit that was used up is filled again: x-ratelimit-reset-*,
// anthropic-ratelimit-*-reset.
std::optional<std::int64_t> retry_after(const Headers& headers, int status, std::int64_t wall_ms);

}  // namespace mrprompt
