// The supervisor's main loop: wait, relay what the fetchers ask, keep house, start and bury fetchers, leave.
#include "pg/supervisor.hpp"

#include <algorithm>
#include <limits>

#include "pg/attachment.hpp"
#include "pg/children.hpp"
#include "pg/housekeeping.hpp"
#include "pg/relay.hpp"
#include "pg/session.hpp"
#include "pg/settings.hpp"
#include "pg/wait_set.hpp"
#include "pg/wake.hpp"

namespace mrprompt {
namespace {

using housekeeping::Outcome;

constexpr std::int64_t kStateEveryMs = 1000;
constexpr std::int64_t kTendEveryMs = 5000;
constexpr std::int64_t kTendAgainMs = 100;    // while there is more to do than one call may
constexpr std::int64_t kNotifyEveryMs = 20;   // to clients, of changed requests
constexpr std::int64_t kNotifyAfterMs = 2;    // who waits in a session goes first
constexpr std::int64_t kAnnounceEveryMs = 5;  // to fetchers elsewhere, of new work
constexpr std::int64_t kRetryMs = 1000;
constexpr std::int64_t kHeldUpMs =
    5000;  // when a turn took so much longer than a sleep, silence says nothing
constexpr std::int64_t kIdleAfterProbeMs = 5000;  // who never found work need not linger
constexpr std::int64_t kStopPatienceMs = 500;

enum class Leave { no, idle, asked, blocked, extension_missing };

class Supervisor {
public:
    // Until there is a reason to leave; the slot is given up and no child lives when it returns.
    void run();

private:
    void turn();
    void sleep();
    std::int64_t deadline() const;
    void serve_children();
    void serve(Child& child);
    void notice_wake();
    void keep_house();
    void look_for_work();
    void clear_up();
    void settle_outcome(Outcome outcome);
    bool all_clear() const { return cleared_up_ && children_.gone.empty(); }
    bool main_wanted() const { return settings::local_fetcher && state_.has_work && cleared_up_; }
    // How long it stays without work.
    std::int64_t patience() const {
        if (attachment::slot_needed_elsewhere()) return 0;
        return had_work_ ? settings::idle_timeout_ms
                         : std::min<std::int64_t>(kIdleAfterProbeMs, settings::idle_timeout_ms);
    }
    Leave reason() const;
    bool leave(Leave why);

    Children children_;
    WaitSet wait_set_;
    housekeeping::State state_;
    bool cleared_up_ = false;  // after an earlier supervisor; no child starts before
    bool had_work_ = false;
    bool extension_gone_ = false;
    bool announce_ = true;  // fetchers elsewhere are to be told of new work
    std::int64_t now_ = monotonic_ms();
    std::int64_t heard_out_at_ = now_;  // when the children were last read
    std::int64_t busy_at_ = now_;       // when there last was work, or news of some
    std::int64_t state_due_ = now_;
    std::int64_t tend_due_ = now_;
    std::int64_t notify_due_ = now_;
    std::int64_t announce_due_ = now_;
    std::int64_t clear_up_due_ = now_;
};

void Supervisor::run() {
    extension_gone_ = !session::extension_present();
    for (;;) {
        Leave const why = reason();
        if (why != Leave::no && leave(why)) return;
        try {
            turn();
        } catch (const pg::PgError& error) {
            if (error.data->sqlerrcode != ERRCODE_QUERY_CANCELED)
                throw;  // pg_cancel_backend() ends no supervisor
        }
    }
}

void Supervisor::turn() {
    MemoryContextReset(session::turn_memory());
    sleep();
    notice_wake();
    serve_children();
    if (reason() != Leave::no) return;
    now_ = monotonic_ms();
    if (now_ - heard_out_at_ > kTendEveryMs + kHeldUpMs) children_.excuse_silence(now_);
    heard_out_at_ = now_;
    children_.watch(now_);
    keep_house();
    if (cleared_up_) children_.start(main_wanted(), std::exchange(state_.alone_waiting, 0), now_);
    if (!settings::local_fetcher) children_.stop_main();
}

void Supervisor::sleep() {
    std::int64_t const left = std::clamp<std::int64_t>(deadline() - monotonic_ms(), 0, kTendEveryMs);
    wait_set_.watch(children_.all(), children_.generation());
    if (wait_set_.wait(left)) children_.try_at_once();
    now_ = monotonic_ms();
}

std::int64_t Supervisor::deadline() const {
    std::int64_t due = std::min(tend_due_, children_.deadline(main_wanted()));
    if (!all_clear()) due = std::min(due, clear_up_due_);
    if (state_.has_work)
        due = std::min(due, state_due_);
    else if (all_clear())
        due = std::min(due, busy_at_ + patience());
    if (changes_noted()) due = std::min(due, notify_due_);
    if (announce_) due = std::min(due, announce_due_);
    return due;
}

void Supervisor::notice_wake() {
    if (!attachment::take_wanted()) return;
    busy_at_ = now_;
    announce_ = true;
    if (!state_.has_work) state_due_ = now_;
    Child* fetcher = children_.main();
    if (fetcher == nullptr || fetcher->fetcher.empty() || fetcher->wake_under_way) return;
    fetcher->wake_under_way = fetcher->send(FrameKind::wake, {});
}

void Supervisor::serve_children() {
    bool const noted = changes_noted();
    for (const auto& child : children_.all()) {
        child->flush();
        // Who does not take its answer is not heard: at most one reply ever waits in memory.
        if (child->has_output()) continue;
        child->receive();
        serve(*child);
        if (extension_gone_) return;
    }
    if (!noted && changes_noted()) notify_due_ = std::max(notify_due_, monotonic_ms() + kNotifyAfterMs);
}

void Supervisor::serve(Child& child) {
    while (!child.has_output() || !child.open()) {
        std::optional<Frame> const frame = child.next_frame();
        if (!frame) return;
        if (!is_call(frame->kind)) {
            child.condemn();
            return;
        }
        // Cancels travel with claims and heartbeats: either has looked.
        if (frame->kind == FrameKind::claim || frame->kind == FrameKind::heartbeat)
            child.wake_under_way = false;
        extension_gone_ = !relay(child, *frame);
        if (extension_gone_) return;
    }
}

void Supervisor::settle_outcome(Outcome outcome) {
    if (outcome == Outcome::extension_missing) extension_gone_ = true;
}

void Supervisor::keep_house() {
    clear_up();
    if (changes_noted() && now_ >= notify_due_) {
        settle_outcome(housekeeping::notify_changes());
        notify_due_ = now_ + kNotifyEveryMs;
    }
    if (now_ >= tend_due_) {
        bool more = false;
        settle_outcome(housekeeping::tend(&more));
        // The extension may be gone without a call to notice it, or the database have become a template.
        if (!session::extension_present()) extension_gone_ = true;
        tend_due_ = now_ + (more ? kTendAgainMs : kTendEveryMs);
        state_due_ = now_;
    }
    if (now_ >= state_due_) look_for_work();
    if (state_.remote_fetchers == 0) announce_ = false;
    if (announce_ && now_ >= announce_due_) {
        settle_outcome(housekeeping::notify_fetchers());
        announce_ = false;
        announce_due_ = now_ + kAnnounceEveryMs;
    }
}

void Supervisor::look_for_work() {
    settle_outcome(housekeeping::read_state(&state_));
    state_due_ = now_ + kStateEveryMs;
    if (!state_.has_work) {
        state_due_ = std::numeric_limits<std::int64_t>::max();  // a wake, or tend, looks again
        return;
    }
    had_work_ = true;
    busy_at_ = now_;
}

// Queues again what dead fetchers had in flight: an earlier supervisor's, then our own.
void Supervisor::clear_up() {
    if (now_ < clear_up_due_) return;
    while (!all_clear()) {
        Outcome outcome;
        if (!cleared_up_) {
            outcome = housekeeping::local_fetchers_gone();
        } else {
            Children::Gone const& gone = children_.gone.back();
            outcome = housekeeping::fetcher_gone(gone.fetcher, gone.crashed);
        }
        settle_outcome(outcome);
        if (outcome == Outcome::failed) {
            clear_up_due_ = now_ + kRetryMs;
            return;
        }
        if (cleared_up_) children_.gone.pop_back();
        cleared_up_ = true;
        state_due_ = now_;
    }
}

Leave Supervisor::reason() const {
    if (ShutdownRequestPending) return Leave::asked;
    if (attachment::blocked()) return Leave::blocked;
    if (extension_gone_) return Leave::extension_missing;
    bool const idle = !state_.has_work && state_due_ > now_ && all_clear() && now_ - busy_at_ >= patience();
    return idle ? Leave::idle : Leave::no;
}

bool Supervisor::leave(Leave why) {
    children_.stop_all(kStopPatienceMs);
    now_ = monotonic_ms();
    if (why != Leave::extension_missing) {
        if (changes_noted()) (void)housekeeping::notify_changes();
        clear_up_due_ = now_;
        if (cleared_up_) clear_up();  // else the next supervisor does
    }
    switch (why) {
        case Leave::idle:
            if (attachment::leave_unless_wanted()) return true;
            busy_at_ = now_;
            return false;
        case Leave::extension_missing:
            attachment::leave_for_good();
            return true;
        default:
            attachment::leave(state_.has_work);
            return true;
    }
}

}  // namespace
}  // namespace mrprompt

using namespace mrprompt;

MRPROMPT_WORKER(mrprompt_supervisor_main) {
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, die);  // connecting may wait for a lock
    BackgroundWorkerUnblockSignals();
    Oid const database = DatumGetObjectId(argument);
    if (shared_state() == nullptr || !attachment::attach(database)) return;
    session::connect(database);
    pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
    Supervisor().run();
    wake_launcher();  // one that was started after us is not told of our end
}
