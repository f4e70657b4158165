"""The conditions of a script's rule. The rule answers a request only if the request meets all of them.

Rules:

1. All conditions must hold. Each condition is compared with one text of the request. A condition that is a text holds
   if the compared text contains it. A condition that is a compiled pattern holds if the pattern is found in the
   compared text.
2. Conditions keep no state between requests: a match depends on the request alone.
3. If no reply matches, the error's text describes the conditions that do not hold, with the actual values in the
   request.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from inspect import iscoroutinefunction
from typing import Any, Literal, TypeAlias

from ..._canonical.request import Request, offered_names
from ..._util.checks import check_callable, check_choice, check_str, check_type, named, takes
from .words import called_names, shown, system_text

Wording: TypeAlias = str | re.Pattern[str]
"""A condition on a text of the request: a text that it must contain, or a compiled pattern that must be found in it."""

OutputKind: TypeAlias = Literal["text", "json_object", "json_schema"]
"""The required form of an answer: free text, any JSON object, or JSON that fits a schema."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Conditions on a request. A field that is not set is not a condition."""

    text: Wording | None = None
    """Part of the user's newest text. Messages with only tool results after this text are ignored."""
    system: Wording | None = None
    """Part of the system and developer messages."""
    model: Wording | None = None
    """Full name of the requested model; in the request, a date suffix may follow. A compiled pattern is searched in the
    requested name."""
    tool_result: Wording | bool | None = None
    """Part of a tool result since the model's last answer. True requires any such result; False requires that the
    request has no such result."""
    result_of: str | None = None
    """Name of a tool that has a result since the model's last answer."""
    offered_tool: str | None = None
    """Name of a tool that the agent offers. The condition does not depend on whether the model called the tool."""
    output: OutputKind | None = None
    """Required form of the answer."""
    predicate: Callable[[Request], object] | None = None
    """A function that is called with the request. The condition holds if the function returns a true value."""

    def __post_init__(self) -> None:
        for name in ("text", "system", "model"):
            _check_wording(name, getattr(self, name))
        if not isinstance(self.tool_result, bool):
            _check_wording("tool_result", self.tool_result, "a str, a compiled pattern, True or False")
        for name in ("result_of", "offered_tool"):
            if (value := getattr(self, name)) is not None:
                check_str(f"when: {name}", value)
                if not value:
                    raise ValueError(f"when: {name} must not be empty: no tool has an empty name")
        if self.output is not None:
            check_choice("when: output", self.output, OutputKind)
        if (predicate := self.predicate) is not None:
            check_callable("when: predicate", predicate, "a function of the request")
            if iscoroutinefunction(predicate):
                raise TypeError(f"when: {named(predicate)} is async: a predicate must not be async")
            if isinstance(predicate, type) or not takes(predicate, 1):
                raise TypeError(f"when: {named(predicate)} does not take one argument, the request")

    def __bool__(self) -> bool:
        return any(True for _ in self.given())

    def __str__(self) -> str:
        shown_values = [
            (
                name,
                f"/{value.pattern}/"
                if isinstance(value, re.Pattern)
                else named(value)
                if callable(value)
                else shown(value),
            )
            for name, value in self.given()
        ]
        return ", ".join([f"{name}={text}" for name, text in shown_values])

    def given(self) -> Iterator[tuple[str, Any]]:
        """Yield the name and the value of each condition that is set."""
        for field in fields(self):
            if (value := getattr(self, field.name)) is not None:
                yield field.name, value

    def holds(self, request: Request) -> bool:
        return next(self.failures(request), None) is None

    def failures(self, request: Request) -> Iterator[str]:
        """Yield a description for each condition that `request` does not meet."""
        output = request.output_format.kind if request.output_format is not None else "text"
        for name, wanted in self.given():
            match name:
                case "text":
                    holds = _is_in(wanted, text) if (text := request.user_text) else False
                    actual = f"the user says {shown(text) if text else 'nothing'}"
                case "system":
                    holds = _is_in(wanted, text := system_text(request))
                    actual = f"the system prompt is {shown(text)}"
                case "model":
                    holds, actual = is_of_model(wanted, request.model), f"the model is {request.model!r}"
                case "tool_result":
                    texts = [result.text for result in request.tool_results]
                    if isinstance(wanted, bool):
                        holds = wanted == bool(texts)
                    else:
                        holds = any(_is_in(wanted, text) for text in texts)
                    actual = f"the results are {', '.join(map(shown, texts))}" if texts else _NO_RESULT
                case "result_of":
                    holds = wanted in (names := called_names(request))
                    actual = f"the results are those of {', '.join(names)}" if names else _NO_RESULT
                case "offered_tool":
                    holds = wanted in (names := offered_names(request))
                    actual = f"the tools offered are {', '.join(names)}" if names else "no tool is offered"
                case "output":
                    holds, actual = wanted == output, f"the requested output is {output}"
                case _:
                    holds, actual = bool(wanted(request)), f"{named(wanted)} returned a false value"
            if not holds:
                yield actual


def is_of_model(model: Wording, asked: str) -> bool:
    """Return True if `asked`, the requested model, is `model` or `model` with a date, such as `gpt-5-2025-08-07`.

    If `model` is a compiled pattern, return True if the pattern is found in `asked`.
    """
    if isinstance(model, re.Pattern):
        return model.search(asked) is not None
    return asked.startswith(model) and _DATE.fullmatch(asked, len(model)) is not None


_DATE = re.compile(r"(?:[-@]20\d{6}|-20\d\d-\d\d-\d\d)?")
"""Pattern of the date suffixes in model names of Anthropic, Google Cloud and OpenAI."""
_NO_RESULT = "the request has no tool result"


def _is_in(wording: Wording, text: str) -> bool:
    return wording in text if isinstance(wording, str) else wording.search(text) is not None


def _check_wording(name: str, wording: object, what: str = "a str or a compiled pattern") -> None:
    if wording is None:
        return
    check_type(f"when: {name}", wording, (str, re.Pattern), what)
    if not isinstance(wording.pattern if isinstance(wording, re.Pattern) else wording, str):
        raise TypeError(f"when: {name} must be a pattern of a str, not of bytes")
    if wording == "":
        raise ValueError(f"when: {name} must not be empty: an empty text would match every request")
