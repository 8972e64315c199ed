/*
 * Notes what a process does to the files below one folder, and ends it at a chosen operation.
 *
 * It is preloaded (LD_PRELOAD) and stands before the functions of libc that change files. Each is done
 * by the system call itself, and what succeeded is added to a log outside of the folder, one write per
 * record. What was durable at the end follows from the log alone: see ../src/powercut.rs, which starts
 * processes with this and reads what it writes. An operation and its record belong together: both
 * happen under `lock`, and under an exclusive flock of the log, by which the reader can stop all
 * operations before it kills the process. Syncs are the exception. They run beside other operations,
 * and their start and their end are two records.
 *
 * Nothing is remembered about descriptors: which file one stands for is asked of the kernel (fstat, and
 * the link in /proc/self/fd), which is right after dup, rename, unlink and whatever else.
 *
 * Environment:
 *   POWERCUT_DIR     the folder. Without it, all calls pass through.
 *   POWERCUT_LOG     the log; it is appended to.
 *   POWERCUT_PLACES  lines `place kind glob`: the first that matches names the place of an operation.
 *   POWERCUT_AT      `place:nth:action` and `,` between more; the actions are those of enum action.
 *   POWERCUT_ENOSPC  while this file exists, nothing below the folder grows.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

_Static_assert(sizeof(off_t) == 8 && sizeof(long) == 8, "only for systems of 64 bits");

#define EXPORT __attribute__((visibility("default")))
#define MAX_PLACES 128
#define MAX_TRAPS 8

/* Kinds of operations, as in POWERCUT_PLACES. Up to LINK, also the kinds of records; a READ leaves none. */
enum kind { CREATE, WRITE, SIZE, SYNC, FOLDER_SYNC, RENAME, UNLINK, MKDIR, LINK, READ, SYNCED, HELLO, STRUCK, STRANGE };
static const char *const kind_names[] = {"create", "write",  "size",  "sync", "folder-sync",
                                         "rename", "unlink", "mkdir", "link", "read"};
#define KINDS (sizeof kind_names / sizeof *kind_names)

/* What happens at a chosen operation: a kill before, in the middle of or after it; or EIO. */
enum action { PASS, BEFORE, MIDDLE, AFTER, FAIL };

struct place {
    unsigned number;
    enum kind kind;
    const char *glob;
};

struct trap {
    unsigned place;
    uint64_t nth;
    enum action action;
};

/* A record: this, then the two paths, then data up to its size. */
struct record {
    uint64_t size, kind, place, thread, inode, offset, number, path, other;
};

/* An operation that is being done. */
struct op {
    enum kind kind;
    unsigned place;
    enum action action;
    const char *path;
};

static char folder[PATH_MAX];
static size_t folder_length;
static int log_fd = -1;
static const char *full;
static struct place places[MAX_PLACES];
static unsigned place_count;
static struct trap traps[MAX_TRAPS];
static unsigned trap_count;
static uint64_t seen[MAX_PLACES];
static uint64_t syncs;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void broken(const char *why)
{
    dprintf(2, "powercut: %s\n", why);
    abort();
}

/* ---- The log ---- */

static void lock(void)
{
    pthread_mutex_lock(&mutex);
    while (flock(log_fd, LOCK_EX) < 0)
        if (errno != EINTR)
            broken("cannot lock the log");
}

/* Keeps errno, which belongs to the operation. */
static void unlock(void)
{
    int kept = errno;
    flock(log_fd, LOCK_UN);
    pthread_mutex_unlock(&mutex);
    errno = kept;
}

/* Never unlocks: no other thread may do anything more. */
static void die(void)
{
    for (;;)
        syscall(SYS_kill, getpid(), SIGKILL);
}

static void append(struct record record, const char *path, const char *other, const struct iovec *parts, int count)
{
    struct iovec all[IOV_MAX] = {{&record, sizeof record}, {(void *)path, strlen(path)}, {(void *)other, strlen(other)}};
    for (int i = 0; i < count; i++)
        all[3 + i] = parts[i];
    for (int i = 0; i < 3 + count; i++)
        record.size += all[i].iov_len;
    record.thread = syscall(SYS_gettid);
    record.path = all[1].iov_len;
    record.other = all[2].iov_len;
    if (syscall(SYS_writev, log_fd, all, 3 + count) != (long)record.size)
        broken("cannot write the log");
}

static void note(const struct op *op, struct record record, const char *other)
{
    record.kind = op->kind;
    record.place = op->place;
    append(record, op->path, other, NULL, 0);
}

/* What this cannot follow must not pass unseen. */
static void strange(const char *what)
{
    lock();
    append((struct record){.kind = STRANGE}, what, "", NULL, 0);
    unlock();
}

/* ---- Where a file is ---- */

/* The part of a path below the folder, or NULL. */
static const char *below(const char *path)
{
    if (strncmp(path, folder, folder_length) != 0)
        return NULL;
    if (path[folder_length] == 0)
        return path + folder_length;
    return path[folder_length] == '/' ? path + folder_length + 1 : NULL;
}

/* The part below the folder of what a call names, or NULL. The file itself need not exist. */
static const char *named(int at, const char *path, char out[PATH_MAX])
{
    char whole[PATH_MAX], parent[PATH_MAX];
    int length = path[0] == '/' || at == AT_FDCWD ? snprintf(whole, PATH_MAX, "%s%s", path[0] == '/' ? "" : "./", path)
                                                  : snprintf(whole, PATH_MAX, "/proc/self/fd/%d/%s", at, path);
    if (log_fd < 0 || length >= PATH_MAX)
        return NULL;
    while (length > 1 && whole[length - 1] == '/')
        whole[--length] = 0;
    char *slash = strrchr(whole, '/');
    if (strcmp(slash, "/.") == 0 || strcmp(slash, "/..") == 0)
        return realpath(whole, out) ? below(out) : NULL;
    *slash = 0;
    if (!realpath(whole[0] ? whole : "/", parent))
        return NULL;
    if (snprintf(out, PATH_MAX, "%s/%s", parent[1] ? parent : "", slash + 1) >= PATH_MAX)
        return NULL;
    return below(out);
}

/* The part below the folder of an open file or folder, or NULL. */
static const char *opened(int fd, struct stat *st, char out[PATH_MAX])
{
    static const char gone[] = " (deleted)";
    char link[64];
    int kept = errno;
    if (log_fd < 0 || fstat(fd, st) < 0 || !(S_ISREG(st->st_mode) || S_ISDIR(st->st_mode))) {
        errno = kept;
        return NULL;
    }
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, out, PATH_MAX - 1);
    if (length < 0)
        broken("cannot read /proc/self/fd");
    out[length] = 0;
    size_t end = sizeof gone - 1;
    if (st->st_nlink == 0 && (size_t)length > end && strcmp(out + length - end, gone) == 0)
        out[length - end] = 0;
    errno = kept;
    return below(out);
}

/* ---- What is done at an operation ---- */

static unsigned place_of(enum kind kind, const char *path)
{
    for (unsigned i = 0; i < place_count; i++)
        if (places[i].kind == kind && fnmatch(places[i].glob, path, 0) == 0)
            return places[i].number;
    broken("POWERCUT_PLACES lacks a line for everything else");
    return 0;
}

/* Begins an operation, with the lock held. Whether it may be done: if not, errno says why. */
static int begin(struct op *op, enum kind kind, const char *path, int grows)
{
    *op = (struct op){kind, place_of(kind, path), PASS, path};
    uint64_t nth = ++seen[op->place];
    for (unsigned i = 0; i < trap_count; i++)
        if (traps[i].place == op->place && traps[i].nth == nth)
            op->action = traps[i].action;
    if (op->action != PASS) {
        struct record struck = {.kind = STRUCK, .place = op->place, .number = op->action, .offset = nth};
        append(struck, path, "", NULL, 0);
    }
    if (op->action == BEFORE)
        die();
    if (op->action == FAIL) {
        errno = EIO;
        return 0;
    }
    if (grows && full && access(full, F_OK) == 0) {
        errno = ENOSPC;
        return 0;
    }
    return 1;
}

/* Ends it, and gives back the lock. What has no middle is cut after it. */
static long end(const struct op *op, long result)
{
    if (op->action == MIDDLE || op->action == AFTER)
        die();
    unlock();
    return result;
}

/* ---- Files ---- */

static int do_open(int at, const char *path, int flags, mode_t mode)
{
    char out[PATH_MAX];
    int changes = flags & (O_CREAT | O_TRUNC | O_DSYNC) || (flags & O_TMPFILE) == O_TMPFILE;
    const char *where = changes ? named(at, path, out) : NULL;
    if (!where)
        return syscall(SYS_openat, at, path, flags, mode);
    if (flags & O_DSYNC || (flags & O_TMPFILE) == O_TMPFILE)
        strange("a file is opened with O_SYNC, O_DSYNC or O_TMPFILE");

    struct stat st;
    struct op op;
    lock();
    int old = fstatat(AT_FDCWD, out, &st, 0) == 0;
    if (old ? !(flags & O_TRUNC) || st.st_size == 0 || !S_ISREG(st.st_mode) : !(flags & O_CREAT)) {
        int fd = syscall(SYS_openat, at, path, flags, mode);
        unlock();
        return fd;
    }
    if (!begin(&op, old ? SIZE : CREATE, where, !old))
        return end(&op, -1);
    int fd = syscall(SYS_openat, at, path, flags, mode);
    if (fd >= 0) {
        fstat(fd, &st);
        note(&op, (struct record){.inode = st.st_ino, .number = old ? 0 : st.st_mode & 07777}, "");
    }
    return end(&op, fd);
}

/* Shortens a list to so many bytes; how many parts are left. */
static int shorten(struct iovec *parts, int count, size_t bytes)
{
    for (int i = 0; i < count; i++) {
        if (parts[i].iov_len >= bytes) {
            parts[i].iov_len = bytes;
            return i + 1;
        }
        bytes -= parts[i].iov_len;
    }
    return count;
}

/* Writes where the file stands if `offset` is negative. */
static ssize_t do_write(int fd, const char *where, const struct iovec *given, int count, off_t offset)
{
    struct iovec parts[IOV_MAX];
    struct stat st;
    struct op op;
    size_t length = 0;
    /* Three more go into a record. A write may always be shorter than what was asked for. */
    count = count < IOV_MAX - 3 ? count : IOV_MAX - 3;
    for (int i = 0; i < count; i++)
        length += (parts[i] = given[i]).iov_len;

    lock();
    fstat(fd, &st);
    int appends = fcntl(fd, F_GETFL) & O_APPEND;
    off_t start = appends ? st.st_size : offset >= 0 ? offset : lseek(fd, 0, SEEK_CUR);
    if (!begin(&op, WRITE, where, start + (off_t)length > st.st_size))
        return end(&op, -1);
    if (op.action == MIDDLE)
        count = shorten(parts, count, length / 2);
    ssize_t done = offset < 0 ? syscall(SYS_writev, fd, parts, count) : syscall(SYS_pwritev, fd, parts, count, offset, 0);
    if (done > 0) {
        struct record record = {.kind = WRITE, .place = op.place, .inode = st.st_ino, .offset = start};
        append(record, where, "", parts, shorten(parts, count, done));
    }
    return end(&op, done);
}

static int do_sync(int number, int fd)
{
    char out[PATH_MAX];
    struct stat st;
    struct op op;
    const char *where = opened(fd, &st, out);
    if (!where)
        return syscall(number, fd);
    /* A sync of the whole file system is one of everything, which has no inode. */
    int whole = number == SYS_syncfs;
    lock();
    int passes = begin(&op, !whole && S_ISDIR(st.st_mode) ? FOLDER_SYNC : SYNC, where, 0);
    int why = errno;
    struct record record = {.inode = whole ? 0 : st.st_ino, .number = (uint64_t)getpid() << 32 | ++syncs};
    note(&op, record, "");
    if (op.action == MIDDLE)
        die();
    long result = -1;
    if (passes) {
        unlock();
        result = syscall(number, fd);
        why = errno;
        lock();
    }
    record.kind = SYNCED;
    record.offset = result == 0;
    append(record, "", "", NULL, 0);
    errno = why;
    return end(&op, result);
}

static int do_truncate(int fd, off_t size)
{
    char out[PATH_MAX];
    struct stat st;
    struct op op;
    const char *where = opened(fd, &st, out);
    if (!where)
        return syscall(SYS_ftruncate, fd, size);
    lock();
    fstat(fd, &st);
    if (!begin(&op, SIZE, where, size > st.st_size))
        return end(&op, -1);
    int result = syscall(SYS_ftruncate, fd, size);
    if (result == 0)
        note(&op, (struct record){.inode = st.st_ino, .number = size}, "");
    return end(&op, result);
}

static int do_fallocate(int fd, int mode, off_t offset, off_t length)
{
    char out[PATH_MAX];
    struct stat st;
    struct op op;
    const char *where = opened(fd, &st, out);
    if (!where)
        return syscall(SYS_fallocate, fd, mode, offset, length);
    if (mode & ~FALLOC_FL_KEEP_SIZE)
        strange("fallocate changes what is in a file");
    lock();
    fstat(fd, &st);
    if (!begin(&op, SIZE, where, 1))
        return end(&op, -1);
    int result = syscall(SYS_fallocate, fd, mode, offset, length);
    if (result == 0) {
        fstat(fd, &st);
        note(&op, (struct record){.inode = st.st_ino, .number = st.st_size}, "");
    }
    return end(&op, result);
}

/* Reading changes nothing; it is here only to fail. */
static ssize_t do_read(int fd, void *data, size_t size, off_t offset)
{
    char out[PATH_MAX];
    struct stat st;
    struct op op;
    const char *where = opened(fd, &st, out);
    if (!where)
        return syscall(SYS_pread64, fd, data, size, offset);
    lock();
    if (!begin(&op, READ, where, 0))
        return end(&op, -1);
    return end(&op, syscall(SYS_pread64, fd, data, size, offset));
}

/* ---- Names ---- */

static int do_rename(int from_at, const char *from, int to_at, const char *to, unsigned flags)
{
    char from_out[PATH_MAX], to_out[PATH_MAX];
    struct stat st;
    struct op op;
    const char *old = named(from_at, from, from_out), *new = named(to_at, to, to_out);
    if (!old && !new)
        return syscall(SYS_renameat2, from_at, from, to_at, to, flags);
    if (!old || !new || flags & ~RENAME_NOREPLACE) {
        strange("a rename exchanges two files, or leads into or out of the folder");
        return syscall(SYS_renameat2, from_at, from, to_at, to, flags);
    }
    lock();
    fstatat(AT_FDCWD, from_out, &st, AT_SYMLINK_NOFOLLOW);
    if (!begin(&op, RENAME, new, 0))
        return end(&op, -1);
    int result = syscall(SYS_renameat2, from_at, from, to_at, to, flags);
    if (result == 0) {
        op.path = old;
        note(&op, (struct record){.inode = st.st_ino}, new);
    }
    return end(&op, result);
}

static int do_unlink(int at, const char *path, int flags)
{
    char out[PATH_MAX];
    struct op op;
    const char *where = named(at, path, out);
    if (!where)
        return syscall(SYS_unlinkat, at, path, flags);
    lock();
    if (!begin(&op, UNLINK, where, 0))
        return end(&op, -1);
    int result = syscall(SYS_unlinkat, at, path, flags);
    if (result == 0)
        note(&op, (struct record){0}, "");
    return end(&op, result);
}

static int do_mkdir(int at, const char *path, mode_t mode)
{
    char out[PATH_MAX];
    struct stat st;
    struct op op;
    const char *where = named(at, path, out);
    if (!where)
        return syscall(SYS_mkdirat, at, path, mode);
    lock();
    if (fstatat(AT_FDCWD, out, &st, 0) == 0) {
        unlock();
        errno = EEXIST;
        return -1;
    }
    if (!begin(&op, MKDIR, where, 1))
        return end(&op, -1);
    int result = syscall(SYS_mkdirat, at, path, mode);
    if (result == 0) {
        fstatat(AT_FDCWD, out, &st, 0);
        note(&op, (struct record){.inode = st.st_ino, .number = st.st_mode & 07777}, "");
    }
    return end(&op, result);
}

static int do_link(int from_at, const char *from, int to_at, const char *to, int flags)
{
    char from_out[PATH_MAX], to_out[PATH_MAX];
    struct stat st;
    struct op op;
    const char *old = named(from_at, from, from_out), *new = named(to_at, to, to_out);
    if (!new)
        return syscall(SYS_linkat, from_at, from, to_at, to, flags);
    if (!old)
        strange("a link leads into the folder");
    lock();
    if (!begin(&op, LINK, new, 1))
        return end(&op, -1);
    int result = syscall(SYS_linkat, from_at, from, to_at, to, flags);
    if (result == 0) {
        fstatat(AT_FDCWD, to_out, &st, AT_SYMLINK_NOFOLLOW);
        note(&op, (struct record){.inode = st.st_ino}, "");
    }
    return end(&op, result);
}

/* ---- The functions of libc ---- */

#define MODE(flags)                                             \
    mode_t mode = 0;                                            \
    if ((flags) & O_CREAT || ((flags)&O_TMPFILE) == O_TMPFILE) { \
        va_list rest;                                           \
        va_start(rest, flags);                                  \
        mode = va_arg(rest, mode_t);                            \
        va_end(rest);                                           \
    }

#define OPEN(name)                                    \
    EXPORT int name(const char *path, int flags, ...) \
    {                                                 \
        MODE(flags)                                   \
        return do_open(AT_FDCWD, path, flags, mode);  \
    }
#define OPENAT(name)                                          \
    EXPORT int name(int at, const char *path, int flags, ...) \
    {                                                         \
        MODE(flags)                                           \
        return do_open(at, path, flags, mode);                \
    }
#define CREAT(name)                                                               \
    EXPORT int name(const char *path, mode_t mode)                                \
    {                                                                             \
        return do_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);       \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
CREAT(creat)
CREAT(creat64)

EXPORT ssize_t write(int fd, const void *data, size_t size)
{
    char out[PATH_MAX];
    struct stat st;
    const char *where = opened(fd, &st, out);
    if (!where)
        return syscall(SYS_write, fd, data, size);
    return do_write(fd, where, &(struct iovec){(void *)data, size}, 1, -1);
}

EXPORT ssize_t writev(int fd, const struct iovec *parts, int count)
{
    char out[PATH_MAX];
    struct stat st;
    const char *where = opened(fd, &st, out);
    if (!where)
        return syscall(SYS_writev, fd, parts, count);
    return do_write(fd, where, parts, count, -1);
}

#define PWRITE(name)                                                          \
    EXPORT ssize_t name(int fd, const void *data, size_t size, off_t offset)  \
    {                                                                         \
        char out[PATH_MAX];                                                   \
        struct stat st;                                                       \
        const char *where = opened(fd, &st, out);                             \
        if (!where || offset < 0)                                             \
            return syscall(SYS_pwrite64, fd, data, size, offset);             \
        return do_write(fd, where, &(struct iovec){(void *)data, size}, 1, offset); \
    }
#define PWRITEV(name)                                                                \
    EXPORT ssize_t name(int fd, const struct iovec *parts, int count, off_t offset)  \
    {                                                                                \
        char out[PATH_MAX];                                                          \
        struct stat st;                                                              \
        const char *where = opened(fd, &st, out);                                    \
        if (!where || offset < 0)                                                    \
            return syscall(SYS_pwritev, fd, parts, count, offset, 0);                \
        return do_write(fd, where, parts, count, offset);                            \
    }
PWRITE(pwrite)
PWRITE(pwrite64)
PWRITEV(pwritev)
PWRITEV(pwritev64)

#define PREAD(name) \
    EXPORT ssize_t name(int fd, void *data, size_t size, off_t offset) { return do_read(fd, data, size, offset); }
PREAD(pread)
PREAD(pread64)

EXPORT int fsync(int fd) { return do_sync(SYS_fsync, fd); }
EXPORT int fdatasync(int fd) { return do_sync(SYS_fdatasync, fd); }
EXPORT int syncfs(int fd) { return do_sync(SYS_syncfs, fd); }

#define FTRUNCATE(name) \
    EXPORT int name(int fd, off_t size) { return do_truncate(fd, size); }
#define TRUNCATE(name)                                                          \
    EXPORT int name(const char *path, off_t size)                               \
    {                                                                           \
        int fd = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);  \
        if (fd < 0)                                                             \
            return -1;                                                          \
        int result = do_truncate(fd, size), why = errno;                        \
        close(fd);                                                              \
        errno = why;                                                            \
        return result;                                                          \
    }
FTRUNCATE(ftruncate)
FTRUNCATE(ftruncate64)
TRUNCATE(truncate)
TRUNCATE(truncate64)

#define FALLOCATE(name) \
    EXPORT int name(int fd, int mode, off_t offset, off_t length) { return do_fallocate(fd, mode, offset, length); }
#define POSIX_FALLOCATE(name)                                                    \
    EXPORT int name(int fd, off_t offset, off_t length)                          \
    {                                                                            \
        int kept = errno, why = do_fallocate(fd, 0, offset, length) < 0 ? errno : 0; \
        errno = kept;                                                            \
        return why;                                                              \
    }
FALLOCATE(fallocate)
FALLOCATE(fallocate64)
POSIX_FALLOCATE(posix_fallocate)
POSIX_FALLOCATE(posix_fallocate64)

EXPORT int rename(const char *from, const char *to) { return do_rename(AT_FDCWD, from, AT_FDCWD, to, 0); }
EXPORT int renameat(int from_at, const char *from, int to_at, const char *to)
{
    return do_rename(from_at, from, to_at, to, 0);
}
EXPORT int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags)
{
    return do_rename(from_at, from, to_at, to, flags);
}

EXPORT int unlink(const char *path) { return do_unlink(AT_FDCWD, path, 0); }
EXPORT int unlinkat(int at, const char *path, int flags) { return do_unlink(at, path, flags); }
EXPORT int rmdir(const char *path) { return do_unlink(AT_FDCWD, path, AT_REMOVEDIR); }

EXPORT int mkdir(const char *path, mode_t mode) { return do_mkdir(AT_FDCWD, path, mode); }
EXPORT int mkdirat(int at, const char *path, mode_t mode) { return do_mkdir(at, path, mode); }

EXPORT int link(const char *from, const char *to) { return do_link(AT_FDCWD, from, AT_FDCWD, to, 0); }
EXPORT int linkat(int from_at, const char *from, int to_at, const char *to, int flags)
{
    return do_link(from_at, from, to_at, to, flags);
}

/* ---- The environment ---- */

static enum kind kind_of(const char *name)
{
    for (unsigned kind = 0; kind < KINDS; kind++)
        if (strcmp(kind_names[kind], name) == 0)
            return kind;
    broken("POWERCUT_PLACES names an unknown kind");
    return 0;
}

static void read_places(const char *text)
{
    char *copy = strdup(text), *rest = copy;
    for (char *line; (line = strsep(&rest, "\n"));) {
        char *number = strsep(&line, " "), *kind = strsep(&line, " ");
        if (!*number)
            continue;
        if (!kind || !line || place_count == MAX_PLACES || atoi(number) >= MAX_PLACES)
            broken("POWERCUT_PLACES has a bad line, or too many");
        places[place_count++] = (struct place){atoi(number), kind_of(kind), line};
    }
}

static void read_traps(const char *text)
{
    int used = 0;
    for (; *text; text += used) {
        struct trap trap;
        unsigned action;
        if (trap_count == MAX_TRAPS || sscanf(text, "%u:%lu:%u%n", &trap.place, &trap.nth, &action, &used) != 3)
            broken("POWERCUT_AT is not place:nth:action");
        trap.action = action;
        traps[trap_count++] = trap;
        used += text[used] == ',';
    }
}

static __attribute__((constructor)) void load(void)
{
    const char *dir = getenv("POWERCUT_DIR"), *log = getenv("POWERCUT_LOG");
    if (!dir || !log)
        return;
    if (!realpath(dir, folder))
        broken("POWERCUT_DIR does not exist");
    folder_length = strlen(folder);
    read_places(getenv("POWERCUT_PLACES") ?: "");
    read_traps(getenv("POWERCUT_AT") ?: "");
    full = getenv("POWERCUT_ENOSPC");
    /* Far from the numbers that the process would have without this. */
    int fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        broken("cannot open POWERCUT_LOG");
    log_fd = fcntl(fd, F_DUPFD_CLOEXEC, 200);
    if (log_fd < 0)
        log_fd = fd;
    else
        close(fd);
    lock();
    append((struct record){.kind = HELLO}, "", "", NULL, 0);
    unlock();
}
