/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Room for what is too big for the stack. Private to an object and a CPU, and to one run on it: nothing here
 * outlives a packet, so another program set never sees it. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "parse.h"
#include "structs.h"

/* The first fields are asked, the rest is answered. */
struct query {
	struct address peer;
	__u16 ruleset;
	__u16 port;
	__u8 protocol;
	__u8 direction;
	__u8 known; /* the peer has an exact record */
	__u8 tier; /* which decided; TIER_NONE: the default */
	__u32 identity;
	__u32 cidr;
	struct rule_key decided;
};

/* The strongest hits so far, with their keys. */
struct fold {
	struct rule admin;
	struct rule_key admin_key;
	struct rule_key deny_key;
	struct rule_key allow_key;
	struct rule baseline;
	struct rule_key baseline_key;
	__u8 middle;
};

/* Too big for the stack; used within one run only. */
struct workspace {
	struct packet quoted;
	struct query query;
	struct fold fold;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct workspace);
} workspaces SEC(".maps");

static __always_inline struct workspace *workspace(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&workspaces, &zero);
}
