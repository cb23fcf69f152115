"""Which address has which identity, told to all agents in EndpointBatches: few writes, the newest record wins."""
