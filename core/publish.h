/* SPDX-License-Identifier: MIT */
/*
 * publish: puts an artifact (artifact.h) where it belongs, whole.
 *
 * It is written into DIR.tmp-<random> beside DIR, and the two change places in one step (renameat2(RENAME_EXCHANGE)), so whoever opens DIR
 * finds the old one or the new one. Where directories cannot change places (a directory of a lower layer of an overlay, an old
 * file system), its files are moved into DIR one by one, the index last: a reader at that moment may find the old index with new links.
 *
 * Files are 0644 and directories 0755, less the umask. Nothing is synced: checksums find what a power cut tore.
 *
 * Threads: none.
 */
#ifndef LW_PUBLISH_H
#define LW_PUBLISH_H

#include "artifact.h"

struct lw_publication {
	const char *path;		/* of DIR, absolute */
	struct lw_hash128 key;
	const char *about;
	const char *const *root;	/* COUNT absolute paths */
	unsigned count;
};

/**
 * Whether DIR at PATH may be made or replaced: 0 if there is none, or an empty one, or one that holds an artifact and nothing else; -EEXIST: something else
 * is there, -errno. REASON (LW_STORE_REASON bytes) says what, with the remedy.
 */
int lw_publish_check(const char *path, char *reason);

/** Write BUILD. 0; -EEXIST as above; -errno. After an error what was in DIR is still there. REASON as above, "" where the errno says it all. */
int lw_publish(const struct lw_publication *publication, lw_build *build, char *reason);

/**
 * The text of the link in DIR that leads to ROOT (both absolute; DIR need not exist, what it lies in must): relative, by the paths as they are given where that leads
 * there, else by the real ones. 0 or -errno.
 */
int lw_publish_link(const char *dir, const char *root, char *out, size_t size);

#endif
