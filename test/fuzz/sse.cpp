// Events are what the rules give for the whole text, wherever its bytes are cut; the bound on their size
// holds.
#include "core/sse.hpp"
#include "fuzz.hpp"

namespace mrprompt::fuzz {
namespace {

struct Heard {
    std::vector<std::string> events;
    bool overflowed = false;
    bool operator==(const Heard&) const = default;
};

std::string written(std::string_view event, std::string_view data) {
    return std::string(event) + '\0' + std::string(data);
}

Heard hear(const std::vector<std::string_view>& pieces, std::size_t limit) {
    Heard heard;
    const auto note = [&](std::string_view event, std::string_view data) {
        promise(event.size() <= limit && data.size() <= limit, "an event keeps to its limit", data);
        heard.events.push_back(written(event, data));
    };
    SseParser parser(limit);
    for (const std::string_view piece : pieces) heard.overflowed = !parser.feed(piece, note);
    parser.finish(note);
    return heard;
}

std::vector<std::string_view> lines_of(std::string_view text) {
    std::vector<std::string_view> lines;
    if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
    while (!text.empty()) {
        const std::size_t end = std::min(text.find_first_of("\r\n"), text.size());
        lines.push_back(text.substr(0, end));
        text.remove_prefix(end);
        text.remove_prefix(text.starts_with("\r\n") ? 2 : std::min<std::size_t>(text.size(), 1));
    }
    lines.push_back({});  // an event at the end of the text needs no blank line
    return lines;
}

// The rules once more, for a text that is there as a whole.
std::vector<std::string> by_the_rules(std::string_view text) {
    std::vector<std::string> events;
    std::string event, data;
    bool has_data = false;
    for (const std::string_view line : lines_of(text)) {
        const std::size_t colon = std::min(line.find(':'), line.size());
        const std::string_view name = line.substr(0, colon);
        std::string_view value = line.substr(std::min(colon + 1, line.size()));
        if (value.starts_with(' ')) value.remove_prefix(1);
        if (name == "event") event = value;
        if (name == "data") data.append(has_data ? "\n" : "").append(value);
        has_data = has_data || name == "data";
        if (!line.empty()) continue;
        if (has_data) events.push_back(written(event, data));
        event.clear();
        data.clear();
        has_data = false;
    }
    return events;
}

}  // namespace
}  // namespace mrprompt::fuzz

FUZZ_TARGET(input) {
    using namespace mrprompt::fuzz;
    const Heard whole = hear({input}, 1 << 20);
    promise(whole.overflowed || whole.events == by_the_rules(input), "events are what the rules give");
    promise(hear(pieces_of(input), 1 << 20) == whole, "cutting changes nothing");
    promise(hear(pieces_of(input), 24) == hear({input}, 24), "cutting changes nothing at the limit");
}
