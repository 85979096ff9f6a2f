// The most output that money is held for: what becomes of a payload's own limit, at either protocol.
#include <gtest/gtest.h>

#include "engine/contract.hpp"

namespace mrprompt {
namespace {

const std::string kMessages = R"("messages":[{"role":"user","content":"hi"}])";

// The body for the first job of a claim: `row` is what its provider says of itself, `job` what the job
// brings.
Json body_of(const std::string& row, const std::string& job) {
    const Result<Claim> claim = parse_claim(
        R"({"providers":[{"name":"p","base_url":"https://p.test/v1",)" + row +
        R"(}],"jobs":[{"request":"00000000-0000-7000-8000-000000000001","attempt":1,"provider":0,"model":"m",)" +
        job + "}]}");
    if (!claim || claim->jobs.empty() || !claim->providers[0]) return "the claim is refused";
    const Provider& provider = **claim->providers[0];
    const auto request = find_protocol(provider.protocol)->request(provider, claim->jobs[0].chat, Secret());
    return request ? Json(request->body) : Json("refused: " + request.error().message);
}

std::string openai(const std::string& payload, const std::string& limit, const std::string& row = "") {
    const Json body =
        body_of(R"("protocol":"openai")" + row, R"("payload":{)" + kMessages + payload + "}" + limit);
    const std::string before = R"({"model":"m",)" + kMessages;
    const std::string text = body.get<std::string>();
    return text.starts_with(before) ? text.substr(before.size()) : text;
}

std::string anthropic(const std::string& payload, const std::string& limit) {
    const Json body =
        body_of(R"("protocol":"anthropic")", R"("payload":{)" + kMessages + payload + "}" + limit);
    const Result<Json> parsed = parse_json(body.get<std::string>());
    return parsed ? dump_json(member(*parsed, "max_tokens")) : body.get<std::string>();
}

const std::string kHeld = R"(,"output_limit":500)";

TEST(OutputLimit, is_sent_where_the_payload_names_none) {
    EXPECT_EQ(openai("", kHeld), R"(,"max_tokens":500})");
    EXPECT_EQ(openai("", kHeld, R"(,"max_tokens_field":"max_completion_tokens")"),
              R"(,"max_completion_tokens":500})");
    EXPECT_EQ(openai("", kHeld, R"(,"max_tokens_field":null)"), R"(,"max_tokens":500})");
    EXPECT_EQ(anthropic("", kHeld), "500");
    EXPECT_EQ(anthropic(R"(,"thinking":{"type":"enabled","budget_tokens":10000})", kHeld), "500");
}

TEST(OutputLimit, leaves_a_limit_alone_that_is_no_larger) {
    for (const std::string name : {"max_tokens", "max_completion_tokens"}) {
        for (const std::string own : {"500", "7", "7.5"}) {
            const std::string limit = ",\"" + name + "\":" + own;
            EXPECT_EQ(openai(limit, kHeld), limit + "}");
            EXPECT_EQ(openai(limit, kHeld, R"(,"max_tokens_field":"max_completion_tokens")"), limit + "}");
        }
        EXPECT_EQ(anthropic(",\"" + name + "\":7", kHeld), "7");
    }
}

TEST(OutputLimit, takes_the_place_of_what_is_larger_or_no_limit_at_all) {
    for (const std::string name : {"max_tokens", "max_completion_tokens"}) {
        for (const std::string own : {"501", "1e9", "18446744073709551615", "-1", "0", "\"7\"", "[]"}) {
            EXPECT_EQ(openai(",\"" + name + "\":" + own, kHeld), ",\"" + name + "\":500}") << own;
            EXPECT_EQ(anthropic(",\"" + name + "\":" + own, kHeld), "500") << own;
        }
    }
    EXPECT_EQ(openai(R"(,"max_tokens":900,"max_completion_tokens":900)", kHeld),
              R"(,"max_tokens":500,"max_completion_tokens":500})");
}

TEST(OutputLimit, goes_by_the_providers_name_where_the_payload_has_null) {
    EXPECT_EQ(openai(R"(,"max_tokens":null)", kHeld, R"(,"max_tokens_field":"max_completion_tokens")"),
              R"(,"max_completion_tokens":500})");
    EXPECT_EQ(openai(R"(,"max_tokens":null,"max_completion_tokens":7)", kHeld),
              R"(,"max_completion_tokens":7})");
    EXPECT_EQ(anthropic(R"(,"max_tokens":null)", kHeld), "500");
}

TEST(OutputLimit, that_is_absent_changes_nothing) {
    for (const std::string none :
         {"", R"(,"output_limit":null)", R"(,"output_limit":0)", R"(,"output_limit":-5)"}) {
        for (const std::string own : {"", R"(,"max_tokens":900)", R"(,"max_completion_tokens":null)"})
            EXPECT_EQ(openai(own, none, R"(,"max_tokens_field":"max_completion_tokens")"), own + "}");
        EXPECT_EQ(anthropic("", none), "4096");
        EXPECT_EQ(anthropic(R"(,"max_tokens":900)", none), "900");
    }
}

TEST(OutputLimit, has_one_of_two_names) {
    EXPECT_EQ(openai("", kHeld, R"(,"max_tokens_field":"n_predict")"), "the claim is refused");
}

}  // namespace
}  // namespace mrprompt
