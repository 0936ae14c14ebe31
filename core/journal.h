/* SPDX-License-Identifier: MIT */
/*
 * journal: what has changed, told by one writer to readers in any number of processes, through shared memory.
 *
 *     writer                                    reader (client.c)
 *
 *     generation := odd                         poll(watch fd) == 0
 *     read events until the queue is empty      generation, acquire: odd -> not now
 *     write records
 *     end := ...                                end: read the records that are new
 *     generation := even, release               all that changed before the poll is known
 *
 * The order of both sides is what makes it right (tests/model/journal.pml): a change is in the queue when its system call returns; it leaves the queue only while the
 * generation is odd; so whoever sees an empty queue AND THEN an even generation has its record before him. It needs no living writer: a queue that nobody empties
 * stays readable, and a generation that was left odd stays odd.
 *
 * A batch is told at its end and not before. A reader that has seen the generation before it even may go on to read records of it; did these come one by one, it could read the record of a
 * path, look at it, and miss that it was changed once more in the same batch, which tells each path once.
 *
 * Records are only ever appended, as in a log: a reader is never in anybody's way. When there is no more room, or when what was written has been folded into a new snapshot, the
 * journal is closed for good, and readers get another one.
 *
 * The memory is a memfd of fixed size that nobody but its creator can write to (F_SEAL_FUTURE_WRITE). Readers still believe no length in it.
 *
 * Threads: one writer; any number of readers, each with its own position.
 */
#ifndef LW_JOURNAL_H
#define LW_JOURNAL_H

#include "fresh.h"

typedef struct lw_journal lw_journal;

enum { LW_JOURNAL_SIZE = 1 << 20 };

/** A new one of SIZE bytes (0: LW_JOURNAL_SIZE). 0 or -errno. */
int lw_journal_create(size_t size, lw_journal **out);
/** That of another process. Does not take FD. 0, -EBADMSG (no journal, or one that could change its size), -EPROTO (another format), or -errno. */
int lw_journal_open(int fd, lw_journal **out);
/** NULL is allowed. What others have mapped stays. */
void lw_journal_destroy(lw_journal *journal);
/** To be handed to readers; -1 in a reader, which holds none. */
int lw_journal_fd(const lw_journal *journal);

/* The writer. */

/** BEFORE an event is read. */
void lw_journal_begin(lw_journal *journal);
/** Between begin and end. Where there is no more room the journal is closed. */
void lw_journal_add(lw_journal *journal, const struct lw_change *change);
/** All events that were read are told. */
void lw_journal_end(lw_journal *journal);
/** Nothing in it is to be believed any longer; there is another one. */
void lw_journal_close(lw_journal *journal);
/** Bytes of records, those of a batch that has not ended left out: the position from which on a snapshot taken now wants to be told of changes. */
uint64_t lw_journal_position(const lw_journal *journal);
bool lw_journal_is_closed(const lw_journal *journal);
/** Odd and even steps so far. */
uint64_t lw_journal_generation(const lw_journal *journal);

/* A reader. */

enum lw_journal_state {
	LW_JOURNAL_HOLDS,	/* all records that there are have been told */
	LW_JOURNAL_BUSY,	/* the writer is at work: not now */
	LW_JOURNAL_CLOSED,	/* closed, or not to be believed: never again */
};

/** Tell SINK what is new since position *AT, and move it. AFTER the poll (see above). */
enum lw_journal_state lw_journal_read(const lw_journal *journal, uint64_t *at, lw_fresh_sink *sink, void *arg);

#endif
