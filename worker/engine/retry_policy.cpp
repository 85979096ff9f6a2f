// The retry rules as tables: transport ends, HTTP statuses, and the words providers use.
#include "engine/retry_policy.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>

namespace mrprompt {
namespace {

enum class Rule { give_up, again, again_free };  // again_free: does not count as a failure

struct EndRule {
    TransferEnd end;
    const char* type;
    Rule rule;
    Blame blame;
};
// The error types that mrprompt itself gives to what the network did. A request that ran into its total
// time-out, or whose certificate was refused, would only do so again.
constexpr EndRule kEnds[] = {
    {TransferEnd::connect_failed, "connect_failed", Rule::again, Blame::failing},
    {TransferEnd::tls_failed, "tls_failed", Rule::give_up, Blame::failing},
    {TransferEnd::timeout_connect, "connect_timeout", Rule::again, Blame::failing},
    {TransferEnd::timeout_first_byte, "first_byte_timeout", Rule::again, Blame::failing},
    {TransferEnd::timeout_idle, "idle_timeout", Rule::again, Blame::failing},
    {TransferEnd::timeout_total, "total_timeout", Rule::give_up, Blame::failing},
    {TransferEnd::broken, "connection_broken", Rule::again, Blame::failing},
    {TransferEnd::malformed, "bad_response", Rule::give_up, Blame::failing},
    {TransferEnd::too_large, "response_too_large", Rule::give_up, Blame::ours},
    {TransferEnd::refused, "url_refused", Rule::give_up, Blame::ours},
    {TransferEnd::address_refused, "address_refused", Rule::give_up, Blame::ours},
};

struct WordRule {
    std::string_view word;  // a provider's error type or code
    Rule rule;
    Blame blame;
};
// Where the word is known it outweighs the status: a 429 for an empty account never gets better.
constexpr WordRule kWords[] = {
    {"insufficient_quota", Rule::give_up, Blame::rate_limit},
    {"billing_error", Rule::give_up, Blame::none},
    {"billing_hard_limit_reached", Rule::give_up, Blame::none},
    {"authentication_error", Rule::give_up, Blame::auth},
    {"invalid_api_key", Rule::give_up, Blame::auth},
    {"invalid_authentication", Rule::give_up, Blame::auth},
    {"account_deactivated", Rule::give_up, Blame::auth},
    {"API_KEY_INVALID", Rule::give_up, Blame::auth},  // Google
    {"UNAUTHENTICATED", Rule::give_up, Blame::auth},
    {"PERMISSION_DENIED", Rule::give_up, Blame::auth},
    {"permission_error", Rule::give_up, Blame::auth},
    {"permission_denied", Rule::give_up, Blame::auth},
    {"in_flight_budget_exhausted", Rule::again_free, Blame::rate_limit},  // OpenRouter's 402 that passes
    {"cut_stream", Rule::again, Blame::failing},
};
// Errors inside a 200 stream have no status; these are the ones that pass.
constexpr WordRule kStreamWords[] = {
    {"overloaded_error", Rule::again, Blame::failing},
    {"overloaded", Rule::again, Blame::failing},
    {"api_error", Rule::again, Blame::failing},
    {"server_error", Rule::again, Blame::failing},
    {"internal_error", Rule::again, Blame::failing},
    {"internal_server_error", Rule::again, Blame::failing},
    {"InternalServerError", Rule::again, Blame::failing},
    {"service_unavailable", Rule::again, Blame::failing},
    {"timeout_error", Rule::again, Blame::failing},
    {"rate_limit_error", Rule::again_free, Blame::rate_limit},
    {"rate_limit_exceeded", Rule::again_free, Blame::rate_limit},
};

// What is known of a failure before the rules of the provider's row have their say.
struct Finding {
    Rule rule = Rule::give_up;
    Blame blame = Blame::none;
};

template <std::size_t N>
const WordRule* find_word(const WordRule (&table)[N], const ProviderError& error) {
    for (const std::string* word : {&error.code, &error.type}) {
        const auto hit = std::find_if(std::begin(table), std::end(table),
                                      [&](const WordRule& row) { return row.word == *word; });
        if (hit != std::end(table)) return hit;
    }
    return nullptr;
}

Finding of_status(int status) {
    if (status == 429) return {Rule::again_free, Blame::rate_limit};
    if (status == 401 || status == 403) return {Rule::give_up, Blame::auth};
    if (status == 408 || status == 409) return {Rule::again, Blame::none};
    if (status >= 500) return {Rule::again, Blame::failing};
    return {Rule::give_up, Blame::none};
}

int number(std::string_view text) {
    int value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() && end == text.data() + text.size() ? value : 0;
}

Finding of_error(const ProviderError& error, int status) {
    if (const WordRule* row = find_word(kWords, error)) return {row->rule, row->blame};
    if (status >= 300) return of_status(status);
    if (const WordRule* row = find_word(kStreamWords, error)) return {row->rule, row->blame};
    return of_status(number(error.code));  // OpenRouter and vLLM put a status in the code
}

bool holds(const std::vector<std::string>& words, std::string_view word) {
    return !word.empty() && std::find(words.begin(), words.end(), word) != words.end();
}

// The words of the provider's row, or of the request, above the tables.
Rule overruled(Rule rule, const RetryRules& rules, std::string_view type, std::string_view code, int status) {
    const std::string number = status >= 300 ? std::to_string(status) : std::string();
    const auto word_in = [&](const auto& words) { return holds(words, type) || holds(words, code); };
    if (word_in(rules.no_retry_on) || holds(rules.no_retry_on, number)) return Rule::give_up;
    if (rule != Rule::give_up) return rule;
    // A 429 is tried again without being named: who names it does not speak of the empty account.
    if (status == 429) return word_in(rules.retry_on) ? Rule::again_free : rule;
    return word_in(rules.retry_on) || holds(rules.retry_on, number) ? Rule::again : rule;
}

// Full jitter: anywhere up to the doubling bound, so that a crowd that failed together does not return so.
std::int64_t back_off_ms(const RetryRules& rules, int times, double jitter) {
    const double bound =
        std::min<double>(rules.backoff_cap_ms, rules.backoff_base_ms * std::exp2(std::clamp(times, 0, 30)));
    return static_cast<std::int64_t>(bound * jitter);
}

}  // namespace

Verdict judge(const FailedAttempt& failed, const RetryRules& rules, double jitter) {
    Verdict verdict;
    Finding found;
    std::string_view code;
    int status = failed.status;
    if (failed.error != nullptr) {
        const ProviderError& error = *failed.error;
        verdict.type = error.type.empty() ? "http_error" : error.type;
        code = error.code;
        if (error.status != 0) status = error.status;
        found = of_error(error, status);
    } else {
        const auto row = std::find_if(std::begin(kEnds), std::end(kEnds),
                                      [&](const EndRule& entry) { return entry.end == failed.end; });
        verdict.type = row != std::end(kEnds) ? row->type : "bad_response";
        if (row != std::end(kEnds)) found = {row->rule, row->blame};
    }
    verdict.blame = found.blame;
    const Rule rule = overruled(found.rule, rules, verdict.type, code, status);
    verdict.retry = rule == Rule::again || rule == Rule::again_free;
    if (!verdict.retry) return verdict;
    verdict.counts_as_failure = rule == Rule::again;
    // What does not count leaves `failures` as it is: the attempts tell how often it was tried.
    const int times =
        verdict.counts_as_failure ? failed.failures : std::max(failed.failures, failed.attempt - 1);
    verdict.after_ms = back_off_ms(rules, times, jitter);
    if (failed.retry_after_ms) verdict.after_ms = std::max(verdict.after_ms, *failed.retry_after_ms);
    return verdict;
}

}  // namespace mrprompt
