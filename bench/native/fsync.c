/* A library for LD_PRELOAD that records a server's fsync calls, and can make them slower.
 *
 * SIGKILL alone loses nothing that a server has written, because the kernel has it. A machine that loses its power
 * loses everything that was not synced. To lose exactly that, a test must know what was synced. With
 * FSYNC_LEDGER=<path> each successful fsync() and fdatasync() appends a line to that file. It does so by one write(),
 * so a killed process leaves whole lines:
 *
 *     S <bytes> <file>        this much of the file is on disk
 *     T <bytes> <file>        the file was cut back to this size (truncate, ftruncate)
 *     R <file> <new name>     the file was renamed
 *
 * The bytes are the size of the file when the call began: bytes that another thread appends meanwhile may be on disk
 * or not. Files are identified by their names without folders (each of a server's files has a different name). A child
 * that rewrites a file inherits all of this. tests/chaos/power.py reads the lines, and says what is not covered.
 *
 * With FSYNC_MS=<milliseconds> each of these calls takes at least that long, as on a slower disk.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int ledger = -1;
static long long least_ns;

static void note(const char *form, long long bytes, const char *name, const char *more) {
  char line[2 * PATH_MAX];
  int before = errno, len;
  if (ledger < 0) return;
  name = strrchr(name, '/') ? strrchr(name, '/') + 1 : name;
  if (more) len = snprintf(line, sizeof line, form, name, strrchr(more, '/') ? strrchr(more, '/') + 1 : more);
  else len = snprintf(line, sizeof line, form, bytes, name);
  if (write(ledger, line, (size_t)len) != len) abort(); /* an incomplete ledger proves nothing */
  errno = before;
}

/* The name of an open file; 0 if it has none. */
static int named(int fd, char *name) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t len = readlink(link, name, PATH_MAX - 1);
  name[len > 0 ? len : 0] = 0;
  return len > 0;
}

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("FSYNC_LEDGER"), *ms = getenv("FSYNC_MS");
  if (path) ledger = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (path && ledger < 0) abort();
  if (ms) least_ns = (long long)(atof(ms) * 1e6);
}

static int synced(int fd, const char *call) {
  struct stat before;
  struct timespec t;
  char name[PATH_MAX];
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, call);
  int known = ledger >= 0 && !fstat(fd, &before) && S_ISREG(before.st_mode);
  clock_gettime(CLOCK_MONOTONIC, &t);
  int result = real(fd), error = errno;
  if (least_ns) {
    long long until = t.tv_sec * 1000000000LL + t.tv_nsec + least_ns;
    struct timespec at = {until / 1000000000LL, until % 1000000000LL};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR) continue;
  }
  if (known && !result && named(fd, name)) note("S %lld %s\n", (long long)before.st_size, name, NULL);
  errno = error;
  return result;
}

int fsync(int fd) { return synced(fd, "fsync"); }
int fdatasync(int fd) { return synced(fd, "fdatasync"); }

int rename(const char *from, const char *to) {
  int (*real)(const char *, const char *) = (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");
  note("R %s %s\n", 0, from, to); /* first, so that no file ever has the new name without its line */
  return real(from, to);
}

/* With large-file support both names of a call are the same function. */
#define CUT_FD(call)                                                                            \
  int call(int fd, off_t bytes) {                                                               \
    char name[PATH_MAX];                                                                        \
    int (*real)(int, off_t) = (int (*)(int, off_t))dlsym(RTLD_NEXT, #call);                     \
    int result = real(fd, bytes);                                                               \
    if (!result && ledger >= 0 && named(fd, name)) note("T %lld %s\n", bytes, name, NULL);      \
    return result;                                                                              \
  }
#define CUT(call)                                                                               \
  int call(const char *path, off_t bytes) {                                                     \
    int (*real)(const char *, off_t) = (int (*)(const char *, off_t))dlsym(RTLD_NEXT, #call);   \
    int result = real(path, bytes);                                                             \
    if (!result) note("T %lld %s\n", bytes, path, NULL);                                        \
    return result;                                                                              \
  }
CUT_FD(ftruncate)
CUT_FD(ftruncate64)
CUT(truncate)
CUT(truncate64)
