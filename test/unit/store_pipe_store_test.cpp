// The pipe store against the other end of a socketpair, with the supervisor played by hand.
#include "store/pipe_store.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace mrprompt {
namespace {

class StorePipeStore : public ::testing::Test {
protected:
    StorePipeStore() {
        int ends[2];
        EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        other = ends[1];
        fcntl(other, F_SETFL, O_NONBLOCK);
        store.emplace(ends[0]);
    }
    ~StorePipeStore() override { close(other); }

    void send_all(std::string_view bytes) {
        while (!bytes.empty()) {
            const ssize_t count = send(other, bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (count > 0) bytes.remove_prefix(static_cast<std::size_t>(count));
            store->pump();
        }
        store->pump();
    }
    void send_frame(FrameKind kind, std::string_view payload) {
        FrameWriter writer;
        ASSERT_TRUE(writer.append(kind, payload));
        send_all(writer.pending());
    }
    // What the store has sent, as one frame.
    std::pair<FrameKind, std::string> received() {
        for (int turn = 0; turn < 100'000; ++turn) {
            if (auto frame = reader.next()) return {frame->kind, std::string(frame->payload)};
            const auto room = reader.room(1 << 16);
            const ssize_t count = recv(other, room.data(), room.size(), 0);
            if (count > 0) reader.added(static_cast<std::size_t>(count));
            store->pump();
        }
        return {};
    }

    int other = -1;
    FrameReader reader;
    std::optional<PipeStore> store;
};

TEST_F(StorePipeStore, a_call_and_its_reply_with_keys_come_across) {
    EXPECT_TRUE(store->ready());
    store->call(CallKind::claim, "{\"room\":1}");
    EXPECT_FALSE(store->ready());
    EXPECT_EQ(received(), (std::pair{FrameKind::claim, std::string("{\"room\":1}")}));
    std::vector<OpenedKey> keys(2);
    keys[0].opened = true;
    keys[0].key = Secret("sk-test-pipe");
    keys[1].reason = "no such master key";
    FrameWriter writer;
    ASSERT_TRUE(writer.append_reply(keys, "{\"jobs\":[]}"));
    send_all(writer.pending());
    const auto reply = store->reply();
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->kind, CallKind::claim);
    EXPECT_EQ(reply->sqlstate, "");
    EXPECT_EQ(reply->body, "{\"jobs\":[]}");
    ASSERT_EQ(reply->keys.size(), 2u);
    EXPECT_EQ(reply->keys[0].key.view(), "sk-test-pipe");
    EXPECT_EQ(reply->keys[1].reason, "no such master key");
    EXPECT_TRUE(store->ready());
    EXPECT_FALSE(store->reply());
}

TEST_F(StorePipeStore, an_error_frame_is_a_reply_with_its_sqlstate) {
    store->call(CallKind::settle, "{}");
    send_frame(FrameKind::error, R"({"sqlstate":"55P03","message":"lock not available"})");
    const auto reply = store->reply();
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->sqlstate, "55P03");
    EXPECT_EQ(reply->body, "lock not available");
}

TEST_F(StorePipeStore, a_wake_is_told_once) {
    EXPECT_FALSE(store->take_wake());
    send_frame(FrameKind::wake, "");
    EXPECT_TRUE(store->take_wake());
    EXPECT_FALSE(store->take_wake());
}

TEST_F(StorePipeStore, a_call_larger_than_the_socket_buffer_never_blocks) {
    const std::string large(8 << 20, 'x');
    store->call(CallKind::settle, large);
    EXPECT_EQ(store->events(), POLLIN | POLLOUT);
    EXPECT_EQ(received().second.size(), large.size());
    EXPECT_EQ(store->events(), POLLIN);
}

TEST_F(StorePipeStore, a_reply_in_single_bytes_comes_out_whole) {
    store->call(CallKind::tend, "{}");
    FrameWriter writer;
    ASSERT_TRUE(writer.append_reply({}, "{\"did\":0}"));
    for (char byte : writer.pending()) {
        EXPECT_FALSE(store->reply());
        send_all({&byte, 1});
    }
    EXPECT_EQ(store->reply()->body, "{\"did\":0}");
}

TEST_F(StorePipeStore, a_stop_frame_a_closed_end_and_nonsense_all_ask_to_stop) {
    send_frame(FrameKind::stop, "");
    EXPECT_TRUE(store->stop_asked());
    EXPECT_FALSE(store->ready());
    for (const bool close_it : {true, false}) {
        int ends[2];
        ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
        PipeStore lost(ends[0]);
        if (!close_it) {
            ASSERT_EQ(write(ends[1], "GET / HTTP/1.1\r\n\r\n", 18), 18);
        }
        if (close_it) close(ends[1]);
        lost.pump();
        EXPECT_TRUE(lost.stop_asked());
        if (!close_it) close(ends[1]);
    }
}

TEST_F(StorePipeStore, an_answer_that_nobody_asked_for_asks_to_stop) {
    send_frame(FrameKind::error, "{}");
    EXPECT_TRUE(store->stop_asked());
    EXPECT_FALSE(store->reply());
}

}  // namespace
}  // namespace mrprompt
