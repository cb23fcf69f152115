"""enitide_ipam."""
