"""Tells agents to which keys identities are cut, so that no policy means too much while they are being cut anew.

The announcement is a batch like the others, so whoever has seen it has seen the records before it. A key is announced
after every record that is cut to it, and taken back before the first record that is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from enitide_api.errors import KubeError, KubeNotFound, NotLeading
from enitide_api.logging import get_logger
from enitide_api.resources import KEYS_BATCH, EndpointBatch, Metadata, builtins, decode
from enitide_kube.backoff import Backoff
from enitide_kube.port import ENDPOINTBATCH, KubePort
from enitide_operator.batches.publisher import Publisher
from enitide_operator.context import FIELD_MANAGER
from enitide_operator.identities.ledger import Ledger
from enitide_operator.term import Term
from enitide_policy.identities import keys_of, relevance_of_keys
from enitide_policy.labels import Relevance

LOOK_S = 0.05  # between two looks at what an announcement waits for
NOT_KEPT_AGAIN_S = 60.0
_BACKOFF = Backoff(base_s=0.1, cap_s=15.0)
_KIND = ENDPOINTBATCH

_log = get_logger(__name__)


@dataclass(slots=True)
class Announcer:
    """`begin(term)`, then `run(term)` as a task for the length of a term, then `end()`.

    `narrow(wanted)` returns when nothing more than `wanted` is announced; `rekeyed()`: the ledger follows `wanted` now.
    """

    kube: KubePort
    rng: Random
    ledger: Ledger
    publisher: Publisher
    wrote: Callable[[str, str], None]
    said: Relevance | None = None
    _limit: Relevance | None = None  # None: no term
    _is_rekeyed: bool = False
    _stored: EndpointBatch | None = None
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _narrowed: asyncio.Event = field(default_factory=asyncio.Event)

    # --- the re-key asks ---------------------------------------------------------------------------------------------

    async def narrow(self, wanted: Relevance) -> None:
        """Before the ledger drops keys. Between terms nothing is written, so nothing has to be taken back."""
        if self._limit is None:
            return
        self._is_rekeyed = self._is_rekeyed and wanted == self._limit
        self._limit = wanted
        self._wake.set()
        while self._limit is not None and not self._fits():
            self._narrowed.clear()
            await self._narrowed.wait()

    def rekeyed(self) -> None:
        """The ledger has looked at every template."""
        self._is_rekeyed = True
        self._wake.set()

    def _fits(self) -> bool:
        return self.said is None or self._limit is None or self.said & self._limit == self.said

    # --- a term ------------------------------------------------------------------------------------------------------

    async def begin(self, term: Term) -> None:
        """Return when no record that this term writes can belie what is announced."""
        self._limit, self._is_rekeyed = self.ledger.relevance, False
        await self._read(term)
        while not self._fits():
            assert self.said is not None
            assert self._limit is not None
            await self._say(self.said & self._limit, term)
        self._narrowed.set()

    async def run(self, term: Term) -> None:
        """Until cancelled."""
        while True:
            self._wake.clear()
            limit = self._limit
            assert limit is not None
            if not self._fits():
                assert self.said is not None
                await self._say(self.said & limit, term)
                self._narrowed.set()
            elif self._is_rekeyed and self.said != limit:
                if await self._is_all_told(limit):
                    await self._say(limit, term)
            else:
                await self._wake.wait()

    def end(self) -> None:
        """The term is over."""
        self._limit = None
        self._narrowed.set()

    def on_object(self, new: EndpointBatch | None) -> None:
        """What the mirror shows: of interest where somebody else wrote."""
        if self._limit is None:
            return
        known = self._stored.metadata.resource_version if self._stored is not None else ""
        version = new.metadata.resource_version if new is not None else ""
        if new is None or (version != known and _number(version) >= _number(known)):
            self._take(new)
            self._wake.set()

    async def _is_all_told(self, limit: Relevance) -> bool:
        """Whether every pod that was there has a record of an identity of now; False: other keys matter by now."""
        pods = self.ledger.unsettled()
        while pods or self.publisher.layout is None:
            pods = {facts for facts in pods if not self.ledger.is_settled(facts)}
            if not await self._look(limit):
                return False
        owners = self.publisher.layout.unwritten()
        while owners:
            layout = self.publisher.layout
            owners = {owner for owner in owners if layout is None or not layout.is_written(owner)}
            if not await self._look(limit):
                return False
        return self._limit == limit and self._is_rekeyed

    async def _look(self, limit: Relevance) -> bool:
        await asyncio.sleep(LOOK_S)
        return self._limit == limit and self._is_rekeyed and self._fits()

    # --- the object --------------------------------------------------------------------------------------------------

    def _take(self, found: EndpointBatch | None) -> None:
        self._stored = found
        keys = found.spec.keys if found is not None else None
        self.said = relevance_of_keys(keys) if keys is not None else None

    async def _read(self, term: Term) -> None:
        failures = 0
        while True:
            try:
                term.require()
                self._take(decode(await self.kube.get(_KIND, KEYS_BATCH), EndpointBatch))
            except KubeNotFound:
                self._take(None)
            except (KubeError, NotLeading) as error:
                failures += 1
                _log.warning("announced keys not read yet", why=str(error))
                await asyncio.sleep(_BACKOFF.delay_s(failures, self.rng))
                continue
            return

    async def _say(self, relevance: Relevance, term: Term) -> None:
        """Try once; after a failure read what stands there, and let the caller look again."""
        spec: dict[str, Any] = {"endpoints": [], "keys": builtins(keys_of(relevance))}
        try:
            term.require()
            if self._stored is None:
                head = {"apiVersion": _KIND.api_version, "kind": _KIND.kind}
                body = {**head, "metadata": builtins(Metadata(name=KEYS_BATCH)), "spec": spec}
                raw = await self.kube.create(_KIND, body, field_manager=FIELD_MANAGER)
            else:
                version = self._stored.metadata.resource_version
                patch = {"metadata": {"resourceVersion": version}, "spec": _all_keys(spec)}
                raw = await self.kube.patch(_KIND, KEYS_BATCH, patch, field_manager=FIELD_MANAGER)
        except (KubeError, NotLeading) as error:
            if isinstance(error, KubeError):
                self.wrote(_KIND.kind, error.reason)
            _log.warning("announced keys not written", why=str(error))
            await asyncio.sleep(_BACKOFF.delay_s(1, self.rng))
            await self._read(term)
            return
        self.wrote(_KIND.kind, "ok")
        self._take(decode(raw, EndpointBatch))
        if self.said != relevance:
            _log.error("announced keys are not kept: the definition of EndpointBatch is older than this operator")
            await asyncio.sleep(NOT_KEPT_AGAIN_S)


def _all_keys(spec: dict[str, Any]) -> dict[str, Any]:
    """A merge patch leaves alone what it does not name: what is empty is named too."""
    empty = {"podLabels": None, "namespaceLabels": None, "portNames": None, "serviceAccount": None}
    return {**spec, "keys": empty | spec["keys"]}


def _number(version: str) -> int:
    return int(version) if version.isdigit() else 0
