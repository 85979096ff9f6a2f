// How many tokens are taken to be in something that nobody has counted.
#pragma once
#include <cstdint>

#include "core/json.hpp"

namespace mrprompt {

// So many tokens, roughly, are in so many bytes of text.
constexpr std::int64_t estimated_tokens(std::size_t bytes) {
    return static_cast<std::int64_t>((bytes + 3) / 4);
}

// Tokens of a chat that goes out as a body of so many bytes: an image counts the same, however many of them
// it is. estimated_prompt() in sql/install/settle.sql is its like.
std::int64_t estimated_prompt(const Json& payload, std::size_t body_bytes);

}  // namespace mrprompt
