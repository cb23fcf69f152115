/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Counting what passed and what did not, and telling the agent about the latter. */
#pragma once

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "config.h"
#include "dry.h"
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
	struct dry_run *dry = dry_run_of(skb);

	if (dry)
		dry->path = path;
	else
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

/* Whose policy said no. */
struct said {
	__u32 endpoint_id;
	__u32 ruleset;
	__u32 identity;
	__u32 peer;
	__u8 direction;
	__u8 audit;
	__u16 pad;
};

static __always_inline void fill(struct drop_event *event, struct __sk_buff *skb, const struct packet *packet,
				 __u32 endpoint_id, const struct said *said)
{
	__builtin_memset(event, 0, sizeof(*event));
	event->ifindex = skb->ifindex;
	event->endpoint_id = endpoint_id;
	event->length = skb->len;
	event->family = packet->source.family;
	event->protocol = packet->protocol;
	event->ethertype = bpf_ntohs(skb->protocol);
	event->direction = DIRECTION_NONE;
	__builtin_memcpy(event->source, packet->source.bytes, 16);
	__builtin_memcpy(event->destination, packet->destination.bytes, 16);
	if (said) {
		event->ruleset = said->ruleset;
		event->identity = said->identity;
		event->peer = said->peer;
		event->direction = said->direction;
		event->audit = said->audit;
	}
	read_ports(skb, packet, event);
}

/* Tell of a drop, or of what would have been one, if the rate allows. */
static __always_inline void tell(struct __sk_buff *skb, const struct packet *packet, __u32 endpoint_id,
				 __u32 reason_hook, const struct said *said)
{
	__u64 now_ns = bpf_ktime_get_ns();
	struct event_budget *budget = take_budget(reason_hook >> 8, now_ns);
	struct drop_event *event;

	if (!budget)
		return;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		budget->suppressed += 1; /* full: nobody reads */
		return;
	}
	fill(event, skb, packet, endpoint_id, said);
	event->time_ns = now_ns;
	event->suppressed = budget->suppressed;
	event->reason = reason_hook >> 8;
	event->hook = reason_hook & (HOOKS - 1);
	budget->suppressed = 0;
	bpf_ringbuf_submit(event, 0);
}

/* Count a drop, tell of it, and return the verdict. `said`: whose policy
 * it was, or NULL; if that policy only audits, the packet is counted apart and goes on. */
VERIFIED_ONCE int drop(struct __sk_buff *skb, const struct packet *packet, __u32 endpoint_id,
		       __u32 reason_hook, const struct said *said)
{
	const __u32 reason = reason_hook >> 8, hook = reason_hook & (HOOKS - 1);
	struct dry_run *dry = dry_run_of(skb);

	if (dry) {
		if (!said || !said->audit)
			dry->reason = reason;
		return TC_ACT_SHOT;
	}
	if (said && said->audit)
		count(&audits, reason * HOOKS + hook, skb->len);
	else
		count(&drops, reason * HOOKS + hook, skb->len);
	if (packet)
		tell(skb, packet, endpoint_id, reason_hook, said);
	return TC_ACT_SHOT;
}
#define REASON_HOOK(reason, hook) ((reason) << 8 | (hook))
