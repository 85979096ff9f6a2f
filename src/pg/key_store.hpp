// A new provider key on its way into its row, in sealed form; what add_key, update_key and the imports share.
#pragma once
#include "pg/prelude.hpp"

#include <optional>
#include <string>
#include <string_view>

#include "crypto/sealed_text.hpp"
#include "pg/owner_query.hpp"

namespace mrprompt {

// A secret in the forms in which a row holds it.
struct StoredForms {
    std::string sealed, hash, masked;
};
StoredForms stored_forms(std::string_view api_key, const Binding& binding);

// What a row holds besides; metadata null: an empty object, moments null: now.
struct NewKey {
    pg_uuid_t id;
    std::optional<pg_uuid_t> owner;  // nobody: a shared key
    std::string_view provider;
    pg::Value metadata, name, last_used, created_at, updated_at;
};

// Checks the secret and the provider, and inserts the row. Throws SqlError PT400, PT413 or F0000.
void store_key(const NewKey& key, std::string_view api_key);

// These throw SqlError PT400.
void check_metadata(const pg::Value& metadata);
void check_name(std::string_view name);

// The user whom the session acts for, or the one that it may name. Throws SqlError 42501.
pg_uuid_t acting_user(const pg::Value& user_id);

}  // namespace mrprompt
