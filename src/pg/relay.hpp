// Carries one contract call from a child to the database and the answer back.
#pragma once
#include "pg/child.hpp"

namespace mrprompt {

// Whether a frame of this kind asks for a contract call.
bool is_call(FrameKind kind);

// Runs the call in a transaction of its own as mrprompt_fetcher, opens the keys of its answer, and sends the
// reply or the error to the child. hello's answer gives the child its fetcher id. False: the extension is
// gone. Throws pg::PgError only when the session is beyond use.
bool relay(Child& child, const Frame& call);

}  // namespace mrprompt
