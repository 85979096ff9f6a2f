// The two doors between SQL and C++: into C++ by MRPROMPT_FUNCTION, out to PostgreSQL by pg::call.
//
// A C++ exception that reaches fmgr ends the process and restarts every session; a PostgreSQL error that
// jumps over a C++ object skips its destructor. So nothing passes either way but through these.
#pragma once
#include "pg/prelude.hpp"

#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace mrprompt {

// The SQLSTATEs of our own errors; PostgREST answers PTnnn with HTTP status nnn.
inline constexpr int kBadInput = MAKE_SQLSTATE('P', 'T', '4', '0', '0');
inline constexpr int kBudgetExceeded = MAKE_SQLSTATE('P', 'T', '4', '0', '2');
inline constexpr int kNotFound = MAKE_SQLSTATE('P', 'T', '4', '0', '4');
inline constexpr int kConflict = MAKE_SQLSTATE('P', 'T', '4', '0', '9');
inline constexpr int kGone = MAKE_SQLSTATE('P', 'T', '4', '1', '0');
inline constexpr int kTooLarge = MAKE_SQLSTATE('P', 'T', '4', '1', '3');
inline constexpr int kRateLimited = MAKE_SQLSTATE('P', 'T', '4', '2', '9');

// An error of our own on its way to the caller: thrown anywhere behind a door, reported by the door as it
// stands. Message, detail and hint never hold a secret. hide_statement keeps the statement and context out of
// the log.
struct SqlError {
    int sqlstate = ERRCODE_INTERNAL_ERROR;
    std::string message;
    std::string detail{};
    std::string hint{};
    bool hide_statement = false;
};

namespace pg {

// A PostgreSQL error on its way through C++ frames. It may be swallowed only after its (sub)transaction was
// aborted; the door reports it again, unchanged. `data` belongs to the memory context current at pg::call.
struct PgError {
    ErrorData* data;
};

// Runs body(state); the PostgreSQL error it raised, or null. C++ exceptions pass through, with PostgreSQL's
// handler stacks restored.
ErrorData* run_guarded(void (*body)(void*), void* state);

// Calls PostgreSQL code that may raise, from C++ code that has objects alive. A raised error becomes a
// PgError exception. Inside the lambda no object with a destructor may be alive while PostgreSQL runs; its
// result must be trivially destructible (pointers and palloc'd text are).
template <class F>
auto call(F&& function) {
    using Value = std::invoke_result_t<F&>;
    if constexpr (std::is_void_v<Value>) {
        ErrorData* error =
            run_guarded([](void* state) { (*static_cast<std::remove_reference_t<F>*>(state))(); },
                        const_cast<void*>(static_cast<const void*>(std::addressof(function))));
        if (error != nullptr) throw PgError{error};
    } else {
        static_assert(std::is_trivially_destructible_v<Value> && std::is_default_constructible_v<Value>,
                      "what leaves pg::call must not need a destructor");
        struct State {
            std::remove_reference_t<F>* function;
            Value value;
        } state{std::addressof(function), Value{}};
        ErrorData* error = run_guarded(
            [](void* raw) {
                auto* own = static_cast<State*>(raw);
                own->value = (*own->function)();
            },
            &state);
        if (error != nullptr) throw PgError{error};
        return state.value;
    }
}

// How a door treats errors raised behind it.
enum class Door {
    plain,
    secret,  // an argument is a secret: statement and context of every error stay out of the log
};

// The bodies of the macros below; they do not return normally when `body` fails.
Datum enter(Datum (*body)(FunctionCallInfo), FunctionCallInfo fcinfo, Door door);
void enter_worker(void (*body)(Datum), Datum argument);

// Argument `n`, detoasted; valid until the function's memory context goes. May raise (use inside pg::call, or
// while no object with a destructor is alive).
inline std::string_view text_argument(FunctionCallInfo fcinfo, int n) {
    const text* value = PG_GETARG_TEXT_PP(n);
    return {VARDATA_ANY(value), static_cast<size_t>(VARSIZE_ANY_EXHDR(value))};
}

// Text as a Datum in the current memory context. May raise only when memory is exhausted.
inline Datum text_datum(std::string_view value) {
    return PointerGetDatum(cstring_to_text_with_len(value.data(), static_cast<int>(value.size())));
}

}  // namespace pg
}  // namespace mrprompt

#define MRPROMPT_FUNCTION_BEHIND(door, name)                     \
    static Datum name##_body(FunctionCallInfo fcinfo);           \
    extern "C" {                                                 \
    PGDLLEXPORT Datum name(PG_FUNCTION_ARGS);                    \
    PG_FUNCTION_INFO_V1(name);                                   \
    Datum name(PG_FUNCTION_ARGS) {                               \
        return ::mrprompt::pg::enter(name##_body, fcinfo, door); \
    }                                                            \
    }                                                            \
    static Datum name##_body([[maybe_unused]] FunctionCallInfo fcinfo)

// MRPROMPT_FUNCTION(uuidv7) { … PG_RETURN_…; } defines an SQL-callable function.
#define MRPROMPT_FUNCTION(name) MRPROMPT_FUNCTION_BEHIND(::mrprompt::pg::Door::plain, name)

// The same for a function that takes a secret.
#define MRPROMPT_SECRET_FUNCTION(name) MRPROMPT_FUNCTION_BEHIND(::mrprompt::pg::Door::secret, name)

// MRPROMPT_WORKER(mrprompt_launcher_main) { … uses `argument` … } defines a background worker's entry point.
#define MRPROMPT_WORKER(name)                                \
    static void name##_body(Datum argument);                 \
    extern "C" {                                             \
    PGDLLEXPORT void name(Datum argument);                   \
    void name(Datum argument) {                              \
        ::mrprompt::pg::enter_worker(name##_body, argument); \
    }                                                        \
    }                                                        \
    static void name##_body([[maybe_unused]] Datum argument)
