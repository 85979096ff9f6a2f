// Reading the keyring when it is needed, and comparing it with what the database was sealed with.
#include "pg/server_keyring.hpp"

#include <sys/stat.h>

#include <optional>
#include <utility>

#include "pg/boundary.hpp"
#include "pg/identity.hpp"
#include "pg/owner_query.hpp"
#include "pg/settings.hpp"

namespace mrprompt {
namespace {

constexpr const char* kMakeOne =
    "On the server, as its user: umask 077; echo \"k1:$(openssl rand -hex 32)\" > "
    "/etc/postgresql/mrprompt.keys\n"
    "Then, as superuser: load 'mrprompt'; alter system set mrprompt.master_key_file = '/etc/postgresql/mrprompt.keys'; "
    "select pg_reload_conf();";

// For everybody: a path is for administrators.
constexpr const char* kUnusable = "the server's master key file cannot be used";

// Tells one state of a file from another.
struct Stamp {
    dev_t device = 0;
    ino_t inode = 0;
    off_t size = 0;
    time_t seconds = 0;
    long nanoseconds = 0;
    bool operator==(const Stamp&) const = default;
};

Stamp stamp_of(const char* path) {
    struct stat status {};
    if (::stat(path, &status) != 0) return {};
    return {status.st_dev, status.st_ino, status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
}

struct Loaded {
    std::optional<Keyring> keyring;
    std::string path;
    Stamp stamp;
    TimestampTz reload = 0;
    std::string confirmed;  // fingerprint of the active key, once the database is known to have it
};

Loaded& loaded() {
    // Never destroyed: libcrypto tidies up at exit before objects of a library would.
    static Loaded* const state = new Loaded;
    return *state;
}

Result<bool> refresh(std::string_view wanted_id) {
    Loaded& state = loaded();
    if (!keyring_configured()) {
        state.keyring.reset();
        return Error{"not_configured",
                     "no master key is configured, so keys can be neither sealed nor opened"};
    }
    const char* path = settings::master_key_file;
    const bool current = state.keyring && state.path == path && state.reload == PgReloadTime;
    if (current &&
        (wanted_id.empty() || state.keyring->find(wanted_id) != nullptr || state.stamp == stamp_of(path)))
        return true;

    const Stamp stamp = stamp_of(path);
    Result<Keyring> keyring = Keyring::read_file(path);
    state.confirmed.clear();
    if (!keyring) {
        state.keyring.reset();
        return keyring.error();
    }
    state.keyring = std::move(*keyring);
    state.path = path;
    state.stamp = stamp;
    state.reload = PgReloadTime;
    return true;
}

// The fingerprint that the database holds for a master key id; empty where it holds none.
std::string recorded_fingerprint(std::string_view id) {
    static pg::Statement statement{
        "select m.fingerprint from mrprompt_internal.master_keys m where m.id operator(pg_catalog.=) $1",
        1,
        {TEXTOID}};
    const pg::Value value = pg::Value::of(pg::call([&] { return pg::text_datum(id); }));
    const pg::Row row = pg::query_as_owner(statement, &value, pg::Snapshot::fresh);
    return row.has(0) ? std::string(row.text(0)) : std::string();
}

void record(const MasterKey& key) {
    static pg::Statement statement{
        "insert into mrprompt_internal.master_keys (id, fingerprint) values ($1, $2) on conflict (id) do "
        "nothing",
        2,
        {TEXTOID, TEXTOID}};
    const pg::Value values[] = {pg::Value::of(pg::call([&] { return pg::text_datum(key.id); })),
                                pg::Value::of(pg::call([&] { return pg::text_datum(key.fingerprint); }))};
    pg::query_as_owner(statement, values, pg::Snapshot::fresh);
}

std::string mismatch(const MasterKey& key, const std::string& recorded) {
    return "master key \"" + key.id + "\" of this server (fingerprint " + key.fingerprint +
           ") is not the one that this database was sealed with (fingerprint " + recorded + ")";
}

constexpr const char* kMismatchHint =
    "Give this server the master key file of the server that the database comes from. A new master key needs "
    "an id "
    "of its own.";

// The database must know the active key by its fingerprint before anything is sealed with it.
void confirm(const MasterKey& key) {
    Loaded& state = loaded();
    if (state.confirmed == key.fingerprint) return;
    // What this transaction itself recorded may be rolled back, so it is not remembered.
    const bool may_remember = !TransactionIdIsValid(GetTopTransactionIdIfAny());
    std::string recorded = recorded_fingerprint(key.id);
    if (recorded.empty() && !XactReadOnly) {
        record(key);
        recorded = recorded_fingerprint(key.id);
    } else if (!recorded.empty() && may_remember && recorded == key.fingerprint) {
        state.confirmed = key.fingerprint;
    }
    if (!recorded.empty() && recorded != key.fingerprint)
        throw SqlError{ERRCODE_CONFIG_FILE_ERROR, mismatch(key, recorded), {}, kMismatchHint};
}

}  // namespace

const Keyring& server_keyring(std::string_view wanted_id) {
    const Result<bool> refreshed = refresh(wanted_id);
    if (refreshed) return *loaded().keyring;
    const Error& error = refreshed.error();
    if (error.type == "not_configured")
        throw SqlError{ERRCODE_CONFIG_FILE_ERROR, error.message, {}, kMakeOne};
    throw SqlError{ERRCODE_CONFIG_FILE_ERROR, kUnusable,
                   pg::call([] { return caller_is_admin(); }) ? error.message : std::string(),
                   "An administrator sees the reason with: select mrprompt.doctor();"};
}

std::string seal_in_database(const Secret& plain, const Binding& binding) {
    const Keyring& keyring = server_keyring();
    confirm(keyring.active());
    Result<std::string> sealed = seal(keyring, plain, binding);
    if (!sealed) throw SqlError{kTooLarge, sealed.error().message};
    return std::move(*sealed);
}

OpenedKey open_for_relay(std::string_view sealed, const Binding& binding) {
    const std::string_view id = sealed_under(sealed);
    if (const Result<bool> refreshed = refresh(id); !refreshed)
        return {
            false, {}, refreshed.error().type == "not_configured" ? refreshed.error().message : kUnusable};
    Result<Secret> plain = open_sealed(*loaded().keyring, sealed, binding);
    if (plain) return {true, std::move(*plain), {}};

    std::string reason = plain.error().message;
    if (plain.error().type == "does_not_open" && IsTransactionState()) {
        // A foreign keyring is to be called that, not a damaged key.
        const MasterKey& key = *loaded().keyring->find(id);
        const std::string recorded = recorded_fingerprint(id);
        if (!recorded.empty() && recorded != key.fingerprint) reason = mismatch(key, recorded);
    }
    return {false, {}, reason};
}

OpenedKey open_for_relay(std::string_view sealed, std::string_view key_id, std::string_view owner,
                         std::string_view provider) {
    return open_for_relay(sealed, Binding{std::string(key_id), std::string(owner), std::string(provider)});
}

const Keyring* current_keyring() {
    const Loaded& state = loaded();
    return state.keyring ? &*state.keyring : nullptr;
}

Datum master_key_ids(const Keyring& keyring) {
    auto* ids = static_cast<Datum*>(palloc(keyring.keys().size() * sizeof(Datum)));
    int count = 0;
    for (const MasterKey& key : keyring.keys()) ids[count++] = pg::text_datum(key.id);
    return PointerGetDatum(construct_array(ids, count, TEXTOID, -1, false, TYPALIGN_INT));
}

bool keyring_configured() {
    return settings::master_key_file != nullptr && settings::master_key_file[0] != '\0';
}

std::string keyring_problem() {
    if (!keyring_configured()) return kMakeOne;
    const Result<bool> refreshed = refresh({});
    if (!refreshed) return refreshed.error().message;
    for (const MasterKey& key : loaded().keyring->keys()) {
        const std::string recorded = recorded_fingerprint(key.id);
        if (!recorded.empty() && recorded != key.fingerprint) return mismatch(key, recorded);
    }
    static pg::Statement statement{
        "select m.id from mrprompt_internal.master_keys m where not m.id operator(pg_catalog.=) any ($1) and "
        "exists ("
        "select from mrprompt.api_keys k where pg_catalog.starts_with(k.encrypted_key, "
        "pg_catalog.concat('mrp1.', m.id, '.'))"
        " union all select from mrprompt_internal.lookup_key l"
        " where pg_catalog.starts_with(l.sealed, pg_catalog.concat('mrp1.', m.id, '.'))) limit 1",
        1,
        {TEXTARRAYOID}};
    const pg::Value value = pg::Value::of(pg::call([] { return master_key_ids(*loaded().keyring); }));
    const pg::Row row = pg::query_as_owner(statement, &value, pg::Snapshot::fresh);
    if (row.has(0))
        return "keys of this database are sealed under master key \"" + std::string(row.text(0)) +
               "\", which the master key file does not hold";
    return {};
}

}  // namespace mrprompt
