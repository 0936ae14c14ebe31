/* SPDX-License-Identifier: MIT */
/*
 * lazy_tables: see lazy_tables.h.
 */
#include "lazy_tables.h"

#include <limits.h>
#include <string.h>

void lw_bytes_copy(struct lw_bytes *bytes, const void *data, size_t size)
{
	if (bytes->failed)
		return;
	if (size > bytes->room - bytes->size) {
		size_t room = 2 * (bytes->size + size) + 256;
		unsigned char *larger = PyMem_Realloc(bytes->data, room);
		if (!larger) {
			bytes->failed = true;
			return;
		}
		bytes->data = larger;
		bytes->room = room;
	}
	memcpy(bytes->data + bytes->size, data, size);
	bytes->size += size;
}

void lw_bytes_put(struct lw_bytes *bytes, unsigned byte)
{
	const unsigned char one = (unsigned char)byte;
	lw_bytes_copy(bytes, &one, 1);
}

/* --- exceptions: numbers in groups of 6 bits, the highest first; a mark on all groups but the last, another at the beginning of an entry --- */

enum { GROUP = 63, MORE = 64, FIRST = 128, NUMBER_MAX = 1 << 24 };

static bool take_number(const unsigned char **at, const unsigned char *end, uint32_t *number)
{
	*number = 0;
	while (*at < end && *number < NUMBER_MAX) {
		const unsigned char byte = *(*at)++;
		*number = *number << 6 | (byte & GROUP);
		if (!(byte & MORE))
			return true;
	}
	return false;
}

bool lw_handled_take(const unsigned char **at, const unsigned char *end, uint32_t units, struct lw_handled *entry)
{
	uint32_t size, depth;
	if (!take_number(at, end, &entry->begin) || !take_number(at, end, &size) || !take_number(at, end, &entry->target) || !take_number(at, end, &depth))
		return false;
	if (entry->begin > units || size > units - entry->begin || entry->target >= units)
		return false;
	entry->end = entry->begin + size;
	entry->depth = depth >> 1;
	entry->lasti = depth & 1;
	return true;
}

static void put_number(struct lw_bytes *table, uint32_t number, unsigned mark)
{
	unsigned shift = 0;
	while (number >> shift > GROUP)
		shift += 6;
	for (; shift; shift -= 6, mark = 0)
		lw_bytes_put(table, mark | MORE | (number >> shift & GROUP));
	lw_bytes_put(table, mark | (number & GROUP));
}

void lw_handled_put(struct lw_bytes *table, struct lw_handled entry)
{
	put_number(table, entry.begin, FIRST);
	put_number(table, entry.end - entry.begin, 0);
	put_number(table, entry.target, 0);
	put_number(table, entry.depth << 1 | entry.lasti, 0);
}

/* --- places: an entry is a byte (mark, kind, units - 1), and what the kind needs; numbers in groups of 6 bits, the lowest first --- */

enum kind { SHORT = 0, ONE_LINE = 10, NO_COLUMNS = 13, LONG = 14, NOWHERE = 15 };

struct cursor {
	const unsigned char *at, *end;
	bool damaged;
};

static unsigned take_byte(struct cursor *cursor)
{
	if (cursor->at < cursor->end)
		return *cursor->at++;
	cursor->damaged = true;
	return 0;
}

static int take_low_first(struct cursor *cursor)
{
	unsigned number = 0, byte = MORE;
	for (unsigned shift = 0; byte & MORE; shift += 6) {
		byte = take_byte(cursor);
		if (shift > 24)
			cursor->damaged = true;
		if (cursor->damaged)
			return 0;
		number |= (byte & GROUP) << shift;
	}
	return (int)number;
}

static int take_signed(struct cursor *cursor)
{
	const int number = take_low_first(cursor);
	return number & 1 ? -(number >> 1) : number >> 1;
}

/* The place of the entry that begins with FIRST_BYTE; *LINE goes on. */
static struct lw_place take_place(struct cursor *cursor, unsigned first_byte, int *line)
{
	const unsigned kind = first_byte >> 3 & 15;
	struct lw_place place = { .line = -1, .end_line = -1, .column = -1, .end_column = -1 };
	if (kind == NOWHERE)
		return place;
	int lines = 0;
	if (kind == LONG || kind == NO_COLUMNS)
		*line += take_signed(cursor);
	else if (kind >= ONE_LINE)
		*line += (int)kind - ONE_LINE;
	if (kind == LONG) {
		lines = take_low_first(cursor);
		place.column = take_low_first(cursor) - 1;
		place.end_column = take_low_first(cursor) - 1;
	} else if (kind < ONE_LINE) {
		const unsigned columns = take_byte(cursor);
		place.column = (int)(kind << 3 | columns >> 4);
		place.end_column = place.column + (int)(columns & 15);
	} else if (kind < NO_COLUMNS) {
		place.column = (int)take_byte(cursor);
		place.end_column = (int)take_byte(cursor);
	}
	place.line = *line;
	place.end_line = *line + lines;
	return place;
}

bool lw_places_read(PyCodeObject *code, struct lw_place *place, uint32_t units, int *last)
{
	const unsigned char *begin = (const unsigned char *)PyBytes_AS_STRING(code->co_linetable);
	struct cursor cursor = { begin, begin + PyBytes_GET_SIZE(code->co_linetable), false };
	uint32_t unit = 0;
	*last = code->co_firstlineno;
	while (cursor.at < cursor.end && !cursor.damaged) {
		const unsigned byte = take_byte(&cursor), size = (byte & 7) + 1;
		const struct lw_place here = take_place(&cursor, byte, last);
		if (!(byte & FIRST) || size > units - unit || abs(*last) > INT_MAX / 4)
			return false;
		for (unsigned i = 0; i < size; i++)
			place[unit++] = here;
	}
	return unit == units && !cursor.damaged;
}

static void put_low_first(struct lw_bytes *table, unsigned number)
{
	for (; number > GROUP; number >>= 6)
		lw_bytes_put(table, MORE | (number & GROUP));
	lw_bytes_put(table, number);
}

static void put_signed(struct lw_bytes *table, int number)
{
	put_low_first(table, number < 0 ? ((unsigned)-number << 1 | 1) : (unsigned)number << 1);
}

static void put_kind(struct lw_bytes *table, unsigned kind, uint32_t units)
{
	lw_bytes_put(table, FIRST | kind << 3 | (units - 1));
}

/* An entry: up to 8 units. The kinds are chosen as the compiler does. */
static void put_place(struct lw_bytes *table, struct lw_place place, uint32_t units, int delta)
{
	const int width = place.end_column - place.column;
	if (place.column < 0 && place.end_column < 0 && place.end_line == place.line) {
		put_kind(table, NO_COLUMNS, units);
		put_signed(table, delta);
	} else if (place.end_line == place.line && place.column >= 0 && place.end_column >= 0 && delta == 0 && place.column < 80 && width >= 0 && width < 16) {
		put_kind(table, SHORT + ((unsigned)place.column >> 3), units);
		lw_bytes_put(table, ((unsigned)place.column & 7) << 4 | (unsigned)width);
	} else if (place.end_line == place.line && place.column >= 0 && place.end_column >= 0 && delta >= 0 && delta < 3 && place.column < 128 && place.end_column < 128) {
		put_kind(table, ONE_LINE + (unsigned)delta, units);
		lw_bytes_put(table, (unsigned)place.column);
		lw_bytes_put(table, (unsigned)place.end_column);
	} else {
		put_kind(table, LONG, units);
		put_signed(table, delta);
		put_low_first(table, (unsigned)(place.end_line - place.line));
		put_low_first(table, (unsigned)(place.column + 1));
		put_low_first(table, (unsigned)(place.end_column + 1));
	}
}

void lw_places_put(struct lw_bytes *table, struct lw_place place, uint32_t units, int *last)
{
	for (uint32_t left = units; left; ) {
		const uint32_t now = left < 8 ? left : 8;
		if (place.line < 0) {
			put_kind(table, NOWHERE, now);
		} else {
			put_place(table, place, now, place.line - *last);
			*last = place.line;
		}
		left -= now;
	}
}
