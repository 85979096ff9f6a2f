// Anthropic's messages, as the provider writes them.
#include <string>

#include "format.hpp"

namespace mrprompt::fake {
namespace {

constexpr std::string_view kSignature = "c2lnbmVkLWJ5LW5vYm9keQ==";

std::string event(std::string_view type, std::string_view members) {
    std::string out = "event: ";
    out.append(type).append("\ndata: {\"type\":\"").append(type).append("\"");
    if (!members.empty()) out.append(",").append(members);
    return out.append("}\n\n");
}

// Its input tokens exclude both caches.
std::string usage_json(const Answer& answer, long output) {
    const Usage& usage = answer.usage;
    return R"({"input_tokens":)" + std::to_string(usage.prompt - usage.cached - usage.cache_write) +
           R"(,"cache_creation_input_tokens":)" + std::to_string(usage.cache_write) +
           R"(,"cache_creation":{"ephemeral_5m_input_tokens":)" +
           std::to_string(usage.cache_write - usage.cache_write_1h) + R"(,"ephemeral_1h_input_tokens":)" +
           std::to_string(usage.cache_write_1h) + R"(},"cache_read_input_tokens":)" +
           std::to_string(usage.cached) + R"(,"output_tokens":)" + std::to_string(output) +
           R"(,"service_tier":)" + quoted(answer.service_tier.empty() ? "standard" : answer.service_tier) +
           "}";
}

// The API's word for one of OpenAI's; any other is passed on.
std::string stop_reason(const Answer& answer) {
    if (!answer.refusal.empty()) return "refusal";
    if (answer.finish == "stop") return "end_turn";
    if (answer.finish == "length") return "max_tokens";
    if (answer.finish == "tool_calls") return "tool_use";
    return answer.finish;
}

// Writes the content blocks of a stream, one after the other.
class Blocks {
public:
    explicit Blocks(std::vector<std::string>& chunks) : chunks_(chunks) {}

    // `last` is an event that ends the block, or "".
    void add(const std::string& block, std::string_view delta_type, std::string_view member,
             const Pieces& pieces, const std::string& last = {}) {
        const std::string index = R"("index":)" + std::to_string(index_++);
        const std::string delta = index + R"(,"delta":{"type":")" + std::string(delta_type) + R"(",")" +
                                  std::string(member) + R"(":)";
        const std::size_t first = chunks_.size();
        for (const std::string& piece : pieces)
            chunks_.push_back(event("content_block_delta", delta + quoted(piece) + "}"));
        if (pieces.empty()) chunks_.emplace_back();
        chunks_[first].insert(0, event("content_block_start", index + R"(,"content_block":)" + block));
        if (!last.empty()) chunks_.back() += event("content_block_delta", index + R"(,"delta":)" + last);
        chunks_.back() += event("content_block_stop", index);
    }

private:
    std::vector<std::string>& chunks_;
    int index_ = 0;
};

class Anthropic final : public Format {
public:
    std::string whole(const Answer& answer) const override {
        std::string content;
        const auto add = [&content](const std::string& block) {
            content.append(content.empty() ? "" : ",").append(block);
        };
        if (!answer.reasoning.empty())
            add(R"({"type":"thinking","thinking":)" + quoted(join(answer.reasoning)) + R"(,"signature":)" +
                quoted(kSignature) + "}");
        for (const Pieces* text : {&answer.refusal, &answer.text})
            if (!text->empty()) add(R"({"type":"text","text":)" + quoted(join(*text)) + "}");
        for (const ToolCall& call : answer.calls)
            add(R"({"type":"tool_use","id":)" + quoted(call.id) + R"(,"name":)" + quoted(call.name) +
                R"(,"input":)" + call.json + "}");
        return R"({"id":"msg_)" + answer.serial + R"(","type":"message","role":"assistant","model":)" +
               quoted(answer.model) + R"(,"content":[)" + content + R"(],"stop_reason":)" +
               quoted(stop_reason(answer)) + R"(,"stop_sequence":null)" +
               (answer.send_usage ? R"(,"usage":)" + usage_json(answer, answer.usage.completion) : "") + "}";
    }

    Events stream(const Answer& answer, const Behaviour& behaviour) const override {
        Events events;
        events.opening = event("message_start",
                               R"("message":{"id":"msg_)" + answer.serial +
                                   R"(","type":"message","role":"assistant","model":)" +
                                   quoted(answer.model) + R"(,"content":[],"stop_reason":null)" +
                                   (answer.send_usage ? R"(,"usage":)" + usage_json(answer, 1) : "") + "}") +
                         event("ping", "");
        Blocks blocks(events.chunks);
        if (!answer.reasoning.empty())
            blocks.add(R"({"type":"thinking","thinking":"","signature":""})", "thinking_delta", "thinking",
                       answer.reasoning,
                       R"({"type":"signature_delta","signature":)" + quoted(kSignature) + "}");
        for (const Pieces* text : {&answer.refusal, &answer.text})
            if (!text->empty()) blocks.add(R"({"type":"text","text":""})", "text_delta", "text", *text);
        for (const ToolCall& call : answer.calls)
            blocks.add(R"({"type":"tool_use","id":)" + quoted(call.id) + R"(,"name":)" + quoted(call.name) +
                           R"(,"input":{}})",
                       "input_json_delta", "partial_json", call.arguments);
        events.closing =
            event("message_delta",
                  R"("delta":{"stop_reason":)" + quoted(stop_reason(answer)) + R"(,"stop_sequence":null})" +
                      (answer.send_usage
                           ? R"(,"usage":{"output_tokens":)" + std::to_string(answer.usage.completion) + "}"
                           : ""));
        if (!on(behaviour.no_done)) events.closing += event("message_stop", "");
        return events;
    }

    Events endless(const Answer& answer) const override {
        Events events = stream(answer, {});
        events.opening +=
            event("content_block_start", R"("index":0,"content_block":{"type":"text","text":""})");
        events.chunks = {event("content_block_delta", R"("index":0,"delta":{"type":"text_delta","text":)" +
                                                          quoted(std::string(1000, 'x')) + "}")};
        return events;
    }

    std::string error(int status, const Behaviour& behaviour, std::string_view message) const override {
        return R"({"type":"error","error":{"type":)" +
               quoted(escape(behaviour.error_type.value_or(type_of(status)))) + R"(,"message":)" +
               quoted(escape(message)) + "}}";
    }
    std::string error_event(const Behaviour& behaviour) const override {
        return "event: error\ndata: " +
               error(529, behaviour, behaviour.error_message.value_or("Overloaded")) + "\n\n";
    }
    std::string unknown_event() const override { return event("weather", R"("sky":"clear")"); }
    std::string_view request_id_header() const override { return "request-id"; }

private:
    static const char* type_of(int status) {
        switch (status) {
            case 401:
                return "authentication_error";
            case 402:
                return "billing_error";
            case 403:
                return "permission_error";
            case 404:
                return "not_found_error";
            case 413:
                return "request_too_large";
            case 429:
                return "rate_limit_error";
            case 529:
                return "overloaded_error";
            default:
                return status >= 500 ? "api_error" : "invalid_request_error";
        }
    }
};

}  // namespace

const Format& anthropic_format() {
    static const Anthropic format;
    return format;
}

}  // namespace mrprompt::fake
