/* SPDX-License-Identifier: MIT */
/*
 * python_image: ELF files that look like a Python's, as small as they can be: _PyRuntime with the interned str, the code that calls _find_and_load(), symbols, relocations, notes.
 * Code is at addresses that are its offsets in the file; data is HIGHER, so that who confuses the two is found out.
 */
#ifndef LW_TESTS_BPF_PYTHON_IMAGE_H
#define LW_TESTS_BPF_PYTHON_IMAGE_H

#include <elf.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>

enum {
	IMAGE_CODE = 0x400, IMAGE_CODE_SIZE = 0x200, IMAGE_PLT = 0x580, IMAGE_FUNCTION = 0x5c0, IMAGE_VERSION = 0x5e0,
	IMAGE_NOTES = 0x600, IMAGE_DYNSYM = 0x800, IMAGE_DYNSTR = 0x900, IMAGE_RELA = 0xa00, IMAGE_NAMES = 0xb00, IMAGE_SECTIONS = 0xc00,
	IMAGE_DATA = 0x1000, IMAGE_HIGHER = 0x20000, IMAGE_RUNTIME = IMAGE_DATA, IMAGE_RUNTIME_SIZE = 0x800, IMAGE_STR = IMAGE_RUNTIME + 0x400,
	IMAGE_SLOT = IMAGE_DATA + 0x900, IMAGE_SEMAPHORES = IMAGE_DATA + 0x910, IMAGE_SIZE = 0x2000,
};

enum image_name { IMAGE_BY_RIP, IMAGE_BY_CONSTANT, IMAGE_BY_RUNTIME, IMAGE_BY_RUNTIME_R12, IMAGE_BY_ADDITION, IMAGE_BY_NOTHING };
enum image_call { IMAGE_CALL_DIRECT, IMAGE_CALL_PLT, IMAGE_CALL_PLT_ENDBR, IMAGE_CALL_SLOT, IMAGE_CALL_OTHER };

struct image_plan {
	unsigned version;		/* 0x030c */
	unsigned characters;		/* where in a str they are: 40, 48, 56 */
	enum image_name name;
	enum image_call call;
	const uint8_t *behind;		/* code after the call, BEHIND_SIZE bytes; NULL: test, jne */
	size_t behind_size;
	const char *done;		/* arguments of USDT's probes; NULL: there are none */
	bool stripped;			/* no symbols */
};

struct image {
	uint8_t data[IMAGE_SIZE];
	uint64_t call, behind;		/* addresses */
};

static inline void image_put(struct image *image, uint64_t at, const void *data, size_t size)
{
	memcpy(image->data + at, data, size);
}

static inline void image_put32(struct image *image, uint64_t at, uint64_t value)
{
	uint32_t word = (uint32_t)value;
	image_put(image, at, &word, sizeof(word));
}

static inline uint64_t image_bytes(struct image *image, uint64_t at, const char *bytes, size_t size)
{
	image_put(image, at, bytes, size);
	return at + size;
}

/* The instruction that takes the str's address; the address behind it. */
static inline uint64_t image_take_name(struct image *image, uint64_t at, enum image_name name)
{
	const uint64_t object = IMAGE_STR + IMAGE_HIGHER, runtime = IMAGE_RUNTIME + IMAGE_HIGHER;
	static const struct { const char *bytes; size_t size; } before[] = {
		[IMAGE_BY_RIP] = { "\x48\x8d\x35", 3 }, [IMAGE_BY_CONSTANT] = { "\xbe", 1 }, [IMAGE_BY_RUNTIME] = { "\x48\x8d\xb0", 3 }, [IMAGE_BY_RUNTIME_R12] = { "\x49\x8d\xb4\x24", 4 },
		[IMAGE_BY_ADDITION] = { "\x48\x81\xc6", 3 }, [IMAGE_BY_NOTHING] = { "\x48\x8d\x35", 3 },
	};
	at = image_bytes(image, at, before[name].bytes, before[name].size);
	image_put32(image, at, name == IMAGE_BY_RIP ? object - (at + 4) : name == IMAGE_BY_CONSTANT ? object : name == IMAGE_BY_NOTHING ? 0 : object - runtime);
	return at + 4;
}

static inline void image_code(struct image *image, const struct image_plan *plan)
{
	static const char jne[] = "\x48\x89\xc3\x48\x85\xdb\x0f\x85";		/* mov %rax,%rbx; test %rbx,%rbx; jne */
	uint64_t at = image_take_name(image, IMAGE_CODE + 0x20, plan->name);
	at = image_bytes(image, at, "\x48\x89\xda\x31\xc0", 5);			/* mov %rbx,%rdx; xor %eax,%eax */
	image->call = at;
	if (plan->call == IMAGE_CALL_SLOT) {
		at = image_bytes(image, at, "\xff\x15", 2);
		image_put32(image, at, IMAGE_SLOT + IMAGE_HIGHER - (at + 4));
	} else {
		uint64_t target = plan->call == IMAGE_CALL_DIRECT ? IMAGE_FUNCTION : plan->call == IMAGE_CALL_OTHER ? IMAGE_CODE : IMAGE_PLT;
		at = image_bytes(image, at, "\xe8", 1);
		image_put32(image, at, target - (at + 4));
	}
	image->behind = at += 4;
	if (plan->behind)
		image_put(image, at, plan->behind, plan->behind_size);
	else
		image_put(image, at, jne, sizeof(jne) - 1);
	at = IMAGE_PLT;
	if (plan->call == IMAGE_CALL_PLT_ENDBR)
		at = image_bytes(image, at, "\xf3\x0f\x1e\xfa\xf2", 5);
	at = image_bytes(image, at, "\xff\x25", 2);
	image_put32(image, at, IMAGE_SLOT + IMAGE_HIGHER - (at + 4));
	image_put(image, IMAGE_FUNCTION, "\xc3", 1);
}

static inline void image_runtime(struct image *image, const struct image_plan *plan)
{
	int64_t count = plan->characters == 56 ? 0 : 1000, length = 14;
	/* The same text as part of another, which is no str of that name. */
	image_put(image, IMAGE_RUNTIME + 0x200, "_call_find_and_load", 20);
	image_put(image, IMAGE_STR + (plan->characters == 56 ? 16 : 0), &count, sizeof(count));
	image_put(image, IMAGE_STR + (plan->characters == 56 ? 32 : 16), &length, sizeof(length));
	image_put(image, IMAGE_STR + plan->characters, "_find_and_load", 15);
}

static inline size_t image_note(struct image *image, uint64_t at, uint64_t address, uint64_t semaphore, const char *name, const char *arguments)
{
	uint64_t addresses[3] = { address, 0x7000, semaphore };
	char strings[200];
	size_t size = (size_t)snprintf(strings, sizeof(strings), "python%c%s%c%s", 0, name, 0, arguments) + 1;
	Elf64_Nhdr header = { 8, (uint32_t)(24 + size), 3 };
	image_put(image, at, &header, sizeof(header));
	image_put(image, at + 12, "stapsdt", 8);
	image_put(image, at + 20, addresses, 24);
	image_put(image, at + 44, strings, size);
	return 44 + ((size + 3) & ~(size_t)3);
}

static inline size_t image_notes(struct image *image, const struct image_plan *plan)
{
	size_t size = 0;
	if (!plan->done)
		return 0;
	size += image_note(image, IMAGE_NOTES, IMAGE_CODE, IMAGE_SEMAPHORES + IMAGE_HIGHER, "import__find__load__start", "8@%rax");
	size += image_note(image, IMAGE_NOTES + size, IMAGE_CODE + 8, IMAGE_SEMAPHORES + IMAGE_HIGHER + 2, "import__find__load__done", plan->done);
	memset(image->data + IMAGE_CODE, 0x90, 16);
	return size;
}

static inline void image_symbols(struct image *image, const struct image_plan *plan)
{
	static const char strings[] = "\0_PyRuntime\0Py_Version\0PyObject_CallMethodObjArgs";
	const Elf64_Sym symbols[] = {
		{ 0 }, { 1, 0, 0, 1, IMAGE_RUNTIME + IMAGE_HIGHER, IMAGE_RUNTIME_SIZE }, { 12, 0, 0, 1, IMAGE_VERSION, 8 },
		{ 23, 0, 0, 1, IMAGE_FUNCTION, 16 },
	};
	const Elf64_Rela relocation = { IMAGE_SLOT + IMAGE_HIGHER, ELF64_R_INFO(3, R_X86_64_JUMP_SLOT), 0 };
	uint64_t version = (uint64_t)plan->version << 16 | 0x01f0;
	image_put(image, IMAGE_DYNSTR, strings, sizeof(strings));
	image_put(image, IMAGE_DYNSYM, symbols, sizeof(symbols));
	image_put(image, IMAGE_RELA, &relocation, sizeof(relocation));
	image_put(image, IMAGE_VERSION, &version, sizeof(version));
}

static inline void image_sections(struct image *image, const struct image_plan *plan, size_t notes)
{
	static const char names[] = "\0.dynsym\0.dynstr\0.rela.plt\0.note.stapsdt\0.stapsdt.base\0.shstrtab\0.PyRuntime";
	const Elf64_Shdr sections[] = {
		{ 0 },
		{ .sh_name = 1, .sh_type = plan->stripped ? SHT_NULL : SHT_DYNSYM, .sh_offset = IMAGE_DYNSYM, .sh_size = 4 * sizeof(Elf64_Sym), .sh_link = 2, .sh_entsize = sizeof(Elf64_Sym) },
		{ .sh_name = 9, .sh_type = SHT_STRTAB, .sh_offset = IMAGE_DYNSTR, .sh_size = 0x80 },
		{ .sh_name = 17, .sh_type = SHT_RELA, .sh_offset = IMAGE_RELA, .sh_size = sizeof(Elf64_Rela) },
		{ .sh_name = 27, .sh_type = SHT_NOTE, .sh_offset = IMAGE_NOTES, .sh_size = notes },
		{ .sh_name = 41, .sh_type = SHT_PROGBITS, .sh_addr = 0x7000, .sh_offset = IMAGE_NOTES, .sh_size = 1 },
		{ .sh_name = 55, .sh_type = SHT_STRTAB, .sh_offset = IMAGE_NAMES, .sh_size = sizeof(names) },
		{ .sh_name = 65, .sh_type = SHT_PROGBITS, .sh_addr = IMAGE_RUNTIME + IMAGE_HIGHER, .sh_offset = IMAGE_RUNTIME, .sh_size = IMAGE_RUNTIME_SIZE },
	};
	image_put(image, IMAGE_NAMES, names, sizeof(names));
	image_put(image, IMAGE_SECTIONS, sections, sizeof(sections));
}

static inline void image_make(struct image *image, const struct image_plan *plan)
{
	const Elf64_Phdr segments[] = {
		{ .p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_filesz = IMAGE_DATA, .p_memsz = IMAGE_DATA },
		{ .p_type = PT_LOAD, .p_flags = PF_R | PF_W, .p_offset = IMAGE_DATA, .p_vaddr = IMAGE_DATA + IMAGE_HIGHER, .p_filesz = IMAGE_SIZE - IMAGE_DATA, .p_memsz = IMAGE_SIZE },
	};
	const Elf64_Ehdr header = {
		.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT }, .e_type = ET_DYN, .e_machine = EM_X86_64, .e_version = EV_CURRENT, .e_phoff = sizeof(header),
		.e_shoff = IMAGE_SECTIONS, .e_ehsize = sizeof(header), .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 2, .e_shentsize = sizeof(Elf64_Shdr), .e_shnum = 8, .e_shstrndx = 6,
	};
	memset(image, 0, sizeof(*image));
	memset(image->data + IMAGE_CODE, 0xcc, IMAGE_CODE_SIZE);
	image_put(image, 0, &header, sizeof(header));
	image_put(image, sizeof(header), segments, sizeof(segments));
	image_runtime(image, plan);
	image_code(image, plan);
	image_symbols(image, plan);
	image_sections(image, plan, image_notes(image, plan));
}

/* A file with SIZE bytes of DATA, without a name; -1: impossible. */
static inline int image_open(const uint8_t *data, size_t size)
{
	int fd = memfd_create("image", MFD_CLOEXEC);
	for (size_t at = 0; fd >= 0 && at < size;) {
		ssize_t written = write(fd, data + at, size - at);
		if (written <= 0) {
			close(fd);
			return -1;
		}
		at += (size_t)written;
	}
	return fd;
}

#endif
