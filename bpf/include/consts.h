/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Numbers that C and Python agree on (enitide_enidp.datapath.types and codec; a test compares them). */
#pragma once

/* Hooks: the place of a program in its half of `progs`. Never renumber: attached entry programs outlive the
 * agent. */
#define HOOK_FROM_POD  0 /* tc ingress of the host side of a pod's veth */
#define HOOK_TO_POD    1 /* tc egress of it */
#define HOOK_FROM_WIRE 2 /* tc ingress of an ENI */
#define HOOK_TO_WIRE   3 /* tc egress of an ENI */
#define HOOKS	       8 /* room for hooks of the same program type */
#define HALVES	       2 /* one half of `progs` runs, the other is being filled */

/* How a packet that was let through went on. */
#define PATH_STACK 0
#define PATH_PEER  1
#define PATH_WIRE  2
#define PATHS	   4

#define FAMILY_NONE 0
#define FAMILY_IPV4 4
#define FAMILY_IPV6 6

/* skb->mark: bits 16-23 name the ENI a packet belongs to. Bits 0-15 are left to others (kube-proxy uses
 * 0x4000 and 0x8000), 25-31 are kept for our own later use. */
#define ENI_MARK_SHIFT 16
#define ENI_MARK_MASK  0x00ff0000u
/* What the agent says to the API server: a node's own policy must not cut it off from the next one. */
#define AGENT_MARK 0x01000000u

/* node_config.flags */
#define CONFIG_DIRECT 1u /* redirect past the node's stack; otherwise its routing forwards */
#define CONFIG_POLICY 2u /* connections are tracked and policy is asked; otherwise all of that is pruned */

#define MAX_DROP_REASONS 256
#define MAX_ENDPOINTS	 4096
#define MAX_ADDRESSES	 8192
#define MAX_ENIS	 256
#define MAX_CONNECTIONS	 262144
#define MAX_FRAGMENTS	 8192
#define MAX_RULESETS	 8192 /* the verdict word has 13 bits for them */
#define MAX_RULES	 262144
#define MAX_IDENTITIES	 524288
#define MAX_CIDRS	 131072
#define EPOCHS		 1024
#define EVENTS_BYTES	 (1 << 18)

/* Policy, as enitide_policy.mapstate numbers it. */
#define DIRECTION_INGRESS 0
#define DIRECTION_EGRESS  1
#define DIRECTION_NONE	  255 /* in events: no policy was asked */
#define PEER_ANY	  0
#define PEER_IDENTITY	  1
#define PEER_CIDR_ANY	  2
#define PEER_CIDR_WORLD	  3
#define PEER_KINDS	  4
#define ACTION_NONE	  0
#define ACTION_ALLOW	  1
#define ACTION_DENY	  2
#define ACTION_PASS	  3
#define MIDDLE_DENY	  1
#define MIDDLE_ALLOW	  2
#define IDENTITY_UNKNOWN  0
#define IDENTITY_HOST	  1
#define IDENTITY_WORLD	  2

/* Which keys a rule set has, by direction and kind of peer: bit 0 no L4, bit 1 protocol alone, bit 1 + n a
 * port of n leading bits. */
#define SHAPE_ANY      (1u << 0)
#define SHAPE_PROTOCOL (1u << 1)
#define SHAPE_PORT     (1u << 17)
#define SHAPE_RANGES   0x1fffcu /* 1 to 15 bits */

/* policy.flags. A record of zeros is closed. */
#define HOST_PLACE   0
#define NO_PLACE     (~0u)
#define POLICY_OPEN  1 /* nothing is enforced (connections are tracked all the same) */
#define POLICY_AUDIT 2 /* what would be dropped is counted, told and let through */
#define POLICY_HOST  4 /* place 0 only: policy holds for the node itself; set after the first full sync */

/* ruleset.flags */
#define RULESET_CLOSED		 1 /* not all entries could be written, or not yet: nothing passes */
#define RULESET_ISOLATED_INGRESS 2
#define RULESET_ISOLATED_EGRESS	 4

/* What a rule set says on a connection; the low 3 bits of a verdict word. 0: not asked. */
#define OUTCOME_ALLOWED 1
#define OUTCOME_DENIED	2 /* a rule says no */
#define OUTCOME_DEFAULT 3 /* isolated, and no rule says yes */
#define OUTCOME_UNKNOWN 4 /* the same, and the peer has no identity */
#define OUTCOME_CLOSED	5 /* RULESET_CLOSED */

/* connection.flags */
#define CONNECTION_HIGH 1 /* the initiator is the key's high side */
#define CONNECTION_HOST 2 /* the initiator is this node itself */

/* connection.checked: stamp << 16 | CHECKED_ELSEWHERE | place of the endpoint. */
#define CHECKED_SHIFT	  16
#define CHECKED_PLACE	  0x7fffu
#define CHECKED_ELSEWHERE 0x8000u /* the other end is neither of this node nor the stack's business */

/* connection.tcp */
#define TCP_SEEN_REPLY	  1
#define TCP_SEEN_DATA	  2 /* a segment without SYN */
#define TCP_FIN_INITIATOR 4
#define TCP_FIN_RESPONDER 8
#define TCP_RESET	  16
#define TCP_FIN_BOTH	  (TCP_FIN_INITIATOR | TCP_FIN_RESPONDER)

/* Time is counted in units of 256 of the kernel's ticks: one load where a clock would cost 17 ns. */
#define TICKS_SHIFT 8

/* A test run that must leave no trace puts this into cb[4] and the number of `dry_run` into cb[0] and cb[1].
 */
#define DRY_RUN_MAGIC 0x656e6974u

/* IPv6 extension headers walked before a packet is called malformed. */
#define MAX_EXTENSION_HEADERS 6

/* A function that the kernel verifies once, for whatever it may be called with, and not at each call with
 * each state that may stand there. Its pointers may be NULL as far as the kernel knows, and on Linux 6.1 they
 * are not good for map keys. */
#define VERIFIED_ONCE __attribute__((noinline))

/* Uapi headers that would give these drag in the C library's. */
#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_ARP  0x0806
#define ETHERTYPE_IPV6 0x86dd
