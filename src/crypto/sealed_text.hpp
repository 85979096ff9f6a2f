// A provider key as it stands in a table: `mrp1.<master key id>.<base64 of nonce, ciphertext and tag>`.
#pragma once
#include <string>
#include <string_view>

#include "core/result.hpp"
#include "crypto/keyring.hpp"
#include "crypto/secret.hpp"

namespace mrprompt {

// What a sealed text belongs to; it opens with the same binding only. Empty stands for null: unbound.
struct Binding {
    std::string key_id;  // uuid of the row, lower case with hyphens
    std::string owner;   // uuid of the user, likewise
    std::string provider;
};

// At most this much can be sealed.
inline constexpr std::size_t kMaxSecretBytes = 64 * 1024;

// Seals under the active master key with a fresh nonce. Error type: "too_large".
Result<std::string> seal(const Keyring& keyring, const Secret& plain, const Binding& binding);

// Error types: "malformed" (no sealed text), "unknown_master_key" (sealed under a master key that the keyring
// lacks), "does_not_open" (another row, owner or provider, another key under that id, or damage).
Result<Secret> open_sealed(const Keyring& keyring, std::string_view sealed, const Binding& binding);

// The id of the master key that it was sealed under; empty when malformed.
std::string_view sealed_under(std::string_view sealed);

}  // namespace mrprompt
