// The definitions of the mrprompt.* settings, and the function by which SQL reads them.
#include "pg/settings.hpp"

#include <climits>
#include <string_view>

#include "pg/boundary.hpp"

namespace mrprompt {
namespace settings {
char* master_key_file = nullptr;
char* trusted_logins = nullptr;
char* anonymous_roles = nullptr;
char* fetcher_path = nullptr;
char* certificate_directories = nullptr;
bool local_fetcher = true;
int max_databases = 64;
int max_in_flight = 256;
int claim_bytes = 32 * 1024 * 1024;
int delta_interval_ms = 50;
int heartbeat_interval_ms = 2000;
int lease_timeout_ms = 30'000;
int poll_interval_ms = 5000;
int idle_timeout_ms = 60'000;
int max_payload_bytes = 8 * 1024 * 1024;
int max_response_bytes = 64 * 1024 * 1024;
int max_delta_bytes = 1024 * 1024;
int max_stream_deltas = 200'000;
int max_queued = 1'000'000;
int max_queued_per_user = 100'000;
int max_failures = 10;
int max_run_steps = 50;
int run_timeout_s = 60 * 60;
int tool_output_timeout_s = 10 * 60;
int context_tokens = 100000;
int max_waiters = 64;
int request_retention_s = -1;
int response_retention_s = -1;
int delta_retention_s = 24 * 60 * 60;
int attempt_retention_s = 90 * 24 * 60 * 60;
int usage_retention_s = -1;
int audit_retention_s = -1;
int thread_retention_s = -1;
char* default_provider = nullptr;
char* unpriced_requests = nullptr;
int default_output_limit = 4096;
int max_tool_workers = 4;
char* tool_role = nullptr;
char* tool_user = nullptr;

std::vector<std::string> list_certificate_directories() {
    List* names = NIL;
    pg::call([&] { SplitDirectoriesString(pstrdup(certificate_directories), ',', &names); });
    std::vector<std::string> directories;
    ListCell* cell = nullptr;
    foreach (cell, names) directories.emplace_back(static_cast<char*>(lfirst(cell)));
    return directories;
}
}  // namespace settings

namespace {

constexpr const char* kPrefix = "mrprompt";
constexpr int kKilobyte = 1024;
constexpr int kMegabyte = 1024 * kKilobyte;
constexpr int kMostClaimBytes = 64 * kMegabyte;  // a claim must fit a frame, whatever else is in it
constexpr int kSecond = 1000;
constexpr int kMinute = 60 * kSecond;
constexpr int kDay = 24 * 60 * 60;  // the retention settings count seconds
constexpr int kForever = -1;

struct IntegerSetting {
    const char* name;
    const char* description;
    int* variable;
    int initial, least, most;
    int unit;
};

struct TextSetting {
    const char* name;
    const char* description;
    const char* more;
    char** variable;
    const char* initial;
    GucContext context;
    int flags;
    GucStringCheckHook check;
};

bool check_role_list(char** value, void**, GucSource) {
    char* copy = pstrdup(*value);
    List* names = NIL;
    const bool valid = SplitIdentifierString(copy, ',', &names);
    if (!valid) GUC_check_errdetail("This is not a list of role names.");
    list_free(names);
    pfree(copy);
    return valid;
}

bool check_directory_list(char** value, void**, GucSource) {
    char* copy = pstrdup(*value);
    List* names = NIL;
    bool valid = SplitDirectoriesString(copy, ',', &names);
    ListCell* cell = nullptr;
    foreach (cell, names) valid = valid && is_absolute_path(static_cast<char*>(lfirst(cell)));
    if (!valid) GUC_check_errdetail("This is not a list of absolute paths, separated by commas.");
    list_free_deep(names);
    pfree(copy);
    return valid;
}

bool check_unpriced_requests(char** value, void**, GucSource) {
    const bool valid = std::string_view(*value) == "refuse" || std::string_view(*value) == "allow";
    if (!valid) GUC_check_errdetail("It is refuse or allow.");
    return valid;
}

// A process says once whom it runs for, and passes it on to the parallel workers it starts.
bool check_tool_user(char** value, void**, GucSource source) {
    if ((*value)[0] == '\0' || source == PGC_S_OVERRIDE) return true;
    GUC_check_errdetail("It is set by mrprompt only.");
    return false;
}

const IntegerSetting kIntegers[] = {
    {"mrprompt.max_in_flight", "Requests that one fetcher has in flight at most.", &settings::max_in_flight,
     256, 1, 100'000, 0},
    {"mrprompt.claim_bytes", "Bytes of payload that a fetcher claims in one call at most.",
     &settings::claim_bytes, 32 * kMegabyte, 64 * kKilobyte, kMostClaimBytes, GUC_UNIT_BYTE},
    {"mrprompt.delta_interval", "How long pieces of a streamed answer are gathered before they are stored.",
     &settings::delta_interval_ms, 50, 1, 10 * kSecond, GUC_UNIT_MS},
    {"mrprompt.heartbeat_interval", "How often a fetcher says that it is alive.",
     &settings::heartbeat_interval_ms, 2 * kSecond, 100, 5 * kMinute, GUC_UNIT_MS},
    {"mrprompt.lease_timeout",
     "Silence after which a fetcher counts as dead and its requests are queued again.",
     &settings::lease_timeout_ms, 30 * kSecond, kSecond, 60 * kMinute, GUC_UNIT_MS},
    {"mrprompt.poll_interval", "How often a fetcher looks for work that nothing has woken it for.",
     &settings::poll_interval_ms, 5 * kSecond, 100, 60 * kMinute, GUC_UNIT_MS},
    {"mrprompt.idle_timeout", "How long a database's supervisor stays without work.",
     &settings::idle_timeout_ms, kMinute, kSecond, 24 * 60 * kMinute, GUC_UNIT_MS},
    {"mrprompt.max_payload", "The largest request that is accepted.", &settings::max_payload_bytes,
     8 * kMegabyte, kKilobyte, 128 * kMegabyte, GUC_UNIT_BYTE},
    {"mrprompt.max_response", "The largest answer that is read from a provider.",
     &settings::max_response_bytes, 64 * kMegabyte, kKilobyte, 128 * kMegabyte, GUC_UNIT_BYTE},
    {"mrprompt.max_delta", "The largest piece of a streamed answer that is stored.",
     &settings::max_delta_bytes, kMegabyte, kKilobyte, 64 * kMegabyte, GUC_UNIT_BYTE},
    {"mrprompt.max_stream", "Pieces of a streamed answer that are stored at most.",
     &settings::max_stream_deltas, 200'000, 100, 900'000, 0},
    {"mrprompt.max_queued", "Requests that wait in the queue at most.", &settings::max_queued, 1'000'000, 1,
     INT_MAX, 0},
    {"mrprompt.max_queued_per_user", "Requests of one user that wait in the queue at most.",
     &settings::max_queued_per_user, 100'000, 1, INT_MAX, 0},
    {"mrprompt.max_failures", "Failed attempts after which a request is given up.", &settings::max_failures,
     10, 1, 100, 0},
    {"mrprompt.max_run_steps", "Model calls of a run at most, where its agent says nothing.", &settings::max_run_steps,
     50, 1, 1000, 0},
    {"mrprompt.run_timeout", "How long a run may take, where its agent says nothing.", &settings::run_timeout_s, 60 * 60, 1,
     kDay * 30, GUC_UNIT_S},
    {"mrprompt.tool_output_timeout",
     "How long a run waits for outputs or approval of tool calls, where its agent says nothing.",
     &settings::tool_output_timeout_s, 10 * 60, 1, kDay * 30, GUC_UNIT_S},
    {"mrprompt.context_tokens",
     "About how many tokens of its thread a run sends at most, where neither agent nor model says.",
     &settings::context_tokens, 100'000, 256, 10'000'000, 0},
    {"mrprompt.default_output_limit",
     "Tokens that a budget holds for an answer, and that are asked for, where neither request nor model "
     "says.",
     &settings::default_output_limit, 4096, 1, 10'000'000, 0},
    {"mrprompt.max_tool_workers", "Processes of one database that run SQL tools at the same time at most.",
     &settings::max_tool_workers, 4, 1, 64, 0},
    {"mrprompt.max_waiters", "Sessions that wait in wait_for_request and stream at the same time at most.",
     &settings::max_waiters, 64, 0, 100'000, 0},
    {"mrprompt.request_retention", "How long a request is kept after its end, with all that belongs to it.",
     &settings::request_retention_s, kForever, kForever, INT_MAX, GUC_UNIT_S},
    {"mrprompt.response_retention", "How long an answer is kept.", &settings::response_retention_s, kForever,
     kForever, INT_MAX, GUC_UNIT_S},
    {"mrprompt.delta_retention", "How long the pieces of a finished stream are kept.",
     &settings::delta_retention_s, kDay, kForever, INT_MAX, GUC_UNIT_S},
    {"mrprompt.attempt_retention", "How long the reasons of attempts that did not succeed are kept.",
     &settings::attempt_retention_s, 90 * kDay, kForever, INT_MAX, GUC_UNIT_S},
    {"mrprompt.usage_retention", "How long the rows of the ledger are kept.", &settings::usage_retention_s,
     kForever, kForever, INT_MAX, GUC_UNIT_S},
    {"mrprompt.audit_retention", "How long the rows of the audit log are kept.", &settings::audit_retention_s,
     kForever, kForever, INT_MAX, GUC_UNIT_S},
    {"mrprompt.thread_retention", "How long a thread is kept after its last message.",
     &settings::thread_retention_s, kForever, kForever, INT_MAX, GUC_UNIT_S},
};

const TextSetting kTexts[] = {
    {"mrprompt.master_key_file", "File with the master keys that seal provider keys.",
     "Lines of id:64 hexadecimal digits, the last is active; readable by the server's user only.",
     &settings::master_key_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, nullptr},
    {"mrprompt.trusted_logins", "Login roles whose sessions may say whom they act for.",
     "In their sessions, and in superusers', the sub of request.jwt.claims names the user.",
     &settings::trusted_logins, "authenticator", PGC_SIGHUP, GUC_LIST_INPUT, check_role_list},
    {"mrprompt.anonymous_roles", "Roles that are nobody, whatever the login.", nullptr,
     &settings::anonymous_roles, "anon", PGC_SIGHUP, GUC_LIST_INPUT, check_role_list},
    {"mrprompt.fetcher_path", "The mrprompt-fetcher program.", "Empty: beside the server's programs.",
     &settings::fetcher_path, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, nullptr},
    {"mrprompt.certificate_directories", "Directories in which the local fetcher may read certificates.",
     "Absolute paths, separated by commas; the ca_file of providers, and client certificates, lie in them.",
     &settings::certificate_directories,
     "/etc/ssl/certs, /etc/pki/tls/certs, /etc/pki/ca-trust, /usr/local/share/ca-certificates", PGC_SIGHUP,
     GUC_LIST_INPUT, check_directory_list},
    {"mrprompt.unpriced_requests", "What becomes of requests under a budget whose model has no price.",
     "refuse, or allow: they hold nothing, and spend nothing that a budget could know.",
     &settings::unpriced_requests, "refuse", PGC_SIGHUP, 0, check_unpriced_requests},
    {"mrprompt.tool_role", "The role of SQL tools in runs that somebody else made for a user.",
     "Neither a superuser nor one that passes by row-level security; empty: such tools fail.",
     &settings::tool_role, "", PGC_SIGHUP, 0, nullptr},
    {"mrprompt.tool_user", "In the process of an SQL tool: the user whom it runs for.",
     "mrprompt sets it, and nobody else.", &settings::tool_user, "", PGC_SUSET,
     GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE, check_tool_user},
    {"mrprompt.default_provider", "Provider of a chat request that names none.", nullptr,
     &settings::default_provider, "", PGC_USERSET, 0, nullptr},
};

}  // namespace

void define_settings() {
    for (const IntegerSetting& s : kIntegers)
        DefineCustomIntVariable(s.name, s.description, nullptr, s.variable, s.initial, s.least, s.most,
                                PGC_SIGHUP, s.unit, nullptr, nullptr, nullptr);
    for (const TextSetting& s : kTexts)
        DefineCustomStringVariable(s.name, s.description, s.more, s.variable, s.initial, s.context, s.flags,
                                   s.check, nullptr, nullptr);
    DefineCustomBoolVariable("mrprompt.local_fetcher", "Supervisors start a fetcher of their own.",
                             "Off: only fetchers that connect by themselves serve the queue.",
                             &settings::local_fetcher, true, PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
    // PostgreSQL takes a start-up variable from preloaded libraries only; elsewhere it sizes nothing.
    DefineCustomIntVariable(
        "mrprompt.max_databases", "Databases whose queues this server can serve.",
        "Sizes shared memory; each database at work also needs a slot of max_worker_processes.",
        &settings::max_databases, 64, 1, 10'000,
        process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SIGHUP, 0, nullptr, nullptr,
        nullptr);
    MarkGUCPrefixReserved(kPrefix);
}

// mrprompt_internal.setting(name text) returns text: the value in its base unit (bytes, ms; s for retention).
// Takes mrprompt.* names that any user may know; others raise 42704.
MRPROMPT_FUNCTION(setting) {
    const char* name = text_to_cstring(PG_GETARG_TEXT_PP(0));
    const bool ours = pg_strncasecmp(name, "mrprompt.", 9) == 0;
    const char* value = nullptr;
    if (ours && (GetConfigOptionFlags(name, true) & GUC_SUPERUSER_ONLY) == 0)
        value = GetConfigOption(name, true, false);
    if (value == nullptr)
        ereport(ERROR,
                (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("mrprompt has no readable setting \"%s\"", name)));
    return pg::text_datum(value);
}

}  // namespace mrprompt
