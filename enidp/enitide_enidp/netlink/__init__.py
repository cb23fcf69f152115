"""Devices, addresses, rules and routes of a node and its pods: wanted state as data, and the messages it takes.

Written on raw netlink throughout. The pod path needs batches (0.7 ms for a pod; a general library takes 12 ms), and the
rest is then five message kinds more: one small codec, no second library in the agent's memory.
"""
