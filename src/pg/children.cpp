// Life and death of fetcher processes, and what the server's log and doctor() learn of it.
#include "pg/children.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <limits>

#include "core/name_files.hpp"
#include "pg/attachment.hpp"
#include "pg/boundary.hpp"
#include "pg/settings.hpp"

namespace mrprompt {
namespace {

constexpr std::int64_t kFirstDelayMs = 100;
constexpr std::int64_t kFirstSpawnDelayMs = 1000;  // a missing program does not appear at once
constexpr std::int64_t kLastDelayMs = 30 * 1000;
constexpr std::int64_t kSettledMs = 60 * 1000;  // who lived this long starts again at once
constexpr std::int64_t kLeastSilenceMs = 15 * 1000;
constexpr std::int64_t kLingerMs = 1000;  // between closing the socket and ending
constexpr std::int64_t kReapEveryMs = 5;
constexpr std::int64_t kLookAtWorldEveryMs = 1000;

Children* instance = nullptr;

// The process ends without unwinding C++ frames: only what needs no memory and cannot fail.
void kill_at_exit(int, Datum) {
    if (instance == nullptr) return;
    for (const auto& child : instance->all()) child->kill();
    for (int i = 0; i < 200; ++i) {
        bool left = false;
        for (const auto& child : instance->all()) left = !child->reap_quietly() || left;
        if (!left) return;
        usleep(1000);
    }
}

std::string fetcher_path() {
    if (settings::fetcher_path[0] != '\0') return settings::fetcher_path;
    std::string const server = my_exec_path;
    return server.substr(0, server.rfind('/') + 1) + "mrprompt-fetcher";
}

// What a child's fence is made of when it starts. Once that has changed, its child sees too little or too
// much.
std::string world_now() {
    std::vector<std::string> places = settings::list_certificate_directories();
    places.insert(places.end(), std::begin(kNameFiles), std::end(kNameFiles));
    std::string text;
    for (const std::string& place : places) {
        struct stat status {};
        text += place;
        if (stat(place.c_str(), &status) == 0)
            text += ' ' + std::to_string(status.st_dev) + ' ' + std::to_string(status.st_ino);
        text += '\n';
    }
    return text;
}

// Serves what is queued, now and later.
bool is_main(const Child& child) {
    return !child.alone() && !child.stopping;
}

std::int64_t longest_silence_ms() {
    return std::max<std::int64_t>(kLeastSilenceMs, 5 * std::int64_t{settings::heartbeat_interval_ms});
}

}  // namespace

Children::Children() : restart_delay_ms_(kFirstDelayMs) {
    static bool registered = false;
    instance = this;
    if (!registered) before_shmem_exit(kill_at_exit, 0);
    registered = true;
}

Children::~Children() {
    instance = nullptr;
}

Child* Children::main() const {
    for (const auto& child : all_)
        if (is_main(*child) && child->open()) return child.get();
    return nullptr;
}

void Children::start(bool main_wanted, int alone_waiting, std::int64_t now_ms) {
    replace_outdated(now_ms);
    bool const main_there =
        std::any_of(all_.begin(), all_.end(), [](const auto& child) { return is_main(*child); });
    if (now_ms < restart_at_ms_) return;
    if (main_wanted && !main_there) start_one(false, now_ms);
    for (int i = 0; main_wanted && i < alone_waiting && all_.size() < kMaxChildren; ++i) {
        if (now_ms < restart_at_ms_) return;
        start_one(true, now_ms);
    }
}

void Children::start_one(bool alone, std::int64_t now_ms) {
    std::string const path = fetcher_path();
    std::string world = world_now();
    Result<std::unique_ptr<Child>> child =
        Child::start(path, alone, settings::list_certificate_directories());
    if (!child) {
        report("mrprompt: " + child.error().message,
               "Install mrprompt-fetcher there, set mrprompt.fetcher_path, or turn mrprompt.local_fetcher "
               "off and run "
               "fetchers elsewhere.");
        restart_delay_ms_ = std::max(restart_delay_ms_, kFirstSpawnDelayMs);
        back_off(now_ms);
        return;
    }
    (*child)->world = std::move(world);
    all_.push_back(std::move(*child));
    ++generation_;
    publish();
}

// A child ends what it has begun while the next one serves the queue; several changes at once wait their
// turn.
void Children::replace_outdated(std::int64_t now_ms) {
    Child* fetcher = main();
    if (fetcher == nullptr || all_.size() >= kMaxChildren || now_ms < look_at_world_ms_) return;
    look_at_world_ms_ = now_ms + kLookAtWorldEveryMs;
    if (fetcher->world != world_now()) fetcher->drain();
}

void Children::try_at_once() {
    look_at_world_ms_ = 0;
    restart_delay_ms_ = kFirstDelayMs;
    restart_at_ms_ = 0;
}

// To the server's log, and to doctor() until a fetcher has run well for a while.
void Children::report(const std::string& text, const char* hint) {
    const char* message = text.c_str();
    pg::call([&] {
        ereport(LOG, (errmsg("%s", message), hint != nullptr ? errhint("%s", hint) : 0));
        note_failure(MyDatabaseId, message);
    });
    failure_noted_ = true;
}

void Children::forget_failure(std::int64_t now_ms) {
    const Child* fetcher = main();
    if (!failure_noted_ || fetcher == nullptr || now_ms - fetcher->started_ms() < kSettledMs) return;
    pg::call([] { note_failure(MyDatabaseId, ""); });
    failure_noted_ = false;
}

void Children::back_off(std::int64_t now_ms) {
    restart_at_ms_ = now_ms + restart_delay_ms_;
    restart_delay_ms_ = std::min(restart_delay_ms_ * 2, kLastDelayMs);
}

void Children::watch(std::int64_t now_ms) {
    for (const auto& child : all_) {
        if (child->open() && now_ms - child->heard_ms() > longest_silence_ms()) {
            report("mrprompt-fetcher (PID " + std::to_string(child->pid()) +
                       ") was silent for too long: killing it",
                   nullptr);
            child->kill();
        } else if (!child->open() && now_ms - child->closed_ms() > kLingerMs) {
            child->kill();
        }
    }
    reap_ended(now_ms);
    forget_failure(now_ms);
}

void Children::reap_ended(std::int64_t now_ms) {
    bool changed = false;
    for (auto& child : all_) {
        bool const was_open = child->open();
        pid_t const pid = child->pid();
        std::optional<Child::Ending> const ending = child->reap();
        if (ending) {
            if (!child->stopping || !ending->cleanly)
                report("mrprompt-fetcher (PID " + std::to_string(pid) + ") " + ending->text +
                           (child->broke_protocol() ? " after it sent what is no call" : ""),
                       nullptr);
            bury(*child, *ending, now_ms);
            child.reset();
        }
        changed = changed || ending || was_open != (child && child->open());
    }
    if (!changed) return;
    std::erase_if(all_, [](const auto& child) { return child == nullptr; });
    ++generation_;
    publish();
}

void Children::bury(const Child& child, const Child::Ending& ending, std::int64_t now_ms) {
    if (!child.fetcher.empty()) gone.push_back({child.fetcher, !ending.cleanly && !child.stopping});
    if (child.alone() || child.stopping) return;
    pg::call([] { attachment::count_restart(); });
    if (now_ms - child.started_ms() >= kSettledMs) restart_delay_ms_ = kFirstDelayMs;
    back_off(now_ms);
}

void Children::excuse_silence(std::int64_t now_ms) {
    for (const auto& child : all_) child->excuse_silence(now_ms);
}

void Children::stop_main() {
    if (Child* child = main(); child != nullptr) {
        child->stopping = true;
        (void)child->send(FrameKind::stop, {});
    }
}

void Children::stop_all(std::int64_t patience_ms) {
    for (const auto& child : all_) {
        child->stopping = true;
        (void)child->send(FrameKind::stop, {});
    }
    std::int64_t const end = monotonic_ms() + patience_ms;
    for (reap_ended(monotonic_ms()); !all_.empty() && monotonic_ms() < end; reap_ended(monotonic_ms())) {
        for (const auto& child : all_) child->flush();
        usleep(1000);
    }
    for (const auto& child : all_) child->kill();
    for (std::int64_t const last = monotonic_ms() + kLingerMs; !all_.empty() && monotonic_ms() < last;) {
        usleep(1000);
        reap_ended(monotonic_ms());
    }
}

std::int64_t Children::deadline(bool main_wanted) const {
    std::int64_t due = std::numeric_limits<std::int64_t>::max();
    bool main_there = false;
    for (const auto& child : all_) {
        main_there = main_there || is_main(*child);
        due = std::min(due, child->open() ? child->heard_ms() + longest_silence_ms() + 1
                                          : monotonic_ms() + kReapEveryMs);
    }
    if (main_wanted && !main_there) due = std::min(due, restart_at_ms_);
    return due;
}

void Children::publish() const {
    std::vector<int> pids;
    for (const auto& child : all_) pids.push_back(child->pid());
    pg::call([&] { attachment::publish_fetchers(pids); });
}

}  // namespace mrprompt
