/* SPDX-License-Identifier: MIT */
/*
 * lazy_policy: whether an import may wait.
 *
 * The mode decides first, by the two names of an import: who imports, and what. Rules take away from what the mode allows, never more. A rule is a line
 *
 *     eager|lazy [in|of|with] NAME
 *
 * about the imports *in* NAME (who imports), *of* NAME (what is imported), both of these (no word between), or *with* NAME: whoever imports NAME is wholly eager. NAME
 * stands for itself and all below it, `*` for every name. For each of the three questions the last line that speaks of the name decides; an import waits if neither
 * who imports nor what is imported has to be eager. So `lazy B` does not take away what `eager in A` promises to A where A imports B.
 *
 * The line `apart` is for `ladewerk lazy-check`, which looks for the name that has to be eager: of `from a import b, c` it has each wait, or not, by itself. Without it neither does if
 * one may not.
 *
 * One allocation, never written to after it was made: any number of threads and interpreters may ask.
 */
#include "lazy.h"
#include "hash.h"

enum kind { IN, OF, WITH, KINDS };

/* What was said of one name. */
struct said {
	const char *name;	/* not terminated; NULL: free */
	size_t len;
	int32_t line[KINDS];	/* the last line that speaks of it: positive says eager, negative lazy; 0: none */
	bool above;		/* a rule speaks of importers `with` it, or with something below it */
};

struct root {
	const char *path;
	size_t len;	/* without slashes at the end: 0 is the root directory */
};

struct lw_lazy_policy {
	enum lw_lazy_mode mode;
	struct root *root;
	size_t roots, mask;
	bool apart;
	uint64_t with;		/* bits of the names that rules speak of importers `with`: see bit_of() */
	bool with_all;		/* one speaks of all names */
	struct said said[];	/* open addressing; then the roots, then their text and that of the rules */
};

bool lw_lazy_parse_mode(const char *text, enum lw_lazy_mode *mode)
{
	static const struct {
		const char *name;
		enum lw_lazy_mode mode;
	} known[] = { { "", LW_LAZY_DEFAULT }, { "1", LW_LAZY_DEFAULT }, { "default", LW_LAZY_DEFAULT }, { "own", LW_LAZY_OWN }, { "all", LW_LAZY_ALL }, { "0", LW_LAZY_OFF } };
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (strcmp(text, known[i].name) == 0) {
			*mode = known[i].mode;
			return true;
		}
	return false;
}

/* --- names --- */

/* The index into policy->said of NAME, or of the free one that it would get: there always is one. */
static size_t slot_of(const lw_lazy_policy *policy, const char *name, size_t len)
{
	size_t at = lw_hash64(name, len) & policy->mask;
	while (policy->said[at].name && (policy->said[at].len != len || memcmp(policy->said[at].name, name, len) != 0))
		at = (at + 1) & policy->mask;
	return at;
}

static int32_t line_about(const lw_lazy_policy *policy, enum kind kind, const char *name, size_t len)
{
	return policy->said[slot_of(policy, name, len)].line[kind];
}

static size_t length_of_top(const char *name)
{
	return strcspn(name, ".\n\t\r #");
}

/* A bit that names below the same top-level one, of LEN, share: every name in the code of a module is asked for as one that may make it wholly eager. */
static uint64_t bit_of(const char *name, size_t len)
{
	return UINT64_C(1) << (((unsigned char)*name * 7 + len) & 63);
}

/* The later of two lines. */
static int32_t later(int32_t a, int32_t b)
{
	return abs(a) > abs(b) ? a : b;
}

/* The last line of KIND about NAME, or about one above it. */
static int32_t last_line(const lw_lazy_policy *policy, enum kind kind, const char *name)
{
	size_t len = strlen(name);
	int32_t line = line_about(policy, kind, "*", 1);
	for (size_t end = 0; end < len; end++) {
		const char *dot = memchr(name + end, '.', len - end);
		end = dot ? (size_t)(dot - name) : len;
		line = later(line, line_about(policy, kind, name, end));
	}
	return line;
}

/* --- rules --- */

struct word {
	const char *text;
	size_t len;
};

static bool is_word(struct word word, const char *text)
{
	return word.len == strlen(text) && memcmp(word.text, text, word.len) == 0;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* In a name of Python: all that is not ASCII counts as a letter. */
static bool is_letter(char c)
{
	return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (unsigned char)c >= 0x80;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* The next word of a line, *AT moves on; of no length at its end. */
static struct word next_word(const char **at, const char *end)
{
	while (*at < end && is_blank(**at))
		++*at;
	struct word word = { *at, 0 };
	while (*at < end && !is_blank(**at))
		++*at;
	word.len = (size_t)(*at - word.text);
	return word;
}

/* Parts with dots between them, or `*`. */
static bool is_name(struct word word)
{
	if (is_word(word, "*"))
		return true;
	for (size_t i = 0; i < word.len; i++) {
		char c = word.text[i];
		bool begins = i == 0 || word.text[i - 1] == '.';
		bool fits = c == '.' ? !begins && i + 1 < word.len : is_letter(c) || (is_digit(c) && !begins);
		if (!fits)
			return false;
	}
	return word.len > 0;
}

static bool parse_kind(struct word word, bool kinds[KINDS])
{
	kinds[IN] = is_word(word, "in");
	kinds[OF] = is_word(word, "of");
	kinds[WITH] = is_word(word, "with");
	return kinds[IN] || kinds[OF] || kinds[WITH];
}

struct rule {
	bool eager, apart, kinds[KINDS];
	struct word name;	/* of no length: the line says nothing */
};

/* A line without its comment. NULL, or what is wrong with it. */
static const char *parse_rule(const char *line, const char *end, struct rule *rule)
{
	struct word verb = next_word(&line, end), name = next_word(&line, end);
	*rule = (struct rule){ .eager = is_word(verb, "eager") };
	rule->apart = is_word(verb, "apart") && !name.len;
	if (!verb.len || rule->apart)
		return NULL;
	if (!rule->eager && !is_word(verb, "lazy"))
		return "a rule begins with `eager` or `lazy`";
	if (parse_kind(name, rule->kinds))
		name = next_word(&line, end);
	else
		rule->kinds[IN] = rule->kinds[OF] = true;
	if (!is_name(name))
		return name.len ? "this is no name of a module" : "the name of a module is missing";
	rule->name = name;
	return next_word(&line, end).len ? "there is more than one name in it" : NULL;
}

const char *lw_lazy_wrong_rule(const char *line, size_t len)
{
	struct rule rule;
	return parse_rule(line, line + len, &rule);
}

/* A rule speaks of importers `with` NAME: the first part of it is what they are told by at first. */
static void take_top(lw_lazy_policy *policy, struct word name)
{
	size_t len = length_of_top(name.text);
	struct said *said = &policy->said[slot_of(policy, name.text, len)];
	said->name = name.text;
	said->len = len;
	said->above = true;
	policy->with |= bit_of(name.text, len);
}

static void take_rule(lw_lazy_policy *policy, const struct rule *rule, int32_t number)
{
	struct said *said = &policy->said[slot_of(policy, rule->name.text, rule->name.len)];
	said->name = rule->name.text;
	said->len = rule->name.len;
	for (int kind = 0; kind < KINDS; kind++)
		if (rule->kinds[kind])
			said->line[kind] = rule->eager ? number : -number;
	if (rule->kinds[WITH] && is_word(rule->name, "*"))
		policy->with_all = true;
	else if (rule->kinds[WITH])
		take_top(policy, rule->name);
}

static const char *end_of_line(const char *line)
{
	return line + strcspn(line, "\n");
}

static bool parse_rules(lw_lazy_policy *policy, const char *text, char *reason, size_t size)
{
	int32_t number = 1;
	for (const char *line = text, *end; *line; line = *end ? end + 1 : end, number++) {
		end = end_of_line(line);
		const char *comment = memchr(line, '#', (size_t)(end - line));
		struct rule rule;
		const char *wrong = parse_rule(line, comment ? comment : end, &rule);
		if (rule.name.len)
			take_rule(policy, &rule, number);
		policy->apart |= rule.apart;
		if (wrong) {
			snprintf(reason, size, "line %d of the rules, \"%.*s\": %s", (int)number, (int)(end - line < 200 ? end - line : 200), line, wrong);
			return false;
		}
	}
	return true;
}

/* --- life --- */

static size_t count_lines(const char *text)
{
	size_t lines = 1;
	while ((text = strchr(text, '\n')))
		lines++, text++;
	return lines;
}

static size_t length_without_slashes(const char *path)
{
	size_t len = strlen(path);
	while (len && path[len - 1] == '/')
		len--;
	return len;
}

lw_lazy_policy *lw_lazy_policy_create(enum lw_lazy_mode mode, const char *rules, const char *const *roots, char *reason, size_t size)
{
	size_t slots = 8, count = 0, text = strlen(rules) + 1;
	while (slots < 4 * count_lines(rules) + 2) /* a line has at most two names: its own and that one's first part */
		slots *= 2;
	for (; roots[count]; count++)
		text += length_without_slashes(roots[count]);
	lw_lazy_policy *policy = calloc(1, sizeof(*policy) + slots * sizeof(struct said) + count * sizeof(struct root) + text);
	snprintf(reason, size, "out of memory");
	if (!policy)
		return NULL;
	policy->mode = mode;
	policy->mask = slots - 1;
	policy->root = (struct root *)&policy->said[slots];
	policy->roots = count;
	char *at = (char *)&policy->root[count];
	for (size_t i = 0; i < count; at += policy->root[i++].len) {
		policy->root[i] = (struct root){ at, length_without_slashes(roots[i]) };
		memcpy(at, roots[i], policy->root[i].len);
	}
	memcpy(at, rules, strlen(rules) + 1);
	if (parse_rules(policy, at, reason, size))
		return policy;
	lw_lazy_policy_destroy(policy);
	return NULL;
}

void lw_lazy_policy_destroy(lw_lazy_policy *policy)
{
	free(policy);
}

/* --- questions --- */

/* "pythonX.Y", as the directory of the standard library is called. */
static bool is_library_of_python(const char *part, size_t len)
{
	size_t i = 8;
	if (len < 9 || memcmp(part, "python3.", 8) != 0)
		return false;
	while (i < len && is_digit(part[i]))
		i++;
	return i == len || (i + 1 == len && part[i] == 't');
}

/* Something that was installed, wherever that is: an environment may lie within a project. */
static bool is_installed(const char *file)
{
	for (const char *part = file, *slash; (slash = strchr(part, '/')); part = slash + 1) {
		size_t len = (size_t)(slash - part);
		if ((len == 13 && (!memcmp(part, "site-packages", 13) || !memcmp(part, "dist-packages", 13))) || is_library_of_python(part, len))
			return true;
	}
	return false;
}

static bool is_below(struct root root, const char *file)
{
	return strncmp(file, root.path, root.len) == 0 && file[root.len] == '/';
}

static bool is_own(const lw_lazy_policy *policy, const char *file)
{
	if (!file || file[0] != '/' || is_installed(file))
		return false;
	for (size_t i = 0; i < policy->roots; i++)
		if (is_below(policy->root[i], file))
			return true;
	return false;
}

struct lw_lazy_importer lw_lazy_policy_importer(const lw_lazy_policy *policy, const char *importer, const char *file)
{
	return (struct lw_lazy_importer){ .never = policy->mode == LW_LAZY_OFF || last_line(policy, IN, importer) > 0, .own = is_own(policy, file) };
}

static bool same_package(const char *a, const char *b)
{
	size_t len = strcspn(a, ".");
	return len == strcspn(b, ".") && memcmp(a, b, len) == 0;
}

/* By the mode alone. */
static bool mode_allows(enum lw_lazy_mode mode, const char *importer, bool own, const char *target)
{
	return mode == LW_LAZY_ALL || (mode == LW_LAZY_OWN && own) || !same_package(importer, target);
}

/* Whether TARGET, or what a from-import takes of it, has to be eager. */
static bool says_eager(const lw_lazy_policy *policy, enum kind kind, const char *target, const char *name)
{
	char module[512]; /* what TARGET.NAME may be */
	int len = name ? snprintf(module, sizeof(module), "%s.%s", target, name) : 0;
	if (len < 0 || len >= (int)sizeof(module))
		return true; /* rather than overlook a rule */
	return last_line(policy, kind, name ? module : target) > 0;
}

bool lw_lazy_policy_allows(const lw_lazy_policy *policy, const char *importer, struct lw_lazy_importer what, const char *target, const char *name)
{
	return !what.never && mode_allows(policy->mode, importer, what.own, target) && !says_eager(policy, OF, target, name);
}

bool lw_lazy_policy_takes_apart(const lw_lazy_policy *policy)
{
	return policy->apart;
}

bool lw_lazy_policy_may_taint(const lw_lazy_policy *policy, const char *target)
{
	size_t len = length_of_top(target);
	return policy->with_all || ((policy->with & bit_of(target, len)) && policy->said[slot_of(policy, target, len)].above);
}

bool lw_lazy_policy_taints(const lw_lazy_policy *policy, const char *target, const char *name)
{
	return lw_lazy_policy_may_taint(policy, target) && says_eager(policy, WITH, target, name);
}
