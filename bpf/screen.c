/* SPDX-License-Identifier: MIT */
/* screen: see screen.h. Handlers call nothing but write, tcsetattr, sigaction and raise, which POSIX allows there. */
#include "screen.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

/* The other screen, no cursor, lines that are too long are cut; and back. */
static const char ENTER[] = "\033[?1049h\033[?25l\033[?7l\033[2J", LEAVE[] = "\033[?7h\033[?25h\033[?1049l";

static const int signals[] = {
	SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGALRM, SIGUSR1, SIGUSR2, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS, SIGXCPU,	/* deadly */
	SIGTSTP, SIGCONT, SIGWINCH,
};
enum { SIGNALS = sizeof(signals) / sizeof(signals[0]) };

static struct {
	int in, out;
	volatile sig_atomic_t taken;	/* by lw_screen_take(), until it is given back for good */
	volatile sig_atomic_t shown;	/* and it is ours just now */
	volatile sig_atomic_t changed;
	struct termios before;
	struct sigaction old[SIGNALS];
	bool replaced[SIGNALS];
	char keys[64];		/* that were read: from key on, key_count of them */
	size_t key, key_count;
	enum { PLAIN, ESCAPED, SEQUENCE } state;	/* behind an escape; within what says more about the key, up to a letter */
} screen;

enum written { GONE, INTERRUPTED, ALL };

/* A terminal that nobody reads takes nothing: a signal must get through nevertheless. */
static enum written write_all(const char *text, size_t size)
{
	while (size) {
		ssize_t written = write(screen.out, text, size);
		if (written < 0 && errno == EINTR)
			return INTERRUPTED;
		if (written <= 0)
			return GONE;
		text += written;
		size -= (size_t)written;
	}
	return ALL;
}

/* Interrupted, nothing of a short text was written. Some signals may come by chance; if more do, somebody wants an end although the terminal takes nothing. */
static void write_surely(const char *text, size_t size)
{
	for (unsigned tries = 3; tries && write_all(text, size) == INTERRUPTED; tries--)
		;
}

/* Signals go on; ^S is a key, lest output stop where nobody knows why (p does that). */
static void show(void)
{
	struct termios raw = screen.before;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	raw.c_iflag &= ~(tcflag_t)IXON;
	raw.c_cc[VMIN] = 0;
	raw.c_cc[VTIME] = 0;
	screen.shown = 1;
	tcsetattr(screen.in, TCSANOW, &raw);
	write_surely(ENTER, sizeof(ENTER) - 1);
	screen.changed = 1;
}

static void hide(void)
{
	if (!screen.shown)
		return;
	screen.shown = 0;
	write_surely(LEAVE, sizeof(LEAVE) - 1);
	tcsetattr(screen.in, TCSANOW, &screen.before);
}

static void on_signal(int number)
{
	int error = errno;
	switch (number) {
	case SIGWINCH:
		screen.changed = 1;
		break;
	case SIGTSTP:
		hide();
		raise(SIGSTOP);
		break;
	case SIGCONT:
		if (screen.taken)
			show();
		break;
	default:
		/* Reset and not blocked: dies of it. */
		hide();
		raise(number);
	}
	errno = error;
}

/* No SA_RESTART: whoever waits for something notices that there is something to draw. */
static void replace_handlers(void)
{
	for (unsigned i = 0; i < SIGNALS; i++) {
		bool deadly = signals[i] != SIGTSTP && signals[i] != SIGCONT && signals[i] != SIGWINCH;
		struct sigaction action = { .sa_handler = on_signal, .sa_flags = deadly ? (int)(SA_RESETHAND | SA_NODEFER) : 0 };
		sigemptyset(&action.sa_mask);
		screen.replaced[i] = sigaction(signals[i], NULL, &screen.old[i]) == 0 && screen.old[i].sa_handler == SIG_DFL &&
			sigaction(signals[i], &action, NULL) == 0;
	}
}

static void restore_handlers(void)
{
	for (unsigned i = 0; i < SIGNALS; i++) {
		if (screen.replaced[i])
			sigaction(signals[i], &screen.old[i], NULL);
		screen.replaced[i] = false;
	}
}

static bool is_able(int in, int out)
{
	const char *term = getenv("TERM");
	return isatty(in) && isatty(out) && term && *term && strcmp(term, "dumb") != 0;
}

int lw_screen_take(int in, int out)
{
	static bool registered;
	if (screen.taken)
		return -EBUSY;
	if (!is_able(in, out) || tcgetattr(in, &screen.before) < 0)
		return -ENOTTY;
	if (!registered)
		registered = atexit(lw_screen_give_back) == 0;
	screen.in = in;
	screen.out = out;
	screen.key_count = 0;
	screen.state = PLAIN;
	screen.taken = 1;
	replace_handlers();
	show();
	return 0;
}

void lw_screen_give_back(void)
{
	if (!screen.taken)
		return;
	screen.taken = 0;
	hide();
	restore_handlers();
}

bool lw_screen_changed(void)
{
	bool changed = screen.changed;
	screen.changed = 0;
	return changed;
}

void lw_screen_size(unsigned *rows, unsigned *columns)
{
	struct winsize size;
	bool known = ioctl(screen.out, TIOCGWINSZ, &size) == 0 && size.ws_row && size.ws_col;
	*rows = known ? size.ws_row : 24;
	*columns = known ? size.ws_col : 80;
}

bool lw_screen_show(const char *text, size_t size)
{
	if (!screen.shown)
		return true;
	enum written written = write_all("\033[H", 3);
	if (written == ALL)
		written = write_all(text, size);
	if (written == ALL)
		written = write_all("\033[J", 3);
	if (written == INTERRUPTED)
		screen.changed = 1;
	return written != GONE;
}

/* Keys that were hit since. False: the terminal is gone. */
static bool read_keys(void)
{
	struct pollfd in = { .fd = screen.in, .events = POLLIN };
	int ready = poll(&in, 1, 0);
	if (ready <= 0)
		return ready == 0 || errno == EINTR;
	if (in.revents & (POLLHUP | POLLERR | POLLNVAL))
		return false;
	ssize_t size = read(screen.in, screen.keys, sizeof(screen.keys));
	if (size < 0)
		return errno == EINTR || errno == EAGAIN;
	screen.key = 0;
	screen.key_count = (size_t)size;
	return true;
}

/* Whether BYTE is a key by itself. */
static bool is_key(unsigned char byte)
{
	switch (screen.state) {
	case PLAIN:
		if (byte == '\033')
			screen.state = ESCAPED;
		return byte && byte != '\033';
	case ESCAPED:
		screen.state = byte == '[' || byte == 'O' ? SEQUENCE : PLAIN;
		return false;
	case SEQUENCE:
		if (byte >= 0x40 && byte <= 0x7e)
			screen.state = PLAIN;
		return false;
	}
	return false;
}

int lw_screen_key(void)
{
	if (!screen.key_count && !read_keys())
		return -1;
	while (screen.key_count) {
		screen.key_count--;
		unsigned char byte = (unsigned char)screen.keys[screen.key++];
		if (is_key(byte))
			return byte;
	}
	return 0;
}
