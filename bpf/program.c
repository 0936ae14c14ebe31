/* SPDX-License-Identifier: MIT */
/*
 * program: see program.h.
 *
 * A place for a probe, and what it costs a program each time (x86-64, Linux 6.18): an instruction that the kernel emulates (nop, push, call, jumps) 0.6 us, one that it
 * single-steps out of line up to 20 us. USDT's are nops; among instructions behind a call we choose.
 */
#include "program.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

#include "calls.h"
#include "elffile.h"
#include "layout.h"
#include "mappings.h"
#include "usdt.h"
#include "x86.h"

enum { DESCRIPTION = 4096 };	/* bytes of _PyRuntime that hold what it says of itself, at most */

__attribute__((format(printf, 2, 3))) static void say(char *why, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(why, LW_PROGRAM_WHY, format, arguments);
	va_end(arguments);
}

/* --- the file --- */

struct search {
	pid_t pid;
	const char *path;
	struct lw_mapping found;
};

static int match_path(void *context, const struct lw_mapping *mapping)
{
	struct search *search = context;
	if (strcmp(mapping->path, search->path))
		return 0;
	search->found = *mapping;
	return 1;
}

/* The file itself, through the mapping: that works for deleted files too, but wants CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE. Else by what leads to the same. */
static int open_mapped(pid_t pid, const struct lw_mapping *mapping, const char *path)
{
	char name[64 + 4096];
	struct stat status;
	snprintf(name, sizeof(name), "/proc/%d/map_files/%llx-%llx", pid, (unsigned long long)mapping->start, (unsigned long long)mapping->end);
	int fd = lw_elf_open(name);
	if (fd != -EPERM && fd != -EACCES)
		return fd;
	for (unsigned i = 0; i < 2; i++) {
		snprintf(name, sizeof(name), i ? "/proc/%d/root%s" : "/proc/%d/exe", pid, path);
		int other = lw_elf_open(name);
		if (other >= 0 && !fstat(other, &status) && status.st_ino == mapping->ino)
			return other;
		if (other >= 0)
			close(other);
	}
	return fd;
}

static int open_of(pid_t pid, const char *path, char *why)
{
	if (!pid) {
		int fd = lw_elf_open(path);
		if (fd < 0)
			say(why, "%s: %s", path, fd == -ENOEXEC ? "not a regular file" : strerror(-fd));
		return fd;
	}
	struct search search = { .pid = pid, .path = path };
	int found = lw_mappings_read(pid, match_path, &search);
	int fd = found == 1 ? open_mapped(pid, &search.found, path) : found ? found : -ENOENT;
	if (fd == -EACCES || fd == -EPERM) {
		say(why, "%s of process %d cannot be opened: that needs CAP_SYS_PTRACE; CAP_DAC_READ_SEARCH if it is not readable for all; CAP_CHECKPOINT_RESTORE if it is deleted", path, pid);
		return -EACCES;
	}
	if (fd < 0)
		say(why, "%s of process %d: %s", path, pid, found ? strerror(-fd) : "not mapped there");
	return fd;
}

static int take_file(struct lw_program *program, const char *path)
{
	struct stat status;
	if (fstat(program->fd, &status))
		return -errno;
	program->dev = status.st_dev;
	program->ino = status.st_ino;
	program->path = strdup(path);
	if (asprintf(&program->reach, "/proc/self/fd/%d", program->fd) < 0)
		program->reach = NULL;
	return program->path && program->reach ? 0 : -ENOMEM;
}

/* --- sites --- */

/* Probes that matter: provider, name, what they mean, and the forms of their arguments; `form` of 0 is a number. */
static const struct known {
	const char *provider, *name;
	enum lw_site_kind kind;
	unsigned count;
	uint8_t forms[LW_SITE_ARGUMENTS];
} known_probes[] = {
	{ "python", "import__find__load__start", LW_SITE_START, 1, { LW_FORM_CHARS } },
	{ "python", "import__find__load__done", LW_SITE_DONE, 2, { LW_FORM_CHARS, LW_FORM_NUMBER } },
	{ "ladewerk", "import__start", LW_SITE_OWN_START, 2, { LW_FORM_CHARS, LW_FORM_CHARS } },
	{ "ladewerk", "import__done", LW_SITE_OWN_DONE, 3, { LW_FORM_CHARS, LW_FORM_CHARS, LW_FORM_NUMBER } },
	{ "ladewerk", "wait__begin", LW_SITE_OWN_WAIT, 2, { LW_FORM_CHARS, LW_FORM_CHARS } },
	{ "ladewerk", "wait__end", LW_SITE_OWN_GOT, 2, { LW_FORM_CHARS, LW_FORM_CHARS } },
};

struct reading {
	const lw_elf *elf;
	struct lw_program *program;
	bool python, ladewerk;		/* has probes of this provider, readable or not */
	bool unreadable;		/* a probe of python's was left out: its arguments are beyond us, it is not where its note says, or there are too many */
};

static bool single_stepped(const lw_elf *elf, uint64_t address)
{
	uint8_t code[16];
	struct lw_x86 instruction;
	size_t size = lw_elf_read(elf, address, code, sizeof(code));
	return lw_elf_machine(elf) == EM_X86_64 && !(lw_x86_decode(code, size, &instruction) && instruction.emulated);
}

/* Whether there is a nop at ADDRESS, as there is at every probe. A tool that moved the code and left the notes as they were would have probes in the midst of other instructions. */
static bool is_nop(const lw_elf *elf, uint64_t address)
{
	static const uint8_t x86[][3] = { { 0x90 }, { 0x66, 0x90 }, { 0x0f, 0x1f }, { 0x66, 0x0f, 0x1f } }, arm[] = { 0x1f, 0x20, 0x03, 0xd5 };
	static const size_t sizes[] = { 1, 2, 2, 3 };
	uint8_t code[4];
	size_t size = lw_elf_read(elf, address, code, sizeof(code));
	if (lw_elf_machine(elf) != EM_X86_64)
		return size == sizeof(arm) && !memcmp(code, arm, sizeof(arm));
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		if (size >= sizes[i] && !memcmp(code, x86[i], sizes[i]))
			return true;
	}
	return false;
}

/* Another site at ADDRESS, NULL: there is no room, or no such code. */
static struct lw_program_site *add_site(struct reading *reading, enum lw_site_kind kind, uint64_t address)
{
	uint64_t offset;
	struct lw_program *program = reading->program;
	if (program->count == LW_PROGRAM_SITES || !lw_elf_offset(reading->elf, address, 1, &offset))
		return NULL;
	struct lw_program_site *site = &program->sites[program->count++];
	*site = (struct lw_program_site){ .site.kind = kind, .offset = offset, .slow = single_stepped(reading->elf, address) };
	return site;
}

static bool take_arguments(const struct reading *reading, const struct known *known, const char *text, struct lw_argument *arguments)
{
	for (unsigned i = 0; i < known->count; i++) {
		if (lw_argument_parse(lw_elf_machine(reading->elf), &text, &arguments[i]))
			return false;
		arguments[i].form = known->forms[i];
	}
	return true;
}

static int take_probe(void *context, const struct lw_usdt *probe)
{
	struct reading *reading = context;
	reading->python |= !strcmp(probe->provider, "python");
	reading->ladewerk |= !strcmp(probe->provider, "ladewerk");
	for (size_t i = 0; i < sizeof(known_probes) / sizeof(*known_probes); i++) {
		const struct known *known = &known_probes[i];
		struct lw_argument arguments[LW_SITE_ARGUMENTS] = { 0 };
		if (strcmp(probe->provider, known->provider) || strcmp(probe->name, known->name))
			continue;
		uint64_t semaphore = 0;
		bool readable = is_nop(reading->elf, probe->address) && take_arguments(reading, known, probe->arguments, arguments) && (!probe->semaphore || lw_elf_offset(reading->elf, probe->semaphore, 2, &semaphore));
		struct lw_program_site *site = readable ? add_site(reading, known->kind, probe->address) : NULL;
		if (!site) {
			reading->unreadable |= !strcmp(probe->provider, "python");
			return 0;
		}
		memcpy(site->site.argument, arguments, sizeof(arguments));
		site->semaphore = semaphore;
	}
	return 0;
}

static bool has_kinds(const struct lw_program *program, enum lw_site_kind start, enum lw_site_kind done)
{
	bool starts = false, ends = false;
	for (unsigned i = 0; i < program->count; i++) {
		starts |= program->sites[i].site.kind == start;
		ends |= program->sites[i].site.kind == done;
	}
	return starts && ends;
}

static struct lw_argument register_argument(const char *name, enum lw_form form)
{
	struct lw_argument argument = { .place = LW_PLACE_REGISTER, .form = (uint8_t)form, .size = 8 };
	lw_register_find(EM_X86_64, name, strlen(name), &argument.reg);
	return argument;
}

static void drop_probes(struct lw_program *program)
{
	unsigned kept = 0;
	for (unsigned i = 0; i < program->count; i++) {
		if (program->sites[i].site.kind >= LW_SITE_OWN_START)
			program->sites[kept++] = program->sites[i];
	}
	program->count = kept;
}

/* In place of USDT's, but for those of a Ladewerk that is built in. */
static int take_calls(struct reading *reading, uint64_t size)
{
	struct lw_call calls[LW_CALLS];
	int count = lw_calls_find(reading->elf, reading->program->runtime, size, calls);
	drop_probes(reading->program);
	for (int i = 0; i < count; i++) {
		struct lw_program_site *call = add_site(reading, LW_SITE_CALL, calls[i].call), *behind = call ? add_site(reading, LW_SITE_RETURN, calls[i].behind) : NULL;
		if (!behind)
			return -ENOTSUP;
		call->site.argument[0] = register_argument("rdx", LW_FORM_OBJECT);
		if (calls[i].in_rax)
			behind->site.argument[0] = register_argument("rax", LW_FORM_NUMBER);
	}
	return count < 0 ? count : 0;
}

/* --- the interpreter --- */

struct interpreter {
	uint64_t size;		/* of _PyRuntime */
	bool function;		/* PyObject_CallMethodObjArgs is defined here or called */
};

/* Py_Version, an unsigned long like 0x030b02f0: 3.11 and later have it. */
static unsigned read_version(const lw_elf *elf, uint64_t address)
{
	uint64_t version = 0;
	if (!address || lw_elf_read(elf, address, &version, sizeof(version)) != sizeof(version) || version >> 32)
		return 0;
	return (unsigned)(version >> 16);
}

/* Finds _PyRuntime: by its symbol, or, where there are no symbols, by the section it has to itself since 3.11. */
static int find_interpreter(struct reading *reading, struct interpreter *out)
{
	struct lw_elf_symbol symbols[] = { { .name = "_PyRuntime" }, { .name = "Py_Version" }, { .name = "PyObject_CallMethodObjArgs" }, { .name = "PyImport_ImportModuleLevelObject" } };
	int error = lw_elf_symbols(reading->elf, symbols, sizeof(symbols) / sizeof(*symbols));
	if (error)
		return error;
	const Elf64_Shdr *section = lw_elf_section(reading->elf, ".PyRuntime");
	if (symbols[0].address && symbols[0].size) {
		reading->program->runtime = symbols[0].address;
		out->size = symbols[0].size;
	} else if (section) {
		reading->program->runtime = section->sh_addr;
		out->size = section->sh_size;
	}
	reading->program->version = read_version(reading->elf, symbols[1].address);
	out->function = symbols[2].address || symbols[2].wanted;
	/* An older Python, or one so stripped that only its probes give it away. */
	reading->python |= reading->program->runtime || symbols[3].address;
	return 0;
}

/* The layout, from the image of _PyRuntime that is in the file: it describes itself there with constants. It is read as a process's memory is: ours. */
static void read_layout(struct reading *reading, const struct interpreter *interpreter, char *why)
{
	struct lw_program *program = reading->program;
	uint8_t *image = calloc(1, DESCRIPTION);
	char text[LW_PROGRAM_WHY] = "";
	if (!image) {
		say(why, "out of memory");
		return;
	}
	size_t size = interpreter->size < DESCRIPTION ? interpreter->size : DESCRIPTION;
	if (!program->runtime || lw_elf_read(reading->elf, program->runtime, image, size) != size)
		say(why, "%s: it is stripped of the symbol _PyRuntime, so it is not known what its threads wait for", program->path);
	else if (lw_layout_read(getpid(), (uintptr_t)image, program->version, &program->layout, text))
		say(why, "%s: %s", program->path, text);
	else
		program->laid_out = true;
	if (program->laid_out && interpreter->size <= UINT32_MAX)
		program->layout.runtime_size = (uint32_t)interpreter->size;
	free(image);
}

static void version_text(unsigned version, char *text, size_t size)
{
	if (version)
		snprintf(text, size, "Python %u.%u", version >> 8, version & 255);
	else
		snprintf(text, size, "a Python");
}

/* Why PROGRAM cannot be traced, and what would help. */
static int refuse(const struct reading *reading, const struct interpreter *interpreter, char *why)
{
	const struct lw_program *program = reading->program;
	char python[32];
	version_text(program->version, python, sizeof(python));
	const char *cause = "the call of _find_and_load() was not found in its code";
	if (lw_elf_machine(reading->elf) != EM_X86_64)
		cause = "calls in its code can be found on x86-64 only";
	else if (!program->runtime)
		cause = program->version ? "it is stripped of the symbol _PyRuntime" : "it is older than 3.11, or stripped of its symbols";
	else if (!interpreter->function)
		cause = "it is stripped of the symbol PyObject_CallMethodObjArgs";
	else if (!program->version && !program->laid_out)
		cause = "it is older than 3.11";
	else if (!program->laid_out)
		cause = "how it lays out its objects is not known";
	say(why, "%s is %s without readable import probes of USDT, and %s. What would help: a Python of 3.11 or later built with --with-dtrace (Debian's, Fedora's), or with its symbols",
	    program->path, python, cause);
	return -ENOTSUP;
}

static int read_python(struct reading *reading, char *why)
{
	struct lw_program *program = reading->program;
	struct interpreter interpreter = { 0 };
	int error = find_interpreter(reading, &interpreter);
	if (error || !reading->python)
		return error ? error : -ENOEXEC;
	program->kind = LW_PROGRAM_PYTHON;
	read_layout(reading, &interpreter, why);
	/* Some of several would be some of the imports. */
	program->usdt = has_kinds(program, LW_SITE_START, LW_SITE_DONE) && !reading->unreadable;
	if (program->usdt)
		return 0;
	/* A call's name is a str, which only the layout says how to read. */
	if (program->laid_out)
		error = take_calls(reading, interpreter.size);
	if (error == -ENOMEM)
		return error;
	return !error && has_kinds(program, LW_SITE_CALL, LW_SITE_RETURN) ? 0 : refuse(reading, &interpreter, why);
}

static int read_ladewerk(struct reading *reading, char *why)
{
	reading->program->kind = LW_PROGRAM_LADEWERK;
	reading->program->usdt = true;
	if (has_kinds(reading->program, LW_SITE_OWN_START, LW_SITE_OWN_DONE))
		return 0;
	say(why, "%s: its probes were compiled in a way that is not understood", reading->program->path);
	return -ENOTSUP;
}

static int read_elf(struct lw_program *program, const lw_elf *elf, char *why)
{
	unsigned count;
	struct reading reading = { .elf = elf, .program = program };
	const Elf64_Phdr *segments = lw_elf_segments(elf, &count);
	if (!count)
		return -ENOEXEC;
	/* Linkers align to what may be more than a page; the kernel maps whole pages. */
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	program->head_offset = segments[0].p_offset & ~(page - 1);
	program->head_address = segments[0].p_vaddr & ~(page - 1);
	int error = lw_usdt_read(elf, take_probe, &reading);
	if (error)
		return error;
	return reading.ladewerk && !reading.python ? read_ladewerk(&reading, why) : read_python(&reading, why);
}

int lw_program_read_open(int fd, const char *path, struct lw_program **out, char *why)
{
	struct lw_program *program = calloc(1, sizeof(*program));
	lw_elf *elf = NULL;
	*out = NULL;
	why[0] = 0;
	if (!program) {
		close(fd);
		say(why, "out of memory");
		return -ENOMEM;
	}
	program->fd = fd;
	int error = take_file(program, path);
	if (!error)
		error = lw_elf_create(fd, &elf);
	if (!error)
		error = read_elf(program, elf, why);
	lw_elf_destroy(elf);
	if (error) {
		if (!why[0])
			say(why, "%s: %s", path, error == -ENOEXEC ? "neither a Python nor Ladewerk's extension" : strerror(-error));
		lw_program_destroy(program);
		return error;
	}
	*out = program;
	return 0;
}

int lw_program_read(pid_t pid, const char *path, struct lw_program **out, char *why)
{
	*out = NULL;
	why[0] = 0;
	int fd = open_of(pid, path, why);
	return fd < 0 ? fd : lw_program_read_open(fd, path, out, why);
}

void lw_program_destroy(struct lw_program *program)
{
	if (!program)
		return;
	close(program->fd);
	free(program->path);
	free(program->reach);
	free(program);
}

/* --- where it is --- */

struct biasing {
	const struct lw_program *program;
	pid_t pid;
	uint64_t bias;
};

/* Whether MAPPING is of the program's file. Overlays may number a file otherwise in maps than to stat(2); where the file itself may not be looked at, the number of the inode must do. */
static bool is_of(const struct biasing *biasing, const struct lw_mapping *mapping)
{
	char name[64];
	struct stat status;
	const struct lw_program *program = biasing->program;
	if (mapping->ino == program->ino && mapping->dev == program->dev)
		return true;
	snprintf(name, sizeof(name), "/proc/%d/map_files/%llx-%llx", biasing->pid, (unsigned long long)mapping->start, (unsigned long long)mapping->end);
	if (stat(name, &status))
		return mapping->ino == program->ino;
	return status.st_ino == program->ino && status.st_dev == program->dev;
}

static int match_head(void *context, const struct lw_mapping *mapping)
{
	struct biasing *biasing = context;
	if (mapping->offset != biasing->program->head_offset || !is_of(biasing, mapping))
		return 0;
	biasing->bias = mapping->start - biasing->program->head_address;
	return 1;
}

int lw_program_bias(const struct lw_program *program, pid_t pid, uint64_t *bias)
{
	struct biasing biasing = { .program = program, .pid = pid };
	int found = lw_mappings_read(pid, match_head, &biasing);
	*bias = biasing.bias;
	return found == 1 ? 0 : found ? found : -ENOENT;
}
