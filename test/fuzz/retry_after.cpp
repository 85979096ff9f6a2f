// Whatever the head of a response says, the wait is more than nothing and at most an hour; and what each form
// says is what is waited for. A line of the input is a header.
#include "engine/retry_after.hpp"

#include <ctime>

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

std::string written(const char* form, std::int64_t seconds) {
    const std::time_t at = seconds;
    std::tm when{};
    char text[64];
    return {text, std::strftime(text, sizeof text, form, gmtime_r(&at, &when))};
}

// The same wait in every form, at any hour.
void check_forms(std::size_t any) {
    const std::int64_t seconds = 1 + static_cast<std::int64_t>(any % 3600);
    const std::int64_t now = 1'700'000'000 + static_cast<std::int64_t>(any >> 12 & 0xffffff);
    const std::string number = std::to_string(seconds);
    const Headers forms[] = {
        {{"retry-after", number}},
        {{"retry-after-ms", number + "000"}},
        {{"retry-after", written("%a, %d %b %Y %H:%M:%S GMT", now + seconds)}},
        {{"x-ratelimit-reset-tokens", number + "s"}},
        {{"x-ratelimit-reset-requests", number + "000ms"}, {"x-ratelimit-remaining-requests", "0"}},
        {{"anthropic-ratelimit-tokens-reset", written("%Y-%m-%dT%H:%M:%S.000Z", now + seconds)},
         {"anthropic-ratelimit-tokens-remaining", "0"}},
        {{"anthropic-ratelimit-requests-reset", written("%Y-%m-%dT%H:%M:%S+02:30", now + seconds + 9000)},
         {"anthropic-ratelimit-requests-remaining", "0"}},
    };
    for (const Headers& form : forms)
        promise(retry_after(form, 429, now * 1000) == seconds * 1000, "a form says what it says",
                form[0].second);
}

}  // namespace
}  // namespace mrprompt::fuzz

FUZZ_TARGET(input) {
    using namespace mrprompt;
    fuzz::check_forms(std::hash<std::string_view>()(input));
    const Headers headers = fuzz::headers_of(input);
    for (const std::int64_t wall_ms : {std::int64_t{0}, std::int64_t{1'700'000'000'000}}) {
        for (const int status : {200, 429, 503}) {
            const auto ms = retry_after(headers, status, wall_ms);
            fuzz::promise(!ms || (*ms > 0 && *ms <= 3'600'000), "a wait is between 1 ms and an hour");
        }
    }
}
