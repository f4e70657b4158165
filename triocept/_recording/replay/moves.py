"""The content of a request: its agent's messages and actions so far, in the form in which two runs are compared.

Two calls of two runs of one agent, in one dialect or two, have equal moves if only the environment differs.

The rule `REPLAY` of `_canonical.form` compares parts. Beyond it (a real agent needed each rule):

1. The results of tools have the role `tool`, wherever the dialect packs them. Neighbours of one role are one.
2. Directories of the run are masked everywhere. Other parts that differ from run to run are masked in texts of the
   agent and its user. The model's texts are compared exactly.
3. Results of tools do not count by default: they contain dates, process numbers and durations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import groupby
from typing import NamedTuple, TypeAlias

import msgspec

from ..._canonical.content import Json, Message, Part, ToolResult
from ..._canonical.form import REPLAY, join_texts, part_form, role_form
from ..._canonical.request import Request
from ..roots import in_json
from ..volatile import steady

_encode = msgspec.json.Encoder(order="deterministic").encode


class Move(NamedTuple):
    """A message or an action."""

    role: str
    kind: str
    """Kind of the part: text, call, result, refusal, media, opaque."""
    value: str


Moves: TypeAlias = tuple[Move, ...]


class Key(NamedTuple):
    """The content of a request: equal for calls that get the same answer."""

    moves: Moves
    tools: tuple[str, ...]
    """The names of the offered tools, sorted."""


class Normal:
    """Makes moves of requests. A message object is converted once.

    Args:
        mask: removes the run's directories from a text.
        results: True: results of tools count.
    """

    def __init__(self, mask: Callable[[str], str], *, results: bool = False) -> None:
        self._mask = mask
        self._words = cache(lambda text: mask(text).strip())
        self._results = results
        self._known: dict[int, tuple[Message, tuple[tuple[str, list[Json]], ...]]] = {}
        """Roles and forms by a message's `id`; holding the message keeps the `id` unique."""

    def moves(self, request: Request) -> Moves:
        """Return all moves up to this call."""
        each = (said for message in request.messages for said in self._of(message))
        return tuple(
            self._move(role, form)
            for role, group in groupby(self._answers(each), key=lambda said: said[0])
            for form in join_texts((form for _, form in group), "\n")
        )

    def result(self, result: ToolResult) -> str:
        """Return a tool's result and its error mark, without parts that differ from run to run."""
        return ("failed: " if result.is_error else "") + steady(self._mask(result.text))

    def _of(self, message: Message) -> tuple[tuple[str, list[Json]], ...]:
        known = self._known.get(id(message))
        if known is None or known[0] is not message:
            role = role_form(message)
            forms = tuple(said for part in message.content for said in self._form(role, part))
            known = self._known[id(message)] = (message, forms)
        return known[1]

    def _form(self, role: str, part: Part) -> Iterator[tuple[str, list[Json]]]:
        form = part_form(part, REPLAY)
        if isinstance(part, ToolResult):
            yield "tool", ["result", self.result(part) if self._results else ""]
        elif form is not None and form[0] == "text" and role != "assistant":
            if said := steady(self._mask(form[1])).strip():
                yield role, ["text", said]
        elif form is not None:
            yield role, form

    def _answers(self, each: Iterable[tuple[str, list[Json]]]) -> Iterator[tuple[str, list[Json]]]:
        """Join texts of the model. They are masked here, since a piece may end within a directory's name."""
        for role, group in groupby(each, key=lambda said: said[0]):
            if role != "assistant":
                yield from group
                continue
            for form in join_texts(form for _, form in group):
                if form[0] != "text":
                    yield role, form
                elif words := self._words(form[1]):
                    yield role, ["text", words]

    def _move(self, role: str, form: list[Json]) -> Move:
        kind, *value = form
        match kind:
            case "refusal":
                return Move(role, kind, self._mask(value[0]))
            case "text" | "result":
                return Move(role, kind, value[0])
            case "opaque":
                return Move(role, kind, steady(_text(in_json(value[1], self._mask))))
            case _:
                return Move(role, kind, _text(in_json(value, self._mask)))


def key_of(request: Request, normal: Normal) -> Key:
    """Return the content of a request."""
    return Key(normal.moves(request), tuple(sorted({tool.name for tool in request.tools})))


def _text(value: Json) -> str:
    return _encode(value).decode()
