/* SPDX-License-Identifier: MIT */
/*
 * artifact: an index of whole source trees in a directory of its own, made once (`ladewerk index --frozen`), used anywhere, and never written to by those who
 * use it.
 *
 *     DIR/index.lwi     a relative index (index.h): the same bytes from the same sources, wherever, whenever and by whomever it was made
 *     DIR/root0 ...     a link to each root. Relative, so that what is moved as a whole needs no change; `ln -sfn` leads one elsewhere
 *     DIR/about         text: what the key stands for
 *
 * Nothing of the place, the time, the user or the file system is in index.lwi: no stamps, no owners, no permissions (who may read the artifact may read the
 * code in it), and no __pycache__, which is there or not.
 *
 * Binding. The links say where roots are. A root is known by the path that follows from DIR as it was given and the text of its link, and by its real
 * path; each is taken only if it leads to the directory that the link leads to. Roots that are missing, or not to be believed, are left out.
 *
 * Trust. The rules of cache files (store.h) hold for DIR and index.lwi. Beyond these, whoever owns DIR and index.lwi is believed for the roots that belong to the
 * same user, because that user can change what is imported from there anyway. Everything is opened below one descriptor of DIR: when
 * DIR is replaced meanwhile (publish.h), what was opened belongs together; where something was gone from the old one already, the new one is opened.
 *
 * Threads: none; one owner.
 */
#ifndef LW_ARTIFACT_H
#define LW_ARTIFACT_H

#include "store.h"

#define LW_ARTIFACT_INDEX "index.lwi"
#define LW_ARTIFACT_ABOUT "about"
#define LW_ARTIFACT_ROOT "root"	/* and its number */

/** What became of an artifact that was asked for. */
typedef struct lw_artifact lw_artifact;

/**
 * Open the one in PATH, with CONFIG's key and rules of trust. *INDEX is bound and yours, or NULL if it cannot be used: then lw_artifact_reason() says why. 0,
 * or -ENOMEM with *OUT NULL.
 */
int lw_artifact_open(const struct lw_store_config *config, const char *path, lw_index **index, lw_artifact **out);
void lw_artifact_destroy(lw_artifact *artifact);

const char *lw_artifact_path(const lw_artifact *artifact);
/** Whether there was something to be used. */
bool lw_artifact_used(const lw_artifact *artifact);
/** Why it is not used, or not for all roots, with the remedy; "" if there is nothing to say. */
const char *lw_artifact_reason(const lw_artifact *artifact);
/** Where root I is; *COUNT of them. NULL: it is not used. */
const char *const *lw_artifact_roots(const lw_artifact *artifact, unsigned *count);
/** Files that it has code of. */
uint32_t lw_artifact_files(const lw_artifact *artifact);

#endif
