// Decides what a request gets: routes, counts what fails how often, writes the log.
#pragma once
#include <cstdio>
#include <string>
#include <unordered_map>
#include <utility>

#include "behaviour.hpp"
#include "chat.hpp"
#include "http.hpp"
#include "script.hpp"

namespace mrprompt::fake {

// What GET /stats shows. Only POST requests are counted.
struct Stats {
    long requests = 0;
    long in_flight = 0;
    long max_in_flight = 0;
    long connections = 0;  // open now
    long max_connections = 0;
    long accepted = 0;     // since the start
    long disconnects = 0;  // the client left before its answer had ended
    std::unordered_map<int, long> by_status;
};

class Responder {
public:
    // `defaults` stand behind what a request asks for itself. `log` may be null.
    Responder(Behaviour defaults, std::FILE* log, Stats& stats)
        : defaults_(std::move(defaults)), log_(log), stats_(stats) {}

    Script respond(const Request& request);

private:
    Script chat(const Request& request, Protocol protocol);
    bool fails_now(const Behaviour& behaviour, const Request& request);
    void write_log(const Request& request);
    std::string stats_json() const;

    Behaviour defaults_;
    std::FILE* log_;
    Stats& stats_;
    std::unordered_map<std::string, long> failures_;  // by `id`, or by key and body
};

}  // namespace mrprompt::fake
