/* SPDX-License-Identifier: MIT */
/*
 * graph: reading and questions. What a section must be to be used is in the check_ functions; nothing else looks at offsets.
 */
#include "graph.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct lw_graph {
	int fd;				/* -1: it is all in memory */
	dev_t dev;			/* of the file: descriptors are closed behind our back (daemons), and their numbers used for something else */
	ino_t ino;
	char *memory;
	struct lw_graph_head head;
	bool damaged;
	void *section[LW_GRAPH_SECTIONS];	/* NULL: not loaded */
};

static const uint32_t record_size[LW_GRAPH_SECTIONS] = {
	1, sizeof(struct lw_graph_dir), sizeof(struct lw_graph_source), sizeof(struct lw_graph_node), sizeof(struct lw_graph_edge), sizeof(struct lw_graph_edge), 1,
};

_Static_assert(sizeof(struct lw_graph_dir) == 32 && sizeof(struct lw_graph_source) == 32 && sizeof(struct lw_graph_node) == 32 && sizeof(struct lw_graph_edge) == 12,
	"they are written as they lie in memory");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the file is little-endian");

struct lw_hash128 lw_graph_key(const char *const *roots, unsigned count)
{
	struct lw_hash128 key = { LW_GRAPH_FORMAT, count };
	for (unsigned i = 0; i < count; i++) {
		struct lw_hash128 root = lw_hash128(roots[i], strlen(roots[i]));
		const uint64_t both[] = { key.hi, key.lo, root.hi, root.lo };
		key = lw_hash128(both, sizeof(both));
	}
	return key;
}

/* ---- opening ---- */

static int check_head(const struct lw_graph_head *head, uint64_t size, struct lw_hash128 roots)
{
	if (memcmp(head->magic, LW_GRAPH_MAGIC, sizeof(head->magic)))
		return -EBADMSG;
	if (head->format != LW_GRAPH_FORMAT || head->head_size != sizeof(*head))
		return -EPROTO;
	if (head->head_hash != lw_hash64(head, offsetof(struct lw_graph_head, head_hash)) || head->file_size != size)
		return -EBADMSG;
	uint64_t end = sizeof(*head);
	for (unsigned i = 0; i < LW_GRAPH_SECTIONS; i++) {
		uint64_t at = head->section[i].offset, len = head->section[i].size;
		if (at != (end + 7) / 8 * 8 || at > size || len > size - at || len % record_size[i] || len / record_size[i] >= LW_GRAPH_NONE)
			return -EBADMSG;
		end = at + len;
	}
	if (end != size)
		return -EBADMSG;
	return lw_hash128_cmp(head->roots, roots) ? -ESTALE : 0;
}

static int read_all(int fd, void *data, size_t size, uint64_t at)
{
	for (size_t done = 0; done < size; ) {
		ssize_t got = pread(fd, (char *)data + done, size - done, (off_t)(at + done));
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -EBADMSG;
		done += (size_t)got;
	}
	return 0;
}

static bool is_ours(const lw_graph *graph)
{
	struct stat st;
	return !fstat(graph->fd, &st) && st.st_dev == graph->dev && st.st_ino == graph->ino;
}

static int open_either(lw_graph *graph, uint64_t size, struct lw_hash128 roots, lw_graph **out)
{
	int error = size < sizeof(graph->head) ? -EBADMSG : 0;
	if (!error && graph->memory)
		memcpy(&graph->head, graph->memory, sizeof(graph->head));
	else if (!error)
		error = read_all(graph->fd, &graph->head, sizeof(graph->head), 0);
	if (!error)
		error = check_head(&graph->head, size, roots);
	if (error)
		lw_graph_close(graph);
	else
		*out = graph;
	return error;
}

int lw_graph_open(int fd, struct lw_hash128 roots, lw_graph **out)
{
	struct stat st;
	lw_graph *graph = calloc(1, sizeof(*graph));
	*out = NULL;
	if (!graph || fstat(fd, &st)) {
		int error = graph ? -errno : -ENOMEM;
		close(fd);
		free(graph);
		return error;
	}
	graph->fd = fd;
	graph->dev = st.st_dev;
	graph->ino = st.st_ino;
	return open_either(graph, S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0, roots, out);
}

int lw_graph_open_memory(void *data, size_t size, struct lw_hash128 roots, lw_graph **out)
{
	lw_graph *graph = calloc(1, sizeof(*graph));
	*out = NULL;
	if (!graph) {
		free(data);
		return -ENOMEM;
	}
	graph->fd = -1;
	graph->memory = data;
	return open_either(graph, size, roots, out);
}

void lw_graph_close(lw_graph *graph)
{
	if (!graph)
		return;
	if (graph->fd >= 0 && is_ours(graph))
		close(graph->fd);
	for (unsigned i = 0; !graph->memory && i < LW_GRAPH_SECTIONS; i++)
		free(graph->section[i]);
	free(graph->memory);
	free(graph);
}

/* ---- sections ---- */

static uint32_t count_of(const lw_graph *graph, enum lw_graph_section section)
{
	return (uint32_t)(graph->head.section[section].size / record_size[section]);
}

static bool is_string(const lw_graph *graph, uint32_t at, uint32_t len)
{
	const char *strings = graph->section[LW_GRAPH_STRINGS];
	uint64_t size = graph->head.section[LW_GRAPH_STRINGS].size;
	return at < size && len < size - at && !strings[at + len] && !memchr(strings + at, 0, len);
}

static bool check_dirs(const lw_graph *graph)
{
	const struct lw_graph_dir *dir = graph->section[LW_GRAPH_DIRS];
	uint64_t sources = 0;
	for (uint32_t i = 0; i < count_of(graph, LW_GRAPH_DIRS); i++) {
		if (!is_string(graph, dir[i].path, dir[i].path_len) || dir[i].sources != sources)
			return false;
		sources += dir[i].count;
	}
	return sources == count_of(graph, LW_GRAPH_SOURCES);
}

static bool check_sources(const lw_graph *graph)
{
	const struct lw_graph_source *source = graph->section[LW_GRAPH_SOURCES];
	const struct lw_graph_dir *dir = graph->section[LW_GRAPH_DIRS];
	uint32_t dirs = count_of(graph, LW_GRAPH_DIRS);
	uint64_t raw = graph->head.section[LW_GRAPH_RAW].size;
	for (uint32_t i = 0; i < count_of(graph, LW_GRAPH_SOURCES); i++) {
		uint32_t of = source[i].dir;
		if (of >= dirs || i < dir[of].sources || i - dir[of].sources >= dir[of].count)
			return false;
		if (!source[i].name_len || !is_string(graph, source[i].name, source[i].name_len) || source[i].raw > raw || source[i].raw_len > raw - source[i].raw)
			return false;
	}
	return true;
}

static bool check_nodes(const lw_graph *graph)
{
	const struct lw_graph_node *node = graph->section[LW_GRAPH_NODES];
	const uint32_t count = count_of(graph, LW_GRAPH_NODES), sources = count_of(graph, LW_GRAPH_SOURCES);
	if (!count || node[0].edges || node[0].back || node[count - 1].edges != count_of(graph, LW_GRAPH_EDGES) || node[count - 1].back != count_of(graph, LW_GRAPH_BACK))
		return false;
	for (uint32_t i = 0; i + 1 < count; i++) {
		if (!node[i].name_len || !is_string(graph, node[i].name, node[i].name_len) || node[i].kind >= LW_GRAPH_KINDS)
			return false;
		if ((node[i].source != LW_GRAPH_NONE && node[i].source >= sources) || (node[i].parent != LW_GRAPH_NONE && node[i].parent >= i))
			return false;
		if (node[i].edges > node[i + 1].edges || node[i].back > node[i + 1].back)
			return false;
		if (i && lw_graph_compare(lw_graph_string(graph, node[i - 1].name), node[i - 1].name_len, lw_graph_string(graph, node[i].name), node[i].name_len) >= 0)
			return false;
	}
	return true;
}

static bool check_edges(const lw_graph *graph, enum lw_graph_section section)
{
	const struct lw_graph_edge *edge = graph->section[section];
	const uint32_t nodes = count_of(graph, LW_GRAPH_NODES) - 1;
	for (uint32_t i = 0; i < count_of(graph, section); i++)
		if (edge[i].node >= nodes || !edge[i].kinds || edge[i].kinds >> LW_GRAPH_EDGE_KINDS)
			return false;
	return true;
}

static bool check(const lw_graph *graph, enum lw_graph_section section)
{
	switch (section) {
	case LW_GRAPH_DIRS:
		return check_dirs(graph);
	case LW_GRAPH_SOURCES:
		return check_sources(graph);
	case LW_GRAPH_NODES:
		return check_nodes(graph);
	case LW_GRAPH_EDGES:
	case LW_GRAPH_BACK:
		return check_edges(graph, section);
	default:
		return true;
	}
}

enum { HUGE = 2 << 20 };

/* In large pages, where there are such: touching megabytes for the first time takes longer than reading them. */
static char *allocate(size_t size)
{
	void *data;
	if (size < HUGE / 2)
		return malloc(size + 1);
	size_t whole = (size + HUGE - 1) / HUGE * HUGE;
	if (whole < size || posix_memalign(&data, HUGE, whole))
		return NULL;
	madvise(data, whole, MADV_HUGEPAGE);
	return data;
}

static int load(lw_graph *graph, enum lw_graph_section section)
{
	const uint64_t at = graph->head.section[section].offset, size = graph->head.section[section].size;
	char *data = graph->memory ? graph->memory + at : allocate(size);
	if (!data)
		return -ENOMEM;
	int error = graph->memory ? 0 : is_ours(graph) ? read_all(graph->fd, data, size, at) : -EBADF;
	if (!error && lw_hash64(data, size) != graph->head.section[section].hash)
		error = -EBADMSG;
	graph->section[section] = data;
	if (!error && !check(graph, section))
		error = -EBADMSG;
	if (error) {
		graph->section[section] = NULL;
		if (!graph->memory)
			free(data);
	}
	return error;
}

/* What the records of a section are checked against comes before it. */
static unsigned with_needed(unsigned mask)
{
	if (mask & (1u << LW_GRAPH_EDGES | 1u << LW_GRAPH_BACK))
		mask |= 1u << LW_GRAPH_NODES;
	if (mask & (1u << LW_GRAPH_SOURCES | 1u << LW_GRAPH_NODES))
		mask |= 1u << LW_GRAPH_DIRS | 1u << LW_GRAPH_SOURCES;
	return mask ? mask | 1u << LW_GRAPH_STRINGS : 0;
}

int lw_graph_load(lw_graph *graph, unsigned mask)
{
	int error = graph->damaged ? -EBADMSG : 0;
	mask = with_needed(mask);
	for (unsigned i = 0; !error && i < LW_GRAPH_SECTIONS; i++)
		if (mask >> i & 1 && !graph->section[i])
			error = load(graph, (enum lw_graph_section)i);
	graph->damaged |= error == -EBADMSG;
	return error;
}

uint32_t lw_graph_dirs(const lw_graph *graph, const struct lw_graph_dir **out)
{
	*out = graph->section[LW_GRAPH_DIRS];
	return *out ? count_of(graph, LW_GRAPH_DIRS) : 0;
}

uint32_t lw_graph_sources(const lw_graph *graph, const struct lw_graph_source **out)
{
	*out = graph->section[LW_GRAPH_SOURCES];
	return *out ? count_of(graph, LW_GRAPH_SOURCES) : 0;
}

uint32_t lw_graph_nodes(const lw_graph *graph, const struct lw_graph_node **out)
{
	*out = graph->section[LW_GRAPH_NODES];
	return *out ? count_of(graph, LW_GRAPH_NODES) - 1 : 0;
}

const char *lw_graph_string(const lw_graph *graph, uint32_t at)
{
	return (const char *)graph->section[LW_GRAPH_STRINGS] + at;
}

const void *lw_graph_raw(const lw_graph *graph, const struct lw_graph_source *source)
{
	return (const char *)graph->section[LW_GRAPH_RAW] + source->raw;
}

uint32_t lw_graph_edges(const lw_graph *graph, uint32_t number, bool back, const struct lw_graph_edge **out)
{
	const struct lw_graph_node *node = (const struct lw_graph_node *)graph->section[LW_GRAPH_NODES] + number;
	const struct lw_graph_edge *edges = graph->section[back ? LW_GRAPH_BACK : LW_GRAPH_EDGES];
	assert(edges);
	*out = edges + (back ? node->back : node->edges);
	return back ? node[1].back - node->back : node[1].edges - node->edges;
}

/* ---- names ---- */

int lw_graph_compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
	size_t same = 0, least = a_len < b_len ? a_len : b_len;
	while (same < least && a[same] == b[same])
		same++;
	if (same == least)
		return a_len < b_len ? -1 : a_len > b_len;
	if (a[same] == '.' || b[same] == '.')
		return a[same] == '.' ? -1 : 1;
	return (unsigned char)a[same] < (unsigned char)b[same] ? -1 : 1;
}

uint32_t lw_graph_find(const lw_graph *graph, const char *name, size_t len)
{
	const struct lw_graph_node *node;
	uint32_t low = 0, high = lw_graph_nodes(graph, &node);
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		int order = lw_graph_compare(lw_graph_string(graph, node[middle].name), node[middle].name_len, name, len);
		if (!order)
			return middle;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return LW_GRAPH_NONE;
}

/* ---- reaching ---- */

struct search {
	uint32_t *via, *order;
	uint32_t found;
};

static void meet(struct search *search, uint32_t node, uint32_t via)
{
	if (search->via[node] != LW_GRAPH_NONE)
		return;
	search->via[node] = via;
	search->order[search->found++] = node;
}

static bool is_below(const lw_graph *graph, const struct lw_graph_node *node, const struct lw_graph_node *package)
{
	const char *name = lw_graph_string(graph, node->name);
	return node->name_len > package->name_len && name[package->name_len] == '.' && !memcmp(name, lw_graph_string(graph, package->name), package->name_len);
}

/* What needs the package NODE because it is in it follows it; what is in packages therein comes with these. */
static void meet_members(struct search *search, const lw_graph *graph, uint32_t node)
{
	const struct lw_graph_node *nodes;
	uint32_t count = lw_graph_nodes(graph, &nodes);
	for (uint32_t i = node + 1; i < count && is_below(graph, &nodes[i], &nodes[node]); i++)
		if (nodes[i].parent == node && nodes[i].kind != LW_GRAPH_EXTERNAL)
			meet(search, i, node);
}

uint32_t lw_graph_reach(const lw_graph *graph, uint32_t start, bool back, unsigned kinds, uint32_t *via, uint32_t *order)
{
	const struct lw_graph_node *nodes;
	uint32_t count = lw_graph_nodes(graph, &nodes);
	struct search search = { .via = via, .order = order };
	memset(via, 0xff, count * sizeof(*via));
	via[start] = start;
	for (uint32_t at = start, next = 0; ; at = order[next++]) {
		const struct lw_graph_edge *edge;
		uint32_t edges = lw_graph_edges(graph, at, back, &edge);
		for (uint32_t i = 0; i < edges; i++)
			if (edge[i].kinds & kinds)
				meet(&search, edge[i].node, at);
		if (back)
			meet_members(&search, graph, at);
		else if (nodes[at].parent != LW_GRAPH_NONE)
			meet(&search, nodes[at].parent, at);
		if (next == search.found)
			return search.found;
	}
}

/* ---- cycles: Tarjan's strongly connected components, with a stack of its own ---- */

struct tarjan {
	const lw_graph *graph;
	unsigned kinds;
	uint32_t *low, *index, *stack, *call, *edge;	/* one allocation */
	uint32_t *component;
	uint32_t clock, depth, calls, count;
};

static void enter(struct tarjan *t, uint32_t node)
{
	t->index[node] = t->low[node] = t->clock++;
	t->stack[t->depth++] = node;
	t->edge[node] = 0;
	t->call[t->calls++] = node;
}

/* NODE is done: what is above it on the stack is its component. */
static void leave(struct tarjan *t, uint32_t node)
{
	t->calls--;
	if (t->calls && t->low[node] < t->low[t->call[t->calls - 1]])
		t->low[t->call[t->calls - 1]] = t->low[node];
	if (t->low[node] != t->index[node])
		return;
	uint32_t from = t->depth;
	while (t->stack[--from] != node)
		;
	bool cycle = t->depth - from > 1;
	for (uint32_t i = from; i < t->depth; i++) {
		t->component[t->stack[i]] = cycle ? t->count : LW_GRAPH_NONE;
		t->index[t->stack[i]] = LW_GRAPH_NONE - 1;	/* off the stack */
	}
	t->count += cycle;
	t->depth = from;
}

static void visit(struct tarjan *t, uint32_t root)
{
	enter(t, root);
	while (t->calls) {
		uint32_t node = t->call[t->calls - 1];
		const struct lw_graph_edge *edge;
		uint32_t edges = lw_graph_edges(t->graph, node, false, &edge), i = t->edge[node];
		while (i < edges && (!(edge[i].kinds & t->kinds) || t->index[edge[i].node] == LW_GRAPH_NONE - 1))
			i++;
		t->edge[node] = i + 1;
		if (i >= edges)
			leave(t, node);
		else if (t->index[edge[i].node] == LW_GRAPH_NONE)
			enter(t, edge[i].node);
		else if (t->index[edge[i].node] < t->low[node])
			t->low[node] = t->index[edge[i].node];
	}
}

/* By their first nodes. RENAMED has room for as many as there are. */
static void number_components(uint32_t *component, uint32_t nodes, uint32_t *renamed, uint32_t count)
{
	uint32_t next = 0;
	memset(renamed, 0xff, count * sizeof(*renamed));
	for (uint32_t i = 0; i < nodes; i++) {
		if (component[i] == LW_GRAPH_NONE)
			continue;
		if (renamed[component[i]] == LW_GRAPH_NONE)
			renamed[component[i]] = next++;
		component[i] = renamed[component[i]];
	}
}

int lw_graph_cycles(const lw_graph *graph, unsigned kinds, uint32_t *component, uint32_t *count)
{
	const struct lw_graph_node *nodes;
	uint32_t total = lw_graph_nodes(graph, &nodes);
	struct tarjan t = { .graph = graph, .kinds = kinds, .component = component };
	uint32_t *memory = calloc((size_t)total + 1, 5 * sizeof(uint32_t));
	if (!memory)
		return -ENOMEM;
	t.low = memory, t.index = memory + total, t.stack = memory + 2 * (size_t)total, t.call = memory + 3 * (size_t)total, t.edge = memory + 4 * (size_t)total;
	memset(t.index, 0xff, total * sizeof(*t.index));
	memset(component, 0xff, total * sizeof(*component));
	for (uint32_t i = 0; i < total; i++)
		if (t.index[i] == LW_GRAPH_NONE)
			visit(&t, i);
	number_components(component, total, t.low, t.count);
	*count = t.count;
	free(memory);
	return 0;
}

int64_t lw_graph_cycle_through(const lw_graph *graph, unsigned kinds, const uint32_t *component, uint32_t start, uint32_t *path)
{
	const struct lw_graph_node *nodes;
	uint32_t total = lw_graph_nodes(graph, &nodes);
	struct search search = { .via = malloc(((size_t)total + 1) * sizeof(uint32_t)), .order = malloc(((size_t)total + 1) * sizeof(uint32_t)) };
	int64_t len = search.via && search.order ? 0 : -ENOMEM;
	uint32_t last = LW_GRAPH_NONE;
	if (!len)
		memset(search.via, 0xff, total * sizeof(*search.via));
	for (uint32_t at = start, next = 0; !len && last == LW_GRAPH_NONE; ) {
		const struct lw_graph_edge *edge;
		uint32_t edges = lw_graph_edges(graph, at, false, &edge);
		for (uint32_t i = 0; i < edges; i++) {
			if (!(edge[i].kinds & kinds) || component[edge[i].node] != component[start])
				continue;
			if (edge[i].node == start)
				last = at;
			else
				meet(&search, edge[i].node, at);
		}
		if (next == search.found)
			break;
		at = search.order[next++];
	}
	/* From the end to the start, which VIA leads to. */
	for (uint32_t at = last; at != LW_GRAPH_NONE; at = at == start ? LW_GRAPH_NONE : search.via[at])
		path[len++] = at;
	for (int64_t i = 0; i < len / 2; i++) {
		uint32_t other = path[i];
		path[i] = path[len - 1 - i];
		path[len - 1 - i] = other;
	}
	free(search.via);
	free(search.order);
	return len;
}
