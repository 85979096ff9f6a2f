// OpenAI chat messages as Anthropic messages: system apart, tool results with the user, thinking first.
#include <algorithm>

#include "provider/anthropic.hpp"

namespace mrprompt {

namespace {

Error refused(const std::string& where, std::string_view why) {
    return Error{"invalid_request", where + ": " + std::string(why)};
}

std::string at(std::size_t index) {
    return "messages[" + std::to_string(index) + "]";
}

// Ids that other providers gave may hold what Anthropic refuses.
std::string tool_id(std::string id) {
    for (char& c : id) {
        const bool taken = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                           c == '_' || c == '-';
        if (!taken) c = '_';
    }
    return id;
}

Json text_block(std::string text) {
    return {{"type", "text"}, {"text", std::move(text)}};
}

// The source of an image or document: a data: URL's own bytes, or an address to fetch them from.
Result<Json> source_of(const std::string& url, const std::string& where) {
    if (url.starts_with("https://") || url.starts_with("http://")) return Json{{"type", "url"}, {"url", url}};
    constexpr std::string_view kBase64 = ";base64";
    const std::size_t comma = url.find(',');
    if (!url.starts_with("data:") || comma == std::string::npos) {
        return refused(where, "only http, https and data: URLs can be sent");
    }
    const std::string_view head = std::string_view(url).substr(5, comma - 5);
    if (!head.ends_with(kBase64)) return refused(where, "a data: URL must be base64");
    const std::string media_type(head.substr(0, std::min(head.find(';'), head.size())));
    return Json{{"type", "base64"}, {"media_type", media_type}, {"data", url.substr(comma + 1)}};
}

Result<Json> block_with_source(const char* type, const std::string& url, const Json& part,
                               const std::string& where) {
    Result<Json> source = source_of(url, where);
    if (!source) return source.error();
    Json block{{"type", type}, {"source", std::move(*source)}};
    if (const Json& mark = member(part, "cache_control"); mark.is_object()) block["cache_control"] = mark;
    return block;
}

// One content part; a part of a type that OpenAI has not is taken for a block of Anthropic's own.
Result<Json> block_of(const Json& part, const std::string& where) {
    if (part.is_string()) return text_block(part.get<std::string>());
    if (!part.is_object()) return refused(where, "a content part must be an object");
    const std::string type = string_member(part, "type");
    if (type == "image_url") {
        const Json& image = member(part, "image_url");
        return block_with_source(
            "image", image.is_string() ? image.get<std::string>() : string_member(image, "url"), part, where);
    }
    if (type == "file") {
        const std::string data = string_member(member(part, "file"), "file_data");
        if (data.empty()) return refused(where, "Anthropic takes a file as file_data only");
        return block_with_source("document", data, part, where);
    }
    if (type == "input_audio") return refused(where, "Anthropic takes no audio");
    if (type == "refusal") return text_block(string_member(part, "refusal"));
    return part;
}

// `content` (text, a list of parts, or null) as blocks at the end of `blocks`. Empty text is left out: it is
// refused.
std::optional<Error> append_content(Json& blocks, const Json& content, const std::string& where) {
    if (content.is_null()) return std::nullopt;
    if (content.is_string()) {
        if (!content.get_ref<const std::string&>().empty())
            blocks.push_back(text_block(content.get<std::string>()));
        return std::nullopt;
    }
    if (!content.is_array()) return refused(where + ".content", "must be text or a list of parts");
    for (std::size_t i = 0; i < content.size(); ++i) {
        Result<Json> block = block_of(content[i], where + ".content[" + std::to_string(i) + "]");
        if (!block) return block.error();
        if (string_member(*block, "type") == "text" && string_member(*block, "text").empty()) continue;
        blocks.push_back(std::move(*block));
    }
    return std::nullopt;
}

std::optional<Error> append_tool_calls(Json& blocks, const Json& calls, const std::string& where) {
    if (!calls.is_array()) return std::nullopt;
    for (std::size_t i = 0; i < calls.size(); ++i) {
        const Json& function = member(calls[i], "function");
        const Json& arguments = member(function, "arguments");
        const std::string text = arguments.is_string() ? arguments.get<std::string>() : dump_json(arguments);
        const bool none = arguments.is_null() || text.find_first_not_of(" \t\r\n") == std::string::npos;
        Result<Json> input = none ? Result<Json>(Json::object()) : parse_json(text);
        if (!input || !input->is_object()) {
            return refused(where + ".tool_calls[" + std::to_string(i) + "].function.arguments",
                           "must be the text of a JSON object");
        }
        blocks.push_back({{"type", "tool_use"},
                          {"id", tool_id(string_member(calls[i], "id"))},
                          {"name", string_member(function, "name")},
                          {"input", std::move(*input)}});
    }
    return std::nullopt;
}

std::optional<Error> append_assistant(Json& blocks, const Json& message, const std::string& where) {
    // Thinking as an answer's `raw` gave it: Anthropic wants it back first, signature and all.
    for (const Json* holder : {&member(message, "raw"), &message}) {
        const Json& thinking = member(*holder, "thinking");
        if (!thinking.is_array()) continue;
        for (const Json& block : thinking) blocks.push_back(block);
        break;
    }
    if (auto error = append_content(blocks, member(message, "content"), where)) return error;
    return append_tool_calls(blocks, member(message, "tool_calls"), where);
}

std::optional<Error> append_tool_result(Json& blocks, const Json& message, const std::string& where) {
    const std::string id = string_member(message, "tool_call_id");
    if (id.empty()) return refused(where, "a tool message needs a tool_call_id");
    Json content = Json::array();
    if (auto error = append_content(content, member(message, "content"), where)) return error;
    Json result{{"type", "tool_result"}, {"tool_use_id", tool_id(id)}};
    if (!content.empty()) result["content"] = std::move(content);
    blocks.push_back(std::move(result));
    return std::nullopt;
}

// The blocks of the last message when it has that role, else of a new one: neighbours of one role are one
// message.
Json& blocks_for(Json& messages, const char* role) {
    if (messages.empty() || messages.back()["role"] != role) {
        messages.push_back({{"role", role}, {"content", Json::array()}});
    }
    return messages.back()["content"];
}

}  // namespace

Result<AnthropicConversation> anthropic_conversation(const Json& messages) {
    if (!messages.is_array()) return Error{"invalid_request", "messages must be a list"};
    AnthropicConversation conversation;
    for (std::size_t i = 0; i < messages.size(); ++i) {
        const Json& message = messages[i];
        const std::string role = string_member(message, "role");
        Json blocks = Json::array();
        const char* to = "user";
        std::optional<Error> error;
        if (role == "system" || role == "developer") {
            error = append_content(conversation.system, member(message, "content"), at(i));
        } else if (role == "user") {
            error = append_content(blocks, member(message, "content"), at(i));
        } else if (role == "assistant") {
            to = "assistant";
            error = append_assistant(blocks, message, at(i));
        } else if (role == "tool") {
            error = append_tool_result(blocks, message, at(i));
        } else {
            error = refused(at(i), "unknown role \"" + role + "\"");
        }
        if (error) return *error;
        if (blocks.empty()) continue;
        Json& held = blocks_for(conversation.messages, to);
        for (Json& block : blocks) held.push_back(std::move(block));
    }
    return conversation;
}

}  // namespace mrprompt
