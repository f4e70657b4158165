"""What a request gives without a search through its messages."""

import pytest

from triocept import Message, Request, Text, ToolCall, ToolResult
from triocept.types import Media

ASKED = Message("user", (Text("Fix the bug."),))
SYSTEM = Message("system", (Text("Available agent types: …"),))
CALLED = Message("assistant", (ToolCall.of("ls"),))
RESULT = Message("user", (ToolResult(id="c", content=(Text("a.txt"),)),))
IMAGE = Message("user", (Media(kind="image", data="aGk="),))
EMPTY = Message("user", (Text(""),))


@pytest.mark.parametrize(("messages", "text"), [
    ((ASKED,), "Fix the bug."),
    ((SYSTEM, ASKED, SYSTEM), "Fix the bug."),
    ((ASKED, CALLED, RESULT), "Fix the bug."),
    ((ASKED, IMAGE), "Fix the bug."),
    ((ASKED, EMPTY), ""),
    ((Message("user", (Text("one"),)), ASKED), "Fix the bug."),
    ((SYSTEM, CALLED), ""),
    ((), ""),
])  # fmt: skip
def test_user_text_is_that_of_the_newest_message_of_the_user_that_has_any(
    messages: tuple[Message, ...], text: str
) -> None:
    assert Request(dialect="anthropic_messages", model="m", messages=messages).user_text == text
