// Preloaded into an agent by the tests: writes down how much of every file is durable, so that after the agent's death the test
// can take away what a power cut would have.
//
//     POWER_CUT=FOLDER      FOLDER gets a file per inode with the size that the last fsync or fdatasync of it covered
//     POWER_CUT_LIES=1      the disk says that it wrote, and nothing is written down: a test that notices nothing is none
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

// Of what is written while a sync runs nothing is promised, so the size counts that the file had before.
static long long size_of(int file, unsigned long long *inode) {
    struct stat facts;
    if (fstat(file, &facts) != 0 || !S_ISREG(facts.st_mode)) return -1;
    *inode = facts.st_ino;
    return facts.st_size;
}

static void note(unsigned long long inode, long long size) {
    const char *folder = getenv("POWER_CUT");
    char path[4096];
    if (!folder || getenv("POWER_CUT_LIES")) return;
    snprintf(path, sizeof path, "%s/%llu", folder, inode);
    int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0) return;
    if (pwrite(file, &size, sizeof size, 0) != sizeof size) unlink(path);
    close(file);
}

static int sync_with(int (*real)(int), int file) {
    unsigned long long inode = 0;
    long long size = size_of(file, &inode);
    int result = real(file);
    int error = errno;
    if (result == 0 && size >= 0) note(inode, size);
    errno = error;
    return result;
}

int fsync(int file) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return sync_with(real, file);
}

int fdatasync(int file) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return sync_with(real, file);
}
