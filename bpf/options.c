/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
"Usage: ladewerk trace [OPTIONS] -p PID\n"
"       ladewerk trace [OPTIONS] --binary PATH | --cgroup PATH\n"
"       ladewerk trace [OPTIONS] [--] COMMAND [ARGUMENT...]\n"
"\n"
"Shows where running Python processes spend import time, and who waits for whose import lock. Attaches without a\n"
"restart and without changes to the program, by eBPF probes at the interpreter's own import function.\n"
"\n"
"Whom to trace (-p, --binary and --cgroup may be repeated and mixed):\n"
"  -p, --pid PID[,PID...]  these processes and the children they have or will have\n"
"      --binary PATH       all processes of this interpreter, also those that start later\n"
"      --cgroup PATH       all processes of this control group, also those that enter it later;\n"
"                          a directory below /sys/fs/cgroup, or its path from there\n"
"      --no-children       not the children of -p and COMMAND\n"
"  COMMAND                 is started, traced from its first import on, and decides the exit status\n"
"\n"
"What to record:\n"
"  -d, --duration TIME     end after so long; without, by Ctrl-C or when everything that is traced has ended\n"
"      --threshold TIME    leave shorter imports and waits out of lists; sums have them\n"
"      --module GLOB       list modules that match only ('django.*'); may be repeated\n"
"      --no-sched          imports only, not what threads wait for meanwhile: costs less, needs no BTF\n"
"      --sched             fail where that cannot be recorded, instead of going on without\n"
"      --buffer KIB        size of the buffer for events, a power of two (4096)\n"
"\n"
"What to write:\n"
"      --live              a view that is sorted and renewed on this terminal; what there is without -o, if\n"
"                          neither COMMAND nor one of these formats is given; its last line lists its keys\n"
"      --table             sums per module, and a summary of lock contention (otherwise)\n"
"      --tree              every import, within the one that caused it\n"
"      --json              a line for each import and each wait, as they end\n"
"      --importtime        what python -X importtime writes, for tools that read that\n"
"      --chrome            trace events for Perfetto and chrome://tracing, a lane per thread\n"
"      --speedscope        a profile for speedscope.app\n"
"      --folded            stacks for flame graphs\n"
"      --prometheus        metrics with histograms\n"
"      --labels N          of --prometheus: at most so many modules have a label (100), the rest is 'other'\n"
"  -o, --output FILE       there, not to standard output\n"
"  -q, --quiet             say nothing on standard error but what is wrong\n"
"\n"
"      --check             say what can be traced here, and what is missing\n"
"  -h, --help              this\n"
"  -V, --version\n"
"\n"
"TIME is a number with ns, us, ms, s, m or h; without, seconds.\n"
"Needs root, or the capabilities BPF and PERFMON (and SYS_PTRACE for processes of others), and Linux 5.15.\n"
"\n"
"Exit status: COMMAND's, or 0; 1 if something failed, 2 if the command line is wrong, 77 if this kernel or these\n"
"rights do not allow it.\n";

void lw_options_help(FILE *out)
{
	fputs(help, out);
}

bool lw_options_time(const char *text, uint64_t *ns)
{
	static const struct { const char *name; double ns; } units[] = {
		{ "", 1e9 }, { "s", 1e9 }, { "ms", 1e6 }, { "us", 1e3 }, { "ns", 1 }, { "m", 60e9 }, { "h", 3600e9 },
	};
	/* No sign, no hexadecimal number, no infinity. */
	if (!strchr("0123456789.", *text) || !*text || strpbrk(text, "xX"))
		return false;
	char *end;
	double number = strtod(text, &end);
	for (size_t i = 0; end != text && i < sizeof(units) / sizeof(*units); i++) {
		if (strcmp(end, units[i].name) != 0 || number * units[i].ns > 10000 * 86400e9)
			continue;
		*ns = (uint64_t)(number * units[i].ns + 0.5);
		return true;
	}
	return false;
}

/* A whole number from LEAST to MOST, all of TEXT up to END (NULL: its end). */
static bool whole(const char *text, const char *end, long least, long most, long *out)
{
	char *stop;
	errno = 0;
	*out = strtol(text, &stop, 10);
	return *text >= '0' && *text <= '9' && stop == (end ? end : text + strlen(text)) && !errno && *out >= least && *out <= most;
}

/* One more string in a list. */
static int add(const char ***list, unsigned *count, const char *item)
{
	const char **grown = reallocarray(*list, *count + 1, sizeof(*grown));
	if (!grown)
		return -1;
	*list = grown;
	grown[(*count)++] = item;
	return 0;
}

static int add_pids(struct lw_options *options, const char *text, FILE *complaints)
{
	for (const char *end; text; text = *end ? end + 1 : NULL) {
		long pid;
		end = strchrnul(text, ',');
		if (!whole(text, end, 1, INT_MAX, &pid)) {
			fprintf(complaints, "ladewerk trace: --pid takes numbers of processes, not '%.*s'\n", (int)(end - text), text);
			return -1;
		}
		pid_t *grown = reallocarray(options->pids, options->pid_count + 1, sizeof(*grown));
		if (!grown)
			return -1;
		options->pids = grown;
		grown[options->pid_count++] = (pid_t)pid;
	}
	return 0;
}

static int take_time(const char *option, const char *text, uint64_t *ns, FILE *complaints)
{
	if (lw_options_time(text, ns))
		return 0;
	fprintf(complaints, "ladewerk trace: --%s takes a time like 500us, 20ms or 10s, not '%s'\n", option, text);
	return -1;
}

static int take_path(const char *option, const char *text, const char ***list, unsigned *count, FILE *complaints)
{
	if (*text)
		return add(list, count, text);
	fprintf(complaints, "ladewerk trace: --%s takes a path\n", option);
	return -1;
}

static int take_format(struct lw_options *options, const char *format, FILE *complaints)
{
	if (options->format && strcmp(options->format, format) != 0) {
		fprintf(complaints, "ladewerk trace: --%s and --%s: one format at a time\n", options->format, format);
		return -1;
	}
	options->format = format;
	return 0;
}

static int take_buffer(struct lw_options *options, const char *text, FILE *complaints)
{
	long kib;
	if (!whole(text, NULL, 64, 1 << 20, &kib) || (kib & (kib - 1))) {
		fprintf(complaints, "ladewerk trace: --buffer takes a power of two from 64 to 1048576 (KiB), not '%s'\n", text);
		return -1;
	}
	options->ring_kib = (unsigned)kib;
	return 0;
}

static int take_labels(struct lw_options *options, const char *text, FILE *complaints)
{
	long labels;
	if (!whole(text, NULL, 0, 100000, &labels)) {
		fprintf(complaints, "ladewerk trace: --labels takes a number from 0 to 100000, not '%s'\n", text);
		return -1;
	}
	options->labels = (unsigned)labels;
	return 0;
}

enum { BINARY = 256, CGROUP, NO_CHILDREN, THRESHOLD, MODULE, NO_SCHED, SCHED, BUFFER, LIVE, LABELS, CHECK, FORMAT };

static const struct option known[] = {
	{ "pid", required_argument, NULL, 'p' }, { "binary", required_argument, NULL, BINARY }, { "cgroup", required_argument, NULL, CGROUP },
	{ "no-children", no_argument, NULL, NO_CHILDREN }, { "duration", required_argument, NULL, 'd' }, { "threshold", required_argument, NULL, THRESHOLD },
	{ "module", required_argument, NULL, MODULE }, { "no-sched", no_argument, NULL, NO_SCHED }, { "sched", no_argument, NULL, SCHED },
	{ "buffer", required_argument, NULL, BUFFER }, { "live", no_argument, NULL, LIVE }, { "labels", required_argument, NULL, LABELS },
	{ "output", required_argument, NULL, 'o' }, { "quiet", no_argument, NULL, 'q' }, { "check", no_argument, NULL, CHECK },
	{ "help", no_argument, NULL, 'h' }, { "version", no_argument, NULL, 'V' },
	{ "table", no_argument, NULL, FORMAT }, { "tree", no_argument, NULL, FORMAT }, { "json", no_argument, NULL, FORMAT }, { "importtime", no_argument, NULL, FORMAT },
	{ "chrome", no_argument, NULL, FORMAT }, { "speedscope", no_argument, NULL, FORMAT }, { "folded", no_argument, NULL, FORMAT }, { "prometheus", no_argument, NULL, FORMAT },
	{ 0 },
};

static int take(struct lw_options *options, int option, const char *name, FILE *complaints)
{
	switch (option) {
	case 'p': return add_pids(options, optarg, complaints);
	case BINARY: return take_path(name, optarg, &options->binaries, &options->binary_count, complaints);
	case CGROUP: return take_path(name, optarg, &options->cgroups, &options->cgroup_count, complaints);
	case MODULE: return add(&options->globs, &options->glob_count, optarg);
	case 'd': return take_time("duration", optarg, &options->duration_ns, complaints);
	case THRESHOLD: return take_time(name, optarg, &options->threshold_ns, complaints);
	case BUFFER: return take_buffer(options, optarg, complaints);
	case LABELS: return take_labels(options, optarg, complaints);
	case FORMAT: return take_format(options, name, complaints);
	case NO_CHILDREN: options->no_children = true; return 0;
	case NO_SCHED: options->no_sched = true; return 0;
	case SCHED: options->sched_needed = true; return 0;
	case LIVE: options->live = true; return 0;
	case 'o': options->file = optarg; return 0;
	case 'q': options->quiet = true; return 0;
	case CHECK: options->action = LW_CHECK; return 0;
	case 'h': options->action = LW_HELP; return 0;
	case 'V': options->action = LW_VERSION; return 0;
	default: return -1;
	}
}

/* What is wrong with all of it together; NULL: nothing. */
static const char *misuse(const struct lw_options *options)
{
	bool others = options->pid_count || options->binary_count || options->cgroup_count;
	if (options->action != LW_TRACE)
		return NULL;
	if (options->command && others)
		return "a command, or processes that are there (-p, --binary, --cgroup): not both";
	if (!options->command && !others)
		return "whom to trace? -p PID, --binary PATH, --cgroup PATH or a command";
	if (options->live && (options->format || options->file))
		return "--live is for a terminal: no format, and no --output";
	if (options->no_sched && options->sched_needed)
		return "--sched and --no-sched: one of them";
	if (options->file && !*options->file)
		return "--output takes the path of a file";
	return NULL;
}

/* What getopt_long() has against the word it looked at last. */
static void complain(int argc, char **argv, int option, FILE *complaints)
{
	const char *word = optind > 0 && optind <= argc ? argv[optind - 1] : "";
	if (optopt && optopt < 256 && strncmp(word, "--", 2) != 0)
		fprintf(complaints, option == ':' ? "ladewerk trace: -%c takes a value\n" : "ladewerk trace: there is no option -%c\n", optopt);
	else
		fprintf(complaints, option == ':' ? "ladewerk trace: %s takes a value\n" : "ladewerk trace: %s is no option, short for several, or takes no value\n", word);
}

int lw_options_read(int argc, char **argv, struct lw_options *out, FILE *complaints)
{
	*out = (struct lw_options){ .labels = 100 };
	int option, index = 0;
	opterr = 0;
	optind = 0; /* once more from the beginning, with whatever getopt had kept forgotten */
	while ((option = getopt_long(argc, argv, "+:p:d:o:qhV", known, &index)) != -1) {
		if (option == '?' || option == ':') {
			complain(argc, argv, option, complaints);
			goto wrong;
		}
		if (take(out, option, known[index].name, complaints))
			return -1;
	}
	if (optind < argc)
		out->command = argv + optind;
	const char *what = misuse(out);
	if (!what)
		return 0;
	fprintf(complaints, "ladewerk trace: %s\n", what);
wrong:
	fprintf(complaints, "`ladewerk trace --help` lists the options.\n");
	return -1;
}

void lw_options_free(struct lw_options *options)
{
	free(options->pids);
	free(options->binaries);
	free(options->cgroups);
	free(options->globs);
	*options = (struct lw_options){ 0 };
}
