// Preloaded by tests into agents and commands: the wall clock is CLOCK_SHIFT seconds ahead; clocks that only measure are not.
//
//     CLOCK_SHIFT=NUMBER   for as long as the process lives
//     CLOCK_SHIFT=/FILE    what the file's first eight bytes say at the time, as a number of this machine's order
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const long *shared;

// Before the process has other threads.
__attribute__((constructor)) static void open_shift(void) {
    const char *text = getenv("CLOCK_SHIFT");
    if (!text || text[0] != '/') return;
    int file = open(text, O_RDONLY | O_CLOEXEC);
    if (file < 0) abort();
    void *place = mmap(0, sizeof *shared, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (place == MAP_FAILED) abort();
    shared = place;
}

static long shift(void) {
    if (shared) return *shared;
    const char *text = getenv("CLOCK_SHIFT");
    return text ? atol(text) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += shift();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *place) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (place) *place = exact.tv_sec;
    return exact.tv_sec;
}
