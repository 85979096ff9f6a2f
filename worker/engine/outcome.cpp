// Builds the JSON of deltas and outcomes through dump_json, so that PostgreSQL takes every one of them.
#include "engine/outcome.hpp"

#include <algorithm>

#include "core/json.hpp"
#include "core/text.hpp"
#include "engine/estimate.hpp"

namespace mrprompt {
namespace {

constexpr std::size_t kMaxMessageBytes = 2'000;
constexpr std::size_t kMaxTypeBytes = 100;

const char* name_of(OutcomeKind kind) {
    switch (kind) {
        case OutcomeKind::succeeded:
            return "succeeded";
        case OutcomeKind::retry:
            return "retry";
        case OutcomeKind::failed:
            return "failed";
        case OutcomeKind::cancelled:
            return "cancelled";
    }
    return "failed";
}

Json fragments(std::vector<ToolCallFragment>&& calls) {
    Json list = Json::array();
    for (ToolCallFragment& call : calls) {
        Json row = {{"index", call.index}};
        if (!call.id.empty()) row["id"] = std::move(call.id);
        if (!call.name.empty()) row["name"] = std::move(call.name);
        if (!call.arguments.empty()) row["arguments"] = std::move(call.arguments);
        list.push_back(std::move(row));
    }
    return list;
}

Json delta_value(const Flight& flight, int seq, Delta&& delta) {
    Json row = {{"request", flight.request}, {"attempt", flight.attempt}, {"seq", seq}};
    if (!delta.content.empty()) row["content"] = std::move(delta.content);
    if (!delta.reasoning.empty()) row["reasoning"] = std::move(delta.reasoning);
    if (!delta.refusal.empty()) row["refusal"] = std::move(delta.refusal);
    if (!delta.tool_calls.empty()) row["tool_calls"] = fragments(std::move(delta.tool_calls));
    return row;
}

Json text_or_null(std::string&& text, bool present) {
    return present ? Json(std::move(text)) : Json(nullptr);
}

// The calls of a whole answer, as the OpenAI format has them, so that they can be sent back as they are.
Json whole_calls(std::vector<ToolCallFragment>&& calls) {
    if (calls.empty()) return nullptr;
    Json list = Json::array();
    for (ToolCallFragment& call : calls) {
        Json function = {{"name", std::move(call.name)}, {"arguments", std::move(call.arguments)}};
        list.push_back({{"id", std::move(call.id)}, {"type", "function"}, {"function", std::move(function)}});
    }
    return list;
}

Json response_value(Completion& done) {
    Json row;
    row["content"] = text_or_null(std::move(done.content), done.has_content);
    const bool refused = !done.refusal.empty(), reasoned = !done.reasoning.empty();
    row["refusal"] = text_or_null(std::move(done.refusal), refused);
    row["reasoning"] = text_or_null(std::move(done.reasoning), reasoned);
    row["tool_calls"] = whole_calls(std::move(done.tool_calls));
    row["finish_reason"] = text_or_null(std::string(done.finish_reason), !done.finish_reason.empty());
    row["model"] = text_or_null(std::string(done.model), !done.model.empty());
    row["provider_response_id"] = text_or_null(std::string(done.response_id), !done.response_id.empty());
    row["raw"] = std::move(done.raw);
    return row;
}

Json usage_value(const Usage& usage, const std::string& service_tier, bool estimated) {
    return {{"prompt_tokens", usage.prompt_tokens},
            {"completion_tokens", usage.completion_tokens},
            {"cached_tokens", usage.cached_tokens},
            {"cache_write_tokens", usage.cache_write_tokens},
            {"cache_write_1h_tokens", usage.cache_write_1h_tokens},
            {"reasoning_tokens", usage.reasoning_tokens},
            {"audio_prompt_tokens", usage.audio_prompt_tokens},
            {"audio_completion_tokens", usage.audio_completion_tokens},
            {"service_tier", text_or_null(std::string(service_tier), !service_tier.empty())},
            {"provider_cost", usage.provider_cost},
            {"estimated", estimated}};
}

std::size_t text_bytes(const Completion& done) {
    std::size_t bytes = done.content.size() + done.reasoning.size() + done.refusal.size();
    for (const ToolCallFragment& call : done.tool_calls) bytes += call.name.size() + call.arguments.size();
    return bytes;
}

// The provider's own figures, once it has said all of them. Else an estimate, by the size of what went there
// and what was seen to come back; null where nothing went there, or the provider did nothing with it.
Json usage_of(const Flight& flight, const Completion& done, OutcomeKind kind) {
    const bool said_all = kind == OutcomeKind::succeeded || done.complete || !done.finish_reason.empty();
    const bool chat = flight.prompt_estimate > 0;
    // No chat takes no tokens: figures that say so are none.
    const bool nought =
        done.usage && chat && done.usage->prompt_tokens == 0 && done.usage->completion_tokens == 0;
    const bool said = done.usage && !nought;
    if (said_all && said) return usage_value(*done.usage, done.service_tier, false);
    const bool refused = flight.status >= 300;
    if (!said && (!chat || !flight.sent || refused)) return nullptr;
    Usage usage = said ? *done.usage : Usage{.prompt_tokens = flight.prompt_estimate};
    usage.completion_tokens = std::max(usage.completion_tokens, estimated_tokens(text_bytes(done)));
    usage.provider_cost = nullptr;  // of what had been said by then, not of the whole
    return usage_value(usage, done.service_tier, true);
}

Json error_value(const OutcomeError& error, const Flight& flight) {
    const std::string_view key = flight.key ? flight.key->view() : std::string_view();
    Json row;
    row["status"] = error.status != 0 ? Json(error.status) : Json(nullptr);
    // Made whole first: what becomes a replacement later would be longer, and a dropped NUL could uncover the
    // key.
    row["type"] = trim_message(redact(sanitize_utf8(error.type), key), kMaxTypeBytes);
    row["message"] = trim_message(redact(sanitize_utf8(error.message), key), kMaxMessageBytes);
    return row;
}

Json cooldown_value(const Cooldown& cooldown) {
    return {{"reason", cooldown.reason}, {"ms", cooldown.ms ? Json(*cooldown.ms) : Json(nullptr)}};
}

// Something of an answer is worth keeping even when it was cancelled half-way.
bool has_text(const Completion& done) {
    return !done.content.empty() || !done.reasoning.empty() || !done.refusal.empty() ||
           !done.tool_calls.empty();
}

}  // namespace

Ending failure(std::string type, std::string message) {
    Ending ending;
    ending.error = OutcomeError{0, std::move(type), std::move(message)};
    return ending;
}

std::string delta_json(const Flight& flight, int seq, Delta&& delta) {
    return dump_json(delta_value(flight, seq, std::move(delta)));
}

std::string outcome_json(Flight& flight, Completion* completion, Ending ending) {
    const bool retry = ending.kind == OutcomeKind::retry;
    Json row = {{"request", flight.request}, {"attempt", flight.attempt}, {"result", name_of(ending.kind)}};

    // The next attempt begins anew: what this one still held is of no use to a reader.
    Json deltas = Json::array();
    if (!retry) {
        if (!flight.unsent.empty()) flight.full.push_back(std::move(flight.unsent));
        for (Delta& piece : flight.full)
            deltas.push_back(delta_value(flight, flight.next_seq++, std::move(piece)));
    }
    flight.drop_gathered();
    row["deltas"] = std::move(deltas);

    if (flight.usage.is_null())
        flight.usage = usage_of(flight, completion != nullptr ? *completion : Completion(), ending.kind);
    const bool keep =
        completion != nullptr && (ending.kind == OutcomeKind::succeeded ||
                                  (ending.kind == OutcomeKind::cancelled && has_text(*completion)));
    row["response"] = keep ? response_value(*completion) : Json(nullptr);
    row["sent"] = flight.sent;
    row["usage"] = flight.usage;
    row["raw_usage"] = completion != nullptr ? std::move(completion->raw_usage) : Json(nullptr);
    const bool has_id = !flight.provider_request_id.empty();
    row["provider_request_id"] = text_or_null(std::move(flight.provider_request_id), has_id);
    row["http_status"] = flight.status != 0 ? Json(flight.status) : Json(nullptr);
    row["first_token_ms"] = flight.first_token_ms ? Json(*flight.first_token_ms) : Json(nullptr);
    row["total_ms"] = ending.total_ms;
    row["error"] = ending.error ? error_value(*ending.error, flight) : Json(nullptr);
    row["cooldown"] = ending.cooldown ? cooldown_value(*ending.cooldown) : Json(nullptr);
    if (retry) {
        row["retry_after_ms"] = ending.retry_after_ms;
        row["counts_as_failure"] = ending.counts_as_failure;
    }
    std::string text = dump_json(row);
    if (text.size() <= kMaxOutcomeBytes) return text;

    Ending refused{OutcomeKind::failed,
                   OutcomeError{flight.status, "response_too_large", "the answer is too large to be stored"},
                   ending.total_ms,
                   0,
                   false,
                   ending.cooldown};
    return outcome_json(flight, nullptr, std::move(refused));
}

}  // namespace mrprompt
