// How large the pieces of a stream may be, and how many.
#include "engine_twins.hpp"

namespace mrprompt {
namespace {

using EngineStreamLimits = test::EngineTest;
using test::uuid;

const Json kSettled = {{"busy", Json::array()}, {"stale", Json::array()}, {"rejected", Json::array()}};

std::vector<std::string> contents(const Json& deltas) {
    std::vector<std::string> texts;
    for (const Json& delta : deltas) texts.push_back(string_member(delta, "content"));
    return texts;
}
using Texts = std::vector<std::string>;

TEST_F(EngineStreamLimits, gathered_text_is_split_into_pieces_that_keep_the_limit) {
    make();
    greet({{"max_delta_bytes", 6}, {"delta_ms", 50}});
    give({job(1)});
    const std::uint64_t id = transport.order[0];
    stream_head(id);
    for (const char* text : {"ab", "cd", "ef", "gh", "ijklmn", "o"}) say(id, text);
    step();
    pass(50);
    const Json deltas = expect(CallKind::append)["deltas"];
    EXPECT_EQ(contents(deltas), (Texts{"abcdef", "gh", "ijklmn", "o"}));
    for (std::size_t i = 0; i < deltas.size(); ++i) EXPECT_EQ(deltas[i]["seq"], i + 1);
}

TEST_F(EngineStreamLimits, events_that_arrive_together_are_many_pieces) {
    make();
    greet({{"max_delta_bytes", 4}});
    give({job(1)});
    const std::uint64_t id = transport.order[0];
    stream_head(id);
    std::string bytes;
    for (const char* text : {"abcd", "efgh", "i"}) {
        bytes += std::string("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"") + text +
                 "\"}}]}\r\n\r\n";
    }
    transport.body(id, bytes);
    finish_stream(id);
    step();
    const Json outcome = expect(CallKind::settle)["outcomes"][0];
    EXPECT_EQ(outcome["result"], "succeeded");
    EXPECT_EQ(contents(outcome["deltas"]), (Texts{"abcd", "efgh", "i"}));
    EXPECT_EQ(outcome["response"]["content"], "abcdefghi");
}

TEST_F(EngineStreamLimits, a_single_piece_above_the_limit_ends_the_request_for_good) {
    make();
    greet({{"max_delta_bytes", 6}});
    give({job(1)});
    const std::uint64_t id = transport.order[0];
    stream_head(id);
    say(id, "fits");
    say(id, "too much");
    say(id, "more");
    step();
    EXPECT_TRUE(transport.cancelled.contains(id));
    const Json outcome = expect(CallKind::settle)["outcomes"][0];
    EXPECT_EQ(outcome["result"], "failed");
    EXPECT_EQ(outcome["error"]["type"], "delta_too_large");
    const std::string message = outcome["error"]["message"];
    EXPECT_NE(message.find("6 bytes"), std::string::npos) << message;
    EXPECT_NE(message.find("mrprompt.max_delta"), std::string::npos) << message;
    EXPECT_EQ(contents(outcome["deltas"]), (Texts{"fits"}));
    EXPECT_TRUE(outcome["cooldown"].is_null());
    EXPECT_EQ(outcome["usage"]["estimated"], true);
}

TEST_F(EngineStreamLimits, the_arguments_of_a_tool_call_count_as_text_does) {
    make();
    greet({{"max_delta_bytes", 8}});
    give({job(1)});
    const std::uint64_t id = transport.order[0];
    stream_head(id);
    transport.body(id,
                   "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c\","
                   "\"function\":{\"name\":\"f\",\"arguments\":\"123456789\"}}]}}]}\n\n");
    step();
    EXPECT_EQ(expect(CallKind::settle)["outcomes"][0]["error"]["type"], "delta_too_large");
}

TEST_F(EngineStreamLimits, a_piece_that_only_the_end_brings_keeps_the_limit_too) {
    make();
    greet({{"max_delta_bytes", 6}});
    give({job(1)});
    const std::uint64_t id = transport.order[0];
    transport.head(id, 200, {{"content-type", "application/json"}});
    transport.body(
        id, R"({"choices":[{"index":0,"message":{"content":"a whole answer"},"finish_reason":"stop"}]})");
    transport.end(id);
    step();
    const Json outcomes = expect(CallKind::settle)["outcomes"];
    ASSERT_EQ(outcomes.size(), 1u);
    EXPECT_EQ(outcomes[0]["error"]["type"], "delta_too_large");
}

TEST_F(EngineStreamLimits, a_request_that_does_not_stream_has_no_such_limits) {
    make();
    greet({{"max_delta_bytes", 1}, {"max_stream_deltas", 1}});
    give({job(1, false)});
    whole_answer(transport.order[0]);
    step();
    EXPECT_EQ(expect(CallKind::settle)["outcomes"][0]["result"], "succeeded");
}

TEST_F(EngineStreamLimits, a_stream_with_more_pieces_than_allowed_ends_for_good) {
    make();
    greet({{"max_stream_deltas", 2}, {"delta_ms", 50}, {"heartbeat_ms", 60000}});
    give({job(1)});
    const std::uint64_t id = transport.order[0];
    stream_head(id);
    for (const char* text : {"one", "two"}) {
        say(id, text);
        step();
        pass(50);
        EXPECT_EQ(contents(expect(CallKind::append)["deltas"]), (Texts{text}));
        answer({{"lost", Json::array()}});
    }
    EXPECT_TRUE(transport.running.contains(id));
    say(id, "three");
    step();
    EXPECT_TRUE(transport.cancelled.contains(id));
    const Json outcome = expect(CallKind::settle)["outcomes"][0];
    EXPECT_EQ(outcome["result"], "failed");
    EXPECT_EQ(outcome["error"]["type"], "stream_too_long");
    const std::string message = outcome["error"]["message"];
    EXPECT_NE(message.find("2 pieces"), std::string::npos) << message;
    EXPECT_NE(message.find("mrprompt.max_stream"), std::string::npos) << message;
    EXPECT_TRUE(outcome["deltas"].empty());
}

TEST_F(EngineStreamLimits, a_stream_of_just_as_many_pieces_succeeds) {
    make();
    greet({{"max_stream_deltas", 2}, {"max_delta_bytes", 3}});
    give({job(1)});
    stream_head(transport.order[0]);
    say(transport.order[0], "one");
    say(transport.order[0], "two");
    finish_stream(transport.order[0]);
    step();
    const Json outcome = expect(CallKind::settle)["outcomes"][0];
    EXPECT_EQ(outcome["result"], "succeeded");
    EXPECT_EQ(contents(outcome["deltas"]), (Texts{"one", "two"}));
}

TEST_F(EngineStreamLimits, an_append_takes_a_long_wait_in_several_calls) {
    make();
    greet({{"max_delta_bytes", 1}, {"delta_ms", 50}, {"heartbeat_ms", 60000}});
    give({job(1)});
    const std::uint64_t id = transport.order[0];
    stream_head(id);
    for (int i = 0; i < 3'000; ++i) say(id, "x");
    step();
    pass(50);
    int seq = 0;
    while (seq < 3'000) {
        const Json deltas = expect(CallKind::append)["deltas"];
        ASSERT_LE(deltas.size(), 2'000u);
        for (const Json& delta : deltas) ASSERT_EQ(delta["seq"], ++seq);
        answer({{"lost", Json::array()}});
        if (store.busy && store.calls.back().first != CallKind::append) settle_down();
        if (!store.busy) step();
    }
    EXPECT_EQ(seq, 3'000);
}

}  // namespace
}  // namespace mrprompt
