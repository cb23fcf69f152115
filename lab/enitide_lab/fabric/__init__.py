"""The VPC as a network namespace: one port for each attached ENI, routed and source-checked as AWS does it."""
