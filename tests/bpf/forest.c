/* SPDX-License-Identifier: MIT */
/* forest: when a tree is complete, and what is in it. */
#include "feed.h"
#include "forest.h"

static const char *const names[] = { "a", "b", "c", "d", NULL };
enum { A = 1, B, C, D };

/* Trees as text: a(b(d) c), a wait for c's lock as !c; outside of any as !c by itself. */
struct wood {
	struct feed feed;
	lw_forest *forest;
	char text[4096];
	unsigned left_out, strays;
};

static void put(struct wood *wood, const char *text)
{
	size_t len = strlen(wood->text);
	cr_assert(len + strlen(text) < sizeof(wood->text));
	strcpy(wood->text + len, text);
}

static void put_wait(struct wood *wood, const struct lw_wait *wait)
{
	put(wood, "!");
	put(wood, wait->module);
}

static void put_node(struct wood *wood, const struct lw_node *node)
{
	cr_expect(!node->open);
	put(wood, node->import.module);
	for (const struct lw_node_wait *entry = node->waits; entry; entry = entry->next)
		put_wait(wood, &entry->wait);
	if (!node->first)
		return;
	put(wood, "(");
	for (const struct lw_node *child = node->first; child; child = child->next) {
		cr_expect_eq(child->parent, node);
		cr_expect(child->next || node->last == child);
		put_node(wood, child);
		put(wood, child->next ? " " : ")");
	}
}

static void on_tree(void *context, struct lw_node *root)
{
	struct wood *wood = context;
	cr_expect_eq(root->parent, NULL);
	wood->left_out += root->left_out;
	if (root->size < 100)
		put_node(wood, root);
	put(wood, ";");
}

static void on_stray(void *context, const struct lw_wait *wait)
{
	struct wood *wood = context;
	if (wood->strays++ > 100)
		return;
	put_wait(wood, wait);
	put(wood, ";");
}

static void begin(struct wood *wood)
{
	*wood = (struct wood){ 0 };
	wood->forest = lw_forest_create(&(struct lw_forest_sink){ wood, on_tree, on_stray });
	cr_assert(wood->forest);
	feed_begin_with(&wood->feed, (struct lw_listener[]){ lw_forest_listener(wood->forest) }, 1);
	feed_names(&wood->feed, names);
}

static void end(struct wood *wood)
{
	feed_end(&wood->feed);
	lw_forest_destroy(wood->forest);
}

Test(forest, children_in_the_order_of_their_beginning)
{
	struct wood w;
	begin(&w);
	feed_start(&w.feed, 1, A, 100);
	feed_start(&w.feed, 1, B, 110);
	feed_wait(&w.feed, 1, LW_CLASS_GIL, 0, 111, 1, 0);
	feed_wait(&w.feed, 1, LW_CLASS_MODULE, C, 112, 1, 0);
	feed_start(&w.feed, 1, D, 115);
	feed_done(&w.feed, 1, D, 116);
	feed_done(&w.feed, 1, B, 120);
	feed_start(&w.feed, 1, C, 130);
	feed_done(&w.feed, 1, C, 140);
	cr_expect_str_eq(w.text, "");
	feed_done(&w.feed, 1, A, 150);
	feed_wait(&w.feed, 1, LW_CLASS_MODULE, D, 160, 1, 0);
	cr_expect_str_eq(w.text, "a(b!c(d) c);!d;");
	end(&w);
}

/* Two threads; and the child of a fork, which goes on within its parent's import. */
Test(forest, trees_are_a_threads_own)
{
	struct wood w;
	begin(&w);
	feed_start(&w.feed, 1, A, 100);
	feed_start(&w.feed, 2, B, 110);
	feed_head(&w.feed, LW_EVENT_FORK, 1, 8, 115);
	w.feed.pid = 8;
	feed_start(&w.feed, 8, D, 116);
	feed_done(&w.feed, 8, D, 117);
	w.feed.pid = FEED_PID;
	feed_start(&w.feed, 1, C, 120);
	feed_done(&w.feed, 2, B, 130);
	feed_done(&w.feed, 1, C, 140);
	feed_done(&w.feed, 1, A, 150);
	cr_expect_str_eq(w.text, "d;b;a(c);");
	end(&w);
}

/* B was begun within A, and goes on when A has ended (greenlets): the tree is complete when both have. */
Test(forest, children_that_outlive_their_parents)
{
	struct wood w;
	begin(&w);
	feed_start_at(&w.feed, 1, A, 100, 9000);
	feed_start_at(&w.feed, 1, B, 110, 8000);
	feed_done_at(&w.feed, 1, A, 120, 9000);
	cr_expect_str_eq(w.text, "");
	feed_start_at(&w.feed, 1, C, 130, 7000);
	feed_done_at(&w.feed, 1, C, 140, 7000);
	cr_expect_str_eq(w.text, "");
	feed_done_at(&w.feed, 1, B, 150, 8000);
	cr_expect_str_eq(w.text, "a(b(c));");
	end(&w);
}

Test(forest, the_end_completes_all)
{
	struct wood w;
	begin(&w);
	feed_start(&w.feed, 1, A, 100);
	feed_start(&w.feed, 1, B, 110);
	feed_start(&w.feed, 2, C, 110);
	lw_model_end(w.feed.model, 200);
	cr_expect(strcmp(w.text, "a(b);c;") == 0 || strcmp(w.text, "c;a(b);") == 0, "%s", w.text);
	end(&w);
}

/* A server that runs within an import, and fails to import something for ever. */
Test(forest, a_tree_is_bounded)
{
	struct wood w;
	begin(&w);
	feed_start(&w.feed, 1, A, 100);
	for (unsigned i = 0; i < LW_TREE_MOST; i++) {
		feed_start(&w.feed, 1, B, 110);
		feed_wait(&w.feed, 1, LW_CLASS_MODULE, C, 110, 1, 0);
		feed_done(&w.feed, 1, B, 120);
	}
	feed_done(&w.feed, 1, A, 150);
	cr_expect_eq(w.left_out, LW_TREE_MOST / 2);
	cr_expect_eq(w.strays, LW_TREE_MOST / 2 + 1, "a wait that has no room is told by itself");
	end(&w);
}
