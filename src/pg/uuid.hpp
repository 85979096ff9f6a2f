// UUIDv7 generation, and uuids as text.
#pragma once
#include "pg/prelude.hpp"

#include <string>

namespace mrprompt {

// A version 7 uuid with 12 bits of sub-millisecond time, rising within this process.
pg_uuid_t uuidv7();

// Lower case with hyphens, as PostgreSQL prints it.
std::string uuid_text(const pg_uuid_t& id);

}  // namespace mrprompt
