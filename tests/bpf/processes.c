/* SPDX-License-Identifier: MIT */
/* processes: what was entered is found, whatever came and went in between. */
#include "processes.h"

#include <criterion/criterion.h>
#include <stdlib.h>

Test(processes, against_a_plain_set)
{
	enum { NUMBERS = 300, STEPS = 20000 };
	static bool there[NUMBERS];
	struct lw_processes processes = { 0 };
	unsigned count = 0;
	srandom(9);
	for (unsigned step = 0; step < STEPS; step++) {
		pid_t pid = (pid_t)(random() % NUMBERS);
		struct lw_known_process *known = lw_processes_find(&processes, pid);
		cr_assert_eq(known != NULL, there[pid]);
		cr_assert(!known || (known->pid == pid && known->inner == -pid));
		if (random() % 2) {
			known = lw_processes_add(&processes, pid);
			cr_assert(known->pid == pid && known->pidfd == -1);
			known->inner = -pid;
			count += !there[pid];
			there[pid] = true;
		} else {
			lw_processes_remove(&processes, pid);
			count -= there[pid];
			there[pid] = false;
		}
		cr_assert_eq(processes.count, count);
	}
	for (unsigned i = 1; i < processes.count; i++)
		cr_assert_lt(processes.all[i - 1].pid, processes.all[i].pid);
	lw_processes_clear(&processes);
	cr_expect_null(lw_processes_find(&processes, 1));
}
