// As much of a PostgreSQL server as libpq needs to connect: one peer, turned by hand, silent when it is told
// to be.
#pragma once
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace mrprompt::test {

class PqServer {
public:
    // `version`: what it says of itself ("17.2").
    explicit PqServer(std::string version) : version_(std::move(version)) {
        listener_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address);
        listen(listener_, 16);
        socklen_t length = sizeof address;
        getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length);
        dsn_ = "host=127.0.0.1 port=" + std::to_string(ntohs(address.sin_port)) +
               " dbname=app user=u sslmode=disable gssencmode=disable";
    }
    ~PqServer() {
        if (peer_ >= 0) close(peer_);
        close(listener_);
    }
    PqServer(const PqServer&) = delete;
    PqServer& operator=(const PqServer&) = delete;

    const std::string& dsn() const { return dsn_; }

    // Takes what has come, and answers it.
    void pump() {
        const int fresh = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fresh >= 0) {
            if (peer_ >= 0) close(peer_);
            peer_ = fresh;
            started_ = false;
            input_.clear();
            ++connections;
        }
        char bytes[4096];
        for (ssize_t count = 0; peer_ >= 0 && (count = recv(peer_, bytes, sizeof bytes, 0)) > 0;)
            input_.append(bytes, static_cast<std::size_t>(count));
        while (take_message()) {
        }
    }

    void notify() { send_bytes(message('A', number(1) + text("c") + text(""))); }

    bool silent = false;  // takes calls, and answers none; statements without arguments still work
    int connections = 0;
    std::vector<std::string> queries;  // without arguments
    std::vector<std::string> calls;    // with

private:
    static std::string number(std::uint32_t value) {
        value = htonl(value);
        return {reinterpret_cast<const char*>(&value), sizeof value};
    }
    static std::string text(const std::string& value) { return value + '\0'; }
    static std::string message(char kind, const std::string& payload) {
        return kind + number(static_cast<std::uint32_t>(payload.size()) + 4) + payload;
    }
    void send_bytes(const std::string& bytes) {
        (void)!send(peer_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    }

    bool take_message() {
        const std::size_t head = started_ ? 1 : 0;
        if (input_.size() < head + 4) return false;
        std::uint32_t length = 0;
        input_.copy(reinterpret_cast<char*>(&length), sizeof length, head);
        length = ntohl(length);
        if (input_.size() < head + length) return false;
        const char kind = input_[0];
        const std::string payload = input_.substr(head + 4, length - 4);
        input_.erase(0, head + length);
        if (!started_) {
            started_ = true;
            send_bytes(message('R', number(0)) + message('S', text("server_version") + text(version_)) +
                       message('S', text("client_encoding") + text("UTF8")) + message('Z', "I"));
        } else if (kind == 'Q') {
            queries.emplace_back(payload.c_str());
            send_bytes(message('C', text("SET")) + message('Z', "I"));
        } else if (kind == 'P') {
            calls.emplace_back(payload.c_str() + 1);  // after the empty name of the statement
        } else if (kind == 'S' && !silent) {
            const std::string body = "{}";
            const std::string column = text("body") + number(0) + std::string("\0\0", 2) + number(114) +
                                       std::string("\xff\xff", 2) + number(0xffffffff) +
                                       std::string("\0\0", 2);
            send_bytes(message('1', "") + message('2', "") + message('T', std::string("\0\1", 2) + column) +
                       message('D', std::string("\0\1", 2) + number(2) + body) +
                       message('C', text("SELECT 1")) + message('Z', "I"));
        }
        return true;
    }

    std::string version_;
    std::string dsn_;
    std::string input_;
    int listener_ = -1;
    int peer_ = -1;
    bool started_ = false;
};

}  // namespace mrprompt::test
