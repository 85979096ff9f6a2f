// JSON with the caller's order of keys kept.
#pragma once
#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

#include "core/result.hpp"

namespace mrprompt {

using Json = nlohmann::ordered_json;

// Parses untrusted text: at most 128 levels deep, invalid UTF-8 refused; never throws.
Result<Json> parse_json(std::string_view text);

// Text that PostgreSQL's json and jsonb take: valid UTF-8, no \u0000, no lone surrogate; never throws.
std::string dump_json(const Json& value);

// The member's string, or "" where it is absent or of another type.
std::string string_member(const Json& object, const char* name);

// The member itself, or null where it is absent or `object` is no object.
const Json& member(const Json& object, const char* name);

}  // namespace mrprompt
