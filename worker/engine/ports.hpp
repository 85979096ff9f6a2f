// The fetcher's three windows on the world. The engine sees nothing else; tests put in-memory twins behind
// them.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/opened_key.hpp"
#include "core/result.hpp"
#include "crypto/secret.hpp"
#include "provider/provider.hpp"

namespace mrprompt {

enum class CallKind : std::uint8_t { hello = 1, claim = 2, append = 3, settle = 4, heartbeat = 5, tend = 6 };

// The answer to a call: JSON text, or the SQLSTATE and message it failed with.
struct Reply {
    CallKind kind{};
    std::string
        sqlstate;  // empty: it worked. "08006" is a lost connection: whether the call took effect is unknown
    std::string body;  // JSON, or the error's message
    std::vector<OpenedKey> keys;
};

// Carries contract calls to the database. Never blocks. One call at a time.
class Store {
public:
    virtual ~Store() = default;
    virtual bool ready() const = 0;                     // connected and no call under way
    virtual void call(CallKind, std::string json) = 0;  // only when ready()
    virtual std::optional<Reply> reply() = 0;           // the answer, once it is there
    virtual bool take_wake() = 0;                       // true once after the database said there may be work
    virtual bool stop_asked() const = 0;                // finish at once
};

// How a transfer ended, from the network's point of view.
enum class TransferEnd {
    complete,        // the body is whole
    connect_failed,  // no connection; the provider has not seen the request
    tls_failed,      // certificate or handshake refused
    timeout_connect,
    timeout_first_byte,
    timeout_idle,
    timeout_total,
    broken,           // the connection ended inside the exchange
    malformed,        // what came is not HTTP as it should be
    too_large,        // more body than allowed
    refused,          // this URL may not be fetched at all
    address_refused,  // nor may anything at the address that its host has; nothing was sent
};

class TransferSink {
public:
    virtual ~TransferSink() = default;
    virtual void on_sent(std::uint64_t transfer) = 0;  // connected; the request is on its way
    virtual void on_head(std::uint64_t transfer, int status,
                         const Headers& headers) = 0;  // names in lower case
    virtual void on_body(std::uint64_t transfer, std::string_view bytes) = 0;
    virtual void on_end(std::uint64_t transfer, TransferEnd end, std::string_view message) = 0;  // last
};

class Transport {
public:
    virtual ~Transport() = default;
    // `max_body` bytes of response at most. The sink hears of it in pump(), never inside start().
    virtual void start(std::uint64_t transfer, HttpRequest request, std::uint64_t max_body) = 0;
    virtual void cancel(std::uint64_t transfer) = 0;  // the sink hears nothing more of it
    virtual void pump(TransferSink& sink) = 0;        // delivers what has happened; never blocks
};

class Clock {
public:
    virtual ~Clock() = default;
    virtual std::int64_t now_ms() const = 0;   // monotonic
    virtual std::int64_t wall_ms() const = 0;  // since 1970, for Retry-After dates
    virtual double uniform() = 0;              // [0, 1), for jitter
};

}  // namespace mrprompt
