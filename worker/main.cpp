// mrprompt-fetcher: wires a store, the curl transport and the engine, and sleeps on their descriptors.
#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <string>

#include "engine/fetcher.hpp"
#include "fence.hpp"
#include "net/curl_transport.hpp"
#include "net/system_clock.hpp"
#include "options.hpp"
#include "process.hpp"
#include "store/pipe_store.hpp"
#include "store/pq_store.hpp"

namespace mrprompt {
namespace {

constexpr int kKeptConnections = 1'024;

void say(std::string_view line) {
    std::fprintf(stderr, "mrprompt-fetcher[%d]: %.*s\n", static_cast<int>(getpid()),
                 static_cast<int>(line.size()), line.data());
}

FetcherOptions fetcher_options(const Options& options) {
    FetcherOptions out;
    out.kind = options.pipe_fd >= 0 ? "child" : "libpq";
    out.program = "mrprompt-fetcher " MRPROMPT_VERSION;
    out.host = host_name();
    out.pid = static_cast<int>(getpid());
    out.alone = options.alone;
    out.tends = options.pipe_fd < 0 && !options.alone;
    out.in_flight_cap = options.in_flight;
    out.log = say;
    return out;
}

int timeout_ms(std::int64_t deadline, std::int64_t now) {
    if (deadline == INT64_MAX) return -1;
    return static_cast<int>(std::clamp<std::int64_t>(deadline - now, 0, 60'000));
}

// SIGTERM and SIGINT drain; a second one ends at once. Children of ours that have ended are reaped.
void take_signals(int fd, Fetcher& fetcher, LoneFetchers& lone) {
    signalfd_siginfo info{};
    while (read(fd, &info, sizeof info) == sizeof info) {
        if (info.ssi_signo == SIGCHLD) {
            lone.reap();
        } else {
            fetcher.drain();
        }
    }
}

std::int64_t deadline_of(const PipeStore&) {
    return INT64_MAX;
}
std::int64_t deadline_of(const PqStore& store) {
    return store.deadline();
}

// A person who starts a fetcher wants to see that it works.
std::string greeting(const PipeStore&, const Fetcher&) {
    return {};
}
std::string greeting(const PqStore& store, const Fetcher& fetcher) {
    return "version " MRPROMPT_VERSION " serves " + store.place() + " as fetcher " + fetcher.id();
}

template <class AnyStore>
int serve(AnyStore& store, const Options& options, SystemClock& clock, int signal_fd, LoneFetchers& lone) {
    CurlTransport transport(clock, kKeptConnections);
    Fetcher fetcher(store, transport, clock, fetcher_options(options));
    bool greeted = options.alone;
    for (;;) {
        store.pump();
        fetcher.step();
        if (fetcher.finished()) return fetcher.exit_code();
        if (!greeted && !fetcher.id().empty()) {
            greeted = true;
            if (const std::string line = greeting(store, fetcher); !line.empty()) say(line);
        }
        lone.want(fetcher.alone_waiting(), clock.now_ms());
        pollfd fds[] = {{transport.fd(), POLLIN, 0}, {store.fd(), store.events(), 0}, {signal_fd, POLLIN, 0}};
        const std::int64_t deadline = std::min(fetcher.deadline(), deadline_of(store));
        poll(fds, 3, timeout_ms(deadline, clock.now_ms()));
        if (fds[2].revents != 0) take_signals(signal_fd, fetcher, lone);
    }
}

int run(int argc, char** argv) {
    const Result<Options> parsed = parse_options(argc, argv);
    if (!parsed) {
        std::fprintf(stderr, "mrprompt-fetcher: %s\nTry 'mrprompt-fetcher --help'.\n",
                     parsed.error().message.c_str());
        return 2;
    }
    const Options& options = *parsed;
    if (options.help || options.version) {
        std::fputs(options.help ? kHelp : "mrprompt-fetcher " MRPROMPT_VERSION "\n", stdout);
        return 0;
    }
    if (options.pipe_fd >= 0) become_child(options.pipe_fd);
    limit_process();
    const int signal_fd = take_over_signals();
    if (options.pipe_fd >= 0) {
        for (const std::string& gap : raise_fence(options.certificate_directories)) say(gap);
    }
    SystemClock clock;
    LoneFetchers lone(options.pipe_fd < 0 && !options.alone ? argv : nullptr);
    if (options.pipe_fd >= 0) {
        PipeStore store(options.pipe_fd);
        return serve(store, options, clock, signal_fd, lone);
    }
    KeyOpener keys(options.master_key_file);
    if (const auto error = keys.read()) {
        std::fprintf(stderr, "mrprompt-fetcher: %s\n", error->message.c_str());
        return 1;
    }
    PqStore store(options.dsn, std::move(keys), clock, say);
    return serve(store, options, clock, signal_fd, lone);
}

}  // namespace
}  // namespace mrprompt

int main(int argc, char** argv) {
    return mrprompt::run(argc, argv);
}
