// HTTP/1.1 requests out of bytes, and heads of responses into bytes; owns no socket.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mrprompt::fake {

struct Request {
    std::string method;
    std::string path;                                          // without the query
    std::vector<std::pair<std::string, std::string>> headers;  // names in lower case
    std::string body;
    bool keep_alive = true;

    // The header's value, or "" where it is absent. `name` is in lower case.
    std::string_view header(std::string_view name) const;

    // What the client authenticates with: a bearer token, x-api-key or api-key; "" where there is none.
    std::string_view key() const;
};

// Takes one request after the other off the front of a connection's bytes (pipelining is fine).
class RequestParser {
public:
    enum class State { kNeedMore, kContinue, kComplete, kBad };

    // Consumes from `buffer` what belongs to the request at its front. kContinue: the client waits for
    // "100 Continue", call again after sending it. kBad: no HTTP, the connection is of no further use.
    State next(std::string& buffer, Request& request);

private:
    bool parse_head(std::string_view head, Request& request);
    State take_chunks(std::string& buffer, Request& request);

    bool in_body_ = false;
    bool chunked_ = false;
    std::size_t body_length_ = 0;
    std::size_t scanned_ = 0;  // of the head: bytes known to hold no blank line
};

// Status line and headers, up to and including the blank line. `headers` are whole lines with CRLF.
std::string response_head(int status, std::string_view headers);

// One chunk of a chunked body; "" gives the last one.
std::string body_chunk(std::string_view bytes);

std::string percent_decode(std::string_view text);

}  // namespace mrprompt::fake
