"""The node's side of policy: what is heard of identities, endpoints and policies, and what the kernel is told of it."""
