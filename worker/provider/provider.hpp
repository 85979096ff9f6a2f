// What every protocol adapter offers: a chat job to an HTTP request, HTTP bytes to chat events. No I/O.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/json.hpp"
#include "core/result.hpp"
#include "crypto/secret.hpp"

namespace mrprompt {

using Headers = std::vector<std::pair<std::string, std::string>>;

// Which failed attempts are tried again, and how soon. The words are error types, provider codes and HTTP
// statuses as text; they stand above the rules of engine/retry_policy.cpp, and no_retry_on above retry_on.
struct RetryRules {
    int backoff_base_ms = 500;
    int backoff_cap_ms = 60'000;
    std::vector<std::string> retry_on;
    std::vector<std::string> no_retry_on;
};

// A provider row as `claim` sends it (ARCHITECTURE.md, "provider"). Times in milliseconds.
struct Provider {
    std::string name;
    std::string protocol;
    std::string base_url;
    std::string path;         // empty: the protocol's own ("/chat/completions", "/v1/messages")
    std::string verify_path;  // what verifies a key; empty: the protocol's own ("/models", "/v1/models")
    std::string auth;         // bearer | x-api-key | api-key | none
    Headers headers;
    bool stream_usage = true;                     // takes stream_options.include_usage
    std::string max_tokens_field = "max_tokens";  // what Chat::output_limit is called there
    std::string ca_file;
    bool allow_private = false;  // its host may have a special_kind of address (core/address.hpp)
    std::string proxy;           // http://, https:// or socks5h://host:port; empty: none
    std::string client_cert_file, client_key_file;
    int connect_timeout_ms = 10'000;
    int first_byte_timeout_ms = 120'000;
    int idle_timeout_ms = 120'000;
    int total_timeout_ms = 600'000;
    RetryRules retry;
    std::string idempotency_header;  // carries the request's id; empty: none
    int cooldown_percent = 50;       // so many of
    int cooldown_attempts =
        10;  // at least so many attempts in a minute failed: hold the target back; 0 percent: never
};
Result<Provider> parse_provider(const Json& row);

// Puts in force what a job's `options` say of time-outs and retries; members that are absent or null change
// nothing.
void apply_options(const Json& options, Provider& provider);

// One chat completion to ask for; payload is the OpenAI chat format without model and stream.
struct Chat {
    std::string model;
    bool stream = false;
    Json payload;
    std::int64_t output_limit = 0;  // the most output tokens that money is held for; 0: the payload decides
};

// What to send where the payload's own limit is `own` and money is held for `held` tokens: a limit that is no
// positive number, or a larger one, gives way.
Json limit_within(const Json& own, std::int64_t held);

struct HttpRequest {
    std::string url;
    bool get = false;           // GET, without a body; else POST
    Headers headers;            // content type, accept, the row's own; no secret
    std::string secret_header;  // "Authorization: Bearer " or "x-api-key: "; empty when there is no key
    Secret secret;              // goes behind secret_header
    std::string body;
    std::string ca_file;
    bool allow_private = false;
    std::string proxy;
    std::string client_cert_file, client_key_file;
    int connect_timeout_ms = 0;
    int first_byte_timeout_ms = 0;
    int idle_timeout_ms = 0;
    int total_timeout_ms = 0;
};

// The same meaning for every provider: prompt includes cached, cache_write and its audio, completion includes
// reasoning and its audio.
struct Usage {
    std::int64_t prompt_tokens = 0;
    std::int64_t completion_tokens = 0;
    std::int64_t cached_tokens = 0;
    std::int64_t cache_write_tokens = 0;
    std::int64_t cache_write_1h_tokens = 0;  // those of cache_write that are kept for an hour
    std::int64_t reasoning_tokens = 0;
    std::int64_t audio_prompt_tokens = 0;
    std::int64_t audio_completion_tokens = 0;
    Json provider_cost = nullptr;  // USD, what the provider says it charged: a number as it was sent, or null
};

// A provider's own error, in its words; status 0 where it came inside a 200 stream.
struct ProviderError {
    int status = 0;
    std::string type;  // the provider's error type or code, else "http_error", "bad_response", "cut_stream"
    std::string code;  // the provider's machine-readable code ("insufficient_quota"), may be empty
    std::string message;  // trimmed to 2,000 bytes
};

// A fragment of a tool call as it streams in; `index` says which call it belongs to.
struct ToolCallFragment {
    int index = 0;
    std::string id;
    std::string name;
    std::string arguments;
};

// What a piece of body added.
struct Delta {
    std::string content;
    std::string reasoning;
    std::string refusal;
    std::vector<ToolCallFragment> tool_calls;
    bool empty() const {
        return content.empty() && reasoning.empty() && refusal.empty() && tool_calls.empty();
    }
    std::size_t text_bytes() const;  // of names and arguments, too
    void append(Delta&& more);       // text is joined; fragments of one index are joined
};

// All that was learnt of one answer so far.
struct Completion {
    std::string content, reasoning, refusal;
    bool has_content = false;                  // an answer without text (tool calls only) has content null
    std::vector<ToolCallFragment> tool_calls;  // whole, by index
    std::string finish_reason;                 // stop | length | tool_calls | content_filter | …
    std::string model, response_id;
    std::string service_tier;  // as the answer says it: decides the price, and may come before the usage
    std::optional<Usage> usage;
    Json raw_usage;  // the provider's own object, or null
    Json raw;        // what a later turn must send back (Anthropic thinking blocks), or null
    std::optional<ProviderError> error;  // set: the answer is no good
    bool complete = false;               // the protocol's own end was seen
};

// Bytes in, completion out. Feed in any pieces: the result is the same.
class Decoder {
public:
    virtual ~Decoder() = default;
    // Adds body bytes; what they brought is appended to `delta`.
    virtual void feed(std::string_view bytes, Delta& delta) = 0;
    // No more bytes will come; a stream without its end gets the error "cut_stream".
    virtual void finish(Delta& delta) = 0;
    const Completion& completion() const { return completion_; }
    Completion& completion() { return completion_; }

protected:
    Completion completion_;
};

class Protocol {
public:
    virtual ~Protocol() = default;
    virtual Result<HttpRequest> request(const Provider&, const Chat&, const Secret& key) const = 0;
    // `stream`: deltas are wanted; without it they stay empty. Whether the body is a stream of events or one
    // JSON document is told from the body itself. `status` and `content_type` come from the response head; a
    // non-2xx status decodes to an error.
    virtual std::unique_ptr<Decoder> decoder(bool stream, int status,
                                             std::string_view content_type) const = 0;
};

// The adapter of that name, or null.
const Protocol* find_protocol(std::string_view name);

}  // namespace mrprompt
