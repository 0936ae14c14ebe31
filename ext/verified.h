/* SPDX-License-Identifier: MIT */
/*
 * verified: digests of the stock import functions that Ladewerk has been verified against (see bootstrap.c). The code of these functions, not the
 * version number, decides: a release that does not change them needs no new line here. scripts/digests.py prints the lines.
 */
#ifndef LW_VERIFIED_H
#define LW_VERIFIED_H

enum flavour_name { FLAVOUR_311, FLAVOUR_31315, FLAVOUR_31318, FLAVOUR_3150, FLAVOUR_COUNT };

static const struct lw_flavour flavours[FLAVOUR_COUNT] = {
	[FLAVOUR_311] = { .sets_cached = true },
	[FLAVOUR_31315] = { .looks_again = true, .copies_finders = true, .sets_cached = true },
	[FLAVOUR_31318] = { .looks_again = true, .copies_finders = true, .none_is_absent = true, .waits_for_parent = true, .sets_cached = true },
	[FLAVOUR_3150] = { .looks_again = true, .copies_finders = true, .none_is_absent = true, .waits_for_parent = true, .parents_first = true },
};

struct verified {
	uint64_t hi, lo;
	enum flavour_name flavour;	/* of load digests */
};

static const struct verified verified_find[] = {
	{ 0x287bb2eef0b103f7, 0x1c58bed846f38ef5, FLAVOUR_311 }, /* 3.11.2, 3.11.7 */
	{ 0xdc7bfecd7f448582, 0x0a201f555856d253, FLAVOUR_311 }, /* 3.12.1 */
	{ 0xd2d6f14c4ec685f8, 0x2fafd341e754ad1f, FLAVOUR_311 }, /* 3.13.0 */
	{ 0x6fb945188fa714c9, 0x7a5a367d27e52590, FLAVOUR_31318 }, /* 3.13.15, 3.13.18 */
	{ 0x5848167718314069, 0x2877e2ad0ac3e944, FLAVOUR_31318 }, /* 3.14.10 */
	{ 0xa2e2d7cc08c53cbe, 0xfc554dbf9cb3abfb, FLAVOUR_3150 }, /* 3.15.2 */
};

static const struct verified verified_load[] = {
	{ 0x64381ae25b9e6a8e, 0xadbb3f913f7ebbed, FLAVOUR_311 }, /* 3.11.2 */
	{ 0xa86d600378f0ce38, 0x88930001cd73f6ef, FLAVOUR_311 }, /* 3.11.7 */
	{ 0xfb3b27819892abdf, 0x78dd5d10f4073383, FLAVOUR_311 }, /* 3.12.1 */
	{ 0xf6bc278cc87f9e09, 0xf468397d0429b0bd, FLAVOUR_311 }, /* 3.13.0 */
	{ 0xf3b717c57b9e5c3b, 0x38041829b1c0d7c7, FLAVOUR_31315 }, /* 3.13.15 */
	{ 0xf9a0554f09abade9, 0x4dd30e848dd97e29, FLAVOUR_31318 }, /* 3.13.18 */
	{ 0xc165d214969f0bbe, 0xe2fc3432282d0316, FLAVOUR_31318 }, /* 3.14.10 */
	{ 0x70f734afbd9bd8f3, 0x000c33af4a478fe8, FLAVOUR_3150 }, /* 3.15.2 */
};

#endif
