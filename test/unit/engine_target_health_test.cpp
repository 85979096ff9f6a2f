// The share of failures at a target within a sliding minute.
#include "engine/target_health.hpp"

#include <gtest/gtest.h>

namespace mrprompt {
namespace {

const Target kTarget{"p", "k", "m"};

// Feeds "f" (failed) and "." (went well), one a second; the letter at which it said "too many", or -1.
int first_alarm(TargetHealth& health, std::string_view ends, int percent = 50, int attempts = 4,
                std::int64_t from_ms = 0) {
    for (std::size_t i = 0; i < ends.size(); ++i) {
        if (health.ended(kTarget, ends[i] == 'f', percent, attempts,
                         from_ms + static_cast<std::int64_t>(i) * 1'000))
            return static_cast<int>(i);
    }
    return -1;
}

TEST(EngineTargetHealth, too_few_attempts_say_nothing) {
    TargetHealth health;
    EXPECT_EQ(first_alarm(health, "fff"), -1);
    EXPECT_EQ(first_alarm(health, "f"), 0);
}

TEST(EngineTargetHealth, the_share_decides) {
    for (const auto& [ends, alarm] : std::initializer_list<std::pair<const char*, int>>{
             {"..ff", 3}, {"...f", -1}, {".f.f", 3}, {"...ff", -1}, {"...fff", 5}, {"f...f.f.f", -1}}) {
        TargetHealth health;
        EXPECT_EQ(first_alarm(health, ends), alarm) << ends;
    }
    TargetHealth strict;
    EXPECT_EQ(first_alarm(strict, ".ffffffff", 100), -1);
    TargetHealth always_down;
    EXPECT_EQ(first_alarm(always_down, "ffff", 100), 3);
}

TEST(EngineTargetHealth, an_attempt_that_went_well_raises_no_alarm) {
    TargetHealth health;
    EXPECT_EQ(first_alarm(health, "fff."), -1);
    EXPECT_EQ(first_alarm(health, "f"), 0);
}

TEST(EngineTargetHealth, counts_begin_anew_after_an_alarm) {
    TargetHealth health;
    EXPECT_EQ(first_alarm(health, "ffff"), 3);
    EXPECT_EQ(first_alarm(health, "fff"), -1);
    EXPECT_EQ(first_alarm(health, "f"), 0);
}

TEST(EngineTargetHealth, what_is_older_than_a_minute_counts_no_more) {
    TargetHealth health;
    EXPECT_EQ(first_alarm(health, "fff"), -1);
    EXPECT_EQ(first_alarm(health, "fff", 50, 4, 70'000), -1);
    EXPECT_EQ(first_alarm(health, "f", 50, 4, 73'000), 0);
    TargetHealth recovered;
    EXPECT_EQ(first_alarm(recovered, ".........", 50, 4), -1);
    EXPECT_EQ(first_alarm(recovered, "ffff", 50, 4, 70'000), 3);
}

TEST(EngineTargetHealth, the_window_slides_a_slice_at_a_time) {
    TargetHealth health;
    health.ended(kTarget, true, 50, 4, 0);
    health.ended(kTarget, true, 50, 4, 30'000);
    health.ended(kTarget, true, 50, 4, 50'000);
    EXPECT_FALSE(health.ended(kTarget, true, 50, 4, 61'000)) << "the first has left";
    EXPECT_TRUE(health.ended(kTarget, true, 50, 4, 62'000));
}

TEST(EngineTargetHealth, zero_percent_is_never) {
    TargetHealth health;
    EXPECT_EQ(first_alarm(health, "ffffffff", 0), -1);
    EXPECT_EQ(health.size(), 0u);
}

TEST(EngineTargetHealth, targets_differ_by_provider_key_and_model) {
    TargetHealth health;
    const Target all[] = {kTarget, {"q", "k", "m"}, {"p", "", "m"}, {"p", "k", "n"}};
    for (int round = 0; round < 3; ++round) {
        for (const Target& target : all) EXPECT_FALSE(health.ended(target, true, 50, 4, 0));
    }
    for (const Target& target : all) EXPECT_TRUE(health.ended(target, true, 50, 4, 0));
}

TEST(EngineTargetHealth, idle_targets_are_forgotten) {
    TargetHealth health;
    for (int i = 0; i < 100; ++i) health.ended({"p", "k", std::to_string(i)}, false, 50, 4, 1'000);
    EXPECT_EQ(health.size(), 100u);
    health.ended(kTarget, false, 50, 4, 90'000);
    EXPECT_EQ(health.size(), 1u);
}

TEST(EngineTargetHealth, beyond_the_most_the_quietest_goes) {
    TargetHealth health;
    health.ended({"p", "k", "quiet"}, true, 50, 2, 0);
    for (std::size_t i = 1; i < TargetHealth::kMaxTargets; ++i)
        health.ended({"p", "k", std::to_string(i)}, true, 50, 2, 10'000);
    ASSERT_EQ(health.size(), TargetHealth::kMaxTargets);
    EXPECT_TRUE(health.ended({"p", "k", "7"}, true, 50, 2, 20'000)) << "a known one makes no room";
    health.ended({"p", "k", "7"}, true, 50, 2, 20'000);
    health.ended({"p", "k", "new"}, true, 50, 2, 20'000);
    EXPECT_EQ(health.size(), TargetHealth::kMaxTargets);
    EXPECT_TRUE(health.ended({"p", "k", "new"}, true, 50, 2, 20'000));
    EXPECT_FALSE(health.ended({"p", "k", "quiet"}, true, 50, 2, 20'000)) << "it was forgotten";
}

}  // namespace
}  // namespace mrprompt
