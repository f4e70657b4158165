"""Which of two messages are the same, for each use: one table for thread, replay, cassette and retry."""

from collections.abc import Callable, Sequence

import pytest

from triocept import Message, Request, Text, ToolCall, ToolResult
from triocept._canonical.form import message_key
from triocept._recording.cassettes.request_form import key_of, normal_form
from triocept._recording.replay.record import Normal
from triocept._rollout.retries import meaning
from triocept.types import Media, Opaque, Reasoning, RefusalText

Messages = Sequence[Message]


def request(messages: Messages) -> Request:
    return Request(dialect="anthropic_messages", model="m", messages=tuple(messages))


def moves_of(messages: Messages, *, results: bool = False) -> object:
    return Normal(lambda text: text, results=results).moves(request(messages))


USES: dict[str, Callable[[Messages, Messages], bool]] = {
    "thread": lambda one, other: [*map(message_key, one)] == [*map(message_key, other)],
    "replay": lambda one, other: moves_of(one) == moves_of(other),
    "results": lambda one, other: moves_of(one, results=True) == moves_of(other, results=True),
    "cassette": lambda one, other: key_of(normal_form(request(one))) == key_of(normal_form(request(other))),
    "retry": lambda one, other: meaning(request(one)) == meaning(request(other)),
}
"""`results` is a replay with `compare_results=True`."""


def user(*parts: object, name: str | None = None) -> Message:
    return Message("user", tuple(parts), name)  # type: ignore[arg-type]


def model(*parts: object, name: str | None = None) -> Message:
    return Message("assistant", tuple(parts), name)  # type: ignore[arg-type]


def ran(result: str, *, call: str = "c", arguments: str = '{"a": 1}', failed: bool = False) -> list[Message]:
    """A call and its result."""
    result_of = ToolResult(id=call, content=(Text(result),), is_error=failed)
    return [model(ToolCall("f", arguments, call)), Message("tool", (result_of,))]


def block(**members: object) -> list[Message]:
    return [user(Opaque("anthropic_messages", {"type": "x", **members}))]


MARK = {"type": "ephemeral"}
PAIRS: dict[str, tuple[Messages, Messages, str]] = {
    # the pair, and the uses for which its messages are the same
    "developer is system": ([Message("developer", (Text("x"),)), user(Text("h"))],
     [Message("system", (Text("x"),)), user(Text("h"))], "thread replay results cassette"),
    # SDKs send an answer back in the pieces in which it was streamed
    "a model's text in two pieces": ([model(Text("ab"))], [model(Text("a"), Text("b"))],
     "thread replay results cassette"),
    "a model's text in two messages": ([model(Text("ab"))], [model(Text("a")), model(Text("b"))],
     "replay results cassette"),
    # a user's texts are blocks of their own: a cassette, which people read, keeps them apart
    "a user's text in two pieces": ([user(Text("ab"))], [user(Text("a"), Text("b"))], "thread"),
    "a user's texts in two messages": ([user(Text("a"), Text("b"))], [user(Text("a")), user(Text("b"))],
     "replay results cassette"),
    "white space at the end of a user's text": ([user(Text("a"))], [user(Text("a\n"))], "replay results"),
    "an empty text": ([user(Text("a"), Text(""))], [user(Text("a"))], "thread replay results cassette"),
    "reasoning that was dropped": ([model(Reasoning(text="hm"), Text("x"))], [model(Text("x"))],
     "thread replay results cassette"),
    "a refusal that is a text": ([model(RefusalText("no"))], [model(Text("no"))], ""),
    "another id of a call": (ran("r"), ran("r", call="d"), "thread replay results cassette"),
    "arguments written anew": (ran("r"), ran("r", arguments='{"a":1.0}'), "thread replay results cassette"),
    "other arguments": (ran("r"), ran("r", arguments='{"a": 2}'), ""),
    "another result": (ran("r"), ran("s"), "replay"),
    "a failed result of the same words": (ran("r"), ran("r", failed=True), "replay"),
    "a JSON result written anew": (ran('{"a": 1}'), ran('{"a":1}'), "replay cassette"),
    "a cache mark on a text": ([user(Text("x", {"cache_control": MARK}))], [user(Text("x"))],
     "thread replay results cassette retry"),
    "a cache mark on a block": (block(v=1, cache_control=MARK), block(v=1),
     "thread replay results cassette retry"),
    "a cache mark on a block within a block": (block(content=[{"v": 1, "cache_control": MARK}]),
     block(content=[{"v": 1}]), "thread replay results cassette retry"),
    "another id of a block": (block(id="a1"), block(id="b2"), "replay results cassette"),
    "another tool_use_id of a block": (block(tool_use_id="srvtoolu_1"), block(tool_use_id="srvtoolu_2"),
     "replay results cassette"),
    "an assistant with a name": ([model(Text("x"), name="bot")], [model(Text("x"))],
     "thread replay results cassette"),
    # a replay has one user; a thread and a cassette tell several speakers apart
    "a user with a name": ([user(Text("x"), name="bob")], [user(Text("x"))], "replay results"),
    "the same image in other base64": ([user(Media(kind="image", data="aGk="))],
     [user(Media(kind="image", data="aGk=", media_type="image/png"))], "thread replay results cassette"),
    "another image": ([user(Media(kind="image", data="aGk="))], [user(Media(kind="image", data="aG8="))], ""),
}  # fmt: skip


@pytest.mark.parametrize(("one", "other", "same"), PAIRS.values(), ids=list(PAIRS))
def test_messages_are_the_same_for_these_uses_and_no_others(
    one: Messages, other: Messages, same: str
) -> None:
    assert [use for use, equal in USES.items() if equal(one, other)] == same.split()
    assert all(equal(one, one) and equal(other, other) for equal in USES.values())
