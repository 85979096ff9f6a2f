// The retry rules, one by one.
#include "engine/retry_policy.hpp"

#include <gtest/gtest.h>

namespace mrprompt {
namespace {

Verdict of_status(int status, const std::string& type = "error", const std::string& code = "") {
    const ProviderError error{status, type, code, "m"};
    FailedAttempt failed;
    failed.status = status;
    failed.error = &error;
    return judge(failed, RetryRules(), 0.5);
}

Verdict in_stream(const std::string& type, const std::string& code = "") {
    const ProviderError error{0, type, code, "m"};
    FailedAttempt failed;
    failed.status = 200;
    failed.error = &error;
    return judge(failed, RetryRules(), 0.5);
}

Verdict of_end(TransferEnd end) {
    FailedAttempt failed;
    failed.end = end;
    return judge(failed, RetryRules(), 0.5);
}

TEST(EngineRetryPolicy, passing_statuses_are_tried_again_and_count) {
    for (int status : {408, 409, 500, 502, 503, 504, 529}) {
        EXPECT_TRUE(of_status(status).retry) << status;
        EXPECT_TRUE(of_status(status).counts_as_failure) << status;
    }
}

TEST(EngineRetryPolicy, too_many_requests_is_tried_again_and_does_not_count) {
    EXPECT_TRUE(of_status(429, "rate_limit_error").retry);
    EXPECT_FALSE(of_status(429, "rate_limit_error").counts_as_failure);
}

TEST(EngineRetryPolicy, an_empty_account_is_never_tried_again) {
    EXPECT_FALSE(of_status(429, "insufficient_quota", "insufficient_quota").retry);
    EXPECT_FALSE(of_status(429, "", "insufficient_quota").retry);
    EXPECT_FALSE(of_status(402).retry);
    EXPECT_TRUE(of_status(402, "", "in_flight_budget_exhausted").retry);
}

TEST(EngineRetryPolicy, refusals_and_redirects_are_never_tried_again) {
    for (int status : {301, 302, 400, 401, 403, 404, 413, 422})
        EXPECT_FALSE(of_status(status).retry) << status;
}

TEST(EngineRetryPolicy, network_ends_follow_the_table) {
    struct {
        TransferEnd end;
        const char* type;
        bool retry;
    } const rows[] = {{TransferEnd::connect_failed, "connect_failed", true},
                      {TransferEnd::tls_failed, "tls_failed", false},
                      {TransferEnd::timeout_connect, "connect_timeout", true},
                      {TransferEnd::timeout_first_byte, "first_byte_timeout", true},
                      {TransferEnd::timeout_idle, "idle_timeout", true},
                      {TransferEnd::timeout_total, "total_timeout", false},
                      {TransferEnd::broken, "connection_broken", true},
                      {TransferEnd::malformed, "bad_response", false},
                      {TransferEnd::too_large, "response_too_large", false},
                      {TransferEnd::refused, "url_refused", false},
                      {TransferEnd::address_refused, "address_refused", false}};
    for (const auto& row : rows) {
        EXPECT_EQ(of_end(row.end).type, row.type);
        EXPECT_EQ(of_end(row.end).retry, row.retry) << row.type;
        EXPECT_EQ(of_end(row.end).counts_as_failure, row.retry) << row.type;
    }
}

TEST(EngineRetryPolicy, errors_inside_a_stream_go_by_their_word) {
    for (const char* type : {"overloaded_error", "api_error", "server_error", "cut_stream"}) {
        EXPECT_TRUE(in_stream(type).retry) << type;
    }
    EXPECT_FALSE(in_stream("rate_limit_error").counts_as_failure);
    for (const char* type :
         {"invalid_request_error", "authentication_error", "insufficient_quota", "bad_response"}) {
        EXPECT_FALSE(in_stream(type).retry) << type;
    }
    EXPECT_TRUE(in_stream("http_error", "502").retry);
    EXPECT_FALSE(in_stream("http_error", "400").retry);
}

TEST(EngineRetryPolicy, back_off_doubles_to_a_minute_with_full_jitter) {
    FailedAttempt failed;
    failed.end = TransferEnd::broken;
    EXPECT_EQ(judge(failed, RetryRules(), 0.0).after_ms, 0);
    EXPECT_EQ(judge(failed, RetryRules(), 0.5).after_ms, 250);
    failed.failures = 3;
    EXPECT_EQ(judge(failed, RetryRules(), 0.5).after_ms, 2'000);
    failed.failures = 1'000'000;
    EXPECT_EQ(judge(failed, RetryRules(), 0.5).after_ms, 30'000);
}

TEST(EngineRetryPolicy, what_does_not_count_backs_off_by_its_attempts) {
    const ProviderError error{429, "rate_limit_error", "", "m"};
    FailedAttempt failed;
    failed.status = 429;
    failed.error = &error;
    failed.attempt = 5;
    EXPECT_EQ(judge(failed, RetryRules(), 0.5).after_ms, 4'000);
}

TEST(EngineRetryPolicy, the_providers_wish_is_a_lower_bound) {
    FailedAttempt failed;
    failed.end = TransferEnd::broken;
    failed.retry_after_ms = 7'000;
    EXPECT_EQ(judge(failed, RetryRules(), 0.9).after_ms, 7'000);
}

// A failure that the rules of a provider's row have their say in.
struct Named {
    int status;
    const char* type;
    const char* code;
};
Verdict ruled(const Named& named, std::vector<std::string> retry_on, std::vector<std::string> no_retry_on) {
    const ProviderError error{named.status, named.type, named.code, "m"};
    FailedAttempt failed;
    failed.status = named.status;
    failed.error = &error;
    RetryRules rules;
    rules.retry_on = std::move(retry_on);
    rules.no_retry_on = std::move(no_retry_on);
    return judge(failed, rules, 0.5);
}

TEST(EngineRetryPolicy, a_word_in_retry_on_turns_a_final_failure_into_one_that_counts) {
    const Named teapot{418, "brew_error", "short_and_stout"};
    for (const char* word : {"418", "brew_error", "short_and_stout"}) {
        EXPECT_TRUE(ruled(teapot, {"x", word}, {}).retry) << word;
        EXPECT_TRUE(ruled(teapot, {word}, {}).counts_as_failure) << word;
    }
    for (const char* word : {"", "41", "brew", "m"}) EXPECT_FALSE(ruled(teapot, {word}, {}).retry) << word;
}

TEST(EngineRetryPolicy, a_word_in_no_retry_on_is_final_whatever_else_is_said) {
    const Named overloaded{529, "overloaded_error", "busy"};
    EXPECT_TRUE(ruled(overloaded, {}, {"503"}).retry);
    for (const char* word : {"529", "overloaded_error", "busy"}) {
        EXPECT_FALSE(ruled(overloaded, {}, {word}).retry) << word;
        EXPECT_FALSE(ruled(overloaded, {"529", "overloaded_error"}, {word}).retry) << word;
    }
}

TEST(EngineRetryPolicy, the_networks_own_words_can_be_named_too) {
    FailedAttempt failed;
    failed.end = TransferEnd::tls_failed;
    RetryRules rules;
    rules.retry_on = {"tls_failed"};
    EXPECT_TRUE(judge(failed, rules, 0.5).retry);
    failed.end = TransferEnd::broken;
    rules.no_retry_on = {"connection_broken"};
    EXPECT_FALSE(judge(failed, rules, 0.5).retry);
}

TEST(EngineRetryPolicy, an_empty_account_is_tried_again_only_when_it_is_named_itself) {
    const Named empty{429, "insufficient_quota", "insufficient_quota"};
    EXPECT_FALSE(ruled(empty, {"429"}, {}).retry);
    EXPECT_TRUE(ruled(empty, {"insufficient_quota"}, {}).retry);
    EXPECT_FALSE(ruled(empty, {"insufficient_quota"}, {}).counts_as_failure);
}

TEST(EngineRetryPolicy, a_refused_key_is_tried_again_only_when_it_is_named) {
    const Named refused{401, "authentication_error", ""};
    EXPECT_FALSE(ruled(refused, {"500"}, {}).retry);
    EXPECT_TRUE(ruled(refused, {"401"}, {}).retry);
    EXPECT_TRUE(ruled(refused, {"authentication_error"}, {}).retry);
}

TEST(EngineRetryPolicy, a_429_counts_no_failure_even_when_it_is_named) {
    EXPECT_TRUE(ruled({429, "rate_limit_error", ""}, {"429"}, {}).retry);
    EXPECT_FALSE(ruled({429, "rate_limit_error", ""}, {"429"}, {}).counts_as_failure);
    EXPECT_FALSE(ruled({429, "rate_limit_error", ""}, {}, {"429"}).retry);
}

TEST(EngineRetryPolicy, base_and_cap_of_the_back_off_are_the_rows) {
    FailedAttempt failed;
    failed.end = TransferEnd::broken;
    RetryRules rules;
    rules.backoff_base_ms = 10;
    rules.backoff_cap_ms = 100;
    EXPECT_EQ(judge(failed, rules, 0.5).after_ms, 5);
    failed.failures = 2;
    EXPECT_EQ(judge(failed, rules, 0.5).after_ms, 20);
    failed.failures = 9;
    EXPECT_EQ(judge(failed, rules, 0.5).after_ms, 50);
    rules.backoff_cap_ms = 4;  // below the base: the cap holds
    EXPECT_EQ(judge(failed, rules, 0.5).after_ms, 2);
}

TEST(EngineRetryPolicy, the_target_is_blamed_for_what_it_did) {
    for (const TransferEnd end :
         {TransferEnd::connect_failed, TransferEnd::tls_failed, TransferEnd::timeout_connect,
          TransferEnd::timeout_first_byte, TransferEnd::timeout_idle, TransferEnd::timeout_total,
          TransferEnd::broken}) {
        EXPECT_EQ(of_end(end).blame, Blame::failing) << static_cast<int>(end);
    }
    EXPECT_EQ(of_end(TransferEnd::too_large).blame, Blame::ours);
    EXPECT_EQ(of_end(TransferEnd::refused).blame, Blame::ours);
    for (const int status : {500, 502, 503, 529})
        EXPECT_EQ(of_status(status).blame, Blame::failing) << status;
    for (const int status : {400, 404, 408, 409, 413, 422}) {
        EXPECT_EQ(of_status(status).blame, Blame::none) << status;
    }
    for (const int status : {401, 403}) EXPECT_EQ(of_status(status).blame, Blame::auth) << status;
    EXPECT_EQ(of_status(429).blame, Blame::rate_limit);
    EXPECT_EQ(of_status(400, "", "invalid_api_key").blame, Blame::auth);
    EXPECT_EQ(in_stream("rate_limit_exceeded").blame, Blame::rate_limit);
    EXPECT_EQ(in_stream("http_error", "429").blame, Blame::rate_limit);
    EXPECT_EQ(in_stream("overloaded_error").blame, Blame::failing);
    EXPECT_EQ(in_stream("cut_stream").blame, Blame::failing);
    EXPECT_EQ(in_stream("permission_error").blame, Blame::auth);
    EXPECT_EQ(in_stream("invalid_request_error").blame, Blame::none);
}

}  // namespace
}  // namespace mrprompt
