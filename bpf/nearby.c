/* SPDX-License-Identifier: MIT */
/* nearby: see nearby.h. */
#include "nearby.h"

#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "elffile.h"

/* --- libpython --- */

struct library {
	char *name;
	size_t size;
};

static int take_library(void *context, const char *string)
{
	struct library *library = context;
	if (strncmp(string, "libpython3.", 11) || strchr(string, '/') || strlen(string) >= library->size)
		return 0;
	strcpy(library->name, string);
	return 1;
}

bool lw_needs_python(int fd, char *library, size_t size)
{
	lw_elf *elf;
	struct library context = { library, size };
	if (lw_elf_create(fd, &elf))
		return false;
	bool needs = lw_elf_strings(elf, DT_NEEDED, take_library, &context) == 1;
	lw_elf_destroy(elf);
	return needs;
}

struct linking {
	const char *root, *origin, *library;	/* origin: directory of the executable */
	char *found;
	size_t size;
};

/* Whether the library is in the directory whose name is the first LENGTH characters of DIRECTORY; a leading $ORIGIN is the executable's. */
static bool try_directory(struct linking *linking, const char *directory, size_t length)
{
	static const char *const origins[] = { "$ORIGIN", "${ORIGIN}" };
	char full[2 * PATH_MAX];
	const char *before = "";
	for (unsigned i = 0; i < 2; i++) {
		size_t skip = strlen(origins[i]);
		if (length >= skip && !strncmp(directory, origins[i], skip)) {
			before = linking->origin;
			directory += skip;
			length -= skip;
		}
	}
	if (length > PATH_MAX || (!*before && (!length || *directory != '/')))
		return false;
	int written = snprintf(linking->found, linking->size, "%s%.*s/%s", before, (int)length, directory, linking->library);
	if (written < 0 || (size_t)written >= linking->size)
		return false;
	snprintf(full, sizeof(full), "%s%s", linking->root, linking->found);
	return !access(full, R_OK);
}

static int try_directories(void *context, const char *list)
{
	for (;;) {
		size_t length = strcspn(list, ":");
		if (try_directory(context, list, length))
			return 1;
		if (!list[length])
			return 0;
		list += length + 1;
	}
}

/* DIRECTORY (PATH_MAX bytes) of PATH. False: it has none. */
static bool directory_of(const char *path, char *directory)
{
	const char *slash = strrchr(path, '/');
	if (*path != '/' || (size_t)(slash - path) >= PATH_MAX)
		return false;
	memcpy(directory, path, (size_t)(slash - path));
	directory[slash - path] = 0;
	return true;
}

bool lw_python_library(const char *root, const char *path, char *found, size_t size)
{
	static const char usual[] = "/usr/local/lib:/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu:/lib/aarch64-linux-gnu:/usr/lib/aarch64-linux-gnu:/lib64:/usr/lib64:/lib:/usr/lib";
	char full[2 * PATH_MAX], origin[PATH_MAX], library[NAME_MAX];
	lw_elf *elf;
	if (!directory_of(path, origin))
		return false;
	snprintf(full, sizeof(full), "%s%s", root, path);
	int fd = lw_elf_open(full);
	if (fd < 0)
		return false;
	bool is_there = false;
	struct linking linking = { root, origin, library, found, size };
	if (lw_needs_python(fd, library, sizeof(library)) && !lw_elf_create(fd, &elf)) {
		is_there = lw_elf_strings(elf, DT_RUNPATH, try_directories, &linking) == 1 || lw_elf_strings(elf, DT_RPATH, try_directories, &linking) == 1
			|| try_directories(&linking, usual) == 1;
		lw_elf_destroy(elf);
	}
	close(fd);
	return is_there;
}

/* --- Ladewerk --- */

/* In directories like bin/../lib/python3.12/site-packages. */
static int search_beside(const char *root, const char *bin, int (*sink)(void *context, const char *path), void *context)
{
	static const char *const patterns[] = { "lib*/python3.*/site-packages", "lib*/python3*/dist-packages", "local/lib/python3*/dist-packages" };
	int result = 0;
	for (size_t i = 0; !result && i < sizeof(patterns) / sizeof(*patterns); i++) {
		char pattern[2 * PATH_MAX];
		glob_t found;
		int written = snprintf(pattern, sizeof(pattern), "%s%s/../%s/ladewerk/_native*.so", root, bin, patterns[i]);
		if (written < 0 || (size_t)written >= sizeof(pattern) || glob(pattern, GLOB_NOSORT, NULL, &found))
			continue;
		for (size_t k = 0; !result && k < found.gl_pathc; k++)
			result = sink(context, found.gl_pathv[k] + strlen(root));
		globfree(&found);
	}
	return result;
}

int lw_ladewerk_nearby(const char *root, const char *path, int (*sink)(void *context, const char *path), void *context)
{
	char directory[PATH_MAX], full[2 * PATH_MAX], target[PATH_MAX];
	int result = 0;
	if (!directory_of(path, directory))
		return 0;
	result = search_beside(root, directory, sink, context);
	/* bin/python of a virtual environment is a link, often to a link, to the Python it was made from. */
	snprintf(full, sizeof(full), "%s%s", root, path);
	ssize_t length = result ? 0 : readlink(full, target, sizeof(target) - 1);
	if (length <= 0)
		return result;
	target[length] = 0;
	return directory_of(target, directory) ? search_beside(root, directory, sink, context) : 0;
}
