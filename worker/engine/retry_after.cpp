// The forms in which providers write times: milliseconds, seconds, HTTP dates, Go durations, RFC 3339.
#include "engine/retry_after.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <ctime>
#include <string>
#include <string_view>

namespace mrprompt {
namespace {

constexpr double kLongestMs = 3'600'000;

std::optional<double> decimal(std::string_view text) {
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value))
        return std::nullopt;
    return value;
}

// RFC 9110's preferred form only ("Sun, 06 Nov 1994 08:49:37 GMT"); the two obsolete ones are not in use.
std::optional<double> http_date_ms(const std::string& text) {
    std::tm when{};
    const char* end = strptime(text.c_str(), "%a, %d %b %Y %H:%M:%S", &when);
    if (end == nullptr || std::strcmp(end, " GMT") != 0) return std::nullopt;
    return static_cast<double>(timegm(&when)) * 1000;
}

// RFC 3339: "2026-01-31T08:49:37Z", with a fraction or an offset ("+02:00") where they are given.
std::optional<double> rfc3339_ms(const std::string& text) {
    std::tm when{};
    const char* rest = strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &when);
    if (rest == nullptr) return std::nullopt;
    double ms = static_cast<double>(timegm(&when)) * 1000;
    if (*rest == '.') {
        const char* const digits = ++rest;
        for (double unit = 100; *rest >= '0' && *rest <= '9'; ++rest, unit /= 10) ms += unit * (*rest - '0');
        if (rest == digits) return std::nullopt;
    }
    const std::string_view zone = rest;
    if (zone == "Z" || zone == "z") return ms;
    if (zone.size() != 6 || (zone[0] != '+' && zone[0] != '-') || zone[3] != ':') return std::nullopt;
    const auto hours = decimal(zone.substr(1, 2)), minutes = decimal(zone.substr(4, 2));
    if (!hours || !minutes) return std::nullopt;
    const double offset = (*hours * 60 + *minutes) * 60'000;
    return zone[0] == '+' ? ms - offset : ms + offset;
}

// What Go prints of a time.Duration: "1s", "6m0s", "12ms", "1h2m3.5s". A number alone has no unit: it could
// be seconds or a date.
std::optional<double> go_duration_ms(std::string_view text) {
    constexpr struct {
        std::string_view name;
        double ms;
    } kUnits[] = {{"ns", 1e-6}, {"us", 1e-3}, {"\u00B5s", 1e-3}, {"\u03BCs", 1e-3},
                  {"ms", 1},    {"s", 1e3},   {"m", 60e3},       {"h", 3600e3}};
    if (text.empty()) return std::nullopt;
    double sum = 0;
    while (!text.empty()) {
        const std::size_t digits = std::min(text.find_first_not_of("0123456789."), text.size());
        const auto number = decimal(text.substr(0, digits));
        if (!number) return std::nullopt;
        text.remove_prefix(digits);
        const std::string_view name =
            text.substr(0, std::min(text.find_first_of("0123456789."), text.size()));
        const auto unit = std::find_if(std::begin(kUnits), std::end(kUnits),
                                       [&](const auto& entry) { return entry.name == name; });
        if (unit == std::end(kUnits)) return std::nullopt;
        sum += *number * unit->ms;
        text.remove_prefix(name.size());
    }
    return sum;
}

const std::string* find_header(const Headers& headers, std::string_view name) {
    for (const auto& [key, value] : headers) {
        if (key == name) return &value;
    }
    return nullptr;
}

enum class Left { unknown, none, some };

// Azure sends -1 where it does not know.
Left left_of(const Headers& headers, const std::string& name) {
    const std::string* value = find_header(headers, name);
    const auto count = value != nullptr ? decimal(*value) : std::nullopt;
    if (!count || *count < 0) return Left::unknown;
    return *count == 0 ? Left::none : Left::some;
}

// OpenAI's form, which many follow. The limit that is used up counts; where none is said to be, those of
// which nothing is said.
std::optional<double> ratelimit_reset_ms(const Headers& headers) {
    std::optional<double> used_up, unknown;
    for (const char* what : {"requests", "tokens"}) {
        const std::string* value = find_header(headers, std::string("x-ratelimit-reset-") + what);
        const auto ms = value != nullptr ? go_duration_ms(*value) : std::nullopt;
        if (!ms) continue;
        const Left left = left_of(headers, std::string("x-ratelimit-remaining-") + what);
        if (left == Left::none) used_up = std::max(used_up.value_or(0), *ms);
        if (left == Left::unknown) unknown = std::max(unknown.value_or(0), *ms);
    }
    return used_up ? used_up : unknown;
}

std::optional<double> anthropic_reset_ms(const Headers& headers, std::int64_t wall_ms) {
    std::optional<double> latest;
    for (const char* what : {"requests", "tokens", "input-tokens", "output-tokens"}) {
        const std::string limit = std::string("anthropic-ratelimit-") + what;
        const std::string* value = find_header(headers, limit + "-reset");
        if (value == nullptr || left_of(headers, limit + "-remaining") != Left::none) continue;
        const auto at = rfc3339_ms(*value);
        if (at) latest = std::max(latest.value_or(0), *at - static_cast<double>(wall_ms));
    }
    return latest;
}

// A wish of no time, or of one that has passed, is none: Azure sends 0 and -1.
std::optional<std::int64_t> wish(std::optional<double> ms) {
    if (!ms || *ms <= 0) return std::nullopt;
    return static_cast<std::int64_t>(std::ceil(std::min(*ms, kLongestMs)));
}

}  // namespace

std::optional<std::int64_t> retry_after(const Headers& headers, int status, std::int64_t wall_ms) {
    if (const auto* value = find_header(headers, "retry-after-ms")) {
        if (const auto ms = wish(decimal(*value))) return ms;
    }
    if (const auto* value = find_header(headers, "retry-after")) {
        if (const auto seconds = decimal(*value)) {
            if (const auto ms = wish(*seconds * 1000)) return ms;
        } else if (const auto date = http_date_ms(*value)) {
            if (const auto ms = wish(*date - static_cast<double>(wall_ms))) return ms;
        }
    }
    if (status != 429 && status != 503 && status != 529) return std::nullopt;
    if (const auto ms = wish(ratelimit_reset_ms(headers))) return ms;
    return wish(anthropic_reset_ms(headers, wall_ms));
}

}  // namespace mrprompt
