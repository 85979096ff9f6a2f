// Decides what a request gets: routes, counts what fails how often, writes the log.
#include "responder.hpp"

#include <openssl/sha.h>

#include <functional>
#include <nlohmann/json.hpp>

namespace mrprompt::fake {
namespace {

constexpr std::string_view kModels =
    R"({"object":"list","data":[{"id":"fake","object":"model","created":1700000000,"owned_by":"nobody"},)"
    R"({"id":"fake?words=20","object":"model","created":1700000000,"owned_by":"nobody"}]})";

std::string sha256(std::string_view text) {
    unsigned char digest[SHA256_DIGEST_LENGTH];
    SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest);
    std::string hex;
    for (const unsigned char byte : digest)
        for (const int half : {byte >> 4, byte & 15}) hex += "0123456789abcdef"[half];
    return hex;
}

// Azure's way: …/deployments/<model>/chat/completions.
std::string model_in_path(std::string_view path) {
    constexpr std::string_view before = "/deployments/", after = "/chat/completions";
    const auto begin = path.find(before);
    if (begin == path.npos) return {};
    path = path.substr(begin + before.size());
    return percent_decode(path.substr(0, path.size() - after.size()));
}

bool is_secret(std::string_view header) {
    return header == "authorization" || header == "x-api-key" || header == "api-key" || header == "cookie";
}

}  // namespace

Script Responder::respond(const Request& request) {
    const std::string_view path = request.path;
    if (request.method == "GET" && path == "/stats")
        return plain_response(200, "application/json", stats_json());
    if (log_) write_log(request);
    if (request.method == "GET" && path.ends_with("/models"))
        return defaults_.require_key && request.key() != *defaults_.require_key
                   ? error_response({}, Protocol::kOpenAi, 401, "Incorrect API key provided", "0")
                   : plain_response(200, "application/json", kModels);
    const bool openai = path.ends_with("/chat/completions");
    if (request.method != "POST" || !(openai || path.ends_with("/messages")))
        return error_response({}, Protocol::kOpenAi, 404, "Unknown request URL", "0");
    return chat(request, openai ? Protocol::kOpenAi : Protocol::kAnthropic);
}

Script Responder::chat(const Request& request, Protocol protocol) {
    const std::string serial = std::to_string(++stats_.requests);
    ChatRequest chat;
    std::string wrong = chat.read(protocol, request.body);
    if (wrong.empty() && protocol == Protocol::kAnthropic && request.header("anthropic-version").empty())
        wrong = "anthropic-version: header is required";
    if (chat.model.empty()) chat.model = model_in_path(request.path);
    if (wrong.empty() && chat.model.empty()) wrong = "you must provide a model parameter";

    Behaviour behaviour = defaults_;
    for (const std::string* text : {&chat.model, &chat.last_user_text})
        if (const auto query = find_query(*text); query && wrong.empty()) wrong = behaviour.read(*query);
    if (!wrong.empty()) return error_response({}, protocol, 400, wrong, serial);
    if (behaviour.fail_times) {
        if (!fails_now(behaviour, request))
            behaviour.drop_faults();
        else if (!behaviour.has_fault())
            behaviour.status = 500;
    }
    return chat_response(behaviour, chat, protocol, request.key(), serial);
}

bool Responder::fails_now(const Behaviour& behaviour, const Request& request) {
    std::string name = behaviour.id.value_or("");
    if (name.empty())
        name = std::to_string(std::hash<std::string_view>{}(request.body)) + sha256(request.key());
    return ++failures_[name] <= *behaviour.fail_times;
}

void Responder::write_log(const Request& request) {
    nlohmann::ordered_json headers = nlohmann::ordered_json::object();
    for (const auto& [name, value] : request.headers) headers[name] = is_secret(name) ? "…" : value;
    const std::string_view key = request.key();
    const nlohmann::ordered_json line = {{"method", request.method},
                                         {"path", request.path},
                                         {"headers", headers},
                                         {"key_sha256", key.empty() ? "" : sha256(key)},
                                         {"body", request.body}};
    const std::string text = line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
    std::fwrite(text.data(), 1, text.size(), log_);
    std::fflush(log_);
}

std::string Responder::stats_json() const {
    nlohmann::ordered_json by_status = nlohmann::ordered_json::object();
    for (const auto& [status, count] : stats_.by_status) by_status[std::to_string(status)] = count;
    const nlohmann::ordered_json json = {{"requests", stats_.requests},
                                         {"in_flight", stats_.in_flight},
                                         {"max_in_flight", stats_.max_in_flight},
                                         {"connections", stats_.connections},
                                         {"max_connections", stats_.max_connections},
                                         {"accepted", stats_.accepted},
                                         {"disconnects", stats_.disconnects},
                                         {"by_status", by_status}};
    return json.dump();
}

}  // namespace mrprompt::fake
