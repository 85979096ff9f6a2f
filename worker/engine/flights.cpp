// Keeps the table of requests in flight, and turns what the transport says into deltas and outcomes.
#include "engine/flights.hpp"

#include <algorithm>

#include "core/text.hpp"
#include "engine/retry_after.hpp"
#include "provider/http_request.hpp"

namespace mrprompt {
namespace {

constexpr std::size_t kMaxRequestIdBytes = 200;
constexpr char kDeltaTooLarge[] = "delta_too_large";
constexpr char kStreamTooLong[] = "stream_too_long";
constexpr char kTooMuchHeld[] =
    "the answers in flight hold more memory than the fetcher may use, and this one holds most";

std::string provider_request_id(const Headers& headers) {
    for (const char* name : {"x-request-id", "request-id", "apim-request-id", "x-amzn-requestid"}) {
        for (const auto& [key, value] : headers) {
            if (key == name && !value.empty()) return trim_message(value, kMaxRequestIdBytes);
        }
    }
    return {};
}

std::string_view header(const Headers& headers, std::string_view name) {
    for (const auto& [key, value] : headers) {
        if (key == name) return value;
    }
    return {};
}

Ending failure(std::string type, std::string message) {
    Ending ending;
    ending.kind = OutcomeKind::failed;
    ending.error = OutcomeError{0, std::move(type), std::move(message)};
    return ending;
}

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
    flight.protocol = find_protocol(row.protocol);
    if (flight.protocol == nullptr) {
        return finish(id, flight,
                      failure("unsupported_protocol",
                              "this fetcher does not know the protocol \"" + row.protocol + "\""));
    }
    static const Secret kNoKey;
    auto request = flight.protocol->request(row, job.chat, flight.key ? *flight.key : kNoKey);
    job.chat.payload = nullptr;
    if (!request) return finish(id, flight, failure(request.error().type, request.error().message));
    // The same over all attempts: the provider does not do twice what it has done.
    if (!row.idempotency_header.empty()) default_header(*request, row.idempotency_header, flight.request);
    flight.sent = request->body.size();
    transport_.start(id, std::move(*request), static_cast<std::uint64_t>(limits_.max_response_bytes));
}

// --- what the transport says -----------------------------------------------------------------------------

void Flights::on_sent(std::uint64_t transfer) {
    auto place = flights_.find(transfer);
    if (place != flights_.end() && place->second.phase == Phase::connecting)
        place->second.phase = Phase::waiting;
}

void Flights::on_head(std::uint64_t transfer, int status, const Headers& headers) {
    auto place = flights_.find(transfer);
    if (place == flights_.end() || place->second.phase == Phase::settling) return;
    Flight& flight = place->second;
    flight.phase = Phase::streaming;
    flight.status = status;
    flight.provider_request_id = provider_request_id(headers);
    flight.retry_after_ms = retry_after(headers, status, clock_.wall_ms());
    flight.decoder = flight.protocol->decoder(flight.stream, status, header(headers, "content-type"));
}

void Flights::on_body(std::uint64_t transfer, std::string_view bytes) {
    auto place = flights_.find(transfer);
    if (place == flights_.end() || !place->second.decoder) return;
    Flight& flight = place->second;
    flight.received += bytes.size();
    // Line by line, so that a piece is what one event brought.
    while (!bytes.empty() && flight.overrun == nullptr) {
        const std::size_t line =
            flight.stream ? std::min(bytes.find('\n'), bytes.size() - 1) + 1 : bytes.size();
        Delta piece;
        flight.decoder->feed(bytes.substr(0, line), piece);
        take_piece(transfer, flight, std::move(piece));
        bytes.remove_prefix(line);
    }
    hold(flight, flight.received + flight.gathered);
}

void Flights::take_piece(std::uint64_t id, Flight& flight, Delta&& piece) {
    if (piece.empty()) return;
    const std::size_t bytes = piece.text_bytes();
    const auto limit = static_cast<std::size_t>(limits_.max_delta_bytes);
    flight.text_bytes += static_cast<std::int64_t>(bytes);
    if (!flight.stream) return;  // nobody follows it: the response says it all
    if (bytes > limit) return overrun(id, flight, kDeltaTooLarge);
    if (flight.unsent.empty() || flight.unsent.text_bytes() + bytes > limit) {
        const std::size_t pieces =
            static_cast<std::size_t>(flight.next_seq - 1) + flight.full.size() + !flight.unsent.empty();
        if (pieces >= static_cast<std::size_t>(limits_.max_stream_deltas))
            return overrun(id, flight, kStreamTooLong);
        if (!flight.unsent.empty()) flight.full.push_back(std::exchange(flight.unsent, Delta()));
    }
    flight.unsent.append(std::move(piece));
    flight.gathered += bytes;
    if (!flight.first_token_ms) flight.first_token_ms = clock_.now_ms() - flight.started_ms;
    if (!flight.listed) {
        flight.listed = true;
        with_deltas_.push_back(id);
        if (deltas_since_ == kNever) deltas_since_ = clock_.now_ms();
    }
    delta_bytes_ += bytes;
}

// A transfer cannot be cancelled while it speaks: end_overruns does that afterwards.
void Flights::overrun(std::uint64_t id, Flight& flight, const char* limit) {
    flight.overrun = limit;
    overruns_.push_back(id);
}

Ending Flights::overrun_ending(const Flight& flight) const {
    if (flight.overrun == kDeltaTooLarge) {
        return failure(kDeltaTooLarge, "a single piece of the stream holds more than the " +
                                           std::to_string(limits_.max_delta_bytes) +
                                           " bytes that mrprompt.max_delta allows");
    }
    return failure(kStreamTooLong, "the stream has more than the " +
                                       std::to_string(limits_.max_stream_deltas) +
                                       " pieces that mrprompt.max_stream allows");
}

void Flights::end_overruns() {
    for (const std::uint64_t id : std::exchange(overruns_, {})) {
        auto place = flights_.find(id);
        if (place == flights_.end() || place->second.phase == Phase::settling) continue;
        transport_.cancel(id);
        finish(id, place->second, overrun_ending(place->second));
    }
}

void Flights::on_end(std::uint64_t transfer, TransferEnd end, std::string_view message) {
    auto place = flights_.find(transfer);
    if (place == flights_.end() || place->second.phase == Phase::settling) return;
    Flight& flight = place->second;

    Ending ending;
    const ProviderError* error = nullptr;
    bool whole = false;
    if (flight.decoder) {
        // A server may drop the connection behind an answer that was whole.
        whole = flight.decoder->completion().complete;
        Delta piece;
        flight.decoder->finish(piece);
        take_piece(transfer, flight, std::move(piece));
        const Completion& done = flight.decoder->completion();
        const bool refused = flight.status < 200 || flight.status > 299;
        if (done.error && (end == TransferEnd::complete || whole || refused)) error = &*done.error;
        whole = !done.error && (end == TransferEnd::complete || whole);
    }
    if (flight.overrun != nullptr) return finish(transfer, flight, overrun_ending(flight));
    if (whole) {
        ending.kind = OutcomeKind::succeeded;
        cooldown_after(flight, Blame::none);
        return finish(transfer, flight, std::move(ending));
    }
    FailedAttempt failed;
    failed.end = end == TransferEnd::complete && error == nullptr ? TransferEnd::broken : end;
    failed.status = flight.status;
    failed.error = error;
    failed.retry_after_ms = flight.retry_after_ms;
    failed.attempt = flight.attempt;
    failed.failures = flight.failures;
    Verdict verdict = judge(failed, flight.provider->retry, clock_.uniform());
    ending.kind = verdict.retry ? OutcomeKind::retry : OutcomeKind::failed;
    ending.retry_after_ms = verdict.after_ms;
    ending.counts_as_failure = verdict.counts_as_failure;
    ending.cooldown = cooldown_after(flight, verdict.blame);
    const int status = error != nullptr && error->status != 0 ? error->status : flight.status;
    ending.error = OutcomeError{status >= 300 ? status : 0, std::move(verdict.type),
                                error != nullptr ? error->message : std::string(message)};
    finish(transfer, flight, std::move(ending));
}

// Whether what an exchange says of its target is reason to hold the target back.
std::optional<Cooldown> Flights::cooldown_after(const Flight& flight, Blame blame) {
    if (blame == Blame::ours) return std::nullopt;
    const Provider& row = *flight.provider;
    const bool failing = health_.ended({row.name, flight.key_id, flight.model}, blame == Blame::failing,
                                       row.cooldown_percent, row.cooldown_attempts, clock_.now_ms());
    if (blame == Blame::rate_limit) return Cooldown{"rate_limit", flight.retry_after_ms};
    if (blame == Blame::auth) return Cooldown{"auth", std::nullopt};
    if (failing) return Cooldown{"failures", std::nullopt};
    return std::nullopt;
}

// --- what the database and the fetcher want
// ------------------------------------------------------------------

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
    overruns_.clear();
    later_.clear();
    deltas_since_ = kNever;
    delta_bytes_ = 0;
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
