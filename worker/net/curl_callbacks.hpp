// What libcurl calls, and what it is told about each exchange. Nothing here throws through curl's frames.
#pragma once
#include <curl/curl.h>
#include <openssl/types.h>

#include "net/kept_sockets.hpp"
#include "net/transfer.hpp"

namespace mrprompt {

// A handle with all that is the same for every request. Throws std::bad_alloc.
CURL* new_handle();

// Puts the transfer's request on its handle; the transfer must outlive its stay in the multi handle.
void prepare_request(Transfer& transfer);

// Leaves nothing of the request on the handle, so that it can serve another one.
void forget_request(Transfer& transfer);

struct CurlCallbacks {
    static void attach(CURLM* multi, CurlTransport& transport);

    static int on_socket(CURL*, curl_socket_t fd, int what, void* transport, void*) noexcept;
    static int on_timer(CURLM*, long after_ms, void* transport) noexcept;
    static CURLcode on_tls_context(CURL*, void* context, void* transfer) noexcept;
    static int on_certificate_wanted(SSL* tls, void*) noexcept;
    static curl_socket_t on_open(void* transfer, curlsocktype, curl_sockaddr* address) noexcept;
    static int on_request(void* transfer, char* peer, char* local, int peer_port, int local_port) noexcept;
    static std::size_t on_header(char* bytes, std::size_t, std::size_t count, void* transfer) noexcept;
    static std::size_t on_body(char* bytes, std::size_t, std::size_t count, void* transfer) noexcept;

private:
    static Transfer* opener_of(const SSL* tls);
    static bool has_stray_bytes(Transfer& transfer, const Ends& ends);
};

}  // namespace mrprompt
