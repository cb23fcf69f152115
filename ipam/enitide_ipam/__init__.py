"""What to do: address arithmetic, tides, plans, the hand-over, the node's pool. Pure: no clock, no random, no I/O."""
