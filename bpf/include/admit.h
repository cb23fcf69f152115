/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* May a packet pass, by the policy of the pod that sends it and of the pod that gets it? Both are asked where
 * both are known; what was said is remembered in the connection, so an established packet costs one lookup.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "connection.h"
#include "dry.h"
#include "policy.h"
#include "stats.h"

/* One end: where its policy stands (NO_PLACE: not on this node), and its endpoint. */
struct end {
	__u32 place;
	__u32 endpoint_id;
};

/* The ends of a packet that are on this node, and where it is seen. `ifindex` is where it came into this
 * node, 0 if it began here. */
struct ends {
	struct end sender;
	struct end receiver;
	__u32 hook;
	__u32 ifindex;
};

static __always_inline int reason_of(int outcome)
{
	switch (outcome) {
	case OUTCOME_ALLOWED:
		return 0;
	case OUTCOME_DENIED:
		return DROP_POLICY_DENIED;
	case OUTCOME_DEFAULT:
		return DROP_POLICY_DEFAULT_DENY;
	case OUTCOME_UNKNOWN:
		return DROP_IDENTITY_UNKNOWN;
	default:
		return DROP_POLICY_MAP_FULL;
	}
}

/* The other end of the flow, as the end that is asked sees it. */
static __always_inline const __u32 *peer_of(const struct passage *passage)
{
	return passage->source == passage->flow.flipped ? passage->flow.key.high : passage->flow.key.low;
}

/* Whose rules are asked: those for what the initiator sends, or for what the responder gets. */
static __always_inline __u8 direction_of(const struct passage *passage)
{
	return passage->forward == passage->source ? DIRECTION_INGRESS : DIRECTION_EGRESS;
}

static __always_inline void record(struct dry_run *dry, const struct passage *passage,
				   const struct query *query, __u32 outcome, bool fresh)
{
	struct asked *asked = passage->source ? &dry->receiver : &dry->sender;

	asked->ruleset = passage->policy.ruleset;
	asked->identity = passage->policy.identity;
	asked->flags = passage->policy.flags;
	asked->direction = query->direction;
	asked->outcome = outcome;
	asked->fresh = fresh;
	asked->peer = query->identity;
	asked->cidr = query->cidr;
	asked->rule = query->decided;
	asked->tier = query->tier;
}

/* The way of a packet whose verdict is not remembered, or is a no. Returns 0 or a drop reason; `said` is who
 * said so. */
VERIFIED_ONCE int ask_rules(struct __sk_buff *skb, struct passage *passage, struct said *said)
{
	struct workspace *work = workspace();
	struct dry_run *dry = dry_run_of(skb);
	bool fresh = false;
	__u32 reason, outcome;
	__u64 verdict;
	__u8 direction;

	if (!work || !passage || !said)
		return DROP_POLICY_PENDING;
	direction = direction_of(passage);
	__builtin_memset(&work->query, 0, sizeof(work->query));
	work->query.peer.family = passage->flow.key.family;
	__builtin_memcpy(work->query.peer.words, peer_of(passage), 16);
	work->query.ruleset = passage->policy.ruleset;
	work->query.port = passage->port;
	work->query.protocol = passage->flow.key.protocol;
	work->query.direction = direction;
	verdict = direction == DIRECTION_EGRESS ? passage->verdicts[1] : passage->verdicts[0];
	outcome = verdict & 7;
	if (passage->stamp && (!outcome || verdict != (passage->stamp | outcome))) {
		outcome = evaluate(direction);
		verdict = passage->stamp | outcome;
		if (direction == DIRECTION_EGRESS)
			passage->verdicts[1] = verdict;
		else
			passage->verdicts[0] = verdict;
		passage->asked = fresh = true;
	} else {
		identify(true);
	}
	reason = passage->stamp ? reason_of(outcome) : passage->reason;
	if (passage->forward)
		passage->initiator = passage->source ? work->query.identity : passage->policy.identity;
	if (dry)
		record(dry, passage, &work->query, outcome, fresh);
	said->ruleset = passage->policy.ruleset;
	said->identity = passage->policy.identity;
	said->peer = work->query.identity;
	said->direction = direction;
	said->audit = !!(passage->policy.flags & POLICY_AUDIT);
	return reason;
}

/* What one end says: 0, or the reason of a drop. `blind`: a reason for which no rule can be asked, or 0. */
static __always_inline int ask(struct __sk_buff *skb, struct passage *passage, const struct end *end,
			       __u32 blind, struct said *said)
{
	__u32 place = end->place, *epoch;
	struct policy *policy = bpf_map_lookup_elem(&policies, &place);
	const bool egress = direction_of(passage) == DIRECTION_EGRESS;
	struct ruleset *head;

	if (!policy)
		return DROP_POLICY_PENDING;
	if (policy->flags & POLICY_OPEN || passage->from_host)
		return 0;
	said->endpoint_id = end->endpoint_id;
	passage->policy = *policy;
	passage->reason = blind;
	passage->stamp = 0;
	place = policy->ruleset;
	head = bpf_map_lookup_elem(&rulesets, &place);
	if (!blind && place && head) {
		/* Both are read before any rule: what changes meanwhile makes the word old, not wrong. */
		passage->stamp = (__u64)head->generation << 32 | place << 3;
		place = epoch_place(peer_of(passage));
		epoch = bpf_map_lookup_elem(&epochs, &place);
		if (epoch)
			passage->stamp |= (*epoch & 0xffff) << 16;
		if ((egress ? passage->verdicts[1] : passage->verdicts[0]) ==
			    (passage->stamp | OUTCOME_ALLOWED) &&
		    skb->cb[4] != DRY_RUN_MAGIC)
			return 0;
	} else if (!blind) {
		passage->reason = DROP_POLICY_PENDING;
	}
	return ask_rules(skb, passage, said);
}

/* A connection for a new flow, with what was said of it: over an old one, or one more. Returns 0 or a drop
 * reason. */
VERIFIED_ONCE int begin(struct connection *old)
{
	struct workspace *work = workspace();
	struct connection made = {};
	const struct passage *passage;

	if (!work)
		return DROP_CONNECTION_FAILED;
	passage = &work->passage;
	made.verdicts[0] = passage->verdicts[0];
	made.verdicts[1] = passage->verdicts[1];
	made.identity = passage->from_host ? IDENTITY_HOST : passage->initiator;
	made.ingress_ifindex = passage->ifindex;
	made.flags =
		(passage->flow.flipped ? CONNECTION_HIGH : 0) | (passage->from_host ? CONNECTION_HOST : 0);
	if (passage->flow.key.protocol == PROTOCOL_TCP)
		made.tcp = next_tcp(0, passage->flow.transport.tcp, true);
	made.expires = passage->now + life(passage->flow.key.protocol, made.tcp);
	if (!old)
		return bpf_map_update_elem(&connections, &passage->flow.key, &made, BPF_ANY)
			       ? DROP_CONNECTION_FAILED
			       : 0;
	*old = made;
	return 0;
}

/* An end said no: count and tell. Returns 0 if it only audits, and the packet goes on. */
static __always_inline int stops(struct __sk_buff *skb, const struct packet *packet, const struct said *said,
				 __u32 reason, __u32 hook)
{
	drop(skb, packet, said->endpoint_id, REASON_HOOK(reason, hook), said);
	return said->audit ? 0 : reason;
}

/* Direction and port, from the live connection or as those of a new flow. */
static __always_inline void orient(struct passage *passage, const struct packet *packet,
				   const struct connection *connection)
{
	if (connection) {
		passage->forward = goes_forward(connection, &passage->flow);
		passage->from_host = !!(connection->flags & CONNECTION_HOST);
		passage->verdicts[0] = connection->verdicts[0];
		passage->verdicts[1] = connection->verdicts[1];
	} else if (passage->flow.kind == FLOW_RELATED) {
		set_single(&passage->flow, packet);
	}
	if (!connection && passage->flow.kind != FLOW_TRACKED)
		passage->port = passage->flow.transport.source;
	else
		passage->port = passage->forward == passage->flow.flipped ? passage->flow.key.low_port
									  : passage->flow.key.high_port;
}

/* Ask one end; what it says is counted and told. Returns 0 if the packet goes on. */
static __always_inline int pass_end(struct __sk_buff *skb, const struct packet *packet,
				    struct passage *passage, const struct end *end, __u32 blind, __u32 hook)
{
	struct said said = {};
	__u32 reason;

	if (end->place == NO_PLACE)
		return 0;
	reason = ask(skb, passage, end, blind, &said);
	return reason ? stops(skb, packet, &said, reason, hook) : 0;
}

/* Linux 6.1 takes no key from where an argument points. */
static __always_inline bool is_own_address(const struct packet *packet)
{
	const struct address source = packet->source;

	return bpf_map_lookup_elem(&node_addresses, &source);
}

/* What the node says to its own pods, its agent to the API server, and a pod whose packet (it has its ENI's
 * mark, and its policy was asked) the node's netfilter has given an address of the node: neither end is
 * asked. */
static __always_inline bool is_exempt(const struct __sk_buff *skb, __u32 hook)
{
	return hook == HOOK_TO_POD ? !skb->ingress_ifindex
				   : hook == HOOK_TO_WIRE && skb->mark & (AGENT_MARK | ENI_MARK_MASK);
}

/* 1 if the packet may pass. If not, it has been counted and told of. */
VERIFIED_ONCE int admit(struct __sk_buff *skb, struct packet *packet, const struct ends *ends)
{
	struct connection *connection = NULL, *old = NULL;
	struct workspace *work = workspace();
	struct dry_run *dry = dry_run_of(skb);
	struct passage *passage;
	__u32 blind, reason = 0;

	if (!packet || !ends || !work)
		return 0;
	passage = &work->passage;
	__builtin_memset(passage, 0, sizeof(*passage));
	passage->now = clock_units();
	passage->ifindex = ends->ifindex;
	passage->forward = true;
	passage->from_host = is_exempt(skb, ends->hook);
	blind = read_flow(skb, packet, &passage->flow, passage->now, ends->hook == HOOK_FROM_POD);
	if (!blind && passage->flow.kind != FLOW_SINGLE)
		connection = bpf_map_lookup_elem(&connections, &passage->flow.key);
	if (connection && (connection->expires <= passage->now || begins_anew(connection, &passage->flow))) {
		old = connection;
		connection = NULL;
	}
	if (!connection && ends->hook == HOOK_FROM_WIRE && is_own_address(packet)) {
		drop(skb, packet, ends->receiver.endpoint_id, REASON_HOOK(DROP_SPOOFED_SOURCE, ends->hook),
		     NULL);
		return 0; /* the node's own address from outside */
	}
	orient(passage, packet, connection);
	if (dry) {
		dry->key = passage->flow.key;
		if (connection)
			dry->connection = *connection;
	}
	reason = pass_end(skb, packet, passage, &ends->sender, blind, ends->hook);
	if (!reason) {
		passage->source = true;
		reason = pass_end(skb, packet, passage, &ends->receiver, blind, ends->hook);
	}
	if (connection && passage->asked && !dry) {
		connection->verdicts[0] = passage->verdicts[0];
		connection->verdicts[1] = passage->verdicts[1];
	}
	if (reason || blind || dry)
		return !reason;
	if (connection) {
		if (passage->flow.kind != FLOW_RELATED)
			touch(connection, &passage->flow, passage->forward, passage->now);
	} else if (passage->flow.kind == FLOW_TRACKED && begin(old)) {
		drop(skb, packet, 0, REASON_HOOK(DROP_CONNECTION_FAILED, ends->hook), NULL);
		return 0;
	}
	if (packet->flags & PACKET_FIRST)
		remember_fragment(packet, &passage->flow.transport, passage->now);
	return 1;
}
