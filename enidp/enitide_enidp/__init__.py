"""enitide_enidp."""
