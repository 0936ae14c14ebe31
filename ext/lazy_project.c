/* SPDX-License-Identifier: MIT */
/*
 * lazy_project: [tool.ladewerk.lazy] of a pyproject.toml.
 *
 *     [tool.ladewerk.lazy]
 *     mode = "own"
 *     exclude = ["pkg", "in pkg", "of pkg.mod", "with numba"]
 *     include = ["of pkg.mod.other"]
 *
 * This is read at the start of programs, where importing tomllib would cost more than most programs' own modules, and would show in sys.modules. So it is read here: all of
 * TOML's strings, keys, arrays and tables, in any of the forms in which the three settings may be written; of other values only where they end. What tomllib
 * accepts is read as tomllib reads it; not all that tomllib refuses is noticed.
 */
#include "lazy.h"

/* Where a key leads, from the top of the document; in this order. */
enum place { ELSEWHERE, TOP, TOOL, LADEWERK, TABLE, MODE, EXCLUDE, INCLUDE, UNKNOWN };

enum { DEPTH_MAX = 100 };

struct reader {
	const char *begin, *at, *end;	/* *end is NUL */
	char *word;			/* a key or string as read last; as long as the text */
	size_t len;
	const char *wrong;		/* NULL, or what is; nothing is read from then on */
	bool set[UNKNOWN];		/* that setting was met */
	char *lines[2], *line_at[2];	/* of exclude and include */
	struct lw_lazy_project *project;
};

static bool complain(struct reader *reader, const char *wrong)
{
	if (!reader->wrong)
		reader->wrong = wrong;
	return false;
}

static bool no_toml(struct reader *reader)
{
	return complain(reader, "this is no TOML");
}

/* --- characters --- */

static void skip_blanks(struct reader *reader)
{
	while (*reader->at == ' ' || *reader->at == '\t' || *reader->at == '\r')
		reader->at++;
}

static void skip_comment(struct reader *reader)
{
	if (*reader->at == '#')
		while (reader->at < reader->end && *reader->at != '\n')
			reader->at++;
}

/* Blanks, comments, ends of lines. */
static void skip_space(struct reader *reader)
{
	for (;;) {
		skip_blanks(reader);
		skip_comment(reader);
		if (*reader->at != '\n')
			return;
		reader->at++;
	}
}

static bool take(struct reader *reader, char c)
{
	if (*reader->at != c || reader->at == reader->end)
		return false;
	reader->at++;
	return true;
}

static void put(struct reader *reader, char c)
{
	reader->word[reader->len++] = c;
}

static void put_code_point(struct reader *reader, unsigned long c)
{
	if (c < 0x80)
		put(reader, (char)c);
	else if (c < 0x800)
		put(reader, (char)(0xc0 | c >> 6));
	else if (c < 0x10000)
		put(reader, (char)(0xe0 | c >> 12)), put(reader, (char)(0x80 | (c >> 6 & 0x3f)));
	else
		put(reader, (char)(0xf0 | c >> 18)), put(reader, (char)(0x80 | (c >> 12 & 0x3f))), put(reader, (char)(0x80 | (c >> 6 & 0x3f)));
	if (c >= 0x80)
		put(reader, (char)(0x80 | (c & 0x3f)));
}

/* Where TEXT, SIZE bytes, is no UTF-8; NULL: it is. RFC 3629: no surrogates, nothing longer than it need be. */
static const char *find_bad_byte(const char *text, size_t size)
{
	const unsigned char *at = (const unsigned char *)text, *end = at + size;
	while (at < end) {
		unsigned char first = *at;
		int more = first < 0x80 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
		unsigned char low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80, high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
		if (more && (first < 0xc2 || first > 0xf4 || end - at <= more || at[1] < low || at[1] > high))
			return (const char *)at;
		for (int i = 2; i <= more; i++)
			if ((at[i] & 0xc0) != 0x80)
				return (const char *)at;
		at += 1 + more;
	}
	return NULL;
}

/* --- strings --- */

/* DIGITS hexadecimal ones: a character. Its UTF-8 is shorter than its escape. */
static bool read_code_point(struct reader *reader, int digits)
{
	unsigned long c = 0;
	for (; digits; digits--, reader->at++) {
		const char *hex = "0123456789abcdef", *found = *reader->at ? strchr(hex, *reader->at | 32) : NULL;
		if (!found || *reader->at < '0')
			return no_toml(reader);
		c = c << 4 | (unsigned long)(found - hex);
	}
	if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return no_toml(reader);
	put_code_point(reader, c);
	return true;
}

/* A backslash at the end of a line of a long string: the blanks and ends of lines behind it are not part of the string. */
static bool read_continuation(struct reader *reader)
{
	skip_blanks(reader);
	if (*reader->at != '\n')
		return no_toml(reader);
	while (*reader->at == '\n' || *reader->at == ' ' || *reader->at == '\t' || *reader->at == '\r')
		reader->at++;
	return true;
}

/* Behind a backslash. */
static bool read_escape(struct reader *reader, bool is_long)
{
	static const char escapes[] = "b\bt\tn\nf\fr\re\033\"\"\\\\";
	char c = *reader->at;
	if (is_long && (c == '\n' || c == ' ' || c == '\t' || c == '\r'))
		return read_continuation(reader);
	if (c)
		reader->at++;
	if (c == 'u' || c == 'U' || c == 'x')
		return read_code_point(reader, c == 'u' ? 4 : c == 'U' ? 8 : 2);
	for (const char *known = escapes; *known; known += 2)
		if (c == *known)
			return put(reader, known[1]), true;
	return no_toml(reader);
}

/* Behind three QUOTEs: up to the last three of the next ones, of which there may be five. */
static bool read_long_string(struct reader *reader, char quote)
{
	const char marks[] = { quote, quote, quote, '\0' };
	if (reader->at[0] == '\r' && reader->at[1] == '\n')
		reader->at++;
	take(reader, '\n');
	while (reader->at < reader->end) {
		if (strncmp(reader->at, marks, 3) == 0) {
			reader->at += 3;
			for (int more = 0; more < 2 && take(reader, quote); more++)
				put(reader, quote);
			return true;
		}
		char c = *reader->at++;
		if (c != '\\' || quote == '\'')
			put(reader, c);
		else if (!read_escape(reader, true))
			return false;
	}
	return no_toml(reader);
}

static bool read_short_string(struct reader *reader, char quote)
{
	while (reader->at < reader->end && *reader->at != '\n') {
		char c = *reader->at++;
		if (c == quote)
			return true;
		if (c != '\\' || quote == '\'')
			put(reader, c);
		else if (!read_escape(reader, false))
			return false;
	}
	return no_toml(reader);
}

/* Where a quote stands. Then it is in reader->word, and ends with NUL. */
static bool read_string(struct reader *reader, bool may_be_long)
{
	char quote = *reader->at++;
	reader->len = 0;
	bool is_long = may_be_long && reader->at[0] == quote && reader->at[1] == quote;
	if (is_long)
		reader->at += 2;
	if (!(is_long ? read_long_string(reader, quote) : read_short_string(reader, quote)))
		return false;
	reader->word[reader->len] = '\0';
	return true;
}

static bool is_quote(char c)
{
	return c == '"' || c == '\'';
}

static bool is_word(const struct reader *reader, const char *text)
{
	return reader->len == strlen(text) && memcmp(reader->word, text, reader->len) == 0;
}

/* --- keys --- */

static bool read_bare_key(struct reader *reader)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
	reader->len = strspn(reader->at, letters);
	memcpy(reader->word, reader->at, reader->len);
	reader->at += reader->len;
	return reader->len ? true : no_toml(reader);
}

/* One further part of a key. */
static enum place step(struct reader *reader, enum place place)
{
	static const struct {
		enum place from;
		const char *name;
		enum place to;
	} ways[] = { { TOP, "tool", TOOL }, { TOOL, "ladewerk", LADEWERK }, { LADEWERK, "lazy", TABLE }, { TABLE, "mode", MODE }, { TABLE, "exclude", EXCLUDE },
		{ TABLE, "include", INCLUDE } };
	enum place to = place >= TABLE ? UNKNOWN : ELSEWHERE;
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++)
		if (ways[i].from == place && is_word(reader, ways[i].name))
			to = ways[i].to;
	if (to >= TABLE)
		reader->project->there = true;
	if (to == UNKNOWN)
		complain(reader, "there is no such setting; mode, exclude and include are");
	return to;
}

/* Parts with dots between them, from PLACE on. */
static bool read_key(struct reader *reader, enum place *place)
{
	do {
		skip_blanks(reader);
		if (!(is_quote(*reader->at) ? read_string(reader, false) : read_bare_key(reader)))
			return false;
		*place = step(reader, *place);
		skip_blanks(reader);
	} while (take(reader, '.'));
	return !reader->wrong;
}

/* --- values --- */

static bool read_value(struct reader *reader, enum place place, int depth);

static bool take_mode(struct reader *reader)
{
	if (!reader->len || is_word(reader, "1") || strlen(reader->word) != reader->len || !lw_lazy_parse_mode(reader->word, &reader->project->mode))
		return complain(reader, "mode is default, own, all or 0");
	reader->project->has_mode = true;
	return true;
}

/* An item of exclude or include, as a line of rules. */
static bool take_rule(struct reader *reader, enum place place)
{
	const char *verb = place == EXCLUDE ? "eager " : "lazy ";
	char **at = &reader->line_at[place == INCLUDE];
	if (strlen(reader->word) != reader->len || strpbrk(reader->word, "#\n"))
		return complain(reader, "this is no name of a module");
	char *line = *at;
	*at = stpcpy(stpcpy(line, verb), reader->word);
	const char *wrong = lw_lazy_wrong_rule(line, (size_t)(*at - line));
	*(*at)++ = '\n';
	return wrong ? complain(reader, wrong) : true;
}

static bool take_string(struct reader *reader, enum place place, bool in_array)
{
	if (place == MODE)
		return take_mode(reader);
	if (place == EXCLUDE || place == INCLUDE)
		return in_array ? take_rule(reader, place) : complain(reader, "exclude and include are arrays of strings");
	return true;
}

/* Neither a string nor an array nor a table: number, date, ... */
static bool read_bare_value(struct reader *reader)
{
	size_t len = strcspn(reader->at, ",]}#\n\"'[{=");
	reader->at += len;
	return len ? true : no_toml(reader);
}

/* An item of an array which is at PLACE. */
static bool read_item(struct reader *reader, enum place place, int depth)
{
	if (is_quote(*reader->at))
		return read_string(reader, true) && take_string(reader, place, true);
	if (place == EXCLUDE || place == INCLUDE)
		return complain(reader, "exclude and include are arrays of strings");
	return read_value(reader, ELSEWHERE, depth);
}

static bool read_array(struct reader *reader, enum place place, int depth)
{
	if (place == MODE)
		return complain(reader, "mode is default, own, all or 0");
	for (reader->at++; skip_space(reader), !take(reader, ']');) {
		if (!read_item(reader, place, depth))
			return false;
		skip_space(reader);
		if (!take(reader, ',') && *reader->at != ']')
			return no_toml(reader);
	}
	return true;
}

static bool read_assignment(struct reader *reader, enum place place, int depth)
{
	if (!read_key(reader, &place))
		return false;
	if (!take(reader, '='))
		return no_toml(reader);
	skip_blanks(reader);
	return read_value(reader, place, depth);
}

static bool read_inline_table(struct reader *reader, enum place place, int depth)
{
	for (reader->at++; skip_space(reader), !take(reader, '}');) {
		if (!read_assignment(reader, place, depth))
			return false;
		skip_space(reader);
		if (!take(reader, ',') && *reader->at != '}')
			return no_toml(reader);
	}
	return true;
}

/* What is assigned to PLACE. */
static bool read_value(struct reader *reader, enum place place, int depth)
{
	if (depth > DEPTH_MAX)
		return complain(reader, "this is nested too deep");
	if (place >= MODE) {
		if (reader->set[place])
			return complain(reader, "this was set already");
		reader->set[place] = true;
	}
	if (place < MODE && *reader->at == '{')
		return read_inline_table(reader, place, depth + 1);
	if (place == TABLE)
		return complain(reader, "tool.ladewerk.lazy is a table");
	if (*reader->at == '[')
		return read_array(reader, place, depth + 1);
	if (is_quote(*reader->at))
		return read_string(reader, true) && take_string(reader, place, false);
	if (place >= MODE)
		return complain(reader, place == MODE ? "mode is default, own, all or 0" : "exclude and include are arrays of strings");
	return read_bare_value(reader);
}

/* --- the document --- */

/* [table] or [[one of an array of tables]]: the place of the lines that follow. */
static bool read_header(struct reader *reader, enum place *place)
{
	reader->at++;
	bool array = take(reader, '[');
	*place = TOP;
	if (!read_key(reader, place))
		return false;
	if (!take(reader, ']') || (array && !take(reader, ']')))
		return no_toml(reader);
	if (*place > TABLE || (array && *place >= TABLE))
		return complain(reader, "tool.ladewerk.lazy is a table, of mode, exclude and include");
	return true;
}

/* Nothing is left of the line. */
static bool read_end_of_line(struct reader *reader)
{
	skip_blanks(reader);
	skip_comment(reader);
	return reader->at == reader->end || take(reader, '\n') ? true : no_toml(reader);
}

static void read_document(struct reader *reader)
{
	enum place place = TOP;
	bool good = true;
	while (good && (skip_space(reader), reader->at < reader->end))
		good = (*reader->at == '[' ? read_header(reader, &place) : read_assignment(reader, place, 0)) && read_end_of_line(reader);
}

static int line_of(const char *begin, const char *at)
{
	int line = 1;
	for (; begin < at; begin++)
		line += *begin == '\n';
	return line;
}

void lw_lazy_project_parse(const char *text, struct lw_lazy_project *project)
{
	/* An item of N bytes takes N + 2 of the text, and makes a line of at most N + 7. */
	const size_t size = strlen(text), room = 3 * size + 8;
	*project = (struct lw_lazy_project){ .rules = malloc(2 * room) };
	char *other = malloc(room + size + 1);
	if (!project->rules || !other) {
		snprintf(project->reason, sizeof(project->reason), "out of memory");
		goto done;
	}
	struct reader reader = { .begin = text, .at = text, .end = text + size, .word = other + room, .lines = { project->rules, other }, .line_at = { project->rules, other },
		.project = project };
	const char *bad = find_bad_byte(text, size);
	if (!bad)
		read_document(&reader);
	else
		reader.at = bad, complain(&reader, "this is not UTF-8; save the file in that encoding");
	if (reader.wrong)
		snprintf(project->reason, sizeof(project->reason), "line %d: %s", line_of(text, reader.at), reader.wrong);
	*reader.line_at[1] = '\0';
	strcpy(reader.line_at[0], other); /* what is included comes last, so it wins */
done:
	free(other);
}

void lw_lazy_project_clear(struct lw_lazy_project *project)
{
	free(project->rules);
	project->rules = NULL;
}
