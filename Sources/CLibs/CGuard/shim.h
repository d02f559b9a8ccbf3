// Linux as the guard uses it: processes that die with their parent, a timer of the kernel's that ends the caller, locked
// memory. Every call gives its result or the negated errno.
#ifndef CGUARD_SHIM_H
#define CGUARD_SHIM_H

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/falloc.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/watchdog.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef MCL_ONFAULT
#define MCL_ONFAULT 4
#endif
#ifndef CLOCK_BOOTTIME
#define CLOCK_BOOTTIME 7
#endif

static inline int cguard_result(long result) { return result < 0 ? -errno : (int)result; }

/// Keeps what the process touches in memory, now and later.
static inline int cguard_lock_memory(void) {
    return cguard_result(mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT));
}

static inline void cguard_name(const char *name) { prctl(PR_SET_NAME, name, 0, 0, 0); }

/// A timer of the kernel's that ends this process with SIGKILL, stopped or not. `handle` names it.
static inline int cguard_timer_make(int *handle) {
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGKILL;
    return cguard_result(syscall(SYS_timer_create, CLOCK_BOOTTIME, &event, handle));
}

/// Arms it for a moment of CLOCK_BOOTTIME; 0 disarms it. A moment that is over is now.
static inline int cguard_timer_set(int handle, int64_t nanoseconds) {
    struct itimerspec when;
    memset(&when, 0, sizeof when);
    if (nanoseconds > 0) {
        when.it_value.tv_sec = nanoseconds / 1000000000;
        when.it_value.tv_nsec = nanoseconds % 1000000000;
    }
    return cguard_result(syscall(SYS_timer_settime, handle, TIMER_ABSTIME, &when, NULL));
}

/// Sets after how many seconds without food a watchdog resets the machine; gives what it really takes.
static inline int cguard_watchdog_time(int file, int *seconds) {
    return cguard_result(ioctl(file, WDIOC_SETTIMEOUT, seconds));
}

static inline int cguard_watchdog_feed(int file) { return cguard_result(ioctl(file, WDIOC_KEEPALIVE, 0)); }

/// Closes it for good: it does not count any more, unless the kernel was built so that it always does.
static inline int cguard_watchdog_rest(int file) {
    int result = cguard_result(write(file, "V", 1));
    close(file);
    return result < 0 ? result : 0;
}

/// Where a program finds its line to the one that was started with it.
#define CGUARD_LINE 3

// Between fork and exec only what is safe after a fork of a program with threads: the agent has some. `line` becomes
// CGUARD_LINE; -1 for none. Gives what `keep` is from then on.
static inline int cguard_begin_child(int error_file, int keep, int line) {
    setsid();
    sigset_t none;
    sigemptyset(&none);
    for (int number = 1; number < 65; number++)
        if (number != SIGKILL && number != SIGSTOP) signal(number, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int null = open("/dev/null", O_RDWR);
    if (null >= 0) {
        dup2(null, 0);
        dup2(null, 1);
        dup2(error_file >= 0 ? error_file : null, 2);
    }
    int first = 3;
    if (line >= 0) {
        if (keep == CGUARD_LINE) keep = fcntl(keep, F_DUPFD_CLOEXEC, CGUARD_LINE + 1);
        if (line == CGUARD_LINE) fcntl(line, F_SETFD, 0);
        else dup2(line, CGUARD_LINE);
        first = CGUARD_LINE + 1;
    }
    // All but the pipe that tells of a failed exec.
    if (keep > first) syscall(SYS_close_range, first, keep - 1, 0);
    syscall(SYS_close_range, keep < first ? first : keep + 1, ~0U, 0);
    return keep;
}

/// How willing the system is to end this process when memory runs out, from -1000 to 1000.
static inline int cguard_spare(const char *text) {
    int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (file < 0) return -errno;
    int result = cguard_result(write(file, text, strlen(text)));
    close(file);
    return result;
}

// ---- a user of its own

#define CGUARD_GROUPS_MAX 4

/// Whom a program runs as; `user` 0 for the one that starts it.
typedef struct {
    uint32_t user;
    uint32_t group;
    uint32_t more[CGUARD_GROUPS_MAX];
    int more_count;
} cguard_user;

#if defined(__x86_64__)
#define CGUARD_ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define CGUARD_ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

/// From now on nothing in this process, or begun by it, takes back with whose end it dies. Wants no_new_privs.
static inline int cguard_tie(void) {
#ifdef CGUARD_ARCHITECTURE
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CGUARD_ARCHITECTURE, 0, 6),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        // The other numbers that x86-64 has for the same calls.
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prctl, 0, 2),
        // The lower half, which comes first on both: prctl takes no more of it.
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PR_SET_PDEATHSIG, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
    };
    struct sock_fprog program = { sizeof filter / sizeof filter[0], filter };
    return cguard_result(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0));
#else
    return 0;
#endif
}

/// Between fork and exec: without any way back, and with no right that the user itself does not have. By system calls alone: the C
/// library's would ask threads that are not there any more. A change of users undoes with whose end this process dies; an exec of a
/// program without rights of its own does not.
static inline int cguard_become_user(const cguard_user *who) {
    if (syscall(SYS_setgroups, (long)who->more_count, who->more) != 0
        || syscall(SYS_setresgid, who->group, who->group, who->group) != 0
        || syscall(SYS_setresuid, who->user, who->user, who->user) != 0
        || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -errno;
    return 0;
}

/// What `exec` failed with, negated; 0 when the pipe closed because it succeeded.
static inline int cguard_await_exec(int from) {
    int code = 0;
    ssize_t count;
    do { count = read(from, &code, sizeof code); } while (count < 0 && errno == EINTR);
    close(from);
    return count == (ssize_t)sizeof code ? -code : 0;
}

/// Starts a program that is killed when the calling thread ends, in a session of its own, and in the cgroup whose list of
/// processes `group` is open for; -1 for none. It has `line` as CGUARD_LINE; -1 for none. It runs as `who`. Gives its process
/// number.
static inline int cguard_start(const char *program, char *const *words, char *const *environment, int error_file,
                               int group, int line, const cguard_user *who) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return -errno;
    pid_t parent = getpid();
    pid_t child = fork();
    if (child < 0) {
        int code = errno;
        close(ends[0]);
        close(ends[1]);
        return -code;
    }
    if (child == 0) {
        int told = ends[1];
        // A parent that ended before this line is not there any more to die.
        if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0 && getppid() == parent
            && (group < 0 || write(group, "0", 1) == 1)) {
            told = cguard_begin_child(error_file, ends[1], line);
            // A guest is no better than another program.
            cguard_spare("0");
            int result = 0;
            if (who->user != 0) {
                result = cguard_become_user(who);
                // Anew, and so is the question whether there is still a parent.
                if (result == 0) result = cguard_result(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0));
                if (result == 0 && getppid() != parent) result = -ESRCH;
                if (result == 0) result = cguard_tie();
            }
            if (result == 0) execve(program, words, environment);
            else errno = -result;
        }
        int code = errno ? errno : EPERM;
        ssize_t ignored = write(told, &code, sizeof code);
        (void)ignored;
        _exit(127);
    }
    close(ends[1]);
    int code = cguard_await_exec(ends[0]);
    if (code == 0) return child;
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {}
    return code;
}

/// Starts a program that is nobody's child and nobody's terminal's. Gives 0.
static inline int cguard_detach(const char *program, char *const *words, char *const *environment, int error_file) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return -errno;
    pid_t child = fork();
    if (child < 0) {
        int code = errno;
        close(ends[0]);
        close(ends[1]);
        return -code;
    }
    if (child == 0) {
        cguard_begin_child(error_file, ends[1], -1);
        pid_t grandchild = fork();
        if (grandchild > 0) _exit(0);
        if (grandchild == 0) execve(program, words, environment);
        int code = errno;
        ssize_t ignored = write(ends[1], &code, sizeof code);
        (void)ignored;
        _exit(127);
    }
    close(ends[1]);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {}
    return cguard_await_exec(ends[0]);
}

/// The next child that has ended: its number and its status, 128 and more for a signal; 0 when none has.
static inline int cguard_reap(int *status) {
    int raw = 0;
    pid_t child;
    do { child = waitpid(-1, &raw, WNOHANG); } while (child < 0 && errno == EINTR);
    if (child < 0) return errno == ECHILD ? 0 : -errno;
    *status = WIFSIGNALED(raw) ? 128 + WTERMSIG(raw) : WEXITSTATUS(raw);
    return child;
}

/// Two ends of a line between two programs, which an exec closes.
static inline int cguard_line(int ends[2]) { return cguard_result(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)); }

static inline int cguard_kill(int process) { return cguard_result(kill(process, SIGKILL)); }

static inline int cguard_stop(int process) { return cguard_result(kill(process, SIGSTOP)); }

// ---- going on as another program

/// A file without a name that an exec keeps.
static inline int cguard_unnamed_file(void) { return cguard_result(syscall(SYS_memfd_create, "muster-guard", 0)); }

static inline int cguard_keep_open(int file, int is_kept) { return cguard_result(fcntl(file, F_SETFD, is_kept ? 0 : FD_CLOEXEC)); }

/// A child that ends this process with SIGKILL at a moment of CLOCK_BOOTTIME, stopped or not, whatever program it is by then;
/// the timer above does not outlive an exec. It ends with this process. Gives its process number.
static inline int cguard_watch(int64_t nanoseconds) {
    pid_t parent = getpid();
    pid_t child = fork();
    if (child < 0) return -errno;
    if (child > 0) return child;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0 || getppid() != parent) _exit(1);
    syscall(SYS_close_range, 0, ~0U, 0);
    struct timespec when;
    when.tv_sec = nanoseconds / 1000000000;
    when.tv_nsec = nanoseconds % 1000000000;
    while (clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &when, NULL) == EINTR) {}
    kill(parent, SIGKILL);
    _exit(0);
}

/// Comes back only with what went wrong.
static inline int cguard_become(const char *program, char *const *words, char *const *environment) {
    execve(program, words, environment);
    return -errno;
}

/// Gives back to the system what lies in a file before its last `keep` bytes, of one that lies in memory. What is written to it goes
/// to its end, as before. Gives its size.
static inline int64_t cguard_trim(const char *path, int64_t keep) {
    int file = open(path, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (file < 0) return -errno;
    struct stat about;
    struct statfs place;
    int64_t size = -EINVAL;
    if (fstat(file, &about) == 0 && fstatfs(file, &place) == 0 && place.f_type == 0x01021994 /* memory */) {
        size = about.st_size;
        if (size > keep && about.st_blocks * 512 > keep)
            fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, size - keep);
    }
    close(file);
    return size;
}

/// Locks a file for this process, or gives -EWOULDBLOCK.
static inline int cguard_lock(int file) { return cguard_result(flock(file, LOCK_EX | LOCK_NB)); }

#endif
