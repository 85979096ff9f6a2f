// What the parser takes, repairs and refuses, and what the dumper never lets out.
#include <gtest/gtest.h>

#include <random>

#include "core/json.hpp"
#include "core/json_shape.hpp"
#include "core/text.hpp"

namespace mrprompt {
namespace {

using std::string_literals::operator""s;

std::string reparsed(std::string_view text) {
    const Result<Json> value = parse_json(text);
    return value ? dump_json(*value) : "refused: " + value.error().message;
}

TEST(ParseJson, keeps_the_order_of_keys) {
    EXPECT_EQ(reparsed(R"({"z":1,"a":{"y":2,"b":3}})"), R"({"z":1,"a":{"y":2,"b":3}})");
}

TEST(ParseJson, refuses_what_is_no_json) {
    for (const char* text :
         {"", "{", "{}x", "nul", "{\"a\":}", "[1,]", "\"\x01\"", "1e999x", "'a'", "\"\\ud83d"}) {
        EXPECT_FALSE(parse_json(text)) << text;
    }
}

TEST(ParseJson, refuses_depth_before_the_stack_feels_it) {
    const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
    EXPECT_TRUE(parse_json(nested(kMaxJsonDepth)));
    EXPECT_FALSE(parse_json(nested(kMaxJsonDepth + 1)));
    EXPECT_FALSE(parse_json(std::string(10'000'000, '[')));
    EXPECT_TRUE(parse_json("\"" + std::string(1000, '[') + "\\\"" + std::string(1000, '{') + "\""));
}

TEST(ParseJson, refuses_objects_whose_lookups_would_take_for_ever) {
    const auto wide = [](std::size_t members) {
        std::string text = "{";
        for (std::size_t i = 0; i < members; ++i)
            text += (i ? ",\"k" : "\"k") + std::to_string(i) + "\":[1,2,3]";
        return text + "}";
    };
    EXPECT_TRUE(parse_json(wide(kMaxJsonMembers)));
    EXPECT_FALSE(parse_json(wide(kMaxJsonMembers + 1)));
    std::string list = "[0";
    for (int i = 0; i < 10'000; ++i) list += ",{}";
    EXPECT_TRUE(parse_json(list + "]"));
}

TEST(ParseJson, refuses_more_values_than_asked_for) {
    const char* text = R"({"a":[1,2,{"b":"1,2,3,[,{"}]})";  // an object, a list, 1, 2, an object, a text
    EXPECT_TRUE(parse_json(text, Halves::replace, 7));
    const Result<Json> refused = parse_json("[" + std::string(text) + ",0,0]", Halves::replace, 7);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().type, "json_shape");
    EXPECT_TRUE(parse_json("[" + std::string(text) + ",0,0]"));
}

// By the square of its length, this would take days.
TEST(ParseJson, bytes_that_are_no_text_cost_no_more_than_others) {
    for (const Halves halves : {Halves::replace, Halves::mark}) {
        const Result<Json> value = parse_json("\"" + std::string(2'000'000, '\xFF') + "\"", halves);
        ASSERT_TRUE(value);
        EXPECT_EQ(sanitize_utf8(value->get<std::string>()).size(), 6'000'000u);
    }
}

TEST(ParseJson, halves_of_characters_are_replaced) {
    EXPECT_EQ(reparsed(R"(["a\ud83d"])"), "[\"a\uFFFD\"]");
    EXPECT_EQ(reparsed(R"(["\ude00\ud83d\ude00"])"), "[\"\uFFFD😀\"]");
    EXPECT_EQ(reparsed(R"({"\ud83d":"\\ud83d"})"), "{\"\uFFFD\":\"\\\\ud83d\"}");
    EXPECT_EQ(reparsed("[\"a\xF0\x9F\"]"), "[\"a\uFFFD\uFFFD\"]");
}

TEST(ParseJson, marked_halves_join_again) {
    const Result<Json> first = parse_json(R"(["a\ud83d"])", Halves::mark);
    const Result<Json> second = parse_json(R"(["\ude00\udc00 \ud800"])", Halves::mark);
    ASSERT_TRUE(first && second);
    Utf8Joiner joiner;
    std::string out;
    joiner.push((*first)[0].get<std::string>(), out);
    EXPECT_EQ(out, "a");
    joiner.push((*second)[0].get<std::string>(), out);
    joiner.flush(out);
    EXPECT_EQ(out, "a😀\uFFFD \uFFFD");
}

TEST(ParseJson, numbers_beyond_a_double_become_their_digits) {
    EXPECT_EQ(reparsed(R"({"a":1e999,"b":-1E+999,"c":[2.5,1e-999],"d":"1e999"})"),
              R"({"a":"1e999","b":"-1E+999","c":[2.5,0.0],"d":"1e999"})");
    EXPECT_EQ(reparsed("1" + std::string(400, '0')), "\"1" + std::string(400, '0') + "\"");
    EXPECT_EQ(reparsed("[18446744073709551615,-9223372036854775808]"),
              "[18446744073709551615,-9223372036854775808]");
}

TEST(DumpJson, never_writes_nul) {
    EXPECT_EQ(dump_json("a\0b"s), "\"ab\"");
    EXPECT_EQ(dump_json(Json{{"k\0"s, "\0"s}}), R"({"k":""})");
    EXPECT_EQ(dump_json("\\u0000"), R"("\\u0000")");
    EXPECT_EQ(dump_json("\\\0\\u0000"s), R"("\\\\u0000")");
    EXPECT_EQ(reparsed(R"("\\\u0000\u0000\\u0000")"), R"("\\\\u0000")");
}

TEST(DumpJson, any_bytes_become_json_that_parses) {
    std::mt19937 random(11);
    const std::string alphabet = "a\"\\u00\0\n\xC3\xA9\xED\xA0\xF0\x9F\xFF"s;
    for (int round = 0; round < 3000; ++round) {
        std::string bytes;
        for (std::size_t i = random() % 20; i > 0; --i) bytes += alphabet[random() % alphabet.size()];
        const std::string text = dump_json(Json{{bytes, bytes}});
        EXPECT_EQ(clean_prefix(text), text.size());
        const Json back = Json::parse(text, nullptr, false);
        ASSERT_FALSE(back.is_discarded()) << text;
        EXPECT_EQ(back.begin().value().get<std::string>().find('\0'), std::string::npos);
        EXPECT_EQ(dump_json(back), text);
    }
}

// Quadratic work on this does not end here.
TEST(ParseJson, a_long_string_of_bytes_that_are_not_utf8_is_repaired_in_one_pass) {
    const std::string bytes(2u << 20, '\xFF');
    const Result<Json> value = parse_json("\"" + bytes + "\"");
    ASSERT_TRUE(value);
    EXPECT_EQ(value->get_ref<const std::string&>().size(), 3 * bytes.size());
    EXPECT_EQ(dump_json(*parse_json("[\"\xFF\\\\\xFE\\\"\", \"\xFD\"]")),
              "[\"\uFFFD\\\\\uFFFD\\\"\",\"\uFFFD\"]");
}

TEST(Member, is_null_where_there_is_none) {
    const Json value{{"a", "text"}, {"b", 1}};
    EXPECT_EQ(string_member(value, "a"), "text");
    EXPECT_EQ(string_member(value, "b"), "");
    EXPECT_EQ(string_member(Json::array(), "a"), "");
    EXPECT_TRUE(member(value, "c").is_null());
    EXPECT_TRUE(member(Json("x"), "c").is_null());
}

}  // namespace
}  // namespace mrprompt
