// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/* The two directions of a pod's veth. Both fail closed: no record, no packet; no policy, no packet. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "include/established.h"
#include "include/forward.h"
#include "include/host.h"
#include "include/maps.h"
#include "include/parse.h"
#include "include/source.h"
#include "include/stats.h"

/* Which way a pod's packet goes, and the pod that gets it if it goes straight to one. Changes nothing. */
static __always_inline __u32 choose_path(struct __sk_buff *skb, const struct packet *packet,
					 const struct endpoint *endpoint, struct local_pod **receiver)
{
	struct local_pod *pod;

	*receiver = NULL;
	if (!may_bypass_stack(skb, packet) || is_for_stack(&packet->destination))
		return PATH_STACK;
	pod = bpf_map_lookup_elem(&local, &packet->destination);
	if (pod) {
		if (pod->ifindex == skb->ifindex || !fits(skb, pod->ifindex))
			return PATH_STACK;
		*receiver = pod;
		return PATH_PEER;
	}
	if (!has_gateway(endpoint, packet->destination.family) ||
	    bpf_map_lookup_elem(&node_addresses, &packet->destination) || !fits(skb, endpoint->eni_ifindex))
		return PATH_STACK;
	return PATH_WIRE;
}

/* What a pod says to itself comes back by the stack; policy does not speak of it. */
static __always_inline bool is_to_itself(const struct packet *packet)
{
	return same_address(packet->source.bytes, packet->destination.bytes);
}

static __always_inline bool may_leave(struct __sk_buff *skb, struct packet *packet,
				      const struct endpoint *endpoint, const struct local_pod *pod,
				      __u32 path, const struct live *live)
{
	const struct end sender = {endpoint->policy, endpoint->id};
	struct end receiver = {NO_PLACE, 0};

	if (pod) {
		receiver.place = pod->policy;
		receiver.endpoint_id = pod->endpoint_id;
	} else if (path == PATH_STACK) {
		host_end(&receiver, &packet->destination);
	}
	if (is_established(live, packet, sender.place, receiver.place,
			   path == PATH_WIRE ? CHECKED_ELSEWHERE : 0) ||
	    is_to_itself(packet) || is_discovery(skb, packet))
		return true;
	return ask_both(skb, packet, sender, receiver, HOOK_FROM_POD, 0);
}

/* The short way of a packet whose connection knows both ends: true if it is found, with the pod that gets the
 * packet, or none if that is out of the ENI. */
static __always_inline bool goes_on(struct __sk_buff *skb, const struct packet *packet,
				    const struct endpoint *endpoint, const struct live *live,
				    struct local_pod **receiver)
{
	struct local_pod *pod = NULL;
	__u32 known;

	if (!live->connection || !may_bypass_stack(skb, packet))
		return false;
	known = known_sender(live, endpoint->policy);
	if (known == NO_PLACE)
		return false;
	if (!known) {
		pod = known_receiver(live);
		if (!pod || pod->ifindex == skb->ifindex)
			return false;
	} else if (!has_gateway(endpoint, packet->destination.family)) {
		return false;
	}
	if (!fits(skb, pod ? pod->ifindex : endpoint->eni_ifindex))
		return false;
	prolong(live, packet);
	*receiver = pod;
	return true;
}

static __always_inline int forward(struct __sk_buff *skb, struct packet *packet, struct endpoint *endpoint)
{
	const bool policy = node_config.flags & CONFIG_POLICY;
	struct local_pod *pod = NULL;
	struct live live = {};
	__u32 path;
	int action = TC_ACT_OK;

	if (policy)
		find_live(skb, packet, &live);
	if (policy && goes_on(skb, packet, endpoint, &live, &pod)) {
		path = pod ? PATH_PEER : PATH_WIRE;
	} else {
		path = choose_path(skb, packet, endpoint, &pod);
		if (policy && !may_leave(skb, packet, endpoint, pod, path, &live))
			return TC_ACT_SHOT;
	}
	if (pod)
		action = deliver(skb, packet, pod);
	else if (path == PATH_WIRE)
		action = send_out(skb, packet, endpoint);
	if (path != PATH_STACK && action != TC_ACT_REDIRECT)
		return drop(skb, packet, endpoint->id, REASON_HOOK(DROP_REWRITE_FAILED, HOOK_FROM_POD), NULL);
	return pass(skb, HOOK_FROM_POD, path, action);
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
		return drop(skb, &packet, 0, REASON_HOOK(DROP_NO_ENDPOINT, HOOK_FROM_POD), NULL);
	if (!reason)
		reason = arp ? check_arp(skb, endpoint) : check_source(skb, &packet, endpoint);
	if (reason)
		return drop(skb, &packet, endpoint->id, REASON_HOOK(reason, HOOK_FROM_POD), NULL);
	/* To the node's own stack it goes marked with the pod's ENI, so that routing leaves by the right one.
	 */
	SET_FIELD(skb, mark, (skb->mark & ~ENI_MARK_MASK) | endpoint->mark);
	SET_FIELD(skb, queue_mapping,
		  0); /* the veth's queue says nothing about the ENI's: let the flow hash choose */
	return arp ? pass(skb, HOOK_FROM_POD, PATH_STACK, TC_ACT_OK) : forward(skb, &packet, endpoint);
}

/* What the stack gives a pod: asked by the pod's policy, but for what comes from itself. `own`: it is to the
 * pod's own address; what is to many leads to no one pod and takes the whole way. */
static __always_inline bool may_enter(struct __sk_buff *skb, struct packet *packet,
				      const struct endpoint *endpoint, bool own)
{
	const struct end receiver = {endpoint->policy, endpoint->id};
	struct end sender = {NO_PLACE, 0};
	struct live live = {};

	if (!(node_config.flags & CONFIG_POLICY))
		return true;
	if (!skb->ingress_ifindex)
		host_end(&sender, &packet->source);
	if (own)
		find_live(skb, packet, &live);
	if (is_established(&live, packet, sender.place, receiver.place, 0) || is_discovery(skb, packet) ||
	    (is_to_itself(packet) && skb->ingress_ifindex == skb->ifindex))
		return true;
	return ask_both(skb, packet, sender, receiver, HOOK_TO_POD, skb->ingress_ifindex);
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
		return drop(skb, &packet, 0, REASON_HOOK(DROP_NO_ENDPOINT, HOOK_TO_POD), NULL);
	if (reason)
		return drop(skb, &packet, endpoint->id, REASON_HOOK(reason, HOOK_TO_POD), NULL);
	if (packet.destination.family == FAMILY_IPV6)
		own = same_address(packet.destination.bytes, endpoint->ipv6);
	else
		own = packet.destination.words[0] == endpoint->ipv4;
	if (!arp && !own && !is_for_stack(&packet.destination))
		return drop(skb, &packet, endpoint->id, REASON_HOOK(DROP_NOT_LOCAL, HOOK_TO_POD), NULL);
	if (!arp && !may_enter(skb, &packet, endpoint, own))
		return TC_ACT_SHOT;
	return pass(skb, HOOK_TO_POD, PATH_STACK, TC_ACT_OK);
}

char LICENSE[] SEC("license") = "GPL";
