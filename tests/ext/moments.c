/* SPDX-License-Identifier: MIT */
/*
 * Preloaded by test_threads.py: at a chosen moment of one thread another one takes the lock of Ladewerk's session, and waits for its disk.
 *
 *     disk (a thread without the GIL)                  other (a thread that calls Ladewerk, with the GIL or not)
 *     is about to take the lock: parked
 *                                                      its Nth operation on that lock begins
 *     takes the lock, asks a disk that does not answer
 *                                                      goes on: must not wait for the lock with the GIL
 *
 * Only what the extension does counts, not what the interpreter does with its own locks.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static _Thread_local enum { NONE, DISK, OTHER } role;
static sem_t parked, go, inside[2], answered;
static pthread_mutex_t *the_lock;	/* of the session: the one that DISK was parked at */
static int left;			/* operations of OTHER until the moment comes; 0: it is past */
static bool ask_disk;			/* DISK has gone */
static _Atomic int waits;		/* for the lock, with the GIL held */

static int (*real_lock)(pthread_mutex_t *), (*real_trylock)(pthread_mutex_t *), (*has_gil)(void);
static int (*real_statx)(int, const char *restrict, int, unsigned, struct statx *restrict);

__attribute__((constructor)) static void find(void)
{
	real_lock = (int (*)(pthread_mutex_t *))dlsym(RTLD_NEXT, "pthread_mutex_lock");
	real_trylock = (int (*)(pthread_mutex_t *))dlsym(RTLD_NEXT, "pthread_mutex_trylock");
	real_statx = (int (*)(int, const char *restrict, int, unsigned, struct statx *restrict))dlsym(RTLD_NEXT, "statx");
	has_gil = (int (*)(void))dlsym(RTLD_DEFAULT, "PyGILState_Check");
}

static bool is_ours(void *caller)
{
	Dl_info info;
	return role && dladdr(caller, &info) && info.dli_fname && strstr(info.dli_fname, "/_native.");
}

static void moment(pthread_mutex_t *mutex)
{
	if (role == OTHER && mutex == the_lock && left && --left == 0) {
		sem_post(&go);
		sem_wait(&inside[0]);
	}
}

static int take(pthread_mutex_t *mutex)
{
	int error = real_trylock(mutex);
	if (error != EBUSY)
		return error;
	if (has_gil()) {
		atomic_fetch_add(&waits, 1);
		sem_post(&answered);
	}
	return real_lock(mutex);
}

int pthread_mutex_lock(pthread_mutex_t *mutex)
{
	if (!is_ours(__builtin_return_address(0)))
		return real_lock(mutex);
	if (role == DISK && !ask_disk && !has_gil()) {
		the_lock = mutex;
		sem_post(&parked);
		sem_wait(&go);
		ask_disk = true;
		return real_lock(mutex);
	}
	moment(mutex);
	return take(mutex);
}

int pthread_mutex_trylock(pthread_mutex_t *mutex)
{
	if (!is_ours(__builtin_return_address(0)))
		return real_trylock(mutex);
	moment(mutex);
	/* The control: whoever looks, waits. */
	return getenv("CONTROL") ? take(mutex) : real_trylock(mutex);
}

int statx(int fd, const char *restrict path, int flags, unsigned mask, struct statx *restrict st)
{
	if (role == DISK && ask_disk && strstr(path, "/slowdisk")) {
		sem_post(&inside[0]);
		sem_post(&inside[1]);
		sem_wait(&answered);
		ask_disk = false;
		role = NONE;
	}
	return real_statx(fd, path, flags, mask, st);
}

/* --- for the program --- */

/* The MOMENT is to be OTHER's operation of this number. */
void arm(int moment)
{
	left = moment;
	ask_disk = false;
	sem_init(&parked, 0, 0);
	sem_init(&go, 0, 0);
	sem_init(&inside[0], 0, 0);
	sem_init(&inside[1], 0, 0);
	sem_init(&answered, 0, 0);
}

void be_disk(void)
{
	role = DISK;
}

void be_other(void)
{
	role = OTHER;
}

/* OTHER is done. Whether it had so many operations; if not, DISK may go now. */
int be_done(void)
{
	role = NONE;
	if (left == 0)
		return 1;
	left = 0;
	sem_post(&go);
	return 0;
}

void wait_parked(void)
{
	sem_wait(&parked);
}

void wait_inside(void)
{
	sem_wait(&inside[1]);
}

void answer(void)
{
	sem_post(&answered);
}

int waited(void)
{
	return atomic_load(&waits);
}
