// The fetcher's conversation with the database: which contract call comes next, and what its answer changes.
#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/contract.hpp"
#include "engine/flights.hpp"
#include "engine/ports.hpp"

namespace mrprompt {

constexpr int kExitContractRefused = 3;

struct FetcherOptions {
    std::string kind = "child";  // child: of a supervisor; libpq: on its own
    std::string program = "mrprompt-fetcher";
    std::string host;
    int pid = 0;
    bool alone = false;             // serve one isolated request, then leave
    bool tends = false;             // call tend (a child's supervisor does that itself)
    int in_flight_cap = 0;          // at most so many in flight, whatever the settings say; 0: as they say
    int drain_grace_ms = 30'000;    // how long drain() lets transfers go on
    int alone_patience_ms = 5'000;  // how long an alone fetcher waits for its request
    std::size_t max_held_bytes = 1u << 30;  // by all answers together, far from the limit of the process
    std::function<void(std::string_view)> log = [](std::string_view) {
    };  // one line for the operator, no secrets
};

// Owns the requests in flight. The host calls step() whenever a descriptor of the store or the transport is
// ready or deadline() has come; step() never blocks. At most one call is under way: what gathers
// meanwhile goes with the next one.
class Fetcher {
public:
    Fetcher(Store& store, Transport& transport, Clock& clock, FetcherOptions options);

    void step();
    std::int64_t deadline() const;  // on Clock::now_ms(); kNever: only a descriptor can bring news
    void drain();  // claim no more, let transfers end, settle, leave; a second time: leave at once
    const std::string& id() const { return id_; }  // as the database knows it; empty: not yet
    bool finished() const { return finished_; }
    int exit_code() const { return exit_code_; }
    int alone_waiting() const {
        return alone_waiting_;
    }  // isolated requests that wait for a fetcher of their own

private:
    struct Call {
        CallKind kind{};
        std::vector<Item> items;  // of append and settle
        bool leaving = false;     // of heartbeat
    };

    void send_next(std::int64_t now);
    bool send(CallKind kind, std::int64_t now);
    void send_items(Call call);
    void send_plain(CallKind kind, const std::string& members, bool leaving = false);
    std::int64_t due(CallKind kind) const;
    std::int64_t claim_due() const;
    bool may_claim() const;
    int room() const;
    int max_in_flight() const;

    void on_reply(Reply reply);
    void on_hello(const Json& answer);
    void on_claim(Reply& reply);
    void on_append(const Json& answer, const Call& call);
    void on_settle(const Json& answer, Call call);
    void on_heartbeat(const Json& answer, bool leaving);
    void on_failure(const Reply& reply, Call call);
    void on_refused_items(Call call, const std::string& message);
    void take_settings(const Json& row);
    void look_at_end(std::int64_t now);
    void finish(int exit_code);

    Store& store_;
    Transport& transport_;
    Clock& clock_;
    FetcherOptions options_;
    FetcherSettings settings_;
    Flights flights_;

    std::string id_;                   // empty: hello comes first
    int contract_ = kContractVersion;  // what the next hello says
    std::optional<Call> under_way_;
    std::deque<Call> parked_;  // appends and settles to be sent again, before any new ones
    CallKind last_kind_ = CallKind::hello;
    std::int64_t hold_until_ = 0;  // the database asked for patience: nothing but heartbeats before
    int troubles_ = 0;             // calls in a row that the database could not take

    bool woken_ = false;   // there may be work
    bool more_ = false;    // the last claim left some behind
    bool relist_ = false;  // a claim's reply was lost: heartbeat before claiming again
    int asked_room_ = 0;
    std::int64_t asked_bytes_ = 0;
    int claim_halvings_ = 0;  // claims in a row whose answer was too large to be carried
    std::int64_t claim_at_ = kNever;
    std::int64_t poll_at_ = 0;
    std::int64_t heartbeat_at_ = kNever;
    std::int64_t last_heartbeat_ = 0;
    std::int64_t tend_at_ = 0;

    bool draining_ = false;
    bool leaving_ = false;  // the good-bye heartbeat is due
    std::int64_t drain_until_ = kNever;
    std::int64_t alone_until_ = kNever;
    bool took_alone_ = false;
    int alone_waiting_ = 0;
    bool finished_ = false;
    int exit_code_ = 0;
};

}  // namespace mrprompt
