/* SPDX-License-Identifier: MIT */
/*
 * unmarshal: code objects from their marshalled form, the same as CPython's marshal makes, with less work.
 *
 * Reading code is the biggest part of an import that is left once finding and validating cost nothing, and most of it is strings: every module
 * brings its own "self" and "__init__", which CPython makes, hashes, finds interned already, and throws away. Here, a table of the interned strings met so
 * far is asked first, by the bytes as they lie in the pack. Objects that the stream refers to again are kept in an array, not in a list, and
 * tuples that can be in no cycle are taken from the collector at once (it would do so itself, when it next came by).
 *
 * The format is that of CPython's Python/marshal.c, versions 3 and 4. What code made by the compiler does not hold (lists, dicts, old
 * ways of writing numbers), or is not as it must be, is left to CPython as a whole, so that it is also CPython that says what is wrong with it.
 *
 * Code objects are made by the function that marshal uses, _PyCode_New(), which 3.11 and 3.12 export. Its contract comes from the headers of the
 * build and is proven before it is relied on: the first module of a process is read both ways and must come out equal.
 */
#if LW_HAVE_CODE_NEW
#define Py_BUILD_CORE 1 /* code_layout.h */
#endif
#include "state.h"

#include "hash.h"

#include <marshal.h>

#if LW_HAVE_CODE_NEW
#include "code_layout.h"

#include <endian.h>

/* --- interned strings --- */

/*
 * Open addressing, no deletion. A slot is the address of a string, with bits of its hash in the 16 bits that addresses of programs do not use: what
 * is looked up lies all over the memory, and a slot of 8 bytes that can tell by itself that it is not the one is what the processor waits least for.
 */
enum { FIRST_ROOM = 16 * 1024, STRINGS_MAX = 256 * 1024, TAG_SHIFT = 48 };

static PyObject *string_of(uint64_t slot)
{
	return (PyObject *)(uintptr_t)(slot << (64 - TAG_SHIFT) >> (64 - TAG_SHIFT));
}

static bool is_same(PyObject *string, const void *text, size_t len)
{
	return (size_t)PyUnicode_GET_LENGTH(string) == len && memcmp(PyUnicode_DATA(string), text, len) == 0;
}

/* The place of a string, or the free one where it belongs. There is always a free one. */
static uint64_t *place(const struct lw_strings *table, uint64_t hash, const void *text, size_t len)
{
	uint32_t mask = table->room - 1;
	for (uint32_t i = (uint32_t)hash & mask;; i = (i + 1) & mask) {
		uint64_t slot = table->slot[i];
		if (!slot || (slot >> TAG_SHIFT == hash >> TAG_SHIFT && is_same(string_of(slot), text, len)))
			return &table->slot[i];
	}
}

/* The slot for STRING, whose bytes are hashed again. */
static uint64_t *place_of(const struct lw_strings *table, PyObject *string, uint64_t *hash)
{
	size_t len = (size_t)PyUnicode_GET_LENGTH(string);
	*hash = lw_hash64(PyUnicode_DATA(string), len);
	return place(table, *hash, PyUnicode_DATA(string), len);
}

/* 0, or -1 without an exception: no memory. */
static int enlarge(struct lw_strings *table)
{
	struct lw_strings larger = { .room = table->room ? 2 * table->room : FIRST_ROOM, .used = table->used };
	larger.slot = PyMem_RawCalloc(larger.room, sizeof(*larger.slot));
	if (!larger.slot)
		return -1;
	uint64_t hash;
	for (uint32_t i = 0; i < table->room; i++)
		if (table->slot[i])
			*place_of(&larger, string_of(table->slot[i]), &hash) = table->slot[i];
	PyMem_RawFree(table->slot);
	*table = larger;
	return 0;
}

/* STRING, interned (or there was no memory) and ASCII, is found from now on; not without memory, or if its address has more bits than we can keep. */
static void remember(struct lw_strings *table, PyObject *string)
{
	if (!PyUnicode_CHECK_INTERNED(string))
		return;
	if (table->used >= STRINGS_MAX || (uint64_t)(uintptr_t)string >> TAG_SHIFT || (table->used >= table->room / 4 * 3 && enlarge(table) < 0))
		return;
	uint64_t hash, *slot = place_of(table, string, &hash);
	if (*slot)
		return;
	*slot = (hash >> TAG_SHIFT << TAG_SHIFT) | (uint64_t)(uintptr_t)Py_NewRef(string);
	table->used++;
}

/*
 * Not at the end of the interpreter: to find all the strings in memory once more, to free them, takes longer than to read a hundred modules. A process that
 * initialises Python again and again has them for good, as it has what CPython itself leaves behind.
 */
static void forget_all(struct lw_strings *table)
{
	struct lw_strings old = *table;
	*table = (struct lw_strings){ 0 };
	for (uint32_t i = 0; i < old.room && !_Py_IsFinalizing(); i++)
		Py_XDECREF(string_of(old.slot[i]));
	PyMem_RawFree(old.slot);
}

/* --- the stream --- */

enum { DEPTH_MAX = 200, FEW = 256, FLAG_REF = 0x80 };

/* Functions that read return NULL, with or without an exception, for whatever CPython is to read itself. */
struct reader {
	const unsigned char *at, *end;
	struct lw_strings *strings;
	PyObject **ref;		/* strong; NULL: under construction */
	size_t refs, room;
	unsigned depth;
	PyObject *few[FEW];
};

static PyObject *read_object(struct reader *reader);

static const unsigned char *take(struct reader *reader, size_t size)
{
	if ((size_t)(reader->end - reader->at) < size)
		return NULL;
	reader->at += size;
	return reader->at - size;
}

static bool take_u8(struct reader *reader, uint32_t *out)
{
	if (reader->at == reader->end)
		return false;
	*out = *reader->at++;
	return true;
}

static bool take_u32(struct reader *reader, uint32_t *out)
{
	const unsigned char *bytes = take(reader, sizeof(*out));
	if (!bytes)
		return false;
	memcpy(out, bytes, sizeof(*out));
	*out = le32toh(*out);
	return true;
}

static bool take_int(struct reader *reader, int *out)
{
	uint32_t value;
	bool ok = take_u32(reader, &value);
	if (ok)
		*out = (int)(int32_t)value;
	return ok;
}

static bool take_double(struct reader *reader, double *out)
{
	const unsigned char *bytes = take(reader, sizeof(uint64_t));
	if (!bytes)
		return false;
	uint64_t bits;
	memcpy(&bits, bytes, sizeof(bits));
	bits = le64toh(bits);
	memcpy(out, &bits, sizeof(bits));
	return true;
}

/* --- what the stream refers to again, by the order in which it began --- */

static bool make_room(struct reader *reader)
{
	if (reader->refs < reader->room)
		return true;
	size_t room = 2 * reader->room;
	PyObject **larger = reader->ref == reader->few ? PyMem_Malloc(room * sizeof(*larger)) : PyMem_Realloc(reader->ref, room * sizeof(*larger));
	if (!larger)
		return false;
	if (reader->ref == reader->few)
		memcpy(larger, reader->few, sizeof(reader->few));
	reader->ref = larger;
	reader->room = room;
	return true;
}

/* An object that is yet to be made gets its number; SIZE_MAX: there is no memory. */
static size_t reserve(struct reader *reader)
{
	if (!make_room(reader))
		return SIZE_MAX;
	reader->ref[reader->refs] = NULL;
	return reader->refs++;
}

/* OBJECT, or NULL (and OBJECT is gone). */
static PyObject *number(struct reader *reader, PyObject *object)
{
	if (!object)
		return NULL;
	if (!make_room(reader)) {
		Py_DECREF(object);
		return NULL;
	}
	reader->ref[reader->refs++] = Py_NewRef(object);
	return object;
}

static PyObject *refer(const struct reader *reader, uint32_t i)
{
	return i < reader->refs ? Py_XNewRef(reader->ref[i]) : NULL;
}

static void drop_refs(struct reader *reader)
{
	for (size_t i = 0; i < reader->refs; i++)
		Py_XDECREF(reader->ref[i]);
	if (reader->ref != reader->few)
		PyMem_Free(reader->ref);
}

/* --- leaves --- */

static bool is_ascii(const unsigned char *text, size_t len)
{
	const uint64_t high = UINT64_C(0x8080808080808080);
	uint64_t seen = 0, word;
	for (; len >= sizeof(word); len -= sizeof(word), text += sizeof(word)) {
		memcpy(&word, text, sizeof(word));
		seen |= word;
	}
	for (; len; len--)
		seen |= *text++;
	return !(seen & high);
}

static PyObject *make_ascii(const unsigned char *text, uint32_t len)
{
	if (len <= 1) /* there is one of each */
		return PyUnicode_FromKindAndData(PyUnicode_1BYTE_KIND, text, (Py_ssize_t)len);
	if (!is_ascii(text, len))
		return NULL;
	PyObject *string = PyUnicode_New((Py_ssize_t)len, 127);
	if (string)
		memcpy(PyUnicode_DATA(string), text, len);
	return string;
}

static PyObject *read_ascii(struct reader *reader, uint32_t len)
{
	const unsigned char *text = take(reader, len);
	return text ? make_ascii(text, len) : NULL;
}

static PyObject *read_interned_ascii(struct reader *reader, uint32_t len)
{
	const unsigned char *text = take(reader, len);
	if (!text)
		return NULL;
	if (reader->strings->room) {
		uint64_t known = *place(reader->strings, lw_hash64(text, len), text, len);
		if (known)
			return Py_NewRef(string_of(known));
	}
	PyObject *string = make_ascii(text, len);
	if (string) {
		PyUnicode_InternInPlace(&string);
		remember(reader->strings, string);
	}
	return string;
}

static PyObject *read_utf8(struct reader *reader, bool interned)
{
	uint32_t len;
	const unsigned char *text = take_u32(reader, &len) ? take(reader, len) : NULL;
	PyObject *string = text ? PyUnicode_DecodeUTF8((const char *)text, (Py_ssize_t)len, "surrogatepass") : NULL;
	if (string && interned)
		PyUnicode_InternInPlace(&string);
	return string;
}

static PyObject *read_bytes(struct reader *reader)
{
	uint32_t len;
	const unsigned char *bytes = take_u32(reader, &len) ? take(reader, len) : NULL;
	PyObject *object = bytes ? PyBytes_FromStringAndSize(NULL, (Py_ssize_t)len) : NULL; /* given the bytes, it would share those of length 1 */
	if (object)
		memcpy(PyBytes_AS_STRING(object), bytes, len);
	return object;
}

static PyObject *read_int(struct reader *reader)
{
	int value;
	return take_int(reader, &value) ? PyLong_FromLong(value) : NULL;
}

/* Digits of 15 bits, least significant first, written as a number of 2 bytes each; their count has the sign. */
static PyObject *read_long(struct reader *reader)
{
	enum { DIGIT_BITS = 15, DIGITS_MAX = 64 };
	unsigned char bytes[DIGITS_MAX * 2] = { 0 };
	int count;
	if (!take_int(reader, &count) || count == 0 || count > DIGITS_MAX || count < -DIGITS_MAX)
		return NULL;
	unsigned digits = (unsigned)(count < 0 ? -count : count);
	const unsigned char *digit = take(reader, 2 * (size_t)digits);
	if (!digit || !(digit[2 * digits - 2] | digit[2 * digits - 1]))
		return NULL;
	for (unsigned i = 0; i < digits; i++) {
		uint32_t value = (uint32_t)digit[2 * i] | (uint32_t)digit[2 * i + 1] << 8, bit = i * DIGIT_BITS;
		if (value >> DIGIT_BITS)
			return NULL;
		value <<= bit % 8;
		for (unsigned k = bit / 8; value; k++, value >>= 8)
			bytes[k] |= (unsigned char)value;
	}
	PyObject *magnitude = _PyLong_FromByteArray(bytes, sizeof(bytes), 1, 0);
	if (!magnitude || count > 0)
		return magnitude;
	PyObject *negative = PyNumber_Negative(magnitude);
	Py_DECREF(magnitude);
	return negative;
}

static PyObject *read_float(struct reader *reader)
{
	double value;
	return take_double(reader, &value) ? PyFloat_FromDouble(value) : NULL;
}

static PyObject *read_complex(struct reader *reader)
{
	double real, imag;
	return take_double(reader, &real) && take_double(reader, &imag) ? PyComplex_FromDoubles(real, imag) : NULL;
}

/* --- containers --- */

static bool may_be_in_cycle(PyObject *object)
{
	return PyType_IS_GC(Py_TYPE(object)) && (!PyTuple_CheckExact(object) || PyObject_GC_IsTracked(object));
}

static PyObject *read_tuple(struct reader *reader, uint32_t len, bool numbered)
{
	if (len > (size_t)(reader->end - reader->at)) /* an item has a byte at least */
		return NULL;
	PyObject *tuple = PyTuple_New((Py_ssize_t)len);
	if (numbered)
		tuple = number(reader, tuple);
	bool tracked = false;
	for (uint32_t i = 0; tuple && i < len; i++) {
		PyObject *item = read_object(reader);
		if (item) {
			PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, item);
			tracked |= may_be_in_cycle(item);
		} else {
			Py_CLEAR(tuple);
		}
	}
	if (tuple && len && !tracked)
		PyObject_GC_UnTrack(tuple);
	return tuple;
}

/* A set may be added to while nobody else has it: it gets its number first, and is there when it is complete. */
static PyObject *read_frozenset(struct reader *reader, bool numbered)
{
	uint32_t len;
	size_t i = 0;
	if (!take_u32(reader, &len) || len > (size_t)(reader->end - reader->at))
		return NULL;
	if (!len) {
		PyObject *empty = PyObject_CallNoArgs((PyObject *)&PyFrozenSet_Type);
		return numbered ? number(reader, empty) : empty;
	}
	if (numbered && (i = reserve(reader)) == SIZE_MAX)
		return NULL;
	PyObject *set = PyFrozenSet_New(NULL);
	for (uint32_t k = 0; set && k < len; k++) {
		PyObject *item = read_object(reader);
		if (!item || PySet_Add(set, item) < 0)
			Py_CLEAR(set);
		Py_XDECREF(item);
	}
	if (set && numbered)
		reader->ref[i] = Py_NewRef(set);
	return set;
}

static PyObject *read_code(struct reader *reader, bool numbered)
{
	struct _PyCodeConstructor con = { 0 };
	PyObject *code = NULL;
	size_t i = numbered ? reserve(reader) : 0;
	if (i != SIZE_MAX && take_int(reader, &con.argcount) && take_int(reader, &con.posonlyargcount) && take_int(reader, &con.kwonlyargcount) &&
			take_int(reader, &con.stacksize) && take_int(reader, &con.flags) && (con.code = read_object(reader)) &&
			(con.consts = read_object(reader)) && (con.names = read_object(reader)) && (con.localsplusnames = read_object(reader)) &&
			(con.localspluskinds = read_object(reader)) && (con.filename = read_object(reader)) && (con.name = read_object(reader)) &&
			(con.qualname = read_object(reader)) && take_int(reader, &con.firstlineno) && (con.linetable = read_object(reader)) &&
			(con.exceptiontable = read_object(reader)) && _PyCode_Validate(&con) == 0) {
		struct _PyCodeConstructor lent = con; /* where positions are not wanted, another linetable is put into it */
		code = (PyObject *)_PyCode_New(&lent);
	}
	if (code && numbered)
		reader->ref[i] = Py_NewRef(code);
	PyObject *const parts[] = { con.code, con.consts, con.names, con.localsplusnames, con.localspluskinds, con.filename, con.name, con.qualname,
		con.linetable, con.exceptiontable };
	for (size_t k = 0; k < sizeof(parts) / sizeof(parts[0]); k++)
		Py_XDECREF(parts[k]);
	return code;
}

/* --- any --- */

static PyObject *read_leaf(struct reader *reader, unsigned char type)
{
	uint32_t len;
	switch (type) {
	case 'Z':
		return take_u8(reader, &len) ? read_interned_ascii(reader, len) : NULL;
	case 'z':
		return take_u8(reader, &len) ? read_ascii(reader, len) : NULL;
	case 's':
		return read_bytes(reader);
	case 'i':
		return read_int(reader);
	case 'A':
		return take_u32(reader, &len) ? read_interned_ascii(reader, len) : NULL;
	case 'a':
		return take_u32(reader, &len) ? read_ascii(reader, len) : NULL;
	case 't':
		return read_utf8(reader, true);
	case 'u':
		return read_utf8(reader, false);
	case 'g':
		return read_float(reader);
	case 'l':
		return read_long(reader);
	case 'y':
		return read_complex(reader);
	default:
		return NULL;
	}
}

static PyObject *read_type(struct reader *reader, unsigned char type, bool numbered)
{
	uint32_t n;
	switch (type) {
	case 'r':
		return take_u32(reader, &n) ? refer(reader, n) : NULL;
	case 'N':
		return Py_NewRef(Py_None);
	case 'T':
		return Py_NewRef(Py_True);
	case 'F':
		return Py_NewRef(Py_False);
	case '.':
		return Py_NewRef(Py_Ellipsis);
	case ')':
		return take_u8(reader, &n) ? read_tuple(reader, n, numbered) : NULL;
	case '(':
		return take_u32(reader, &n) ? read_tuple(reader, n, numbered) : NULL;
	case '>':
		return read_frozenset(reader, numbered);
	case 'c':
		return read_code(reader, numbered);
	default: {
		PyObject *leaf = read_leaf(reader, type);
		return numbered ? number(reader, leaf) : leaf;
	}
	}
}

static PyObject *read_object(struct reader *reader)
{
	uint32_t type;
	if (reader->depth >= DEPTH_MAX || !take_u8(reader, &type))
		return NULL;
	reader->depth++;
	PyObject *object = read_type(reader, (unsigned char)(type & ~(unsigned)FLAG_REF), type & FLAG_REF);
	reader->depth--;
	return object;
}

/* NULL without an exception: CPython is to read it. */
static PyObject *read_code_object(lw_state *state, const void *data, size_t len)
{
	struct reader reader;
	reader.at = data;
	reader.end = reader.at + len;
	reader.strings = &state->unmarshal.strings;
	reader.ref = reader.few;
	reader.refs = reader.depth = 0;
	reader.room = FEW;
	PyObject *code = len && (reader.at[0] & ~FLAG_REF) == 'c' ? read_object(&reader) : NULL;
	drop_refs(&reader);
	if (!code)
		PyErr_Clear();
	return code;
}

/* 1, 0, -1. Code objects are equal without regard to what is asked here first. */
static int is_equal(PyObject *a, PyObject *b)
{
	static const char *const names[] = { "co_filename", "co_qualname", "co_stacksize" };
	int same = 1;
	for (size_t i = 0; same > 0 && i < sizeof(names) / sizeof(names[0]); i++) {
		PyObject *x = PyObject_GetAttrString(a, names[i]), *y = x ? PyObject_GetAttrString(b, names[i]) : NULL;
		same = y ? PyObject_RichCompareBool(x, y, Py_EQ) : -1;
		Py_XDECREF(x);
		Py_XDECREF(y);
	}
	return same > 0 ? PyObject_RichCompareBool(a, b, Py_EQ) : same;
}

/* Read both ways; what comes of it decides. */
static PyObject *prove(lw_state *state, const void *data, size_t len)
{
	PyObject *code = PyMarshal_ReadObjectFromString(data, (Py_ssize_t)len);
	PyObject *ours = code && PyCode_Check(code) ? read_code_object(state, data, len) : NULL;
	if (!ours)
		return code;
	int same = is_equal(code, ours);
	PyErr_Clear();
	Py_DECREF(ours);
	if (same > 0) {
		state->unmarshal.state = LW_UNMARSHAL_PROVEN;
	} else if (same == 0) {
		state->unmarshal.state = LW_UNMARSHAL_OFF;
		state->unmarshal.reason = "what came of it was not equal to what CPython's marshal makes";
	}
	return code;
}

void lw_unmarshal_find(lw_state *state, bool wanted)
{
	struct lw_unmarshal *unmarshal = &state->unmarshal;
	bool exported = _PyCode_New && _PyCode_Validate;
	unmarshal->reason = !wanted ? "switched off by LADEWERK_UNMARSHAL=0" : exported ? NULL : "this interpreter does not export _PyCode_New()";
	if (unmarshal->reason)
		unmarshal->state = LW_UNMARSHAL_OFF;
	else if (unmarshal->state == LW_UNMARSHAL_OFF)
		unmarshal->state = LW_UNMARSHAL_UNPROVEN;
}

PyObject *lw_unmarshal(lw_state *state, const void *data, size_t len)
{
	if (state->unmarshal.state == LW_UNMARSHAL_UNPROVEN)
		return prove(state, data, len);
	PyObject *code = state->unmarshal.state == LW_UNMARSHAL_PROVEN ? read_code_object(state, data, len) : NULL;
	if (!code) /* audited there */
		return PyMarshal_ReadObjectFromString(data, (Py_ssize_t)len);
	if (PySys_Audit("marshal.loads", "y#", (const char *)data, (Py_ssize_t)len) < 0)
		Py_CLEAR(code);
	else
		state->unmarshal.count++;
	return code;
}

void lw_unmarshal_clear(lw_state *state)
{
	forget_all(&state->unmarshal.strings);
}
#else
void lw_unmarshal_find(lw_state *state, bool wanted)
{
	state->unmarshal.reason = wanted ? "this interpreter does not export _PyCode_New(), as 3.11 and 3.12 do" : "switched off by LADEWERK_UNMARSHAL=0";
}

PyObject *lw_unmarshal(lw_state *state, const void *data, size_t len)
{
	return PyMarshal_ReadObjectFromString(data, (Py_ssize_t)len);
}

void lw_unmarshal_clear(lw_state *state) {}
#endif
