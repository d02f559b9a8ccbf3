// Preloaded into an agent by Tools/chaos and Tools/bench-failures: fails what a disk may fail, while a file says so.
//
//     CHAOS_FAULT=FILE    FILE holds `fsync`: the next fsync or fdatasync fails with EIO, and FILE is gone
//                         FILE holds `broken`: every fsync and fdatasync fails with EIO
//                         FILE holds `freeze`: every fsync and fdatasync waits until FILE is gone
//                         FILE holds `full`: file systems say that nothing of them is free
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

static int is_wanted(const char *wanted) {
    const char *path = getenv("CHAOS_FAULT");
    char word[16] = {0};
    if (!path) return 0;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    ssize_t count = read(file, word, sizeof word - 1);
    close(file);
    return count > 0 && strncmp(word, wanted, strlen(wanted)) == 0;
}

static void wait_for_thaw(void) {
    while (is_wanted("freeze")) usleep(10000);
}

// Whoever takes the file fails; no other thread does.
static int is_due(const char *wanted) { return is_wanted(wanted) && unlink(getenv("CHAOS_FAULT")) == 0; }

int statvfs(const char *restrict path, struct statvfs *restrict found) {
    static int (*real)(const char *, struct statvfs *);
    if (!real) real = (int (*)(const char *, struct statvfs *))dlsym(RTLD_NEXT, "statvfs");
    int result = real(path, found);
    if (result == 0 && is_wanted("full")) found->f_bfree = found->f_bavail = 0;
    return result;
}

int fsync(int file) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    wait_for_thaw();
    if (is_due("fsync") || is_wanted("broken")) {
        errno = EIO;
        return -1;
    }
    return real(file);
}

int fdatasync(int file) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    wait_for_thaw();
    if (is_due("fsync") || is_wanted("broken")) {
        errno = EIO;
        return -1;
    }
    return real(file);
}
