// Carries one contract call from a child to the database and the answer back.
#pragma once
#include "pg/child.hpp"

namespace mrprompt {

// Whether a frame of this kind asks for a contract call.
bool is_call(FrameKind kind);

// What a relayed call came to.
struct Relayed {
    bool extension_missing = false;  // the error was one of those that a dropped extension gives
};

// Runs the call in a transaction of its own as mrprompt_fetcher, opens the keys of its answer, and sends the reply
// or the error to the child. hello's answer gives the child its fetcher id. Throws pg::PgError only when the session
// is beyond use.
Relayed relay(Child& child, const Frame& call);

// Whether an error says that the extension's objects are not there.
bool says_extension_missing(int sqlstate);

}  // namespace mrprompt
