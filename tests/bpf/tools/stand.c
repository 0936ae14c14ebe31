/* SPDX-License-Identifier: MIT */
/*
 * stand PID RUNTIME VERSION: what every thread of a process waits for, as lw_layout_stand() says; RUNTIME is the address of its _PyRuntime, VERSION as 0x030c.
 * For each line on standard input one answer: a JSON object, {"THREAD": {"class": ..., "module": ..., "top": ...}, ...}. A futex within _PyRuntime is the GIL's, whatever the frames say.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include "layout.h"
#include "program.h"

static const char *const words[LW_CLASSES] = { "cpu", "queue", "module", "global", "gil", "futex", "disk", "sleep" };

/* Address of the futex that thread TID is blocked on; 0: on none. */
static unsigned long long futex_of(pid_t pid, const char *tid)
{
	char path[320];
	long number = -1;
	unsigned long long address = 0;
	snprintf(path, sizeof(path), "/proc/%d/task/%s/syscall", (int)pid, tid);
	FILE *file = fopen(path, "re");
	if (!file)
		return 0;
	if (fscanf(file, "%ld %llx", &number, &address) != 2 || number != SYS_futex)
		address = 0;
	fclose(file);
	return address;
}

static void tell(pid_t pid, uint64_t runtime, const struct lw_layout *layout, const char *tid)
{
	struct lw_standing standing;
	int error = lw_layout_stand(pid, runtime, layout, (pid_t)atoi(tid), &standing);
	if (error) {
		printf("\"%s\": {\"error\": %d}", tid, -error);
		return;
	}
	unsigned long long futex = futex_of(pid, tid);
	if (futex >= runtime && futex < runtime + layout->runtime_size)
		standing.class = LW_CLASS_GIL;
	else if (!futex)
		standing.class = LW_CLASS_SLEEP;
	printf("\"%s\": {\"class\": \"%s\", \"module\": \"%s\", \"top\": \"%s\"}", tid, words[standing.class], standing.module, standing.top);
}

static void tell_all(pid_t pid, uint64_t runtime, const struct lw_layout *layout)
{
	char path[320];
	const char *comma = "";
	struct dirent *entry;
	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	DIR *tasks = opendir(path);
	printf("{");
	while (tasks && (entry = readdir(tasks))) {
		if (entry->d_name[0] == '.')
			continue;
		printf("%s", comma);
		tell(pid, runtime, layout, entry->d_name);
		comma = ", ";
	}
	if (tasks)
		closedir(tasks);
	printf("}\n");
	fflush(stdout);
}

int main(int argc, char **argv)
{
	struct lw_layout layout;
	char why[LW_PROGRAM_WHY], line[16];
	if (argc != 4)
		return 2;
	pid_t pid = (pid_t)atoi(argv[1]);
	uint64_t runtime = strtoull(argv[2], NULL, 0);
	int error = lw_layout_read(pid, runtime, (unsigned)strtoul(argv[3], NULL, 0), &layout, why);
	if (error) {
		fprintf(stderr, "%d %s\n", error, why);
		return 1;
	}
	while (fgets(line, sizeof(line), stdin))
		tell_all(pid, runtime, &layout);
	return 0;
}
