// The ceiling of encrypt_key and decrypt_key: AES-256-GCM by OpenSSL alone, a fresh nonce each, in
// microseconds a call as JSON.
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

constexpr int kCalls = 1'000'000;
constexpr char kPlain[] = "sk-bench-0123456789012345678901234567890123456789012";
constexpr char kAssociated[] =
    "mrp1 019a0000-0000-7000-8000-000000000001 019a0000-0000-7000-8000-000000000002 openai";

unsigned char key[32], nonce[12], sealed[sizeof kPlain + 16], plain[sizeof kPlain];

void must(int ok) {
    if (ok != 1) std::abort();
}

void seal(EVP_CIPHER_CTX* context) {
    int length = 0;
    must(RAND_bytes(nonce, sizeof nonce));
    must(EVP_EncryptInit_ex(context, nullptr, nullptr, nullptr, nonce));
    must(EVP_EncryptUpdate(context, nullptr, &length, reinterpret_cast<const unsigned char*>(kAssociated),
                           sizeof kAssociated));
    must(EVP_EncryptUpdate(context, sealed, &length, reinterpret_cast<const unsigned char*>(kPlain),
                           sizeof kPlain));
    must(EVP_EncryptFinal_ex(context, sealed + length, &length));
    must(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, 16, sealed + sizeof kPlain));
}

void open(EVP_CIPHER_CTX* context) {
    int length = 0;
    must(EVP_DecryptInit_ex(context, nullptr, nullptr, nullptr, nonce));
    must(EVP_DecryptUpdate(context, nullptr, &length, reinterpret_cast<const unsigned char*>(kAssociated),
                           sizeof kAssociated));
    must(EVP_DecryptUpdate(context, plain, &length, sealed, sizeof kPlain));
    must(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, 16, sealed + sizeof kPlain));
    must(EVP_DecryptFinal_ex(context, plain + length, &length));
}

template <class F>
double microseconds(F&& call) {
    const auto started = std::chrono::steady_clock::now();
    for (int i = 0; i < kCalls; ++i) call();
    return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - started).count() /
           kCalls;
}

}  // namespace

int main() {
    EVP_CIPHER_CTX* encrypting = EVP_CIPHER_CTX_new();
    EVP_CIPHER_CTX* decrypting = EVP_CIPHER_CTX_new();
    must(RAND_bytes(key, sizeof key));
    must(EVP_EncryptInit_ex(encrypting, EVP_aes_256_gcm(), nullptr, key, nullptr));
    must(EVP_DecryptInit_ex(decrypting, EVP_aes_256_gcm(), nullptr, key, nullptr));
    const double sealing = microseconds([&] { seal(encrypting); });
    const double opening = microseconds([&] { open(decrypting); });
    std::printf("{\"seal\": %.3f, \"open\": %.3f}\n", sealing, opening);
    return std::memcmp(plain, kPlain, sizeof plain) == 0 ? 0 : 1;
}
