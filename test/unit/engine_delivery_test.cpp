// What provider rows and requests say of their delivery, and what failed attempts ask the database for.
#include "engine_twins.hpp"

namespace mrprompt {
namespace {

using EngineDelivery = test::EngineTest;
using test::uuid;

const Json kSettled = {{"busy", Json::array()}, {"stale", Json::array()}, {"rejected", Json::array()}};

Json with(Json job, const char* name, Json value) {
    job[name] = std::move(value);
    return job;
}

std::string header(const HttpRequest& request, std::string_view name) {
    std::string found;
    for (const auto& [key, value] : request.headers) {
        if (key == name) found += value;
    }
    return found;
}

TEST_F(EngineDelivery, the_time_outs_of_the_row_are_in_force_until_a_request_says_otherwise) {
    make();
    greet();
    give({job(1), with(job(2), "options", {{"idle_timeout_ms", 7}, {"total_timeout_ms", 9}}),
          with(job(3), "options", nullptr)},
         {{"connect_timeout_ms", 1'000},
          {"first_byte_timeout_ms", 2'000},
          {"idle_timeout_ms", 3'000},
          {"total_timeout_ms", 4'000}});
    ASSERT_EQ(transport.order.size(), 3u);
    for (const std::size_t plain : {0, 2}) {
        const HttpRequest& request = transport.requests[transport.order[plain]];
        EXPECT_EQ(request.connect_timeout_ms, 1'000);
        EXPECT_EQ(request.first_byte_timeout_ms, 2'000);
        EXPECT_EQ(request.idle_timeout_ms, 3'000);
        EXPECT_EQ(request.total_timeout_ms, 4'000);
    }
    const HttpRequest& own = transport.requests[transport.order[1]];
    EXPECT_EQ(own.connect_timeout_ms, 1'000);
    EXPECT_EQ(own.first_byte_timeout_ms, 2'000);
    EXPECT_EQ(own.idle_timeout_ms, 7);
    EXPECT_EQ(own.total_timeout_ms, 9);
}

TEST_F(EngineDelivery, the_retry_rules_of_the_row_are_in_force_until_a_request_says_otherwise) {
    make();
    greet();
    give({job(1), with(job(2), "options", {{"retry_on", Json::array()}}),
          with(job(3), "options", {{"no_retry_on", {"402"}}}),
          with(job(4), "options", {{"backoff_base_ms", 10}, {"backoff_cap_ms", 6}})},
         {{"retry_on", {"402"}}, {"backoff_base_ms", 100}, {"backoff_cap_ms", 200}});
    for (const std::uint64_t id : transport.order) error_answer(id, 402, R"({"message":"pay"})");
    step();
    const Json outcomes = expect(CallKind::settle)["outcomes"];
    ASSERT_EQ(outcomes.size(), 4u);
    EXPECT_EQ(outcomes[0]["result"], "retry");
    EXPECT_EQ(outcomes[0]["retry_after_ms"], 50);
    EXPECT_EQ(outcomes[1]["result"], "failed");
    EXPECT_EQ(outcomes[2]["result"], "failed");
    EXPECT_EQ(outcomes[3]["result"], "retry");
    EXPECT_EQ(outcomes[3]["retry_after_ms"], 3);
}

TEST_F(EngineDelivery, the_provider_gets_the_request_as_idempotency_key_the_same_at_every_attempt) {
    make();
    greet();
    give({job(1)}, {{"idempotency_header", "Idempotency-Key"}});
    EXPECT_EQ(header(transport.requests[transport.order[0]], "Idempotency-Key"), uuid(1));
    error_answer(transport.order[0], 500, R"({"message":"again"})");
    step();
    EXPECT_EQ(expect(CallKind::settle)["outcomes"][0]["result"], "retry");
    answer(kSettled);
    pass(251);
    expect(CallKind::claim);
    give({job(1, true, 2)}, {{"idempotency_header", "Idempotency-Key"}});
    ASSERT_EQ(transport.order.size(), 2u);
    EXPECT_EQ(header(transport.requests[transport.order[1]], "Idempotency-Key"), uuid(1));
}

TEST_F(EngineDelivery, no_idempotency_key_is_sent_unasked) {
    make();
    greet();
    give({job(1)}, {{"idempotency_header", nullptr}});
    EXPECT_EQ(header(transport.requests[transport.order[0]], "Idempotency-Key"), "");
}

TEST_F(EngineDelivery, too_many_requests_asks_for_a_cooldown_as_long_as_the_provider_said) {
    make();
    greet();
    give({job(1), job(2), job(3)});
    const std::string error = R"({"message":"slow down","type":"rate_limit_error"})";
    error_answer(transport.order[0], 429, error, {{"x-ratelimit-reset-requests", "1.5s"}});
    error_answer(transport.order[1], 429, error);
    stream_head(transport.order[2]);
    transport.body(transport.order[2], "data: {\"error\":" + error + "}\n\n");
    transport.end(transport.order[2]);
    step();
    const Json outcomes = expect(CallKind::settle)["outcomes"];
    ASSERT_EQ(outcomes.size(), 3u);
    EXPECT_EQ(outcomes[0]["cooldown"], (Json{{"reason", "rate_limit"}, {"ms", 1500}}));
    EXPECT_EQ(outcomes[0]["retry_after_ms"], 1500);
    EXPECT_EQ(outcomes[1]["cooldown"], (Json{{"reason", "rate_limit"}, {"ms", nullptr}}));
    EXPECT_EQ(outcomes[2]["cooldown"]["reason"], "rate_limit");
    for (const Json& outcome : outcomes) EXPECT_EQ(outcome["counts_as_failure"], false);
}

TEST_F(EngineDelivery, a_refused_key_asks_for_a_cooldown) {
    make();
    greet();
    give({job(1), job(2), job(3)});
    error_answer(transport.order[0], 401, R"({"message":"no","type":"authentication_error"})");
    error_answer(transport.order[1], 403, R"({"message":"no"})");
    error_answer(transport.order[2], 400, R"({"message":"no","code":"invalid_api_key"})");
    step();
    for (const Json& outcome : expect(CallKind::settle)["outcomes"]) {
        EXPECT_EQ(outcome["result"], "failed");
        EXPECT_EQ(outcome["cooldown"], (Json{{"reason", "auth"}, {"ms", nullptr}}));
    }
}

TEST_F(EngineDelivery, a_target_that_fails_too_often_asks_for_a_cooldown_once) {
    make();
    greet();
    const Json row = {{"cooldown_attempts", 4}, {"cooldown_percent", 50}};
    give({job(1), job(2), job(3), job(4), job(5)}, row);
    whole_answer(transport.order[0]);
    error_answer(transport.order[1], 503, R"({"message":"down"})");
    whole_answer(transport.order[2]);
    transport.end(transport.order[3], TransferEnd::connect_failed, "refused");
    transport.end(transport.order[4], TransferEnd::timeout_first_byte, "too slow");
    step();
    const Json outcomes = expect(CallKind::settle)["outcomes"];
    ASSERT_EQ(outcomes.size(), 5u);
    for (const std::size_t i : {0, 1, 2, 4}) EXPECT_TRUE(outcomes[i]["cooldown"].is_null()) << i;
    EXPECT_EQ(outcomes[3]["cooldown"], (Json{{"reason", "failures"}, {"ms", nullptr}}));
}

TEST_F(EngineDelivery, refused_requests_and_cancelled_ones_are_no_failures_of_their_target) {
    make();
    greet();
    give({job(1), job(2), job(3), job(4)}, {{"cooldown_attempts", 1}, {"cooldown_percent", 1}});
    error_answer(transport.order[0], 400, R"({"message":"no such model"})");
    transport.end(transport.order[1], TransferEnd::too_large, "too much");
    transport.end(transport.order[2], TransferEnd::refused, "not there");
    step();
    for (const Json& outcome : expect(CallKind::settle)["outcomes"]) {
        EXPECT_TRUE(outcome["cooldown"].is_null());
    }
    answer(kSettled);
    store.wake = true;
    step();
    expect(CallKind::claim);
    answer({{"jobs", Json::array()}, {"cancel", {uuid(4)}}});
    const Json& outcome = expect(CallKind::settle)["outcomes"][0];
    EXPECT_EQ(outcome["result"], "cancelled");
    EXPECT_TRUE(outcome["cooldown"].is_null());
}

TEST_F(EngineDelivery, keys_are_told_apart_when_failures_are_counted) {
    make();
    greet();
    give({with(job(1), "key_id", uuid(91)), with(job(2), "key_id", uuid(92)),
          with(job(3), "key_id", uuid(91)), job(4)},
         {{"cooldown_attempts", 2}});
    for (const std::uint64_t id : transport.order) transport.end(id, TransferEnd::broken, "gone");
    step();
    const Json outcomes = expect(CallKind::settle)["outcomes"];
    ASSERT_EQ(outcomes.size(), 4u);
    for (const std::size_t i : {0, 1, 3}) EXPECT_TRUE(outcomes[i]["cooldown"].is_null()) << i;
    EXPECT_EQ(outcomes[2]["cooldown"]["reason"], "failures");
}

}  // namespace
}  // namespace mrprompt
