// A chat as the body of an OpenAI request: the caller's payload, untouched.
#include <gtest/gtest.h>

#include "provider/openai.hpp"

namespace mrprompt {
namespace {

std::string body_for(std::string_view payload, bool stream = false, bool stream_usage = true) {
    Provider provider;
    provider.base_url = "https://api.test/v1";
    provider.auth = "none";
    provider.stream_usage = stream_usage;
    const Result<Json> parsed = parse_json(payload);
    EXPECT_TRUE(parsed) << payload;
    const Result<HttpRequest> request = openai_request(provider, {"gpt-test", stream, *parsed}, Secret());
    return request ? request->body : "refused: " + request.error().message;
}

TEST(OpenAiRequest, keeps_everything_in_the_callers_order) {
    const std::string payload =
        R"("temperature":0.7,"messages":[{"role":"user","content":"é\n"}],"zeta":{"y":[1,null],"b":2},)"
        R"("response_format":{"type":"json_schema","json_schema":{"schema":{"properties":{"z":{},"a":{}}}}}})";
    EXPECT_EQ(body_for("{" + payload), R"({"model":"gpt-test",)" + payload);
}

TEST(OpenAiRequest, asks_for_usage_where_the_provider_takes_it) {
    EXPECT_EQ(body_for(R"({"messages":[]})", true),
              R"({"model":"gpt-test","messages":[],"stream":true,"stream_options":{"include_usage":true}})");
    EXPECT_EQ(body_for(R"({"messages":[]})", true, false),
              R"({"model":"gpt-test","messages":[],"stream":true})");
    EXPECT_EQ(
        body_for(R"({"stream_options":{"include_obfuscation":false,"include_usage":false},"messages":[]})",
                 true),
        R"({"model":"gpt-test","messages":[],"stream":true,)"
        R"("stream_options":{"include_obfuscation":false,"include_usage":true}})");
    EXPECT_EQ(body_for(R"({"stream_options":{"x":1},"messages":[]})", true, false),
              R"({"model":"gpt-test","stream_options":{"x":1},"messages":[],"stream":true})");
    EXPECT_EQ(body_for(R"({"stream_options":{"x":1},"messages":[]})"),
              R"({"model":"gpt-test","messages":[]})");
}

TEST(OpenAiRequest, model_and_stream_of_the_payload_do_not_count) {
    EXPECT_EQ(body_for(R"({"model":"other","stream":true,"messages":[]})"),
              R"({"model":"gpt-test","messages":[]})");
}

TEST(OpenAiRequest, leaves_our_own_members_out_of_messages) {
    EXPECT_EQ(
        body_for(
            R"({"messages":[{"role":"assistant","raw":{"thinking":[]},"thinking":[{}],"content":"x"},"odd"]})"),
        R"({"model":"gpt-test","messages":[{"role":"assistant","content":"x"},"odd"]})");
}

TEST(OpenAiRequest, refuses_a_payload_that_is_no_object) {
    EXPECT_TRUE(body_for("[]").starts_with("refused"));
}

}  // namespace
}  // namespace mrprompt
