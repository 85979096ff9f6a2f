// A chat to the body of POST …/chat/completions: the caller's payload, in the caller's order.
#include "provider/http_request.hpp"
#include "provider/openai.hpp"

namespace mrprompt {

namespace {

void append_member(std::string& body, const std::string& name, std::string_view json) {
    body += body.size() > 1 ? "," : "";
    body.append(dump_json(name)).append(":").append(json);
}

// What mrprompt adds to an assistant message for a later turn means nothing here, and strict servers refuse
// it.
bool is_ours(const std::string& name, const Json& value) {
    return name == "raw" || (name == "thinking" && value.is_array());
}

bool is_limit(const std::string& name) {
    return name == "max_tokens" || name == "max_completion_tokens";
}

std::string messages_text(const Json& messages) {
    if (!messages.is_array()) return dump_json(messages);
    std::string text = "[";
    for (const Json& message : messages) {
        if (text.size() > 1) text += ',';
        if (!message.is_object()) {
            text += dump_json(message);
            continue;
        }
        std::string body = "{";
        for (const auto& [name, value] : message.items()) {
            if (!is_ours(name, value)) append_member(body, name, dump_json(value));
        }
        text.append(body).append("}");
    }
    return text += ']';
}

}  // namespace

Result<HttpRequest> openai_request(const Provider& provider, const Chat& chat, const Secret& key) {
    if (!chat.payload.is_object()) return Error{"invalid_request", "the payload is no JSON object"};
    Result<HttpRequest> started = start_request(provider, chat, key, kOpenAiPath);
    if (!started) return started.error();
    // Written member by member: the payload may hold megabytes of images, which a copy would double.
    std::string body = "{";
    bool limited = false;
    append_member(body, "model", dump_json(chat.model));
    for (const auto& [name, value] : chat.payload.items()) {
        if (name == "model" || name == "stream") continue;
        if (name == "stream_options" && (!chat.stream || provider.stream_usage)) continue;
        if (chat.output_limit > 0 && is_limit(name)) {
            if (value.is_null()) continue;  // as good as absent
            append_member(body, name, dump_json(limit_within(value, chat.output_limit)));
            limited = true;
            continue;
        }
        append_member(body, name, name == "messages" ? messages_text(value) : dump_json(value));
    }
    if (chat.output_limit > 0 && !limited)
        append_member(body, provider.max_tokens_field, std::to_string(chat.output_limit));
    if (chat.stream) {
        append_member(body, "stream", "true");
        if (provider.stream_usage) {
            const Json& asked = member(chat.payload, "stream_options");
            Json options = asked.is_object() ? asked : Json::object();
            options["include_usage"] = true;  // the ledger needs it
            append_member(body, "stream_options", dump_json(options));
        }
    }
    started->body = std::move(body) + "}";
    return started;
}

}  // namespace mrprompt
