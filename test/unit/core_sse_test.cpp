// Server-sent events: the rules, the bound, and that splitting changes nothing.
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "core/sse.hpp"

namespace mrprompt {
namespace {

using Events = std::vector<std::string>;

Events events_of(const std::vector<std::string_view>& pieces) {
    Events events;
    const auto note = [&](std::string_view event, std::string_view data) {
        events.push_back(std::string(event) + "|" + std::string(data));
    };
    SseParser parser;
    for (const std::string_view piece : pieces) EXPECT_TRUE(parser.feed(piece, note));
    parser.finish(note);
    return events;
}

TEST(Sse, reads_fields_and_comments) {
    EXPECT_EQ(
        events_of(
            {": hi\nevent: a\nid: 1\nretry: 5\nunknown: x\ndata: one\ndata:two\ndata\n\ndata:  three\n\n"}),
        (Events{"a|one\ntwo\n", "| three"}));
}

TEST(Sse, an_event_without_data_is_not_reported) {
    EXPECT_EQ(events_of({"event: a\n\ndata: b\n\n\n\n"}), (Events{"|b"}));
    EXPECT_EQ(events_of({"data:\n\n"}), (Events{"|"}));
}

TEST(Sse, takes_every_line_end) {
    EXPECT_EQ(events_of({"data: a\r\n\r\ndata: b\r\rdata: c\n\ndata: d\r\n\n"}),
              (Events{"|a", "|b", "|c", "|d"}));
}

TEST(Sse, a_line_end_split_in_two_is_one) {
    EXPECT_EQ(events_of({"data: a\r", "\ndata: b\r", "", "\n\r", "\n"}), (Events{"|a\nb"}));
}

TEST(Sse, skips_a_byte_order_mark_only_at_the_start) {
    EXPECT_EQ(events_of({"\xEF",
                         "\xBB\xBF"
                         "data: a\n\n\xEF\xBB\xBF"
                         "data: b\n\n"}),
              (Events{"|a"}));
}

TEST(Sse, the_last_event_may_lack_its_ends) {
    EXPECT_EQ(events_of({"data: a\n"}), (Events{"|a"}));
    EXPECT_EQ(events_of({"data: a\ndata: b"}), (Events{"|a\nb"}));
    EXPECT_EQ(events_of({": only a comment"}), (Events{}));
    EXPECT_EQ(events_of({}), (Events{}));
}

TEST(Sse, splitting_changes_nothing) {
    std::mt19937 random(5);
    const std::string_view parts[] = {"data: x", "data:", "event: e", ":",  "\n",    "\n",
                                      "\r",      "\r\n",  "\r\n",     "da", "ta: y", " "};
    for (int round = 0; round < 3000; ++round) {
        std::string bytes;
        for (std::size_t i = random() % 16; i > 0; --i) bytes += parts[random() % std::size(parts)];
        std::vector<std::string_view> pieces;
        for (std::string_view rest = bytes; !rest.empty();) {
            const std::size_t length = std::min<std::size_t>(rest.size(), 1 + random() % 5);
            pieces.push_back(rest.substr(0, length));
            rest.remove_prefix(length);
        }
        EXPECT_EQ(events_of(pieces), events_of({bytes})) << bytes;
    }
}

TEST(Sse, an_endless_event_is_refused) {
    const auto ignore = [](std::string_view, std::string_view) { FAIL() << "half an event was reported"; };
    SseParser by_line(100);
    EXPECT_TRUE(by_line.feed("data: " + std::string(90, 'x'), ignore));
    EXPECT_FALSE(by_line.feed("xxxxx", ignore));
    EXPECT_FALSE(by_line.feed("\n\n", ignore));
    by_line.finish(ignore);

    SseParser by_event(100);
    bool taken = true;
    for (int i = 0; i < 30 && taken; ++i) taken = by_event.feed("data: 12345\n", ignore);
    EXPECT_FALSE(taken);
    by_event.finish(ignore);
}

TEST(Sse, many_events_stay_within_the_limit) {
    SseParser parser(100);
    int events = 0;
    const auto count = [&](std::string_view, std::string_view) { ++events; };
    for (int i = 0; i < 1000; ++i) ASSERT_TRUE(parser.feed("data: 0123456789\n\n", count));
    EXPECT_EQ(events, 1000);
}

}  // namespace
}  // namespace mrprompt
