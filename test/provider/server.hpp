// The event loop: accepts, reads requests, plays their scripts. One thread, edge-triggered epoll.
#pragma once
#include <openssl/ssl.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <queue>
#include <vector>

#include "connection.hpp"
#include "responder.hpp"

namespace mrprompt::fake {

class Server {
public:
    // `listener` is a listening, non-blocking socket; `stop` a descriptor that becomes readable when it is
    // time to end. `tls` may be null. Nothing of these is owned.
    Server(int listener, int stop, SSL_CTX* tls, Responder& responder, Stats& stats);
    ~Server();

    void run();

private:
    using Clock = std::chrono::steady_clock;
    struct Timer {
        Clock::time_point due;
        std::uint64_t serial;  // equal times keep their order
        int fd;
        std::uint32_t generation;
        bool operator>(const Timer& other) const {
            return due != other.due ? due > other.due : serial > other.serial;
        }
    };
    enum class Play { kAnswered, kPaused, kGone };

    void accept_all();
    void handle(Connection& connection, std::uint32_t events);
    void advance(Connection& connection);
    bool take_request(Connection& connection);
    Play play(Connection& connection);
    Play finish(Connection& connection);
    void pause(Connection& connection, long ms);
    void close(Connection& connection);
    void run_timers();
    int timeout_ms() const;
    Connection* find(int fd, std::uint32_t generation);

    int listener_, stop_, epoll_;
    SSL_CTX* tls_;
    Responder& responder_;
    Stats& stats_;
    std::vector<std::unique_ptr<Connection>> connections_;  // by descriptor
    std::priority_queue<Timer, std::vector<Timer>, std::greater<>> timers_;
    std::uint32_t generation_ = 0;
    std::uint64_t timer_serial_ = 0;
};

}  // namespace mrprompt::fake
