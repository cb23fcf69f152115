"""The operator's EC2 port on the strict model; see `enitide_lab.ec2model.port`, which the simulator shares."""

from enitide_lab.ec2model.port import ModelEc2, eni_view

__all__ = ["ModelEc2", "eni_view"]
