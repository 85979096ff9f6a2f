// What the supervisor sleeps on: its latch, its children's sockets, the postmaster's life.
#pragma once
#include <memory>
#include <vector>

#include "pg/child.hpp"
#include "pg/prelude.hpp"

namespace mrprompt {

class WaitSet {
public:
    WaitSet() = default;
    ~WaitSet();
    WaitSet(const WaitSet&) = delete;
    WaitSet& operator=(const WaitSet&) = delete;

    // Watches the children that are open: for input, or for room where output waits. `generation` tells
    // whether the set is another than last time.
    void watch(const std::vector<std::unique_ptr<Child>>& children, int generation);

    // Sleeps until something happens or the time is up, then deals with interrupts; whether the settings were
    // loaded anew. Throws pg::PgError when cancelled; does not return when the postmaster is gone.
    bool wait(std::int64_t timeout_ms);

private:
    WaitEventSet* set_ = nullptr;
    int generation_ = 0;
    std::size_t open_ = 0;
};

}  // namespace mrprompt
