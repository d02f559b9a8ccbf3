// Instructions of the processor that Swift has no word for, as functions of their arguments alone: nothing here calls the
// system or keeps a state, so that pure targets may use it.
#ifndef CPROCESSOR_SHIM_H
#define CPROCESSOR_SHIM_H

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__)

// The compiler's own names: its headers of intrinsics are a module that would be seen by everything that imports this one.
/// Whether `cprocessor_crc32c` may be called: a processor without the instruction ends the process.
static inline int cprocessor_has_crc32c(void) {
    unsigned a = 1, b, c = 0, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return (c >> 20) & 1;
}

/// The register of CRC-32C after `count` more bytes.
__attribute__((target("sse4.2"))) static inline uint32_t cprocessor_crc32c(
    uint32_t crc, const uint8_t *_Nullable bytes, size_t count) {
    uint64_t state = crc;
    for (; count >= 8; bytes += 8, count -= 8) {
        uint64_t word;
        __builtin_memcpy(&word, bytes, 8);
        state = __builtin_ia32_crc32di(state, word);
    }
    crc = (uint32_t)state;
    for (; count > 0; bytes++, count--) crc = __builtin_ia32_crc32qi(crc, *bytes);
    return crc;
}

#elif defined(__aarch64__) && defined(__linux__)

#include <sys/auxv.h>

static inline int cprocessor_has_crc32c(void) { return (getauxval(AT_HWCAP) & (1 << 7)) != 0; }

__attribute__((target("crc"))) static inline uint32_t cprocessor_crc32c(
    uint32_t crc, const uint8_t *_Nullable bytes, size_t count) {
    for (; count >= 8; bytes += 8, count -= 8) {
        uint64_t word;
        __builtin_memcpy(&word, bytes, 8);
        crc = __builtin_arm_crc32cd(crc, word);
    }
    for (; count > 0; bytes++, count--) crc = __builtin_arm_crc32cb(crc, *bytes);
    return crc;
}

#else

static inline int cprocessor_has_crc32c(void) { return 0; }
static inline uint32_t cprocessor_crc32c(uint32_t crc, const uint8_t *_Nullable bytes, size_t count) {
    (void)bytes, (void)count;
    return crc;
}

#endif

#endif
