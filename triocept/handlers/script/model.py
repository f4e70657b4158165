"""A scripted model: its replies and rules are written in advance.

Rules:

1. Each request reads the script from the top: the first matching item that is not used up answers. A plain reply
   matches every request; a rule matches requests that meet its conditions.
2. A reply is given once, unless it is set to repeat. Nothing is made up: a request without a reply is an error.
3. Only an exchange that takes a reply advances the script. If the agent disconnects during a pause, the reply is
   returned to the script.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from reprlib import repr as short
from typing import TypeAlias, final

import trio

from ..._canonical.request import Request
from ..._rollout.exchange import Exchange
from ...errors import ScriptExhausted
from .conditions import Conditions
from .fixtures import Fixtures, source_of
from .replies import NotAReply, Reply, check_reply, give, is_pause
from .rules import Rule, When
from .shadow import check_shadows
from .source import Replies, Source, Taken, described_miss

Item: TypeAlias = Reply | Rule | Fixtures
"""An item of a script: a reply, a rule (`when(…).reply(…)`), or fixtures of aimock."""


@final
class ScriptedModel:
    """A handler that answers from a script.

    Each request reads the script from the top: the first matching item that is not used up answers. A plain reply
    matches every request; a rule (`when(…).reply(…)`) matches requests that meet its conditions. So a script of plain
    replies is given in order, and plain replies after rules answer the requests that match no rule.

    Args:
        replies: replies (see `Reply`), rules, and the result of `read_script`.

    Raises:
        ScriptExhausted: from an exchange without a reply; the text shows the request, and why the closest rules do not
            match.
        TypeError: an item is not a reply or a rule, or a pause is not a valid duration (the text names its place); or
            `replies` is not a list.
        ValueError: (`handlers.ShadowedRule`) an item can never answer, since an earlier item always answers its
            requests; the text names both places.
    """

    def __init__(self, replies: Iterable[Item]) -> None:
        if isinstance(replies, (str, bytes, Mapping, Rule, Fixtures)) or not isinstance(replies, Iterable):
            raise TypeError(f"a script is a list of replies: ScriptedModel([{short(replies)}])")
        self._items = items = list(replies)
        self._hint = _list_hint(items)
        self.reset()
        self._total = self.remaining

    def reset(self) -> None:
        """Restart the script. Replies that are being given are completed.

        `POST …/reset` of a rollout with this handler has the same effect: for tests in other processes, between two
        runs.
        """
        self._sources: list[Source] = list(_sources(self._items))

    @property
    def remaining(self) -> int:
        """Number of replies left, without pauses and without repeated replies."""
        return sum(source.remaining for source in self._sources)

    @property
    def unused(self) -> tuple[str, ...]:
        """Descriptions of the replies left, with their places.

        Repeated replies are not included, even if they were never given.
        """
        return tuple([what for source in self._sources for what in source.unused()])

    async def __call__(self, exchange: Exchange) -> None:
        source, taken = self._take(exchange.request)
        try:
            await trio.sleep(taken.pause)
        except trio.Cancelled:
            source.give_back(taken)
            raise
        await give(taken.reply, exchange, taken.place)

    def __repr__(self) -> str:
        endless = sum(source.endless for source in self._sources)
        counts = [f"{self.remaining} of {self._total} replies left"] if self._total or not endless else []
        if endless:
            what = "one answers" if endless == 1 else f"{endless} answer"
            counts.append(f"{what} any number of times")
        return f"<ScriptedModel: {', '.join(counts)}>"

    def _take(self, request: Request) -> tuple[Source, Taken]:
        for source in self._sources:
            if (taken := source.take(request)) is not None:
                return source, taken
        misses = [miss for source in self._sources for miss in source.misses(request)]
        raise ScriptExhausted(f"{described_miss(request, misses, self._total)}{self._hint}")


def _list_hint(replies: Sequence[Item]) -> str:
    """Return a hint for a script that is a list in another list: usually each text in it was meant as a reply."""
    only = replies[0] if len(replies) == 1 else None
    if not isinstance(only, (list, tuple)) or len(only) < 2:
        return ""
    count = len(only)
    return f"\nreplies[0] is a list, which is one response of {count} parts; without its brackets, {count} replies"


def _sources(items: list[Item]) -> Iterator[Source]:
    """Yield the script's sources in order; adjacent plain replies are one source."""
    found: list[tuple[str, Rule]] = []
    for kind, group in groupby(enumerate(items), key=lambda item: _kind(item[1])):
        if kind is Fixtures:
            for _, fixtures in group:
                assert isinstance(fixtures, Fixtures)
                yield source_of(fixtures)
            continue
        for place, rule, first in _rules(list(group)) if kind is Rule else _plain(list(group), len(items)):
            found.append((place, rule))
            yield Replies(rule, place=place, first=first)
    check_shadows(found)


def _kind(item: Item) -> type | None:
    return type(item) if isinstance(item, (Rule, Fixtures)) else None


def _rules(group: list[tuple[int, Item]]) -> Iterator[tuple[str, Rule, None]]:
    for number, rule in group:
        assert isinstance(rule, Rule)
        yield f"replies[{number}], {rule}", rule, None


def _plain(group: list[tuple[int, Item]], total: int) -> Iterator[tuple[str, Rule, int]]:
    for number, reply in group:
        if isinstance(reply, When):
            raise NotAReply(f"replies[{number}] is {reply!r} without a reply: {reply!r}.reply(…)")
        check_reply(reply, f"replies[{number}]")
    first, last = group[0][0], group[-1][0]
    replies = tuple([reply for _, reply in group if not isinstance(reply, (Rule, Fixtures))])
    if is_pause(replies[-1]) and last + 1 < total:
        raise NotAReply(
            f"replies[{last}] is a pause before a rule: it goes into it, .reply({replies[-1]}, …)"
        )
    name = f"replies[{first}]" if first == last else f"replies[{first}] to replies[{last}]"
    yield f"{name}, given to every request", Rule(conditions=Conditions(), replies=replies), first
