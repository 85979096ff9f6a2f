// Parsing that takes what the world sends, and dumping that PostgreSQL takes.
#include "core/json.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "core/json_shape.hpp"
#include "core/text.hpp"

namespace mrprompt {

namespace {

// The code unit of a \uXXXX escape at the front of `text`, or -1.
int escaped_unit(std::string_view text) {
    if (text.size() < 6 || text[0] != '\\' || text[1] != 'u') return -1;
    int unit = 0;
    for (const char c : text.substr(2, 4)) {
        const int digit = c >= '0' && c <= '9'   ? c - '0'
                          : c >= 'a' && c <= 'f' ? c - 'a' + 10
                          : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                 : -1;
        if (digit < 0) return -1;
        unit = unit * 16 + digit;
    }
    return unit;
}

bool is_high(int unit) {
    return unit >= 0xD800 && unit < 0xDC00;
}
bool is_low(int unit) {
    return unit >= 0xDC00 && unit < 0xE000;
}

// Rewrites what the parser refuses although its meaning is plain. Structure stays as it is.
class Repair {
public:
    Repair(std::string_view text, Halves halves) : text_(text), halves_(halves) { out_.reserve(text.size()); }

    // The repaired text; the same as before where there was nothing to repair.
    std::string run() && {
        while (!text_.empty()) {
            const char c = text_[0];
            if (c == '"') {
                string();
            } else if (c == '-' || (c >= '0' && c <= '9')) {
                number();
            } else {
                take(1);
            }
        }
        return std::move(out_);
    }

private:
    void take(std::size_t count) {
        out_.append(text_, 0, count);
        text_.remove_prefix(std::min(count, text_.size()));
    }

    void half(unsigned unit, std::size_t length) {
        if (halves_ == Halves::mark) {
            append_half(out_, unit);
        } else {
            out_ += "\\ufffd";
        }
        text_.remove_prefix(length);
    }

    void string() {
        take(1);
        std::size_t plain = 0;  // bytes in front of the next quote or backslash
        while (!text_.empty()) {
            if (plain == 0) plain = std::min(text_.find_first_of("\"\\"), text_.size());
            const std::size_t clean = clean_prefix(text_.substr(0, plain));
            take(clean);
            plain -= clean;
            if (text_.empty()) return;
            if (text_[0] == '"') return take(1);
            if (text_[0] == '\\') {
                escape();
            } else if (text_[0] == '\0') {
                return;  // a bare NUL is beyond repair
            } else {
                half(static_cast<unsigned char>(text_[0]), 1);
                --plain;
            }
        }
    }

    void escape() {
        const int unit = escaped_unit(text_);
        if (is_high(unit) && is_low(escaped_unit(text_.substr(6)))) return take(12);
        if (is_high(unit) || is_low(unit)) return half(static_cast<unsigned>(unit), 6);
        take(2);
    }

    void number() {
        const std::string digits(text_.substr(0, text_.find_first_not_of("0123456789+-.eE")));
        char* end = nullptr;
        const bool infinite = std::isinf(std::strtod(digits.c_str(), &end)) && *end == '\0';
        if (infinite) out_ += '"';
        take(digits.size());
        if (infinite) out_ += '"';
    }

    std::string_view text_;
    Halves halves_;
    std::string out_;
};

Json parse(std::string_view text) {
    return Json::parse(text.begin(), text.end(), nullptr, false);
}

// Drops each \u0000 escape of `text`. Escapes are skipped as pairs: in \\u0000 the backslash is text.
std::string without_nul_escapes(const std::string& text, std::size_t first) {
    constexpr std::string_view kNul = "\\u0000";
    std::string out(text, 0, first);
    out.reserve(text.size());
    for (std::size_t i = first; i < text.size();) {
        if (text[i] != '\\') {
            out += text[i++];
        } else if (text.compare(i, kNul.size(), kNul) == 0) {
            i += kNul.size();
        } else {
            out.append(text, i, 2);
            i += 2;
        }
    }
    return out;
}

}  // namespace

Result<Json> parse_json(std::string_view text, Halves halves) {
    if (const char* problem = json_shape_error(text)) return Error{"bad_json", problem};
    Json value = parse(text);
    if (value.is_discarded()) {
        const std::string repaired = Repair(text, halves).run();
        if (repaired != text) value = parse(repaired);
    }
    if (value.is_discarded()) return Error{"bad_json", "the text is not valid JSON"};
    return value;
}

std::string dump_json(const Json& value) {
    std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
    const std::size_t nul = text.find("\\u0000");
    if (nul == std::string::npos) return text;
    // The first match may be the tail of \\u0000; its own backslash then begins one or more characters
    // before.
    std::size_t first = nul;
    while (first > 0 && text[first - 1] == '\\') --first;
    return without_nul_escapes(text, first);
}

const Json& member(const Json& object, const char* name) {
    static const Json kNull;
    if (!object.is_object()) return kNull;
    const auto found = object.find(name);
    return found == object.end() ? kNull : *found;
}

std::string string_member(const Json& object, const char* name) {
    const Json& value = member(object, name);
    return value.is_string() ? value.get_ref<const std::string&>() : std::string();
}

}  // namespace mrprompt
