"""What a script says to which request: `when(text="weather").reply(ToolCall.of("get_weather"), "It rains.")`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Never, final

from ..._canonical.request import Request
from ..._util.checks import check_keywords
from .conditions import Conditions, OutputKind, Wording
from .replies import Reply, check_replies

if TYPE_CHECKING:
    from collections.abc import Mapping


@final
@dataclass(frozen=True, kw_only=True)
class Rule:
    """Made by `when(…).reply(…)` and its like: what is said to the requests that match."""

    conditions: Conditions
    """Which requests; one that demands nothing matches all."""
    replies: tuple[Reply, ...]
    """In order; a pause belongs to the reply that follows it."""
    endless: bool = False
    """Whether they begin anew when all are given."""
    place: str = ""
    """The file and the line that it stands in; empty: in a program."""

    def __str__(self) -> str:
        name = f"when({self.conditions})" if self.conditions else "otherwise(…)"
        return f"{name} ({self.place})" if self.place else name


@final
class When:
    """Made by `when(…)`: the requests that match, and nothing said to them yet."""

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions

    def reply(self, *replies: Reply) -> Rule:
        """Say these, one to a request, each once. When all are given, the rule matches nothing any more.

        Raises:
            TypeError: one of them is no reply; see `Reply`.
        """
        return self._rule("reply", replies, endless=False)

    def cycle(self, *replies: Reply) -> Rule:
        """Say these, one to a request, again and again; errors as of `reply`."""
        return self._rule("cycle", replies, endless=True)

    def repeat(self, reply: Reply) -> Rule:
        """Say the same each time; errors as of `reply`."""
        return self._rule("repeat", (reply,), endless=True)

    def __repr__(self) -> str:
        return f"when({self._conditions})"

    def _rule(self, verb: str, replies: tuple[Reply, ...], *, endless: bool) -> Rule:
        check_replies(replies, f"{self!r}.{verb}")
        return Rule(conditions=self._conditions, replies=replies, endless=endless)


def when(
    *,
    text: Wording | None = None,
    system: Wording | None = None,
    model: Wording | None = None,
    tool_result: Wording | bool | None = None,
    result_of: str | None = None,
    offered_tool: str | None = None,
    output: OutputKind | None = None,
    predicate: Callable[[Request], object] | None = None,
    **unknown: Never,
) -> When:
    """The requests of which all this holds: `when(text="weather").reply("It rains.")`.

    A `str` is looked for anywhere in what it is about, in upper and lower case as it stands; a compiled pattern is
    searched there.

    Args:
        text: in the newest text of the user. It stands there still when the results of tools have come behind it: more
            than one reply, or `tool_result`, says what is answered then.
        system: in the system and developer messages.
        model: the name of the model that is asked for, whole, with a date behind it or without; a pattern is searched.
        tool_result: in a result of a tool that came since the model spoke last; True: there is one; False: there is
            none.
        result_of: the name of a tool that was called, and whose result came since the model spoke last.
        offered_tool: the name of a tool that the agent offers: the model may call it, and has perhaps not.
        output: what the answer has to be, as the request asks: `text`, `json_object` or `json_schema`.
        predicate: a function of the request that says something true.

    Raises:
        TypeError: there is no such keyword, or a value is not of its type; or nothing at all is said.
        ValueError: a text is empty, or there is no such output.
    """
    said: Mapping[str, object] = unknown
    if said:
        _check_names(said)
    conditions = Conditions(
        text=text,
        system=system,
        model=model,
        tool_result=tool_result,
        result_of=result_of,
        offered_tool=offered_tool,
        output=output,
        predicate=predicate,
    )
    if not conditions:
        raise TypeError(
            "when() matches every request: a reply by itself does that once, otherwise(…) each time"
        )
    return When(conditions)


def otherwise(*replies: Reply) -> Rule:
    """Say these, one after the other and again and again, to every request that nothing above it answers.

    Raises:
        TypeError: one of them is no reply; see `Reply`.
    """
    check_replies(replies, "otherwise")
    return Rule(conditions=Conditions(), replies=replies, endless=True)


_CONFUSED = {
    "tool": "offered_tool=… (the agent offers it) or result_of=… (it was called, and its result has come)?",
    "tool_name": "offered_tool=… (the agent offers it) or result_of=… (it was called, and its result has come)?",
    "called_tool": "result_of=… (it was called, and its result has come)?",
}
"""Names that could mean one thing as well as the other."""


def _check_names(unknown: Mapping[str, object]) -> None:
    for name in unknown:
        if name in _CONFUSED:
            raise TypeError(f"when() got an unexpected keyword argument {name!r}: {_CONFUSED[name]}")
    check_keywords("when", unknown, list(Conditions.__dataclass_fields__))
