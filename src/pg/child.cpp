// Starting, hearing, answering and burying a fetcher process.
#include "pg/child.hpp"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#ifdef POSTGRES_H
#error "child.cpp is plain POSIX"
#endif

namespace mrprompt {
namespace {

constexpr int kChildDescriptor = 3;
constexpr std::size_t kReadChunk = 256 * 1024;
constexpr int kReadsPerTurn = 16;  // one busy child must not starve the others
constexpr std::int64_t kBurialMs = 1000;

class SpawnPlan {
public:
    explicit SpawnPlan(int socket) {
        posix_spawn_file_actions_init(&files_);
        posix_spawnattr_init(&attributes_);
        ok_ = plan_files(socket) && plan_signals();
    }
    ~SpawnPlan() {
        posix_spawnattr_destroy(&attributes_);
        posix_spawn_file_actions_destroy(&files_);
    }
    SpawnPlan(const SpawnPlan&) = delete;
    SpawnPlan& operator=(const SpawnPlan&) = delete;

    // 0 or an errno.
    int run(const char* path, char* const arguments[], pid_t* pid) const {
        char* const no_environment[] = {nullptr};
        return ok_ ? posix_spawn(pid, path, &files_, &attributes_, arguments, no_environment) : ENOMEM;
    }

private:
    bool plan_files(int socket) {
        return posix_spawn_file_actions_addopen(&files_, STDIN_FILENO, "/dev/null", O_RDONLY, 0) == 0 &&
               posix_spawn_file_actions_adddup2(&files_, STDERR_FILENO, STDOUT_FILENO) == 0 &&
               posix_spawn_file_actions_adddup2(&files_, socket, kChildDescriptor) == 0 &&
               posix_spawn_file_actions_addclosefrom_np(&files_, kChildDescriptor + 1) == 0;
    }

    // A process group of its own: PostgreSQL signals a backend's whole group, and a cancel for the supervisor
    // is none for the fetcher.
    bool plan_signals() {
        sigset_t none, all;
        sigemptyset(&none);
        sigfillset(&all);
        return posix_spawnattr_setsigmask(&attributes_, &none) == 0 &&
               posix_spawnattr_setsigdefault(&attributes_, &all) == 0 &&
               posix_spawnattr_setpgroup(&attributes_, 0) == 0 &&
               posix_spawnattr_setflags(
                   &attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP) == 0;
    }

    posix_spawn_file_actions_t files_;
    posix_spawnattr_t attributes_;
    bool ok_;
};

}  // namespace

std::int64_t monotonic_ms() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * std::int64_t{1000} + now.tv_nsec / 1000000;
}

Result<std::unique_ptr<Child>> Child::start(const std::string& path, bool alone,
                                            const std::vector<std::string>& readable) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
        return Error{"spawn", std::string("cannot make a socket pair: ") + std::strerror(errno)};
    std::vector<std::string> words{"mrprompt-fetcher", "--pipe", std::to_string(kChildDescriptor)};
    if (alone) words.emplace_back("--alone");
    for (const std::string& directory : readable) words.insert(words.end(), {"--certificates", directory});
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    pid_t pid = 0;
    int const failure = SpawnPlan(ends[1]).run(path.c_str(), arguments.data(), &pid);
    ::close(ends[1]);
    if (failure != 0) {
        ::close(ends[0]);
        return Error{"spawn", "cannot start \"" + path + "\": " + std::strerror(failure)};
    }
    return std::unique_ptr<Child>(new Child(pid, ends[0], alone));
}

Child::Child(pid_t pid, int socket, bool alone)
    : pid_(pid), socket_(socket), alone_(alone), started_ms_(monotonic_ms()), heard_ms_(started_ms_) {}

Child::~Child() {
    kill();
    for (std::int64_t const end = monotonic_ms() + kBurialMs; !reap_quietly() && monotonic_ms() < end;)
        usleep(1000);
    ::close(socket_);
}

void Child::close_stream() {
    if (closed_ms_ == 0) closed_ms_ = monotonic_ms();
}

void Child::receive() {
    for (int i = 0; open() && i < kReadsPerTurn; ++i) {
        std::span<char> room = input_.room(kReadChunk);
        ssize_t const count = recv(socket_, room.data(), room.size(), 0);
        if (count > 0) {
            input_.added(static_cast<std::size_t>(count));
            heard_ms_ = monotonic_ms();
            if (static_cast<std::size_t>(count) < room.size()) return;
        } else if (count == 0 || (errno != EAGAIN && errno != EINTR)) {
            close_stream();
        } else if (errno == EAGAIN) {
            return;
        }
    }
}

std::optional<Frame> Child::next_frame() {
    std::optional<Frame> frame = input_.next();
    if (input_.broken()) condemn();
    return frame;
}

bool Child::send(FrameKind kind, std::string_view payload) {
    if (!output_.append(kind, payload)) return false;
    flush();
    return true;
}

bool Child::send_reply(std::span<const OpenedKey> keys, std::string_view json) {
    if (!output_.append_reply(keys, json)) return false;
    flush();
    return true;
}

void Child::flush() {
    while (open() && !output_.empty()) {
        std::string_view const rest = output_.pending();
        ssize_t const count = ::send(socket_, rest.data(), rest.size(), MSG_NOSIGNAL);
        if (count >= 0) {
            output_.sent(static_cast<std::size_t>(count));
            heard_ms_ = monotonic_ms();  // it reads, so it lives
        } else if (errno == EAGAIN) {
            return;
        } else if (errno != EINTR) {
            close_stream();
        }
    }
}

void Child::condemn() {
    broke_protocol_ = true;
    kill();
}

void Child::drain() {
    if (pid_ != 0 && !stopping) ::kill(pid_, SIGTERM);
    stopping = true;
}

void Child::kill() {
    if (pid_ != 0) ::kill(pid_, SIGKILL);
    close_stream();
}

bool Child::collect(int* status) {
    if (pid_ == 0 || waitpid(pid_, status, WNOHANG) != pid_) return false;
    pid_ = 0;
    close_stream();
    return true;
}

bool Child::reap_quietly() {
    int status = 0;
    return pid_ == 0 || collect(&status);
}

std::optional<Child::Ending> Child::reap() {
    int status = 0;
    if (!collect(&status)) return std::nullopt;
    if (WIFSIGNALED(status)) {
        int const number = WTERMSIG(status);
        return Ending{false,
                      "was terminated by signal " + std::to_string(number) + " (" + strsignal(number) + ")"};
    }
    int const code = WEXITSTATUS(status);
    return Ending{code == 0, "exited with code " + std::to_string(code)};
}

}  // namespace mrprompt
