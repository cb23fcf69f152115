/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Transport headers, and how later fragments get those of the first. A fragment whose first one was not seen
 * or not let through is an orphan: it never passes by a rule that speaks of ports. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "config.h"
#include "maps.h"
#include "parse.h"
#include "workspace.h"

/* Now, in units of 256 ticks. */
static __always_inline __u32 clock_units(void)
{
	return bpf_jiffies64() >> TICKS_SHIFT;
}

/* `quoted`: inside an ICMP error, where 8 bytes must do. Returns 0 or a drop reason. */
static __always_inline int read_transport(struct __sk_buff *skb, const struct packet *packet,
					  struct transport *transport, bool quoted)
{
	struct {
		__be16 words[4];
		__u8 rest[8];
	} header = {};

	switch (packet->protocol) {
	case PROTOCOL_TCP:
		if (bpf_skb_load_bytes(skb, packet->transport, &header, quoted ? 8 : 14))
			return DROP_MALFORMED;
		transport->tcp = header.rest[5];
		break;
	case PROTOCOL_UDP:
	case PROTOCOL_SCTP:
		if (bpf_skb_load_bytes(skb, packet->transport, &header, 8))
			return DROP_MALFORMED;
		break;
	case PROTOCOL_ICMP:
	case PROTOCOL_ICMPV6:
		if (packet->protocol !=
		    (packet->source.family == FAMILY_IPV4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6))
			return 0;
		if (bpf_skb_load_bytes(skb, packet->transport, &header, 8))
			return DROP_MALFORMED;
		transport->source = bpf_ntohs(header.words[0]);
		transport->destination = bpf_ntohs(header.words[2]);
		return 0;
	default:
		return 0;
	}
	transport->source = bpf_ntohs(header.words[0]);
	transport->destination = bpf_ntohs(header.words[1]);
	return 0;
}

static __always_inline void fragment_key_of(const struct packet *packet, struct fragment_key *key)
{
	__builtin_memcpy(key->source, packet->source.words, 16);
	__builtin_memcpy(key->destination, packet->destination.words, 16);
	key->id = packet->fragment_id;
	key->family = packet->source.family;
	key->protocol = packet->source.family == FAMILY_IPV4 ? packet->protocol : 0;
	key->pad = 0;
}

/* What the first fragment of this one's datagram showed. Returns 0 or a drop reason. */
VERIFIED_ONCE int recall_fragment(struct packet *packet, struct transport *transport, __u32 now)
{
	struct fragment_key key;
	struct fragment *first;

	if (!packet || !transport)
		return DROP_ORPHAN_FRAGMENT;
	fragment_key_of(packet, &key);
	first = bpf_map_lookup_elem(&fragments, &key);
	if (!first || first->expires <= now)
		return DROP_ORPHAN_FRAGMENT;
	if (first->protocol == PROTOCOL_TCP && packet->flags & PACKET_TINY)
		return DROP_MALFORMED; /* would write over the flags that were judged (RFC 3128) */
	packet->protocol = first->protocol;
	transport->source = first->source_port;
	transport->destination = first->destination_port;
	return 0;
}

/* Remember a first fragment that was let through. On the way through the stack it is seen twice. */
VERIFIED_ONCE int remember_fragment(const struct packet *packet, const struct transport *transport, __u32 now)
{
	struct fragment_key key;
	struct fragment value = {}, *known;

	if (!packet || !transport)
		return 0;
	fragment_key_of(packet, &key);
	known = bpf_map_lookup_elem(&fragments, &key);
	value.source_port = transport->source;
	value.destination_port = transport->destination;
	value.protocol = packet->protocol;
	value.expires = now + node_config.life_fragment;
	if (known && known->expires == value.expires && known->source_port == value.source_port &&
	    known->destination_port == value.destination_port && known->protocol == value.protocol)
		return 0;
	return bpf_map_update_elem(&fragments, &key, &value, BPF_ANY);
}
