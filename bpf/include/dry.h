/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* `enitide packet` runs a packet through the live programs and maps by the kernel's test-run call. Such a run
 * says so in cb, and must leave nothing behind: no connection, fragment, count or event. Packets of the wire
 * and of pods cannot say it: the number is random, and 0 while nobody asks. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "maps.h"

/* Where to write what is asked, or NULL for every packet that is one. */
static __always_inline struct dry_run *dry_run_of(const struct __sk_buff *skb)
{
	struct dry_run *run;
	__u32 zero = 0;

	if (skb->cb[4] != DRY_RUN_MAGIC)
		return NULL;
	run = bpf_map_lookup_elem(&dry_runs, &zero);
	if (!run || !(run->number[0] | run->number[1]))
		return NULL;
	return run->number[0] == skb->cb[0] && run->number[1] == skb->cb[1] ? run : NULL;
}
