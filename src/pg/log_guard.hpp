// Keeps statements that carry a key as a literal out of the server's log.
#pragma once

namespace mrprompt {

// From now on, where this library is loaded, an error in a statement that names a function that takes a
// secret is logged without statement and context. It covers what fails before such a function runs (a
// misspelt argument, say), so it is complete only where the library is preloaded. Called once, from _PG_init.
void install_log_guard();

}  // namespace mrprompt
