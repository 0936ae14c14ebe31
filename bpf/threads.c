/* SPDX-License-Identifier: MIT */
/* threads: processes and threads of a model: see model_private.h. */
#include "model_private.h"

#include <stdlib.h>

static struct process **process_bucket(const lw_model *model, uint32_t pid)
{
	return (struct process **)&model->process[pid % PROCESS_BUCKETS];
}

static struct thread **thread_bucket(const lw_model *model, uint32_t tid)
{
	return (struct thread **)&model->thread[tid % THREAD_BUCKETS];
}

struct process *lw_process_find(const lw_model *model, uint32_t pid)
{
	struct process *process = *process_bucket(model, pid);
	while (process && process->pid != pid)
		process = process->next;
	return process;
}

struct thread *lw_thread_find(const lw_model *model, uint32_t tid)
{
	struct thread *thread = *thread_bucket(model, tid);
	while (thread && thread->tid != tid)
		thread = thread->next;
	return thread;
}

static struct process *process_enter(lw_model *model, uint32_t pid)
{
	struct process *process = lw_process_find(model, pid);
	if (process)
		return process;
	process = calloc(1, sizeof(*process));
	if (!process)
		return NULL;
	process->pid = pid;
	process->next = *process_bucket(model, pid);
	*process_bucket(model, pid) = process;
	TELL(model, process, pid, true);
	return process;
}

struct thread *lw_thread_enter(lw_model *model, uint32_t pid, uint32_t tid, uint64_t ns)
{
	struct thread *thread = lw_thread_find(model, tid);
	if (thread && thread->pid == pid)
		return thread;
	/* The number is used again, and nobody has said that the thread ended. */
	if (thread)
		lw_thread_leave(model, thread, ns);
	struct process *process = process_enter(model, pid);
	thread = process ? calloc(1, sizeof(*thread)) : NULL;
	if (!thread)
		return NULL;
	*thread = (struct thread){ .next = *thread_bucket(model, tid), .after = process->threads, .process = process, .pid = pid, .tid = tid };
	*thread_bucket(model, tid) = thread;
	if (process->threads)
		process->threads->before = thread;
	process->threads = thread;
	return thread;
}

void lw_thread_leave(lw_model *model, struct thread *thread, uint64_t ns)
{
	lw_model_cut(model, thread, ns);
	if (thread->before)
		thread->before->after = thread->after;
	else
		thread->process->threads = thread->after;
	if (thread->after)
		thread->after->before = thread->before;
	struct thread **at = thread_bucket(model, thread->tid);
	while (*at != thread)
		at = &(*at)->next;
	*at = thread->next;
	free(thread);
}

void lw_process_leave(lw_model *model, struct process *process, uint64_t ns)
{
	while (process->threads)
		lw_thread_leave(model, process->threads, ns);
	struct process **at = process_bucket(model, process->pid);
	while (*at != process)
		at = &(*at)->next;
	*at = process->next;
	TELL(model, process, process->pid, false);
	free(process);
}

void lw_threads_free(lw_model *model)
{
	for (unsigned i = 0; i < THREAD_BUCKETS; i++)
		for (struct thread *thread = model->thread[i], *next; thread; thread = next) {
			next = thread->next;
			free(thread);
		}
	for (unsigned i = 0; i < PROCESS_BUCKETS; i++)
		for (struct process *process = model->process[i], *next; process; process = next) {
			next = process->next;
			free(process);
		}
}
