/* SPDX-License-Identifier: MIT */
/*
 * The protocol of core/journal.h between those who change a file, the kernel's queues of events, a daemon, the one that follows when it has been killed, and a
 * client; with the store buffers of TSO: a daemon's plain store waits in a FIFO and reaches memory at any later time, also after its death. System calls that take the
 * queue's lock wait until the FIFO is empty.
 *
 * A change: the file has another content; its event is in each queue that is armed; the system call returns. CHANGES of them. A daemon arms, reads the file, and
 * serves what it has read with a position in its journal; takes events in batches, of up to two reads each, that tell the file once; now and then it reads
 * the file anew, and that, with the position from before, is what it serves from then on. With KILLS=1 it may be killed at any step; then comes the second one, with a queue and
 * a journal of its own. The client attaches, checks CHECKS times, and looks at the file itself when it was told.
 *
 * What must hold: where a check says that all has been told and it was not told, what it knows is at least what the file held when the last change returned that had
 * returned before the check began.
 *
 * Mutants, each of which must fail:
 *   ODD_LATE        the generation is odd only after the events have been read
 *   ODD_UNFENCED    a read of the queue does not wait for the store before it (what no processor with locks does)
 *   NO_POLL         the client looks at the generation alone
 *   NO_GENERATION   the client looks at the queue alone
 *   EVEN_EARLY      the generation is even before the record is written
 *   TOLD_EARLY      each record can be read at once, not all at the end of the batch
 *   ARM_LATE        a daemon reads, then arms
 *   POSITION_LATE   what is read anew counts as of the time when it was finished
 *   NO_RESCAN       the second daemon takes over what the first one served if its generation is even and nothing was told since
 */
#ifndef CHANGES
#define CHANGES 2
#endif
#ifndef CHECKS
#define CHECKS 2
#endif
#if !defined(KILLS) && defined(NO_RESCAN)
#define KILLS 1
#endif
#ifndef KILLS
#define KILLS 0
#endif
#define DAEMONS 2
#define BUFFER 4
#define NOBODY 2

mtype = { GENERATION, RECORD, END };

/* The file, and how many changes have returned. */
byte content = 0;
byte returned = 0;

/* Of each daemon: the queue in the kernel, */
bool armed[DAEMONS];
byte queue[DAEMONS];
/* its journal in shared memory, */
byte generation[DAEMONS];
byte end_of[DAEMONS];
byte written[DAEMONS];
/* what it serves, */
bool serves[DAEMONS];
byte served[DAEMONS];
byte position[DAEMONS];
/* and what has become of it: killed, and its connections closed. */
bool killed[DAEMONS];
bool closed[DAEMONS];

chan buffer[DAEMONS] = [BUFFER] of { mtype, byte };

#define STORE(what, value) buffer[d] ! what, value
#define DRAINED (empty(buffer[d]))

proctype memory(byte d)
{
	byte value;
end:	do
	:: atomic { buffer[d] ? GENERATION, value -> generation[d] = value }
	:: atomic { buffer[d] ? RECORD, value -> written[d] = value }
	:: atomic { buffer[d] ? END, value -> end_of[d] = value }
	od
}

proctype writer()
{
	do
	:: content == CHANGES -> break
	:: else ->
		content++;
		/* A second event in a queue would tell nothing that the first does not. */
		d_step { queue[0] = armed[0]; queue[1] = armed[1] }
		returned++
	od
}

/* Its own view of what it stores: ODD, TOLD (records so far), FINISHED (the end as it was stored). */
inline set_odd()
{
	odd = odd + 1;
	STORE(GENERATION, odd)
}

/* read(2). */
inline take()
{
	atomic {
#ifndef ODD_UNFENCED
		DRAINED ->
#endif
		taken = queue[d];
		queue[d] = 0
	}
}

inline tell()
{
	if
	:: taken && !was_told ->
		was_told = true;
		told++;
#ifndef EVEN_EARLY
		STORE(RECORD, told);
#endif
#ifdef TOLD_EARLY
		STORE(END, told)
#endif
	:: else
	fi;
	taken = 0
}

inline batch()
{
	was_told = false;
#ifndef ODD_LATE
	set_odd();
#endif
	take();
#ifdef ODD_LATE
	set_odd();
#endif
	tell();
	if
	:: take(); tell()
	:: true
	fi;
#ifdef EVEN_EARLY
	odd = odd + 1;
	STORE(GENERATION, odd);
	STORE(RECORD, told);
	STORE(END, told)
#else
	STORE(END, told);
	odd = odd + 1;
	STORE(GENERATION, odd)
#endif
}

/* Other threads are handed what is served by a system call. */
inline serve(what, at)
{
	atomic {
		DRAINED ->
		served[d] = what;
		position[d] = at;
		serves[d] = true
	}
}

inline arm()
{
	armed[d] = true
}

inline first_read()
{
#ifdef ARM_LATE
	seen = content;
	arm();
#else
	arm();
	seen = content;
#endif
#ifdef NO_RESCAN
	if
	:: d == 1 && serves[0] && generation[0] % 2 == 0 && end_of[0] == position[0] -> seen = served[0]
	:: else
	fi;
#endif
	serve(seen, 0)
}

proctype daemon(byte d)
{
	byte odd = 0, told = 0, taken = 0, seen = 0, from = 0;
	bool was_told = false, reading = false, has_read = false, marked = false;
	{
		first_read();
end:		do
		:: queue[d] > 0 -> batch(); marked = marked | was_told
		:: marked && !reading -> d_step { reading = true; marked = false; from = told }
		:: reading && !has_read -> d_step { seen = content; has_read = true }
		:: has_read ->
#ifdef POSITION_LATE
			from = told;
#endif
			serve(seen, from);
			d_step { reading = false; has_read = false; from = 0; seen = 0 }
		od
	} unless { killed[d] }
}

/* kill -9 at any step, or never; the kernel closes what it had open; somebody starts the next one. */
proctype fate()
{
	if
	:: true -> killed[0] = true; closed[0] = true; run daemon(1)
	:: true
	fi
}

/* The client. AT: its daemon. */
inline attach()
{
	if
	:: !closed[0] && serves[0] -> at = 0; known = served[0]; place = position[0]; valid = true
	:: closed[0] && serves[1] -> at = 1; known = served[1]; place = position[1]; valid = true
	:: true
	fi
}

inline check()
{
	atomic {
		least = returned;
		if
		:: at != NOBODY && closed[at] -> at = NOBODY; valid = false; place = 0; known = 0
		:: else
		fi;
		if
		:: at == NOBODY -> attach()
		:: else
		fi;
		if
		:: at == NOBODY -> goto done
		:: else
		fi
	}
#ifndef NO_POLL
	if
	:: queue[at] > 0 -> goto done
	:: else
	fi;
#endif
#ifndef NO_GENERATION
	if
	:: generation[at] % 2 -> goto done
	:: else
	fi;
#endif
	last = end_of[at];
	if
	:: place < last ->
		assert(written[at] >= last);
		d_step { valid = false; known = 0; place = last }
	:: else
	fi;
	d_step { last = 0; holds = true };
done:	skip
}

proctype client()
{
	byte at = NOBODY, known = 0, place = 0, least = 0, last = 0, n = 0;
	bool valid = false, holds = false;
	do
	:: n == CHECKS -> break
	:: else ->
		n++;
		check();
		atomic {
			if
			:: holds && valid -> assert(known >= least)
			:: holds && !valid -> known = content; valid = true	/* looked at, and believed from now on */
			:: else
			fi;
			holds = false;
			least = 0
		}
	od
}

init {
	atomic {
		run memory(0);
		run writer();
		run client();
		run daemon(0)
#if KILLS
		;
		run memory(1);
		run fate()
#endif
	}
}
