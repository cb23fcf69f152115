"""The instance metadata service, version 2: what instance is this, and where does it stand.

A session token is fetched, kept, and fetched again before it ends or when it is refused. An answer without an id is
`IdentityEmpty`, no answer is `MetadataUnavailable`; neither is ever replaced by a guess, and version 1 is never used.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import aiohttp

from enitide_api.errors import IdentityEmpty, MetadataUnavailable
from enitide_api.resources import InstanceFacts

_TOKEN_LIFE_S = 21_600
_RENEW_BEFORE_S = 300.0
_TIMEOUT_S = 5.0
_MAX_BYTES = 64 << 10


class Metadata:
    """A client of one endpoint, such as http://169.254.169.254. One at a time; `session` is the caller's to close."""

    def __init__(self, session: aiohttp.ClientSession, endpoint: str) -> None:
        self._session = session
        self._endpoint = endpoint.rstrip("/")
        self._token = ""
        self._token_ends = 0.0

    async def instance(self) -> InstanceFacts:
        """Id, type, zone, VPC and subnet of this instance (of its first ENI). None of them may be empty."""
        mac = await self._item("mac")
        return InstanceFacts(
            id=await self._item("instance-id"),
            type=await self._item("instance-type"),
            availability_zone=await self._item("placement/availability-zone"),
            vpc_id=await self._item(f"network/interfaces/macs/{mac}/vpc-id"),
            subnet_id=await self._item(f"network/interfaces/macs/{mac}/subnet-id"),
        )

    async def _item(self, path: str) -> str:
        value = (await self._get(path)).strip()
        if not value:
            raise IdentityEmpty(f"instance metadata has no {path}")
        return value

    async def _get(self, path: str) -> str:
        for fresh in (False, True):
            headers = {"X-aws-ec2-metadata-token": await self._session_token(fresh=fresh)}
            status, text = await self._request("GET", f"/latest/meta-data/{path}", headers)
            if status == HTTPStatus.OK:
                return text
            if status == HTTPStatus.NOT_FOUND:
                return ""
            if status != HTTPStatus.UNAUTHORIZED:
                break
        raise MetadataUnavailable(f"instance metadata at {self._endpoint} answers {path} with status {status}")

    async def _session_token(self, *, fresh: bool) -> str:
        now = asyncio.get_running_loop().time()
        if fresh or not self._token or now > self._token_ends:
            headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_LIFE_S)}
            status, text = await self._request("PUT", "/latest/api/token", headers)
            if status != HTTPStatus.OK or not text.strip():
                raise MetadataUnavailable(f"instance metadata at {self._endpoint} gives no token: status {status}")
            self._token, self._token_ends = text.strip(), now + _TOKEN_LIFE_S - _RENEW_BEFORE_S
        return self._token

    async def _request(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        try:
            async with self._session.request(
                method,
                self._endpoint + path,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
                allow_redirects=False,
            ) as response:
                raw = await response.content.read(_MAX_BYTES)
                return response.status, raw.decode("utf-8", errors="replace")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            kind = type(error).__name__
            raise MetadataUnavailable(f"instance metadata at {self._endpoint} does not answer ({kind})") from error
