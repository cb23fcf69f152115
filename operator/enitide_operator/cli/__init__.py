"""Commands that read the cluster: they call no EC2 and change nothing."""
