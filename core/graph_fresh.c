/* SPDX-License-Identifier: MIT */
/*
 * graph_fresh: see graph_fresh.h. A piece of work is a run of directories; the first difference ends it all.
 */
#include "crew.h"
#include "graph_fresh.h"
#include "index.h"
#include "stamp.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RUN = 256, CHANGED = 1 };	/* a run ends with the directory in which so many calls have been made */

struct run {
	uint32_t from, to;
};

struct question {
	const lw_graph *graph;
	const bool *asked;	/* of each source; NULL: all */
	const struct lw_graph_dir *dir;
	const struct lw_graph_source *source;
	bool *told;	/* of each directory, that nothing in it has changed; NULL: of none */
};

static bool is_unchanged(int fd, const char *path, uint64_t stamp)
{
	struct lw_stat st;
	return stamp && !(path ? lw_stat_at(fd, path, &st) : lw_stat_fd(fd, &st)) && lw_stamp(&st) == stamp;
}

static bool source_unchanged(const lw_graph *graph, int fd, const struct lw_graph_source *source)
{
	char name[UINT8_MAX + 4];
	memcpy(name, lw_graph_string(graph, source->name), source->name_len);
	strcpy(name + source->name_len, ".py");
	return is_unchanged(fd, name, source->stamp);
}

static bool is_asked(const struct question *q, uint32_t source)
{
	return !q->asked || q->asked[source];
}

/* How many of its sources are to be compared. */
static uint32_t asked_of(const struct question *q, const struct lw_graph_dir *dir)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < dir->count; i++)
		count += is_asked(q, dir->sources + i);
	return count;
}

static bool dir_unchanged(const struct question *q, const struct lw_graph_dir *dir)
{
	const char *path = lw_graph_string(q->graph, dir->path);
	if (!asked_of(q, dir))
		return is_unchanged(AT_FDCWD, path, dir->stamp);
	int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return false;
	bool same = is_unchanged(fd, NULL, dir->stamp);
	for (uint32_t i = dir->sources; same && i < dir->sources + dir->count; i++)
		same = !is_asked(q, i) || source_unchanged(q->graph, fd, &q->source[i]);
	close(fd);
	return same;
}

/* By whoever looks after it. False: it must be compared. */
static bool dir_told(const struct question *q, lw_fresh *fresh, const struct lw_graph_dir *dir)
{
	char path[PATH_MAX + UINT8_MAX + 8];
	struct lw_index_dir found;
	size_t len = dir->path_len;
	if (len > PATH_MAX || !dir->stamp || !lw_fresh_dir(fresh, lw_graph_string(q->graph, dir->path), len, &found) || found.record->stamp != dir->stamp)
		return false;
	memcpy(path, lw_graph_string(q->graph, dir->path), len);
	path[len++] = '/';
	for (uint32_t i = dir->sources; i < dir->sources + dir->count; i++) {
		if (!is_asked(q, i))
			continue;
		const struct lw_graph_source *source = &q->source[i];
		const struct lw_entry *entry;
		const char *name = lw_graph_string(q->graph, source->name);
		memcpy(path + len, name, source->name_len);
		strcpy(path + len + source->name_len, ".py");
		if (lw_index_dir_find(&found, name, source->name_len, &entry) != LW_OK || !source->stamp)
			return false;
		if (lw_fresh_file(fresh, path, len + source->name_len + 3, &found, entry) != source->stamp)
			return false;
	}
	return true;
}

static int visit(void *arg, struct lw_crew_worker *worker, void *piece)
{
	const struct question *q = arg;
	const struct run *run = piece;
	for (uint32_t i = run->from; i < run->to; i++) {
		if (lw_crew_stopped(worker))
			return 0;
		if (!(q->told && q->told[i]) && !dir_unchanged(q, &q->dir[i]))
			return CHANGED;
		worker->calls += asked_of(q, &q->dir[i]) + 1;
	}
	return 0;
}

static void *enter(void *arg, struct lw_crew_worker *worker)
{
	return arg;
}

static void leave(void *arg, struct lw_crew_worker *worker)
{
}

static void ask(const lw_graph *graph, uint32_t node, bool *asked)
{
	const struct lw_graph_node *nodes;
	lw_graph_nodes(graph, &nodes);
	if (nodes[node].source != LW_GRAPH_NONE)
		asked[nodes[node].source] = true;
}

int lw_graph_rests_on(const lw_graph *graph, uint32_t node, unsigned kinds, bool *asked)
{
	const struct lw_graph_node *nodes;
	const struct lw_graph_edge *edge;
	uint32_t count = lw_graph_nodes(graph, &nodes), edges = lw_graph_edges(graph, node, false, &edge);
	uint32_t *via = malloc(((size_t)count + 1) * 2 * sizeof(*via));
	if (!via)
		return -ENOMEM;
	uint32_t *order = via + count;
	ask(graph, node, asked);
	for (uint32_t i = 0; i < edges; i++)
		ask(graph, edge[i].node, asked);
	uint32_t found = kinds ? lw_graph_reach(graph, node, false, kinds, via, order) : 0;
	for (uint32_t i = 0; i < found; i++)
		ask(graph, order[i], asked);
	free(via);
	return 0;
}

int lw_graph_fresh(const lw_graph *graph, const bool *asked, lw_fresh *fresh, unsigned threads)
{
	struct question q = { .graph = graph, .asked = asked };
	uint32_t count = lw_graph_dirs(graph, &q.dir), runs = 0;
	lw_graph_sources(graph, &q.source);
	struct run *run = malloc((count + 1) * sizeof(*run));
	void **piece = malloc((count + 1) * sizeof(*piece));
	int result = run && piece ? 0 : -ENOMEM;
	q.told = fresh ? calloc(count + 1, sizeof(*q.told)) : NULL;
	for (uint32_t i = 0; q.told && i < count; i++)
		q.told[i] = dir_told(&q, fresh, &q.dir[i]);
	for (uint32_t from = 0, at = 0, calls = 0; !result && at < count; at++) {
		calls += q.told && q.told[at] ? 0 : asked_of(&q, &q.dir[at]) + 1;
		if (calls < RUN && at + 1 < count)
			continue;
		run[runs] = (struct run){ from, at + 1 };
		piece[runs] = &run[runs];
		runs++;
		from = at + 1;
		calls = 0;
	}
	const struct lw_crew_job job = { .arg = &q, .threads = runs < 2 ? 1 : threads, .enter = enter, .visit = visit, .leave = leave };
	unsigned used;
	if (!result)
		result = lw_crew_run(&job, piece, runs, &used);
	free(q.told);
	free(run);
	free(piece);
	return result < 0 ? result : !result;
}
