"""Schema of ENIClass: defaults, bounds, and CEL rules whose messages say what to write instead."""

from __future__ import annotations

from enitide_api.crds.shapes import (
    CONDITIONS,
    Schema,
    array,
    count,
    duration,
    integer,
    obj,
    pool,
    rule,
    string,
    tags,
)


def _selector(what: str) -> Schema:
    return obj(
        {
            "ids": array(string(64), 64, f"Ids of {what}."),
            "tags": tags(f"Tags that must all be on {what}."),
        },
        f"Which {what}: by ids or by tags.",
        rules=(
            rule(
                "!(has(self.ids) && size(self.ids) > 0 && has(self.tags) && size(self.tags) > 0)",
                f"{what} are selected by ids and by tags at once: write either ids or tags",
            ),
        ),
    )


_LABEL_SELECTOR = obj(
    {
        "matchLabels": {"type": "object", "maxProperties": 32, "additionalProperties": string(63)},
        "matchExpressions": array(
            obj(
                {
                    "key": string(317),
                    "operator": string(16, enum=["In", "NotIn", "Exists", "DoesNotExist"]),
                    "values": array(string(63), 32),
                },
                required=["key", "operator"],
            ),
            16,
        ),
    },
    "Nodes this class governs. Empty selects no node at all (the class named default governs what no other does).",
)

_INTERFACES_POLICY = obj(
    {
        "firstIndex": integer(
            minimum=0, maximum=32, default=0, description="ENIs below this device index stay unused."
        ),
        "usePrimaryAddress": {
            "type": "boolean",
            "default": False,
            "description": "Also give the own address of secondary ENIs to pods.",
        },
        "deleteOnTermination": {"type": "boolean", "default": True},
        "cards": array(integer(minimum=0, maximum=31), 32, "Network cards whose slots may be used.") | {"default": [0]},
        "subnetSelector": _selector("subnets"),
        "securityGroupSelector": _selector("security groups"),
        "elasticIPSelector": obj(
            {"tags": tags("Tags that must all be on the Elastic IP.")},
            "One unassociated Elastic IP with these tags is associated with the node's own ENI. Empty: none is.",
        ),
        "excludeTags": tags("ENIs that carry all of these are not managed; empty excludes none."),
        "tags": tags("Tags put on every ENI made."),
    },
    "How ENIs are made and which are used.",
    default={},
    rules=(
        rule("!has(self.cards) || size(self.cards) > 0", "cards is empty: name at least one card, such as [0]"),
        rule(
            "!has(self.tags) || self.tags.all(k, !k.startsWith('aws:') && !k.startsWith('enitide.io/'))",
            "tags may not begin with aws: or enitide.io/: those are set by AWS and by enitide; choose another key",
        ),
    ),
)

_CLASS_SPEC = obj(
    {
        "nodeSelector": _LABEL_SELECTOR,
        "weight": integer(minimum=0, maximum=1000000, default=0, description="The highest fitting class governs."),
        "pool": pool(with_defaults=True, rules=True),
        "interfaces": _INTERFACES_POLICY,
        "prefixDelegation": {
            "type": "boolean",
            "default": False,
            "description": "Take /28 prefixes where the subnet has whole ones, single addresses elsewhere.",
        },
        "release": obj(
            {
                "enabled": {"type": "boolean", "default": True},
                "delay": duration("180s", "How long an excess lasts before it goes back."),
                "idleInterfaceDelay": duration("10m", "How long an ENI stands idle before it is deleted."),
            },
            "When addresses go back.",
            default={},
        ),
        "cooldown": duration("30s", "How long an address rests after a pod."),
    },
    "User intent for a set of nodes.",
    default={},
)


def eniclass_schema() -> Schema:
    """The openAPIV3Schema."""
    return obj(
        {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": _CLASS_SPEC,
            "status": obj(
                {
                    "observedGeneration": {"type": "integer", "format": "int64"},
                    "nodes": count(description="Nodes it governs."),
                    "nodesReady": count(description="Of those, at their tide."),
                    "nodesAtCapacity": count(description="Of those, with no room left."),
                    "conditions": CONDITIONS,
                }
            ),
        },
        required=["spec"],
        rules=(
            rule(
                "self.metadata.name != 'default' || !has(self.spec.nodeSelector)"
                " || ((!has(self.spec.nodeSelector.matchLabels) || size(self.spec.nodeSelector.matchLabels) == 0)"
                " && (!has(self.spec.nodeSelector.matchExpressions)"
                " || size(self.spec.nodeSelector.matchExpressions) == 0))",
                "the class named default governs all nodes that no other class selects:"
                " leave out its nodeSelector, or give the class another name",
            ),
        ),
    )
