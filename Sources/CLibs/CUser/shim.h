// Users of Linux, and what they can open. Every call gives its result or the negated errno.
#ifndef CUSER_SHIM_H
#define CUSER_SHIM_H

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/// A user of this host by name. Reads the host's lists of users, and may wait for a service that has them.
static inline int cuser_find(const char *name, uint32_t *user, uint32_t *group) {
    struct passwd entry, *found = NULL;
    char space[16384];
    int code = getpwnam_r(name, &entry, space, sizeof space, &found);
    if (code != 0) return -code;
    if (!found) return -ENOENT;
    *user = found->pw_uid;
    *group = found->pw_gid;
    return 0;
}

#define CUSER_GROUPS_MAX 1024

/// A flag of `open`: to be led to, and no more.
#define CUSER_PLACE 010000000

/// Whether a user could open a file: opened by the calling thread alone with that user's rights, and closed again. `more` are the
/// user's other groups.
static inline int cuser_try(const char *path, int flags, uint32_t user, uint32_t group, const uint32_t *more, int count) {
    gid_t before[CUSER_GROUPS_MAX];
    // The C library would set the groups of all threads.
    long kept = syscall(SYS_getgroups, CUSER_GROUPS_MAX, before);
    if (kept < 0) return -errno;
    if (syscall(SYS_setgroups, (long)count, more) != 0) return -errno;
    syscall(SYS_setfsgid, group);
    syscall(SYS_setfsuid, user);
    int file = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int result = file < 0 ? -errno : 0;
    if (file >= 0) close(file);
    syscall(SYS_setfsuid, geteuid());
    syscall(SYS_setfsgid, getegid());
    if (syscall(SYS_setgroups, kept, before) != 0 && result == 0) result = -errno;
    return result;
}

#endif
