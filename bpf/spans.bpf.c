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
#include <linux/sched.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "shared.bpf.h"

#define LW_PEEK(reader, to, size, from) ((void)(reader), bpf_probe_read_user(to, size, (const void *)(from)))
#define LW_PEEK_TEXT(reader, to, size, from) ((void)(reader), bpf_probe_read_user_str(to, size, (const void *)(from)))
/* bpf_loop() is verified once, whatever the number of rounds: that is half of what loading this takes. */
#define LW_LOOP(times, step, context)                                                          \
	do {                                                                                   \
		if (has_loop)                                                                  \
			bpf_loop(times, step, context, 0);                                     \
		else                                                                           \
			for (__u32 round = 0; round < (times) && !step(round, context);)       \
				round++;                                                       \
	} while (0)
const volatile bool has_loop;	/* set before this is loaded: the kernel has it (5.17), and the other branch is none */
#include "walk.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Set before this is loaded. */
const volatile __u64 pidns_dev, pidns_ino;	/* the loader's PID namespace; ino 0: the initial one */
const volatile bool everybody;			/* processes that nobody knows are followed */
const volatile bool clocks;			/* sched is there */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LW_SITES);
	__type(key, __u32);
	__type(value, struct lw_site);
} sites SEC(".maps");

/* Without sched: processes that followed ones have forked, and that have not come to a probe, by the addresses of their threads in the kernel. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LW_PROCESSES);
	__type(key, __u64);
	__type(value, __u32);	/* the followed one */
} newborn SEC(".maps");

/* A hit, as the functions below pass it on. */
struct hit {
	struct pt_regs *regs;
	const struct lw_site *site;
	struct lw_process *process;
	__u32 pid, tid;		/* here */
	__u32 thread;		/* number of the thread in the kernel */
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

/* The str at OBJECT, into RECORD; its length. Global: verified once. */
__noinline __u32 lw_read_str(const struct lw_layout *layout, __u64 object, struct lw_event_name *record)
{
	return layout && record && layout->str_ascii ? lw_walk_name(NULL, layout, object, record->text) : 0;
}

/* Number of the name that ARGUMENT is; 0: it cannot be read. With a stack frame of its own, which holds the name. */
static __noinline __u32 name_of(const struct hit *hit, const struct lw_argument *argument)
{
	struct lw_event_name record = { .head = { .pid = hit->pid, .tid = hit->tid, .ns = hit->ns } };
	__u64 text;
	__u32 length = 0, index = hit->site->layout;
	if (value_of(hit, argument, &text) || !text)
		return 0;
	if (argument->form == LW_FORM_OBJECT) {
		const struct lw_layout *layout = bpf_map_lookup_elem(&layouts, &index);
		if (layout)
			length = lw_read_str(layout, text, &record);
	} else {
		long read = bpf_probe_read_user_str(record.text, sizeof(record.text), (const void *)text);
		length = read > 0 && read <= LW_NAME_SIZE ? (__u32)read - 1 : 0;
	}
	if (!length)
		return 0;
	if (length == LW_NAME_SIZE - 1)
		record.head.flags = LW_EVENT_CUT;
	return lw_number(&record, length);
}

/* --- whose --- */

static __always_inline bool numbers_of_current(struct hit *hit)
{
	struct bpf_pidns_info numbers;
	__u64 id = bpf_get_current_pid_tgid();
	hit->pid = id >> 32;
	hit->tid = hit->thread = (__u32)id;
	if (!pidns_ino)
		return true;
	/* Fails for processes of another namespace than the loader's: they have no number here that could be found without BTF. */
	if (bpf_get_ns_current_pid_tgid(pidns_dev, pidns_ino, &numbers, sizeof(numbers)))
		return false;
	hit->pid = numbers.tgid;
	hit->tid = numbers.pid;
	return true;
}

/* The process that is hit, if its events are wanted. One that nobody knows is entered, and the loader told at once. One that has no number here is not of ours. */
static __noinline struct lw_process *wanted(struct hit *hit)
{
	if (!numbers_of_current(hit)) {
		lw_count(strangers);
		return NULL;
	}
	__u32 pid = hit->pid;
	struct lw_process *process = bpf_map_lookup_elem(&processes, &pid);
	if (!process) {
		struct lw_process entry = { .attention = everybody ? LW_FOLLOWED : LW_ASKED, .layout = LW_LAYOUTS };
		struct lw_event_head record = { .kind = LW_EVENT_PROCESS, .pid = pid, .tid = hit->tid, .ns = hit->ns };
		__u64 task = bpf_get_current_task();
		const __u32 *parent = clocks ? NULL : bpf_map_lookup_elem(&newborn, &task);
		if (parent) {
			record.kind = LW_EVENT_FORK;
			record.name = pid;
			record.pid = record.tid = *parent;
			bpf_map_delete_elem(&newborn, &task);
		}
		if (bpf_map_update_elem(&processes, &pid, &entry, BPF_NOEXIST) == 0)
			lw_send_flags(&record, sizeof(record), BPF_RB_FORCE_WAKEUP);
		process = bpf_map_lookup_elem(&processes, &pid);
		if (!process)
			lw_count(lost);
	}
	if (process && process->attention != LW_LEFT_ALONE)
		return process;
	lw_count(strangers);
	return NULL;
}

static __noinline struct lw_thread *thread_of(const struct hit *hit)
{
	__u32 key = hit->thread;
	struct lw_thread *thread = bpf_map_lookup_elem(&threads, &key);
	if (!thread) {
		struct lw_thread entry = { .since = hit->ns, .pid = hit->pid, .tid = hit->tid };
		bpf_map_update_elem(&threads, &key, &entry, BPF_NOEXIST);
		thread = bpf_map_lookup_elem(&threads, &key);
	}
	if (clocks && thread)
		lw_here(thread, hit->ns);
	return thread;
}

/* --- what happened --- */

/* What THREAD's clock says now, while it runs. Read anew if it was switched out meanwhile; that twice in a row is left at that. */
static __always_inline void read_clock(const struct hit *hit, const struct lw_thread *thread, struct lw_clock *clock)
{
	for (int i = 0; i < 2; i++) {
		__u64 since = *(volatile __u64 *)&thread->since;
		*clock = thread->clock;
		if (hit->ns > since)
			clock->ns[LW_CLASS_CPU] += hit->ns - since;
		if (since == *(volatile __u64 *)&thread->since)
			break;
	}
}

/* One more open span, or one less; not below zero, for ends whose beginnings nobody saw. */
static __always_inline void count_span(const struct hit *hit, struct lw_thread *thread, bool starts)
{
	hit->process->recent = hit->ns;
	if (starts) {
		__sync_fetch_and_add(&hit->process->active, 1);
		if (thread)
			thread->open++;
		return;
	}
	for (int i = 0; i < 8; i++) {
		__u32 active = *(volatile __u32 *)&hit->process->active;
		if (!active || __sync_val_compare_and_swap(&hit->process->active, active, active - 1) == active)
			break;
	}
	if (thread && thread->open)
		thread->open--;
}

/* Ladewerk waits for a module lock. Sched tells that wait, which sees who ends it; without, the other end of it does. */
static __always_inline void wait(const struct hit *hit, __u32 name)
{
	struct lw_thread *thread = thread_of(hit);
	if (!thread)
		return;
	thread->waiting = name;
	if (!clocks)
		thread->since = hit->ns;
}

static __noinline void got(const struct hit *hit)
{
	__u32 key = hit->thread;
	struct lw_thread *thread = bpf_map_lookup_elem(&threads, &key);
	if (!thread)
		return;
	if (clocks) {
		lw_here(thread, hit->ns);
		thread->waiting = 0;
		return;
	}
	struct lw_event_wait record = {
		.head = { .kind = LW_EVENT_WAIT, .source = LW_SOURCE_LADEWERK, .detail = LW_CLASS_MODULE, .pid = hit->pid, .tid = hit->tid, .name = thread->waiting, .ns = thread->since },
		.wait_ns = hit->ns - thread->since,
	};
	bpf_map_delete_elem(&threads, &key);
	lw_send(&record, sizeof(record));
}

/* How an import ended: the argument at INDEX is 0 if it failed. */
static __always_inline void outcome(const struct hit *hit, unsigned index, struct lw_event_head *head)
{
	__u64 value;
	if (value_of(hit, &hit->site->argument[index], &value))
		head->flags = LW_EVENT_UNKNOWN;
	else if (!value)
		head->flags = LW_EVENT_FAILED;
	if (hit->site->kind == LW_SITE_OWN_DONE)
		head->detail = (__u8)value;
}

/* The start or the end of the import of NAME. */
static __noinline int span(const struct hit *hit, __u32 name, __u32 importer)
{
	struct lw_event_span record = {
		.head = { .kind = LW_EVENT_DONE, .pid = hit->pid, .tid = hit->tid, .name = name, .ns = hit->ns },
		.importer = importer,
		.frame = PT_REGS_SP(hit->regs),
	};
	switch (hit->site->kind) {
	case LW_SITE_START:
	case LW_SITE_CALL:
	case LW_SITE_OWN_START:
		record.head.kind = LW_EVENT_START;
	}
	switch (hit->site->kind) {
	case LW_SITE_OWN_DONE:
		outcome(hit, 2, &record.head);
		/* fallthrough */
	case LW_SITE_OWN_START:
		record.head.source = LW_SOURCE_LADEWERK;
		break;
	case LW_SITE_RETURN:
		outcome(hit, 0, &record.head);
		record.head.flags |= LW_EVENT_NAMELESS;
		/* fallthrough */
	case LW_SITE_CALL:
		record.head.source = LW_SOURCE_CALL;
		break;
	case LW_SITE_DONE:
		outcome(hit, 1, &record.head);
	}
	struct lw_thread *thread = clocks ? thread_of(hit) : NULL;
	count_span(hit, thread, record.head.kind == LW_EVENT_START);
	if (!thread)
		return lw_send(&record, LW_EVENT_SPAN_SHORT);
	record.head.flags |= LW_EVENT_CLOCKED;
	read_clock(hit, thread, &record.clock);
	return lw_send(&record, sizeof(record));
}

SEC("uprobe")
int lw_site(struct pt_regs *regs)
{
	__u32 index = (__u32)bpf_get_attach_cookie(regs), name = 0, importer = 0;
	struct hit hit = { .regs = regs, .ns = bpf_ktime_get_ns(), .site = bpf_map_lookup_elem(&sites, &index) };
	lw_count(hits);
	if (!hit.site || !(hit.process = wanted(&hit)))
		return 0;
	__u8 kind = hit.site->kind;
	if (kind == LW_SITE_OWN_GOT) {
		got(&hit);
		return 0;
	}
	if (kind != LW_SITE_RETURN)
		name = name_of(&hit, &hit.site->argument[0]);
	if (kind == LW_SITE_OWN_START || kind == LW_SITE_OWN_DONE)
		importer = name_of(&hit, &hit.site->argument[1]);
	if (kind == LW_SITE_OWN_WAIT)
		wait(&hit, name);
	else
		span(&hit, name, importer);
	return 0;
}

/* --- what the loader says --- */

/* 1: the process was not known before. */
SEC("syscall")
int lw_decide(struct lw_decision *decision)
{
	struct lw_process entry = { .attention = decision->attention, .layout = decision->layout, .runtime = decision->runtime };
	__u32 pid = decision->pid;
	if (!bpf_map_update_elem(&processes, &pid, &entry, BPF_NOEXIST))
		return 1;
	struct lw_process *process = bpf_map_lookup_elem(&processes, &pid);
	if (!process)
		return -1;
	process->attention = entry.attention;
	process->layout = entry.layout;
	process->runtime = entry.runtime;
	return 0;
}

/* A thread that was there before its process was followed; of one that has come to a probe or left its CPU since, what is in the map is newer. */
SEC("syscall")
int lw_enter(struct lw_stand *stand)
{
	struct lw_event_name record = { .head = { .pid = stand->pid, .tid = stand->tid, .ns = stand->ns } };
	struct lw_thread thread = { .since = stand->ns, .pid = stand->pid, .tid = stand->tid, .open = stand->open, .waker = stand->holder, .now = (__u8)stand->now };
	__u32 pid = stand->pid, key = stand->tid, length = stand->length;
	__builtin_memcpy(record.text, stand->text, sizeof(record.text));
	if (length && length < LW_NAME_SIZE)
		thread.name = lw_number(&record, length);
	struct lw_process *process = bpf_map_lookup_elem(&processes, &pid);
	if (process && !bpf_map_update_elem(&threads, &key, &thread, BPF_NOEXIST)) {
		__sync_fetch_and_add(&process->active, thread.open);
		process->recent = thread.since;
	}
	return 0;
}

/* --- processes that come and go: attached if sched is not, which sees more of it. The loader alone would be too late for those that live shorter than it takes to look into /proc --- */

static __always_inline struct lw_process *followed(__u32 pid)
{
	struct lw_process *process = bpf_map_lookup_elem(&processes, &pid);
	return process && process->attention != LW_LEFT_ALONE ? process : NULL;
}

/* Its number is not known yet, nor can it be read without BTF. What such a process forks in turn belongs to the same, and its threads do. */
SEC("raw_tp/task_newtask")
int lw_born(struct bpf_raw_tracepoint_args *context)
{
	struct hit hit = {};
	__u64 child = context->args[0], task = bpf_get_current_task();
	const __u32 *parent = bpf_map_lookup_elem(&newborn, &task);
	if (!parent && !(context->args[1] & CLONE_THREAD) && numbers_of_current(&hit) && followed(hit.pid))
		parent = &hit.pid;
	if (parent)
		bpf_map_update_elem(&newborn, &child, parent, BPF_ANY);
	return 0;
}

/* Or the next thread at this address would be taken for it. */
SEC("raw_tp/sched_process_exit")
int lw_gone(struct bpf_raw_tracepoint_args *context)
{
	__u64 task = context->args[0];
	bpf_map_delete_elem(&newborn, &task);
	return 0;
}

/* Nothing of the old program is left: no spans, no interpreter. */
SEC("raw_tp/sched_process_exec")
int lw_replaced(struct bpf_raw_tracepoint_args *context)
{
	struct hit hit = {};
	struct lw_process *process = numbers_of_current(&hit) ? followed(hit.pid) : NULL;
	if (!process)
		return 0;
	process->active = 0;
	process->runtime = 0;
	process->layout = LW_LAYOUTS;
	struct lw_event_head record = { .kind = LW_EVENT_EXEC, .pid = hit.pid, .tid = hit.pid, .ns = bpf_ktime_get_ns() };
	lw_send_flags(&record, sizeof(record), BPF_RB_FORCE_WAKEUP);
	return 0;
}
