// The libpq store without a server: how it waits for one. With a server it is tested end to end, in test/t.
#include "store/pq_store.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine_twins.hpp"

namespace mrprompt {
namespace {

constexpr char kNowhere[] = "host=/nonexistent dbname=app user=u connect_timeout=1";

TEST(StorePqStore, a_database_that_is_away_is_tried_again_with_growing_patience_and_one_line) {
    test::FakeClock clock;
    std::vector<std::string> log;
    PqStore store(kNowhere, KeyOpener(""), clock, [&](std::string_view line) { log.emplace_back(line); });
    std::vector<std::int64_t> pauses;
    for (int turn = 0; turn < 200 && pauses.size() < 9; ++turn) {
        store.pump();
        EXPECT_FALSE(store.ready());
        if (store.fd() >= 0) continue;
        pauses.push_back(store.deadline() - clock.now);
        clock.now = store.deadline();
    }
    EXPECT_EQ(pauses, (std::vector<std::int64_t>{100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000}));
    ASSERT_EQ(log.size(), 1u);
    EXPECT_NE(log[0].find("/nonexistent"), std::string::npos);
}

TEST(StoreKeyOpener, a_fetcher_without_master_keys_says_so) {
    KeyOpener opener("");
    EXPECT_FALSE(opener.read());
    const OpenedKey key = opener.open("mrp1.k1.AAAA", {}, 0);
    EXPECT_FALSE(key.opened);
    EXPECT_NE(key.reason.find("--master-key-file"), std::string::npos);
}

class StoreKeyFile : public ::testing::Test {
protected:
    void write_file(const std::string& text) {
        FILE* file = fopen(path.c_str(), "w");
        ASSERT_NE(file, nullptr);
        fputs(text.c_str(), file);
        fclose(file);
        chmod(path.c_str(), 0600);
    }
    ~StoreKeyFile() override { unlink(path.c_str()); }
    const std::string path = ::testing::TempDir() + "mrprompt-key-opener-" + std::to_string(getpid());
    const std::string first = "k1:" + std::string(64, 'a') + "\n";
    const std::string second = "k2:" + std::string(64, 'b') + "\n";
    const Binding binding{"00000000-0000-7000-8000-000000000001", "", "openai"};
};

TEST_F(StoreKeyFile, the_keys_beside_a_claim_open_with_their_own_binding_only) {
    write_file(first);
    auto keyring = Keyring::read_file(path);
    ASSERT_TRUE(keyring) << keyring.error().message;
    const auto sealed = seal(*keyring, Secret("sk-test-opener"), binding);
    ASSERT_TRUE(sealed);
    KeyOpener opener(path);
    ASSERT_FALSE(opener.read());
    const auto keys =
        open_keys(opener, Json::array({binding.key_id, binding.key_id}), Json::array({nullptr, nullptr}),
                  Json::array({"openai", "groq"}), Json::array({*sealed, *sealed}), 0);
    ASSERT_EQ(keys.size(), 2u);
    EXPECT_TRUE(keys[0].opened) << keys[0].reason;
    EXPECT_EQ(keys[0].key.view(), "sk-test-opener");
    EXPECT_FALSE(keys[1].opened);
    EXPECT_FALSE(keys[1].reason.empty());
}

TEST_F(StoreKeyFile, an_unknown_master_key_makes_it_read_the_file_once_more) {
    write_file(first);
    KeyOpener opener(path);
    ASSERT_FALSE(opener.read());
    write_file(first + second);
    auto keyring = Keyring::read_file(path);
    ASSERT_TRUE(keyring);
    const auto sealed = seal(*keyring, Secret("sk-test-rotated"), binding);
    ASSERT_TRUE(sealed);
    EXPECT_TRUE(opener.open(*sealed, binding, 1'000).opened);
}

TEST_F(StoreKeyFile, a_keyring_that_others_can_read_is_refused) {
    write_file(first);
    chmod(path.c_str(), 0644);
    KeyOpener opener(path);
    EXPECT_TRUE(opener.read());
}

}  // namespace
}  // namespace mrprompt
