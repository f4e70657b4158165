"""The types for a message of a conversation, and for the parts of a message.

Rules:

1. The content of a message is a tuple of parts, in the order in which the parts came.
2. The arguments of a tool call are the exact text that the model wrote, even if the text is not valid JSON;
   `ToolCall.parsed()` decodes the text.
3. Only the provider that made an opaque blob (a signature, encrypted reasoning) can read the blob. triocept passes the
   blob on unchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Never, TypeAlias

import msgspec

from .._util.checks import Misnamed, NamesItself, check_type, has_no_keys, unsayable
from .._util.unicode import mended
from ..errors import DialectError

Json: TypeAlias = Any
"""A decoded JSON value. The type is `Any`, because the type of received data is not known."""

Role: TypeAlias = Literal["system", "developer", "user", "assistant", "tool"]

_encode = msgspec.json.Encoder().encode


class _Part(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag=True, tag_field="part"):
    """The base class of all parts of messages and responses."""


class Text(_Part, frozen=True, gc=False):
    """Text for the user; reasoning has a separate type."""

    text: str
    extra: dict[str, Json] | None = None
    """Further fields of the part's JSON (`cache_control`, `annotations`, …)."""


class Blob(msgspec.Struct, frozen=True, gc=False):
    """An opaque piece of a provider's reasoning, such as a signature.

    triocept passes the piece on unchanged, and never reads it.
    """

    dialect: str
    """The dialect in which the blob was received, e.g. `anthropic_messages`."""
    kind: str
    """The kind of the blob, named as in the dialect: `signature`, `redacted`, `encrypted_content`, `thought_signature`.
    """
    data: str


class Reasoning(_Part, frozen=True, gc=False):
    """The reasoning of the model before its answer."""

    text: str = ""
    blobs: tuple[Blob, ...] = ()
    extra: dict[str, Json] | None = None


class Media(_Part, frozen=True, gc=False, kw_only=True):
    """An image, a sound or a file, given by URL or inline."""

    kind: Literal["image", "audio", "file"]
    url: str | None = None
    """The URL of the content; None if `data` contains the content."""
    data: str | None = None
    """The content in base64; None if `url` is the URL of the content."""
    media_type: str | None = None
    """The media type, e.g. `image/png`; None if the media type was not sent."""
    name: str | None = None
    extra: dict[str, Json] | None = None


class ToolCall(_Part, frozen=True, gc=False, metaclass=NamesItself):
    """A tool call: the model's request that the agent run one of the agent's tools.

    `ToolCall.of("bash", command="ls")` makes a call from keyword arguments.
    """

    name: str
    arguments: str = "{}"
    """The arguments exactly as the model wrote them: JSON, or free text if `kind` is `text`."""
    id: str = ""
    """The id that the agent sends back with the result. If empty, an id is generated when a handler
    answers with the call."""
    kind: Literal["json", "text"] = "json"
    extra: dict[str, Json] | None = None

    _wrong = "{} accepts only its own fields ({}): {}; to pass the tool's arguments by name, use ToolCall.of"
    """The error message for a wrong argument; `NamesItself` inserts the class, its fields and the reason."""
    if not TYPE_CHECKING:
        args, input = [
            Misnamed("parsed(), the arguments as JSON, or arguments, their text") for _ in range(2)
        ]

    @classmethod
    def of(cls, name: str, /, *positional: Never, **arguments: Json) -> ToolCall:
        """Return a call of the tool `name` with these keyword arguments as its arguments.

        Raises:
            TypeError: an argument was given without its name, or is not JSON.
        """
        check_type("ToolCall.of: the name", name, str, "a str")
        if positional:
            raise TypeError(
                f"ToolCall.of takes the tool's arguments by name: write ToolCall.of({name!r}, **{{…}})"
            )
        try:
            try:
                return cls(name, _encode(arguments).decode())
            except UnicodeEncodeError:
                return cls(name, _encode(mended(arguments)).decode())
        except (TypeError, ValueError, RecursionError, OverflowError) as exc:
            raise unsayable("ToolCall.of", arguments, _encode) or exc from None

    def parsed(self) -> Json:
        """Return the arguments as JSON.

        Raises:
            DialectError: the arguments are not JSON.
        """
        try:
            return msgspec.json.decode(self.arguments or "{}")
        except (msgspec.DecodeError, RecursionError) as exc:  # RecursionError: the JSON is nested too deeply
            raise DialectError(f"the arguments of tool call {self.name!r} are not valid JSON: {exc}") from exc


class RefusalText(_Part, frozen=True, gc=False):
    """A text with which the model refuses to answer."""

    text: str
    extra: dict[str, Json] | None = None


class Opaque(_Part, frozen=True, gc=False):
    """A part of a kind that exists in only one dialect.

    The part keeps its JSON unchanged. The part is written only in requests and answers of that dialect.
    """

    dialect: str
    raw: Json


class ToolResult(_Part, frozen=True, gc=False, kw_only=True):
    """The result of one of the agent's tools."""

    id: str
    """The id of the `ToolCall` that the result belongs to."""
    content: tuple[Text | Media | Opaque, ...] = ()
    is_error: bool = False
    name: str | None = None
    """The name of the tool; None if results in the request's dialect do not contain the tool's name."""
    extra: dict[str, Json] | None = None

    @property
    def text(self) -> str:
        """The texts of all parts of the result, joined."""
        return "".join([part.text for part in self.content if isinstance(part, Text)])


Part: TypeAlias = Text | Reasoning | Media | ToolCall | RefusalText | Opaque | ToolResult


class Message(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A message of a conversation: `Message("user", "hello")`, or with a tuple of parts.

    A function that takes messages accepts a str as the content, and converts the str to one `Text` part.
    """

    role: Role
    content: tuple[Part, ...] = ()
    name: str | None = None
    """The name of the speaker, if several speakers have the same role."""
    extra: dict[str, Json] | None = None

    if not TYPE_CHECKING:
        __getitem__ = has_no_keys
    if TYPE_CHECKING:  # a reader always gets parts; the constructor takes a str, too

        def __init__(
            self,
            role: Role,
            content: tuple[Part, ...] | str = (),
            name: str | None = None,
            extra: dict[str, Json] | None = None,
        ) -> None: ...

    @property
    def text(self) -> str:
        """All text parts of the message, joined. Reasoning is not included."""
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
