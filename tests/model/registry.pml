/* SPDX-License-Identifier: MIT */
/*
 * The protocol of core/registry.c with the store buffers of TSO: a plain store of a reader's waits in a FIFO of its own and reaches memory at any later
 * time; an exchange waits until the FIFO is empty. Loads of other variables overtake it. (Weaker processors: the asymmetric pair holds there by what
 * membarrier is, the seq_cst pairs by C11; ThreadSanitizer looks at acquire and release.)
 *
 * READERS enter, read twice and exit, ROUNDS times each, or turn what they entered into a hold. One writer publishes PUBLICATIONS snapshots at ADDRESSES
 * places, which it uses again as soon as they are free: an address comes back as another snapshot. If no place is free, it stops.
 * From some publication on, chosen by the model, membarrier may be forbidden.
 *
 * What must hold: nothing is read that is free, or has become something else since it was entered; nothing gets stuck. In the end, when all readers have
 * left, one more look frees everything but what was replaced unseen.
 *
 * Mutants, each of which must fail:
 *   NO_MEMBARRIER   the writer looks without it
 *   EARLY_EXIT      the slot is empty before the last read is done (what relaxed ordering of the release allows)
 *   NO_SCAN         freed without a look
 *   NO_CHECK        a reader does not look at `current` again
 *   HOLDS_FIRST     the writer looks at the holds before the slots
 *   TRUSTED         the two snapshots around the failure of membarrier are freed as all others
 *   NO_ANYTHING     an overtaken reader says nothing before it reads `current`
 *   PLAIN_STORE     the slow way stores where it should exchange
 */
#ifndef READERS
#define READERS 2
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#ifndef PUBLICATIONS
#define PUBLICATIONS 3
#endif
#ifndef ADDRESSES
#define ADDRESSES 3		/* 1 .. ADDRESSES; 0 is NULL */
#endif
#define ANYTHING 7
#define BUFFER 3		/* the stores of one round at most: S, E, and S' where it is a plain one */

byte current = 1;
byte fenced = 0;
byte slot[READERS];
byte holds[ADDRESSES + 1];
bool live[ADDRESSES + 1];
byte content[ADDRESSES + 1];	/* the generation that is there */
bool unseen[ADDRESSES + 1];
byte gone = 0;			/* readers that have ended */

chan buffer[READERS] = [BUFFER] of { byte };

/* (`skip` after a loop: spin takes the loop's end for a jump into the d_step that follows.) */

/* Stores reach memory in order, at any time. */
proctype memory(byte r)
{
	byte value;
end:	do
	:: atomic { buffer[r] ? value -> slot[r] = value }
	od
}

#define STORE(value) buffer[r] ! value
#define DRAINED (empty(buffer[r]))
#ifdef PLAIN_STORE
#define EXCHANGE(value) STORE(value)
#else
#define EXCHANGE(value) atomic { DRAINED -> slot[r] = value }
#endif

inline read()
{
	assert(live[p] && content[p] == generation)
}

proctype reader(byte r)
{
	byte p, q, generation, round = 0;

	do
	:: round == ROUNDS -> break
	:: else ->
		round++;
		p = current;					/* P */
		if
		:: p == 0 -> goto slow
		:: else
		fi;
		STORE(p);					/* S */
#ifndef NO_CHECK
		q = current;					/* L */
		if
		:: q == p -> goto inside
		:: else -> q = 0; STORE(0)
		fi
#else
		goto inside
#endif
slow:
#ifndef NO_ANYTHING
		EXCHANGE(ANYTHING);				/* S' */
#endif
		p = current;					/* L' */
		if
		:: p == 0 -> p = fenced; assert(p != 0)
		:: else
		fi;
		STORE(p);
inside:	skip;
		/* The first read says which generation this is, if it is one. */
		d_step { assert(live[p]); generation = content[p] }
#ifdef EARLY_EXIT
		STORE(0);
		read()
#else
		read();
		if
		:: STORE(0)					/* E */
		:: atomic { DRAINED -> holds[p]++ };		/* hold_on: a locked instruction */
			STORE(0);
			read();
			atomic { DRAINED -> holds[p]-- }
		fi
#endif
		p = 0; q = 0; generation = 0
	od;
	gone++
}

bool retired[ADDRESSES + 1];
bool in_use[ADDRESSES + 1];

/* B: every processor in turn gets its stores out. Fails for good from one moment on, which the model chooses. */
inline barrier()
{
	if
	:: !forbidden ->
#ifndef NO_MEMBARRIER
		i = 0;
		do
		:: i == READERS -> break
		:: else -> empty(buffer[i]); i++
		od;
		i = 0
#else
		skip
#endif
	:: forbidden = true
	fi
}

inline look_at_slots()
{
	i = 0;
	do
	:: i == READERS -> break
	:: else ->
		d_step {
			s = slot[i];				/* N */
			if
			:: s == ANYTHING -> defer = true
			:: s != ANYTHING -> in_use[s] = true
			fi;
			i++
		}
	od;
	skip
}

inline look_at_holds()
{
	i = 1;
	do
	:: i > ADDRESSES -> break
	:: else -> d_step {
			if
			:: retired[i] && holds[i] > 0 -> in_use[i] = true
			:: else
			fi;
			i++
		}
	od;
	skip
}

inline collect()
{
	d_step {
		defer = false;
		i = 0;
		do
		:: i > ADDRESSES -> break
		:: else -> in_use[i] = unseen[i]; i++
		od;
		skip
	}
#ifndef NO_SCAN
#ifdef HOLDS_FIRST
	look_at_holds();
	look_at_slots();
#else
	look_at_slots();
	look_at_holds();
#endif
#endif
	d_step {
		i = 1;
		do
		:: i > ADDRESSES -> break
		:: else ->
			if
			:: retired[i] && !in_use[i] && !defer -> retired[i] = false; live[i] = false; content[i] = 0
			:: else
			fi;
			i++
		od;
		i = 0; s = 0; defer = false
	}
}

proctype writer()
{
	byte i, s, old = 1, new, generation = 1;
	bool defer = false, forbidden = false, is_fenced = false;

	do
	:: generation == PUBLICATIONS + 1 -> break
	:: else ->
		generation++;
		d_step {
			new = 1;
			do
			:: new > ADDRESSES -> break
			:: new <= ADDRESSES && !live[new] -> break
			:: else -> new++
			od;
			skip
		}
		if
		:: new > ADDRESSES -> break
		:: else
		fi;
		d_step { live[new] = true; content[new] = generation };
		if
		:: is_fenced -> fenced = new			/* X */
		:: else ->
			current = new;				/* X: an exchange, and the writer has no store buffer */
			barrier();
			if
			:: forbidden ->
#ifndef TRUSTED
				d_step { unseen[old] = true; unseen[new] = true };
#endif
				fenced = new;
				current = 0;
				is_fenced = true
			:: else
			fi
		fi;
		retired[old] = true;
		old = new;
		collect()
	od;

	/* All readers have left, and their last stores have arrived. */
	gone == READERS;
	i = 0;
	do
	:: i == READERS -> break
	:: else -> empty(buffer[i]); i++
	od;
	collect();
	i = 1;
	do
	:: i > ADDRESSES -> break
	:: else -> assert(live[i] == (i == old || unseen[i])); i++
	od
}

init {
	byte r;
	atomic {
		live[1] = true;
		content[1] = 1;
		r = 0;
		do
		:: r == READERS -> break
		:: else -> run memory(r); run reader(r); r++
		od;
		run writer()
	}
}
