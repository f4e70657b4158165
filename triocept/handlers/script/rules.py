"""Rules of a script, such as `when(text="weather").reply(ToolCall.of("get_weather"), "It rains.")`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Never, final

from ..._canonical.request import Request
from ..._util.checks import check_keywords
from .conditions import Conditions, OutputKind, Wording
from .replies import Reply, check_replies


@final
@dataclass(frozen=True, kw_only=True)
class Rule:
    """Conditions, and the replies to requests that meet these conditions. `when(…).reply(…)` creates a rule."""

    conditions: Conditions
    """Conditions of the rule. If no condition is set, all requests match."""
    replies: tuple[Reply, ...]
    """The replies, in order. A number among them is a pause, in seconds, before the next reply."""
    endless: bool = False
    """True if the first reply follows again after the last reply."""
    place: str = ""
    """File and line of the rule. Empty if the rule was not read from a file."""

    def __str__(self) -> str:
        name = f"when({self.conditions})" if self.conditions else "otherwise(…)"
        return f"{name} ({self.place})" if self.place else name


@final
class When:
    """Conditions of a rule that has no replies yet.

    `when(…)` returns an instance; its methods `reply`, `cycle` and `repeat` return the rule.
    """

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions

    def reply(self, *replies: Reply) -> Rule:
        """Return a rule that gives each reply once, in order. After the last reply, the rule matches no request.

        Raises:
            TypeError: an item is not a reply; see `Reply`.
        """
        return self._rule("reply", replies, endless=False)

    def cycle(self, *replies: Reply) -> Rule:
        """Return a rule that gives the replies in order, one to each request.

        After the last reply, the first follows again.

        Errors are as in `reply`.
        """
        return self._rule("cycle", replies, endless=True)

    def repeat(self, reply: Reply) -> Rule:
        """Return a rule that gives the same reply to every matching request. Raise the same errors as `reply`."""
        return self._rule("repeat", (reply,), endless=True)

    def __repr__(self) -> str:
        return f"when({self._conditions})"

    def _rule(self, verb: str, replies: tuple[Reply, ...], *, endless: bool) -> Rule:
        check_replies(replies, f"{self!r}.{verb}")
        return Rule(conditions=self._conditions, replies=replies, endless=endless)


_CONFUSED = {
    "tool": "offered_tool=… (the agent offers the tool) or result_of=… (the request has a result of the tool)?",
    "tool_name": "offered_tool=… (the agent offers the tool) or result_of=… (the request has a result of the tool)?",
    "called_tool": "result_of=… (the request has a result of the tool)?",
}
"""Names that a user may mistake for keywords of `when`, each with the keywords that could be meant."""


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
    """Return conditions on a request, all of which must be met: `when(text="weather").reply("It rains.")`.

    Most conditions are compared with one text of the request. If the condition is a `str`, this text must contain it,
    with equal case. If the condition is a compiled pattern, the pattern must be found in this text.

    Args:
        text: part of the user's newest text. Later requests that add only tool results have the same newest text, so
            the rule matches them, too. To answer them differently, give the rule several replies, or use `tool_result`.
        system: part of the system and developer messages.
        model: the full name of the requested model; in the request, a date suffix may follow. A compiled pattern is
            searched in the requested name.
        tool_result: part of a tool result since the model's last answer. True requires any such result; False requires
            that the request has no such result.
        result_of: name of a tool that has a result since the model's last answer.
        offered_tool: name of a tool that the agent offers. The condition holds whether or not the model called the
            tool.
        output: form of the answer that the request requires: `text`, `json_object` or `json_schema`.
        predicate: called with the request; returns a true value if the request matches.

    Raises:
        TypeError: a keyword is unknown, a value has the wrong type, or no condition is given.
        ValueError: a text is empty, or `output` is unknown.
    """
    names: Iterable[str] = unknown
    for name in names:
        if name in _CONFUSED:
            raise TypeError(
                f"when() got an unexpected keyword argument {name!r}; did you mean {_CONFUSED[name]}"
            )
    check_keywords("when", unknown, list(Conditions.__dataclass_fields__))
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
            "when() without conditions matches every request: write the reply alone (used once), or otherwise(…) (used "
            "each time)"
        )
    return When(conditions)


def otherwise(*replies: Reply) -> Rule:
    """Return a rule for requests that no earlier item of the script answers.

    The rule gives its replies in order, and then begins again with the first reply.

    Raises:
        TypeError: an item is not a reply; see `Reply`.
    """
    check_replies(replies, "otherwise")
    return Rule(conditions=Conditions(), replies=replies, endless=True)
