// In-memory twins of the engine's ports: a store that is told what to answer, a transport played by hand, a
// clock that stands still until it is moved.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/json.hpp"
#include "engine/fetcher.hpp"

namespace mrprompt::test {

class FakeClock final : public Clock {
public:
    std::int64_t now_ms() const override { return now; }
    std::int64_t wall_ms() const override { return 1'700'000'000'000 + now; }
    double uniform() override { return jitter; }
    std::int64_t now = 1'000;
    double jitter = 0.5;
};

// Keeps the calls; a test answers the one that is under way.
class FakeStore final : public Store {
public:
    bool ready() const override { return connected && !busy; }
    void call(CallKind kind, std::string json) override {
        ASSERT_TRUE(ready());
        busy = true;
        auto parsed = parse_json(json);
        ASSERT_TRUE(parsed) << json;
        calls.push_back({kind, std::move(*parsed)});
        bodies.push_back(std::move(json));
    }
    std::optional<Reply> reply() override { return std::exchange(waiting, std::nullopt); }
    bool take_wake() override { return std::exchange(wake, false); }
    bool stop_asked() const override { return stop; }

    void answer(const Json& body, std::vector<OpenedKey> keys = {}) {
        ASSERT_TRUE(busy) << "no call is under way";
        busy = false;
        waiting = Reply{calls.back().first, "", body.dump(), std::move(keys)};
    }
    void fail(const std::string& sqlstate, const std::string& message = "it failed") {
        ASSERT_TRUE(busy) << "no call is under way";
        busy = false;
        waiting = Reply{calls.back().first, sqlstate, message, {}};
    }

    std::vector<std::pair<CallKind, Json>> calls;
    std::vector<std::string> bodies;
    std::optional<Reply> waiting;
    bool connected = true, busy = false, wake = false, stop = false;
};

// Keeps what was started; a test plays the provider, and pump() delivers it.
class FakeTransport final : public Transport {
public:
    void start(std::uint64_t id, HttpRequest request, std::uint64_t) override {
        running.insert(id);
        bodies[id] = request.body;
        secrets[id] = std::string(request.secret.view());
        order.push_back(id);
        requests[id] = std::move(request);
    }
    void cancel(std::uint64_t id) override {
        running.erase(id);
        cancelled.insert(id);
    }
    void pump(TransferSink& sink) override {
        for (auto& event : std::exchange(events, {})) {
            if (running.contains(event.first)) event.second(sink);
        }
        for (std::uint64_t id : std::exchange(ended, {})) running.erase(id);
    }

    void sent(std::uint64_t id) {
        events.push_back({id, [=](TransferSink& sink) { sink.on_sent(id); }});
    }
    void head(std::uint64_t id, int status, Headers headers) {
        events.push_back({id, [=](TransferSink& sink) {
                              sink.on_sent(id);
                              sink.on_head(id, status, headers);
                          }});
    }
    void body(std::uint64_t id, std::string bytes) {
        events.push_back({id, [=](TransferSink& sink) { sink.on_body(id, bytes); }});
    }
    void end(std::uint64_t id, TransferEnd end = TransferEnd::complete, std::string message = "") {
        events.push_back({id, [=, this](TransferSink& sink) {
                              ended.push_back(id);
                              sink.on_end(id, end, message);
                          }});
    }

    std::set<std::uint64_t> running, cancelled;
    std::map<std::uint64_t, std::string> bodies, secrets;
    std::map<std::uint64_t, HttpRequest> requests;
    std::vector<std::uint64_t> order;
    std::vector<std::pair<std::uint64_t, std::function<void(TransferSink&)>>> events;
    std::vector<std::uint64_t> ended;
};

inline constexpr char kFetcherId[] = "00000000-0000-7000-8000-00000000f001";

// Request number n, as a uuid.
inline std::string uuid(int n) {
    std::string digits = std::to_string(n);
    return "00000000-0000-7000-8000-" + std::string(12 - digits.size(), '0') + digits;
}

// A fetcher between its twins, and the sentences in which tests speak of them.
class EngineTest : public ::testing::Test {
protected:
    void make(FetcherOptions options = {}) {
        options.log = [this](std::string_view line) { log.emplace_back(line); };
        fetcher.emplace(store, transport, clock, std::move(options));
    }
    void step() { fetcher->step(); }
    void pass(std::int64_t ms) {
        clock.now += ms;
        step();
    }
    // The call under way; its kind is checked.
    const Json& expect(CallKind kind) {
        static const Json none;
        EXPECT_TRUE(store.busy) << "no call is under way";
        if (store.calls.empty()) return none;
        EXPECT_EQ(static_cast<int>(store.calls.back().first), static_cast<int>(kind));
        return store.calls.back().second;
    }
    void expect_quiet() { EXPECT_FALSE(store.busy) << "a call is under way: " << store.bodies.back(); }
    void answer(const Json& body, std::vector<OpenedKey> keys = {}) {
        store.answer(body, std::move(keys));
        step();
    }
    void fail(const std::string& sqlstate, const std::string& message = "it failed") {
        store.fail(sqlstate, message);
        step();
    }
    // The first pieces of streams leave at once.
    void store_pieces() {
        expect(CallKind::append);
        answer({{"lost", Json::array()}, {"rejected", Json::array()}});
    }
    // Says hello, and leaves the first claim under way.
    void greet(Json settings = Json::object()) {
        step();
        expect(CallKind::hello);
        answer(
            {{"fetcher", kFetcherId}, {"contract", 2}, {"channel", "c"}, {"settings", std::move(settings)}});
        expect(CallKind::claim);
    }
    static Json job(int n, bool stream = true, int attempt = 1) {
        return {{"request", uuid(n)},
                {"attempt", attempt},
                {"failures", 0},
                {"provider", 0},
                {"key", 0},
                {"model", "m"},
                {"stream", stream},
                {"payload", {{"messages", Json::array({{{"role", "user"}, {"content", "hi"}}})}}}};
    }
    // `row`: what the provider's row says beside or instead of the usual.
    static Json claimed(std::vector<Json> jobs, const Json& row = Json::object()) {
        Json answer = {{"providers", Json::array({{{"name", "p"},
                                                   {"protocol", "openai"},
                                                   {"base_url", "https://p.test/v1"},
                                                   {"auth", "bearer"},
                                                   {"headers", Json::object()},
                                                   {"stream_usage", true}}})},
                       {"jobs", std::move(jobs)},
                       {"cancel", Json::array()},
                       {"next_ms", nullptr}};
        answer["providers"][0].update(row);
        return answer;
    }
    static std::vector<OpenedKey> keys() {
        std::vector<OpenedKey> keys(1);
        keys[0].opened = true;
        keys[0].key = Secret("sk-test-engine");
        return keys;
    }
    // Answers the claim under way with these jobs.
    void give(std::vector<Json> jobs, const Json& row = Json::object()) {
        answer(claimed(std::move(jobs), row), keys());
    }
    // Answers whatever is under way with nothing in it, until nothing is.
    void settle_down() {
        for (int i = 0; i < 20 && store.busy; ++i) {
            answer({{"jobs", Json::array()}, {"busy", Json::array()}});
        }
        expect_quiet();
    }

    void stream_head(std::uint64_t id) {
        transport.head(id, 200, {{"content-type", "text/event-stream"}, {"x-request-id", "req-7"}});
    }
    void say(std::uint64_t id, const std::string& text) {
        const Json chunk = {{"id", "c1"},
                            {"model", "m-1"},
                            {"choices", Json::array({{{"index", 0}, {"delta", {{"content", text}}}}})}};
        transport.body(id, "data: " + chunk.dump() + "\n\n");
    }
    void finish_stream(std::uint64_t id) {
        transport.body(id,
                       "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
                       "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2}}\n\n"
                       "data: [DONE]\n\n");
        transport.end(id);
    }
    void whole_answer(std::uint64_t id) {
        stream_head(id);
        say(id, "hello");
        finish_stream(id);
    }
    void error_answer(std::uint64_t id, int status, const std::string& error, Headers headers = {}) {
        headers.emplace_back("content-type", "application/json");
        transport.head(id, status, headers);
        transport.body(id, "{\"error\":" + error + "}");
        transport.end(id);
    }
    std::size_t count(CallKind kind) const {
        return static_cast<std::size_t>(std::count_if(store.calls.begin(), store.calls.end(),
                                                      [&](const auto& call) { return call.first == kind; }));
    }

    FakeStore store;
    FakeTransport transport;
    FakeClock clock;
    std::vector<std::string> log;
    std::optional<Fetcher> fetcher;
};

}  // namespace mrprompt::test
