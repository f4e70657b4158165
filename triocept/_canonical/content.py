"""The parts of a message, and the message.

Rules:

1. Order is kept: a message is a tuple of parts as they came.
2. A tool call's arguments are the very text that the model wrote, valid JSON or not; `ToolCall.parsed()` reads it.
3. An opaque blob (a signature, encrypted reasoning) belongs to the provider that made it: it is carried, not read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Never, TypeAlias

import msgspec

from .._util.checks import check_type, unsayable
from .._util.unicode import mended
from ..errors import DialectError

Json: TypeAlias = Any
"""A decoded JSON value. The only use of `Any`: what came over a wire has no other type."""

Role: TypeAlias = Literal["system", "developer", "user", "assistant", "tool"]

_encode = msgspec.json.Encoder().encode


class _Part(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag=True, tag_field="part"):
    """What all parts have in common."""


class Text(_Part, frozen=True, gc=False):
    """Visible text."""

    text: str
    extra: dict[str, Json] | None = None
    """What the wire object had beside it (`cache_control`, `annotations`, …)."""


class Blob(msgspec.Struct, frozen=True, gc=False):
    """An opaque piece of a provider's reasoning: carried verbatim, never read."""

    dialect: str
    """The dialect that it came in, e.g. `anthropic_messages`."""
    kind: str
    """The dialect's own name of it: `signature`, `redacted`, `encrypted_content`, `thought_signature`."""
    data: str


class Reasoning(_Part, frozen=True, gc=False):
    """What the model thought before it spoke."""

    text: str = ""
    blobs: tuple[Blob, ...] = ()
    extra: dict[str, Json] | None = None


class Media(_Part, frozen=True, gc=False, kw_only=True):
    """An image, a sound or a file: by address, or inline."""

    kind: Literal["image", "audio", "file"]
    url: str | None = None
    """Where it lies, or None when `data` holds it."""
    data: str | None = None
    """The content, base64, or None when `url` points at it."""
    media_type: str | None = None
    """e.g. `image/png`; None where the wire does not say."""
    name: str | None = None
    extra: dict[str, Json] | None = None


class ToolCall(_Part, frozen=True, gc=False):
    """The model's wish that the agent run one of its tools.

    `ToolCall.of("bash", command="ls")` is the easy way to make one.
    """

    name: str
    arguments: str = "{}"
    """The text as the model wrote it: JSON for a function, free text for a tool of kind `text`."""
    id: str = ""
    """The agent sends it back with the result. Empty: one is made when the answer is given."""
    kind: Literal["json", "text"] = "json"
    extra: dict[str, Json] | None = None

    @classmethod
    def of(cls, name: str, /, *positional: Never, **arguments: Json) -> ToolCall:
        """A call of the tool `name` with these arguments, each by its name.

        Raises:
            TypeError: an argument has no name, or is not JSON.
        """
        check_type("ToolCall.of: the name", name, str, "a str")
        if positional:
            raise TypeError(f"ToolCall.of takes arguments by name: ToolCall.of({name!r}, **{{…}})")
        try:
            return cls(name, _text_of(arguments))
        except (TypeError, ValueError, RecursionError, OverflowError) as exc:
            raise unsayable("ToolCall.of", arguments, _encode) or exc from None

    def parsed(self) -> Json:
        """The arguments as JSON.

        Raises:
            DialectError: the model wrote something else.
        """
        try:
            return msgspec.json.decode(self.arguments or "{}")
        except (msgspec.DecodeError, RecursionError) as exc:  # the latter is of what is nested too deeply
            raise DialectError(f"the arguments of tool call {self.name!r} are not JSON: {exc}") from exc


def _text_of(arguments: Json) -> str:
    try:
        return _encode(arguments).decode()
    except UnicodeEncodeError:
        return _encode(mended(arguments)).decode()


class RefusalText(_Part, frozen=True, gc=False):
    """The model's own refusal to answer, in words."""

    text: str
    extra: dict[str, Json] | None = None


class Opaque(_Part, frozen=True, gc=False):
    """Something only its own dialect understands: kept, and written again only there."""

    dialect: str
    raw: Json


class ToolResult(_Part, frozen=True, gc=False, kw_only=True):
    """What a tool of the agent gave back."""

    id: str
    """That of the `ToolCall`."""
    content: tuple[Text | Media | Opaque, ...] = ()
    is_error: bool = False
    name: str | None = None
    """The tool's name, where the dialect tells it."""
    extra: dict[str, Json] | None = None

    @property
    def text(self) -> str:
        """All its text, joined."""
        return "".join([part.text for part in self.content if isinstance(part, Text)])


Part: TypeAlias = Text | Reasoning | Media | ToolCall | RefusalText | Opaque | ToolResult


class Message(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One message of a conversation: `Message("user", "hello")`, or with a tuple of parts.

    A text in their place is its one part, as soon as it is given to whatever takes messages.
    """

    role: Role
    content: tuple[Part, ...] = ()
    name: str | None = None
    """Who of several speakers of one role says it."""
    extra: dict[str, Json] | None = None

    if TYPE_CHECKING:  # who reads one has parts; who writes one may give a text

        def __init__(
            self,
            role: Role,
            content: tuple[Part, ...] | str = (),
            name: str | None = None,
            extra: dict[str, Json] | None = None,
        ) -> None: ...

    @property
    def text(self) -> str:
        """All its visible text, joined."""
        content: object = self.content
        if isinstance(content, str):
            return content
        return "".join([part.text for part in self.content if isinstance(part, Text)])

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return tuple([part for part in self.content if isinstance(part, ToolCall)])

    @property
    def tool_results(self) -> tuple[ToolResult, ...]:
        return tuple([part for part in self.content if isinstance(part, ToolResult)])
