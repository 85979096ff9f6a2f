// URL building, header defaults and the place of the key.
#include "provider/http_request.hpp"

#include <algorithm>

#include "core/text.hpp"

namespace mrprompt {

namespace {

constexpr std::string_view kModelPlace = "{model}";

char lower(char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool same_name(std::string_view a, std::string_view b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](char x, char y) { return lower(x) == lower(y); });
}

void replace_all(std::string& text, std::string_view what, std::string_view with) {
    for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += with.size()) {
        text.replace(at, what.size(), with);
    }
}

std::string_view secret_header(std::string_view auth) {
    if (auth == "bearer") return "Authorization: Bearer ";
    if (auth == "x-api-key") return "x-api-key: ";
    if (auth == "api-key") return "api-key: ";
    return {};
}

// Both may hold the version.
std::string_view without_version(std::string_view own_path, std::string_view base) {
    constexpr std::string_view kVersion = "/v1";
    if (base.ends_with(kVersion) && own_path.starts_with(kVersion)) own_path.remove_prefix(kVersion.size());
    return own_path;
}

}  // namespace

std::string_view base_of(std::string_view url, std::string_view path) {
    while (url.ends_with('/')) url.remove_suffix(1);
    const std::size_t scheme = url.find("://");
    const std::size_t behind_host = url.find_first_of("/?", scheme == url.npos ? 0 : scheme + 3);
    // A host may end as the path does: https://v1 and /v1.
    if (behind_host != url.npos && url.substr(behind_host).ends_with(path)) url.remove_suffix(path.size());
    return url;
}

Result<HttpRequest> start_request(const Provider& provider, const Chat& chat, const Secret& key,
                                  std::string_view own_path) {
    if (chat.model.empty()) return Error{"invalid_request", "no model is named"};
    HttpRequest request;
    std::string_view path = provider.path.empty() ? own_path : provider.path;
    const std::string_view base = base_of(provider.base_url, path);
    if (provider.path.empty()) path = without_version(path, base);
    request.url = base;
    if (!path.starts_with('/') && !path.starts_with('?')) request.url += '/';
    request.url += path;
    if (request.url.find(kModelPlace) != std::string::npos) {
        // Dots alone would climb out of their place in the path.
        if (chat.model == "." || chat.model == "..") {
            return Error{"invalid_request", "the model \"" + chat.model + "\" cannot stand in a URL"};
        }
        replace_all(request.url, kModelPlace, percent_encode(chat.model));
    }
    request.headers = provider.headers;
    default_header(request, "content-type", "application/json");
    default_header(request, "accept", chat.stream ? "text/event-stream" : "application/json");
    if (!key.empty()) {
        if (std::any_of(key.view().begin(), key.view().end(),
                        [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; })) {
            return Error{"bad_key", "the key has control characters in it and cannot be sent in a header"};
        }
        request.secret_header = secret_header(provider.auth);
        if (!request.secret_header.empty()) request.secret = key.copy();
    }
    request.ca_file = provider.ca_file;
    request.allow_private = provider.allow_private;
    request.proxy = provider.proxy;
    request.client_cert_file = provider.client_cert_file;
    request.client_key_file = provider.client_key_file;
    request.connect_timeout_ms = provider.connect_timeout_ms;
    request.first_byte_timeout_ms = provider.first_byte_timeout_ms;
    request.idle_timeout_ms = provider.idle_timeout_ms;
    request.total_timeout_ms = provider.total_timeout_ms;
    return request;
}

void default_header(HttpRequest& request, std::string_view name, std::string_view value) {
    const auto held = std::find_if(request.headers.begin(), request.headers.end(),
                                   [&](const auto& header) { return same_name(header.first, name); });
    if (held == request.headers.end()) request.headers.emplace_back(name, value);
}

}  // namespace mrprompt
