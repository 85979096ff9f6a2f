// Streams that are made to cost time or memory, or to say two things at once. What is quadratic in their size
// does not end here.
#include <gtest/gtest.h>

#include "provider/anthropic.hpp"
#include "provider/openai.hpp"

namespace mrprompt {
namespace {

std::string event(const Json& data) {
    return "data: " + dump_json(data) + "\n\n";
}

Json tool_call(const char* name, const std::string& arguments) {
    const Json call{{"function", {{"name", name}, {"arguments", arguments}}}};
    return {{"choices", Json::array({{{"delta", {{"tool_calls", Json::array({call})}}}}})}};
}

TEST(HostileStream, arguments_that_repeat_their_name_are_looked_at_once) {
    const auto decoder = openai_decoder(false, 200, "");
    Delta delta;
    decoder->feed(event(tool_call("f", "{\"a\":\"")), delta);
    const std::string more = event(tool_call("f", std::string(200, 'x')));
    for (int i = 0; i < 40'000; ++i) decoder->feed(more, delta);
    decoder->finish(delta);
    ASSERT_EQ(decoder->completion().tool_calls.size(), 1u);
    EXPECT_EQ(decoder->completion().tool_calls[0].arguments.size(), 6u + 40'000 * 200);
}

TEST(HostileStream, a_bracket_in_a_string_ends_no_arguments) {
    const auto decoder = openai_decoder(false, 200, "");
    Delta delta;
    for (const char* piece : {"{\"a\":\"}", "\\\"}", "\"}", "{}"})
        decoder->feed(event(tool_call("f", piece)), delta);
    decoder->finish(delta);
    ASSERT_EQ(decoder->completion().tool_calls.size(), 2u);
    EXPECT_EQ(decoder->completion().tool_calls[0].arguments, "{\"a\":\"}\\\"}\"}");
    EXPECT_EQ(decoder->completion().tool_calls[1].arguments, "{}");
}

TEST(HostileStream, what_follows_the_end_spoils_nothing) {
    const std::string answer =
        "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\n\ndata: "
        "[DONE]\n\n";
    const std::string rest = "data: " + std::string(17u << 20, 'x');
    for (const bool at_once : {true, false}) {
        const auto decoder = openai_decoder(true, 200, "");
        Delta delta;
        decoder->feed(at_once ? answer + rest : answer, delta);
        if (!at_once) decoder->feed(rest, delta);
        decoder->finish(delta);
        EXPECT_TRUE(decoder->completion().complete);
        EXPECT_FALSE(decoder->completion().error);
    }
}

TEST(HostileStream, half_a_character_in_a_signature_leaves_no_trace_of_how_it_was_kept) {
    const auto decoder = anthropic_decoder(true, 200, "");
    Delta delta;
    decoder->feed(
        "data: "
        "{\"type\":\"content_block_start\",\"content_block\":{\"type\":\"thinking\",\"signature\":"
        "\"a\\ud800b\"}}\n\n"
        "data: "
        "{\"type\":\"content_block_start\",\"content_block\":{\"type\":\"redacted_thinking\",\"data\":"
        "\"c\\ud800d\"}}\n\n",
        delta);
    decoder->finish(delta);
    EXPECT_EQ(decoder->completion().raw["thinking"][0]["signature"], "a\uFFFDb");
    EXPECT_EQ(decoder->completion().raw["thinking"][1]["data"], "c\uFFFDd");
}

}  // namespace
}  // namespace mrprompt
