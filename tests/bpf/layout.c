/* SPDX-License-Identifier: MIT */
/*
 * An interpreter made by hand in this process, laid out like 3.12: what its only thread waits for, by its frames; and what a hostile one may hold. Real ones: test_layout.py.
 */
#include "layout.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "program.h"

enum { VERSION = 0x030c, FRAMES = 12 };

/* As in the table of layout.c; words of 8 bytes. */
struct text { uint64_t head[2], length, hash; uint32_t state, pad; union { char ascii[512]; struct { uint64_t utf8_length; const char *utf8; char wide[496]; }; }; };
struct code { uint64_t head[14]; const void *file, *name; };
struct frame { const void *code, *previous; uint64_t rest[6]; uint16_t unused[3]; uint8_t owner, pad; const void *local; };
struct interpreter { uint64_t next; uint64_t rest[8]; const void *threads; };
struct thread { uint64_t previous; const void *next, *interpreter; uint64_t rest[4]; const void *cframe; uint64_t more[9]; uint64_t id, native; };
struct cframe { const void *frame; };

static struct {
	struct { char cookie[40]; const void *interpreters; uint64_t rest[150]; } runtime;
	struct interpreter interpreter;
	struct thread thread;
	struct cframe cframe;
	struct frame frames[FRAMES];
	struct code codes[FRAMES];
	struct text names[FRAMES], files[FRAMES], module;
} fake;

static const char importlib[] = "<frozen importlib._bootstrap>";

/* state: kind at bit 2, compact 32, ascii 64 */
static void put_ascii(struct text *text, const char *value)
{
	*text = (struct text){ .length = strlen(value), .state = 1 << 2 | 32 | 64 };
	strcpy(text->ascii, value);
}

static void put_frame(int at, uint8_t owner, const char *name, const char *file)
{
	struct frame *frame = &fake.frames[at];
	if (at)
		fake.frames[at - 1].previous = frame;
	*frame = (struct frame){ .owner = owner, .code = &fake.codes[at], .local = &fake.module };
	fake.codes[at] = (struct code){ .name = &fake.names[at], .file = &fake.files[at] };
	put_ascii(&fake.names[at], name);
	put_ascii(&fake.files[at], file);
}

static void set_up(void)
{
	memset(&fake, 0, sizeof(fake));
	fake.runtime.interpreters = &fake.interpreter;
	fake.interpreter.threads = &fake.thread;
	fake.thread.interpreter = &fake.interpreter;
	fake.thread.cframe = &fake.cframe;
	fake.thread.native = (uint64_t)gettid();
	fake.cframe.frame = fake.frames;
	put_ascii(&fake.module, "package.module");
}

static uint64_t runtime(void)
{
	return (uint64_t)(uintptr_t)&fake.runtime;
}

static int stand(struct lw_standing *out)
{
	struct lw_layout layout;
	char why[LW_PROGRAM_WHY];
	cr_assert_eq(lw_layout_read(getpid(), runtime(), VERSION, &layout, why), 0, "%s", why);
	return lw_layout_stand(getpid(), runtime(), &layout, gettid(), out);
}

/* NAMES, outermost last, a shim for "-"; whose file is importlib's but where FOREIGN says. */
static struct lw_standing stand_in(const char *const *names, int foreign)
{
	struct lw_standing standing;
	set_up();
	for (int i = 0; names[i]; i++)
		put_frame(i, names[i][0] == '-' ? 3 : 0, names[i], i == foreign ? "importlib.py" : importlib);
	cr_assert_eq(stand(&standing), 0);
	return standing;
}

Test(layout, frames)
{
	static const struct { const char *names[FRAMES]; int foreign; enum lw_class class; const char *module; } cases[] = {
		{ { "acquire", "__enter__", "_find_and_load", "<module>" }, -1, LW_CLASS_MODULE, "package.module" },
		{ { "acquire", "-", "__enter__", "-", "_find_and_load" }, -1, LW_CLASS_MODULE, "package.module" },
		{ { "-", "acquire", "_lock_unlock_module", "-" }, -1, LW_CLASS_MODULE, "package.module" },
		{ { "acquire", "_find_and_load" }, -1, LW_CLASS_MODULE, "package.module" },
		{ { "acquire", "__enter__", "_exec" }, -1, LW_CLASS_MODULE, "" },
		{ { "acquire" }, -1, LW_CLASS_MODULE, "" },
		{ { "acquire", "_find_and_load" }, 0, LW_CLASS_FUTEX, "" },
		{ { "_get_module_lock", "__enter__", "_find_and_load" }, -1, LW_CLASS_GLOBAL, "" },
		{ { "cb", "f" }, -1, LW_CLASS_GLOBAL, "" },
		{ { "__enter__", "_find_spec" }, -1, LW_CLASS_GLOBAL, "" },
		{ { "__enter__", "_find_spec" }, 0, LW_CLASS_FUTEX, "" },
		{ { "acquired", "_find_and_load" }, -1, LW_CLASS_FUTEX, "" },
		{ { "a_function_whose_name_is_longer_than_what_is_looked_at" }, -1, LW_CLASS_FUTEX, "" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct lw_standing standing = stand_in(cases[i].names, cases[i].foreign);
		cr_expect_eq(standing.class, cases[i].class, "case %zu", i);
		cr_expect_str_eq(standing.module, cases[i].module, "case %zu", i);
	}
}

static const char *const waiting[] = { "acquire", "_find_and_load", NULL };

/* A name of COUNT characters of KIND bytes. */
static void put_wide(const void *characters, uint64_t count, unsigned kind)
{
	fake.module = (struct text){ .length = count, .state = kind << 2 | 32 };
	memcpy(fake.module.wide, characters, count * kind);
}

Test(layout, names)
{
	struct lw_standing standing = stand_in(waiting, -1);
	static const struct { uint8_t kind; uint64_t count; const void *characters; const char *expected; } cases[] = {
		{ 1, 5, "na\xefve", "naïve" },
		{ 2, 3, u"日x本", "日x本" },
		{ 4, 3, U"m😀é", "m😀é" },
		{ 3, 2, "abcdef", "" },
		{ 0, 2, "abcdef", "" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		put_wide(cases[i].characters, cases[i].count, cases[i].kind);
		cr_assert_eq(stand(&standing), 0);
		cr_expect_str_eq(standing.module, cases[i].expected, "case %zu: %s", i, standing.module);
	}
	put_wide("na\xefve", 5, 1);
	fake.module.utf8 = "cached";
	cr_assert_eq(stand(&standing), 0);
	cr_expect_str_eq(standing.module, "cached");
	fake.module.utf8 = (const char *)16;
	cr_assert_eq(stand(&standing), 0);
	cr_expect_str_eq(standing.module, "");
	/* Not compact: characters elsewhere, as subclasses of str have them. */
	put_ascii(&fake.module, "name");
	fake.module.state &= ~32u;
	cr_assert_eq(stand(&standing), 0);
	cr_expect_str_eq(standing.module, "");
}

Test(layout, long_names)
{
	struct lw_standing standing = stand_in(waiting, -1);
	char name[400] = "";
	memset(name, 'n', sizeof(name) - 1);
	put_ascii(&fake.module, name);
	cr_assert_eq(stand(&standing), 0);
	cr_expect_eq(strlen(standing.module), (size_t)LW_NAME_SIZE - 1);
	/* Of a length that is a lie. */
	put_wide(U"😀", 1, 4);
	fake.module.length = UINT64_MAX;
	for (size_t i = 0; i + 4 <= sizeof(fake.module.wide); i += 4)
		memcpy(fake.module.wide + i, U"😀", 4);
	cr_assert_eq(stand(&standing), 0);
	cr_expect_eq(strlen(standing.module), (size_t)LW_NAME_SIZE - 4);
}

/* A name whose terminator is the last byte before a page that is not there. */
Test(layout, at_the_end_of_memory)
{
	struct lw_standing standing = stand_in(waiting, -1);
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *memory = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq((void *)memory, MAP_FAILED);
	cr_assert_eq(mprotect(memory + page, page, PROT_NONE), 0);
	char *name = memory + page - sizeof("edge");
	strcpy(name, "edge");
	put_wide("\xe9", 1, 1);
	fake.module.utf8 = name;
	cr_assert_eq(stand(&standing), 0);
	cr_expect_str_eq(standing.module, "edge");
	/* And one without. */
	memset(name, 'x', sizeof("edge"));
	cr_assert_eq(stand(&standing), 0);
	cr_expect_str_eq(standing.module, "");
	munmap(memory, 2 * page);
}

Test(layout, circles_and_nonsense)
{
	struct lw_standing standing = stand_in(waiting, -1);
	/* Frames of which each is a shim, and its own predecessor. */
	fake.frames[0].owner = 3;
	fake.frames[0].previous = &fake.frames[0];
	cr_expect_eq(stand(&standing), -EFAULT);
	stand_in(waiting, -1);
	fake.frames[0].code = (void *)1;
	cr_assert_eq(stand(&standing), 0);
	cr_expect_eq(standing.class, LW_CLASS_FUTEX);
	stand_in(waiting, -1);
	fake.codes[0].name = (void *)-1;
	cr_assert_eq(stand(&standing), 0);
	cr_expect_eq(standing.class, LW_CLASS_FUTEX);
	stand_in(waiting, -1);
	fake.cframe.frame = (void *)-4096;
	cr_assert_eq(stand(&standing), 0);
	cr_expect_eq(standing.class, LW_CLASS_FUTEX);
	fake.cframe.frame = NULL;
	cr_expect_eq(stand(&standing), -EFAULT);
	/* No thread of that number, in a list without an end. */
	stand_in(waiting, -1);
	fake.thread.native = 1;
	fake.thread.next = &fake.thread;
	cr_expect_eq(stand(&standing), -ESRCH);
	fake.thread.next = NULL;
	fake.interpreter.next = (uint64_t)(uintptr_t)&fake.interpreter;
	cr_expect_eq(stand(&standing), -ESRCH);
}

static int read_layout(uint64_t address, unsigned version, char *why)
{
	struct lw_layout layout;
	return lw_layout_read(getpid(), address, version, &layout, why);
}

Test(layout, refusals)
{
	char why[LW_PROGRAM_WHY];
	set_up();
	cr_expect_eq(read_layout(16, VERSION, why), -ENOTSUP);
	cr_expect(strstr(why, "cannot be read"), "%s", why);
	cr_expect_eq(read_layout(runtime(), 0x030a, why), -ENOTSUP);
	cr_expect(strstr(why, "Python 3.10"), "%s", why);
	cr_expect_eq(read_layout(runtime(), 0, why), -ENOTSUP);
	/* Before it has an interpreter, there is nothing to prove it by; a thread of another one proves the contrary. */
	cr_expect_eq(read_layout(runtime(), VERSION, why), 0);
	fake.thread.interpreter = &fake.thread;
	cr_expect_eq(read_layout(runtime(), VERSION, why), -ENOTSUP);
	cr_expect(strstr(why, "debug build"), "%s", why);
	fake.runtime.interpreters = NULL;
	cr_expect_eq(read_layout(runtime(), VERSION, why), 0);
	pid_t gone = fork();
	if (!gone)
		_exit(0);
	waitpid(gone, NULL, 0);
	struct lw_layout layout;
	cr_expect_eq(lw_layout_read(gone, runtime(), VERSION, &layout, why), -ESRCH);
}

/* What 3.13 says of itself: offsets that are too large, and those of its first release. */
Test(layout, descriptions)
{
	char why[LW_PROGRAM_WHY];
	static uint64_t words[128];
	uint64_t address = (uint64_t)(uintptr_t)words;
	memcpy(words, "xdebugpy", 8);
	words[1] = 0x03630000;
	cr_expect_eq(read_layout(address, 0, why), -ENOTSUP);
	cr_expect(strstr(why, "Python 3.99"), "%s", why);
	words[1] = 0x030d00f0;
	cr_expect_eq(read_layout(address, 0, why), -ENOTSUP);
	cr_expect(strstr(why, "make no sense"), "%s", why);
	static const struct { uint8_t word; uint16_t value; } good[] = {
		{ 3, 60000 }, { 5, 632 }, { 6, 60000 }, { 8, 7264 }, { 9, 7344 }, { 19, 600 }, { 21, 8 }, { 22, 16 }, { 23, 72 }, { 24, 152 }, { 25, 160 }, { 28, 80 }, { 29, 8 },
		{ 30, 0 }, { 32, 72 }, { 33, 70 }, { 34, 200 }, { 35, 112 }, { 36, 120 }, { 67, 64 }, { 68, 32 }, { 69, 16 }, { 70, 40 },
	};
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
		words[good[i].word] = good[i].value;
	struct lw_layout layout;
	cr_assert_eq(lw_layout_read(getpid(), address, 0, &layout, why), 0, "%s", why);
	cr_expect_eq(layout.version, 0x030d);
	cr_expect_eq(layout.thread_native, 160);
	cr_expect_eq(layout.frame_owner, 70);
	cr_expect_eq(layout.str_compact, 56);
	cr_expect_eq(layout.cframe_frame, 0xffff);
	/* Each number on its own may be a lie. */
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		uint64_t before = words[good[i].word];
		words[good[i].word] = UINT64_MAX - 4;
		cr_expect_eq(read_layout(address, 0, why), -ENOTSUP, "word %u", good[i].word);
		words[good[i].word] = before;
	}
}
