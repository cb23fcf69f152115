"""Everything that touches EC2: the port, the wire, the budget, the gateway, merged reads."""
