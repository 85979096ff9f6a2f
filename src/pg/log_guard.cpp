// The emit_log_hook behind install_log_guard.
#include "pg/log_guard.hpp"

#include "pg/boundary.hpp"

namespace mrprompt {
namespace {

const char* const kTakeSecrets[] = {"add_key", "update_key", "encrypt_key", "hash_key", "mask_key"};

emit_log_hook_type previous_hook = nullptr;

bool carries_secret(const char* statement) {
    for (const char* name : kTakeSecrets)
        if (strcasestr(statement, name) != nullptr) return true;
    return false;
}

// Runs while an error is reported: allocates nothing, raises nothing.
void hide_statement(ErrorData* error) {
    if (error->output_to_server && debug_query_string != nullptr && carries_secret(debug_query_string)) {
        error->hide_stmt = true;
        error->hide_ctx = true;
        error->internalquery = nullptr;
        // "invalid input syntax for type uuid: …" quotes a literal, which may be a key in the wrong place.
        if (error->sqlerrcode == ERRCODE_INVALID_TEXT_REPRESENTATION) {
            static char unquoted[] =
                "an argument of a statement that carries an API key has an invalid value";
            error->message = unquoted;
            error->detail = nullptr;
        }
    }
    if (previous_hook != nullptr) previous_hook(error);
}

}  // namespace

void install_log_guard() {
    previous_hook = emit_log_hook;
    emit_log_hook = hide_statement;
}

}  // namespace mrprompt
