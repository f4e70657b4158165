"""Threads of Messages: a call sends what is new, and names the answer before."""

from typing import Any

import pytest

from triocept import DialectError, Response
from triocept.dialects import Failure, dialect

MESSAGES = dialect("anthropic_messages")
TOOL: Any = {"name": "ls", "input_schema": {"type": "object"}}
CONTINUE: Any = {"type": "continue", "previous_message_id": "msg_1"}


def asked(text: str, **more: Any) -> Any:
    return {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": text}], **more}


def test_a_call_goes_on_with_the_messages_the_system_prompt_and_the_tools_of_its_thread() -> None:
    first = MESSAGES.parse_request(asked("a", system="s", tools=[TOOL], thread={"type": "create"}))
    second = MESSAGES.parse_request(asked("c", thread=CONTINUE))
    assert (first.previous_response, second.previous_response) == (None, "msg_1")
    whole = MESSAGES.continued(second, first, Response.of("b"))
    assert [(m.role, m.text) for m in whole.messages] == [
        ("system", "s"),
        ("user", "a"),
        ("assistant", "b"),
        ("user", "c"),
    ]
    assert whole.tools == first.tools
    assert (whole.previous_response, whole.continued_from) == (None, "msg_1")


def test_an_upstream_gets_the_whole_conversation_and_no_thread() -> None:
    first = MESSAGES.parse_request(asked("a", thread={"type": "create"}))
    second = MESSAGES.parse_request(asked("c", thread=CONTINUE))
    assert MESSAGES.render_request(first) == asked("a")
    whole = MESSAGES.render_request(MESSAGES.continued(second, first, Response.of("b")))
    assert [message["role"] for message in whole["messages"]] == ["user", "assistant", "user"]
    assert "thread" not in whole
    assert MESSAGES.render_request(second) == asked("c", thread=CONTINUE)


def test_a_call_that_goes_on_may_have_nothing_new_to_say() -> None:
    assert MESSAGES.parse_request({"model": "m", "max_tokens": 9, "messages": [], "thread": CONTINUE})
    with pytest.raises(DialectError, match="messages: must not be empty"):
        MESSAGES.parse_request({"model": "m", "max_tokens": 9, "messages": [], "thread": None})
    with pytest.raises(DialectError, match=r"thread\.previous_message_id: is missing"):
        MESSAGES.parse_request(asked("a", thread={"type": "continue"}))


def test_a_lost_thread_is_told_so_that_an_sdk_sends_the_whole_conversation() -> None:
    failure = Failure(status=MESSAGES.lost_status, message="m", code="previous_response_not_found")
    document = MESSAGES.render_error(failure)
    assert failure.status == 404
    assert document["error"] == {
        "type": "not_found_error",
        "message": "m",
        "details": {"error_code": "thread_not_found"},
    }
