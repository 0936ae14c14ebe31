/* SPDX-License-Identifier: MIT */
/*
 * names: see names.h. A stem never holds a dot, so the first dot of a directory entry decides: what follows it is one of
 * the suffixes, byte for byte, or the entry is nothing to import.
 */
#include "names.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <string.h>

static int add_suffix(struct lw_suffixes *suffixes, const char *text)
{
	size_t len = strnlen(text, LW_SUFFIX_LEN + 1);
	if (text[0] != '.' || len > LW_SUFFIX_LEN)
		return -EINVAL;
	suffixes->item[suffixes->count].len = (uint8_t)len;
	memcpy(suffixes->item[suffixes->count].text, text, len);
	suffixes->count++;
	return 0;
}

int lw_suffixes_init(struct lw_suffixes *suffixes, const char *const *extension, unsigned count)
{
	if (count > LW_SUFFIX_MAX - 2)
		return -E2BIG;
	memset(suffixes, 0, sizeof *suffixes);
	suffixes->source = count;
	for (unsigned i = 0; i < count; i++) {
		int error = add_suffix(suffixes, extension[i]);
		if (error)
			return error;
	}
	add_suffix(suffixes, ".py");
	add_suffix(suffixes, ".pyc");
	return 0;
}

bool lw_names_importable(const char *name, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (name[i] == '.' || name[i] == '/' || name[i] == '\0')
			return false;
	return len > 0;
}

static bool is(const char *name, size_t len, const char *text)
{
	return len == strlen(text) && memcmp(name, text, len) == 0;
}

bool lw_names_entered(const char *name, size_t len)
{
	return lw_names_importable(name, len) && !is(name, len, "__pycache__") && !is(name, len, "node_modules");
}

static lw_kinds suffix_kind(const struct lw_suffixes *suffixes, const char *text, size_t len)
{
	for (unsigned i = 0; i < suffixes->count; i++)
		if (suffixes->item[i].len == len && memcmp(suffixes->item[i].text, text, len) == 0)
			return LW_KIND_SUFFIX(i);
	return 0;
}

static bool type_fits(lw_kinds kind, unsigned char d_type)
{
	return d_type == DT_LNK || d_type == DT_UNKNOWN || d_type == (kind == LW_KIND_DIR ? DT_DIR : DT_REG);
}

lw_kinds lw_names_classify(const struct lw_suffixes *suffixes, const char *name, size_t len,
		unsigned char d_type, size_t *stem)
{
	const char *dot = memchr(name, '.', len);
	size_t head = dot ? (size_t)(dot - name) : len;
	if (!lw_names_importable(name, head))
		return 0;
	lw_kinds kind = dot ? suffix_kind(suffixes, dot, len - head) : LW_KIND_DIR;
	if (!kind || !type_fits(kind, d_type))
		return 0;
	*stem = head;
	return kind;
}

static bool all_importable(const char *text, size_t len, char separator)
{
	for (;;) {
		const char *end = memchr(text, separator, len);
		size_t part = end ? (size_t)(end - text) : len;
		if (!lw_names_importable(text, part))
			return false;
		if (!end)
			return true;
		text += part + 1;
		len -= part + 1;
	}
}

static int translate(const char *text, size_t len, char from, char to, char *out, size_t size)
{
	if (!all_importable(text, len, from))
		return -EINVAL;
	if (len >= size || len > INT_MAX)
		return -ENAMETOOLONG;
	for (size_t i = 0; i < len; i++)
		out[i] = text[i] == from ? to : text[i];
	out[len] = '\0';
	return (int)len;
}

int lw_names_dotted(const struct lw_suffixes *suffixes, const char *path, size_t len, char *out, size_t size)
{
	static const char init[] = "__init__";
	const char *slash = memrchr(path, '/', len);
	size_t base = slash ? (size_t)(slash - path) + 1 : 0, stem;
	if (!lw_names_classify(suffixes, path + base, len - base, DT_REG, &stem))
		return -EINVAL;
	if (stem != strlen(init) || memcmp(path + base, init, stem) != 0)
		return translate(path, base + stem, '/', '.', out, size);
	return base ? translate(path, base - 1, '/', '.', out, size) : -EINVAL;
}

int lw_names_path(const char *dotted, size_t len, char *out, size_t size)
{
	return translate(dotted, len, '.', '/', out, size);
}
