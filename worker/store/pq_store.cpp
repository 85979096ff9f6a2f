// One asynchronous libpq connection: connecting, calling, listening, notifying, one statement at a time.
#include "store/pq_store.hpp"

#include <poll.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "core/json.hpp"
#include "core/text.hpp"

namespace mrprompt {
namespace {

constexpr std::int64_t kFirstPauseMs = 100;
constexpr std::int64_t kLongestPauseMs = 10'000;
constexpr std::int64_t kConnectMs = 15'000;
constexpr std::int64_t kSilenceMs =
    30'000;  // a live server answers: its statements wait 1 s for a lock at most
constexpr std::int64_t kNotifyEveryMs = 20;
constexpr std::int64_t kNotifyLatestMs = 100;  // a busy connection, too, tells clients so soon

// Before the DSN, which may say otherwise: what a server that is gone without a word is noticed by.
constexpr const char* kConnectDefaults[][2] = {
    {"keepalives", "1"},       {"keepalives_idle", "10"},     {"keepalives_interval", "5"},
    {"keepalives_count", "3"}, {"tcp_user_timeout", "20000"},
};

// ALTER DATABASE and ALTER ROLE reach this session; the contract must not depend on what they say.
// The same list as the supervisor's in src/pg/session.cpp, but for session_replication_role (superusers
// only).
struct SessionSetting {
    const char* name;
    const char* value;
    int since = 0;  // PQserverVersion
};
constexpr SessionSetting kSettings[] = {
    {"default_transaction_isolation", "read committed"},
    {"default_transaction_read_only", "off"},
    {"default_transaction_deferrable", "off"},
    {"lock_timeout", "1s"},
    {"statement_timeout", "0"},
    {"idle_in_transaction_session_timeout", "0"},
    {"idle_session_timeout", "0"},
    {"synchronous_commit", "local"},
    {"transaction_timeout", "0", 170000},
    {"search_path", "pg_catalog"},
    {"row_security", "on"},
    {"TimeZone", "UTC"},
    {"DateStyle", "ISO"},
    {"IntervalStyle", "postgres"},
    {"extra_float_digits", "1"},
    {"bytea_output", "hex"},
    {"jit", "off"},
    {"client_min_messages", "error"},
};

std::string session_settings(int server_version) {
    std::string sql;
    for (const SessionSetting& setting : kSettings) {
        if (server_version < setting.since) continue;
        sql += std::string("set ") + setting.name + " = '" + setting.value + "';";
    }
    return sql;
}

const char* statement(CallKind kind) {
    switch (kind) {
        case CallKind::hello:
            return "select mrprompt_internal.hello($1::json)";
        case CallKind::claim:
            return "select body, to_json(key_ids), to_json(owners), to_json(providers), to_json(sealed)"
                   " from mrprompt_internal.claim($1::json)";
        // Unlike the supervisor's child, this fetcher outlives the server and goes on with the attempt: what
        // a crash took back would be missing in the middle of the stream. A standby is not waited for.
        case CallKind::append:
            return "select mrprompt_internal.append($1::json) from"
                   " (select set_config('synchronous_commit', 'local', true) offset 0) local";
        case CallKind::settle:
            return "select mrprompt_internal.settle($1::json)";
        case CallKind::heartbeat:
            return "select mrprompt_internal.heartbeat($1::json)";
        case CallKind::tend:
            return "select mrprompt_internal.tend($1::json)";
    }
    return "";
}

std::string_view field(const PGresult* rows, int column) {
    if (PQntuples(rows) < 1 || column >= PQnfields(rows)) return {};
    return {PQgetvalue(rows, 0, column), static_cast<std::size_t>(PQgetlength(rows, 0, column))};
}

Json json_field(const PGresult* rows, int column) {
    const std::string_view text = field(rows, column);
    if (text.empty()) return nullptr;
    auto value = parse_json(text);
    return value ? std::move(*value) : Json(nullptr);
}

// libpq's messages run over several lines, with tabs.
std::string one_line(const char* message) {
    std::string line;
    for (const char c : std::string_view(message != nullptr ? message : "")) {
        const bool blank = c == '\n' || c == '\t' || c == ' ';
        if (!blank || (!line.empty() && line.back() != ' ')) line += blank ? ' ' : c;
    }
    return trim_message(line, 500);
}

void no_notices(void*, const PGresult*) {}

}  // namespace

PqStore::PqStore(std::string dsn, KeyOpener keys, const Clock& clock,
                 std::function<void(std::string_view)> log)
    : dsn_(std::move(dsn)), keys_(std::move(keys)), clock_(clock), log_(std::move(log)) {}

// --- the port ----------------------------------------------------------------------------------------------

void PqStore::call(CallKind kind, std::string json) {
    kind_ = kind;
    run(State::call, statement(kind), &json);
}

std::optional<Reply> PqStore::reply() {
    return std::exchange(reply_, std::nullopt);
}

bool PqStore::take_wake() {
    return std::exchange(wake_, false);
}

std::string PqStore::place() const {
    if (!connection_) return "?";
    return std::string(PQhost(connection_.get())) + "/" + PQdb(connection_.get());
}

int PqStore::fd() const {
    return connection_ ? PQsocket(connection_.get()) : -1;
}

short PqStore::events() const {
    if (state_ == State::connecting) return polling_ == PGRES_POLLING_READING ? POLLIN : POLLOUT;
    return static_cast<short>(flushing_ ? POLLIN | POLLOUT : POLLIN);
}

std::int64_t PqStore::deadline() const {
    switch (state_) {
        case State::waiting:
            return connect_at_;
        case State::idle:
            return changes_ ? notified_at_ + kNotifyEveryMs : INT64_MAX;
        default:
            return give_up_at_;
    }
}

void PqStore::pump() {
    const std::int64_t now = clock_.now_ms();
    if (state_ == State::waiting && now >= connect_at_) connect();
    if (state_ == State::connecting) go_on_connecting();
    if (connection_ && state_ != State::connecting && state_ != State::waiting) receive();
    if (state_ != State::waiting && state_ != State::idle && now >= give_up_at_) lose("no answer in time");
    if (state_ == State::idle) notify_when_due();
}

// --- connecting --------------------------------------------------------------------------------------------

void PqStore::connect() {
    std::vector<const char*> names, values;
    const auto add = [&](const char* name, const char* value) {
        names.push_back(name);
        values.push_back(value);
    };
    for (const auto& [name, value] : kConnectDefaults) add(name, value);
    add("dbname", dsn_.c_str());
    add("application_name", "mrprompt-fetcher");
    add("client_encoding", "UTF8");
    add(nullptr, nullptr);
    connection_.reset(PQconnectStartParams(names.data(), values.data(), 1));
    if (!connection_ || PQstatus(connection_.get()) == CONNECTION_BAD) {
        return lose(connection_ ? one_line(PQerrorMessage(connection_.get())) : "out of memory");
    }
    PQsetNoticeReceiver(connection_.get(), no_notices, nullptr);
    state_ = State::connecting;
    polling_ = PGRES_POLLING_WRITING;
    give_up_at_ = clock_.now_ms() + kConnectMs;
}

void PqStore::go_on_connecting() {
    // PQconnectPoll may only be called when the socket is ready.
    if (fd() >= 0 && !socket_ready()) return;
    polling_ = PQconnectPoll(connection_.get());
    if (polling_ == PGRES_POLLING_FAILED) return lose(one_line(PQerrorMessage(connection_.get())));
    if (polling_ != PGRES_POLLING_OK) return;
    PQsetnonblocking(connection_.get(), 1);
    run(State::prepare, session_settings(PQserverVersion(connection_.get())).c_str());
}

void PqStore::lose(const std::string& why) {
    if (troubles_ == 0) log_("no connection to the database: " + why);
    const std::int64_t pause = std::min(kLongestPauseMs, kFirstPauseMs << std::min(troubles_++, 10));
    connect_at_ = clock_.now_ms() + pause;
    connection_.reset();
    result_.reset();
    flushing_ = false;
    changes_ = false;  // they were remembered by the session that is gone
    state_ = State::waiting;
    if (kind_) reply_ = Reply{*std::exchange(kind_, std::nullopt), "08006", why, {}};
}

// --- statements --------------------------------------------------------------------------------------------

void PqStore::run(State state, const char* sql, const std::string* argument) {
    state_ = state;
    give_up_at_ = clock_.now_ms() + kSilenceMs;
    result_.reset();
    int sent = 0;
    if (argument != nullptr) {
        const char* const values[] = {argument->c_str()};
        sent = PQsendQueryParams(connection_.get(), sql, 1, nullptr, values, nullptr, nullptr, 0);
    } else {
        sent = PQsendQuery(connection_.get(), sql);
    }
    if (sent != 1) return lose(one_line(PQerrorMessage(connection_.get())));
    flushing_ = PQflush(connection_.get()) == 1;
}

bool PqStore::socket_ready() const {
    pollfd socket{fd(), events(), 0};
    return poll(&socket, 1, 0) > 0;
}

void PqStore::receive() {
    PGconn* const connection = connection_.get();
    // A large call or answer on a slow line takes its time: only silence counts.
    if (state_ != State::idle && socket_ready()) give_up_at_ = clock_.now_ms() + kSilenceMs;
    if (PQconsumeInput(connection) != 1) return lose(one_line(PQerrorMessage(connection)));
    if (flushing_) {
        const int left = PQflush(connection);
        if (left < 0) return lose(one_line(PQerrorMessage(connection)));
        flushing_ = left == 1;
    }
    while (PGnotify* notice = PQnotifies(connection)) {
        wake_ = true;
        PQfreemem(notice);
    }
    while (state_ != State::idle && connection_ && PQisBusy(connection) == 0) {
        Rows rows(PQgetResult(connection));
        if (!rows) {
            finished();
            if (state_ == State::waiting) return;
            continue;
        }
        // Of several statements in one string the first that failed counts.
        if (!result_ || PQresultStatus(result_.get()) != PGRES_FATAL_ERROR) result_ = std::move(rows);
    }
    if (connection_ && PQstatus(connection) == CONNECTION_BAD) lose(one_line(PQerrorMessage(connection)));
}

// The statement under way has ended.
void PqStore::finished() {
    const Rows rows = std::move(result_);
    const bool failed = !rows || PQresultStatus(rows.get()) == PGRES_FATAL_ERROR;
    const char* const state = rows ? PQresultErrorField(rows.get(), PG_DIAG_SQLSTATE) : nullptr;
    if (PQstatus(connection_.get()) == CONNECTION_BAD || (failed && state == nullptr)) {
        return lose(one_line(PQerrorMessage(connection_.get())));
    }
    switch (state_) {
        case State::prepare:
            if (failed) return lose(one_line(PQresultErrorMessage(rows.get())));
            if (troubles_ > 0) log_("connected to the database again");
            troubles_ = 0;
            wake_ = true;  // whatever came while nobody listened
            if (!channel_.empty()) return listen();
            break;
        case State::listen:
            if (failed)
                log_("LISTEN failed, the queue is only polled: " +
                     one_line(PQresultErrorMessage(rows.get())));
            break;
        case State::notify:
            if (failed) log_("notify_changes failed: " + one_line(PQresultErrorMessage(rows.get())));
            break;
        case State::call:
            return answer_call(rows.get(), failed, state);
        default:
            break;
    }
    state_ = State::idle;
}

void PqStore::answer_call(const PGresult* rows, bool failed, const char* sqlstate) {
    const CallKind kind = *std::exchange(kind_, std::nullopt);
    state_ = State::idle;
    if (failed) {
        const char* const hint = PQresultErrorField(rows, PG_DIAG_MESSAGE_HINT);
        std::string message = one_line(PQresultErrorField(rows, PG_DIAG_MESSAGE_PRIMARY));
        if (hint != nullptr) message += " (" + one_line(hint) + ")";
        reply_ = Reply{kind, sqlstate, std::move(message), {}};
        return;
    }
    const std::int64_t now = clock_.now_ms();
    Reply reply{kind, "", std::string(field(rows, 0)), {}};
    if (kind == CallKind::claim) {
        reply.keys = open_keys(keys_, json_field(rows, 1), json_field(rows, 2), json_field(rows, 3),
                               json_field(rows, 4), now);
    }
    if (kind == CallKind::append || kind == CallKind::settle || kind == CallKind::tend) {
        if (!changes_) changes_since_ = now;
        changes_ = true;
    }
    const bool hello = kind == CallKind::hello;
    if (hello) {
        const auto answer = parse_json(reply.body);
        channel_ = answer ? string_member(*answer, "channel") : "";
    }
    reply_ = std::move(reply);
    if (hello && !channel_.empty()) return listen();
    if (changes_ && now - changes_since_ >= kNotifyLatestMs) notify();
}

void PqStore::listen() {
    char* const name = PQescapeIdentifier(connection_.get(), channel_.data(), channel_.size());
    if (name == nullptr) return lose(one_line(PQerrorMessage(connection_.get())));
    const std::string sql = std::string("listen ") + name;
    PQfreemem(name);
    run(State::listen, sql.c_str());
}

// In a transaction of its own: NOTIFY makes committers wait for each other.
void PqStore::notify() {
    changes_ = false;
    notified_at_ = clock_.now_ms();
    run(State::notify, "select mrprompt_internal.notify_changes()");
}

void PqStore::notify_when_due() {
    if (changes_ && clock_.now_ms() >= notified_at_ + kNotifyEveryMs) notify();
}

}  // namespace mrprompt
