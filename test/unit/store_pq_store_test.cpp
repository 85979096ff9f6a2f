// The libpq store without a database: how it waits for one, and what it does when one falls silent. With a
// database it is tested end to end, in test/t.
#include "store/pq_store.hpp"

#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine_twins.hpp"
#include "pq_server.hpp"

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

class StorePqServer : public ::testing::Test {
protected:
    void make(const std::string& version, const std::string& more = "") {
        server.emplace(version);
        store.emplace(server->dsn() + more, KeyOpener(""), clock,
                      [this](std::string_view line) { log.emplace_back(line); });
    }
    void turn() {
        store->pump();
        server->pump();
        usleep(100);
    }
    bool connect() {
        for (int turns = 0; turns < 5'000 && !store->ready(); ++turns) turn();
        return store->ready();
    }
    std::optional<Reply> reply() {
        std::optional<Reply> reply;
        for (int turns = 0; turns < 5'000 && !reply; ++turns) {
            turn();
            reply = store->reply();
        }
        return reply;
    }
    int option(int level, int name) const {
        int value = -1;
        socklen_t length = sizeof value;
        getsockopt(store->fd(), level, name, &value, &length);
        return value;
    }
    // Whatever is on its way arrives; the clock stands still.
    void settle() {
        for (int turns = 0; turns < 50; ++turns) turn();
    }

    test::FakeClock clock;
    std::vector<std::string> log;
    std::optional<test::PqServer> server;
    std::optional<PqStore> store;
};

TEST_F(StorePqServer,
       a_server_that_is_gone_without_a_word_is_noticed_by_keepalives_unless_the_dsn_says_otherwise) {
    make("15.3");
    ASSERT_TRUE(connect());
    EXPECT_EQ(option(SOL_SOCKET, SO_KEEPALIVE), 1);
    EXPECT_EQ(option(IPPROTO_TCP, TCP_KEEPIDLE), 10);
    EXPECT_EQ(option(IPPROTO_TCP, TCP_KEEPINTVL), 5);
    EXPECT_EQ(option(IPPROTO_TCP, TCP_KEEPCNT), 3);
    EXPECT_EQ(option(IPPROTO_TCP, TCP_USER_TIMEOUT), 20'000);
    make("15.3", " keepalives_idle=77 tcp_user_timeout=5000");
    ASSERT_TRUE(connect());
    EXPECT_EQ(option(IPPROTO_TCP, TCP_KEEPIDLE), 77);
    EXPECT_EQ(option(IPPROTO_TCP, TCP_KEEPINTVL), 5);
    EXPECT_EQ(option(IPPROTO_TCP, TCP_USER_TIMEOUT), 5'000);
}

TEST_F(StorePqServer, a_call_that_is_not_answered_is_given_up_and_the_connection_with_it) {
    make("15.3");
    ASSERT_TRUE(connect());
    server->silent = true;
    store->call(CallKind::settle, "{}");
    settle();
    EXPECT_EQ(server->calls.size(), 1u);
    EXPECT_EQ(store->deadline(), clock.now + 30'000);
    clock.now += 29'999;
    settle();
    EXPECT_FALSE(store->reply());
    clock.now += 1;
    const auto lost = reply();
    ASSERT_TRUE(lost);
    EXPECT_EQ(lost->sqlstate, "08006");
    EXPECT_FALSE(store->ready());
    EXPECT_EQ(log.size(), 1u);
    server->silent = false;
    clock.now = store->deadline();
    ASSERT_TRUE(connect());
    EXPECT_EQ(server->connections, 2);
    store->call(CallKind::settle, "{}");
    const auto answered = reply();
    ASSERT_TRUE(answered);
    EXPECT_EQ(answered->sqlstate, "");
    EXPECT_EQ(answered->body, "{}");
}

TEST_F(StorePqServer, a_call_has_its_time_as_long_as_something_comes) {
    make("15.3");
    ASSERT_TRUE(connect());
    server->silent = true;
    store->call(CallKind::claim, "{}");
    settle();
    clock.now += 29'000;
    server->notify();
    settle();
    EXPECT_EQ(store->deadline(), clock.now + 30'000);
    clock.now += 29'000;
    settle();
    EXPECT_FALSE(store->reply());
}

TEST_F(StorePqServer, an_answer_that_came_while_this_process_was_stopped_counts) {
    make("15.3");
    ASSERT_TRUE(connect());
    store->call(CallKind::heartbeat, "{}");
    for (int turns = 0; turns < 50; ++turns) {
        server->pump();
        usleep(100);
    }
    clock.now += 60'000;
    const auto answered = reply();
    ASSERT_TRUE(answered);
    EXPECT_EQ(answered->sqlstate, "");
}

TEST_F(StorePqServer, the_session_is_independent_of_alter_database_in_what_its_server_knows) {
    make("16.9");
    ASSERT_TRUE(connect());
    ASSERT_EQ(server->queries.size(), 1u);
    for (const char* setting : {"set lock_timeout = '1s';", "set idle_in_transaction_session_timeout = '0';",
                                "set row_security = 'on';", "set default_transaction_deferrable = 'off';"}) {
        EXPECT_NE(server->queries[0].find(setting), std::string::npos) << setting;
    }
    EXPECT_EQ(server->queries[0].find("set transaction_timeout"), std::string::npos);
    make("17.0");
    ASSERT_TRUE(connect());
    EXPECT_NE(server->queries[0].find("set transaction_timeout = '0';"), std::string::npos);
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
