/* SPDX-License-Identifier: MIT */
/*
 * rivals: the other ways to look up (directory, name) while somebody replaces entries, for registry.c. Each has the same facts and the same queries; all but
 * PyDict the same hash, of two strings, and compare both strings, as the index does.
 */
#ifndef LW_BENCH_RIVALS_H
#define LW_BENCH_RIVALS_H

#include "bench.h"
#include "hash.h"

#include <pthread.h>
#include <string.h>

#ifdef LW_HAVE_PYTHON
#include <Python.h>
#endif
#ifdef LW_HAVE_URCU
#define URCU_INLINE_SMALL_FUNCTIONS
#include <urcu/urcu-memb.h>
#include <urcu/rculfhash.h>
#endif

struct query {
	const char *path, *name;
	uint16_t path_len, name_len;
#ifdef LW_HAVE_PYTHON
	PyObject *path_str, *name_str;	/* hashed already, as names and path entries are when import asks; not the objects that are keys */
#endif
};

struct fact {
	const char *path, *name;
	uint16_t path_len, name_len;
	uint32_t value;
};

static struct fact *facts;
static unsigned fact_count;

static inline uint64_t hash_of(const char *path, size_t path_len, const char *name, size_t name_len)
{
	return lw_hash64(path, path_len) * UINT64_C(0x9E3779B97F4A7C15) ^ lw_hash64(name, name_len);
}

static inline bool is(const struct fact *fact, const struct query *query)
{
	return fact->path_len == query->path_len && fact->name_len == query->name_len && memcmp(fact->name, query->name, query->name_len) == 0
		&& memcmp(fact->path, query->path, query->path_len) == 0;
}

/* --- open addressing, for the two locks --- */

static struct cell {
	uint64_t hash;
	const struct fact *fact;
} *cells;
static uint64_t cell_mask;

static void table_make(void)
{
	cell_mask = 1;
	while (cell_mask < fact_count * UINT64_C(2))
		cell_mask *= 2;
	cells = calloc(cell_mask, sizeof(*cells));
	check(cells, "memory");
	cell_mask--;
	for (unsigned i = 0; i < fact_count; i++) {
		const struct fact *fact = &facts[i];
		uint64_t hash = hash_of(fact->path, fact->path_len, fact->name, fact->name_len), at = hash & cell_mask;
		while (cells[at].fact)
			at = (at + 1) & cell_mask;
		cells[at] = (struct cell){ hash, fact };
	}
}

static inline struct cell *table_find(const struct query *query)
{
	uint64_t hash = hash_of(query->path, query->path_len, query->name, query->name_len);
	for (uint64_t at = hash & cell_mask; cells[at].fact; at = (at + 1) & cell_mask)
		if (cells[at].hash == hash && is(cells[at].fact, query))
			return &cells[at];
	return NULL;
}

static struct query query_of(const struct fact *fact)
{
	return (struct query){ .path = fact->path, .name = fact->name, .path_len = fact->path_len, .name_len = fact->name_len };
}

/* Replace a fact by a copy of itself. */
static void table_swap(unsigned i)
{
	struct query query = query_of(&facts[i % fact_count]);
	struct fact *copy = malloc(sizeof(*copy));
	*copy = facts[i % fact_count];
	table_find(&query)->fact = copy;	/* the old one may be the array's: left */
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
/* Writers first: with the default kind and more readers than processors the writer got in once in minutes. */
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;

static unsigned mutex_find(const struct query *query, unsigned count)
{
	unsigned found = 0;
	for (unsigned i = 0; i < count; i++) {
		pthread_mutex_lock(&mutex);
		const struct cell *cell = table_find(&query[i]);
		found += cell && cell->fact->value;
		pthread_mutex_unlock(&mutex);
	}
	return found;
}

static void mutex_swap(unsigned i)
{
	pthread_mutex_lock(&mutex);
	table_swap(i);
	pthread_mutex_unlock(&mutex);
}

static unsigned rwlock_find(const struct query *query, unsigned count)
{
	unsigned found = 0;
	for (unsigned i = 0; i < count; i++) {
		pthread_rwlock_rdlock(&rwlock);
		const struct cell *cell = table_find(&query[i]);
		found += cell && cell->fact->value;
		pthread_rwlock_unlock(&rwlock);
	}
	return found;
}

static void rwlock_swap(unsigned i)
{
	pthread_rwlock_wrlock(&rwlock);
	table_swap(i);
	pthread_rwlock_unlock(&rwlock);
}

/* --- liburcu's rculfhash --- */

#ifdef LW_HAVE_URCU
struct node {
	struct cds_lfht_node node;
	struct rcu_head head;
	const struct fact *fact;
};
static struct cds_lfht *lfht;

static struct node *node_of(const struct fact *fact)
{
	struct node *node = malloc(sizeof(*node));
	check(node, "memory");
	node->fact = fact;
	cds_lfht_node_init(&node->node);
	return node;
}

static int node_is(struct cds_lfht_node *node, const void *key)
{
	return is(((struct node *)node)->fact, key);
}

static void lfht_make(void)
{
	unsigned long size = 1;
	while (size < fact_count)
		size *= 2;
	urcu_memb_register_thread();
	lfht = cds_lfht_new_flavor(size, size, 0, 0, &urcu_memb_flavor, NULL);
	check(lfht, "cds_lfht_new");
	urcu_memb_read_lock();
	for (unsigned i = 0; i < fact_count; i++)
		cds_lfht_add(lfht, hash_of(facts[i].path, facts[i].path_len, facts[i].name, facts[i].name_len), &node_of(&facts[i])->node);
	urcu_memb_read_unlock();
}

static unsigned lfht_find(const struct query *query, unsigned count)
{
	unsigned found = 0;
	for (unsigned i = 0; i < count; i++) {
		struct cds_lfht_iter at;
		urcu_memb_read_lock();
		cds_lfht_lookup(lfht, hash_of(query[i].path, query[i].path_len, query[i].name, query[i].name_len), node_is, &query[i], &at);
		const struct node *node = (struct node *)cds_lfht_iter_get_node(&at);
		found += node && node->fact->value;
		urcu_memb_read_unlock();
	}
	return found;
}

static void node_free(struct rcu_head *head)
{
	free((char *)head - offsetof(struct node, head));
}

static void lfht_swap(unsigned i)
{
	const struct fact *fact = &facts[i % fact_count];
	struct query query = query_of(fact);
	urcu_memb_read_lock();
	struct cds_lfht_node *old = cds_lfht_add_replace(lfht, hash_of(fact->path, fact->path_len, fact->name, fact->name_len), node_is, &query,
		&node_of(fact)->node);
	urcu_memb_read_unlock();
	if (old)
		urcu_memb_call_rcu(&((struct node *)old)->head, node_free);
}
#endif

/* --- PyDict: a dict of directories, each a dict of names; one import system has it in Python, so under the GIL --- */

#ifdef LW_HAVE_PYTHON
static PyObject *dict;

static PyObject *str(const char *text, size_t len)
{
	PyObject *object = PyUnicode_FromStringAndSize(text, (Py_ssize_t)len);
	check(object, "memory");
	PyObject_Hash(object);
	return object;
}

static void dict_make(void)
{
	dict = PyDict_New();
	check(dict, "memory");
	for (unsigned i = 0; i < fact_count; i++) {
		PyObject *path = str(facts[i].path, facts[i].path_len);
		PyObject *names = PyDict_GetItemWithError(dict, path);
		if (!names) {
			names = PyDict_New();
			check(names && PyDict_SetItem(dict, path, names) == 0, "memory");
			Py_DECREF(names);
		}
		Py_DECREF(path);
		PyObject *name = str(facts[i].name, facts[i].name_len);
		check(PyDict_SetItem(names, name, Py_True) == 0, "memory");
		Py_DECREF(name);
	}
}

static unsigned dict_find(const struct query *query, unsigned count)
{
	unsigned found = 0;
	PyGILState_STATE state = PyGILState_Ensure();
	for (unsigned i = 0; i < count; i++) {
		PyObject *names = PyDict_GetItemWithError(dict, query[i].path_str);
		found += names && PyDict_GetItemWithError(names, query[i].name_str);
	}
	PyGILState_Release(state);
	return found;
}

static void dict_swap(unsigned i)
{
	const struct fact *fact = &facts[i % fact_count];
	PyGILState_STATE state = PyGILState_Ensure();
	PyObject *path = str(fact->path, fact->path_len), *name = str(fact->name, fact->name_len);
	check(PyDict_SetItem(PyDict_GetItemWithError(dict, path), name, i % 2 ? Py_True : Py_False) == 0, "PyDict_SetItem");
	Py_DECREF(path);
	Py_DECREF(name);
	PyGILState_Release(state);
}
#endif

#endif
