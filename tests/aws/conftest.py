from support.ec2 import _ec2_server, ec2_endpoint, ec2_ground, ec2_model
from support.ec2_faces import face, spare

__all__ = ["_ec2_server", "ec2_endpoint", "ec2_ground", "ec2_model", "face", "spare"]
