"""Brings a lab up and works with one that is up: its programs, nodes, environment and commands inside it."""
