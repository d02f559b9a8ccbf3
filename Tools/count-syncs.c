// Preloaded into an agent by the tests: counts what makes the disk write, so that a test can say that nothing does.
//
//     COUNT_SYNCS=/FILE    the file's first eight bytes are the count, as a number of this machine's order
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static long *count;

// Before the process has other threads.
__attribute__((constructor)) static void open_count(void) {
    const char *path = getenv("COUNT_SYNCS");
    if (!path) return;
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) abort();
    void *place = mmap(0, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (place == MAP_FAILED) abort();
    count = place;
}

static void note(void) {
    if (count) __atomic_add_fetch(count, 1, __ATOMIC_RELAXED);
}

int fsync(int file) {
    note();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(file);
}

int fdatasync(int file) {
    note();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(file);
}

int syncfs(int file) {
    note();
    return ((int (*)(int))dlsym(RTLD_NEXT, "syncfs"))(file);
}

int msync(void *place, size_t length, int flags) {
    note();
    return ((int (*)(void *, size_t, int))dlsym(RTLD_NEXT, "msync"))(place, length, flags);
}
