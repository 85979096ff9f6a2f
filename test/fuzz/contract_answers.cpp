// Whatever the database answers to a claim or says of settings, what is read of it is within bounds, and what
// goes to a provider because of it is one proper HTTP request.
#include "engine/contract.hpp"

#include "fuzz.hpp"
#include "provider/http_request.hpp"

namespace mrprompt::fuzz {
namespace {

bool between(std::int64_t value, std::int64_t low, std::int64_t high) {
    return value >= low && value <= high;
}

bool one_line(std::string_view text) {
    return text.find_first_of(std::string_view("\r\n\0", 3)) == std::string_view::npos;
}

void check_settings(const Json& row) {
    const FetcherSettings now = parse_settings(row, {});
    promise(between(now.max_in_flight, 1, 1'000'000) && between(now.claim_bytes, 1, 1 << 30) &&
                between(now.delta_ms, 0, 60'000) && between(now.heartbeat_ms, 10, 600'000) &&
                between(now.poll_ms, 10, 3'600'000) && between(now.max_response_bytes, 1, 1 << 30) &&
                between(now.max_delta_bytes, 1, 1 << 30) && between(now.max_stream_deltas, 1, INT32_MAX),
            "settings are within their bounds");
}

void check_provider(const Provider& row) {
    constexpr int kDay = 86'400'000;
    for (const int ms : {row.connect_timeout_ms, row.first_byte_timeout_ms, row.idle_timeout_ms,
                         row.total_timeout_ms, row.retry.backoff_base_ms, row.retry.backoff_cap_ms}) {
        promise(between(ms, 1, kDay), "times are between 1 ms and a day");
    }
    promise(between(row.cooldown_percent, 0, 100) && between(row.cooldown_attempts, 1, 1'000'000),
            "cooldowns are within their bounds");
}

void check_request(const HttpRequest& request) {
    promise(
        one_line(request.url) && (request.url.starts_with("http://") || request.url.starts_with("https://")),
        "a URL is a line", request.url);
    for (const auto& [name, value] : request.headers)
        promise(one_line(name) && one_line(value) && !name.empty(), "a header is a line", value);
    promise(one_line(request.secret_header) && one_line(request.secret.view()), "a key is a line");
    checked_json(request.body, "a request's body");
}

void check_limit(const Json& body, std::int64_t held) {
    const Json &first = member(body, "max_tokens"), &second = member(body, "max_completion_tokens");
    promise(!first.is_null() || !second.is_null(), "a request that money is held for has a limit");
    for (const Json* limit : {&first, &second})
        promise(limit->is_null() || (*limit >= 1 && *limit <= held), "and no larger one", dump_json(*limit));
}

void check_job(const Job& job, const Claim& claim) {
    promise(is_uuid(job.request) && job.attempt >= 1 && job.failures >= 0, "a job is one that can be named");
    if (!job.provider || *job.provider >= claim.providers.size() || !claim.providers[*job.provider]) return;
    Provider row = **claim.providers[*job.provider];
    check_provider(row);
    apply_options(job.options, row);
    check_provider(row);
    const auto request = find_protocol(row.protocol)->request(row, job.chat, Secret(job.key_id));
    if (!request) return;
    check_request(*request);
    if (job.chat.output_limit > 0)
        check_limit(checked_json(request->body, "a limited body"), job.chat.output_limit);
}

void check_lists(const Json& answer) {
    for (const char* name : {"busy", "stale", "lost", "cancel"}) parse_ids(member(answer, name));
    parse_rejections(member(answer, "rejected"));
}

}  // namespace
}  // namespace mrprompt::fuzz

FUZZ_TARGET(input) {
    using namespace mrprompt;
    using namespace mrprompt::fuzz;
    if (const auto claim = parse_claim(input)) {
        for (const Job& job : claim->jobs) check_job(job, *claim);
        promise(!claim->next_ms || between(*claim->next_ms, INT64_MIN / 4, INT64_MAX / 4),
                "a time to come back can be added to now");
    }
    if (const auto answer = parse_json(input)) {
        check_settings(*answer);
        check_settings(member(*answer, "settings"));
        check_lists(*answer);
    }
}
