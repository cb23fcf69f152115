// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/* Map shapes to compare with, nothing more: one hash lookup of our connection
 * key; and what a policy of addresses costs that keeps, for each address, an
 * array of 24 (protocol, port range) tuples behind a longest-prefix match. */

#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_helpers.h> /* after the types it uses */

#define TUPLES 24

struct flow_key {
  __u32 words[10];
};

struct flow {
  __u64 words[4];
};

struct prefix {
  __u32 bits;
  __u32 address;
};

struct tuples {
  struct {
    __u32 protocol;
    __u32 first;
    __u32 last;
  } each[TUPLES];
};

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 262144);
  __type(key, struct flow_key);
  __type(value, struct flow);
} flows SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LPM_TRIE);
  __uint(max_entries, 131072);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct prefix);
  __type(value, struct tuples);
} prefixes SEC(".maps");

SEC("tc")
int shape_nothing(struct __sk_buff *skb) { return skb->mark == 0; }

SEC("tc")
int shape_hash(struct __sk_buff *skb) {
  struct flow_key key = {};
  struct flow *found;

  key.words[0] = skb->mark;
  found = bpf_map_lookup_elem(&flows, &key);
  return found && found->words[0];
}

SEC("tc")
int shape_prefix_scan(struct __sk_buff *skb) {
  struct prefix key = {32, skb->mark};
  struct tuples *found = bpf_map_lookup_elem(&prefixes, &key);

  if (!found)
    return 0;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < TUPLES; i++) {
    if (found->each[i].protocol == 6 && found->each[i].first <= 80 &&
        80 <= found->each[i].last)
      return 1;
  }
  return 0;
}

char LICENSE[] SEC("license") = "GPL";
