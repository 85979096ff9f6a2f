// Keys as another gateway sealed them: AES-256-GCM as Python's `AESGCM` gives it, in base64.
#pragma once
#include <string_view>

#include "core/result.hpp"
#include "crypto/secret.hpp"

namespace mrprompt {

inline constexpr char kForeignTextHint[] =
    "ciphertext: base64 of nonce (12 bytes), ciphertext and tag (16); old_key: 32 bytes as 64 hexadecimal "
    "digits or "
    "as base64.";

// Opens it. Base64 of either alphabet, with or without its padding and line breaks. Error types: "bad_key"
// (old_key is no key), "malformed" (ciphertext is none), "does_not_open" (another key or associated data, or
// damage).
Result<Secret> open_foreign(std::string_view ciphertext, std::string_view old_key,
                            std::string_view associated_data);

}  // namespace mrprompt
