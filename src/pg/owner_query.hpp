// One SQL statement on mrprompt's own tables, run with their owner's rights.
#pragma once
#include "pg/prelude.hpp"

#include <string_view>

namespace mrprompt::pg {

inline constexpr int kMaxParameters = 12;
inline constexpr int kMaxColumns = 4;

// A statement with its kept plan; make it `static`. Names and operators in `sql` are qualified in full: the
// caller's search_path is in force.
struct Statement {
    const char* sql;
    int parameters;
    Oid types[kMaxParameters];
    SPIPlanPtr plan = nullptr;
};

// A parameter; null unless given a value.
struct Value {
    Datum datum = 0;
    bool is_null = true;

    static Value of(Datum datum) { return {datum, false}; }
    static Value of(const pg_uuid_t& id) { return {UUIDPGetDatum(&id), false}; }
    static Value of(std::string_view text);  // a copy, in the current memory context
    static Value argument(FunctionCallInfo fcinfo, int n) {
        return PG_ARGISNULL(n) ? Value{} : of(PG_GETARG_DATUM(n));
    }
};

// The first row, if any; its values live in the memory context that was current at the call.
struct Row {
    bool found = false;
    Datum values[kMaxColumns] = {};
    bool nulls[kMaxColumns] = {};

    bool has(int column) const { return found && !nulls[column]; }
    std::string_view text(int column) const {
        const auto* value = reinterpret_cast<const struct varlena*>(DatumGetPointer(values[column]));
        return {VARDATA_ANY(value), static_cast<size_t>(VARSIZE_ANY_EXHDR(value))};
    }
};

// With Snapshot::callers the statement reads what the calling query sees and may not write.
enum class Snapshot { callers, fresh };

// Runs the statement as mrprompt_owner, whoever asks, past row-level security: the calling C++ function must
// check rights before. PostgreSQL's errors arrive as PgError.
Row query_as_owner(Statement& statement, const Value* values, Snapshot snapshot);

}  // namespace mrprompt::pg
