"""What EC2 refuses, in EC2's own codes and words.

One exception type carries every refusal, because callers of EC2 tell refusals apart by `code` alone. The functions
below are the only places where a code is spelled, so that one rule never answers with two different codes.
"""

from __future__ import annotations

from http import HTTPStatus


class ModelError(Exception):
    """A refusal: EC2's error `code`, its `message`, and the HTTP status it comes with. Nothing took effect."""

    def __init__(self, code: str, message: str, http_status: int = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.http_status = http_status


_UNKNOWN = {
    "vpc": ("InvalidVpcID.NotFound", "The vpc ID '{}' does not exist"),
    "subnet": ("InvalidSubnetID.NotFound", "The subnet ID '{}' does not exist"),
    "interface": ("InvalidNetworkInterfaceID.NotFound", "The networkInterface ID '{}' does not exist"),
    "attachment": ("InvalidAttachmentID.NotFound", "The attachment ID '{}' does not exist"),
    "instance": ("InvalidInstanceID.NotFound", "The instance ID '{}' does not exist"),
    "group": ("InvalidGroup.NotFound", "The security group '{}' does not exist"),
    "reservation": ("InvalidSubnetCidrReservationID.NotFound", "The subnet CIDR reservation ID '{}' does not exist"),
    "allocation": ("InvalidAllocationID.NotFound", "The allocation ID '{}' does not exist"),
    "association": ("InvalidAssociationID.NotFound", "The association ID '{}' does not exist"),
    "type": ("InvalidInstanceType", "The following supplied instance types do not exist: [{}]"),
}


def unknown(kind: str, name: str) -> ModelError:
    """No such object. `kind` is a key of the table above."""
    code, words = _UNKNOWN[kind]
    return ModelError(code, words.format(name))


def bad_value(message: str) -> ModelError:
    """A parameter has a value that EC2 does not take."""
    return ModelError("InvalidParameterValue", message)


def bad_combination(message: str) -> ModelError:
    """Parameters that EC2 does not take together."""
    return ModelError("InvalidParameterCombination", message)


def in_use(message: str) -> ModelError:
    """The interface is attached."""
    return ModelError("InvalidNetworkInterface.InUse", message)


def address_in_use(address: str) -> ModelError:
    """An address that is asked for by name is not free."""
    return ModelError("InvalidIPAddress.InUse", f"Address {address} is in use.")


def no_free_addresses() -> ModelError:
    """Fewer free single addresses in the subnet than asked for."""
    return ModelError(
        "InsufficientFreeAddressesInSubnet",
        "The specified subnet does not have enough free addresses to satisfy the request.",
    )


def no_free_blocks() -> ModelError:
    """Fewer whole free /28 (or /80) blocks in the subnet than asked for."""
    return ModelError(
        "InsufficientCidrBlocks",
        "The specified subnet does not have enough free cidr blocks to satisfy the request.",
    )


def dry_run() -> ModelError:
    """A dry run that would have succeeded."""
    return ModelError(
        "DryRunOperation",
        "Request would have succeeded, but DryRun flag is set.",
        HTTPStatus.PRECONDITION_FAILED,
    )


def throttled() -> ModelError:
    """The verb's token bucket is empty."""
    return ModelError("RequestLimitExceeded", "Request limit exceeded.", HTTPStatus.SERVICE_UNAVAILABLE)
