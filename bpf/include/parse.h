/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* From a frame to what every decision needs: addresses, protocol, hop limit, and what is odd about it. The
 * verdicts on odd packets (README.md lists them) are taken by the hooks; here they only get a name. */
#pragma once

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "consts.h"
#include "structs.h"
#include "reasons.h"

#define PACKET_OPTIONS	1 /* IPv4 options or an IPv6 hop-by-hop header: routers have to look at it */
#define PACKET_FRAGMENT 2 /* part of a fragmented packet */
#define PACKET_NO_PORTS 4 /* a fragment without the transport header */
#define PACKET_EXTENDED 8 /* has IPv6 extension headers */
#define PACKET_TINY	16 /* a fragment that begins 8 bytes into the transport header */
#define PACKET_FIRST	32 /* a fragment with the transport header; more follow */

#define PROTOCOL_HOP_BY_HOP  0
#define PROTOCOL_ICMP	     1
#define PROTOCOL_TCP	     6
#define PROTOCOL_UDP	     17
#define PROTOCOL_ROUTING     43
#define PROTOCOL_FRAGMENT    44
#define PROTOCOL_ICMPV6	     58
#define PROTOCOL_DESTINATION 60
#define PROTOCOL_SCTP	     132

struct packet {
	struct address source;
	struct address destination;
	__u32 transport; /* offset of the transport header in the frame */
	__u8 protocol;
	__u8 hop_limit;
	__u16 flags;
	__u32 fragment_id; /* of a fragment, as it lies in the header */
};

/* The first `length` bytes of the frame, made linear if need be; NULL if the frame is shorter. */
static __always_inline void *frame(struct __sk_buff *skb, const __u32 length)
{
	void *data = (void *)(long)skb->data;

	if (data + length <= (void *)(long)skb->data_end)
		return data;
	if (bpf_skb_pull_data(skb, length))
		return NULL;
	data = (void *)(long)skb->data;
	return data + length <= (void *)(long)skb->data_end ? data : NULL;
}

static __always_inline bool same_address(const __u8 *left, const __u8 *right)
{
	const __u32 *a = (const __u32 *)left, *b = (const __u32 *)right;

	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]));
}

static __always_inline bool is_unspecified(const struct address *address)
{
	return !(address->words[0] | address->words[1] | address->words[2] | address->words[3]);
}

static __always_inline bool is_link_local6(const __u8 *bytes)
{
	return bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80;
}

/* Destinations that only the node's own stack can judge: multicast, broadcast, link-local, loopback,
 * unspecified. */
static __always_inline bool is_for_stack(const struct address *address)
{
	const __u8 first = address->bytes[0];

	if (address->family == FAMILY_IPV4)
		return first >= 224 || first == 127 || first == 0 ||
		       (first == 169 && address->bytes[1] == 254);
	if (first == 0xff || is_link_local6(address->bytes))
		return true;
	return !(address->words[0] | address->words[1] | address->words[2] |
		 (address->words[3] & bpf_htonl(~1u))); /* :: and ::1 */
}

/* BIG TCP frames carry a length of 0; only the kernel's own segmentation makes those. */
static __always_inline bool length_fits(const struct __sk_buff *skb, __u32 header, __u32 length)
{
	return (length >= header && ETH_HLEN + length <= skb->len) || (length == 0 && skb->gso_size);
}

static __always_inline int parse_ipv4(struct __sk_buff *skb, struct packet *packet)
{
	struct iphdr *ip = frame(skb, ETH_HLEN + sizeof(*ip));
	__u32 header, offset;

	if (!ip)
		return DROP_MALFORMED;
	ip = (void *)ip + ETH_HLEN;
	header = ip->ihl * 4;
	if (ip->version != 4 || header < sizeof(*ip) || !length_fits(skb, header, bpf_ntohs(ip->tot_len)))
		return DROP_MALFORMED;
	packet->source.family = packet->destination.family = FAMILY_IPV4;
	packet->source.words[0] = ip->saddr;
	packet->destination.words[0] = ip->daddr;
	packet->protocol = ip->protocol;
	packet->hop_limit = ip->ttl;
	packet->transport = ETH_HLEN + header;
	if (header > sizeof(*ip))
		packet->flags |= PACKET_OPTIONS;
	offset = bpf_ntohs(ip->frag_off);
	if (offset & 0x3fff)
		packet->flags |= PACKET_FRAGMENT;
	if (offset & 0x1fff)
		packet->flags |= PACKET_NO_PORTS;
	if ((offset & 0x1fff) == 1)
		packet->flags |= PACKET_TINY;
	if ((offset & 0x3fff) == 0x2000)
		packet->flags |= PACKET_FIRST;
	packet->fragment_id = ip->id;
	return 0;
}

static __always_inline bool is_extension(__u8 protocol)
{
	return protocol == PROTOCOL_HOP_BY_HOP || protocol == PROTOCOL_ROUTING ||
	       protocol == PROTOCOL_FRAGMENT || protocol == PROTOCOL_DESTINATION;
}

/* Walk the extension headers to the transport header. What follows a later fragment's header is data. */
VERIFIED_ONCE int walk_extensions(struct __sk_buff *skb, struct packet *packet)
{
	struct {
		__u8 next;
		__u8 length; /* in units of 8 bytes, without the first */
		__be16 fragment;
		__u32 id;
	} header;

	if (!packet)
		return DROP_MALFORMED;
#pragma unroll
	for (int i = 0; i < MAX_EXTENSION_HEADERS; i++) {
		if (!is_extension(packet->protocol))
			return 0;
		if (bpf_skb_load_bytes(skb, packet->transport, &header, sizeof(header)))
			return DROP_MALFORMED;
		packet->flags |= PACKET_EXTENDED;
		if (packet->protocol == PROTOCOL_HOP_BY_HOP)
			packet->flags |= PACKET_OPTIONS;
		packet->transport += packet->protocol == PROTOCOL_FRAGMENT ? 8 : (header.length + 1) * 8;
		if (packet->protocol == PROTOCOL_FRAGMENT) {
			packet->flags |= PACKET_FRAGMENT;
			packet->fragment_id = header.id;
			if (bpf_ntohs(header.fragment) & 0xfff8) {
				packet->flags |= PACKET_NO_PORTS;
				if ((bpf_ntohs(header.fragment) & 0xfff8) == 8)
					packet->flags |= PACKET_TINY;
				packet->protocol = header.next;
				return 0;
			}
			if (header.fragment & bpf_htons(1))
				packet->flags |= PACKET_FIRST;
		}
		packet->protocol = header.next;
	}
	return is_extension(packet->protocol) ? DROP_MALFORMED : 0;
}

static __always_inline int parse_ipv6(struct __sk_buff *skb, struct packet *packet)
{
	struct ipv6hdr *ip = frame(skb, ETH_HLEN + sizeof(*ip));

	if (!ip)
		return DROP_MALFORMED;
	ip = (void *)ip + ETH_HLEN;
	if (ip->version != 6 || !length_fits(skb, 0, sizeof(*ip) + bpf_ntohs(ip->payload_len)))
		return DROP_MALFORMED;
	packet->source.family = packet->destination.family = FAMILY_IPV6;
	__builtin_memcpy(packet->source.bytes, &ip->saddr, 16);
	__builtin_memcpy(packet->destination.bytes, &ip->daddr, 16);
	packet->protocol = ip->nexthdr;
	packet->hop_limit = ip->hop_limit;
	packet->transport = ETH_HLEN + sizeof(*ip);
	return is_extension(packet->protocol) ? walk_extensions(skb, packet) : 0;
}

/* Fill `packet` (zeroed by the caller) from an IPv4 or IPv6 frame. Returns 0 or a drop reason. */
static __always_inline int parse(struct __sk_buff *skb, struct packet *packet)
{
	if (skb->vlan_present)
		return DROP_UNKNOWN_PROTOCOL;
	switch (bpf_ntohs(skb->protocol)) {
	case ETHERTYPE_IPV4:
		return parse_ipv4(skb, packet);
	case ETHERTYPE_IPV6:
		return parse_ipv6(skb, packet);
	default:
		return DROP_UNKNOWN_PROTOCOL;
	}
}
