// Answers that are decided before their connection ends.
#include "engine_twins.hpp"

namespace mrprompt {
namespace {

class EngineEarlyEnd : public test::EngineTest {
protected:
    // One request in flight; its transfer.
    std::uint64_t begin(bool stream = true) {
        make();
        greet();
        give({job(1, stream)});
        step();
        return transport.order[0];
    }
    Json outcome() { return expect(CallKind::settle)["outcomes"][0]; }
};

TEST_F(EngineEarlyEnd, an_error_in_a_stream_ends_it_whatever_else_comes) {
    const std::uint64_t id = begin();
    stream_head(id);
    transport.body(id, "data: {\"error\":{\"message\":\"boom\",\"type\":\"kaputt\"}}\n\n: more to come\n\n");
    step();
    EXPECT_TRUE(transport.cancelled.contains(id));
    EXPECT_EQ(outcome()["error"]["type"], "kaputt");
    EXPECT_EQ(outcome()["error"]["message"], "boom");
}

TEST_F(EngineEarlyEnd, an_error_status_ends_it_when_enough_was_said) {
    const std::uint64_t id = begin(false);
    transport.head(id, 503, {});
    for (int i = 0; i < 10; ++i) transport.body(id, std::string(100'000, 'x'));
    step();
    EXPECT_TRUE(transport.cancelled.contains(id));
    EXPECT_EQ(outcome()["result"], "retry");
    EXPECT_EQ(outcome()["error"]["status"], 503);
}

TEST_F(EngineEarlyEnd, a_whole_answer_waits_a_second_for_the_end_of_its_connection) {
    const std::uint64_t id = begin();
    stream_head(id);
    say(id, "hello");
    transport.body(id, "data: [DONE]\n\n");
    step();
    store_pieces();
    const std::int64_t due = fetcher->deadline();
    EXPECT_LE(due, clock.now + 1'000);
    clock.now += 999;
    transport.body(id, ": still there\n\n");
    step();
    settle_down();
    EXPECT_FALSE(transport.cancelled.contains(id));
    pass(1);
    EXPECT_TRUE(transport.cancelled.contains(id));
    EXPECT_EQ(outcome()["result"], "succeeded");
    EXPECT_EQ(outcome()["response"]["content"], "hello");
}

TEST_F(EngineEarlyEnd, an_answer_that_ended_leaves_no_deadline_behind) {
    const std::uint64_t id = begin();
    whole_answer(id);
    step();
    EXPECT_EQ(outcome()["result"], "succeeded");
    answer({{"busy", Json::array()}, {"stale", Json::array()}, {"rejected", Json::array()}});
    settle_down();
    pass(300);
    settle_down();
    EXPECT_GT(fetcher->deadline(), clock.now + 1'000);
    EXPECT_FALSE(transport.cancelled.contains(id));
}

TEST_F(EngineEarlyEnd, a_compressed_answer_is_refused_by_its_head) {
    const std::uint64_t id = begin();
    transport.head(id, 200, {{"content-encoding", "x-gzip"}});
    step();
    EXPECT_TRUE(transport.cancelled.contains(id));
    EXPECT_EQ(outcome()["result"], "failed");
    EXPECT_EQ(outcome()["error"]["type"], "bad_response");
    EXPECT_EQ(outcome()["error"]["message"], "the answer is compressed (gzip), which was not asked for");
}

TEST_F(EngineEarlyEnd, a_compressed_error_still_goes_by_its_status) {
    const std::uint64_t id = begin();
    transport.head(id, 429, {{"content-encoding", "br"}, {"retry-after", "7"}});
    step();
    EXPECT_EQ(outcome()["result"], "retry");
    EXPECT_EQ(outcome()["retry_after_ms"], 7'000);
    EXPECT_EQ(outcome()["error"]["message"],
              "HTTP 429; what it says is compressed (br), which was not asked for");
}

TEST_F(EngineEarlyEnd, an_encoding_that_is_none_is_nothing) {
    const std::uint64_t id = begin();
    transport.head(id, 200, {{"content-encoding", "UTF-8"}});
    say(id, "hello");
    finish_stream(id);
    step();
    EXPECT_EQ(outcome()["result"], "succeeded");
}

TEST_F(EngineEarlyEnd, a_connection_that_ends_without_a_head_says_so) {
    const std::uint64_t id = begin();
    transport.end(id);
    step();
    EXPECT_EQ(outcome()["error"]["type"], "connection_broken");
    EXPECT_EQ(outcome()["error"]["message"], "the connection ended before the head of an answer was whole");
}

}  // namespace
}  // namespace mrprompt
