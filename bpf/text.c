/* SPDX-License-Identifier: MIT */
/* text: see text.h. */
#include "text.h"

#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd"

static bool continues(unsigned char byte)
{
	return (byte & 0xc0) == 0x80;
}

size_t lw_text_character(const char *text)
{
	const unsigned char *c = (const unsigned char *)text;
	if (c[0] < 0x80)
		return c[0] != 0;
	if (c[0] < 0xc2 || c[0] > 0xf4 || !continues(c[1]))
		return 0;
	if (c[0] < 0xe0)
		return 2;
	/* What the second byte may not be, lest it be a longer form, a surrogate, or beyond U+10FFFF. */
	if ((c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xed && c[1] > 0x9f) || (c[0] == 0xf0 && c[1] < 0x90) || (c[0] == 0xf4 && c[1] > 0x8f))
		return 0;
	if (!continues(c[2]))
		return 0;
	if (c[0] < 0xf0)
		return 3;
	return continues(c[3]) ? 4 : 0;
}

/* The next character of *TEXT: written if SPECIAL does not do so itself. Behind it is *TEXT then. */
typedef bool write_special(FILE *out, const char *character, size_t size);

static void write_characters(FILE *out, const char *text, write_special *special)
{
	while (*text) {
		size_t size = lw_text_character(text);
		if (!size)
			fputs(REPLACEMENT, out);
		else if (!special(out, text, size))
			fwrite(text, 1, size, out);
		text += size ? size : 1;
	}
}

/* C0, DEL, C1; marks, overrides and isolates of direction; separators of lines and paragraphs. */
static bool is_control(const char *character, size_t size)
{
	const unsigned char *c = (const unsigned char *)character;
	if (size == 1)
		return c[0] < 0x20 || c[0] == 0x7f;
	if (size == 2)
		return (c[0] == 0xc2 && c[1] < 0xa0) || (c[0] == 0xd8 && c[1] == 0x9c);	/* U+0080..9F, U+061C */
	if (size == 3 && c[0] == 0xe2 && c[1] == 0x80)
		return (c[2] >= 0x8e && c[2] <= 0x8f) || (c[2] >= 0xa8 && c[2] <= 0xae);	/* U+200E, 200F, U+2028..202E */
	if (size == 3 && c[0] == 0xe2 && c[1] == 0x81)
		return c[2] >= 0xa6 && c[2] <= 0xa9;	/* U+2066..2069 */
	return false;
}

static unsigned code_of(const char *character, size_t size)
{
	unsigned code = (unsigned char)*character & (size == 1 ? 0x7f : 0xff >> (size + 1));
	for (size_t i = 1; i < size; i++)
		code = code << 6 | ((unsigned char)character[i] & 0x3f);
	return code;
}

/* JSON asks for C0 only; but lines are also divided, and terminals meant, by others. All are below U+10000. */
static bool json_special(FILE *out, const char *character, size_t size)
{
	if (*character == '"' || *character == '\\')
		return fprintf(out, "\\%c", *character), true;
	if (is_control(character, size))
		return fprintf(out, "\\u%04x", code_of(character, size)), true;
	return false;
}

void lw_write_json_text(FILE *out, const char *text)
{
	write_characters(out, text, json_special);
}

static bool plain_special(FILE *out, const char *character, size_t size)
{
	if (!is_control(character, size))
		return false;
	fputc('?', out);
	return true;
}

void lw_write_plain(FILE *out, const char *text)
{
	write_characters(out, text, plain_special);
}

bool lw_text_is_plain(const char *text)
{
	const char *end = text;
	for (size_t size; (size = lw_text_character(end)) && !is_control(end, size);)
		end += size;
	return end > text && !*end;
}

static bool label_special(FILE *out, const char *character, size_t size)
{
	if (*character == '"' || *character == '\\')
		return fprintf(out, "\\%c", *character), true;
	return plain_special(out, character, size);
}

void lw_write_label(FILE *out, const char *text)
{
	write_characters(out, text, label_special);
}

const char *lw_text_duration(uint64_t ns, char text[LW_DURATION])
{
	static const struct {
		const char *name;
		double ns;
	} units[] = { { "ns", 1 }, { "us", 1e3 }, { "ms", 1e6 }, { "s ", 1e9 } };
	unsigned unit = ns < 1000 ? 0 : ns < 999950 ? 1 : ns < 999950000 ? 2 : 3;
	snprintf(text, LW_DURATION, unit ? "%5.1f%s" : "%5.0f%s", (double)ns / units[unit].ns, units[unit].name);
	return text;
}

const char *lw_class_name(enum lw_class class)
{
	static const char *const names[LW_CLASSES] = {
		[LW_CLASS_CPU] = "cpu", [LW_CLASS_QUEUE] = "queue", [LW_CLASS_MODULE] = "module", [LW_CLASS_GLOBAL] = "global",
		[LW_CLASS_GIL] = "gil", [LW_CLASS_FUTEX] = "futex", [LW_CLASS_DISK] = "disk", [LW_CLASS_SLEEP] = "sleep",
	};
	return (unsigned)class < LW_CLASSES ? names[class] : "other";
}

const char *lw_wait_kind(enum lw_class class)
{
	return class == LW_CLASS_MODULE || class == LW_CLASS_GLOBAL || class == LW_CLASS_GIL ? lw_class_name(class) : "other";
}

void lw_wait_label(const struct lw_wait *wait, char *out, size_t size)
{
	if (wait->kind == LW_CLASS_MODULE && wait->module[0])
		snprintf(out, size, "lock of %s", wait->module);
	else if (wait->kind == LW_CLASS_MODULE)
		snprintf(out, size, "a module's lock");
	else if (wait->kind == LW_CLASS_GLOBAL)
		snprintf(out, size, "global import lock");
	else
		snprintf(out, size, "%s", wait->kind == LW_CLASS_GIL ? "GIL" : "another lock");
}
