/* SPDX-License-Identifier: MIT */
/* event: records have no padding that a compiler chose: what a BPF program writes is what the loader reads, and no byte of it is left unset. */
#include "event.h"

#include <criterion/criterion.h>
#include <stddef.h>

/* Where the last member ends. */
#define END(type, member) (offsetof(type, member) + sizeof(((type *)0)->member))

Test(event, records_are_as_long_as_their_members)
{
	cr_expect_eq(sizeof(struct lw_event_head), 24);
	cr_expect_eq(offsetof(struct lw_event_head, ns), 16);
	cr_expect_eq(sizeof(struct lw_event_name), sizeof(struct lw_event_head) + LW_NAME_SIZE);
	cr_expect_eq(sizeof(struct lw_event_wait), sizeof(struct lw_event_head) + 24);
	cr_expect_eq(END(struct lw_event_span, clock), sizeof(struct lw_event_span));
	cr_expect_eq(sizeof(struct lw_clock), LW_CLASSES * sizeof(__u64));
}

Test(event, a_span_without_clock_is_a_head_of_one_with)
{
	cr_expect_eq(LW_EVENT_SPAN_SHORT, offsetof(struct lw_event_span, clock));
	cr_expect_eq(LW_EVENT_SPAN_SHORT % sizeof(__u64), 0);
}

Test(event, sites_are_as_long_as_their_members)
{
	cr_expect_eq(sizeof(struct lw_argument), 16);
	cr_expect_eq(sizeof(struct lw_site), 8 + LW_SITE_ARGUMENTS * sizeof(struct lw_argument));
}
