"""What moto alone knows of ENIs and instances, in boto3's form: Elastic IPs, keys, volumes, profiles, reservations.

It reads moto and never changes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from enitide_lab.ec2server.mirror import Mirror


class MotoFacts(Mirror):
    """Further facts of the mirrored backend. `secondary_association`: allocation id to the private address it is on."""

    secondary_association: dict[str, str]

    def association(self, interface_id: str, address: str, primary: str) -> Mapping[str, Any] | None:
        """The Elastic IP on one private address of an ENI."""
        for eip in self.backend.addresses:
            if eip.eni is None or eip.eni.id != interface_id:
                continue
            if self.secondary_association.get(eip.allocation_id, primary) == address:
                name = f"ec2-{eip.public_ip.replace('.', '-')}.{self.model.region}.compute.amazonaws.com"
                return {
                    "AllocationId": eip.allocation_id,
                    "AssociationId": eip.association_id,
                    "IpOwnerId": self.model.owner,
                    "PublicIp": eip.public_ip,
                    "PublicDnsName": name,
                }
        return None

    def extras(self, instance: Any | None) -> dict[str, Any]:
        """What moto knows of one of its instances beyond the model; nothing for an instance that only the model has."""
        if instance is None:
            return {}
        profile = self.backend.iam_instance_profile_associations.get(instance.id)
        options = instance.metadata_options
        return {
            "KeyName": instance.key_name,
            "ClientToken": instance.client_token,
            "AmiLaunchIndex": instance.ami_launch_index,
            "EbsOptimized": bool(instance.ebs_optimized),
            "Monitoring": {"State": instance.monitoring_state},
            "RootDeviceName": instance.root_device_name,
            "IamInstanceProfile": None
            if profile is None
            else {"Arn": profile.instance_profile.arn, "Id": profile.instance_profile.id},
            "MetadataOptions": {
                "State": options.state,
                "HttpTokens": options.http_tokens,
                "HttpPutResponseHopLimit": options.http_put_response_hop_limit,
                "HttpEndpoint": options.http_endpoint,
            },
            "BlockDeviceMappings": [
                {
                    "DeviceName": name,
                    "Ebs": {
                        "VolumeId": volume.volume_id,
                        "Status": instance.get_block_device_status(volume.status),
                        "DeleteOnTermination": bool(volume.delete_on_termination),
                    },
                }
                for name, volume in instance.get_block_device_mapping
            ],
        }

    def reservation_ids(self) -> dict[str, str]:
        """Which reservation each of moto's instances was launched in."""
        return {i.id: name for name, reservation in self.backend.reservations.items() for i in reservation.instances}
