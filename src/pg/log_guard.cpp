// The emit_log_hook behind install_log_guard.
#include "pg/log_guard.hpp"

#include "pg/prelude.hpp"

namespace mrprompt {
namespace {

const char* const kTakeSecrets[] = {"add_key", "update_key", "encrypt_key", "hash_key", "mask_key"};

emit_log_hook_type previous_hook = nullptr;
bool secret_prepared = false;  // a prepared statement of this session names a function that takes a secret
bool emitting_hidden = false;

bool names_secret_function(const char* statement) {
    for (const char* name : kTakeSecrets)
        if (strcasestr(statement, name) != nullptr) return true;
    return false;
}

bool carries_secret(const char* statement) {
    if (statement == nullptr) return false;
    return names_secret_function(statement) ||
           (secret_prepared && strcasestr(statement, "execute") != nullptr);
}

// PostgreSQL's own errors quote what they stumble over, which may be the key. One that was hidden already
// comes from behind a secret door, in words that hold none.
void hide(ErrorData* error) {
    static char message[] = "a statement that carries an API key failed";
    if (error->elevel >= ERROR && !error->hide_stmt) {
        error->message = message;
        error->detail = nullptr;
        error->detail_log = nullptr;
        error->hint = nullptr;
    }
    error->context = nullptr;
    error->internalquery = nullptr;
    error->hide_stmt = true;
    error->hide_ctx = true;
}

// A hook may take a record from the log but not change it: the client gets the same one afterwards. So a
// hidden copy takes its place for the log alone. Runs while an error is reported: allocates nothing, raises
// nothing.
void guard_log(ErrorData* error) {
    if (emitting_hidden || !error->output_to_server || !carries_secret(debug_query_string)) {
        if (previous_hook != nullptr) previous_hook(error);
        return;
    }
    ErrorData const original = *error;
    hide(error);
    error->output_to_client = false;
    emitting_hidden = true;
    EmitErrorReport();
    emitting_hidden = false;
    *error = original;
    error->output_to_server = false;
}

}  // namespace

void install_log_guard() {
    previous_hook = emit_log_hook;
    emit_log_hook = guard_log;
}

void note_prepared(const char* statement) {
    secret_prepared = secret_prepared || names_secret_function(statement);
}

}  // namespace mrprompt
