// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/* The two directions of a pod's veth. Both fail closed: no record, no packet. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "include/forward.h"
#include "include/maps.h"
#include "include/parse.h"
#include "include/source.h"
#include "include/stats.h"

/* To the node's own stack, marked with the pod's ENI so that routing leaves by the right one. */
static __always_inline int to_stack(struct __sk_buff *skb)
{
	return pass(skb, HOOK_FROM_POD, PATH_STACK, TC_ACT_OK);
}

static __always_inline int forward(struct __sk_buff *skb, struct packet *packet, struct endpoint *endpoint)
{
	struct local_pod *pod;
	int action;

	if (!may_bypass_stack(skb, packet) || is_for_stack(&packet->destination))
		return to_stack(skb);
	pod = bpf_map_lookup_elem(&local, &packet->destination);
	if (pod) {
		if (pod->ifindex == skb->ifindex || !fits(skb, pod->ifindex))
			return to_stack(skb);
		action = deliver(skb, packet, pod);
		if (action != TC_ACT_REDIRECT)
			return drop(skb, packet, endpoint->id,
				    REASON_HOOK(DROP_REWRITE_FAILED, HOOK_FROM_POD));
		return pass(skb, HOOK_FROM_POD, PATH_PEER, action);
	}
	if (!has_gateway(endpoint, packet->destination.family) ||
	    bpf_map_lookup_elem(&node_addresses, &packet->destination) || !fits(skb, endpoint->eni_ifindex))
		return to_stack(skb);
	action = send_out(skb, packet, endpoint);
	if (action != TC_ACT_REDIRECT)
		return drop(skb, packet, endpoint->id, REASON_HOOK(DROP_REWRITE_FAILED, HOOK_FROM_POD));
	return pass(skb, HOOK_FROM_POD, PATH_WIRE, action);
}

SEC("tc")
int from_pod(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	struct packet packet = {};
	struct endpoint *endpoint = bpf_map_lookup_elem(&endpoints, &ifindex);
	const bool arp = skb->protocol == bpf_htons(ETHERTYPE_ARP) && !skb->vlan_present;
	int reason;

	reason = arp ? 0 : parse(skb, &packet);
	if (!endpoint)
		return drop(skb, &packet, 0, REASON_HOOK(DROP_NO_ENDPOINT, HOOK_FROM_POD));
	if (!reason)
		reason = arp ? check_arp(skb, endpoint) : check_source(skb, &packet, endpoint);
	if (reason)
		return drop(skb, &packet, endpoint->id, REASON_HOOK(reason, HOOK_FROM_POD));
	SET_FIELD(skb, mark, (skb->mark & ~ENI_MARK_MASK) | endpoint->mark);
	SET_FIELD(skb, queue_mapping,
		  0); /* the veth's queue says nothing about the ENI's: let the flow hash choose */
	return arp ? to_stack(skb) : forward(skb, &packet, endpoint);
}

/* What the stack sends to a pod. (Redirected packets skip this hook; their destination was looked up.) */
SEC("tc")
int to_pod(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	struct packet packet = {};
	struct endpoint *endpoint = bpf_map_lookup_elem(&endpoints, &ifindex);
	const bool arp = skb->protocol == bpf_htons(ETHERTYPE_ARP) && !skb->vlan_present;
	int reason = arp ? 0 : parse(skb, &packet);
	bool own;

	if (!endpoint)
		return drop(skb, &packet, 0, REASON_HOOK(DROP_NO_ENDPOINT, HOOK_TO_POD));
	if (reason)
		return drop(skb, &packet, endpoint->id, REASON_HOOK(reason, HOOK_TO_POD));
	if (packet.destination.family == FAMILY_IPV6)
		own = same_address(packet.destination.bytes, endpoint->ipv6);
	else
		own = packet.destination.words[0] == endpoint->ipv4;
	if (!arp && !own && !is_for_stack(&packet.destination))
		return drop(skb, &packet, endpoint->id, REASON_HOOK(DROP_NOT_LOCAL, HOOK_TO_POD));
	return pass(skb, HOOK_TO_POD, PATH_STACK, TC_ACT_OK);
}

char LICENSE[] SEC("license") = "GPL";
