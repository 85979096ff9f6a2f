// Provider rows, URLs, headers and keys: what every protocol shares.
#include <gtest/gtest.h>

#include "provider/provider.hpp"

namespace mrprompt {
namespace {

Json row() {
    return {{"name", "p"}, {"protocol", "openai"}, {"base_url", "https://api.test/v1"}, {"auth", "bearer"}};
}

Result<HttpRequest> request_for(const Json& provider_row, const std::string& model = "m",
                                const Secret& key = Secret("sk-test-1")) {
    const Result<Provider> provider = parse_provider(provider_row);
    if (!provider) return provider.error();
    const Chat chat{model, false, {{"messages", Json::array({{{"role", "user"}, {"content", "hi"}}})}}};
    return find_protocol(provider->protocol)->request(*provider, chat, key);
}

std::string url_for(const std::string& base, const Json& path = nullptr, const std::string& model = "m") {
    Json changed = row();
    changed["base_url"] = base;
    changed["path"] = path;
    const Result<HttpRequest> request = request_for(changed, model);
    return request ? request->url : "refused: " + request.error().message;
}

std::string header(const HttpRequest& request, std::string_view name) {
    std::string found;
    for (const auto& [key, value] : request.headers) {
        if (key == name) found += value;
    }
    return found;
}

TEST(ProviderRow, members_that_are_null_or_absent_have_defaults) {
    Json sparse = row();
    sparse["path"] = nullptr;
    sparse["ca_file"] = nullptr;
    sparse["headers"] = nullptr;
    const Result<Provider> provider = parse_provider(sparse);
    ASSERT_TRUE(provider);
    EXPECT_TRUE(provider->stream_usage);
    EXPECT_EQ(provider->idle_timeout_ms, 120'000);
    EXPECT_EQ(provider->path, "");
    EXPECT_EQ(provider->retry.backoff_base_ms, 500);
    EXPECT_TRUE(provider->retry.retry_on.empty());
    EXPECT_EQ(provider->cooldown_percent, 50);
    EXPECT_EQ(provider->idempotency_header, "");
    EXPECT_EQ(provider->proxy + provider->client_cert_file + provider->client_key_file, "");
}

TEST(ProviderRow, a_private_address_is_allowed_by_the_row_and_by_rows_that_do_not_know_of_it_yet) {
    const auto allowed = [](Json value) {
        Json changed = row();
        changed["allow_private"] = std::move(value);
        return parse_provider(changed)->allow_private;
    };
    EXPECT_TRUE(allowed(true));
    EXPECT_FALSE(allowed(false));
    EXPECT_FALSE(allowed(nullptr));
    EXPECT_TRUE(parse_provider(row())->allow_private);
}

TEST(ProviderRow, says_how_to_connect) {
    Json changed = row();
    changed["allow_private"] = false;
    changed["proxy"] = "socks5h://proxy.test:1080";
    changed["client_cert_file"] = "/cert.pem";
    changed["client_key_file"] = "/key.pem";
    const Result<HttpRequest> request = request_for(changed);
    ASSERT_TRUE(request);
    EXPECT_FALSE(request->allow_private);
    EXPECT_EQ(request->proxy, "socks5h://proxy.test:1080");
    EXPECT_EQ(request->client_cert_file, "/cert.pem");
    EXPECT_EQ(request->client_key_file, "/key.pem");
}

TEST(ProviderRow, nonsense_is_refused) {
    const auto refused = [](const char* name, Json value) {
        Json changed = row();
        changed[name] = std::move(value);
        return !parse_provider(changed);
    };
    EXPECT_TRUE(refused("protocol", "gopher"));
    EXPECT_TRUE(refused("base_url", "file:///etc/passwd"));
    EXPECT_TRUE(refused("base_url", "https://a\r\nb"));
    EXPECT_TRUE(refused("base_url", "https://{model}.test/v1"));
    EXPECT_TRUE(refused("proxy", "socks4://proxy.test:1080"));
    EXPECT_TRUE(refused("proxy", "http://user:word@proxy.test:1080"));
    EXPECT_TRUE(refused("auth", "basic"));
    EXPECT_TRUE(refused("idempotency_header", "x a"));
    EXPECT_TRUE(refused("headers", {{"x-a", "1\r\nx-b: 2"}}));
    EXPECT_TRUE(refused("headers", {{"x a", "1"}}));
    EXPECT_TRUE(refused("headers", {{"x-a", 1}}));
    EXPECT_FALSE(parse_provider(Json::array()));
}

TEST(Url, is_base_and_path) {
    EXPECT_EQ(url_for("https://api.test/v1"), "https://api.test/v1/chat/completions");
    EXPECT_EQ(url_for("https://api.test/v1/"), "https://api.test/v1/chat/completions");
    EXPECT_EQ(url_for("https://api.test/v1/chat/completions"), "https://api.test/v1/chat/completions");
    EXPECT_EQ(url_for("https://api.test", "/v3/chat"), "https://api.test/v3/chat");
    EXPECT_EQ(url_for("https://api.test", "v3/chat"), "https://api.test/v3/chat");
}

TEST(Url, keeps_a_host_that_ends_as_the_path_does) {
    EXPECT_EQ(url_for("https://chat", "/chat"), "https://chat/chat");
    EXPECT_EQ(url_for("https://api.chat/", "chat"), "https://api.chat/chat");
    EXPECT_EQ(url_for("https://chat/chat", "/chat"), "https://chat/chat");
}

TEST(Url, takes_the_model_percent_encoded) {
    EXPECT_EQ(url_for("https://x.test/openai/deployments/{model}", "/chat/completions?api-version=2024-10-21",
                      "gpt/4 o"),
              "https://x.test/openai/deployments/gpt%2F4%20o/chat/completions?api-version=2024-10-21");
    EXPECT_EQ(url_for("https://x.test", "/{model}/chat?m={model}", "{model}"),
              "https://x.test/%7Bmodel%7D/chat?m=%7Bmodel%7D");
    EXPECT_TRUE(url_for("https://x.test/{model}", nullptr, "..").starts_with("refused"));
    EXPECT_EQ(url_for("https://x.test", nullptr, ".."), "https://x.test/chat/completions");
    EXPECT_TRUE(url_for("https://x.test", nullptr, "").starts_with("refused"));
}

TEST(Key, goes_into_the_header_of_the_row) {
    const std::pair<const char*, const char*> styles[] = {{"bearer", "Authorization: Bearer "},
                                                          {"x-api-key", "x-api-key: "},
                                                          {"api-key", "api-key: "},
                                                          {"none", ""}};
    for (const auto& [style, header] : styles) {
        Json changed = row();
        changed["auth"] = style;
        const Result<HttpRequest> request = request_for(changed);
        ASSERT_TRUE(request);
        EXPECT_EQ(request->secret_header, header);
        EXPECT_EQ(request->secret.view(), *header ? "sk-test-1" : "");
    }
    const Result<HttpRequest> without = request_for(row(), "m", Secret());
    ASSERT_TRUE(without);
    EXPECT_EQ(without->secret_header, "");
    EXPECT_FALSE(request_for(row(), "m", Secret("sk-test\r\nx-evil: 1")));
}

TEST(ProviderRow, numbers_beyond_range_become_the_nearest_that_is_allowed) {
    Json extreme = row();
    extreme["connect_timeout_ms"] = UINT64_MAX;
    extreme["idle_timeout_ms"] = INT64_MIN;
    extreme["cooldown_percent"] = UINT64_MAX;
    const Result<Provider> provider = parse_provider(extreme);
    ASSERT_TRUE(provider);
    EXPECT_EQ(provider->connect_timeout_ms, 86'400'000);
    EXPECT_EQ(provider->idle_timeout_ms, 1);
    EXPECT_EQ(provider->cooldown_percent, 100);
}

TEST(Headers, of_the_row_win) {
    Json changed = row();
    changed["headers"] = {{"Accept", "*/*"}, {"HTTP-Referer", "https://app.test"}};
    const Result<HttpRequest> request = request_for(changed);
    ASSERT_TRUE(request);
    EXPECT_EQ(header(*request, "Accept"), "*/*");
    EXPECT_EQ(header(*request, "accept"), "");
    EXPECT_EQ(header(*request, "content-type"), "application/json");
    EXPECT_EQ(header(*request, "HTTP-Referer"), "https://app.test");
}

TEST(Delta, appending_joins_by_index) {
    Delta delta;
    delta.append({.content = "a", .reasoning = "r", .refusal = "", .tool_calls = {{0, "id0", "f", "{"}}});
    delta.append({.content = "b",
                  .reasoning = "",
                  .refusal = "x",
                  .tool_calls = {{1, "id1", "g", ""}, {0, "", "", "}"}}});
    EXPECT_EQ(delta.content, "ab");
    EXPECT_EQ(delta.reasoning, "r");
    EXPECT_EQ(delta.refusal, "x");
    ASSERT_EQ(delta.tool_calls.size(), 2u);
    EXPECT_EQ(delta.tool_calls[0].id, "id0");
    EXPECT_EQ(delta.tool_calls[0].arguments, "{}");
    EXPECT_EQ(delta.tool_calls[1].name, "g");
}

}  // namespace
}  // namespace mrprompt
