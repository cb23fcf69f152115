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
};
LAYOUT_SIZE(node_config, 8);
LAYOUT(node_config, flags, 0);
LAYOUT(node_config, event_rate, 4);

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
};
LAYOUT_SIZE(endpoint, 64);
LAYOUT(endpoint, id, 0);
LAYOUT(endpoint, mark, 4);
LAYOUT(endpoint, eni_ifindex, 8);
LAYOUT(endpoint, ipv4, 12);
LAYOUT(endpoint, gateway4, 16);
LAYOUT(endpoint, ipv6, 20);
LAYOUT(endpoint, gateway6, 36);
LAYOUT(endpoint, pod_mac, 52);
LAYOUT(endpoint, host_mac, 58);

/* Where a pod address of this node lives. */
struct local_pod {
	__u32 ifindex;
	__u32 endpoint_id;
	__u8 pod_mac[6]; /* the two stand as in a frame for the pod: destination, source */
	__u8 host_mac[6];
};
LAYOUT_SIZE(local_pod, 20);
LAYOUT(local_pod, ifindex, 0);
LAYOUT(local_pod, endpoint_id, 4);
LAYOUT(local_pod, pod_mac, 8);
LAYOUT(local_pod, host_mac, 14);

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

/* One drop, in the ring buffer. */
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
	__u16 pad;
	__u8 source[16];
	__u8 destination[16];
	__u32 pad2;
};
LAYOUT_SIZE(drop_event, 72);
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
LAYOUT(drop_event, pad, 34);
LAYOUT(drop_event, source, 36);
LAYOUT(drop_event, destination, 52);
LAYOUT(drop_event, pad2, 68);
