/*
 * A disk that breaks on command, for tests. Loaded by LD_PRELOAD into the real program, it stands before the calls that
 * change files below one folder; the program itself has no switch for any of this.
 *
 *   FAULT_DIR      the folder, absolute. Its shared-memory file (-shm) is left alone: it never outlives a crash.
 *   FAULT_LOG      where each call is written down once it was done: one line, and behind it the bytes of a write.
 *   FAULT_PLAN     `kill-before N`, `kill-after N`, `tear N` (half of the Nth write reaches the disk, then it is killed),
 *                  `fail N ERRNO`, `fail-from N ERRNO`. Calls are counted from 1.
 *   FAULT_CONTROL  a file that is read at each call: `fail-writes ERRNO`, `hang-syncs`, or nothing.
 *
 * A line of the log is `op TAB inode TAB offset TAB length TAB path TAB second-path`; op is one of
 *   - a call that failed, c create, w write, t truncate (to offset), s sync a file, d sync a folder, r rename, l link, u unlink, m mkdir, x rmdir.
 * Behind `w` stand the bytes, behind `d` the names that the folder holds: `inode TAB name NUL`.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* A hang ends by itself after this long, so that nothing is left behind by a test that died. */
#define MAX_HANG_MS 60000
#define LOOK_EVERY_MS 10

enum plan { NONE, KILL_BEFORE, KILL_AFTER, TEAR, FAIL, FAIL_FROM };

static char folder[PATH_MAX];
static size_t folder_length;
static const char *control;
static int log_fd = -1;
static enum plan plan = NONE;
static long plan_call;
static int plan_errno;
static long calls;
/* Calls are done and written down one at a time, so that the log has them in the order in which they were done. */
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

__attribute__((constructor)) static void begin(void) {
    const char *dir = getenv("FAULT_DIR"), *log = getenv("FAULT_LOG"), *text = getenv("FAULT_PLAN");
    control = getenv("FAULT_CONTROL");
    if (!dir || strlen(dir) >= sizeof folder) return;
    strcpy(folder, dir);
    folder_length = strlen(folder);
    if (log) log_fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    char what[32];
    if (text && sscanf(text, "%31s %ld %d", what, &plan_call, &plan_errno) >= 2) {
        plan = !strcmp(what, "kill-before")  ? KILL_BEFORE
               : !strcmp(what, "kill-after") ? KILL_AFTER
               : !strcmp(what, "tear")       ? TEAR
               : !strcmp(what, "fail")       ? FAIL
               : !strcmp(what, "fail-from")  ? FAIL_FROM
                                             : NONE;
    }
}

/* ---- What is looked at ---------------------------------------------------------------------------------------------- */

static bool is_below(const char *path) {
    if (!folder_length || strncmp(path, folder, folder_length)) return false;
    if (path[folder_length] != '/' && path[folder_length] != 0) return false;
    size_t length = strlen(path);
    return length < 4 || strcmp(path + length - 4, "-shm");
}

/* The folder above it is looked at only where it is synced: that is what keeps the folder's own name. */
static bool is_parent(const char *path) {
    const char *last = strrchr(folder, '/');
    size_t length = last ? (size_t)(last - folder) : 0;
    return length && strlen(path) == length && !strncmp(path, folder, length);
}

static bool path_of(int fd, char *path) {
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(name, path, PATH_MAX - 1);
    if (n <= 0) return false;
    path[n] = 0;
    return true;
}

static bool is_watched_file(int fd, char *path, struct stat *st) {
    return folder_length && !fstat(fd, st) && S_ISREG(st->st_mode) && path_of(fd, path) && is_below(path);
}

/* ---- What is done to it --------------------------------------------------------------------------------------------- */

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static void write_all(const void *bytes, size_t length) {
    const char *at = bytes;
    while (length > 0) {
        long n = syscall(SYS_write, log_fd, at, length);
        if (n <= 0) return;
        at += n, length -= (size_t)n;
    }
}

static void note(char op, uint64_t inode, uint64_t offset, const char *path, const char *second, const void *bytes, size_t length) {
    if (log_fd < 0) return;
    int saved = errno;
    char line[2 * PATH_MAX + 128];
    int n = snprintf(line, sizeof line, "%c\t%llu\t%llu\t%zu\t%s\t%s\n", op, (unsigned long long)inode, (unsigned long long)offset, length,
                     path, second ? second : "");
    write_all(line, (size_t)n);
    if (length) write_all(bytes, length);
    errno = saved;
}

static int read_control(char *text, size_t size) {
    if (!control) return 0;
    long fd = syscall(SYS_openat, AT_FDCWD, control, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    long n = syscall(SYS_read, fd, text, size - 1);
    syscall(SYS_close, fd);
    text[n > 0 ? n : 0] = 0;
    return n > 0;
}

/* Whether the call is to fail by the control file; waits where it says that syncs hang. */
static int controlled(bool is_sync) {
    char text[64];
    for (int waited = 0; read_control(text, sizeof text); waited += LOOK_EVERY_MS) {
        int code;
        if (sscanf(text, "fail-writes %d", &code) == 1) return code;
        if (strncmp(text, "hang-syncs", 10) || !is_sync || waited > MAX_HANG_MS) return 0;
        struct timespec pause = {0, LOOK_EVERY_MS * 1000000L};
        nanosleep(&pause, NULL);
    }
    return 0;
}

/* So that there is a line for each call that was counted. */
static void note_failed(void) { note('-', 0, 0, "", NULL, NULL, 0); }

/* Begins a call: counts it, and kills or fails as planned. Returns its number, or 0 where errno says how it fails. */
static long enter(bool is_sync) {
    int code = controlled(is_sync);
    pthread_mutex_lock(&one_at_a_time);
    long number = ++calls;
    if (plan == KILL_BEFORE && number == plan_call) die();
    if ((plan == FAIL && number == plan_call) || (plan == FAIL_FROM && number >= plan_call)) code = plan_errno;
    if (code) {
        note_failed();
        pthread_mutex_unlock(&one_at_a_time);
        errno = code;
        return 0;
    }
    return number;
}

static void leave(long number) {
    int saved = errno;
    /* What cannot be torn is done. */
    if ((plan == KILL_AFTER || plan == TEAR) && number == plan_call) die();
    pthread_mutex_unlock(&one_at_a_time);
    errno = saved;
}

static bool tears(long number) { return plan == TEAR && number == plan_call; }

/* ---- Files ---------------------------------------------------------------------------------------------------------- */

static ssize_t watched_write(int fd, const void *bytes, size_t length, off64_t offset, const char *path, const struct stat *st, bool moves) {
    __typeof__(&pwrite64) at = REAL(pwrite64);
    long number = enter(false);
    if (!number) return -1;
    if (tears(number)) {
        at(fd, bytes, length / 2, offset);
        die();
    }
    ssize_t n = moves ? REAL(write)(fd, bytes, length) : at(fd, bytes, length, offset);
    if (n > 0) note('w', st->st_ino, (uint64_t)offset, path, NULL, bytes, (size_t)n);
    else note_failed();
    leave(number);
    return n;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    char path[PATH_MAX];
    struct stat st;
    if (!is_watched_file(fd, path, &st)) return REAL(pwrite64)(fd, bytes, length, offset);
    return watched_write(fd, bytes, length, offset, path, &st, false);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) { return pwrite64(fd, bytes, length, offset); }

ssize_t write(int fd, const void *bytes, size_t length) {
    char path[PATH_MAX];
    struct stat st;
    if (!is_watched_file(fd, path, &st)) return REAL(write)(fd, bytes, length);
    bool appends = fcntl(fd, F_GETFL) & O_APPEND;
    return watched_write(fd, bytes, length, appends ? st.st_size : lseek64(fd, 0, SEEK_CUR), path, &st, true);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    char path[PATH_MAX];
    struct stat st;
    if (!is_watched_file(fd, path, &st)) return REAL(writev)(fd, parts, count);
    /* A short write is allowed; the rest comes with the next call. */
    return count > 0 ? write(fd, parts[0].iov_base, parts[0].iov_len) : 0;
}

/* What copies inside the kernel is refused, so that it is written by the calls above. */
ssize_t copy_file_range(int in, off64_t *in_at, int out, off64_t *out_at, size_t length, unsigned flags) {
    char path[PATH_MAX];
    struct stat st;
    if (!is_watched_file(out, path, &st)) return REAL(copy_file_range)(in, in_at, out, out_at, length, flags);
    errno = EINVAL;
    return -1;
}

ssize_t sendfile64(int out, int in, off64_t *offset, size_t length);
ssize_t sendfile64(int out, int in, off64_t *offset, size_t length) {
    char path[PATH_MAX];
    struct stat st;
    if (!is_watched_file(out, path, &st)) return REAL(sendfile64)(out, in, offset, length);
    errno = EINVAL;
    return -1;
}

int ftruncate64(int fd, off64_t size) {
    char path[PATH_MAX];
    struct stat st;
    if (!is_watched_file(fd, path, &st)) return REAL(ftruncate64)(fd, size);
    long number = enter(false);
    if (!number) return -1;
    int result = REAL(ftruncate64)(fd, size);
    if (!result) note('t', st.st_ino, (uint64_t)size, path, NULL, NULL, 0);
    else note_failed();
    leave(number);
    return result;
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

static void note_folder(const char *path) {
    DIR *dir = opendir(path);
    if (!dir) return note_failed();
    static char names[64 * 1024];
    size_t length = 0;
    struct dirent *entry;
    while ((entry = readdir(dir)) && length + NAME_MAX + 32 < sizeof names) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        length += (size_t)sprintf(names + length, "%llu\t%s", (unsigned long long)entry->d_ino, entry->d_name) + 1;
    }
    closedir(dir);
    note('d', 0, 0, path, NULL, names, length);
}

static int watched_sync(int fd, int (*sync)(int)) {
    char path[PATH_MAX];
    struct stat st;
    bool is_file = folder_length && !fstat(fd, &st) && path_of(fd, path);
    if (!is_file || !(is_below(path) || (S_ISDIR(st.st_mode) && is_parent(path)))) return sync(fd);
    long number = enter(true);
    if (!number) return -1;
    int result = sync(fd);
    if (result) note_failed();
    else if (S_ISDIR(st.st_mode)) note_folder(path);
    else note('s', st.st_ino, 0, path, NULL, NULL, 0);
    leave(number);
    return result;
}

int fsync(int fd) { return watched_sync(fd, REAL(fsync)); }
int fdatasync(int fd) { return watched_sync(fd, REAL(fdatasync)); }

/* ---- Names ---------------------------------------------------------------------------------------------------------- */

static int watched_open(int at, const char *path, int flags, mode_t mode) {
    __typeof__(&openat64) opens = REAL(openat64);
    struct stat st;
    bool changes = (flags & (O_CREAT | O_TRUNC)) && folder_length && is_below(path);
    bool is_there = changes && !fstatat(at, path, &st, 0);
    if (!changes || (is_there && !(flags & O_TRUNC))) return opens(at, path, flags, mode);
    long number = enter(false);
    if (!number) return -1;
    int fd = opens(at, path, flags, mode);
    if (fd >= 0 && !fstat(fd, &st)) note(is_there ? 't' : 'c', st.st_ino, 0, path, NULL, NULL, 0);
    else note_failed();
    leave(number);
    return fd;
}

#define OPENS(at)                                                              \
    {                                                                          \
        mode_t mode = 0;                                                       \
        if (flags & (O_CREAT | O_TMPFILE)) {                                   \
            va_list rest;                                                      \
            va_start(rest, flags);                                             \
            mode = va_arg(rest, mode_t);                                       \
            va_end(rest);                                                      \
        }                                                                      \
        return watched_open(at, path, flags, mode);                            \
    }

int open(const char *path, int flags, ...) OPENS(AT_FDCWD)
int open64(const char *path, int flags, ...) OPENS(AT_FDCWD)
int openat(int at, const char *path, int flags, ...) OPENS(at)
int openat64(int at, const char *path, int flags, ...) OPENS(at)

#define CHANGES_A_NAME(op, watched, path, second, call)                        \
    {                                                                          \
        if (!folder_length || !(watched)) return call;                         \
        long number = enter(false);                                            \
        if (!number) return -1;                                                \
        int result = call;                                                     \
        if (!result) note(op, 0, 0, path, second, NULL, 0);                    \
        else note_failed();                                                    \
        leave(number);                                                         \
        return result;                                                         \
    }

int rename(const char *from, const char *to)
    CHANGES_A_NAME('r', is_below(from) || is_below(to), from, to, REAL(rename)(from, to))
int renameat(int a, const char *from, int b, const char *to)
    CHANGES_A_NAME('r', is_below(from) || is_below(to), from, to, REAL(renameat)(a, from, b, to))
int link(const char *from, const char *to)
    CHANGES_A_NAME('l', is_below(to), from, to, REAL(link)(from, to))
int linkat(int a, const char *from, int b, const char *to, int flags)
    CHANGES_A_NAME('l', is_below(to), from, to, REAL(linkat)(a, from, b, to, flags))
int unlink(const char *path)
    CHANGES_A_NAME('u', is_below(path), path, NULL, REAL(unlink)(path))
int unlinkat(int at, const char *path, int flags)
    CHANGES_A_NAME((flags & AT_REMOVEDIR) ? 'x' : 'u', is_below(path), path, NULL, REAL(unlinkat)(at, path, flags))
int rmdir(const char *path)
    CHANGES_A_NAME('x', is_below(path), path, NULL, REAL(rmdir)(path))
int mkdir(const char *path, mode_t mode)
    CHANGES_A_NAME('m', is_below(path), path, NULL, REAL(mkdir)(path, mode))
