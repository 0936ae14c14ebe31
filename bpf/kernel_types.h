/* SPDX-License-Identifier: MIT */
/*
 * kernel_types: of what the kernel says of its types (BTF, some megabytes, over a hundred thousand of them) the few that a BPF object names. libbpf would read and index all of it, which
 * takes longer, and more memory, than all the rest of loading.
 */
#ifndef LW_BPF_KERNEL_TYPES_H
#define LW_BPF_KERNEL_TYPES_H

struct btf;

/**
 * A new BTF, in *OUT (btf__free), of those named structures and enumerations of WANTED that the file at PATH has too, with the members of these that WANTED names: at the places where PATH
 * has them. A name that PATH has more than once is there as often. CO-RE finds in it what it would find in PATH. 0 or -errno: -EINVAL if it is no BTF of this byte order.
 */
int lw_kernel_types(const char *path, const struct btf *wanted, struct btf **out);

#endif
