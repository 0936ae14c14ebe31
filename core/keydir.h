/* SPDX-License-Identifier: MIT */
/*
 * keydir: the names inside one key's directory: reading them, and adding a file whole or not at all.
 *
 *     {base,seg}-<time, 16 hex digits>-<pid>-<n>.lwi          a cache file
 *     .tmp-<the same>                                         one that is being written
 *
 * <time> orders files by age. It is CLOCK_REALTIME in ns, or one more than the newest time in the directory if that is later: a
 * clock that was set back does not make new facts look old. <n> is random: another pid namespace or machine may have the same pid at
 * the same time. No rename replaces a file: a name that is taken is not used (where the file system cannot promise that,
 * it is looked at before).
 */
#ifndef LW_KEYDIR_H
#define LW_KEYDIR_H

#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>

enum { LW_KEYDIR_NAME = 72 };

/* In the order in which a listing is sorted; segments and bases together, newest first. */
enum lw_keydir_kind { LW_KEYDIR_SEGMENT, LW_KEYDIR_BASE, LW_KEYDIR_TEMP, LW_KEYDIR_MARK };

struct lw_keydir_entry {
	uint64_t time;			/* of segments and bases */
	int pid;
	uint8_t kind;			/* enum lw_keydir_kind */
	bool done;			/* for compaction: to be removed once the new base is there */
	char name[LW_KEYDIR_NAME];
};

/** Zero-initialise; plain data otherwise. */
struct lw_keydir {
	struct lw_keydir_entry *entry;	/* cache files first */
	unsigned count, capacity;
	unsigned files, segments, bases;	/* files = segments + bases */
	bool ok;			/* there is an "ok" */
};

/** Read the names in directory FD from its current offset. 0 or -errno (LIST is then empty). Others' files are left out. */
int lw_keydir_read(int fd, struct lw_keydir *list);
void lw_keydir_clear(struct lw_keydir *list);

/** The names in directory FD from the beginning; FD and its offset stay as they are. closedir() it. NULL: errno. */
DIR *lw_keydir_names(int fd);

/** A time for a file that is newer than everything in LIST. */
uint64_t lw_keydir_time(const struct lw_keydir *list);

/** A cache file that is being written. */
struct lw_keydir_draft {
	int fd;
	enum lw_keydir_kind kind;
	uint64_t time;
	char name[LW_KEYDIR_NAME];	/* of the temporary file */
};

/** Create the temporary file for KIND (a segment or a base) and TIME in DIR. 0 or -errno. */
int lw_keydir_draft(int dir, enum lw_keydir_kind kind, uint64_t time, struct lw_keydir_draft *draft);
/** Give it its name (which no file has yet), or, when ERR is not 0, remove it. Closes it. Returns ERR, else 0 or -errno. */
int lw_keydir_finish(int dir, struct lw_keydir_draft *draft, int err);

/** Remove temporary files that are older than an hour and whose writer is gone, and, whatever has that pid now, those older than a day. */
void lw_keydir_sweep(int dir, const struct lw_keydir *list);

#endif
