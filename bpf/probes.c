/* SPDX-License-Identifier: MIT */
#include "probes.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct lw_probes {
	int link;			/* -1: the other way */
	unsigned count;
	struct bpf_link *links[];
};

/* BPF_TRACE_UPROBE_MULTI, which headers before Linux 6.6 lack; as they lack the fields below. */
enum { MULTI_TYPE = 48 };

/* What bpf(BPF_LINK_CREATE) takes. */
struct multi_link {
	__u32 prog_fd, target_fd, attach_type, flags;
	__aligned_u64 path, offsets, semaphores, cookies;
	__u32 count, multi_flags, pid, _pad;
};

int lw_probes_multi_type(void)
{
	return MULTI_TYPE;
}

static int attach_at_once(struct bpf_program *program, pid_t pid, const char *path, const struct lw_probe *probes, unsigned count, lw_probes *out)
{
	__u64 *numbers = calloc(count, 3 * sizeof(*numbers));
	if (!numbers)
		return -ENOMEM;
	for (unsigned i = 0; i < count; i++) {
		numbers[i] = probes[i].offset;
		numbers[count + i] = probes[i].semaphore;
		numbers[2 * count + i] = probes[i].cookie;
	}
	struct multi_link link = {
		.prog_fd = (__u32)bpf_program__fd(program),
		.attach_type = MULTI_TYPE,
		.path = (uintptr_t)path,
		.offsets = (uintptr_t)numbers,
		.semaphores = (uintptr_t)(numbers + count),
		.cookies = (uintptr_t)(numbers + 2 * (size_t)count),
		.count = count,
		.pid = (__u32)pid,
	};
	out->link = (int)syscall(SYS_bpf, BPF_LINK_CREATE, &link, sizeof(link));
	int error = out->link < 0 ? -errno : 0;
	free(numbers);
	return error;
}

static int attach_each(struct bpf_program *program, pid_t pid, const char *path, const struct lw_probe *probes, unsigned count, lw_probes *out)
{
	for (; out->count < count; out->count++) {
		const struct lw_probe *probe = &probes[out->count];
		LIBBPF_OPTS(bpf_uprobe_opts, options, .ref_ctr_offset = probe->semaphore, .bpf_cookie = probe->cookie);
		struct bpf_link *link = bpf_program__attach_uprobe_opts(program, pid ? pid : -1, path, probe->offset, &options);
		if (!link)
			return -errno;
		out->links[out->count] = link;
	}
	return 0;
}

int lw_probes_attach(struct bpf_program *program, bool multi, pid_t pid, const char *path, const struct lw_probe *probes, unsigned count, lw_probes **out)
{
	lw_probes *made = calloc(1, sizeof(*made) + count * sizeof(*made->links));
	*out = NULL;
	if (!made)
		return -ENOMEM;
	made->link = -1;
	int error = multi ? attach_at_once(program, pid, path, probes, count, made) : attach_each(program, pid, path, probes, count, made);
	if (error) {
		lw_probes_detach(made);
		return error;
	}
	*out = made;
	return 0;
}

void lw_probes_detach(lw_probes *probes)
{
	if (!probes)
		return;
	if (probes->link >= 0)
		close(probes->link);
	for (unsigned i = 0; i < probes->count; i++)
		bpf_link__destroy(probes->links[i]);
	free(probes);
}
