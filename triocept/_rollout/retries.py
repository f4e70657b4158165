"""Compare a call with earlier calls, to find the running exchange that a retry repeats.

Agents re-send a call whose answer they did not receive, on a new connection. Some agents then write the call
differently: Claude Code re-sends a streamed call without `stream`, Codex reorders keys. Two calls are equal if the
model gets the same content. The comparison ignores how the answer is sent (`stream`, `include_usage`), the caller
(`user`, client metadata) and cache marks. The comparison also ignores whether a call contains all messages, or only the
messages after an earlier response.

An agent that samples may send thousands of equal calls. So the meaning of a call (a digest of the content that the
model gets) is computed only once, and only when a comparison needs it. No lookup compares a call with all other calls.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

from .._canonical.content import Json
from .._canonical.form import exact, exact_message
from .._canonical.request import Request
from .outcome import Answered

if TYPE_CHECKING:
    from .exchange_state import ExchangeState

_OF_CALL = frozenset({"cache_control", "client_metadata", "metadata", "stream_options", "prompt_cache_key"})
"""Fields of a request's JSON body that are not passed to the model. In the schema of a tool, fields with these names
are kept."""


def meaning(request: Request) -> bytes:
    """Return a digest of the content that the model gets. A call and its retries have equal digests.

    The digest takes long to compute.
    """
    plain = msgspec.structs.replace(
        request, stream=False, framing="sse", include_usage=True, user=None, continued_from=None
    )
    said = msgspec.json.encode(_said(msgspec.to_builtins(plain)), order="sorted")
    return blake2b(said, digest_size=16).digest()


def _said(document: dict[str, Json]) -> dict[str, Json]:
    """Return `document`, a request, without the fields that are not passed to the model."""
    said = exact(document, _OF_CALL)
    said["messages"] = [exact_message(message) for message in document["messages"]]
    said["tools"] = [exact(tool) for tool in document.get("tools", ())]
    for name in ("tool_choice", "output_format"):
        if name in said:
            said[name] = exact(said[name], frozenset())
    return said


class Alike:
    """The exchanges that have one retry key and are not recorded yet.

    Exchanges whose requests have equal meanings form a group.

    Args:
        exchanges: the exchanges with this retry key that already exist.
    """

    def __init__(self, exchanges: Iterable[ExchangeState]) -> None:
        self._lost: dict[ExchangeState, None] = {}
        """Exchanges whose answer a connection no longer waits for, because the connection was closed."""
        self._unread: dict[ExchangeState, None] = dict.fromkeys(exchanges)
        self._unread_lost: dict[ExchangeState, None] = {}
        self._meanings: dict[ExchangeState, bytes] = {}
        self._saying: dict[bytes, _Same] = {}
        """For each meaning that was computed: the group of the exchanges with this meaning."""

    def add(self, exchange: ExchangeState) -> None:
        self._unread[exchange] = None

    def lose(self, exchange: ExchangeState) -> None:
        """Record that a connection no longer waits for the answer of `exchange`."""
        self._lost[exchange] = None
        if exchange in self._unread:
            del self._unread[exchange]
            self._unread_lost[exchange] = None
        elif (same := self._same(exchange)) is not None:
            same.lose(exchange)

    def discard(self, exchange: ExchangeState) -> None:
        if exchange in self._unread:  # nearly always: the exchange is in no other table
            del self._unread[exchange]
            return
        for some in (self._lost, self._unread_lost):
            some.pop(exchange, None)
        if (same := self._same(exchange)) is not None:
            same.discard(exchange)
            if not same.open:
                del self._saying[self._meanings[exchange]]
        self._meanings.pop(exchange, None)

    def find(self, request: Request, *, proven: bool) -> ExchangeState | None:
        """Return the exchange that this call repeats, or None.

        If `proven` is False, this call could be a new call with equal content. Then return only an exchange for whose
        answer no connection waits.
        """
        if not (proven or self._lost):
            return None
        self._read(self._unread_lost)
        if proven:
            self._read(self._unread)
        same = self._saying.get(meaning(request))
        return same.find(proven=proven) if same is not None else None

    def _same(self, exchange: ExchangeState) -> _Same | None:
        """Return the group of exchanges whose meaning equals the meaning of `exchange`.

        Return None if the meaning of `exchange` was not computed, or if the group no longer exists.
        """
        read = self._meanings.get(exchange)
        return self._saying.get(read) if read is not None else None

    def _read(self, unread: dict[ExchangeState, None]) -> None:
        for exchange in unread:
            read = self._meanings[exchange] = meaning(exchange.request)
            self._saying.setdefault(read, _Same()).add(exchange, left=exchange in self._lost)
        unread.clear()


class _Same:
    """Exchanges with equal meaning. Finding the first of them takes constant time, even among thousands."""

    __slots__ = ("left", "open")

    def __init__(self) -> None:
        self.open: OrderedDict[ExchangeState, None] = OrderedDict()
        """Open exchanges whose answers retries can still share, in order."""
        self.left: OrderedDict[ExchangeState, None] = OrderedDict()
        """Exchanges whose answer a connection no longer waits for. An exchange is removed again if another connection
        waits for its answer."""

    def add(self, exchange: ExchangeState, *, left: bool) -> None:
        self.open[exchange] = None
        if left:
            self.lose(exchange)

    def lose(self, exchange: ExchangeState) -> None:
        self.left[exchange] = None

    def discard(self, exchange: ExchangeState) -> None:
        self.open.pop(exchange, None)
        self.left.pop(exchange, None)

    def find(self, *, proven: bool) -> ExchangeState | None:
        """Return the exchange in this group whose answer a retry gets.

        `proven` has the same meaning as in `Alike.find`.
        """
        lost = _first_of(self.left, lambda one: _is_useful(one) and not one.answer.subscriptions)
        return _first_of(self.open, _is_useful) if lost is None and proven else lost


def _is_useful(exchange: ExchangeState) -> bool:
    return not exchange.settled or isinstance(exchange.outcome, Answered)


def _first_of(
    exchanges: OrderedDict[ExchangeState, None], is_one: Callable[[ExchangeState], bool]
) -> ExchangeState | None:
    """Return the first exchange for which `is_one` returns True. Remove the exchanges before it from `exchanges`."""
    while exchanges:
        if is_one(first := next(iter(exchanges))):
            return first
        del exchanges[first]
    return None
