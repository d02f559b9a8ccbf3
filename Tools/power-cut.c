// Preloaded into an agent by the tests: writes down how much of every file is durable, so that after the agent's death the test
// can take away what a power cut would have.
//
//     POWER_CUT=FOLDER      FOLDER gets a file per inode with the size that the last fsync or fdatasync of it covered
//     POWER_CUT_LIES=FILE   while FILE is there the disk only says that it wrote: a test that notices nothing is none
//
// What is appended is so taken away. Folders count as synced, and what is written over stays.
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
    const char *lies = getenv("POWER_CUT_LIES");
    if (!folder || (lies && access(lies, F_OK) == 0)) return;
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

// The next file may get this one's inode.
int unlink(const char *path) {
    static int (*real)(const char *);
    if (!real) real = (int (*)(const char *))dlsym(RTLD_NEXT, "unlink");
    const char *folder = getenv("POWER_CUT");
    struct stat facts;
    char noted[4096];
    if (folder && lstat(path, &facts) == 0 && S_ISREG(facts.st_mode) && facts.st_nlink == 1) {
        snprintf(noted, sizeof noted, "%s/%llu", folder, (unsigned long long)facts.st_ino);
        real(noted);
    }
    return real(path);
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
