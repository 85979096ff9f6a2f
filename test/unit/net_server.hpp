// A small HTTP server on a thread, for the transport's tests: the path of a request says how it is answered.
#pragma once
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <map>
#include <string>
#include <thread>
#include <vector>

namespace mrprompt::test {

class LoopbackServer {
public:
    LoopbackServer() {
        listener_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address);
        listen(listener_, 4096);
        socklen_t length = sizeof address;
        getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length);
        port_ = ntohs(address.sin_port);
        stop_ = eventfd(0, EFD_CLOEXEC);
        thread_ = std::thread([this] { run(); });
    }
    ~LoopbackServer() {
        const std::uint64_t one = 1;
        (void)!write(stop_, &one, sizeof one);
        thread_.join();
        for (auto& [fd, peer] : peers_) close(fd);
        close(listener_);
        close(stop_);
    }
    std::string url(const std::string& path) const {
        return "http://127.0.0.1:" + std::to_string(port_) + path;
    }
    int port() const { return port_; }

    std::atomic<int> connections{0};
    std::atomic<int> requests{0};
    std::atomic<int> pieces{0};    // of answers, that have gone out
    std::atomic<int> hang_ups{0};  // peers that closed before their answer was whole
    std::string last_request() const { return last_request_; }  // once the server is quiet

private:
    using Time = std::chrono::steady_clock::time_point;
    struct Piece {
        Time at;
        std::string bytes;
        char then = ' ';  // 'c': close, 'r': reset
    };
    struct Peer {
        std::string in;
        std::vector<Piece> out;
    };

    static std::string whole(const std::string& body, const std::string& more = "") {
        return "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + more +
               "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
    }
    static std::string chunk(const std::string& text) {
        char size[16];
        snprintf(size, sizeof size, "%zx\r\n", text.size());
        return size + text + "\r\n";
    }

    void answer(Peer& peer, const std::string& path) {
        const Time now = std::chrono::steady_clock::now();
        const auto later = [&](int ms) { return now + std::chrono::milliseconds(ms); };
        const std::string head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Request-ID: r-7\r\n\r\n";
        if (path == "/chunked") {
            peer.out.push_back({now, head});
            for (int i = 0; i < 3; ++i)
                peer.out.push_back({later(10 * i), chunk("piece" + std::to_string(i) + ";")});
            peer.out.push_back({later(30), "0\r\n\r\n"});
        } else if (path == "/later") {
            peer.out.push_back({later(300), whole("late")});
        } else if (path == "/silent") {
            peer.out.push_back({later(60'000), ""});
        } else if (path == "/stall") {
            peer.out.push_back({now, head + chunk("start")});
            peer.out.push_back({later(60'000), ""});
        } else if (path == "/drip") {
            peer.out.push_back({now, head});
            for (int i = 0; i < 500; ++i) peer.out.push_back({later(20 * i), chunk("x")});
        } else if (path == "/reset") {
            peer.out.push_back({now, head + chunk("start"), 'r'});
        } else if (path == "/cut") {
            peer.out.push_back({now, head + chunk("start"), 'c'});
        } else if (path == "/hang-up") {
            peer.out.push_back({now, "", 'c'});
        } else if (path == "/big") {
            peer.out.push_back({now, whole(std::string(1 << 20, 'b'))});
        } else if (path == "/interim") {
            peer.out.push_back({now, "HTTP/1.1 103 Early Hints\r\nX-Early: yes\r\n\r\n"});
            peer.out.push_back({later(20), whole("final", "X-Late: yes\r\n")});
        } else if (path == "/redirect") {
            peer.out.push_back({now, "HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Length: 0\r\n\r\n"});
        } else if (path == "/many-headers" || path == "/long-header" || path == "/interim-storm") {
            std::string flood;
            for (int i = 0; i < 20'000; ++i) {
                flood += path == "/many-headers"  ? "X-Many: 1\r\n"
                         : path == "/long-header" ? "xxxxxxxxxx"
                                                  : "HTTP/1.1 103 Early Hints\r\n\r\n";
            }
            const std::string begin = path == "/interim-storm" ? "" : "HTTP/1.1 200 OK\r\nX-Long: ";
            peer.out.push_back({now, begin + flood + (begin.empty() ? "" : "\r\n") + whole("late")});
        } else if (path == "/trailers") {
            std::string trailers;
            for (int i = 0; i < 20'000; ++i) trailers += "X-Many: 1\r\n";
            peer.out.push_back({now, head + chunk("start") + "0\r\n" + trailers + "\r\n"});
        } else if (path == "/two-lengths") {
            peer.out.push_back({now, whole("two", "Content-Length: 900\r\n")});
        } else if (path == "/same-lengths") {
            peer.out.push_back({now, whole("one", "Content-Length: 3\r\n")});
        } else if (path == "/listed-lengths") {
            peer.out.push_back({now, "HTTP/1.1 200 OK\r\nContent-Length: 3, 5\r\n\r\nabcde", 'c'});
        } else if (path == "/bad-chunk") {
            peer.out.push_back({now, head + "xyz\r\nstart\r\n"});
        } else if (path == "/no-http") {
            peer.out.push_back({now, "SSH-2.0-OpenSSH_9.2\r\n", 'c'});
        } else if (path == "/switch") {
            peer.out.push_back({now, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"});
        } else if (path == "/twice") {
            peer.out.push_back({now, whole("{\"ok\":true}") + whole("smuggled")});
        } else if (path == "/more-later") {
            peer.out.push_back({now, whole("{\"ok\":true}")});
            peer.out.push_back({later(20), whole("smuggled")});
        } else if (path == "/throttled") {
            peer.out.push_back(
                {now, "HTTP/1.1 429 Too Many\r\nRetry-After: 3\r\nContent-Length: 2\r\n\r\n{}"});
        } else {
            peer.out.push_back({now, whole("{\"ok\":true}")});
        }
    }

    void take(Peer& peer) {
        if (peer.in.starts_with('\x16')) {  // a TLS handshake, and this server speaks none
            peer.in.clear();
            peer.out.push_back({std::chrono::steady_clock::now(), "HTTP/1.1 400 Bad Request\r\n\r\n", 'c'});
        }
        for (;;) {
            const std::size_t end = peer.in.find("\r\n\r\n");
            if (end == std::string::npos) return;
            const std::size_t mark = peer.in.find("Content-Length: ");
            const std::size_t size = mark < end ? std::stoul(peer.in.substr(mark + 16)) : 0;
            if (peer.in.size() < end + 4 + size) return;
            last_request_ = peer.in.substr(0, end + 4 + size);
            const std::string path = peer.in.substr(5, peer.in.find(' ', 5) - 5);
            peer.in.erase(0, end + 4 + size);
            ++requests;
            answer(peer, path);
        }
    }

    // False when the connection is over.
    bool serve(int fd, Peer& peer, short events) {
        char buffer[16384];
        if (events & (POLLIN | POLLHUP | POLLERR)) {
            const ssize_t got = read(fd, buffer, sizeof buffer);
            if (got <= 0) {
                if (!peer.out.empty()) ++hang_ups;
                return false;
            }
            peer.in.append(buffer, static_cast<std::size_t>(got));
            take(peer);
        }
        while (!peer.out.empty() && peer.out.front().at <= std::chrono::steady_clock::now()) {
            Piece& piece = peer.out.front();
            const ssize_t sent =
                send(fd, piece.bytes.data(), piece.bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
            if (sent < 0) return errno == EAGAIN;
            piece.bytes.erase(0, static_cast<std::size_t>(sent));
            if (!piece.bytes.empty()) return true;
            if (piece.then == 'r') {
                const linger hard{1, 0};
                setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
            }
            if (piece.then != ' ') return false;
            peer.out.erase(peer.out.begin());
            ++pieces;
        }
        return true;
    }

    void run() {
        for (;;) {
            std::vector<pollfd> fds{{stop_, POLLIN, 0}, {listener_, POLLIN, 0}};
            for (auto& [fd, peer] : peers_) fds.push_back({fd, POLLIN, 0});
            poll(fds.data(), fds.size(), 2);
            if (fds[0].revents) return;
            for (std::size_t i = 2; i < fds.size(); ++i) {
                auto place = peers_.find(fds[i].fd);
                if (serve(place->first, place->second, fds[i].revents)) continue;
                close(place->first);
                peers_.erase(place);
            }
            for (int fd; fds[1].revents && (fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK)) >= 0;) {
                const int at_once = 1;
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof at_once);
                ++connections;
                peers_[fd];
            }
        }
    }

    int listener_ = -1, stop_ = -1, port_ = 0;
    std::string last_request_;
    std::map<int, Peer> peers_;
    std::thread thread_;
};

}  // namespace mrprompt::test
