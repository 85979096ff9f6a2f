// What DROP EXTENSION mrprompt is about to delete, said before it does.
#pragma once

namespace mrprompt {

// Warns the client with the numbers of requests, keys and ledger rows, if there are any. Takes no lock beyond
// its own look, waits a tenth of a second for one at most, and never fails: what cannot be counted is not
// mentioned. Raises only when the statement is cancelled.
void warn_of_drop();

}  // namespace mrprompt
