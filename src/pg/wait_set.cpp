// A lasting WaitEventSet, made anew when a child comes or goes.
#include "pg/wait_set.hpp"

#include <algorithm>

#include "pg/boundary.hpp"
#include "pg/shared_state.hpp"

namespace mrprompt {
namespace {

constexpr int kFixedEvents = 2;

WaitEventSet* make_set(int events) {
#if PG_VERSION_NUM >= 170000
    WaitEventSet* set = CreateWaitEventSet(nullptr, events);
#else
    WaitEventSet* set = CreateWaitEventSet(TopMemoryContext, events);
#endif
    AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, nullptr);
    AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, nullptr, nullptr);
    return set;
}

uint32 interest(const Child& child) {
    return child.has_output() ? WL_SOCKET_WRITEABLE : WL_SOCKET_READABLE;
}

}  // namespace

WaitSet::~WaitSet() {
    if (set_ != nullptr) FreeWaitEventSet(set_);  // does not raise
}

void WaitSet::watch(const std::vector<std::unique_ptr<Child>>& children, int generation) {
    std::size_t const open =
        std::count_if(children.begin(), children.end(), [](const auto& child) { return child->open(); });
    bool const anew = set_ == nullptr || generation != generation_ || open != open_;
    pg::call([&] {
        if (anew) {
            if (set_ != nullptr) FreeWaitEventSet(set_);
            set_ = nullptr;
            set_ = make_set(static_cast<int>(open) + kFixedEvents);
        }
        int position = kFixedEvents;
        for (const auto& child : children) {
            if (!child->open()) continue;
            if (anew)
                AddWaitEventToSet(set_, interest(*child), child->socket(), nullptr, nullptr);
            else
                ModifyWaitEvent(set_, position, interest(*child), nullptr);
            ++position;
        }
    });
    generation_ = generation;
    open_ = open;
}

bool WaitSet::wait(std::int64_t timeout_ms) {
    return pg::call([&] {
        WaitEvent event;
        WaitEventSetWait(set_, static_cast<long>(timeout_ms), &event, 1, idle_wait_event());
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
        if (!ConfigReloadPending) return false;
        ConfigReloadPending = false;
        ProcessConfigFile(PGC_SIGHUP);
        return true;
    });
}

}  // namespace mrprompt
