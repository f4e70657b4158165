"""The registry of an endpoint, which finds the rollout for an API key.

Rules:

1. A key is 256 random bits. Only its SHA-256 is looked up and compared, so the time that a lookup takes reveals nothing
   about a key.
2. A call belongs to the rollout of its key. If the path also names a rollout, it must name the same rollout.
3. A state key gives access only to the shared state of its rollout. State keys are stored in a separate table.
4. When the block of a rollout ends, the rollout is first removed from the registry, so that its key is no longer valid.
5. While an endpoint stops, it answers an unknown key with 503, not 401, because the key may have been valid a moment
   ago.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Generic, Protocol, TypeVar

import trio


class Refusals:
    """Requests that the endpoint refused before they became model calls. Any thread may read this object."""

    def __init__(self) -> None:
        self.count: int = 0
        self._newest: tuple[str, ...] = ()

    def add(self, text: str) -> None:
        self.count += 1
        self._newest = (*self._newest, text)[-5:]

    def newest(self, since: int = 0) -> tuple[str, ...]:
        """Return descriptions of the newest refused requests, at most five.

        The first `since` refused requests are not included.
        """
        newest = self._newest
        return newest[max(0, len(newest) - (self.count - since)) :]


class Registered(Protocol):
    """The attributes and methods of a rollout that the registry needs."""

    @property
    def id(self) -> str: ...
    @property
    def api_key(self) -> str: ...
    @property
    def state_key(self) -> str | None: ...

    @property
    def refusals(self) -> Refusals: ...

    async def endpoint_stops(self) -> None:
        """End the rollout, because its endpoint stops."""


R = TypeVar("R", bound=Registered)


class Registry(Generic[R]):
    """The open rollouts of one endpoint, with their API keys."""

    def __init__(self) -> None:
        self._by_id: dict[str, R] = {}
        self._by_digest: dict[bytes, R] = {}
        self._by_state_digest: dict[bytes, R] = {}
        self.closing: bool = False
        """True once the endpoint begins to stop."""
        self.refusals: Refusals = Refusals()
        """Refused requests that belong to no open rollout."""

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, rollout: R) -> bool:
        return self._by_id.get(rollout.id) is rollout

    def __iter__(self) -> Iterator[R]:
        return iter(tuple(self._by_id.values()))

    def add(self, rollout: R) -> None:
        """Add a rollout. The rollout's API key is valid from now on.

        Raises:
            ValueError: an open rollout already has this id.
            trio.ClosedResourceError: the endpoint has ended.
        """
        if self.closing:
            raise trio.ClosedResourceError(
                "this endpoint has ended: open rollouts within the block of its `serve_endpoint`"
            )
        if rollout.id in self._by_id:
            raise ValueError(
                f"a rollout with the id {rollout.id!r} is open already on this endpoint: use another id"
            )
        self._by_id[rollout.id] = rollout
        self._by_digest[_digest(rollout.api_key)] = rollout
        if rollout.state_key is not None:
            self._by_state_digest[_digest(rollout.state_key)] = rollout

    def discard(self, rollout: R) -> None:
        if rollout in self:
            del self._by_id[rollout.id]
            del self._by_digest[_digest(rollout.api_key)]
            if rollout.state_key is not None:
                del self._by_state_digest[_digest(rollout.state_key)]

    def authenticate(self, key: str | None, rollout_id: str | None) -> R | None:
        # inlined: it runs for each call
        digest = sha256(key.encode("utf-8", "surrogatepass")).digest() if key else b""
        rollout = self._by_digest.get(digest)
        return rollout if rollout is not None and rollout_id in (None, rollout.id) else None

    def authenticate_state(self, key: str | None, rollout_id: str | None) -> R | None:
        rollout = self._by_state_digest.get(_digest(key)) if key else None
        return rollout if rollout is not None and rollout_id in (None, rollout.id) else None

    def note_refusal(self, rollout_id: str | None, text: str) -> None:
        """Count a refused request, whether its key is valid or not.

        Store `text`, a description of the request and of the reason for the refusal.

        The request belongs to the rollout that its path names. If the path names no rollout, and exactly one rollout is
        open, the request belongs to this rollout. The registry's own `refusals` contains all other requests.
        """
        only = next(iter(self._by_id.values())) if rollout_id is None and len(self._by_id) == 1 else None
        rollout = only if rollout_id is None else self._by_id.get(rollout_id)
        (self if rollout is None else rollout).refusals.add(text)

    async def close(self) -> None:
        self.closing = True
        async with trio.open_nursery() as nursery:
            for rollout in self:
                nursery.start_soon(rollout.endpoint_stops)


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogatepass")).digest()
