// Answers that mean harm: what they cost, and that each ends as one clear error.
#include <gtest/gtest.h>

#include "provider/chat_decoder.hpp"
#include "provider_fixture.hpp"

namespace mrprompt {
namespace {

std::string times(std::size_t count, std::string_view text) {
    std::string many;
    many.reserve(count * text.size());
    for (std::size_t i = 0; i < count; ++i) many += text;
    return many;
}

Completion answer_of(const char* protocol, std::string_view body, int status = 200) {
    const std::unique_ptr<Decoder> decoder = find_protocol(protocol)->decoder(false, status, "");
    Delta none;
    decoder->feed(body, none);
    decoder->finish(none);
    return std::move(decoder->completion());
}

std::string error_of(const char* protocol, std::string_view body) {
    const Completion answer = answer_of(protocol, body);
    return answer.error ? answer.error->type + ": " + answer.error->message : "none";
}

std::string event(const std::string& json) {
    return "data: " + json + "\n\n";
}

TEST(HostileAnswer, that_is_nested_too_deeply_says_so) {
    EXPECT_EQ(error_of("openai", times(100'000, "["))
                  .find("bad_response: the answer cannot be read, as its JSON is "
                        "nested more than 128 levels deep: [[["),
              0u);
    EXPECT_NE(
        error_of("openai", event(times(100'000, "{\"a\":"))).find("an event of the stream cannot be read"),
        std::string::npos);
}

TEST(HostileAnswer, that_holds_millions_of_values_is_refused_before_they_cost_memory) {
    const std::string list = times(2'100'000, "[],");
    EXPECT_NE(error_of("openai", R"({"choices":[)" + list + "0]}").find("too many values"),
              std::string::npos);
}

TEST(HostileAnswer, is_shown_without_control_characters) {
    const std::string shown = error_of("openai", "{\x1B[2J\"a" + std::string(1, '\0') + "b\x07");
    EXPECT_EQ(shown, "bad_response: the answer is not JSON: {\uFFFD[2J\"a\uFFFDb\uFFFD");
    EXPECT_EQ(error_of("openai", "\u0080\u009B2J\u00A0\u00E9"),
              "bad_response: the answer is neither JSON nor an event stream: \uFFFD\uFFFD2J\u00A0\u00E9");
}

TEST(HostileAnswer, that_fails_without_end_fails_before_it) {
    const std::unique_ptr<Decoder> decoder = find_protocol("openai")->decoder(false, 500, "");
    Delta none;
    for (int i = 0; i < 300 && !decoder->completion().error; ++i) decoder->feed(std::string(1024, 'x'), none);
    ASSERT_TRUE(decoder->completion().error);
    EXPECT_EQ(decoder->completion().error->status, 500);
}

TEST(HostileAnswer, tells_tool_calls_of_any_index_apart) {
    std::string stream;
    for (const char* index : {"0", "2147483648", "4294967295", "4294967296"}) {
        stream += event(std::string(R"({"choices":[{"delta":{"tool_calls":[{"index":)") + index +
                        R"(,"function":{"name":"f","arguments":"["}}]}}]})");
    }
    EXPECT_EQ(answer_of("openai", stream).tool_calls.size(), 4u);
}

// Each piece once cost as much as all before it.
TEST(HostileAnswer, in_countless_pieces_of_a_tool_call_costs_no_more_than_they_are) {
    const std::string pieces = times(100'000, R"({"function":{"name":"f","arguments":"[1,1,1,"}},)");
    const Completion answer = answer_of(
        "openai", event(R"({"choices":[{"delta":{"tool_calls":[)" + pieces + "{}]}}]}") + event("[DONE]"));
    ASSERT_EQ(answer.tool_calls.size(), 1u);
    EXPECT_EQ(answer.tool_calls[0].arguments.size(), 700'000u);
}

TEST(HostileAnswer, hides_no_megabytes_in_its_figures) {
    const std::string usage =
        R"({"prompt_tokens":3,"completion_tokens":4,"more":[)" + times(100'000, "0,") + "0]}";
    const Completion answer =
        answer_of("openai", R"({"choices":[{"message":{"content":"x"},"finish_reason":"stop"}],"usage":)" +
                                usage + "}");
    ASSERT_TRUE(answer.usage);
    EXPECT_EQ(answer.usage->prompt_tokens, 3);
    EXPECT_TRUE(answer.raw_usage.is_null());
}

TEST(HostileAnswer, has_no_part_larger_than_its_whole) {
    const Usage said =
        *answer_of("openai", R"({"choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":3,)"
                             R"("completion_tokens":4,"prompt_tokens_details":{"audio_tokens":5},)"
                             R"("completion_tokens_details":{"audio_tokens":1e300}}})")
             .usage;
    EXPECT_EQ(said.audio_prompt_tokens, 3);
    EXPECT_EQ(said.audio_completion_tokens, 4);
    const Usage written = *answer_of("anthropic", R"({"content":[],"usage":{"cache_creation_input_tokens":6,)"
                                                  R"("cache_creation":{"ephemeral_1h_input_tokens":7}}})")
                               .usage;
    EXPECT_EQ(written.cache_write_1h_tokens, 6);
}

TEST(HostileAnswer, costs_a_number_that_is_not_below_zero) {
    const auto cost = [](const std::string& said) {
        return answer_of("openai",
                         R"({"choices":[{"message":{"content":"x"}}],"usage":{"cost":)" + said + "}}")
            .usage->provider_cost.dump();
    };
    for (const char* none : {"-0.1", "-1", "\"0.1\"", "null", "1e999", "{\"total\":1}", "true"})
        EXPECT_EQ(cost(none), "null") << none;
    for (const char* number : {"0", "3", "0.00014235", "0.1234567890123456"}) EXPECT_EQ(cost(number), number);
}

// Anthropic's figures add up over events; new names in each once made every one slower than the last.
TEST(HostileAnswer, gathers_no_endless_list_of_figures) {
    std::string stream = event(R"({"type":"message_start","message":{"usage":{"input_tokens":5}}})");
    for (int i = 0; i < 20'000; ++i) {
        std::string figures;
        for (int k = 0; k < 20; ++k) figures += (k ? ",\"f" : "\"f") + std::to_string(i * 20 + k) + "\":1";
        stream += event(R"({"type":"message_delta","usage":{)" + figures + "}}");
    }
    stream +=
        event(R"({"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":7}})") +
        event(R"({"type":"message_stop"})");
    const Completion answer = answer_of("anthropic", stream);
    EXPECT_TRUE(answer.complete);
    EXPECT_EQ(answer.usage->prompt_tokens, 5);
    EXPECT_EQ(answer.usage->completion_tokens, 7);
    EXPECT_LE(answer.raw_usage.size(), kMaxUsageMembers);
}

TEST(HostileAnswer, calls_nothing_by_a_name_of_a_megabyte) {
    const std::string name(1'000'000, 'n');
    const Completion answer = answer_of(
        "openai", R"({"id":")" + name + R"(","model":")" + name +
                      R"(","choices":[{"message":{"content":"x"},"finish_reason":")" + name + "\"}]}");
    for (const std::string* label : {&answer.model, &answer.response_id, &answer.finish_reason})
        EXPECT_EQ(label->size(), 500u);
}

}  // namespace
}  // namespace mrprompt
