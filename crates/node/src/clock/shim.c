/*
 * Library loaded before the C library of a node's programs: answers their questions about the time.
 *
 * Wall clocks are moved by an offset; all clocks may run faster or slower. The settings are in a small file that is mapped
 * shared, so they can be changed while programs run, and programs that start later find them.
 *
 * Unchanged: the duration of relative sleeps and timeouts (nanosleep, poll, epoll_wait, SO_RCVTIMEO), the times of files, CPU
 * clocks. Absolute deadlines are translated back, so that a wait ends at the right time of the program's own clock. A wait in
 * progress keeps the end it had when it began.
 *
 * The library is linked to nothing, so it needs no symbol version and runs with any C library: it looks its functions up in
 * the loaded objects.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#undef errno
#define errno (*__errno_location())
#define EXPORT __attribute__((visibility("default")))
#define SECOND 1000000000LL
/* Set by the runner's own reading of a node's clock, which must not be counted as the node's. */
#define QUIET "TZQUIET"
#define PAGE "TZPAGE"

/* ------------------------------------------------------------------ the page, as `page.rs` writes it */

struct slot {
    int64_t offset; /* ns, added to wall clocks */
    int64_t lag;    /* ns, added to all other clocks at `since` */
    int64_t since;  /* CLOCK_MONOTONIC in ns: `drift` applies from here */
    double drift;   /* rate minus 1: 0 = true rate */
    double before;  /* the drift until `since` */
    int64_t unused[3];
};

struct page {
    uint64_t magic;
    uint64_t turn; /* the active slot is `turn & 1`; a change writes the other one first */
    uint64_t unused[6];
    struct slot slots[2];
    uint64_t reads; /* number of answers that could have been changed */
    int64_t seen;   /* last answer about a wall clock, minus the true time, in ns */
};

#define MAGIC 0x3154454d49544e4fULL

static struct page *page;
static int quiet;
static int ready;

/* ------------------------------------------------------------------ the functions behind ours */

struct wanted {
    const char *name;
    void *found;
    int past_us;
};

static int look(struct dl_phdr_info *object, size_t size, void *data) {
    (void)size;
    struct wanted *wanted = data;
    const ElfW(Dyn) *dynamic = NULL;
    uintptr_t own = (uintptr_t)&look;
    int is_own = 0;
    for (int at = 0; at < object->dlpi_phnum; at++) {
        const ElfW(Phdr) *head = &object->dlpi_phdr[at];
        uintptr_t from = object->dlpi_addr + head->p_vaddr;
        if (head->p_type == PT_DYNAMIC) dynamic = (const void *)from;
        if (head->p_type == PT_LOAD && own >= from && own < from + head->p_memsz) is_own = 1;
    }
    if (is_own) {
        wanted->past_us = 1;
        return 0;
    }
    /* Earlier objects were searched already, and led here. */
    if (!wanted->past_us || dynamic == NULL) return 0;
    const ElfW(Sym) *symbols = NULL;
    const char *strings = NULL;
    const uint32_t *gnu = NULL, *hash = NULL;
    const uint16_t *versions = NULL;
    for (; dynamic->d_tag != DT_NULL; dynamic++) {
        uintptr_t value = dynamic->d_un.d_ptr;
        /* Some loaders leave the addresses of the file unchanged. */
        const void *pointer = (const void *)(value < object->dlpi_addr ? object->dlpi_addr + value : value);
        switch (dynamic->d_tag) {
        case DT_SYMTAB: symbols = pointer; break;
        case DT_STRTAB: strings = pointer; break;
        case DT_GNU_HASH: gnu = pointer; break;
        case DT_HASH: hash = pointer; break;
        case DT_VERSYM: versions = pointer; break;
        default: break;
        }
    }
    if (symbols == NULL || strings == NULL) return 0;
    uint32_t count = 0;
    if (hash != NULL) {
        count = hash[1];
    } else if (gnu != NULL) {
        uint32_t buckets = gnu[0], first = gnu[1];
        const uint32_t *bucket = (const uint32_t *)((const ElfW(Addr) *)(gnu + 4) + gnu[2]);
        const uint32_t *chain = bucket + buckets;
        for (uint32_t at = 0; at < buckets; at++)
            if (bucket[at] > count) count = bucket[at];
        if (count >= first) {
            while (!(chain[count - first] & 1)) count++;
            count++;
        }
    }
    for (uint32_t at = 0; at < count; at++) {
        const ElfW(Sym) *symbol = &symbols[at];
        if (symbol->st_shndx == SHN_UNDEF || ELF64_ST_TYPE(symbol->st_info) != STT_FUNC) continue;
        /* An older version, for programs that were linked with it. */
        if (versions != NULL && (versions[at] & 0x8000)) continue;
        if (strcmp(strings + symbol->st_name, wanted->name) != 0) continue;
        wanted->found = (void *)(object->dlpi_addr + symbol->st_value);
        return 1;
    }
    return 0;
}

static void *find(void **kept, const char *name) {
    void *found = __atomic_load_n(kept, __ATOMIC_RELAXED);
    if (found == NULL) {
        struct wanted wanted = {name, NULL, 0};
        dl_iterate_phdr(look, &wanted);
        found = wanted.found;
        __atomic_store_n(kept, found, __ATOMIC_RELAXED);
    }
    return found;
}

/* Looks up the function of this name behind ours and stores it in `behind`, or NULL if there is none. */
#define BEHIND(type, name) \
    static void *kept; \
    __typeof__(type) behind = (__typeof__(type))find(&kept, name)

static int true_time(clockid_t clock, struct timespec *time) {
    BEHIND(int (*)(clockid_t, struct timespec *), "clock_gettime");
    if (behind == NULL) {
        errno = ENOSYS;
        return -1;
    }
    return behind(clock, time);
}

static void begin(void) {
    const char *path = getenv(PAGE);
    if (path != NULL) {
        int fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd >= 0) {
            struct page *mapped = mmap(NULL, sizeof(struct page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            close(fd);
            if (mapped != MAP_FAILED && mapped->magic == MAGIC) page = mapped;
        }
    }
    quiet = getenv(QUIET) != NULL;
    __atomic_store_n(&ready, 1, __ATOMIC_RELEASE);
}

__attribute__((constructor)) static void loaded(void) {
    int before = errno;
    struct timespec now;
    if (!__atomic_load_n(&ready, __ATOMIC_ACQUIRE)) begin();
    true_time(CLOCK_MONOTONIC, &now);
    errno = before;
}

static struct page *changed(void) {
    /* Constructors of other objects may run before ours. */
    if (__builtin_expect(!__atomic_load_n(&ready, __ATOMIC_ACQUIRE), 0)) loaded();
    return page;
}

/* ------------------------------------------------------------------ arithmetic */

static int64_t nanos(const struct timespec *time) { return time->tv_sec * SECOND + time->tv_nsec; }

static struct timespec spec(int64_t nanos) {
    struct timespec time = {nanos / SECOND, nanos % SECOND};
    if (time.tv_nsec < 0) {
        time.tv_sec--;
        time.tv_nsec += SECOND;
    }
    return time;
}

/* Copies the active slot, and returns its turn. */
static uint64_t in_force(const struct page *page, struct slot *slot) {
    for (;;) {
        uint64_t turn = __atomic_load_n(&page->turn, __ATOMIC_ACQUIRE);
        *slot = *(const volatile struct slot *)&page->slots[turn & 1];
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (__atomic_load_n(&page->turn, __ATOMIC_RELAXED) == turn) return turn;
    }
}

static int of_the_day(clockid_t clock) {
    return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_REALTIME_ALARM || clock == CLOCK_TAI;
}

static int since_boot(clockid_t clock) {
    return clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_RAW || clock == CLOCK_MONOTONIC_COARSE || clock == CLOCK_BOOTTIME ||
           clock == CLOCK_BOOTTIME_ALARM;
}

/* Reported value of a clock since boot whose true value is `now`. */
static int64_t told_since_boot(const struct slot *slot, int64_t now) {
    int64_t gone = now - slot->since;
    return now + slot->lag + (int64_t)((gone > 0 ? slot->drift : slot->before) * (double)gone);
}

/* Amount added to a wall clock at the true time `monotonic` since boot. */
static int64_t moved(const struct slot *slot, int64_t monotonic) {
    int64_t gone = monotonic - slot->since;
    return slot->offset + (gone > 0 ? (int64_t)(slot->drift * (double)gone) : 0);
}

/* Difference of another clock since boot from the monotonic one: measured once, so that both run at the same rate. */
static int64_t apart(clockid_t clock) {
    static int64_t kept[2];
    static int known[2];
    int which = clock == CLOCK_MONOTONIC_RAW;
    if (!__atomic_load_n(&known[which], __ATOMIC_ACQUIRE)) {
        struct timespec monotonic, other;
        int64_t none = 0, apart = 0;
        if (true_time(CLOCK_MONOTONIC, &monotonic) == 0 && true_time(clock, &other) == 0) apart = nanos(&other) - nanos(&monotonic);
        /* The first measurement counts for all threads. */
        __atomic_compare_exchange_n(&kept[which], &none, apart, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
        __atomic_store_n(&known[which], 1, __ATOMIC_RELEASE);
    }
    return __atomic_load_n(&kept[which], __ATOMIC_RELAXED);
}

/* Coarse clocks report the value of fine ones, since their own may be older than the last change. */
static int tell(clockid_t clock, struct timespec *time) {
    struct page *page = changed();
    int day = of_the_day(clock);
    if (page == NULL || time == NULL || !(day || since_boot(clock))) return true_time(clock, time);
    if (clock == CLOCK_MONOTONIC_COARSE) clock = CLOCK_MONOTONIC;
    if (clock == CLOCK_REALTIME_COARSE) clock = CLOCK_REALTIME;
    struct slot slot;
    struct timespec monotonic, again;
    int64_t says, far;
    uint64_t turn;
    do {
        turn = in_force(page, &slot);
        if (!day) {
            int outcome = true_time(CLOCK_MONOTONIC, time);
            if (outcome != 0) return outcome;
            says = told_since_boot(&slot, nanos(time));
            if (clock != CLOCK_MONOTONIC) says += apart(clock);
            continue;
        }
        far = slot.offset;
        for (int round = 0;; round++) {
            int outcome = true_time(clock, time);
            if (outcome != 0) return outcome;
            if (slot.drift == 0 || true_time(CLOCK_MONOTONIC, &monotonic) != 0) break;
            far = moved(&slot, nanos(&monotonic));
            /* Both are read as close together as possible: an interruption between them would look like a jump. */
            if (round == 5 || true_time(clock, &again) != 0 || nanos(&again) - nanos(time) < 5000) break;
        }
        says = nanos(time) + far;
        /* After a long interruption the time belongs to the next slot. */
    } while (__atomic_load_n(&page->turn, __ATOMIC_ACQUIRE) != turn);
    *time = spec(says);
    if (day) __atomic_store_n(&page->seen, far, __ATOMIC_RELAXED);
    if ((day || slot.drift != 0) && !quiet) __atomic_fetch_add(&page->reads, 1, __ATOMIC_RELAXED);
    return 0;
}

/* Translates `deadline` of a node's clock to the true time of that moment. The size of `deadline` tells the clock: no machine has
 * been up for fifteen years. */
static const struct timespec *truly(const struct timespec *deadline, struct timespec *place) {
    struct page *page = changed();
    if (page == NULL || deadline == NULL || deadline->tv_nsec < 0 || deadline->tv_nsec >= SECOND) return deadline;
    clockid_t clock = deadline->tv_sec > 500000000 ? CLOCK_REALTIME : CLOCK_MONOTONIC;
    struct timespec now;
    if (true_time(clock, &now) != 0) return deadline;
    struct slot slot;
    in_force(page, &slot);
    /* A deadline that is never reached stays unchanged, and must not overflow. */
    if (deadline->tv_sec > now.tv_sec && deadline->tv_sec - now.tv_sec > 100LL * 366 * 86400) return deadline;
    struct timespec monotonic = now;
    if (clock == CLOCK_REALTIME && true_time(CLOCK_MONOTONIC, &monotonic) != 0) return deadline;
    int64_t says = clock == CLOCK_REALTIME ? nanos(&now) + moved(&slot, nanos(&monotonic)) : told_since_boot(&slot, nanos(&now));
    int64_t left = nanos(deadline) - says;
    if (left > 0) left = (int64_t)((double)left / (1 + slot.drift));
    int64_t moment = nanos(&now) + left;
    *place = spec(moment > 0 ? moment : 0);
    return place;
}

/* ------------------------------------------------------------------ clocks */

EXPORT int clock_gettime(clockid_t clock, struct timespec *time) { return tell(clock, time); }

EXPORT int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec now;
    if (zone != NULL) memset(zone, 0, sizeof(struct timezone));
    int outcome = tell(CLOCK_REALTIME, &now);
    if (outcome == 0) {
        time->tv_sec = now.tv_sec;
        time->tv_usec = now.tv_nsec / 1000;
    }
    return outcome;
}

EXPORT time_t time(time_t *place) {
    struct timespec now;
    if (tell(CLOCK_REALTIME, &now) != 0) return -1;
    if (place != NULL) *place = now.tv_sec;
    return now.tv_sec;
}

EXPORT int timespec_get(struct timespec *time, int base) {
    return base == TIME_UTC && tell(CLOCK_REALTIME, time) == 0 ? base : 0;
}

/* ------------------------------------------------------------------ deadlines */

#define WAIT(name, parameters, arguments) \
    EXPORT int name parameters { \
        struct timespec place; \
        BEHIND(int(*) parameters, #name); \
        if (behind == NULL) return ENOSYS; \
        deadline = truly(deadline, &place); \
        return behind arguments; \
    }

typedef const struct timespec *moment;

WAIT(pthread_cond_timedwait, (pthread_cond_t * condition, pthread_mutex_t *mutex, moment deadline), (condition, mutex, deadline))
WAIT(pthread_cond_clockwait, (pthread_cond_t * condition, pthread_mutex_t *mutex, clockid_t clock, moment deadline),
     (condition, mutex, clock, deadline))
WAIT(pthread_mutex_timedlock, (pthread_mutex_t * mutex, moment deadline), (mutex, deadline))
WAIT(pthread_mutex_clocklock, (pthread_mutex_t * mutex, clockid_t clock, moment deadline), (mutex, clock, deadline))
WAIT(pthread_rwlock_timedrdlock, (pthread_rwlock_t * lock, moment deadline), (lock, deadline))
WAIT(pthread_rwlock_timedwrlock, (pthread_rwlock_t * lock, moment deadline), (lock, deadline))
WAIT(pthread_rwlock_clockrdlock, (pthread_rwlock_t * lock, clockid_t clock, moment deadline), (lock, clock, deadline))
WAIT(pthread_rwlock_clockwrlock, (pthread_rwlock_t * lock, clockid_t clock, moment deadline), (lock, clock, deadline))
WAIT(pthread_timedjoin_np, (pthread_t thread, void **result, moment deadline), (thread, result, deadline))

/* These functions report errors by `errno`. */
#define WAIT_ERRNO(name, parameters, arguments) \
    EXPORT int name parameters { \
        struct timespec place; \
        BEHIND(int(*) parameters, #name); \
        if (behind == NULL) { \
            errno = ENOSYS; \
            return -1; \
        } \
        deadline = truly(deadline, &place); \
        return behind arguments; \
    }

WAIT_ERRNO(sem_timedwait, (sem_t * semaphore, moment deadline), (semaphore, deadline))
WAIT_ERRNO(sem_clockwait, (sem_t * semaphore, clockid_t clock, moment deadline), (semaphore, clock, deadline))

EXPORT int clock_nanosleep(clockid_t clock, int flags, moment deadline, struct timespec *rest) {
    struct timespec place;
    BEHIND(int (*)(clockid_t, int, moment, struct timespec *), "clock_nanosleep");
    if (behind == NULL) return ENOSYS;
    if ((flags & TIMER_ABSTIME) && (of_the_day(clock) || since_boot(clock))) deadline = truly(deadline, &place);
    return behind(clock, flags, deadline, rest);
}

static const struct itimerspec *timer(int absolute, const struct itimerspec *value, struct itimerspec *place) {
    /* Zero disarms the timer. */
    if (!absolute || value == NULL || (value->it_value.tv_sec == 0 && value->it_value.tv_nsec == 0)) return value;
    *place = *value;
    struct timespec moment;
    place->it_value = *truly(&value->it_value, &moment);
    if (place->it_value.tv_sec == 0 && place->it_value.tv_nsec == 0) place->it_value.tv_nsec = 1;
    return place;
}

EXPORT int timerfd_settime(int fd, int flags, const struct itimerspec *value, struct itimerspec *old) {
    struct itimerspec place;
    BEHIND(int (*)(int, int, const struct itimerspec *, struct itimerspec *), "timerfd_settime");
    if (behind == NULL) {
        errno = ENOSYS;
        return -1;
    }
    return behind(fd, flags, timer(flags & TFD_TIMER_ABSTIME, value, &place), old);
}

EXPORT int timer_settime(timer_t id, int flags, const struct itimerspec *value, struct itimerspec *old) {
    struct itimerspec place;
    BEHIND(int (*)(timer_t, int, const struct itimerspec *, struct itimerspec *), "timer_settime");
    if (behind == NULL) {
        errno = ENOSYS;
        return -1;
    }
    return behind(id, flags, timer(flags & TIMER_ABSTIME, value, &place), old);
}

/* Some runtimes wait on futexes, or read the time, through this function instead of the C library's specific ones. */
EXPORT long syscall(long number, ...) {
    va_list list;
    long a[6];
    va_start(list, number);
    for (int at = 0; at < 6; at++) a[at] = va_arg(list, long);
    va_end(list);
    BEHIND(long (*)(long, ...), "syscall");
    if (behind == NULL) {
        errno = ENOSYS;
        return -1;
    }
    struct timespec place;
    switch (number) {
    case SYS_clock_gettime: return tell((clockid_t)a[0], (struct timespec *)a[1]);
    case SYS_gettimeofday: return gettimeofday((struct timeval *)a[0], (void *)a[1]);
    case SYS_futex: {
        /* Without the flags for private futexes and for the clock. FUTEX_WAIT takes a duration; these take a deadline:
         * LOCK_PI, WAIT_BITSET, WAIT_REQUEUE_PI, LOCK_PI2. */
        long operation = a[1] & 127;
        if (operation == 6 || operation == 9 || operation == 11 || operation == 13) a[3] = (long)truly((moment)a[3], &place);
        break;
    }
    default: break;
    }
    return behind(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
