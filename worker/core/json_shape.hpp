// Bounds on JSON text, checked before anything is built from it: depth costs stack, width costs time, and the
// number of values costs memory.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace mrprompt {

inline constexpr std::size_t kMaxJsonDepth = 128;
inline constexpr std::size_t kMaxJsonMembers = 1024;  // of one object; looking up ordered keys is linear
inline constexpr std::size_t kAnyNumber = SIZE_MAX;

// Null when `text` is within the bounds (it may still be no JSON), else what is wrong. No allocation.
// `outer` levels of nesting will be put around it.
const char* json_shape_error(std::string_view text, std::size_t outer = 0,
                             std::size_t max_values = kAnyNumber);

}  // namespace mrprompt
