// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/* `enitide trace`: what the whole kernel drops, and how connects fare; loaded while the command runs. Offsets
 * of kernel structures come from the kernel's own BTF, so no header and no compiler is needed on a node. */
#include <linux/bpf.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <asm/ptrace.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>

#define FAMILY_INET    2
#define FAMILY_INET6   10
#define STATE_SYN_SENT 2
#define STATE_OPEN     1
#define STATE_CLOSED   7
#define KIND_DROP      1
#define KIND_CONNECT   2
#define KIND_FAILED    3 /* refused, timed out */
#define KIND_UNSENT    4 /* failed before its first packet; needs kernel probes */

struct net_device {
	int ifindex;
} __attribute__((preserve_access_index));

struct sk_buff {
	unsigned int len;
	__be16 protocol;
	__u16 network_header;
	unsigned char *head;
	struct net_device *dev;
} __attribute__((preserve_access_index));

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
} __attribute__((preserve_access_index));

struct sock {
	struct sock_common __sk_common;
} __attribute__((preserve_access_index));

struct trace_event {
	__u64 time_ns;
	__u64 location; /* of a drop: the instruction that freed the packet */
	__u64 duration_ns; /* of a connect */
	__u32 kind;
	__u32 reason; /* of a drop: the kernel's; of KIND_UNSENT: errno */
	__u32 ifindex;
	__u32 length;
	__u32 pid;
	__u16 source_port; /* host order, as the next */
	__u16 destination_port;
	__u16 ethertype;
	__u8 family;
	__u8 protocol;
	__u8 source[16];
	__u8 destination[16];
	__u8 command[16];
	__u32 pad;
};
_Static_assert(sizeof(struct trace_event) == 104, "struct trace_event has another size");

struct started {
	__u64 time_ns;
	__u32 pid;
	__u32 pad;
	__u8 command[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 19);
} trace_events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct started);
} connecting SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

static __always_inline struct trace_event *begin(__u32 kind)
{
	struct trace_event *event = bpf_ringbuf_reserve(&trace_events, sizeof(*event), 0);
	__u32 zero = 0;
	__u64 *count;

	if (!event) {
		count = bpf_map_lookup_elem(&lost, &zero);
		if (count)
			__sync_fetch_and_add(count, 1);
		return NULL;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->time_ns = bpf_ktime_get_ns();
	event->kind = kind;
	return event;
}

static __always_inline void read_ports(struct trace_event *event, const unsigned char *transport)
{
	__be16 ports[2] = {};

	if (event->protocol != 6 && event->protocol != 17 && event->protocol != 132)
		return;
	bpf_probe_read_kernel(ports, sizeof(ports), transport);
	event->source_port = bpf_ntohs(ports[0]);
	event->destination_port = bpf_ntohs(ports[1]);
}

static __always_inline void read_network(struct trace_event *event, const unsigned char *header)
{
	if (event->ethertype == 0x0800) {
		struct iphdr ip = {};

		bpf_probe_read_kernel(&ip, sizeof(ip), header);
		event->family = 4;
		event->protocol = ip.protocol;
		__builtin_memcpy(event->source, &ip.saddr, 4);
		__builtin_memcpy(event->destination, &ip.daddr, 4);
		read_ports(event, header + ip.ihl * 4);
	} else if (event->ethertype == 0x86dd) {
		struct ipv6hdr ip = {};

		bpf_probe_read_kernel(&ip, sizeof(ip), header);
		event->family = 6;
		event->protocol = ip.nexthdr;
		__builtin_memcpy(event->source, &ip.saddr, 16);
		__builtin_memcpy(event->destination, &ip.daddr, 16);
		read_ports(event, header + sizeof(ip));
	}
}

SEC("raw_tp/kfree_skb")
int kfree_skb(struct bpf_raw_tracepoint_args *context)
{
	struct sk_buff *skb = (struct sk_buff *)context->args[0];
	struct trace_event *event = begin(KIND_DROP);
	struct net_device *device;

	if (!event)
		return 0;
	event->location = context->args[1];
	event->reason = context->args[2];
	event->length = BPF_CORE_READ(skb, len);
	event->ethertype = bpf_ntohs(BPF_CORE_READ(skb, protocol));
	device = BPF_CORE_READ(skb, dev);
	if (device)
		event->ifindex = BPF_CORE_READ(device, ifindex);
	read_network(event, BPF_CORE_READ(skb, head) + BPF_CORE_READ(skb, network_header));
	bpf_ringbuf_submit(event, 0);
	return 0;
}

static __always_inline void read_socket(struct trace_event *event, struct sock *socket)
{
	struct in6_addr address;
	__u32 word;

	event->protocol = 6;
	event->source_port = BPF_CORE_READ(socket, __sk_common.skc_num);
	event->destination_port = bpf_ntohs(BPF_CORE_READ(socket, __sk_common.skc_dport));
	if (BPF_CORE_READ(socket, __sk_common.skc_family) == FAMILY_INET6) {
		event->family = 6;
		address = BPF_CORE_READ(socket, __sk_common.skc_v6_rcv_saddr);
		__builtin_memcpy(event->source, &address, 16);
		address = BPF_CORE_READ(socket, __sk_common.skc_v6_daddr);
		__builtin_memcpy(event->destination, &address, 16);
		return;
	}
	event->family = 4;
	word = BPF_CORE_READ(socket, __sk_common.skc_rcv_saddr);
	__builtin_memcpy(event->source, &word, 4);
	word = BPF_CORE_READ(socket, __sk_common.skc_daddr);
	__builtin_memcpy(event->destination, &word, 4);
}

static __always_inline void remember(__u64 key)
{
	struct started started = {};

	started.time_ns = bpf_ktime_get_ns();
	started.pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(started.command, sizeof(started.command));
	bpf_map_update_elem(&connecting, &key, &started, BPF_ANY);
}

static __always_inline void tell(struct sock *socket, __u64 key, __u32 kind, __u32 reason)
{
	struct started *started = bpf_map_lookup_elem(&connecting, &key);
	struct trace_event *event;

	if (!started)
		return;
	event = begin(kind);
	if (event) {
		event->duration_ns = event->time_ns - started->time_ns;
		event->pid = started->pid;
		event->reason = reason;
		__builtin_memcpy(event->command, started->command, sizeof(event->command));
		read_socket(event, socket);
		bpf_ringbuf_submit(event, 0);
	}
	bpf_map_delete_elem(&connecting, &key);
}

SEC("raw_tp/inet_sock_set_state")
int inet_sock_set_state(struct bpf_raw_tracepoint_args *context)
{
	struct sock *socket = (struct sock *)context->args[0];
	const int before = context->args[1], after = context->args[2];

	if (after == STATE_SYN_SENT)
		remember((__u64)socket);
	else if (before == STATE_SYN_SENT && after == STATE_OPEN)
		tell(socket, (__u64)socket, KIND_CONNECT, 0);
	else if (before == STATE_SYN_SENT && after == STATE_CLOSED)
		tell(socket, (__u64)socket, KIND_FAILED, 0);
	return 0;
}

/* What fails before the socket has a state: no route, no address. Only kernels with probes can tell of it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u64);
} calling SEC(".maps");

static __always_inline int on_call(struct pt_regs *context)
{
	__u64 thread = bpf_get_current_pid_tgid(), socket = PT_REGS_PARM1(context);

	bpf_map_update_elem(&calling, &thread, &socket, BPF_ANY);
	return 0;
}

static __always_inline int on_return(struct pt_regs *context)
{
	__u64 thread = bpf_get_current_pid_tgid(), *socket = bpf_map_lookup_elem(&calling, &thread);
	const int result = PT_REGS_RC(context);
	struct trace_event *event;

	if (!socket)
		return 0;
	event = result < 0 ? begin(KIND_UNSENT) : NULL;
	if (event) {
		event->reason = -result;
		event->pid = thread >> 32;
		bpf_get_current_comm(event->command, sizeof(event->command));
		read_socket(event, (struct sock *)*socket);
		bpf_ringbuf_submit(event, 0);
	}
	bpf_map_delete_elem(&calling, &thread);
	return 0;
}

SEC("kprobe/tcp_v4_connect")
int call_tcp_v4_connect(struct pt_regs *context)
{
	return on_call(context);
}

SEC("kretprobe/tcp_v4_connect")
int return_tcp_v4_connect(struct pt_regs *context)
{
	return on_return(context);
}

SEC("kprobe/tcp_v6_connect")
int call_tcp_v6_connect(struct pt_regs *context)
{
	return on_call(context);
}

SEC("kretprobe/tcp_v6_connect")
int return_tcp_v6_connect(struct pt_regs *context)
{
	return on_return(context);
}

char LICENSE[] SEC("license") = "GPL";
