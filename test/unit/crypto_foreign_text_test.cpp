// Ciphertexts made by Python's cryptography.hazmat AESGCM open here, in whatever base64 they travelled.
#include "crypto/foreign_text.hpp"

#include <gtest/gtest.h>

#include <string>

#include "freed_memory.hpp"

namespace mrprompt {
namespace {

const std::string kKey = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const std::string kKeyBase64 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const std::string kPlain = "sk-test-python-0001";
const std::string kUnbound = "ZGVmZ2hpamtsbW5vO3DzEhyaIrNOGyuAtQtHzXLyN6Bwj/YBKM7uJjeE1mZ0S70=";
const std::string kBound = "ZGVmZ2hpamtsbW5vO3DzEhyaIrNOGyuAtQtHzXLyN5DOR9hP5pXYo1Ht4icMKnU=";

std::string why_not(std::string_view ciphertext, std::string_view key, std::string_view associated = {}) {
    const auto opened = open_foreign(ciphertext, key, associated);
    return opened ? "" : opened.error().type;
}

TEST(ForeignText, opens_what_python_sealed) {
    const auto opened = open_foreign(kUnbound, kKey, "");
    ASSERT_TRUE(opened);
    EXPECT_EQ(opened->view(), kPlain);
    const auto bound = open_foreign(kBound, kKeyBase64, "tenant 7");
    ASSERT_TRUE(bound);
    EXPECT_EQ(bound->view(), kPlain);
}

TEST(ForeignText, takes_base64_of_either_alphabet_with_breaks_and_without_padding) {
    std::string url_safe = kUnbound;
    for (char& c : url_safe) c = c == '/' ? '_' : c == '+' ? '-' : c;
    url_safe.erase(url_safe.find('='));
    url_safe.insert(20, "\r\n ");
    EXPECT_EQ(why_not(url_safe, kKeyBase64.substr(0, 43)), "");
}

TEST(ForeignText, says_what_is_wrong) {
    EXPECT_EQ(why_not(kUnbound, kKey, "tenant 7"), "does_not_open");
    EXPECT_EQ(why_not(kBound, kKey), "does_not_open");
    EXPECT_EQ(why_not(kUnbound, std::string(64, '0')), "does_not_open");
    for (const char* key : {"", "short", "0001", "AAECAwQFBgcICQoLDA0ODw=="})
        EXPECT_EQ(why_not(kUnbound, key), "bad_key");
    for (const char* text : {"", "====", "no base64", "AAAA", "ZGVmZ2hpamtsbW5vO3DzEhyaIrNOGyuAtQtH"})
        EXPECT_EQ(why_not(text, kKey), "malformed");
}

TEST(ForeignText, of_a_wrong_length_leaves_no_copy_of_the_key_in_memory) {
    const std::string_view begun = std::string_view(kKeyBase64).substr(0, 40);
    const FreedMemory freed(begun);
    for (std::size_t length = 41; length <= 44; ++length)
        why_not(kUnbound, std::string_view(kKeyBase64).substr(0, length));
    EXPECT_FALSE(freed.held_secret());
    delete new std::string(begun);
    EXPECT_TRUE(freed.held_secret()) << "the test cannot see what is freed";
}

}  // namespace
}  // namespace mrprompt
