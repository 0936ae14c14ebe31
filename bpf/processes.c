/* SPDX-License-Identifier: MIT */
/* processes: see processes.h. */
#include "processes.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Index of PID, or of where it belongs. */
static unsigned place_of(const struct lw_processes *processes, pid_t pid)
{
	unsigned low = 0, high = processes->count;
	while (low < high) {
		unsigned middle = low + (high - low) / 2;
		if (processes->all[middle].pid < pid)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct lw_known_process *lw_processes_find(struct lw_processes *processes, pid_t pid)
{
	if (processes->last < processes->count && processes->all[processes->last].pid == pid)
		return &processes->all[processes->last];
	unsigned place = place_of(processes, pid);
	if (place == processes->count || processes->all[place].pid != pid)
		return NULL;
	processes->last = place;
	return &processes->all[place];
}

struct lw_known_process *lw_processes_add(struct lw_processes *processes, pid_t pid)
{
	struct lw_known_process *known = lw_processes_find(processes, pid);
	if (known)
		return known;
	if (processes->count == processes->room) {
		unsigned room = processes->room ? processes->room * 2 : 16;
		struct lw_known_process *grown = reallocarray(processes->all, room, sizeof(*grown));
		if (!grown)
			return NULL;
		processes->all = grown;
		processes->room = room;
	}
	unsigned place = place_of(processes, pid);
	known = &processes->all[place];
	memmove(known + 1, known, (processes->count++ - place) * sizeof(*known));
	*known = (struct lw_known_process){ .pid = pid, .inner = pid, .pidfd = -1 };
	return known;
}

void lw_processes_remove(struct lw_processes *processes, pid_t pid)
{
	struct lw_known_process *known = lw_processes_find(processes, pid);
	if (!known)
		return;
	if (known->pidfd >= 0)
		close(known->pidfd);
	memmove(known, known + 1, (size_t)(&processes->all[--processes->count] - known) * sizeof(*known));
}

void lw_processes_clear(struct lw_processes *processes)
{
	while (processes->count)
		lw_processes_remove(processes, processes->all[processes->count - 1].pid);
	free(processes->all);
	*processes = (struct lw_processes){ 0 };
}
