/*
 * A disk whose syncs take longer: every fsync and fdatasync of a program that preloads this
 * is carried out as always, and then sleeps for SLOW_DISK_MICROSECONDS.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

typedef int (*sync_function)(int);

static int slowly(const char *name, int descriptor)
{
    sync_function sync = (sync_function)dlsym(RTLD_NEXT, name);
    const char *wanted = getenv("SLOW_DISK_MICROSECONDS");
    long microseconds = wanted == NULL ? 0 : atol(wanted);
    struct timespec left = {microseconds / 1000000, microseconds % 1000000 * 1000};
    int result = sync(descriptor);
    int error = errno;

    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
    errno = error;
    return result;
}

int fsync(int descriptor)
{
    return slowly("fsync", descriptor);
}

int fdatasync(int descriptor)
{
    return slowly("fdatasync", descriptor);
}
