/* SPDX-License-Identifier: MIT */
/* program: what is found in files that look like a Python's, in those that lie, and in the Pythons of this machine. */
#include "program.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stddef.h>
#include <stdlib.h>

#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "python_image.h"
#include "scratch.h"

static int read_image(const struct image *image, struct lw_program **program, char *why)
{
	int fd = image_open(image->data, sizeof(image->data));
	cr_assert_geq(fd, 0);
	return lw_program_read_open(fd, "/bin/python", program, why);
}

static int read_plan(const struct image_plan *plan, struct image *image, struct lw_program **program, char *why)
{
	image_make(image, plan);
	return read_image(image, program, why);
}

Test(program, usdt_is_preferred)
{
	struct image image;
	struct lw_program *program;
	char why[LW_PROGRAM_WHY];
	const struct image_plan plan = { .version = 0x030c, .characters = 40, .done = "8@-16(%rbp) -4@%edx" };
	cr_assert_eq(read_plan(&plan, &image, &program, why), 0, "%s", why);
	cr_assert(program->kind == LW_PROGRAM_PYTHON && program->usdt && program->laid_out && program->count == 2);
	cr_expect(program->version == 0x030c && program->layout.version == 0x030c && program->layout.runtime_size == IMAGE_RUNTIME_SIZE);
	cr_expect_eq(program->runtime, IMAGE_RUNTIME + IMAGE_HIGHER);
	const struct lw_program_site *start = &program->sites[0], *done = &program->sites[1];
	cr_expect(start->site.kind == LW_SITE_START && start->offset == IMAGE_CODE && start->semaphore == IMAGE_SEMAPHORES && !start->slow);
	cr_expect(done->site.kind == LW_SITE_DONE && done->offset == IMAGE_CODE + 8 && done->semaphore == IMAGE_SEMAPHORES + 2);
	cr_expect(done->site.argument[0].form == LW_FORM_CHARS && done->site.argument[0].place == LW_PLACE_MEMORY && done->site.argument[0].offset == -16);
	cr_expect(done->site.argument[1].form == LW_FORM_NUMBER && done->site.argument[1].place == LW_PLACE_REGISTER && done->site.argument[1].is_signed);
	/* It can be opened by `reach`, though it never had a name. */
	struct stat status;
	cr_expect(stat(program->reach, &status) == 0 && status.st_ino == program->ino && status.st_dev == program->dev);
	lw_program_destroy(program);
}

/* Notes that were left behind when code moved: a probe there would be in the midst of an instruction. */
Test(program, probes_that_are_no_nops_are_none)
{
	const struct image_plan plan = { .version = 0x030c, .characters = 40, .done = "8@%rax -4@%edx" };
	static const uint8_t others[] = { 0x55, 0xcc, 0x48, 0x0f, 0x66 };
	struct image image;
	struct lw_program *program;
	char why[LW_PROGRAM_WHY];
	for (size_t i = 0; i < sizeof(others); i++) {
		image_make(&image, &plan);
		image.data[IMAGE_CODE + 8] = others[i];
		image.data[IMAGE_CODE + 9] = 0xc3;
		cr_assert_eq(read_image(&image, &program, why), 0, "%s", why);
		cr_expect(!program->usdt && program->count == 2 && program->sites[0].site.kind == LW_SITE_CALL);
		lw_program_destroy(program);
	}
	static const uint8_t nops[][3] = { { 0x90 }, { 0x66, 0x90 }, { 0x0f, 0x1f, 0x00 }, { 0x66, 0x0f, 0x1f } };
	for (size_t i = 0; i < 4; i++) {
		image_make(&image, &plan);
		image_put(&image, IMAGE_CODE + 8, nops[i], sizeof(nops[i]));
		cr_assert_eq(read_image(&image, &program, why), 0, "%s", why);
		cr_expect(program->usdt);
		lw_program_destroy(program);
	}
}

/* Every way to name the str, times every way to call, in every shape of a str; arguments that are beyond us count as no probes. */
Test(program, calls_stand_in_for_usdt)
{
	static const struct { unsigned version, characters; } shapes[] = { { 0x030b, 48 }, { 0x030c, 40 }, { 0x030c, 56 } };
	struct image image;
	struct lw_program *program;
	char why[LW_PROGRAM_WHY];
	for (unsigned shape = 0; shape < 3; shape++) {
		for (enum image_name name = IMAGE_BY_RIP; name < IMAGE_BY_NOTHING; name++) {
			for (enum image_call call = IMAGE_CALL_DIRECT; call < IMAGE_CALL_OTHER; call++) {
				const struct image_plan plan = { .version = shapes[shape].version, .characters = shapes[shape].characters, .name = name, .call = call, .done = name == IMAGE_BY_RIP ? "8@(%rax,%rcx,8) -4@%edx" : NULL };
				cr_assert_eq(read_plan(&plan, &image, &program, why), 0, "%u %d %d: %s", shape, name, call, why);
				cr_assert(!program->usdt && program->count == 2, "%u %d %d", shape, name, call);
				const struct lw_program_site *here = &program->sites[0], *behind = &program->sites[1];
				cr_expect(here->site.kind == LW_SITE_CALL && here->offset == image.call && here->slow == (call == IMAGE_CALL_SLOT));
				cr_expect(here->site.argument[0].form == LW_FORM_OBJECT && here->site.argument[0].reg == 96);
				/* mov and test are passed over for the branch, where rax still is the result. */
				cr_expect(behind->site.kind == LW_SITE_RETURN && behind->offset == image.behind + 6 && !behind->slow && behind->site.argument[0].reg == 80);
				lw_program_destroy(program);
			}
		}
	}
}

Test(program, the_place_behind_a_call)
{
	static const struct { const char *code; size_t size, skipped; bool in_rax, slow; } cases[] = {
		{ "\x48\x89\xc3\xe8\0\0\0\0", 8, 3, true, false },			/* mov %rax,%rbx; call */
		{ "\x48\x89\xc3\x31\xc0\xeb\x10", 7, 5, false, false },			/* mov; xor %eax,%eax; jmp: the result is gone from rax */
		{ "\x48\x83\xc4\x08\xc3", 5, 0, true, true },				/* add $8,%rsp: the stack pointer would be another */
		{ "\xc3", 1, 0, true, true },
		{ "\x62\xf1\x7f\xc9\x6f\x0f\x74\x00", 8, 0, true, true },		/* of AVX-512: how long it is we do not say */
		{ "\x90", 1, 0, true, false },
		{ "\x66\x90\x74\x00", 4, 2, true, false },				/* with this prefix the kernel does not emulate */
		{ "\x41\x54", 2, 0, true, false },					/* push %r12 */
	};
	struct image image;
	struct lw_program *program;
	char why[LW_PROGRAM_WHY];
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const struct image_plan plan = { .version = 0x030c, .characters = 40, .behind = (const uint8_t *)cases[i].code, .behind_size = cases[i].size };
		cr_assert_eq(read_plan(&plan, &image, &program, why), 0, "%zu: %s", i, why);
		const struct lw_program_site *behind = &program->sites[1];
		cr_expect_eq(behind->offset, image.behind + cases[i].skipped, "%zu", i);
		cr_expect_eq(behind->slow, cases[i].slow, "%zu", i);
		cr_expect_eq(behind->site.argument[0].place, cases[i].in_rax ? LW_PLACE_REGISTER : LW_PLACE_NONE, "%zu", i);
		lw_program_destroy(program);
	}
}

Test(program, what_cannot_be_traced_is_refused_with_a_reason)
{
	static const struct { struct image_plan plan; const char *said; } cases[] = {
		{ { .version = 0x030c, .characters = 40, .name = IMAGE_BY_NOTHING }, "Python 3.12 without readable import probes of USDT, and the call of _find_and_load() was not found" },
		{ { .version = 0x030c, .characters = 40, .call = IMAGE_CALL_OTHER }, "the call of _find_and_load() was not found" },
		{ { .version = 0x030a, .characters = 48 }, "Python 3.10 without readable import probes of USDT, and how it lays out its objects is not known" },
		{ { .version = 0x030c, .characters = 40, .stripped = true }, "stripped of" },
	};
	struct image image;
	struct lw_program *program;
	char why[LW_PROGRAM_WHY];
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		cr_assert_eq(read_plan(&cases[i].plan, &image, &program, why), -ENOTSUP, "%zu: %s", i, why);
		cr_expect_null(program);
		cr_expect(strstr(why, cases[i].said) && strstr(why, "What would help"), "%zu: %s", i, why);
	}
	/* Stripped, but with USDT: traced, and it is said what is missing. */
	const struct image_plan stripped = { .version = 0x030c, .characters = 40, .done = "8@%rax -4@%edx", .stripped = true };
	cr_assert_eq(read_plan(&stripped, &image, &program, why), 0, "%s", why);
	cr_expect(program->usdt && !program->laid_out && why[0]);
	lw_program_destroy(program);
}

Test(program, neither_python_nor_readable)
{
	static const struct { const char *path; int error; } cases[] = {
		{ "/bin/true", -ENOEXEC }, { "/etc/passwd", -ENOEXEC }, { "/dev/zero", -ENOEXEC }, { "/", -ENOEXEC }, { "/nowhere", -ENOENT },
	};
	struct lw_program *program;
	char why[LW_PROGRAM_WHY];
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		cr_expect_eq(lw_program_read(0, cases[i].path, &program, why), cases[i].error, "%s: %s", cases[i].path, why);
		cr_expect(strstr(why, cases[i].path), "%s", why);
	}
	cr_expect_eq(lw_program_read(getpid(), "/nowhere", &program, why), -ENOENT);
	cr_expect_eq(lw_program_read(-5, "/bin/true", &program, why), -ESRCH, "%s", why);
	lw_program_destroy(NULL);
}

/* A terabyte of code that is a hole is not read. */
Test(program, a_sparse_file_is_refused_soon, .timeout = 60)
{
	const struct image_plan plan = { .version = 0x030c, .characters = 40, .call = IMAGE_CALL_OTHER };
	const Elf64_Off size = (Elf64_Off)1 << 40;
	const Elf64_Phdr code = { .p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_offset = IMAGE_SIZE, .p_vaddr = 2 * size, .p_filesz = size - IMAGE_SIZE, .p_memsz = size };
	struct image image;
	struct lw_program *program;
	char why[LW_PROGRAM_WHY];
	image_make(&image, &plan);
	image.data[offsetof(Elf64_Ehdr, e_phnum)]++;
	image_put(&image, sizeof(Elf64_Ehdr) + 2 * sizeof(code), &code, sizeof(code));
	int fd = image_open(image.data, sizeof(image.data));
	cr_assert(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
	cr_expect_eq(lw_program_read_open(fd, "/any", &program, why), -ENOTSUP, "%s", why);
	cr_expect(strstr(why, "was not found"), "%s", why);
}

/* A FIFO in the place of a program does not keep us waiting, and is not opened: of devices that alone would do something. */
Test(program, a_fifo_is_refused_at_once, .timeout = 60)
{
	char path[SCRATCH], fifo[SCRATCH + 8], why[LW_PROGRAM_WHY];
	struct lw_program *program;
	cr_assert(mkdtemp(scratch_template(path, "program")));
	snprintf(fifo, sizeof(fifo), "%s/fifo", path);
	cr_assert_eq(mkfifo(fifo, 0600), 0);
	int watch = inotify_init1(IN_NONBLOCK);
	cr_assert_geq(inotify_add_watch(watch, fifo, IN_OPEN), 0);
	cr_expect_eq(lw_program_read(0, fifo, &program, why), -ENOEXEC);
	cr_expect_eq(read(watch, why, sizeof(why)), -1);
	cr_expect_eq(errno, EAGAIN);
	close(watch);
	unlink(fifo);
	rmdir(path);
}

/* Each byte of headers, notes, symbols and sections changed, and the file cut: read or refused, within bounds (ASan). */
Test(program, files_that_lie, .timeout = 300)
{
	static const struct { unsigned from, to; } parts[] = { { 0, 0xb0 }, { IMAGE_NOTES, IMAGE_NOTES + 0xa0 }, { IMAGE_DYNSYM, IMAGE_DYNSYM + 0x60 }, { IMAGE_RELA, IMAGE_RELA + 24 }, { IMAGE_SECTIONS, IMAGE_SECTIONS + 8 * sizeof(Elf64_Shdr) } };
	static const uint8_t values[] = { 0, 1, 0x7f, 0x80, 0xff };
	struct image sound, image;
	struct lw_program *program;
	char why[LW_PROGRAM_WHY];
	const struct image_plan plan = { .version = 0x030c, .characters = 40, .call = IMAGE_CALL_PLT, .done = "8@symbol(%rip) -4@%edx" };
	image_make(&sound, &plan);
	for (size_t part = 0; part < sizeof(parts) / sizeof(*parts); part++) {
		for (unsigned at = parts[part].from; at < parts[part].to; at++) {
			image = sound;
			image.data[at] = values[at % sizeof(values)] == sound.data[at] ? 0x55 : values[at % sizeof(values)];
			if (read_image(&image, &program, why) == 0)
				cr_assert_leq(program->count, LW_PROGRAM_SITES);
			lw_program_destroy(program);
		}
	}
	for (size_t size = 0; size < IMAGE_SIZE; size += size < 0x100 ? 1 : 0x37) {
		(void)lw_program_read_open(image_open(sound.data, size), "/cut", &program, why);
		lw_program_destroy(program);
	}
}

/* --- the Pythons of this machine --- */

/* What is at a site is what a probe there needs: a nop, a call, what the kernel emulates. */
static void check_sites(const struct lw_program *program)
{
	for (unsigned i = 0; i < program->count; i++) {
		uint8_t byte = 0;
		const struct lw_program_site *site = &program->sites[i];
		cr_assert_eq(pread(program->fd, &byte, 1, (off_t)site->offset), 1);
		cr_expect(!program->usdt || byte == 0x90, "%s: %02x at %#lx", program->path, byte, (unsigned long)site->offset);
		cr_expect(site->site.kind != LW_SITE_CALL || byte == 0xe8, "%s: %02x at %#lx", program->path, byte, (unsigned long)site->offset);
		cr_expect_not(site->slow, "%s: %#lx", program->path, (unsigned long)site->offset);
	}
}

/* Wherever there is a Python of 3.11 or later, it is read, laid out, and has its sites at one or both ends of an import. */
Test(program, pythons_of_this_machine)
{
	static const char *const patterns[] = { "/usr/bin/python3.1[1-9]", "/usr/local/lib/libpython3.1[1-9]*.so.1.0", "/usr/lib/*/libpython3.1[1-9]*.so.1.0", "~/.pyenv/versions/3.1[1-9]*/lib/libpython3.1[1-9]*.so.1.0" };
	glob_t found = { 0 };
	for (size_t i = 0; i < sizeof(patterns) / sizeof(*patterns); i++)
		glob(patterns[i], GLOB_TILDE | (i ? GLOB_APPEND : 0), NULL, &found);
	for (size_t i = 0; i < found.gl_pathc; i++) {
		struct lw_program *program;
		char why[LW_PROGRAM_WHY];
		int error = lw_program_read(0, found.gl_pathv[i], &program, why);
		if (error == -ENOEXEC)		/* an executable that is linked to a libpython */
			continue;
		cr_assert_eq(error, 0, "%s", why);
		cr_expect(program->kind == LW_PROGRAM_PYTHON && program->laid_out && program->runtime && program->version >= 0x030b, "%s: %s", found.gl_pathv[i], why);
		cr_expect(program->count >= 2 && program->count % 2 == 0, "%s: %u sites", found.gl_pathv[i], program->count);
		check_sites(program);
		lw_program_destroy(program);
	}
	globfree(&found);
}

/* --- processes --- */

/* A process that has IMAGE mapped as a loader would, its data elsewhere than its code; it ends when PIPE is closed. */
static pid_t map_image(const char *path, int *pipe_end)
{
	int ends[2];
	char byte;
	cr_assert_eq(pipe(ends), 0);
	pid_t pid = fork();
	if (!pid) {
		int fd = open(path, O_RDONLY);
		close(ends[1]);
		if (mmap((void *)0x600000000000, IMAGE_DATA, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, fd, 0) == MAP_FAILED)
			_exit(1);
		close(fd);
		kill(getpid(), SIGSTOP);
		(void)!read(ends[0], &byte, 1);
		_exit(0);
	}
	close(ends[0]);
	*pipe_end = ends[1];
	int status;
	cr_assert(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
	return pid;
}

/* Read through the mapping of a process, after the file was removed; and found again in it. */
Test(program, a_removed_file_that_is_mapped)
{
	struct image image;
	struct lw_program *program;
	char path[SCRATCH], removed[SCRATCH + 16], why[LW_PROGRAM_WHY];
	uint64_t bias = 0;
	int end, fd = mkstemp(scratch_template(path, "python"));
	const struct image_plan plan = { .version = 0x030c, .characters = 40 };
	image_make(&image, &plan);
	cr_assert_eq(write(fd, image.data, sizeof(image.data)), (ssize_t)sizeof(image.data));
	close(fd);
	pid_t pid = map_image(path, &end);
	unlink(path);
	snprintf(removed, sizeof(removed), "%s (deleted)", path);
	int error = lw_program_read(pid, removed, &program, why);
	if (error == -EACCES) {
		cr_expect(strstr(why, "CAP_CHECKPOINT_RESTORE"), "%s", why);
	} else {
		cr_assert_eq(error, 0, "%s", why);
		cr_assert_eq(lw_program_bias(program, pid, &bias), 0);
		cr_expect_eq(bias, 0x600000000000);
		cr_expect_eq(lw_program_bias(program, getpid(), &bias), -ENOENT);
		lw_program_destroy(program);
	}
	kill(pid, SIGKILL);
	close(end);
	waitpid(pid, NULL, 0);
}
