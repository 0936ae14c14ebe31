/* SPDX-License-Identifier: MIT */
/*
 * journal: see journal.h.
 *
 * Ordering:
 *  1  begin:  generation (odd) is stored seq_cst, before the read(2) that takes an event: a reader that finds the queue empty because of that read finds it odd, or
 *             later. (The queue's own lock in the kernel orders the two.)
 *  2  end:    records, then END, then generation (even), each with release; pairs with
 *  3  read:   generation with acquire, then END with acquire, then the records.
 */
#include "journal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

/* Whether what was read is told (tests break this). */
#ifndef LW_JOURNAL_IS_EVEN
#define LW_JOURNAL_IS_EVEN(generation) ((generation) % 2 == 0)
#endif

#define MAGIC "LWJOURN\n"
enum { FORMAT = 1, HEAD = 4096, ALIGN = 8, SPIN = 2000 };

struct head {
	char magic[8];
	uint32_t format, head_size;
	_Alignas(64) _Atomic uint64_t generation;	/* odd: events have been read that are not told yet */
	_Alignas(64) _Atomic uint64_t end;		/* bytes of records */
	_Atomic uint32_t closed;
};

struct record {
	uint32_t kind, len;		/* LEN: bytes of the path behind it */
	uint64_t hash;
	char path[];
};

struct lw_journal {
	struct head *head;
	size_t size;			/* of the mapping */
	uint64_t end;			/* the writer's: bytes of records, those of this batch included */
	int fd;
};

#define CLOSING_SEALS (F_SEAL_GROW | F_SEAL_SHRINK)

static uint64_t room(const lw_journal *journal)
{
	return journal->size - HEAD;
}

static const char *records(const lw_journal *journal)
{
	return (const char *)journal->head + HEAD;
}

static int map(lw_journal *journal, int fd, int protection)
{
	void *data = mmap(NULL, journal->size, protection, MAP_SHARED, fd, 0);
	if (data == MAP_FAILED)
		return -errno;
	journal->head = data;
	return 0;
}

/* A memfd of SIZE bytes, mapped for us to write, and for nobody who comes later. */
static int create(lw_journal *journal)
{
	journal->fd = memfd_create("ladewerk-journal", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (journal->fd < 0 || ftruncate(journal->fd, (off_t)journal->size))
		return -errno;
	int error = map(journal, journal->fd, PROT_READ | PROT_WRITE);
	if (!error && fcntl(journal->fd, F_ADD_SEALS, CLOSING_SEALS | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL))
		error = -errno;
	return error;
}

int lw_journal_create(size_t size, lw_journal **out)
{
	*out = NULL;
	lw_journal *journal = calloc(1, sizeof *journal);
	if (!journal)
		return -ENOMEM;
	*journal = (lw_journal){ .size = size ? size : LW_JOURNAL_SIZE, .fd = -1 };
	int error = create(journal);
	if (error) {
		lw_journal_destroy(journal);
		return error;
	}
	journal->head->format = FORMAT;
	journal->head->head_size = sizeof(struct head);
	memcpy(journal->head->magic, MAGIC, sizeof journal->head->magic);
	*out = journal;
	return 0;
}

static int check_file(lw_journal *journal, int fd)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);
	/* Were it cut, reading it would kill us. */
	if (seals < 0 || (seals & CLOSING_SEALS) != CLOSING_SEALS || fstat(fd, &st) || st.st_size < HEAD || st.st_size > UINT32_MAX)
		return -EBADMSG;
	journal->size = (size_t)st.st_size;
	return 0;
}

static int check_head(const struct head *head)
{
	if (memcmp(head->magic, MAGIC, sizeof head->magic))
		return -EBADMSG;
	return head->format == FORMAT && head->head_size == sizeof *head ? 0 : -EPROTO;
}

int lw_journal_open(int fd, lw_journal **out)
{
	*out = NULL;
	lw_journal *journal = calloc(1, sizeof *journal);
	if (!journal)
		return -ENOMEM;
	journal->fd = -1;
	int error = check_file(journal, fd);
	if (!error)
		error = map(journal, fd, PROT_READ);
	if (!error)
		error = check_head(journal->head);
	if (error)
		lw_journal_destroy(journal);
	else
		*out = journal;
	return error;
}

void lw_journal_destroy(lw_journal *journal)
{
	if (!journal)
		return;
	if (journal->head)
		munmap(journal->head, journal->size);
	if (journal->fd >= 0)
		close(journal->fd);
	free(journal);
}

int lw_journal_fd(const lw_journal *journal)
{
	return journal->fd;
}

/* Only the writer changes them. */
static uint64_t own(const _Atomic uint64_t *value)
{
	return atomic_load_explicit(value, memory_order_relaxed);
}

void lw_journal_begin(lw_journal *journal)
{
	uint64_t generation = own(&journal->head->generation);
	assert(generation % 2 == 0);
	atomic_store_explicit(&journal->head->generation, generation + 1, memory_order_seq_cst);
}

static size_t record_size(size_t len)
{
	return (sizeof(struct record) + len + ALIGN - 1) / ALIGN * ALIGN;
}

void lw_journal_add(lw_journal *journal, const struct lw_change *change)
{
	uint64_t end = journal->end;
	size_t len = change->kind == LW_CHANGE_SUBTREE ? change->len : 0, size = record_size(len);
	assert(own(&journal->head->generation) % 2);
	if (size > room(journal) - end) {
		lw_journal_close(journal);
		return;
	}
	struct record *record = (struct record *)(records(journal) + end);
	*record = (struct record){ .kind = change->kind, .len = (uint32_t)len, .hash = change->hash };
	memcpy(record->path, change->path ? change->path : "", len);
	journal->end = end + size;
}

void lw_journal_end(lw_journal *journal)
{
	uint64_t generation = own(&journal->head->generation);
	assert(generation % 2);
	atomic_store_explicit(&journal->head->end, journal->end, memory_order_release);
	atomic_store_explicit(&journal->head->generation, generation + 1, memory_order_release);
}

void lw_journal_close(lw_journal *journal)
{
	atomic_store_explicit(&journal->head->closed, 1, memory_order_seq_cst);
}

uint64_t lw_journal_position(const lw_journal *journal)
{
	return atomic_load_explicit(&journal->head->end, memory_order_acquire);
}

bool lw_journal_is_closed(const lw_journal *journal)
{
	return atomic_load_explicit(&journal->head->closed, memory_order_acquire);
}

uint64_t lw_journal_generation(const lw_journal *journal)
{
	return atomic_load_explicit(&journal->head->generation, memory_order_acquire);
}

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#endif
}

/* A batch takes some microseconds. */
static bool is_even_soon(const lw_journal *journal)
{
	for (unsigned i = 0; i < SPIN; i++) {
		if (LW_JOURNAL_IS_EVEN(lw_journal_generation(journal)))
			return true;
		relax();
	}
	return false;
}

/* The record at AT; false: what is there is none. */
static bool read_record(const lw_journal *journal, uint64_t at, uint64_t end, struct lw_change *change, size_t *size)
{
	const struct record *record = (const struct record *)(records(journal) + at);
	if (end - at < sizeof *record)
		return false;
	/* Copied: what is checked is what is used. */
	struct record head = { .kind = *(const volatile uint32_t *)&record->kind, .len = *(const volatile uint32_t *)&record->len, .hash = record->hash };
	*size = record_size(head.len);
	*change = (struct lw_change){ .kind = head.kind, .hash = head.hash, .path = record->path, .len = head.len };
	return head.kind <= LW_CHANGE_ALL && *size <= end - at;
}

enum lw_journal_state lw_journal_read(const lw_journal *journal, uint64_t *at, lw_fresh_sink *sink, void *arg)
{
	if (!is_even_soon(journal))
		return lw_journal_is_closed(journal) ? LW_JOURNAL_CLOSED : LW_JOURNAL_BUSY;
	uint64_t end = lw_journal_position(journal);
	if (lw_journal_is_closed(journal) || end > room(journal) || *at > end || *at % ALIGN)
		return LW_JOURNAL_CLOSED;
	while (*at < end) {
		struct lw_change change;
		size_t size;
		if (!read_record(journal, *at, end, &change, &size))
			return LW_JOURNAL_CLOSED;
		sink(arg, &change);
		*at += size;
	}
	return LW_JOURNAL_HOLDS;
}
