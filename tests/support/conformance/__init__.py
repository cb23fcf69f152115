"""Scenarios of policy in a lab: every pair of pods, nodes and outside addresses tried with real packets."""
