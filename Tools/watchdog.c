// Preloaded by tests into a guard: any open file is a watchdog that writes down what it is told. Writes are the file's own.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/watchdog.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

int ioctl(int file, unsigned long request, ...) {
    va_list list;
    va_start(list, request);
    void *argument = va_arg(list, void *);
    va_end(list);
    char line[32];
    if (request == WDIOC_SETTIMEOUT) return write(file, line, snprintf(line, sizeof line, "time %d\n", *(int *)argument)) < 0;
    if (request == WDIOC_KEEPALIVE) return write(file, "fed\n", 4) < 0;
    return syscall(SYS_ioctl, file, request, argument);
}
