/* SPDX-License-Identifier: MIT */
/* names: tables for every rule, and agreement with a plain reference over random names. */
#include "names.h"
#include "reference.h"

#include <criterion/criterion.h>

Test(names, suffixes)
{
	struct lw_suffixes s = ref_suffixes();
	cr_assert_eq(s.count, 5);
	cr_assert_eq(s.source, 3);
	cr_assert_str_eq(s.item[0].text, REF_EXTENSIONS[0]);
	cr_assert_str_eq(s.item[3].text, ".py");
	cr_assert_str_eq(s.item[4].text, ".pyc");
	cr_assert_eq(s.item[4].len, 4);

	cr_assert_eq(lw_suffixes_init(&s, NULL, 0), 0);
	cr_assert_eq(s.source, 0);
	cr_assert_eq(s.count, 2);
}

Test(names, suffixes_refused)
{
	struct lw_suffixes s;
	char fits[LW_SUFFIX_LEN + 1] = "", long_one[LW_SUFFIX_LEN + 2] = "";
	memset(fits, 'x', LW_SUFFIX_LEN);
	memset(long_one, 'x', LW_SUFFIX_LEN + 1);
	fits[0] = long_one[0] = '.';
	cr_assert_eq(lw_suffixes_init(&s, (const char *[]){ fits }, 1), 0);
	cr_assert_str_eq(s.item[0].text, fits);
	cr_assert_eq(lw_suffixes_init(&s, (const char *[]){ long_one }, 1), -EINVAL);
	cr_assert_eq(lw_suffixes_init(&s, (const char *[]){ "" }, 1), -EINVAL);
	cr_assert_eq(lw_suffixes_init(&s, (const char *[]){ ".so", "so" }, 2), -EINVAL);

	const char *many[LW_SUFFIX_MAX];
	for (unsigned i = 0; i < LW_SUFFIX_MAX; i++)
		many[i] = ".so";
	cr_assert_eq(lw_suffixes_init(&s, many, LW_SUFFIX_MAX - 2), 0);
	cr_assert_eq(s.count, LW_SUFFIX_MAX);
	cr_assert_neq(LW_KIND_SUFFIX(LW_SUFFIX_MAX - 1), 0, "every suffix has a bit");
	cr_assert_eq(lw_suffixes_init(&s, many, LW_SUFFIX_MAX - 1), -E2BIG);
}

Test(names, classify)
{
	static const struct {
		const char *name;
		unsigned char type;
		lw_kinds kind;
		size_t stem;
	} table[] = {
		{ "pkg", DT_DIR, LW_KIND_DIR, 3 },
		{ "pkg", DT_LNK, LW_KIND_DIR, 3 },
		{ "pkg", DT_UNKNOWN, LW_KIND_DIR, 3 },
		{ "pkg", DT_REG, 0, 0 },
		{ "mod.py", DT_REG, LW_KIND_SUFFIX(3), 3 },
		{ "mod.py", DT_LNK, LW_KIND_SUFFIX(3), 3 },
		{ "mod.py", DT_UNKNOWN, LW_KIND_SUFFIX(3), 3 },
		{ "mod.py", DT_DIR, 0, 0 },
		{ "mod.py", DT_FIFO, 0, 0 },
		{ "mod.py", DT_SOCK, 0, 0 },
		{ "mod.py", DT_CHR, 0, 0 },
		{ "mod.pyc", DT_REG, LW_KIND_SUFFIX(4), 3 },
		{ "mod.cpython-311-x86_64-linux-gnu.so", DT_REG, LW_KIND_SUFFIX(0), 3 },
		{ "mod.cpython-312-x86_64-linux-gnu.so", DT_REG, 0, 0 },
		{ "mod.abi3.so", DT_REG, LW_KIND_SUFFIX(1), 3 },
		{ "mod.so", DT_REG, LW_KIND_SUFFIX(2), 3 },
		{ "mod.so.1", DT_REG, 0, 0 },
		{ "mod.PY", DT_REG, 0, 0 },
		{ "mod.py.py", DT_REG, 0, 0 },
		{ "a.b.py", DT_REG, 0, 0 },
		{ "mod.", DT_REG, 0, 0 },
		{ "mod.py ", DT_REG, 0, 0 },
		{ ".py", DT_REG, 0, 0 },
		{ ".git", DT_DIR, 0, 0 },
		{ ".", DT_DIR, 0, 0 },
		{ "..", DT_DIR, 0, 0 },
		{ "", DT_UNKNOWN, 0, 0 },
		{ "not-an-identifier.py", DT_REG, LW_KIND_SUFFIX(3), 17 },
		{ "\xff\xfe.py", DT_REG, LW_KIND_SUFFIX(3), 2 },
		{ "pkg-1.0.dist-info", DT_DIR, 0, 0 },
		{ "__pycache__", DT_DIR, LW_KIND_DIR, 11 },
		{ "__init__.py", DT_REG, LW_KIND_SUFFIX(3), 8 },
	};
	const struct lw_suffixes s = ref_suffixes();
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		size_t stem = 0;
		lw_kinds kind = lw_names_classify(&s, table[i].name, strlen(table[i].name), table[i].type, &stem);
		cr_expect_eq(kind, table[i].kind, "'%s' type %u is %x", table[i].name, table[i].type, kind);
		cr_expect_eq(stem, table[i].stem, "'%s' has a stem of %zu", table[i].name, stem);
	}
}

/* Pieces that collide often: a uniformly random name would never have a suffix. */
static size_t random_name(uint64_t *seed, char *name)
{
	static const struct { const char *text; size_t len; } piece[] = {
		{ "a", 1 }, { "b", 1 }, { "\xff", 1 }, { ".", 1 }, { ".", 1 }, { "/", 1 }, { "\0", 1 }, { "py", 2 }, { ".py", 3 }, { ".pyc", 4 },
		{ "so", 2 }, { ".so", 3 }, { ".abi3", 5 }, { ".abi3.so", 8 }, { ".cpython-311-x86_64-linux-gnu.so", 32 }, { "__init__", 8 },
	};
	size_t len = 0;
	for (uint32_t n = tree_random(seed) % 5; n--;) {
		uint32_t i = tree_random(seed) % (sizeof piece / sizeof *piece);
		memcpy(name + len, piece[i].text, piece[i].len);
		len += piece[i].len;
	}
	return len;
}

/* The mistake to be expected: splitting at the last dot. */
static lw_kinds classify_at_last_dot(const struct lw_suffixes *s, const char *name, size_t len, unsigned char type, size_t *stem)
{
	const char *dot = memrchr(name, '.', len);
	if (!dot)
		return lw_names_classify(s, name, len, type, stem);
	for (unsigned i = 0; i < s->count; i++)
		if (s->item[i].len == len - (size_t)(dot - name) && !memcmp(dot, s->item[i].text, s->item[i].len))
			return LW_KIND_SUFFIX(i);
	return 0;
}

Test(names, classify_like_reference)
{
	static const unsigned char types[] = { DT_REG, DT_DIR, DT_LNK, DT_UNKNOWN, DT_FIFO };
	const struct lw_suffixes s = ref_suffixes();
	uint64_t seed = 1;
	unsigned hits = 0, control = 0;
	for (unsigned i = 0; i < 400000; i++) {
		/* From the heap and no longer than needed: sanitizers see a read too many. */
		char text[160], *name;
		size_t len = random_name(&seed, text), stem = 0, ref_stem = 0, ignored;
		unsigned char type = types[tree_random(&seed) % sizeof types];
		cr_assert((name = malloc(len ? len : 1)));
		memcpy(name, text, len);
		lw_kinds kind = lw_names_classify(&s, name, len, type, &stem);
		lw_kinds ref = ref_classify(&s, name, len, type, &ref_stem);
		cr_assert_eq(kind, ref, "name %.*s (%u) type %u: %x, reference %x", (int)len, name, i, type, kind, ref);
		cr_assert(!kind || stem == ref_stem);
		hits += kind != 0;
		control += classify_at_last_dot(&s, name, len, type, &ignored) != ref;
		free(name);
	}
	cr_expect_gt(hits, 20000, "names that mean something: %u", hits);
	cr_expect_gt(control, 1000, "the wrong rule was caught %u times", control);
}

Test(names, importable)
{
	cr_expect(lw_names_importable("a", 1));
	cr_expect(lw_names_importable("\xff-1 2", 5));
	cr_expect(!lw_names_importable("", 0));
	cr_expect(!lw_names_importable("a.b", 3));
	cr_expect(!lw_names_importable("a/b", 3));
	cr_expect(!lw_names_importable("a\0b", 3));
	cr_expect(lw_names_importable("a.b", 1), "reads no further than it was told");
}

Test(names, dotted)
{
	static const struct { const char *path, *dotted; } table[] = {
		{ "a.py", "a" },
		{ "a/b/c.py", "a.b.c" },
		{ "a/b/__init__.py", "a.b" },
		{ "a/__init__.cpython-311-x86_64-linux-gnu.so", "a" },
		{ "a/c.abi3.so", "a.c" },
		{ "a/c.pyc", "a.c" },
		{ "a/__init__x.py", "a.__init__x" },
		{ "a/__main__.py", "a.__main__" },
		{ "\xff/\xfe.py", "\xff.\xfe" },
		{ "__init__.py", NULL },
		{ "a", NULL },
		{ "a/b", NULL },
		{ "a.txt", NULL },
		{ "a.b/c.py", NULL },
		{ ".git/c.py", NULL },
		{ "../c.py", NULL },
		{ "./c.py", NULL },
		{ "/a.py", NULL },
		{ "/__init__.py", NULL },
		{ "a//b.py", NULL },
		{ "a//__init__.py", NULL },
		{ "a/b.py/", NULL },
		{ "a/.py", NULL },
		{ "a/__pycache__/b.cpython-311.pyc", NULL },
		{ "", NULL },
	};
	const struct lw_suffixes s = ref_suffixes();
	char out[64];
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		int len = lw_names_dotted(&s, table[i].path, strlen(table[i].path), out, sizeof out);
		if (!table[i].dotted) {
			cr_expect_eq(len, -EINVAL, "'%s' gave %d", table[i].path, len);
			continue;
		}
		cr_assert_eq(len, (int)strlen(table[i].dotted), "'%s' gave %d", table[i].path, len);
		cr_expect_str_eq(out, table[i].dotted);
	}
	cr_expect_eq(lw_names_dotted(&s, "a\0b.py", 6, out, sizeof out), -EINVAL);
}

Test(names, path)
{
	char out[64];
	cr_expect_eq(lw_names_path("a.b.c", 5, out, sizeof out), 5);
	cr_expect_str_eq(out, "a/b/c");
	cr_expect_eq(lw_names_path("a", 1, out, sizeof out), 1);
	cr_expect_str_eq(out, "a");
	static const char *const bad[] = { "", ".", "a.", ".a", "a..b", "a/b", "../a" };
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		cr_expect_eq(lw_names_path(bad[i], strlen(bad[i]), out, sizeof out), -EINVAL, "'%s'", bad[i]);
	cr_expect_eq(lw_names_path("a\0b", 3, out, sizeof out), -EINVAL);
}

Test(names, room)
{
	const struct lw_suffixes s = ref_suffixes();
	for (size_t size = 0; size < 10; size++) {
		char *out = malloc(size ? size : 1);
		int want = size > 5 ? 5 : -ENAMETOOLONG;
		cr_assert(out);
		cr_expect_eq(lw_names_dotted(&s, "a/b/c/__init__.py", 17, out, size), want);
		cr_expect_eq(lw_names_dotted(&s, "a/b/c.py", 8, out, size), want);
		cr_expect_eq(lw_names_path("a.b.c", 5, out, size), want);
		cr_expect_eq(lw_names_path("a..bc", 5, out, size), -EINVAL, "what is wrong comes before what is long");
		free(out);
	}
}

Test(names, there_and_back)
{
	const struct lw_suffixes s = ref_suffixes();
	uint64_t seed = 7;
	for (unsigned i = 0; i < 100000; i++) {
		char name[160], path[200], back[200], file[200];
		size_t len = random_name(&seed, name);
		int n = lw_names_path(name, len, path, sizeof path);
		if (n < 0)
			continue;
		cr_assert_eq(n, (int)len);
		n = snprintf(file, sizeof file, "%s/__init__.so", path);
		cr_assert_eq(lw_names_dotted(&s, file, (size_t)n, back, sizeof back), (int)len);
		cr_assert_arr_eq(back, name, len);
	}
}
