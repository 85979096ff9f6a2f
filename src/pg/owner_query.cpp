// Running a statement as mrprompt_owner through SPI.
#include "pg/owner_query.hpp"

#include "pg/boundary.hpp"

namespace mrprompt::pg {
namespace {

void prepare(Statement& statement) {
    SPIPlanPtr plan = SPI_prepare(statement.sql, statement.parameters, statement.types);
    if (plan == nullptr) elog(ERROR, "could not prepare a statement: %s", SPI_result_code_string(SPI_result));
    SPI_keepplan(plan);
    statement.plan = plan;
}

Row first_row() {
    Row row;
    if (SPI_tuptable == nullptr || SPI_processed == 0) return row;
    row.found = true;
    const TupleDesc description = SPI_tuptable->tupdesc;
    for (int i = 0; i < description->natts && i < kMaxColumns; ++i) {
        Datum value = SPI_getbinval(SPI_tuptable->vals[0], description, i + 1, &row.nulls[i]);
        if (row.nulls[i]) continue;
        const Form_pg_attribute column = TupleDescAttr(description, i);
        // A toasted value must be fetched while the statement's snapshot still protects it.
        if (column->attlen == -1)
            value = PointerGetDatum(
                pg_detoast_datum_packed(reinterpret_cast<struct varlena*>(DatumGetPointer(value))));
        row.values[i] = SPI_datumTransfer(value, column->attbyval, column->attlen);
    }
    return row;
}

}  // namespace

Value Value::of(std::string_view text) {
    return of(call([&] { return text_datum(text); }));
}

Row query_as_owner(Statement& statement, const Value* values, Snapshot snapshot) {
    return call([&] {
        Datum datums[kMaxParameters] = {};
        char nulls[kMaxParameters + 1] = {};
        for (int i = 0; i < statement.parameters; ++i) {
            datums[i] = values[i].datum;
            nulls[i] = values[i].is_null ? 'n' : ' ';
        }
        const Oid owner = get_role_oid("mrprompt_owner", false);
        Oid caller = InvalidOid;
        int context = 0;
        GetUserIdAndSecContext(&caller, &context);
        // On an error the end of the (sub)transaction restores both.
        SetUserIdAndSecContext(owner, context | SECURITY_LOCAL_USERID_CHANGE);
        SPI_connect();
        if (statement.plan == nullptr) prepare(statement);
        const int result = SPI_execute_plan(statement.plan, datums, nulls, snapshot == Snapshot::callers, 1);
        if (result < 0) elog(ERROR, "could not run a statement: %s", SPI_result_code_string(result));
        const Row row = first_row();
        SPI_finish();
        SetUserIdAndSecContext(caller, context);
        return row;
    });
}

}  // namespace mrprompt::pg
