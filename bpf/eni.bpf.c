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
#include "include/source.h"
#include "include/stats.h"

#define DHCP_SERVER_PORT 67
#define DHCP_CLIENT_PORT 68

static __always_inline int to_next(struct __sk_buff *skb, __u32 hook)
{
	return pass(skb, hook, PATH_STACK, TC_ACT_UNSPEC);
}

/* The lease of an ENI's first address, asked of and renewed by the subnet's gateway: without it the node is
 * gone. */
static __always_inline bool is_lease(struct __sk_buff *skb, const struct packet *packet, __u32 hook)
{
	const __u8 *header;
	__u16 own, other;

	if (packet->protocol != PROTOCOL_UDP || packet->source.family != FAMILY_IPV4 ||
	    packet->flags & (PACKET_FRAGMENT | PACKET_NO_PORTS))
		return false;
	header = transport_header(skb, packet, 4);
	if (!header)
		return false;
	own = bpf_ntohs(*(const __be16 *)(header + (hook == HOOK_FROM_WIRE ? 2 : 0)));
	other = bpf_ntohs(*(const __be16 *)(header + (hook == HOOK_FROM_WIRE ? 0 : 2)));
	return own == DHCP_CLIENT_PORT && other == DHCP_SERVER_PORT;
}

/* To or from the node itself, where policy holds for it. */
static __always_inline bool host_may(struct __sk_buff *skb, struct packet *packet, __u32 hook,
				     struct live *live)
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
	if (is_discovery(skb, packet) || is_lease(skb, packet, hook))
		return true;
	if (hook == HOOK_TO_WIRE)
		find_live(skb, packet, live);
	return may_pass(skb, packet, sender, receiver, hook, hook == HOOK_FROM_WIRE ? skb->ifindex : 0, live);
}

static __always_inline int hand_over(struct __sk_buff *skb, struct packet *packet,
				     const struct local_pod *pod)
{
	const int action = deliver(skb, packet, pod);

	if (action != TC_ACT_REDIRECT)
		return drop(skb, packet, pod->endpoint_id, REASON_HOOK(DROP_REWRITE_FAILED, HOOK_FROM_WIRE),
			    NULL);
	return pass(skb, HOOK_FROM_WIRE, PATH_PEER, action);
}

/* The short way: the pod that the connection knows, if it still says yes. */
static __always_inline struct local_pod *receiver_of(struct __sk_buff *skb, const struct packet *packet,
						     struct live *live)
{
	struct local_pod *pod;

	if (!live->connection || !may_bypass_stack(skb, packet))
		return NULL;
	pod = known_receiver(live);
	if (!pod || !fits(skb, pod->ifindex))
		return NULL;
	prolong(live, packet);
	return pod;
}

SEC("tc")
int from_wire(struct __sk_buff *skb)
{
	const bool policy = node_config.flags & CONFIG_POLICY;
	const struct end nobody = {NO_PLACE, 0};
	struct end receiver;
	struct packet packet = {};
	struct live live = {};
	struct local_pod *pod;

	if (parse(skb, &packet) || (!may_bypass_stack(skb, &packet) && !policy))
		return to_next(skb, HOOK_FROM_WIRE);
	if (policy) {
		find_live(skb, &packet, &live);
		pod = receiver_of(skb, &packet, &live);
		if (pod)
			return hand_over(skb, &packet, pod);
	}
	pod = bpf_map_lookup_elem(&local, &packet.destination);
	if (!pod)
		return host_may(skb, &packet, HOOK_FROM_WIRE, &live) ? to_next(skb, HOOK_FROM_WIRE)
								     : TC_ACT_SHOT;
	if (!may_bypass_stack(skb, &packet) || !fits(skb, pod->ifindex))
		return to_next(skb, HOOK_FROM_WIRE); /* the pod is asked when the stack gives it the packet */
	if (policy) {
		receiver.place = pod->policy;
		receiver.endpoint_id = pod->endpoint_id;
		if (!may_pass(skb, &packet, nobody, receiver, HOOK_FROM_WIRE, skb->ifindex, &live))
			return TC_ACT_SHOT;
	}
	return hand_over(skb, &packet, pod);
}

/* A pod's packet on another ENI than its own would be dropped by the VPC's source check without a word; say
 * it here. */
SEC("tc")
int to_wire(struct __sk_buff *skb)
{
	const __u32 mark = skb->mark & ENI_MARK_MASK;
	__u32 ifindex = skb->ifindex;
	struct packet packet = {};
	struct live live;
	struct eni *eni;

	if (mark) {
		eni = bpf_map_lookup_elem(&enis, &ifindex);
		if (eni && eni->mark != mark) {
			if (parse(skb, &packet)) /* not IP: the event has no addresses */
				packet = (struct packet){};
			return drop(skb, &packet, 0, REASON_HOOK(DROP_WRONG_INTERFACE, HOOK_TO_WIRE), NULL);
		}
	}
	if (node_config.flags & CONFIG_POLICY && is_host_asked() && !parse(skb, &packet) &&
	    !host_may(skb, &packet, HOOK_TO_WIRE, &live))
		return TC_ACT_SHOT;
	return to_next(skb, HOOK_TO_WIRE);
}

char LICENSE[] SEC("license") = "GPL";
