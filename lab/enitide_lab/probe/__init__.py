"""Asks the network itself: who reaches whom, with what size, and who gets away with a forged source."""
