// UTF-8 cleaning and joining, trimming, percent encoding, redaction.
#include <gtest/gtest.h>

#include <random>

#include "core/text.hpp"

namespace mrprompt {
namespace {

using std::string_literals::operator""s;
using std::string_view_literals::operator""sv;

constexpr const char* kReplaced = "\xEF\xBF\xBD";

TEST(Utf8, valid_text_is_kept_as_it_is) {
    for (const std::string& text :
         {""s, "plain"s, "é漢😀 \xF4\x8F\xBF\xBF\xEF\xBF\xBE"s, std::string(1000, 'x') + "é"}) {
        EXPECT_EQ(sanitize_utf8(text), text);
        EXPECT_EQ(clean_prefix(text), text.size());
    }
}

TEST(Utf8, what_is_not_utf8_is_replaced) {
    EXPECT_EQ(sanitize_utf8("a\xFF"
                            "b"),
              "a"s + kReplaced + "b");
    EXPECT_EQ(sanitize_utf8("\xC0\xAF"), std::string(kReplaced) + kReplaced);                  // overlong
    EXPECT_EQ(sanitize_utf8("\xED\xA0\x80"), std::string(kReplaced) + kReplaced + kReplaced);  // surrogate
    EXPECT_EQ(sanitize_utf8("\xF4\x90\x80\x80").find('\x90'), std::string::npos);  // beyond U+10FFFF
    EXPECT_EQ(sanitize_utf8("\xE2\x82"), kReplaced);                               // cut
    EXPECT_EQ(sanitize_utf8("\xE2\x82z"), kReplaced + "z"s);
    EXPECT_EQ(sanitize_utf8("\xE2\xC3\xA9"), kReplaced + "é"s);
}

TEST(Utf8, nul_is_dropped) {
    EXPECT_EQ(sanitize_utf8("a\0b\0"sv), "ab");
}

TEST(Utf8, nul_ends_the_clean_prefix_at_any_place) {
    for (std::size_t place = 0; place < 20; ++place) {
        std::string text(20, 'a');
        text[place] = '\0';
        EXPECT_EQ(clean_prefix(text), place);
        text[place] = '\xFF';
        EXPECT_EQ(clean_prefix(text), place);
    }
}

TEST(Utf8Joiner, marks_that_a_provider_made_up_join_to_no_character_beyond_unicode) {
    using namespace std::string_view_literals;
    for (const std::string_view text : {"\0\1D133\0\1DE00"sv, "\0\1FFFF\0\1DC00"sv, "\0\00041"sv}) {
        const std::string clean = sanitize_utf8(text);
        EXPECT_EQ(clean_prefix(clean), clean.size());
        EXPECT_EQ(sanitize_utf8(clean), clean);
    }
}

TEST(Utf8Joiner, pieces_join_to_what_the_whole_gives) {
    std::mt19937 random(7);
    const std::string alphabet = "a\0\xC3\xA9\xE6\xBC\xA2\xF0\x9F\x98\x80\xFF\xED\xA0"s;
    for (int round = 0; round < 2000; ++round) {
        std::string bytes;
        for (std::size_t i = random() % 24; i > 0; --i) bytes += alphabet[random() % alphabet.size()];
        Utf8Joiner joiner;
        std::string out;
        for (std::string_view rest = bytes; !rest.empty();) {
            const std::size_t length = std::min<std::size_t>(rest.size(), 1 + random() % 4);
            joiner.push(rest.substr(0, length), out);
            EXPECT_EQ(clean_prefix(out), out.size());
            rest.remove_prefix(length);
        }
        joiner.flush(out);
        EXPECT_EQ(out, sanitize_utf8(bytes));
        EXPECT_EQ(clean_prefix(out), out.size());
    }
}

TEST(TrimMessage, cuts_between_characters) {
    EXPECT_EQ(trim_message(" \n short\t", 2000), "short");
    EXPECT_EQ(trim_message("", 10), "");
    for (std::size_t limit = 3; limit < 20; ++limit) {
        const std::string cut = trim_message("aé漢😀aé漢😀aé漢😀", limit);
        EXPECT_LE(cut.size(), limit);
        EXPECT_EQ(clean_prefix(cut), cut.size());
        EXPECT_TRUE(std::string_view(cut).ends_with("…"));
    }
    EXPECT_EQ(trim_message("abcdef", 6), "abcdef");
    EXPECT_EQ(trim_message("abcdefg", 6), "abc…");
}

TEST(PercentEncode, leaves_only_unreserved_characters) {
    EXPECT_EQ(percent_encode("gpt-4o_mini.1~x"), "gpt-4o_mini.1~x");
    EXPECT_EQ(percent_encode("a/../b?c=d#e%é"), "a%2F..%2Fb%3Fc%3Dd%23e%25%C3%A9");
}

TEST(Redact, leaves_no_trace_of_the_secret) {
    const std::string secret = "sk-test-0123456789";
    EXPECT_EQ(redact("key " + secret + " and " + secret, secret), "key [redacted] and [redacted]");
    EXPECT_EQ(redact("nothing here", secret), "nothing here");
    EXPECT_EQ(redact("text", ""), "text");
    EXPECT_EQ(redact("cut at sk-test-0123…", secret), "cut at [redacted]…");
    EXPECT_EQ(redact("cut at sk-test-0123", secret), "cut at [redacted]");
    EXPECT_EQ(redact("ask", secret), "ask");
}

}  // namespace
}  // namespace mrprompt
