/* Asks and waits in every way that programs do. `watch`: until a clock goes back; `wait`: how long waits took, in milliseconds. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static long long now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static struct timespec after(clockid_t clock, long long nanos) {
    long long at = now(clock) + nanos;
    struct timespec time = {at / 1000000000LL, at % 1000000000LL};
    return time;
}

static int watch(void) {
    clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW};
    long long last[4] = {0};
    for (;;) {
        for (int at = 0; at < 4; at++) {
            long long told = now(clocks[at]);
            if (told < last[at]) return 3;
            last[at] = told;
        }
        /* All ways to ask for the time of the day say the same. */
        struct timeval day;
        struct timespec spec, raw;
        gettimeofday(&day, NULL);
        timespec_get(&spec, TIME_UTC);
        syscall(SYS_clock_gettime, CLOCK_REALTIME, &raw);
        usleep(100);
    }
}

#define WAITED(name, clock, ...) \
    do { \
        long long begin = now(CLOCK_MONOTONIC); \
        struct timespec until = after(clock, 100000000); \
        __VA_ARGS__; \
        printf("%s %lld\n", name, (now(CLOCK_MONOTONIC) - begin) / 1000000); \
    } while (0)

static int wait(void) {
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t day = PTHREAD_COND_INITIALIZER, boot;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&boot, &attributes);
    sem_t semaphore;
    sem_init(&semaphore, 0, 0);
    pthread_mutex_lock(&mutex);
    WAITED("condition of the day", CLOCK_REALTIME, while (pthread_cond_timedwait(&day, &mutex, &until) != ETIMEDOUT));
    WAITED("condition since boot", CLOCK_MONOTONIC, while (pthread_cond_timedwait(&boot, &mutex, &until) != ETIMEDOUT));
    WAITED("semaphore", CLOCK_REALTIME, while (sem_timedwait(&semaphore, &until) == 0 || errno != ETIMEDOUT));
    WAITED("sleep until", CLOCK_MONOTONIC, clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL));
    WAITED("sleep until the time of the day", CLOCK_REALTIME, clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until, NULL));
    WAITED("sleep for", CLOCK_MONOTONIC, usleep(100000));
    int word = 0;
    WAITED("futex", CLOCK_MONOTONIC, syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 0, &until, NULL, FUTEX_BITSET_MATCH_ANY));
    int timer = timerfd_create(CLOCK_REALTIME, 0);
    WAITED("timer", CLOCK_REALTIME, {
        struct itimerspec value = {{0, 0}, until};
        long long expired;
        timerfd_settime(timer, TFD_TIMER_ABSTIME, &value, NULL);
        if (read(timer, &expired, sizeof expired) < 0) return 4;
    });
    /* A mutex that is held: by this very thread. */
    WAITED("mutex", CLOCK_REALTIME, pthread_mutex_timedlock(&mutex, &until));
    return 0;
}

int main(int count, char **words) {
    return count == 2 && strcmp(words[1], "watch") == 0 ? watch() : wait();
}
