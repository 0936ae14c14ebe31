/* SPDX-License-Identifier: MIT */
/*
 * lazy_tables: the two tables of a code object, read and written: which handler an exception has, and where each instruction stands in the source.
 * Formats: Objects/exception_handling_notes.txt and Objects/locations.md of CPython (InternalDocs/ since 3.14); the same from 3.11 on.
 *
 * Positions are in code units (2 bytes). No Python object, but for the tables that are read; nothing raises.
 */
#ifndef LW_EXT_LAZY_TABLES_H
#define LW_EXT_LAZY_TABLES_H

#include "state.h"

/** Bytes that grow. Without memory FAILED is set, once, and what is put is dropped. */
struct lw_bytes {
	unsigned char *data;	/* PyMem_Free() it */
	size_t size, room;
	bool failed;
};

void lw_bytes_put(struct lw_bytes *bytes, unsigned byte);
void lw_bytes_copy(struct lw_bytes *bytes, const void *data, size_t size);

/** Exceptions raised in [begin, end) go on at TARGET, with DEPTH values on the stack; LASTI: and the place of the instruction. */
struct lw_handled {
	uint32_t begin, end, target, depth;
	bool lasti;
};

/**
 * The entry at *AT of an exception table that ends at END, of a code with UNITS; *AT is moved behind it. False: there is none (*AT is END), or it is damaged.
 */
bool lw_handled_take(const unsigned char **at, const unsigned char *end, uint32_t units, struct lw_handled *entry);
void lw_handled_put(struct lw_bytes *table, struct lw_handled entry);

/** Where something stands; LINE -1: nowhere; COLUMN -1: the line is known only. Columns from 0, in bytes. */
struct lw_place {
	int line, end_line, column, end_column;
};

/**
 * The places of all UNITS of CODE, and in *LAST the line that the table has come to at its end. False if it is damaged.
 */
bool lw_places_read(PyCodeObject *code, struct lw_place *place, uint32_t units, int *last);
/** More UNITS at PLACE; *LAST: as above. */
void lw_places_put(struct lw_bytes *table, struct lw_place place, uint32_t units, int *last);

#endif
