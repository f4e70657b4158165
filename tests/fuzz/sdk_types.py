"""Documents, made from the types by which the official SDKs say what may be on the wire."""

import enum
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from random import Random
from types import UnionType
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin

from pydantic import BaseModel
from typing_extensions import is_typeddict

Make: TypeAlias = Callable[[Random, int], Any]
"""Makes a value; the number says how many levels below may have more than they must."""

WORDS = [
    "hi", "", "a b", "é😀", "ls", "get_weather", "image/png", "aGk=", '{"a":1}', "https://example.org/a",
    "low",
]  # fmt: skip
DATA = "data:image/png;base64,aGk="
LISTS = (list, Iterable, Sequence, typing.Iterable, typing.Sequence)


@cache
def asked_by(dialect: str) -> Any:
    """The type of a request's document."""
    match dialect:
        case "openai_chat":
            from openai.types.chat.completion_create_params import CompletionCreateParamsBase as asked
        case "openai_completions":
            from openai.types.completion_create_params import CompletionCreateParamsBase as asked  # type: ignore
        case "openai_responses":
            from openai.types.responses.response_create_params import ResponseCreateParamsBase as asked  # type: ignore
            from openresponses_types.types import CreateResponseBody as open_asked

            return open_asked | asked
        case "anthropic_messages":
            from anthropic.types.message_create_params import MessageCreateParamsBase as asked  # type: ignore
        case "ollama":
            from ollama._types import ChatRequest as asked  # type: ignore
        case _:
            from tests.fuzz.gemini_types import GenerateContent as asked  # type: ignore
    return asked


def made_of(random: Random, kind: Any, depth: int = 5) -> Any:
    """A value of this type, with any of what it may leave out."""
    return _maker(kind)(random, depth)


@cache
def _maker(kind: Any) -> Make:
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _one_of(args)
    if origin is Literal:
        return lambda random, depth: random.choice(args)
    if origin in (typing.Required, typing.NotRequired, typing.Annotated):
        return _late(args[0])
    if origin in LISTS or kind in LISTS:
        return _list_of(_late(args[0] if args else str))
    if origin in (dict, Mapping) or kind is dict:
        return _dict_of(_late(args[1] if args else str))
    if is_typeddict(kind):
        hints = typing.get_type_hints(kind, include_extras=True)
        return _document(
            {name: (_late(hint), _is_required(kind, name, hint)) for name, hint in hints.items()}
        )
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return _document(
            {
                field.serialization_alias or field.alias or name: (
                    _late(field.annotation),
                    field.is_required(),
                )
                for name, field in kind.model_fields.items()
            }
        )
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return lambda random, depth: random.choice(list(kind)).value
    if hasattr(kind, "__value__"):
        return _late(kind.__value__)
    return _scalar(kind)


def _is_required(kind: Any, name: str, hint: Any) -> bool:
    return get_origin(hint) is typing.Required or (
        kind.__total__ and name in kind.__required_keys__ and get_origin(hint) is not typing.NotRequired
    )


def _late(kind: Any) -> Make:
    """Types refer to themselves."""
    return lambda random, depth: _maker(kind)(random, depth)


def _one_of(kinds: tuple[Any, ...]) -> Make:
    simple = [kind for kind in kinds if kind in (str, int, float, bool, type(None))] or list(kinds)

    def make(random: Random, depth: int) -> Any:
        return _maker(random.choice(kinds if depth > 0 else simple))(random, depth)

    return make


def _list_of(inner: Make) -> Make:
    return lambda random, depth: [
        inner(random, depth - 1) for _ in range(random.choice((0, 1, 1, 2, 3)) if depth > 0 else 1)
    ]


def _dict_of(inner: Make) -> Make:
    def make(random: Random, depth: int) -> Any:
        names = random.sample(("a", "type", "properties", "x y"), random.randrange(3)) if depth > 0 else ()
        return {name: inner(random, depth - 1) for name in names}

    return make


def _document(fields: dict[str, tuple[Make, bool]]) -> Make:
    def make(random: Random, depth: int) -> Any:
        share = 0.12 if len(fields) > 12 else 0.4
        return {
            name: inner(random, depth - 1)
            for name, (inner, required) in fields.items()
            if required or (depth > 0 and random.random() < share)
        }

    return make


def _scalar(kind: Any) -> Make:
    if kind is bool:
        return lambda random, depth: random.random() < 0.5
    if kind is int:
        return lambda random, depth: random.choice((0, 1, 7, 4096))
    if kind is float:
        return lambda random, depth: random.choice((0, 0.5, 1.0, 2))
    if kind is type(None):
        return lambda random, depth: None
    if kind in (str, bytes):
        return lambda random, depth: DATA if random.random() < 0.05 else random.choice(WORDS)
    return lambda random, depth: random.choice((1, "x", {"a": [1]}, ["a"]))
