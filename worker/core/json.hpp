// JSON with the caller's order of keys kept.
#pragma once
#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

#include "core/json_shape.hpp"
#include "core/result.hpp"

namespace mrprompt {

using Json = nlohmann::ordered_json;

// What becomes of half a character in a string (a lone surrogate escape, bytes that are not UTF-8).
enum class Halves {
    replace,  // U+FFFD
    mark,     // a mark that Utf8Joiner understands: the other half may be in the next piece of a stream
};

// Parses untrusted text within the limits of json_shape.hpp; never throws. Fails as "json_shape" where the
// text goes beyond those, else as "bad_json". A number beyond the range of a
// double becomes a string of its digits, so that nothing is ever infinite and nothing is lost.
Result<Json> parse_json(std::string_view text, Halves halves = Halves::replace,
                        std::size_t max_values = kAnyNumber);

// Text that PostgreSQL's json and jsonb take, whatever the strings hold: invalid UTF-8 becomes U+FFFD, NULs
// are dropped. Not for values nested deeper than parse_json allows.
std::string dump_json(const Json& value);

// The member's string, or "" where it is absent or of another type.
std::string string_member(const Json& object, const char* name);

// The member itself, or null where it is absent or `object` is no object.
const Json& member(const Json& object, const char* name);

}  // namespace mrprompt
