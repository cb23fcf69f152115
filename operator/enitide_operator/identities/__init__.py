"""Who is who: one SecurityIdentity per distinct set of relevant labels, made and collected by the leader alone."""
