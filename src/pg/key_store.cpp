// Checks, seals and inserts a key.
#include "pg/key_store.hpp"

#include "pg/boundary.hpp"
#include "pg/secret_functions.hpp"
#include "pg/server_keyring.hpp"
#include "pg/uuid.hpp"

namespace mrprompt {
namespace {

constexpr std::size_t kMaxNameBytes = 200;

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
    const pg::Value value = pg::Value::of(provider);
    if (pg::query_as_owner(known, &value, pg::Snapshot::fresh).found) return;
    const pg::Row row = pg::query_as_owner(names, nullptr, pg::Snapshot::fresh);
    throw SqlError{
        kBadInput,
        "there is no provider of that name",
        {},
        row.has(0) ? "Providers: " + std::string(row.text(0)) : "An administrator adds providers."};
}

}  // namespace

StoredForms stored_forms(std::string_view api_key, const Binding& binding) {
    return {seal_in_database(Secret(api_key), binding), hash_key(api_key), mask_key(api_key)};
}

void store_key(const NewKey& key, std::string_view api_key) {
    check_provider(key.provider);
    check_api_key(api_key);
    const StoredForms forms = stored_forms(
        api_key,
        {uuid_text(key.id), key.owner ? uuid_text(*key.owner) : std::string(), std::string(key.provider)});
    static pg::Statement insert{
        "insert into mrprompt.api_keys (id, user_id, provider, encrypted_key, key_hash, masked_key, "
        "metadata, name, last_used, created_at, updated_at) "
        "values ($1, $2, $3, $4, $5, $6, coalesce($7, '{}'::pg_catalog.jsonb), $8, $9, "
        "coalesce($10, pg_catalog.now()), coalesce($11, pg_catalog.now()))",
        11,
        {UUIDOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, TEXTOID, TIMESTAMPTZOID,
         TIMESTAMPTZOID, TIMESTAMPTZOID}};
    const pg::Value values[] = {pg::Value::of(key.id),
                                key.owner ? pg::Value::of(*key.owner) : pg::Value{},
                                pg::Value::of(key.provider),
                                pg::Value::of(forms.sealed),
                                pg::Value::of(forms.hash),
                                pg::Value::of(forms.masked),
                                key.metadata,
                                key.name,
                                key.last_used,
                                key.created_at,
                                key.updated_at};
    pg::query_as_owner(insert, values, pg::Snapshot::fresh);
}

void check_metadata(const pg::Value& metadata) {
    if (metadata.is_null || pg::call([&] { return JB_ROOT_IS_OBJECT(DatumGetJsonbP(metadata.datum)); }))
        return;
    throw SqlError{
        kBadInput, "metadata must be a JSON object", {}, "For example: {\"agent_name\": \"support\"}"};
}

void check_name(std::string_view name) {
    if (name.size() > kMaxNameBytes) throw SqlError{kBadInput, "the name of a key has at most 200 bytes"};
}

pg_uuid_t acting_user(const pg::Value& user_id) {
    static pg::Statement acting{"select mrprompt_internal.acting_user($1)", 1, {UUIDOID}};
    const pg::Row row = pg::query_as_owner(acting, &user_id, pg::Snapshot::fresh);
    if (!row.has(0)) throw SqlError{ERRCODE_INSUFFICIENT_PRIVILEGE, "this session acts for no user"};
    return *DatumGetUUIDP(row.values[0]);
}

}  // namespace mrprompt
