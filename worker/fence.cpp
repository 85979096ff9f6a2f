// Landlock for files and signals, seccomp for system calls: each refuses with an error, neither kills.
#include "fence.hpp"

#include <fcntl.h>
#include <linux/landlock.h>
#include <linux/netlink.h>
#include <openssl/conf.h>
#include <openssl/x509.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <initializer_list>

#include "core/name_files.hpp"

namespace mrprompt {
namespace {

// --- Landlock, by numbers: older headers know the first versions only
// ----------------------------------------

// struct landlock_ruleset_attr of version 6. An older kernel takes the longer one as long as what it does not
// know is 0.
struct RulesetAttributes {
    std::uint64_t files, network, scopes;
};

constexpr std::uint64_t bits(int count) {
    return (std::uint64_t{1} << count) - 1;
}

// Whatever the version can refuse is refused, except where a rule allows it. TCP may connect, not bind.
RulesetAttributes all_that(int version) {
    constexpr int kFileRights[] = {13, 14, 15, 15, 16};  // in versions 1 to 5
    constexpr std::uint64_t kBindTcp = 1, kAbstractSocketsAndSignals = 3;
    return {bits(kFileRights[version < 5 ? version - 1 : 4]), version >= 4 ? kBindTcp : 0,
            version >= 6 ? kAbstractSocketsAndSignals : 0};
}

// Libraries that are loaded late (name services, character sets), what TLS reads at its start, and where
// distributions keep certificates. Not all of /usr: a server built from source has its data below /usr/local.
// Not all of /etc/ssl: the server's user may read private keys there.
constexpr const char* kDirectories[] = {"/lib",
                                        "/lib32",
                                        "/lib64",
                                        "/usr/lib",
                                        "/usr/lib32",
                                        "/usr/lib64",
                                        "/usr/local/lib",
                                        "/usr/local/lib64",
                                        "/etc/ssl/certs",
                                        "/etc/pki/tls/certs",
                                        "/etc/pki/tls/openssl.d",
                                        "/etc/pki/ca-trust",
                                        "/etc/ca-certificates",
                                        "/etc/crypto-policies",
                                        "/usr/share/ca-certificates",
                                        "/usr/share/crypto-policies",
                                        "/usr/share/pki",
                                        "/var/lib/ca-certificates",
                                        "/run/systemd/resolve",
                                        "/run/resolvconf",
                                        "/run/NetworkManager"};
constexpr const char* kFiles[] = {"/etc/ld.so.cache", "/etc/ssl/openssl.cnf", "/etc/ssl/cert.pem"};

void allow_reading(int ruleset, const char* path) {
    const int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0) return;
    struct stat status {};
    landlock_path_beneath_attr rule{};
    rule.parent_fd = fd;
    rule.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE;
    if (fstat(fd, &status) == 0 && S_ISDIR(status.st_mode))
        rule.allowed_access |= LANDLOCK_ACCESS_FS_READ_DIR;
    syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    close(fd);
}

bool fence_files(int version, const std::vector<std::string>& certificate_directories) {
    const RulesetAttributes attributes = all_that(version);
    const int ruleset =
        static_cast<int>(syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0));
    if (ruleset < 0) return false;
    for (const char* path : kDirectories) allow_reading(ruleset, path);
    for (const char* path : kFiles) allow_reading(ruleset, path);
    for (const char* path : kNameFiles) allow_reading(ruleset, path);
    allow_reading(ruleset, X509_get_default_cert_dir());
    allow_reading(ruleset, X509_get_default_cert_file());
    if (char* const configuration = CONF_get1_default_config_file()) {
        allow_reading(ruleset, configuration);
        OPENSSL_free(configuration);
    }
    for (const std::string& path : certificate_directories) allow_reading(ruleset, path.c_str());
    const bool fenced = syscall(SYS_landlock_restrict_self, ruleset, 0) == 0;
    close(ruleset);
    return fenced;
}

// --- seccomp
// --------------------------------------------------------------------------------------------------

// Calls that a client of the network never makes. Most would fail for an ordinary user anyway; what would not
// is meant: other processes of the server's user, its shared memory, the modes and times of its files.
constexpr const char* kRefused[] = {
    // programs and processes
    "execve", "execveat", "fork", "vfork", "ptrace", "process_vm_readv", "process_vm_writev",
    "process_madvise", "process_mrelease", "kcmp", "kill", "tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo",
    "pidfd_open", "pidfd_getfd", "pidfd_send_signal", "move_pages", "migrate_pages",
    // memory and messages shared with others
    "shmget", "shmat", "shmctl", "semget", "semop", "semtimedop", "semctl", "msgget", "msgsnd", "msgrcv",
    "msgctl", "mq_open", "mq_unlink",
    // names of files: Landlock forbids these too, where the kernel has it
    "unlink", "unlinkat", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat",
    "mkdir", "mkdirat", "rmdir", "mknod", "mknodat",
    // what Landlock does not know of files
    "chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat", "utime", "utimes",
    "futimesat", "utimensat", "setxattr", "lsetxattr", "fsetxattr", "setxattrat", "removexattr",
    "lremovexattr", "fremovexattr", "removexattrat", "file_setattr", "open_by_handle_at", "name_to_handle_at",
    "inotify_init", "inotify_init1", "fanotify_init", "creat", "truncate", "truncate64", "ftruncate",
    "ftruncate64", "fallocate",
    // how other processes run
    "setpriority", "sched_setscheduler", "sched_setattr", "sched_setparam", "sched_setaffinity", "ioprio_set",
    // servers
    "listen", "accept", "accept4",
    // ways around a filter, and wide doors of the kernel
    "io_uring_setup", "io_uring_enter", "io_uring_register", "bpf", "userfaultfd", "perf_event_open",
    "keyctl", "add_key", "request_key", "unshare", "setns", "mount", "umount2", "move_mount", "fsopen",
    "fsconfig", "fsmount", "fspick", "open_tree", "open_tree_attr", "mount_setattr", "pivot_root", "chroot",
    "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "quotactl",
    "quotactl_fd", "swapon", "swapoff", "acct", "reboot", "syslog", "personality", "modify_ldt"};

// Calls that are younger than some libseccomp in use, with the number that every architecture gives them.
struct YoungCall {
    const char* name;
    int number;
};
constexpr YoungCall kYoungCalls[] = {{"fchmodat2", 452},
                                     {"setxattrat", 463},
                                     {"removexattrat", 466},
                                     {"open_tree_attr", 467},
                                     {"file_setattr", 469}};

int number_of(const char* name) {
    const int number = seccomp_syscall_resolve_name(name);
    if (number != __NR_SCMP_ERROR) return number;
    for (const YoungCall& call : kYoungCalls)
        if (std::strcmp(call.name, name) == 0) return call.number;
    return __NR_SCMP_ERROR;
}

// A condition on an argument of a call; `second` is what a masked one is compared with.
scmp_arg_cmp argument(unsigned number, scmp_compare how, scmp_datum_t first, scmp_datum_t second = 0) {
    return {number, how, first, second};
}

class CallFilter {
public:
    CallFilter() : context_(seccomp_init(SCMP_ACT_ALLOW)) {
        // Another architecture's numbers would pass by all rules.
        ok_ =
            context_ != nullptr &&
            seccomp_attr_set(context_, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(EPERM)) == 0 &&
            seccomp_attr_set(context_, SCMP_FLTATR_CTL_OPTIMIZE, 2) == 0;  // a tree: few steps for each call
    }
    ~CallFilter() { seccomp_release(context_); }
    CallFilter(const CallFilter&) = delete;
    CallFilter& operator=(const CallFilter&) = delete;

    // A call that this architecture or kernel does not have needs no rule.
    void refuse(const char* name, int error = EPERM, std::initializer_list<scmp_arg_cmp> where = {}) {
        const int number = number_of(name);
        if (number == __NR_SCMP_ERROR || !ok_) return;
        const int result = seccomp_rule_add_array(context_, SCMP_ACT_ERRNO(static_cast<unsigned>(error)),
                                                  number, static_cast<unsigned>(where.size()), where.begin());
        ok_ = result == 0 || result == -EDOM;
    }

    bool load() { return ok_ && seccomp_load(context_) == 0; }

private:
    scmp_filter_ctx context_;
    bool ok_ = false;
};

// One of these bits set in an argument that the kernel reads 32 bits of.
void refuse_flags(CallFilter& filter, const char* name, unsigned number,
                  std::initializer_list<unsigned> flags) {
    for (const unsigned flag : flags)
        filter.refuse(name, EPERM, {argument(number, SCMP_CMP_MASKED_EQ, flag, flag)});
}

// An argument that is one of these values, whatever its upper half says: the kernel does not read that.
void refuse_values(CallFilter& filter, const char* name, unsigned number,
                   std::initializer_list<unsigned> values) {
    for (const unsigned value : values)
        filter.refuse(name, EPERM, {argument(number, SCMP_CMP_MASKED_EQ, 0xffffffff, value)});
}

// Files are for reading. Before its version 3 Landlock lets a file be emptied by opening it.
void fence_opening(CallFilter& filter) {
    const auto writing = {unsigned{O_WRONLY}, unsigned{O_RDWR}, unsigned{O_CREAT}, unsigned{O_TRUNC}};
    refuse_flags(filter, "open", 1, writing);
    refuse_flags(filter, "openat", 2, writing);
    filter.refuse("openat2", ENOSYS);  // its flags are in memory, out of sight
}

// TCP, UDP, and netlink for getaddrinfo. The name services ask local daemons first: EAFNOSUPPORT sends them
// on to DNS.
void fence_sockets(CallFilter& filter) {
    for (unsigned family = 0; family <= AF_NETLINK; ++family) {
        if (family == AF_INET || family == AF_INET6 || family == AF_NETLINK) continue;
        filter.refuse("socket", EAFNOSUPPORT, {argument(0, SCMP_CMP_EQ, family)});
    }
    filter.refuse("socket", EAFNOSUPPORT, {argument(0, SCMP_CMP_GT, AF_NETLINK)});
    filter.refuse("socket", EPERM,
                  {argument(0, SCMP_CMP_EQ, AF_NETLINK), argument(2, SCMP_CMP_NE, NETLINK_ROUTE)});
    // curl wakes itself over a pair of stream sockets. The end of any other kind could be sent elsewhere.
    constexpr unsigned kTypeMask = 0xf;
    for (unsigned type = 0; type <= kTypeMask; ++type) {
        if (type == SOCK_STREAM) continue;
        filter.refuse("socketpair", EPERM, {argument(1, SCMP_CMP_MASKED_EQ, kTypeMask, type)});
    }
}

// Threads of its own, and nothing else; signals to itself only.
void fence_processes(CallFilter& filter) {
#ifdef __s390__  // where the flags come second
    filter.refuse("clone", EPERM, {argument(1, SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0)});
#else
    filter.refuse("clone", EPERM, {argument(0, SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0)});
#endif
    filter.refuse("clone3", ENOSYS);  // its flags are in memory, out of sight: the C library turns to clone
    filter.refuse("tgkill", EPERM, {argument(0, SCMP_CMP_NE, static_cast<scmp_datum_t>(getpid()))});
    filter.refuse("prlimit64", EPERM, {argument(0, SCMP_CMP_NE, 0)});
    // A socket could signal any process.
    refuse_values(filter, "fcntl", 1, {F_SETOWN, F_SETSIG, F_SETOWN_EX});
    refuse_values(filter, "ioctl", 1, {FIOSETOWN, SIOCSPGRP});
    // Typing into the terminal that the server was started in.
    refuse_values(filter, "ioctl", 1, {TIOCSTI, TIOCLINUX});
}

bool fence_calls() {
    CallFilter filter;
    for (const char* name : kRefused) filter.refuse(name);
    fence_opening(filter);
    fence_sockets(filter);
    fence_processes(filter);
    return filter.load();
}

}  // namespace

int landlock_version() {
    const long version = syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
    return version > 0 ? static_cast<int>(version) : 0;
}

std::vector<std::string> raise_fence(const std::vector<std::string>& certificate_directories) {
    std::vector<std::string> missing;
    const int version = landlock_version();
    if (version == 0 || !fence_files(version, certificate_directories))
        missing.emplace_back(
            "this kernel has no Landlock: the files of the server's user are not fenced off");
    if (!fence_calls())
        missing.emplace_back("this kernel has no seccomp filters: system calls are not fenced off");
    return missing;
}

}  // namespace mrprompt
