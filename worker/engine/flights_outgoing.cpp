// What leaves the table of requests in flight for the database: deltas, outcomes, and the heartbeat's lists.
#include <algorithm>

#include "engine/estimate.hpp"
#include "engine/flights.hpp"

namespace mrprompt {
namespace {

constexpr std::size_t kDeltaFlushBytes = 1 << 20;  // gathered deltas that do not wait for delta_ms
constexpr std::size_t kCallBytes = 16 << 20;  // an append or settle call ends after the item that passes it
constexpr std::size_t kCallItems = 2'000;
constexpr std::size_t kProgressRows = 1'000;
constexpr std::int64_t kProgressAfterMs = 1'000;

const char* name_of(Phase phase) {
    switch (phase) {
        case Phase::connecting:
            return "connecting";
        case Phase::waiting:
            return "waiting";
        case Phase::streaming:
            return "streaming";
        case Phase::settling:
            return "settling";
    }
    return "settling";
}

}  // namespace

std::int64_t Flights::deltas_due(int delta_ms) const {
    if (deltas_since_ == kNever) return kNever;
    // The reader of a stream that has just begun waits for its first sign.
    if (!beginning_.empty() || delta_bytes_ >= kDeltaFlushBytes) return deltas_since_;
    return deltas_since_ + delta_ms;
}

std::vector<Item> Flights::take_deltas(int delta_ms) {
    const bool all = clock_.now_ms() >= deltas_since_ + delta_ms || delta_bytes_ >= kDeltaFlushBytes;
    std::vector<std::uint64_t>& wanted = all ? with_deltas_ : beginning_;
    if (all) beginning_.clear();
    std::vector<Item> items;
    std::size_t bytes = 0, looked = 0;
    const auto room = [&] { return bytes < kCallBytes && items.size() < kCallItems; };
    for (; looked < wanted.size() && room(); ++looked) {
        auto place = flights_.find(wanted[looked]);
        if (place == flights_.end()) continue;
        Flight& flight = place->second;
        const auto take = [&](Delta&& delta) {
            flight.gathered -= delta.text_bytes();
            items.push_back({place->first, flight.request, flight.attempt,
                             delta_json(flight, flight.next_seq++, std::move(delta)), std::nullopt});
            bytes += items.back().json.size();
        };
        std::size_t taken = 0;
        while (taken < flight.full.size() && room()) take(std::move(flight.full[taken++]));
        flight.full.erase(flight.full.begin(), flight.full.begin() + static_cast<std::ptrdiff_t>(taken));
        const bool goes_whole = flight.full.empty() && room();
        if (goes_whole) {
            if (all) flight.listed = false;
            if (!flight.unsent.empty())
                take(std::exchange(flight.unsent, Delta()));  // else its outcome carried it
        }
        if (flight.phase != Phase::settling) hold(flight, flight.received + flight.gathered);
        if (!goes_whole) break;  // the rest goes with the next call
    }
    wanted.erase(wanted.begin(), wanted.begin() + static_cast<std::ptrdiff_t>(looked));
    if (with_deltas_.empty()) {
        deltas_since_ = kNever;
        delta_bytes_ = 0;
    }
    return items;
}

std::int64_t Flights::outcomes_due() const {
    if (!with_outcome_.empty()) return 0;
    return later_.empty() ? kNever : later_.front().first;
}

std::vector<Item> Flights::take_outcomes() {
    while (!later_.empty() && later_.front().first <= clock_.now_ms()) {
        with_outcome_.push_back(later_.front().second);
        later_.pop_front();
    }
    std::vector<Item> items;
    std::size_t bytes = 0;
    while (!with_outcome_.empty() && bytes < kCallBytes && items.size() < kCallItems) {
        auto place = flights_.find(with_outcome_.front());
        with_outcome_.pop_front();
        if (place == flights_.end() || place->second.outcome.empty()) continue;
        Flight& flight = place->second;
        // The item owns the text until the database has answered; it comes back only in settle_later.
        items.push_back(
            {place->first, flight.request, flight.attempt, std::move(flight.outcome), flight.again_ms});
        flight.outcome.clear();
        hold(flight, 0);
        bytes += items.back().json.size();
    }
    return items;
}

void Flights::forget(const Item& item) {
    auto place = flights_.find(item.flight);
    if (place != flights_.end()) erase(place);
}

void Flights::settle_later(Item&& item, std::int64_t at_ms) {
    Flight* flight = find(item);
    if (flight == nullptr) return;
    flight->outcome = std::move(item.json);
    hold(*flight, flight->outcome.size());
    later_.emplace_back(at_ms, item.flight);
}

bool Flights::settle_barely(const Item& item, std::string_view reason) {
    Flight* flight = find(item);
    if (flight == nullptr) return true;
    if (flight->outcome_bare) return false;
    make_bare(*flight, "rejected_by_database", "the answer could not be stored: " + std::string(reason));
    with_outcome_.push_back(item.flight);
    return true;
}

// A failure without an answer takes the place of the flight's outcome.
void Flights::make_bare(Flight& flight, std::string type, std::string message) {
    Ending ending = failure(std::move(type), std::move(message));
    ending.total_ms = clock_.now_ms() - flight.started_ms;
    flight.outcome_bare = true;
    flight.again_ms.reset();
    flight.outcome = outcome_json(flight, nullptr, std::move(ending));
    hold(flight, flight.outcome.size());
}

std::string Flights::in_flight_json() const {
    std::string json = "[";
    json.reserve(flights_.size() * 48 + 2);
    for (const auto& [id, flight] : flights_) {
        if (json.size() > 1) json += ',';
        json += "[\"" + flight.request + "\"," + std::to_string(flight.attempt) + ']';
    }
    return json + ']';
}

std::string Flights::progress_json() const {
    const std::int64_t now = clock_.now_ms();
    std::string json = "[";
    std::size_t rows = 0;
    for (const auto& [id, flight] : flights_) {
        if (now - flight.started_ms < kProgressAfterMs) continue;
        if (++rows > kProgressRows) break;
        if (json.size() > 1) json += ',';
        json += "{\"request\":\"" + flight.request + "\",\"attempt\":" + std::to_string(flight.attempt) +
                ",\"phase\":\"" + name_of(flight.phase) + "\",\"tokens\":" +
                std::to_string(estimated_tokens(static_cast<std::size_t>(flight.text_bytes))) + '}';
    }
    return json + ']';
}

}  // namespace mrprompt
