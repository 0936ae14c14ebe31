/* SPDX-License-Identifier: MIT */
/* text: which bytes are characters, and what becomes of those that are not, or that mean something. */
#include "text.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

typedef void write_text(FILE *out, const char *text);

static char *written(write_text *write, const char *text)
{
	char *result = NULL;
	size_t size;
	FILE *out = open_memstream(&result, &size);
	write(out, text);
	fclose(out);
	return result;
}

/* Against Unicode's table of well-formed byte sequences: all that begin with two given bytes, where those after them decide nothing else. */
Test(text, characters)
{
	for (unsigned first = 0; first < 256; first++) {
		for (unsigned second = 0; second < 256; second++) {
			const char bytes[] = { (char)first, (char)second, '\x80', '\xbf', 0 };
			unsigned low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80, high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
			size_t size = first == 0 ? 0 : first < 0x80 ? 1 : first < 0xc2 || first > 0xf4 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
			if (size > 1 && (second < low || second > high))
				size = 0;
			cr_assert_eq(lw_text_character(bytes), size, "%02x %02x: %zu", first, second, lw_text_character(bytes));
		}
	}
}

/* Where a text ends too early, nothing behind its end is looked at (ASan would see that). */
Test(text, cut_off)
{
	static const char *const whole[] = { "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x90\x8d" };
	for (unsigned i = 0; i < 3; i++) {
		for (size_t length = 0; length <= i + 1; length++) {
			char *part = strndup(whole[i], length);
			cr_assert_eq(lw_text_character(part), 0);
			free(part);
		}
		cr_assert_eq(lw_text_character(whole[i]), i + 2);
	}
}

Test(text, forms)
{
	static const struct {
		const char *text, *json, *plain, *label;
	} table[] = {
		{ "", "", "", "" },
		{ "pkg.mod", "pkg.mod", "pkg.mod", "pkg.mod" },
		{ "a\"b\\c/", "a\\\"b\\\\c/", "a\"b\\c/", "a\\\"b\\\\c/" },
		{ "\n\t\x1b[2J\x7f", "\\u000a\\u0009\\u001b[2J\\u007f", "???[2J?", "???[2J?" },
		{ "\xc2\x9b" "1m\xc2\xa0", "\\u009b1m\xc2\xa0", "?1m\xc2\xa0", "?1m\xc2\xa0" },
		{ "\xe2\x80\xae\xe2\x81\xa7\xe2\x80\xa8\xd8\x9c", "\\u202e\\u2067\\u2028\\u061c", "????", "????" },
		{ "\xe2\x80\x90\xe2\x81\xaa\xf0\x9f\x90\x8d", "\xe2\x80\x90\xe2\x81\xaa\xf0\x9f\x90\x8d", "\xe2\x80\x90\xe2\x81\xaa\xf0\x9f\x90\x8d", "\xe2\x80\x90\xe2\x81\xaa\xf0\x9f\x90\x8d" },
		{ "a\xff\xc3", "a\xef\xbf\xbd\xef\xbf\xbd", "a\xef\xbf\xbd\xef\xbf\xbd", "a\xef\xbf\xbd\xef\xbf\xbd" },
		{ "\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
	};
	for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		char *json = written(lw_write_json_text, table[i].text), *plain = written(lw_write_plain, table[i].text), *label = written(lw_write_label, table[i].text);
		cr_expect_str_eq(json, table[i].json);
		cr_expect_str_eq(plain, table[i].plain);
		cr_expect_str_eq(label, table[i].label);
		cr_expect_eq(lw_text_is_plain(table[i].text), *table[i].text && strcmp(plain, table[i].text) == 0);
		free(json);
		free(plain);
		free(label);
	}
}

Test(text, durations)
{
	static const struct {
		uint64_t ns;
		const char *text;
	} table[] = {
		{ 0, "    0ns" }, { 999, "  999ns" }, { 1000, "  1.0us" }, { 999949, "999.9us" }, { 999950, "  1.0ms" }, { 12345678, " 12.3ms" }, { 999949999, "999.9ms" }, { 999950000, "  1.0s " },
		{ 3600000000000, "3600.0s " },
	};
	char text[LW_DURATION];
	for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		cr_expect_str_eq(lw_text_duration(table[i].ns, text), table[i].text);
	lw_text_duration(UINT64_MAX, text);
	cr_expect_leq(strlen(text), sizeof(text) - 1);
}

Test(text, waits)
{
	static const struct {
		enum lw_class kind;
		const char *module, *label, *word;
	} table[] = {
		{ LW_CLASS_MODULE, "a.b", "lock of a.b", "module" }, { LW_CLASS_MODULE, "", "a module's lock", "module" }, { LW_CLASS_GLOBAL, "", "global import lock", "global" },
		{ LW_CLASS_GIL, "", "GIL", "gil" }, { LW_CLASS_FUTEX, "", "another lock", "other" }, { (enum lw_class)99, "", "another lock", "other" },
	};
	char label[LW_WAIT_LABEL];
	for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		lw_wait_label(&(struct lw_wait){ .kind = table[i].kind, .module = table[i].module }, label, sizeof(label));
		cr_expect_str_eq(label, table[i].label);
		cr_expect_str_eq(lw_wait_kind(table[i].kind), table[i].word);
	}
	cr_expect_str_eq(lw_class_name(LW_CLASS_SLEEP), "sleep");
	cr_expect_str_eq(lw_class_name(LW_CLASSES), "other");
}
