/* SPDX-License-Identifier: MIT */
#include "sched.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sched.skel.h"
#include "state.h"

/* --- the kernel --- */

/* Whether sched_switch() has a fourth argument, the state in which the thread leaves (5.18). */
static bool state_is_argument(const struct btf *kernel)
{
	/* typedef void (*btf_trace_sched_switch)(void *, bool, struct task_struct *, struct task_struct *, unsigned int); */
	int id = btf__find_by_name_kind(kernel, "btf_trace_sched_switch", BTF_KIND_TYPEDEF);
	const struct btf_type *type = id > 0 ? btf__type_by_id(kernel, (__u32)id) : NULL;
	type = type ? btf__type_by_id(kernel, type->type) : NULL;
	type = type && btf_is_ptr(type) ? btf__type_by_id(kernel, type->type) : NULL;
	return type && btf_is_func_proto(type) && btf_vlen(type) > 4;
}

static struct btf *kernel_types(char *why)
{
	struct btf *kernel = btf__load_vmlinux_btf();
	if (!kernel)
		snprintf(why, LW_SCHED_WHY, "this kernel does not describe its types (no /sys/kernel/btf/vmlinux: it was built without CONFIG_DEBUG_INFO_BTF, or /sys is not mounted)");
	return kernel;
}

bool lw_sched_possible(char *why)
{
	struct btf *kernel = kernel_types(why);
	bool possible = kernel && btf__find_by_name_kind(kernel, "btf_trace_sched_switch", BTF_KIND_TYPEDEF) > 0;
	if (kernel && !possible)
		snprintf(why, LW_SCHED_WHY, "this kernel has no tracepoint sched_switch (it was built without CONFIG_TRACEPOINTS)");
	btf__free(kernel);
	return possible;
}

/* --- the object --- */

static int share_maps(struct lw_sched *sched, const struct lw_sched_setup *setup)
{
	const struct { struct bpf_map *map; int fd; } maps[] = {
		{ sched->maps.processes, setup->processes }, { sched->maps.threads, setup->threads }, { sched->maps.layouts, setup->layouts }, { sched->maps.names, setup->names },
		{ sched->maps.last_name, setup->last_name }, { sched->maps.counts, setup->counts }, { sched->maps.events, setup->events },
	};
	for (size_t i = 0; i < sizeof(maps) / sizeof(*maps); i++) {
		int error = bpf_map__reuse_fd(maps[i].map, maps[i].fd);
		if (error)
			return error;
	}
	return 0;
}

static int load(struct lw_sched *sched, const struct lw_sched_setup *setup, const struct btf *kernel)
{
	sched->rodata->pidns_ino = setup->pidns_ino;
	sched->rodata->state_is_argument = state_is_argument(kernel);
	if (setup->threshold_ns)
		sched->rodata->threshold_ns = setup->threshold_ns;
	if (setup->wake_at)
		sched->rodata->lw_wake_at = setup->wake_at;
	int error = share_maps(sched, setup);
	if (!error)
		error = lw_sched__load(sched);
	return error ? error : lw_sched__attach(sched);
}

int lw_sched_open(const struct lw_sched_setup *setup, struct lw_sched **out, char *why)
{
	*out = NULL;
	struct btf *kernel = kernel_types(why);
	if (!kernel)
		return -ENOENT;
	struct lw_sched *sched = lw_sched__open();
	int error = sched ? load(sched, setup, kernel) : -errno;
	btf__free(kernel);
	if (error) {
		snprintf(why, LW_SCHED_WHY, error == -EPERM || error == -EACCES ? "programs at the scheduler's tracepoints are not permitted: CAP_BPF and CAP_PERFMON are needed, or CAP_SYS_ADMIN"
								     : "programs at the scheduler's tracepoints cannot be loaded: %s", strerror(-error));
		lw_sched__destroy(sched);
		return error == -EACCES ? -EPERM : error;
	}
	*out = sched;
	return 0;
}

void lw_sched_close(struct lw_sched *sched)
{
	lw_sched__destroy(sched);
}

uint64_t lw_sched_run_ns(const struct lw_sched *sched)
{
	const struct bpf_program *const programs[LW_SCHED_PROGRAMS] = { sched->progs.lw_switch, sched->progs.lw_waking, sched->progs.lw_exit, sched->progs.lw_exec, sched->progs.lw_fork };
	uint64_t sum = 0;
	for (size_t i = 0; i < LW_SCHED_PROGRAMS; i++) {
		struct bpf_prog_info info = { 0 };
		__u32 size = sizeof(info);
		if (bpf_obj_get_info_by_fd(bpf_program__fd(programs[i]), &info, &size) == 0)
			sum += info.run_time_ns;
	}
	return sum;
}

/* --- what is going on --- */

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
