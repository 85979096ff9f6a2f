// The table of requests in flight: starts their transfers, gathers their deltas, makes their outcomes.
#pragma once
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/contract.hpp"
#include "engine/flight.hpp"
#include "engine/outcome.hpp"
#include "engine/ports.hpp"
#include "engine/retry_policy.hpp"
#include "engine/target_health.hpp"

namespace mrprompt {

constexpr std::int64_t kNever = INT64_MAX;

// A piece of an append or settle call: whose it is, and its JSON, which never changes once it was sent.
struct Item {
    std::uint64_t flight = 0;
    std::string request;
    int attempt = 0;
    std::string json;
    std::optional<std::int64_t> again_ms;  // a retry: the request is ready again so long after
};

// A request enters by start() and leaves when its outcome is settled or it is dropped. In between it is
// active (the provider works on it) or settling (its outcome waits, or is under way, to the database).
// The sink's calls come from Transport::pump only; they never start or cancel a transfer.
class Flights final : public TransferSink {
public:
    Flights(Transport& transport, Clock& clock) : transport_(transport), clock_(clock) {}

    // The limits in force from now on, for those in flight too.
    void obey(const FetcherSettings& settings) { limits_ = settings; }

    // What can not be sent (no provider, no key, a payload that makes no sense) ends at once with an outcome.
    void start(Job&& job, const Result<ProviderRow>* provider, std::shared_ptr<const Secret> key,
               const std::string& key_problem);
    void cancel(const std::string& request);  // on the wire too; nothing happens when it is settling
    void drop(const std::string& request);    // no longer ours: forgotten without an outcome
    void fail(const std::string& request, std::string type, std::string message);
    void hand_back();  // every active one: to be tried elsewhere, at once
    void drop_all();
    // While all of them hold more than `bytes`, the one that holds most ends as response_too_large. Counted
    // are bodies received, deltas not yet sent and outcomes that wait. How many ended so.
    std::size_t keep_within(std::size_t bytes);
    // Ends those that have no use for more bytes: they passed max_delta_bytes or max_stream_deltas, hold an
    // error, or have been whole for a while although their connection goes on.
    void end_decided();
    std::int64_t closing_due() const { return closing_.empty() ? kNever : closing_.front().first; }

    std::size_t size() const { return flights_.size(); }
    std::size_t active() const { return flights_.size() - settling_; }
    std::string in_flight_json() const;
    std::string progress_json() const;

    // When the gathered deltas want to leave: delta_ms after the first of them, or at once when they are
    // many.
    std::int64_t deltas_due(int delta_ms) const;
    // All of them once they have gathered for so long, before that those of streams that have just begun.
    std::vector<Item> take_deltas(int delta_ms);

    // When an outcome can leave: at once, later where the database was busy with it, or kNever.
    std::int64_t outcomes_due() const;
    std::vector<Item> take_outcomes();
    void forget(const Item& item);  // settled, or no longer ours
    void settle_later(Item&& item, std::int64_t at_ms);
    // The database can not take this outcome: it gets a bare one in its place, once; false: there is none
    // left.
    bool settle_barely(const Item& item, std::string_view reason);

    void on_sent(std::uint64_t transfer) override;
    void on_head(std::uint64_t transfer, int status, const Headers& headers) override;
    void on_body(std::uint64_t transfer, std::string_view bytes) override;
    void on_end(std::uint64_t transfer, TransferEnd end, std::string_view message) override;

private:
    using Table = std::unordered_map<std::uint64_t, Flight>;

    void finish(std::uint64_t id, Flight& flight, Ending ending);
    std::optional<Cooldown> cooldown_after(const Flight& flight, Blame blame);
    void take_piece(std::uint64_t id, Flight& flight, Delta&& piece);
    void overrun(std::uint64_t id, Flight& flight, const char* limit);
    void look_at_answer(std::uint64_t id, Flight& flight);
    Ending overrun_ending(const Flight& flight) const;
    void hold(Flight& flight, std::size_t bytes);
    void make_bare(Flight& flight, std::string type, std::string message);
    Table::iterator find(const std::string& request);
    Flight* find(const Item& item);
    void erase(Table::iterator place);

    Transport& transport_;
    Clock& clock_;
    FetcherSettings limits_;
    Table flights_;
    std::unordered_map<std::string, std::uint64_t> by_request_;
    std::uint64_t next_id_ = 1;
    std::size_t settling_ = 0;
    std::size_t held_bytes_ = 0;
    TargetHealth health_;

    std::vector<std::uint64_t> with_deltas_;  // in the order of their first unsent delta; may name the dead
    std::int64_t deltas_since_ = kNever;
    std::size_t delta_bytes_ = 0;
    std::vector<std::uint64_t> beginning_;  // those of them whose stream has just begun

    std::vector<std::uint64_t> decided_;                          // may name the dead
    std::deque<std::pair<std::int64_t, std::uint64_t>> closing_;  // when, whom; may name the dead
    std::deque<std::uint64_t> with_outcome_;                      // may name the dead
    std::deque<std::pair<std::int64_t, std::uint64_t>> later_;
};

}  // namespace mrprompt
