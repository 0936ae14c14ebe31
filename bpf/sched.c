/* SPDX-License-Identifier: MIT */
#include "sched.h"

#include <bpf/bpf.h>
#include <stdbool.h>

#include "state.h"

static bool is_wait(const struct lw_thread *thread)
{
	return thread->now == LW_CLASS_MODULE || thread->now == LW_CLASS_GLOBAL;
}

unsigned lw_sched_pending(int threads, uint64_t ns, void (*sink)(void *context, const struct lw_event_head *record, size_t size), void *context)
{
	unsigned count = 0;
	__u32 key, *previous = NULL;
	while (bpf_map_get_next_key(threads, previous, &key) == 0) {
		struct lw_thread thread;
		previous = &key;
		if (bpf_map_lookup_elem(threads, &key, &thread) || !is_wait(&thread) || thread.since >= ns)
			continue;
		uint64_t ready = thread.woken > thread.since && thread.woken < ns ? thread.woken : ns;
		struct lw_event_wait record = {
			.head = { .kind = LW_EVENT_WAIT, .source = LW_SOURCE_SCHED, .detail = thread.now, .pid = thread.pid, .tid = thread.tid, .name = thread.name, .ns = thread.since },
			.wait_ns = ready - thread.since, .queue_ns = ns - ready, .waker = thread.waker,
		};
		sink(context, &record.head, sizeof(record));
		count++;
	}
	return count;
}
