// The server's master keys at work: sealing and opening provider keys for this process and database.
#pragma once
#include "pg/prelude.hpp"

#include <string>
#include <string_view>

#include "core/opened_key.hpp"
#include "crypto/sealed_text.hpp"

namespace mrprompt {

// The master keys of mrprompt.master_key_file; read at first use, and again after a reload of the server's
// configuration or when the file was changed and `wanted_id` is not among them. Throws SqlError F0000 when
// none is configured or the file is no good. The reference lives until the next call.
const Keyring& server_keyring(std::string_view wanted_id = {});

// Seals under the active master key, and records in the database which key that is. Throws SqlError F0000
// when the database knows another key under that id. Needs a transaction.
std::string seal_in_database(const Secret& plain, const Binding& binding);

// A key for its way to a provider, or the reason why there is none. Never throws SqlError. Works outside a
// transaction too, with less to say about a foreign keyring.
OpenedKey open_for_relay(std::string_view sealed, const Binding& binding);

// The same by the row's columns; empty text stands for null.
OpenedKey open_for_relay(std::string_view sealed, std::string_view key_id, std::string_view owner,
                         std::string_view provider);

// Whether mrprompt.master_key_file names a file, good or not.
bool keyring_configured();

// What is wrong with the keyring as this database sees it, or how to make one where none is configured; empty
// when all is well. Needs a transaction.
std::string keyring_problem();

// The keyring that the last look at the file gave, or null.
const Keyring* current_keyring();

// Its ids as text[], in the current memory context. May raise.
Datum master_key_ids(const Keyring& keyring);

}  // namespace mrprompt
