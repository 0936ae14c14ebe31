/* SPDX-License-Identifier: MIT */
/*
 * canonical: one marshalled form of a code object, the same from every process.
 *
 * What marshal.dumps() makes of the same source differs from process to process. Here the stream is read into a graph and written again:
 *
 *     differs with                                             in the canonical form
 *     references that anybody else holds: such objects         marked is what is referred to later in the stream; references are counted
 *     are marked (FLAG_REF), and counted                       anew, in the order of the stream
 *     how its members are marked: the order of a set           members are ordered by their own canonical form
 *     strings that other modules have interned before:         equal strings are one string, sets of the same members one set
 *     the compiler then has two where it else has one,
 *     and a copy of the set they are in for each code object
 *     which strings are interned, where they are shared        interned are names, and what could be one, as the compiler does; whoever makes
 *     with others (of one character, "<module>")               code of it interns what else is wanted so
 *
 * What marshal.loads() makes of it is the same graph, but for equal strings, and sets, that are one object.
 *
 * The format is that of CPython's Python/marshal.c, versions 3 to 5, as far as code made by the compiler needs it: constants and code. Anything else
 * is an error. Strings are 'z', 'a' (ASCII, behind a length of one byte or four) and 'u'; interned 'Z', 'A' and 't'.
 */
#include "state.h"

#include "hash.h"

enum { FLAG_REF = 0x80, DEPTH_MAX = 1500, CODE_HEAD = 5 * 4, CODE_MIDDLE = 4 };

/* The objects in code: which hold names, how many there are ahead of the line number, and in all. */
enum { CODE_NAMES = 2, CODE_LOCALS = 3, CODE_NAME = 6, CODE_QUALIFIED = 7, CODE_FIRST = 8, CODE_PARTS = 10 };

#define NO_NODE UINT32_MAX

/* An object. What it consists of, beside other objects, is copied as it stands in the stream. */
struct node {
	const unsigned char *data;	/* after the type; of code: the numbers at its beginning */
	const unsigned char *middle;	/* of code: the line number behind the first objects */
	uint32_t size;			/* of data */
	uint32_t first, count;		/* objects within it, in graph->edge */
	uint32_t pass;			/* in which it was last counted */
	uint32_t uses;			/* in that pass */
	uint32_t number;		/* of the reference, once written; NO_NODE: not yet */
	unsigned char type;
	bool settled;
	bool interned;			/* a string that is */
};

struct array {
	void *item;
	uint32_t count, room;
};

struct graph {
	const unsigned char *begin, *at, *end;
	struct array nodes, edges;	/* of struct node; of positions of nodes */
	struct array refs;		/* positions of nodes, by reference; NO_NODE: begun, not read yet */
	struct array pending;		/* a stack: objects within what is being read */
	struct array sets;		/* positions of nodes: those that differ */
	uint32_t *strings;		/* hash table of positions of nodes + 1; 0: free */
	uint32_t string_count, string_mask;
	unsigned depth;
	uint32_t pass, numbers;
	unsigned char *out;
	size_t out_len, out_room;
};

static struct node *node_at(const struct graph *graph, uint32_t i)
{
	return (struct node *)graph->nodes.item + i;
}

static uint32_t *edge_at(const struct graph *graph, uint32_t i)
{
	return (uint32_t *)graph->edges.item + i;
}

/* --- errors: functions return false, or NO_NODE, with an exception --- */

static bool refuse(const struct graph *graph, const char *what)
{
	PyErr_Format(PyExc_ValueError, "%s at byte %zd", what, (Py_ssize_t)(graph->at - graph->begin));
	return false;
}

static uint32_t refuse_node(const struct graph *graph, const char *what)
{
	refuse(graph, what);
	return NO_NODE;
}

static bool make_room(struct array *array, size_t size)
{
	if (array->count < array->room)
		return true;
	uint32_t room = array->room ? array->room * 2 : 256;
	void *larger = room > array->room ? PyMem_RawRealloc(array->item, room * size) : NULL;
	if (!larger) {
		PyErr_NoMemory();
		return false;
	}
	array->item = larger;
	array->room = room;
	return true;
}

static bool push(struct array *array, uint32_t value)
{
	if (!make_room(array, sizeof(value)))
		return false;
	((uint32_t *)array->item)[array->count++] = value;
	return true;
}

/* --- reading --- */

static const unsigned char *take(struct graph *graph, size_t size)
{
	if ((size_t)(graph->end - graph->at) < size) {
		refuse(graph, "the stream ends");
		return NULL;
	}
	graph->at += size;
	return graph->at - size;
}

static uint32_t number_of(const unsigned char *bytes)
{
	return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static bool take_number(struct graph *graph, uint32_t *out)
{
	const unsigned char *bytes = take(graph, 4);
	if (bytes)
		*out = number_of(bytes);
	return bytes;
}

/* Bytes behind a length of 4 bytes, counted in units of UNIT. */
static bool take_counted(struct graph *graph, uint32_t unit)
{
	uint32_t count;
	if (!take_number(graph, &count))
		return false;
	if (unit == 2 && count >> 31) /* the sign of a long */
		count = 0 - count;
	return take(graph, (size_t)count * unit);
}

static bool take_leaf(struct graph *graph, unsigned char type)
{
	const unsigned char *len;
	switch (type) {
	case 'N': case 'T': case 'F': case '.':
		return true;
	case 'i':
		return take(graph, 4);
	case 'g':
		return take(graph, 8);
	case 'y':
		return take(graph, 16);
	case 'l':
		return take_counted(graph, 2);
	case 's': case 'a': case 'A': case 'u': case 't':
		return take_counted(graph, 1);
	case 'z': case 'Z':
		len = take(graph, 1);
		return len && take(graph, *len);
	default:
		graph->at--;
		return refuse(graph, "a type that code does not hold");
	}
}

static bool is_string(unsigned char type)
{
	return type == 'z' || type == 'a' || type == 'u' || type == 'Z' || type == 'A' || type == 't';
}

/* The type of a string, interned or not. */
static unsigned char not_interned(unsigned char type)
{
	return type == 'Z' ? 'z' : type == 'A' ? 'a' : type == 't' ? 'u' : type;
}

static unsigned char interned(unsigned char type)
{
	return type == 'z' ? 'Z' : type == 'a' ? 'A' : 't';
}

static bool is_in_name(unsigned char c)
{
	return c == '_' || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* Whether the text, which is behind a length of one byte or four, could be a name: then the compiler interns it wherever it is. */
static bool is_like_name(const struct node *node)
{
	const uint32_t head = node->type == 'z' ? 1 : 4;
	uint32_t i = head;
	while (i < node->size && is_in_name(node->data[i]))
		i++;
	return i > head && i == node->size;
}

static uint32_t add_node(struct graph *graph, unsigned char type)
{
	if (!make_room(&graph->nodes, sizeof(struct node)))
		return NO_NODE;
	*node_at(graph, graph->nodes.count) = (struct node){ .type = type, .data = graph->at };
	return graph->nodes.count++;
}

static uint32_t *string_slot(const struct graph *graph, uint32_t at)
{
	const struct node *node = node_at(graph, at);
	for (uint32_t i = (uint32_t)lw_hash64(node->data, node->size) & graph->string_mask;; i = (i + 1) & graph->string_mask) {
		uint32_t *slot = &graph->strings[i];
		const struct node *other = *slot ? node_at(graph, *slot - 1) : NULL;
		if (!other || (other->type == node->type && other->size == node->size && memcmp(other->data, node->data, node->size) == 0))
			return slot;
	}
}

static bool enlarge_strings(struct graph *graph)
{
	uint32_t *old = graph->strings, count = old ? graph->string_mask + 1 : 0;
	graph->string_mask = count ? 2 * count - 1 : 1023;
	graph->strings = PyMem_RawCalloc((size_t)graph->string_mask + 1, sizeof(*old));
	if (!graph->strings)
		PyErr_NoMemory();
	for (uint32_t i = 0; graph->strings && i < count; i++)
		if (old[i])
			*string_slot(graph, old[i] - 1) = old[i];
	PyMem_RawFree(old);
	return graph->strings;
}

/* The string that stands for all equal to NODE, which was added last, and goes if it is not the first. */
static uint32_t first_equal(struct graph *graph, uint32_t node)
{
	if (graph->string_count >= graph->string_mask / 2 && !enlarge_strings(graph))
		return NO_NODE;
	uint32_t *slot = string_slot(graph, node);
	if (*slot) {
		graph->nodes.count--;
	} else {
		*slot = node + 1;
		graph->string_count++;
		node_at(graph, node)->interned = is_like_name(node_at(graph, node));
	}
	return *slot - 1;
}

static uint32_t read_object(struct graph *graph);

/* COUNT objects, on the stack of pending ones. */
static bool read_parts(struct graph *graph, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		uint32_t part = read_object(graph);
		if (part == NO_NODE || !push(&graph->pending, part))
			return false;
	}
	return true;
}

/* The last COUNT pending objects are those within NODE. */
static bool adopt_parts(struct graph *graph, uint32_t node, uint32_t count)
{
	node_at(graph, node)->first = graph->edges.count;
	node_at(graph, node)->count = count;
	graph->pending.count -= count;
	for (uint32_t i = 0; i < count; i++)
		if (!push(&graph->edges, ((uint32_t *)graph->pending.item)[graph->pending.count + i]))
			return false;
	return true;
}

static bool read_container(struct graph *graph, uint32_t node, uint32_t count)
{
	if (count > (size_t)(graph->end - graph->at)) /* an object has a byte at least */
		return refuse(graph, "too many objects");
	node_at(graph, node)->size = (uint32_t)(graph->at - node_at(graph, node)->data);
	return read_parts(graph, count) && adopt_parts(graph, node, count);
}

/* The names in code NODE are interned: those of its tuples of names, and its own; since 3.13 the qualified one as well. */
static void intern_names(struct graph *graph, uint32_t at)
{
	for (uint32_t part = CODE_NAMES; part <= CODE_LOCALS; part++) {
		const struct node *tuple = node_at(graph, *edge_at(graph, node_at(graph, at)->first + part));
		for (uint32_t i = 0; i < tuple->count; i++)
			node_at(graph, *edge_at(graph, tuple->first + i))->interned = true;
	}
	for (uint32_t part = CODE_NAME; part <= (PY_VERSION_HEX >= 0x030d0000 ? CODE_QUALIFIED : CODE_NAME); part++)
		node_at(graph, *edge_at(graph, node_at(graph, at)->first + part))->interned = true;
}

static bool read_code(struct graph *graph, uint32_t node)
{
	if (!take(graph, CODE_HEAD) || !read_parts(graph, CODE_FIRST))
		return false;
	const unsigned char *middle = take(graph, CODE_MIDDLE);
	if (!middle || !read_parts(graph, CODE_PARTS - CODE_FIRST))
		return false;
	node_at(graph, node)->size = CODE_HEAD;
	node_at(graph, node)->middle = middle;
	if (!adopt_parts(graph, node, CODE_PARTS))
		return false;
	intern_names(graph, node);
	return true;
}

static bool read_inside(struct graph *graph, uint32_t node, unsigned char type)
{
	const unsigned char *len;
	uint32_t count;
	switch (type) {
	case ')':
		len = take(graph, 1);
		return len && read_container(graph, node, *len);
	case '(': case '>':
		return take_number(graph, &count) && read_container(graph, node, count);
	case ':':
		return read_container(graph, node, 3);
	case 'c':
		return read_code(graph, node);
	default:
		if (!take_leaf(graph, type))
			return false;
		node_at(graph, node)->size = (uint32_t)(graph->at - node_at(graph, node)->data);
		return true;
	}
}

static uint32_t read_reference(struct graph *graph)
{
	uint32_t i;
	if (!take_number(graph, &i))
		return NO_NODE;
	uint32_t node = i < graph->refs.count ? ((uint32_t *)graph->refs.item)[i] : NO_NODE;
	return node == NO_NODE ? refuse_node(graph, "a reference to nothing") : node;
}

static uint32_t read_new(struct graph *graph, unsigned char type, bool numbered)
{
	uint32_t ref = graph->refs.count;
	if (numbered && (strchr("NTF.", type) || !push(&graph->refs, NO_NODE)))
		return PyErr_Occurred() ? NO_NODE : refuse_node(graph, "a mark on what exists once");
	uint32_t node = add_node(graph, not_interned(type));
	if (node == NO_NODE || !read_inside(graph, node, type))
		return NO_NODE;
	if (is_string(type) && (node = first_equal(graph, node)) == NO_NODE)
		return NO_NODE;
	if (numbered)
		((uint32_t *)graph->refs.item)[ref] = node;
	return node;
}

static uint32_t read_object(struct graph *graph)
{
	const unsigned char *byte = take(graph, 1);
	if (!byte)
		return NO_NODE;
	if (graph->depth >= DEPTH_MAX)
		return refuse_node(graph, "nested too deep");
	graph->depth++;
	uint32_t node = *byte == 'r' ? read_reference(graph) : read_new(graph, *byte & ~FLAG_REF, *byte & FLAG_REF);
	graph->depth--;
	return node;
}

/* --- writing --- */

static bool put(struct graph *graph, const void *data, size_t len)
{
	if (len > graph->out_room - graph->out_len) {
		size_t room = 2 * (graph->out_room + len) + 256;
		unsigned char *larger = PyMem_RawRealloc(graph->out, room);
		if (!larger)
			return PyErr_NoMemory(), false;
		graph->out = larger;
		graph->out_room = room;
	}
	memcpy(graph->out + graph->out_len, data, len);
	graph->out_len += len;
	return true;
}

static bool put_type(struct graph *graph, unsigned type)
{
	const unsigned char byte = (unsigned char)type;
	return put(graph, &byte, 1);
}

static bool put_reference(struct graph *graph, uint32_t number)
{
	const unsigned char bytes[] = { 'r', (unsigned char)number, (unsigned char)(number >> 8), (unsigned char)(number >> 16), (unsigned char)(number >> 24) };
	return put(graph, bytes, sizeof(bytes));
}

/* How often each object occurs in what is about to be written. */
static void count_uses(struct graph *graph, uint32_t at)
{
	struct node *node = node_at(graph, at);
	if (node->pass == graph->pass) {
		node->uses++;
		return;
	}
	node->pass = graph->pass;
	node->uses = 1;
	node->number = NO_NODE;
	for (uint32_t i = 0; i < node->count; i++)
		count_uses(graph, *edge_at(graph, node->first + i));
}

static bool write_object(struct graph *graph, uint32_t at);

static bool write_parts(struct graph *graph, const struct node *node, uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++)
		if (!write_object(graph, *edge_at(graph, node->first + i)))
			return false;
	return true;
}

static bool write_object(struct graph *graph, uint32_t at)
{
	struct node *node = node_at(graph, at);
	if (node->number != NO_NODE)
		return put_reference(graph, node->number);
	if (node->uses > 1)
		node->number = graph->numbers++;
	unsigned char type = is_string(node->type) && node->interned ? interned(node->type) : node->type;
	if (!put_type(graph, type | (node->uses > 1 ? FLAG_REF : 0)) || !put(graph, node->data, node->size))
		return false;
	if (node->type != 'c')
		return write_parts(graph, node, 0, node->count);
	return write_parts(graph, node, 0, CODE_FIRST) && put(graph, node->middle, CODE_MIDDLE) && write_parts(graph, node, CODE_FIRST, CODE_PARTS);
}

/* Write ROOT, as if there were nothing else, behind what has been written. */
static bool write_alone(struct graph *graph, uint32_t root)
{
	graph->pass++;
	graph->numbers = 0;
	count_uses(graph, root);
	return write_object(graph, root);
}

/* --- sets --- */

struct member {
	uint32_t node;
	size_t at, len;		/* of its form in the output */
};

static int compare_members(const void *a, const void *b, void *out)
{
	const struct member *x = a, *y = b;
	int order = memcmp((char *)out + x->at, (char *)out + y->at, x->len < y->len ? x->len : y->len);
	return order ? order : (x->len > y->len) - (x->len < y->len);
}

static bool are_distinct(const struct member *member, uint32_t count, void *out)
{
	for (uint32_t i = 1; i < count; i++)
		if (compare_members(&member[i - 1], &member[i], out) == 0)
			return false;
	return true;
}

/* Their forms are written where nothing is yet, compared, and dropped. */
static bool sort_members(struct graph *graph, uint32_t set)
{
	const uint32_t first = node_at(graph, set)->first, count = node_at(graph, set)->count;
	struct member *member = PyMem_RawMalloc((count + 1) * sizeof(*member));
	bool ok = member;
	if (!ok)
		PyErr_NoMemory();
	for (uint32_t i = 0; ok && i < count; i++) {
		member[i] = (struct member){ .node = *edge_at(graph, first + i), .at = graph->out_len };
		ok = write_alone(graph, member[i].node);
		member[i].len = graph->out_len - member[i].at;
	}
	if (ok && count > 1) {
		qsort_r(member, count, sizeof(*member), compare_members, graph->out);
		ok = are_distinct(member, count, graph->out) || refuse(graph, "a set has members that nothing tells apart");
	}
	for (uint32_t i = 0; ok && i < count; i++)
		*edge_at(graph, first + i) = member[i].node;
	graph->out_len = 0;
	PyMem_RawFree(member);
	return ok;
}

/* The first set of the same members as NODE, perhaps itself. */
static uint32_t first_alike(struct graph *graph, uint32_t at)
{
	const struct node *node = node_at(graph, at);
	for (uint32_t i = 0; i < graph->sets.count; i++) {
		uint32_t other = ((uint32_t *)graph->sets.item)[i];
		const struct node *before = node_at(graph, other);
		if (before->count == node->count && memcmp(edge_at(graph, before->first), edge_at(graph, node->first), node->count * sizeof(uint32_t)) == 0)
			return other;
	}
	return push(&graph->sets, at) ? at : NO_NODE;
}

/* Sort the sets, which is done when all strings are known; innermost first. What stands for AT from now on. */
static uint32_t settle(struct graph *graph, uint32_t at)
{
	struct node *node = node_at(graph, at);
	if (node->settled)
		return node->type == '>' ? first_alike(graph, at) : at;
	for (uint32_t i = 0; i < node->count; i++) {
		uint32_t *edge = edge_at(graph, node->first + i);
		if ((*edge = settle(graph, *edge)) == NO_NODE)
			return NO_NODE;
	}
	node->settled = true;
	if (node->type != '>')
		return at;
	return sort_members(graph, at) ? first_alike(graph, at) : NO_NODE;
}

/* --- all of it --- */

static PyObject *make_canonical(struct graph *graph)
{
	uint32_t root = read_object(graph);
	if (root == NO_NODE)
		return NULL;
	if (graph->at != graph->end)
		return refuse(graph, "something behind the end"), NULL;
	root = settle(graph, root);
	if (root == NO_NODE)
		return NULL;
	return write_alone(graph, root) ? PyBytes_FromStringAndSize((const char *)graph->out, (Py_ssize_t)graph->out_len) : NULL;
}

PyObject *lw_canonical(PyObject *module, PyObject *data)
{
	Py_buffer view;
	if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
		return NULL;
	struct graph graph = { .begin = view.buf, .at = view.buf, .end = (const unsigned char *)view.buf + view.len };
	PyObject *bytes = view.len < UINT32_MAX ? make_canonical(&graph) : PyErr_Format(PyExc_ValueError, "too large");
	PyMem_RawFree(graph.nodes.item);
	PyMem_RawFree(graph.edges.item);
	PyMem_RawFree(graph.refs.item);
	PyMem_RawFree(graph.pending.item);
	PyMem_RawFree(graph.sets.item);
	PyMem_RawFree(graph.strings);
	PyMem_RawFree(graph.out);
	PyBuffer_Release(&view);
	return bytes;
}
