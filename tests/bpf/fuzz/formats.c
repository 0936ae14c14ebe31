/* SPDX-License-Identifier: MIT */
/*
 * formats: any events with any names, through the model into every format. None may fall over; what claims to be JSON must be, whatever a target calls its modules; and frames of
 * speedscope must be balanced. Each event is made of four bytes or more, so that what the fuzzer changes is order, threads and names, not lengths.
 */
#include "writer.h"

#include <stdlib.h>
#include <string.h>

#define MUST(condition) \
	do { \
		if (!(condition)) \
			abort(); \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* JSON, as RFC 8259 has it */

static const char *skip_space(const char *at)
{
	return at + strspn(at, " \n\r\t");
}

static const char *skip_string(const char *at)
{
	MUST(*at++ == '"');
	while (*at != '"') {
		size_t character = lw_text_character(at);
		MUST(character && (unsigned char)*at >= 0x20);
		if (*at == '\\') {
			MUST(at[1] && strchr("\"\\/bfnrtu", at[1]));
			MUST(at[1] != 'u' || strspn(at + 2, "0123456789abcdefABCDEF") >= 4);
			at++;
		}
		at += character;
	}
	return at + 1;
}

static const char *skip_number(const char *at)
{
	const char *digits = at + (*at == '-');
	size_t count = strspn(digits, "0123456789");
	MUST(count && (count == 1 || *digits != '0'));
	at = digits + count;
	if (*at == '.') {
		count = strspn(at + 1, "0123456789");
		MUST(count);
		at += 1 + count;
	}
	return at;
}

static const char *skip_word(const char *at)
{
	static const char *const words[] = { "true", "false", "null" };
	for (unsigned i = 0; i < 3; i++) {
		if (strncmp(at, words[i], strlen(words[i])) == 0)
			return at + strlen(words[i]);
	}
	return skip_number(at);
}

static const char *skip_value(const char *at)
{
	at = skip_space(at);
	if (*at == '"')
		return skip_space(skip_string(at));
	if (*at != '{' && *at != '[')
		return skip_space(skip_word(at));
	bool object = *at == '{';
	char close = object ? '}' : ']';
	at = skip_space(at + 1);
	for (bool first = true; *at != close; first = false) {
		if (!first)
			MUST(*at++ == ',');
		if (object) {
			at = skip_space(skip_string(skip_space(at)));
			MUST(*at++ == ':');
		}
		at = skip_value(at);
	}
	return skip_space(at + 1);
}

static void check_json(const char *text, bool lines)
{
	do
		text = skip_value(text);
	while (lines && *text);
	MUST(!*text);
}

static void check_speedscope(const char *text)
{
	int open = 0;
	for (const char *at = text; (at = strstr(at, "{\"type\":\"")); at++) {
		open += at[9] == 'O' ? 1 : at[9] == 'C' ? -1 : 0;
		MUST(open >= 0);
	}
	MUST(open == 0);
}

/* Events */

struct input {
	const uint8_t *data;
	size_t size;
};

static uint8_t byte(struct input *input)
{
	if (!input->size)
		return 0;
	input->size--;
	return *input->data++;
}

static void send_name(lw_model *model, struct input *input, struct lw_event_head head)
{
	struct lw_event_name name = { .head = head };
	size_t length = byte(input);
	length = length < input->size ? length : input->size;
	memcpy(name.text, input->data, length < LW_NAME_SIZE ? length : LW_NAME_SIZE);
	input->data += length;
	input->size -= length;
	lw_model_event(model, &name.head, sizeof(name));
}

static void send_span(lw_model *model, struct input *input, struct lw_event_head head)
{
	struct lw_event_span span = { .head = head, .importer = byte(input) % 8, .frame = byte(input) * 16 };
	for (unsigned i = 0; i < LW_CLASSES; i++)
		span.clock.ns[i] = head.ns / (i + 1);
	lw_model_event(model, &span.head, head.flags & LW_EVENT_CLOCKED ? sizeof(span) : LW_EVENT_SPAN_SHORT);
}

static void send_wait(lw_model *model, struct input *input, struct lw_event_head head)
{
	struct lw_event_wait wait = { .head = head, .wait_ns = byte(input) * 100, .queue_ns = byte(input), .waker = 100 + byte(input) % 4 };
	wait.head.ns -= wait.wait_ns + wait.queue_ns;
	lw_model_event(model, &wait.head, sizeof(wait));
}

static void play(lw_model *model, struct input input)
{
	uint64_t ns = 1000000;
	while (input.size) {
		uint8_t what = byte(&input), who = byte(&input), name = byte(&input);
		ns += byte(&input) * 10;
		struct lw_event_head head = {
			.kind = what % 8, .flags = what >> 3 & (LW_EVENT_FAILED | LW_EVENT_UNKNOWN | LW_EVENT_CUT | LW_EVENT_CLOCKED), .source = who >> 6, .detail = name >> 4,
			.pid = 100 + (who >> 2) % 2, .tid = 100 + who % 4, .name = name % 8, .ns = ns,
		};
		if (head.kind == LW_EVENT_NAME)
			send_name(model, &input, head);
		else if (head.kind == LW_EVENT_START || head.kind == LW_EVENT_DONE)
			send_span(model, &input, head);
		else if (head.kind == LW_EVENT_WAIT)
			send_wait(model, &input, head);
		else
			lw_model_event(model, &head, sizeof(head));
	}
	lw_model_end(model, ns + 10);
}

/* A format, and what it wrote. */
struct output {
	const struct lw_format *format;
	lw_writer *writer;
	FILE *out;
	char *text;
	size_t length;
};

static void begin(struct output *output, const struct lw_format *format, const lw_totals *totals)
{
	output->format = format;
	output->out = open_memstream(&output->text, &output->length);
	MUST(output->out);
	struct lw_writer_setup setup = { .out = output->out, .totals = totals, .labels = 3, .begin_ns = 1000000 };
	MUST(format->create(&setup, &output->writer) == 0);
}

static void end(struct output *output)
{
	output->format->end(output->writer, &(struct lw_ending){ .end_ns = 2000000, .note = "\x1b\xff" });
	output->format->destroy(output->writer);
	MUST(fclose(output->out) == 0);
	bool lines = strcmp(output->format->option, "json") == 0, speedscope = strcmp(output->format->option, "speedscope") == 0;
	if (lines || speedscope || strcmp(output->format->option, "chrome") == 0)
		check_json(output->text, lines);
	if (speedscope)
		check_speedscope(output->text);
	free(output->text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum { MOST = 16 };
	struct output outputs[MOST] = { { 0 } };
	struct lw_listener listeners[1 + MOST];
	lw_totals *totals = lw_totals_create();
	MUST(totals);
	listeners[0] = lw_totals_listener(totals);
	unsigned count = 0;
	for (const struct lw_format *format; (format = lw_format_at(count)); count++) {
		MUST(count < MOST);
		begin(&outputs[count], format, totals);
		listeners[1 + count] = format->listener(outputs[count].writer);
	}
	lw_model *model = lw_model_create(listeners, 1 + count);
	MUST(model);
	play(model, (struct input){ data, size });
	while (count--)
		end(&outputs[count]);
	lw_model_destroy(model);
	lw_totals_destroy(totals);
	return 0;
}
