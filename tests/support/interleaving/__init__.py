"""One cluster in a box for random interleavings: the real operator and agents, and weather that a test commands.

`kernel` stands for what outlives an agent's process, `node` is agent and kubelet, `weather` what the network does to
watches, `ground` what there is, `moments` what happens, `world` what can be commanded, `checks` knows what must never
happen, `machine` lets Hypothesis choose.
"""
