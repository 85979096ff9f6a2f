// epoll and timerfd behind Reactor.
#include "net/reactor.hpp"

#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <system_error>

namespace mrprompt {

Reactor::Reactor() {
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    timer_ = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (epoll_ < 0 || timer_ < 0) throw std::system_error(errno, std::generic_category(), "epoll or timerfd");
    watch(timer_, EPOLLIN);
}

Reactor::~Reactor() {
    close(timer_);
    close(epoll_);
}

void Reactor::watch(int fd, std::uint32_t events) noexcept {
    epoll_event event{};
    event.events = events;
    event.data.fd = fd;
    if (events == 0) {
        epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, &event);
    } else if (epoll_ctl(epoll_, EPOLL_CTL_MOD, fd, &event) != 0 && errno == ENOENT) {
        epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
    }
}

void Reactor::set_deadline(std::int64_t at_ms) noexcept {
    if (at_ms == armed_) return;
    armed_ = at_ms;
    itimerspec when{};
    if (at_ms != INT64_MAX) {
        when.it_value.tv_sec = at_ms / 1000;
        when.it_value.tv_nsec = at_ms % 1000 * 1'000'000;
        if (at_ms <= 0) when.it_value.tv_nsec = 1;  // zero would disarm it
    }
    timerfd_settime(timer_, TFD_TIMER_ABSTIME, &when, nullptr);
}

void Reactor::poll(const std::function<void(int, std::uint32_t)>& on_event) {
    std::array<epoll_event, 128> events;
    // A few rounds, then the host's other descriptors get their turn.
    for (int round = 0; round < 4; ++round) {
        const int count = epoll_wait(epoll_, events.data(), events.size(), 0);
        for (int i = 0; i < count; ++i) {
            if (events[i].data.fd == timer_) {
                std::uint64_t expirations = 0;
                if (read(timer_, &expirations, sizeof expirations) > 0) armed_ = INT64_MAX;
            } else {
                on_event(events[i].data.fd, events[i].events);
            }
        }
        if (count < static_cast<int>(events.size())) return;
    }
}

}  // namespace mrprompt
