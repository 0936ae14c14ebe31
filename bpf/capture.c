/* SPDX-License-Identifier: MIT */
#include "capture.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "calibrate.h"
#include "kernel_types.h"
#include "probes.h"
#include "rights.h"
#include "sched.h"
#include "sched.skel.h"
#include "spans.skel.h"
#include "standing.h"
#include "state.h"

enum {
	RING_KIB = 4096,
	OLDEST_KERNEL = 0x050f00,	/* cookies of uprobes */
	MULTI_KERNEL = 0x060600,	/* uprobe_multi links */
	STATE_KERNEL = 0x051200,	/* sched_switch says in which state a thread leaves */
	SWITCH_NS = 800,	/* of the sched programs, for a switch that counts, its wake-up, and the walk of frames where there is one; where the kernel does not measure it */
	STOP_MS = 2000,
	RECORDS = 1 << 15,		/* of one call of lw_capture_read(), at most */
	INITIAL_PIDNS = (int)0xEFFFFFFCu,
};

/* A file that has probes. */
struct attached {
	dev_t dev;
	ino_t ino;
	unsigned layout;
	bool laid_out;
	lw_probes *probes;
};

struct lw_capture {
	struct lw_capture_options options;
	struct lw_rights rights;
	struct lw_spans *spans;
	struct lw_sched *sched;		/* NULL: without classes of waits */
	struct ring_buffer *ring;
	bool multi;
	char note[LW_CAPTURE_WHY];
	/* next unused indexes of the maps */
	unsigned sites, layouts;
	struct attached *attached;
	unsigned count;
	/* costs */
	lw_probes *own;			/* calibration's */
	uint64_t hit_ns;
	struct lw_counts before;	/* calibration's part */
	int cpus;
	struct lw_counts *per_cpu;
	uint64_t missing;		/* sent, and not received when capture stopped */
	/* during lw_capture_read() */
	lw_capture_sink *sink;
	void *context;
	uint64_t received;		/* records, calibration's too */
	unsigned patience;		/* so many more in this call: targets may send them faster than they can be told, and signals want to be heard */
	uint64_t end_ns;		/* imports that start or end later are not told; 0: it goes on */
};

/* --- what libbpf says, of which the first complaint is the interesting one; not that about a limit which kernels with cookies no longer have --- */

static char complaint[256];

__attribute__((format(printf, 2, 0))) static int hear(enum libbpf_print_level level, const char *format, va_list arguments)
{
	if (level == LIBBPF_WARN && !complaint[0] && !strstr(format, "RLIMIT_MEMLOCK")) {
		vsnprintf(complaint, sizeof(complaint), format, arguments);
		complaint[strcspn(complaint, "\n")] = '\0';
	}
	return 0;
}

__attribute__((format(printf, 2, 3))) static void say(char *why, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(why, LW_CAPTURE_WHY, format, arguments);
	va_end(arguments);
}

/* Why it did not work, from ERROR and what is known of this machine. Returns the error that callers are promised. */
static int explain(int error, const char *what, char *why)
{
	struct lw_rights rights;
	lw_rights_ask(&rights);
	char missing[256];
	if (error == -EPERM || error == -EACCES) {
		if (lw_rights_missing(&rights, missing, sizeof(missing)))
			say(why, "%s is not permitted: %s", what, missing);
		else
			say(why, "%s is not permitted, although the capabilities are there: look for a seccomp profile that forbids bpf(2) or perf_event_open(2), or for the kernel's lockdown (%s)",
			    what, complaint[0] ? complaint : strerror(-error));
		return -EPERM;
	}
	if (rights.kernel < OLDEST_KERNEL || error == -ENOSYS) {
		say(why, "%s needs Linux 5.15 with CONFIG_BPF_SYSCALL and CONFIG_UPROBE_EVENTS; this is Linux %u.%u%s", what, rights.kernel >> 16, rights.kernel >> 8 & 255,
		    rights.uprobes ? "" : ", without uprobes");
		return -ENOSYS;
	}
	if (access("/proc/self/ns", F_OK)) {
		say(why, "%s needs /proc: mount it", what);
		return -ENOSYS;
	}
	if (!rights.uprobes) {
		say(why, "%s needs uprobes: this kernel was built without CONFIG_UPROBE_EVENTS, or /sys is not mounted", what);
		return -ENOSYS;
	}
	say(why, "%s failed: %s%s%s", what, strerror(-error), complaint[0] ? ": " : "", complaint);
	return error;
}

/* --- opening --- */

static int set_namespace(struct lw_spans *spans)
{
	struct stat st;
	if (stat("/proc/self/ns/pid", &st))
		return -errno;
	if (st.st_ino != (ino_t)(unsigned)INITIAL_PIDNS) {
		spans->rodata->pidns_dev = st.st_dev;
		spans->rodata->pidns_ino = st.st_ino;
	}
	return 0;
}

static int load_spans(lw_capture *capture)
{
	struct lw_spans *spans = capture->spans = lw_spans__open();
	if (!spans)
		return -errno;
	unsigned kib = capture->options.ring_kib ? capture->options.ring_kib : RING_KIB;
	int error = set_namespace(spans);
	if (!error)
		error = bpf_map__set_max_entries(spans->maps.events, kib * 1024);
	if (error)
		return error;
	if (getrandom((void *)spans->rodata->lw_keys, sizeof(spans->rodata->lw_keys), 0) != (ssize_t)sizeof(spans->rodata->lw_keys))
		return -EIO;
	spans->rodata->everybody = capture->options.everybody;
	/* Came before them (5.17): whoever has these has it. */
	spans->rodata->has_loop = capture->multi;
	spans->rodata->clocks = capture->options.sched;
	if (kib < 1024)
		spans->rodata->lw_wake_at = kib * 1024 / 4;
	if (capture->multi)
		bpf_program__set_expected_attach_type(spans->progs.lw_site, (enum bpf_attach_type)lw_probes_multi_type());
	bpf_program__set_autoload(spans->progs.lw_born, !capture->options.sched);
	bpf_program__set_autoload(spans->progs.lw_gone, !capture->options.sched);
	bpf_program__set_autoload(spans->progs.lw_replaced, !capture->options.sched);
	return lw_spans__load(spans);
}

/* Processes that come and go are told of by sched, or else by programs of spans. */
static int attach_processes(lw_capture *capture)
{
	struct lw_spans *spans = capture->spans;
	if (capture->options.sched)
		return 0;
	bool attached = (spans->links.lw_born = bpf_program__attach(spans->progs.lw_born)) && (spans->links.lw_gone = bpf_program__attach(spans->progs.lw_gone)) &&
			(spans->links.lw_replaced = bpf_program__attach(spans->progs.lw_replaced));
	return attached ? 0 : -errno;
}

static int share_maps(lw_capture *capture)
{
	struct bpf_object *object = capture->sched->obj;
	struct bpf_map *map;
	bpf_object__for_each_map(map, capture->spans->obj) {
		struct bpf_map *same = bpf_object__find_map_by_name(object, bpf_map__name(map));
		int error = same && !bpf_map__is_internal(map) ? bpf_map__reuse_fd(same, bpf_map__fd(map)) : 0;
		if (error)
			return error;
	}
	return 0;
}

/* Into FD, what SCHED names of the kernel's types. */
static int write_types(const struct lw_sched *sched, int fd)
{
	struct btf *types;
	__u32 size = 0;
	int error = lw_kernel_types("/sys/kernel/btf/vmlinux", bpf_object__btf(sched->obj), &types);
	if (error)
		return error;
	const void *data = btf__raw_data(types, &size);
	if (!data || write(fd, data, size) != (ssize_t)size)
		error = -EIO;
	btf__free(types);
	return error;
}

/* FD, empty, gets the types that CO-RE looks into; it must stay open until loading is over. Where that does not work libbpf looks into all of the kernel's. */
static struct lw_sched *open_sched(int fd)
{
	char path[32];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	LIBBPF_OPTS(bpf_object_open_opts, options, .btf_custom_path = path);
	struct lw_sched *sched = fd < 0 ? NULL : lw_sched__open_opts(&options);
	if (sched && !write_types(sched, fd))
		return sched;
	lw_sched__destroy(sched);
	return lw_sched__open();
}

static int load_sched_with(lw_capture *capture, int types)
{
	struct lw_sched *sched = capture->sched = open_sched(types);
	if (!sched)
		return -errno;
	sched->rodata->pidns_ino = capture->spans->rodata->pidns_ino;
	sched->rodata->lw_wake_at = capture->spans->rodata->lw_wake_at;
	memcpy((void *)sched->rodata->lw_keys, (const void *)capture->spans->rodata->lw_keys, sizeof(sched->rodata->lw_keys));
	sched->rodata->state_is_argument = capture->rights.kernel >= STATE_KERNEL;
	int error = share_maps(capture);
	if (!error)
		error = lw_sched__load(sched);
	return error ? error : lw_sched__attach(sched);
}

static int load_sched(lw_capture *capture)
{
	if (!capture->rights.btf)
		return -ENOENT;
	int types = memfd_create("ladewerk-kernel-types", MFD_CLOEXEC), error = load_sched_with(capture, types);
	if (types >= 0)
		close(types);
	return error;
}

/* Probes are taken away one after the other: there would be ends without their beginnings. */
static bool is_late(const lw_capture *capture, const struct lw_event_head *record)
{
	return capture->end_ns && record->ns > capture->end_ns && (record->kind == LW_EVENT_START || record->kind == LW_EVENT_DONE);
}

static int on_record(void *context, void *data, size_t size)
{
	lw_capture *capture = context;
	capture->received++;
	if (capture->sink && size >= sizeof(struct lw_event_head) && !is_late(capture, data))
		capture->sink(capture->context, data, size);
	return --capture->patience ? 0 : -EAGAIN;
}

/* When all is loaded: its two mappings are most of the loader's memory, and so is what libbpf keeps while it loads. What calibration left behind is taken out. */
static int open_ring(lw_capture *capture, char *why)
{
	complaint[0] = '\0';
	capture->ring = ring_buffer__new(bpf_map__fd(capture->spans->maps.events), on_record, capture, NULL);
	if (!capture->ring)
		return explain(-errno, "reading events", why);
	ring_buffer__consume(capture->ring);
	return 0;
}

static int put_site(lw_capture *capture, const struct lw_site *site, uint64_t *cookie)
{
	__u32 index = capture->sites;
	if (index >= LW_SITES)
		return -E2BIG;
	*cookie = index;
	if (bpf_map_update_elem(bpf_map__fd(capture->spans->maps.sites), &index, site, BPF_ANY))
		return -errno;
	capture->sites++;
	return 0;
}

static void count_raw(lw_capture *capture, struct lw_counts *out);

/*
 * Hits a probe of our own, which shows whether probes work here at all; what that left behind is taken out of the counts, and later of the ring buffer.
 * In this process only: other tracers that run meanwhile have the same file. The probe stays to the end: taking it away costs more time than all the rest of this.
 */
static int calibrate(lw_capture *capture)
{
	struct lw_site site;
	struct lw_probe probe = { 0 };
	int error = lw_calibrate_site(&site, &probe.offset);
	if (!error)
		error = put_site(capture, &site, &probe.cookie);
	if (!error)
		error = lw_capture_follow(capture, getpid(), true, 0, NULL);
	if (error)
		return error;
	uint64_t bare = lw_calibrate_hit();
	error = lw_probes_attach(capture->spans->progs.lw_site, capture->multi, getpid(), "/proc/self/exe", &probe, 1, &capture->own);
	if (!error) {
		uint64_t full = lw_calibrate_hit();
		capture->hit_ns = full > bare ? full - bare : 0;
	}
	lw_capture_forget(capture, getpid());
	count_raw(capture, &capture->before);
	return error;
}

static void unload(lw_capture *capture)
{
	lw_probes_detach(capture->own);
	capture->own = NULL;
	ring_buffer__free(capture->ring);
	lw_sched__destroy(capture->sched);
	lw_spans__destroy(capture->spans);
	capture->ring = NULL;
	capture->sched = NULL;
	capture->spans = NULL;
	capture->sites = capture->layouts = 0;
	capture->received = 0;
}

static int load_once(lw_capture *capture)
{
	complaint[0] = '\0';
	int error = load_spans(capture);
	if (!error)
		error = attach_processes(capture);
	if (!error)
		error = calibrate(capture);
	if (error)
		unload(capture);
	return error;
}

/* A kernel may have a version number of its own idea of what it can do. */
static int load(lw_capture *capture)
{
	capture->multi = capture->rights.kernel >= MULTI_KERNEL && !capture->options.one_by_one;
	int error = load_once(capture);
	if (!capture->multi || !error || error == -EPERM)
		return error;
	capture->multi = false;
	return load_once(capture);
}

/* Why there will be no classes of waits. */
static int explain_sched(const lw_capture *capture, int error, char *why)
{
	if (error == -ENOENT && !capture->rights.btf)
		say(why, "what threads wait for cannot be recorded: this kernel does not describe itself (CONFIG_DEBUG_INFO_BTF; /sys/kernel/btf/vmlinux is missing or cannot be read)");
	else
		error = explain(error, "recording what threads wait for", why);
	return error;
}

/* Spans has to know beforehand whether there are clocks: without, it is loaded once more. */
static int add_sched(lw_capture *capture, char *why)
{
	complaint[0] = '\0';
	int error = capture->options.sched ? load_sched(capture) : 0;
	if (!error)
		return 0;
	error = explain_sched(capture, error, why);
	if (capture->options.sched_needed)
		return error;
	snprintf(capture->note, sizeof(capture->note), "imports only: %.900s", why);
	capture->options.sched = false;
	unload(capture);
	error = load(capture);
	return error ? explain(error, "tracing", why) : 0;
}

int lw_capture_open(const struct lw_capture_options *options, lw_capture **out, char *why)
{
	lw_capture *capture = calloc(1, sizeof(*capture));
	*out = NULL;
	why[0] = '\0';
	if (!capture) {
		say(why, "out of memory");
		return -ENOMEM;
	}
	libbpf_set_print(hear);
	lw_rights_ask(&capture->rights);
	capture->options = *options;
	capture->cpus = libbpf_num_possible_cpus();
	capture->per_cpu = capture->cpus > 0 ? calloc((size_t)capture->cpus, sizeof(*capture->per_cpu)) : NULL;
	int error = capture->per_cpu ? load(capture) : -ENOMEM;
	error = error ? explain(error, "tracing", why) : add_sched(capture, why);
	/* What loading needed and does not need again. */
	malloc_trim(0);
	if (!error)
		error = open_ring(capture, why);
	if (error) {
		lw_capture_close(capture);
		return error;
	}
	*out = capture;
	return 0;
}

static void detach(lw_capture *capture)
{
	lw_probes_detach(capture->own);
	capture->own = NULL;
	if (capture->sched)
		lw_sched__detach(capture->sched);
	if (capture->spans)
		lw_spans__detach(capture->spans);
	for (unsigned i = 0; i < capture->count; i++)
		lw_probes_detach(capture->attached[i].probes);
	capture->count = 0;
}

void lw_capture_close(lw_capture *capture)
{
	if (!capture)
		return;
	detach(capture);
	unload(capture);
	free(capture->attached);
	free(capture->per_cpu);
	free(capture);
}

const char *lw_capture_note(const lw_capture *capture)
{
	return capture->note[0] ? capture->note : NULL;
}

/* --- programs --- */

static struct attached *find_attached(const lw_capture *capture, const struct lw_program *program)
{
	for (unsigned i = 0; i < capture->count; i++)
		if (capture->attached[i].dev == program->dev && capture->attached[i].ino == program->ino)
			return &capture->attached[i];
	return NULL;
}

static int put_layout(lw_capture *capture, unsigned index, const struct lw_layout *layout)
{
	__u32 key = index;
	return bpf_map_update_elem(bpf_map__fd(capture->spans->maps.layouts), &key, layout, BPF_ANY) ? -errno : 0;
}

/* Sites of PROGRAM into the map, probes into the file. */
static int attach(lw_capture *capture, const struct lw_program *program, struct attached *entry)
{
	struct lw_probe probes[LW_PROGRAM_SITES];
	int error = entry->layout < LW_LAYOUTS ? put_layout(capture, entry->layout, &program->layout) : 0;
	for (unsigned i = 0; i < program->count && !error; i++) {
		struct lw_site site = program->sites[i].site;
		site.layout = entry->layout;
		probes[i] = (struct lw_probe){ .offset = program->sites[i].offset, .semaphore = program->sites[i].semaphore };
		error = put_site(capture, &site, &probes[i].cookie);
	}
	if (error)
		return error;
	return lw_probes_attach(capture->spans->progs.lw_site, capture->multi, 0, program->reach, probes, program->count, &entry->probes);
}

int lw_capture_attach(lw_capture *capture, const struct lw_program *program, char *why)
{
	if (find_attached(capture, program))
		return 0;
	complaint[0] = '\0';
	struct attached *grown = reallocarray(capture->attached, capture->count + 1, sizeof(*grown));
	if (!grown || program->count > LW_PROGRAM_SITES) {
		say(why, "out of memory");
		return -ENOMEM;
	}
	capture->attached = grown;
	const unsigned sites = capture->sites, layouts = capture->layouts;
	struct attached *entry = &grown[capture->count];
	*entry = (struct attached){ .dev = program->dev, .ino = program->ino, .layout = LW_LAYOUTS };
	if (program->kind == LW_PROGRAM_PYTHON && capture->layouts < LW_LAYOUTS) {
		entry->layout = capture->layouts++;
		entry->laid_out = program->laid_out;
	}
	int error = attach(capture, program, entry);
	if (!error) {
		capture->count++;
		return 0;
	}
	capture->sites = sites;
	capture->layouts = layouts;
	if (error == -E2BIG) {
		say(why, "%s: too many different programs at once: %u probes are the limit", program->path, (unsigned)LW_SITES);
		return error;
	}
	char what[LW_CAPTURE_WHY / 2];
	snprintf(what, sizeof(what), "%.300s: a probe", program->path);
	return explain(error, what, why);
}

/* --- processes --- */

/* What PROGRAM, of spans, returned for what it is told; -errno. */
static int tell(const struct bpf_program *program, void *what, __u32 size)
{
	LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = what, .ctx_size_in = size);
	if (bpf_prog_test_run_opts(bpf_program__fd(program), &options))
		return -errno;
	return (int)options.retval < 0 ? -ENOSPC : (int)options.retval;
}

static void enter_thread(void *context, const struct lw_stand *stand)
{
	const lw_capture *capture = context;
	struct lw_stand copy = *stand;
	(void)tell(capture->spans->progs.lw_enter, &copy, sizeof(copy));
}

/* Imports and waits that had begun before PID was followed. Threads have the numbers that they have in the kernel only where no namespace gave them others. */
static int enter_threads(lw_capture *capture, pid_t pid, uint64_t runtime, const struct lw_layout *layout)
{
	int error = lw_standing_each(pid, runtime, layout, enter_thread, capture);
	return error == -ENOMEM ? error : 0;
}

int lw_capture_follow(lw_capture *capture, pid_t pid, bool follow, uint64_t runtime, const struct lw_program *python)
{
	struct lw_decision decision = { .pid = (__u32)pid, .attention = follow ? LW_FOLLOWED : LW_LEFT_ALONE, .layout = LW_LAYOUTS };
	struct attached *entry = python ? find_attached(capture, python) : NULL;
	if (entry && entry->layout < LW_LAYOUTS && python->laid_out) {
		/* Later than its probes, where only a process could say how it is laid out. */
		if (!entry->laid_out && put_layout(capture, entry->layout, &python->layout) == 0)
			entry->laid_out = true;
		if (entry->laid_out) {
			decision.layout = entry->layout;
			decision.runtime = runtime;
		}
	}
	int known = tell(capture->spans->progs.lw_decide, &decision, sizeof(decision));
	if (known == 1 && follow && decision.runtime && capture->sched && !capture->spans->rodata->pidns_ino)
		return enter_threads(capture, pid, runtime, &python->layout);
	return known < 0 ? known : 0;
}

void lw_capture_forget(lw_capture *capture, pid_t pid)
{
	__u32 key = (__u32)pid;
	(void)bpf_map_delete_elem(bpf_map__fd(capture->spans->maps.processes), &key);
}

/* --- reading --- */

int lw_capture_fd(const lw_capture *capture)
{
	return ring_buffer__epoll_fd(capture->ring);
}

int lw_capture_read(lw_capture *capture, int timeout_ms, lw_capture_sink *sink, void *context)
{
	struct epoll_event event;
	if (timeout_ms > 0 && epoll_wait(lw_capture_fd(capture), &event, 1, timeout_ms) < 0)
		return -errno;
	capture->sink = sink;
	capture->context = context;
	capture->patience = RECORDS;
	/* Also what nobody was woken for. */
	int records = ring_buffer__consume(capture->ring);
	capture->sink = NULL;
	return records == -EAGAIN ? RECORDS : records;
}

/* --- counting --- */

static void count_raw(lw_capture *capture, struct lw_counts *out)
{
	__u32 zero = 0;
	*out = (struct lw_counts){ 0 };
	if (bpf_map_lookup_elem(bpf_map__fd(capture->spans->maps.counts), &zero, capture->per_cpu))
		return;
	for (int i = 0; i < capture->cpus; i++) {
		out->hits += capture->per_cpu[i].hits;
		out->strangers += capture->per_cpu[i].strangers;
		out->switches += capture->per_cpu[i].switches;
		out->events += capture->per_cpu[i].events;
		out->lost += capture->per_cpu[i].lost;
	}
}

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* What waits for import locks now has no event yet. */
static void tell_pending(lw_capture *capture, lw_capture_sink *sink, void *context)
{
	if (capture->sched)
		(void)lw_sched_pending(bpf_map__fd(capture->spans->maps.threads), now_ns(), sink, context);
}

/* Detaching waits until no uprobe's program runs; sched's may, for a moment more. */
int lw_capture_stop(lw_capture *capture, lw_capture_sink *sink, void *context)
{
	capture->end_ns = now_ns();
	detach(capture);
	struct lw_counts sent;
	for (int i = 0; i < STOP_MS; i++) {
		(void)lw_capture_read(capture, 0, sink, context);
		count_raw(capture, &sent);
		capture->missing = sent.events > capture->received ? sent.events - capture->received : 0;
		if (!capture->missing) {
			tell_pending(capture, sink, context);
			return 0;
		}
		(void)poll(NULL, 0, 1);
	}
	return -ETIMEDOUT;
}

/* 0 where the kernel does not measure it (kernel.bpf_stats_enabled): switching that on would slow down everybody's programs. */
static uint64_t run_ns(const struct bpf_program *program)
{
	struct bpf_prog_info info = { 0 };
	__u32 size = sizeof(info);
	return bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size) ? 0 : info.run_time_ns;
}

static uint64_t sched_ns(const lw_capture *capture)
{
	uint64_t sum = 0;
	struct bpf_program *program;
	if (capture->sched)
		bpf_object__for_each_program(program, capture->sched->obj)
			sum += run_ns(program);
	return sum;
}

void lw_capture_count(lw_capture *capture, struct lw_capture_counts *out)
{
	struct lw_counts now;
	uint64_t sched = sched_ns(capture);
	count_raw(capture, &now);
	*out = (struct lw_capture_counts){
		.hits = now.hits - capture->before.hits,
		.strangers = now.strangers - capture->before.strangers,
		.switches = now.switches - capture->before.switches,
		.events = now.events - capture->before.events,
		.lost = now.lost - capture->before.lost + capture->missing,
		.program_ns = run_ns(capture->spans->progs.lw_site) + sched,
	};
	out->overhead_ns = (out->hits - out->strangers) * capture->hit_ns + (sched ? sched : out->switches * SWITCH_NS);
}
