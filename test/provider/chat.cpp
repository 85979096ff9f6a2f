// Reads the bodies of chat requests, as strictly as the providers do where that finds bugs.
#include "chat.hpp"

#include <nlohmann/json.hpp>

namespace mrprompt::fake {
namespace {

using nlohmann::json;

const json& at(const json& object, const char* name) {
    static const json null;
    const auto found = object.find(name);
    return found == object.end() ? null : *found;
}

bool is_true(const json& value) {
    return value.is_boolean() && value.get<bool>();
}

std::string text_of(const json& content) {
    if (content.is_string()) return content.get<std::string>();
    std::string text;
    if (content.is_array())
        for (const json& part : content)
            if (part.is_object()) {
                if (at(part, "text").is_string()) text += at(part, "text").get_ref<const std::string&>();
                if (at(part, "type") == "tool_result") text += text_of(at(part, "content"));
            }
    return text;
}

bool holds_tool_result(const json& content) {
    if (content.is_array())
        for (const json& part : content)
            if (part.is_object() && at(part, "type") == "tool_result") return true;
    return false;
}

}  // namespace

std::string ChatRequest::read(Protocol protocol, std::string_view body) {
    const json request = json::parse(body, nullptr, false);
    if (!request.is_object()) return "We could not parse the JSON body of your request.";
    const bool anthropic = protocol == Protocol::kAnthropic;
    if (at(request, "model").is_string()) model = at(request, "model").get<std::string>();
    if (anthropic && model.empty()) return "model: Field required";
    if (anthropic && !at(request, "max_tokens").is_number_integer()) return "max_tokens: Field required";
    stream = is_true(at(request, "stream"));
    const json& options = at(request, "stream_options");
    stream_options = !options.is_null();
    include_usage = options.is_object() && is_true(at(options, "include_usage"));
    if (stream_options && !stream)
        return "The 'stream_options' parameter is only allowed when 'stream' is enabled.";

    const json& messages = at(request, "messages");
    if (!messages.is_array() || messages.empty()) return "messages: at least one message is required";
    if (anthropic) text_bytes += text_of(at(request, "system")).size();
    for (const json& message : messages) {
        if (!message.is_object() || !at(message, "role").is_string()) return "messages: role is required";
        const std::string& role = at(message, "role").get_ref<const std::string&>();
        if (anthropic && role != "user" && role != "assistant")
            return "messages: Unexpected role \"" + role + "\"";
        const json& content = at(message, "content");
        std::string text = text_of(content);
        text_bytes += text.size();
        const bool answers = role == "tool" || holds_tool_result(content);
        if (answers && tool_result.empty()) ++tool_rounds;
        tool_result.clear();
        if (answers) {
            tool_result = std::move(text);
        } else if (role == "user") {
            last_user_text = std::move(text);
            tool_rounds = 0;
        }
    }
    return {};
}

}  // namespace mrprompt::fake
