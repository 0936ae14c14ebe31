/* SPDX-License-Identifier: MIT */
/* kernel_types: what is named is where the whole BTF has it, and nothing else is there; half a file is an error, and so is another one. */
#include "kernel_types.h"
#include "scratch.h"

#include <bpf/btf.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[SCRATCH];

static void write_file(const void *data, size_t size)
{
	FILE *file = fopen(path, "w");
	cr_assert(file && fwrite(data, 1, size, file) == size && !fclose(file));
}

static void make_file(void)
{
	int fd = mkstemp(scratch_template(path, "types"));
	cr_assert_geq(fd, 0);
	close(fd);
}

static void remove_file(void)
{
	unlink(path);
}

TestSuite(kernel_types, .init = make_file, .fini = remove_file);

/* struct node { long before; const union { struct { int deep; }; }; int bit : 1; struct leaf *next; pair_t pair; struct leaf list[3]; } and what it needs, at odd places. */
static struct btf *kernel(void)
{
	struct btf *btf = btf__new_empty();
	int number = btf__add_int(btf, "int", 4, BTF_INT_SIGNED), wide = btf__add_int(btf, "long", 8, BTF_INT_SIGNED), small = btf__add_int(btf, "short", 2, 0);
	int leaf = btf__add_struct(btf, "leaf", 12);
	btf__add_field(btf, "unused", wide, 0, 0);
	btf__add_field(btf, "value", number, 64, 0);
	int inner = btf__add_struct(btf, "", 8);
	btf__add_field(btf, "deep", number, 32, 0);
	int outer = btf__add_union(btf, "", 8);
	btf__add_field(btf, "", inner, 0, 0);
	int constant = btf__add_const(btf, outer);
	int halves = btf__add_struct(btf, "", 4);
	btf__add_field(btf, "low", small, 0, 0);
	btf__add_field(btf, "high", small, 16, 0);
	int pair = btf__add_typedef(btf, "pair_t", halves);
	int list = btf__add_array(btf, number, leaf, 3);
	int pointer = btf__add_ptr(btf, leaf);
	btf__add_struct(btf, "node", 88);
	btf__add_field(btf, "before", wide, 0, 0);
	btf__add_field(btf, "", constant, 64, 0);
	btf__add_field(btf, "bit", number, 193, 1);
	btf__add_field(btf, "next", pointer, 256, 0);
	btf__add_field(btf, "pair", pair, 320, 0);
	btf__add_field(btf, "list", list, 352, 0);
	btf__add_enum(btf, "colour", 4);
	btf__add_enum_value(btf, "RED", 7);
	btf__add_struct(btf, "nobody_asks", 4);
	btf__add_func(btf, "function", BTF_FUNC_STATIC, btf__add_func_proto(btf, number));
	return btf;
}

static struct btf *wanted(void)
{
	struct btf *btf = btf__new_empty();
	int number = btf__add_int(btf, "int", 4, BTF_INT_SIGNED), pointer = btf__add_ptr(btf, 0), leaf = btf__add_struct(btf, "leaf", 4);
	btf__add_field(btf, "value", number, 0, 0);
	int halves = btf__add_struct(btf, "", 2);
	btf__add_field(btf, "high", number, 0, 0);
	int list = btf__add_array(btf, number, leaf, 0);
	btf__add_struct(btf, "node", 4);
	btf__add_field(btf, "deep", number, 0, 0);
	btf__add_field(btf, "bit", number, 32, 0);
	btf__add_field(btf, "next", pointer, 64, 0);
	btf__add_field(btf, "pair", halves, 128, 0);
	btf__add_field(btf, "list", list, 160, 0);
	btf__add_field(btf, "is_not_there", number, 0, 0);
	btf__add_enum(btf, "colour", 4);
	btf__add_struct(btf, "is_not_there_either", 4);
	return btf;
}

/* The type NAME, which must be there. */
static const struct btf_type *named(const struct btf *btf, const char *name, uint32_t kind)
{
	int id = btf__find_by_name_kind(btf, name, kind);
	cr_assert_gt(id, 0, "%s", name);
	return btf__type_by_id(btf, (uint32_t)id);
}

static const struct btf_type *check_member(const struct btf *btf, const struct btf_type *type, const char *name, uint32_t bit, uint32_t bits)
{
	for (uint32_t i = 0; i < btf_vlen(type); i++) {
		if (strcmp(btf__name_by_offset(btf, btf_members(type)[i].name_off), name))
			continue;
		cr_expect_eq(btf_member_bit_offset(type, i), bit, "%s", name);
		cr_expect_eq(btf_member_bitfield_size(type, i), bits, "%s", name);
		return btf__type_by_id(btf, btf_members(type)[i].type);
	}
	cr_assert_fail("%s is missing", name);
	return NULL;
}

Test(kernel_types, members_are_where_the_kernel_has_them)
{
	struct btf *all = kernel(), *some = wanted(), *out;
	__u32 size;
	const void *data = btf__raw_data(all, &size);
	write_file(data, size);
	cr_assert_eq(lw_kernel_types(path, some, &out), 0);
	const struct btf_type *node = named(out, "node", BTF_KIND_STRUCT);
	cr_expect_eq(node->size, 88u);
	cr_expect_eq(btf_vlen(node), 5);
	cr_expect(btf_is_int(check_member(out, node, "deep", 64 + 32, 0)));
	check_member(out, node, "bit", 193, 1);
	cr_expect(btf_is_ptr(check_member(out, node, "next", 256, 0)));
	const struct btf_type *pair = check_member(out, node, "pair", 320, 0), *list = check_member(out, node, "list", 352, 0);
	cr_expect_eq(check_member(out, pair, "high", 16, 0)->size, 2u);
	cr_expect_eq(btf_array(list)->nelems, 3u);
	const struct btf_type *leaf = btf__type_by_id(out, btf_array(list)->type);
	cr_expect_eq(leaf->size, 12u);
	cr_expect_eq(btf_vlen(leaf), 1);
	check_member(out, leaf, "value", 64, 0);
	cr_expect_eq(btf_enum(named(out, "colour", BTF_KIND_ENUM))->val, 7);
	cr_expect_lt(btf__find_by_name_kind(out, "nobody_asks", BTF_KIND_STRUCT), 0);
	btf__free(out);
	btf__free(some);
	btf__free(all);
}

Test(kernel_types, every_file_that_is_cut_is_refused)
{
	struct btf *all = kernel(), *some = wanted(), *out;
	__u32 size;
	const char *data = btf__raw_data(all, &size);
	for (__u32 cut = 0; cut < size; cut++) {
		write_file(data, cut);
		cr_expect_eq(lw_kernel_types(path, some, &out), -EINVAL, "%u of %u", cut, size);
		cr_expect_null(out);
	}
	btf__free(some);
	btf__free(all);
}

/* Whatever stands in it: no more than an error, or other types. */
Test(kernel_types, bytes_that_are_wrong_do_no_harm)
{
	static const unsigned char wrong[] = { 0x00, 0x01, 0x7f, 0xff };
	struct btf *all = kernel(), *some = wanted(), *out;
	__u32 size;
	const void *data = btf__raw_data(all, &size);
	char *copy = malloc(size);
	for (__u32 at = 0; at < size; at++) {
		for (size_t i = 0; i < sizeof(wrong); i++) {
			memcpy(copy, data, size);
			copy[at] = (char)wrong[i];
			write_file(copy, size);
			if (!lw_kernel_types(path, some, &out))
				btf__free(out);
		}
	}
	free(copy);
	btf__free(some);
	btf__free(all);
}

Test(kernel_types, this_kernel)
{
	static const char *const file = "/sys/kernel/btf/vmlinux";
	if (access(file, R_OK))
		cr_skip("this kernel has no BTF");
	struct btf *some = btf__new_empty(), *out, *all = btf__parse(file, NULL);
	int number = btf__add_int(some, "int", 4, BTF_INT_SIGNED);
	btf__add_struct(some, "task_struct", 8);
	btf__add_field(some, "pid", number, 0, 0);
	btf__add_field(some, "tgid", number, 32, 0);
	cr_assert_eq(lw_kernel_types(file, some, &out), 0);
	const struct btf_type *task = named(out, "task_struct", BTF_KIND_STRUCT), *full = named(all, "task_struct", BTF_KIND_STRUCT);
	cr_expect_eq(task->size, full->size);
	cr_expect_eq(btf_vlen(task), 2);
	for (uint32_t i = 0; i < 2; i++)
		check_member(all, full, btf__name_by_offset(out, btf_members(task)[i].name_off), btf_member_bit_offset(task, i), 0);
	btf__free(out);
	btf__free(some);
	btf__free(all);
}
