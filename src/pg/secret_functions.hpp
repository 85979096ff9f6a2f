// What add_key and update_key share with the functions that only transform a key.
#pragma once
#include "pg/prelude.hpp"

#include <string>
#include <string_view>

namespace mrprompt {

// Replaces the running statement, which may hold a secret as a literal, by `shown` in pg_stat_activity and in
// the log lines of whatever fails after this.
void conceal_statement(const char* shown);

// The secret of a provider key as it must be: not empty, at most 8 KB, no control character, no space at
// either end. Throws SqlError PT400 or PT413 otherwise, and never shows it.
void check_api_key(std::string_view api_key);

// The first 4 and last 3 characters of a key that has 12 or more; else "...".
std::string mask_key(std::string_view api_key);

// Hexadecimal HMAC-SHA-256 under the database's lookup key, which is made at first use (25006 when that
// happens in a read-only transaction).
std::string hash_key(std::string_view api_key);

}  // namespace mrprompt
