// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/* The two directions of an ENI. The node itself lives behind it: what we do not know passes untouched, also
 * to other programs on the same hook (TC_ACT_UNSPEC goes on to the next). */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "include/forward.h"
#include "include/maps.h"
#include "include/parse.h"
#include "include/stats.h"

SEC("tc")
int from_wire(struct __sk_buff *skb)
{
	struct packet packet = {};
	struct local_pod *pod;
	int action;

	if (parse(skb, &packet) || !may_bypass_stack(skb, &packet))
		return pass(skb, HOOK_FROM_WIRE, PATH_STACK, TC_ACT_UNSPEC);
	pod = bpf_map_lookup_elem(&local, &packet.destination);
	if (!pod || !fits(skb, pod->ifindex))
		return pass(skb, HOOK_FROM_WIRE, PATH_STACK, TC_ACT_UNSPEC);
	action = deliver(skb, &packet, pod);
	if (action != TC_ACT_REDIRECT)
		return drop(skb, &packet, pod->endpoint_id, REASON_HOOK(DROP_REWRITE_FAILED, HOOK_FROM_WIRE));
	return pass(skb, HOOK_FROM_WIRE, PATH_PEER, action);
}

/* A pod's packet on another ENI than its own would be dropped by the VPC's source check without a word; say
 * it here. */
SEC("tc")
int to_wire(struct __sk_buff *skb)
{
	const __u32 mark = skb->mark & ENI_MARK_MASK;
	__u32 ifindex = skb->ifindex;
	struct packet packet = {};
	struct eni *eni;

	if (mark) {
		eni = bpf_map_lookup_elem(&enis, &ifindex);
		if (eni && eni->mark != mark) {
			if (parse(skb, &packet)) /* not IP: the event has no addresses */
				packet = (struct packet){};
			return drop(skb, &packet, 0, REASON_HOOK(DROP_WRONG_INTERFACE, HOOK_TO_WIRE));
		}
	}
	return pass(skb, HOOK_TO_WIRE, PATH_STACK, TC_ACT_UNSPEC);
}

char LICENSE[] SEC("license") = "GPL";
