/* SPDX-License-Identifier: MIT */
/*
 * fresh_own: what a check promises, and that it comes to an end. What it sees is in tests/ext/test_watching.py.
 */
#include "fresh.h"
#include "stamp.h"
#include "tree.h"

#include <criterion/criterion.h>

static char root[PATH_MAX];
static int dir, file[2];
static lw_fresh *own;

static void set_up(void)
{
	tree_create(root, sizeof root);
	dir = tree_open(AT_FDCWD, root);
	for (unsigned i = 0; i < 2; i++)
		TREE_CHECK((file[i] = openat(dir, i ? "a.py" : "b.py", O_WRONLY | O_CREAT | O_CLOEXEC, 0644)) >= 0);
	TREE_CHECK((own = lw_fresh_own()));
}

static void tear_down(void)
{
	lw_fresh_destroy(own);
	close(dir);
	tree_destroy(root);
}

TestSuite(fresh_own, .init = set_up, .fini = tear_down);

/* Somebody who has always written something when we have read what he wrote before. */
struct writer {
	unsigned told, most;
};

static void write_again(void *arg, const struct lw_change *change)
{
	struct writer *writer = arg;
	if (writer->told++ < writer->most)
		TREE_CHECK(pwrite(file[writer->told % 2], "#", 1, 0) == 1);
}

Test(fresh_own, whoever_writes_faster_than_we_read_is_not_waited_for, .timeout = 60)
{
	enum { MOST = 300000 };
	struct writer fast = { .most = MOST }, quick = { .most = 100 };
	cr_assert_eq(lw_fresh_arm(own, root, strlen(root)), LW_ARMED);
	tree_write(dir, "a.py", "");
	cr_expect(lw_fresh_check(own, write_again, &quick), "who stops is");
	cr_expect_geq(quick.told, 100);
	tree_write(dir, "a.py", "");
	cr_expect_not(lw_fresh_check(own, write_again, &fast), "it cannot be believed");
	cr_expect_lt(fast.told, MOST);
	fast.most = 0;
	bool holds = false;
	for (unsigned i = 0; i < 10 && !holds; i++)
		holds = lw_fresh_check(own, write_again, &fast);
	cr_expect(holds, "when he has stopped it can be");
}
