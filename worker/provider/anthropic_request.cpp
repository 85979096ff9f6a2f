// A chat to the body of POST /v1/messages: parameters renamed, reshaped or left out.
#include <algorithm>

#include "provider/anthropic.hpp"
#include "provider/http_request.hpp"

namespace mrprompt {

namespace {

constexpr std::int64_t kDefaultMaxTokens = 4096;  // Anthropic wants a number always

// OpenAI's parameters that Anthropic has no like of and refuses. What stands neither here nor below passes
// through.
constexpr std::string_view kLeftOut[] = {
    "audio",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "modalities",
    "model",
    "n",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "seed",
    "store",
    "stream",
    "stream_options",
    "top_logprobs",
    "verbosity",
    "web_search_options",
};

// Reshaped one by one in `anthropic_request`.
constexpr std::string_view kTranslated[] = {
    "max_completion_tokens", "max_tokens",      "messages",          "parallel_tool_calls",
    "reasoning_effort",      "response_format", "safety_identifier", "stop",
    "system",                "temperature",     "tool_choice",       "tools",
    "user",
};

template <std::size_t N>
bool listed(const std::string_view (&list)[N], std::string_view name) {
    return std::find(std::begin(list), std::end(list), name) != std::end(list);
}

const Json& own_limit(const Json& payload) {
    const Json& value = member(payload, "max_completion_tokens");
    return value.is_number_integer() ? value : member(payload, "max_tokens");
}

Json max_tokens(const Chat& chat) {
    const Json& payload = chat.payload;
    const Json& own = own_limit(payload);
    if (chat.output_limit > 0) return limit_within(own, chat.output_limit);
    if (own.is_number_integer()) return own.get<std::int64_t>();
    // The thinking budget counts towards the limit and must stay below it.
    const Json& budget = member(member(payload, "thinking"), "budget_tokens");
    return kDefaultMaxTokens + (budget.is_number_integer()
                                    ? std::clamp<std::int64_t>(budget.get<std::int64_t>(), 0, 1'000'000)
                                    : 0);
}

// Text where text is all there is; blocks where one carries more (cache_control).
Json system_value(const Json& blocks) {
    std::string joined;
    for (const Json& block : blocks) {
        if (string_member(block, "type") != "text" || block.size() != 2) return blocks;
        joined += joined.empty() ? "" : "\n\n";
        joined += string_member(block, "text");
    }
    return joined;
}

Json tools_value(const Json& tools) {
    Json ours = Json::array();
    for (const Json& tool : tools) {
        const Json& function = member(tool, "function");
        if (!function.is_object()) {
            ours.push_back(tool);  // a tool of Anthropic's own
            continue;
        }
        Json made{{"name", string_member(function, "name")}};
        if (const Json& text = member(function, "description"); text.is_string()) made["description"] = text;
        const Json& parameters = member(function, "parameters");
        made["input_schema"] =
            parameters.is_object() ? parameters : Json{{"type", "object"}, {"properties", Json::object()}};
        if (member(function, "strict") == true) made["strict"] = true;
        if (const Json& mark = member(tool, "cache_control"); mark.is_object()) made["cache_control"] = mark;
        ours.push_back(std::move(made));
    }
    return ours;
}

Json tool_choice_value(const Json& payload) {
    const Json& asked = member(payload, "tool_choice");
    Json choice;
    if (asked == "auto" || asked == "none") {
        choice = {{"type", asked}};
    } else if (asked == "required") {
        choice = {{"type", "any"}};
    } else if (member(asked, "function").is_object()) {
        choice = {{"type", "tool"}, {"name", string_member(member(asked, "function"), "name")}};
    } else if (asked.is_object()) {
        choice = asked;
    }
    if (member(payload, "parallel_tool_calls") == false) {
        if (choice.is_null()) choice = {{"type", "auto"}};
        if (choice["type"] != "none") choice["disable_parallel_tool_use"] = true;
    }
    return choice;
}

void set_tools(Json& body, const Json& payload) {
    const Json& tools = member(payload, "tools");
    if (!tools.is_array() || tools.empty()) return;  // a choice without tools is refused
    body["tools"] = tools_value(tools);
    if (Json choice = tool_choice_value(payload); !choice.is_null()) body["tool_choice"] = std::move(choice);
}

void set_sampling(Json& body, const Json& payload) {
    // OpenAI's scale goes to 2, Anthropic's to 1.
    if (const Json& temperature = member(payload, "temperature"); temperature.is_number()) {
        body["temperature"] = temperature > 1 ? Json(1) : temperature;
    }
    const Json& stop = member(payload, "stop");
    if (stop.is_string()) body["stop_sequences"] = Json::array({stop});
    if (stop.is_array()) body["stop_sequences"] = stop;
}

void set_user(Json& body, const Json& payload) {
    for (const char* name : {"user", "safety_identifier"}) {
        const Json& user = member(payload, name);
        if (!user.is_string()) continue;
        if (!member(body, "metadata").is_object()) body["metadata"] = Json::object();
        body["metadata"]["user_id"] = user;
        return;
    }
}

Json& output_config(Json& body) {
    Json& config = body["output_config"];
    if (!config.is_object()) config = Json::object();
    return config;
}

// The same words, but that "minimal" is "low" here, and that "none" has no like.
void set_effort(Json& body, const Json& payload) {
    const std::string effort = string_member(payload, "reasoning_effort");
    if (effort.empty() || effort == "none" || member(member(body, "output_config"), "effort").is_string()) return;
    output_config(body)["effort"] = effort == "minimal" ? "low" : effort;
}

// A schema is enforced; "some JSON object" has no counterpart and is asked for in words.
void set_format(Json& body, Json& system, const Json& payload) {
    const Json& format = member(payload, "response_format");
    const std::string type = string_member(format, "type");
    if (type == "json_schema") {
        output_config(body)["format"] = {{"type", type},
                                         {"schema", member(member(format, "json_schema"), "schema")}};
    } else if (type == "json_object") {
        system.push_back({{"type", "text"}, {"text", "Answer with one valid JSON object and nothing else."}});
    }
}

}  // namespace

Result<HttpRequest> anthropic_request(const Provider& provider, const Chat& chat, const Secret& key) {
    if (!chat.payload.is_object()) return Error{"invalid_request", "the payload is no JSON object"};
    const Json& payload = chat.payload;
    Result<AnthropicConversation> conversation = anthropic_conversation(member(payload, "messages"));
    if (!conversation) return conversation.error();
    Result<HttpRequest> started = start_request(provider, chat, key, kAnthropicPath);
    if (!started) return started.error();
    default_header(*started, kAnthropicVersionHeader, kAnthropicVersion);

    Json body{{"model", chat.model}, {"max_tokens", max_tokens(chat)}};
    for (const auto& [name, value] : payload.items()) {
        if (!value.is_null() && !listed(kLeftOut, name) && !listed(kTranslated, name)) body[name] = value;
    }
    set_format(body, conversation->system, payload);
    set_effort(body, payload);
    Json system = member(payload, "system");  // Anthropic's own way of saying it comes first
    if (system.is_string()) system = Json::array({{{"type", "text"}, {"text", system}}});
    if (!system.is_array()) system = Json::array();
    for (Json& block : conversation->system) system.push_back(std::move(block));
    if (!system.empty()) body["system"] = system_value(system);
    body["messages"] = std::move(conversation->messages);
    set_tools(body, payload);
    set_sampling(body, payload);
    set_user(body, payload);
    if (chat.stream) body["stream"] = true;
    started->body = dump_json(body);
    return started;
}

}  // namespace mrprompt
