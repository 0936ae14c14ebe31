/* SPDX-License-Identifier: MIT */
/*
 * delayfs: a file system that shows one file, read-only, and answers each read of it a given time late; many reads are late together.
 *
 *     bench_delayfs MICROSECONDS FILE DIRECTORY
 *
 * DIRECTORY then holds `image`, which is FILE, and `requests`, the number of reads answered so far. A loop device with direct IO on `image` is a disk
 * that needs so long for a request and serves all that are sent to it at the same time, as network block devices do. Stays in the foreground;
 * SIGTERM, SIGINT or the end of its parent unmounts it.
 *
 * One thread does everything, so that nobody has to be woken while there is much to do: it takes the requests that are there, answers those that are
 * due, and sleeps until either happens.
 *
 * All wait equally long, so the queue is in the order of the times. FILE is mapped and read beforehand: no disk adds anything.
 */
#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { IMAGE = 2, REQUESTS = 3, IN_FLIGHT = 1024 };
static const double FOREVER = 1e9;

struct delayed {
	struct delayed *next;
	fuse_req_t request;
	int64_t due_ns;
	off_t offset;
	size_t size;
};

static const char *image;
static size_t image_size;
static int64_t delay_ns;
static uint64_t answered;
static struct delayed *first, **last = &first;	/* in the order of due_ns */

static int64_t now_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void queue(struct delayed *delayed)
{
	*last = delayed;
	last = &delayed->next;
}

static void answer_due(void)
{
	int64_t now = now_ns();
	while (first && first->due_ns <= now) {
		struct delayed *delayed = first;
		first = delayed->next;
		if (!first)
			last = &first;
		answered++;
		fuse_reply_buf(delayed->request, image + delayed->offset, delayed->size);
		free(delayed);
	}
}

static struct stat describe(fuse_ino_t ino)
{
	bool directory = ino == FUSE_ROOT_ID;
	return (struct stat){
		.st_ino = ino,
		.st_mode = directory ? S_IFDIR | 0555 : S_IFREG | 0444,
		.st_nlink = directory ? 2 : 1,
		.st_size = ino == IMAGE ? (off_t)image_size : 0,
	};
}

static void lookup(fuse_req_t request, fuse_ino_t parent, const char *name)
{
	fuse_ino_t ino = strcmp(name, "image") == 0 ? IMAGE : strcmp(name, "requests") == 0 ? REQUESTS : 0;
	struct fuse_entry_param entry = { .ino = ino, .attr = describe(ino), .attr_timeout = FOREVER, .entry_timeout = FOREVER };
	if (parent != FUSE_ROOT_ID || !ino)
		fuse_reply_err(request, ENOENT);
	else
		fuse_reply_entry(request, &entry);
}

static void get_attributes(fuse_req_t request, fuse_ino_t ino, struct fuse_file_info *info)
{
	struct stat st = describe(ino);
	fuse_reply_attr(request, &st, FOREVER);
}

static void open_file(fuse_req_t request, fuse_ino_t ino, struct fuse_file_info *info)
{
	info->direct_io = ino == REQUESTS;
	fuse_reply_open(request, info);
}

static void read_count(fuse_req_t request, size_t size, off_t offset)
{
	char text[32];
	size_t len = (size_t)snprintf(text, sizeof(text), "%llu\n", (unsigned long long)answered);
	size_t from = (size_t)offset < len ? (size_t)offset : len;
	fuse_reply_buf(request, text + from, size < len - from ? size : len - from);
}

static void read_file(fuse_req_t request, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *info)
{
	if (ino == REQUESTS) {
		read_count(request, size, offset);
		return;
	}
	size_t from = (size_t)offset < image_size ? (size_t)offset : image_size;
	struct delayed *delayed = malloc(sizeof(*delayed));
	if (!delayed) {
		fuse_reply_err(request, ENOMEM);
		return;
	}
	*delayed = (struct delayed){
		.request = request, .due_ns = now_ns() + delay_ns, .offset = (off_t)from, .size = size < image_size - from ? size : image_size - from,
	};
	queue(delayed);
}

/* The kernel sends a dozen of a loop device's reads at a time unless it is told otherwise. */
static void begin(void *arg, struct fuse_conn_info *connection)
{
	connection->max_background = IN_FLIGHT;
	connection->congestion_threshold = IN_FLIGHT;
}

static int map_image(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0)
		return -1;
	image_size = (size_t)st.st_size;
	image = mmap(NULL, image_size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
	close(fd);
	return image == MAP_FAILED ? -1 : 0;
}

/* Until a request comes or an answer is due. */
static void wait_for_work(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	int64_t left = first ? first->due_ns - now_ns() : 0;
	struct timespec ts = { left / 1000000000, left % 1000000000 };
	if (left >= 0)
		ppoll(&poll_fd, 1, first ? &ts : NULL, NULL);
}

static void serve(struct fuse_session *session)
{
	struct fuse_buf buffer = { 0 };
	int fd = fuse_session_fd(session);
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	while (!fuse_session_exited(session)) {
		int got = fuse_session_receive_buf(session, &buffer);
		if (got > 0)
			fuse_session_process_buf(session, &buffer);
		answer_due();
		if (got == -EAGAIN)
			wait_for_work(fd);
		else if (got <= 0 && got != -EINTR)
			break;
	}
	free(buffer.mem);
}

static int run(struct fuse_session *session, const char *directory)
{
	if (fuse_set_signal_handlers(session) != 0 || fuse_session_mount(session, directory) != 0)
		return 1;
	prctl(PR_SET_TIMERSLACK, 1);
	serve(session);
	/* What is still queued goes with the process: nobody waits for an answer when the connection is gone. */
	fuse_session_unmount(session);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct fuse_lowlevel_ops operations = {
		.init = begin, .lookup = lookup, .getattr = get_attributes, .open = open_file, .read = read_file,
	};
	char *options[] = { argv[0], "-oro,fsname=bench_delayfs", NULL };
	struct fuse_args args = FUSE_ARGS_INIT(2, options);
	if (argc != 4 || (delay_ns = (int64_t)atoi(argv[1]) * 1000) < 0) {
		fprintf(stderr, "usage: bench_delayfs MICROSECONDS FILE DIRECTORY\n");
		return 2;
	}
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (map_image(argv[2]) != 0) {
		perror(argv[2]);
		return 1;
	}
	struct fuse_session *session = fuse_session_new(&args, &operations, sizeof(operations), NULL);
	if (!session)
		return 1;
	return run(session, argv[3]);
}
