// One client: a non-blocking socket, with or without TLS, and the answer it is being given.
#pragma once
#include <openssl/ssl.h>

#include <cstdint>
#include <memory>
#include <string>

#include "http.hpp"
#include "script.hpp"

namespace mrprompt::fake {

struct SslFree {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
};

class Connection {
public:
    enum class Io { kDone, kBlocked, kClosed };

    // Owns `fd`. `tls` may be null.
    Connection(int fd, std::uint32_t generation, SSL_CTX* tls);
    ~Connection();
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    // Appends all that has arrived to `in`.
    Io receive();

    // Sends of `bytes` from `*sent` on, and moves that.
    Io send(std::string_view bytes, std::size_t* sent);

    // Makes the destructor close with RST instead of FIN.
    void reset_on_close();

    const int fd;
    const std::uint32_t generation;  // tells this connection from an earlier one of the same descriptor

    std::string in;
    RequestParser parser;
    Request request;

    bool answering = false;
    Script script;
    std::size_t step = 0;      // of the script: what is sent, or waited for, next
    bool waited = false;       // for the pause before that step
    bool paused = false;       // a timer will go on
    std::string out;           // being sent,
    std::size_t out_sent = 0;  // so far
    bool close_when_done = false;

private:
    std::unique_ptr<SSL, SslFree> ssl_;
};

}  // namespace mrprompt::fake
