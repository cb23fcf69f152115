// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/* What hangs on the interfaces, and never changes: read which half of the program array runs, jump into it.
 * So a new program set takes over on every interface by one map write. A missing program closes pods and
 * opens the node. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "include/maps.h"
#include "include/reasons.h"

static __always_inline void enter(struct __sk_buff *skb, __u32 hook)
{
	__u32 zero = 0;
	__u32 *half = bpf_map_lookup_elem(&active, &zero);

	if (half)
		bpf_tail_call(skb, &progs, *half * HOOKS + hook);
}

static __always_inline int closed(struct __sk_buff *skb, __u32 hook)
{
	__u32 key = DROP_NO_PROGRAM * HOOKS + hook;
	struct counter *counter = bpf_map_lookup_elem(&drops, &key);

	if (counter) {
		counter->packets += 1;
		counter->bytes += skb->len;
	}
	return TC_ACT_SHOT;
}

SEC("tc")
int entry_from_pod(struct __sk_buff *skb)
{
	enter(skb, HOOK_FROM_POD);
	return closed(skb, HOOK_FROM_POD);
}

SEC("tc")
int entry_to_pod(struct __sk_buff *skb)
{
	enter(skb, HOOK_TO_POD);
	return closed(skb, HOOK_TO_POD);
}

SEC("tc")
int entry_from_wire(struct __sk_buff *skb)
{
	enter(skb, HOOK_FROM_WIRE);
	return TC_ACT_UNSPEC;
}

SEC("tc")
int entry_to_wire(struct __sk_buff *skb)
{
	enter(skb, HOOK_TO_WIRE);
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "GPL";
