/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * shared: maps that both objects use, and what both do with them: send a record, give a name its number.
 *
 * Programs at uprobes can be preempted by others of the same object on the same CPU: scratch space per CPU would be overwritten. So names are on the stack.
 */
#ifndef LW_BPF_SHARED_H
#define LW_BPF_SHARED_H

#include <linux/bpf.h>
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

/* By their hash: the kernel would hash and compare all 256 bytes of a text, of which 20 are used. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LW_NAMES);
	__type(key, __u64);
	__type(value, struct lw_event_name);
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

/*
 * Three global functions, as the verifier sees it: each is looked at once, for any arguments. Inlined, a loop is looked at for every length that the loop before it leaves possible.
 * Of TEXT with its terminator and the zeros behind it, eight bytes at a time; on the stack, where the compiler aligns it.
 */
__noinline __u64 lw_hash(const struct lw_event_name *name, __u32 length)
{
	if (!name)
		return 0;
	const __u64 *words = (const __u64 *)name->text;
	__u64 hash = length;
	for (__u32 i = 0; i < LW_NAME_SIZE / sizeof(*words) && i * sizeof(*words) <= length; i++) {
		hash = (hash ^ words[i]) * 0x9e3779b97f4a7c15;
		hash ^= hash >> 32;
	}
	return hash;
}

/* KNOWN's number, if it has the same text; 0 for another one with the same hash, which somebody would have to have made up. */
__noinline __u32 lw_number_of(const struct lw_event_name *known, const struct lw_event_name *event, __u32 length)
{
	if (!known || !event)
		return 0;
	const __u64 *ours = (const __u64 *)event->text, *theirs = (const __u64 *)known->text;
	for (__u32 i = 0; i < LW_NAME_SIZE / sizeof(*ours) && i * sizeof(*ours) <= length; i++) {
		if (ours[i] != theirs[i]) {
			lw_count(lost);
			return 0;
		}
	}
	return known->head.name;
}

/* A new number for EVENT's text, of which the reader is told. 0: no room. */
__noinline __u32 lw_new_number(struct lw_event_name *event, __u32 length)
{
	__u32 zero = 0;
	__u32 *last = bpf_map_lookup_elem(&last_name, &zero);
	if (!event || !last || *last >= LW_NAMES) {
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
 * Inlined: what a global function is given may not go into a map before Linux 6.2. EVENT is on the stack or in a map.
 */
static __always_inline __u32 lw_number(struct lw_event_name *event, __u32 length)
{
	__u64 hash = lw_hash(event, length);
	const struct lw_event_name *known = bpf_map_lookup_elem(&names, &hash);
	if (known)
		return lw_number_of(known, event, length);
	__u32 number = lw_new_number(event, length);
	if (number && bpf_map_update_elem(&names, &hash, event, BPF_NOEXIST)) {
		known = bpf_map_lookup_elem(&names, &hash);
		if (known)
			return lw_number_of(known, event, length);
	}
	return number;
}

#endif
