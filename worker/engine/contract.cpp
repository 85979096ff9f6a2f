// Reads the contract's answers; unknown members are ignored, so that a newer database may send more.
#include "engine/contract.hpp"

#include <algorithm>
#include <cctype>

namespace mrprompt {
namespace {

constexpr std::int64_t kLongestPauseMs = 86'400'000;

std::optional<std::int64_t> integer_member(const Json& object, const char* name) {
    const Json& value = member(object, name);
    if (value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX) return std::nullopt;
    if (value.is_number_integer()) return value.get<std::int64_t>();
    return std::nullopt;
}

std::int64_t setting(const Json& row, const char* name, std::int64_t low, std::int64_t high,
                     std::int64_t before) {
    const auto value = integer_member(row, name);
    return value ? std::clamp(*value, low, high) : before;
}

std::optional<std::size_t> index_member(const Json& object, const char* name) {
    const auto value = integer_member(object, name);
    if (!value || *value < 0) return std::nullopt;
    return static_cast<std::size_t>(*value);
}

// A job that cannot even be named is left out: the next heartbeat does not list it, so it is queued again.
std::optional<Job> parse_job(Json& row) {
    Job job;
    job.request = string_member(row, "request");
    const auto attempt = integer_member(row, "attempt");
    if (!is_uuid(job.request) || !attempt || *attempt < 1 || *attempt > INT32_MAX) return std::nullopt;
    job.attempt = static_cast<int>(*attempt);
    job.failures = static_cast<int>(setting(row, "failures", 0, INT32_MAX, 0));
    job.provider = index_member(row, "provider");
    job.key = index_member(row, "key");
    job.key_id = string_member(row, "key_id");
    job.kind = string_member(row, "kind");
    if (job.kind.empty()) job.kind = "chat";
    if (auto options = row.find("options"); options != row.end() && options->is_object())
        job.options = std::move(*options);
    job.chat.model = string_member(row, "model");
    const Json& stream = member(row, "stream");
    job.chat.stream = stream.is_boolean() && stream.get<bool>();
    job.chat.output_limit = setting(row, "output_limit", 0, INT32_MAX, 0);
    if (auto payload = row.find("payload"); payload != row.end()) job.chat.payload = std::move(*payload);
    return job;
}

}  // namespace

bool is_uuid(std::string_view text) {
    if (text.size() != 36) return false;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? text[i] != '-' : !std::isxdigit(static_cast<unsigned char>(text[i]))) return false;
    }
    return true;
}

FetcherSettings parse_settings(const Json& row, const FetcherSettings& before) {
    FetcherSettings now;
    now.max_in_flight = static_cast<int>(setting(row, "max_in_flight", 1, 1'000'000, before.max_in_flight));
    now.claim_bytes = setting(row, "claim_bytes", 1, 1 << 30, before.claim_bytes);
    now.delta_ms = static_cast<int>(setting(row, "delta_ms", 0, 60'000, before.delta_ms));
    now.heartbeat_ms = static_cast<int>(setting(row, "heartbeat_ms", 10, 600'000, before.heartbeat_ms));
    now.poll_ms = static_cast<int>(setting(row, "poll_ms", 10, 3'600'000, before.poll_ms));
    now.max_response_bytes = setting(row, "max_response_bytes", 1, 1 << 30, before.max_response_bytes);
    now.max_delta_bytes = setting(row, "max_delta_bytes", 1, 1 << 30, before.max_delta_bytes);
    now.max_stream_deltas = setting(row, "max_stream_deltas", 1, INT32_MAX, before.max_stream_deltas);
    return now;
}

Result<Claim> parse_claim(std::string_view body) {
    auto parsed = parse_json(body);
    if (!parsed) return parsed.error();
    Json& answer = *parsed;
    if (!answer.is_object()) return Error{"bad_reply", "the answer to claim is no object"};
    Claim claim;
    for (const Json& row : member(answer, "providers")) {
        auto provider = parse_provider(row);
        if (provider) {
            claim.providers.emplace_back(std::make_shared<const Provider>(std::move(*provider)));
        } else {
            claim.providers.emplace_back(provider.error());
        }
    }
    if (auto jobs = answer.find("jobs"); jobs != answer.end() && jobs->is_array()) {
        claim.jobs.reserve(jobs->size());
        for (Json& row : *jobs) {
            if (!row.is_object()) continue;
            if (auto job = parse_job(row)) claim.jobs.push_back(std::move(*job));
        }
    }
    claim.cancel = parse_ids(member(answer, "cancel"));
    claim.next_ms = integer_member(answer, "next_ms");
    if (claim.next_ms) claim.next_ms = std::clamp<std::int64_t>(*claim.next_ms, 0, kLongestPauseMs);
    return claim;
}

int parse_count(const Json& value) {
    if (value.is_number_unsigned())
        return static_cast<int>(std::min<std::uint64_t>(value.get<std::uint64_t>(), INT32_MAX));
    return 0;
}

std::vector<std::string> parse_ids(const Json& list) {
    std::vector<std::string> ids;
    if (!list.is_array()) return ids;
    for (const Json& id : list) {
        if (id.is_string()) ids.push_back(id.get<std::string>());
    }
    return ids;
}

std::vector<Rejection> parse_rejections(const Json& list) {
    std::vector<Rejection> rejections;
    if (!list.is_array()) return rejections;
    for (const Json& row : list) {
        rejections.push_back({string_member(row, "request"),
                              string_member(row, "sqlstate") + ": " + string_member(row, "message")});
    }
    return rejections;
}

}  // namespace mrprompt
