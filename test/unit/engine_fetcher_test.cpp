// The fetcher's main path: hello, claim, stream, settle, and what makes the next call due.
#include "engine_twins.hpp"

namespace mrprompt {
namespace {

using EngineFetcher = test::EngineTest;
using test::kFetcherId;
using test::uuid;

const Json kEmpty = {
    {"providers", Json::array()}, {"jobs", Json::array()}, {"cancel", Json::array()}, {"next_ms", nullptr}};

TEST_F(EngineFetcher, hello_says_who_it_is) {
    FetcherOptions options;
    options.program = "mrprompt-fetcher 9";
    options.host = "box";
    options.pid = 77;
    make(options);
    step();
    const Json& hello = expect(CallKind::hello);
    EXPECT_EQ(
        hello,
        Json::parse(
            R"({"contract":2,"program":"mrprompt-fetcher 9","kind":"child","host":"box","pid":77,"alone":false})"));
}

TEST_F(EngineFetcher, claim_asks_for_the_room_and_bytes_of_the_settings) {
    make();
    greet({{"max_in_flight", 12}, {"claim_bytes", 1000}});
    const Json& claim = expect(CallKind::claim);
    EXPECT_EQ(claim["fetcher"], kFetcherId);
    EXPECT_EQ(claim["room"], 12);
    EXPECT_EQ(claim["bytes"], 1000);
}

TEST_F(EngineFetcher, in_flight_option_caps_the_setting) {
    FetcherOptions options;
    options.in_flight_cap = 3;
    make(options);
    greet({{"max_in_flight", 12}});
    EXPECT_EQ(expect(CallKind::claim)["room"], 3);
}

TEST_F(EngineFetcher, a_job_becomes_a_request_with_its_key_and_a_settled_outcome) {
    make();
    greet();
    give({job(1)});
    ASSERT_EQ(transport.order.size(), 1u);
    const std::uint64_t id = transport.order[0];
    EXPECT_EQ(transport.secrets[id], "sk-test-engine");
    EXPECT_EQ(Json::parse(transport.bodies[id])["model"], "m");
    expect_quiet();
    clock.now += 12;
    stream_head(id);
    say(id, "hello");
    step();
    store_pieces();
    say(id, " again");
    clock.now += 8;
    finish_stream(id);
    step();
    const Json outcome = expect(CallKind::settle)["outcomes"][0];
    EXPECT_EQ(outcome["request"], uuid(1));
    EXPECT_EQ(outcome["attempt"], 1);
    EXPECT_EQ(outcome["result"], "succeeded");
    ASSERT_EQ(outcome["deltas"].size(), 1u);
    EXPECT_EQ(outcome["deltas"][0]["seq"], 2);
    EXPECT_EQ(outcome["deltas"][0]["content"], " again");
    EXPECT_EQ(outcome["response"]["content"], "hello again");
    EXPECT_EQ(outcome["response"]["finish_reason"], "stop");
    EXPECT_EQ(outcome["response"]["model"], "m-1");
    EXPECT_EQ(outcome["response"]["provider_response_id"], "c1");
    EXPECT_EQ(outcome["usage"]["prompt_tokens"], 9);
    EXPECT_EQ(outcome["raw_usage"]["completion_tokens"], 2);
    EXPECT_EQ(outcome["provider_request_id"], "req-7");
    EXPECT_EQ(outcome["http_status"], 200);
    EXPECT_EQ(outcome["first_token_ms"], 12);
    EXPECT_EQ(outcome["total_ms"], 20);
    EXPECT_TRUE(outcome["error"].is_null());
    EXPECT_FALSE(outcome.contains("retry_after_ms"));
}

TEST_F(EngineFetcher, the_first_piece_of_a_stream_leaves_at_once_and_alone) {
    make();
    greet({{"delta_ms", 50}});
    give({job(1), job(2)});
    for (std::uint64_t id : transport.order) stream_head(id);
    say(transport.order[0], "a");
    step();
    EXPECT_EQ(expect(CallKind::append)["deltas"][0]["content"], "a");
    store_pieces();
    say(transport.order[0], "b");
    step();
    expect_quiet();
    say(transport.order[1], "c");
    step();
    EXPECT_EQ(expect(CallKind::append)["deltas"].size(), 1u);
    EXPECT_EQ(expect(CallKind::append)["deltas"][0]["content"], "c");
    store_pieces();
    expect_quiet();
    pass(50);
    EXPECT_EQ(expect(CallKind::append)["deltas"].size(), 1u);
    EXPECT_EQ(expect(CallKind::append)["deltas"][0]["content"], "b");
}

TEST_F(EngineFetcher, deltas_of_many_requests_leave_together_after_the_interval) {
    make();
    greet({{"delta_ms", 50}});
    give({job(1), job(2)});
    for (std::uint64_t id : transport.order) {
        stream_head(id);
        say(id, "first");
    }
    step();
    store_pieces();
    say(transport.order[0], "a");
    step();
    pass(30);
    say(transport.order[0], "b");
    say(transport.order[1], "c");
    step();
    expect_quiet();
    EXPECT_EQ(fetcher->deadline(), clock.now + 20);
    pass(20);
    const Json deltas = expect(CallKind::append)["deltas"];
    ASSERT_EQ(deltas.size(), 2u);
    EXPECT_EQ(deltas[0], (Json{{"request", uuid(1)}, {"attempt", 1}, {"seq", 2}, {"content", "ab"}}));
    EXPECT_EQ(deltas[1]["content"], "c");
    answer({{"lost", Json::array()}, {"rejected", Json::array()}});
    say(transport.order[0], "d");
    step();
    pass(50);
    EXPECT_EQ(expect(CallKind::append)["deltas"][0]["seq"], 3);
}

TEST_F(EngineFetcher, the_outcome_carries_only_the_tail_that_no_append_has_carried) {
    make();
    greet();
    give({job(1)});
    const std::uint64_t id = transport.order[0];
    stream_head(id);
    say(id, "first ");
    step();
    pass(50);
    expect(CallKind::append);
    say(id, "second");
    finish_stream(id);
    step();
    answer({{"lost", Json::array()}});
    const Json& outcome = expect(CallKind::settle)["outcomes"][0];
    ASSERT_EQ(outcome["deltas"].size(), 1u);
    EXPECT_EQ(outcome["deltas"][0]["seq"], 2);
    EXPECT_EQ(outcome["deltas"][0]["content"], "second");
    EXPECT_EQ(outcome["response"]["content"], "first second");
}

TEST_F(EngineFetcher, a_request_that_does_not_stream_has_no_deltas) {
    make();
    greet();
    give({job(1, false)});
    const std::uint64_t id = transport.order[0];
    transport.head(id, 200, {{"content-type", "application/json"}});
    transport.body(
        id,
        R"({"id":"c","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"whole"},"finish_reason":"stop"}]})");
    step();
    pass(60);
    expect_quiet();
    transport.end(id);
    step();
    const Json& outcome = expect(CallKind::settle)["outcomes"][0];
    EXPECT_EQ(outcome["response"]["content"], "whole");
    EXPECT_TRUE(outcome["deltas"].empty());
}

TEST_F(EngineFetcher, outcomes_gather_while_a_call_is_under_way) {
    make();
    greet();
    give({job(1), job(2), job(3)});
    whole_answer(transport.order[0]);
    step();
    EXPECT_EQ(expect(CallKind::settle)["outcomes"].size(), 1u);
    whole_answer(transport.order[1]);
    whole_answer(transport.order[2]);
    step();
    answer({{"busy", Json::array()}});
    EXPECT_EQ(expect(CallKind::settle)["outcomes"].size(), 2u);
}

TEST_F(EngineFetcher, a_wake_leads_to_a_claim_and_silence_to_a_poll) {
    make();
    greet({{"poll_ms", 700}, {"heartbeat_ms", 60000}});
    answer(kEmpty);
    expect_quiet();
    store.wake = true;
    step();
    expect(CallKind::claim);
    answer(kEmpty);
    expect_quiet();
    EXPECT_EQ(fetcher->deadline(), clock.now + 700);
    pass(699);
    expect_quiet();
    pass(1);
    expect(CallKind::claim);
}

TEST_F(EngineFetcher, a_claim_follows_when_the_database_said_that_work_gets_ready) {
    make();
    greet({{"heartbeat_ms", 60000}});
    Json later = kEmpty;
    later["next_ms"] = 300;
    answer(later);
    pass(299);
    expect_quiet();
    pass(1);
    expect(CallKind::claim);
}

TEST_F(EngineFetcher, after_a_full_claim_it_waits_until_an_eighth_is_free_while_there_is_other_work) {
    make();
    greet({{"max_in_flight", 16}, {"heartbeat_ms", 60000}});
    std::vector<Json> jobs;
    for (int i = 1; i <= 16; ++i) jobs.push_back(job(i));
    give(jobs);
    expect_quiet();
    whole_answer(transport.order[0]);
    step();
    expect(CallKind::settle);
    stream_head(transport.order[2]);
    whole_answer(transport.order[1]);
    step();
    answer({{"busy", Json::array()}});
    // Two of sixteen are free: an eighth, and it is claim's turn.
    EXPECT_EQ(expect(CallKind::claim)["room"], 2);
}

TEST_F(EngineFetcher, after_a_full_claim_a_small_one_is_made_when_nothing_else_is_to_be_done) {
    make();
    greet({{"max_in_flight", 16}, {"heartbeat_ms", 60000}});
    std::vector<Json> jobs;
    for (int i = 1; i <= 16; ++i) jobs.push_back(job(i));
    give(jobs);
    whole_answer(transport.order[0]);
    step();
    expect(CallKind::settle);
    answer({{"busy", Json::array()}});
    EXPECT_EQ(expect(CallKind::claim)["room"], 1);
}

TEST_F(EngineFetcher, a_wake_without_room_becomes_a_heartbeat_that_brings_cancels) {
    make();
    greet({{"max_in_flight", 1}, {"heartbeat_ms", 60000}});
    give({job(1)});
    expect_quiet();
    pass(500);
    store.wake = true;
    step();
    EXPECT_EQ(expect(CallKind::heartbeat)["in_flight"], Json::parse("[[\"" + uuid(1) + "\",1]]"));
    answer({{"cancel", {uuid(1)}}});
    EXPECT_TRUE(transport.cancelled.contains(transport.order[0]));
    EXPECT_EQ(expect(CallKind::settle)["outcomes"][0]["result"], "cancelled");
}

TEST_F(EngineFetcher, the_heartbeat_lists_everything_and_shows_the_progress_of_older_requests) {
    make();
    greet({{"heartbeat_ms", 2000}});
    give({job(1, true, 3), job(2)});
    stream_head(transport.order[0]);
    say(transport.order[0], "sixteen letters!");
    pass(500);
    settle_down();
    pass(1500);
    Json beat = expect(CallKind::heartbeat);
    EXPECT_EQ(beat["in_flight"].size(), 2u);
    EXPECT_EQ(beat["leaving"], false);
    ASSERT_EQ(beat["progress"].size(), 2u);
    if (beat["progress"][0]["request"] != uuid(1)) std::swap(beat["progress"][0], beat["progress"][1]);
    EXPECT_EQ(beat["progress"][0],
              (Json{{"request", uuid(1)}, {"attempt", 3}, {"phase", "streaming"}, {"tokens", 4}}));
    EXPECT_EQ(beat["progress"][1]["phase"], "connecting");
}

TEST_F(EngineFetcher, settings_that_a_heartbeat_brings_are_in_force_at_once) {
    make();
    greet({{"heartbeat_ms", 100}, {"max_in_flight", 4}});
    answer(kEmpty);
    pass(100);
    expect(CallKind::heartbeat);
    answer({{"settings", {{"max_in_flight", 9}, {"heartbeat_ms", 300}}}, {"alone_waiting", 2}});
    EXPECT_EQ(fetcher->alone_waiting(), 2);
    store.wake = true;
    step();
    EXPECT_EQ(expect(CallKind::claim)["room"], 9);
}

TEST_F(EngineFetcher, a_fetcher_on_its_own_tends_when_idle_and_a_child_does_not) {
    for (const bool tends : {true, false}) {
        store = {};
        FetcherOptions options;
        options.tends = tends;
        make(options);
        greet({{"heartbeat_ms", 60000}, {"poll_ms", 60000}});
        answer(kEmpty);
        pass(5'000);
        if (tends) {
            EXPECT_EQ(expect(CallKind::tend)["limit"], 1000);
        } else {
            expect_quiet();
        }
    }
}

TEST_F(EngineFetcher, it_tends_again_soon_while_the_database_says_that_there_is_more) {
    FetcherOptions options;
    options.tends = true;
    make(options);
    greet({{"heartbeat_ms", 60000}, {"poll_ms", 60000}});
    answer(kEmpty);
    expect(CallKind::tend);
    answer({{"did", 1000}, {"more", true}});
    expect_quiet();
    EXPECT_EQ(fetcher->deadline(), clock.now + 100);
    pass(100);
    expect(CallKind::tend);
    answer({{"did", 3}, {"more", false}});
    EXPECT_EQ(fetcher->deadline(), clock.now + 5'000);
    pass(5'000);
    expect(CallKind::tend);
    answer({{"did", 3}});  // contract 1 does not say
    EXPECT_EQ(fetcher->deadline(), clock.now + 5'000);
}

TEST_F(EngineFetcher, no_kind_of_call_starves_another_under_load) {
    make();
    greet({{"max_in_flight", 8}, {"heartbeat_ms", 60000}, {"delta_ms", 0}});
    give({job(1), job(2), job(3), job(4), job(5), job(6), job(7), job(8)});
    std::size_t next = 0;
    for (int turn = 0; turn < 30; ++turn) {
        if (next + 1 < transport.order.size()) {
            whole_answer(transport.order[next++]);
            stream_head(transport.order[next]);
            say(transport.order[next], "x");
            transport.running.insert(transport.order[next]);
        }
        store.wake = true;
        step();
        if (!store.busy) continue;
        if (store.calls.back().first == CallKind::claim) {
            give({job(100 + turn)});
        } else {
            answer({{"busy", Json::array()}});
        }
    }
    EXPECT_GT(count(CallKind::settle), 3u);
    EXPECT_GT(count(CallKind::append), 3u);
    EXPECT_GT(count(CallKind::claim), 3u);
}

TEST_F(EngineFetcher, the_deadline_lies_in_the_future_when_nothing_is_due) {
    make();
    greet();
    answer(kEmpty);
    for (int turn = 0; turn < 50; ++turn) {
        ASSERT_GT(fetcher->deadline(), clock.now);
        pass(fetcher->deadline() - clock.now);
        ASSERT_TRUE(store.busy) << "it woke up for nothing";
        EXPECT_EQ(fetcher->deadline(), kNever);
        settle_down();
    }
}

}  // namespace
}  // namespace mrprompt
