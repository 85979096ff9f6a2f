// AES-256-GCM against the published vectors, and what must not open.
#include "crypto/aead.hpp"

#include <gtest/gtest.h>

#include "crypto/digest.hpp"

namespace mrprompt {
namespace {

std::string raw(std::string_view hex) {
    return std::string(from_hex(hex)->view());
}

struct Vector {
    const char* name;
    const char* key;
    const char* nonce;
    const char* plain;
    const char* associated;
    const char* ciphertext;
    const char* tag;
};

// McGrew and Viega, "The Galois/Counter Mode of Operation", test cases 13 to 16 (submitted to NIST).
constexpr const char* kKey = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308";
constexpr const char* kZeroKey = "0000000000000000000000000000000000000000000000000000000000000000";
const Vector kVectors[] = {
    {"13", kZeroKey, "000000000000000000000000", "", "", "", "530f8afbc74536b9a963b4f1c4cb738b"},
    {"14", kZeroKey, "000000000000000000000000", "00000000000000000000000000000000", "",
     "cea7403d4d606b6e074ec5d3baf39d18", "d0d1c8a799996bf0265b98b5d48ab919"},
    {"15", kKey, "cafebabefacedbaddecaf888",
     "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
     "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
     "",
     "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
     "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad",
     "b094dac5d93471bdec1a502270e3cc6c"},
    {"16", kKey, "cafebabefacedbaddecaf888",
     "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
     "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
     "feedfacedeadbeeffeedfacedeadbeefabaddad2",
     "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
     "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
     "76fc6ece0f4e1768cddf8853bb2d551b"},
};

TEST(Aead, gives_the_published_ciphertexts_and_opens_them) {
    for (const Vector& v : kVectors) {
        SCOPED_TRACE(v.name);
        const Aead aead(raw(v.key));
        const std::string sealed = aead.seal(raw(v.nonce), raw(v.plain), raw(v.associated));
        EXPECT_EQ(to_hex(sealed), std::string(v.ciphertext) + v.tag);
        const auto opened = aead.open(raw(v.nonce), sealed, raw(v.associated));
        ASSERT_TRUE(opened);
        EXPECT_EQ(to_hex(opened->view()), v.plain);
    }
}

TEST(Aead, does_not_open_when_any_bit_differs) {
    const Aead aead(raw(kKey));
    const std::string nonce = raw("cafebabefacedbaddecaf888");
    const std::string sealed = aead.seal(nonce, "sk-test-1", "row");
    for (std::size_t bit = 0; bit < sealed.size() * 8; ++bit) {
        std::string damaged = sealed;
        damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
        EXPECT_FALSE(aead.open(nonce, damaged, "row")) << bit;
    }
    EXPECT_FALSE(aead.open(nonce, sealed, "Row"));
    EXPECT_FALSE(aead.open(raw("cafebabefacedbaddecaf889"), sealed, "row"));
    EXPECT_FALSE(Aead(raw(kZeroKey)).open(nonce, sealed, "row"));
    for (std::size_t size = 0; size < sealed.size(); ++size)
        EXPECT_FALSE(aead.open(nonce, sealed.substr(0, size), "row")) << size;
    EXPECT_TRUE(aead.open(nonce, sealed, "row")) << "a refusal must not spoil the context";
}

TEST(Aead, refuses_keys_and_nonces_of_another_length) {
    EXPECT_THROW(Aead("short"), std::runtime_error);
    const Aead aead(raw(kKey));
    EXPECT_THROW(aead.seal("short", "", ""), std::runtime_error);
    EXPECT_THROW(aead.open("short", std::string(16, 'x'), ""), std::runtime_error);
}

TEST(Aead, random_bytes_differ) {
    EXPECT_EQ(random_bytes(12).size(), 12u);
    EXPECT_NE(random_bytes(12), random_bytes(12));
}

}  // namespace
}  // namespace mrprompt
