// AES-256-GCM over libcrypto's EVP.
#include "crypto/aead.hpp"

#include <openssl/evp.h>
#include <openssl/rand.h>

#include <limits>
#include <stdexcept>

#ifdef POSTGRES_H
#error "src/crypto knows nothing of PostgreSQL"
#endif

namespace mrprompt {
namespace {

void require(bool held, const char* what) {
    if (!held) throw std::runtime_error(what);
}

const unsigned char* bytes(std::string_view text) {
    return reinterpret_cast<const unsigned char*>(text.data());
}
unsigned char* bytes(std::string& text) {
    return reinterpret_cast<unsigned char*>(text.data());
}

int length(std::string_view text) {
    require(text.size() <= static_cast<std::size_t>(std::numeric_limits<int>::max()),
            "text too long to seal");
    return static_cast<int>(text.size());
}

// Fetching walks libcrypto's providers: slow, so once per process.
const EVP_CIPHER* aes_256_gcm() {
    static const EVP_CIPHER* const cipher = EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr);
    require(cipher != nullptr, "libcrypto offers no AES-256-GCM");
    return cipher;
}

// Plaintext on its way into a Secret; wiped whatever happens.
struct Scratch {
    std::string text;
    ~Scratch() { OPENSSL_cleanse(text.data(), text.size()); }
};

}  // namespace

void Aead::Release::operator()(evp_cipher_ctx_st* context) const noexcept {
    EVP_CIPHER_CTX_free(context);
}

Aead::Context Aead::context_for(std::string_view key, bool encrypting) {
    require(key.size() == kAeadKeyBytes, "an AES-256 key has 32 bytes");
    Context context(EVP_CIPHER_CTX_new());
    require(context != nullptr, "libcrypto gave no cipher context");
    require(EVP_CipherInit_ex2(context.get(), aes_256_gcm(), bytes(key), nullptr, encrypting ? 1 : 0,
                               nullptr) == 1,
            "libcrypto refused the key");
    return context;
}

Aead::Aead(std::string_view key)
    : encrypting_(context_for(key, true)), decrypting_(context_for(key, false)) {}

std::string Aead::seal(std::string_view nonce, std::string_view plain, std::string_view associated) const {
    require(nonce.size() == kAeadNonceBytes, "a GCM nonce has 12 bytes");
    EVP_CIPHER_CTX* const context = encrypting_.get();
    std::string sealed(plain.size() + kAeadTagBytes, '\0');
    int written = 0;
    int last = 0;
    require(EVP_EncryptInit_ex2(context, nullptr, nullptr, bytes(nonce), nullptr) == 1 &&
                EVP_EncryptUpdate(context, nullptr, &written, bytes(associated), length(associated)) == 1 &&
                EVP_EncryptUpdate(context, bytes(sealed), &written, bytes(plain), length(plain)) == 1 &&
                EVP_EncryptFinal_ex(context, bytes(sealed) + written, &last) == 1 &&
                EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, static_cast<int>(kAeadTagBytes),
                                    bytes(sealed) + plain.size()) == 1,
            "libcrypto could not seal");
    return sealed;
}

std::optional<Secret> Aead::open(std::string_view nonce, std::string_view sealed,
                                 std::string_view associated) const {
    require(nonce.size() == kAeadNonceBytes, "a GCM nonce has 12 bytes");
    if (sealed.size() < kAeadTagBytes) return std::nullopt;
    const std::string_view ciphertext = sealed.substr(0, sealed.size() - kAeadTagBytes);
    std::string tag(sealed.substr(ciphertext.size()));
    EVP_CIPHER_CTX* const context = decrypting_.get();
    Scratch plain{std::string(ciphertext.size(), '\0')};
    int written = 0;
    int last = 0;
    require(EVP_DecryptInit_ex2(context, nullptr, nullptr, bytes(nonce), nullptr) == 1 &&
                EVP_DecryptUpdate(context, nullptr, &written, bytes(associated), length(associated)) == 1 &&
                EVP_DecryptUpdate(context, bytes(plain.text), &written, bytes(ciphertext),
                                  length(ciphertext)) == 1 &&
                EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, static_cast<int>(kAeadTagBytes),
                                    tag.data()) == 1,
            "libcrypto could not open");
    if (EVP_DecryptFinal_ex(context, bytes(plain.text) + written, &last) != 1) return std::nullopt;
    return Secret(plain.text);
}

std::string random_bytes(std::size_t count) {
    std::string random(count, '\0');
    require(RAND_bytes(bytes(random), length(random)) == 1, "libcrypto gave no random bytes");
    return random;
}

}  // namespace mrprompt
