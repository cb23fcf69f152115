"""One cluster in a box for random interleavings: the real operator and agents, and weather that a test commands.

`kernel` stands for what outlives an agent's process, `node` is agent and kubelet, `weather` what the network does to
watches, `ground` what there is, `moments` what happens, `world` what can be commanded and `compound` what takes several
things at once, `checks` knows what must never happen, `tally` counts what did. `choices` is what Hypothesis may choose
from, `machine` its rules, `one` the world of one interleaving, `run` runs many, `mutants` are what must be found.
"""
