/* SPDX-License-Identifier: MIT */
/* attached: a client of the daemon that $LADEWERK_WATCH leads to, for programs that measure what clients do. */
#ifndef LW_BENCH_ATTACHED_H
#define LW_BENCH_ATTACHED_H

#include "attach.h"
#include "bench.h"
#include "client.h"

#include <string.h>
#include <unistd.h>

enum { ATTACH_TRIES = 100, ATTACH_PAUSE_US = 100 * 1000 };

/* LIST: what extension modules end in, with commas between them: the daemon's own. It is changed. */
static inline void take_suffixes(char *list, struct lw_suffixes *suffixes)
{
	const char *extension[LW_SUFFIX_MAX];
	unsigned count = 0;
	for (char *rest = list, *one; count < LW_SUFFIX_MAX && (one = strsep(&rest, ","));)
		extension[count++] = one;
	check(lw_suffixes_init(suffixes, extension, count) == 0, "suffixes");
}

/* The daemon may be busy with a new snapshot. */
static inline lw_fresh *attach(const struct lw_suffixes *suffixes)
{
	struct sockaddr_un address;
	check(lw_attach_address(suffixes, true, false, &address) == 0, "LADEWERK_WATCH");
	lw_fresh *client = lw_client_create(suffixes, &address);
	check(client, "memory");
	for (unsigned i = 0; i < ATTACH_TRIES && !lw_client_attach(client); i++)
		usleep(ATTACH_PAUSE_US);
	if (lw_client_attach(client))
		return client;
	fprintf(stderr, "cannot attach: %s\n", client->stats.why);
	exit(1);
}

#endif
