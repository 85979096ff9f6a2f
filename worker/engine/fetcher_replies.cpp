// What the database's answers, and its failures, change in the fetcher.
#include <algorithm>
#include <unordered_set>

#include "core/json.hpp"
#include "engine/fetcher.hpp"

namespace mrprompt {
namespace {

constexpr std::int64_t kHoldMs = 100;
constexpr std::int64_t kMaxHoldMs = 5'000;
constexpr std::int64_t kBusyMs = 100;
constexpr std::int64_t kTendMoreMs = 100;
constexpr std::int64_t kClaimAgainMs = 250;  // a claim that found something says nothing of what comes later
constexpr int kMaxClaimRows = 10'000;        // the database hands out no more at once

// A claim that took effect, but whose answer was too large for a frame; or one too large to be made.
constexpr char kTooLarge[] = "54000";

// Whether the call took effect is not known.
bool lost_sight(const std::string& sqlstate) {
    return sqlstate.starts_with("08") || sqlstate.starts_with("57P0");
}

// It took no effect, and may well work a moment later: conflicts, locks, time-outs, resources, read-only.
bool passes(const std::string& sqlstate) {
    return sqlstate == "40001" || sqlstate == "40P01" || sqlstate == "55P03" || sqlstate == "57014" ||
           sqlstate == "25006" || sqlstate.starts_with("53");
}

std::unordered_set<std::string> id_set(const Json& list) {
    std::unordered_set<std::string> ids;
    for (std::string& id : parse_ids(list)) ids.insert(std::move(id));
    return ids;
}

const char* name_of(CallKind kind) {
    switch (kind) {
        case CallKind::hello:
            return "hello";
        case CallKind::claim:
            return "claim";
        case CallKind::append:
            return "append";
        case CallKind::settle:
            return "settle";
        case CallKind::heartbeat:
            return "heartbeat";
        case CallKind::tend:
            return "tend";
    }
    return "?";
}

}  // namespace

void Fetcher::on_reply(Reply reply) {
    if (!under_way_) return;
    Call call = std::move(*under_way_);
    under_way_.reset();
    if (!reply.sqlstate.empty()) return on_failure(reply, std::move(call));
    // These work where a settle may not, and say nothing of it.
    if (call.kind != CallKind::heartbeat && call.kind != CallKind::tend) troubles_ = 0;
    if (call.kind == CallKind::claim) return on_claim(reply);
    auto answer = parse_json(reply.body);
    if (!answer) {
        // What it did is unknown; sent again, it changes nothing that it has done.
        options_.log(std::string("the answer to ") + name_of(call.kind) +
                     " is no JSON: " + answer.error().message);
        reply.sqlstate = "08P01";
        reply.body = answer.error().message;
        return on_failure(reply, std::move(call));
    }
    switch (call.kind) {
        case CallKind::hello:
            return on_hello(*answer);
        case CallKind::append:
            return on_append(*answer, call);
        case CallKind::settle:
            return on_settle(*answer, std::move(call));
        case CallKind::heartbeat:
            return on_heartbeat(*answer, call.leaving);
        case CallKind::tend:
            if (member(*answer, "more") == true) tend_at_ = clock_.now_ms() + kTendMoreMs;
            return;
        default:
            return;
    }
}

void Fetcher::take_settings(const Json& row) {
    settings_ = parse_settings(row, settings_);
    flights_.obey(settings_);
}

void Fetcher::on_hello(const Json& answer) {
    const std::int64_t now = clock_.now_ms();
    std::string id = string_member(answer, "fetcher");
    if (!is_uuid(id)) {
        options_.log("the answer to hello names no fetcher");
        hold_until_ = now + kMaxHoldMs;
        return;
    }
    id_ = std::move(id);
    contract_ = kContractVersion;  // it may be updated when this fetcher has to say hello again
    take_settings(member(answer, "settings"));
    woken_ = true;
    more_ = relist_ = false;
    heartbeat_at_ = now + settings_.heartbeat_ms;
    if (options_.alone && alone_until_ == kNever) alone_until_ = now + options_.alone_patience_ms;
}

void Fetcher::on_claim(Reply& reply) {
    auto claim = parse_claim(reply.body);
    const std::int64_t now = clock_.now_ms();
    if (!claim) {
        options_.log("the answer to claim is no good: " + claim.error().message);
        relist_ = true;  // whatever it handed out is queued again by a heartbeat that does not list it
        heartbeat_at_ = hold_until_ = now + kMaxHoldMs;
        return;
    }
    claim_halvings_ = 0;
    const auto jobs = static_cast<int>(claim->jobs.size());
    more_ = jobs >= std::min(asked_room_, kMaxClaimRows) ||
            (jobs > 0 && static_cast<std::int64_t>(reply.body.size()) >= asked_bytes_ / 2);
    if (claim->next_ms) claim_at_ = now + std::max<std::int64_t>(*claim->next_ms, 1);
    if (jobs > 0) claim_at_ = std::min(claim_at_, now + kClaimAgainMs);
    if (jobs > 0) took_alone_ = true;
    reply.body = std::string();

    std::vector<std::shared_ptr<const Secret>> keys(reply.keys.size());
    for (std::size_t i = 0; i < keys.size(); ++i) {
        if (reply.keys[i].opened) keys[i] = std::make_shared<const Secret>(std::move(reply.keys[i].key));
    }
    for (Job& job : claim->jobs) {
        const Result<ProviderRow>* provider = job.provider && *job.provider < claim->providers.size()
                                                  ? &claim->providers[*job.provider]
                                                  : nullptr;
        std::shared_ptr<const Secret> key;
        std::string problem;
        if (job.key && *job.key < keys.size()) {
            key = keys[*job.key];
            if (!key) problem = "the key does not open: " + reply.keys[*job.key].reason;
        } else if (job.key) {
            problem = "the key did not come with the request";
        }
        flights_.start(std::move(job), provider, std::move(key), problem);
    }
    for (const std::string& request : claim->cancel) flights_.cancel(request);
}

void Fetcher::on_append(const Json& answer, const Call& call) {
    const auto lost = id_set(member(answer, "lost"));
    for (const Item& item : call.items) {
        if (lost.contains(item.request)) flights_.forget(item);
    }
    for (const Rejection& bad : parse_rejections(member(answer, "rejected"))) {
        options_.log("the database refused a delta of request " + bad.request + ": " + bad.message);
        flights_.fail(bad.request, "rejected_by_database",
                      "a piece of the answer could not be stored: " + bad.message);
    }
}

void Fetcher::on_settle(const Json& answer, Call call) {
    const std::int64_t now = clock_.now_ms();
    const auto busy = id_set(member(answer, "busy"));
    for (const Rejection& bad : parse_rejections(member(answer, "rejected"))) {
        options_.log("the database refused the outcome of request " + bad.request + ": " + bad.message);
    }
    for (Item& item : call.items) {
        if (busy.contains(item.request)) {
            flights_.settle_later(std::move(item), now + kBusyMs);
            continue;
        }
        if (item.again_ms) claim_at_ = std::min(claim_at_, now + *item.again_ms + 1);
        flights_.forget(item);
    }
}

void Fetcher::on_heartbeat(const Json& answer, bool leaving) {
    if (leaving) return finish(exit_code_);
    take_settings(member(answer, "settings"));
    relist_ = false;
    heartbeat_at_ = clock_.now_ms() + settings_.heartbeat_ms;
    for (const std::string& request : parse_ids(member(answer, "lost"))) flights_.drop(request);
    for (const std::string& request : parse_ids(member(answer, "cancel"))) flights_.cancel(request);
    alone_waiting_ = parse_count(member(answer, "alone_waiting"));
}

void Fetcher::on_failure(const Reply& reply, Call call) {
    const std::int64_t now = clock_.now_ms();
    if (call.leaving) return finish(exit_code_);
    if (reply.sqlstate == "PT410") {
        options_.log("the database does not know this fetcher any more, saying hello again: " + reply.body);
        flights_.drop_all();
        parked_.clear();
        id_.clear();
        if (draining_) finish(exit_code_);
        return;
    }
    if (call.kind == CallKind::hello && reply.sqlstate == "PT400") {
        if (std::exchange(contract_, kOldestContract) != kOldestContract)
            return;  // an extension not yet updated
        options_.log("the database refuses this fetcher, which speaks contract versions " +
                     std::to_string(kOldestContract) + " to " + std::to_string(kContractVersion) + ": " +
                     reply.body);
        return finish(kExitContractRefused);
    }
    const bool lost = lost_sight(reply.sqlstate);
    const bool has_items = !call.items.empty();
    if (has_items && !lost && !passes(reply.sqlstate)) return on_refused_items(std::move(call), reply.body);

    if (troubles_ == 0)
        options_.log(std::string(name_of(call.kind)) + " failed, trying again: " + reply.body);
    const std::int64_t hold = std::min(kMaxHoldMs, kHoldMs << std::min(troubles_++, 10));
    hold_until_ = now + hold;
    switch (call.kind) {
        case CallKind::claim:
            woken_ = true;
            if (reply.sqlstate == kTooLarge) ++claim_halvings_;
            if (lost || reply.sqlstate == kTooLarge) {
                relist_ = true;
                heartbeat_at_ = std::min(heartbeat_at_, hold_until_);
            }
            break;
        case CallKind::heartbeat:
            heartbeat_at_ = hold_until_;
            break;
        case CallKind::append:
        case CallKind::settle:
            parked_.push_front(std::move(call));
            break;
        default:
            break;
    }
}

// The database can not take the batch: halve it until the item that it can not take stands alone.
void Fetcher::on_refused_items(Call call, const std::string& message) {
    if (call.items.size() > 1) {
        const auto middle = call.items.begin() + static_cast<std::ptrdiff_t>(call.items.size() / 2);
        Call second{
            call.kind, {std::make_move_iterator(middle), std::make_move_iterator(call.items.end())}, false};
        call.items.erase(middle, call.items.end());
        parked_.push_front(std::move(second));
        parked_.push_front(std::move(call));
        return;
    }
    const Item& item = call.items.front();
    options_.log(std::string(name_of(call.kind)) + " of request " + item.request +
                 " was refused: " + message);
    if (call.kind == CallKind::append) {
        flights_.fail(item.request, "rejected_by_database",
                      "a piece of the answer could not be stored: " + message);
    } else if (!flights_.settle_barely(item, message)) {
        flights_.forget(item);
    }
}

}  // namespace mrprompt
