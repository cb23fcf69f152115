"""The policy engine: identities, policies and endpoints in, rule sets and their changes out. Incremental, pure."""
