/* SPDX-License-Identifier: MIT */
/*
 * attach: how a program becomes a client of the daemon (`ladewerk watch`), over a SOCK_SEQPACKET socket; one message each way.
 *
 *     client                                                daemon
 *     struct lw_attach_hello                    ->
 *                                               <-          struct lw_attach_reply, the roots behind it; descriptors (SCM_RIGHTS): watch, journal, base[, delta]
 *
 * The connection then stays open without a word: its end tells each side that the other is gone.
 *
 * Both compare the other's uid (SO_PEERCRED) with their own before they send or believe anything, and the mount namespaces: a path must mean the same to both.
 *
 * The snapshot is two index files (index.h), DELTA hiding what BASE says of the same directory, with the lw_attach_key() of the suffixes. A directory has a record in
 * it if, and only if, the daemon's watch tells of its changes. A source's stamp lies beside its entry, 0 if its changes need not be told (links, hard links). It is as of POSITION of the journal.
 */
#ifndef LW_ATTACH_H
#define LW_ATTACH_H

#include "hash.h"
#include "names.h"

#include <stdbool.h>
#include <sys/un.h>

#define LW_ATTACH_MAGIC "LWATTACH"
enum { LW_ATTACH_VERSION = 2, LW_ATTACH_BYTES = 64 * 1024, LW_ATTACH_ROOTS = 256 };

enum lw_attach_wish { LW_ATTACH_SNAPSHOT, LW_ATTACH_STATUS };

/** A directory as it is named by the system, whatever leads to it. */
struct lw_attach_id {
	uint64_t dev, ino;
};

struct lw_attach_hello {
	char magic[8];
	uint32_t version;
	uint32_t wish;			/* enum lw_attach_wish */
	struct lw_hash128 key;		/* lw_attach_key() */
	struct lw_attach_id mounts;	/* the mount namespace */
	struct lw_attach_id top;	/* what "/" is */
};

/* In this order; DELTA may be missing. */
enum { LW_ATTACH_WATCH, LW_ATTACH_JOURNAL, LW_ATTACH_BASE, LW_ATTACH_DELTA, LW_ATTACH_FDS };

struct lw_attach_reply {
	char magic[8];
	uint32_t version;
	uint32_t error;			/* errno: there is nothing for this client, and no descriptor; EAGAIN: not yet; ENOENT: no root can be looked after now */
	struct lw_attach_id mounts, top;
	uint64_t position;		/* in the journal */
	uint32_t roots;			/* so many struct lw_attach_root follow, unpadded */
	uint32_t bytes;			/* of this message */
	char backend[16];		/* of the watch */
};

struct lw_attach_root {
	struct lw_attach_id id;
	uint32_t len;
	char path[];			/* absolute, no trailing slash, not terminated */
};

/** What an index of listings for these suffixes is marked with. */
struct lw_hash128 lw_attach_key(const struct lw_suffixes *suffixes);

/**
 * Whether what has been mounted at, or taken away from, POINT (a real path, as the mount table has it) is on the way to directory ROOT, or below it. Of several points at
 * least one is told to be. True when in doubt.
 */
bool lw_attach_concerns(const char *point, const char *root);

/** Of this process. 0 or -errno. */
int lw_attach_here(struct lw_attach_id *mounts, struct lw_attach_id *top);
/** Of directory PATH. 0 or -errno. */
int lw_attach_identify(const char *path, struct lw_attach_id *id);

/**
 * Where the daemon for these suffixes listens: $LADEWERK_WATCH if USE_ENV and it is an absolute path, else in the user's runtime directory (runtime.h), which is made if
 * CREATE. 0, -ENAMETOOLONG, -ECANCELED (LADEWERK_WATCH=0: not wanted), or as lw_runtime_open().
 */
int lw_attach_address(const struct lw_suffixes *suffixes, bool use_env, bool create, struct sockaddr_un *out);

#endif
