// One HTTP exchange on a curl handle: its request, its phase time-outs, and the head of its response.
#pragma once
#include <curl/curl.h>

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/ports.hpp"

namespace mrprompt {

class CurlTransport;

// One scheme, host and port, and who waits to open connections to it.
struct Origin {
    int connecting = 0;
    std::int64_t connected_at = INT64_MIN / 2;  // when one of them last got through
    std::deque<std::uint64_t> queue;            // transfers; may name the dead
};

// A header list that wipes itself: one of its lines is the provider's key.
class HeaderList {
public:
    HeaderList() = default;
    HeaderList(const HeaderList&) = delete;
    HeaderList& operator=(const HeaderList&) = delete;
    ~HeaderList();
    void add(const std::string& line);
    curl_slist* get() const { return list_; }

private:
    curl_slist* list_ = nullptr;
};

// Times are on the monotonic clock, in milliseconds.
struct Transfer {
    enum class Stage { queued, connecting, waiting, body };

    std::uint64_t id = 0;
    CurlTransport* owner = nullptr;
    Origin* origin = nullptr;
    CURL* easy = nullptr;  // from stage connecting on
    HttpRequest request;
    HeaderList headers;
    std::uint64_t max_body = 0;
    std::uint64_t received = 0;

    Stage stage = Stage::queued;
    bool head_done = false;
    std::string refused_address;      // one that it may not connect to, and what kind it is
    bool certificate_wanted = false;  // the server asked for a client certificate
    std::vector<int> opened;          // sockets, for a connection of its own
    bool address_tried = false;       // another one was allowed
    bool unfit_connection =
        false;                     // it was given a kept one to such an address, or with bytes waiting on it,
    bool connects_afresh = false;  // and takes no kept one any more
    struct Fault {
        TransferEnd how;
        std::string message;
    };
    std::optional<Fault> fault;  // why a callback gave it up: then curl's own words say nothing
    std::int64_t started_at = 0;
    std::int64_t stage_at = 0;  // when the stage began, or the last bytes came
    std::int64_t timer_at = 0;  // where it stands in the transport's timers

    Headers response_headers;      // until the head is whole
    std::size_t header_bytes = 0;  // of all heads, interim ones and trailers too
    char error[CURL_ERROR_SIZE] = "";

    std::int64_t deadline() const;                // of its stage or of the whole, whichever is first
    TransferEnd timeout(std::int64_t now) const;  // which time-out that is
};

}  // namespace mrprompt
