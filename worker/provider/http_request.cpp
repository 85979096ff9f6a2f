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

std::string join_url(std::string_view base, std::string_view path) {
    while (base.ends_with('/')) base.remove_suffix(1);
    std::string url(base);
    if (base.ends_with(path)) return url;  // base_url is the whole endpoint already
    if (!path.starts_with('/') && !path.starts_with('?')) url += '/';
    return url.append(path);
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

}  // namespace

Result<HttpRequest> start_request(const Provider& provider, const Chat& chat, const Secret& key,
                                  std::string_view own_path) {
    if (chat.model.empty()) return Error{"invalid_request", "no model is named"};
    HttpRequest request;
    request.url =
        join_url(provider.base_url, provider.path.empty() ? own_path : std::string_view(provider.path));
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
