/* SPDX-License-Identifier: MIT */
/*
 * watchd: the process behind `ladewerk watch`, which checks what the user has said and then becomes this one (_watch.py). No interpreter: it is to stay small.
 *
 *     _watchd [--backend B] [--threads N] --suffix S ... -- ROOT ...     until SIGINT or SIGTERM
 *     _watchd --status --suffix S ...                                    one line of JSON of the daemon that is there
 *
 * The socket is in the user's runtime directory or $LADEWERK_WATCH; or, with socket activation, the first descriptor passed ($LISTEN_FDS). Exit status: 0; 1 failed; 2 there is another
 * daemon, or with --status none.
 */
#include "attach.h"
#include "daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DONE, FAILED, OTHER };
enum { LISTEN_FD = 3, BACKLOG = 256, ANSWER_MS = 5000 };

struct options {
	bool status;
	enum lw_watch_backend backend;
	unsigned threads;
	const char *suffix[LW_SUFFIX_MAX];
	unsigned suffixes;
	const char **roots;
	unsigned count;
};

static int complain(const char *text, int error)
{
	fprintf(stderr, "ladewerk: watch: %s%s%s\n", text, error ? ": " : "", error ? strerror(error < 0 ? -error : error) : "");
	return FAILED;
}

/* What _watch.py has checked is not explained again. */
static bool take_backend(const char *name, enum lw_watch_backend *out)
{
	static const char *const names[] = {
		[LW_WATCH_AUTO] = "auto", [LW_WATCH_FANOTIFY] = "fanotify", [LW_WATCH_INOTIFY] = "inotify", [LW_WATCH_RESCAN] = "rescan",
	};
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
		if (strcmp(names[i], name) == 0) {
			*out = (enum lw_watch_backend)i;
			return true;
		}
	return false;
}

static bool take_options(struct options *options, int argc, const char **argv)
{
	int at = 1;
	for (; at < argc && strcmp(argv[at], "--"); at++) {
		const char *value = at + 1 < argc ? argv[at + 1] : "";
		if (strcmp(argv[at], "--status") == 0)
			options->status = true;
		else if (strcmp(argv[at], "--backend") == 0 && take_backend(value, &options->backend))
			at++;
		else if (strcmp(argv[at], "--threads") == 0)
			options->threads = (unsigned)atoi(argv[++at]);
		else if (strcmp(argv[at], "--suffix") == 0 && options->suffixes < LW_SUFFIX_MAX)
			options->suffix[options->suffixes++] = argv[++at];
		else
			return false;
	}
	options->roots = at < argc ? argv + at + 1 : argv + argc;
	options->count = at < argc ? (unsigned)(argc - at - 1) : 0;
	return true;
}

/* --- the socket --- */

static bool has(int fd, int option, int value)
{
	int is;
	socklen_t size = sizeof is;
	return getsockopt(fd, SOL_SOCKET, option, &is, &size) == 0 && is == value;
}

/* One that systemd listens on for us; -1: none; -EPROTOTYPE: one that nobody can connect to as we do. */
static int passed_socket(void)
{
	const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
	if (!pid || !count || strtoul(pid, NULL, 10) != (unsigned long)getpid() || atoi(count) < 1)
		return -1;
	if (!has(LISTEN_FD, SO_DOMAIN, AF_UNIX) || !has(LISTEN_FD, SO_TYPE, SOCK_SEQPACKET) || !has(LISTEN_FD, SO_ACCEPTCONN, 1))
		return -EPROTOTYPE;
	fcntl(LISTEN_FD, F_SETFD, FD_CLOEXEC);
	fcntl(LISTEN_FD, F_SETFL, fcntl(LISTEN_FD, F_GETFL) | O_NONBLOCK);
	return LISTEN_FD;
}

/* Held for as long as we live: whoever has it may remove a socket that nobody listens on. */
static int lock_place(const struct sockaddr_un *address)
{
	char path[sizeof address->sun_path + 8];
	snprintf(path, sizeof path, "%s.lock", address->sun_path);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return fd;
	int error = -errno;
	close(fd);
	return error;
}

static int bind_socket(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	unlink(address->sun_path);
	mode_t mask = umask(077);
	int failed = bind(fd, (const struct sockaddr *)address, sizeof *address) || listen(fd, BACKLOG);
	int error = -errno;
	umask(mask);
	if (!failed)
		return fd;
	close(fd);
	return error;
}

/* --- running --- */

static int stop_signals(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* To whoever started us (sd_notify(3)). */
static void notify(const char *text)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	if (!path || (*path != '/' && *path != '@') || strlen(path) >= sizeof address.sun_path)
		return;
	strcpy(address.sun_path, path);
	if (*path == '@')
		address.sun_path[0] = '\0';
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
	if (fd >= 0 && sendto(fd, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *)&address, size) < 0)
		complain("cannot notify", errno);
	if (fd >= 0)
		close(fd);
}

static void say_ready(void *arg, const lw_daemon *daemon)
{
	const struct options *options = arg;
	struct lw_daemon_stats s;
	lw_daemon_stats(daemon, &s);
	fprintf(stderr, "ladewerk: watching %u root%s by %s: %" PRIu64 " directories, %" PRIu64 " sources, %.1f MiB of index, ready after %.2f s (%.2f s of CPU)\n",
		options->count, options->count == 1 ? "" : "s", s.backend, s.directories, s.sources, (double)s.bytes / (1 << 20), (double)s.first_ns / 1e9,
		(double)s.first_cpu_ns / 1e9);
	for (unsigned i = 0; i < options->count; i++)
		if (lw_daemon_root_trouble(daemon, i))
			fprintf(stderr, "ladewerk: watch: %s is not watched: %s\n", *options->roots[i] ? options->roots[i] : "/", lw_daemon_root_trouble(daemon, i));
	if (s.unwatched)
		fprintf(stderr, "ladewerk: watch: %" PRIu64 " directories are not watched: %s\n", s.unwatched, lw_watch_remedy(s.unwatched_error));
	notify("READY=1");
}

static void raise_limits(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max; /* a descriptor for each client */
	setrlimit(RLIMIT_NOFILE, &limit);
}

static int watch(const struct options *options, const struct lw_suffixes *suffixes, int listener)
{
	char why[LW_WATCH_WHY];
	lw_daemon *daemon;
	const struct lw_daemon_config config = { .suffixes = suffixes, .backend = options->backend, .roots = options->roots, .count = options->count,
		.threads = options->threads, .listener = listener, .ready = say_ready, .arg = (void *)options };
	int error = lw_daemon_create(&config, &daemon, why);
	if (error) {
		fprintf(stderr, "ladewerk: watch: cannot watch: %s\n", *why ? why : strerror(-error));
		return FAILED;
	}
	int stop = stop_signals();
	error = stop < 0 ? -errno : lw_daemon_run(daemon, stop);
	notify("STOPPING=1");
	lw_daemon_destroy(daemon);
	return error ? complain("cannot go on", error) : DONE;
}

static int complain_of_place(const struct sockaddr_un *address, int error)
{
	fprintf(stderr, "ladewerk: watch: cannot listen at %s: %s; LADEWERK_WATCH=/path/of/a/socket is another place\n", address->sun_path, strerror(-error));
	return FAILED;
}

static int serve(const struct options *options, const struct lw_suffixes *suffixes, const struct sockaddr_un *address)
{
	raise_limits();
	int listener = passed_socket();
	if (listener == -EPROTOTYPE)
		return complain("the socket that was passed does not listen for what programs send; its unit needs ListenSequentialPacket=/path/of/a/socket", 0);
	if (listener >= 0)
		return watch(options, suffixes, listener);
	int lock = lock_place(address);
	if (lock == -EWOULDBLOCK) {
		fprintf(stderr, "ladewerk: watch: another daemon serves %s; end it first, or give this one a place of its own (LADEWERK_WATCH=/path/of/a/socket)\n",
			address->sun_path);
		return OTHER;
	}
	if (lock < 0)
		return complain_of_place(address, lock);
	listener = bind_socket(address);
	if (listener < 0)
		return complain_of_place(address, listener);
	int result = watch(options, suffixes, listener);
	unlink(address->sun_path);
	return result;
}

/* --- status --- */

/* As long as it is. Bytes; 0: the daemon has closed the connection; -1: it has not answered in time. */
static ssize_t receive(int fd, char **text)
{
	*text = NULL;
	if (poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, ANSWER_MS) <= 0)
		return -1;
	ssize_t size = recv(fd, NULL, 0, MSG_PEEK | MSG_TRUNC);
	*text = size > 0 ? malloc((size_t)size) : NULL;
	return *text ? recv(fd, *text, (size_t)size, 0) : 0;
}

static int print_answer(int fd)
{
	char *text;
	ssize_t size = receive(fd, &text);
	if (size > 0)
		printf("%.*s\n", (int)size, text);
	free(text);
	if (size > 0)
		return DONE;
	return complain(size ? "the daemon does not answer; end it, and start it again"
			     : "the daemon has no descriptor left for one more (raise its limit: ulimit -n, LimitNOFILE=), or has just ended", 0);
}

static int connect_to(int fd, const struct sockaddr_un *address)
{
	/* Connecting waits as well, where as many wait as may. */
	const struct timeval patience = { .tv_sec = ANSWER_MS / 1000 };
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	return connect(fd, (const struct sockaddr *)address, sizeof *address) ? -errno : 0;
}

static int status(const struct sockaddr_un *address)
{
	struct lw_attach_hello hello = { .version = LW_ATTACH_VERSION, .wish = LW_ATTACH_STATUS };
	memcpy(hello.magic, LW_ATTACH_MAGIC, sizeof hello.magic);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return complain("cannot make a socket", errno);
	int result = OTHER, error = connect_to(fd, address);
	/* What cannot be sent is not answered either. */
	if (!error && send(fd, &hello, sizeof hello, MSG_NOSIGNAL) < 0)
		error = errno == EAGAIN ? -EAGAIN : 0;
	if (error == -EAGAIN)
		result = complain("the daemon does not answer; end it, and start it again", 0);
	else if (!error)
		result = print_answer(fd);
	close(fd);
	return result;
}

int main(int argc, char **argv)
{
	struct options options = { 0 };
	struct lw_suffixes suffixes;
	struct sockaddr_un address;
	if (!take_options(&options, argc, (const char **)argv) || lw_suffixes_init(&suffixes, options.suffix, options.suffixes))
		return complain("is started by `ladewerk watch`", 0);
	int error = lw_attach_address(&suffixes, true, !options.status, &address);
	if (error == -ENOENT && options.status)
		return OTHER;
	if (error == -ECANCELED)
		return complain("LADEWERK_WATCH=0 says that there is to be no daemon; unset it", 0);
	if (error)
		return complain("no place for a socket; set XDG_RUNTIME_DIR to a directory of your own, or LADEWERK_WATCH", error);
	return options.status ? status(&address) : serve(&options, &suffixes, &address);
}
