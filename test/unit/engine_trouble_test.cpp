// The fetcher in trouble: lost replies, refusals, cancels, unknown fetchers, too much to hold.
#include "engine_twins.hpp"

namespace mrprompt {
namespace {

using EngineTrouble = test::EngineTest;
using test::uuid;

const Json kEmpty = {
    {"providers", Json::array()}, {"jobs", Json::array()}, {"cancel", Json::array()}, {"next_ms", nullptr}};
const Json kSettled = {{"busy", Json::array()}, {"stale", Json::array()}, {"rejected", Json::array()}};

TEST_F(EngineTrouble, after_a_lost_claim_a_heartbeat_comes_before_the_next_claim) {
    make();
    greet();
    fail("08006");
    expect_quiet();
    pass(99);
    expect_quiet();
    pass(1);
    EXPECT_TRUE(expect(CallKind::heartbeat)["in_flight"].empty());
    fail("08006");
    pass(5'000);
    expect(CallKind::heartbeat);
    answer(Json::object());
    expect(CallKind::claim);
}

TEST_F(EngineTrouble, a_claim_that_was_rolled_back_is_simply_made_again) {
    make();
    greet();
    fail("40001");
    pass(100);
    expect(CallKind::claim);
}

TEST_F(EngineTrouble, a_claim_whose_answer_makes_no_sense_is_relisted) {
    make();
    greet();
    store.busy = false;
    store.waiting = Reply{CallKind::claim, "", "{broken", {}};
    step();
    EXPECT_EQ(log.size(), 1u);
    pass(5'000);
    expect(CallKind::heartbeat);
}

TEST_F(EngineTrouble, a_claim_too_large_to_be_carried_is_relisted_and_made_again_for_half_the_bytes) {
    make();
    greet({{"claim_bytes", 1000}});
    for (const int bytes : {500, 250}) {
        fail("54000", "the answer is larger than a frame may be");
        pass(200);
        EXPECT_TRUE(expect(CallKind::heartbeat)["in_flight"].empty());
        answer({{"settings", {{"claim_bytes", 1000}}}});
        EXPECT_EQ(expect(CallKind::claim)["bytes"], bytes);
    }
    Json claim = claimed({job(1)});
    claim["padding"] = std::string(200, 'x');  // half of what was asked for: there is more
    answer(claim, keys());
    EXPECT_EQ(expect(CallKind::claim)["bytes"], 1000);
}

TEST_F(EngineTrouble, the_answer_that_holds_most_ends_when_all_hold_too_much) {
    FetcherOptions options;
    options.max_held_bytes = 10'000;
    make(options);
    greet();
    give({job(1, false), job(2, false)});
    for (std::uint64_t id : transport.order) transport.head(id, 200, {{"content-type", "application/json"}});
    transport.body(transport.order[0], "{\"id\":\"" + std::string(3'000, 'a'));
    transport.body(transport.order[1], "{\"id\":\"" + std::string(6'000, 'b'));
    step();
    expect_quiet();
    transport.body(transport.order[0], std::string(2'000, 'a'));
    step();
    EXPECT_EQ(transport.cancelled, (std::set<std::uint64_t>{transport.order[1]}));
    const Json outcomes = expect(CallKind::settle)["outcomes"];
    ASSERT_EQ(outcomes.size(), 1u);
    EXPECT_EQ(outcomes[0]["request"], uuid(2));
    EXPECT_EQ(outcomes[0]["result"], "failed");
    EXPECT_EQ(outcomes[0]["error"]["type"], "response_too_large");
    EXPECT_EQ(log.size(), 1u);
    answer(kSettled);
    transport.body(transport.order[0], std::string(4'000, 'a'));
    step();
    expect_quiet();
}

TEST_F(EngineTrouble, what_the_database_has_taken_holds_nothing_more) {
    FetcherOptions options;
    options.max_held_bytes = 5'000;
    make(options);
    greet();
    for (int n = 1; n <= 5; ++n) {
        give({job(n)});
        const std::uint64_t id = transport.order.back();
        stream_head(id);
        say(id, std::string(1'500, 'a'));
        finish_stream(id);
        step();
        EXPECT_EQ(expect(CallKind::settle)["outcomes"][0]["result"], "succeeded");
        store.wake = true;
        answer(kSettled);
        expect(CallKind::claim);
    }
}

TEST_F(EngineTrouble, a_large_outcome_that_waits_makes_room_before_smaller_answers_do) {
    FetcherOptions options;
    options.max_held_bytes = 15'000;
    make(options);
    greet();
    give({job(1), job(2)});
    store.connected = false;
    const std::uint64_t large = transport.order[0], small = transport.order[1];
    stream_head(large);
    say(large, std::string(5'000, 'a'));  // in the delta, and in the response
    finish_stream(large);
    stream_head(small);
    say(small, std::string(1'000, 'b'));
    step();
    EXPECT_TRUE(log.empty());
    for (int piece = 0; piece < 2; ++piece) say(small, std::string(1'000, 'b'));
    step();
    EXPECT_EQ(log.size(), 1u);
    EXPECT_FALSE(transport.cancelled.contains(small));
    store.connected = true;
    step();
    const Json outcome = expect(CallKind::settle)["outcomes"][0];
    EXPECT_EQ(outcome["request"], uuid(1));
    EXPECT_EQ(outcome["result"], "failed");
    EXPECT_EQ(outcome["error"]["type"], "response_too_large");
    EXPECT_TRUE(outcome["response"].is_null());
}

TEST_F(EngineTrouble, a_settle_whose_reply_was_lost_is_sent_again_with_the_same_body) {
    make();
    greet();
    give({job(1)});
    whole_answer(transport.order[0]);
    step();
    expect(CallKind::settle);
    const std::string body = store.bodies.back();
    fail("08006");
    pass(100);
    expect(CallKind::settle);
    EXPECT_EQ(store.bodies.back(), body);
    answer({{"busy", Json::array()}, {"stale", {uuid(1)}}});
    pass(2'000);
    EXPECT_TRUE(expect(CallKind::heartbeat)["in_flight"].empty());
}

TEST_F(EngineTrouble, an_append_is_repeated_before_the_settle_that_follows_it) {
    make();
    greet();
    give({job(1)});
    stream_head(transport.order[0]);
    say(transport.order[0], "a");
    step();
    pass(50);
    expect(CallKind::append);
    const std::string body = store.bodies.back();
    finish_stream(transport.order[0]);
    step();
    fail("57P01");
    pass(100);
    EXPECT_EQ(store.bodies.back(), body);
    answer({{"lost", Json::array()}});
    expect(CallKind::settle);
}

TEST_F(EngineTrouble, patience_grows_from_100_ms_to_5_s_and_heartbeats_go_on) {
    make();
    greet({{"heartbeat_ms", 2000}});
    give({job(1)});
    whole_answer(transport.order[0]);
    step();
    std::vector<std::int64_t> waits;
    bool beat = false;
    for (int turn = 0; turn < 8; ++turn) {
        expect(CallKind::settle);
        fail("55P03");
        const std::int64_t before = clock.now;
        while (!store.busy || store.calls.back().first == CallKind::heartbeat) {
            if (store.busy) {
                beat = true;
                answer(Json::object());
                continue;
            }
            ASSERT_GT(fetcher->deadline(), clock.now);
            pass(fetcher->deadline() - clock.now);
        }
        waits.push_back(clock.now - before);
    }
    EXPECT_EQ(waits, (std::vector<std::int64_t>{100, 200, 400, 800, 1600, 3200, 5000, 5000}));
    EXPECT_TRUE(beat);
}

TEST_F(EngineTrouble, what_the_database_is_busy_with_is_sent_again_a_little_later) {
    make();
    greet();
    give({job(1), job(2)});
    whole_answer(transport.order[0]);
    whole_answer(transport.order[1]);
    step();
    const Json first = expect(CallKind::settle)["outcomes"];
    answer({{"busy", {uuid(2)}}});
    expect_quiet();
    pass(99);
    expect_quiet();
    pass(1);
    const Json& again = expect(CallKind::settle)["outcomes"];
    ASSERT_EQ(again.size(), 1u);
    EXPECT_EQ(again[0], first[1]);
}

TEST_F(EngineTrouble, a_batch_that_the_database_cannot_take_is_halved_until_the_culprit_stands_alone) {
    make();
    greet();
    give({job(1), job(2), job(3), job(4)});
    for (std::uint64_t id : transport.order) whole_answer(id);
    step();
    const auto holds = [&](int n) { return store.bodies.back().find(uuid(n)) != std::string::npos; };
    int refusals = 0;
    std::set<int> settled;
    bool bare = false;
    for (int turn = 0; turn < 12 && store.busy; ++turn) {
        const Json& outcomes = expect(CallKind::settle)["outcomes"];
        if (outcomes.size() == 1 && outcomes[0]["result"] == "failed") {
            EXPECT_EQ(outcomes[0]["request"], uuid(3));
            EXPECT_EQ(outcomes[0]["error"]["type"], "rejected_by_database");
            EXPECT_TRUE(outcomes[0]["response"].is_null());
            EXPECT_EQ(outcomes[0]["usage"]["prompt_tokens"], 9) << "it is charged all the same";
            EXPECT_EQ(outcomes[0]["usage"]["estimated"], false);
            bare = true;
            answer(kSettled);
        } else if (holds(3)) {
            ++refusals;
            fail("22P05", "unsupported Unicode escape sequence");
        } else {
            for (int n = 1; n <= 4; ++n) {
                if (holds(n)) settled.insert(n);
            }
            answer(kSettled);
        }
    }
    EXPECT_EQ(refusals, 3);
    EXPECT_EQ(settled, (std::set<int>{1, 2, 4}));
    EXPECT_TRUE(bare);
    pass(2'000);
    EXPECT_TRUE(expect(CallKind::heartbeat)["in_flight"].empty());
}

TEST_F(EngineTrouble, a_delta_that_the_database_refuses_fails_its_request) {
    make();
    greet();
    give({job(1)});
    stream_head(transport.order[0]);
    say(transport.order[0], "a");
    step();
    pass(50);
    expect(CallKind::append);
    answer({{"lost", Json::array()},
            {"rejected", Json::array({{{"request", uuid(1)}, {"sqlstate", "22021"}, {"message", "bad"}}})}});
    EXPECT_TRUE(transport.cancelled.contains(transport.order[0]));
    const Json& outcome = expect(CallKind::settle)["outcomes"][0];
    EXPECT_EQ(outcome["result"], "failed");
    EXPECT_EQ(outcome["error"]["type"], "rejected_by_database");
}

TEST_F(EngineTrouble, a_rejected_outcome_is_dropped_with_a_line_for_the_operator) {
    make();
    greet();
    give({job(1)});
    whole_answer(transport.order[0]);
    step();
    expect(CallKind::settle);
    answer({{"busy", Json::array()},
            {"rejected",
             Json::array({{{"request", uuid(1)}, {"sqlstate", "22003"}, {"message", "out of range"}}})}});
    expect_quiet();
    ASSERT_EQ(log.size(), 1u);
    EXPECT_NE(log[0].find("out of range"), std::string::npos);
}

TEST_F(EngineTrouble, a_cancel_stops_the_transfer_and_settles_what_was_seen_once) {
    make();
    greet();
    give({job(1)});
    stream_head(transport.order[0]);
    say(transport.order[0], "half ");
    step();
    store_pieces();
    say(transport.order[0], "an ans");
    step();
    store.wake = true;
    step();
    expect(CallKind::claim);
    Json cancel = kEmpty;
    cancel["cancel"] = {uuid(1)};
    answer(cancel);
    EXPECT_TRUE(transport.cancelled.contains(transport.order[0]));
    const Json outcome = expect(CallKind::settle)["outcomes"][0];
    EXPECT_EQ(outcome["result"], "cancelled");
    EXPECT_EQ(outcome["deltas"][0]["content"], "an ans");
    EXPECT_EQ(outcome["response"]["content"], "half an ans");
    store.wake = true;
    answer(kSettled);
    expect(CallKind::claim);
    answer(cancel);
    expect_quiet();
}

TEST_F(EngineTrouble, what_was_lost_is_dropped_in_silence) {
    make();
    greet();
    give({job(1), job(2)});
    for (std::uint64_t id : transport.order) stream_head(id);
    say(transport.order[0], "a");
    step();
    pass(50);
    expect(CallKind::append);
    answer({{"lost", {uuid(1)}}, {"rejected", Json::array()}});
    EXPECT_TRUE(transport.cancelled.contains(transport.order[0]));
    pass(2'000);
    settle_down();
    pass(2'000);
    expect(CallKind::heartbeat);
    answer({{"lost", {uuid(2)}}});
    EXPECT_TRUE(transport.cancelled.contains(transport.order[1]));
    EXPECT_EQ(count(CallKind::settle), 0u);
}

TEST_F(EngineTrouble, an_unknown_fetcher_drops_everything_and_says_hello_again) {
    make();
    greet();
    give({job(1)});
    pass(2'000);
    expect(CallKind::heartbeat);
    fail("PT410", "fetcher is not known here");
    EXPECT_TRUE(transport.running.empty());
    expect(CallKind::hello);
    answer({{"fetcher", uuid(9)}, {"settings", Json::object()}});
    EXPECT_EQ(expect(CallKind::claim)["fetcher"], uuid(9));
}

TEST_F(EngineTrouble, a_key_that_did_not_open_is_retried_and_never_sent_without) {
    make();
    greet();
    std::vector<OpenedKey> closed(1);
    closed[0].reason = "master key k2 is not in the keyring";
    answer(claimed({job(1)}), std::move(closed));
    EXPECT_TRUE(transport.order.empty());
    const Json& outcome = expect(CallKind::settle)["outcomes"][0];
    EXPECT_EQ(outcome["result"], "retry");
    EXPECT_EQ(outcome["counts_as_failure"], true);
    EXPECT_NE(outcome["error"]["message"].get<std::string>().find("k2"), std::string::npos);
}

TEST_F(EngineTrouble, jobs_that_make_no_sense_fail_alone) {
    make();
    greet();
    Json bad_index = job(1);
    bad_index["provider"] = 7;
    Json bad_id = job(2);
    bad_id["request"] = "\"}],";
    give({bad_index, bad_id, job(3)});
    EXPECT_EQ(transport.order.size(), 1u);
    const Json& outcomes = expect(CallKind::settle)["outcomes"];
    ASSERT_EQ(outcomes.size(), 1u);
    EXPECT_EQ(outcomes[0]["error"]["type"], "bad_provider");
}

TEST_F(EngineTrouble, a_providers_error_is_reported_without_the_key) {
    make();
    greet();
    give({job(1)});
    error_answer(
        transport.order[0], 401,
        R"({"message":"Incorrect API key provided: sk-test-engine.","type":"invalid_request_error","code":"invalid_api_key"})");
    step();
    const Json& outcome = expect(CallKind::settle)["outcomes"][0];
    EXPECT_EQ(outcome["result"], "failed");
    EXPECT_EQ(outcome["http_status"], 401);
    EXPECT_EQ(outcome["error"]["status"], 401);
    EXPECT_EQ(outcome["error"]["type"], "invalid_request_error");
    EXPECT_EQ(store.bodies.back().find("sk-test-engine"), std::string::npos);
}

TEST_F(EngineTrouble, retry_after_is_honoured_and_the_queue_is_asked_again_in_time) {
    make();
    greet({{"heartbeat_ms", 60000}, {"poll_ms", 60000}});
    give({job(1)});
    pass(250);
    answer(kEmpty);
    error_answer(transport.order[0], 429, R"({"message":"slow down","type":"rate_limit_error"})",
                 {{"retry-after", "3"}});
    step();
    const Json& outcome = expect(CallKind::settle)["outcomes"][0];
    EXPECT_EQ(outcome["result"], "retry");
    EXPECT_EQ(outcome["retry_after_ms"], 3000);
    EXPECT_EQ(outcome["counts_as_failure"], false);
    answer(kSettled);
    expect_quiet();
    EXPECT_EQ(fetcher->deadline(), clock.now + 3'001);
    pass(3'001);
    expect(CallKind::claim);
}

TEST_F(EngineTrouble, a_stream_that_was_cut_is_tried_again_and_its_tail_is_dropped) {
    make();
    greet();
    give({job(1)});
    stream_head(transport.order[0]);
    say(transport.order[0], "half");
    transport.end(transport.order[0], TransferEnd::broken, "connection reset");
    step();
    const Json& outcome = expect(CallKind::settle)["outcomes"][0];
    EXPECT_EQ(outcome["result"], "retry");
    EXPECT_EQ(outcome["counts_as_failure"], true);
    EXPECT_EQ(outcome["error"]["type"], "connection_broken");
    EXPECT_TRUE(outcome["deltas"].empty());
    EXPECT_TRUE(outcome["response"].is_null());
}

TEST_F(EngineTrouble, a_connection_lost_behind_a_whole_answer_does_not_spoil_it) {
    make();
    greet();
    give({job(1)});
    stream_head(transport.order[0]);
    say(transport.order[0], "whole");
    transport.body(
        transport.order[0],
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n");
    transport.end(transport.order[0], TransferEnd::broken, "connection reset");
    step();
    EXPECT_EQ(expect(CallKind::settle)["outcomes"][0]["result"], "succeeded");
}

TEST_F(EngineTrouble, numbers_beyond_range_in_an_answer_are_brought_within) {
    make();
    greet();
    Json answer_to_claim = kEmpty;
    answer_to_claim["next_ms"] = INT64_MAX;
    answer(answer_to_claim);
    expect_quiet();
    EXPECT_GT(fetcher->deadline(), clock.now);
    pass(2'000);
    expect(CallKind::heartbeat);
    answer({{"alone_waiting", UINT32_MAX}});
    EXPECT_EQ(fetcher->alone_waiting(), INT32_MAX);
}

TEST_F(EngineTrouble, an_error_of_strange_bytes_is_short_and_hides_the_key) {
    make();
    greet();
    give({job(1)});
    const std::string key_with_nul("sk-test\0-engine", 15);
    transport.head(transport.order[0], 200, {{"x-request-id", std::string(300, '\xFF')}});
    transport.end(transport.order[0], TransferEnd::broken, key_with_nul + std::string(1'900, '\xFF'));
    step();
    const Json& outcome = expect(CallKind::settle)["outcomes"][0];
    const std::string& message = outcome["error"]["message"].get_ref<const std::string&>();
    EXPECT_TRUE(message.starts_with("[redacted]\uFFFD")) << message;
    EXPECT_LE(message.size(), 2'000u);
    EXPECT_LE(outcome["provider_request_id"].get_ref<const std::string&>().size(), 200u);
}

}  // namespace
}  // namespace mrprompt
