// UTF-8 validation, joining of split characters, and the small text helpers.
#include "core/text.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace mrprompt {

namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
constexpr std::string_view kEllipsis = "\xE2\x80\xA6";
constexpr std::string_view kHexDigits = "0123456789ABCDEF";

enum class Shape { bad, partial, whole };

// What the 1 to 4 bytes at `text` are: a whole character, the beginning of one, or neither (Unicode, table
// 3-7).
Shape shape_of(std::string_view text) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned char lead = byte(0);
    if (lead < 0x80) return Shape::whole;
    if (lead < 0xC2 || lead > 0xF4) return Shape::bad;
    const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (text.size() > 1) {
        const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
        const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
        if (byte(1) < low || byte(1) > high) return Shape::bad;
    }
    for (std::size_t i = 2; i < text.size() && i < length; ++i) {
        if ((byte(i) & 0xC0) != 0x80) return Shape::bad;
    }
    return text.size() < length ? Shape::partial : Shape::whole;
}

std::size_t length_of(char lead) {
    const auto byte = static_cast<unsigned char>(lead);
    return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

void append_utf8(std::string& out, unsigned code) {
    if (code < 0x80) {
        out += static_cast<char>(code);
    } else if (code < 0x800) {
        out += static_cast<char>(0xC0 | (code >> 6));
        out += static_cast<char>(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        out += static_cast<char>(0xE0 | (code >> 12));
        out += static_cast<char>(0x80 | ((code >> 6) & 0x3F));
        out += static_cast<char>(0x80 | (code & 0x3F));
    } else {
        out += static_cast<char>(0xF0 | (code >> 18));
        out += static_cast<char>(0x80 | ((code >> 12) & 0x3F));
        out += static_cast<char>(0x80 | ((code >> 6) & 0x3F));
        out += static_cast<char>(0x80 | (code & 0x3F));
    }
}

bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

// A half stands in a string as NUL, SOH and four hex digits: no text that is kept has a NUL in it.
constexpr char kHalfMark = '\x01';
constexpr std::size_t kHalfLength = 6;

// The unit of the half at the front of `text`, or 0.
unsigned half_at(std::string_view text) {
    if (text.size() < kHalfLength || text[0] != '\0' || text[1] != kHalfMark) return 0;
    unsigned unit = 0;
    for (std::size_t i = 2; i < kHalfLength; ++i) {
        const std::size_t digit = kHexDigits.find(text[i]);
        if (digit == std::string_view::npos) return 0;
        unit = unit * 16 + static_cast<unsigned>(digit);
    }
    // Only what append_half makes: a byte that is no character, or half a surrogate pair. A provider can
    // write others.
    const bool is_half = (unit >= 0x80 && unit <= 0xFF) || (unit >= 0xD800 && unit <= 0xDFFF);
    return is_half ? unit : 0;
}

}  // namespace

void append_half(std::string& json_text, unsigned unit) {
    json_text += "\\u0000\\u0001";
    for (int shift = 12; shift >= 0; shift -= 4) json_text += kHexDigits[(unit >> shift) & 15];
}

std::size_t clean_prefix(std::string_view bytes) {
    std::size_t i = 0;
    while (i < bytes.size()) {
        // Eight ASCII bytes other than NUL at once: the sum sets the top bit of any byte from 0x01 to 0x7F.
        std::uint64_t word;
        if (bytes.size() - i >= sizeof word) {
            std::memcpy(&word, bytes.data() + i, sizeof word);
            constexpr std::uint64_t kTop = 0x8080808080808080u;
            if ((word & kTop) == 0 && ((word + 0x7F7F7F7F7F7F7F7Fu) & kTop) == kTop) {
                i += sizeof word;
                continue;
            }
        }
        if (bytes[i] == '\0' || shape_of(bytes.substr(i, 4)) != Shape::whole) break;
        i += length_of(bytes[i]);
    }
    return i;
}

void Utf8Joiner::push(std::string_view piece, std::string& out) {
    while (!piece.empty()) {
        if (bytes_.empty() && high_ == 0) {
            const std::size_t clean = clean_prefix(piece);
            out.append(piece, 0, clean);
            piece.remove_prefix(clean);
            if (piece.empty()) return;
        }
        if (piece[0] != '\0') {
            push_byte(piece[0], out);
            piece.remove_prefix(1);
        } else if (const unsigned unit = half_at(piece)) {
            push_unit(unit, out);
            piece.remove_prefix(kHalfLength);
        } else {
            piece.remove_prefix(1);
        }
    }
}

void Utf8Joiner::push_byte(char byte, std::string& out) {
    if (high_ != 0) flush(out);
    bytes_ += byte;
    switch (shape_of(bytes_)) {
        case Shape::partial:
            return;
        case Shape::whole:
            out += bytes_;
            bytes_.clear();
            return;
        case Shape::bad:
            const bool alone = bytes_.size() == 1;
            out += kReplacement;
            bytes_.clear();
            if (!alone) push_byte(byte, out);  // it may begin a character of its own
    }
}

void Utf8Joiner::push_unit(unsigned unit, std::string& out) {
    if (unit <= 0xFF) {
        push_byte(static_cast<char>(unit), out);
    } else if (unit >= 0xDC00 && high_ != 0) {
        append_utf8(out, 0x10000 + ((high_ - 0xD800) << 10) + (unit - 0xDC00));
        high_ = 0;
    } else {
        flush(out);
        if (unit < 0xDC00) {
            high_ = unit;
        } else {
            out += kReplacement;
        }
    }
}

void Utf8Joiner::flush(std::string& out) {
    if (!bytes_.empty() || high_ != 0) out += kReplacement;
    bytes_.clear();
    high_ = 0;
}

std::string sanitize_utf8(std::string_view bytes) {
    std::string out;
    out.reserve(bytes.size());
    Utf8Joiner joiner;
    joiner.push(bytes, out);
    joiner.flush(out);
    return out;
}

std::string trim_message(std::string_view text, std::size_t limit) {
    while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
    while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
    if (text.size() <= limit) return std::string(text);
    if (limit < kEllipsis.size()) return {};
    std::size_t end = limit - kEllipsis.size();
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
    return std::string(text.substr(0, end)).append(kEllipsis);
}

std::string percent_encode(std::string_view segment) {
    std::string out;
    for (const char c : segment) {
        const bool plain = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
                           c == '-' || c == '.' || c == '_' || c == '~';
        if (plain) {
            out += c;
        } else {
            const auto byte = static_cast<unsigned char>(c);
            out += '%';
            out += kHexDigits[byte >> 4];
            out += kHexDigits[byte & 15];
        }
    }
    return out;
}

std::string redact(std::string_view text, std::string_view secret) {
    constexpr std::string_view kRedacted = "[redacted]";
    constexpr std::size_t kTelling = 4;  // fewer characters of a key say nothing, and are likely to be words
    if (secret.empty()) return std::string(text);
    std::string out;
    for (std::size_t at; (at = text.find(secret)) != std::string_view::npos;) {
        out.append(text, 0, at).append(kRedacted);
        text.remove_prefix(at + secret.size());
    }
    // trim_message may have cut a message in the middle of the key.
    std::string_view body = text;
    const bool cut = body.ends_with(kEllipsis);
    if (cut) body.remove_suffix(kEllipsis.size());
    for (std::size_t length = std::min(secret.size() - 1, body.size()); length >= kTelling; --length) {
        if (body.ends_with(secret.substr(0, length))) {
            return out.append(body, 0, body.size() - length).append(kRedacted).append(cut ? kEllipsis : "");
        }
    }
    return out.append(text);
}

}  // namespace mrprompt
