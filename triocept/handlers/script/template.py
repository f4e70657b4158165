"""`Template`: a reply with placeholders for texts of the request. A template cannot run code."""

from __future__ import annotations

from collections.abc import Callable
from string import Formatter
from typing import final

from ..._canonical.request import Request
from ..._util.checks import check_str
from .words import system_text

NAMES: dict[str, Callable[[Request], str]] = {
    "text": lambda request: request.user_text,
    "system": system_text,
    "tool_result": lambda request: request.tool_results[-1].text if request.tool_results else "",
    "model": lambda request: request.model,
    "dialect": lambda request: request.dialect,
    "tools": lambda request: ", ".join([tool.name for tool in request.tools]),
}
"""Names allowed between braces, each with the function that returns its text."""


@final
class Template:
    """A reply with placeholders that are replaced by texts of the request: `Template("You said: {text}")`.

    These names may stand between braces: `text` (the user's newest text), `system`, `tool_result` (the newest result's
    text), `model`, `dialect`, `tools` (the names of the offered tools). If the request lacks a value, its placeholder
    is replaced by an empty text. `{{` and `}}` are literal braces.

    Raises:
        TypeError: `text` is not a text.
        ValueError: `text` contains an unknown name between braces.
    """

    def __init__(self, text: str) -> None:
        check_str("a Template's text", text)
        self._text = text
        try:
            pieces = list(Formatter().parse(text))
        except ValueError as exc:
            raise ValueError(f"Template({text!r}): {exc}; write a literal brace twice: {{{{ }}}}") from None
        for _, name, spec, conversion in pieces:
            if name is not None and (name not in NAMES or spec or conversion):
                raise ValueError(
                    f"Template({text!r}): braces must contain one of {', '.join(NAMES)}, and nothing else; "
                    "write a literal brace twice: {{ }}"
                )
        self._pieces = [(before, name) for before, name, _, _ in pieces]

    def __call__(self, request: Request) -> str:
        """Return the template's text, with each placeholder replaced by a text of `request`."""
        return "".join(
            [before + ("" if name is None else NAMES[name](request)) for before, name in self._pieces]
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Template) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return f"Template({self._text!r})"
