// Tries what the fence around a supervisor's child forbids, and what it must not: one line for each, with
// "allowed" or the name of the error.
//
//   fence-probe [--unfenced] PLACE [DIRECTORY…]
//
// PLACE is a folder outside of the fence with the files `secret` (anybody may read it), `mine` (the caller's)
// and `socket` (a listening local socket). DIRECTORY is let through; the first holds a file `ca.pem`.
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/netlink.h>
#include <linux/openat2.h>
#include <linux/perf_event.h>
#include <netdb.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "fence.hpp"

namespace {

// A call's result: -1 says that errno tells why.
void tell(const char* what, long result) {
    std::printf("%-24s %s\n", what, result >= 0 ? "allowed" : strerrorname_np(errno));
    std::fflush(stdout);
}

long opened(const std::string& path, int flags) {
    const int fd = open(path.c_str(), flags | O_CLOEXEC, 0600);
    if (fd >= 0) close(fd);
    return fd;
}

long opened_by_openat2(const std::string& path) {
    open_how how{};
    how.flags = O_RDONLY | O_TRUNC;
    return syscall(SYS_openat2, AT_FDCWD, path.c_str(), &how, sizeof how);
}

// Makes a signal of the arrival of bytes on a socket.
long owned(bool by_ioctl, unsigned long request) {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    pid_t owner = getppid();
    const long result =
        by_ioctl ? syscall(SYS_ioctl, fd, request, &owner) : syscall(SYS_fcntl, fd, request, owner);
    const int error = errno;
    close(fd);
    errno = error;
    return result;
}

long local_connection(const std::string& name, bool abstract) {
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0) return -1;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path + (abstract ? 1 : 0), name.c_str(), sizeof address.sun_path - 2);
    const int result = connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address);
    const int error = errno;
    close(fd);
    errno = error;
    return result;
}

long bound(int type) {
    const int fd = socket(AF_INET, type, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int result = bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address);
    const int error = errno;
    close(fd);
    errno = error;
    return result;
}

long listening() {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    const int result = listen(fd, 1);
    const int error = errno;
    close(fd);
    errno = error;
    return result;
}

long pair(int type) {
    int ends[2];
    return socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends);
}

long become(bool by_descriptor) {
    char* const arguments[] = {const_cast<char*>("true"), nullptr};
    if (!by_descriptor) return execve("/bin/true", arguments, nullptr);
    const int fd = open("/usr/lib/os-release", O_RDONLY | O_CLOEXEC);
    const int program = open("/bin/true", O_RDONLY | O_CLOEXEC);
    return syscall(SYS_execveat, program >= 0 ? program : fd, "", arguments, nullptr, AT_EMPTY_PATH);
}

// In a child if there can be one: what works replaces the process.
long executed(bool by_descriptor) {
    const pid_t pid = fork();
    if (pid < 0) return become(by_descriptor);
    if (pid == 0) {
        become(by_descriptor);
        _exit(errno);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    errno = WEXITSTATUS(status);
    return errno == 0 ? 0 : -1;
}

long forked() {
    const pid_t pid = fork();
    if (pid == 0) _exit(0);
    if (pid > 0) waitpid(pid, nullptr, 0);
    return pid;
}

long spawned() {
    pid_t pid = 0;
    char* const arguments[] = {const_cast<char*>("true"), nullptr};
    errno = posix_spawn(&pid, "/bin/true", nullptr, nullptr, arguments, nullptr);
    if (errno != 0) return -1;
    waitpid(pid, nullptr, 0);
    return 0;
}

long in_a_thread() {
    long result = -1;
    std::thread([&] { result = opened("/etc/passwd", O_RDONLY); }).join();
    return result;
}

long resolved(const char* name) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_ADDRCONFIG;  // by netlink
    addrinfo* found = nullptr;
    const int result = getaddrinfo(name, "443", &hints, &found);
    if (result != 0) {
        errno = EHOSTUNREACH;
        return -1;
    }
    freeaddrinfo(found);
    return 0;
}

void try_files(const std::string& place) {
    tell("read-secret", opened(place + "/secret", O_RDONLY));
    tell("read-passwd", opened("/etc/passwd", O_RDONLY));
    tell("read-passwd-in-thread", in_a_thread());
    tell("read-process", opened("/proc/" + std::to_string(getppid()) + "/status", O_RDONLY));
    tell("list-directory", opened(place, O_RDONLY | O_DIRECTORY));
    tell("list-etc-ssl", opened("/etc/ssl", O_RDONLY | O_DIRECTORY));
    tell("write", opened(place + "/mine", O_WRONLY));
    tell("create", opened(place + "/new", O_WRONLY | O_CREAT));
    tell("create-in-tmp", opened("/tmp/.mrprompt-fence-probe", O_WRONLY | O_CREAT));
    unlink("/tmp/.mrprompt-fence-probe");
    tell("open-writing", opened(place + "/mine", O_RDWR));
    tell("open-truncating", opened(place + "/mine", O_RDONLY | O_TRUNC));
    tell("openat2", opened_by_openat2(place + "/mine"));
    tell("creat", creat((place + "/mine").c_str(), 0600));
    tell("truncate", truncate((place + "/mine").c_str(), 0));
    tell("make-directory", mkdir((place + "/directory").c_str(), 0700));
    tell("link", symlink("/", (place + "/link").c_str()));
    tell("rename", rename((place + "/mine").c_str(), (place + "/mine2").c_str()));
    tell("unlink", unlink((place + "/mine2").c_str()));
    tell("remove-directory", rmdir((place + "/directory").c_str()));
    tell("hard-link", link((place + "/secret").c_str(), (place + "/mine3").c_str()));
    tell("make-fifo", mkfifo((place + "/mine4").c_str(), 0600));
    tell("linkat", linkat(AT_FDCWD, (place + "/secret").c_str(), AT_FDCWD, (place + "/mine5").c_str(), 0));
    tell("renameat2", syscall(SYS_renameat2, AT_FDCWD, (place + "/mine5").c_str(), AT_FDCWD,
                              (place + "/mine6").c_str(), 0));
    tell("device", opened("/dev/zero", O_RDONLY));
    tell("chmod", chmod(place.c_str(), 0755));
    tell("fchmodat2", syscall(452, AT_FDCWD, place.c_str(), 0755, 0));
    tell("chown", chown(place.c_str(), getuid(), getgid()));
    tell("touch", utimensat(AT_FDCWD, place.c_str(), nullptr, 0));
}

void try_processes() {
    char byte = 0;
    iovec here{&byte, 1}, there{&byte, 1};
    tell("execve", executed(false));
    tell("execveat", executed(true));
    tell("fork", forked());
    tell("spawn", spawned());
    tell("signal", kill(getppid(), 0));
    tell("signal-thread", syscall(SYS_tgkill, getppid(), getppid(), 0));
    constexpr unsigned long kUnread = 1ul << 32;  // the kernel takes the lower half
    tell("signal-by-fcntl", owned(false, F_SETOWN));
    tell("signal-by-wide-fcntl", owned(false, F_SETOWN | kUnread));
    tell("signal-by-FIOSETOWN", owned(true, FIOSETOWN));
    tell("signal-by-SIOCSPGRP", owned(true, SIOCSPGRP | kUnread));
    tell("ptrace", ptrace(PTRACE_SEIZE, getppid(), nullptr, nullptr));
    tell("process_vm_readv", process_vm_readv(getppid(), &here, 1, &there, 1, 0));
    tell("process_vm_writev", process_vm_writev(getppid(), &here, 1, &there, 1, 0));
    tell("pidfd_open", syscall(SYS_pidfd_open, getppid(), 0));
    tell("pidfd_getfd", syscall(SYS_pidfd_getfd, -1, 0, 0));
    tell("shared-memory", shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600));
}

void try_sockets(const std::string& place) {
    tell("unix-socket", local_connection(place + "/socket", false));
    tell("abstract-socket", local_connection("mrprompt-fence-probe", true));
    tell("socketpair-datagram", pair(SOCK_DGRAM));
    tell("socketpair-raw", pair(SOCK_RAW));
    tell("socketpair-packets", pair(SOCK_SEQPACKET));
    tell("packet-socket", socket(AF_PACKET, SOCK_DGRAM, 0));
    tell("vsock", socket(AF_VSOCK, SOCK_STREAM, 0));
    tell("netlink-audit", socket(AF_NETLINK, SOCK_RAW, NETLINK_AUDIT));
    tell("bind", bound(SOCK_STREAM));
    tell("listen", listening());
}

void try_kernel() {
    perf_event_attr event{};
    event.size = sizeof event;
    bpf_attr attribute{};
    char parameters[120] = {};
    tell("io_uring_setup", syscall(SYS_io_uring_setup, 1, parameters));
    tell("bpf", syscall(SYS_bpf, BPF_MAP_CREATE, &attribute, sizeof attribute));
    tell("userfaultfd", syscall(SYS_userfaultfd, 0));
    tell("perf_event_open", syscall(SYS_perf_event_open, &event, 0, -1, -1, 0));
    tell("keyctl", syscall(SYS_keyctl, 0, -3, 0));
    tell("unshare", unshare(CLONE_NEWUSER));
    tell("setns", setns(-1, 0));
    tell("mount", mount("none", "/tmp", "tmpfs", 0, nullptr));
    tell("kexec_load", syscall(SYS_kexec_load, 0, 0, nullptr, 0));
    tell("init_module", syscall(SYS_init_module, nullptr, 0, ""));
    tell("open_by_handle_at", syscall(SYS_open_by_handle_at, -1, nullptr, 0));
    char letter = 'x';
    tell("type-into-terminal", ioctl(STDERR_FILENO, TIOCSTI, &letter));
}

void do_what_a_fetcher_does(const char* directory) {
    tell("read-ca-file", opened(std::string(directory) + "/ca.pem", O_RDONLY));
    tell("read-system-library", opened("/usr/lib/os-release", O_RDONLY));
    tell("read-hosts", opened("/etc/hosts", O_RDONLY));
    tell("resolve-localhost", resolved("localhost"));
    tell("tcp", socket(AF_INET, SOCK_STREAM, 0));
    tell("tcp6", socket(AF_INET6, SOCK_STREAM, 0));
    tell("udp", socket(AF_INET, SOCK_DGRAM, 0));
    tell("socketpair", pair(SOCK_STREAM));
    tell("signal-itself", raise(SIGCONT));
}

}  // namespace

int main(int argc, char** argv) {
    const bool unfenced = argc > 1 && std::strcmp(argv[1], "--unfenced") == 0;
    const int first = unfenced ? 2 : 1;
    if (argc < first + 2) return 2;
    const std::string place = argv[first];
    std::printf("landlock %d\n", mrprompt::landlock_version());
    if (!unfenced) {
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        const std::vector<std::string> directories(argv + first + 1, argv + argc);
        timespec before{}, after{};
        clock_gettime(CLOCK_MONOTONIC, &before);
        const auto gaps = mrprompt::raise_fence(directories);
        clock_gettime(CLOCK_MONOTONIC, &after);
        std::printf("raised in %ld us\n",
                    (after.tv_sec - before.tv_sec) * 1000000 + (after.tv_nsec - before.tv_nsec) / 1000);
        for (const std::string& gap : gaps) std::printf("gap %s\n", gap.c_str());
    }
    do_what_a_fetcher_does(argv[first + 1]);
    try_files(place);
    try_processes();
    try_sockets(place);
    try_kernel();
    return 0;
}
