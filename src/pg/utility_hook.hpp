// Keeps the supervisor out of a database while a statement needs that database to itself, wakes it for
// prepared transactions, and shows prepared statements to the log guard.
#pragma once

namespace mrprompt {

// Hooks into ProcessUtility when loaded at server start; does nothing otherwise. Called once, from _PG_init.
void install_utility_hook();

}  // namespace mrprompt
