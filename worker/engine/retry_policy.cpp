// The retry rules as tables: transport ends, HTTP statuses, and the words providers use.
#include "engine/retry_policy.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <ctime>
#include <string_view>

namespace mrprompt {
namespace {

constexpr std::int64_t kBaseMs = 500;
constexpr std::int64_t kCapMs = 60'000;
constexpr std::int64_t kRetryAfterCapMs = 3'600'000;

enum class Rule { give_up, again, again_free };  // again_free: does not count as a failure

struct EndRule {
    TransferEnd end;
    const char* type;
    Rule rule;
};
// The error types that mrprompt itself gives to what the network did. A request that ran into its total
// time-out, or whose certificate was refused, would only do so again.
constexpr EndRule kEnds[] = {
    {TransferEnd::connect_failed, "connect_failed", Rule::again},
    {TransferEnd::tls_failed, "tls_failed", Rule::give_up},
    {TransferEnd::timeout_connect, "connect_timeout", Rule::again},
    {TransferEnd::timeout_first_byte, "first_byte_timeout", Rule::again},
    {TransferEnd::timeout_idle, "idle_timeout", Rule::again},
    {TransferEnd::timeout_total, "total_timeout", Rule::give_up},
    {TransferEnd::broken, "connection_broken", Rule::again},
    {TransferEnd::too_large, "response_too_large", Rule::give_up},
    {TransferEnd::refused, "url_refused", Rule::give_up},
};

struct WordRule {
    std::string_view word;  // a provider's error type or code
    Rule rule;
};
// Where the word is known it outweighs the status: a 429 for an empty account never gets better.
constexpr WordRule kWords[] = {
    {"insufficient_quota", Rule::give_up},
    {"billing_error", Rule::give_up},
    {"billing_hard_limit_reached", Rule::give_up},
    {"in_flight_budget_exhausted", Rule::again_free},  // OpenRouter's 402 that passes
    {"cut_stream", Rule::again},
};
// Errors inside a 200 stream have no status; these are the ones that pass.
constexpr WordRule kStreamWords[] = {
    {"overloaded_error", Rule::again},
    {"overloaded", Rule::again},
    {"api_error", Rule::again},
    {"server_error", Rule::again},
    {"internal_error", Rule::again},
    {"internal_server_error", Rule::again},
    {"InternalServerError", Rule::again},
    {"service_unavailable", Rule::again},
    {"timeout_error", Rule::again},
    {"rate_limit_error", Rule::again_free},
    {"rate_limit_exceeded", Rule::again_free},
};

template <std::size_t N>
const WordRule* find_word(const WordRule (&table)[N], const ProviderError& error) {
    const auto hit = std::find_if(std::begin(table), std::end(table),
                                  [&](const WordRule& row) { return row.word == error.code; });
    if (hit != std::end(table)) return hit;
    const auto by_type = std::find_if(std::begin(table), std::end(table),
                                      [&](const WordRule& row) { return row.word == error.type; });
    return by_type != std::end(table) ? by_type : nullptr;
}

Rule rule_of_status(int status) {
    if (status == 429) return Rule::again_free;
    if (status == 408 || status == 409 || status >= 500) return Rule::again;
    return Rule::give_up;
}

int number(std::string_view text) {
    int value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() && end == text.data() + text.size() ? value : 0;
}

Rule rule_of_error(const ProviderError& error, int status) {
    if (const WordRule* row = find_word(kWords, error)) return row->rule;
    if (status >= 300) return rule_of_status(status);
    if (const WordRule* row = find_word(kStreamWords, error)) return row->rule;
    return rule_of_status(number(error.code));  // OpenRouter and vLLM put a status in the code
}

std::optional<double> decimal(std::string_view text) {
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value))
        return std::nullopt;
    return value;
}

// RFC 9110's preferred form only ("Sun, 06 Nov 1994 08:49:37 GMT"); the two obsolete ones are not in use.
std::optional<std::int64_t> http_date_ms(const std::string& text) {
    std::tm when{};
    const char* end = strptime(text.c_str(), "%a, %d %b %Y %H:%M:%S", &when);
    if (end == nullptr || std::strcmp(end, " GMT") != 0) return std::nullopt;
    return static_cast<std::int64_t>(timegm(&when)) * 1000;
}

const std::string* find_header(const Headers& headers, std::string_view name) {
    for (const auto& [key, value] : headers) {
        if (key == name) return &value;
    }
    return nullptr;
}

std::int64_t clamp_ms(double ms) {
    return static_cast<std::int64_t>(std::ceil(std::clamp(ms, 0.0, double{kRetryAfterCapMs})));
}

// Full jitter: anywhere up to the doubling bound, so that a crowd that failed together does not return so.
std::int64_t back_off_ms(int times, double jitter) {
    const double bound = std::min<double>(kCapMs, kBaseMs * std::exp2(std::clamp(times, 0, 30)));
    return static_cast<std::int64_t>(bound * jitter);
}

}  // namespace

std::optional<std::int64_t> retry_after(const Headers& headers, std::int64_t wall_ms) {
    if (const auto* value = find_header(headers, "retry-after-ms")) {
        if (const auto ms = decimal(*value)) return clamp_ms(*ms);
    }
    if (const auto* value = find_header(headers, "retry-after")) {
        if (const auto seconds = decimal(*value)) return clamp_ms(*seconds * 1000);
        if (const auto date = http_date_ms(*value)) return clamp_ms(static_cast<double>(*date - wall_ms));
    }
    return std::nullopt;
}

Verdict judge(const FailedAttempt& failed, double jitter) {
    Verdict verdict;
    Rule rule = Rule::again;
    if (failed.error != nullptr) {
        verdict.type = failed.error->type.empty() ? "http_error" : failed.error->type;
        rule = rule_of_error(*failed.error, failed.error->status != 0 ? failed.error->status : failed.status);
    } else {
        const auto row = std::find_if(std::begin(kEnds), std::end(kEnds),
                                      [&](const EndRule& entry) { return entry.end == failed.end; });
        verdict.type = row != std::end(kEnds) ? row->type : "bad_response";
        rule = row != std::end(kEnds) ? row->rule : Rule::give_up;
    }
    verdict.retry = rule != Rule::give_up;
    if (!verdict.retry) return verdict;
    verdict.counts_as_failure = rule == Rule::again;
    // What does not count leaves `failures` as it is: the attempts tell how often it was tried.
    const int times =
        verdict.counts_as_failure ? failed.failures : std::max(failed.failures, failed.attempt - 1);
    verdict.after_ms = back_off_ms(times, jitter);
    if (failed.retry_after_ms) verdict.after_ms = std::max(verdict.after_ms, *failed.retry_after_ms);
    return verdict;
}

}  // namespace mrprompt
