#include "AllocationCounter.h"
#include <stdlib.h>

#ifndef __has_feature
#define __has_feature(x) 0
#endif

#if defined(__GLIBC__) && !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer)
#define COUNTS 1
#else
#define COUNTS 0
#endif

static _Thread_local int is_counting;
static _Thread_local long counted;
static _Thread_local long counted_bytes;

#if COUNTS
extern void *__libc_malloc(size_t size);

void *malloc(size_t size) {
    if (is_counting) {
        counted++;
        counted_bytes += (long)size;
    }
    return __libc_malloc(size);
}
#endif

int allocation_counter_is_active(void) { return COUNTS; }

void allocation_counter_begin(void) {
    counted = 0;
    counted_bytes = 0;
    is_counting = 1;
}

long allocation_counter_end(void) {
    is_counting = 0;
    return counted;
}

long allocation_counter_bytes(void) { return counted_bytes; }
