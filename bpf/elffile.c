/* SPDX-License-Identifier: MIT */
/*
 * elffile: see elffile.h. Headers are read once and checked; what fails the check is dropped, so that everybody else may rely on it.
 */
#include "elffile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

enum {
	SEGMENTS_MAX = 256,
	SECTIONS_MAX = 4096,
	NAMES_MAX = 1 << 20,		/* bytes of section names */
	STRINGS_MAX = 64 << 20,		/* of symbol names */
	DYNAMIC_MAX = 1 << 20,
	SYMBOLS_CHUNK = 4096,		/* symbols read at once */
	SYMBOLS_MAX = 4 << 20,
};

struct lw_elf {
	int fd;
	uint64_t size;
	unsigned machine;
	Elf64_Phdr *segments;
	unsigned segment_count;
	Elf64_Shdr *sections;		/* by number; those that lie are SHT_NULL */
	unsigned section_count;
	uint8_t *names;
	uint64_t names_size;		/* a zero byte is behind */
};

/* Whether SIZE bytes at OFFSET are part of the file. */
static bool within(const lw_elf *elf, uint64_t offset, uint64_t size)
{
	return offset <= elf->size && size <= elf->size - offset;
}

/* All of SIZE bytes at OFFSET. 0, or -ENOEXEC where the file ends before, or what pread() says. */
static int read_at(const lw_elf *elf, uint64_t offset, void *buffer, size_t size)
{
	if (!within(elf, offset, size))
		return -ENOEXEC;
	char *to = buffer;
	while (size) {
		ssize_t got = pread(elf->fd, to, size, (off_t)offset);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (!got)
			return -ENOEXEC;	/* it was cut meanwhile */
		to += got;
		offset += (uint64_t)got;
		size -= (size_t)got;
	}
	return 0;
}

int lw_elf_load(const lw_elf *elf, uint64_t offset, uint64_t size, uint64_t max, uint8_t **out)
{
	*out = NULL;
	if (size > max || !within(elf, offset, size))
		return -ENOEXEC;
	uint8_t *data = malloc(size + 1);
	if (!data)
		return -ENOMEM;
	int error = read_at(elf, offset, data, size);
	if (error) {
		free(data);
		return error;
	}
	data[size] = 0;
	*out = data;
	return 0;
}

static int read_header(lw_elf *elf, Elf64_Ehdr *header)
{
	struct stat status;
	if (fstat(elf->fd, &status))
		return -errno;
	if (!S_ISREG(status.st_mode))
		return -ENOEXEC;
	elf->size = (uint64_t)status.st_size;
	int error = read_at(elf, 0, header, sizeof(*header));
	if (error)
		return error;
	if (memcmp(header->e_ident, ELFMAG, SELFMAG) || header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != ELFDATA2LSB)
		return -ENOEXEC;
	if (header->e_type != ET_EXEC && header->e_type != ET_DYN)
		return -ENOEXEC;
	elf->machine = header->e_machine;
	return 0;
}

static bool segment_lies(const lw_elf *elf, const Elf64_Phdr *segment)
{
	return segment->p_filesz > segment->p_memsz || segment->p_vaddr + segment->p_memsz < segment->p_vaddr || !within(elf, segment->p_offset, segment->p_filesz);
}

static int read_segments(lw_elf *elf, const Elf64_Ehdr *header)
{
	if (header->e_phentsize != sizeof(Elf64_Phdr) || header->e_phnum > SEGMENTS_MAX)
		return -ENOEXEC;
	int error = lw_elf_load(elf, header->e_phoff, header->e_phnum * sizeof(Elf64_Phdr), UINT64_MAX, (uint8_t **)&elf->segments);
	for (unsigned i = 0; !error && i < header->e_phnum; i++) {
		if (elf->segments[i].p_type == PT_LOAD && !segment_lies(elf, &elf->segments[i]))
			elf->segments[elf->segment_count++] = elf->segments[i];
	}
	return error;
}

/* A file without sections, or with ones that make no sense, is none the worse for its segments. */
static int read_sections(lw_elf *elf, const Elf64_Ehdr *header)
{
	if (!header->e_shoff || header->e_shentsize != sizeof(Elf64_Shdr) || header->e_shnum > SECTIONS_MAX)
		return 0;
	int error = lw_elf_load(elf, header->e_shoff, header->e_shnum * sizeof(Elf64_Shdr), UINT64_MAX, (uint8_t **)&elf->sections);
	if (error)
		return error == -ENOMEM ? error : 0;
	elf->section_count = header->e_shnum;
	for (unsigned i = 0; i < elf->section_count; i++) {
		if (elf->sections[i].sh_type != SHT_NOBITS && !within(elf, elf->sections[i].sh_offset, elf->sections[i].sh_size))
			elf->sections[i] = (Elf64_Shdr){ .sh_type = SHT_NULL };
	}
	const Elf64_Shdr *names = lw_elf_section_at(elf, header->e_shstrndx);
	if (!names || names->sh_type != SHT_STRTAB)
		return 0;
	error = lw_elf_load(elf, names->sh_offset, names->sh_size, NAMES_MAX, &elf->names);
	elf->names_size = error ? 0 : names->sh_size;
	return error == -ENOMEM ? error : 0;
}

int lw_elf_open(const char *path)
{
	char name[32];
	struct stat status;
	int place = open(path, O_PATH | O_CLOEXEC), fd = -ENOEXEC;
	if (place < 0)
		return -errno;
	snprintf(name, sizeof(name), "/proc/self/fd/%d", place);
	if (!fstat(place, &status) && S_ISREG(status.st_mode)) {
		fd = open(name, O_RDONLY | O_CLOEXEC);
		fd = fd < 0 ? -errno : fd;
	}
	close(place);
	return fd;
}

int lw_elf_create(int fd, lw_elf **out)
{
	*out = NULL;
	lw_elf *elf = calloc(1, sizeof(*elf));
	if (!elf)
		return -ENOMEM;
	elf->fd = fd;
	Elf64_Ehdr header;
	int error = read_header(elf, &header);
	if (!error)
		error = read_segments(elf, &header);
	if (!error)
		error = read_sections(elf, &header);
	if (error) {
		lw_elf_destroy(elf);
		return error;
	}
	*out = elf;
	return 0;
}

void lw_elf_destroy(lw_elf *elf)
{
	if (!elf)
		return;
	free(elf->segments);
	free(elf->sections);
	free(elf->names);
	free(elf);
}

unsigned lw_elf_machine(const lw_elf *elf)
{
	return elf->machine;
}

const Elf64_Phdr *lw_elf_segments(const lw_elf *elf, unsigned *count)
{
	*count = elf->segment_count;
	return elf->segments;
}

const Elf64_Shdr *lw_elf_section_at(const lw_elf *elf, unsigned index)
{
	return index < elf->section_count ? &elf->sections[index] : NULL;
}

const Elf64_Shdr *lw_elf_section(const lw_elf *elf, const char *name)
{
	for (unsigned i = 0; i < elf->section_count; i++) {
		const Elf64_Shdr *section = &elf->sections[i];
		if (section->sh_type != SHT_NULL && section->sh_name < elf->names_size && !strcmp((const char *)elf->names + section->sh_name, name))
			return section;
	}
	return NULL;
}

const Elf64_Shdr *lw_elf_section_of(const lw_elf *elf, unsigned type)
{
	for (unsigned i = 0; i < elf->section_count; i++) {
		if (elf->sections[i].sh_type == type)
			return &elf->sections[i];
	}
	return NULL;
}

/* The segment that has ADDRESS in its part of the file; how many bytes of it are from there on. */
static const Elf64_Phdr *segment_of(const lw_elf *elf, uint64_t address, uint64_t *left)
{
	for (unsigned i = 0; i < elf->segment_count; i++) {
		const Elf64_Phdr *segment = &elf->segments[i];
		if (address >= segment->p_vaddr && address - segment->p_vaddr < segment->p_filesz) {
			*left = segment->p_filesz - (address - segment->p_vaddr);
			return segment;
		}
	}
	return NULL;
}

bool lw_elf_offset(const lw_elf *elf, uint64_t address, uint64_t size, uint64_t *offset)
{
	uint64_t left;
	const Elf64_Phdr *segment = segment_of(elf, address, &left);
	if (!segment || size > left)
		return false;
	*offset = segment->p_offset + (address - segment->p_vaddr);
	return true;
}

size_t lw_elf_read(const lw_elf *elf, uint64_t address, void *buffer, size_t size)
{
	uint64_t left, offset;
	if (!segment_of(elf, address, &left))
		return 0;
	if (size > left)
		size = left;
	return lw_elf_offset(elf, address, size, &offset) && !read_at(elf, offset, buffer, size) ? size : 0;
}

/* --- strings of .dynamic --- */

int lw_elf_strings(const lw_elf *elf, int64_t tag, int (*sink)(void *context, const char *string), void *context)
{
	const Elf64_Shdr *dynamic = lw_elf_section_of(elf, SHT_DYNAMIC), *strings = dynamic ? lw_elf_section_at(elf, dynamic->sh_link) : NULL;
	uint8_t *entries = NULL, *texts = NULL;
	if (!strings || strings->sh_type != SHT_STRTAB)
		return 0;
	int result = lw_elf_load(elf, dynamic->sh_offset, dynamic->sh_size, DYNAMIC_MAX, &entries);
	if (!result)
		result = lw_elf_load(elf, strings->sh_offset, strings->sh_size, STRINGS_MAX, &texts);
	if (result == -ENOEXEC)
		result = 0;
	for (uint64_t at = 0; texts && !result && dynamic->sh_size - at >= sizeof(Elf64_Dyn); at += sizeof(Elf64_Dyn)) {
		Elf64_Dyn entry;
		memcpy(&entry, entries + at, sizeof(entry));
		if (entry.d_tag == tag && entry.d_un.d_val < strings->sh_size)
			result = sink(context, (const char *)texts + entry.d_un.d_val);
	}
	free(entries);
	free(texts);
	return result;
}

/* --- symbols --- */

static void take_symbol(const Elf64_Sym *symbol, const char *name, uint32_t index, bool dynamic, struct lw_elf_symbol *symbols, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		if (symbols[i].address || strcmp(symbols[i].name, name))
			continue;
		if (dynamic) {
			symbols[i].wanted = true;
			symbols[i].index = index;
		}
		if (symbol->st_shndx != SHN_UNDEF && symbol->st_value) {
			symbols[i].address = symbol->st_value;
			symbols[i].size = symbol->st_size;
		}
	}
}

static int read_table(const lw_elf *elf, const Elf64_Shdr *table, struct lw_elf_symbol *symbols, unsigned count)
{
	const Elf64_Shdr *strings = lw_elf_section_at(elf, table->sh_link);
	if (table->sh_entsize != sizeof(Elf64_Sym) || !strings || strings->sh_type != SHT_STRTAB)
		return -ENOEXEC;
	uint8_t *names;
	int error = lw_elf_load(elf, strings->sh_offset, strings->sh_size, STRINGS_MAX, &names);
	if (error)
		return error;
	Elf64_Sym *chunk = malloc(SYMBOLS_CHUNK * sizeof(*chunk));
	if (!chunk)
		error = -ENOMEM;
	uint64_t all = table->sh_size / sizeof(*chunk);
	if (all > SYMBOLS_MAX)
		all = SYMBOLS_MAX;
	for (uint64_t first = 0; !error && first < all; first += SYMBOLS_CHUNK) {
		uint64_t here = all - first < SYMBOLS_CHUNK ? all - first : SYMBOLS_CHUNK;
		error = read_at(elf, table->sh_offset + first * sizeof(*chunk), chunk, here * sizeof(*chunk));
		for (uint64_t i = 0; !error && i < here; i++) {
			if (chunk[i].st_name < strings->sh_size)
				take_symbol(&chunk[i], (const char *)names + chunk[i].st_name, (uint32_t)(first + i), table->sh_type == SHT_DYNSYM, symbols, count);
		}
	}
	free(chunk);
	free(names);
	return error;
}

int lw_elf_symbols(const lw_elf *elf, struct lw_elf_symbol *symbols, unsigned count)
{
	static const unsigned tables[] = { SHT_DYNSYM, SHT_SYMTAB };
	for (unsigned i = 0; i < count; i++)
		symbols[i] = (struct lw_elf_symbol){ .name = symbols[i].name };
	for (unsigned t = 0; t < 2; t++) {
		bool missing = false;
		for (unsigned i = 0; i < count; i++)
			missing |= !symbols[i].address;
		const Elf64_Shdr *table = lw_elf_section_of(elf, tables[t]);
		if (missing && table && read_table(elf, table, symbols, count) == -ENOMEM)
			return -ENOMEM;
	}
	return 0;
}
