"""enitide_operator."""
