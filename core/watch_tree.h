/* SPDX-License-Identifier: MIT */
/*
 * watch_tree: the names of what inotify watches.
 *
 * A node is a name below another node, exactly as somebody wrote it ("..", "." and "" are names like others), so a node's path is the text that leads to it.
 * It has a watch descriptor, which several nodes may share. Of a symbolic link there are two: the link itself, and, where the directory that it leads to is armed
 * under the link's own path, a child called LW_WATCH_BEHIND that adds nothing to the path. What is below the link's path is its children.
 *
 *     /srv/current -> releases/7, armed: /srv/current and /srv/current/app
 *
 *     "" - "srv" - "current" (link) - behind (armed)
 *              |        :            '- "app" (armed)
 *              |        ` target: the node of the text /srv/releases/7
 *              '- "releases" - "7"
 *
 * About 60 bytes a node. Not thread-safe. Nodes are numbers; a number is good until its node is removed.
 */
#ifndef LW_WATCH_TREE_H
#define LW_WATCH_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LW_WATCH_BEHIND "/"

/* NOWHERE is what links lead to whose target was removed. */
enum { LW_WATCH_ROOT = 0, LW_WATCH_NOWHERE = 1, LW_WATCH_NONE = -1 };

enum {
	LW_WATCH_LIVE = 1,
	LW_WATCH_ARMED = 2,
	LW_WATCH_LINK = 4,
	LW_WATCH_SURE = 8,	/* it and its way were watched since the last overflow */
	LW_WATCH_PLAIN = 16,	/* no link on the way, and no odd name: its path is the real one */
};

struct lw_watch_node {
	int32_t parent, child, next, prev;	/* NEXT, PREV: children of the same node */
	int32_t by_name, by_wd;			/* next in the hash chains */
	int32_t target, next_link, first_link;	/* of a link; links to the same target; links that lead here */
	int32_t wd;				/* -1: none */
	uint32_t name;
	uint8_t len, flags;
};

struct lw_watch_tree {
	struct lw_watch_node *node;
	int32_t size, capacity, free;
	int32_t *by_name, *by_wd;		/* BUCKETS each, a power of two */
	uint32_t buckets;
	char *names;
	uint32_t names_size, names_capacity, names_dead;
	uint32_t live, armed, watches;
};

/** 0 or -ENOMEM; afterwards there is the root. */
int lw_watch_tree_init(struct lw_watch_tree *tree);
void lw_watch_tree_free(struct lw_watch_tree *tree);

int32_t lw_watch_tree_find(const struct lw_watch_tree *tree, int32_t parent, const char *name, size_t len);
/** A new child, without a watch. Its number, or -ENOMEM; -ENAMETOOLONG beyond 255 bytes. */
int32_t lw_watch_tree_add(struct lw_watch_tree *tree, int32_t parent, const char *name, size_t len);
/** Remove a node without children. Links that lead to it lead nowhere. */
void lw_watch_tree_remove(struct lw_watch_tree *tree, int32_t node);

/** WD -1: none. */
void lw_watch_tree_set_wd(struct lw_watch_tree *tree, int32_t node, int32_t wd);
void lw_watch_tree_arm(struct lw_watch_tree *tree, int32_t node);
/** TARGET LW_WATCH_NONE: none. */
void lw_watch_tree_set_target(struct lw_watch_tree *tree, int32_t link, int32_t target);

/** The first node with this watch descriptor, and the next one; LW_WATCH_NONE. */
int32_t lw_watch_tree_first(const struct lw_watch_tree *tree, int32_t wd);
int32_t lw_watch_tree_next(const struct lw_watch_tree *tree, int32_t node);

/** Whether the node is what a link leads to, its parent. */
bool lw_watch_tree_is_behind(const struct lw_watch_tree *tree, int32_t node);

/** The length of the path; OUT (NULL, or that many bytes) is filled, without a terminator. The root's is empty. */
size_t lw_watch_tree_path(const struct lw_watch_tree *tree, int32_t node, char *out);

#endif
