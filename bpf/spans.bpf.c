/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * spans: the start and the end of every import, from uprobes. One program serves all of them: the cookie of a probe is the index of its site, which says what it means to be there and where the
 * arguments are. Needs no BTF of the kernel. Kernel 5.15 (cookies).
 *
 *     hit -> whose? -> which name? -> clock of the thread (if sched is there) -> ring buffer
 *
 * Memory of the target is read, never written. What it holds is not trusted: names are at most LW_NAME_SIZE - 1 bytes.
 */
#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "maps.bpf.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LW_SITES);
	__type(key, __u32);
	__type(value, struct lw_site);
} sites SEC(".maps");

/* A hit, as the functions below pass it on. */
struct hit {
	struct pt_regs *regs;
	const struct lw_site *site;
	struct lw_process *process;
	__u32 pid, tid;
	__u64 ns;
};

/* --- arguments --- */

static __always_inline __u64 narrow(__u64 value, const struct lw_argument *argument)
{
	__u32 shift = 64 - 8 * (argument->size & 15);
	if (shift >= 64)
		return value;
	value <<= shift;
	return argument->is_signed ? (__u64)((__s64)value >> shift) : value >> shift;
}

/* The value of an argument: 0, or what is wrong with it. */
static __always_inline int value_of(const struct hit *hit, const struct lw_argument *argument, __u64 *value)
{
	__u64 base = 0;
	*value = 0;
	if (argument->place == LW_PLACE_CONSTANT) {
		*value = (__u64)argument->offset;
		return 0;
	}
	if (argument->place == LW_PLACE_NONE || argument->reg > sizeof(*hit->regs) - sizeof(base))
		return -1;
	int error = bpf_probe_read_kernel(&base, sizeof(base), (void *)hit->regs + argument->reg);
	if (!error && argument->place == LW_PLACE_MEMORY)
		error = bpf_probe_read_user(&base, sizeof(base), (const void *)(base + (__u64)argument->offset));
	*value = narrow(base, argument);
	return error;
}

/* A str of the interpreter at OBJECT: where its characters are, if they are ASCII. 0: they are not, or it is none. */
static __always_inline __u64 characters_of(const struct hit *hit, __u64 object, __u64 *length)
{
	__u32 index = hit->site->layout;
	const struct lw_layout *layout = bpf_map_lookup_elem(&layouts, &index);
	if (!layout || !layout->str_ascii || bpf_probe_read_user(length, sizeof(*length), (const void *)(object + layout->str_length)))
		return 0;
	return object + layout->str_ascii;
}

/* Number of the name that ARGUMENT is; 0: it cannot be read. */
static __always_inline __u32 name_of(const struct hit *hit, const struct lw_argument *argument)
{
	struct lw_event_name record = {};
	__u64 text, length = 0;
	if (value_of(hit, argument, &text) || !text)
		return 0;
	if (argument->form == LW_FORM_OBJECT && !(text = characters_of(hit, text, &length)))
		return 0;
	long read = bpf_probe_read_user_str(record.text, sizeof(record.text), (const void *)text);
	if (read <= 1)
		return 0;
	/* What is no ASCII keeps something else in this place. */
	if (argument->form == LW_FORM_OBJECT && read < LW_NAME_SIZE && (__u64)read - 1 != length)
		return 0;
	if (read == LW_NAME_SIZE)
		record.head.flags = LW_EVENT_CUT;
	return lw_intern(&record, (__u32)read - 1, hit->pid, hit->tid);
}

/* --- whose --- */

static __always_inline bool numbers_of_current(struct hit *hit)
{
	struct bpf_pidns_info numbers;
	__u64 id = bpf_get_current_pid_tgid();
	hit->pid = id >> 32;
	hit->tid = (__u32)id;
	if (!setting.pidns_ino)
		return true;
	/* Fails for processes of another namespace than the loader's: they have no number here that could be found without BTF. */
	if (bpf_get_ns_current_pid_tgid(setting.pidns_dev, setting.pidns_ino, &numbers, sizeof(numbers)))
		return false;
	hit->pid = numbers.tgid;
	hit->tid = numbers.pid;
	return true;
}

/* The process that is hit, if its events are wanted. One that nobody knows is entered, and the loader told at once. */
static __always_inline struct lw_process *wanted(const struct hit *hit)
{
	__u32 pid = hit->pid;
	struct lw_process *process = bpf_map_lookup_elem(&processes, &pid);
	if (!process) {
		struct lw_process entry = { .follow = setting.everybody ? LW_FOLLOWED : LW_UNDECIDED };
		struct lw_event_head record = { .kind = LW_EVENT_PROCESS, .pid = pid, .tid = hit->tid, .ns = hit->ns };
		if (bpf_map_update_elem(&processes, &pid, &entry, BPF_NOEXIST) == 0)
			lw_send(&record, sizeof(record), BPF_RB_FORCE_WAKEUP);
		process = bpf_map_lookup_elem(&processes, &pid);
		struct lw_tally *tally = lw_tally();
		if (!process && tally)
			lw_add(tally->lost, 1);
	}
	return process && process->follow != LW_LEFT_ALONE ? process : NULL;
}

static __always_inline struct lw_thread *thread_of(const struct hit *hit)
{
	__u32 tid = hit->tid;
	struct lw_thread *thread = bpf_map_lookup_elem(&threads, &tid);
	if (!thread) {
		struct lw_thread entry = { .since = hit->ns, .pid = hit->pid };
		bpf_map_update_elem(&threads, &tid, &entry, BPF_NOEXIST);
		thread = bpf_map_lookup_elem(&threads, &tid);
	}
	return thread;
}

/* --- what happened --- */

/* The clock of this thread, which runs now. Once more if it was switched out meanwhile; twice in a row is as good as never. */
static __always_inline bool copy_clock(const struct hit *hit, struct lw_clock *clock)
{
	struct lw_thread *thread = setting.clocks ? thread_of(hit) : NULL;
	if (!thread)
		return false;
	for (int i = 0; i < 2; i++) {
		__u64 since = *(volatile __u64 *)&thread->since;
		*clock = thread->clock;
		if (hit->ns > since)
			clock->ns[LW_CLASS_CPU] += hit->ns - since;
		if (since == *(volatile __u64 *)&thread->since)
			break;
	}
	return true;
}

static __always_inline void span(const struct hit *hit, struct lw_event_span *record)
{
	record->head.pid = hit->pid;
	record->head.tid = hit->tid;
	record->head.ns = hit->ns;
	record->frame = PT_REGS_SP(hit->regs);
	if (record->head.kind == LW_EVENT_START)
		lw_add(hit->process->active, 1);
	else if (hit->process->active > 0)
		lw_add(hit->process->active, -1);
	if (copy_clock(hit, &record->clock)) {
		record->head.flags |= LW_EVENT_CLOCKED;
		lw_send(record, sizeof(*record), 0);
	} else {
		lw_send(record, LW_EVENT_SPAN_SHORT, 0);
	}
}

/* Ladewerk waits for a module lock. With sched, which sees who ends it, sched tells the wait; otherwise the other end of it does (got()). */
static __always_inline void wait(const struct hit *hit)
{
	struct lw_thread *thread = thread_of(hit);
	if (!thread)
		return;
	thread->lock = name_of(hit, &hit->site->argument[0]);
	thread->wait_ns = hit->ns;
}

static __always_inline void got(const struct hit *hit)
{
	__u32 tid = hit->tid;
	struct lw_thread *thread = bpf_map_lookup_elem(&threads, &tid);
	if (!thread || !thread->wait_ns)
		return;
	struct lw_event_wait record = {
		.head = { .kind = LW_EVENT_WAIT, .source = LW_SOURCE_LADEWERK, .detail = LW_CLASS_MODULE, .pid = hit->pid, .tid = tid, .name = thread->lock, .ns = thread->wait_ns },
		.wait_ns = hit->ns - thread->wait_ns,
	};
	thread->wait_ns = 0;
	thread->lock = 0;
	if (setting.clocks)
		return;
	bpf_map_delete_elem(&threads, &tid);
	lw_send(&record, sizeof(record), 0);
}

static __always_inline void started(const struct hit *hit, __u8 source)
{
	struct lw_event_span record = { .head = { .kind = LW_EVENT_START, .source = source } };
	record.head.name = name_of(hit, &hit->site->argument[0]);
	if (source == LW_SOURCE_LADEWERK)
		record.importer = name_of(hit, &hit->site->argument[1]);
	span(hit, &record);
}

static __always_inline void done(const struct hit *hit, __u8 source)
{
	struct lw_event_span record = { .head = { .kind = LW_EVENT_DONE, .source = source } };
	__u64 value = 0;
	const struct lw_argument *outcome = &hit->site->argument[source == LW_SOURCE_LADEWERK ? 2 : source == LW_SOURCE_USDT ? 1 : 0];
	if (value_of(hit, outcome, &value))
		record.head.flags = LW_EVENT_UNKNOWN;
	else if (!value)
		record.head.flags = LW_EVENT_FAILED;
	if (source == LW_SOURCE_CALL)
		record.head.flags |= LW_EVENT_NAMELESS;
	else
		record.head.name = name_of(hit, &hit->site->argument[0]);
	if (source == LW_SOURCE_LADEWERK) {
		record.head.detail = (__u8)value;
		record.importer = name_of(hit, &hit->site->argument[1]);
	}
	span(hit, &record);
}

static __always_inline int at_site(struct pt_regs *regs)
{
	__u32 index = (__u32)bpf_get_attach_cookie(regs);
	struct hit hit = { .regs = regs, .ns = bpf_ktime_get_ns(), .site = bpf_map_lookup_elem(&sites, &index) };
	struct lw_tally *tally = lw_tally();
	if (!hit.site || !tally)
		return 0;
	lw_add(tally->hits, 1);
	if (!numbers_of_current(&hit) || !(hit.process = wanted(&hit)))
		return 0;
	switch (hit.site->kind) {
	case LW_SITE_START: started(&hit, LW_SOURCE_USDT); break;
	case LW_SITE_CALL: started(&hit, LW_SOURCE_CALL); break;
	case LW_SITE_OWN_START: started(&hit, LW_SOURCE_LADEWERK); break;
	case LW_SITE_DONE: done(&hit, LW_SOURCE_USDT); break;
	case LW_SITE_RETURN: done(&hit, LW_SOURCE_CALL); break;
	case LW_SITE_OWN_DONE: done(&hit, LW_SOURCE_LADEWERK); break;
	case LW_SITE_OWN_WAIT: wait(&hit); break;
	case LW_SITE_OWN_GOT: got(&hit); break;
	}
	return 0;
}

SEC("uprobe")
int lw_site(struct pt_regs *regs)
{
	return at_site(regs);
}
