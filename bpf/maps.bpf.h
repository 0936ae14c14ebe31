/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * maps: what both BPF objects have in common: maps (shared.h says what is in them), numbers for names, and sending.
 *
 * Programs at uprobes can be preempted, also by another of theirs on the same CPU: there are no per-CPU buffers, and counters are added to atomically.
 */
#ifndef LW_BPF_MAPS_H
#define LW_BPF_MAPS_H

#include "shared.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LW_LAYOUTS);
	__type(key, __u32);
	__type(value, struct lw_layout);
} layouts SEC(".maps");

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
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LW_NAMES);
	__type(key, char[LW_NAME_SIZE]);
	__type(value, __u32);
} names SEC(".maps");

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
	__type(value, struct lw_tally);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);	/* capture says how much */
} ring SEC(".maps");

const volatile struct lw_setting setting = {};

#define lw_add(where, what) ((void)__sync_fetch_and_add(&(where), (what)))

static __always_inline struct lw_tally *lw_tally(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&counts, &zero);
}

/* Readers are woken for 256 KiB, not for each event: waking costs 10 us. */
static __always_inline int lw_send(void *record, __u64 size, __u64 flags)
{
	struct lw_tally *tally = lw_tally();
	if (!flags)
		flags = bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) >= LW_WAKE_BYTES ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
	int result = bpf_ringbuf_output(&ring, record, size, flags);
	if (tally && result)
		lw_add(tally->lost, 1);
	else if (tally)
		lw_add(tally->events, 1);
	return result;
}

/**
 * Number of the name in RECORD's text, which is LENGTH bytes long and zero from there to the end; 0: there is none left, or no room to tell it.
 * Its head is filled in here. The name is told before anybody can find its number.
 */
static __always_inline __u32 lw_intern(struct lw_event_name *record, __u32 length, __u32 pid, __u32 tid)
{
	struct lw_tally *tally = lw_tally();
	__u32 *known = bpf_map_lookup_elem(&names, record->text), zero = 0;
	if (known)
		return *known;
	__u32 *last = bpf_map_lookup_elem(&last_name, &zero);
	if (!last || !tally)
		return 0;
	if (*last >= LW_NAMES) {
		lw_add(tally->lost, 1);
		return 0;
	}
	__u32 number = __sync_fetch_and_add(last, 1) + 1;
	record->head.kind = LW_EVENT_NAME;
	record->head.pid = pid;
	record->head.tid = tid;
	record->head.name = number;
	record->head.ns = bpf_ktime_get_ns();
	if (length >= LW_NAME_SIZE)
		length = LW_NAME_SIZE - 1;
	if (lw_send(record, sizeof(record->head) + length + 1, 0))
		return 0;
	if (bpf_map_update_elem(&names, record->text, &number, BPF_NOEXIST) == 0)
		return number;
	/* Another CPU was faster, and has told its own number. */
	known = bpf_map_lookup_elem(&names, record->text);
	return known ? *known : 0;
}

#endif
