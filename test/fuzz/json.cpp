// Whatever text is parsed, what is dumped is JSON that PostgreSQL takes; and the text helpers keep their
// word.
#include "fuzz.hpp"

#include "core/json_shape.hpp"
#include "core/text.hpp"

namespace mrprompt::fuzz {
namespace {

void check_parse(std::string_view input) {
    const Json strict = Json::parse(input.begin(), input.end(), nullptr, false);
    const Result<Json> parsed = parse_json(input);
    promise(parsed || strict.is_discarded() || json_shape_error(input) != nullptr,
            "JSON within the bounds is parsed");
    promise(!parsed || strict.is_discarded() || *parsed == strict, "what needs no repair is left alone");
    for (const Halves halves : {Halves::replace, Halves::mark}) {
        const Result<Json> value = parse_json(input, halves);
        promise(bool(value) == bool(parsed), "marks change nothing of what is JSON");
        if (!value) continue;
        const std::string text = dump_json(*value);
        checked_json(text, "what was dumped");
        const Result<Json> again = parse_json(text);
        promise(again && dump_json(*again) == text, "what was dumped stays as it is", text);
    }
}

std::string ascii_of(std::string_view text) {
    std::string plain;
    std::copy_if(text.begin(), text.end(), std::back_inserter(plain), [](char c) { return c > 0; });
    return plain;
}

void check_text(std::string_view input) {
    const std::string clean = sanitize_utf8(input);
    promise(is_clean(clean) && clean_prefix(clean) == clean.size(), "sanitized text is clean");
    promise(sanitize_utf8(clean) == clean, "clean text stays as it is");
    promise(is_utf8(input.substr(0, clean_prefix(input))), "the clean prefix is clean");
    Utf8Joiner joiner;
    std::string joined;
    for (const std::string_view piece : pieces_of(input)) {
        // A mark is never cut: it is made and read within one string.
        if (input.find('\x01') == std::string_view::npos) joiner.push(piece, joined);
    }
    if (input.find('\x01') != std::string_view::npos) joiner.push(input, joined);
    joiner.flush(joined);
    promise(joined == clean, "cutting changes nothing of a text");
    promise(input.find('\x01') != std::string_view::npos || ascii_of(input) == ascii_of(clean),
            "what is plain is kept");
    for (const std::size_t limit : {0u, 2u, 3u, 20u, 200u}) {
        const std::string trimmed = trim_message(clean, limit);
        promise(trimmed.size() <= limit && is_clean(trimmed), "a trimmed message is short and clean");
    }
    constexpr std::string_view kSecret = "sk-aaab-0123456789";
    promise(redact(input, kSecret).find(kSecret) == std::string::npos, "a redacted text holds no secret");
    const std::string encoded = percent_encode(input);
    promise(encoded.find_first_of("/?#&=\r\n ") == std::string::npos && is_clean(encoded),
            "a path segment stays one");
}

}  // namespace
}  // namespace mrprompt::fuzz

FUZZ_TARGET(input) {
    mrprompt::fuzz::check_parse(input);
    mrprompt::fuzz::check_text(input);
}
