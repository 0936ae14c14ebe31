/* SPDX-License-Identifier: MIT */
/*
 * session: see session.h. This file ties the parts together; the life of what was learnt is in learn.c.
 *
 * Lock order: sessions_mutex (the list of sessions, for fork and exit) before session->mutex; neither is ever held while calling back.
 */
#include "session.h"
#include "attach.h"
#include "client.h"

#include "hot.h"
#include "learn.h"
#include "pyc.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* WINDOW: what the kernel maps around a page that is in memory already, so that fewer faults are taken. */
enum { FILES_LEFT = 3, WINDOW = 64 * 1024, WINDOWS_MAX = 16 };

struct lw_session {
	lw_session *next;		/* sessions_mutex */
	struct lw_suffixes suffixes;	/* constant */
	uint32_t pyc_magic;		/* constant */
	bool makes;			/* constant: see the configuration */
	lw_artifact *artifact;		/* constant; NULL: none was asked for */
	lw_registry *registry;		/* thread-safe by itself */
	pthread_mutex_t mutex;		/* protects everything below */
	lw_store *store;
	const struct lw_snapshot *snapshot;	/* held for as long as DIRS and views point into it */
	struct lw_dirs dirs;
	int64_t window_ns;
	struct lw_learner learner;
	struct lw_hot hot;
	lw_view **view;			/* those with a table */
	unsigned view_count, view_capacity;
	uintptr_t window[WINDOWS_MAX];	/* of code that was handed out since the last trim */
	unsigned windows;
	bool started;			/* the crash mark is gone */
	struct lw_session_stats stats;
};

static pthread_mutex_t sessions_mutex = PTHREAD_MUTEX_INITIALIZER;
static lw_session *sessions;		/* sessions_mutex */
static bool hooks_installed;		/* sessions_mutex */

static void lock(lw_session *session)
{
	pthread_mutex_lock(&session->mutex);
}

static void unlock(lw_session *session)
{
	pthread_mutex_unlock(&session->mutex);
}

static int flush_locked(lw_session *session)
{
	if (!session->started) {
		session->started = true;
		lw_store_started(session->store);
	}
	return lw_learner_flush(&session->learner, &session->dirs, session->view, session->view_count, session->store, &session->stats);
}

static bool due(const lw_session *session)
{
	return lw_learner_pending(&session->learner, &session->dirs, session->view, session->view_count) && lw_learner_time(&session->learner);
}

/* Storing what was touched is paid for from the same budget. */
static bool hot_due(const lw_session *session)
{
	return lw_hot_due(&session->hot, session->snapshot) && lw_learner_time(&session->learner);
}

static void store_hot(lw_session *session)
{
	int64_t start = lw_monotonic_ns();
	session->stats.hot_written += lw_hot_store(&session->hot, session->store, session->snapshot) > 0;
	session->learner.spent_ns += lw_monotonic_ns() - start;
}

/*
 * The last words of a process that has learnt something: every start pays for every file, so leave few. Merging costs as much as
 * copying them, once; only a process that has just paid for learning does it.
 */
static void finish_locked(lw_session *session)
{
	flush_locked(session);
	if (session->stats.segments_written && session->stats.indexes + session->stats.segments_written > FILES_LEFT)
		lw_store_compact(session->store, false);
	if (session->stats.segments_written)
		session->stats.hot_written += lw_hot_store_learnt(&session->hot, session->store, session->snapshot, session->stats.learnt_bytes) > 0;
	else
		store_hot(session);
}

/* --- fork and exit --- */

static void fork_prepare(void)
{
	pthread_mutex_lock(&sessions_mutex);
	for (lw_session *session = sessions; session; session = session->next) {
		lock(session);
		if (lw_learner_pending(&session->learner, &session->dirs, session->view, session->view_count))
			flush_locked(session);
		if (hot_due(session))
			store_hot(session);
		lw_registry_fork_prepare(session->registry);
	}
}

static void forget_watch(lw_session *session)
{
	lw_dirs_unwatch(&session->dirs);
	for (unsigned by = 0; by < LW_BY_COUNT; by++)
		if (session->dirs.fresh[by])
			lw_fresh_forked(session->dirs.fresh[by]);
}

static void fork_done(bool child)
{
	for (lw_session *session = sessions; session; session = session->next) {
		lw_registry_fork_done(session->registry, child);
		if (child) {
			lw_learner_forget(&session->learner);
			lw_hot_close(&session->hot);
			lw_store_forked(session->store);
			session->started = true;
			forget_watch(session);
		}
		unlock(session);
	}
	pthread_mutex_unlock(&sessions_mutex);
}

static void fork_parent(void)
{
	fork_done(false);
}

static void fork_child(void)
{
	fork_done(true);
}

static bool lock_within_a_second(pthread_mutex_t *mutex)
{
	/* Not pthread_mutex_timedlock(): its clock may be set back. */
	for (unsigned ms = 0; ms < 1000; ms++) {
		if (pthread_mutex_trylock(mutex) == 0)
			return true;
		usleep(1000);
	}
	return false;
}

static void at_exit(void)
{
	if (!lock_within_a_second(&sessions_mutex))
		return;
	for (lw_session *session = sessions; session; session = session->next) {
		if (!lock_within_a_second(&session->mutex))
			continue;
		finish_locked(session);
		unlock(session);
	}
	pthread_mutex_unlock(&sessions_mutex);
}

static void enlist(lw_session *session)
{
	pthread_mutex_lock(&sessions_mutex);
	session->next = sessions;
	sessions = session;
	if (!hooks_installed) {
		hooks_installed = true;
		pthread_atfork(fork_prepare, fork_parent, fork_child);
		atexit(at_exit);
	}
	pthread_mutex_unlock(&sessions_mutex);
}

static void delist(lw_session *session)
{
	pthread_mutex_lock(&sessions_mutex);
	for (lw_session **at = &sessions; *at; at = &(*at)->next) {
		if (*at == session) {
			*at = session->next;
			break;
		}
	}
	pthread_mutex_unlock(&sessions_mutex);
}

/* --- life --- */

static void dismantle(lw_session *session)
{
	lw_learner_destroy(&session->learner);
	lw_hot_close(&session->hot);
	lw_dirs_destroy(&session->dirs);
	for (unsigned i = 0; i < session->view_count; i++)
		lw_view_destroy(session->view[i]);
	free(session->view);
	for (unsigned by = 0; by < LW_BY_COUNT; by++)
		lw_fresh_destroy(session->dirs.fresh[by]);
	if (session->snapshot)
		lw_registry_unhold(session->registry, session->snapshot);
	if (session->registry)
		lw_registry_destroy(session->registry);
	lw_store_close(session->store);
	lw_artifact_destroy(session->artifact);
	pthread_mutex_destroy(&session->mutex);
	free(session);
}

/*
 * What is taken for the truth must be there: without an artifact nothing lies below its roots. A cache file that is refused may have held what replaced a
 * fact in an older one: then nothing that was learnt is frozen.
 */
static enum lw_freshness effective(const lw_session *session, enum lw_freshness freshness)
{
	bool artifact = session->artifact && lw_artifact_used(session->artifact);
	if (freshness == LW_FROZEN && session->stats.refused)
		freshness = LW_FROZEN_HELD;
	return freshness == LW_FROZEN_HELD && !artifact ? LW_STAT : freshness;
}

/* In `watch` somebody looks after what is known. Without memory nobody does, and everything is compared. */
static void set_freshness(lw_session *session, enum lw_freshness freshness, bool daemon)
{
	session->dirs.freshness = effective(session, freshness);
	if (session->dirs.freshness == LW_STAT && daemon && session->dirs.fresh[LW_BY_DAEMON])
		session->dirs.freshness = LW_WATCH;
	if (freshness == LW_WATCH && !session->dirs.fresh[LW_BY_PROCESS])
		session->dirs.fresh[LW_BY_PROCESS] = lw_fresh_own();
}

/* Whoever asked for `watch` waits for a daemon to come; others take it if it is there. */
static void attach(lw_session *session, const struct lw_session_config *config)
{
	struct sockaddr_un address;
	if (!config->daemon || lw_is_frozen(config->freshness) || lw_attach_address(&session->suffixes, config->store.use_env, false, &address))
		return;
	lw_fresh *client = lw_client_create(&session->suffixes, &address);
	if (client && !lw_client_attach(client) && config->freshness == LW_STAT) {
		lw_fresh_destroy(client);
		client = NULL;
	}
	session->dirs.fresh[LW_BY_DAEMON] = client;
}

static void close_all(lw_index **index, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		lw_index_close(index[i]);
	free(index);
}

/* Put the artifact, if it can be used, behind the *COUNT cache files. 0 or -ENOMEM (nothing taken). */
static int add_artifact(lw_session *session, const struct lw_session_config *config, lw_index ***index, unsigned *count)
{
	lw_index *artifact;
	int error = lw_artifact_open(&config->store, config->artifact, &artifact, &session->artifact);
	if (error || !artifact)
		return error;
	lw_index **bigger = realloc(*index, (*count + 1) * sizeof(*bigger));
	if (!bigger) {
		lw_index_close(artifact);
		return -ENOMEM;
	}
	bigger[(*count)++] = artifact;
	*index = bigger;
	return 0;
}

static int load(lw_session *session, const struct lw_session_config *config, char *reason)
{
	lw_index **index = NULL;
	unsigned count = 0;
	int error = lw_store_path(session->store) ? lw_store_load(session->store, &index, &count, &session->stats.refused, reason) : 0;
	if (error)
		return error;
	session->stats.indexes = count;
	if (config->artifact)
		error = add_artifact(session, config, &index, &count);
	attach(session, config);
	set_freshness(session, config->freshness, config->daemon);
	if (!error && count)
		error = lw_registry_publish(session->registry, index, count);
	if (error)
		close_all(index, count);
	else if (!count)
		free(index);
	return error;
}

int lw_session_open(const struct lw_session_config *config, lw_session **out, char *reason)
{
	*out = NULL;
	*reason = '\0';
	lw_session *session = calloc(1, sizeof(*session));
	if (!session)
		return -ENOMEM;
	pthread_mutex_init(&session->mutex, NULL);
	session->suffixes = config->suffixes;
	session->pyc_magic = config->pyc_magic;
	session->makes = config->makes;
	session->window_ns = config->window_ns;
	lw_learner_init(&session->learner, true);

	int error = lw_dirs_init(&session->dirs, &session->suffixes, config->freshness);
	if (!error)
		error = lw_store_open(&config->store, &session->store, reason);
	if (error)
		goto fail;
	session->registry = lw_registry_create();
	if (!session->registry) {
		error = -ENOMEM;
		goto fail;
	}
	error = load(session, config, reason);
	if (error)
		goto fail;
	lw_learner_init(&session->learner, !lw_store_writable(session->store));
	session->snapshot = lw_registry_hold(session->registry);
	session->dirs.snapshot = session->snapshot;
	session->stats.read_ahead = lw_hot_open(&session->hot, config->entry, session->store, session->snapshot);
	enlist(session);
	*out = session;
	return 0;
fail:
	dismantle(session);
	return error;
}

void lw_session_close(lw_session *session)
{
	if (!session)
		return;
	delist(session);
	lock(session);
	finish_locked(session);
	unlock(session);
	dismantle(session);
}

const char *lw_session_path(const lw_session *session)
{
	return lw_store_path(session->store);
}

const struct lw_suffixes *lw_session_suffixes(const lw_session *session)
{
	return &session->suffixes;
}

const lw_artifact *lw_session_artifact(const lw_session *session)
{
	return session->artifact;
}

/* Which fact about a directory counts depends on the mode, where there is an artifact: start anew, with what was learnt stored. */
static void change_freshness(lw_session *session, enum lw_freshness freshness, bool daemon)
{
	if (lw_snapshot_artifact(session->snapshot) && freshness != session->dirs.freshness) {
		flush_locked(session);
		lw_dirs_clear(&session->dirs);
		for (unsigned i = 0; i < session->view_count; i++)
			lw_view_forget(session->view[i]);
	}
	set_freshness(session, freshness, daemon);
}

void lw_session_set_freshness(lw_session *session, enum lw_freshness freshness, bool daemon, int64_t window_ns)
{
	lock(session);
	change_freshness(session, effective(session, freshness), daemon);
	session->window_ns = window_ns;
	unlock(session);
}

/* --- inside --- */

bool lw_session_try_enter(lw_session *session)
{
	return pthread_mutex_trylock(&session->mutex) == 0;
}

void lw_session_enter(lw_session *session)
{
	lock(session);
}

void lw_session_leave(lw_session *session)
{
	unlock(session);
}

enum lw_freshness lw_session_freshness(lw_session *session)
{
	return session->dirs.freshness;
}

uint64_t lw_session_validating(lw_session *session)
{
	session->dirs.timed = true;
	return session->dirs.stats.statx_ns;
}

void lw_session_invalidate(lw_session *session)
{
	lw_dirs_invalidate(&session->dirs);
	for (unsigned i = 0; i < session->view_count; i++)
		lw_view_expire(session->view[i]);
}

/* --- path lists --- */

static int keep_view(lw_session *session, lw_view *view)
{
	if (session->view_count == session->view_capacity) {
		unsigned capacity = session->view_capacity ? session->view_capacity * 2 : 8;
		lw_view **bigger = realloc(session->view, capacity * sizeof(*bigger));
		if (!bigger)
			return -ENOMEM;
		session->view = bigger;
		session->view_capacity = capacity;
	}
	session->view[session->view_count++] = view;
	return 0;
}

lw_view *lw_session_view(lw_session *session, const struct lw_path_entry *entries, uint32_t count, bool hooks)
{
	lw_view *view = lw_view_create(entries, count, hooks);
	if (!view)
		return NULL;
	if (count <= LW_VIEW_LINEAR)
		return view; /* holds nothing of ours */
	if (keep_view(session, view)) {
		lw_view_destroy(view);
		view = NULL;
	}
	return view;
}

void lw_session_view_destroy(lw_session *session, lw_view *view)
{
	for (unsigned i = 0; i < session->view_count; i++) {
		if (session->view[i] == view) {
			session->view[i] = session->view[--session->view_count];
			break;
		}
	}
	lw_view_destroy(view);
}

static int resolve(lw_session *session, lw_view *view, uint32_t start, const char *name, size_t len, struct lw_hit *hit)
{
	lw_dirs_begin(&session->dirs);
	return lw_view_resolve(view, &session->dirs, session->window_ns, start, name, len, hit);
}

int lw_session_resolve_quickly(lw_session *session, lw_view *view, uint32_t start, const char *name, size_t len, struct lw_hit *hit)
{
	return lw_view_settled(view, &session->dirs) ? resolve(session, view, start, name, len, hit) : -EAGAIN;
}

int lw_session_resolve(lw_session *session, lw_view *view, uint32_t start, const char *name, size_t len, struct lw_hit *hit)
{
	lock(session);
	int error = resolve(session, view, start, name, len, hit);
	unlock(session);
	return error;
}

int lw_session_glance(lw_session *session, lw_view *view, uint32_t start, const char *name, size_t len, struct lw_hit *hit)
{
	lock(session);
	session->dirs.glance = true;
	int error = resolve(session, view, start, name, len, hit);
	session->dirs.glance = false;
	unlock(session);
	return error;
}

/* --- directories --- */

static int no_names(const struct lw_dir *dir)
{
	if (dir->flags & LW_DIR_MISSING)
		return -ENOENT;
	if (dir->flags & LW_DIR_NOTDIR)
		return -ENOTDIR;
	return dir->flags & LW_DIR_UNREADABLE ? -EACCES : 0;
}

static int list(struct lw_dirs *dirs, const char *path, size_t len, struct lw_listing **out)
{
	struct lw_dir *dir = lw_dirs_get(dirs, path, len);
	int error = dir ? lw_dirs_fresh(dirs, dir) : -ENOMEM;
	if (!error)
		error = no_names(dir);
	if (error)
		return error;
	*out = lw_dir_copy(dir);
	if (!*out && dir->indexed.index) { /* damaged, as likely as not */
		error = lw_dirs_reread(dirs, dir);
		*out = error || no_names(dir) ? NULL : lw_dir_copy(dir);
	}
	return *out ? 0 : error ? error : no_names(dir) ? no_names(dir) : -ENOMEM;
}

int lw_session_listing(lw_session *session, const char *path, size_t len, struct lw_listing **out)
{
	*out = NULL;
	lock(session);
	lw_dirs_begin(&session->dirs);
	int error = list(&session->dirs, path, len, out);
	unlock(session);
	return error;
}

/* --- code --- */

/* A file that the artifact does not hold, although it is the truth there: what was learnt is no more than a hint. */
static bool is_hint(const lw_session *session, const lw_index *index, const struct lw_hit *hit)
{
	return !hit->asked && !lw_index_is_relative(index) && lw_dirs_is_frozen_at(&session->dirs, hit->path, hit->len);
}

/* The record of HIT's file that counts. The caller is inside SNAPSHOT. */
static const struct lw_file_record *find_record(lw_session *session, const struct lw_snapshot *snapshot, const struct lw_hit *hit,
		lw_index **index)
{
	struct lw_hash128 key = lw_hash128(hit->path, hit->len);
	bool truth = lw_dirs_has_truth(&session->dirs);
	for (unsigned i = 0; i < snapshot->count; i++) {
		const struct lw_file_record *record;
		*index = lw_snapshot_at(snapshot, i, truth);
		int result = lw_index_find_path(*index, hit->path, hit->len, key, &record);
		if (result == LW_ABSENT)
			continue;
		if (result == LW_OK)
			return is_hint(session, *index, hit) ? NULL : record;
		/* What an older index says may be what this one has replaced. */
		session->stats.dirs.damaged++;
		return NULL;
	}
	return NULL;
}

/* Code recorded by another user is not handed to somebody who may not read the source. (What is in an artifact is for whoever may read the artifact.) */
static bool may_read(const lw_index *index, const struct lw_file_record *record, const struct lw_hit *hit)
{
	if (lw_index_is_relative(index))
		return true;
	if (hit->asked ? lw_stat_public(&hit->stat) : (record->code_len & LW_FILE_PUBLIC) != 0)
		return true;
	uid_t uid = geteuid(); /* a system call: only where it matters */
	return uid == 0 || lw_index_head(index)->writer_uid == uid;
}

/*
 * Code is read once, when it is unmarshalled; mapped on, it would count as this process's memory (resident set) until the end. Others that are reading at this
 * moment get their pages back by a minor fault.
 */
static void trim(lw_session *session, const struct lw_snapshot *snapshot)
{
	if (session->windows < WINDOWS_MAX)
		return;
	session->windows = 0;
	for (unsigned i = 0; i < snapshot->count; i++)
		lw_index_trim(snapshot->index[i]);
}

static bool is_noted(const lw_session *session, uintptr_t window)
{
	for (unsigned i = 0; i < session->windows; i++)
		if (session->window[i] == window)
			return true;
	return false;
}

static void note_windows(lw_session *session, const struct lw_code *code)
{
	uintptr_t last = ((uintptr_t)code->data + code->len) / WINDOW;
	for (uintptr_t window = (uintptr_t)code->data / WINDOW; window <= last && session->windows < WINDOWS_MAX; window++)
		if (!is_noted(session, window))
			session->window[session->windows++] = window;
}

static int hand_out(lw_session *session, const struct lw_snapshot *snapshot, const lw_index *index, const struct lw_file_record *record,
		struct lw_code *code)
{
	trim(session, snapshot);
	int result = lw_index_code(index, record, &code->data, &code->len);
	session->stats.dirs.damaged += result == LW_BAD;
	if (result != LW_OK)
		return LW_ABSENT;
	lw_registry_hold_on(session->registry, snapshot); /* the caller may let go on another thread */
	code->snapshot = snapshot;
	code->artifact = lw_index_is_relative(index);
	session->stats.code_pack++;
	note_windows(session, code);
	return LW_OK;
}

/* Whether RECORD is HIT's file as it is now. `frozen` does not ask. */
static bool agrees(const struct lw_file_record *record, const struct lw_hit *hit)
{
	if (hit->asked)
		return record->stamp == lw_stamp(&hit->stat) && !lw_stat_weak(&hit->stat, hit->path);
	return !hit->stamp || record->stamp == hit->stamp;
}

int lw_session_code(lw_session *session, const struct lw_hit *hit, struct lw_code *code)
{
	*code = (struct lw_code){ 0 };
	if (!session->snapshot->count)
		return LW_ABSENT;
	int result = LW_ABSENT;
	const struct lw_snapshot *snapshot = lw_registry_enter(session->registry);
	lw_index *index;
	const struct lw_file_record *record = find_record(session, snapshot, hit, &index);
	if (record && may_read(index, record, hit) && agrees(record, hit))
		result = hand_out(session, snapshot, index, record, code);
	lw_registry_exit(session->registry, snapshot);
	return result;
}

void lw_session_release(lw_session *session, struct lw_code *code)
{
	if (code->snapshot)
		lw_registry_unhold(session->registry, code->snapshot);
	free(code->owned);
	*code = (struct lw_code){ 0 };
}

static void learn(lw_session *session, const struct lw_hit *hit, uint64_t content, const void *code, size_t len)
{
	if (!lw_dirs_is_frozen_at(&session->dirs, hit->path, hit->len))
		lw_learner_add(&session->learner, hit, lw_stamp(&hit->stat), content, code, len, lw_stat_public(&hit->stat));
}

/*
 * A record of HIT's file as it is now: the newest in cache files, or the artifact's, whichever of the two has its content. The file is read when
 * a record is found; HIT's stat is then that of what was read.
 */
static const struct lw_file_record *find_content(lw_session *session, const struct lw_snapshot *snapshot, struct lw_hit *hit, const lw_index **index)
{
	struct lw_hash128 key = lw_hash128(hit->path, hit->len);
	bool truth = lw_dirs_has_truth(&session->dirs), hashed = false, replaced = false;
	uint64_t content = 0;
	for (unsigned i = 0; i < snapshot->count; i++) {
		const struct lw_file_record *record;
		*index = lw_snapshot_at(snapshot, i, truth);
		int result = replaced && !lw_index_is_relative(*index) ? LW_ABSENT : lw_index_find_path(*index, hit->path, hit->len, key, &record);
		session->stats.dirs.damaged += result == LW_BAD;
		replaced |= result != LW_ABSENT && !lw_index_is_relative(*index);
		if (result != LW_OK || !may_read(*index, record, hit))
			continue;
		if (!hashed && lw_content_hash(hit->path, &hit->stat, &content))
			return NULL;
		hashed = true;
		if (content == record->content)
			return record;
	}
	return NULL;
}

/* Same content under another stamp (an overlay mount, an image pull, a cache restore)? Then the code holds, and the stamp is learnt. */
static int by_content(lw_session *session, struct lw_hit *hit, struct lw_code *code)
{
	const struct lw_snapshot *snapshot = lw_registry_enter(session->registry);
	const lw_index *index;
	int64_t now = lw_now_ns();
	const struct lw_file_record *record = find_content(session, snapshot, hit, &index);
	int result = record ? hand_out(session, snapshot, index, record, code) : LW_ABSENT;
	lw_registry_exit(session->registry, snapshot); /* where CODE was handed out, it holds the record too */
	if (result != LW_OK)
		return result;
	session->stats.code_content++;
	if (!lw_stat_racy(&hit->stat, now) && record->stamp != lw_stamp(&hit->stat))
		learn(session, hit, record->content, code->data, code->len);
	return LW_OK;
}

/* A link on the way may have been turned since HIT was asked: the .pyc would be another file's. */
static bool still_there(const struct lw_hit *hit)
{
	struct lw_stat now;
	return lw_stat_at(AT_FDCWD, hit->path, &now) == 0 && lw_stamp(&now) == lw_stamp(&hit->stat);
}

static int by_pyc(lw_session *session, const struct lw_hit *hit, const char *pyc, struct lw_code *code, bool *stock)
{
	void *data;
	size_t size;
	switch (lw_pyc_read(pyc, session->pyc_magic, &hit->stat, &data, &size)) {
	case LW_PYC_NONE:
		return LW_ABSENT;
	case LW_PYC_DOUBTED:
		session->stats.pyc_distrusted++;
		return LW_ABSENT;
	case LW_PYC_HASHED:
		*stock = true;
		return LW_ABSENT;
	case LW_PYC_GOOD:
		break;
	}
	code->owned = data;
	code->data = (const char *)data + LW_PYC_HEADER;
	code->len = size - LW_PYC_HEADER;
	session->stats.code_pyc++;
	code->learnable = !lw_stat_racy(&hit->stat, hit->asked_ns) && still_there(hit);
	if (code->learnable && !session->makes)
		learn(session, hit, 0, code->data, code->len);
	return LW_OK;
}

static bool ask(struct lw_hit *hit)
{
	hit->asked_ns = lw_now_ns();
	hit->asked = hit->asked || lw_stat_at(AT_FDCWD, hit->path, &hit->stat) == 0;
	return hit->asked;
}

int lw_session_acquire(lw_session *session, struct lw_hit *hit, const char *pyc, struct lw_code *code, bool *stock)
{
	*code = (struct lw_code){ 0 };
	*stock = false;
	if (!hit->asked && !ask(hit))
		return LW_ABSENT;
	lock(session);
	int result = by_content(session, hit, code);
	if (result != LW_OK && pyc)
		result = by_pyc(session, hit, pyc, code, stock);
	unlock(session);
	return result;
}

void lw_session_learn(lw_session *session, const struct lw_hit *hit, uint64_t content, const void *data, size_t len)
{
	if (hit->asked && !lw_stat_racy(&hit->stat, hit->asked_ns))
		learn(session, hit, content, data, len);
}

/* --- storing --- */

bool lw_session_pending(lw_session *session)
{
	return !session->started || due(session) || hot_due(session);
}

void lw_session_quiet(lw_session *session)
{
	lock(session);
	if (!session->started || due(session))
		flush_locked(session);
	if (hot_due(session))
		store_hot(session);
	unlock(session);
}

int lw_session_flush(lw_session *session)
{
	lock(session);
	int error = flush_locked(session);
	unlock(session);
	return error;
}

void lw_session_stats(lw_session *session, struct lw_session_stats *stats)
{
	*stats = session->stats;
	stats->dirs.statx += session->dirs.stats.statx;
	stats->dirs.listings += session->dirs.stats.listings;
	stats->dirs.from_index += session->dirs.stats.from_index;
	stats->dirs.damaged += session->dirs.stats.damaged;
	for (unsigned by = 0; by < LW_BY_COUNT; by++)
		stats->watch[by] = session->dirs.fresh[by] ? session->dirs.fresh[by]->stats : (struct lw_fresh_stats){ 0 };
}
