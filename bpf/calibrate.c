/* SPDX-License-Identifier: MIT */
#include "calibrate.h"

#include <asm/ptrace.h>
#include <errno.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>

#include "mappings.h"

enum { ROUNDS = 5, HITS = 64 };

/* The instruction that takes the probe. The name is in the register of a first argument. */
extern const char lw_calibration_site[];

/* The label must be there once. Clang makes no copies of such a function. */
#if defined(__clang__)
__attribute__((noinline))
#else
__attribute__((noinline, noclone))
#endif
static void hit(const char *name)
{
#if defined(__x86_64__)
	__asm__ volatile(".globl lw_calibration_site\n.hidden lw_calibration_site\nlw_calibration_site: nop" : : "D"(name) : "memory");
#elif defined(__aarch64__)
	register const char *first __asm__("x0") = name;
	__asm__ volatile(".globl lw_calibration_site\n.hidden lw_calibration_site\nlw_calibration_site: nop" : : "r"(first) : "memory");
#else
#error "this architecture is not supported"
#endif
}

/* Where the mapping with the instruction has it in its file. */
static int find_offset(void *context, const struct lw_mapping *mapping)
{
	uintptr_t address = (uintptr_t)lw_calibration_site;
	if (address < mapping->start || address >= mapping->end)
		return 0;
	*(uint64_t *)context = address - mapping->start + mapping->offset;
	return 1;
}

int lw_calibrate_site(struct lw_site *site, uint64_t *offset)
{
	*site = (struct lw_site){ .kind = LW_SITE_START };
	site->argument[0] = (struct lw_argument){ .place = LW_PLACE_REGISTER, .form = LW_FORM_CHARS, .size = sizeof(char *) };
#if defined(__x86_64__)
	site->argument[0].reg = offsetof(struct pt_regs, rdi);
#else
	site->argument[0].reg = offsetof(struct user_pt_regs, regs);
#endif
	int found = lw_mappings_read(getpid(), find_offset, offset);
	return found > 0 ? 0 : found ? found : -ENOENT;
}

static uint64_t cpu_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The least of some rounds: whatever else is in a round was not the probe's. */
uint64_t lw_calibrate_hit(void)
{
	uint64_t least = UINT64_MAX;
	for (int round = 0; round < ROUNDS; round++) {
		uint64_t began = cpu_ns();
		for (int i = 0; i < HITS; i++)
			hit("(calibration)");
		uint64_t took = cpu_ns() - began;
		if (took < least)
			least = took;
	}
	return least / HITS;
}
