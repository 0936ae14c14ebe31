/* SPDX-License-Identifier: MIT */
/*
 * client: freshness by the daemon `ladewerk watch` (fresh.h, attach.h, journal.h).
 *
 * Nothing waits for the daemon but the first attachment, for LW_CLIENT_PATIENCE_NS at most: what it has not answered by then is taken when it is there. Where it is gone, which is
 * noticed after LW_CLIENT_ALIVE_NS, nothing is trusted, and at most every LW_CLIENT_RETRY_NS a lookup asks whether it is back.
 */
#ifndef LW_CLIENT_H
#define LW_CLIENT_H

#include "fresh.h"
#include "names.h"

struct sockaddr_un;

enum { LW_CLIENT_PATIENCE_NS = 5 * 1000 * 1000, LW_CLIENT_RETRY_NS = 100 * 1000 * 1000, LW_CLIENT_ALIVE_NS = 10 * 1000 * 1000 };

/** Of the daemon at ADDRESS, which need not be there. NULL without memory. */
lw_fresh *lw_client_create(const struct lw_suffixes *suffixes, const struct sockaddr_un *address);
/** Attach, if the daemon is there and wants us. True as well if it is there and has not answered yet, or is not ready: a later check attaches. */
bool lw_client_attach(lw_fresh *client);

#endif
