// The master key file: what is read, and every way in which it is refused.
#include "crypto/keyring.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

namespace mrprompt {
namespace {

const std::string kOnes(64, '1');
const std::string kTwos(64, '2');

class KeyringFile : public ::testing::Test {
protected:
    void SetUp() override {
        std::string pattern = ::testing::TempDir() + "keyring-XXXXXX";
        ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
        directory_ = pattern;
        path_ = directory_ + "/master.keys";
    }
    void TearDown() override {
        ::unlink(path_.c_str());
        ::rmdir(directory_.c_str());
    }
    void write(const std::string& text, mode_t mode = 0600) {
        std::ofstream(path_) << text;
        ASSERT_EQ(::chmod(path_.c_str(), mode), 0);
    }
    std::string directory_, path_;
};

std::string refusal(std::string_view text) {
    const auto keyring = Keyring::parse(text);
    return keyring ? "" : keyring.error().message;
}

TEST(Keyring, last_line_is_the_active_key) {
    const auto keyring = Keyring::parse("# ours\n\n2025:" + kOnes + "\r\n  \n2026-a_B:" + kTwos);
    ASSERT_TRUE(keyring);
    EXPECT_EQ(keyring->active().id, "2026-a_B");
    ASSERT_NE(keyring->find("2025"), nullptr);
    EXPECT_EQ(keyring->find("2027"), nullptr);
    EXPECT_EQ(keyring->keys().size(), 2u);
}

TEST(Keyring, fingerprint_depends_on_the_key_alone) {
    const auto one = Keyring::parse("a:" + kOnes);
    const auto other = Keyring::parse("b:" + kOnes + "\na:" + kTwos);
    EXPECT_EQ(one->active().fingerprint.size(), 16u);
    EXPECT_EQ(one->active().fingerprint, other->find("b")->fingerprint);
    EXPECT_NE(one->active().fingerprint, other->find("a")->fingerprint);
}

TEST(Keyring, wrong_lines_are_refused_by_number_and_never_shown) {
    const std::string wrong[] = {
        "nonsense",
        "k1:",
        "k1:" + kOnes.substr(1),
        "k1:" + kOnes + "0",
        "k1:" + kOnes.substr(1) + "g",
        "k1: " + kOnes,
        " k1:" + kOnes,
        "k.1:" + kOnes,
        ":" + kOnes,
        std::string(33, 'k') + ":" + kOnes,
    };
    for (const std::string& line : wrong) {
        const std::string message = refusal("# one\nk0:" + kTwos + "\n" + line + "\n");
        EXPECT_NE(message.find("line 3"), std::string::npos) << line << ": " << message;
        EXPECT_EQ(message.find("1111"), std::string::npos) << message;
    }
    EXPECT_NE(refusal("k:" + kOnes + "\nk:" + kTwos).find("earlier line"), std::string::npos);
    EXPECT_NE(refusal("# nothing\n").find("no key"), std::string::npos);
    EXPECT_NE(refusal("").find("no key"), std::string::npos);
}

TEST_F(KeyringFile, reads_a_file_of_its_owner) {
    write("k1:" + kOnes + "\n");
    const auto keyring = Keyring::read_file(path_);
    ASSERT_TRUE(keyring) << keyring.error().message;
    EXPECT_EQ(keyring->active().id, "k1");
    ASSERT_EQ(::chmod(path_.c_str(), 0400), 0);
    EXPECT_TRUE(Keyring::read_file(path_));
}

TEST_F(KeyringFile, refuses_rights_of_group_and_others) {
    for (const mode_t mode : {0640, 0620, 0604, 0601, 0666}) {
        write("k1:" + kOnes + "\n", mode);
        const auto keyring = Keyring::read_file(path_);
        ASSERT_FALSE(keyring) << mode;
        EXPECT_EQ(keyring.error().type, "permissions");
    }
}

TEST_F(KeyringFile, refuses_what_is_no_regular_file) {
    EXPECT_EQ(Keyring::read_file(path_).error().type, "unreadable");
    EXPECT_EQ(Keyring::read_file(directory_).error().type, "permissions");
    ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
    EXPECT_EQ(Keyring::read_file(path_).error().type, "permissions");
}

TEST_F(KeyringFile, refuses_a_file_of_another_user) {
    if (::geteuid() != 0) GTEST_SKIP() << "only root can give a file away";
    write("k1:" + kOnes + "\n");
    ASSERT_EQ(::chown(path_.c_str(), 12345, 12345), 0);
    EXPECT_EQ(Keyring::read_file(path_).error().type, "permissions");
}

TEST_F(KeyringFile, refuses_a_huge_file) {
    write("#" + std::string(70'000, 'x') + "\nk1:" + kOnes + "\n");
    EXPECT_EQ(Keyring::read_file(path_).error().type, "syntax");
}

}  // namespace
}  // namespace mrprompt
