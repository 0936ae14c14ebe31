/* SPDX-License-Identifier: MIT */
/* rights: which capability is said to be missing; never one that is there. */
#include "rights.h"

#include <criterion/criterion.h>
#include <string.h>

Test(rights, the_missing_capability_is_named)
{
	static const struct { bool admin, bpf, perfmon; const char *said; bool borrowed; } cases[] = {
		{ false, false, false, "CAP_BPF and CAP_PERFMON are missing", false },
		{ false, true, false, "CAP_PERFMON is missing", false },
		{ false, false, true, "CAP_BPF is missing", false },
		{ false, true, true, NULL, false },
		{ true, false, false, NULL, false },
		{ true, true, true, "its capabilities are those of a user namespace", true },
		{ false, false, false, "CAP_BPF and CAP_PERFMON are missing", true },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct lw_rights rights = { .admin = cases[i].admin, .bpf = cases[i].bpf, .perfmon = cases[i].perfmon, .borrowed = cases[i].borrowed };
		char text[256] = "";
		cr_assert_eq(lw_rights_missing(&rights, text, sizeof(text)), cases[i].said != NULL, "case %zu", i);
		if (cases[i].said)
			cr_expect(strncmp(text, cases[i].said, strlen(cases[i].said)) == 0, "%s", text);
	}
}

Test(rights, this_kernel_has_a_version)
{
	struct lw_rights rights;
	lw_rights_ask(&rights);
	cr_expect_geq(rights.kernel, 0x030000u);
}
