// add_key, update_key and the imports: a provider key is sealed here and reaches its row in no other form.
#include "pg/boundary.hpp"

#include <optional>

#include "crypto/foreign_text.hpp"
#include "pg/identity.hpp"
#include "pg/key_store.hpp"
#include "pg/secret_functions.hpp"
#include "pg/server_keyring.hpp"
#include "pg/uuid.hpp"

namespace mrprompt {
namespace {

std::string_view text_or_empty(FunctionCallInfo fcinfo, int n) {
    return PG_ARGISNULL(n) ? std::string_view() : pg::text_argument(fcinfo, n);
}

// The owner of a key to be added: nobody for a shared one, else the acting user.
std::optional<pg_uuid_t> owner_of_new_key(bool shared, const pg::Value& user_id) {
    if (!shared) return acting_user(user_id);
    if (!pg::call([] { return caller_is_admin(); }))
        throw SqlError{ERRCODE_INSUFFICIENT_PRIVILEGE, "only mrprompt_admin may add shared keys"};
    if (!user_id.is_null)
        throw SqlError{kBadInput, "a shared key belongs to no user", {}, "Leave user_id out."};
    return std::nullopt;
}

Datum returned(const pg_uuid_t& id) {
    return pg::call([&] {
        auto* copy = static_cast<pg_uuid_t*>(palloc(sizeof(pg_uuid_t)));
        *copy = id;
        return UUIDPGetDatum(copy);
    });
}

}  // namespace

// mrprompt.add_key(provider text, api_key text, metadata jsonb, name text, user_id uuid, shared boolean)
// returns uuid.
MRPROMPT_SECRET_FUNCTION(add_key) {
    conceal_statement("select mrprompt.add_key(…)");
    if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
        throw SqlError{
            kBadInput, "add_key needs a provider and an API key", {}, "add_key(provider, api_key)"};
    NewKey key{};
    key.provider = pg::text_argument(fcinfo, 0);
    key.metadata = pg::Value::argument(fcinfo, 2);
    key.name = pg::Value::argument(fcinfo, 3);
    const std::string_view api_key = pg::text_argument(fcinfo, 1);
    check_metadata(key.metadata);
    check_name(text_or_empty(fcinfo, 3));
    key.owner = owner_of_new_key(!PG_ARGISNULL(5) && PG_GETARG_BOOL(5), pg::Value::argument(fcinfo, 4));
    key.id = uuidv7();
    store_key(key, api_key);
    return returned(key.id);
}

// mrprompt.import_key(user_id uuid, provider text, ciphertext text, old_key text, associated_data text,
// metadata jsonb, name text) returns uuid.
MRPROMPT_SECRET_FUNCTION(import_key) {
    conceal_statement("select mrprompt.import_key(…)");
    if (PG_ARGISNULL(1) || PG_ARGISNULL(2) || PG_ARGISNULL(3))
        throw SqlError{kBadInput,
                       "import_key needs a provider, a ciphertext and the key that opens it",
                       {},
                       "import_key(user_id, provider, ciphertext, old_key)"};
    NewKey key{};
    key.provider = pg::text_argument(fcinfo, 1);
    key.metadata = pg::Value::argument(fcinfo, 5);
    key.name = pg::Value::argument(fcinfo, 6);
    const std::string_view ciphertext = pg::text_argument(fcinfo, 2);
    const std::string_view old_key = pg::text_argument(fcinfo, 3);
    const std::string_view associated_data = text_or_empty(fcinfo, 4);
    check_metadata(key.metadata);
    check_name(text_or_empty(fcinfo, 6));
    key.owner = acting_user(pg::Value::argument(fcinfo, 0));
    const Result<Secret> opened = open_foreign(ciphertext, old_key, associated_data);
    if (!opened) throw SqlError{kBadInput, opened.error().message, {}, kForeignTextHint};
    key.id = uuidv7();
    store_key(key, opened->view());
    return returned(key.id);
}

// mrprompt_internal.adopt_key(id uuid, user_id uuid, provider text, ciphertext text, old_key text,
// associated_data text, metadata jsonb, last_used timestamptz, created_at timestamptz, updated_at
// timestamptz) returns text: why the row was not adopted, or null. Its caller has checked that it is an
// admin's wish.
MRPROMPT_SECRET_FUNCTION(adopt_key) {
    for (const auto& [number, what] :
         {std::pair{0, "id"}, {2, "provider"}, {3, "encrypted_key"}, {4, "old_key"}})
        if (PG_ARGISNULL(number)) return pg::Value::of(std::string(what) + " is null").datum;
    NewKey key{};
    key.id = *PG_GETARG_UUID_P(0);
    if (!PG_ARGISNULL(1)) key.owner = *PG_GETARG_UUID_P(1);
    key.provider = pg::text_argument(fcinfo, 2);
    key.metadata = pg::Value::argument(fcinfo, 6);
    key.last_used = pg::Value::argument(fcinfo, 7);
    key.created_at = pg::Value::argument(fcinfo, 8);
    key.updated_at = pg::Value::argument(fcinfo, 9);
    const Result<Secret> opened =
        open_foreign(pg::text_argument(fcinfo, 3), pg::text_argument(fcinfo, 4), text_or_empty(fcinfo, 5));
    if (!opened) return pg::Value::of(opened.error().message).datum;
    std::string problem;
    try {
        check_metadata(key.metadata);
        store_key(key, opened->view());
    } catch (const SqlError& error) {
        if (error.sqlstate == ERRCODE_CONFIG_FILE_ERROR) throw;  // no row would fare better
        problem = error.message;
    }
    if (problem.empty()) PG_RETURN_NULL();
    return pg::Value::of(problem).datum;
}

// mrprompt_internal.reseal(sealed text, key_id uuid, user_id uuid, provider text) returns text, null where it
// does not open: for reseal_keys().
MRPROMPT_FUNCTION(reseal) {
    const auto uuid_or_empty = [&](int n) {
        return PG_ARGISNULL(n) ? std::string() : uuid_text(*PG_GETARG_UUID_P(n));
    };
    const Binding binding{uuid_or_empty(1), uuid_or_empty(2), std::string(text_or_empty(fcinfo, 3))};
    const OpenedKey opened = open_for_relay(text_or_empty(fcinfo, 0), binding);
    if (!opened.opened) PG_RETURN_NULL();
    return pg::Value::of(seal_in_database(opened.key, binding)).datum;
}

// mrprompt_internal.conceal_adoption(): for adopt_api_keys(), whose statement holds a secret.
MRPROMPT_FUNCTION(conceal_adoption) {
    conceal_statement("select * from mrprompt.adopt_api_keys(…)");
    PG_RETURN_VOID();
}

// mrprompt.update_key(key_id uuid, api_key text, metadata jsonb, name text) returns uuid; what is null stays.
MRPROMPT_SECRET_FUNCTION(update_key) {
    conceal_statement("select mrprompt.update_key(…)");
    if (PG_ARGISNULL(0))
        throw SqlError{kBadInput, "update_key needs the id of a key", {}, "list_keys() shows your keys."};
    const std::string_view api_key = text_or_empty(fcinfo, 1);
    const pg_uuid_t id = *PG_GETARG_UUID_P(0);
    const bool new_secret = !PG_ARGISNULL(1);

    check_metadata(pg::Value::argument(fcinfo, 2));
    check_name(text_or_empty(fcinfo, 3));
    if (new_secret) check_api_key(api_key);
    static pg::Statement lock{
        "select k.user_id, k.provider::pg_catalog.text, k.revoked_at from "
        "mrprompt_internal.key_to_change($1) k",
        1,
        {UUIDOID}};
    const pg::Value key = pg::Value::of(id);
    const pg::Row row = pg::query_as_owner(lock, &key, pg::Snapshot::fresh);

    StoredForms forms;
    if (new_secret) {
        if (row.has(2))
            throw SqlError{kConflict,
                           "this key is revoked and takes no new secret",
                           {},
                           "Add a new key with add_key()."};
        forms = stored_forms(
            api_key, {uuid_text(id), row.has(0) ? uuid_text(*DatumGetUUIDP(row.values[0])) : std::string(),
                      std::string(row.text(1))});
    }
    const auto form = [&](const std::string& text) { return new_secret ? pg::Value::of(text) : pg::Value{}; };
    static pg::Statement update{
        "update mrprompt.api_keys k set encrypted_key = coalesce($2, k.encrypted_key), key_hash = "
        "coalesce($3, k.key_hash), "
        "masked_key = coalesce($4, k.masked_key), metadata = coalesce($5, k.metadata), name = coalesce($6, "
        "k.name), "
        "updated_at = pg_catalog.now(), "
        "last_verified = case when $2 is null then k.last_verified end, last_error = case when $2 is null "
        "then "
        "k.last_error end, last_error_at = case when $2 is null then k.last_error_at end "
        "where k.id operator(pg_catalog.=) $1",
        6,
        {UUIDOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, TEXTOID}};
    const pg::Value values[] = {key,
                                form(forms.sealed),
                                form(forms.hash),
                                form(forms.masked),
                                pg::Value::argument(fcinfo, 2),
                                pg::Value::argument(fcinfo, 3)};
    pg::query_as_owner(update, values, pg::Snapshot::fresh);
    if (new_secret) {
        // Whatever the old secret was refused for, the new one is tried.
        static pg::Statement release{
            "select mrprompt_internal.release_cooldowns(null, $1, null)", 1, {UUIDOID}};
        pg::query_as_owner(release, &key, pg::Snapshot::fresh);
    }
    return returned(id);
}

}  // namespace mrprompt
