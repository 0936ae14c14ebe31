/* SPDX-License-Identifier: MIT */
/* options: what is understood, what is refused and with which words; that options of a command stay the command's. */
#include "options.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS = 32 };

/* LINE, cut at spaces, as arguments of the program. */
static int read_line(const char *line, struct lw_options *out, char *complaint, size_t size)
{
	static char copy[512];
	static char *argv[WORDS];
	int argc = 0;
	argv[argc++] = (char *)"trace";
	snprintf(copy, sizeof(copy), "%s", line);
	for (char *word = strtok(copy, " "); word && argc < WORDS - 1; word = strtok(NULL, " "))
		argv[argc++] = word;
	argv[argc] = NULL;
	FILE *complaints = fmemopen(complaint, size, "w");
	int result = lw_options_read(argc, argv, out, complaints);
	fclose(complaints);
	return result;
}

Test(options, times)
{
	static const struct { const char *text; uint64_t ns; } good[] = {
		{ "1", 1000000000 }, { "0.5", 500000000 }, { "1.5s", 1500000000 }, { "200us", 200000 }, { "3ms", 3000000 }, { "7ns", 7 }, { "2m", 120000000000 },
		{ "1h", 3600000000000 }, { "0", 0 }, { ".5s", 500000000 }, { "1e3ms", 1000000000 },
	};
	static const char *const bad[] = { "", "s", "-1", "+1", "1x", "1 s", "0x10", "inf", "nan", "1e300", ".", "1ss", " 1", "864000001" };
	uint64_t ns;
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		cr_assert(lw_options_time(good[i].text, &ns), "%s", good[i].text);
		cr_expect_eq(ns, good[i].ns, "%s", good[i].text);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		cr_expect(!lw_options_time(bad[i], &ns), "%s", bad[i]);
}

Test(options, everything_at_once)
{
	struct lw_options options;
	char complaint[256] = "";
	cr_assert_eq(read_line("-p 1,22 --pid=333 --binary /a --cgroup b --module a.* --module b --no-children -d 10 --threshold 1ms --no-sched --buffer 1024 --json -o f -q", &options,
	                       complaint, sizeof(complaint)), 0, "%s", complaint);
	cr_assert_eq(options.pid_count, 3);
	cr_expect_eq(options.pids[0] + options.pids[1] + options.pids[2], 356);
	cr_expect_str_eq(options.binaries[0], "/a");
	cr_expect_str_eq(options.cgroups[0], "b");
	cr_expect_eq(options.glob_count, 2);
	cr_expect(options.no_children && options.no_sched && options.quiet && !options.live && !options.command);
	cr_expect_eq(options.duration_ns, 10000000000u);
	cr_expect_eq(options.threshold_ns, 1000000);
	cr_expect_eq(options.ring_kib, 1024);
	cr_expect_str_eq(options.format, "json");
	cr_expect_str_eq(options.file, "f");
	lw_options_free(&options);
}

Test(options, a_command_keeps_its_options)
{
	struct lw_options options;
	char complaint[256] = "";
	static const char *const lines[] = { "-q -- python -q --json x", "-q python -q --json x" };
	for (size_t i = 0; i < 2; i++) {
		cr_assert_eq(read_line(lines[i], &options, complaint, sizeof(complaint)), 0, "%s", complaint);
		cr_assert(options.command);
		cr_expect_str_eq(options.command[0], "python");
		cr_expect_str_eq(options.command[1], "-q");
		cr_expect_str_eq(options.command[3], "x");
		cr_expect_null(options.command[4]);
		cr_expect(options.quiet && !options.format);
		lw_options_free(&options);
	}
}

Test(options, what_is_refused)
{
	static const struct { const char *line, *said; } cases[] = {
		{ "", "whom to trace?" },
		{ "-p", "-p takes a value" },
		{ "--binary", "--binary takes a value" },
		{ "--binary=", "--binary takes a path" },
		{ "-x", "there is no option -x" },
		{ "--nonsense", "--nonsense is no option" },
		{ "-p 0", "numbers of processes, not '0'" },
		{ "-p 1,,2", "not ''" },
		{ "-p 1,", "not ''" },
		{ "-p -1", "not '-1'" },
		{ "-p 99999999999999999999", "numbers of processes" },
		{ "-p 1 true", "not both" },
		{ "-p 1 --json --tree", "one format at a time" },
		{ "-p 1 --live -o f", "--live is for a terminal" },
		{ "-p 1 --sched --no-sched", "one of them" },
		{ "-p 1 --buffer 1000", "a power of two" },
		{ "-p 1 --duration never", "takes a time like" },
		{ "-p 1 --labels -1", "a number from 0" },
		{ "-p 1 --quiet=yes", "takes no value" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct lw_options options;
		char complaint[512] = "";
		cr_expect_eq(read_line(cases[i].line, &options, complaint, sizeof(complaint)), -1, "%s", cases[i].line);
		cr_expect(strstr(complaint, cases[i].said), "%s: %s", cases[i].line, complaint);
		lw_options_free(&options);
	}
}

Test(options, every_format_is_one_of_the_options)
{
	static const char *const formats[] = { "table", "tree", "json", "importtime", "chrome", "speedscope", "folded", "prometheus" };
	char line[64], complaint[256] = "", *text;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	lw_options_help(out);
	fclose(out);
	for (size_t i = 0; i < sizeof(formats) / sizeof(*formats); i++) {
		struct lw_options options;
		snprintf(line, sizeof(line), "-p 1 --%s", formats[i]);
		cr_assert_eq(read_line(line, &options, complaint, sizeof(complaint)), 0, "%s", complaint);
		cr_expect_str_eq(options.format, formats[i]);
		snprintf(line, sizeof(line), " --%s ", formats[i]);
		cr_expect(strstr(text, line), "the help has no %s", formats[i]);
		lw_options_free(&options);
	}
	free(text);
}
