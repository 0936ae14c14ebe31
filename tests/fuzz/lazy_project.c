/* SPDX-License-Identifier: MIT */
/*
 * lazy_project: any text at all as a pyproject.toml. The first byte selects how far it gets:
 *
 *   0   as it is
 *   1   behind the header of the table
 *   2   as the items of `exclude`
 *
 * What is taken comes out as rules that a policy takes, and that are asked about names; what is refused has a reason, with its line.
 */
#include "lazy.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool so)
{
	if (!so)
		abort();
}

static void ask(const char *rules)
{
	const char *roots[] = { "/own", NULL };
	char reason[LW_LAZY_REASON];
	lw_lazy_policy *policy = lw_lazy_policy_create(LW_LAZY_OWN, rules, roots, reason, sizeof(reason));
	must(policy);
	struct lw_lazy_importer own = lw_lazy_policy_importer(policy, "a.b", "/own/a/b.py");
	must(own.own);
	must(!own.never || !lw_lazy_policy_allows(policy, "a.b", own, "c", "d"));
	lw_lazy_policy_taints(policy, "c.d", NULL);
	lw_lazy_policy_destroy(policy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct {
		const char *head, *tail;
	} frames[] = { { "", "" }, { "[tool.ladewerk.lazy]\n", "" }, { "[tool.ladewerk.lazy]\nexclude = [", "]\n" } };
	if (!size)
		return 0;
	const char *head = frames[*data % 3].head, *tail = frames[*data % 3].tail;
	/* Exactly as long as it is, so that reading behind it is noticed. */
	char *text = malloc(strlen(head) + size + strlen(tail)), *at = stpcpy(text, head);
	memcpy(at, data + 1, size - 1);
	strcpy(at + size - 1, tail);
	struct lw_lazy_project project;
	lw_lazy_project_parse(text, &project);
	if (project.reason[0])
		must(strncmp(project.reason, "line ", 5) == 0);
	else
		ask(project.rules);
	lw_lazy_project_clear(&project);
	free(text);
	return 0;
}
