// add_key and update_key: a provider key is sealed here and reaches its row in no other form.
#include "pg/boundary.hpp"

#include <optional>

#include "pg/identity.hpp"
#include "pg/owner_query.hpp"
#include "pg/secret_functions.hpp"
#include "pg/server_keyring.hpp"
#include "pg/uuid.hpp"

namespace mrprompt {
namespace {

constexpr std::size_t kMaxNameBytes = 200;

// A secret in the forms in which a row holds it.
struct StoredForms {
    std::string sealed, hash, masked;
};

StoredForms stored_forms(std::string_view api_key, const Binding& binding) {
    return {seal_in_database(Secret(api_key), binding), hash_key(api_key), mask_key(api_key)};
}

pg::Value text_value(std::string_view text) {
    return pg::Value::of(pg::call([&] { return pg::text_datum(text); }));
}

void check_metadata(Jsonb* metadata) {
    if (!JB_ROOT_IS_OBJECT(metadata))
        throw SqlError{
            kBadInput, "metadata must be a JSON object", {}, "For example: {\"agent_name\": \"support\"}"};
}

void check_name(std::string_view name) {
    if (name.size() > kMaxNameBytes) throw SqlError{kBadInput, "the name of a key has at most 200 bytes"};
}

// A provider may be misspelt, or be the secret itself in the wrong place: the error lists names and shows
// nothing.
void check_provider(std::string_view provider) {
    static pg::Statement known{
        "select true from mrprompt.providers p where p.name operator(pg_catalog.=) $1", 1, {TEXTOID}};
    static pg::Statement names{
        "select pg_catalog.string_agg(p.name, ', ' order by p.name) from mrprompt.providers p where "
        "p.enabled",
        0,
        {}};
    const pg::Value value = text_value(provider);
    if (pg::query_as_owner(known, &value, pg::Snapshot::fresh).found) return;
    const pg::Row row = pg::query_as_owner(names, nullptr, pg::Snapshot::fresh);
    throw SqlError{
        kBadInput,
        "there is no provider of that name",
        {},
        row.has(0) ? "Providers: " + std::string(row.text(0)) : "An administrator adds providers."};
}

// The owner of a key to be added: nobody for a shared one, else the acting user.
std::optional<pg_uuid_t> owner_of_new_key(bool shared, const pg::Value& user_id) {
    if (shared) {
        if (!pg::call([] { return caller_is_admin(); }))
            throw SqlError{ERRCODE_INSUFFICIENT_PRIVILEGE, "only mrprompt_admin may add shared keys"};
        if (!user_id.is_null)
            throw SqlError{kBadInput, "a shared key belongs to no user", {}, "Leave user_id out."};
        return std::nullopt;
    }
    static pg::Statement acting{"select mrprompt_internal.acting_user($1)", 1, {UUIDOID}};
    const pg::Row row = pg::query_as_owner(acting, &user_id, pg::Snapshot::fresh);
    if (!row.has(0)) throw SqlError{ERRCODE_INSUFFICIENT_PRIVILEGE, "this session acts for no user"};
    return *DatumGetUUIDP(row.values[0]);
}

pg::Value argument(FunctionCallInfo fcinfo, int n) {
    return PG_ARGISNULL(n) ? pg::Value{} : pg::Value::of(PG_GETARG_DATUM(n));
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
    const std::string_view provider = pg::text_argument(fcinfo, 0);
    const std::string_view api_key = pg::text_argument(fcinfo, 1);
    const std::string_view name = PG_ARGISNULL(3) ? std::string_view() : pg::text_argument(fcinfo, 3);
    if (!PG_ARGISNULL(2)) check_metadata(PG_GETARG_JSONB_P(2));
    const bool shared = !PG_ARGISNULL(5) && PG_GETARG_BOOL(5);

    check_name(name);
    const std::optional<pg_uuid_t> owner = owner_of_new_key(shared, argument(fcinfo, 4));
    check_provider(provider);
    check_api_key(api_key);

    const pg_uuid_t id = uuidv7();
    const StoredForms forms = stored_forms(
        api_key, {uuid_text(id), owner ? uuid_text(*owner) : std::string(), std::string(provider)});
    static pg::Statement insert{
        "insert into mrprompt.api_keys (id, user_id, provider, encrypted_key, key_hash, masked_key, "
        "metadata, name) "
        "values ($1, $2, $3, $4, $5, $6, coalesce($7, '{}'::pg_catalog.jsonb), $8)",
        8,
        {UUIDOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, TEXTOID}};
    const pg::Value values[] = {pg::Value::of(id),      owner ? pg::Value::of(*owner) : pg::Value{},
                                text_value(provider),   text_value(forms.sealed),
                                text_value(forms.hash), text_value(forms.masked),
                                argument(fcinfo, 2),    argument(fcinfo, 3)};
    pg::query_as_owner(insert, values, pg::Snapshot::fresh);
    return returned(id);
}

// mrprompt.update_key(key_id uuid, api_key text, metadata jsonb, name text) returns uuid; what is null stays.
MRPROMPT_SECRET_FUNCTION(update_key) {
    conceal_statement("select mrprompt.update_key(…)");
    if (PG_ARGISNULL(0))
        throw SqlError{kBadInput, "update_key needs the id of a key", {}, "list_keys() shows your keys."};
    const std::string_view api_key = PG_ARGISNULL(1) ? std::string_view() : pg::text_argument(fcinfo, 1);
    const std::string_view name = PG_ARGISNULL(3) ? std::string_view() : pg::text_argument(fcinfo, 3);
    if (!PG_ARGISNULL(2)) check_metadata(PG_GETARG_JSONB_P(2));
    const pg_uuid_t id = *PG_GETARG_UUID_P(0);
    const bool new_secret = !PG_ARGISNULL(1);

    check_name(name);
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
    const auto form = [&](const std::string& text) { return new_secret ? text_value(text) : pg::Value{}; };
    static pg::Statement update{
        "update mrprompt.api_keys k set encrypted_key = coalesce($2, k.encrypted_key), key_hash = "
        "coalesce($3, k.key_hash), "
        "masked_key = coalesce($4, k.masked_key), metadata = coalesce($5, k.metadata), name = coalesce($6, "
        "k.name), "
        "updated_at = pg_catalog.now() where k.id operator(pg_catalog.=) $1",
        6,
        {UUIDOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, TEXTOID}};
    const pg::Value values[] = {key,
                                form(forms.sealed),
                                form(forms.hash),
                                form(forms.masked),
                                argument(fcinfo, 2),
                                argument(fcinfo, 3)};
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
