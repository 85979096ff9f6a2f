// A provider key that travels beside a claim's reply, as its carrier opened it.
#pragma once
#include <string>

#include "crypto/secret.hpp"

namespace mrprompt {

// The key, or why it did not open (a person reads the reason; it holds no secret).
struct OpenedKey {
    bool opened = false;
    Secret key;
    std::string reason;
};

}  // namespace mrprompt
