"""enitide_api."""
