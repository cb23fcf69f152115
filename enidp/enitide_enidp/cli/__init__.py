"""Commands of the node, each imported only when it runs (see enitide_api.commands)."""
