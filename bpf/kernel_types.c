/* SPDX-License-Identifier: MIT */
/* kernel_types: see kernel_types.h. */
#include "kernel_types.h"

#include <bpf/btf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>
#include <sys/stat.h>

enum {
	MEMBERS = 32,		/* of one structure, that are wanted */
	DEPTH = 8,		/* of structures within structures, and of qualifiers and names of a type */
	BYTES = 64 << 20,
};

struct image {
	uint8_t *data;
	size_t size;
	const uint8_t *types;
	size_t types_size;
	const char *strings;
	size_t strings_size;
	uint32_t *at;		/* of the type with this number, in `types`; [0] is void */
	uint32_t count;
};

/* A structure or an enumeration that is wanted. */
struct want {
	const char *name;
	uint32_t kind;
	const struct btf_type *type;
};

struct copy {
	const struct image *kernel;
	const struct btf *wanted;
	struct want *wants;		/* sorted */
	size_t want_count;
	struct btf *out;
};

/* --- the file --- */

static int read_all(int fd, uint8_t *to, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t got = read(fd, to + done, size - done);
		if (got <= 0)
			return got ? -errno : -EINVAL;
		done += (size_t)got;
	}
	return 0;
}

/* Mapped: Linux 6.16 and later can, and then nothing is copied. */
static int load(const char *path, struct image *out)
{
	struct stat status;
	int fd = open(path, O_RDONLY | O_CLOEXEC), error = fd < 0 ? -errno : 0;
	if (fd < 0)
		return error;
	if (fstat(fd, &status) || status.st_size < (off_t)sizeof(struct btf_header) || status.st_size > BYTES)
		error = -EINVAL;
	out->size = error ? 0 : (size_t)status.st_size;
	out->data = error ? MAP_FAILED : mmap(NULL, out->size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (!error && out->data == MAP_FAILED) {
		out->data = mmap(NULL, out->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		error = out->data == MAP_FAILED ? -ENOMEM : read_all(fd, out->data, out->size);
	}
	close(fd);
	return error;
}

static int find_sections(struct image *image)
{
	struct btf_header header;
	memcpy(&header, image->data, sizeof(header));
	size_t length = header.hdr_len;
	if (header.magic != BTF_MAGIC || length < sizeof(header) || length > image->size)
		return -EINVAL;
	size_t rest = image->size - length;
	if (header.type_off > rest || header.type_len > rest - header.type_off || header.str_off > rest || header.str_len > rest - header.str_off || header.type_off % 4 || length % 4)
		return -EINVAL;
	image->types = image->data + length + header.type_off;
	image->types_size = header.type_len;
	image->strings = (const char *)image->data + length + header.str_off;
	image->strings_size = header.str_len;
	return image->strings_size && !image->strings[image->strings_size - 1] ? 0 : -EINVAL;
}

/* Bytes of TYPE, with what comes behind its head; 0: of no kind that is known. */
static size_t size_of(const struct btf_type *type)
{
	size_t each = 0, once = 0, count = btf_vlen(type);
	switch (btf_kind(type)) {
	case BTF_KIND_PTR: case BTF_KIND_FWD: case BTF_KIND_TYPEDEF: case BTF_KIND_VOLATILE: case BTF_KIND_CONST: case BTF_KIND_RESTRICT: case BTF_KIND_FUNC: case BTF_KIND_FLOAT:
	case BTF_KIND_TYPE_TAG:
		break;
	case BTF_KIND_INT: once = sizeof(__u32); break;
	case BTF_KIND_ARRAY: once = sizeof(struct btf_array); break;
	case BTF_KIND_VAR: once = sizeof(struct btf_var); break;
	case BTF_KIND_DECL_TAG: once = sizeof(struct btf_decl_tag); break;
	case BTF_KIND_STRUCT: case BTF_KIND_UNION: each = sizeof(struct btf_member); break;
	case BTF_KIND_ENUM: each = sizeof(struct btf_enum); break;
	case BTF_KIND_ENUM64: each = sizeof(struct btf_enum64); break;
	case BTF_KIND_FUNC_PROTO: each = sizeof(struct btf_param); break;
	case BTF_KIND_DATASEC: each = sizeof(struct btf_var_secinfo); break;
	default: return 0;
	}
	return sizeof(*type) + once + each * count;
}

static int number_types(struct image *image)
{
	/* The smallest type is a head. */
	image->at = malloc((image->types_size / sizeof(struct btf_type) + 1) * sizeof(*image->at));
	if (!image->at)
		return -ENOMEM;
	image->count = 1;
	for (size_t at = 0; at < image->types_size;) {
		size_t rest = image->types_size - at, size = rest < sizeof(struct btf_type) ? 0 : size_of((const struct btf_type *)(image->types + at));
		if (!size || size > rest)
			return -EINVAL;
		image->at[image->count++] = (uint32_t)at;
		at += size;
	}
	return 0;
}

static const struct btf_type *type_of(const struct image *image, uint32_t id)
{
	return id && id < image->count ? (const struct btf_type *)(image->types + image->at[id]) : NULL;
}

static const char *text_of(const struct image *image, uint32_t offset)
{
	return offset < image->strings_size ? image->strings + offset : "";
}

static void unload(struct image *image)
{
	free(image->at);
	if (image->data != MAP_FAILED)
		munmap(image->data, image->size);
}

/* --- copying --- */

/* Without qualifiers and other names: CO-RE looks through them too. */
static const struct btf_type *bare(const struct image *image, uint32_t id)
{
	const struct btf_type *type = type_of(image, id);
	for (int i = 0; i < DEPTH && type && (btf_is_mod(type) || btf_is_typedef(type)); i++)
		type = type_of(image, type->type);
	return type;
}

/* Where a structure of the kernel has a member. */
struct place {
	uint32_t type, bit, bits;
};

/* Members of structures without a name are the outer one's. */
static bool find_member(const struct image *image, const struct btf_type *type, const char *name, int depth, struct place *out)
{
	const struct btf_member *members = btf_members(type);
	for (uint32_t i = 0; i < btf_vlen(type); i++) {
		uint32_t bit = btf_member_bit_offset(type, i);
		const char *text = text_of(image, members[i].name_off);
		const struct btf_type *inner = *text ? NULL : bare(image, members[i].type);
		if (!strcmp(text, name)) {
			*out = (struct place){ members[i].type, bit, btf_member_bitfield_size(type, i) };
			return true;
		}
		if (inner && btf_is_composite(inner) && depth < DEPTH && find_member(image, inner, name, depth + 1, out)) {
			out->bit += bit;
			return true;
		}
	}
	return false;
}

static int copy_struct(struct copy *copy, const struct btf_type *type, const struct btf_type *wanted, int depth);

static const struct btf_type *wanted_type(const struct copy *copy, uint32_t id)
{
	const struct btf_type *type = btf__type_by_id(copy->wanted, id);
	for (int i = 0; i < DEPTH && type && (btf_is_mod(type) || btf_is_typedef(type)); i++)
		type = btf__type_by_id(copy->wanted, type->type);
	return type;
}

/* The type of a member: its number in the new BTF, or -errno. Of what a pointer leads to nobody asks. */
static int copy_type(struct copy *copy, uint32_t id, uint32_t wanted_id, int depth)
{
	const struct btf_type *type = bare(copy->kernel, id), *wanted = wanted_type(copy, wanted_id);
	if (!type || !wanted || depth > DEPTH)
		return -EINVAL;
	if (btf_is_ptr(type))
		return btf__add_ptr(copy->out, 0);
	if (btf_is_int(type))
		return btf__add_int(copy->out, "n", type->size, btf_int_encoding(type));
	if (btf_is_composite(type) && btf_is_composite(wanted))
		return copy_struct(copy, type, wanted, depth + 1);
	if (btf_is_array(type) && btf_is_array(wanted)) {
		int element = copy_type(copy, btf_array(type)->type, btf_array(wanted)->type, depth + 1);
		int index = element < 0 ? element : btf__add_int(copy->out, "n", sizeof(__u32), 0);
		return index < 0 ? index : btf__add_array(copy->out, index, element, btf_array(type)->nelems);
	}
	return -EINVAL;
}

/* Those members of TYPE that WANTED has. A member that is of another kind is left out, as if it were not there: CO-RE would not take it either. */
static int copy_struct(struct copy *copy, const struct btf_type *type, const struct btf_type *wanted, int depth)
{
	struct place places[MEMBERS];
	const char *names[MEMBERS];
	uint32_t count = 0;
	for (uint32_t i = 0; i < btf_vlen(wanted) && count < MEMBERS; i++) {
		struct place *place = &places[count];
		const struct btf_member *member = &btf_members(wanted)[i];
		names[count] = btf__name_by_offset(copy->wanted, member->name_off);
		if (!names[count] || !*names[count] || !find_member(copy->kernel, type, names[count], 0, place))
			continue;
		int id = copy_type(copy, place->type, member->type, depth);
		if (id == -ENOMEM)
			return id;
		if (id < 0)
			continue;
		place->type = (uint32_t)id;
		count++;
	}
	const char *name = text_of(copy->kernel, type->name_off);
	int made = btf_kind(type) == BTF_KIND_UNION ? btf__add_union(copy->out, name, type->size) : btf__add_struct(copy->out, name, type->size);
	for (uint32_t i = 0; i < count && made > 0; i++) {
		int error = btf__add_field(copy->out, names[i], (int)places[i].type, places[i].bit, places[i].bits);
		made = error ? error : made;
	}
	return made;
}

static int copy_enum(struct copy *copy, const struct btf_type *type)
{
	const struct btf_enum *values = btf_enum(type);
	int made = btf__add_enum(copy->out, text_of(copy->kernel, type->name_off), type->size);
	for (uint32_t i = 0; i < btf_vlen(type) && made > 0; i++) {
		int error = btf__add_enum_value(copy->out, text_of(copy->kernel, values[i].name_off), values[i].val);
		made = error ? error : made;
	}
	return made;
}

/* --- what is wanted --- */

static bool may_be_wanted(const struct btf_type *type)
{
	return type->name_off && (btf_is_composite(type) || btf_is_enum(type));
}

static int compare(const void *left, const void *right)
{
	const struct want *a = left, *b = right;
	int order = strcmp(a->name, b->name);
	return order ? order : (a->kind > b->kind) - (a->kind < b->kind);
}

static int list_wants(struct copy *copy)
{
	uint32_t count = btf__type_cnt(copy->wanted);
	copy->wants = malloc(count * sizeof(*copy->wants));
	if (!copy->wants)
		return -ENOMEM;
	for (uint32_t id = 1; id < count; id++) {
		const struct btf_type *type = btf__type_by_id(copy->wanted, id);
		if (may_be_wanted(type))
			copy->wants[copy->want_count++] = (struct want){ btf__name_by_offset(copy->wanted, type->name_off), btf_kind(type), type };
	}
	qsort(copy->wants, copy->want_count, sizeof(*copy->wants), compare);
	return 0;
}

static int copy_if_wanted(struct copy *copy, const struct btf_type *type)
{
	struct want key = { .name = text_of(copy->kernel, type->name_off), .kind = btf_kind(type) };
	const struct want *want = bsearch(&key, copy->wants, copy->want_count, sizeof(key), compare);
	if (!want)
		return 0;
	int made = btf_is_enum(type) ? copy_enum(copy, type) : copy_struct(copy, type, want->type, 0);
	return made < 0 ? made : 0;
}

static int copy_all(struct copy *copy)
{
	int error = list_wants(copy);
	for (uint32_t id = 1; id < copy->kernel->count && !error; id++) {
		const struct btf_type *type = type_of(copy->kernel, id);
		if (may_be_wanted(type))
			error = copy_if_wanted(copy, type);
	}
	return error;
}

int lw_kernel_types(const char *path, const struct btf *wanted, struct btf **out)
{
	struct image image = { .data = MAP_FAILED };
	struct copy copy = { .kernel = &image, .wanted = wanted };
	*out = NULL;
	int error = load(path, &image);
	if (!error)
		error = find_sections(&image);
	if (!error)
		error = number_types(&image);
	if (!error && !(copy.out = btf__new_empty()))
		error = -errno;
	if (!error)
		error = copy_all(&copy);
	free(copy.wants);
	unload(&image);
	if (!error)
		*out = copy.out;
	else
		btf__free(copy.out);
	return error;
}
