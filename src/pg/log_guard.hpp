// Keeps statements that carry a key as a literal out of the server's log.
#pragma once

namespace mrprompt {

// From now on, where this library is loaded, an error in a statement that names a function that takes a
// secret is logged by its SQLSTATE alone, without PostgreSQL's message, statement and context; the client
// still gets all of it. It covers what fails before such a function runs (a misspelt argument, say), so it is
// complete only where the library is preloaded. Called once, from _PG_init.
void install_log_guard();

// Tells the guard the text of a PREPARE: where it names such a function, this session's EXECUTE statements
// may carry keys as well.
void note_prepared(const char* statement);

}  // namespace mrprompt
