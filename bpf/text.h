/* SPDX-License-Identifier: MIT */
/*
 * text: words and strings in the forms that outputs want. Names of modules come out of other processes' memory: any bytes but NUL may be in them.
 */
#ifndef LW_BPF_TEXT_H
#define LW_BPF_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "model.h"

/** Bytes of the UTF-8 character at TEXT (as RFC 3629 has it: no surrogates, none in more bytes than needed); 0: it is none, or TEXT ends. */
size_t lw_text_character(const char *text);

/** TEXT as the inside of a JSON string; what is no UTF-8 becomes U+FFFD, byte by byte. */
void lw_write_json_text(FILE *out, const char *text);
/** TEXT for people and terminals: control characters (of C0 and C1, and those that change the direction of writing) become "?", what is no UTF-8 U+FFFD. */
void lw_write_plain(FILE *out, const char *text);
/** Whether lw_write_plain() writes TEXT as it is, and something. */
bool lw_text_is_plain(const char *text);
/** TEXT as the inside of a label's value for Prometheus: plain, and escaped. */
void lw_write_label(FILE *out, const char *text);

/** NS for people, right-aligned in 7 columns: " 12.3ms". */
enum { LW_DURATION = 16 };
const char *lw_text_duration(uint64_t ns, char text[LW_DURATION]);

/** "cpu", "queue", "module", "global", "gil", "futex", "disk", "sleep". */
const char *lw_class_name(enum lw_class class);
/** What is waited for, as JSON lines and Prometheus's labels call it: "module", "global", "gil", "other". */
const char *lw_wait_kind(enum lw_class class);
/** And as people do: "lock of a.b", "a module's lock", "global import lock", "GIL", "another lock". SIZE >= LW_WAIT_LABEL for all of it. */
enum { LW_WAIT_LABEL = LW_NAME_SIZE + 16 };
void lw_wait_label(const struct lw_wait *wait, char *out, size_t size);

#endif
