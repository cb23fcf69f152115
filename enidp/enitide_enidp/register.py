"""Before anything is published: this Node must be this instance. Waits, with the reason, until it is.

Nothing is written meanwhile. The API server being away is no failure, it is weather: pods of this node go on by the
journal.
"""

from __future__ import annotations

import asyncio
from random import Random

from enitide_api.errors import EnitideError, IdentityEmpty, MetadataUnavailable
from enitide_api.resources import InstanceFacts
from enitide_enidp import identity
from enitide_enidp.metadata import Metadata
from enitide_enidp.waits import Waits
from enitide_kube.backoff import Backoff
from enitide_kube.objects import decode_node
from enitide_kube.port import NODE, KubePort


async def instance_facts(metadata: Metadata, waits: Waits, rng: Random) -> InstanceFacts:
    """The instance's facts, as soon as metadata tells them whole."""
    backoff, failures = Backoff(base_s=0.25, cap_s=10.0), 0
    while True:
        try:
            facts = await metadata.instance()
        except (MetadataUnavailable, IdentityEmpty) as error:
            failures += 1
            waits.put_error("metadata", error)
            await asyncio.sleep(backoff.delay_s(failures, rng))
        else:
            waits.clear("metadata")
            return facts


async def verified_node(kube: KubePort, node: str, instance_id: str, waits: Waits, rng: Random) -> str:
    """The Node's uid, once the Node exists and names this instance."""
    backoff, failures = Backoff(base_s=0.25, cap_s=10.0), 0
    while True:
        try:
            found = decode_node(await kube.get(NODE, node))
            identity.verify(found.spec.provider_id, instance_id, node)
        except EnitideError as error:
            failures += 1
            waits.put_error("node", error)
            await asyncio.sleep(backoff.delay_s(failures, rng))
        else:
            waits.clear("node")
            return found.metadata.uid
