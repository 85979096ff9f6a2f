// Picks the next contract call by what is due; see fetcher_replies.cpp for what the answers do.
#include "engine/fetcher.hpp"

#include <algorithm>
#include <array>

#include "core/json.hpp"

namespace mrprompt {
namespace {

constexpr std::int64_t kTendMs = 5'000;
constexpr std::int64_t kTendRows = 1'000;
constexpr std::int64_t kWakeHeartbeatMs = 100;  // wakes that find no room ask for cancels at most this often
constexpr std::int64_t kLeaveMs = 10'000;       // how long a drained fetcher tries to say good-bye
constexpr int kSmallClaim = 8;  // after a full claim, wait until an eighth of the room is free

// Each kind goes to the end of its queue once it was served: under load none starves the others.
constexpr std::array<CallKind, 3> next_in_turn(CallKind last) {
    switch (last) {
        case CallKind::settle:
            return {CallKind::append, CallKind::claim, CallKind::settle};
        case CallKind::append:
            return {CallKind::claim, CallKind::settle, CallKind::append};
        default:
            return {CallKind::settle, CallKind::append, CallKind::claim};
    }
}

}  // namespace

Fetcher::Fetcher(Store& store, Transport& transport, Clock& clock, FetcherOptions options)
    : store_(store),
      transport_(transport),
      clock_(clock),
      options_(std::move(options)),
      flights_(transport, clock) {}

void Fetcher::step() {
    if (finished_) return;
    if (store_.stop_asked()) return finish(exit_code_);
    transport_.pump(flights_);
    flights_.end_decided();
    if (const std::size_t ended = flights_.keep_within(options_.max_held_bytes)) {
        options_.log("the answers in flight hold too much memory, ended the largest: " +
                     std::to_string(ended));
    }
    while (!finished_) {
        auto reply = store_.reply();
        if (!reply) break;
        on_reply(std::move(*reply));
    }
    if (finished_) return;
    const std::int64_t now = clock_.now_ms();
    if (store_.take_wake()) woken_ = true;
    if (woken_ && !id_.empty() && !relist_ && !may_claim()) {
        // No room for work, but the wake may be about a cancel.
        heartbeat_at_ = std::min(heartbeat_at_, std::max(hold_until_, last_heartbeat_ + kWakeHeartbeatMs));
        woken_ = false;
        more_ = true;
    }
    look_at_end(now);
    if (!finished_ && !under_way_ && store_.ready()) send_next(now);
}

void Fetcher::drain() {
    if (draining_) return finish(exit_code_);
    draining_ = true;
    drain_until_ = clock_.now_ms() + options_.drain_grace_ms;
}

// Ends what is over: a drained fetcher, and an alone one that has served or waited in vain.
void Fetcher::look_at_end(std::int64_t now) {
    if (options_.alone && (took_alone_ ? flights_.size() == 0 : now >= alone_until_)) draining_ = true;
    if (!draining_) return;
    if (now >= drain_until_) flights_.hand_back();
    if (drain_until_ != kNever && now >= drain_until_ + kLeaveMs) return finish(exit_code_);
    if (flights_.size() > 0 || !parked_.empty() || under_way_) return;
    if (id_.empty()) return finish(exit_code_);
    if (drain_until_ == kNever) drain_until_ = now;
    leaving_ = true;
}

void Fetcher::finish(int exit_code) {
    flights_.drop_all();
    finished_ = true;
    exit_code_ = exit_code;
}

int Fetcher::max_in_flight() const {
    if (options_.alone) return 1;
    if (options_.in_flight_cap <= 0) return settings_.max_in_flight;
    return std::min(options_.in_flight_cap, settings_.max_in_flight);
}

// Requests that only wait to be settled occupy no provider; but the table must not grow without end.
int Fetcher::room() const {
    const auto limit = static_cast<std::int64_t>(max_in_flight());
    const auto active = static_cast<std::int64_t>(flights_.active());
    const auto all = static_cast<std::int64_t>(flights_.size());
    return static_cast<int>(std::max<std::int64_t>(0, std::min(limit - active, 2 * limit - all)));
}

// A database that does not take what is done gets no more work from it.
bool Fetcher::may_claim() const {
    return !draining_ && !relist_ && parked_.empty() && !(options_.alone && took_alone_) && room() > 0;
}

std::int64_t Fetcher::claim_due() const {
    if (!may_claim()) return kNever;
    const bool enough = room() >= std::max(1, max_in_flight() / kSmallClaim);
    if (more_ ? enough : woken_) return hold_until_;
    return std::max(hold_until_, std::min(claim_at_, poll_at_));
}

// When a call of that kind wants to be sent; kNever: nothing asks for it.
std::int64_t Fetcher::due(CallKind kind) const {
    if (kind == CallKind::hello) return id_.empty() ? hold_until_ : kNever;
    if (id_.empty()) return kNever;
    switch (kind) {
        case CallKind::heartbeat:
            return leaving_ ? hold_until_ : heartbeat_at_;
        case CallKind::claim:
            return claim_due();
        case CallKind::tend:
            return options_.tends && !draining_ ? std::max(hold_until_, tend_at_) : kNever;
        default:
            break;
    }
    if (!parked_.empty()) return parked_.front().kind == kind ? hold_until_ : kNever;
    const std::int64_t wanted =
        kind == CallKind::settle ? flights_.outcomes_due() : flights_.deltas_due(settings_.delta_ms);
    return wanted == kNever ? kNever : std::max(hold_until_, wanted);
}

void Fetcher::send_next(std::int64_t now) {
    const auto is_due = [&](CallKind kind) { return due(kind) <= now; };
    if (is_due(CallKind::hello) && send(CallKind::hello, now)) return;
    if (is_due(CallKind::heartbeat) && send(CallKind::heartbeat, now)) return;
    const std::int64_t tend = due(CallKind::tend);
    if (tend <= now - kTendMs && send(CallKind::tend, now)) return;  // a busy fetcher tends, too
    for (CallKind kind : next_in_turn(last_kind_)) {
        if (is_due(kind) && send(kind, now)) return;
    }
    if (tend <= now && send(CallKind::tend, now)) return;
    // Nothing else is to be done: even a small claim is worth its transaction.
    if (more_ && may_claim() && !id_.empty() && hold_until_ <= now) send(CallKind::claim, now);
}

// False when there was nothing to say after all.
bool Fetcher::send(CallKind kind, std::int64_t now) {
    switch (kind) {
        case CallKind::hello: {
            const Json args = {{"contract", contract_}, {"program", options_.program},
                               {"kind", options_.kind}, {"host", options_.host},
                               {"pid", options_.pid},   {"alone", options_.alone}};
            under_way_ = Call{kind, {}, false};
            store_.call(kind, dump_json(args));
            return true;
        }
        case CallKind::heartbeat:
            last_heartbeat_ = now;
            heartbeat_at_ = kNever;
            send_plain(kind,
                       ",\"in_flight\":" + flights_.in_flight_json() + ",\"progress\":" +
                           flights_.progress_json() + ",\"leaving\":" + (leaving_ ? "true" : "false"),
                       leaving_);
            return true;
        case CallKind::claim:
            asked_room_ = room();
            asked_bytes_ = std::max<std::int64_t>(1, settings_.claim_bytes >> std::min(claim_halvings_, 30));
            woken_ = more_ = false;
            claim_at_ = kNever;
            poll_at_ = now + settings_.poll_ms;
            send_plain(kind, ",\"room\":" + std::to_string(asked_room_) +
                                 ",\"bytes\":" + std::to_string(asked_bytes_));
            break;
        case CallKind::tend:
            tend_at_ = now + kTendMs;
            send_plain(kind, ",\"limit\":" + std::to_string(kTendRows));
            return true;
        case CallKind::append:
        case CallKind::settle: {
            Call call{kind, {}, false};
            if (!parked_.empty()) {
                call = std::move(parked_.front());
                parked_.pop_front();
            } else {
                call.items = kind == CallKind::settle ? flights_.take_outcomes()
                                                      : flights_.take_deltas(settings_.delta_ms);
            }
            if (call.items.empty()) return false;
            send_items(std::move(call));
            break;
        }
    }
    last_kind_ = kind;
    return true;
}

void Fetcher::send_plain(CallKind kind, const std::string& members, bool leaving) {
    under_way_ = Call{kind, {}, leaving};
    store_.call(kind, "{\"fetcher\":\"" + id_ + "\"" + members + "}");
}

void Fetcher::send_items(Call call) {
    std::size_t bytes = 128;
    for (const Item& item : call.items) bytes += item.json.size() + 1;
    std::string body;
    body.reserve(bytes);
    body +=
        "{\"fetcher\":\"" + id_ + (call.kind == CallKind::settle ? "\",\"outcomes\":[" : "\",\"deltas\":[");
    for (const Item& item : call.items) {
        if (&item != &call.items.front()) body += ',';
        body += item.json;
    }
    body += "]}";
    under_way_ = std::move(call);
    store_.call(under_way_->kind, std::move(body));
}

std::int64_t Fetcher::deadline() const {
    std::int64_t at = kNever;
    if (!under_way_ && store_.ready()) {
        for (CallKind kind : {CallKind::hello, CallKind::heartbeat, CallKind::claim, CallKind::append,
                              CallKind::settle, CallKind::tend}) {
            at = std::min(at, due(kind));
        }
        if (more_ && may_claim() && !id_.empty()) at = std::min(at, hold_until_);
    }
    if (drain_until_ != kNever) {
        const bool in_grace = clock_.now_ms() < drain_until_;
        at = std::min(at, in_grace ? drain_until_ : drain_until_ + kLeaveMs);
    }
    if (options_.alone && !took_alone_ && !draining_) at = std::min(at, alone_until_);
    return std::min(at, flights_.closing_due());
}

}  // namespace mrprompt
