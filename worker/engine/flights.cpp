// Keeps the table of requests in flight: how they enter it, and what the database and the fetcher want of
// them.
#include "engine/flights.hpp"

#include <algorithm>

#include "engine/estimate.hpp"
#include "provider/http_request.hpp"
#include "provider/verification.hpp"

namespace mrprompt {
namespace {

constexpr char kTooMuchHeld[] =
    "the answers in flight hold more memory than the fetcher may use, and this one holds most";

// Another fetcher, or this one later, may do better with it.
Ending try_again(std::string type, std::string message, std::int64_t after_ms, bool counts) {
    Ending ending = failure(std::move(type), std::move(message));
    ending.kind = OutcomeKind::retry;
    ending.retry_after_ms = after_ms;
    ending.counts_as_failure = counts;
    return ending;
}

}  // namespace

void Flights::start(Job&& job, const Result<ProviderRow>* provider, std::shared_ptr<const Secret> key,
                    const std::string& key_problem) {
    drop(job.request);  // an older attempt that the database has given up
    const std::uint64_t id = next_id_++;
    Flight& flight = flights_[id];
    by_request_[job.request] = id;
    flight.request = std::move(job.request);
    flight.attempt = job.attempt;
    flight.failures = job.failures;
    flight.stream = job.chat.stream;
    flight.key = std::move(key);
    flight.key_id = std::move(job.key_id);
    flight.model = job.chat.model;
    flight.started_ms = clock_.now_ms();

    if (provider == nullptr)
        return finish(id, flight, failure("bad_provider", "the job names no provider row"));
    if (!*provider) return finish(id, flight, failure("bad_provider", provider->error().message));
    if (!key_problem.empty()) {
        // A fetcher whose keyring lags behind must not fail what others could do.
        return finish(id, flight, try_again("key_unavailable", key_problem, 5'000, true));
    }
    flight.provider = **provider;
    if (job.options.is_object()) {
        Provider own = *flight.provider;
        apply_options(job.options, own);
        flight.provider = std::make_shared<const Provider>(std::move(own));
    }
    const Provider& row = *flight.provider;
    flight.protocol = job.kind == "chat"     ? find_protocol(row.protocol)
                      : job.kind == "verify" ? find_verification(row.protocol)
                                             : nullptr;
    if (flight.protocol == nullptr) {
        return finish(id, flight,
                      failure("unsupported_protocol", "this fetcher does not know how to " + job.kind +
                                                          " by the protocol \"" + row.protocol + "\""));
    }
    static const Secret kNoKey;
    auto request = flight.protocol->request(row, job.chat, flight.key ? *flight.key : kNoKey);
    if (request && !request->get)
        flight.prompt_estimate = estimated_prompt(job.chat.payload, request->body.size());
    job.chat.payload = nullptr;
    if (!request) return finish(id, flight, failure(request.error().type, request.error().message));
    // The same over all attempts: the provider does not do twice what it has done.
    if (!row.idempotency_header.empty()) default_header(*request, row.idempotency_header, flight.request);
    transport_.start(id, std::move(*request), static_cast<std::uint64_t>(limits_.max_response_bytes));
}

void Flights::cancel(const std::string& request) {
    auto place = find(request);
    if (place == flights_.end() || place->second.phase == Phase::settling) return;
    transport_.cancel(place->first);
    Ending ending;
    ending.kind = OutcomeKind::cancelled;
    finish(place->first, place->second, std::move(ending));
}

void Flights::fail(const std::string& request, std::string type, std::string message) {
    auto place = find(request);
    if (place == flights_.end() || place->second.phase == Phase::settling) return;
    transport_.cancel(place->first);
    place->second.drop_gathered();
    finish(place->first, place->second, failure(std::move(type), std::move(message)));
}

void Flights::hand_back() {
    for (auto& [id, flight] : flights_) {
        if (flight.phase == Phase::settling) continue;
        transport_.cancel(id);
        finish(id, flight,
               try_again("fetcher_stopped", "the fetcher was stopped before the answer was whole", 0, false));
    }
}

void Flights::drop(const std::string& request) {
    auto place = find(request);
    if (place != flights_.end()) erase(place);
}

void Flights::drop_all() {
    while (!flights_.empty()) erase(flights_.begin());
    with_deltas_.clear();
    with_outcome_.clear();
    decided_.clear();
    closing_.clear();
    later_.clear();
    deltas_since_ = kNever;
    delta_bytes_ = 0;
    beginning_.clear();
}

std::size_t Flights::keep_within(std::size_t bytes) {
    std::size_t ended = 0;
    for (; held_bytes_ > bytes; ++ended) {
        const auto most = std::max_element(
            flights_.begin(), flights_.end(),
            [](const auto& one, const auto& other) { return one.second.held < other.second.held; });
        auto& [id, flight] = *most;
        if (flight.phase == Phase::settling) {
            make_bare(flight, "response_too_large", kTooMuchHeld);
        } else {
            transport_.cancel(id);
            flight.drop_gathered();
            if (flight.decoder) flight.decoder->completion().raw_usage = nullptr;  // of any size
            finish(id, flight, failure("response_too_large", kTooMuchHeld));
        }
        hold(flight, 0);  // what is left is little, and nothing would be gained by ending it again
    }
    return ended;
}

void Flights::hold(Flight& flight, std::size_t bytes) {
    held_bytes_ += bytes - flight.held;
    flight.held = bytes;
}

void Flights::finish(std::uint64_t id, Flight& flight, Ending ending) {
    ending.total_ms = clock_.now_ms() - flight.started_ms;
    if (ending.kind == OutcomeKind::retry) flight.again_ms = ending.retry_after_ms;
    Completion* done = flight.decoder ? &flight.decoder->completion() : nullptr;
    flight.outcome = outcome_json(flight, done, std::move(ending));
    flight.outcome.shrink_to_fit();
    hold(flight, flight.outcome.size());
    flight.decoder.reset();
    flight.key.reset();
    flight.phase = Phase::settling;
    ++settling_;
    with_outcome_.push_back(id);
}

Flights::Table::iterator Flights::find(const std::string& request) {
    auto place = by_request_.find(request);
    return place == by_request_.end() ? flights_.end() : flights_.find(place->second);
}

Flight* Flights::find(const Item& item) {
    auto place = flights_.find(item.flight);
    return place == flights_.end() ? nullptr : &place->second;
}

void Flights::erase(Table::iterator place) {
    if (place->second.phase == Phase::settling) {
        --settling_;
    } else {
        transport_.cancel(place->first);
    }
    hold(place->second, 0);
    by_request_.erase(place->second.request);
    flights_.erase(place);
}

}  // namespace mrprompt
