// The fetcher's coming and going: hello, stop, drain, and the fetcher that serves one request alone.
#include "engine_twins.hpp"

namespace mrprompt {
namespace {

using EngineComingAndGoing = test::EngineTest;
using test::uuid;

const Json kEmpty = {
    {"providers", Json::array()}, {"jobs", Json::array()}, {"cancel", Json::array()}, {"next_ms", nullptr}};
const Json kSettled = {{"busy", Json::array()}, {"stale", Json::array()}, {"rejected", Json::array()}};

TEST_F(EngineComingAndGoing, a_contract_that_is_not_served_ends_the_program_with_the_remedy) {
    make();
    step();
    fail("PT400", "this database speaks contract version 4, the fetcher 2");
    EXPECT_EQ(expect(CallKind::hello)["contract"], 1);
    fail("PT400", "this database speaks contract version 4, the fetcher 1 (ALTER EXTENSION mrprompt UPDATE)");
    EXPECT_TRUE(fetcher->finished());
    EXPECT_EQ(fetcher->exit_code(), 3);
    ASSERT_EQ(log.size(), 1u);
    EXPECT_NE(log[0].find("ALTER EXTENSION"), std::string::npos);
}

TEST_F(EngineComingAndGoing, an_extension_not_yet_updated_is_served_by_its_own_contract) {
    make();
    step();
    EXPECT_EQ(expect(CallKind::hello)["contract"], 2);
    fail("PT400", "this database speaks contract version 1, the fetcher 2");
    EXPECT_EQ(expect(CallKind::hello)["contract"], 1);
    answer({{"fetcher", test::kFetcherId}, {"contract", 1}, {"settings", Json::object()}});
    expect(CallKind::claim);
    fail("PT410", "unknown fetcher");
    EXPECT_EQ(expect(CallKind::hello)["contract"], 2) << "it may be updated by now";
}

TEST_F(EngineComingAndGoing, hello_is_tried_again_while_the_database_is_away) {
    make();
    step();
    fail("08006");
    expect_quiet();
    pass(100);
    expect(CallKind::hello);
}

TEST_F(EngineComingAndGoing, a_stop_ends_at_once_and_calls_nobody) {
    make();
    greet();
    give({job(1)});
    const std::size_t calls = store.calls.size();
    store.stop = true;
    step();
    EXPECT_TRUE(fetcher->finished());
    EXPECT_EQ(fetcher->exit_code(), 0);
    EXPECT_TRUE(transport.running.empty());
    EXPECT_EQ(store.calls.size(), calls);
}

TEST_F(EngineComingAndGoing, a_drain_lets_transfers_end_settles_and_says_good_bye) {
    make();
    greet();
    give({job(1)});
    fetcher->drain();
    store.wake = true;
    pass(500);
    EXPECT_FALSE(store.busy && store.calls.back().first == CallKind::claim) << "claims while draining";
    settle_down();
    whole_answer(transport.order[0]);
    step();
    EXPECT_EQ(expect(CallKind::settle)["outcomes"][0]["result"], "succeeded");
    answer(kSettled);
    EXPECT_EQ(expect(CallKind::heartbeat)["leaving"], true);
    EXPECT_FALSE(fetcher->finished());
    answer(Json::object());
    EXPECT_TRUE(fetcher->finished());
    EXPECT_EQ(fetcher->exit_code(), 0);
}

TEST_F(EngineComingAndGoing, when_the_grace_is_over_a_drain_hands_back_what_has_not_ended) {
    make();
    greet();
    give({job(1)});
    fetcher->drain();
    pass(29'000);
    settle_down();
    EXPECT_LE(fetcher->deadline(), clock.now + 1'000);
    pass(1'000);
    const Json& outcome = expect(CallKind::settle)["outcomes"][0];
    EXPECT_EQ(outcome["result"], "retry");
    EXPECT_EQ(outcome["retry_after_ms"], 0);
    EXPECT_EQ(outcome["counts_as_failure"], false);
    EXPECT_TRUE(transport.running.empty());
}

TEST_F(EngineComingAndGoing, a_drain_ends_even_when_the_database_never_comes_back) {
    make();
    greet();
    give({job(1)});
    store.connected = false;
    fetcher->drain();
    for (int turn = 0; turn < 10 && !fetcher->finished(); ++turn) {
        ASSERT_NE(fetcher->deadline(), kNever);
        pass(std::max<std::int64_t>(0, fetcher->deadline() - clock.now));
    }
    EXPECT_TRUE(fetcher->finished());
}

TEST_F(EngineComingAndGoing, an_alone_fetcher_serves_one_request_and_leaves) {
    FetcherOptions options;
    options.alone = true;
    make(options);
    greet();
    EXPECT_EQ(store.calls[0].second["alone"], true);
    EXPECT_EQ(expect(CallKind::claim)["room"], 1);
    give({job(1)});
    whole_answer(transport.order[0]);
    step();
    expect(CallKind::settle);
    answer(kSettled);
    EXPECT_EQ(expect(CallKind::heartbeat)["leaving"], true);
    answer(Json::object());
    EXPECT_TRUE(fetcher->finished());
    EXPECT_EQ(count(CallKind::claim), 1u);
}

TEST_F(EngineComingAndGoing, an_alone_fetcher_that_finds_nothing_leaves_after_a_few_seconds) {
    FetcherOptions options;
    options.alone = true;
    make(options);
    greet();
    answer(kEmpty);
    for (int turn = 0; turn < 10 && !fetcher->finished(); ++turn) {
        pass(fetcher->deadline() - clock.now);
        while (store.busy) answer(kEmpty);
    }
    EXPECT_TRUE(fetcher->finished());
    EXPECT_LE(clock.now, 1'000 + 6'000);
}

}  // namespace
}  // namespace mrprompt
