// The fetchers of one supervisor: started where work waits, watched, buried, and started again with back-off.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "pg/child.hpp"

namespace mrprompt {

class Children {
public:
    // Kills them when the process ends in whatever way.
    Children();
    ~Children();
    Children(const Children&) = delete;
    Children& operator=(const Children&) = delete;

    // What is known of a fetcher that ended, for the database to hear.
    struct Gone {
        std::string fetcher;
        bool crashed;
    };

    const std::vector<std::unique_ptr<Child>>& all() const { return all_; }
    Child* main() const;

    // Starts the fetcher when it is wanted and its back-off is over, and as many isolated ones as wait for
    // one.
    void start(bool main_wanted, int alone_waiting, std::int64_t now_ms);

    // The configuration was read: ends the back-off, as what was in the way may have been put right.
    void try_at_once();

    // Kills who is silent, broken or lingering, and takes note of who ended.
    void watch(std::int64_t now_ms);

    // The supervisor itself was held up: nobody's silence counts.
    void excuse_silence(std::int64_t now_ms);

    // Tells all to end, kills those that have not within the time, and takes note.
    void stop_all(std::int64_t patience_ms);
    void stop_main();

    // When start() or watch() has something to do next, in monotonic milliseconds.
    std::int64_t deadline(bool main_wanted) const;

    // Rises when the set of open sockets changes.
    int generation() const { return generation_; }

    std::vector<Gone> gone;  // whoever tells the database empties it

private:
    void start_one(bool alone, std::int64_t now_ms);
    void replace_outdated(std::int64_t now_ms);
    void bury(const Child& child, const Child::Ending& ending, std::int64_t now_ms);
    void back_off(std::int64_t now_ms);
    void reap_ended(std::int64_t now_ms);
    void publish() const;
    void report(const std::string& text, const char* hint);
    void forget_failure(std::int64_t now_ms);

    std::vector<std::unique_ptr<Child>> all_;
    std::int64_t restart_delay_ms_;
    std::int64_t restart_at_ms_ = 0;
    std::int64_t look_at_world_ms_ = 0;
    int generation_ = 1;
    bool failure_noted_ = false;
};

}  // namespace mrprompt
