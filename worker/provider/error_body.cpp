// Reading of JSON, HTML and plain-text error bodies.
#include "provider/error_body.hpp"

#include <algorithm>

#include "core/text.hpp"

namespace mrprompt {

namespace {

constexpr std::size_t kMessageLimit = 2000;
constexpr std::size_t kWordLimit = 100;
constexpr std::size_t kExcerptLimit = 200;
constexpr std::size_t kExcerptFrom = 64 << 10;  // of a body: the title of a web page stands in there
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// The bytes of the control character that this UTF-8 begins with; 0 where it is another one, or white space.
std::size_t control_length(std::string_view text) {
    const auto byte = static_cast<unsigned char>(text[0]);
    if (byte == 0xC2 && static_cast<unsigned char>(text[1]) < 0xA0) return 2;  // U+0080 to U+009F
    const bool blank = byte == '\t' || byte == '\n' || byte == '\r';
    return (byte < 0x20 && !blank) || byte == 0x7F ? 1 : 0;
}

// For a terminal, too: control characters and bytes that are no text become U+FFFD.
std::string clean(std::string_view text, std::size_t limit) {
    const std::string sane = sanitize_utf8(text);
    std::string visible;
    for (std::string_view rest = sane; !rest.empty();) {
        const std::size_t control = control_length(rest);
        if (control > 0) {
            visible += kReplacement;
        } else {
            visible += rest[0];
        }
        rest.remove_prefix(std::max<std::size_t>(control, 1));
    }
    return trim_message(visible, limit);
}

bool is_html(std::string_view body) {
    const std::size_t start = body.find_first_not_of(" \t\r\n");
    return start != std::string_view::npos && body[start] == '<';
}

// A word the provider classifies errors by: text, or a number (Google's and OpenRouter's code).
std::string word(const Json& object, const char* name) {
    const Json& value = member(object, name);
    if (value.is_number_integer()) return dump_json(value);
    return clean(string_member(object, name), kWordLimit);
}

std::string message_of(const Json& object) {
    for (const char* name : {"message", "detail", "error_description", "msg", "title"}) {
        const Json& value = member(object, name);
        if (value.is_string() && !value.get_ref<const std::string&>().empty())
            return value.get<std::string>();
        if (value.is_structured() && !value.empty())
            return dump_json(value);  // FastAPI lists what it refuses
    }
    return {};
}

ProviderError error_from_object(const Json& object, const Json& around) {
    ProviderError error;
    error.code = word(object, "code");
    error.type = clean(string_member(object, "type"), kWordLimit);
    if (error.type.empty()) error.type = clean(string_member(object, "status"), kWordLimit);  // Google
    if (error.type.empty()) error.type = clean(string_member(object, "code"), kWordLimit);
    std::string message = message_of(object);
    if (message.empty()) message = message_of(around);
    if (message.empty()) message = dump_json(object);
    error.message = clean(message, kMessageLimit);
    return error;
}

// The words of an HTML page: its title, or else its text.
std::string html_text(std::string_view html) {
    const auto find_tag = [&](std::string_view tag) {
        const auto found = std::search(html.begin(), html.end(), tag.begin(), tag.end(), [](char a, char b) {
            return (a >= 'A' && a <= 'Z' ? a + 32 : a) == b;
        });
        return static_cast<std::size_t>(found - html.begin());
    };
    if (const std::size_t open = find_tag("<title"); open < html.size()) {
        const std::size_t begin = html.find('>', open);
        const std::size_t end = begin == std::string_view::npos ? begin : html.find('<', begin);
        if (end != std::string_view::npos && end > begin + 1)
            return std::string(html.substr(begin + 1, end - begin - 1));
    }
    std::string text;
    bool in_tag = false;
    for (const char c : html) {
        if (c == '<') {
            in_tag = true;
        } else if (c == '>') {
            in_tag = false;
            if (!text.empty() && text.back() != ' ') text += ' ';
        } else if (!in_tag) {
            const bool space = c == ' ' || (c >= '\t' && c <= '\r');
            if (!space || (!text.empty() && text.back() != ' ')) text += space ? ' ' : c;
        }
    }
    return text;
}

}  // namespace

std::optional<ProviderError> reported_error(const Json& document) {
    const Json& first =
        document.is_array() && !document.empty() ? document[0] : document;  // Google sends a list of one
    const Json& error = member(first, "error");
    ProviderError found;
    if (error.is_object() && !error.empty()) {
        found = error_from_object(error, first);
    } else if (error.is_string() && !error.get_ref<const std::string&>().empty()) {
        found = error_from_object(first, first);
        found.message = clean(message_of(first), kMessageLimit);
        const std::string text = clean(error.get_ref<const std::string&>(), kMessageLimit);
        // "error" is the message, or a word for it that "message" explains.
        if (found.message.empty()) {
            found.message = text;
        } else if (found.type.empty()) {
            found.type = trim_message(text, kWordLimit);
        }
    } else if (string_member(first, "object") == "error") {  // vLLM before 0.9
        found = error_from_object(first, first);
    } else {
        return std::nullopt;
    }
    if (found.type.empty() || found.type == "error") found.type = "provider_error";
    return found;
}

ProviderError error_from_body(int status, std::string_view body) {
    ProviderError error;
    const std::size_t start = body.find_first_not_of(" \t\r\n");
    const char first = start == std::string_view::npos ? '\0' : body[start];
    if (first == '\0') {
        error.message = "HTTP " + std::to_string(status) + " without a body";
    } else if (first == '<') {
        error.message = clean(html_text(body), kMessageLimit);
    } else if (const Result<Json> document = parse_json(body); document && document->is_structured()) {
        if (auto reported = reported_error(*document)) {
            error = std::move(*reported);
        } else {
            const Json& object = document->is_array() && !document->empty() ? (*document)[0] : *document;
            error = error_from_object(object, object);
        }
    } else if (document && document->is_string()) {
        error.message = clean(document->get_ref<const std::string&>(), kMessageLimit);
    } else {
        error.message = clean(body, kMessageLimit);
    }
    error.status = status;
    if (status >= 300 && status <= 399) {
        error.type = "redirected";
        error.message = "the provider redirects, which is not followed: base_url must be its own address (" +
                        error.message + ")";
    }
    if (error.type.empty() || error.type == "provider_error") error.type = "http_error";
    return error;
}

ProviderError bad_response(std::string_view what, std::string_view body) {
    ProviderError error;
    error.type = "bad_response";
    error.message = what;
    std::string beginning(body.substr(0, kExcerptFrom));
    std::replace(beginning.begin(), beginning.end(), '\0', '\x01');  // clean() shows it, and drops NULs
    const std::string excerpt = clean(is_html(body) ? html_text(beginning) : beginning, kExcerptLimit);
    if (!excerpt.empty()) error.message += ": " + excerpt;
    return error;
}

ProviderError unreadable(std::string_view what, const Error& reason, std::string_view body) {
    std::string words(what);
    if (reason.type == "json_shape") {
        words += " cannot be read, as its " + reason.message;
    } else {
        words += is_html(body) ? " is a web page, not JSON" : " is not JSON";
    }
    return bad_response(words, body);
}

}  // namespace mrprompt
