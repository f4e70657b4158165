"""The exchanges of a rollout that run, as a call finds among them the one that it repeats.

There may be thousands that are alike, of agents that sample: what one says is read once, and no sooner than somebody
asks; and no look goes over all of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from .._canonical.request import Request
from .exchange_core import ExchangeCore
from .outcome import Answered
from .retries import meaning

__all__ = ["Alike"]


class Alike:
    """The exchanges of one retry key that are not recorded yet."""

    __slots__ = ("_lost", "_meanings", "_saying", "_unread", "_unread_lost", "exchanges")

    def __init__(self) -> None:
        self.exchanges: dict[ExchangeCore, None] = {}
        self._lost: dict[ExchangeCore, None] = {}
        """Those of them that some connection has left."""
        self._unread: dict[ExchangeCore, None] = {}
        self._unread_lost: dict[ExchangeCore, None] = {}
        self._meanings: dict[ExchangeCore, bytes] = {}
        self._saying: dict[bytes, _Same] = {}
        """By what they say, those that were read."""

    def add(self, exchange: ExchangeCore) -> None:
        self.exchanges[exchange] = self._unread[exchange] = None

    def lose(self, exchange: ExchangeCore) -> None:
        """A connection has left it."""
        self._lost[exchange] = None
        if exchange in self._unread:
            del self._unread[exchange]
            self._unread_lost[exchange] = None
        elif (same := self._same(exchange)) is not None:
            same.lose(exchange)

    def discard(self, exchange: ExchangeCore) -> None:
        del self.exchanges[exchange]
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

    def find(self, request: Request, *, proven: bool) -> ExchangeCore | None:
        """One that this call repeats; unless that is proven, only one that nobody waits for any more."""
        if not (proven or self._lost):
            return None
        self._read(self._unread_lost)
        if proven:
            self._read(self._unread)
        same = self._saying.get(meaning(request))
        return same.find(proven=proven) if same is not None else None

    def _same(self, exchange: ExchangeCore) -> _Same | None:
        """It among those that say the same; None: it is unread, or nobody can have anything of them any more."""
        read = self._meanings.get(exchange)
        return self._saying.get(read) if read is not None else None

    def _read(self, unread: dict[ExchangeCore, None]) -> None:
        for exchange in unread:
            read = self._meanings[exchange] = meaning(exchange.request)
            self._saying.setdefault(read, _Same()).add(exchange, left=exchange in self._lost)
        unread.clear()


class _Same:
    """Exchanges that say the same: the first is found at once, though thousands are open."""

    __slots__ = ("left", "open")

    def __init__(self) -> None:
        self.open: OrderedDict[ExchangeCore, None] = OrderedDict()
        """But for those of which nobody can have anything any more."""
        self.left: OrderedDict[ExchangeCore, None] = OrderedDict()
        """Those of them that a connection has left, but for those that another one reads now."""

    def add(self, exchange: ExchangeCore, *, left: bool) -> None:
        self.open[exchange] = None
        if left:
            self.lose(exchange)

    def lose(self, exchange: ExchangeCore) -> None:
        """A connection has left it."""
        self.left[exchange] = None

    def discard(self, exchange: ExchangeCore) -> None:
        self.open.pop(exchange, None)
        self.left.pop(exchange, None)

    def find(self, *, proven: bool) -> ExchangeCore | None:
        """As `Alike.find`."""
        lost = _first_of(self.left, lambda one: _is_useful(one) and not one.answer.attended)
        return _first_of(self.open, _is_useful) if lost is None and proven else lost


def _is_useful(exchange: ExchangeCore) -> bool:
    return not exchange.settled or isinstance(exchange.outcome, Answered)


def _first_of(
    exchanges: OrderedDict[ExchangeCore, None], is_one: Callable[[ExchangeCore], bool]
) -> ExchangeCore | None:
    """The first that is one; what is before it is none any more, and goes."""
    while exchanges:
        if is_one(first := next(iter(exchanges))):
            return first
        del exchanges[first]
    return None
