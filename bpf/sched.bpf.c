/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * sched: what threads of followed processes spend their time on while one of them imports, from the scheduler's tracepoints. Needs BTF of the kernel (5.15); the few kernel structures
 * are declared here and found by name (CO-RE), so that nothing is generated from one kernel.
 *
 *     a thread leaves its CPU       what it did until now was CPU; what comes now is told by its state, its system call and, on a futex, its Python frames
 *     it is woken                   from here on it is ready
 *     it gets a CPU                 blocked until it was woken, then ready: onto its clock; a lock's wait is sent
 *
 * Threads get an entry when they leave their CPU while their process has an active import, and lose it when there is none any more. All others cost two lookups.
 */
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "shared.bpf.h"

#define LW_PEEK(reader, to, size, from) ((void)(reader), bpf_probe_read_user(to, size, (const void *)(from)))
#define LW_PEEK_TEXT(reader, to, size, from) ((void)(reader), bpf_probe_read_user_str(to, size, (const void *)(from)))
/* bpf_loop() is verified once, whatever the number of rounds, but not there before 5.17: then there are few. */
#define LW_LOOP(times, step, context)                                                  \
	do {                                                                           \
		if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_loop))       \
			bpf_loop(times, step, context, 0);                             \
		else                                                                   \
			for (__u32 round = 0; round < FEW && round < (times); round++) \
				if (step(round, context))                              \
					break;                                         \
	} while (0)
enum { FEW = 64 };
#include "walk.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

enum {
	NAMESPACES = 8,		/* depth of nested PID namespaces; the kernel's own limit is 32 */
	KERNEL_THREAD = 0x200000,	/* PF_KTHREAD */
	EXITING = 4,		/* PF_EXITING */
	UNINTERRUPTIBLE = 2,	/* TASK_UNINTERRUPTIBLE */
	PATIENCE = 4,		/* searches in vain, after which a thread is searched for at every 16th wait only */
};

/*
 * For so long after the last import that was seen, waits are still looked into: the outermost importlib.import_module() passes no probe, but modules import others when they begin, and
 * the threads of a start-up have all imported something a moment ago.
 */
#define AFTERWARDS_NS 1000000000ULL

/* Set before this is loaded. */
const volatile __u64 pidns_ino;			/* the loader's PID namespace; 0: the initial one */
const volatile bool state_is_argument;		/* sched_switch says what state the thread leaves in (5.18); else it is read, which may be too late */

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct lw_event_name);
} scratch SEC(".maps");

/* --- what of the kernel is needed --- */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
	unsigned int inum;
};

struct pid_namespace {
	struct ns_common ns;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct upid numbers[];
};

typedef struct {
	int counter;
} atomic_t;

struct signal_struct {
	atomic_t live;
};

struct thread_struct {
	unsigned long fsbase;
};

struct task_struct {
	unsigned int flags;
	unsigned int __state;
	int pid, tgid;
	unsigned int in_iowait : 1;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	struct signal_struct *signal;
	struct thread_struct thread;
};

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long di, orig_ax;
};
#define REGS_SYSCALL(regs) ((regs)->orig_ax)
#define REGS_FIRST(regs) ((regs)->di)
enum { SYSCALL_FUTEX = 202, SYSCALL_CLONE = 56, SYSCALL_VFORK = 58, SYSCALL_CLONE3 = 435 };
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
	__u64 orig_x0;
	int syscallno;
};
#define REGS_SYSCALL(regs) ((__u64)(__s64)(regs)->syscallno)
#define REGS_FIRST(regs) ((regs)->orig_x0)
enum { SYSCALL_FUTEX = 98, SYSCALL_CLONE = 220, SYSCALL_VFORK = -2, SYSCALL_CLONE3 = 435 };
#else
#error "x86-64 and aarch64"
#endif

#pragma clang attribute pop

/* --- who --- */

/* Number of PID's process or thread here; 0: it has none. */
static __always_inline __u32 number_in(const struct pid *pid, bool own)
{
	__u32 level = BPF_CORE_READ(pid, level), number = 0;
	for (__u32 i = 0; i < NAMESPACES && i <= level; i++) {
		struct upid entry = {};
		const void *at = (const char *)pid + bpf_core_field_offset(struct pid, numbers) + i * bpf_core_type_size(struct upid);
		bpf_core_read(&entry.nr, sizeof(entry.nr), at + bpf_core_field_offset(struct upid, nr));
		bpf_core_read(&entry.ns, sizeof(entry.ns), at + bpf_core_field_offset(struct upid, ns));
		number = own || BPF_CORE_READ(entry.ns, ns.inum) == pidns_ino ? (__u32)entry.nr : number;
	}
	return number;
}

/*
 * The task that runs a program is known to the verifier, with its type: its members are loaded. Of any other one, which is an argument, memory is read: programs whose arguments had
 * types (tp_btf) would have the loader read all of the kernel's BTF to find them.
 */
static __always_inline struct task_struct *current_task(void)
{
	return (struct task_struct *)bpf_get_current_task_btf();
}

static __always_inline __u32 process_number(const struct task_struct *task)
{
	return pidns_ino ? number_in(task->group_leader->thread_pid, false) : (__u32)task->tgid;
}

static __always_inline __u32 thread_number(const struct task_struct *task)
{
	return pidns_ino ? number_in(task->thread_pid, false) : (__u32)task->pid;
}

static __always_inline struct lw_thread *thread_of(const struct task_struct *task)
{
	__u32 key = (__u32)BPF_CORE_READ(task, pid);
	return bpf_map_lookup_elem(&threads, &key);
}

static __always_inline struct lw_process *followed(__u32 pid)
{
	struct lw_process *process = pid ? bpf_map_lookup_elem(&processes, &pid) : NULL;
	return process && process->attention != LW_LEFT_ALONE ? process : NULL;
}

/* --- what for --- */

/* A thread as the walk knows it. On x86 pthread_self() is what the segment register says; that stays true after a fork(), and in every namespace. */
static __always_inline bool is_current(const struct lw_layout *layout, __u64 tstate, __u64 self, __u64 native)
{
	return tstate && lw_walk_is_thread(NULL, layout, tstate, self, native);
}

static __noinline __u64 search(const struct lw_layout *layout, __u64 runtime, __u64 self, __u64 native)
{
	return layout ? lw_walk_thread(NULL, layout, runtime, self, native) : 0;
}

/* The thread state of TASK, which is the current one. 0: it has none, or it was not found. */
static __always_inline __u64 thread_state(struct task_struct *task, struct lw_thread *thread, const struct lw_layout *layout, __u64 runtime)
{
#if defined(__TARGET_ARCH_x86)
	__u64 self = task->thread.fsbase, native = 0;
#else
	__u64 self = 0, native = number_in(task->thread_pid, true);
#endif
	if (is_current(layout, thread->tstate, self, native))
		return thread->tstate;
	thread->tstate = 0;
	if (thread->misses >= PATIENCE && (thread->misses++ & 15))
		return 0;
	thread->tstate = search(layout, runtime, self, native);
	if (thread->tstate)
		thread->misses = 0;
	else if (thread->misses < PATIENCE)
		thread->misses++;
	return thread->tstate;
}

/* Number of the name at OBJECT, a str. The scheduler does not switch while it switches: one record per CPU is enough. */
static __noinline __u32 name_of(const struct lw_layout *layout, __u64 object, const struct lw_thread *thread, __u64 now)
{
	__u32 zero = 0;
	struct lw_event_name *record = bpf_map_lookup_elem(&scratch, &zero);
	if (!layout || !thread || !record)
		return 0;
	__builtin_memset(record, 0, sizeof(*record));
	record->head.pid = thread->pid;
	record->head.tid = thread->tid;
	record->head.source = LW_SOURCE_SCHED;
	record->head.ns = now;
	__u32 length = lw_walk_name(NULL, layout, object, record->text);
	if (!length)
		return 0;
	if (length >= LW_NAME_SIZE - 4)
		record->head.flags = LW_EVENT_CUT;
	return lw_number(record, length);
}

/* Whether TASK, the current one, is in futex(2): else it was only interrupted by what wakes the other, a timer mostly. */
static __always_inline bool in_futex(struct task_struct *task)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	return REGS_SYSCALL(regs) == SYSCALL_FUTEX;
}

/* Whether a futex at ADDRESS is the GIL's. */
static __always_inline bool is_gil(const struct lw_process *process, const struct lw_layout *layout, __u64 address)
{
	return layout && process->runtime && address - process->runtime < layout->runtime_size;
}

/* Whether TASK, the current one, blocks on a lock that may be an import's. */
static __always_inline bool on_lock(struct task_struct *task, const struct lw_process *process)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	__u32 index = process->layout;
	return in_futex(task) && !is_gil(process, bpf_map_lookup_elem(&layouts, &index), REGS_FIRST(regs));
}

/* TASK, the current one, blocks on a futex at ADDRESS. */
static __always_inline __u32 lock_class(struct task_struct *task, struct lw_thread *thread, const struct lw_process *process, __u64 address, __u64 now)
{
	__u32 index = process->layout;
	const struct lw_layout *layout = bpf_map_lookup_elem(&layouts, &index);
	if (is_gil(process, layout, address))
		return LW_CLASS_GIL;
	if (thread->waiting) {
		thread->name = thread->waiting;
		return LW_CLASS_MODULE;
	}
	if (!layout || !process->runtime || !layout->version)
		return LW_CLASS_FUTEX;
	__u64 tstate = thread_state(task, thread, layout, process->runtime);
	struct lw_spot spot = {};
	if (!tstate || lw_walk_frames(NULL, layout, tstate, &spot))
		return LW_CLASS_FUTEX;
	if (spot.name)
		thread->name = name_of(layout, spot.name, thread, now);
	return spot.class;
}

/* What TASK, the current one, does from here on, having left its CPU in STATE. */
static __always_inline __u32 class_of(struct task_struct *task, struct lw_thread *thread, const struct lw_process *process, __u32 state, __u64 now)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	__u64 syscall = REGS_SYSCALL(regs);
	if (BPF_CORE_READ_BITFIELD_PROBED(task, in_iowait))
		return LW_CLASS_DISK;
	/* vfork() waits for the child like others for a disk. */
	if (state & UNINTERRUPTIBLE)
		return syscall == SYSCALL_VFORK || syscall == SYSCALL_CLONE || syscall == SYSCALL_CLONE3 ? LW_CLASS_SLEEP : LW_CLASS_DISK;
	if (syscall == SYSCALL_FUTEX)
		return lock_class(task, thread, process, REGS_FIRST(regs), now);
	return LW_CLASS_SLEEP;
}

_Static_assert((LW_CLASSES & (LW_CLASSES - 1)) == 0, "a mask bounds them");

/* --- the scheduler --- */

/* TASK is seen for the first time. */
static __always_inline struct lw_thread *enter(const struct task_struct *task, __u32 pid, __u64 now)
{
	__u32 key = (__u32)task->pid;
	struct lw_thread entry = { .since = now, .pid = pid, .tid = thread_number(task) };
	if (bpf_map_update_elem(&threads, &key, &entry, BPF_NOEXIST))
		lw_count(lost);
	return bpf_map_lookup_elem(&threads, &key);
}

/* TASK, the current one, leaves its CPU; READY: it would rather not. */
static __always_inline void leave(struct task_struct *task, bool ready, __u32 state, __u64 now)
{
	if (task->flags & KERNEL_THREAD)
		return;
	__u32 key = (__u32)task->pid;
	struct lw_thread *thread = bpf_map_lookup_elem(&threads, &key);
	__u32 pid = thread ? thread->pid : process_number(task);
	const struct lw_process *process = followed(pid);
	bool open = process && (process->active || (thread && thread->open));
	if (!process || (!open && now > process->recent + AFTERWARDS_NS)) {
		if (thread)
			bpf_map_delete_elem(&threads, &key);
		return;
	}
	/* Without an import that is seen, only waits for one that is not are of interest. */
	if (!open && (ready || !on_lock(task, process)))
		return;
	/* A thread that ends leaves its CPU once more after lw_exit(). */
	if (!thread && ((task->flags & EXITING) || !(thread = enter(task, pid, now))))
		return;
	lw_count(switches);
	lw_here(thread, now);
	if (now > thread->since)
		thread->clock.ns[LW_CLASS_CPU] += now - thread->since;
	thread->since = now;
	thread->name = thread->waker = 0;
	thread->now = ready ? LW_CLASS_QUEUE : (__u8)class_of(task, thread, process, state, now);
	if (!open && thread->now == LW_CLASS_FUTEX)
		thread->now = LW_CLASS_SLEEP;
	thread->woken = 0;
}

/* TASK gets a CPU. */
static __always_inline void arrive(const struct task_struct *task, __u64 now)
{
	struct lw_thread *thread = thread_of(task);
	if (thread)
		lw_arrive(thread, now);
}

SEC("raw_tp/sched_switch")
int lw_switch(struct bpf_raw_tracepoint_args *context)
{
	struct task_struct *previous = current_task();
	__u32 state = state_is_argument ? (__u32)context->args[3] : previous->__state;
	__u64 now = bpf_ktime_get_ns();
	leave(previous, (context->args[0] & 1) || !state, state, now);
	arrive((const struct task_struct *)context->args[2], now);
	return 0;
}

SEC("raw_tp/sched_waking")
int lw_waking(struct bpf_raw_tracepoint_args *context)
{
	const struct task_struct *task = (const struct task_struct *)context->args[0];
	struct lw_thread *thread = thread_of(task);
	if (!thread || thread->now <= LW_CLASS_QUEUE || thread->woken)
		return 0;
	struct task_struct *waker = current_task();
	if (waker->tgid == BPF_CORE_READ(task, tgid) && in_futex(waker))
		thread->waker = thread_number(waker);
	thread->woken = bpf_ktime_get_ns();
	return 0;
}

/* --- processes --- */

/* Of processes at once, of threads when there is more to tell. */
static __always_inline void tell_of(__u8 kind, __u32 pid, __u32 tid, __u32 name)
{
	struct lw_event_head record = { .kind = kind, .source = LW_SOURCE_SCHED, .pid = pid, .tid = tid, .name = name, .ns = bpf_ktime_get_ns() };
	lw_send_flags(&record, sizeof(record), kind != LW_EVENT_EXIT || tid == pid ? BPF_RB_FORCE_WAKEUP : lw_wakeup());
}

/* What threads had open when they ended will not be closed. */
static __always_inline void close_spans(struct lw_process *process, const struct lw_thread *thread)
{
	if (process->active >= thread->open)
		__sync_fetch_and_add(&process->active, -thread->open);
}

/*
 * The last of a process's threads to end is the process; the first one, if it ends before, is not told of. The process loses its entry here, also if it is left alone: its number will be
 * another's.
 */
SEC("raw_tp/sched_process_exit")
int lw_exit(struct bpf_raw_tracepoint_args *context)
{
	const struct task_struct *task = current_task();
	__u32 key = (__u32)task->pid, pid = process_number(task);
	struct lw_thread *thread = bpf_map_lookup_elem(&threads, &key);
	struct lw_process *process = pid ? bpf_map_lookup_elem(&processes, &pid) : NULL;
	if (thread) {
		if (process)
			close_spans(process, thread);
		bpf_map_delete_elem(&threads, &key);
	}
	if (!process)
		return 0;
	__u32 tid = thread_number(task);
	bool last = task->signal->live.counter == 0, told = process->attention != LW_LEFT_ALONE;
	if (told && tid != pid)
		tell_of(LW_EVENT_EXIT, pid, tid, 0);
	if (told && last)
		tell_of(LW_EVENT_EXIT, pid, pid, 0);
	if (last)
		bpf_map_delete_elem(&processes, &pid);
	return 0;
}

/* Nothing of the old program is left: no spans, no other threads, no interpreter. */
SEC("raw_tp/sched_process_exec")
int lw_exec(struct bpf_raw_tracepoint_args *context)
{
	const struct task_struct *task = current_task();
	__u32 key = (__u32)task->pid, before = (__u32)context->args[1], pid = process_number(task);
	struct lw_process *process = followed(pid);
	if (!process)
		return 0;
	bpf_map_delete_elem(&threads, &key);
	if (before != key)
		bpf_map_delete_elem(&threads, &before);
	process->active = 0;
	process->runtime = 0;
	process->layout = LW_LAYOUTS;
	tell_of(LW_EVENT_EXEC, pid, pid, 0);
	return 0;
}

/* A child goes on where its parent was, with the spans of the thread that forked. The loader decides whether it counts. */
SEC("raw_tp/sched_process_fork")
int lw_fork(struct bpf_raw_tracepoint_args *context)
{
	const struct task_struct *parent = current_task(), *child = (const struct task_struct *)context->args[1];
	__u32 key = (__u32)BPF_CORE_READ(child, pid);
	if (key != (__u32)BPF_CORE_READ(child, tgid))
		return 0;
	__u32 pid = process_number(parent), born = pidns_ino ? number_in(BPF_CORE_READ(child, thread_pid), false) : key;
	const struct lw_process *process = followed(pid);
	if (!process || !born)
		return 0;
	const struct lw_thread *thread = thread_of(parent);
	struct lw_process entry = { .attention = LW_ASKED, .layout = process->layout, .runtime = process->runtime, .active = thread ? thread->open : 0 };
	bpf_map_update_elem(&processes, &born, &entry, BPF_NOEXIST);
	if (thread && thread->open) {
		struct lw_thread begun = { .since = bpf_ktime_get_ns(), .now = LW_CLASS_QUEUE, .pid = born, .tid = born, .open = thread->open, .tstate = thread->tstate };
		bpf_map_update_elem(&threads, &key, &begun, BPF_ANY);
	}
	tell_of(LW_EVENT_FORK, pid, thread_number(parent), born);
	return 0;
}
