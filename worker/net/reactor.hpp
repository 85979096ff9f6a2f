// One descriptor for many: an epoll set with a timer in it, both readable when there is something to do.
#pragma once
#include <cstdint>
#include <functional>

namespace mrprompt {

// Level-triggered. Not for two threads.
class Reactor {
public:
    Reactor();  // throws std::system_error when the kernel gives no descriptors
    ~Reactor();
    Reactor(const Reactor&) = delete;
    Reactor& operator=(const Reactor&) = delete;

    int fd() const { return epoll_; }  // readable when an event or the deadline has come

    // EPOLLIN, EPOLLOUT, or both; 0 forgets the descriptor.
    void watch(int fd, std::uint32_t events) noexcept;

    // When fd() turns readable by itself; INT64_MAX: never. On the monotonic clock, in milliseconds.
    void set_deadline(std::int64_t at_ms) noexcept;

    // Calls `on_event(fd, epoll events)` for what has happened so far. Never blocks.
    void poll(const std::function<void(int, std::uint32_t)>& on_event);

private:
    int epoll_ = -1;
    int timer_ = -1;
    std::int64_t armed_ = INT64_MAX;
};

}  // namespace mrprompt
