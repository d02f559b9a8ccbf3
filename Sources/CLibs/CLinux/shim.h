// Linux as the Reactor uses it. Every call gives its result or the negated errno, so that nothing between the call and
// the look at errno can change it, and what is a macro or varies by feature test becomes an ordinary function.
#ifndef CLINUX_SHIM_H
#define CLINUX_SHIM_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

// ---- time

static inline int64_t clinux_clock(int clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
/// Nanoseconds that never go back and go on while the machine is suspended.
static inline int64_t clinux_now(void) { return clinux_clock(CLOCK_BOOTTIME); }
/// Nanoseconds since 1970.
static inline int64_t clinux_wall(void) { return clinux_clock(CLOCK_REALTIME); }
/// Nanoseconds that the calling thread, or the process, has run on a CPU.
static inline int64_t clinux_thread_cpu(void) { return clinux_clock(CLOCK_THREAD_CPUTIME_ID); }
static inline int64_t clinux_process_cpu(void) { return clinux_clock(CLOCK_PROCESS_CPUTIME_ID); }

static inline int clinux_result(long result) { return result < 0 ? -errno : (int)result; }

// ---- priority

#ifndef SCHED_RESET_ON_FORK
#define SCHED_RESET_ON_FORK 0x40000000
#endif
/// Lets the calling thread come before others that are `steps` nicer. Threads and processes that it begins do not.
static inline int clinux_come_before(int steps) {
    struct sched_param none;
    memset(&none, 0, sizeof none);
    if (sched_setscheduler(0, SCHED_OTHER | SCHED_RESET_ON_FORK, &none) < 0) return -errno;
    return clinux_result(setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), -steps));
}

// ---- the end of the process

static inline int clinux_is_tcp(int fd) {
    int domain = 0, kind = 0;
    socklen_t size = sizeof domain;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0 || (domain != AF_INET && domain != AF_INET6)) return 0;
    size = sizeof kind;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &kind, &size) == 0 && kind == SOCK_STREAM;
}

/// Begins a process that shares this one's descriptors, and ends all connections over TCP among them as soon as the calling thread
/// is gone; not those that were there before, which other processes may have, too. The kernel does so only when the last thread is
/// gone, and one that waits for a disk takes its time. It stays after nothing else: its arguments, `count` bytes at `words`
/// together, are replaced, and only the end of the caller is heard.
static inline int clinux_farewell(int steps, char *words, size_t count) {
    enum { fds_max = 65536 };
    static const char name[] = "muster: ends connections when its agent is gone";
    static uint8_t inherited[fds_max / 8];
    pid_t parent = getpid();
    sigset_t all;
    // Before the other process is there: meanwhile this one opens its own.
    for (int fd = 3; fd < fds_max; fd++)
        if (clinux_is_tcp(fd)) inherited[fd / 8] |= (uint8_t)(1 << fd % 8);
    long child = syscall(SYS_clone, CLONE_FILES, 0, 0, 0, 0);
    if (child != 0) return clinux_result(child);
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    prctl(PR_SET_PDEATHSIG, SIGUSR2, 0, 0, 0);
    memset(words, 0, count);
    memcpy(words, name, count < sizeof name ? count : sizeof name);
    clinux_come_before(steps);
    // Before it was asked for, the signal was not sent.
    while (getppid() == parent) {
        siginfo_t info;
        // Others could send it too.
        if (sigwaitinfo(&all, &info) == SIGUSR2 && info.si_pid == parent) break;
    }
    for (int fd = 3; fd < fds_max; fd++)
        if (!(inherited[fd / 8] & 1 << fd % 8) && clinux_is_tcp(fd)) shutdown(fd, SHUT_RDWR);
    syscall(SYS_exit_group, 0);
    return 0;
}

// ---- epoll, eventfd, signalfd

static inline int clinux_epoll_create(void) { return clinux_result(epoll_create1(EPOLL_CLOEXEC)); }

static inline int clinux_epoll_control(int epoll, int operation, int fd, uint32_t events, uint64_t tag) {
    struct epoll_event event;
    memset(&event, 0, sizeof event);
    event.events = events;
    event.data.u64 = tag;
    return clinux_result(epoll_ctl(epoll, operation, fd, &event));
}

typedef struct clinux_event {
    uint64_t tag;
    uint32_t events;
} clinux_event;

#define CLINUX_EVENTS_MAX 256

/// Waits for at most `nanoseconds`, without end when negative. An interrupted wait found nothing.
static inline int clinux_epoll_wait(int epoll, clinux_event *found, int max, int64_t nanoseconds) {
    struct epoll_event events[CLINUX_EVENTS_MAX];
    if (max > CLINUX_EVENTS_MAX) max = CLINUX_EVENTS_MAX;
    int count;
    if (nanoseconds <= 0) {
        count = epoll_wait(epoll, events, max, nanoseconds < 0 ? -1 : 0);
    } else {
        struct timespec timeout = {nanoseconds / 1000000000, nanoseconds % 1000000000};
        count = epoll_pwait2(epoll, events, max, &timeout, NULL);
        // A kernel before 5.11 counts milliseconds.
        if (count < 0 && errno == ENOSYS) {
            int64_t milliseconds = (nanoseconds + 999999) / 1000000;
            count = epoll_wait(epoll, events, max, milliseconds > 60000 ? 60000 : (int)milliseconds);
        }
    }
    if (count < 0) return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < count; i++) {
        found[i].tag = events[i].data.u64;
        found[i].events = events[i].events;
    }
    return count;
}

static inline int clinux_eventfd(void) { return clinux_result(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)); }

static inline int clinux_eventfd_add(int fd) {
    uint64_t one = 1;
    return clinux_result(write(fd, &one, sizeof one));
}

/// Blocks these signals in the calling thread and gives a descriptor that tells of them.
static inline int clinux_signalfd(const int *signals, int count) {
    sigset_t set;
    sigemptyset(&set);
    for (int i = 0; i < count; i++) sigaddset(&set, signals[i]);
    int error = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (error != 0) return -error;
    return clinux_result(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
}

/// The next signal's number, or 0 when none is waiting.
static inline int clinux_signalfd_next(int fd) {
    struct signalfd_siginfo info;
    ssize_t count = read(fd, &info, sizeof info);
    if (count == (ssize_t)sizeof info) return (int)info.ssi_signo;
    if (count < 0 && errno != EAGAIN && errno != EINTR) return -errno;
    return 0;
}

/// Leaves every signal to the threads that ask for them.
static inline void clinux_block_signals(void) {
    sigset_t set;
    sigfillset(&set);
    // Faults of this thread's own code must still end the process.
    sigdelset(&set, SIGSEGV);
    sigdelset(&set, SIGBUS);
    sigdelset(&set, SIGILL);
    sigdelset(&set, SIGFPE);
    sigdelset(&set, SIGTRAP);
    sigdelset(&set, SIGABRT);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

/// No core of this process or its children is written or piped anywhere. The kernel takes a limit of 1 for that word; one of 0
/// still feeds a pipe, as systemd-coredump's.
static inline int clinux_keep_out_of_cores(void) {
    struct rlimit none = {.rlim_cur = 1, .rlim_max = 1};
    return setrlimit(RLIMIT_CORE, &none) == 0 ? 0 : errno;
}

static inline void clinux_name_thread(const char *name) { prctl(PR_SET_NAME, name, 0, 0, 0); }

// ---- addresses

/// An IPv4 or IPv6 address with its port; `bytes` in the order of the network, the first four of them for IPv4.
typedef struct clinux_address {
    uint8_t bytes[16];
    uint32_t scope;
    uint16_t port;
    uint8_t is_v6;
} clinux_address;

static inline socklen_t clinux_pack(const clinux_address *address, struct sockaddr_storage *packed) {
    memset(packed, 0, sizeof *packed);
    if (address->is_v6) {
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)packed;
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(address->port);
        v6->sin6_scope_id = address->scope;
        memcpy(&v6->sin6_addr, address->bytes, 16);
        return sizeof *v6;
    }
    struct sockaddr_in *v4 = (struct sockaddr_in *)packed;
    v4->sin_family = AF_INET;
    v4->sin_port = htons(address->port);
    memcpy(&v4->sin_addr, address->bytes, 4);
    return sizeof *v4;
}

static inline int clinux_unpack(const struct sockaddr *packed, clinux_address *address) {
    memset(address, 0, sizeof *address);
    if (packed->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)packed;
        address->port = ntohs(v4->sin_port);
        memcpy(address->bytes, &v4->sin_addr, 4);
        return 0;
    }
    if (packed->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)packed;
        address->is_v6 = 1;
        address->port = ntohs(v6->sin6_port);
        address->scope = v6->sin6_scope_id;
        memcpy(address->bytes, &v6->sin6_addr, 16);
        return 0;
    }
    return -EAFNOSUPPORT;
}

/// Reads an address in digits: 1 when it is one, else 0.
static inline int clinux_parse(const char *text, clinux_address *address) {
    memset(address, 0, sizeof *address);
    if (inet_pton(AF_INET, text, address->bytes) == 1) return 1;
    address->is_v6 = 1;
    return inet_pton(AF_INET6, text, address->bytes) == 1;
}

/// Writes the address without its port; `text` holds at least 46 bytes.
static inline void clinux_print(const clinux_address *address, char *text) {
    if (!inet_ntop(address->is_v6 ? AF_INET6 : AF_INET, address->bytes, text, 46)) text[0] = 0;
}

/// Resolves a name; blocks. Gives the number of addresses, or a negative error: -errno, or -10000 minus the resolver's.
static inline int clinux_resolve(const char *host, uint16_t port, clinux_address *found, int max) {
    struct addrinfo hints;
    struct addrinfo *list = NULL;
    memset(&hints, 0, sizeof hints);
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_family = AF_UNSPEC;
    int code = getaddrinfo(host, NULL, &hints, &list);
    if (code == EAI_SYSTEM) return -errno;
    if (code != 0) return -10000 - (code < 0 ? -code : code);
    int count = 0;
    for (struct addrinfo *each = list; each && count < max; each = each->ai_next) {
        if (clinux_unpack(each->ai_addr, &found[count]) != 0) continue;
        found[count].port = port;
        count++;
    }
    freeaddrinfo(list);
    return count;
}

static inline const char *clinux_resolve_text(int error) {
    return error <= -10000 ? gai_strerror(error + 10000) : strerror(-error);
}

// ---- sockets

static inline int clinux_option(int fd, int level, int name, int value) {
    return clinux_result(setsockopt(fd, level, name, &value, sizeof value));
}
static inline int clinux_reuse_address(int fd) { return clinux_option(fd, SOL_SOCKET, SO_REUSEADDR, 1); }
static inline int clinux_v6_only(int fd) { return clinux_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1); }
static inline int clinux_no_delay(int fd) { return clinux_option(fd, IPPROTO_TCP, TCP_NODELAY, 1); }
static inline int clinux_user_timeout(int fd, int milliseconds) {
    return clinux_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, milliseconds);
}
static inline int clinux_keep_alive(int fd, int idle_seconds, int interval_seconds, int probes) {
    int result = clinux_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    if (result == 0) result = clinux_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, idle_seconds);
    if (result == 0) result = clinux_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, interval_seconds);
    if (result == 0) result = clinux_option(fd, IPPROTO_TCP, TCP_KEEPCNT, probes);
    return result;
}
static inline int clinux_buffers(int fd, int send_bytes, int receive_bytes) {
    int result = 0;
    if (send_bytes > 0) result = clinux_option(fd, SOL_SOCKET, SO_SNDBUF, send_bytes);
    if (result == 0 && receive_bytes > 0) result = clinux_option(fd, SOL_SOCKET, SO_RCVBUF, receive_bytes);
    return result;
}

static inline int clinux_socket(int is_v6) {
    return clinux_result(socket(is_v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}
/// A socket that is connected to a path of this machine.
static inline int clinux_connect_path(const char *path) {
    struct sockaddr_un address;
    memset(&address, 0, sizeof address);
    if (strlen(path) >= sizeof address.sun_path) return -ENAMETOOLONG;
    address.sun_family = AF_UNIX;
    strcpy(address.sun_path, path);
    int fd = clinux_result(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (fd < 0) return fd;
    int result = clinux_result(connect(fd, (struct sockaddr *)&address, sizeof address));
    if (result == 0) return fd;
    close(fd);
    return result;
}
/// A socket that listens at a path of this machine, which only its owner may use.
static inline int clinux_listen_path(const char *path) {
    struct sockaddr_un address;
    memset(&address, 0, sizeof address);
    if (strlen(path) >= sizeof address.sun_path) return -ENAMETOOLONG;
    address.sun_family = AF_UNIX;
    strcpy(address.sun_path, path);
    int fd = clinux_result(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (fd < 0) return fd;
    unlink(path);
    int result = clinux_result(bind(fd, (struct sockaddr *)&address, sizeof address));
    if (result == 0) result = clinux_result(chmod(path, 0600));
    if (result == 0) result = clinux_result(listen(fd, 16));
    if (result == 0) return fd;
    close(fd);
    return result;
}
static inline int clinux_bind(int fd, const clinux_address *address) {
    struct sockaddr_storage packed;
    socklen_t size = clinux_pack(address, &packed);
    return clinux_result(bind(fd, (struct sockaddr *)&packed, size));
}
/// Who listens where a socket is connected to by its path.
static inline int clinux_peer_process(int fd) {
    struct { pid_t process; uid_t user; gid_t group; } peer;
    socklen_t size = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) return -errno;
    return (int)peer.process;
}
static inline int clinux_listen(int fd, int backlog) { return clinux_result(listen(fd, backlog)); }
static inline int clinux_connect(int fd, const clinux_address *address) {
    struct sockaddr_storage packed;
    socklen_t size = clinux_pack(address, &packed);
    return clinux_result(connect(fd, (struct sockaddr *)&packed, size));
}
static inline int clinux_accept(int fd, clinux_address *from) {
    struct sockaddr_storage packed;
    socklen_t size = sizeof packed;
    int result = clinux_result(syscall(SYS_accept4, fd, &packed, &size, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (result >= 0 && clinux_unpack((struct sockaddr *)&packed, from) != 0) memset(from, 0, sizeof *from);
    return result;
}
/// The error that a connection attempt or a connection ended with, negated; 0 when there is none.
static inline int clinux_socket_error(int fd) {
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) return -errno;
    return -error;
}
static inline int clinux_local_address(int fd, clinux_address *address) {
    struct sockaddr_storage packed;
    socklen_t size = sizeof packed;
    if (getsockname(fd, (struct sockaddr *)&packed, &size) != 0) return -errno;
    return clinux_unpack((struct sockaddr *)&packed, address);
}
static inline int64_t clinux_receive(int fd, void *bytes, size_t count) {
    ssize_t result = recv(fd, bytes, count, 0);
    return result < 0 ? -errno : result;
}
static inline int64_t clinux_send(int fd, const void *bytes, size_t count) {
    ssize_t result = send(fd, bytes, count, MSG_NOSIGNAL);
    return result < 0 ? -errno : result;
}
static inline int clinux_shut_writing(int fd) { return clinux_result(shutdown(fd, SHUT_WR)); }
/// The next close sends a reset instead of what is still queued.
static inline int clinux_reset_on_close(int fd) {
    struct linger linger = {1, 0};
    return clinux_result(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
}
static inline int clinux_close(int fd) { return clinux_result(close(fd)); }

#endif
