/* Lets one process's disk and wall clock go wrong, by LD_PRELOAD. Built by whoever needs it: cc -shared -fPIC faults.c -ldl
 *
 * libfaketime would do for the clock, but its version in Debian 12 breaks Python's timed waits.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static long number_in(const char *variable) {
    const char *path = getenv(variable);
    long number = 0;
    FILE *file = path ? fopen(path, "r") : NULL;
    if (file) {
        if (fscanf(file, "%ld", &number) != 1) number = 0;
        fclose(file);
    }
    return number;
}

/* The disk fails while the file FAIL_SYNC_IF exists, and takes the milliseconds in the file SLOW_SYNC_MS longer. */
int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    const char *flag = getenv("FAIL_SYNC_IF");
    if (flag && access(flag, F_OK) == 0) { errno = EIO; return -1; }
    long slow = number_in("SLOW_SYNC_MS");
    if (slow > 0) usleep((useconds_t)slow * 1000);
    return real(fd);
}

/* The wall clock is off by the seconds in the file WALL_OFFSET; the monotonic clocks are not. */
int clock_gettime(clockid_t id, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, t);
    if (id == CLOCK_REALTIME && result == 0) t->tv_sec += number_in("WALL_OFFSET");
    return result;
}
