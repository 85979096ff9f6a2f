// One pass over JSON text that counts brackets, members and values.
#include "core/json_shape.hpp"

#include <array>
#include <cstdint>

namespace mrprompt {

namespace {

constexpr char kTooManyValues[] = "JSON holds too many values";

}  // namespace

const char* json_shape_error(std::string_view text, std::size_t outer, std::size_t max_values) {
    constexpr std::int64_t kArray = INT64_MIN;  // commas of an array never reach the limit
    std::array<std::int64_t, kMaxJsonDepth + 1> commas{};
    std::size_t depth = 0;
    std::size_t values = 1;
    bool in_string = false;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (in_string) {
            if (c == '\\') {
                ++i;
            } else if (c == '"') {
                in_string = false;
            }
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++values > max_values) return kTooManyValues;
            if (depth + outer == kMaxJsonDepth) return "JSON is nested more than 128 levels deep";
            commas[++depth] = c == '{' ? 0 : kArray;
        } else if (c == '}' || c == ']') {
            if (depth > 0) --depth;
        } else if (c == ',') {
            if (++values > max_values) return kTooManyValues;
            if (++commas[depth] >= static_cast<std::int64_t>(kMaxJsonMembers) && depth > 0) {
                return "a JSON object has more than 1024 members";
            }
        }
    }
    return nullptr;
}

}  // namespace mrprompt
