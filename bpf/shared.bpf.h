/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * shared: maps that both objects use, and what both do with them: send a record, give a name its number.
 *
 * Programs at uprobes can be preempted by others of the same object on the same CPU: scratch space per CPU would be overwritten. So names are on the stack.
 */
#ifndef LW_BPF_SHARED_H
#define LW_BPF_SHARED_H

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

#include "state.h"

#ifndef NULL
#define NULL ((void *)0)
#endif

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LW_PROCESSES);
	__type(key, __u32);
	__type(value, struct lw_process);
} processes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LW_THREADS);
	__type(key, __u32);
	__type(value, struct lw_thread);
} threads SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LW_LAYOUTS);
	__type(key, __u32);
	__type(value, struct lw_layout);
} layouts SEC(".maps");

/* Of a text. */
struct lw_hash {
	__u64 one, other;
};

/* The texts are the loader's, who has all records; here their hashes stand for them: short entries are quickly compared, and the table stays in the cache of a program that is busy. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LW_NAMES);
	__type(key, struct lw_hash);
	__type(value, __u32);
} names SEC(".maps");

/* [0]: the last number given. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} last_name SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct lw_counts);
} counts SEC(".maps");

/* Size set by the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096 * 1024);
} events SEC(".maps");

/* The reader is woken when so many bytes wait for it; until then it looks by itself now and then. */
const volatile __u64 lw_wake_at = 256 * 1024;

/* FIELD is one a field of struct lw_counts. Other programs may come between: atomic, though it is this CPU's. */
#define lw_count(field)                                                                  \
	do {                                                                             \
		__u32 lw_zero = 0;                                                       \
		struct lw_counts *lw_counts = bpf_map_lookup_elem(&counts, &lw_zero);    \
		if (lw_counts)                                                           \
			__sync_fetch_and_add(&lw_counts->field, 1);                      \
	} while (0)

static __always_inline __u64 lw_wakeup(void)
{
	return bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) >= lw_wake_at ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

/* Whether it was sent; counted either way. */
static __always_inline int lw_send_flags(void *record, __u64 size, __u64 flags)
{
	if (bpf_ringbuf_output(&events, record, size, flags)) {
		lw_count(lost);
		return 0;
	}
	lw_count(events);
	return 1;
}

static __always_inline int lw_send(void *record, __u64 size)
{
	return lw_send_flags(record, size, lw_wakeup());
}

/* --- what a thread did before it got its CPU --- */

const volatile __u64 lw_threshold_ns = 100000;	/* shorter waits for the GIL and for other locks are on the clocks only */

/* The wait that is over, for whoever waits for locks long enough. */
static __always_inline void lw_tell_wait(const struct lw_thread *thread, __u64 blocked, __u64 queued)
{
	bool always = thread->now == LW_CLASS_MODULE || thread->now == LW_CLASS_GLOBAL;
	bool lock = thread->now == LW_CLASS_GIL || thread->now == LW_CLASS_FUTEX;
	if (!always && !(lock && blocked + queued >= lw_threshold_ns))
		return;
	struct lw_event_wait record = {
		.head = { .kind = LW_EVENT_WAIT, .source = LW_SOURCE_SCHED, .detail = thread->now, .pid = thread->pid, .tid = thread->tid, .name = thread->name, .ns = thread->since },
		.wait_ns = blocked, .queue_ns = queued, .waker = thread->waker,
	};
	lw_send(&record, sizeof(record));
}

/* THREAD got a CPU at NOW. */
static __always_inline void lw_arrive(struct lw_thread *thread, __u64 now)
{
	__u32 class = thread->now;
	__u64 since = thread->since, ready = thread->woken;
	if (now <= since)
		now = since;
	else if (class != LW_CLASS_CPU && class < LW_CLASSES) {
		if (class == LW_CLASS_QUEUE || ready < since)
			ready = class == LW_CLASS_QUEUE ? since : now;
		if (ready > now)
			ready = now;
		/* Or clang drops the mask, which the verifier wants to see. */
		__asm__ volatile("" : "+r"(class));
		thread->clock.ns[class & (LW_CLASSES - 1)] += ready - since;
		thread->clock.ns[LW_CLASS_QUEUE] += now - ready;
		lw_tell_wait(thread, ready - since, now - ready);
	}
	thread->since = now;
	thread->now = LW_CLASS_CPU;
}

/*
 * THREAD is running, at NOW. That it got its CPU may not have been seen: kernels leave programs out while the same one runs on that CPU, and some do not tell of certain tasks (a virtual
 * machine's agent) from whom it got it. Then it was when it was woken, or just now.
 */
static __always_inline void lw_here(struct lw_thread *thread, __u64 now)
{
	if (thread->now != LW_CLASS_CPU)
		lw_arrive(thread, thread->woken > thread->since ? thread->woken : now);
}

/* Secrets of this run, set by the loader. */
const volatile __u64 lw_keys[LW_NAME_SIZE / sizeof(__u64) + 1];

/*
 * Two global functions, as the verifier sees it: each is looked at once, for any arguments. Inlined, what follows a loop is looked at for every length that the loop leaves possible.
 *
 * Hash of TEXT with its terminator and the zeros behind it, eight bytes at a time; on the stack, where the compiler aligns it. NH of UMAC, twice: whoever does not know the keys cannot
 * make up two texts for which both are the same but by luck (2^-64), so that nothing else is compared.
 */
__noinline int lw_hash(const struct lw_event_name *name, __u32 length, struct lw_hash *out)
{
	if (!name || !out)
		return -1;
	const __u64 *words = (const __u64 *)name->text;
	__u64 one = length, other = length;
	for (__u32 i = 0; i < LW_NAME_SIZE / sizeof(*words) && i * sizeof(*words) <= length; i++) {
		__u64 word = words[i], key = lw_keys[i], next = lw_keys[i + 1];
		__u32 low = (__u32)word, high = word >> 32;
		one += (__u64)(low + (__u32)key) * (high + (__u32)(key >> 32));
		other += (__u64)(low + (__u32)next) * (high + (__u32)(next >> 32));
	}
	out->one = one;
	out->other = other;
	return 0;
}

/* A new number for EVENT's text, of which the reader is told. 0: no room. */
static __always_inline __u32 lw_new_number(struct lw_event_name *event, __u32 length)
{
	__u32 zero = 0;
	__u32 *last = bpf_map_lookup_elem(&last_name, &zero);
	if (!last || *last >= LW_NAMES) {
		lw_count(lost);
		return 0;
	}
	__u32 number = __sync_fetch_and_add(last, 1) + 1;
	event->head.kind = LW_EVENT_NAME;
	event->head.name = number;
	return lw_send(event, sizeof(event->head) + (length & (LW_NAME_SIZE - 1)) + 1) ? number : 0;
}

/*
 * Number of EVENT's text, whose bytes from the terminator on must be zero and LENGTH of which (without it) are used. New: the record is sent first, so the reader knows every number
 * before it is used. Two CPUs may do that at once: then one number goes unused. 0: no room. Head: pid, tid, ns and flags are the caller's.
 * What goes into the map is on the stack: what a global function is given may not, before Linux 6.2.
 */
__noinline __u32 lw_number(struct lw_event_name *event, __u32 length)
{
	struct lw_hash hash = {};
	if (!event || lw_hash(event, length, &hash))
		return 0;
	const __u32 *known = bpf_map_lookup_elem(&names, &hash);
	if (known)
		return *known;
	__u32 number = lw_new_number(event, length);
	if (number && bpf_map_update_elem(&names, &hash, &number, BPF_NOEXIST)) {
		known = bpf_map_lookup_elem(&names, &hash);
		if (known)
			return *known;
	}
	return number;
}

#endif
