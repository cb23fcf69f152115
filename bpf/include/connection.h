/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* One object for each flow: whose turn it is, how long it lives. An expired object is as good as absent; who
 * finds one writes over it. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "flow.h"
#include "maps.h"

static __always_inline bool is_closing(__u8 tcp)
{
	return tcp & TCP_RESET || (tcp & TCP_FIN_BOTH) == TCP_FIN_BOTH;
}

/* Does the packet go the initiator's way? */
static __always_inline bool goes_forward(const struct connection *connection, const struct flow *flow)
{
	return flow->flipped == !!(connection->flags & CONNECTION_HIGH);
}

/* A SYN on a closing connection, or one of the responder, is a new connection with the same ports. */
static __always_inline bool begins_anew(const struct connection *connection, const struct flow *flow)
{
	const __u8 flags = flow->transport.tcp;

	if (flow->kind == FLOW_RELATED || !(flags & TCP_FLAG_SYN) || flags & TCP_FLAG_ACK)
		return false;
	return is_closing(connection->tcp) || !goes_forward(connection, flow);
}

static __always_inline __u8 next_tcp(__u8 tcp, __u8 flags, bool forward)
{
	if (flags & TCP_FLAG_RST)
		tcp |= TCP_RESET;
	else if (!(flags & TCP_FLAG_SYN))
		tcp &= ~TCP_RESET; /* they talk on: the reset was not for them */
	if (flags & TCP_FLAG_FIN)
		tcp |= forward ? TCP_FIN_INITIATOR : TCP_FIN_RESPONDER;
	if (!(flags & TCP_FLAG_SYN))
		tcp |= TCP_SEEN_DATA;
	if (!forward)
		tcp |= TCP_SEEN_REPLY;
	return tcp;
}

static __always_inline __u32 life(__u8 protocol, __u8 tcp)
{
	if (protocol != PROTOCOL_TCP)
		return node_config.life_other;
	if (is_closing(tcp))
		return node_config.life_tcp_closing;
	if (tcp & TCP_SEEN_DATA && tcp & TCP_SEEN_REPLY)
		return node_config.life_tcp;
	return node_config.life_tcp_opening;
}

/* A packet of a live connection was let through. At most one write to its memory in a unit of time, unless
 * its state changes. */
static __always_inline void touch(struct connection *connection, const struct flow *flow, bool forward,
				  __u32 now)
{
	__u8 tcp = connection->tcp;
	__u32 expires;

	if (flow->key.protocol == PROTOCOL_TCP)
		tcp = next_tcp(tcp, flow->transport.tcp, forward);
	expires = now + life(flow->key.protocol, tcp);
	if (tcp != connection->tcp)
		connection->tcp = tcp;
	if (expires != connection->expires)
		connection->expires = expires;
}
