/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* From a packet to the flow it belongs to: ports, the key both directions share, and what kind of part it is.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "fragments.h"
#include "parse.h"
#include "workspace.h"

#define FLOW_TRACKED 0 /* begins a connection or belongs to one */
#define FLOW_REPLY   1 /* an ICMP echo reply: belongs to a connection or stands alone */
#define FLOW_RELATED 2 /* an ICMP error about a connection, seen as its packet the other way */
#define FLOW_SINGLE  3 /* stands alone: other ICMP */

#define TCP_FLAG_FIN 0x01
#define TCP_FLAG_SYN 0x02
#define TCP_FLAG_RST 0x04
#define TCP_FLAG_ACK 0x10

static __always_inline bool is_icmp(__u8 family, __u8 protocol)
{
	return protocol == (family == FAMILY_IPV4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6);
}

static __always_inline bool is_echo(__u8 family, __u8 type, bool reply)
{
	if (family == FAMILY_IPV4)
		return type == (reply ? 0 : 8);
	return type == (reply ? 129 : 128);
}

static __always_inline bool is_error(__u8 family, __u8 type)
{
	if (family == FAMILY_IPV4)
		return type == 3 || type == 11 || type == 12;
	return type >= 1 && type <= 4;
}

/* The order of two addresses in keys: any total order will do, so words as they lie. */
static __always_inline int order(const __u32 *left, const __u32 *right)
{
#pragma unroll
	for (int i = 0; i < 4; i++) {
		if (left[i] != right[i])
			return left[i] < right[i] ? -1 : 1;
	}
	return 0;
}

/* Fill key and kind from the packet and its transport header. */
static __always_inline void set_flow(struct flow *flow, const struct packet *packet,
				     const struct transport *transport)
{
	const __u8 family = packet->source.family;
	__u16 source_port = transport->source, destination_port = transport->destination;
	bool asks = false, icmp = is_icmp(family, packet->protocol);
	int ordered = order(packet->source.words, packet->destination.words);

	flow->kind = FLOW_TRACKED;
	if (icmp) {
		const __u16 type_code = transport->source, id = transport->destination;

		asks = is_echo(family, type_code >> 8, false);
		if (asks) {
			source_port = id;
			destination_port = type_code;
		} else if (is_echo(family, type_code >> 8, true)) {
			flow->kind = FLOW_REPLY;
			source_port = family == FAMILY_IPV4 ? 8 << 8 : 128 << 8;
			destination_port = id;
		} else {
			flow->kind = FLOW_SINGLE;
		}
	}
	flow->flipped = ordered > 0 || (!ordered && source_port > destination_port);
	__builtin_memcpy(flow->key.low, flow->flipped ? packet->destination.words : packet->source.words, 16);
	__builtin_memcpy(flow->key.high, flow->flipped ? packet->source.words : packet->destination.words,
			 16);
	flow->key.low_port = flow->flipped ? destination_port : source_port;
	flow->key.high_port = flow->flipped ? source_port : destination_port;
	flow->key.family = family;
	flow->key.protocol = packet->protocol;
	flow->key.asker = icmp ? 1 + (asks == flow->flipped) : 0;
	flow->key.pad = 0;
}

/* The same for an error about nothing that we know: it stands alone. */
VERIFIED_ONCE int set_single(struct flow *flow, const struct packet *packet)
{
	if (flow && packet)
		set_flow(flow, packet, &flow->transport);
	return 0;
}

/* Addresses, protocol and place of the transport header of a quoted packet, which may be cut short. */
static __always_inline bool read_quoted_header(struct __sk_buff *skb, struct packet *quoted, __u32 offset,
					       __u32 family)
{
	__u32 words[3];

	quoted->source.family = quoted->destination.family = family;
	if (bpf_skb_load_bytes(skb, offset, words, sizeof(words)))
		return false;
	if (family == FAMILY_IPV4) {
		const __u8 *bytes = (const __u8 *)words;
		const __u32 header = (bytes[0] & 0xf) * 4;

		quoted->protocol = bytes[9];
		quoted->transport = offset + header;
		return bytes[0] >> 4 == 4 && header >= 20 && !(words[1] & bpf_htonl(0x1fff)) &&
		       !bpf_skb_load_bytes(skb, offset + 12, quoted->source.bytes, 4) &&
		       !bpf_skb_load_bytes(skb, offset + 16, quoted->destination.bytes, 4);
	}
	quoted->protocol = bpf_ntohl(words[1]) >> 8;
	quoted->transport = offset + 40;
	if ((bpf_ntohl(words[0]) >> 28) != 6 ||
	    bpf_skb_load_bytes(skb, offset + 8, quoted->source.bytes, 16) ||
	    bpf_skb_load_bytes(skb, offset + 24, quoted->destination.bytes, 16))
		return false;
	return !(is_extension(quoted->protocol) && walk_extensions(skb, quoted)) &&
	       !(quoted->flags & PACKET_NO_PORTS);
}

/* The packet that an ICMP error quotes, if it is one that `packet`'s destination sent. A pod (`strict`) may
 * tell only of packets that were sent to it. On success `flow` is the connection's, seen the other way. */
VERIFIED_ONCE int read_quoted(struct __sk_buff *skb, const struct packet *packet, struct flow *flow,
			      __u32 strict)
{
	struct workspace *work = workspace();
	struct transport transport = {};
	struct packet *quoted;

	if (!packet || !flow || !work)
		return 0;
	quoted = &work->quoted;
	__builtin_memset(quoted, 0, sizeof(*quoted));
	if (!read_quoted_header(skb, quoted, packet->transport + 8, packet->source.family) ||
	    !same_address(quoted->source.bytes, packet->destination.bytes) ||
	    (strict && !same_address(quoted->destination.bytes, packet->source.bytes)) ||
	    read_transport(skb, quoted, &transport, true))
		return 0;
	set_flow(&work->found, quoted, &transport);
	if (work->found.kind == FLOW_SINGLE)
		return 0;
	flow->key = work->found.key; /* the transport stays the error's own */
	flow->flipped = !work->found.flipped;
	flow->kind = FLOW_RELATED;
	return 0;
}

/* Fill `flow` (zeroed by the caller). Returns 0 or a drop reason. */
static __always_inline int read_flow(struct __sk_buff *skb, struct packet *packet, struct flow *flow,
				     __u32 now, bool strict)
{
	int reason = packet->flags & PACKET_NO_PORTS ? recall_fragment(packet, &flow->transport, now)
						     : read_transport(skb, packet, &flow->transport, false);

	if (reason)
		return reason;
	set_flow(flow, packet, &flow->transport);
	if (flow->kind == FLOW_SINGLE && !(packet->flags & PACKET_NO_PORTS) &&
	    is_error(packet->source.family, flow->transport.source >> 8))
		read_quoted(skb, packet, flow, strict);
	return 0;
}
