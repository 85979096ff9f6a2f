// The forms in which a response head says when to come back.
#include "engine/retry_after.hpp"

#include <gtest/gtest.h>

namespace mrprompt {
namespace {

constexpr std::int64_t kWall = 784'111'777'000;  // Sun, 06 Nov 1994 08:49:37 GMT

std::optional<std::int64_t> asked(const Headers& headers, int status = 429) {
    return retry_after(headers, status, kWall);
}

TEST(EngineRetryAfter, is_read_in_every_form) {
    EXPECT_EQ(asked({{"retry-after", "2"}}), 2'000);
    EXPECT_EQ(asked({{"retry-after", "0.25"}}), 250);
    EXPECT_EQ(asked({{"retry-after", "9"}, {"retry-after-ms", "120"}}), 120);
    EXPECT_EQ(asked({{"retry-after", "Sun, 06 Nov 1994 08:49:47 GMT"}}), 10'000);
    EXPECT_EQ(asked({{"retry-after", "86400"}}), 3'600'000);
    for (const char* nonsense :
         {"", "soon", "nan", "inf", "1e999", "12 parsecs", "Sun, 06 Nov 1994 08:49:47 CET"}) {
        EXPECT_EQ(asked({{"retry-after", nonsense}}), std::nullopt) << nonsense;
    }
    EXPECT_EQ(asked({{"date", "x"}}), std::nullopt);
}

TEST(EngineRetryAfter, no_time_or_one_that_has_passed_is_no_wish) {
    for (const char* nothing : {"0", "-1", "-5", "Sun, 06 Nov 1994 08:49:27 GMT"}) {
        EXPECT_EQ(asked({{"retry-after", nothing}}), std::nullopt) << nothing;
    }
    EXPECT_EQ(asked({{"retry-after-ms", "0"}, {"retry-after", "3"}}), 3'000);
    EXPECT_EQ(asked({{"x-ratelimit-reset-requests", "0s"}}), std::nullopt);
    EXPECT_EQ(asked({{"retry-after", "-1"}, {"x-ratelimit-reset-tokens", "2s"}}), 2'000);
}

TEST(EngineRetryAfter, limits_that_are_filled_again_are_told_in_go_durations) {
    const struct {
        const char* text;
        std::optional<std::int64_t> ms;
    } rows[] = {{"1s", 1'000},
                {"6m0s", 360'000},
                {"12ms", 12},
                {"1h2m3.5s", 3'600'000},
                {"2m3.5s", 123'500},
                {"7.66s", 7'660},
                {"1.5h", 3'600'000},
                {"1m0.001s", 60'001},
                {"300us", 1},
                {"300\u00B5s", 1},
                {"5ns", 1},
                {"0", std::nullopt},
                {"-1", std::nullopt},
                {"-1s", std::nullopt},
                {"12", std::nullopt},
                {"1 s", std::nullopt},
                {"s", std::nullopt},
                {"1x", std::nullopt},
                {"1s2", std::nullopt},
                {"1..2s", std::nullopt},
                {"", std::nullopt}};
    for (const auto& row : rows) {
        EXPECT_EQ(asked({{"x-ratelimit-reset-requests", row.text}}), row.ms) << row.text;
    }
}

TEST(EngineRetryAfter, the_limit_that_is_used_up_counts_or_both_where_nothing_is_said) {
    const Headers resets = {{"x-ratelimit-reset-requests", "1s"}, {"x-ratelimit-reset-tokens", "6m0s"}};
    const auto with = [&](const char* requests, const char* tokens) {
        Headers headers = resets;
        if (requests != nullptr) headers.emplace_back("x-ratelimit-remaining-requests", requests);
        if (tokens != nullptr) headers.emplace_back("x-ratelimit-remaining-tokens", tokens);
        return asked(headers);
    };
    EXPECT_EQ(with(nullptr, nullptr), 360'000);
    EXPECT_EQ(with("0", "17"), 1'000);
    EXPECT_EQ(with("17", "0"), 360'000);
    EXPECT_EQ(with("0", "0"), 360'000);
    EXPECT_EQ(with("0", nullptr), 1'000);
    EXPECT_EQ(with("17", "17"), std::nullopt);
    EXPECT_EQ(with("-1", "17"), 1'000);
}

TEST(EngineRetryAfter, anthropics_limits_say_when_they_are_filled_again) {
    const auto with = [](const char* remaining, const char* reset) {
        return asked({{"anthropic-ratelimit-input-tokens-remaining", remaining},
                      {"anthropic-ratelimit-input-tokens-reset", reset}});
    };
    EXPECT_EQ(with("0", "1994-11-06T08:49:47Z"), 10'000);
    EXPECT_EQ(with("0", "1994-11-06T08:49:47.250Z"), 10'250);
    EXPECT_EQ(with("0", "1994-11-06T10:49:47+02:00"), 10'000);
    EXPECT_EQ(with("0", "1994-11-06T08:19:47-00:30"), 10'000);
    EXPECT_EQ(with("0", "2094-11-06T08:49:47Z"), 3'600'000);
    EXPECT_EQ(with("1000", "1994-11-06T08:49:47Z"), std::nullopt);
    EXPECT_EQ(with("0", "1994-11-06T08:49:27Z"), std::nullopt);
    for (const char* nonsense : {"", "1994-11-06", "1994-11-06T08:49:47", "1994-11-06T08:49:47.Z",
                                 "1994-11-06T08:49:47+0200", "10"}) {
        EXPECT_EQ(with("0", nonsense), std::nullopt) << nonsense;
    }
    EXPECT_EQ(asked({{"anthropic-ratelimit-requests-remaining", "0"},
                     {"anthropic-ratelimit-requests-reset", "1994-11-06T08:49:47Z"},
                     {"anthropic-ratelimit-output-tokens-remaining", "0"},
                     {"anthropic-ratelimit-output-tokens-reset", "1994-11-06T08:49:57Z"},
                     {"anthropic-ratelimit-tokens-remaining", "5"},
                     {"anthropic-ratelimit-tokens-reset", "1994-11-06T08:59:57Z"}}),
              20'000);
}

TEST(EngineRetryAfter, limits_say_something_only_beside_a_status_of_too_much) {
    const Headers headers = {{"x-ratelimit-reset-requests", "4s"}};
    for (const int status : {429, 503, 529}) EXPECT_EQ(asked(headers, status), 4'000) << status;
    for (const int status : {200, 400, 500}) EXPECT_EQ(asked(headers, status), std::nullopt) << status;
    EXPECT_EQ(asked({{"retry-after", "4"}}, 500), 4'000);
    EXPECT_EQ(asked({{"retry-after", "9"}, {"x-ratelimit-reset-requests", "4s"}}), 9'000);
}

}  // namespace
}  // namespace mrprompt
