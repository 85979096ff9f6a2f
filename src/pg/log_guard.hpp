// Keeps statements that carry a key as a literal or parameter out of the server's log and its statistics.
#pragma once
#include <string_view>

namespace mrprompt {

// From now on, where this library is loaded, whatever is logged of a statement that names a function that
// takes a secret is logged without the statement, its parameters and its context: an error by its SQLSTATE,
// a duration by its figure, a command such as DROP up to its first literal; the client still gets all of it.
// Neither are its literals in what statistics are kept by. It covers what is logged before such a function
// runs (log_statement, a misspelt argument), so it is complete only where the library is preloaded. Called
// once, from _PG_init.
void install_log_guard();

// One statement of a text that may hold several; location and length as a parse tree has them.
std::string_view own_part(const char* text, int location, int length);

// Whether a statement calls a function that takes a secret, or executes what may have been prepared so.
bool carries_secret(std::string_view statement);

// A copy, of equal length, with all from the first literal on made unreadable. In the current memory context.
const char* without_literals(const char* statement);

}  // namespace mrprompt
