"""`ScriptedModel`: a handler whose replies and rules are written in advance.

Rules:

1. For each request, the script is searched from the top: the first matching item that is not used up answers. A reply
   that is not part of a rule (a plain reply) matches every request. A rule matches requests that meet its conditions.
2. A reply is given once, unless it is set to repeat. A request without a matching reply is an error.
3. Only an exchange that gets a reply uses up a reply. If the agent disconnects during a pause, the reply after the
   pause counts as unused again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from reprlib import repr as short
from typing import Never, TypeAlias, cast, final

import trio

from ..._rollout.exchange import Exchange
from ..._util.checks import described
from ...errors import ScriptExhausted
from .conditions import Conditions
from .fixtures import Fixtures, source_of
from .replies import NotAReply, Reply, check_reply, give, is_pause
from .rules import Rule, When
from .shadow import check_shadows
from .source import Replies, Source, described_miss

Item: TypeAlias = Reply | Rule | Fixtures
"""An item of a script: a reply, a rule (`when(…).reply(…)`), or fixtures of aimock."""


@final
class ScriptedModel:
    """A handler that answers from a script.

    For each request, the script is searched from the top: the first matching item that is not used up answers. A reply
    that is not part of a rule (a plain reply) matches every request. A rule (`when(…).reply(…)`) matches requests that
    meet its conditions. So plain replies are given in order. Plain replies that stand after rules answer the requests
    that match none of these rules.

    Args:
        replies: replies (see `Reply`), rules, and the result of `read_script`.

    Raises:
        ScriptExhausted: no reply is left for the request of an exchange. The error's text shows the request, and why
            the closest rules do not match.
        TypeError: `replies` is not a list, an item is not a reply or a rule, or a pause is not a valid duration. The
            error's text names the place of the item.
        ValueError: (`handlers.ShadowedRule`) an item can never answer, because an earlier item always answers the same
            requests. The error's text names the places of both items.
    """

    def __init__(self, replies: Iterable[Item], *more: Never) -> None:
        if more:
            texts = ", ".join(map(short, (replies, *more)))
            raise TypeError(f"a script must be one list of replies: write ScriptedModel([{texts}])")
        if isinstance(replies, (str, bytes, Mapping, Rule, Fixtures)) or not isinstance(replies, Iterable):
            none: object = replies
            hint = (
                "" if none is None or isinstance(none, Mapping) else f": write ScriptedModel([{short(none)}])"
            )
            raise TypeError(f"a script must be a list of replies, not {described(replies)}{hint}")
        self._items = items = list(replies)
        only = items[0] if len(items) == 1 else None
        # A list in another list: usually each text in it was meant as a reply.
        is_nested = isinstance(only, (list, tuple)) and len(only) > 1
        self._hint = _NESTED_HINT.format(len(cast(list[object], only))) if is_nested else ""
        self.reset()
        self._total: int = self.remaining

    def reset(self) -> None:
        """Restart the script from its first reply. Answers in progress are completed.

        A test in another process can restart the script between two runs: it sends `POST …/reset` to a rollout with
        this handler.
        """
        self._sources: list[Source] = list(_sources(self._items))
        self._calls = 0

    @property
    def remaining(self) -> int:
        """Number of replies that were not used yet. Pauses, and replies that are set to repeat, are not counted."""
        return sum(source.remaining for source in self._sources)

    @property
    def unused(self) -> tuple[str, ...]:
        """Descriptions of the replies that were not used yet, with their places in the script.

        Replies that are set to repeat are not included, even if they were never given.
        """
        return tuple([what for source in self._sources for what in source.unused()])

    async def __call__(self, exchange: Exchange) -> None:
        request = exchange.request
        self._calls += 1
        for source in self._sources:
            if (taken := source.take(request)) is not None:
                break
        else:
            misses = [miss for source in self._sources for miss in source.misses(request)]
            raise ScriptExhausted(f"{described_miss(request, misses, self._calls, self._total)}{self._hint}")
        try:
            await trio.sleep(taken.pause)
        except trio.Cancelled:
            source.give_back(taken)
            self._calls -= 1
            raise
        await give(taken.reply, exchange, taken.place)

    def __repr__(self) -> str:
        endless = sum(source.endless for source in self._sources)
        counts = [f"{self.remaining} of {self._total} replies left"] if self._total or not endless else []
        if endless:
            what = "one answers" if endless == 1 else f"{endless} answer"
            counts.append(f"{what} any number of times")
        return f"<ScriptedModel: {', '.join(counts)}>"


_NESTED_HINT = (
    "\nreplies[0] is a list, which is one response with {0} parts. For {0} replies, remove the inner brackets"
)


def _sources(items: list[Item]) -> Iterator[Source]:
    """Yield the sources of a script's replies, in order. Consecutive replies that belong to no rule form one source."""
    rules: list[tuple[str, Rule]] = []
    numbered = enumerate(items)
    for is_plain, group in groupby(numbered, key=lambda item: not isinstance(item[1], (Rule, Fixtures))):
        if is_plain:
            place, rule, first = _plain_rule(cast(list[tuple[int, Reply]], list(group)), len(items))
            rules.append((place, rule))
            yield Replies(rule, place=place, first=first)
            continue
        for number, item in group:
            if isinstance(item, Rule):
                rules.append((f"replies[{number}], {item}", item))
                yield Replies(item, place=rules[-1][0])
            else:
                yield source_of(cast(Fixtures, item))
    check_shadows(rules)


def _plain_rule(group: list[tuple[int, Reply]], total: int) -> tuple[str, Rule, int]:
    """Convert consecutive replies that belong to no rule to one rule that matches all requests.

    Return the rule's name, the rule, and the index of its first reply in the script.
    """
    for number, reply in group:
        if isinstance(reply, When):
            raise NotAReply(f"replies[{number}] is a rule without a reply: write {reply!r}.reply(…)")
        check_reply(reply, f"replies[{number}]")
    (first, _), (last, last_reply) = group[0], group[-1]
    if is_pause(last_reply) and last + 1 < total:
        raise NotAReply(
            f"replies[{last}] is a pause before a rule, where it has no effect: write the pause as the first reply of "
            f"the rule, .reply({last_reply}, …)"
        )
    if is_pause(last_reply):
        raise NotAReply(
            f"replies[{last}] is a pause of {last_reply:g} s, but no reply follows it: add a reply, or write "
            f'"{last_reply}" if it is a text'
        )
    name = f"replies[{first}]" if first == last else f"replies[{first}] to replies[{last}]"
    replies = tuple([reply for _, reply in group])
    return f"{name}, given to every request", Rule(conditions=Conditions(), replies=replies), first
