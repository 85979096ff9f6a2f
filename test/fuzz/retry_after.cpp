// Whatever the head of a response says, the wait is more than nothing and at most an hour. A line of the
// input is a header.
#include "engine/retry_after.hpp"
#include "fuzz.hpp"

namespace mrprompt::fuzz {
namespace {

Headers headers_of(std::string_view text) {
    Headers headers;
    while (!text.empty()) {
        const std::string_view line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(line.size() + 1, text.size()));
        const std::size_t colon = std::min(line.find(": "), line.size());
        headers.emplace_back(line.substr(0, colon), line.substr(std::min(colon + 2, line.size())));
    }
    return headers;
}

}  // namespace
}  // namespace mrprompt::fuzz

FUZZ_TARGET(input) {
    using namespace mrprompt;
    const Headers headers = fuzz::headers_of(input);
    for (const std::int64_t wall_ms : {std::int64_t{0}, std::int64_t{1'700'000'000'000}}) {
        for (const int status : {200, 429, 503}) {
            const auto ms = retry_after(headers, status, wall_ms);
            fuzz::promise(!ms || (*ms > 0 && *ms <= 3'600'000), "a wait is between 1 ms and an hour");
        }
    }
}
