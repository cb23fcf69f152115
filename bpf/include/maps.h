/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* All maps. Each is pinned by its name under PIN_DIR/vSCHEMA/maps and shared by every program set and the
 * agent; a change of any key, value or size here needs a new SCHEMA (enitide_enidp.datapath.codec). */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "consts.h"
#include "structs.h"

#define MAP(name, map_type, key_type, value_type, entries)                                                   \
	struct {                                                                                             \
		__uint(type, map_type);                                                                      \
		__uint(max_entries, entries);                                                                \
		__uint(pinning, LIBBPF_PIN_BY_NAME);                                                         \
		__type(key, key_type);                                                                       \
		__type(value, value_type);                                                                   \
	} name SEC(".maps")

/* The half of `progs` that runs. */
MAP(active, BPF_MAP_TYPE_ARRAY, __u32, __u32, 1);

/* The programs: half x HOOKS + hook. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, HALVES *HOOKS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} progs SEC(".maps");

/* What each half of `progs` was filled with, so that a restarted agent can adopt it. */
MAP(sets, BPF_MAP_TYPE_ARRAY, __u32, struct set_info, HALVES);

/* Pods of this node by the ifindex of the host side of their veth. */
MAP(endpoints, BPF_MAP_TYPE_HASH, __u32, struct endpoint, MAX_ENDPOINTS);

/* Pods of this node by address: where to deliver. */
MAP(local, BPF_MAP_TYPE_HASH, struct address, struct local_pod, MAX_ADDRESSES);

/* The same by place: where to deliver what belongs to a connection that knows its pod. */
MAP(pods, BPF_MAP_TYPE_ARRAY, __u32, struct local_pod, MAX_ENDPOINTS);

/* The node's own addresses, with the ifindex of their device: for the stack. */
MAP(node_addresses, BPF_MAP_TYPE_HASH, struct address, __u32, MAX_ADDRESSES);

/* Managed ENIs by ifindex. */
MAP(enis, BPF_MAP_TYPE_HASH, __u32, struct eni, MAX_ENIS);

/* Dropped packets and bytes: reason x HOOKS + hook. */
MAP(drops, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct counter, MAX_DROP_REASONS *HOOKS);

/* Packets and bytes let through: hook x PATHS + path. */
MAP(forwards, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct counter, HOOKS *PATHS);

/* Rate limit of drop events by reason. */
MAP(event_budgets, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct event_budget, MAX_DROP_REASONS);

/* What an endpoint may do, by its place; 0 is the node itself. */
MAP(policies, BPF_MAP_TYPE_ARRAY, __u32, struct policy, MAX_ENDPOINTS);

/* Heads of the rule sets by their place; 0 is none. */
MAP(rulesets, BPF_MAP_TYPE_ARRAY, __u32, struct ruleset, MAX_RULESETS);

/* The entries of all rule sets. Made in advance (25 MB): three times as fast to fill. */
MAP(rules, BPF_MAP_TYPE_HASH, struct rule_key, struct rule, MAX_RULES);

/* Maps that grow with what is in them: few nodes need all of it. */
#define GROWING_MAP(name, map_type, key_type, value_type, entries)                                           \
	struct {                                                                                             \
		__uint(type, map_type);                                                                      \
		__uint(max_entries, entries);                                                                \
		__uint(pinning, LIBBPF_PIN_BY_NAME);                                                         \
		__uint(map_flags, BPF_F_NO_PREALLOC);                                                        \
		__type(key, key_type);                                                                       \
		__type(value, value_type);                                                                   \
	} name SEC(".maps")

/* Identities of single addresses: pods and nodes. */
GROWING_MAP(identities, BPF_MAP_TYPE_HASH, struct address, __u32, MAX_IDENTITIES);

/* Identities of CIDRs that policies name, and the cluster's own networks. */
GROWING_MAP(cidrs, BPF_MAP_TYPE_LPM_TRIE, struct cidr_key, struct cidr, MAX_CIDRS);

/* How often an address's identity has changed, by a hash over the address: verdicts of an older epoch are
 * asked again. */
MAP(epochs, BPF_MAP_TYPE_ARRAY, __u32, __u32, EPOCHS);

/* A number that is another one after anything has changed on which a verdict or a way rests. */
MAP(stamp, BPF_MAP_TYPE_ARRAY, __u32, __u64, 1);

/* One entry for each flow. Expired ones are absent and written over; LRU is the last resort. */
MAP(connections, BPF_MAP_TYPE_LRU_HASH, struct connection_key, struct connection, MAX_CONNECTIONS);

/* Ports of datagrams whose fragments are on their way. */
MAP(fragments, BPF_MAP_TYPE_LRU_HASH, struct fragment_key, struct fragment, MAX_FRAGMENTS);

/* Packets that policy would have dropped, and bytes: reason x HOOKS + hook. */
MAP(audits, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct counter, MAX_DROP_REASONS *HOOKS);

/* Where `enitide packet` asks and is answered. */
MAP(dry_runs, BPF_MAP_TYPE_ARRAY, __u32, struct dry_run, 1);

/* Drop events for `enitide monitor`. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, EVENTS_BYTES);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} events SEC(".maps");
