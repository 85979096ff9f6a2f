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
planner_hook_type previous_planner_hook = nullptr;
ExecutorEnd_hook_type previous_end_hook = nullptr;
// This session has seen a statement that names a function that takes a secret. For good, as nobody tells when
// the last such one is deallocated: it costs the log the text of what is executed, and shows nothing.
bool secret_prepared = false;
bool emitting_hidden = false;
// The statement that ends now carries a secret, whichever runs.
bool ending_secret = false;

// Of a text that ends in NUL.
bool begins_literal(const char* at) {
    return *at == '\'' || (*at == '$' && (at[1] < '0' || at[1] > '9'));
}

bool in_name(char c) {
    return isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '$' || (c & 0x80) != 0;
}

// Where the text goes on behind the comment that begins at `at`; `at` where none does.
std::size_t behind_comment(std::string_view text, std::size_t at) {
    std::string_view const two = text.substr(at, 2);
    if (two == "--") return text.find_first_of("\r\n", at);
    if (two != "/*") return at;
    int depth = 0;
    while (at < text.size()) {
        std::string_view const mark = text.substr(at, 2);
        if (mark == "/*")
            ++depth;
        else if (mark == "*/")
            --depth;
        at += mark == "/*" || mark == "*/" ? 2 : 1;
        if (depth == 0) return at;
    }
    return std::string_view::npos;
}

// Where the text goes on behind white space, comments and the quotation mark of a name.
std::size_t behind_blanks(std::string_view text, std::size_t at) {
    for (std::size_t begin = std::string_view::npos; at != begin && at != std::string_view::npos;) {
        begin = text.find_first_not_of("\" \t\r\n\f\v", at);
        at = begin == std::string_view::npos ? begin : behind_comment(text, begin);
    }
    return at;
}

// Whether `name` begins at `at`, is no part of a longer name, and is called.
bool calls(std::string_view text, std::size_t at, std::string_view name) {
    if (text.size() - at <= name.size() || strncasecmp(text.data() + at, name.data(), name.size()) != 0)
        return false;
    if (at > 0 && in_name(text[at - 1])) return false;
    std::size_t const next = behind_blanks(text, at + name.size());
    return next != std::string_view::npos && text[next] == '(';
}

// Whether a name begins at `at` that is written with escapes, U&"add\005fkey": it may be any.
bool is_escaped_name(std::string_view text, std::size_t at) {
    return text.substr(at, 2) == "&\"" && at > 0 && (text[at - 1] == 'U' || text[at - 1] == 'u');
}

// Where the text first names a function that takes a secret, or may; npos where it does not. Looks at
// underscores and ampersands only: a statement that has nothing to do with us costs one pass.
std::size_t place_of_secret_function(std::string_view text) {
    for (std::size_t at = text.find_first_of("_&"); at != std::string_view::npos;
         at = text.find_first_of("_&", at + 1)) {
        if (is_escaped_name(text, at)) return at - 1;
        for (std::string_view const name : kTakeSecrets) {
            std::size_t const before = name.find('_');
            if (at >= before && calls(text, at - before, name)) return at - before;
        }
    }
    return std::string_view::npos;
}

bool names_secret_function(std::string_view text) {
    return place_of_secret_function(text) != std::string_view::npos;
}

std::size_t place_of_execute(std::string_view text) {
    constexpr std::string_view kExecute = "execute";
    auto const place =
        std::search(text.begin(), text.end(), kExecute.begin(), kExecute.end(),
                    [](char a, char b) { return tolower(static_cast<unsigned char>(a)) == b; });
    return place == text.end() ? std::string_view::npos : static_cast<std::size_t>(place - text.begin());
}

bool is_word(std::string_view text, std::string_view word) {
    return text.size() == word.size() && strncasecmp(text.data(), word.data(), word.size()) == 0;
}

template <typename Words>
bool is_one_of(std::string_view text, const Words& words) {
    return std::any_of(std::begin(words), std::end(words),
                       [&](std::string_view word) { return is_word(text, word); });
}

// Of a command that has no query at its beginning, what stands before anything that could be a key: a
// literal, the name of a function that takes one, a query of its own, or another statement. Without
// comments: nobody keeps the removal of a table out of the log by naming such a function in one. Empty for
// all others. Valid until the next call.
std::string_view harmless_beginning(std::string_view text) {
    constexpr std::string_view kCommands[] = {"alter",    "comment",  "create",  "drop",
                                              "grant",    "reassign", "reindex", "revoke",
                                              "security", "truncate", "vacuum"};
    constexpr std::string_view kQueries[] = {"as", "execute", "select", "values", "with"};
    static char shown[400];
    std::size_t length = 0;
    for (std::size_t at = 0, next = 0; at < text.size() && length < sizeof shown; at = next) {
        next = behind_comment(text, at);
        if (next != at) continue;
        if (text[at] == ';' || begins_literal(text.data() + at)) break;
        while (next < text.size() && in_name(text[next])) ++next;
        std::string_view const word = text.substr(at, next - at);
        if (!word.empty()) {
            if (length == 0 && !is_one_of(word, kCommands)) return {};
            if (is_one_of(word, kTakeSecrets) || is_one_of(word, kQueries) || is_escaped_name(text, next) ||
                word.size() > sizeof shown - length)
                break;
        } else {
            ++next;
            if (length == 0) continue;
        }
        std::copy_n(text.data() + at, next - at, shown + length);
        length += next - at;
    }
    return {shown, length};
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

// What is shown instead of the statement and, below ERROR, of what else the message says.
constexpr const char* kInstead = "a statement that carries an API key";

// PostgreSQL's own messages quote what they are about, which may be the key. An error that was hidden already
// comes from behind a secret door, in words that hold none.
void hide(ErrorData* error) {
    static char message[600];
    if (error->elevel < ERROR || !error->hide_stmt) {
        std::string_view const duration = error->elevel < ERROR && error->message != nullptr
                                              ? duration_in(error->message)
                                              : std::string_view{};
        std::string_view const shown =
            debug_query_string != nullptr ? harmless_beginning(debug_query_string) : std::string_view{};
        snprintf(message, sizeof message, "%.*s%s%s%s%s%.*s", static_cast<int>(duration.size()),
                 duration.data(), duration.empty() ? "" : "  ", kInstead,
                 error->elevel < ERROR ? "" : " failed", shown.empty() ? "" : ": ",
                 static_cast<int>(shown.size()), shown.data());
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
    if (ending_secret) return true;
    if (debug_query_string != nullptr && carries_secret(debug_query_string)) return true;
    // What is logged of an earlier statement: the plan of a portal that ended, for instance.
    return error->message != nullptr && names_secret_function(error->message);
}

// The log gets a deadlock with the statements of the other sessions in it.
bool quotes_others(const ErrorData* error) {
    return error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED && error->detail_log != nullptr &&
           (names_secret_function(error->detail_log) ||
            place_of_execute(error->detail_log) != std::string_view::npos);
}

// A hook may take a record from the log but not change it: the client gets the same one afterwards. So a
// hidden copy takes its place for the log alone. Runs while an error is reported: allocates nothing, raises
// nothing of its own.
void guard_log(ErrorData* error) {
    bool const guarded = !emitting_hidden && error->output_to_server;
    bool const own = guarded && may_show_secret(error);
    if (!own && !(guarded && quotes_others(error))) {
        if (previous_emit_hook != nullptr) previous_emit_hook(error);
        return;
    }
    ErrorData const original = *error;
    if (own) hide(error);
    error->detail_log = nullptr;
    // Where it failed before the function began, nothing has taken it out of there.
    if (own && error->elevel >= ERROR) pgstat_report_activity(STATE_RUNNING, kInstead);
    error->output_to_client = false;
    emitting_hidden = true;
    PG_TRY();
    { EmitErrorReport(); }
    PG_FINALLY();
    {
        emitting_hidden = false;
        *error = original;
    }
    PG_END_TRY();
    error->output_to_server = false;
}

// A statement prepared by the protocol is executed by name later, like one that PREPARE made.
void note_statement(ParseState* state, Query* query, JumbleState* jumble) {
    if (previous_analyze_hook != nullptr) previous_analyze_hook(state, query, jumble);
    if (!secret_prepared && state->p_sourcetext != nullptr)
        secret_prepared =
            names_secret_function(own_part(state->p_sourcetext, query->stmt_location, query->stmt_len));
}

bool hides(const char* text, int location, int length) {
    return secret_prepared && text != nullptr && carries_secret(own_part(text, location, length));
}

// Statistics are kept by the text: where pg_stat_statements has lost the entry that it made of the parsed
// statement, it makes one of what the planner and the executor are given.
PlannedStmt* plan(Query* query, const char* text, int options, ParamListInfo parameters) {
    if (hides(text, query->stmt_location, query->stmt_len)) text = without_literals(text);
    return (previous_planner_hook != nullptr ? previous_planner_hook : standard_planner)(query, text, options,
                                                                                         parameters);
}

void end_as_usual(QueryDesc* query) {
    (previous_end_hook != nullptr ? previous_end_hook : standard_ExecutorEnd)(query);
}

void end_executor(QueryDesc* query) {
    if (!hides(query->sourceText, query->plannedstmt->stmt_location, query->plannedstmt->stmt_len))
        return end_as_usual(query);
    query->sourceText = without_literals(query->sourceText);
    bool const outer = ending_secret;
    ending_secret = true;
    PG_TRY();
    { end_as_usual(query); }
    PG_FINALLY();
    { ending_secret = outer; }
    PG_END_TRY();
}

}  // namespace

void install_log_guard() {
    previous_emit_hook = emit_log_hook;
    emit_log_hook = guard_log;
    previous_analyze_hook = post_parse_analyze_hook;
    post_parse_analyze_hook = note_statement;
    previous_planner_hook = planner_hook;
    planner_hook = plan;
    previous_end_hook = ExecutorEnd_hook;
    ExecutorEnd_hook = end_executor;
}

std::string_view own_part(const char* text, int location, int length) {
    const char* const begin = text + std::max(location, 0);
    return length > 0 ? std::string_view(begin, length) : std::string_view(begin);
}

bool carries_secret(std::string_view statement) {
    return names_secret_function(statement) ||
           (secret_prepared && place_of_execute(statement) != std::string_view::npos);
}

const char* without_literals(const char* statement) {
    char* shown = pstrdup(statement);
    char* at = shown;
    while (*at != '\0' && !begins_literal(at)) ++at;
    for (; *at != '\0'; ++at)
        if (*at != '\n') *at = '.';
    return shown;
}

}  // namespace mrprompt
