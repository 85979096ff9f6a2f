// One fetcher process and the socket to it. Knows processes, sockets and frames; nothing of PostgreSQL.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/frame.hpp"

namespace mrprompt {

// Milliseconds of a clock that no one sets.
std::int64_t monotonic_ms();

class Child {
public:
    // How a process ended.
    struct Ending {
        bool cleanly;      // by itself, with exit code 0
        std::string text;  // "exited with code 1", "was terminated by signal 11 (Segmentation fault)"
    };

    // Starts the program at `path`: one end of a socket as descriptor 3, standard error kept, every other
    // descriptor closed, signals reset, a process group of its own, no environment. `alone`: it serves one
    // request and ends. `readable`: directories that it may read certificates in.
    static Result<std::unique_ptr<Child>> start(const std::string& path, bool alone,
                                                const std::vector<std::string>& readable);

    // Kills and reaps the process if that has not happened; waits a second at most.
    ~Child();
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;

    pid_t pid() const { return pid_; }
    int socket() const { return socket_; }
    bool alone() const { return alone_; }
    std::int64_t started_ms() const { return started_ms_; }
    std::int64_t heard_ms() const { return heard_ms_; }
    void excuse_silence(std::int64_t now_ms) { heard_ms_ = now_ms; }

    // Reads what has arrived, a bounded part at a time. After the end of the stream, or a broken one, open()
    // is false; whole frames from before it are still handed out.
    void receive();
    std::optional<Frame> next_frame();

    // Queues a frame and sends as much as goes without waiting. False: larger than a frame may be.
    bool send(FrameKind kind, std::string_view payload);
    bool send_reply(std::span<const OpenedKey> keys, std::string_view json);
    void flush();
    bool has_output() const { return !output_.empty(); }

    // The stream is usable; when it is not, closed_ms() says since when.
    bool open() const { return closed_ms_ == 0; }
    std::int64_t closed_ms() const { return closed_ms_; }
    bool broke_protocol() const { return broke_protocol_; }
    void condemn();  // it broke the protocol: kills it

    // It claims no more, lets what it has in flight end, and leaves.
    void drain();
    // Nothing is heard from it any more.
    void kill();
    // Once the process has ended: how. Never waits.
    std::optional<Ending> reap();
    // The same for a process that ends itself: whether it has ended. Takes no memory.
    bool reap_quietly();

    std::string fetcher;          // its id, as hello's reply named it
    std::string world;            // what it was fenced in with, for its owner to compare
    bool stopping = false;        // it was told to end
    bool wake_under_way = false;  // a wake was sent, and it has not looked for work since

private:
    Child(pid_t pid, int socket, bool alone);
    void close_stream();
    bool collect(int* status);

    pid_t pid_;  // 0 once reaped
    int socket_;
    bool alone_;
    std::int64_t started_ms_;
    std::int64_t heard_ms_;
    std::int64_t closed_ms_ = 0;
    bool broke_protocol_ = false;
    FrameReader input_;
    FrameWriter output_;
};

}  // namespace mrprompt
