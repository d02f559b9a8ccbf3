// Preloaded into an agent by Tools/chaos: fails what a disk may fail, while a file says so.
//
//     CHAOS_FAULT=FILE    FILE holds `fsync`: the next fsync or fdatasync fails with EIO, and FILE is gone
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Whoever takes the file fails; no other thread does.
static int is_due(const char *wanted) {
    const char *path = getenv("CHAOS_FAULT");
    char word[16] = {0};
    if (!path) return 0;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    ssize_t count = read(file, word, sizeof word - 1);
    close(file);
    return count > 0 && strncmp(word, wanted, strlen(wanted)) == 0 && unlink(path) == 0;
}

int fsync(int file) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    if (is_due("fsync")) {
        errno = EIO;
        return -1;
    }
    return real(file);
}

int fdatasync(int file) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    if (is_due("fsync")) {
        errno = EIO;
        return -1;
    }
    return real(file);
}
