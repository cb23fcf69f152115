from support.ec2 import _ec2_server, ec2_endpoint, ec2_ground, ec2_model

__all__ = ["_ec2_server", "ec2_endpoint", "ec2_ground", "ec2_model"]
