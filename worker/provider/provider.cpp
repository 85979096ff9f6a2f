// The provider row, the delta, and the list of protocols.
#include "provider/provider.hpp"

#include <algorithm>

#include "core/address.hpp"
#include "provider/anthropic.hpp"
#include "provider/openai.hpp"

namespace mrprompt {

namespace {

bool is_token(std::string_view name) {  // RFC 9110, field-name
    constexpr std::string_view kOthers = "!#$%&'*+-.^_`|~";
    return !name.empty() && std::all_of(name.begin(), name.end(), [&](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               kOthers.find(c) != std::string_view::npos;
    });
}

bool one_line(std::string_view value) {
    return value.find_first_of(std::string_view("\r\n\0", 3)) == std::string_view::npos;
}

bool is_proxy(std::string_view url) {
    constexpr std::string_view kSchemes[] = {"http://", "https://", "socks5h://"};
    return one_line(url) && url.find('@') == url.npos &&
           std::any_of(std::begin(kSchemes), std::end(kSchemes),
                       [&](std::string_view scheme) { return url.starts_with(scheme); });
}

void read_number(const Json& row, const char* name, int low, int high, int& number) {
    const Json& value = member(row, name);
    if (!value.is_number_integer()) return;
    const bool huge = value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX;
    number = huge ? high : static_cast<int>(std::clamp<std::int64_t>(value.get<std::int64_t>(), low, high));
}

void read_milliseconds(const Json& row, const char* name, int& ms) {
    read_number(row, name, 1, 86'400'000, ms);
}

void read_words(const Json& row, const char* name, std::vector<std::string>& words) {
    const Json& list = member(row, name);
    if (!list.is_array()) return;
    words.clear();
    for (const Json& word : list) {
        if (word.is_string()) words.push_back(word.get<std::string>());
    }
}

}  // namespace

Result<Provider> parse_provider(const Json& row) {
    Provider provider;
    provider.name = string_member(row, "name");
    const auto bad = [&](std::string_view what) {
        return Error{"bad_provider", "provider " + provider.name + ": " + std::string(what)};
    };
    provider.protocol = string_member(row, "protocol");
    if (find_protocol(provider.protocol) == nullptr) return bad("unknown protocol " + provider.protocol);
    provider.base_url = string_member(row, "base_url");
    provider.path = string_member(row, "path");
    provider.verify_path = string_member(row, "verify_path");
    if (!provider.base_url.starts_with("https://") && !provider.base_url.starts_with("http://")) {
        return bad("base_url must begin with https:// or http://");
    }
    if (!one_line(provider.base_url) || !one_line(provider.path) || !one_line(provider.verify_path))
        return bad("the URL has a line break in it");
    // Else whoever names a model would name the host that gets the key.
    if (host_of(provider.base_url).find_first_of("{}") != std::string_view::npos)
        return bad("{model} cannot stand in the host");
    provider.auth = string_member(row, "auth");
    if (provider.auth.empty()) provider.auth = provider.protocol == "anthropic" ? "x-api-key" : "bearer";
    constexpr std::string_view kStyles[] = {"bearer", "x-api-key", "api-key", "none"};
    if (std::find(std::begin(kStyles), std::end(kStyles), provider.auth) == std::end(kStyles)) {
        return bad("unknown auth " + provider.auth);
    }
    if (const Json& headers = member(row, "headers"); headers.is_object()) {
        for (const auto& [name, value] : headers.items()) {
            if (!is_token(name) || !value.is_string() || !one_line(value.get_ref<const std::string&>())) {
                return bad("header " + name + " is not one line of text under a proper name");
            }
            provider.headers.emplace_back(name, value.get<std::string>());
        }
    }
    if (const Json& flag = member(row, "stream_usage"); flag.is_boolean())
        provider.stream_usage = flag.get<bool>();
    if (const std::string field = string_member(row, "max_tokens_field"); !field.empty()) {
        if (field != "max_tokens" && field != "max_completion_tokens")
            return bad("unknown max_tokens_field " + field);
        provider.max_tokens_field = field;
    }
    provider.ca_file = string_member(row, "ca_file");
    // SQL of the release before does not know of it, and any address was allowed there.
    const bool knows = row.contains("allow_private");
    const Json& allowed = member(row, "allow_private");
    provider.allow_private = !knows || (allowed.is_boolean() && allowed.get<bool>());
    provider.proxy = string_member(row, "proxy");
    if (!provider.proxy.empty() && !is_proxy(provider.proxy))
        return bad("proxy must be http://, https:// or socks5h://host:port, without a user");
    provider.client_cert_file = string_member(row, "client_cert_file");
    provider.client_key_file = string_member(row, "client_key_file");
    provider.idempotency_header = string_member(row, "idempotency_header");
    if (!provider.idempotency_header.empty() && !is_token(provider.idempotency_header))
        return bad("idempotency_header " + provider.idempotency_header + " is no name of a header");
    read_number(row, "cooldown_percent", 0, 100, provider.cooldown_percent);
    read_number(row, "cooldown_attempts", 1, 1'000'000, provider.cooldown_attempts);
    apply_options(row, provider);
    return provider;
}

void apply_options(const Json& options, Provider& provider) {
    read_milliseconds(options, "connect_timeout_ms", provider.connect_timeout_ms);
    read_milliseconds(options, "first_byte_timeout_ms", provider.first_byte_timeout_ms);
    read_milliseconds(options, "idle_timeout_ms", provider.idle_timeout_ms);
    read_milliseconds(options, "total_timeout_ms", provider.total_timeout_ms);
    read_milliseconds(options, "backoff_base_ms", provider.retry.backoff_base_ms);
    read_milliseconds(options, "backoff_cap_ms", provider.retry.backoff_cap_ms);
    read_words(options, "retry_on", provider.retry.retry_on);
    read_words(options, "no_retry_on", provider.retry.no_retry_on);
}

Json limit_within(const Json& own, std::int64_t held) {
    const bool fits = own.is_number() && own >= 1 && own <= held;
    return fits ? own : Json(held);
}

std::size_t Delta::text_bytes() const {
    std::size_t bytes = content.size() + reasoning.size() + refusal.size();
    for (const ToolCallFragment& call : tool_calls) bytes += call.name.size() + call.arguments.size();
    return bytes;
}

void Delta::append(Delta&& more) {
    content += more.content;
    reasoning += more.reasoning;
    refusal += more.refusal;
    for (ToolCallFragment& fragment : more.tool_calls) {
        const auto same =
            std::find_if(tool_calls.begin(), tool_calls.end(),
                         [&](const ToolCallFragment& held) { return held.index == fragment.index; });
        if (same == tool_calls.end()) {
            tool_calls.push_back(std::move(fragment));
            continue;
        }
        if (same->id.empty()) same->id = std::move(fragment.id);
        if (same->name.empty()) same->name = std::move(fragment.name);
        same->arguments += fragment.arguments;
    }
}

const Protocol* find_protocol(std::string_view name) {
    if (name == "openai") return &openai_protocol();
    if (name == "anthropic") return &anthropic_protocol();
    return nullptr;
}

}  // namespace mrprompt
