/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* The way of nearly every packet: whole, TCP or UDP, of a live connection whose ends have said yes to what
 * still holds, and that changes nothing in its state. One hash lookup. Whatever is not so goes to `admit`,
 * which would say the same of these.
 *
 * While `stamp` is what it was when an end's yes was last compared with its policy, nothing has changed on
 * which that yes rests: one word says so. Whoever changes such a thing renews the stamp afterwards
 * (enitide_enidp.datapath.stamp), and every connection is compared once more. */
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

/* A live connection, and how the packet stands to it. */
struct live {
	struct connection *connection; /* NULL: none, or not for the short way */
	__u64 stamp; /* what holds now, where `checked` has it */
	__u32 now;
	bool forward; /* the packet goes the initiator's way */
};

static __always_inline void find_live(struct __sk_buff *skb, const struct packet *packet, struct live *live)
{
	struct connection_key key = {};
	struct connection *connection;
	const __u8 *header;
	const __u64 *now;
	__u32 zero = 0;
	bool flipped;

	live->connection = NULL;
	if (skb->cb[4] == DRY_RUN_MAGIC || !is_plain(skb, packet))
		return;
	header = transport_header(skb, packet, 8);
	if (!header)
		return;
	flipped = fill_key(&key, packet, bpf_ntohs(*(const __be16 *)header),
			   bpf_ntohs(*(const __be16 *)(header + 2)));
	connection = bpf_map_lookup_elem(&connections, &key);
	now = bpf_map_lookup_elem(&stamp, &zero);
	if (!connection || !now || !*now)
		return;
	live->stamp = *now << CHECKED_SHIFT;
	live->now = clock_units();
	live->forward = flipped == !!(connection->flags & CONNECTION_HIGH);
	if (connection->expires <= live->now)
		return;
	if (packet->protocol == PROTOCOL_TCP &&
	    (is_closing(connection->tcp) || !(connection->tcp & TCP_SEEN_DATA) ||
	     !(connection->tcp & TCP_SEEN_REPLY)))
		return;
	live->connection = connection;
}

/* Has this end said yes to what still holds? `egress`: whose policy it is, see `struct connection`. */
static __always_inline bool still_allows(const struct connection *connection, __u32 place, bool egress,
					 const __u32 *peer)
{
	struct policy *policy = bpf_map_lookup_elem(&policies, &place);
	struct ruleset *head;
	__u32 *epoch;

	if (!policy)
		return false;
	if (policy->flags & POLICY_OPEN || connection->flags & CONNECTION_HOST)
		return true;
	place = policy->ruleset;
	head = bpf_map_lookup_elem(&rulesets, &place);
	if (!head || !place)
		return false;
	const __u64 verdict = (__u64)head->generation << 32 | place << 3 | OUTCOME_ALLOWED;

	place = epoch_place(peer);
	epoch = bpf_map_lookup_elem(&epochs, &place);
	return epoch && connection->verdicts[egress] == (verdict | (*epoch & 0xffff) << 16);
}

/* The same by the stamp, if it is what it was. `source`: the end is the packet's. `elsewhere`:
 * CHECKED_ELSEWHERE if that has been found, else 0. */
static __always_inline bool holds(const struct live *live, const struct packet *packet, __u32 place,
				  bool source, __u32 elsewhere)
{
	struct connection *connection = live->connection;
	const bool egress = live->forward == source;
	const __u64 word = live->stamp | elsewhere | place, either = elsewhere ^ CHECKED_ELSEWHERE;

	if ((connection->checked[egress] | either) == (word | either))
		return true;
	if (!still_allows(connection, place, egress,
			  source ? packet->destination.words : packet->source.words))
		return false;
	connection->checked[egress] = word;
	return true;
}

static __always_inline void prolong(const struct live *live, const struct packet *packet)
{
	const __u32 life = packet->protocol == PROTOCOL_TCP ? node_config.life_tcp : node_config.life_other;
	const __u32 expires = live->now + life;

	if (live->connection->expires != expires)
		live->connection->expires = expires;
}

/* Do both ends still say yes to the packet? */
static __always_inline bool is_established(const struct live *live, const struct packet *packet, __u32 sender,
					   __u32 receiver, __u32 elsewhere)
{
	if (!live->connection)
		return false;
	if (sender != NO_PLACE && !holds(live, packet, sender, true, elsewhere))
		return false;
	if (receiver != NO_PLACE && !holds(live, packet, receiver, false, 0))
		return false;
	prolong(live, packet);
	return true;
}

/* The pod of this node that gets the packet and still says yes to it, if the connection knows; then no map
 * has to be asked whose the address is. */
static __always_inline struct local_pod *known_receiver(const struct live *live)
{
	const __u64 checked = live->connection->checked[!live->forward];
	__u32 place = checked & CHECKED_PLACE;
	struct local_pod *pod;

	if ((checked ^ live->stamp) >> CHECKED_SHIFT || place == HOST_PLACE)
		return NULL;
	pod = bpf_map_lookup_elem(&pods, &place);
	return pod && pod->ifindex ? pod : NULL;
}

/* What the connection knows of the sender, which is at `place`: CHECKED_ELSEWHERE, 0, or NO_PLACE if it does
 * not still say yes. */
static __always_inline __u32 known_sender(const struct live *live, __u32 place)
{
	const __u64 differs = live->connection->checked[live->forward] ^ (live->stamp | place);

	return differs & ~(__u64)CHECKED_ELSEWHERE ? NO_PLACE : differs;
}

/* True if the packet may pass. If not, it has been counted and told of. */
static __always_inline bool ask_both(struct __sk_buff *skb, struct packet *packet, struct end sender,
				     struct end receiver, __u32 hook, __u32 ifindex)
{
	const struct ends ends = {sender, receiver, hook, ifindex};

	return admit(skb, packet, &ends);
}

static __always_inline bool may_pass(struct __sk_buff *skb, struct packet *packet, struct end sender,
				     struct end receiver, __u32 hook, __u32 ifindex, const struct live *live)
{
	return is_established(live, packet, sender.place, receiver.place, 0) ||
	       ask_both(skb, packet, sender, receiver, hook, ifindex);
}
