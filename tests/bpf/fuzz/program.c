/* SPDX-License-Identifier: MIT */
/*
 * program: any bytes, as what a target may have put into its file. The first byte selects how far they get:
 *
 *   0   notes of USDT; and the arguments of whatever probes they hold, for both machines
 *   1   arguments
 *   2   a file, as they are
 *   3   patches (offset of two bytes, a byte) of a file that is sound, with USDT
 *   4   the same of one without: its code is searched and decoded
 */
#include <errno.h>
#include <stdlib.h>

#include "../python_image.h"
#include "program.h"
#include "usdt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int take_probe(void *context, const struct lw_usdt *probe)
{
	static const unsigned machines[] = { EM_X86_64, EM_AARCH64 };
	for (unsigned m = 0; m < 2; m++) {
		const char *text = probe->arguments, *end = text + strlen(text), *before = text;
		struct lw_argument argument = { 0 };
		/* Every step gets further, and none beyond the end. */
		while (lw_argument_parse(machines[m], &text, &argument) != -ENOENT) {
			if (text <= before || text > end)
				abort();
			before = text;
		}
	}
	return 0;
}

static void read_text(const uint8_t *data, size_t size, bool notes)
{
	uint8_t *copy = malloc(size + 1);
	if (!copy)
		return;
	memcpy(copy, data, size);
	copy[size] = 0;
	const struct lw_usdt bare = { .arguments = (const char *)copy };
	if (notes)
		(void)lw_usdt_parse(copy, size, 0x5000, take_probe, NULL);
	else
		(void)take_probe(NULL, &bare);
	free(copy);
}

static void read_file(const uint8_t *data, size_t size)
{
	struct lw_program *program;
	char why[LW_PROGRAM_WHY];
	int fd = image_open(data, size);
	if (fd < 0)
		return;
	if (lw_program_read_open(fd, "/any", &program, why) == 0 && (program->count > LW_PROGRAM_SITES || program->count < 2))
		abort();
	lw_program_destroy(program);
}

static void read_patched(const uint8_t *data, size_t size, const char *done)
{
	struct image image;
	const struct image_plan plan = { .version = 0x030c, .characters = 40, .call = IMAGE_CALL_PLT, .done = done };
	image_make(&image, &plan);
	for (size_t at = 0; at + 3 <= size; at += 3)
		image.data[(data[at] | data[at + 1] << 8) % IMAGE_SIZE] = data[at + 2];
	read_file(image.data, sizeof(image.data));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	switch (data[0] % 5) {
	case 0:
	case 1:
		read_text(data + 1, size - 1, data[0] % 5 == 0);
		break;
	case 2:
		read_file(data + 1, size - 1);
		break;
	case 3:
		read_patched(data + 1, size - 1, "8@%rax -4@%edx");
		break;
	default:
		read_patched(data + 1, size - 1, NULL);
	}
	return 0;
}
