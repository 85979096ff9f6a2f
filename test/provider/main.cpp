// The fake provider: plays OpenAI and Anthropic, quickly, and misbehaves on demand. See README.md.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>

#include "behaviour.hpp"
#include "responder.hpp"
#include "server.hpp"

namespace {

using namespace mrprompt::fake;

constexpr const char* kUsage =
    "usage: fake-provider [--port N] [--log FILE] [--default 'fake?…']\n"
    "                     [--tls-cert FILE --tls-key FILE [--tls-client-ca FILE]]\n";
constexpr int kBacklog = 4096;

struct Options {
    std::uint16_t port = 0;
    std::string log, defaults, tls_cert, tls_key, tls_client_ca;
};

Options read_options(int argc, char** argv) {
    Options options;
    for (int i = 1; i + 1 < argc; i += 2) {
        const std::string name = argv[i], value = argv[i + 1];
        if (name == "--port") {
            const auto [end, error] =
                std::from_chars(value.data(), value.data() + value.size(), options.port);
            if (error != std::errc() || *end) throw std::invalid_argument("--port takes a port number");
        } else if (name == "--log") {
            options.log = value;
        } else if (name == "--default") {
            options.defaults = value;
        } else if (name == "--tls-cert") {
            options.tls_cert = value;
        } else if (name == "--tls-key") {
            options.tls_key = value;
        } else if (name == "--tls-client-ca") {
            options.tls_client_ca = value;
        } else {
            throw std::invalid_argument(kUsage);
        }
    }
    if (argc % 2 == 0 || options.tls_cert.empty() != options.tls_key.empty() ||
        (options.tls_cert.empty() && !options.tls_client_ca.empty()))
        throw std::invalid_argument(kUsage);
    return options;
}

void raise_descriptor_limit() {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
}

[[noreturn]] void fail(const std::string& what) {
    throw std::runtime_error(what + ": " + std::strerror(errno));
}

int listen_on(std::uint16_t port) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) fail("socket");
    const int yes = 1;
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) fail("bind");
    if (::listen(fd, kBacklog) != 0) fail("listen");
    return fd;
}

std::uint16_t port_of(int listener) {
    sockaddr_in address{};
    socklen_t size = sizeof address;
    if (::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) != 0) fail("getsockname");
    return ntohs(address.sin_port);
}

// SIGTERM and SIGINT as a descriptor, so that the loop ends in order.
int stop_descriptor() {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    ::sigprocmask(SIG_BLOCK, &signals, nullptr);
    const int fd = ::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0) fail("signalfd");
    return fd;
}

struct TlsFree {
    void operator()(SSL_CTX* tls) const { SSL_CTX_free(tls); }
};
using Tls = std::unique_ptr<SSL_CTX, TlsFree>;

Tls make_tls(const Options& options) {
    if (options.tls_cert.empty()) return nullptr;
    Tls tls(SSL_CTX_new(TLS_server_method()));
    if (!tls || SSL_CTX_use_certificate_chain_file(tls.get(), options.tls_cert.c_str()) != 1 ||
        SSL_CTX_use_PrivateKey_file(tls.get(), options.tls_key.c_str(), SSL_FILETYPE_PEM) != 1)
        throw std::runtime_error(std::string("TLS: ") + ERR_reason_error_string(ERR_peek_last_error()));
    if (!options.tls_client_ca.empty()) {
        if (SSL_CTX_load_verify_locations(tls.get(), options.tls_client_ca.c_str(), nullptr) != 1)
            throw std::runtime_error(std::string("TLS: ") + ERR_reason_error_string(ERR_peek_last_error()));
        SSL_CTX_set_verify(tls.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
        constexpr unsigned char kContext[] = "fake-provider";  // without one no session is taken up again
        SSL_CTX_set_session_id_context(tls.get(), kContext, sizeof kContext - 1);
    }
    // Buffers only while there is something in them: thousands of connections are idle.
    SSL_CTX_set_mode(tls.get(), SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    return tls;
}

void serve(const Options& options) {
    Behaviour defaults;
    if (!options.defaults.empty()) {
        const auto query = find_query(options.defaults);
        const std::string wrong = query ? defaults.read(*query) : "--default takes fake?…";
        if (!wrong.empty()) throw std::invalid_argument(wrong);
    }
    std::FILE* log = nullptr;
    if (!options.log.empty() && !(log = std::fopen(options.log.c_str(), "ae"))) fail(options.log);
    raise_descriptor_limit();
    ::signal(SIGPIPE, SIG_IGN);
    const int stop = stop_descriptor();
    const Tls tls = make_tls(options);
    const int listener = listen_on(options.port);
    Stats stats;
    Responder responder(std::move(defaults), log, stats);
    Server server(listener, stop, tls.get(), responder, stats);
    std::printf("listening on 127.0.0.1:%u\n", static_cast<unsigned>(port_of(listener)));
    std::fflush(stdout);
    server.run();
}

}  // namespace

int main(int argc, char** argv) {
    try {
        serve(read_options(argc, argv));
    } catch (const std::exception& error) {
        std::fprintf(stderr, "fake-provider: %s\n", error.what());
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
