// AES-256-GCM under one key: authenticated encryption with associated data.
#pragma once
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "crypto/secret.hpp"

struct evp_cipher_ctx_st;

namespace mrprompt {

inline constexpr std::size_t kAeadKeyBytes = 32;
inline constexpr std::size_t kAeadNonceBytes = 12;
inline constexpr std::size_t kAeadTagBytes = 16;

// Holds the key schedule ready, so that a call costs no key set-up. One thread at a time may use it.
// Failures inside libcrypto, and lengths that break the contract, are std::runtime_error.
class Aead {
public:
    // `key` has kAeadKeyBytes.
    explicit Aead(std::string_view key);

    // Ciphertext and tag behind it. `nonce` has kAeadNonceBytes and is never used twice under one key.
    std::string seal(std::string_view nonce, std::string_view plain, std::string_view associated) const;

    // The plaintext of what `seal` gave, or nothing: another key, nonce or associated data, or damage.
    std::optional<Secret> open(std::string_view nonce, std::string_view sealed,
                               std::string_view associated) const;

private:
    struct Release {
        void operator()(evp_cipher_ctx_st* context) const noexcept;
    };
    using Context = std::unique_ptr<evp_cipher_ctx_st, Release>;
    static Context context_for(std::string_view key, bool encrypting);

    Context encrypting_;
    Context decrypting_;
};

// `count` bytes from libcrypto's generator; std::runtime_error where it cannot give any.
std::string random_bytes(std::size_t count);

}  // namespace mrprompt
