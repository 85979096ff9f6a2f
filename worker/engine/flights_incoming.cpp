// What the transport says of the requests in flight becomes deltas and outcomes here.
#include <algorithm>

#include "core/text.hpp"
#include "engine/flights.hpp"
#include "engine/retry_after.hpp"

namespace mrprompt {
namespace {

constexpr std::size_t kMaxRequestIdBytes = 200;
constexpr char kNoHead[] = "the connection ended before the head of an answer was whole";
constexpr char kDeltaTooLarge[] = "delta_too_large";
constexpr char kStreamTooLong[] = "stream_too_long";
// An answer that is whole lets its connection end in peace, so that it can serve again; but not for ever.
constexpr std::int64_t kCloseGraceMs = 1'000;

std::string provider_request_id(const Headers& headers) {
    for (const char* name : {"x-request-id", "request-id", "apim-request-id", "x-amzn-requestid"}) {
        for (const auto& [key, value] : headers) {
            if (key == name && !value.empty()) return trim_message(sanitize_utf8(value), kMaxRequestIdBytes);
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

// The compression a body came in, or "". Some servers put a charset there.
std::string compression(const Headers& headers) {
    const std::string_view value = header(headers, "content-encoding");
    for (const std::string_view known : {"gzip", "deflate", "br", "zstd", "compress"}) {
        if (value.find(known) != std::string_view::npos) return std::string(known);
    }
    return {};
}

// What is said of an answer in a body that was not looked at.
ProviderError compressed(const Flight& flight) {
    const std::string what = "is compressed (" + flight.encoding + "), which was not asked for";
    ProviderError error;
    if (flight.status >= 200 && flight.status < 300) {
        error.type = "bad_response";
        error.message = "the answer " + what;
    } else {
        error.status = flight.status;
        error.type = "http_error";
        error.message = "HTTP " + std::to_string(flight.status) + "; what it says " + what;
    }
    return error;
}

}  // namespace

void Flights::on_sent(std::uint64_t transfer) {
    auto place = flights_.find(transfer);
    if (place == flights_.end() || place->second.phase != Phase::connecting) return;
    place->second.phase = Phase::waiting;
    place->second.sent = true;
}

void Flights::on_head(std::uint64_t transfer, int status, const Headers& headers) {
    auto place = flights_.find(transfer);
    if (place == flights_.end() || place->second.phase == Phase::settling) return;
    Flight& flight = place->second;
    flight.phase = Phase::streaming;
    flight.sent = true;
    flight.status = status;
    flight.provider_request_id = provider_request_id(headers);
    flight.retry_after_ms = retry_after(headers, status, clock_.wall_ms());
    flight.encoding = compression(headers);
    if (!flight.encoding.empty()) return decided_.push_back(transfer);
    flight.decoder = flight.protocol->decoder(flight.stream, status, header(headers, "content-type"));
}

void Flights::on_body(std::uint64_t transfer, std::string_view bytes) {
    auto place = flights_.find(transfer);
    if (place == flights_.end() || !place->second.decoder) return;
    Flight& flight = place->second;
    flight.received += bytes.size();
    // Line by line, so that a piece is what one event brought.
    const Completion& answer = flight.decoder->completion();
    while (!bytes.empty() && flight.overrun == nullptr && !answer.error) {
        const std::size_t line =
            flight.stream ? std::min(bytes.find('\n'), bytes.size() - 1) + 1 : bytes.size();
        Delta piece;
        flight.decoder->feed(bytes.substr(0, line), piece);
        take_piece(transfer, flight, std::move(piece));
        bytes.remove_prefix(line);
    }
    look_at_answer(transfer, flight);
    hold(flight, flight.received + flight.gathered);
}

void Flights::look_at_answer(std::uint64_t id, Flight& flight) {
    const Completion& answer = flight.decoder->completion();
    if (answer.error) decided_.push_back(id);
    if (!answer.complete || flight.closing) return;
    flight.closing = true;
    closing_.emplace_back(clock_.now_ms() + kCloseGraceMs, id);
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
    if (!flight.first_token_ms) {
        flight.first_token_ms = clock_.now_ms() - flight.started_ms;
        beginning_.push_back(id);
    }
    if (!flight.listed) {
        flight.listed = true;
        with_deltas_.push_back(id);
        if (deltas_since_ == kNever) deltas_since_ = clock_.now_ms();
    }
    delta_bytes_ += bytes;
}

// A transfer cannot be cancelled while it speaks: end_decided does that afterwards.
void Flights::overrun(std::uint64_t id, Flight& flight, const char* limit) {
    flight.overrun = limit;
    decided_.push_back(id);
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

void Flights::end_decided() {
    const auto active = [&](std::uint64_t id) {
        auto place = flights_.find(id);
        return place != flights_.end() && place->second.phase != Phase::settling;
    };
    const std::int64_t now = clock_.now_ms();
    while (!closing_.empty() && (closing_.front().first <= now || !active(closing_.front().second))) {
        decided_.push_back(closing_.front().second);
        closing_.pop_front();
    }
    for (const std::uint64_t id : std::exchange(decided_, {})) {
        if (!active(id)) continue;
        transport_.cancel(id);
        Flight& flight = flights_.at(id);
        if (flight.overrun != nullptr) {
            finish(id, flight, overrun_ending(flight));
        } else {
            on_end(id, TransferEnd::complete, {});
        }
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
    std::optional<ProviderError> unasked;
    if (!flight.encoding.empty()) error = &unasked.emplace(compressed(flight));
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
    if (ending.error->message.empty()) ending.error->message = kNoHead;
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

}  // namespace mrprompt
