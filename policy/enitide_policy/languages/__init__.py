"""The policy languages, each read into the one model of `enitide_policy.model`."""
