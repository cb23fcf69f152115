/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Counting what passed and what did not, and telling the agent about the latter. */
#pragma once

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "config.h"
#include "maps.h"
#include "parse.h"

#define NS_PER_S 1000000000ull

static __always_inline void count(void *map, __u32 key, __u32 bytes)
{
	struct counter *counter = bpf_map_lookup_elem(map, &key);

	if (counter) {
		counter->packets += 1;
		counter->bytes += bytes;
	}
}

/* Count a packet let through and return the verdict `action`. */
static __always_inline int pass(struct __sk_buff *skb, __u32 hook, __u32 path, int action)
{
	count(&forwards, hook * PATHS + path, skb->len);
	return action;
}

/* One more event of this reason on this CPU? If not, it is remembered as suppressed. */
static __always_inline struct event_budget *take_budget(__u32 reason, __u64 now_ns)
{
	struct event_budget *budget = bpf_map_lookup_elem(&event_budgets, &reason);

	if (!budget)
		return NULL;
	if (now_ns - budget->window_start_ns >= NS_PER_S) {
		budget->window_start_ns = now_ns;
		budget->sent = 0;
	}
	if (budget->sent >= node_config.event_rate) {
		budget->suppressed += 1;
		return NULL;
	}
	budget->sent += 1;
	return budget;
}

/* Not inlined, so that the BTF describes struct drop_event to the test that compares layouts. */
static __noinline int read_ports(struct __sk_buff *skb, const struct packet *packet, struct drop_event *event)
{
	__be16 ports[2];

	if (packet->flags & PACKET_NO_PORTS)
		return 0;
	if (packet->protocol != PROTOCOL_TCP && packet->protocol != PROTOCOL_UDP &&
	    packet->protocol != PROTOCOL_SCTP)
		return 0;
	if (bpf_skb_load_bytes(skb, packet->transport, ports, sizeof(ports)))
		return 0;
	event->source_port = bpf_ntohs(ports[0]);
	event->destination_port = bpf_ntohs(ports[1]);
	return 1;
}

/* Count a drop, tell of it if the rate allows, and return the verdict. Not inlined: drops are the cold path.
 */
static __noinline int drop(struct __sk_buff *skb, const struct packet *packet, __u32 endpoint_id,
			   __u32 reason_hook)
{
	const __u32 reason = reason_hook >> 8, hook = reason_hook & (HOOKS - 1);
	struct drop_event event = {};
	__u64 now_ns = bpf_ktime_get_ns();
	struct event_budget *budget;

	count(&drops, reason * HOOKS + hook, skb->len);
	budget = packet ? take_budget(reason, now_ns) : NULL;
	if (!budget)
		return TC_ACT_SHOT;
	event.time_ns = now_ns;
	event.ifindex = skb->ifindex;
	event.endpoint_id = endpoint_id;
	event.length = skb->len;
	event.suppressed = budget->suppressed;
	event.reason = reason;
	event.hook = hook;
	event.family = packet->source.family;
	event.protocol = packet->protocol;
	event.ethertype = bpf_ntohs(skb->protocol);
	__builtin_memcpy(event.source, packet->source.bytes, 16);
	__builtin_memcpy(event.destination, packet->destination.bytes, 16);
	read_ports(skb, packet, &event);
	if (bpf_ringbuf_output(&events, &event, sizeof(event), 0))
		budget->suppressed += 1; /* full: nobody reads */
	else
		budget->suppressed = 0;
	return TC_ACT_SHOT;
}
#define REASON_HOOK(reason, hook) ((reason) << 8 | (hook))
