/* SPDX-License-Identifier: MIT */
/* contention: what lists for people say of waits for locks: see lw_write_contention() in writer.h. */
#include "writer.h"

#include <inttypes.h>
#include <stdlib.h>

enum { MODULES = 10, LONGEST = 10, CHAINS = 5, BAR = 40 };

static void write_label(FILE *out, const struct lw_wait *wait)
{
	char label[LW_WAIT_LABEL];
	lw_wait_label(wait, label, sizeof(label));
	lw_write_plain(out, label);
}

static void write_holder(const struct lw_writer_setup *setup, uint32_t holder)
{
	if (!holder)
		return;
	fputs(", held by thread ", setup->out);
	lw_write_task(setup, holder);
}

static void write_modules(const struct lw_writer_setup *setup)
{
	struct lw_module_total *module;
	long count = lw_totals_modules(setup->totals, LW_ORDER_WAITED, &module);
	unsigned shown = 0;
	for (long i = 0; i < count && shown < MODULES && module[i].waits; i++) {
		if (!lw_writer_wants(setup, module[i].module, module[i].longest_wait_ns))
			continue;
		if (!shown++)
			fputs("\nmost contended modules\n     waits  waited ms  longest ms  module\n", setup->out);
		fprintf(setup->out, "%10" PRIu64 " %10.3f %11.3f  ", module[i].waits, lw_ms(module[i].waited_ns), lw_ms(module[i].longest_wait_ns));
		lw_write_plain(setup->out, module[i].module);
		write_holder(setup, module[i].holder);
		fputc('\n', setup->out);
	}
	free(module);
}

static void write_longest(const struct lw_writer_setup *setup)
{
	struct lw_wait wait[LW_TOTALS_KEPT];
	unsigned count = lw_totals_longest(setup->totals, wait, LW_TOTALS_KEPT), shown = 0;
	for (unsigned i = 0; i < count && shown < LONGEST; i++) {
		if (!lw_writer_wants_wait(setup, &wait[i]))
			continue;
		if (!shown++)
			fputs("\nlongest waits\n waited ms  for\n", setup->out);
		fprintf(setup->out, "%10.3f  ", lw_ms(wait[i].wait_ns));
		write_label(setup->out, &wait[i]);
		fputs(": thread ", setup->out);
		lw_write_task(setup, wait[i].tid);
		if (*wait[i].importer) {
			fputs(", importing ", setup->out);
			lw_write_plain(setup->out, wait[i].importer);
		}
		write_holder(setup, wait[i].holder);
		fputc('\n', setup->out);
	}
}

static void write_chains(const struct lw_writer_setup *setup)
{
	struct lw_chain chain[LW_TOTALS_KEPT];
	unsigned count = lw_totals_chains(setup->totals, chain, LW_TOTALS_KEPT), shown = 0;
	for (unsigned i = 0; i < count && shown < CHAINS; i++) {
		if (!lw_writer_wants_wait(setup, &chain[i].waits[0]))
			continue;
		if (!shown++)
			fputs("\nchains of holders\n waited ms  times\n", setup->out);
		fprintf(setup->out, "%10.3f %6" PRIu64 "  thread ", lw_ms(chain[i].waited_ns), chain[i].count);
		lw_write_task(setup, chain[i].waits[0].tid);
		for (unsigned k = 0; k < chain[i].length; k++) {
			fputs(" -> ", setup->out);
			write_label(setup->out, &chain[i].waits[k]);
			write_holder(setup, chain[i].waits[k].holder);
		}
		fputc('\n', setup->out);
	}
}

static void write_bound(FILE *out, unsigned bucket)
{
	const uint64_t us = 1ull << bucket;
	if (bucket == LW_HISTOGRAM - 1)
		fputs("   longer", out);
	else if (us < 1000)
		fprintf(out, "%6" PRIu64 " us", us);
	else if (us < 1000000)
		fprintf(out, "%6.3g ms", (double)us / 1e3);
	else
		fprintf(out, "%6.5g s ", (double)us / 1e6);
}

static void write_histogram(FILE *out, const struct lw_lock_total *lock)
{
	unsigned first = 0, last = LW_HISTOGRAM - 1;
	uint64_t most = 1;
	while (first < last && !lock->histogram[first])
		first++;
	while (last > first && !lock->histogram[last])
		last--;
	for (unsigned i = first; i <= last; i++)
		most = lock->histogram[i] > most ? lock->histogram[i] : most;
	for (unsigned i = first; i <= last; i++) {
		fputs("   <= ", out);
		write_bound(out, i);
		fprintf(out, " %10" PRIu64 "%s", lock->histogram[i], lock->histogram[i] ? " " : "");
		for (uint64_t bar = (lock->histogram[i] * BAR + most - 1) / most; bar; bar--)
			fputc('#', out);
		fputc('\n', out);
	}
}

static void write_distribution(const struct lw_writer_setup *setup)
{
	static const struct {
		enum lw_class kind;
		const char *title;
	} kinds[] = {
		{ LW_CLASS_MODULE, "module locks" }, { LW_CLASS_GLOBAL, "the global import lock" }, { LW_CLASS_GIL, "the GIL" }, { LW_CLASS_FUTEX, "other locks" },
	};
	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		const struct lw_lock_total *lock = lw_totals_lock(setup->totals, kinds[i].kind);
		if (!lock->waits)
			continue;
		fprintf(setup->out, "\nwaits for %s: %" PRIu64 ", %.3f ms together, the longest %.3f ms\n", kinds[i].title, lock->waits, lw_ms(lock->waited_ns), lw_ms(lock->longest_ns));
		write_histogram(setup->out, lock);
	}
}

void lw_write_contention(const struct lw_writer_setup *setup)
{
	if (!setup->totals)
		return;
	write_modules(setup);
	write_longest(setup);
	write_chains(setup);
	write_distribution(setup);
}
