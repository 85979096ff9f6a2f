// The store of a fetcher that was started by hand: contract calls over a libpq connection of its own.
#pragma once
#include <libpq-fe.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "engine/ports.hpp"
#include "store/key_opener.hpp"

namespace mrprompt {

// Connects, and connects again with growing patience when the connection is lost, or brings nothing for 30 s
// during a call; a call that was under way is then answered with SQLSTATE 08006. Listens for wakes, and sends
// the notifications that clients follow. Nothing blocks but the resolution of the database's host name.
class PqStore final : public Store {
public:
    // `dsn`: a libpq connection string or URI. `log` gets one line per event that an operator should know.
    PqStore(std::string dsn, KeyOpener keys, const Clock& clock, std::function<void(std::string_view)> log);

    bool ready() const override { return state_ == State::idle; }
    void call(CallKind kind, std::string json) override;
    std::optional<Reply> reply() override;
    bool take_wake() override;
    bool stop_asked() const override { return false; }

    std::string place() const;  // "host/database" of the connection, for a person; no secret

    int fd() const;                 // changes from turn to turn; -1: none
    short events() const;           // for poll(2)
    std::int64_t deadline() const;  // when pump() is wanted without an event; INT64_MAX: never
    void pump();                    // does what can be done at once

private:
    // What the connection is busy with. prepare: session settings; listen and notify: between calls.
    enum class State { waiting, connecting, prepare, listen, idle, call, notify };

    struct Closer {
        void operator()(PGconn* connection) const { PQfinish(connection); }
    };
    struct Clearer {
        void operator()(PGresult* result) const { PQclear(result); }
    };
    using Rows = std::unique_ptr<PGresult, Clearer>;

    void connect();
    void go_on_connecting();
    void lose(const std::string& why);
    void run(State state, const char* sql, const std::string* argument = nullptr);
    bool socket_ready() const;
    void receive();
    void finished();
    void answer_call(const PGresult* rows, bool failed, const char* sqlstate);
    void listen();
    void notify();
    void notify_when_due();

    std::string dsn_;
    KeyOpener keys_;
    const Clock& clock_;
    std::function<void(std::string_view)> log_;

    std::unique_ptr<PGconn, Closer> connection_;
    State state_ = State::waiting;
    PostgresPollingStatusType polling_ = PGRES_POLLING_WRITING;
    std::int64_t connect_at_ = 0;  // waiting: when to try again
    std::int64_t give_up_at_ = 0;  // connecting, or busy: when the silence was too long
    int troubles_ = 0;
    bool flushing_ = false;
    Rows result_;  // of the statement under way

    std::optional<CallKind> kind_;  // the call under way
    std::optional<Reply> reply_;
    std::string channel_;  // of hello's answer
    bool wake_ = false;
    bool changes_ = false;  // notify_changes has something to send
    std::int64_t changes_since_ = 0;
    std::int64_t notified_at_ = 0;
};

}  // namespace mrprompt
