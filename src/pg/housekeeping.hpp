// What a supervisor asks of its database on its own account; each call is a transaction of its own.
#pragma once
#include <string>

#include "pg/prelude.hpp"

namespace mrprompt::housekeeping {

enum class Outcome {
    done,
    failed,             // logged, at most once in a while; try again later
    extension_missing,  // it was dropped: leave
};

// Who must run.
struct State {
    bool has_work = false;
    int alone_waiting = 0;    // requests that wait for a fetcher of their own
    int remote_fetchers = 0;  // fetchers connected over libpq
};

Outcome read_state(State* state);
Outcome local_fetchers_gone();
Outcome fetcher_gone(const std::string& fetcher, bool crashed);
Outcome notify_changes();
Outcome notify_fetchers();

// `more`: a limit was reached, there is more to do now. The SQL of an older version does not say, which means
// no.
Outcome tend(bool* more);

}  // namespace mrprompt::housekeeping
