// The hooks behind install_log_guard.
#include "pg/log_guard.hpp"

#include "pg/prelude.hpp"

#include <algorithm>
#include <string_view>

namespace mrprompt {
namespace {

constexpr std::string_view kTakeSecrets[] = {"add_key",  "update_key", "encrypt_key",   "hash_key",
                                             "mask_key", "import_key", "adopt_api_keys"};

emit_log_hook_type previous_emit_hook = nullptr;
post_parse_analyze_hook_type previous_analyze_hook = nullptr;
// This session has seen a statement that names a function that takes a secret. For good, as nobody tells when
// the last such one is deallocated: it costs the log the text of what is executed, and shows nothing.
bool secret_prepared = false;
bool emitting_hidden = false;

bool in_name(char c) {
    return isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '$' || (c & 0x80) != 0;
}

// Whether `name` begins at `at`, is no part of a longer name, and is called.
bool calls(std::string_view text, std::size_t at, std::string_view name) {
    if (text.size() - at <= name.size() || strncasecmp(text.data() + at, name.data(), name.size()) != 0)
        return false;
    if (at > 0 && in_name(text[at - 1])) return false;
    std::size_t const next = text.find_first_not_of("\" \t\r\n", at + name.size());
    return next != std::string_view::npos && text[next] == '(';
}

// Looks at underscores only: a statement that has nothing to do with us costs one pass.
bool names_secret_function(std::string_view text) {
    for (std::size_t at = text.find('_'); at != std::string_view::npos; at = text.find('_', at + 1)) {
        for (std::string_view const name : kTakeSecrets) {
            std::size_t const before = name.find('_');
            if (at >= before && calls(text, at - before, name)) return true;
        }
    }
    return false;
}

// What a log line may say besides a statement: "duration: 12.345 ms", in any language; empty where it says
// nothing of that.
std::string_view duration_in(const char* message) {
    constexpr std::size_t kMost = 40;
    std::string_view const text{message, strnlen(message, kMost)};
    std::size_t const number = text.find_first_of("0123456789");
    if (number == std::string_view::npos) return {};
    std::size_t const end = text.find_first_not_of("0123456789.", number);
    if (end == std::string_view::npos || !text.substr(end).starts_with(" ms")) return {};
    return text.substr(0, end + 3);
}

// PostgreSQL's own messages quote what they are about, which may be the key. An error that was hidden already
// comes from behind a secret door, in words that hold none.
void hide(ErrorData* error) {
    static char message[100];
    if (error->elevel < ERROR || !error->hide_stmt) {
        std::string_view const duration = error->elevel < ERROR && error->message != nullptr
                                              ? duration_in(error->message)
                                              : std::string_view{};
        if (error->elevel < ERROR)
            snprintf(message, sizeof message, "%.*s%sa statement that carries an API key",
                     static_cast<int>(duration.size()), duration.data(), duration.empty() ? "" : "  ");
        else
            snprintf(message, sizeof message, "a statement that carries an API key failed");
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

bool may_show_secret(const ErrorData* error) {
    if (debug_query_string != nullptr && carries_secret(debug_query_string)) return true;
    // What is logged of an earlier statement: the plan of a portal that ended, for instance.
    return error->message != nullptr && names_secret_function(error->message);
}

// A hook may take a record from the log but not change it: the client gets the same one afterwards. So a
// hidden copy takes its place for the log alone. Runs while an error is reported: allocates nothing, raises
// nothing.
void guard_log(ErrorData* error) {
    if (emitting_hidden || !error->output_to_server || !may_show_secret(error)) {
        if (previous_emit_hook != nullptr) previous_emit_hook(error);
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

// A statement prepared by the protocol is executed by name later, like one that PREPARE made.
void note_statement(ParseState* state, Query* query, JumbleState* jumble) {
    if (previous_analyze_hook != nullptr) previous_analyze_hook(state, query, jumble);
    if (!secret_prepared && state->p_sourcetext != nullptr)
        secret_prepared =
            names_secret_function(own_part(state->p_sourcetext, query->stmt_location, query->stmt_len));
}

}  // namespace

void install_log_guard() {
    previous_emit_hook = emit_log_hook;
    emit_log_hook = guard_log;
    previous_analyze_hook = post_parse_analyze_hook;
    post_parse_analyze_hook = note_statement;
}

std::string_view own_part(const char* text, int location, int length) {
    const char* const begin = text + std::max(location, 0);
    return length > 0 ? std::string_view(begin, length) : std::string_view(begin);
}

bool carries_secret(std::string_view statement) {
    constexpr std::string_view kExecute = "execute";
    if (names_secret_function(statement)) return true;
    return secret_prepared && std::search(statement.begin(), statement.end(), kExecute.begin(),
                                          kExecute.end(), [](char a, char b) {
                                              return tolower(static_cast<unsigned char>(a)) == b;
                                          }) != statement.end();
}

const char* without_literals(const char* statement) {
    char* shown = pstrdup(statement);
    char* at = shown;
    while (*at != '\0' && *at != '\'' && !(*at == '$' && (at[1] < '0' || at[1] > '9'))) ++at;
    for (; *at != '\0'; ++at)
        if (*at != '\n') *at = '.';
    return shown;
}

}  // namespace mrprompt
