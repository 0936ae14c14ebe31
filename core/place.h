/* SPDX-License-Identifier: MIT */
/*
 * place: which directory holds the cache files, and may what lies there be believed?
 *
 * The rules are store.h's. Every refusal is put into words that name the remedy; the first reason given stays.
 */
#ifndef LW_PLACE_H
#define LW_PLACE_H

#include "store.h"
#include <sys/stat.h>

/** Write a reason (LW_STORE_REASON bytes) unless there is one already. */
void lw_reason_set(char *reason, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** The place for CONFIG. 0; -EINVAL: given, but not absolute; -ENOENT: nowhere; -ENAMETOOLONG. */
int lw_place_find(const struct lw_store_config *config, char *out, size_t size, char *reason);

/** Whether this process may believe what ST describes. PATH (directory DIR, or NULL, and NAME) is for the reason. */
bool lw_place_trusts(const struct lw_store_config *config, const struct stat *st, const char *dir, const char *name, char *reason);

/** The two halves of it: whether UID may write code that runs here, and whether others than the owner may write. */
bool lw_place_trusts_uid(const struct lw_store_config *config, uid_t uid);
bool lw_place_open_to_others(const struct stat *st);

/**
 * Open the key directory PATH in PLACE and check both. ST is the key directory's. Returns a descriptor, or -errno
 * (-ENOENT: there is none, without a reason; -EPERM: not trusted).
 */
int lw_place_open(const struct lw_store_config *config, const char *place, const char *path, struct stat *st, char *reason);

/**
 * Create PATH and as much of PLACE as is missing, all 0700. Refuses to put anything into a directory of somebody
 * else, or that others may write to (root's /tmp excepted, on the way to the place). 0 or -errno.
 */
int lw_place_create(const struct lw_store_config *config, const char *place, const char *path, char *reason);

#endif
