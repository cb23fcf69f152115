/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* The way of nearly every packet: whole, TCP or UDP, of a live connection whose ends have said yes to what
 * still holds, and that changes nothing in its state. One hash lookup. Whatever is not so goes to `admit`,
 * which would say the same of these. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "admit.h"

/* Where `length` bytes of the transport header stand, or NULL. Asked anew for each length: Linux 6.1 forgets
 * what a length that it has spilled depended on. */
static __always_inline const __u8 *transport_header(struct __sk_buff *skb, const struct packet *packet,
						    const __u32 length)
{
	const __u8 *data = (void *)(long)skb->data;

	data += packet->transport & 0x1ff;
	return data + length <= (__u8 *)(long)skb->data_end ? data : NULL;
}

/* TCP that says nothing about its state, or UDP. */
static __always_inline bool is_plain(struct __sk_buff *skb, const struct packet *packet)
{
	const __u8 *header;

	if (packet->flags & (PACKET_FRAGMENT | PACKET_NO_PORTS))
		return false;
	if (packet->protocol != PROTOCOL_TCP)
		return packet->protocol == PROTOCOL_UDP;
	header = transport_header(skb, packet, 14);
	return header && !(header[13] & (TCP_FLAG_SYN | TCP_FLAG_FIN | TCP_FLAG_RST));
}

/* Key of a packet with ports; true if its source is the high side. The rest of the key is zero. */
static __always_inline bool fill_key(struct connection_key *key, const struct packet *packet,
				     __u16 source_port, __u16 destination_port)
{
	const __u32 *source = packet->source.words, *destination = packet->destination.words;
	bool flipped;

	if (packet->source.family == FAMILY_IPV4) {
		flipped = source[0] > destination[0] ||
			  (source[0] == destination[0] && source_port > destination_port);
		key->low[0] = flipped ? destination[0] : source[0];
		key->high[0] = flipped ? source[0] : destination[0];
	} else {
		const int ordered = order(source, destination);

		flipped = ordered > 0 || (!ordered && source_port > destination_port);
		__builtin_memcpy(key->low, flipped ? destination : source, 16);
		__builtin_memcpy(key->high, flipped ? source : destination, 16);
	}
	key->low_port = flipped ? destination_port : source_port;
	key->high_port = flipped ? source_port : destination_port;
	key->family = packet->source.family;
	key->protocol = packet->protocol;
	return flipped;
}

/* Has this end said yes to what still holds? `direction`: whose policy it is, see `struct connection`. */
static __always_inline bool still_allows(const struct connection *connection, __u32 place, bool egress,
					 const __u32 *peer)
{
	struct policy *policy = bpf_map_lookup_elem(&policies, &place);
	struct ruleset *head;
	__u32 *epoch;

	if (!policy)
		return false;
	if (policy->flags & POLICY_OPEN || (!egress && connection->flags & CONNECTION_HOST))
		return true;
	place = policy->ruleset;
	head = bpf_map_lookup_elem(&rulesets, &place);
	if (!head || !place)
		return false;
	const __u64 stamp = (__u64)head->generation << 32 | place << 3 | OUTCOME_ALLOWED;

	place = epoch_place(peer);
	epoch = bpf_map_lookup_elem(&epochs, &place);
	return epoch && connection->verdicts[egress] == (stamp | (*epoch & 0xffff) << 16);
}

static __always_inline bool is_established(struct __sk_buff *skb, const struct packet *packet, __u32 sender,
					   __u32 receiver)
{
	struct connection_key key = {};
	struct connection *connection;
	const __u8 *header;
	const bool tcp = packet->protocol == PROTOCOL_TCP;
	bool flipped, forward;
	__u32 now, expires;
	__u8 seen;

	if (skb->cb[4] == DRY_RUN_MAGIC || !is_plain(skb, packet))
		return false;
	header = transport_header(skb, packet, 8);
	if (!header)
		return false;
	flipped = fill_key(&key, packet, bpf_ntohs(*(const __be16 *)header),
			   bpf_ntohs(*(const __be16 *)(header + 2)));
	connection = bpf_map_lookup_elem(&connections, &key);
	if (!connection)
		return false;
	now = clock_units();
	forward = flipped == !!(connection->flags & CONNECTION_HIGH);
	seen = connection->tcp;
	if (connection->expires <= now ||
	    (tcp && (is_closing(seen) || !(seen & TCP_SEEN_DATA) || !(seen & TCP_SEEN_REPLY))))
		return false;
	if (sender != NO_PLACE && !still_allows(connection, sender, forward, flipped ? key.low : key.high))
		return false;
	if (receiver != NO_PLACE &&
	    !still_allows(connection, receiver, !forward, flipped ? key.high : key.low))
		return false;
	expires = now + (tcp ? node_config.life_tcp : node_config.life_other);
	if (connection->expires != expires)
		connection->expires = expires;
	return true;
}

/* True if the packet may pass. If not, it has been counted and told of. */
static __always_inline bool ask_both(struct __sk_buff *skb, struct packet *packet, struct end sender,
				     struct end receiver, __u32 hook, __u32 ifindex)
{
	const struct ends ends = {sender, receiver, hook, ifindex};

	return admit(skb, packet, &ends);
}

static __always_inline bool may_pass(struct __sk_buff *skb, struct packet *packet, struct end sender,
				     struct end receiver, __u32 hook, __u32 ifindex)
{
	return is_established(skb, packet, sender.place, receiver.place) ||
	       ask_both(skb, packet, sender, receiver, hook, ifindex);
}
