// A supervisor's hold on its database's slot in shared memory.
#pragma once
#include <span>

#include "pg/shared_state.hpp"

namespace mrprompt::attachment {

// Makes this process the database's supervisor until it exits. False: there is one, or the database is needed
// alone. Call before connecting, so that who needs the database alone knows whom to wait for.
bool attach(Oid database);

// There may be work that no earlier call reported.
bool take_wanted();

// A statement needs the database alone: leave at once.
bool blocked();

// Another database waits for the worker slot that this supervisor holds: leave if idle.
bool slot_needed_elsewhere();

// For server_state().
void publish_fetchers(std::span<const int> pids);
void count_restart();

// Gives the slot up, unless work was announced meanwhile: then false, and nothing has changed.
bool leave_unless_wanted();

// Gives the slot up for good reason; `wanted`: another supervisor shall follow soon.
void leave(bool wanted);

// Gives the slot up and forgets the database: the extension is not there.
void leave_for_good();

}  // namespace mrprompt::attachment
