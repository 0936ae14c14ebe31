/* SPDX-License-Identifier: MIT */
/*
 * seen: what was put in is found until it is forgotten, and the memory goes with what is remembered, not with what ever was.
 */
#include "seen.h"
#include "hash.h"

#include <criterion/criterion.h>

static uint64_t hash_of(uint64_t n)
{
	return lw_hash64(&n, sizeof n);
}

static void add(struct lw_seen *seen, uint64_t n)
{
	lw_seen_add(seen, &(struct lw_seen_file){ .hash = hash_of(n), .asked_ns = (int64_t)n, .by = 1 });
}

static bool knows(const struct lw_seen *seen, uint64_t n)
{
	const struct lw_seen_file *file = lw_seen_find(seen, hash_of(n));
	return file && file->asked_ns == (int64_t)n;
}

Test(seen, remembers_until_it_is_told_to_forget)
{
	struct lw_seen seen = { 0 };
	lw_seen_forget(&seen, hash_of(1));
	for (uint64_t n = 0; n < 5000; n++)
		add(&seen, n);
	for (uint64_t n = 0; n < 5000; n += 3)
		lw_seen_forget(&seen, hash_of(n));
	for (uint64_t n = 0; n < 5000; n++)
		cr_assert_eq(knows(&seen, n), n % 3 != 0);
	add(&seen, 3);
	cr_assert(knows(&seen, 3));
	lw_seen_clear(&seen);
	cr_assert_not(knows(&seen, 1));
}

/* A program that imports what it has just written, and removes it, day and night. */
Test(seen, what_was_forgotten_takes_no_room)
{
	struct lw_seen seen = { 0 };
	enum { LIVING = 100 };
	for (uint64_t n = 0; n < 300000; n++) {
		add(&seen, n);
		if (n >= LIVING)
			lw_seen_forget(&seen, hash_of(n - LIVING));
	}
	for (uint64_t n = 300000 - LIVING; n < 300000; n++)
		cr_assert(knows(&seen, n));
	cr_expect_leq(seen.capacity, 1024, "%u", seen.capacity);
	lw_seen_clear(&seen);
}
