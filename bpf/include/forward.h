/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Sending a packet on without the node's stack. Nothing is written to a packet before it is certain that it
 * can go this way: what cannot (too big for the device, at the end of its hops, with options for routers, not
 * for our MAC) goes to the stack untouched, which knows the right ICMP error. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "config.h"
#include "maps.h"
#include "parse.h"

#define AF_INET_NUMBER	2
#define AF_INET6_NUMBER 10

static __always_inline bool may_bypass_stack(const struct __sk_buff *skb, const struct packet *packet)
{
	return (node_config.flags & CONFIG_DIRECT) && !(packet->flags & PACKET_OPTIONS) &&
	       packet->hop_limit > 1 && skb->pkt_type == PACKET_HOST;
}

/* Does the frame (or each of its segments) fit the device? False also when the device is gone. */
static __always_inline bool fits(struct __sk_buff *skb, __u32 ifindex)
{
	__u32 mtu = 0;

	return !bpf_check_mtu(skb, ifindex, &mtu, 0, BPF_MTU_CHK_SEGS);
}

static __always_inline bool decrement_hop_limit(struct __sk_buff *skb, __u32 family)
{
	if (family == FAMILY_IPV4) {
		void *data = frame(skb, ETH_HLEN + sizeof(struct iphdr));
		struct iphdr *ip = data + ETH_HLEN;
		__u32 sum;

		if (!data)
			return false;
		sum = (__u32)ip->check + (__u32)bpf_htons(0x0100); /* RFC 1624: one less in the high byte */
		ip->check = sum + (sum >= 0xffff);
		ip->ttl -= 1;
	} else {
		void *data = frame(skb, ETH_HLEN + sizeof(struct ipv6hdr));
		struct ipv6hdr *ip = data + ETH_HLEN;

		if (!data)
			return false;
		ip->hop_limit -= 1;
	}
	return true;
}

/* Destination and source MAC are 12 bytes in a row, in the record as in the frame: three words instead of
 * twelve bytes. */
static __always_inline bool rewrite_macs(struct __sk_buff *skb, const struct local_pod *pod)
{
	const __u32 *macs = (const __u32 *)pod->pod_mac;
	__u32 *eth = frame(skb, ETH_HLEN);

	if (!eth)
		return false;
	eth[0] = macs[0];
	eth[1] = macs[1];
	eth[2] = macs[2];
	return true;
}

/* The compiler likes to compute the address of a context field once and keep it; the verifier refuses such a
 * pointer. */
#define SET_FIELD(skb, field, value)                                                                         \
	asm volatile("*(u32 *)(%0 + %1) = %2"                                                                \
		     :                                                                                       \
		     : "r"(skb), "i"(offsetof(struct __sk_buff, field)), "r"((__u32)(value))                 \
		     : "memory")

/* Into the pod's namespace, as if it had come over its veth. Returns an action, or 0 if a rewrite failed. The
 * mark is the node's business and must not be seen by the pod. */
static __always_inline int deliver(struct __sk_buff *skb, const struct packet *packet,
				   const struct local_pod *pod)
{
	if (!decrement_hop_limit(skb, packet->destination.family) || !rewrite_macs(skb, pod))
		return 0;
	SET_FIELD(skb, mark, 0);
	return bpf_redirect_peer(pod->ifindex, 0);
}

/* Out of the pod's ENI to the VPC's router; the kernel resolves its MAC. Returns an action, or 0 if a rewrite
 * failed. */
static __always_inline int send_out(struct __sk_buff *skb, const struct packet *packet,
				    const struct endpoint *endpoint)
{
	struct bpf_redir_neigh hop = {};

	if (!decrement_hop_limit(skb, packet->destination.family))
		return 0;
	if (packet->destination.family == FAMILY_IPV4) {
		hop.nh_family = AF_INET_NUMBER;
		hop.ipv4_nh = endpoint->gateway4;
	} else {
		hop.nh_family = AF_INET6_NUMBER;
		__builtin_memcpy(hop.ipv6_nh, endpoint->gateway6, 16);
	}
	return bpf_redirect_neigh(endpoint->eni_ifindex, &hop, sizeof(hop), 0);
}

static __always_inline bool has_gateway(const struct endpoint *endpoint, __u32 family)
{
	const __u32 *gateway6 = (const __u32 *)endpoint->gateway6;

	if (!endpoint->eni_ifindex)
		return false;
	return family == FAMILY_IPV4 ? endpoint->gateway4 != 0
				     : (gateway6[0] | gateway6[1] | gateway6[2] | gateway6[3]) != 0;
}
