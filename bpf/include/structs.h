/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Every layout shared with Python (enitide_enidp.datapath.codec). Padding is spelled out and must be zero in
 * keys; sizes and offsets are asserted here and compared with the Python codec by a test. */
#pragma once

#include <linux/types.h>
#include <stddef.h>

#define LAYOUT_SIZE(type, size) _Static_assert(sizeof(struct type) == (size), #type " has another size")
#define LAYOUT(type, field, offset)                                                                          \
	_Static_assert(offsetof(struct type, field) == (offset), #type "." #field " has moved")

/* Constants of the node; .rodata, patched before the load and frozen by it. */
struct node_config {
	__u32 flags;
	__u32 event_rate; /* drop events per second for each reason and CPU */
	/* How long connections and fragments live without a packet, in units of 256 ticks. */
	__u32 life_tcp;
	__u32 life_tcp_opening; /* until both sides have been seen, and one segment without SYN */
	__u32 life_tcp_closing; /* after two FINs or a reset */
	__u32 life_other;
	__u32 life_fragment;
};
LAYOUT_SIZE(node_config, 28);
LAYOUT(node_config, flags, 0);
LAYOUT(node_config, event_rate, 4);
LAYOUT(node_config, life_tcp, 8);
LAYOUT(node_config, life_tcp_opening, 12);
LAYOUT(node_config, life_tcp_closing, 16);
LAYOUT(node_config, life_other, 20);
LAYOUT(node_config, life_fragment, 24);

/* Key: an address with its family, so that ::ffff:a.b.c.d can never stand for a.b.c.d. */
struct address {
	__u32 family;
	union {
		__u8 bytes[16]; /* network order; IPv4 in the first four, the rest zero */
		__u32 words[4];
	};
};
LAYOUT_SIZE(address, 20);
LAYOUT(address, family, 0);
LAYOUT(address, bytes, 4);

/* What a pod may do, by the ifindex of the host side of its veth. No record: nothing passes. */
struct endpoint {
	__u32 id;
	__u32 mark; /* the ENI's number under ENI_MARK_MASK */
	__u32 eni_ifindex;
	__u32 ipv4; /* network order, 0: none; so are the next three */
	__u32 gateway4;
	__u8 ipv6[16];
	__u8 gateway6[16];
	__u8 pod_mac[6];
	__u8 host_mac[6];
	__u32 policy; /* its place in `policies`, never 0 */
};
LAYOUT_SIZE(endpoint, 68);
LAYOUT(endpoint, id, 0);
LAYOUT(endpoint, mark, 4);
LAYOUT(endpoint, eni_ifindex, 8);
LAYOUT(endpoint, ipv4, 12);
LAYOUT(endpoint, gateway4, 16);
LAYOUT(endpoint, ipv6, 20);
LAYOUT(endpoint, gateway6, 36);
LAYOUT(endpoint, pod_mac, 52);
LAYOUT(endpoint, host_mac, 58);
LAYOUT(endpoint, policy, 64);

/* Where a pod address of this node lives. */
struct local_pod {
	__u32 ifindex;
	__u32 endpoint_id;
	__u32 policy; /* as in its endpoint */
	__u8 pod_mac[6]; /* the two stand as in a frame for the pod: destination, source */
	__u8 host_mac[6];
};
LAYOUT_SIZE(local_pod, 24);
LAYOUT(local_pod, ifindex, 0);
LAYOUT(local_pod, endpoint_id, 4);
LAYOUT(local_pod, policy, 8);
LAYOUT(local_pod, pod_mac, 12);
LAYOUT(local_pod, host_mac, 18);

/* A managed ENI, by ifindex. */
struct eni {
	__u32 mark; /* its number under ENI_MARK_MASK */
};
LAYOUT_SIZE(eni, 4);
LAYOUT(eni, mark, 0);

struct counter {
	__u64 packets;
	__u64 bytes;
};
LAYOUT_SIZE(counter, 16);
LAYOUT(counter, packets, 0);
LAYOUT(counter, bytes, 8);

/* Rate limit of the events of one reason on one CPU. */
struct event_budget {
	__u64 window_start_ns;
	__u32 sent;
	__u32 suppressed;
};
LAYOUT_SIZE(event_budget, 16);
LAYOUT(event_budget, window_start_ns, 0);
LAYOUT(event_budget, sent, 8);
LAYOUT(event_budget, suppressed, 12);

/* Which program set fills a half of `progs`: a hash over its objects and configuration, 0 for none. */
struct set_info {
	__u64 fingerprint;
};
LAYOUT_SIZE(set_info, 8);
LAYOUT(set_info, fingerprint, 0);

/* One packet that was dropped, or would have been, in the ring buffer. */
struct drop_event {
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u32 ifindex;
	__u32 endpoint_id; /* 0: unknown */
	__u32 length; /* of the frame, bytes */
	__u32 suppressed; /* drops of this reason on this CPU that had no event since the last one */
	__u8 reason;
	__u8 hook;
	__u8 family; /* 0: not IP; then the addresses are zero */
	__u8 protocol;
	__u16 ethertype; /* host order, as are the ports */
	__u16 source_port;
	__u16 destination_port;
	__u8 direction; /* whose policy said it; DIRECTION_NONE: no policy */
	__u8 audit; /* 1: let through */
	__u8 source[16];
	__u8 destination[16];
	__u32 ruleset; /* its place; 0: none, as are the next two then */
	__u32 identity; /* of the endpoint whose policy said it */
	__u32 peer; /* identity of the other end */
};
LAYOUT_SIZE(drop_event, 80);
LAYOUT(drop_event, time_ns, 0);
LAYOUT(drop_event, ifindex, 8);
LAYOUT(drop_event, endpoint_id, 12);
LAYOUT(drop_event, length, 16);
LAYOUT(drop_event, suppressed, 20);
LAYOUT(drop_event, reason, 24);
LAYOUT(drop_event, hook, 25);
LAYOUT(drop_event, family, 26);
LAYOUT(drop_event, protocol, 27);
LAYOUT(drop_event, ethertype, 28);
LAYOUT(drop_event, source_port, 30);
LAYOUT(drop_event, destination_port, 32);
LAYOUT(drop_event, direction, 34);
LAYOUT(drop_event, audit, 35);
LAYOUT(drop_event, source, 36);
LAYOUT(drop_event, destination, 52);
LAYOUT(drop_event, ruleset, 68);
LAYOUT(drop_event, identity, 72);
LAYOUT(drop_event, peer, 76);

/* What an endpoint may do and who it is. One word, so that a switch of policy or identity is one write. */
struct policy {
	__u32 identity;
	__u16 ruleset; /* its place in `rulesets`; 0: none yet, closed */
	__u16 flags;
};
LAYOUT_SIZE(policy, 8);
LAYOUT(policy, identity, 0);
LAYOUT(policy, ruleset, 4);
LAYOUT(policy, flags, 6);

/* One policy, shared by all endpoints that have it. Places are used again; the generation goes on counting.
 */
struct ruleset {
	__u32 id; /* the engine's; 0: free */
	__u32 generation; /* of what is said here; verdicts of another are asked again */
	__u32 flags;
	__u32 entries; /* in `rules`, for people */
	__u32 shapes[8]; /* direction x PEER_KINDS + kind of peer */
};
LAYOUT_SIZE(ruleset, 48);
LAYOUT(ruleset, id, 0);
LAYOUT(ruleset, generation, 4);
LAYOUT(ruleset, flags, 8);
LAYOUT(ruleset, entries, 12);
LAYOUT(ruleset, shapes, 16);

/* Key: one peer and L4 shape of one rule set. */
struct rule_key {
	__u16 ruleset;
	__u16 port; /* host order; bits beyond port_bits are 0 */
	__u32 identity;
	__u8 direction;
	__u8 peer;
	__u8 protocol; /* 0: any, then no port */
	__u8 port_bits;
};
LAYOUT_SIZE(rule_key, 12);
LAYOUT(rule_key, ruleset, 0);
LAYOUT(rule_key, port, 2);
LAYOUT(rule_key, identity, 4);
LAYOUT(rule_key, direction, 8);
LAYOUT(rule_key, peer, 9);
LAYOUT(rule_key, protocol, 10);
LAYOUT(rule_key, port_bits, 11);

/* What all tiers say of one key. A larger precedence is stronger; 0 with ACTION_NONE is absent. */
struct rule {
	__u32 admin_precedence;
	__u32 baseline_precedence;
	__u8 admin;
	__u8 baseline;
	__u8 middle; /* MIDDLE_* */
	__u8 pad;
};
LAYOUT_SIZE(rule, 12);
LAYOUT(rule, admin_precedence, 0);
LAYOUT(rule, baseline_precedence, 4);
LAYOUT(rule, admin, 8);
LAYOUT(rule, baseline, 9);
LAYOUT(rule, middle, 10);
LAYOUT(rule, pad, 11);

/* Key of `cidrs`: the family counts as the first 32 bits of the prefix. */
struct cidr_key {
	__u32 prefix_bits; /* 32 + those of the CIDR */
	__u32 family;
	__u32 words[4];
};
LAYOUT_SIZE(cidr_key, 24);
LAYOUT(cidr_key, prefix_bits, 0);
LAYOUT(cidr_key, family, 4);
LAYOUT(cidr_key, words, 8);

struct cidr {
	__u32 identity; /* of the longest CIDR that a policy names and that holds this one; 0: none */
	__u32 class; /* IDENTITY_WORLD, or IDENTITY_UNKNOWN inside the cluster's own networks */
};
LAYOUT_SIZE(cidr, 8);
LAYOUT(cidr, identity, 0);
LAYOUT(cidr, class, 4);

/* Key: both ends of a flow, the lower address (as words in network order, compared as they lie) first. Both
 * directions have the same key. ICMP echo: the asking end's port is the identifier, the other's is the
 * type << 8 | code of the request, and `asker` says which end asks. */
struct connection_key {
	__u32 low[4];
	__u32 high[4];
	__u16 low_port; /* host order, as the next */
	__u16 high_port;
	__u8 family;
	__u8 protocol;
	__u8 asker; /* 0: no ICMP; 1: low, 2: high */
	__u8 pad;
};
LAYOUT_SIZE(connection_key, 40);
LAYOUT(connection_key, low, 0);
LAYOUT(connection_key, high, 16);
LAYOUT(connection_key, low_port, 32);
LAYOUT(connection_key, high_port, 34);
LAYOUT(connection_key, family, 36);
LAYOUT(connection_key, protocol, 37);
LAYOUT(connection_key, asker, 38);
LAYOUT(connection_key, pad, 39);

/* One flow, both directions, both ends. A verdict word says what the policy of one end said, and when:
 * generation << 32 | epoch << 16 | rule set << 3 | outcome. Any difference to what holds now: ask again. */
struct connection {
	__u64 verdicts[2]; /* by direction: EGRESS of the initiator, INGRESS of the responder */
	__u64 checked[2]; /* `stamp` when a verdict was last found to hold, see established.h; 0: never */
	__u32 expires; /* units of 256 ticks; from then on the entry is as good as absent */
	__u32 identity; /* the initiator's, when it began; 0: not known to this node's policy */
	__u32 ingress_ifindex; /* the device it came in by; 0: from this node */
	__u8 flags;
	__u8 tcp;
	__u16 pad;
};
LAYOUT_SIZE(connection, 48);
LAYOUT(connection, verdicts, 0);
LAYOUT(connection, checked, 16);
LAYOUT(connection, expires, 32);
LAYOUT(connection, identity, 36);
LAYOUT(connection, ingress_ifindex, 40);
LAYOUT(connection, flags, 44);
LAYOUT(connection, tcp, 45);
LAYOUT(connection, pad, 46);

/* Key: the datagram that fragments belong to. */
struct fragment_key {
	__u32 source[4];
	__u32 destination[4];
	__u32 id;
	__u8 family;
	__u8 protocol; /* IPv4 only: IPv6 counts identifiers per pair of addresses */
	__u16 pad;
};
LAYOUT_SIZE(fragment_key, 40);
LAYOUT(fragment_key, source, 0);
LAYOUT(fragment_key, destination, 16);
LAYOUT(fragment_key, id, 32);
LAYOUT(fragment_key, family, 36);
LAYOUT(fragment_key, protocol, 37);
LAYOUT(fragment_key, pad, 38);

/* What only the first fragment shows. ICMP: type << 8 | code, and the identifier. */
struct fragment {
	__u16 source_port;
	__u16 destination_port;
	__u32 expires;
	__u8 protocol;
	__u8 pad[3];
};
LAYOUT_SIZE(fragment, 12);
LAYOUT(fragment, source_port, 0);
LAYOUT(fragment, destination_port, 2);
LAYOUT(fragment, expires, 4);
LAYOUT(fragment, protocol, 8);
LAYOUT(fragment, pad, 9);

/* One end's say in a dry run. */
struct asked {
	__u32 ruleset;
	__u32 identity; /* the end's own */
	__u32 peer; /* the other's; valid if `fresh` */
	__u32 cidr; /* the other's CIDR identity; 0: none asked for, or none */
	struct rule_key rule; /* the entry that decided; ruleset 0: the default */
	__u8 direction; /* DIRECTION_NONE: this end was not asked */
	__u8 outcome;
	__u8 fresh; /* 1: rules were looked up; 0: the connection remembered */
	__u8 tier; /* of `rule`: 1 admin, 2 middle, 3 baseline */
	__u16 flags; /* of the policy */
	__u16 pad;
};
LAYOUT_SIZE(asked, 36);
LAYOUT(asked, ruleset, 0);
LAYOUT(asked, identity, 4);
LAYOUT(asked, peer, 8);
LAYOUT(asked, cidr, 12);
LAYOUT(asked, rule, 16);
LAYOUT(asked, direction, 28);
LAYOUT(asked, outcome, 29);
LAYOUT(asked, fresh, 30);
LAYOUT(asked, tier, 31);
LAYOUT(asked, flags, 32);
LAYOUT(asked, pad, 34);

/* What a dry run is asked with and answers. Number 0: none is under way. */
struct dry_run {
	__u32 number[2];
	__u32 reason; /* 0: let through */
	__u32 path;
	struct connection_key key;
	struct connection connection; /* as found; expires 0: none */
	struct asked sender; /* by the policy of the pod that sends */
	struct asked receiver; /* by that of the pod that gets it */
};
LAYOUT_SIZE(dry_run, 176);
LAYOUT(dry_run, number, 0);
LAYOUT(dry_run, reason, 8);
LAYOUT(dry_run, path, 12);
LAYOUT(dry_run, key, 16);
LAYOUT(dry_run, connection, 56);
LAYOUT(dry_run, sender, 104);
LAYOUT(dry_run, receiver, 140);
