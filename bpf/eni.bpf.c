// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/* The two directions of an ENI. The node itself lives behind it: what we do not know passes untouched, also
 * to other programs on the same hook (TC_ACT_UNSPEC goes on to the next). */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "include/established.h"
#include "include/forward.h"
#include "include/host.h"
#include "include/maps.h"
#include "include/parse.h"
#include "include/stats.h"

static __always_inline int to_next(struct __sk_buff *skb, __u32 hook)
{
	return pass(skb, hook, PATH_STACK, TC_ACT_UNSPEC);
}

/* To or from the node itself, where policy holds for it. */
static __always_inline bool host_may(struct __sk_buff *skb, struct packet *packet, __u32 hook)
{
	struct end sender = {NO_PLACE, 0}, receiver = {NO_PLACE, 0};

	if (!(node_config.flags & CONFIG_POLICY) || is_for_stack(&packet->source) ||
	    is_for_stack(&packet->destination))
		return true;
	if (hook == HOOK_FROM_WIRE)
		host_end(&receiver, &packet->destination);
	else
		host_end(&sender, &packet->source);
	if (receiver.place == NO_PLACE && sender.place == NO_PLACE)
		return true;
	return may_pass(skb, packet, sender, receiver, hook, hook == HOOK_FROM_WIRE ? skb->ifindex : 0);
}

SEC("tc")
int from_wire(struct __sk_buff *skb)
{
	const struct end nobody = {NO_PLACE, 0};
	struct end receiver;
	struct packet packet = {};
	struct local_pod *pod;
	int action;

	if (parse(skb, &packet) || (!may_bypass_stack(skb, &packet) && !(node_config.flags & CONFIG_POLICY)))
		return to_next(skb, HOOK_FROM_WIRE);
	pod = bpf_map_lookup_elem(&local, &packet.destination);
	if (!pod)
		return host_may(skb, &packet, HOOK_FROM_WIRE) ? to_next(skb, HOOK_FROM_WIRE) : TC_ACT_SHOT;
	if (!may_bypass_stack(skb, &packet) || !fits(skb, pod->ifindex))
		return to_next(skb, HOOK_FROM_WIRE); /* the pod is asked when the stack gives it the packet */
	if (node_config.flags & CONFIG_POLICY) {
		receiver.place = pod->policy;
		receiver.endpoint_id = pod->endpoint_id;
		if (!may_pass(skb, &packet, nobody, receiver, HOOK_FROM_WIRE, skb->ifindex))
			return TC_ACT_SHOT;
	}
	action = deliver(skb, &packet, pod);
	if (action != TC_ACT_REDIRECT)
		return drop(skb, &packet, pod->endpoint_id, REASON_HOOK(DROP_REWRITE_FAILED, HOOK_FROM_WIRE),
			    NULL);
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
			return drop(skb, &packet, 0, REASON_HOOK(DROP_WRONG_INTERFACE, HOOK_TO_WIRE), NULL);
		}
	} else if (node_config.flags & CONFIG_POLICY && !parse(skb, &packet) &&
		   !host_may(skb, &packet, HOOK_TO_WIRE)) {
		return TC_ACT_SHOT;
	}
	return to_next(skb, HOOK_TO_WIRE);
}

char LICENSE[] SEC("license") = "GPL";
