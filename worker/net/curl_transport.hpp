// The transport over libcurl's multi interface: any number of exchanges behind one descriptor, never
// blocking.
#pragma once
#include <curl/curl.h>

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/ports.hpp"
#include "net/kept_sockets.hpp"
#include "net/reactor.hpp"
#include "net/transfer.hpp"

namespace mrprompt {

// https with verified certificates; plain http only where the URL says so, which the provider's row must
// have allowed. No redirects, no cookies, no
// proxy and no credentials but the request's own.
class CurlTransport final : public Transport {
public:
    // `max_connections`: how many connections are kept open for later requests.
    CurlTransport(const Clock& clock, int max_connections);
    ~CurlTransport() override;
    CurlTransport(const CurlTransport&) = delete;
    CurlTransport& operator=(const CurlTransport&) = delete;

    void start(std::uint64_t transfer, HttpRequest request, std::uint64_t max_body) override;
    void cancel(std::uint64_t transfer) override;
    void pump(TransferSink& sink) override;  // the sink may not call start() or cancel() from inside

    int fd() const { return reactor_.fd(); }  // readable when pump() has something to do, deadlines included

private:
    friend struct CurlCallbacks;
    using Table = std::unordered_map<std::uint64_t, std::unique_ptr<Transfer>>;
    struct Refusal {
        std::uint64_t transfer;
        std::string message;
    };

    void admit(Origin& origin);
    void leave(Transfer& transfer);
    CURL* take_handle();
    void give_back(Transfer& transfer);
    void arm(Transfer& transfer);
    void enter(Transfer& transfer, Transfer::Stage stage);
    void collect();
    void connect_afresh(Transfer& transfer);
    void expire();
    void end(Table::iterator place, TransferEnd how, const std::string& message);
    void set_deadline();

    const Clock& clock_;
    Reactor reactor_;
    KeptSockets sockets_;
    CURLM* multi_ = nullptr;
    Table transfers_;
    std::unordered_map<std::string, Origin> origins_;
    std::vector<Origin*> admitting_;  // may open more connections, after the callbacks
    std::vector<CURL*> idle_handles_;
    std::set<std::pair<std::int64_t, std::uint64_t>> timers_;  // one entry per transfer
    std::vector<Refusal> refused_;                             // told at the next pump
    std::int64_t curl_at_ = INT64_MAX;                         // when curl wants to be called
    TransferSink* sink_ = nullptr;                             // during pump
};

}  // namespace mrprompt
