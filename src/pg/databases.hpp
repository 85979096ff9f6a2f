// The server's databases, as the launcher sees them.
#pragma once
#include "pg/prelude.hpp"

namespace mrprompt {

struct Database {
    Oid oid;
    char name[NAMEDATALEN];
};

// The databases in which a supervisor may run (connections allowed, no template), as Database* in `memory`,
// which is current afterwards. A transaction of its own; may raise.
List* list_databases(MemoryContext memory);

// The one of that oid, or null.
const Database* find_database(List* databases, Oid oid);

}  // namespace mrprompt
