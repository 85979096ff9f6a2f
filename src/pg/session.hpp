// The session of mrprompt's own processes: how it is set up, and how one statement runs in a transaction of
// its own.
#pragma once
#include "pg/boundary.hpp"

namespace mrprompt::session {

inline constexpr char kContractRole[] = "mrprompt_fetcher";  // runs what a fetcher asked for
inline constexpr char kOwnerRole[] = "mrprompt_owner";       // runs the supervisor's own house-keeping

// Connects this background worker to the database and makes its session independent of ALTER DATABASE SET.
// Raises.
void connect(Oid database);

// Sets again what connect() set, whatever has been changed since. May raise.
void apply_settings();

// Memory for what one turn of the main loop keeps beyond its transactions; current between them.
MemoryContext turn_memory();

// One statement, prepared at its first use. Inside a transaction only; may raise.
struct Statement {
    const char* query;
    int argument_count;
    Oid argument_types[6];
    SPIPlanPtr plan;

    // Runs it; its rows are in SPI_tuptable.
    void run(Datum* arguments);
};

// Column `number` of the first row of SPI_tuptable; raises when there is no row.
Datum first_row(int number, bool* is_null);

// Runs body in a transaction of its own as `role` (null: the worker's own user), with SPI connected;
// pg_stat_activity shows `activity`, a text that lasts. Null, or the error, after the transaction was
// aborted. What body keeps, it puts into turn_memory().
ErrorData* run_in_transaction(const char* activity, const char* role, void (*body)(void*), void* state);

template <class F>
ErrorData* in_transaction(const char* activity, const char* role, F&& body) {
    return run_in_transaction(
        activity, role, [](void* state) { (*static_cast<std::remove_reference_t<F>*>(state))(); },
        const_cast<void*>(static_cast<const void*>(std::addressof(body))));
}

// The database still wants a supervisor: the extension is there, owns its schema, and connections are
// allowed. Throws pg::PgError.
bool extension_present();

// Whether an error came because that is no longer so.
bool extension_lost(const ErrorData* error);

}  // namespace mrprompt::session
