// Reading the forms in which keys and ciphertexts travel outside, and opening them.
#include "crypto/foreign_text.hpp"

#include <openssl/crypto.h>

#include <optional>
#include <string>

#include "crypto/aead.hpp"
#include "crypto/digest.hpp"

#ifdef POSTGRES_H
#error "src/crypto knows nothing of PostgreSQL"
#endif

namespace mrprompt {
namespace {

std::optional<Secret> from_any_base64(std::string_view text) {
    std::string plain;
    plain.reserve(text.size() + 3);  // with its padding, right or wrong: no copy is left behind
    for (const char c : text) {
        if (c == '\n' || c == '\r' || c == ' ' || c == '\t') continue;
        plain += c == '-' ? '+' : c == '_' ? '/' : c;
    }
    while (plain.size() % 4 != 0) plain += '=';
    std::optional<std::string> bytes = from_base64(plain);
    OPENSSL_cleanse(plain.data(), plain.size());
    if (!bytes) return std::nullopt;
    Secret secret(*bytes);
    OPENSSL_cleanse(bytes->data(), bytes->size());
    return secret;
}

std::optional<Secret> read_key(std::string_view text) {
    for (auto* read : {&from_hex, &from_any_base64})
        if (std::optional<Secret> key = read(text); key && key->view().size() == kAeadKeyBytes) return key;
    return std::nullopt;
}

}  // namespace

Result<Secret> open_foreign(std::string_view ciphertext, std::string_view old_key,
                            std::string_view associated_data) {
    const std::optional<Secret> key = read_key(old_key);
    if (!key) return Error{"bad_key", "old_key is not 32 bytes in hexadecimal or base64"};
    const std::optional<Secret> body = from_any_base64(ciphertext);
    if (!body || body->view().size() < kAeadNonceBytes + kAeadTagBytes)
        return Error{"malformed", "the ciphertext is not base64 of nonce, ciphertext and tag"};
    std::optional<Secret> plain = Aead(key->view())
                                      .open(body->view().substr(0, kAeadNonceBytes),
                                            body->view().substr(kAeadNonceBytes), associated_data);
    if (!plain)
        return Error{"does_not_open", "the ciphertext does not open with this old_key and associated_data"};
    return std::move(*plain);
}

}  // namespace mrprompt
