/* SPDX-License-Identifier: MIT */
/* daemon: what its files share. */
#ifndef LW_DAEMON_PRIVATE_H
#define LW_DAEMON_PRIVATE_H

#include "daemon.h"
#include "journal.h"
#include "keeper.h"
#include "mounts.h"

#include <pthread.h>

enum { LW_DAEMON_TOLD = 4096 };

struct told {
	uint64_t hash, batch;
};

struct client {
	struct client *next;
	int fd;
	bool attached;
};

struct root {
	struct lw_attach_id id;
	int missing;			/* -errno: not there */
	int error;			/* that, or not watched */
};

struct lw_daemon {
	struct lw_daemon_config config;
	struct lw_hash128 key;
	struct lw_attach_id mount_ns, top;
	lw_watch *watch;
	lw_mounts *mounts;
	lw_keeper *keeper;
	lw_journal *journal;
	int epoll, folded;		/* FOLDED: an eventfd, the folder's last word */
	int attached_epoll;		/* of clients that have all they need: their end wakes nobody */
	int spare;			/* a descriptor to turn somebody away with when there is none left; -1: none */
	pthread_t folder;
	bool deaf;			/* nobody is let in: we are short of something */
	bool folding;			/* it runs */
	bool failed;			/* the last one */
	bool ready;			/* everything was read once */
	bool serves;			/* keeper's snapshot is as of POSITION in JOURNAL */
	uint64_t position;
	uint64_t fold_journal, fold_position;	/* of the snapshot to come */
	uint64_t journals;		/* before this one */
	uint64_t steps;			/* generations of these */
	uint64_t batch, events, rated, attached, turned_away;
	int64_t begun_ns, changed_ns, marked_ns, folded_ns, roots_ns, rate_ns;	/* monotonic; MARKED: of the oldest mark, 0: none */
	int64_t first_ns, first_cpu_ns;
	double rate;
	struct client *clients;
	struct root root[LW_ATTACH_ROOTS];
	struct told told[LW_DAEMON_TOLD];	/* of this batch, by hash */
	char why[LW_WATCH_WHY];
};

/** Of no use but to be closed; -1: none is left. */
int lw_doorman_spare(void);
/** Wait for what it says; once it is attached: look for it with lw_doorman_sweep() only. 0 or -errno. */
int lw_daemon_add_client(lw_daemon *daemon, struct client *client);
/** Whether to wake up when somebody knocks. */
void lw_daemon_set_deaf(lw_daemon *daemon, bool deaf);

/** Let in who knocks. 0. */
int lw_doorman_admit(lw_daemon *daemon);
/** CLIENT says something, or has gone. 0. */
int lw_doorman_listen(lw_daemon *daemon, struct client *client);
void lw_doorman_dismiss(lw_daemon *daemon, struct client *client);
/** Dismiss who has gone, or says more than a client has to say. Whether there was any. */
bool lw_doorman_sweep(lw_daemon *daemon);

#endif
