// HMAC and HKDF by libcrypto; strict hexadecimal and base64.
#include "crypto/digest.hpp"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include <array>
#include <cstdint>
#include <memory>
#include <stdexcept>

#ifdef POSTGRES_H
#error "src/crypto knows nothing of PostgreSQL"
#endif

namespace mrprompt {
namespace {

struct Release {
    void operator()(EVP_KDF* kdf) const noexcept { EVP_KDF_free(kdf); }
    void operator()(EVP_KDF_CTX* context) const noexcept { EVP_KDF_CTX_free(context); }
};

constexpr std::string_view kHexDigits = "0123456789abcdef";
constexpr std::string_view kBase64Digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

constexpr std::array<std::int8_t, 256> values_of(std::string_view digits) {
    std::array<std::int8_t, 256> values{};
    values.fill(-1);
    for (std::size_t i = 0; i < digits.size(); ++i)
        values[static_cast<unsigned char>(digits[i])] = static_cast<std::int8_t>(i);
    return values;
}
constexpr auto kBase64Values = values_of(kBase64Digits);

int hex_value(char digit) {
    if (digit >= '0' && digit <= '9') return digit - '0';
    if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
    if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
    return -1;
}

OSSL_PARAM octets(const char* name, std::string_view value) {
    return OSSL_PARAM_construct_octet_string(name, const_cast<char*>(value.data()), value.size());
}

}  // namespace

std::string hmac_sha256(std::string_view key, std::string_view data) {
    std::string digest(32, '\0');
    // libcrypto takes a null key for "the key as before".
    if (HMAC(EVP_sha256(), key.empty() ? "" : key.data(), static_cast<int>(key.size()),
             reinterpret_cast<const unsigned char*>(data.data()), data.size(),
             reinterpret_cast<unsigned char*>(digest.data()), nullptr) == nullptr)
        throw std::runtime_error("libcrypto could not make an HMAC");
    return digest;
}

Secret hkdf_sha256(std::string_view key, std::string_view salt, std::string_view info, std::size_t length) {
    const std::unique_ptr<EVP_KDF, Release> kdf(EVP_KDF_fetch(nullptr, "HKDF", nullptr));
    const std::unique_ptr<EVP_KDF_CTX, Release> context(EVP_KDF_CTX_new(kdf.get()));
    std::array<OSSL_PARAM, 5> parameters{};
    std::size_t used = 0;
    char sha256[] = "SHA256";
    parameters[used++] = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, sha256, 0);
    parameters[used++] = octets(OSSL_KDF_PARAM_KEY, key);
    if (!salt.empty()) parameters[used++] = octets(OSSL_KDF_PARAM_SALT, salt);
    if (!info.empty()) parameters[used++] = octets(OSSL_KDF_PARAM_INFO, info);
    parameters[used] = OSSL_PARAM_construct_end();

    std::string derived(length, '\0');
    const bool done =
        context != nullptr && EVP_KDF_derive(context.get(), reinterpret_cast<unsigned char*>(derived.data()),
                                             derived.size(), parameters.data()) == 1;
    Secret secret(derived);
    OPENSSL_cleanse(derived.data(), derived.size());
    if (!done) throw std::runtime_error("libcrypto could not derive a key");
    return secret;
}

std::string to_hex(std::string_view bytes) {
    std::string text;
    text.reserve(bytes.size() * 2);
    for (const unsigned char byte : bytes) {
        text += kHexDigits[byte >> 4];
        text += kHexDigits[byte & 15];
    }
    return text;
}

std::optional<Secret> from_hex(std::string_view text) {
    if (text.size() % 2 != 0) return std::nullopt;
    std::string bytes;
    bytes.reserve(text.size() / 2);
    bool valid = true;
    for (std::size_t i = 0; i < text.size() && valid; i += 2) {
        const int high = hex_value(text[i]);
        const int low = hex_value(text[i + 1]);
        valid = high >= 0 && low >= 0;
        bytes += static_cast<char>(high * 16 + low);
    }
    std::optional<Secret> secret;
    if (valid) secret.emplace(bytes);
    OPENSSL_cleanse(bytes.data(), bytes.size());
    return secret;
}

std::string to_base64(std::string_view bytes) {
    std::string text((bytes.size() + 2) / 3 * 4 + 1,
                     '\0');  // EVP_EncodeBlock ends its output with a zero byte
    const int written =
        EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                        reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
    text.resize(static_cast<std::size_t>(written));
    return text;
}

std::optional<std::string> from_base64(std::string_view text) {
    if (text.size() % 4 != 0) return std::nullopt;
    std::size_t padding = 0;
    while (padding < 2 && padding < text.size() && text[text.size() - 1 - padding] == '=') ++padding;
    text.remove_suffix(padding);

    std::string bytes(text.size() * 3 / 4, '\0');
    char* byte = bytes.data();
    std::uint32_t pending = 0;
    int bits = 0;
    bool valid = true;
    for (const unsigned char digit : text) {
        if (!(valid = kBase64Values[digit] >= 0)) break;
        pending = (pending << 6) | static_cast<std::uint32_t>(kBase64Values[digit]);
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            *byte++ = static_cast<char>(pending >> bits);
            pending &= (1u << bits) - 1;
        }
    }
    if (valid && pending == 0) return bytes;
    OPENSSL_cleanse(bytes.data(), bytes.size());  // it may be most of a key
    return std::nullopt;
}

}  // namespace mrprompt
