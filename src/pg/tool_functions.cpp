// What SQL asks of the tools' C++ side.
#include "pg/boundary.hpp"
#include "pg/tool_processes.hpp"

using namespace mrprompt;

namespace {

// The oid that a name (regproc) or signature (regprocedure) stands for; raises as those types' input does.
Oid looked_up(const char* name) {
    PGFunction const input = strchr(name, '(') != nullptr ? regprocedurein : regprocin;
    return DatumGetObjectId(DirectFunctionCall1(input, CStringGetDatum(name)));
}

// A name that is malformed, or that nothing or too much answers to.
bool is_about_the_name(int sqlstate) {
    int const category = ERRCODE_TO_CATEGORY(sqlstate);
    return sqlstate != ERRCODE_INSUFFICIENT_PRIVILEGE &&
           (category == ERRCODE_TO_CATEGORY(ERRCODE_SYNTAX_ERROR) || category == ERRCODE_DATA_EXCEPTION ||
            sqlstate == ERRCODE_UNDEFINED_SCHEMA || sqlstate == ERRCODE_FEATURE_NOT_SUPPORTED);
}

}  // namespace

// mrprompt_internal.find_function(name text) returns oid.
MRPROMPT_FUNCTION(find_function) {
    const char* name = text_to_cstring(PG_GETARG_TEXT_PP(0));
    ErrorData* error = nullptr;
    try {
        PG_RETURN_OID(pg::call([&] { return looked_up(name); }));
    } catch (const pg::PgError& raised) {
        error = raised.data;
    }
    if (!is_about_the_name(error->sqlerrcode)) throw pg::PgError{error};
    // Still an error, so nothing is swallowed: only its words change.
    throw SqlError{
        kBadInput,
        std::string("cannot tell which function is meant: ") + error->message,
        {},
        "Name it with its schema, and with its argument types where there are several: public.f(uuid, int)"};
}

// mrprompt_internal.signature_oid(signature text) returns oid, looked up with nobody's rights: tools lie in
// schemas that mrprompt_owner may not use. Raises where a schema or type is missing.
MRPROMPT_FUNCTION(signature_oid) {
    Oid caller = InvalidOid;
    int context = 0;
    GetUserIdAndSecContext(&caller, &context);
    // On an error the end of the (sub)transaction restores both.
    SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID,
                           context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
    LOCAL_FCINFO(lookup, 1);
    InitFunctionCallInfoData(*lookup, nullptr, 1, InvalidOid, nullptr, nullptr);
    lookup->args[0].value = PG_GETARG_DATUM(0);
    lookup->args[0].isnull = false;
    Datum const function = to_regprocedure(lookup);
    SetUserIdAndSecContext(caller, context);
    if (lookup->isnull) PG_RETURN_NULL();
    PG_RETURN_DATUM(function);
}

MRPROMPT_FUNCTION(start_tools) {
    start_tool_process_at_commit();
    PG_RETURN_VOID();
}

MRPROMPT_FUNCTION(stop_tool) {
    stop_tool_process_at_commit(PG_GETARG_INT32(0));
    PG_RETURN_VOID();
}
