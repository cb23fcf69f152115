"""Which instance this is: from metadata, or from what metadata said earlier in this boot.

An instance never becomes another one while it runs, so a restart of the agent does not depend on metadata: pods keep
their network while it is away. What an earlier boot wrote is believed nothing of.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import aiohttp
import msgspec

from enitide_api.errors import JournalFailed
from enitide_api.resources import InstanceFacts
from enitide_api.settings import AgentSettings
from enitide_enidp import register
from enitide_enidp.boot import boot_id
from enitide_enidp.metadata import Metadata
from enitide_enidp.waits import Waits


async def know(settings: AgentSettings, waits: Waits, rng: Random) -> InstanceFacts:
    """The facts; waits for metadata, with the reason, where nothing is known yet."""
    path = settings.run_dir / "instance.json"
    known = read(path)
    if known is not None:
        return known
    async with aiohttp.ClientSession(trust_env=False) as session:
        facts = await register.instance_facts(Metadata(session, settings.metadata_endpoint), waits, rng)
    write(path, facts)
    return facts


def read(path: Path) -> InstanceFacts | None:
    """What was written in this boot; None for anything else."""
    try:
        boot, facts = msgspec.json.decode(path.read_bytes(), type=tuple[str, InstanceFacts])
    except (OSError, msgspec.DecodeError):
        return None
    return facts if boot == boot_id() and facts.id else None


def write(path: Path, facts: InstanceFacts) -> None:
    """Whole or not at all. `JournalFailed` where it cannot be kept."""
    fresh = path.with_suffix(".new")
    try:
        fresh.write_bytes(msgspec.json.encode((boot_id(), facts)))
        fresh.replace(path)
    except OSError as error:
        raise JournalFailed(f"{path}: {error.strerror}") from error
