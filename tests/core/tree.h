/* SPDX-License-Identifier: MIT */
/*
 * tree: scratch directories for tests, seeded random numbers and random source trees.
 * Everything aborts with a message when the test's own set-up fails.
 */
#ifndef LW_TEST_TREE_H
#define LW_TEST_TREE_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define TREE_CHECK(condition) \
	((condition) ? (void)0 : (fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, strerror(errno)), abort()))

/* A linear congruence, the upper bits of it: the same numbers everywhere. */
static inline uint32_t tree_random(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*seed >> 33);
}

static inline void tree_create(char *path, size_t size)
{
	const char *base = getenv("TMPDIR");
	TREE_CHECK(snprintf(path, size, "%s/ladewerk-test-XXXXXX", base && *base ? base : P_tmpdir) < (int)size);
	TREE_CHECK(mkdtemp(path));
	TREE_CHECK(chmod(path, 0755) == 0);
}

/* By rm, which copes with any depth. */
static inline void tree_destroy(const char *path)
{
	int status;
	pid_t pid = fork();
	TREE_CHECK(pid >= 0);
	if (pid == 0) {
		execlp("rm", "rm", "-rf", "--", path, (char *)NULL);
		_exit(127);
	}
	TREE_CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

static inline void tree_write(int dirfd, const char *name, const char *text)
{
	int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	TREE_CHECK(fd >= 0);
	TREE_CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

static inline int tree_open(int dirfd, const char *name)
{
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	TREE_CHECK(fd >= 0);
	return fd;
}

static inline int tree_mkdir(int dirfd, const char *name)
{
	TREE_CHECK(mkdirat(dirfd, name, 0755) == 0);
	return tree_open(dirfd, name);
}

static inline const char *tree_pick(uint64_t *seed, const char *const *from, size_t count)
{
	return from[tree_random(seed) % count];
}
#define TREE_PICK(seed, from) tree_pick(seed, from, sizeof(from) / sizeof *(from))

static inline void tree_random_name(uint64_t *seed, char *name, size_t size)
{
	static const char *const stems[] = {
		"a", "b", "c", "d", "e", "f", "g", "h", "__init__", "__pycache__", "node_modules", "\xff\xfe", "\xc3\xa4", ".git", "", "x.y",
		"a\nb", "long_long_long_long_long_long_long_long_long_long_long_long_long_long_long_long_long_long_long_long_long_long",
	};
	static const char *const tails[] = {
		"", "", "", "", "", "", "", "", "", "", "", "", ".py", ".py", ".py", ".pyc", ".so", ".abi3.so", ".cpython-311-x86_64-linux-gnu.so", ".txt", ".PY", ".", ".py~",
	};
	do
		snprintf(name, size, "%s%s", TREE_PICK(seed, stems), TREE_PICK(seed, tails));
	while (!*name || strcmp(name, ".") == 0);
}

/* One entry; names taken already are left alone. A link never leads out of the tree, whose depth ABOVE counts. */
static inline void tree_random_entry(int dirfd, uint64_t *seed, const char *name, unsigned above)
{
	static const char *const targets[] = { ".", "nowhere", "a.py", "a", "b", "itself", "..", "../a", "../.." };
	const size_t inside = above >= 2 ? 9 : above ? 8 : 6;
	switch (tree_random(seed) % 8) {
	case 0:
	case 1:
		mkdirat(dirfd, name, 0755);
		break;
	case 2:
		if (symlinkat(tree_pick(seed, targets, inside), dirfd, name) != 0)
			TREE_CHECK(errno == EEXIST);
		break;
	case 3:
		if (tree_random(seed) % 4 == 0 && mkfifoat(dirfd, name, 0644) != 0)
			TREE_CHECK(errno == EEXIST);
		break;
	default:
		if (faccessat(dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) != 0)
			tree_write(dirfd, name, "pass\n");
	}
}

static inline void tree_random_level(int dirfd, uint64_t *seed, unsigned width, unsigned depth, unsigned above)
{
	unsigned count = tree_random(seed) % (width + 1);
	for (unsigned i = 0; i < count; i++) {
		char name[NAME_MAX + 1];
		struct stat st;
		tree_random_name(seed, name, sizeof name);
		tree_random_entry(dirfd, seed, name, above);
		if (!depth || fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISDIR(st.st_mode))
			continue;
		int fd = tree_open(dirfd, name);
		tree_random_level(fd, seed, width, depth - 1, above + 1);
		close(fd);
	}
}

/* Up to WIDTH entries in each directory, DEPTH levels of real directories below that of DIRFD. */
static inline void tree_random_fill(int dirfd, uint64_t *seed, unsigned width, unsigned depth)
{
	tree_random_level(dirfd, seed, width, depth, 0);
}

#endif
