/* SPDX-License-Identifier: MIT */
#include "standing.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "layout.h"

enum { THREADS = 1024 };	/* that are looked at */

/* CPU time of ours that one process may take: it may have many threads, deep stacks, or wish us ill. */
static const uint64_t BUDGET_NS = 100000000;

struct process {
	pid_t pid;
	uint64_t runtime, ns, until;	/* until: in our CPU time */
	const struct lw_layout *layout;
	unsigned count;
	struct lw_stand threads[THREADS];
};

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;
	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static bool may_go_on(const struct process *process)
{
	return clock_ns(CLOCK_THREAD_CPUTIME_ID) < process->until;
}

/* Whether thread TID is in futex(2), and not for the GIL. */
static bool awaits_lock(const struct process *process, pid_t tid)
{
	char path[64];
	unsigned long number = 0, address = 0;
	snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", (int)process->pid, (int)tid);
	FILE *file = fopen(path, "re");
	if (!file)
		return false;
	bool blocked = fscanf(file, "%lu %lx", &number, &address) == 2;
	fclose(file);
	return blocked && number == SYS_futex && address - process->runtime >= process->layout->runtime_size;
}

static void look(struct process *process, pid_t tid)
{
	struct lw_stand *thread = &process->threads[process->count];
	struct lw_standing standing;
	*thread = (struct lw_stand){ .pid = (__u32)process->pid, .tid = (__u32)tid, .now = LW_CLASS_CPU, .ns = process->ns };
	if (awaits_lock(process, tid) && !lw_layout_stand(process->pid, process->runtime, process->layout, tid, &standing) && standing.class != LW_CLASS_FUTEX) {
		thread->now = standing.class;
		memcpy(thread->text, standing.module, sizeof(thread->text));
		thread->length = (__u32)strlen(thread->text);
	}
	thread->open = lw_layout_imports(process->pid, process->runtime, process->layout, tid, NULL, NULL);
	if (thread->open || thread->now != LW_CLASS_CPU)
		process->count++;
}

static int look_at_all(struct process *process)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/task", (int)process->pid);
	DIR *directory = opendir(path);
	if (!directory)
		return -errno;
	const struct dirent *entry;
	while (process->count < THREADS && may_go_on(process) && (entry = readdir(directory))) {
		pid_t tid = (pid_t)atoi(entry->d_name);
		if (tid > 0)
			look(process, tid);
	}
	closedir(directory);
	return 0;
}

/* Thread that has the lock the INDEXth one waits for; 0: none that shows it in its frames. */
static uint32_t holder_of(const struct process *process, unsigned index)
{
	const struct lw_stand *waiter = &process->threads[index];
	for (unsigned i = 0; i < index; i++)
		if (process->threads[i].length == waiter->length && strcmp(process->threads[i].text, waiter->text) == 0)
			return process->threads[i].holder;
	for (unsigned i = 0; i < process->count && may_go_on(process); i++) {
		bool holds = false;
		(void)lw_layout_imports(process->pid, process->runtime, process->layout, (pid_t)process->threads[i].tid, waiter->text, &holds);
		if (holds)
			return process->threads[i].tid;
	}
	return 0;
}

int lw_standing_each(pid_t pid, uint64_t runtime, const struct lw_layout *layout, void (*sink)(void *context, const struct lw_stand *stand), void *context)
{
	struct process *process = calloc(1, sizeof(*process));
	if (!process)
		return -ENOMEM;
	process->pid = pid;
	process->runtime = runtime;
	process->layout = layout;
	process->ns = clock_ns(CLOCK_MONOTONIC);
	process->until = clock_ns(CLOCK_THREAD_CPUTIME_ID) + BUDGET_NS;
	int error = look_at_all(process);
	for (unsigned i = 0; i < process->count; i++) {
		process->threads[i].holder = process->threads[i].length ? holder_of(process, i) : 0;
		sink(context, &process->threads[i]);
	}
	free(process);
	return error;
}
