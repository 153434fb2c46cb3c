/* Fails, shortens or kills at the n-th system call on files below one folder.
 *
 * Preloaded into a process, which arms it through ctypes. Calls that only look (stat, lseek) are
 * left alone: they change nothing on disk. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

enum { kill_process = -1, short_write = -2 };

static char folder[4096];
static int armed, at, what, seen;
static const char* names[4096];
static unsigned char watched[4096];

void fault_arm(const char* below, int n, int kind) {
    strncpy(folder, below, sizeof folder - 1);
    at = n;
    what = kind;
    seen = 0;
    armed = 1;
}

int fault_disarm(void) {
    armed = 0;
    return seen;
}

const char* fault_name(int n) { return names[n]; }

static int below_folder(const char* path) { return !strncmp(path, folder, strlen(folder)); }

/* Whether this call is the one; a process to be killed does not return. */
static int due(const char* name) {
    if (!armed)
        return 0;
    seen++;
    if (seen < 4096)
        names[seen] = name;
    if (seen != at)
        return 0;
    if (what == kill_process)
        kill(getpid(), SIGKILL);
    return 1;
}

static int fails(const char* name) {
    if (!due(name) || what == short_write)
        return 0;
    errno = what;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int watch(int descriptor) {
    if (armed && descriptor >= 0 && descriptor < (int)sizeof watched)
        watched[descriptor] = 1;
    return descriptor;
}

static int is_watched(int descriptor) {
    return armed && descriptor >= 0 && descriptor < (int)sizeof watched && watched[descriptor];
}

#define OPEN(name)                                             \
    int name(const char* path, int flags, ...) {               \
        va_list rest;                                          \
        va_start(rest, flags);                                 \
        mode_t mode = va_arg(rest, mode_t);                    \
        va_end(rest);                                          \
        if (!below_folder(path))                               \
            return REAL(name)(path, flags, mode);              \
        return fails("open") ? -1 : watch(REAL(name)(path, flags, mode)); \
    }
OPEN(open)
OPEN(open64)

ssize_t write(int descriptor, const void* data, size_t size) {
    if (!is_watched(descriptor))
        return REAL(write)(descriptor, data, size);
    if (seen + 1 == at && what == kill_process)
        REAL(write)(descriptor, data, size / 2);
    if (due("write")) {
        if (what == short_write)
            return REAL(write)(descriptor, data, (size + 1) / 2);
        errno = what;
        return -1;
    }
    return REAL(write)(descriptor, data, size);
}

int fsync(int descriptor) {
    return is_watched(descriptor) && fails("fsync") ? -1 : REAL(fsync)(descriptor);
}

int close(int descriptor) {
    if (!is_watched(descriptor))
        return REAL(close)(descriptor);
    watched[descriptor] = 0;
    const int failed = fails("close");
    const int result = REAL(close)(descriptor);
    if (failed)
        errno = what;
    return failed ? -1 : result;
}

int rename(const char* from, const char* to) {
    return below_folder(to) && fails("rename") ? -1 : REAL(rename)(from, to);
}

int unlink(const char* path) {
    return below_folder(path) && fails("unlink") ? -1 : REAL(unlink)(path);
}

int link(const char* from, const char* to) {
    return below_folder(to) && fails("link") ? -1 : REAL(link)(from, to);
}

int linkat(int a, const char* from, int b, const char* to, int flags) {
    return below_folder(to) && fails("link") ? -1 : REAL(linkat)(a, from, b, to, flags);
}
