/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* The node itself as an end. Policy holds for it only where somebody asked for that (POLICY_HOST), and its
 * flag is set only after the first full sync: a node must never lock itself out. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "admit.h"
#include "maps.h"
#include "parse.h"

/* Does policy hold for the node? */
static __always_inline bool is_host_asked(void)
{
	const __u32 place = HOST_PLACE;
	const struct policy *host = bpf_map_lookup_elem(&policies, &place);

	return host && host->flags & POLICY_HOST;
}

/* Make `end` the node if policy holds for it and `address` is one of its own. What only the link or the
 * metadata service has is never asked. */
static __always_inline void host_end(struct end *end, const struct address *address)
{
	if (!is_host_asked() || !bpf_map_lookup_elem(&node_addresses, address))
		return;
	end->place = HOST_PLACE;
	end->endpoint_id = 0;
}
