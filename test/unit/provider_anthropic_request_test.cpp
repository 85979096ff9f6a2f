// A chat as the body of an Anthropic request: everything translated, nothing lost that has a counterpart.
#include <gtest/gtest.h>

#include "provider/anthropic.hpp"

namespace mrprompt {
namespace {

Result<HttpRequest> request_for(std::string_view payload, bool stream = false, const Provider& row = {}) {
    Provider provider = row;
    if (provider.base_url.empty()) provider.base_url = "https://api.test";
    provider.auth = "x-api-key";
    const Result<Json> parsed = parse_json(payload);
    EXPECT_TRUE(parsed) << payload;
    return anthropic_request(provider, {"claude-test", stream, *parsed}, Secret("sk-test-1"));
}

std::string body_for(std::string_view payload, bool stream = false) {
    const Result<HttpRequest> request = request_for(payload, stream);
    return request ? request->body : "refused: " + request.error().message;
}

// One member of the body of a request with these messages and further members.
std::string part(const char* name, const std::string& messages, const std::string& more = "") {
    const std::string body =
        body_for(R"({"messages":[)" + messages + "]" + (more.empty() ? "" : "," + more) + "}");
    const Result<Json> parsed = parse_json(body);
    return parsed ? dump_json(member(*parsed, name)) : body;
}

const std::string kUser = R"({"role":"user","content":"hi"})";

TEST(AnthropicRequest, has_the_form_of_the_messages_api) {
    EXPECT_EQ(
        body_for(R"({"messages":[)" + kUser + "]}"),
        R"({"model":"claude-test","max_tokens":4096,"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}]})");
    const Result<HttpRequest> request = request_for(R"({"messages":[]})");
    ASSERT_TRUE(request);
    EXPECT_EQ(request->url, "https://api.test/v1/messages");
    EXPECT_EQ(request->secret_header, "x-api-key: ");
    EXPECT_EQ(std::count(request->headers.begin(), request->headers.end(),
                         std::pair<std::string, std::string>("anthropic-version", "2023-06-01")),
              1);
    EXPECT_EQ(part("stream", kUser), "null");
    EXPECT_NE(body_for(R"({"messages":[]})", true).find(R"("stream":true)"), std::string::npos);
}

TEST(AnthropicRequest, goes_where_the_row_says) {
    Provider row;
    row.base_url = "https://api.test/v1/";
    row.headers = {{"Anthropic-Version", "2099-01-01"}};
    const Result<HttpRequest> request = request_for(R"({"messages":[]})", false, row);
    ASSERT_TRUE(request);
    EXPECT_EQ(request->url, "https://api.test/v1/messages");
    EXPECT_EQ(request->headers[0].second, "2099-01-01");
    for (const auto& [name, value] : request->headers) EXPECT_NE(name, "anthropic-version");
}

TEST(AnthropicRequest, system_messages_go_to_the_top) {
    EXPECT_EQ(part("system", R"({"role":"system","content":"a"},)" + kUser +
                                 R"(,{"role":"developer","content":[{"type":"text","text":"b"}]})"),
              R"("a\n\nb")");
    EXPECT_EQ(
        part(
            "system",
            R"({"role":"system","content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}}]})"),
        R"([{"type":"text","text":"a","cache_control":{"type":"ephemeral"}}])");
    EXPECT_EQ(part("system", R"({"role":"system","content":"b"})", R"("system":"a")"), R"("a\n\nb")");
    EXPECT_EQ(part("system", kUser), "null");
}

TEST(AnthropicRequest, images_and_files_become_sources) {
    EXPECT_EQ(
        part("messages", R"({"role":"user","content":[{"type":"text","text":"what?"},
        {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA","detail":"low"}},
        {"type":"image_url","image_url":{"url":"https://x.test/a.png"}},
        {"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,BBBB"}},
        {"type":"document","source":{"type":"text","data":"native"}}]})"),
        R"([{"role":"user","content":[{"type":"text","text":"what?"},)"
        R"({"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}},)"
        R"({"type":"image","source":{"type":"url","url":"https://x.test/a.png"}},)"
        R"({"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"BBBB"}},)"
        R"({"type":"document","source":{"type":"text","data":"native"}}]}])");
    for (const char* url : {"ftp://x.test/a", "data:image/png,raw", "", "file:///etc/passwd"}) {
        EXPECT_TRUE(part("messages", R"({"role":"user","content":[{"type":"image_url","image_url":{"url":")" +
                                         std::string(url) + R"("}}]})")
                        .starts_with("refused: messages[0].content[0]"))
            << url;
    }
    EXPECT_TRUE(
        part("messages", R"({"role":"user","content":[{"type":"input_audio"}]})").starts_with("refused"));
}

TEST(AnthropicRequest, tool_loops_translate) {
    EXPECT_EQ(
        part("messages", kUser + R"(,
        {"role":"assistant","content":"let me see","tool_calls":[
            {"id":"call_1","type":"function","function":{"name":"f","arguments":"{\"z\":1,\"a\":2}"}},
            {"id":"call.2","type":"function","function":{"name":"g","arguments":""}}]},
        {"role":"tool","tool_call_id":"call_1","content":"one"},
        {"role":"tool","tool_call_id":"call.2","content":""},
        {"role":"user","content":"go on"})"),
        R"([{"role":"user","content":[{"type":"text","text":"hi"}]},)"
        R"({"role":"assistant","content":[{"type":"text","text":"let me see"},)"
        R"({"type":"tool_use","id":"call_1","name":"f","input":{"z":1,"a":2}},)"
        R"({"type":"tool_use","id":"call_2","name":"g","input":{}}]},)"
        R"({"role":"user","content":[{"type":"tool_result","tool_use_id":"call_1","content":[{"type":"text","text":"one"}]},)"
        R"({"type":"tool_result","tool_use_id":"call_2"},{"type":"text","text":"go on"}]}])");
}

TEST(AnthropicRequest, bad_tool_arguments_are_named) {
    for (const char* arguments : {"{", "[1]", "text"}) {
        EXPECT_EQ(
            part("messages",
                 kUser +
                     R"(,{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","arguments":")" +
                     arguments + R"("}}]})"),
            "refused: messages[1].tool_calls[0].function.arguments: must be the text of a JSON object");
    }
}

TEST(AnthropicRequest, effort_is_said_in_its_own_way) {
    EXPECT_EQ(part("output_config", kUser, R"("reasoning_effort":"high")"), R"({"effort":"high"})");
    EXPECT_EQ(part("output_config", kUser, R"("reasoning_effort":"minimal")"), R"({"effort":"low"})");
    EXPECT_EQ(part("output_config", kUser, R"("reasoning_effort":"none")"), "null");
    EXPECT_EQ(part("output_config", kUser, R"("reasoning_effort":"high","output_config":{"effort":"low"})"),
              R"({"effort":"low"})");
    EXPECT_EQ(part("reasoning_effort", kUser, R"("reasoning_effort":"high")"), "null");
}

TEST(AnthropicRequest, thinking_is_replayed_first) {
    const std::string blocks = R"([{"type":"thinking","thinking":"hm","signature":"c2ln"}])";
    const std::string expected =
        R"([{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"c2ln"},)"
        R"({"type":"text","text":"x"}]}])";
    EXPECT_EQ(part("messages", R"({"role":"assistant","content":"x","raw":{"thinking":)" + blocks + "}}"),
              expected);
    EXPECT_EQ(part("messages", R"({"role":"assistant","content":"x","thinking":)" + blocks + "}"), expected);
}

TEST(AnthropicRequest, empty_messages_are_left_out) {
    EXPECT_EQ(
        part("messages", R"({"role":"user","content":""},{"role":"assistant","content":null},)" + kUser),
        R"([{"role":"user","content":[{"type":"text","text":"hi"}]}])");
}

TEST(AnthropicRequest, malformed_messages_are_refused) {
    for (const char* message : {R"({"role":"wizard","content":"x"})", R"({"content":"x"})", R"("text")",
                                R"({"role":"tool","content":"x"})", R"({"role":"user","content":7})"}) {
        EXPECT_TRUE(part("messages", message).starts_with("refused: messages[0]")) << message;
    }
    EXPECT_TRUE(body_for("{}").starts_with("refused"));
}

TEST(AnthropicRequest, tools_translate_with_the_order_of_their_schema) {
    EXPECT_EQ(
        part("tools", kUser, R"("tools":[
        {"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object","properties":{"z":{},"a":{}}},"strict":true}},
        {"type":"function","function":{"name":"g"}},
        {"type":"web_search_20250305","name":"web_search"}])"),
        R"([{"name":"f","description":"d","input_schema":{"type":"object","properties":{"z":{},"a":{}}},"strict":true},)"
        R"({"name":"g","input_schema":{"type":"object","properties":{}}},)"
        R"({"type":"web_search_20250305","name":"web_search"}])");
}

TEST(AnthropicRequest, tool_choice_translates) {
    const auto choice = [](const std::string& more) {
        return part("tool_choice", kUser, R"("tools":[{"type":"function","function":{"name":"f"}}])" + more);
    };
    EXPECT_EQ(choice(""), "null");
    EXPECT_EQ(choice(R"(,"tool_choice":"auto")"), R"({"type":"auto"})");
    EXPECT_EQ(choice(R"(,"tool_choice":"none")"), R"({"type":"none"})");
    EXPECT_EQ(choice(R"(,"tool_choice":"required")"), R"({"type":"any"})");
    EXPECT_EQ(choice(R"(,"tool_choice":{"type":"function","function":{"name":"f"}})"),
              R"({"type":"tool","name":"f"})");
    EXPECT_EQ(choice(R"(,"parallel_tool_calls":false)"),
              R"({"type":"auto","disable_parallel_tool_use":true})");
    EXPECT_EQ(choice(R"(,"tool_choice":"required","parallel_tool_calls":false)"),
              R"({"type":"any","disable_parallel_tool_use":true})");
    EXPECT_EQ(choice(R"(,"tool_choice":"none","parallel_tool_calls":false)"), R"({"type":"none"})");
    EXPECT_EQ(part("tool_choice", kUser, R"("tool_choice":"required","tools":[])"), "null");
}

TEST(AnthropicRequest, parameters_are_renamed_clamped_or_left_out) {
    EXPECT_EQ(part("max_tokens", kUser, R"("max_tokens":7)"), "7");
    EXPECT_EQ(part("max_tokens", kUser, R"("max_tokens":7,"max_completion_tokens":9)"), "9");
    EXPECT_EQ(part("max_tokens", kUser, R"("thinking":{"type":"enabled","budget_tokens":10000})"), "14096");
    EXPECT_EQ(part("temperature", kUser, R"("temperature":1.7)"), "1");
    EXPECT_EQ(part("temperature", kUser, R"("temperature":0.3)"), "0.3");
    EXPECT_EQ(part("stop_sequences", kUser, R"("stop":"END")"), R"(["END"])");
    EXPECT_EQ(part("stop_sequences", kUser, R"("stop":["a","b"])"), R"(["a","b"])");
    EXPECT_EQ(part("metadata", kUser, R"("user":"u1")"), R"({"user_id":"u1"})");
    for (const char* name :
         {"seed", "n", "logprobs", "frequency_penalty", "presence_penalty", "logit_bias", "user", "stop"}) {
        EXPECT_EQ(part(name, kUser, "\"" + std::string(name) + "\":1"), "null") << name;
    }
    EXPECT_EQ(part("top_p", kUser, R"("top_p":null)"), "null");
}

TEST(AnthropicRequest, unknown_parameters_pass_through) {
    EXPECT_EQ(part("thinking", kUser, R"("thinking":{"type":"adaptive"})"), R"({"type":"adaptive"})");
    EXPECT_EQ(part("top_k", kUser, R"("top_k":5)"), "5");
    EXPECT_EQ(part("top_p", kUser, R"("top_p":0.5)"), "0.5");
    EXPECT_EQ(part("service_tier", kUser, R"("service_tier":"auto")"), R"("auto")");
}

TEST(AnthropicRequest, response_format_becomes_an_output_format) {
    EXPECT_EQ(
        part("output_config", kUser,
             R"("output_config":{"effort":"low"},"response_format":{"type":"json_schema","json_schema":)"
             R"({"name":"n","strict":true,"schema":{"type":"object","properties":{"z":{},"a":{}}}}})"),
        R"({"effort":"low","format":{"type":"json_schema","schema":{"type":"object","properties":{"z":{},"a":{}}}}})");
    EXPECT_EQ(part("system", R"({"role":"system","content":"a"},)" + kUser,
                   R"("response_format":{"type":"json_object"})"),
              R"("a\n\nAnswer with one valid JSON object and nothing else.")");
    EXPECT_EQ(part("output_config", kUser, R"("response_format":{"type":"text"})"), "null");
    EXPECT_EQ(part("response_format", kUser, R"("response_format":{"type":"json_object"})"), "null");
}

}  // namespace
}  // namespace mrprompt
