"""Whether a call repeats another, and which of those that run it is.

Real agents re-send a call whose answer they did not get: on a new connection, some in another form (Claude Code
replays a stream without `stream`, Codex orders keys anew). Two calls are the same if they say the same to the model:
everything counts but how the answer is to be delivered (`stream`, `include_usage`), how the conversation was told
(whole, or from an earlier response on), who asks (`user`, client metadata), and cache marks.

There may be thousands that are alike, of agents that sample: what one says is read once, and no sooner than somebody
asks; and no look goes over all of them.
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
"""Fields of the document itself that say nothing to the model. Within a schema they are names as any other."""


def same_request(request: Request, other: Request) -> bool:
    """Whether `request` says the same to the model as `other`."""
    return meaning(request) == meaning(other)


def meaning(request: Request) -> bytes:
    """A digest of what it says to the model: equal for calls of which one repeats the other. Not cheap."""
    plain = msgspec.structs.replace(
        request, stream=False, framing="sse", include_usage=True, user=None, continued_from=None
    )
    said = msgspec.json.encode(_said(msgspec.to_builtins(plain)), order="sorted")
    return blake2b(said, digest_size=16).digest()


def _said(document: dict[str, Json]) -> dict[str, Json]:
    """Return a request without the fields that say nothing to the model, in the places where the wire has them."""
    said = exact(document, _OF_CALL)
    said["messages"] = [exact_message(message) for message in document["messages"]]
    said["tools"] = [exact(tool) for tool in document.get("tools", ())]
    for name in ("tool_choice", "output_format"):
        if name in said:
            said[name] = exact(said[name], frozenset())
    return said


class Alike:
    """What the exchanges of one retry key say that are not recorded yet.

    Args:
        exchanges: those that there are.
    """

    def __init__(self, exchanges: Iterable[ExchangeState]) -> None:
        self._lost: dict[ExchangeState, None] = {}
        """Those of them that some connection has left."""
        self._unread: dict[ExchangeState, None] = dict.fromkeys(exchanges)
        self._unread_lost: dict[ExchangeState, None] = {}
        self._meanings: dict[ExchangeState, bytes] = {}
        self._saying: dict[bytes, _Same] = {}
        """By what they say, those that were read."""

    def add(self, exchange: ExchangeState) -> None:
        self._unread[exchange] = None

    def lose(self, exchange: ExchangeState) -> None:
        """A connection has left it."""
        self._lost[exchange] = None
        if exchange in self._unread:
            del self._unread[exchange]
            self._unread_lost[exchange] = None
        elif (same := self._same(exchange)) is not None:
            same.lose(exchange)

    def discard(self, exchange: ExchangeState) -> None:
        if exchange in self._unread:  # as nearly all: it is nowhere else
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
        """One that this call repeats; unless that is proven, only one that nobody waits for any more."""
        if not (proven or self._lost):
            return None
        self._read(self._unread_lost)
        if proven:
            self._read(self._unread)
        same = self._saying.get(meaning(request))
        return same.find(proven=proven) if same is not None else None

    def _same(self, exchange: ExchangeState) -> _Same | None:
        """It among those that say the same; None: it is unread, or nobody can have anything of them any more."""
        read = self._meanings.get(exchange)
        return self._saying.get(read) if read is not None else None

    def _read(self, unread: dict[ExchangeState, None]) -> None:
        for exchange in unread:
            read = self._meanings[exchange] = meaning(exchange.request)
            self._saying.setdefault(read, _Same()).add(exchange, left=exchange in self._lost)
        unread.clear()


class _Same:
    """Exchanges that say the same: the first is found at once, though thousands are open."""

    __slots__ = ("left", "open")

    def __init__(self) -> None:
        self.open: OrderedDict[ExchangeState, None] = OrderedDict()
        """But for those of which nobody can have anything any more."""
        self.left: OrderedDict[ExchangeState, None] = OrderedDict()
        """Those of them that a connection has left, but for those that another one reads now."""

    def add(self, exchange: ExchangeState, *, left: bool) -> None:
        self.open[exchange] = None
        if left:
            self.lose(exchange)

    def lose(self, exchange: ExchangeState) -> None:
        """A connection has left it."""
        self.left[exchange] = None

    def discard(self, exchange: ExchangeState) -> None:
        self.open.pop(exchange, None)
        self.left.pop(exchange, None)

    def find(self, *, proven: bool) -> ExchangeState | None:
        """As `Alike.find`."""
        lost = _first_of(self.left, lambda one: _is_useful(one) and not one.answer.subscriptions)
        return _first_of(self.open, _is_useful) if lost is None and proven else lost


def _is_useful(exchange: ExchangeState) -> bool:
    return not exchange.settled or isinstance(exchange.outcome, Answered)


def _first_of(
    exchanges: OrderedDict[ExchangeState, None], is_one: Callable[[ExchangeState], bool]
) -> ExchangeState | None:
    """The first that is one; what is before it is none any more, and goes."""
    while exchanges:
        if is_one(first := next(iter(exchanges))):
            return first
        del exchanges[first]
    return None
