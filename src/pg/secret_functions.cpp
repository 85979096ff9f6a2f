// encrypt_key, decrypt_key, mask_key, hash_key: SQL functions over a secret that store nothing but their own
// means.
#include "pg/secret_functions.hpp"

#include "crypto/digest.hpp"
#include "pg/boundary.hpp"
#include "pg/identity.hpp"
#include "pg/owner_query.hpp"
#include "pg/server_keyring.hpp"
#include "pg/uuid.hpp"

namespace mrprompt {
namespace {

constexpr std::size_t kMaxApiKeyBytes = 8 * 1024;
constexpr int kShownAtStart = 4;
constexpr int kShownAtEnd = 3;
constexpr int kLeastToShow = 12;

// Names the one row that is no provider key, so that it opens as nothing else.
const Binding& lookup_key_binding() {
    static const Binding binding{"", "", "mrprompt lookup key"};
    return binding;
}

std::string uuid_argument(FunctionCallInfo fcinfo, int n) {
    return PG_ARGISNULL(n) ? std::string() : uuid_text(*PG_GETARG_UUID_P(n));
}

// Arguments 1 to 3 of encrypt_key and decrypt_key. `provider` is already detoasted.
Binding binding_of(FunctionCallInfo fcinfo, std::string_view provider) {
    return {uuid_argument(fcinfo, 1), uuid_argument(fcinfo, 2), std::string(provider)};
}

std::string sealed_lookup_key() {
    static pg::Statement read{"select l.sealed from mrprompt_internal.lookup_key l", 0, {}};
    static pg::Statement create{
        "insert into mrprompt_internal.lookup_key (sealed) values ($1) on conflict do nothing", 1, {TEXTOID}};
    pg::Row row = pg::query_as_owner(read, nullptr, pg::Snapshot::fresh);
    if (!row.has(0)) {
        if (XactReadOnly)
            throw SqlError{ERRCODE_READ_ONLY_SQL_TRANSACTION,
                           "this database has no lookup key yet, and a read-only "
                           "transaction cannot make it",
                           {},
                           "Call it once in a transaction that may write."};
        const std::string sealed = seal_in_database(Secret(random_bytes(32)), lookup_key_binding());
        const pg::Value value = pg::Value::of(pg::call([&] { return pg::text_datum(sealed); }));
        pg::query_as_owner(create, &value, pg::Snapshot::fresh);
        // Another session may have been first: its key counts.
        row = pg::query_as_owner(read, nullptr, pg::Snapshot::fresh);
    }
    if (!row.has(0)) throw SqlError{ERRCODE_INTERNAL_ERROR, "the database's lookup key could not be stored"};
    return std::string(row.text(0));
}

// Opens or throws SqlError; where only an administrator's configuration can help, F0000.
Secret open_in_database(std::string_view sealed, const Binding& binding) {
    server_keyring(sealed_under(sealed));
    OpenedKey result = open_for_relay(sealed, binding);
    if (!result.opened)
        throw SqlError{
            kBadInput, "the key does not open", result.reason,
            "A sealed key opens with the key_id, user_id and provider it was sealed for, and under the same "
            "master key."};
    return std::move(result.key);
}

}  // namespace

void conceal_statement(const char* shown) {
    if (debug_query_string == nullptr || debug_query_string == shown) return;
    debug_query_string = shown;
    pgstat_report_activity(STATE_RUNNING, shown);
}

void check_api_key(std::string_view api_key) {
    constexpr const char* kHint = "Pass the key exactly as the provider shows it.";
    if (api_key.empty()) throw SqlError{kBadInput, "the API key is empty", {}, kHint};
    if (api_key.size() > kMaxApiKeyBytes)
        throw SqlError{kTooLarge, "the API key is longer than 8 KB", {}, kHint};
    for (const unsigned char c : api_key)
        if (c < 0x20 || c == 0x7f)
            throw SqlError{
                kBadInput, "the API key holds a control character (a line break, perhaps)", {}, kHint};
    if (api_key.front() == ' ' || api_key.back() == ' ')
        throw SqlError{kBadInput, "the API key begins or ends with a space", {}, kHint};
}

std::string mask_key(std::string_view api_key) {
    std::size_t start_bytes = 0;
    std::size_t end_begins = 0;
    int characters = 0;
    const auto begins_character = [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; };
    for (std::size_t i = 0; i < api_key.size(); ++i) {
        if (!begins_character(api_key[i])) continue;
        if (characters == kShownAtStart) start_bytes = i;
        ++characters;
    }
    if (characters < kLeastToShow) return "...";
    int left = kShownAtEnd;
    for (end_begins = api_key.size(); left > 0;)
        if (begins_character(api_key[--end_begins])) --left;
    return std::string(api_key.substr(0, start_bytes)) + "..." + std::string(api_key.substr(end_begins));
}

std::string hash_key(std::string_view api_key) {
    const std::string sealed = sealed_lookup_key();
    server_keyring(sealed_under(sealed));
    const OpenedKey lookup_key = open_for_relay(sealed, lookup_key_binding());
    if (!lookup_key.opened)
        throw SqlError{ERRCODE_CONFIG_FILE_ERROR, "the key of hash_key() does not open", lookup_key.reason,
                       "An admin finds what to do by: select * from mrprompt.doctor()."};
    return to_hex(hmac_sha256(lookup_key.key.view(), api_key));
}

// mrprompt.encrypt_key(api_key text, key_id uuid, user_id uuid, provider text) returns text.
MRPROMPT_SECRET_FUNCTION(encrypt_key) {
    conceal_statement("select mrprompt.encrypt_key(…)");
    if (PG_ARGISNULL(0)) PG_RETURN_NULL();
    const std::string_view api_key = pg::text_argument(fcinfo, 0);
    const std::string_view provider = PG_ARGISNULL(3) ? std::string_view() : pg::text_argument(fcinfo, 3);
    check_api_key(api_key);
    const std::string sealed = seal_in_database(Secret(api_key), binding_of(fcinfo, provider));
    return pg::call([&] { return pg::text_datum(sealed); });
}

// mrprompt.decrypt_key(encrypted_key text, key_id uuid, user_id uuid, provider text) returns text; admins
// only.
MRPROMPT_SECRET_FUNCTION(decrypt_key) {
    if (!caller_is_admin())
        throw SqlError{ERRCODE_INSUFFICIENT_PRIVILEGE, "only mrprompt_admin may decrypt keys"};
    if (PG_ARGISNULL(0)) PG_RETURN_NULL();
    const std::string_view sealed = pg::text_argument(fcinfo, 0);
    const std::string_view provider = PG_ARGISNULL(3) ? std::string_view() : pg::text_argument(fcinfo, 3);
    const Secret plain = open_in_database(sealed, binding_of(fcinfo, provider));
    return pg::call([&] { return pg::text_datum(plain.view()); });
}

// mrprompt.mask_key(api_key text) returns text, immutable, strict, parallel safe.
MRPROMPT_SECRET_FUNCTION(mask_key) {
    conceal_statement("select mrprompt.mask_key(…)");
    const std::string_view api_key = pg::text_argument(fcinfo, 0);
    const std::string masked = mask_key(api_key);
    return pg::call([&] { return pg::text_datum(masked); });
}

// mrprompt.hash_key(api_key text) returns text, strict.
MRPROMPT_SECRET_FUNCTION(hash_key) {
    conceal_statement("select mrprompt.hash_key(…)");
    const std::string_view api_key = pg::text_argument(fcinfo, 0);
    const std::string hash = hash_key(api_key);
    return pg::call([&] { return pg::text_datum(hash); });
}

// mrprompt_internal.keyring_state() returns (configured boolean, active_id text, ids text[], problem text).
MRPROMPT_FUNCTION(keyring_state) {
    TupleDesc description = nullptr;
    if (get_call_result_type(fcinfo, nullptr, &description) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "expected a row type");
    if (!caller_is_admin())
        throw SqlError{ERRCODE_INSUFFICIENT_PRIVILEGE, "only mrprompt_admin may look at the keyring"};
    const std::string problem = keyring_problem();
    const Keyring* keyring = current_keyring();
    return pg::call([&] {
        Datum values[4] = {BoolGetDatum(keyring_configured()), 0, 0, 0};
        bool nulls[4] = {false, keyring == nullptr, keyring == nullptr, problem.empty()};
        if (keyring != nullptr) {
            values[1] = pg::text_datum(keyring->active().id);
            values[2] = master_key_ids(*keyring);
        }
        if (!problem.empty()) values[3] = pg::text_datum(problem);
        return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(description), values, nulls));
    });
}

}  // namespace mrprompt
