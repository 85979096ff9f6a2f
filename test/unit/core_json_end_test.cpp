// Where JSON ends that comes in pieces.
#include "core/json_end.hpp"

#include <gtest/gtest.h>

namespace mrprompt {
namespace {

bool ends(std::string_view text) {
    JsonEnd whole, bytewise;
    whole.feed(text);
    for (std::size_t i = 0; i < text.size(); ++i) bytewise.feed(text.substr(i, 1));
    EXPECT_EQ(whole.reached(), bytewise.reached()) << text;
    return whole.reached();
}

TEST(JsonEnd, is_where_the_first_bracket_closes) {
    for (const char* text : {"{}", " [ ] ", R"({"a":[1,{}]})", "{}\n"}) EXPECT_TRUE(ends(text)) << text;
    for (const char* text : {"", " ", "{", "[[]", R"({"a":{})"}) EXPECT_FALSE(ends(text)) << text;
}

TEST(JsonEnd, brackets_in_strings_are_text) {
    EXPECT_FALSE(ends(R"({"}")"));
    EXPECT_FALSE(ends(R"({"a\"}")"));
    EXPECT_TRUE(ends(R"({"a\"}":"{[\\"})"));
}

TEST(JsonEnd, is_not_where_more_follows_or_something_stands_before) {
    for (const char* text : {"{}{}", "{}x", "{}{", "x{}", "5", "\"a\""}) EXPECT_FALSE(ends(text)) << text;
}

}  // namespace
}  // namespace mrprompt
