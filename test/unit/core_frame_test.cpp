// Frames survive any splitting, refuse nonsense, and leave no key bytes behind.
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "core/frame.hpp"

namespace mrprompt {
namespace {

using Frames = std::vector<std::pair<FrameKind, std::string>>;

void drain(FrameReader& reader, Frames& frames) {
    while (const auto frame = reader.next()) frames.emplace_back(frame->kind, frame->payload);
}

std::string header(std::uint32_t length, std::uint8_t kind) {
    std::string bytes(kFrameHeader, '\0');
    for (int i = 0; i < 4; ++i) bytes[i] = static_cast<char>(length >> (8 * i));
    bytes[4] = static_cast<char>(kind);
    return bytes;
}

TEST(Frames, have_the_bytes_of_the_contract) {
    FrameWriter writer;
    ASSERT_TRUE(writer.append(FrameKind::claim, "{}"));
    EXPECT_EQ(writer.pending(), std::string_view("\x02\0\0\0\x02\0\0\0{}", 10));
    writer.sent(10);
    EXPECT_TRUE(writer.empty());
}

TEST(Frames, arrive_whole_in_whatever_pieces) {
    std::mt19937 random(3);
    constexpr FrameKind kKinds[] = {FrameKind::hello, FrameKind::settle, FrameKind::reply,
                                    FrameKind::error, FrameKind::wake,   FrameKind::stop};
    for (int round = 0; round < 200; ++round) {
        Frames sent, received;
        FrameWriter writer;
        for (std::size_t i = random() % 20; i > 0; --i) {
            const FrameKind kind = kKinds[random() % std::size(kKinds)];
            std::string payload(random() % 3 == 0 ? random() % 20'000 : random() % 20,
                                static_cast<char>(random()));
            ASSERT_TRUE(writer.append(kind, payload));
            sent.emplace_back(kind, std::move(payload));
        }
        FrameReader reader;
        while (!writer.empty()) {
            const std::size_t length = std::min<std::size_t>(writer.pending().size(), 1 + random() % 5000);
            const std::string_view piece = writer.pending().substr(0, length);
            if (random() % 2) {
                reader.feed(piece);
            } else {
                std::memcpy(reader.room(length).data(), piece.data(), length);
                reader.added(length);
            }
            writer.sent(length);
            if (random() % 4) drain(reader, received);
        }
        drain(reader, received);
        EXPECT_EQ(received, sent);
        EXPECT_FALSE(reader.broken());
    }
}

TEST(Frames, many_small_ones_in_one_read_take_linear_time) {
    FrameWriter writer;
    for (int i = 0; i < 200'000; ++i) ASSERT_TRUE(writer.append(FrameKind::wake, ""));
    FrameReader reader;
    reader.feed(writer.pending());
    int frames = 0;
    while (reader.next()) ++frames;
    EXPECT_EQ(frames, 200'000);
}

TEST(Frames, nonsense_breaks_the_stream_for_good) {
    std::string padded = header(0, 1);
    padded[6] = 1;
    for (const std::string& bytes :
         {header((256u << 20) + 1, 1), header(0, 0), header(0, 7), header(0, 50), padded}) {
        FrameReader reader;
        reader.feed(bytes);
        EXPECT_EQ(reader.next(), std::nullopt);
        EXPECT_TRUE(reader.broken());
        reader.feed(header(0, 1));
        EXPECT_EQ(reader.next(), std::nullopt);
    }
}

TEST(Frames, the_largest_length_is_waited_for) {
    FrameReader reader;
    reader.feed(header(256u << 20, 2));
    EXPECT_EQ(reader.next(), std::nullopt);
    EXPECT_FALSE(reader.broken());
}

TEST(Replies, carry_keys_and_reasons) {
    std::vector<OpenedKey> keys(3);
    keys[0].opened = true;
    keys[0].key = Secret("sk-test-1");
    keys[1].reason = "unknown master key";
    keys[2].opened = true;  // an empty key is a key
    FrameWriter writer;
    ASSERT_TRUE(writer.append_reply(keys, R"({"jobs":[]})"));
    FrameReader reader;
    reader.feed(writer.pending());
    const auto frame = reader.next();
    ASSERT_TRUE(frame);
    EXPECT_EQ(frame->kind, FrameKind::reply);
    const Result<ReplyPayload> reply = decode_reply(frame->payload);
    ASSERT_TRUE(reply);
    ASSERT_EQ(reply->keys.size(), 3u);
    EXPECT_TRUE(reply->keys[0].opened);
    EXPECT_EQ(reply->keys[0].key.view(), "sk-test-1");
    EXPECT_FALSE(reply->keys[1].opened);
    EXPECT_EQ(reply->keys[1].reason, "unknown master key");
    EXPECT_TRUE(reply->keys[1].key.empty());
    EXPECT_TRUE(reply->keys[2].opened);
    EXPECT_EQ(reply->json, R"({"jobs":[]})");
}

TEST(Replies, cut_anywhere_are_refused_or_shorter) {
    std::vector<OpenedKey> keys(2);
    keys[0].opened = true;
    keys[0].key = Secret("sk-test-1");
    keys[1].reason = "why";
    FrameWriter writer;
    ASSERT_TRUE(writer.append_reply(keys, "{}"));
    const std::string payload(writer.pending().substr(kFrameHeader));
    for (std::size_t length = 0; length < payload.size() - 2; ++length) {
        EXPECT_FALSE(decode_reply(std::string_view(payload).substr(0, length))) << length;
    }
    EXPECT_FALSE(
        decode_reply("\xFF\xFF\xFF\xFF"
                     "abc"));
    std::string flag = payload;
    flag[4] = 2;
    EXPECT_FALSE(decode_reply(flag));
}

TEST(WipedBuffer, consumed_bytes_are_gone_from_memory) {
    WipedBuffer buffer;
    buffer.append("sk-test-secret and more");
    const char* memory = buffer.view().data();
    buffer.consume(14);
    EXPECT_EQ(buffer.view(), " and more");
    EXPECT_EQ(std::string_view(memory, 14), std::string(14, '\0'));
}

TEST(WipedBuffer, moving_inside_leaves_nothing_behind) {
    WipedBuffer buffer;
    buffer.append(std::string(4000, 'a') + "sk-test-secret");
    const char* memory = buffer.view().data();
    buffer.consume(4000);
    (void)buffer.room(1000);
    EXPECT_EQ(buffer.view().data(), memory);
    EXPECT_EQ(buffer.view(), "sk-test-secret");
    EXPECT_EQ(std::string_view(memory, 4014).find("sk-test", 1), std::string_view::npos);
}

}  // namespace
}  // namespace mrprompt
