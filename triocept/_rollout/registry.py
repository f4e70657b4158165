"""Which key belongs to which rollout.

Rules:

1. A key is 256 random bits. Only its SHA-256 is looked up and compared: the time of an answer tells nothing about a
   key.
2. A call is its rollout's if the key is; if the path names a rollout too, both must agree.
3. The key of a rollout's state opens that alone: it is looked up among its own kind.
4. A rollout that is left is forgotten here first: its key opens nothing any more.
5. Of an endpoint that stops nobody is told that a key is wrong: it may have been right a moment ago.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Generic, Protocol, TypeVar

import trio


class Registered(Protocol):
    """A rollout, as the registry knows it."""

    @property
    def id(self) -> str: ...
    @property
    def api_key(self) -> str: ...
    @property
    def state_key(self) -> str | None: ...

    last_refusal: str | None

    async def endpoint_stops(self) -> None:
        """It ends with its endpoint."""


R = TypeVar("R", bound=Registered)


class Registry(Generic[R]):
    """The rollouts of one endpoint that are open now."""

    def __init__(self) -> None:
        self._by_id: dict[str, R] = {}
        self._by_digest: dict[bytes, R] = {}
        self._by_state_digest: dict[bytes, R] = {}
        self.closing: bool = False
        """Whether the endpoint stops, or has ended."""

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, rollout: R) -> bool:
        return self._by_id.get(rollout.id) is rollout

    def __iter__(self) -> Iterator[R]:
        return iter(tuple(self._by_id.values()))

    def add(self, rollout: R) -> None:
        """Let the rollout's key in.

        Raises:
            ValueError: an open rollout has this id already.
            trio.ClosedResourceError: the endpoint has ended.
        """
        if self.closing:
            raise trio.ClosedResourceError(
                "this endpoint has ended: a rollout is opened within the block of its `serve_endpoint`"
            )
        if rollout.id in self._by_id:
            raise ValueError(f"a rollout with the id {rollout.id!r} is open already on this endpoint")
        self._by_id[rollout.id] = rollout
        self._by_digest[_digest(rollout.api_key)] = rollout
        if rollout.state_key is not None:
            self._by_state_digest[_digest(rollout.state_key)] = rollout

    def discard(self, rollout: R) -> None:
        """Revoke the rollout's key."""
        if rollout in self:
            del self._by_id[rollout.id]
            del self._by_digest[_digest(rollout.api_key)]
            if rollout.state_key is not None:
                del self._by_state_digest[_digest(rollout.state_key)]

    def authenticate(self, key: str | None, rollout_id: str | None) -> R | None:
        """The rollout that this key opens, or None; `rollout_id` is that of the path, where it has one."""
        # In place: of each call.
        digest = sha256(key.encode("utf-8", "surrogatepass")).digest() if key else b""
        rollout = self._by_digest.get(digest)
        return rollout if rollout is not None and rollout_id in (None, rollout.id) else None

    def authenticate_state(self, key: str | None, rollout_id: str | None) -> R | None:
        """The rollout whose state this key opens, or None; it is never the key that opens the rollout."""
        rollout = self._by_state_digest.get(_digest(key)) if key else None
        return rollout if rollout is not None and rollout_id in (None, rollout.id) else None

    def note_refusal(self, rollout_id: str | None, text: str) -> None:
        """Keep why a request was refused whose path names this rollout, with or without its key."""
        if rollout_id is not None and (rollout := self._by_id.get(rollout_id)) is not None:
            rollout.last_refusal = text

    async def close(self) -> None:
        """The endpoint stops: every rollout that is still open ends, and what waits in it is refused."""
        self.closing = True
        async with trio.open_nursery() as nursery:
            for rollout in self:
                nursery.start_soon(rollout.endpoint_stops)


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogatepass")).digest()
