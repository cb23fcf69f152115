/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* A pod speaks only as itself: source addresses of both families, ARP, neighbour discovery. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "parse.h"
#include "structs.h"

#define ICMPV6_ROUTER_SOLICITATION    133
#define ICMPV6_ROUTER_ADVERTISEMENT   134
#define ICMPV6_NEIGHBOR_SOLICITATION  135
#define ICMPV6_NEIGHBOR_ADVERTISEMENT 136
#define ICMPV6_REDIRECT		      137

/* ARP for IPv4 over Ethernet, RFC 826. */
struct arp {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	__u8 sender_mac[6];
	__u8 sender[4];
	__u8 target_mac[6];
	__u8 target[4];
} __attribute__((packed));

static __always_inline bool same_mac(const __u8 *left, const __u8 *right)
{
	__u8 difference = 0;

#pragma unroll
	for (int i = 0; i < 6; i++)
		difference |= left[i] ^ right[i];
	return !difference;
}

/* The sender must be the pod, or nobody yet (a probe for duplicates, RFC 5227). Returns 0 or a drop reason.
 */
static __always_inline int check_arp(struct __sk_buff *skb, const struct endpoint *endpoint)
{
	struct arp arp;
	__u32 sender;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &arp, sizeof(arp)))
		return DROP_MALFORMED;
	if (arp.hardware != bpf_htons(1) || arp.protocol != bpf_htons(ETHERTYPE_IPV4) ||
	    arp.hardware_length != 6 || arp.protocol_length != 4)
		return DROP_UNKNOWN_PROTOCOL;
	__builtin_memcpy(&sender, arp.sender, 4);
	if (!same_mac(arp.sender_mac, endpoint->pod_mac) ||
	    (sender != 0 && (sender != endpoint->ipv4 || !endpoint->ipv4)))
		return DROP_FORBIDDEN_NEIGHBOR;
	return 0;
}

/* Neighbour discovery a pod needs (RFC 4861): asking for a link-local neighbour, which is the gateway; asking
 * whether its own address is free; answering for itself. Never in fragments (RFC 6980) nor behind extension
 * headers. */
static __always_inline bool may_discover(struct __sk_buff *skb, const struct packet *packet,
					 const struct endpoint *endpoint, __u8 type)
{
	struct address target = {};

	if (packet->hop_limit != 255 || (packet->flags & (PACKET_FRAGMENT | PACKET_EXTENDED)))
		return false;
	if (bpf_skb_load_bytes(skb, packet->transport + 8, target.bytes, 16))
		return false;
	if (is_unspecified(&target))
		return false;
	if (type == ICMPV6_NEIGHBOR_SOLICITATION)
		return is_link_local6(target.bytes) ||
		       (is_unspecified(&packet->source) && same_address(target.bytes, endpoint->ipv6));
	if (is_unspecified(&packet->source))
		return false;
	if (is_link_local6(target.bytes))
		return same_address(target.bytes, packet->source.bytes);
	return same_address(target.bytes, endpoint->ipv6);
}

/* Neighbour or router discovery between a pod and this node: no router lets a hop limit of 255 through, and a
 * pod sends what `check_discovery` allows. Policy does not speak of it. */
static __always_inline bool is_discovery(struct __sk_buff *skb, const struct packet *packet)
{
	__u8 type;

	if (packet->protocol != PROTOCOL_ICMPV6 || packet->source.family != FAMILY_IPV6 ||
	    packet->hop_limit != 255 || packet->flags & (PACKET_FRAGMENT | PACKET_EXTENDED))
		return false;
	if (bpf_skb_load_bytes(skb, packet->transport, &type, 1))
		return false;
	return type >= ICMPV6_ROUTER_SOLICITATION && type <= ICMPV6_REDIRECT;
}

/* ICMPv6 of the link: 0 if it is discovery a pod may do, a drop reason if not, -1 if it is something else. */
static __always_inline int check_discovery(struct __sk_buff *skb, const struct packet *packet,
					   const struct endpoint *endpoint)
{
	__u8 type;

	if (packet->protocol != PROTOCOL_ICMPV6 || (packet->flags & PACKET_NO_PORTS))
		return -1;
	if (bpf_skb_load_bytes(skb, packet->transport, &type, 1))
		return DROP_MALFORMED;
	if (type < ICMPV6_ROUTER_SOLICITATION || type > ICMPV6_REDIRECT)
		return -1;
	if (type != ICMPV6_NEIGHBOR_SOLICITATION && type != ICMPV6_NEIGHBOR_ADVERTISEMENT)
		return DROP_FORBIDDEN_NEIGHBOR;
	return may_discover(skb, packet, endpoint, type) ? 0 : DROP_FORBIDDEN_NEIGHBOR;
}

static __always_inline int check_source6(struct __sk_buff *skb, const struct packet *packet,
					 const struct endpoint *endpoint)
{
	const bool own =
		!is_unspecified(&packet->source) && same_address(packet->source.bytes, endpoint->ipv6);
	int discovery;

	if (!own && !is_unspecified(&packet->source) && !is_link_local6(packet->source.bytes))
		return DROP_SPOOFED_SOURCE;
	discovery = check_discovery(skb, packet, endpoint);
	if (discovery >= 0)
		return discovery;
	if (own)
		return 0;
	/* Link chatter of any IPv6 host (multicast listener reports and the like) leads nowhere here. */
	return packet->protocol == PROTOCOL_ICMPV6 ? DROP_FORBIDDEN_NEIGHBOR : DROP_SPOOFED_SOURCE;
}

/* Is the packet from the pod itself? Returns 0 or a drop reason. */
static __always_inline int check_source(struct __sk_buff *skb, const struct packet *packet,
					const struct endpoint *endpoint)
{
	if (packet->source.family == FAMILY_IPV6)
		return check_source6(skb, packet, endpoint);
	return endpoint->ipv4 && packet->source.words[0] == endpoint->ipv4 ? 0 : DROP_SPOOFED_SOURCE;
}
