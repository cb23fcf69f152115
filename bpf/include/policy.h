/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* What a rule set says on a peer and a port: enitide_policy.mapstate in C. Exact-hash lookups for the shapes
 * that the rule set has; all hits are folded by tier. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "maps.h"
#include "reasons.h"
#include "workspace.h"

#define TIER_NONE     0
#define TIER_ADMIN    1
#define TIER_MIDDLE   2
#define TIER_BASELINE 3

static __always_inline void look(struct fold *fold, const struct rule_key *key)
{
	struct rule *rule = bpf_map_lookup_elem(&rules, key);

	if (!rule)
		return;
	if (rule->admin != ACTION_NONE && rule->admin_precedence >= fold->admin.admin_precedence) {
		fold->admin = *rule;
		fold->admin_key = *key;
	}
	if (rule->baseline != ACTION_NONE &&
	    rule->baseline_precedence >= fold->baseline.baseline_precedence) {
		fold->baseline = *rule;
		fold->baseline_key = *key;
	}
	if (rule->middle & MIDDLE_DENY && !(fold->middle & MIDDLE_DENY))
		fold->deny_key = *key;
	if (rule->middle & MIDDLE_ALLOW && !(fold->middle & MIDDLE_ALLOW))
		fold->allow_key = *key;
	fold->middle |= rule->middle;
}

/* One kind of peer: each shape that the rule set has. */
VERIFIED_ONCE int look_all(__u32 kind, __u32 shapes, __u32 identity)
{
	struct workspace *work = workspace();
	struct rule_key *key;
	struct query *query;
	struct fold *fold;

	if (!work)
		return 0;
	query = &work->query;
	fold = &work->fold;
	key = &work->key; /* not on the stack, of which Linux 6.1 counts 32 bytes at least for each call */
	__builtin_memset(key, 0, sizeof(*key));

	key->ruleset = query->ruleset;
	key->identity = identity;
	key->direction = query->direction;
	key->peer = kind;
	if (shapes & SHAPE_ANY)
		look(fold, key);
	key->protocol = query->protocol;
	if (shapes & SHAPE_PROTOCOL)
		look(fold, key);
	key->port_bits = 16;
	key->port = query->port;
	if (shapes & SHAPE_PORT)
		look(fold, key);
	if (!(shapes & SHAPE_RANGES))
		return 0;
#pragma clang loop unroll(disable)
	for (__u32 bits = 1; bits < 16; bits++) {
		if (!(shapes >> (bits + 1) & 1))
			continue;
		key->port_bits = bits;
		key->port = query->port & (0xffff0000u >> bits);
		look(fold, key);
	}
	return 0;
}

/* Who has this address: its exact record, else world or unknown; and its CIDR, if `with_cidr`. */
VERIFIED_ONCE int identify(__u32 with_cidr)
{
	struct workspace *work = workspace();
	struct query *query;
	const __u32 *exact;
	struct cidr_key key = {};
	struct cidr *cidr;

	if (!work)
		return 0;
	query = &work->query;
	exact = bpf_map_lookup_elem(&identities, &query->peer);
	query->known = exact != NULL;
	query->cidr = 0;
	if (exact)
		query->identity = *exact;
	if (exact && !with_cidr)
		return 0;
	key.prefix_bits = query->peer.family == FAMILY_IPV4 ? 64 : 160;
	key.family = query->peer.family;
	__builtin_memcpy(key.words, query->peer.words, 16);
	cidr = bpf_map_lookup_elem(&cidrs, &key);
	if (cidr)
		query->cidr = cidr->identity;
	if (!exact)
		query->identity = cidr ? cidr->class : IDENTITY_WORLD;
	return 0;
}

static __always_inline int decide(struct query *query, __u8 tier, const struct rule_key *key, int outcome)
{
	query->tier = tier;
	query->decided = *key;
	return outcome;
}

/* Admin, then deny and allow, then baseline. */
static __always_inline int conclude(struct query *query, const struct fold *fold, bool isolated)
{
	if (fold->admin.admin == ACTION_ALLOW)
		return decide(query, TIER_ADMIN, &fold->admin_key, OUTCOME_ALLOWED);
	if (fold->admin.admin == ACTION_DENY)
		return decide(query, TIER_ADMIN, &fold->admin_key, OUTCOME_DENIED);
	if (fold->middle & MIDDLE_DENY)
		return decide(query, TIER_MIDDLE, &fold->deny_key, OUTCOME_DENIED);
	if (isolated && fold->middle & MIDDLE_ALLOW)
		return decide(query, TIER_MIDDLE, &fold->allow_key, OUTCOME_ALLOWED);
	if (isolated)
		return query->known || query->identity != IDENTITY_UNKNOWN ? OUTCOME_DEFAULT
									   : OUTCOME_UNKNOWN;
	if (fold->baseline.baseline == ACTION_ALLOW)
		return decide(query, TIER_BASELINE, &fold->baseline_key, OUTCOME_ALLOWED);
	if (fold->baseline.baseline == ACTION_DENY)
		return decide(query, TIER_BASELINE, &fold->baseline_key, OUTCOME_DENIED);
	return OUTCOME_ALLOWED;
}

static __always_inline void look_for(const struct ruleset *head, __u32 direction, __u32 kind, __u32 identity)
{
	const __u32 shapes = head->shapes[(direction == DIRECTION_EGRESS ? PEER_KINDS : 0) + kind];

	if (shapes)
		look_all(kind, shapes, identity);
}

/* What the rule set of the query in the workspace says; an OUTCOME_*. */
VERIFIED_ONCE int evaluate(__u32 direction)
{
	struct workspace *work = workspace();
	const bool egress = direction == DIRECTION_EGRESS;
	const __u32 base = egress ? PEER_KINDS : 0;
	struct ruleset *head;
	__u32 place;

	if (!work)
		return OUTCOME_CLOSED;
	__builtin_memset(&work->fold, 0, sizeof(work->fold));
	place = work->query.ruleset;
	head = bpf_map_lookup_elem(&rulesets, &place);
	if (!head || head->flags & RULESET_CLOSED)
		return OUTCOME_CLOSED;
	identify(head->shapes[base + PEER_CIDR_ANY] || head->shapes[base + PEER_CIDR_WORLD]);
	look_for(head, direction, PEER_ANY, 0);
	look_for(head, direction, PEER_IDENTITY, work->query.identity);
	if (work->query.cidr) {
		look_for(head, direction, PEER_CIDR_ANY, work->query.cidr);
		if (!work->query.known)
			look_for(head, direction, PEER_CIDR_WORLD, work->query.cidr);
	}
	return conclude(&work->query, &work->fold,
			head->flags & (egress ? RULESET_ISOLATED_EGRESS : RULESET_ISOLATED_INGRESS));
}

/* Which of the epochs an address counts in. */
static __always_inline __u32 epoch_place(const __u32 *words)
{
	__u32 hash = words[0] ^ words[1] ^ words[2] ^ words[3];

	hash *= 0x9e3779b1u;
	return hash >> 22 & (EPOCHS - 1);
}
