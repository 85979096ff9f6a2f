// The event loop of the fake provider.
#include "server.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace mrprompt::fake {
namespace {

constexpr int kEventsAtOnce = 256;

void watch(int epoll, int fd, std::uint32_t events, std::uint32_t generation) {
    epoll_event event{};
    event.events = events;
    event.data.u64 = std::uint64_t{generation} << 32 | static_cast<std::uint32_t>(fd);
    if (::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        throw std::system_error(errno, std::generic_category(), "epoll_ctl");
}

}  // namespace

Server::Server(int listener, int stop, SSL_CTX* tls, Responder& responder, Stats& stats)
    : listener_(listener),
      stop_(stop),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)),
      tls_(tls),
      responder_(responder),
      stats_(stats) {
    if (epoll_ < 0) throw std::system_error(errno, std::generic_category(), "epoll_create1");
    watch(epoll_, listener_, EPOLLIN, 0);
    watch(epoll_, stop_, EPOLLIN, 0);
}

Server::~Server() {
    ::close(epoll_);
}

void Server::run() {
    epoll_event events[kEventsAtOnce];
    for (;;) {
        const int count = ::epoll_wait(epoll_, events, kEventsAtOnce, timeout_ms());
        if (count < 0 && errno != EINTR)
            throw std::system_error(errno, std::generic_category(), "epoll_wait");
        for (int i = 0; i < count; ++i) {
            const int fd = static_cast<int>(events[i].data.u64 & 0xFFFFFFFF);
            if (fd == stop_) return;
            if (fd == listener_)
                accept_all();
            else if (Connection* connection = find(fd, static_cast<std::uint32_t>(events[i].data.u64 >> 32)))
                handle(*connection, events[i].events);
        }
        run_timers();
    }
}

Connection* Server::find(int fd, std::uint32_t generation) {
    if (static_cast<std::size_t>(fd) >= connections_.size() || !connections_[fd]) return nullptr;
    return connections_[fd]->generation == generation ? connections_[fd].get() : nullptr;
}

void Server::accept_all() {
    for (;;) {
        const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        const int yes = 1;
        ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        if (static_cast<std::size_t>(fd) >= connections_.size()) connections_.resize(fd + 1);
        connections_[fd] = std::make_unique<Connection>(fd, ++generation_, tls_);
        watch(epoll_, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, generation_);
        ++stats_.accepted;
        stats_.max_connections = std::max(stats_.max_connections, ++stats_.connections);
    }
}

// Edge-triggered: reads all there is. Who left does not read: a request that came with the FIN, or is
// still being answered, is dropped.
void Server::handle(Connection& connection, std::uint32_t events) {
    const bool left = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
    if (left || connection.receive() == Connection::Io::kClosed) return close(connection);
    if (!connection.paused) advance(connection);
}

// Goes on as far as it gets: with the answer, then with the next request.
void Server::advance(Connection& connection) {
    for (;;) {
        if (!connection.answering && !take_request(connection)) return;
        if (connection.answering && play(connection) != Play::kAnswered) return;
    }
}

// Answers false when there is nothing to do for now, or no connection any more.
bool Server::take_request(Connection& connection) {
    if (connection.in.empty()) return false;
    switch (connection.parser.next(connection.in, connection.request)) {
        case RequestParser::State::kNeedMore:
            return false;
        case RequestParser::State::kContinue: {
            constexpr std::string_view kGoOn = "HTTP/1.1 100 Continue\r\n\r\n";
            std::size_t sent = 0;
            if (connection.send(kGoOn, &sent) != Connection::Io::kDone) return close(connection), false;
            return true;
        }
        case RequestParser::State::kBad:
            return close(connection), false;
        case RequestParser::State::kComplete:
            break;
    }
    const bool counts = connection.request.method == "POST";
    connection.script = responder_.respond(connection.request);
    connection.close_when_done = !connection.request.keep_alive;
    connection.step = 0;
    connection.waited = false;
    connection.out.clear();
    connection.out_sent = 0;
    connection.answering = true;
    connection.request.body = {};
    if (counts) {
        ++stats_.by_status[connection.script.status];
        stats_.max_in_flight = std::max(stats_.max_in_flight, ++stats_.in_flight);
    }
    return true;
}

Server::Play Server::play(Connection& connection) {
    Script& script = connection.script;
    for (;;) {
        if (connection.out_sent < connection.out.size()) {
            std::string_view bytes = connection.out;
            if (script.drip_ms) bytes = bytes.substr(0, connection.out_sent + 1);
            switch (connection.send(bytes, &connection.out_sent)) {
                case Connection::Io::kBlocked:
                    return Play::kPaused;
                case Connection::Io::kClosed:
                    return close(connection), Play::kGone;
                case Connection::Io::kDone:
                    break;
            }
            if (script.drip_ms) return pause(connection, *script.drip_ms), Play::kPaused;
            continue;
        }
        if (connection.step == script.steps.size()) return finish(connection);
        Script::Step& step = script.steps[connection.step];
        // What is repeated pauses even without a wait: the others get their turn.
        if ((step.wait_ms > 0 || step.times != 1) && !connection.waited) {
            connection.waited = true;
            return pause(connection, step.wait_ms), Play::kPaused;
        }
        connection.out_sent = 0;
        connection.waited = false;
        if (step.times == 1) {
            connection.out = std::move(step.bytes);
            ++connection.step;
        } else {
            connection.out = step.bytes;
            if (step.times != Script::kForever) --step.times;
        }
    }
}

Server::Play Server::finish(Connection& connection) {
    const Script::End end = connection.script.end;
    if (end == Script::End::kHang) return Play::kPaused;
    connection.answering = false;
    connection.script = {};
    connection.out = {};
    if (connection.request.method == "POST") --stats_.in_flight;
    if (end == Script::End::kReset) connection.reset_on_close();
    if (end == Script::End::kKeep && !connection.close_when_done) return Play::kAnswered;
    return close(connection), Play::kGone;
}

void Server::pause(Connection& connection, long ms) {
    connection.paused = true;
    timers_.push({Clock::now() + std::chrono::milliseconds(ms), ++timer_serial_, connection.fd,
                  connection.generation});
}

void Server::close(Connection& connection) {
    if (connection.answering && connection.request.method == "POST") {
        --stats_.in_flight;
        ++stats_.disconnects;
    }
    --stats_.connections;
    connections_[connection.fd].reset();
}

void Server::run_timers() {
    const Clock::time_point now = Clock::now();
    while (!timers_.empty() && timers_.top().due <= now) {
        const Timer timer = timers_.top();
        timers_.pop();
        if (Connection* connection = find(timer.fd, timer.generation)) {
            connection->paused = false;
            advance(*connection);
        }
    }
}

int Server::timeout_ms() const {
    if (timers_.empty()) return -1;
    const auto left = timers_.top().due - Clock::now();
    if (left <= Clock::duration::zero()) return 0;
    return static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(left).count());
}

}  // namespace mrprompt::fake
