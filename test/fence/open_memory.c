/* Preloaded by tests: the process stays open to a reader of its memory, which the fetcher otherwise forbids. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

__attribute__((visibility("default"))) int prctl(int option, ...)
{
    unsigned long given[4];
    va_list rest;
    va_start(rest, option);
    for (int i = 0; i < 4; ++i) given[i] = va_arg(rest, unsigned long);
    va_end(rest);
    if (option == PR_SET_DUMPABLE) return 0;
    return (int)syscall(SYS_prctl, option, given[0], given[1], given[2], given[3]);
}

__attribute__((constructor)) static void admit_readers(void)
{
    syscall(SYS_prctl, PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
}
