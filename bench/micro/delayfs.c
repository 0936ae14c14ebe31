/* SPDX-License-Identifier: MIT */
/*
 * delayfs: a file system that shows one file and answers each read of it a given time late; many reads are late together. Writes are answered at once.
 *
 *     bench_delayfs MICROSECONDS FILE DIRECTORY
 *
 * DIRECTORY then holds `image`, which is FILE, and `requests`, the number of reads answered so far. A loop device with direct IO on `image` is a disk
 * that needs so long for a request and serves all that are sent to it at the same time, as network block devices do. Stays in the foreground;
 * SIGTERM, SIGINT or the end of its parent unmounts it. Needs root, and nothing but the kernel's own protocol (linux/fuse.h): no library.
 *
 * One thread does everything, so that nobody has to be woken while there is much to do: it takes the requests that are there, answers those that are
 * due, and sleeps until either happens. Signals are let in while it sleeps, only then.
 *
 * All wait equally long, so the queue is in the order of the times. FILE is mapped and read beforehand: no disk adds anything.
 */
#include <linux/fuse.h>

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
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { IMAGE = 2, REQUESTS = 3, IN_FLIGHT = 1024, PAYLOAD = 128 * 1024, PAGES = 32, ROOM = PAYLOAD + 4096 };
static const uint64_t FOREVER = 1000000000;	/* seconds */

struct delayed {
	struct delayed *next;
	uint64_t request;
	int64_t due_ns;
	size_t offset, size;
};

static int device;	/* the kernel's end of the file system */
static char *image;
static size_t image_size;
static int64_t delay_ns;
static uint64_t answered;
static struct delayed *first, **last = &first;	/* in the order of due_ns */
static volatile sig_atomic_t ended;

static int64_t now_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* --- answers --- */

/* Whoever asked may have gone: then nobody takes the answer. */
static void answer(uint64_t request, int error, const void *data, size_t size)
{
	struct fuse_out_header header = { .len = (uint32_t)(sizeof(header) + size), .error = -error, .unique = request };
	struct iovec parts[] = { { &header, sizeof(header) }, { (void *)data, size } };
	ssize_t written = writev(device, parts, size ? 2 : 1);
	(void)written;
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
		answer(delayed->request, 0, image + delayed->offset, delayed->size);
		free(delayed);
	}
}

static struct fuse_attr describe(uint64_t node)
{
	bool directory = node == FUSE_ROOT_ID;
	return (struct fuse_attr){
		.ino = node,
		.mode = directory ? S_IFDIR | 0555 : node == IMAGE ? S_IFREG | 0600 : S_IFREG | 0444,
		.nlink = directory ? 2 : 1,
		.size = node == IMAGE ? image_size : 0,
		.blksize = 4096,
	};
}

/* The kernel sends a dozen of a loop device's reads at a time unless it is told otherwise. */
static void begin(uint64_t request, const struct fuse_init_in *in)
{
	struct fuse_init_out out = {
		.major = FUSE_KERNEL_VERSION,
		.minor = in->minor < FUSE_KERNEL_MINOR_VERSION ? in->minor : FUSE_KERNEL_MINOR_VERSION,
		.max_readahead = in->max_readahead,
		.flags = in->flags & (FUSE_ASYNC_READ | FUSE_ASYNC_DIO | FUSE_BIG_WRITES | FUSE_MAX_PAGES),
		.max_background = IN_FLIGHT,
		.congestion_threshold = IN_FLIGHT,
		.max_write = PAYLOAD,
		.max_pages = PAGES,
		.time_gran = 1,
	};
	answer(request, 0, &out, sizeof(out));
}

static void lookup(uint64_t request, uint64_t parent, const char *name)
{
	uint64_t node = strcmp(name, "image") == 0 ? IMAGE : strcmp(name, "requests") == 0 ? REQUESTS : 0;
	struct fuse_entry_out out = { .nodeid = node, .attr = describe(node), .attr_valid = FOREVER, .entry_valid = FOREVER };
	if (parent == FUSE_ROOT_ID && node)
		answer(request, 0, &out, sizeof(out));
	else
		answer(request, ENOENT, NULL, 0);
}

static void get_attributes(uint64_t request, uint64_t node)
{
	struct fuse_attr_out out = { .attr = describe(node), .attr_valid = FOREVER };
	answer(request, 0, &out, sizeof(out));
}

static void open_file(uint64_t request, uint64_t node)
{
	struct fuse_open_out out = { .open_flags = node == REQUESTS ? FOPEN_DIRECT_IO : 0 };
	answer(request, 0, &out, sizeof(out));
}

/* --- reads and writes --- */

static size_t at_most(size_t size, size_t left)
{
	return size < left ? size : left;
}

static void read_count(uint64_t request, size_t size, size_t offset)
{
	char text[32];
	size_t len = (size_t)snprintf(text, sizeof(text), "%llu\n", (unsigned long long)answered);
	size_t from = at_most(offset, len);
	answer(request, 0, text + from, at_most(size, len - from));
}

static void read_file(uint64_t request, uint64_t node, const struct fuse_read_in *in)
{
	if (node == REQUESTS) {
		read_count(request, in->size, in->offset);
		return;
	}
	size_t from = at_most(in->offset, image_size);
	struct delayed *delayed = malloc(sizeof(*delayed));
	if (!delayed) {
		answer(request, ENOMEM, NULL, 0);
		return;
	}
	*delayed = (struct delayed){ .request = request, .due_ns = now_ns() + delay_ns, .offset = from, .size = at_most(in->size, image_size - from) };
	queue(delayed);
}

static void write_file(uint64_t request, uint64_t node, const struct fuse_write_in *in)
{
	struct fuse_write_out out = { .size = in->size };
	if (node != IMAGE || in->offset > image_size || in->size > image_size - in->offset) {
		answer(request, ENOSPC, NULL, 0);
		return;
	}
	memcpy(image + in->offset, in + 1, in->size);
	answer(request, 0, &out, sizeof(out));
}

static void serve_one(const struct fuse_in_header *header)
{
	const void *in = header + 1;
	uint64_t request = header->unique, node = header->nodeid;
	static const struct fuse_statfs_out no_facts;
	switch (header->opcode) {
	case FUSE_INIT: begin(request, in); break;
	case FUSE_LOOKUP: lookup(request, node, in); break;
	case FUSE_GETATTR: get_attributes(request, node); break;
	case FUSE_OPEN: open_file(request, node); break;
	case FUSE_READ: read_file(request, node, in); break;
	case FUSE_WRITE: write_file(request, node, in); break;
	case FUSE_STATFS: answer(request, 0, &no_facts, sizeof(no_facts)); break;
	case FUSE_FLUSH: case FUSE_FSYNC: case FUSE_RELEASE: case FUSE_DESTROY: answer(request, 0, NULL, 0); break;
	case FUSE_FORGET: case FUSE_BATCH_FORGET: case FUSE_INTERRUPT: break;	/* want no answer */
	default: answer(request, ENOSYS, NULL, 0);
	}
}

/* --- the loop --- */

static int map_image(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0)
		return -1;
	image_size = (size_t)st.st_size;
	image = mmap(NULL, image_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	close(fd);
	return image == MAP_FAILED ? -1 : 0;
}

/* Until a request comes, an answer is due, or we are ended. */
static void wait_for_work(const sigset_t *signals)
{
	struct pollfd poll_fd = { .fd = device, .events = POLLIN };
	int64_t left = first ? first->due_ns - now_ns() : 0;
	struct timespec ts = { left / 1000000000, left % 1000000000 };
	if (left >= 0)
		ppoll(&poll_fd, 1, first ? &ts : NULL, signals);
}

/* Until somebody unmounts it, or ends us. */
static void serve(const sigset_t *signals)
{
	static _Alignas(struct fuse_in_header) char buffer[ROOM];
	while (!ended) {
		ssize_t got = read(device, buffer, sizeof(buffer));
		if (got >= (ssize_t)sizeof(struct fuse_in_header))
			serve_one((const struct fuse_in_header *)buffer);
		else if (got < 0 && errno == ENODEV)
			return;
		bool idle = got < 0 && errno == EAGAIN;
		answer_due();
		if (idle)
			wait_for_work(signals);
	}
}

static void end(int signal)
{
	ended = 1;
}

/* Ours are blocked from here on; -> what was blocked before. */
static sigset_t catch_signals(void)
{
	sigset_t ours, before;
	sigemptyset(&ours);
	for (const int *signal = (const int[]){ SIGTERM, SIGINT, SIGHUP, 0 }; *signal; signal++) {
		sigaction(*signal, &(struct sigaction){ .sa_handler = end }, NULL);
		sigaddset(&ours, *signal);
	}
	sigprocmask(SIG_BLOCK, &ours, &before);
	return before;
}

static int mount_at(const char *directory)
{
	char options[96];
	device = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (device < 0)
		return -1;
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=%u,group_id=%u,max_read=%u", device, getuid(), getgid(), (unsigned)PAYLOAD);
	return mount("bench_delayfs", directory, "fuse", MS_NOSUID | MS_NODEV, options);
}

int main(int argc, char **argv)
{
	if (argc != 4 || (delay_ns = (int64_t)atoi(argv[1]) * 1000) < 0) {
		fprintf(stderr, "usage: bench_delayfs MICROSECONDS FILE DIRECTORY\n");
		return 2;
	}
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	sigset_t signals = catch_signals();
	if (map_image(argv[2]) != 0) {
		perror(argv[2]);
		return 1;
	}
	if (mount_at(argv[3]) != 0) {
		perror("bench_delayfs: /dev/fuse");
		return 1;
	}
	prctl(PR_SET_TIMERSLACK, 1);
	serve(&signals);
	/* What is still queued goes with the process: nobody waits for an answer when the connection is gone. */
	umount2(argv[3], MNT_DETACH);
	return 0;
}
