// The call that only shows whether a provider takes a key: its request, and what its answers mean.
#include "provider/verification.hpp"

#include <gtest/gtest.h>

namespace mrprompt {
namespace {

Result<HttpRequest> request(const char* row) {
    const Provider provider = *parse_provider(*parse_json(row));
    Chat chat;
    chat.model = "(verify)";
    return find_verification(provider.protocol)->request(provider, chat, Secret("sk-test-key"));
}

std::string header(const HttpRequest& request, std::string_view name) {
    for (const auto& [held, value] : request.headers)
        if (held == name) return value;
    return "";
}

Completion answer(int status, std::string_view body) {
    const auto decoder = find_verification("openai")->decoder(false, status, "application/json");
    Delta delta;
    for (const char& byte : body) decoder->feed({&byte, 1}, delta);
    decoder->finish(delta);
    EXPECT_TRUE(delta.empty());
    return std::move(decoder->completion());
}

TEST(Verification, asks_for_the_protocols_list_of_models) {
    const auto openai =
        request(R"({"name": "o", "protocol": "openai", "base_url": "https://api.example/v1/"})");
    ASSERT_TRUE(openai);
    EXPECT_TRUE(openai->get);
    EXPECT_EQ(openai->url, "https://api.example/v1/models");
    EXPECT_EQ(openai->secret_header, "Authorization: Bearer ");
    EXPECT_TRUE(openai->body.empty());
    const auto anthropic =
        request(R"({"name": "a", "protocol": "anthropic", "base_url": "https://api.example"})");
    ASSERT_TRUE(anthropic);
    EXPECT_EQ(anthropic->url, "https://api.example/v1/models");
    EXPECT_EQ(anthropic->secret_header, "x-api-key: ");
    EXPECT_EQ(header(*anthropic, "anthropic-version"), "2023-06-01");
}

TEST(Verification, leaves_out_of_base_url_what_belongs_to_chats) {
    const std::pair<const char*, const char*> rows[] = {
        {R"("openai", "base_url": "https://api.example/v1/chat/completions/")",
         "https://api.example/v1/models"},
        {R"("openai", "base_url": "https://api.example/v1/chat", "path": "/chat")",
         "https://api.example/v1/models"},
        {R"("openai", "base_url": "https://api.example/v1/chat/completions", "verify_path": "/me")",
         "https://api.example/v1/me"},
        {R"("anthropic", "base_url": "https://api.example/v1/messages")", "https://api.example/v1/models"},
        {R"("anthropic", "base_url": "https://api.example/v1/")", "https://api.example/v1/models"},
        {R"("anthropic", "base_url": "https://api.example/v1", "verify_path": "/v1/me")",
         "https://api.example/v1/v1/me"},
    };
    for (const auto& [row, url] : rows) {
        const auto asked = request((R"({"name": "o", "protocol": )" + std::string(row) + "}").c_str());
        ASSERT_TRUE(asked) << row;
        EXPECT_EQ(asked->url, url) << row;
    }
}

TEST(Verification, asks_where_the_provider_row_says) {
    const auto own = request(
        R"({"name": "o", "protocol": "openai", "base_url": "https://api.example", "path": "/chat", "verify_path": "/me?x=1"})");
    ASSERT_TRUE(own);
    EXPECT_EQ(own->url, "https://api.example/me?x=1");
}

TEST(Verification, takes_any_json_for_a_yes_and_nothing_else) {
    for (const char* body : {"{}", " \n[1]", R"({"data": []})"}) {
        const Completion done = answer(200, body);
        EXPECT_TRUE(done.complete && !done.error) << body;
        EXPECT_EQ(done.usage->prompt_tokens + done.usage->completion_tokens, 0);
        EXPECT_FALSE(done.has_content);
    }
    for (const char* body : {"", "<html>", "ok"}) {
        const Completion done = answer(200, body);
        ASSERT_TRUE(done.error) << body;
        EXPECT_EQ(done.error->type, "bad_response");
    }
}

TEST(Verification, reads_errors_as_the_protocol_has_them) {
    const Completion done = answer(
        401, R"({"error": {"message": "no", "type": "invalid_request_error", "code": "invalid_api_key"}})");
    ASSERT_TRUE(done.error);
    EXPECT_EQ(done.error->status, 401);
    EXPECT_EQ(done.error->code, "invalid_api_key");
}

TEST(Verification, knows_the_protocols_only) {
    EXPECT_EQ(find_verification("gopher"), nullptr);
}

}  // namespace
}  // namespace mrprompt
