"""enitide_lab."""
