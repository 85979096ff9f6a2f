// Asking a provider nothing but whether it takes a key: its cheapest authenticated call.
#pragma once
#include <string_view>

#include "provider/provider.hpp"

namespace mrprompt {

// The protocol of that name, reduced to that call: a GET of verify_path, whose answer is only looked at for
// being one. Or null.
const Protocol* find_verification(std::string_view protocol);

}  // namespace mrprompt
