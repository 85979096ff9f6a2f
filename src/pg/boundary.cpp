// The doors between SQL and C++: errors change their form here, and nowhere else.
#include "pg/boundary.hpp"

#include <new>

namespace mrprompt::pg {
namespace {

// What a door reports, in PostgreSQL's memory: no destructor may be pending when ereport jumps.
struct Failure {
    ErrorData* error = nullptr;
    int sqlstate = ERRCODE_INTERNAL_ERROR;
    const char* message = "unexpected failure inside mrprompt";
    const char* detail = nullptr;
    const char* hint = nullptr;
    bool hide_statement = false;
};

// A copy that cannot raise: it is made inside a C++ handler, which ereport must not jump out of.
const char* copied(std::string_view text, const char* otherwise) {
    if (text.empty()) return otherwise;
    auto* copy = static_cast<char*>(
        MemoryContextAllocExtended(CurrentMemoryContext, text.size() + 1, MCXT_ALLOC_NO_OOM));
    if (copy == nullptr) return otherwise;
    memcpy(copy, text.data(), text.size());
    copy[text.size()] = '\0';
    return copy;
}

// Call inside a handler: describes the exception in flight.
Failure current_failure() {
    Failure failure;
    try {
        throw;
    } catch (const PgError& raised) {
        failure.error = raised.data;
    } catch (const SqlError& raised) {
        failure.sqlstate = raised.sqlstate;
        failure.message = copied(raised.message, failure.message);
        failure.detail = copied(raised.detail, nullptr);
        failure.hint = copied(raised.hint, nullptr);
        failure.hide_statement = raised.hide_statement;
    } catch (const std::bad_alloc&) {
        failure.sqlstate = ERRCODE_OUT_OF_MEMORY;
        failure.message = "out of memory inside mrprompt";
    } catch (const std::exception& raised) {
        failure.detail = copied(raised.what(), nullptr);
    } catch (...) {
    }
    return failure;
}

[[noreturn]] void report(const Failure& failure) {
    if (failure.error != nullptr) {
        if (failure.hide_statement) {
            failure.error->hide_stmt = true;
            failure.error->hide_ctx = true;
            failure.error->context = nullptr;
            failure.error->internalquery = nullptr;
        }
        ReThrowError(failure.error);
    }
    // A calling PL/pgSQL block would add its statement, literals and all, for the client to see.
    if (failure.hide_statement) error_context_stack = nullptr;
    ereport(ERROR, (errcode(failure.sqlstate), errmsg_internal("%s", failure.message),
                    failure.detail != nullptr ? errdetail_internal("%s", failure.detail) : 0,
                    failure.hint != nullptr ? errhint("%s", failure.hint) : 0,
                    errhidestmt(failure.hide_statement), errhidecontext(failure.hide_statement)));
    pg_unreachable();
}

struct Entry {
    Datum (*body)(FunctionCallInfo);
    FunctionCallInfo fcinfo;
    Datum value;
};

}  // namespace

ErrorData* run_guarded(void (*body)(void*), void* state) {
    sigjmp_buf* const outer_handler = PG_exception_stack;
    ErrorContextCallback* const outer_callbacks = error_context_stack;
    MemoryContext const context = CurrentMemoryContext;
    sigjmp_buf handler;
    // No object with a destructor lives in this frame: siglongjmp into it would be undefined.
    if (sigsetjmp(handler, 0) == 0) {
        PG_exception_stack = &handler;
        try {
            body(state);
        } catch (...) {
            PG_exception_stack = outer_handler;
            error_context_stack = outer_callbacks;
            throw;
        }
        PG_exception_stack = outer_handler;
        error_context_stack = outer_callbacks;
        return nullptr;
    }
    PG_exception_stack = outer_handler;
    error_context_stack = outer_callbacks;
    MemoryContextSwitchTo(context);
    ErrorData* error = CopyErrorData();
    FlushErrorState();
    return error;
}

Datum enter(Datum (*body)(FunctionCallInfo), FunctionCallInfo fcinfo, Door door) {
    Failure failure;
    try {
        if (door == Door::plain) return body(fcinfo);
        // Behind a secret door even an error raised outside pg::call must lose its statement.
        Entry entry{body, fcinfo, 0};
        failure.error = run_guarded(
            [](void* state) {
                auto* own = static_cast<Entry*>(state);
                own->value = own->body(own->fcinfo);
            },
            &entry);
        if (failure.error == nullptr) return entry.value;
    } catch (...) {
        failure = current_failure();
    }
    failure.hide_statement = failure.hide_statement || door == Door::secret;
    report(failure);
}

void enter_worker(void (*body)(Datum), Datum argument) {
    Failure failure;
    try {
        body(argument);
        return;
    } catch (...) {
        failure = current_failure();
    }
    report(failure);
}

}  // namespace mrprompt::pg
