/* SPDX-License-Identifier: MIT */
#include "rights.h"

#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

/* Of Linux 5.8; older headers lack them. */
#ifndef CAP_PERFMON
#define CAP_PERFMON 38
#endif
#ifndef CAP_BPF
#define CAP_BPF 39
#endif

enum { INITIAL_USERNS = (int)0xEFFFFFFDu };

static bool has(const struct __user_cap_data_struct *data, int capability)
{
	return data[CAP_TO_INDEX(capability)].effective & CAP_TO_MASK(capability);
}

static bool in_user_namespace(void)
{
	struct stat st;
	return stat("/proc/self/ns/user", &st) == 0 && st.st_ino != (ino_t)(unsigned)INITIAL_USERNS;
}

static unsigned kernel_version(void)
{
	struct utsname name;
	unsigned major = 0, minor = 0, patch = 0;
	if (uname(&name) || sscanf(name.release, "%3u.%3u.%3u", &major, &minor, &patch) < 2)
		return 0;
	return major << 16 | minor << 8 | (patch > 255 ? 255 : patch);
}

void lw_rights_ask(struct lw_rights *out)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { { 0 } };
	(void)syscall(SYS_capget, &header, data);
	*out = (struct lw_rights){
		.admin = has(data, CAP_SYS_ADMIN),
		.bpf = has(data, CAP_BPF),
		.perfmon = has(data, CAP_PERFMON),
		.ptrace = has(data, CAP_SYS_PTRACE),
		.borrowed = in_user_namespace(),
		.btf = access("/sys/kernel/btf/vmlinux", R_OK) == 0,
		.uprobes = access("/sys/bus/event_source/devices/uprobe/type", F_OK) == 0,
		.kernel = kernel_version(),
	};
}

bool lw_rights_missing(const struct lw_rights *rights, char *text, size_t size)
{
	if (rights->admin || (rights->bpf && rights->perfmon)) {
		snprintf(text, size, "its capabilities are those of a user namespace, and only the host's count: run outside of it (not in a rootless container)");
		return rights->borrowed;
	}
	const char *missing = !rights->bpf && !rights->perfmon ? "CAP_BPF and CAP_PERFMON are" : rights->bpf ? "CAP_PERFMON is" : "CAP_BPF is";
	snprintf(text, size, "%s missing: run as root (sudo), or in a container with the capabilities BPF, PERFMON and SYS_PTRACE", missing);
	return true;
}
