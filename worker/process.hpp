// What the fetcher does to its own process: limits, signals, ties to its parent, and helpers of its own.
#pragma once
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <system_error>
#include <vector>

extern char** environ;

namespace mrprompt {

inline constexpr rlim_t kDataLimit = rlim_t{4} << 30;
inline constexpr int kLargeBlock = 256 << 10;  // such go back to the system when they are freed
inline constexpr std::size_t kThreadStack = 256
                                            << 10;  // curl resolves names in threads, many at a cold start

// As a supervisor's child: dies with it, is the first to go when memory runs out, and keeps open what is its
// own.
inline void become_child(int pipe_fd) {
    const pid_t parent = getppid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || parent == 1) _exit(1);  // it died before that was in force
    const int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!write(fd, "1000", 4);
        close(fd);
    }
    const auto descriptor = static_cast<unsigned>(pipe_fd);
    close_range(descriptor + 1, ~0U, 0);
    if (descriptor > STDERR_FILENO + 1) close_range(STDERR_FILENO + 1, descriptor - 1, 0);
}

// Keys are in this memory: no core dumps, no debugger of the same user, no rights by a set-uid program (which
// a fence asks for, too). Best effort, as limits may be set lower.
inline void limit_process() {
    prctl(PR_SET_DUMPABLE, 0);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    const rlimit no_core{0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
#ifndef MRPROMPT_SANITIZED  // whose shadow of the memory counts
    if (getrlimit(RLIMIT_DATA, &limit) == 0 && limit.rlim_cur > kDataLimit) {
        limit.rlim_cur = kDataLimit;
        setrlimit(RLIMIT_DATA, &limit);
    }
#endif
    mallopt(M_MMAP_THRESHOLD, kLargeBlock);  // the C library would raise it with each large answer
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, kThreadStack);
    pthread_setattr_default_np(&attributes);
    pthread_attr_destroy(&attributes);
}

// A descriptor on which SIGTERM, SIGINT and SIGCHLD arrive; they interrupt nothing any more.
inline int take_over_signals() {
    std::signal(SIGPIPE, SIG_IGN);
    sigset_t set;
    sigemptyset(&set);
    for (int signal : {SIGTERM, SIGINT, SIGCHLD}) sigaddset(&set, signal);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    const int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0) throw std::system_error(errno, std::generic_category(), "signalfd");
    return fd;
}

inline std::string host_name() {
    char name[256] = "";
    gethostname(name, sizeof name - 1);
    return name;
}

// Copies of this program, each for one isolated request: it may take its fetcher down, but not this one.
class LoneFetchers {
public:
    // `argv`: this program's own; null where somebody else starts them.
    explicit LoneFetchers(char** argv) : argv_(argv) {}

    // So many requests wait for one. The count is old by the time it is heard: one start a second is enough.
    void want(int count, std::int64_t now_ms) {
        if (argv_ == nullptr || count <= 0 || running_ >= kMost || now_ms < next_at_) return;
        next_at_ = now_ms + kEveryMs;
        std::vector<char*> arguments;
        for (char** argument = argv_; *argument != nullptr; ++argument) arguments.push_back(*argument);
        static char alone[] = "--alone";
        arguments.push_back(alone);
        arguments.push_back(nullptr);
        posix_spawnattr_t attributes;
        sigset_t none;
        sigemptyset(&none);
        posix_spawnattr_init(&attributes);
        posix_spawnattr_setsigmask(&attributes, &none);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
        posix_spawn_file_actions_t files;
        posix_spawn_file_actions_init(&files);
        posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
        pid_t pid = 0;
        if (posix_spawn(&pid, "/proc/self/exe", &files, &attributes, arguments.data(), environ) == 0)
            ++running_;
        posix_spawn_file_actions_destroy(&files);
        posix_spawnattr_destroy(&attributes);
    }

    void reap() {
        while (waitpid(-1, nullptr, WNOHANG) > 0) --running_;
    }

private:
    static constexpr int kMost = 4;
    static constexpr std::int64_t kEveryMs = 1'000;

    char** argv_;
    int running_ = 0;
    std::int64_t next_at_ = 0;
};

}  // namespace mrprompt
