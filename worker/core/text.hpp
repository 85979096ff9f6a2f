// Text from outside made fit to keep: whole UTF-8 characters, no NUL, no secret, no more than wanted.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace mrprompt {

// `bytes` as valid UTF-8 without NUL: what is not UTF-8 becomes U+FFFD, NULs are dropped.
std::string sanitize_utf8(std::string_view bytes);

// The streaming form of sanitize_utf8: a character that arrives in pieces comes out whole, whatever the
// pieces were: raw bytes, or the halves that parse_json(text, Halves::mark) left in a string.
class Utf8Joiner {
public:
    // Appends to `out` what is whole now; the beginning of a character waits for its rest.
    void push(std::string_view piece, std::string& out);
    // Nothing more will come: a beginning that still waits becomes U+FFFD.
    void flush(std::string& out);

private:
    void push_byte(char byte, std::string& out);
    void push_unit(unsigned unit, std::string& out);

    std::string bytes_;  // the valid beginning of one character, at most 3 bytes
    unsigned high_ = 0;  // or a high surrogate that waits for its low one
};

// How a half of a character is written inside a JSON text (as escapes), for Utf8Joiner to find: `unit` is a
// surrogate (0xD800 to 0xDFFF) or a byte that is not UTF-8 where it stands (0x80 to 0xFF).
void append_half(std::string& json_text, unsigned unit);

// The length of the longest prefix of whole UTF-8 characters other than NUL.
std::size_t clean_prefix(std::string_view bytes);

// Without white space at its ends, and at most `limit` bytes: cut between characters, "…" in place of the
// rest.
std::string trim_message(std::string_view text, std::size_t limit);

// For one path segment of a URL: all but letters, digits and -._~ as %XX.
std::string percent_encode(std::string_view segment);

// `text` with each occurrence of `secret` replaced by "[redacted]"; so is a beginning of it at a cut end.
std::string redact(std::string_view text, std::string_view secret);

}  // namespace mrprompt
