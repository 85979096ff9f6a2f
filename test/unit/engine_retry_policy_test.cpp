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
    return judge(failed, 0.5);
}

Verdict in_stream(const std::string& type, const std::string& code = "") {
    const ProviderError error{0, type, code, "m"};
    FailedAttempt failed;
    failed.status = 200;
    failed.error = &error;
    return judge(failed, 0.5);
}

Verdict of_end(TransferEnd end) {
    FailedAttempt failed;
    failed.end = end;
    return judge(failed, 0.5);
}

constexpr std::int64_t kWall = 784'111'777'000;  // Sun, 06 Nov 1994 08:49:37 GMT

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
                      {TransferEnd::too_large, "response_too_large", false},
                      {TransferEnd::refused, "url_refused", false}};
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
    EXPECT_EQ(judge(failed, 0.0).after_ms, 0);
    EXPECT_EQ(judge(failed, 0.5).after_ms, 250);
    failed.failures = 3;
    EXPECT_EQ(judge(failed, 0.5).after_ms, 2'000);
    failed.failures = 1'000'000;
    EXPECT_EQ(judge(failed, 0.5).after_ms, 30'000);
}

TEST(EngineRetryPolicy, what_does_not_count_backs_off_by_its_attempts) {
    const ProviderError error{429, "rate_limit_error", "", "m"};
    FailedAttempt failed;
    failed.status = 429;
    failed.error = &error;
    failed.attempt = 5;
    EXPECT_EQ(judge(failed, 0.5).after_ms, 4'000);
}

TEST(EngineRetryPolicy, the_providers_wish_is_a_lower_bound) {
    FailedAttempt failed;
    failed.end = TransferEnd::broken;
    failed.retry_after_ms = 7'000;
    EXPECT_EQ(judge(failed, 0.9).after_ms, 7'000);
}

TEST(EngineRetryPolicy, retry_after_is_read_in_every_form) {
    EXPECT_EQ(retry_after({{"retry-after", "2"}}, kWall), 2'000);
    EXPECT_EQ(retry_after({{"retry-after", "0.25"}}, kWall), 250);
    EXPECT_EQ(retry_after({{"retry-after", "9"}, {"retry-after-ms", "120"}}, kWall), 120);
    EXPECT_EQ(retry_after({{"retry-after", "Sun, 06 Nov 1994 08:49:47 GMT"}}, kWall), 10'000);
    EXPECT_EQ(retry_after({{"retry-after", "Sun, 06 Nov 1994 08:49:27 GMT"}}, kWall), 0);
    EXPECT_EQ(retry_after({{"retry-after", "86400"}}, kWall), 3'600'000);
    EXPECT_EQ(retry_after({{"retry-after", "-5"}}, kWall), 0);
    for (const char* nonsense :
         {"", "soon", "nan", "inf", "1e999", "12 parsecs", "Sun, 06 Nov 1994 08:49:47 CET"}) {
        EXPECT_EQ(retry_after({{"retry-after", nonsense}}, kWall), std::nullopt) << nonsense;
    }
    EXPECT_EQ(retry_after({{"date", "x"}}, kWall), std::nullopt);
}

}  // namespace
}  // namespace mrprompt
