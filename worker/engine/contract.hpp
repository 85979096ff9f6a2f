// What the database's answers say, as values: settings, claimed jobs, lists of ids. Parsing only, no I/O.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.hpp"
#include "core/result.hpp"
#include "provider/provider.hpp"

namespace mrprompt {

constexpr int kContractVersion = 2;
constexpr int kOldestContract = 1;  // said where a newer one is refused

// The settings in force (ARCHITECTURE.md, "settings"); what the database leaves out keeps its default.
struct FetcherSettings {
    int max_in_flight = 256;
    std::int64_t claim_bytes = 32 << 20;
    int delta_ms = 50;
    int heartbeat_ms = 2'000;
    int poll_ms = 5'000;
    std::int64_t max_response_bytes = 64 << 20;
    std::int64_t max_delta_bytes = 1 << 20;    // text of one piece of a stream
    std::int64_t max_stream_deltas = 200'000;  // pieces of one stream
};

// `row` over `before`: members that are absent or senseless change nothing.
FetcherSettings parse_settings(const Json& row, const FetcherSettings& before);

// A provider row, shared by the requests that run under it.
using ProviderRow = std::shared_ptr<const Provider>;

// One claimed request, at its provider, with its key (an index into Reply::keys, or none).
struct Job {
    std::string request;
    int attempt = 0;
    int failures = 0;
    std::optional<std::size_t> provider;
    std::optional<std::size_t> key;
    std::string key_id;  // the key's row; empty: none
    std::string kind;    // "chat", or "verify": whether the provider takes the key
    Json options;        // what is in force instead of the provider's row, or null
    Chat chat;
};

struct Claim {
    std::vector<Result<ProviderRow>> providers;  // a row that makes no sense fails its own jobs only
    std::vector<Job> jobs;
    std::vector<std::string> cancel;
    std::optional<std::int64_t> next_ms;  // when to ask again, if the database knows: 0 to a day
};
Result<Claim> parse_claim(std::string_view body);

// An item that the database would not take, and why.
struct Rejection {
    std::string request;
    std::string message;
};

int parse_count(const Json& value);  // 0 where it is none
std::vector<std::string> parse_ids(const Json& list);
std::vector<Rejection> parse_rejections(const Json& list);

// True for the text form of a uuid: such a string goes into JSON and headers as it is.
bool is_uuid(std::string_view text);

}  // namespace mrprompt
