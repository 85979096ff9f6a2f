// Bytes to events and documents, and the bookkeeping of one answer.
#include "provider/chat_decoder.hpp"

#include <algorithm>

#include "provider/error_body.hpp"

namespace mrprompt {

namespace {

constexpr std::size_t kErrorBodyKept = 256 * 1024;
constexpr std::size_t kBeginningKept = 1024;
constexpr std::size_t kMaxToolCalls = 1024;
constexpr std::int64_t kMaxTokens = 1'000'000'000;
constexpr std::size_t kMaxAnswerValues = 4'000'000;  // of one event or document; each may cost 64 bytes
constexpr std::size_t kMaxUsageBytes = 16 * 1024;
constexpr std::size_t kMaxTierBytes = 50;

// Keep-alive white space and a byte order mark may stand before everything.
constexpr std::string_view kInsignificant = " \t\r\n\xEF\xBB\xBF";

void append_up_to(std::string& held, std::string_view bytes, std::size_t limit) {
    held.append(bytes, 0, limit - std::min(limit, held.size()));
}

bool begins_a_stream(std::string_view text) {
    for (const std::string_view field : {":", "data", "event", "id", "retry"}) {
        if (text.starts_with(field) || field.starts_with(text)) return true;
    }
    return false;
}

}  // namespace

void ChatDecoder::feed(std::string_view bytes, Delta& delta) {
    live_ = wants_delta_ ? &delta : nullptr;
    switch (body_) {
        case Body::unknown:
            held_ += bytes;
            recognise();
            break;
        case Body::events:
            feed_events(bytes);
            break;
        case Body::document:
            held_ += bytes;
            break;
        case Body::error:
            append_up_to(held_, bytes, kErrorBodyKept);
            if (held_.size() == kErrorBodyKept) fail(error_from_body(status_, held_));  // enough was said
            break;
    }
    live_ = nullptr;
}

void ChatDecoder::recognise() {
    if (status_ < 200 || status_ > 299) {
        body_ = Body::error;
        held_.resize(std::min(held_.size(), kErrorBodyKept));
        return;
    }
    held_.erase(0, held_.find_first_not_of(kInsignificant));
    if (held_.empty()) return;
    if (held_[0] == '{' || held_[0] == '[' || held_[0] == '<') {
        body_ = Body::document;
        return;
    }
    body_ = Body::events;
    const std::string beginning = std::move(held_);
    held_.clear();
    feed_events(beginning);
}

void ChatDecoder::feed_events(std::string_view bytes) {
    if (completion_.complete) return;
    if (!saw_event_) append_up_to(held_, bytes, kBeginningKept);
    const auto on_event = [this](std::string_view event, std::string_view data) {
        handle_event(event, data);
    };
    if (!events_.feed(bytes, on_event) && !completion_.complete)
        fail("bad_response", "an event of the stream is larger than 16 MiB");
}

void ChatDecoder::handle_event(std::string_view event, std::string_view data) {
    if (failed() || completion_.complete || data.empty()) return;
    if (data.starts_with("[DONE]")) {
        saw_event_ = true;
        completion_.complete = true;
        return;
    }
    const Result<Json> document = parse_json(data, Halves::mark, kMaxAnswerValues);
    if (!document || !document->is_structured()) {
        // The last event of a cut stream may be a half; anywhere else it is not the protocol.
        constexpr char kWhat[] = "an event of the stream";
        if (!document && !finishing_) fail(unreadable(kWhat, document.error(), data));
        if (document && !finishing_) fail(bad_response(std::string(kWhat) + " is no JSON object", data));
        return;
    }
    saw_event_ = true;
    if (auto error = reported_error(*document)) return fail(std::move(*error));
    if (event == "error") {
        ProviderError error = error_from_body(0, data);
        error.type = error.type == "http_error" ? "provider_error" : error.type;
        return fail(std::move(error));
    }
    on_event(event, *document);
}

void ChatDecoder::finish(Delta& delta) {
    live_ = wants_delta_ ? &delta : nullptr;
    finishing_ = true;
    if (body_ == Body::unknown) recognise();
    if (body_ == Body::error) {
        fail(error_from_body(status_, held_));
    } else if (body_ == Body::document) {
        finish_document();
    } else {
        finish_events();
    }
    add_text(content_, {}, completion_.content, live_ ? &live_->content : nullptr);
    add_text(reasoning_, {}, completion_.reasoning, live_ ? &live_->reasoning : nullptr);
    add_text(refusal_, {}, completion_.refusal, live_ ? &live_->refusal : nullptr);
    for (std::size_t place = 0; place < arguments_.size(); ++place) add_arguments(place, {});
    // "" beside tool calls or a refusal is what some servers say for null.
    completion_.has_content = !completion_.content.empty() ||
                              (saw_content_ && completion_.tool_calls.empty() && completion_.refusal.empty());
    held_.clear();
    live_ = nullptr;
}

void ChatDecoder::finish_events() {
    events_.finish([this](std::string_view event, std::string_view data) { handle_event(event, data); });
    if (failed()) return;
    if (ended()) completion_.complete = true;
    if (completion_.complete) return;
    if (body_ == Body::unknown) return fail("cut_stream", "the answer is empty");
    // Comments or a half event are a stream that was cut early; other words never were a stream.
    if (!saw_event_ && !held_.empty() && !begins_a_stream(held_)) {
        return fail(bad_response("the answer is neither JSON nor an event stream", held_));
    }
    fail("cut_stream", "the stream ended before the answer did");
}

void ChatDecoder::finish_document() {
    const Result<Json> document = parse_json(held_, Halves::replace, kMaxAnswerValues);
    if (!document) return fail(unreadable("the answer", document.error(), held_));
    if (auto error = reported_error(*document)) return fail(std::move(*error));
    on_document(*document);
    if (!failed()) completion_.complete = true;
}

void ChatDecoder::add_text(Utf8Joiner& joiner, std::string_view text, std::string& whole, std::string* live) {
    const std::size_t before = whole.size();
    joiner.push(text, whole);
    if (finishing_ && text.empty()) joiner.flush(whole);
    if (live != nullptr) live->append(whole, before);
}

void ChatDecoder::add_content(std::string_view text) {
    saw_content_ = true;
    add_text(content_, text, completion_.content, live_ ? &live_->content : nullptr);
    completion_.has_content = !completion_.content.empty();
}

void ChatDecoder::add_reasoning(std::string_view text) {
    add_text(reasoning_, text, completion_.reasoning, live_ ? &live_->reasoning : nullptr);
}

void ChatDecoder::add_refusal(std::string_view text) {
    add_text(refusal_, text, completion_.refusal, live_ ? &live_->refusal : nullptr);
}

ToolCallFragment& ChatDecoder::live_call(std::size_t place) {
    auto& calls = live_->tool_calls;
    const int index = static_cast<int>(place);
    // The fragment that is being added to is nearly always the last one.
    const auto found =
        std::find_if(calls.rbegin(), calls.rend(), [&](const auto& call) { return call.index == index; });
    if (found != calls.rend()) return *found;
    calls.push_back({.index = index, .id = {}, .name = {}, .arguments = {}});
    return calls.back();
}

std::size_t ChatDecoder::add_tool_call(std::string_view id, std::string_view name) {
    const std::size_t place = completion_.tool_calls.size();
    if (place == kMaxToolCalls) {
        fail("bad_response", "the answer calls too many tools");
        return place - 1;
    }
    completion_.tool_calls.push_back(
        {.index = static_cast<int>(place), .id = {}, .name = {}, .arguments = {}});
    arguments_.emplace_back();
    if (live_ != nullptr) live_call(place);
    name_tool_call(place, id, name);
    return place;
}

void ChatDecoder::name_tool_call(std::size_t place, std::string_view id, std::string_view name) {
    ToolCallFragment& call = completion_.tool_calls[place];
    if (call.id.empty() && !id.empty()) {
        call.id = sanitize_utf8(id);
        if (live_ != nullptr) live_call(place).id = call.id;
    }
    if (call.name.empty() && !name.empty()) {
        call.name = sanitize_utf8(name);
        if (live_ != nullptr) live_call(place).name = call.name;
    }
}

void ChatDecoder::add_arguments(std::size_t place, std::string_view piece) {
    std::string& whole = completion_.tool_calls[place].arguments;
    const std::size_t before = whole.size();
    add_text(arguments_[place].joiner, piece, whole, nullptr);
    arguments_[place].end.feed(piece);
    if (live_ != nullptr && whole.size() > before) live_call(place).arguments.append(whole, before);
}

void ChatDecoder::take_service_tier(const Json& object) {
    if (std::string tier = label(object, "service_tier", kMaxTierBytes); !tier.empty())
        completion_.service_tier = std::move(tier);
}

void ChatDecoder::fail(ProviderError error) {
    if (failed()) return;
    completion_.error = std::move(error);
    completion_.complete = false;
}

void ChatDecoder::fail(std::string type, std::string message) {
    ProviderError error;
    error.type = std::move(type);
    error.message = std::move(message);
    fail(std::move(error));
}

std::int64_t clamp_tokens(std::int64_t count) {
    return std::clamp<std::int64_t>(count, 0, kMaxTokens);
}

std::int64_t token_count(const Json& usage, const char* name) {
    const Json& value = member(usage, name);
    if (value.is_number_unsigned()) {
        return static_cast<std::int64_t>(std::min<std::uint64_t>(value.get<std::uint64_t>(), kMaxTokens));
    }
    if (value.is_number_integer()) return clamp_tokens(value.get<std::int64_t>());
    if (value.is_number_float()) return static_cast<std::int64_t>(std::clamp(value.get<double>(), 0.0, 1e9));
    return 0;
}

std::int64_t part_of(std::int64_t whole, const Json& usage, const char* name) {
    return std::min(whole, token_count(usage, name));
}

bool can_be_kept(const Json& usage) {
    return usage.size() <= kMaxUsageMembers && dump_json(usage).size() <= kMaxUsageBytes;
}

std::string label(const Json& object, const char* name, std::size_t max_bytes) {
    return trim_message(sanitize_utf8(string_member(object, name)), max_bytes);
}

}  // namespace mrprompt
