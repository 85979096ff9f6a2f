// Keyed digests and the text forms of bytes: HMAC, HKDF, hexadecimal, base64.
#pragma once
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "crypto/secret.hpp"

namespace mrprompt {

// 32 bytes.
std::string hmac_sha256(std::string_view key, std::string_view data);

// HKDF (RFC 5869) with SHA-256; `length` at most 8,160 bytes.
Secret hkdf_sha256(std::string_view key, std::string_view salt, std::string_view info, std::size_t length);

std::string to_hex(std::string_view bytes);  // lower case
// Nothing unless `text` is an even number of hexadecimal digits, of either case.
std::optional<Secret> from_hex(std::string_view text);

std::string to_base64(std::string_view bytes);  // RFC 4648, padded, one line
// Nothing unless `text` is what to_base64 gives: no white space, full padding, no stray bits.
std::optional<std::string> from_base64(std::string_view text);

}  // namespace mrprompt
