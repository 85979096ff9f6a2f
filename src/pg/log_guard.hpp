// Keeps statements that carry a key as a literal or parameter out of the server's log and its statistics.
#pragma once

namespace mrprompt {

// From now on, where this library is loaded, whatever is logged of a statement that names a function that
// takes a secret is logged without the statement, its parameters and its context: an error by its SQLSTATE,
// a duration by its figure; the client still gets all of it. It covers what is logged before such a function
// runs (log_statement, a misspelt argument), so it is complete only where the library is preloaded. Called
// once, from _PG_init.
void install_log_guard();

// Whether a statement names a function that takes a secret, or executes what may have been prepared so.
bool carries_secret(const char* statement);

// A copy, of equal length, with all from the first literal on made unreadable. In the current memory context.
const char* without_literals(const char* statement);

}  // namespace mrprompt
