// Sealed texts open where they belong, with the key they were sealed under, and nowhere else.
#include "crypto/sealed_text.hpp"

#include <gtest/gtest.h>

#include <set>

#include "crypto/digest.hpp"

namespace mrprompt {
namespace {

const std::string kOld = "old:" + std::string(64, '1');
const std::string kNew = "new:" + std::string(64, '2');
const Binding kBinding{"019a0000-0000-7000-8000-000000000001", "019a0000-0000-7000-8000-000000000002",
                       "openai"};

Keyring keyring(const std::string& text) {
    return std::move(*Keyring::parse(text));
}

std::string why_not(const Keyring& keys, std::string_view sealed, const Binding& binding) {
    const auto opened = open_sealed(keys, sealed, binding);
    return opened ? "" : opened.error().type;
}

TEST(SealedText, opens_where_it_belongs) {
    const Keyring keys = keyring(kOld + "\n" + kNew);
    for (const std::string& plain :
         {std::string(), std::string("sk-test-1"), std::string("a\0b", 3), std::string(8192, 'x')}) {
        const auto sealed = seal(keys, Secret(plain), kBinding);
        ASSERT_TRUE(sealed);
        EXPECT_TRUE(sealed->starts_with("mrp1.new."));
        EXPECT_EQ(sealed_under(*sealed), "new");
        const auto opened = open_sealed(keys, *sealed, kBinding);
        ASSERT_TRUE(opened);
        EXPECT_EQ(opened->view(), plain);
    }
}

TEST(SealedText, does_not_open_elsewhere) {
    const Keyring keys = keyring(kNew);
    const auto sealed = seal(keys, Secret("sk-test-1"), kBinding);
    EXPECT_EQ(why_not(keys, *sealed, {}), "does_not_open");
    EXPECT_EQ(why_not(keys, *sealed, {kBinding.owner, kBinding.key_id, kBinding.provider}), "does_not_open");
    EXPECT_EQ(why_not(keys, *sealed, {kBinding.key_id, "", kBinding.provider}), "does_not_open");
    EXPECT_EQ(why_not(keys, *sealed, {kBinding.key_id, kBinding.owner, "anthropic"}), "does_not_open");
    EXPECT_EQ(why_not(keys, *seal(keys, Secret("sk-test-1"), {}), kBinding), "does_not_open");
}

TEST(SealedText, fields_of_a_binding_do_not_run_together) {
    const Keyring keys = keyring(kNew);
    const auto sealed = seal(keys, Secret("sk-test-1"), {"ab", "c", ""});
    EXPECT_EQ(why_not(keys, *sealed, {"a", "bc", ""}), "does_not_open");
    EXPECT_EQ(why_not(keys, *sealed, {"ab", "", "c"}), "does_not_open");
    EXPECT_EQ(why_not(keys, *sealed, {"ab", "c", ""}), "");
}

TEST(SealedText, says_which_master_key_is_missing) {
    const auto sealed = seal(keyring(kOld), Secret("sk-test-1"), kBinding);
    const auto opened = open_sealed(keyring(kNew), *sealed, kBinding);
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().type, "unknown_master_key");
    EXPECT_NE(opened.error().message.find("\"old\""), std::string::npos);
    EXPECT_EQ(why_not(keyring("old:" + std::string(64, '3')), *sealed, kBinding), "does_not_open");
    EXPECT_EQ(why_not(keyring(kOld + "\n" + kNew), *sealed, kBinding), "");
}

TEST(SealedText, malformed_text_is_called_so) {
    const Keyring keys = keyring(kNew);
    for (const char* wrong :
         {"", "mrp1", "mrp1.", "mrp1.new", "mrp1.new.", "mrp1..AAAA", "mrp2.new.AAAA", "mrp1.new.AA=A",
          "mrp1.new.AAAA", "mrp1x.new.AAAA", "mrp1.n w.AAAA", "sk-test-1"})
        EXPECT_EQ(why_not(keys, wrong, kBinding), "malformed") << wrong;
}

TEST(SealedText, every_damaged_character_is_noticed) {
    const Keyring keys = keyring(kNew);
    const auto sealed = seal(keys, Secret("sk-test-1"), kBinding);
    for (std::size_t at = 0; at < sealed->size(); ++at) {
        std::string damaged = *sealed;
        damaged[at] = damaged[at] == 'A' ? 'B' : 'A';
        EXPECT_NE(why_not(keys, damaged, kBinding), "") << at;
    }
}

TEST(SealedText, every_nonce_is_fresh) {
    const Keyring keys = keyring(kNew);
    std::set<std::string> nonces;
    for (int i = 0; i < 1000; ++i) {
        const auto sealed = seal(keys, Secret("sk-test-1"), kBinding);
        nonces.insert(from_base64(std::string_view(*sealed).substr(9))->substr(0, kAeadNonceBytes));
    }
    EXPECT_EQ(nonces.size(), 1000u);
}

// Pins the format: what one version sealed, every later version opens.
TEST(SealedText, opens_what_version_1_sealed) {
    const auto opened = open_sealed(keyring("k1:" + std::string(64, 'a')),
                                    "mrp1.k1.ZyO4ku8SPXa8LCq+TzeaXbZjhCTSw9vnwFPgaCo71cNi/NGC/g==", kBinding);
    ASSERT_TRUE(opened) << opened.error().message;
    EXPECT_EQ(opened->view(), "sk-test-1");
}

TEST(SealedText, refuses_what_is_too_large) {
    const auto sealed = seal(keyring(kNew), Secret(std::string(kMaxSecretBytes + 1, 'x')), kBinding);
    ASSERT_FALSE(sealed);
    EXPECT_EQ(sealed.error().type, "too_large");
}

}  // namespace
}  // namespace mrprompt
