// What an attempt that was broken off is said to have cost.
#include "engine/estimate.hpp"
#include "engine_twins.hpp"

namespace mrprompt {
namespace {

using EngineEstimate = test::EngineTest;
using test::uuid;

std::int64_t quarter(std::size_t bytes) {
    return static_cast<std::int64_t>((bytes + 3) / 4);
}

TEST_F(EngineEstimate, the_providers_own_figures_are_no_estimate) {
    make();
    greet();
    give({job(1)});
    whole_answer(transport.order[0]);
    step();
    const Json usage = expect(CallKind::settle)["outcomes"][0]["usage"];
    EXPECT_EQ(usage["completion_tokens"], 2);
    EXPECT_EQ(usage["estimated"], false);
    EXPECT_TRUE(usage["service_tier"].is_null() && usage["provider_cost"].is_null()) << "nobody said them";
}

TEST_F(EngineEstimate, what_decides_the_price_is_told_with_them) {
    make();
    greet();
    give({job(1)});
    const std::uint64_t id = transport.order[0];
    stream_head(id);
    transport.body(
        id,
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\n\n"
        "data: {\"choices\":[],\"service_tier\":\"flex\",\"usage\":{\"prompt_tokens\":9,"
        "\"completion_tokens\":5,\"cost\":0.00125,\"prompt_tokens_details\":{\"audio_tokens\":4},"
        "\"completion_tokens_details\":{\"audio_tokens\":3}}}\n\n"
        "data: [DONE]\n\n");
    transport.end(id);
    step();
    EXPECT_EQ(
        dump_json(expect(CallKind::settle)["outcomes"][0]["usage"]),
        R"({"prompt_tokens":9,"completion_tokens":5,"cached_tokens":0,"cache_write_tokens":0,)"
        R"("cache_write_1h_tokens":0,"reasoning_tokens":0,"audio_prompt_tokens":4,)"
        R"("audio_completion_tokens":3,"service_tier":"flex","provider_cost":0.00125,"estimated":false})");
}

TEST_F(EngineEstimate, a_cut_stream_tells_its_service_tier_but_no_cost_of_a_part) {
    make();
    greet();
    give({job(1), job(2)});
    for (const std::uint64_t id : transport.order) {
        stream_head(id);
        transport.body(id, "data: {\"service_tier\":\"priority\",\"choices\":[]}\n\n");
        say(id, "123456789");
    }
    transport.body(transport.order[1],
                   "data: {\"choices\":[],\"usage\":{\"completion_tokens\":1,\"cost\":0.5}}\n\n");
    for (const std::uint64_t id : transport.order) transport.end(id, TransferEnd::broken, "reset");
    step();
    const Json outcomes = expect(CallKind::settle)["outcomes"];
    ASSERT_EQ(outcomes.size(), 2u);
    for (const Json& outcome : outcomes) {
        EXPECT_EQ(outcome["usage"]["estimated"], true);
        EXPECT_EQ(outcome["usage"]["service_tier"], "priority");
        EXPECT_TRUE(outcome["usage"]["provider_cost"].is_null());
    }
}

TEST_F(EngineEstimate, a_cut_stream_costs_by_what_was_sent_and_seen) {
    make();
    greet();
    give({job(1), job(2), job(3)});
    for (const std::uint64_t id : transport.order) {
        stream_head(id);
        say(id, "123456789");
    }
    transport.end(transport.order[0], TransferEnd::broken, "reset");
    transport.end(transport.order[1]);
    transport.end(transport.order[2], TransferEnd::timeout_idle, "silence");
    step();
    const Json outcomes = expect(CallKind::settle)["outcomes"];
    ASSERT_EQ(outcomes.size(), 3u);
    for (const Json& outcome : outcomes) {
        EXPECT_EQ(outcome["result"], "retry");
        EXPECT_EQ(outcome["usage"]["estimated"], true);
        EXPECT_EQ(outcome["usage"]["completion_tokens"], 3);
        EXPECT_EQ(outcome["usage"]["prompt_tokens"], quarter(transport.bodies[transport.order[0]].size()));
        EXPECT_EQ(outcome["usage"]["cached_tokens"], 0);
        EXPECT_TRUE(outcome["raw_usage"].is_null());
    }
}

TEST_F(EngineEstimate, so_does_a_cancelled_one_with_its_reasoning_and_its_tool_calls) {
    make();
    greet();
    give({job(1)});
    const std::uint64_t id = transport.order[0];
    stream_head(id);
    transport.body(
        id,
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"1234\",\"tool_calls\":[{"
        "\"index\":0,\"id\":\"c\",\"function\":{\"name\":\"five5\",\"arguments\":\"{}\"}}]}}]}\n\n");
    step();
    store_pieces();
    store.wake = true;
    step();
    expect(CallKind::claim);
    answer({{"jobs", Json::array()}, {"cancel", {uuid(1)}}});
    const Json outcome = expect(CallKind::settle)["outcomes"][0];
    EXPECT_EQ(outcome["result"], "cancelled");
    EXPECT_EQ(outcome["usage"]["completion_tokens"], quarter(4 + 5 + 2));
    EXPECT_EQ(outcome["usage"]["estimated"], true);
}

TEST_F(EngineEstimate, where_nothing_went_or_nothing_was_done_nothing_is_said) {
    make();
    greet();
    give({job(1), job(2), job(3), job(4)});
    transport.end(transport.order[0], TransferEnd::connect_failed, "refused");
    error_answer(transport.order[1], 500, R"({"message":"down"})");
    transport.head(transport.order[2], 302, {{"location", "https://elsewhere.test"}});
    transport.end(transport.order[2]);
    step();
    Json outcomes = expect(CallKind::settle)["outcomes"];
    ASSERT_EQ(outcomes.size(), 3u);
    for (const Json& outcome : outcomes) EXPECT_TRUE(outcome["usage"].is_null());
    EXPECT_EQ(outcomes[0]["sent"], false);
    EXPECT_EQ(outcomes[1]["sent"], true);
    answer({{"busy", Json::array()}});
    store.wake = true;
    step();
    expect(CallKind::claim);
    answer({{"jobs", Json::array()}, {"cancel", {uuid(4)}}});
    const Json cancelled = expect(CallKind::settle)["outcomes"][0];
    EXPECT_EQ(cancelled["result"], "cancelled");
    EXPECT_EQ(cancelled["sent"], false) << "it was still connecting";
    EXPECT_TRUE(cancelled["usage"].is_null());
}

TEST_F(EngineEstimate, what_went_there_costs_though_nothing_came_back) {
    make();
    greet();
    give({job(1), job(2), job(3), job(4)});
    for (const std::uint64_t id : transport.order) transport.sent(id);
    transport.end(transport.order[0], TransferEnd::timeout_first_byte, "silence");
    transport.end(transport.order[1], TransferEnd::timeout_total, "too long");
    stream_head(transport.order[2]);
    transport.end(transport.order[2], TransferEnd::broken, "reset");
    step();
    Json outcomes = expect(CallKind::settle)["outcomes"];
    ASSERT_EQ(outcomes.size(), 3u);
    answer({{"busy", Json::array()}});
    store.wake = true;
    step();
    expect(CallKind::claim);
    answer({{"jobs", Json::array()}, {"cancel", {uuid(4)}}});
    outcomes.push_back(expect(CallKind::settle)["outcomes"][0]);
    for (const Json& outcome : outcomes) {
        EXPECT_EQ(outcome["sent"], true);
        EXPECT_EQ(outcome["usage"]["prompt_tokens"], quarter(transport.bodies[transport.order[0]].size()));
        EXPECT_EQ(outcome["usage"]["completion_tokens"], 0);
        EXPECT_EQ(outcome["usage"]["estimated"], true);
    }
}

TEST_F(EngineEstimate, a_whole_answer_without_figures_is_estimated) {
    make();
    greet();
    give({job(1), job(2)});
    const std::string nought = R"("usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0})";
    for (const std::uint64_t id : transport.order) {
        stream_head(id);
        say(id, "hello");
        if (id == transport.order[1]) transport.body(id, "data: {\"choices\":[]," + nought + "}\n\n");
        transport.body(id, "data: [DONE]\n\n");
        transport.end(id);
    }
    step();
    const Json outcomes = expect(CallKind::settle)["outcomes"];
    ASSERT_EQ(outcomes.size(), 2u);
    for (const Json& outcome : outcomes) {
        EXPECT_EQ(outcome["result"], "succeeded");
        EXPECT_EQ(outcome["usage"]["prompt_tokens"], quarter(transport.bodies[transport.order[0]].size()));
        EXPECT_EQ(outcome["usage"]["completion_tokens"], quarter(5));
        EXPECT_EQ(outcome["usage"]["estimated"], true);
    }
}

TEST_F(EngineEstimate, an_image_counts_the_same_however_many_bytes_it_has) {
    const std::string bytes(400'000, 'A');
    const Json images[] = {
        {{"type", "image_url"}, {"image_url", {{"url", "data:image/png;base64," + bytes}}}},
        {{"type", "input_image"}, {"image_url", "data:image/png;base64," + bytes}},
        {{"type", "image"}, {"source", {{"type", "base64"}, {"media_type", "image/png"}, {"data", bytes}}}},
        {{"type", "image_url"}, {"image_url", {{"url", "https://p.test/i.png"}}}},
    };
    for (const Json& image : images) {
        const Json payload = {
            {"messages",
             Json::array(
                 {{{"role", "user"},
                   {"content", Json::array({{{"type", "text"}, {"text", "data:, no image"}}, image})}}})}};
        const std::int64_t tokens = estimated_prompt(payload, dump_json(payload).size());
        EXPECT_GT(tokens, 1'000);
        EXPECT_LT(tokens, 1'100) << image["type"];
    }
    const Json text = {
        {"messages",
         Json::array({{{"role", "user"},
                       {"content", Json::array({{{"type", "text"}, {"text", "data:" + bytes}}})}}})}};
    EXPECT_GT(estimated_prompt(text, dump_json(text).size()), 100'000) << "text is text";
}

TEST_F(EngineEstimate, figures_that_came_before_the_end_are_kept_and_the_answer_is_estimated) {
    make();
    greet();
    give({job(1), job(2), job(3)}, {{"protocol", "anthropic"}, {"auth", "x-api-key"}});
    const std::string start =
        "data: "
        "{\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":25,\"output_tokens\":4}}}\n\n"
        "data: {\"type\":\"content_block_start\",\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n";
    const auto text = [](const std::string& words) {
        return "data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"" +
               words + "\"}}\n\n";
    };
    for (const std::uint64_t id : transport.order) {
        stream_head(id);
        transport.body(id, start);
    }
    transport.body(transport.order[0], text(std::string(100, 'x')));
    transport.body(transport.order[1], text("hi"));
    transport.body(transport.order[2], text(std::string(100, 'x')));
    transport.body(transport.order[2],
                   "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{"
                   "\"output_tokens\":15}}\n\n");
    for (const std::size_t i : {0, 1}) transport.end(transport.order[i], TransferEnd::broken, "reset");
    step();
    const Json outcomes = expect(CallKind::settle)["outcomes"];
    ASSERT_EQ(outcomes.size(), 2u);
    EXPECT_EQ(outcomes[0]["usage"]["prompt_tokens"], 25);
    EXPECT_EQ(outcomes[0]["usage"]["completion_tokens"], 25);
    EXPECT_EQ(outcomes[0]["usage"]["estimated"], true);
    EXPECT_EQ(outcomes[0]["raw_usage"]["input_tokens"], 25);
    EXPECT_EQ(outcomes[1]["usage"]["completion_tokens"], 4) << "the provider's own was larger";
    EXPECT_EQ(outcomes[1]["usage"]["estimated"], true);
    answer({{"busy", Json::array()}});
    store_pieces();
    store.wake = true;
    step();
    expect(CallKind::claim);
    answer({{"jobs", Json::array()}, {"cancel", {uuid(3)}}});
    const Json last = expect(CallKind::settle)["outcomes"][0]["usage"];
    EXPECT_EQ(last["completion_tokens"], 15) << "all figures had come";
    EXPECT_EQ(last["estimated"], false);
}

}  // namespace
}  // namespace mrprompt
