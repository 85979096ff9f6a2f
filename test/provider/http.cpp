// HTTP/1.1 requests out of bytes, and heads of responses into bytes.
#include "http.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>

namespace mrprompt::fake {
namespace {

constexpr std::size_t kMaxHead = 64 << 10;
constexpr std::size_t kMaxBody = 512u << 20;

std::string lower(std::string_view text) {
    std::string out(text);
    for (char& c : out)
        if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
    return out;
}

std::string_view trim(std::string_view text) {
    const auto first = text.find_first_not_of(" \t");
    if (first == text.npos) return {};
    return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

template <class Number>
bool parse_number(std::string_view text, Number& out, int base = 10) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out, base);
    return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

const char* reason(int status) {
    switch (status) {
        case 200:
            return "OK";
        case 302:
            return "Found";
        case 400:
            return "Bad Request";
        case 401:
            return "Unauthorized";
        case 404:
            return "Not Found";
        case 408:
            return "Request Timeout";
        case 429:
            return "Too Many Requests";
        case 500:
            return "Internal Server Error";
        case 503:
            return "Service Unavailable";
        default:
            return "As Asked";
    }
}

}  // namespace

std::string_view Request::header(std::string_view name) const {
    for (const auto& [key, value] : headers)
        if (key == name) return value;
    return {};
}

std::string_view Request::key() const {
    const std::string_view bearer = header("authorization");
    if (bearer.starts_with("Bearer ")) return bearer.substr(7);
    const std::string_view key = header("x-api-key");
    return key.empty() ? header("api-key") : key;
}

bool RequestParser::parse_head(std::string_view head, Request& request) {
    chunked_ = false;
    body_length_ = 0;
    const auto line_end = head.find("\r\n");
    const std::string_view line = head.substr(0, line_end);
    const auto first = line.find(' '), last = line.rfind(' ');
    if (first == line.npos || first == last) return false;
    const std::string_view version = line.substr(last + 1);
    if (!version.starts_with("HTTP/1.")) return false;
    const std::string_view target = line.substr(first + 1, last - first - 1);
    request = {};
    request.method = line.substr(0, first);
    request.path = target.substr(0, target.find('?'));
    request.keep_alive = version != "HTTP/1.0";

    std::string_view rest = line_end == head.npos ? std::string_view{} : head.substr(line_end + 2);
    while (!rest.empty()) {
        const auto end = rest.find("\r\n");
        const std::string_view field = rest.substr(0, end);
        rest = end == rest.npos ? std::string_view{} : rest.substr(end + 2);
        const auto colon = field.find(':');
        if (colon == field.npos || colon == 0) return false;
        request.headers.emplace_back(lower(field.substr(0, colon)), trim(field.substr(colon + 1)));
    }
    if (const auto length = request.header("content-length"); !length.empty())
        if (!parse_number(length, body_length_) || body_length_ > kMaxBody) return false;
    chunked_ = lower(request.header("transfer-encoding")) == "chunked";
    if (lower(request.header("connection")) == "close") request.keep_alive = false;
    return true;
}

RequestParser::State RequestParser::take_chunks(std::string& buffer, Request& request) {
    for (;;) {
        const auto line_end = buffer.find("\r\n");
        if (line_end == buffer.npos) return buffer.size() > 32 ? State::kBad : State::kNeedMore;
        std::size_t size = 0;
        const std::string_view line = std::string_view(buffer).substr(0, line_end);
        if (!parse_number(line.substr(0, line.find(';')), size, 16)) return State::kBad;
        if (size > kMaxBody || request.body.size() + size > kMaxBody) return State::kBad;
        if (buffer.size() < line_end + 2 + size + 2) return State::kNeedMore;
        if (buffer.compare(line_end + 2 + size, 2, "\r\n") != 0) return State::kBad;
        request.body.append(buffer, line_end + 2, size);
        buffer.erase(0, line_end + 2 + size + 2);
        if (size == 0) return State::kComplete;
    }
}

RequestParser::State RequestParser::next(std::string& buffer, Request& request) {
    if (!in_body_) {
        const auto end = buffer.find("\r\n\r\n", scanned_ > 3 ? scanned_ - 3 : 0);
        if (end == buffer.npos) {
            scanned_ = buffer.size();
            return scanned_ > kMaxHead ? State::kBad : State::kNeedMore;
        }
        scanned_ = 0;
        if (!parse_head(std::string_view(buffer).substr(0, end), request)) return State::kBad;
        buffer.erase(0, end + 4);
        in_body_ = true;
        if (request.header("expect") == "100-continue") return State::kContinue;
    }
    if (chunked_) {
        const State state = take_chunks(buffer, request);
        if (state == State::kComplete) in_body_ = false;
        return state;
    }
    if (buffer.size() < body_length_) return State::kNeedMore;
    in_body_ = false;
    if (buffer.size() == body_length_) {
        request.body = std::move(buffer);
        buffer.clear();
    } else {
        request.body = buffer.substr(0, body_length_);
        buffer.erase(0, body_length_);
    }
    return State::kComplete;
}

std::string response_head(int status, std::string_view headers) {
    std::string out = "HTTP/1.1 " + std::to_string(status) + ' ' + reason(status) + "\r\n";
    return out.append(headers).append("\r\n");
}

std::string body_chunk(std::string_view bytes) {
    char size[20];
    std::string out(size, std::snprintf(size, sizeof size, "%zx\r\n", bytes.size()));
    return out.append(bytes).append("\r\n");
}

std::string percent_decode(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        unsigned byte = 0;
        if (text[i] == '%' && i + 2 < text.size() && parse_number(text.substr(i + 1, 2), byte, 16)) {
            out += static_cast<char>(byte);
            i += 2;
        } else {
            out += text[i];
        }
    }
    return out;
}

}  // namespace mrprompt::fake
