"""The life of a pod's network: ADD, DEL, CHECK, GC, adoption after a restart, the sweep of what was left behind."""
