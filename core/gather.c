/* SPDX-License-Identifier: MIT */
/*
 * gather: see gather.h. Each source on its way is a small state machine with one op:
 *
 *     source   OPEN  STAT  READ ...  STAT_AGAIN  CLOSE
 *     .pyc     OPEN  STAT  READ ...              CLOSE
 *
 * (No further read says where a source ends: STAT_AGAIN would show that it has grown.) The window is a ring of them, [head, tail): the head is
 * delivered when it is done, whoever else is.
 *
 * Parked are those that wait for a descriptor (with none open themselves) or for memory (with theirs open). A descriptor that is closed lets one
 * go on, memory that is given back lets all go on for which there is enough. The head need not wait for memory; and when nothing is under way at all, one of
 * those for memory goes on all the same, since it holds a descriptor that others may want, or else one tries to open for the last time. So something always moves.
 */
#include "gather.h"
#include "hash.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WINDOW = 128, WINDOW_MAX = 4096 };
static const size_t MEMORY = (size_t)64 << 20;

enum phase { OPEN, STAT, READ, STAT_AGAIN, CLOSE, DONE };
enum parked { NOT, FOR_DESCRIPTOR, FOR_MEMORY };

struct item {
	struct lw_ioq_op op;
	struct statx statx;
	enum phase phase;
	enum parked parked;
	bool pyc;		/* it is about the .pyc now */
	bool last_try;		/* to open */
	/* Of the file that it is about. */
	const char *path;
	int fd;			/* -1: not open */
	int error;
	struct lw_stat stat;
	char *data;		/* stat.size + 1 bytes */
	size_t got;

	int64_t begun_ns;	/* before anything was looked at */
	struct lw_gather_result result;
	char *code;		/* the whole .pyc, if it is good */
	char pyc_path[PATH_MAX];
};

struct gather {
	const struct lw_gather_job *job;
	lw_ioq *queue;
	struct item *items;
	size_t head, tail;	/* numbers of sources */
	unsigned window, room;	/* room: of items; the window only gets smaller */
	unsigned open, parked;
	size_t held, bound;
	struct lw_gather_stats stats;
};

static struct item *item_at(const struct gather *g, size_t number)
{
	return &g->items[number % g->room];
}

/* Memory */

static size_t needed(const struct item *item)
{
	return (size_t)item->stat.size + 1;
}

static char *hold(struct gather *g, size_t size)
{
	char *data = malloc(size);
	if (!data)
		return NULL;
	g->held += size;
	if (g->held > g->stats.memory)
		g->stats.memory = g->held;
	return data;
}

static void give_back(struct gather *g, char **data, size_t size)
{
	if (!*data)
		return;
	free(*data);
	*data = NULL;
	g->held -= size;
}

/* Ops */

static void submit(struct gather *g, struct item *item, enum phase phase)
{
	item->phase = phase;
	item->op.data = item;
	lw_ioq_submit(g->queue, &item->op);
}

static void park(struct gather *g, struct item *item, enum parked parked)
{
	g->parked++;
	item->parked = parked;
}

static void unpark(struct gather *g, struct item *item)
{
	g->parked--;
	item->parked = NOT;
}

static void submit_open(struct gather *g, struct item *item)
{
	/* Not blocking: it may be a FIFO. */
	item->op = (struct lw_ioq_op){ .kind = LW_IOQ_OPENAT, .fd = AT_FDCWD, .path = item->path, .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK };
	submit(g, item, OPEN);
}

static void submit_stat(struct gather *g, struct item *item, enum phase phase)
{
	item->op = (struct lw_ioq_op){ .kind = LW_IOQ_STATX, .fd = item->fd, .path = "", .flags = AT_EMPTY_PATH, .mask = LW_STAT_MASK, .statx = &item->statx };
	submit(g, item, phase);
}

/* One byte more than expected tells a file that grew from one that did not. */
static void submit_read(struct gather *g, struct item *item)
{
	item->op = (struct lw_ioq_op){
		.kind = LW_IOQ_READ, .fd = item->fd, .buffer = item->data + item->got, .size = needed(item) - item->got, .offset = (int64_t)item->got,
	};
	submit(g, item, READ);
}

static void begin_file(struct gather *g, struct item *item, const char *path)
{
	item->path = path;
	item->fd = -1;
	item->error = 0;
	item->got = 0;
	item->last_try = false;
	submit_open(g, item);
}

/* The end of a file, good or bad */

static void begin_pyc(struct gather *g, struct item *item)
{
	item->pyc = true;
	item->result.error = g->job->pyc(g->job->arg, item->result.number, item->pyc_path, sizeof item->pyc_path);
	if (item->result.error)
		item->phase = DONE;
	else
		begin_file(g, item, item->pyc_path);
}

static void end_file(struct gather *g, struct item *item)
{
	item->phase = DONE;
	if (item->pyc)
		return;
	item->result.error = item->error;
	item->result.racy = !item->error && lw_stat_racy(&item->result.stat, item->begun_ns);
	if (!item->error && !item->result.racy)
		begin_pyc(g, item);
}

static void close_file(struct gather *g, struct item *item, int error)
{
	item->error = error;
	give_back(g, &item->data, needed(item));
	item->op = (struct lw_ioq_op){ .kind = LW_IOQ_CLOSE, .fd = item->fd };
	/* The queue closes it whatever happens. */
	item->fd = -1;
	submit(g, item, CLOSE);
}

/* What each op leads to */

static void begin_reading(struct gather *g, struct item *item, bool by_force)
{
	bool is_head = item->result.number == g->head;
	if (!by_force && !is_head && g->held && needed(item) > g->bound - (g->held < g->bound ? g->held : g->bound)) {
		park(g, item, FOR_MEMORY);
		return;
	}
	item->data = hold(g, needed(item));
	if (item->data)
		submit_read(g, item);
	else
		close_file(g, item, -ENOMEM);
}

static void opened(struct gather *g, struct item *item, int result)
{
	bool none_left = result == -EMFILE || result == -ENFILE;
	if (none_left && !item->last_try) {
		/* Those that are open now are what there is room for. */
		unsigned room = g->open ? g->open : 1;
		if (room < g->window)
			g->window = room;
		park(g, item, FOR_DESCRIPTOR);
		return;
	}
	if (result < 0) {
		item->error = result;
		end_file(g, item);
		return;
	}
	item->fd = result;
	if (++g->open > g->stats.descriptors)
		g->stats.descriptors = g->open;
	submit_stat(g, item, STAT);
}

static int check(const struct item *item)
{
	if (!S_ISREG(item->stat.mode) || (item->pyc && item->stat.size < LW_PYC_HEADER))
		return -EINVAL;
	return item->stat.size > LW_PYC_LIMIT ? -EFBIG : 0;
}

static void stated(struct gather *g, struct item *item, int error)
{
	if (!error) {
		lw_stat_of(&item->statx, &item->stat);
		error = check(item);
	}
	if (error)
		close_file(g, item, error);
	else
		begin_reading(g, item, false);
}

static void judge_pyc(struct gather *g, struct item *item)
{
	struct lw_gather_result *result = &item->result;
	result->verdict = lw_pyc_judge(item->data, item->got, &item->stat, g->job->magic, &result->stat);
	if (result->verdict == LW_PYC_GOOD) {
		/* Held until it is delivered. */
		item->code = item->data;
		item->data = NULL;
		result->code = item->code + LW_PYC_HEADER;
		result->code_size = item->got - LW_PYC_HEADER;
	}
	close_file(g, item, 0);
}

static void have_read(struct gather *g, struct item *item, int64_t result)
{
	if (result < 0) {
		close_file(g, item, (int)result);
		return;
	}
	item->got += (size_t)result;
	bool whole = item->got >= (item->pyc ? needed(item) : (size_t)item->stat.size);
	if (result && !whole)
		submit_read(g, item);
	else if (item->got != item->stat.size)
		close_file(g, item, -ESTALE);
	else if (item->pyc)
		judge_pyc(g, item);
	else
		submit_stat(g, item, STAT_AGAIN);
}

static void stated_again(struct gather *g, struct item *item, int error)
{
	struct lw_stat after;
	if (!error) {
		lw_stat_of(&item->statx, &after);
		/* An edit between stat and read would bind the new content to the old stamp, and to the code that goes with it. */
		error = lw_stamp(&after) == lw_stamp(&item->stat) ? 0 : -ESTALE;
	}
	if (!error) {
		item->result.stat = item->stat;
		item->result.content = lw_hash64(item->data, item->got);
	}
	close_file(g, item, error);
}

/* The oldest that is parked so, or NULL. */
static struct item *find_parked(const struct gather *g, enum parked parked)
{
	for (size_t i = g->head; g->parked && i < g->tail; i++)
		if (item_at(g, i)->parked == parked)
			return item_at(g, i);
	return NULL;
}

/* All that memory is there for now. */
static void resume(struct gather *g)
{
	for (size_t i = g->head; g->parked && i < g->tail; i++) {
		struct item *item = item_at(g, i);
		if (item->parked != FOR_MEMORY)
			continue;
		unpark(g, item);
		begin_reading(g, item, false);
		if (item->parked)
			return;
	}
}

static void closed(struct gather *g, struct item *item)
{
	g->open--;
	end_file(g, item);
	resume(g);
	struct item *waiting = find_parked(g, FOR_DESCRIPTOR);
	if (!waiting)
		return;
	unpark(g, waiting);
	submit_open(g, waiting);
}

static void go_on(struct gather *g, struct item *item)
{
	switch (item->phase) {
	case OPEN:
		opened(g, item, (int)item->op.result);
		break;
	case STAT:
		stated(g, item, (int)item->op.result);
		break;
	case READ:
		have_read(g, item, item->op.result);
		break;
	case STAT_AGAIN:
		stated_again(g, item, (int)item->op.result);
		break;
	case CLOSE:
		closed(g, item);
		break;
	case DONE:
		break;
	}
}

/* The window */

static void admit(struct gather *g)
{
	while (g->tail < g->job->count && g->tail - g->head < g->window) {
		struct item *item = item_at(g, g->tail);
		item->pyc = false;
		item->begun_ns = lw_now_ns();
		item->result = (struct lw_gather_result){ .number = g->tail, .verdict = LW_PYC_NONE };
		begin_file(g, item, g->job->source(g->job->arg, g->tail++));
	}
}

/* Nothing is under way: see above. */
static void force(struct gather *g)
{
	struct item *item = find_parked(g, FOR_MEMORY);
	if (item) {
		unpark(g, item);
		begin_reading(g, item, true);
		return;
	}
	item = find_parked(g, FOR_DESCRIPTOR);
	unpark(g, item);
	item->last_try = true;
	submit_open(g, item);
}

static int deliver(struct gather *g)
{
	int result = 0;
	bool any = false;
	while (g->head < g->tail && item_at(g, g->head)->phase == DONE && !result) {
		struct item *item = item_at(g, g->head);
		result = g->job->deliver(g->job->arg, &item->result);
		give_back(g, &item->code, needed(item));
		g->stats.delivered++;
		g->head++;
		any = true;
	}
	if (any && !result)
		resume(g);
	return result;
}

static int run(struct gather *g)
{
	int result = 0;
	while (!result && g->head < g->job->count) {
		admit(g);
		struct lw_ioq_op *op = lw_ioq_reap(g->queue, true);
		if (op)
			go_on(g, op->data);
		else
			force(g);
		result = deliver(g);
	}
	return result;
}

/* After the queue has ended: nobody uses it any more. */
static void abandon(struct item *item)
{
	if (item->fd >= 0)
		close(item->fd);
	free(item->data);
	free(item->code);
}

static void finish(struct gather *g)
{
	struct lw_ioq_stats stats;
	lw_ioq_stats(g->queue, &stats);
	g->stats.syscalls = stats.syscalls;
	g->stats.threads = stats.threads;
	g->stats.backend = stats.backend;
	g->stats.window = g->window;
	strncpy(g->stats.why, stats.why, sizeof g->stats.why - 1);
	lw_ioq_destroy(g->queue);
	for (size_t i = g->head; i < g->tail; i++)
		abandon(item_at(g, i));
}

int lw_gather(const struct lw_gather_job *job, struct lw_gather_stats *stats)
{
	const struct lw_ioq_config config = { .backend = job->backend, .threads = job->threads };
	struct gather g = { .job = job, .window = job->window ? job->window : WINDOW, .bound = job->memory ? job->memory : MEMORY };
	int64_t begun = lw_monotonic_ns();
	if (g.window > WINDOW_MAX)
		g.window = WINDOW_MAX;
	g.room = g.window;
	g.items = calloc(g.room, sizeof *g.items);
	int result = g.items ? lw_ioq_create(&config, &g.queue, g.stats.why) : -ENOMEM;
	if (!result) {
		result = run(&g);
		finish(&g);
	}
	free(g.items);
	g.stats.wall_ns = lw_monotonic_ns() - begun;
	*stats = g.stats;
	return result;
}
