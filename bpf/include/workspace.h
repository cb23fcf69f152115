/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Room for what is too big for the stack. Private to an object and a CPU, and to one run on it: nothing here
 * outlives a packet, so another program set never sees it. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "parse.h"
#include "structs.h"

/* ICMP: type << 8 | code, and the identifier. Protocols without ports: zeros. */
struct transport {
	__u16 source;
	__u16 destination;
	__u8 tcp; /* TCP's flags; 0 in a later fragment */
	__u8 pad[3];
};

/* The part of a connection that a packet is: its key, which side its source is, and what kind of part. */
struct flow {
	struct connection_key key;
	struct transport transport;
	__u8 flipped; /* the packet's source is the key's high side */
	__u8 kind;
	__u16 pad;
};

/* A packet on its way through `admit`, and the end that is being asked. */
struct passage {
	struct flow flow;
	__u64 verdicts[2];
	__u64 stamp; /* of what holds now; 0: no rule set can be asked, and `reason` says why */
	struct policy policy;
	__u32 reason;
	__u32 initiator; /* its identity */
	__u32 now;
	__u32 ifindex; /* where it came into this node; 0: it began here */
	__u16 port; /* that policies speak of: the responder's; ICMP: type << 8 | code */
	__u8 forward;
	__u8 from_host;
	__u8 asked; /* a rule set was asked: the verdicts are to be kept */
	__u8 source; /* the other end, of which the policy speaks, is the packet's source */
	__u16 pad;
};

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
	struct passage passage;
	struct packet quoted;
	struct flow found;
	struct query query;
	struct fold fold;
	struct rule_key key;
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
