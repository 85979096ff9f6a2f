// Bounds on JSON text, checked before anything is built from it: depth costs stack, width costs time.
#pragma once
#include <cstddef>
#include <string_view>

namespace mrprompt {

inline constexpr std::size_t kMaxJsonDepth = 128;
inline constexpr std::size_t kMaxJsonMembers = 1024;  // of one object; looking up ordered keys is linear

// Null when `text` is within the bounds (it may still be no JSON), else what is wrong. No allocation.
// `outer` levels of nesting will be put around it.
const char* json_shape_error(std::string_view text, std::size_t outer = 0);

}  // namespace mrprompt
