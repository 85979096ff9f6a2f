// HMAC and HKDF against the published vectors; hexadecimal and base64 are strict.
#include "crypto/digest.hpp"

#include <gtest/gtest.h>

#include "freed_memory.hpp"

namespace mrprompt {
namespace {

std::string raw(std::string_view hex) {
    return std::string(from_hex(hex)->view());
}

std::string counting(int first, int last) {
    std::string bytes;
    for (int value = first; value <= last; ++value) bytes += static_cast<char>(value);
    return bytes;
}

TEST(Digest, hmac_gives_the_vectors_of_rfc_4231) {
    EXPECT_EQ(to_hex(hmac_sha256(std::string(20, '\x0b'), "Hi There")),
              "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    EXPECT_EQ(to_hex(hmac_sha256("Jefe", "what do ya want for nothing?")),
              "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    EXPECT_EQ(to_hex(hmac_sha256("", "")),
              "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

TEST(Digest, hkdf_gives_the_vectors_of_rfc_5869) {
    EXPECT_EQ(to_hex(hkdf_sha256(std::string(22, '\x0b'), counting(0, 12), counting(0xf0, 0xf9), 42).view()),
              "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
    EXPECT_EQ(
        to_hex(hkdf_sha256(counting(0, 0x4f), counting(0x60, 0xaf), counting(0xb0, 0xff), 82).view()),
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
        "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87");
    EXPECT_EQ(to_hex(hkdf_sha256(std::string(22, '\x0b'), "", "", 42).view()),
              "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8");
}

TEST(Digest, hexadecimal_is_strict) {
    EXPECT_EQ(to_hex(std::string("\x00\xff\x1a", 3)), "00ff1a");
    EXPECT_EQ(raw("00FF1a"), std::string("\x00\xff\x1a", 3));
    EXPECT_EQ(raw(""), "");
    for (const char* wrong : {"0", "0g", "g0", " 00", "0x00", "00 "}) EXPECT_FALSE(from_hex(wrong)) << wrong;
}

TEST(Digest, base64_goes_there_and_back) {
    const char* pairs[][2] = {{"", ""},
                              {"f", "Zg=="},
                              {"fo", "Zm8="},
                              {"foo", "Zm9v"},
                              {"foob", "Zm9vYg=="},
                              {"fooba", "Zm9vYmE="},
                              {"foobar", "Zm9vYmFy"}};
    for (const auto& [plain, encoded] : pairs) {
        EXPECT_EQ(to_base64(plain), encoded);
        EXPECT_EQ(from_base64(encoded), plain);
    }
    const std::string all = counting(0, 255);
    EXPECT_EQ(from_base64(to_base64(all)), all);
}

TEST(Digest, base64_takes_one_spelling_only) {
    for (const char* wrong : {"Z", "Zg", "Zg=", "Zg===", "Zh==", "Zm9=", "Zm8", " Zg==", "Zg==\n", "Zm 9v",
                              "====", "Zg==Zg==", "Zm9v====", "Zm-_", "Z=9v"})
        EXPECT_FALSE(from_base64(wrong)) << wrong;
}

TEST(Digest, base64_that_is_wrong_at_its_end_leaves_nothing_of_its_beginning_in_memory) {
    constexpr std::string_view kTelltale = "most of a key of 32 byt";
    const FreedMemory freed(kTelltale);
    EXPECT_EQ(from_base64(to_base64(kTelltale).append("ZQ==")).has_value(), false);
    EXPECT_FALSE(freed.held_secret());
    EXPECT_TRUE(from_base64(to_base64(kTelltale)).has_value());
    EXPECT_TRUE(freed.held_secret()) << "the test cannot see what is freed";
}

}  // namespace
}  // namespace mrprompt
