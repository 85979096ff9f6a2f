// Reads and writes of one client's socket, with or without TLS.
#include "connection.hpp"

#include <openssl/err.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <new>

namespace mrprompt::fake {
namespace {

constexpr std::size_t kReadSize = 64 << 10;

Connection::Io of_errno() {
    return errno == EAGAIN || errno == EWOULDBLOCK ? Connection::Io::kBlocked : Connection::Io::kClosed;
}

Connection::Io of_ssl(SSL* ssl, int result) {
    const int error = SSL_get_error(ssl, result);
    ERR_clear_error();
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? Connection::Io::kBlocked
                                                                         : Connection::Io::kClosed;
}

}  // namespace

Connection::Connection(int socket, std::uint32_t serial, SSL_CTX* tls) : fd(socket), generation(serial) {
    if (!tls) return;
    ssl_.reset(SSL_new(tls));
    if (!ssl_ || SSL_set_fd(ssl_.get(), fd) != 1) throw std::bad_alloc();
    SSL_set_accept_state(ssl_.get());
}

Connection::~Connection() {
    ::close(fd);
}

Connection::Io Connection::receive() {
    static char buffer[kReadSize];
    for (;;) {
        if (ssl_) {
            const int got = SSL_read(ssl_.get(), buffer, sizeof buffer);
            if (got <= 0) return of_ssl(ssl_.get(), got);
            in.append(buffer, got);
        } else {
            const ssize_t got = ::recv(fd, buffer, sizeof buffer, 0);
            if (got == 0) return Io::kClosed;
            if (got < 0) {
                if (errno == EINTR) continue;
                return of_errno();
            }
            in.append(buffer, got);
            if (static_cast<std::size_t>(got) < sizeof buffer) return Io::kDone;
        }
    }
}

Connection::Io Connection::send(std::string_view bytes, std::size_t* sent) {
    while (*sent < bytes.size()) {
        const std::size_t left = bytes.size() - *sent;
        if (ssl_) {
            const int put = SSL_write(ssl_.get(), bytes.data() + *sent,
                                      static_cast<int>(std::min<std::size_t>(left, INT_MAX)));
            if (put <= 0) return of_ssl(ssl_.get(), put);
            *sent += put;
        } else {
            const ssize_t put = ::send(fd, bytes.data() + *sent, left, MSG_NOSIGNAL);
            if (put < 0) {
                if (errno == EINTR) continue;
                return of_errno();
            }
            *sent += put;
        }
    }
    return Io::kDone;
}

void Connection::reset_on_close() {
    const linger now = {.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

}  // namespace mrprompt::fake
