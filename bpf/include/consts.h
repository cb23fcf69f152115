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
 * 0x4000 and 0x8000), 24-31 are kept for our own later use. */
#define ENI_MARK_SHIFT 16
#define ENI_MARK_MASK  0x00ff0000u

/* node_config.flags */
#define CONFIG_DIRECT 1u /* redirect past the node's stack; otherwise its routing forwards */

#define MAX_DROP_REASONS 256
#define MAX_ENDPOINTS	 4096
#define MAX_ADDRESSES	 8192
#define MAX_ENIS	 256
#define EVENTS_BYTES	 (1 << 18)

/* IPv6 extension headers walked before a packet is called malformed. */
#define MAX_EXTENSION_HEADERS 6

/* Uapi headers that would give these drag in the C library's. */
#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_ARP  0x0806
#define ETHERTYPE_IPV6 0x86dd
